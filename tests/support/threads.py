"""A machine that has no thread to give, as a fork bomb leaves it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_TOO_MUCH = 1 << 47  # bytes of a stack: more than an address space has, so that pthread_create(3) gives EAGAIN


@contextmanager
def no_threads() -> Iterator[None]:
    """Every start of a thread in this process fails, by the C library's own refusal."""
    before = threading.stack_size(_TOO_MUCH)
    try:
        yield
    finally:
        threading.stack_size(before)
