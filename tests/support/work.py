"""Work, counted: calls of functions and steps of generators, ours and the interpreter's. Unlike time it is the same on
every machine."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType


def work(action: Callable[[], object]) -> int:
    """How many calls an action makes, and steps of generators that it waits for."""
    count = 0
    collecting = gc.isenabled()
    gc.disable()  # a collection in between calls what others have hung into `gc.callbacks`

    def saw(frame: FrameType, event: str, arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(saw)
    try:
        action()
    finally:
        sys.setprofile(before)
        if collecting:
            gc.enable()
    return count
