"""The kernel's filter of opens, kept in step with what may be dropped, and checked against what it would have dropped.

Comes in: what the rules let the kernel drop, whether anything may be dropped now; events that came though they could
have been dropped. Goes out: a table to the kernel, a word on whether an alert proves the table wrong. Never: a filter
that goes on after it was proved wrong, or one for other rules than those that judge.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from appliance.engine.early import Early
from appliance.kernel.early import KeptOpens

log = logging.getLogger(__name__)

WRONG_RULE = "Tercel internal: filter was wrong"
_SAMPLES = 1024  # events that wait for their judgement: they may be in the pen


class EarlyFilter:
    """On the loop's thread alone. `put` writes the kernel's table; None: nothing is dropped."""

    def __init__(
        self, put: Callable[[KeptOpens | None], None], *, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """`clock` is that of the records."""
        self._put = put
        self._clock = clock
        self._now: Early | None = None  # in the kernel
        self._since_ns = 0
        self._distrusted: Early | None = None
        self._samples: deque[int] = deque(maxlen=_SAMPLES)

    def use(self, early: Early | None) -> None:
        """Let the kernel drop what these rules do not need; None: nothing. Cheap where nothing changes."""
        if early is self._now or (early is not None and early is self._distrusted):
            return
        try:
            self._put(None if early is None else KeptOpens(early.entries, early.ends, early.real))
        except OSError as error:
            self._distrusted = early
            log.warning("the kernel's filter cannot be written, no event is dropped early: %s", error)
            if early is not None:
                self._give_up()
            return
        self._now, self._since_ns = early, self._clock()
        self._samples.clear()  # they are judged by other rules than they were dropped for
        if early is not None and early.weakened:
            log.warning("the rules name more paths than the kernel's filter holds: paths were cut, more events pass")

    def _give_up(self) -> None:
        try:
            self._put(None)
        except OSError as error:
            log.error("the kernel's filter cannot be switched off: %s", error)
        self._now = None

    def sampled(self, number: int, ts_ns: int) -> None:
        """An event came that the kernel could have dropped at `ts_ns`; `number` is its number."""
        if self._now is not None and ts_ns > self._since_ns:
            self._samples.append(number)

    def is_wrong(self, number: int) -> bool:
        """An event made an alert: True where it was a sample. Then the filter is off until rules change."""
        if number not in self._samples:
            return False
        self._distrusted = self._now
        self._samples.clear()
        self._give_up()
        return True
