"""Several rings as one stream, in the order of time.

Comes in: rings. Goes out: records, oldest first. Never: a wait (the caller polls), or more than a bounded number of
records held back.

A record is dated when its handler begins and lies in its ring a few microseconds later, so at any moment each ring may
still get records that are a little older than those that another ring shows. What is younger than `WINDOW_NS` is
therefore kept until the next look, and so is what is younger than the end of a ring that was not read to its end. The
window costs that much delay. The events of one thread are in order whatever happens, for a record lies in its ring
before the thread goes on; those of different threads are unless a processor was stopped in a hook for longer than that.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from operator import itemgetter
from typing import Final

from appliance.kernel.ring import Ring, Skip
from appliance.model.event import EventType, RawEvent

WINDOW_NS: Final = 1_000_000
_MOST = 65_536  # records of one ring that wait for those of others; more stay in their ring

_ts_ns = itemgetter(RawEvent._fields.index("ts_ns"))


class Merged:
    """Rings read as one. They are mapped when given, and unmapped by `close`."""

    def __init__(self, rings: Sequence[Ring]) -> None:
        self._rings = tuple(rings)
        self._held: list[list[RawEvent]] = [[] for _ in rings]

    @property
    def empty(self) -> bool:
        """True when no ring has anything to read and nothing is held back."""
        return all(ring.empty for ring in self._rings) and not any(self._held)

    @property
    def read_bytes(self) -> int:
        """Bytes that have been read of all rings."""
        return sum(ring.read_bytes for ring in self._rings)

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait to be read in all rings."""
        return sum(ring.waiting_bytes for ring in self._rings)

    @property
    def holding(self) -> int:
        """Records that were read and wait for their turn."""
        return sum(map(len, self._held))

    @property
    def skipped(self) -> int:
        """Records that were left out on demand, of all rings."""
        return sum(ring.skipped for ring in self._rings)

    @property
    def undecodable(self) -> int:
        """Records that did not fit their layout, of all rings."""
        return sum(ring.undecodable for ring in self._rings)

    def read(self, limit: int, *, all_: bool = False, skip: Skip | None = None) -> list[RawEvent]:
        """The oldest records, in order, about `limit` of each ring at most. `all_`: nothing more will come, so nothing
        is held back for the window's sake."""
        horizon = 2**63 if all_ else time.monotonic_ns() - WINDOW_NS
        for ring, held in zip(self._rings, self._held, strict=True):
            if len(held) < limit or (len(held) < _MOST and held[-1].ts_ns - held[0].ts_ns <= WINDOW_NS):
                batch = ring.read(limit, skip)
                if batch:
                    held += batch
                    held.sort(key=_ts_ns)
            if not ring.empty:
                # what it has not shown yet is no older than this, but for the window
                shown = held[-1].ts_ns if held else 0
                horizon = min(horizon, shown if len(held) >= _MOST else shown - WINDOW_NS)
        ready: list[RawEvent] = []
        several = False
        for held in self._held:
            at = bisect_right(held, horizon, key=_ts_ns)
            if at:
                several = several or bool(ready)
                ready += held[:at]
                del held[:at]
        if several:
            ready.sort(key=_ts_ns)
        return ready

    def discard(self) -> Counter[EventType]:
        """Give up all that waits and is held back; says how many of each type that was."""
        counts = Counter(raw.type for held in self._held for raw in held)
        for held in self._held:
            held.clear()
        for ring in self._rings:
            counts += ring.discard()
        return counts

    def close(self) -> None:
        """Unmap all."""
        for ring in self._rings:
            ring.close()
