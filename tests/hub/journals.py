"""A journal in memory, for tests that need no disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from appliance.hub.alert import HubAlert
from appliance.hub.journal.base import JournalHealth


class MemoryJournal:
    """`Journal` without a disk."""

    def __init__(self) -> None:
        self.alerts: list[HubAlert] = []
        self._ids: set[str] = set()
        self._cursors: dict[str, int] = {}
        self._hold = ""

    def append(self, alerts: Sequence[HubAlert]) -> Sequence[int]:
        given = []
        for alert in alerts:
            if alert.id in self._ids:
                given.append(0)
                continue
            self._ids.add(alert.id)
            self.alerts.append(replace(alert, seq=len(self.alerts) + 1))
            given.append(len(self.alerts))
        return given

    def read(self, after: int, limit: int) -> Sequence[HubAlert]:
        return self.alerts[max(0, after) : max(0, after) + limit]

    def last(self) -> int:
        return len(self.alerts)

    def cursor(self, name: str) -> int:
        return self._cursors.get(name, -1)

    def advance(self, name: str, seq: int) -> None:
        self._cursors[name] = seq

    def hold(self, reason: str) -> None:
        self._hold = reason

    def held(self) -> str:
        return self._hold

    def health(self) -> JournalHealth:
        return JournalHealth(min(1, len(self.alerts)), len(self.alerts), 0, 0, 0.0, "", {})

    def close(self) -> None:
        return None
