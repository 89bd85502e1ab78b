"""When an event came, beside the others of its source.

Comes in: events in order. Goes out: the same, with the time since the first and since the one before.
"""

from __future__ import annotations

from collections.abc import Iterable

from appliance.model.event import Event

TIMED = frozenset(f"evt.{name}{part}" for name in ("reltime", "deltatime") for part in ("", ".s", ".ns"))
"""The fields that it yields."""


class Stopwatch:
    """Knows the first event and the last. `begin` once, with the first; `timed` for each, or for none."""

    __slots__ = ("_before_ns", "_first_ns")

    def __init__(self) -> None:
        self._first_ns: int | None = None
        self._before_ns: int | None = None

    def begin(self, ts_ns: int) -> None:
        """The first event happened at that time (wall clock, nanoseconds); later calls mean nothing."""
        if self._first_ns is None:
            self._first_ns = self._before_ns = ts_ns

    def forget(self) -> None:
        """Events pass by without `timed`: of the next, the one before is not known."""
        self._before_ns = None

    def timed(self, event: Event) -> Event:
        """The event with its times. A clock that is set back tells 0."""
        self.begin(event.ts_ns)
        first, before, self._before_ns = self._first_ns, self._before_ns, event.ts_ns
        assert first is not None  # noqa: S101  (`begin`)
        delta = None if before is None else max(event.ts_ns - before, 0)
        return event._replace(elapsed_ns=max(event.ts_ns - first, 0), delta_ns=delta)

    def all(self, events: Iterable[Event]) -> Iterable[Event]:
        """Each event with its times."""
        return map(self.timed, events)
