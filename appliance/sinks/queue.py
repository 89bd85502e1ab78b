"""Alerts that wait in memory: bounded, and the least important goes first.

Comes in: alerts, numbered. Goes out: the same in order, those of the express lane before the others. Never: an alert
that is gone without the caller being told, or a high one dropped while a lower one waits.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from appliance.model.alert import Alert, Priority

LANES = 2  # 0: express, 1: ordinary


@dataclass(slots=True, eq=False)
class Entry:
    """One alert in waiting. `seq` is its number; order within a lane is order of numbers."""

    seq: int
    alert: Alert


class AlertQueue:
    """At most `capacity` alerts. Not for several threads at once: its owner holds a lock."""

    def __init__(self, capacity: int, express: Priority = Priority.CRITICAL) -> None:
        """Alerts of priority `express` and higher form a lane of their own, which is served first."""
        self._capacity = capacity
        self._express = express
        self._waiting: tuple[deque[Entry], ...] = tuple(deque() for _ in Priority)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def lane(self, priority: Priority) -> int:
        """0 for the express lane, 1 for the ordinary one."""
        return 0 if priority <= self._express else 1

    def priorities(self, lane: int) -> range:
        """The priorities of a lane, as numbers."""
        border = int(self._express) + 1
        return range(border) if lane == 0 else range(border, len(self._waiting))

    def put(self, entry: Entry) -> Entry | None:
        """Add one; where there is no room, what had to go: the newest of the lowest priority, or this one itself."""
        self._waiting[entry.alert.priority].append(entry)
        self._count += 1
        return self.make_room()

    def make_room(self) -> Entry | None:
        """The entry that has to go for the queue to keep its bound, or None."""
        if self._count <= self._capacity:
            return None
        self._count -= 1
        return next(queue for queue in reversed(self._waiting) if queue).pop()

    def put_back(self, entries: Iterable[Entry]) -> None:
        """Give back what was taken last, in front of what came since. The bound is for the caller to restore."""
        for entry in reversed(list(entries)):
            self._waiting[entry.alert.priority].appendleft(entry)
            self._count += 1

    def take(self, limit: int = 1) -> list[Entry]:
        """Take the oldest of the express lane, or where it is empty of the other."""
        for lane in range(LANES):
            taken = list(islice(self.of(lane), limit)) if self.has(lane) else []
            for entry in taken:
                self._waiting[entry.alert.priority].popleft()
            self._count -= len(taken)
            if taken:
                return taken
        return []

    def has(self, lane: int) -> bool:
        """Whether any waits there."""
        return any(self._waiting[p] for p in self.priorities(lane))

    def oldest(self, limit: int) -> list[Entry]:
        """Take the oldest of both lanes, in order."""
        taken = list(islice(heapq.merge(*self._waiting, key=lambda entry: entry.seq), limit))
        for entry in taken:
            self._waiting[entry.alert.priority].popleft()
        self._count -= len(taken)
        return taken

    def of(self, lane: int) -> Iterator[Entry]:
        """Those of one lane in order; they stay."""
        return heapq.merge(*(self._waiting[p] for p in self.priorities(lane)), key=lambda entry: entry.seq)

    def remove(self, entry: Entry) -> bool:
        """Take one out; False where it is gone already. Cheap for the oldest of its priority."""
        queue = self._waiting[entry.alert.priority]
        if queue and queue[0] is entry:
            queue.popleft()
        else:
            try:
                queue.remove(entry)
            except ValueError:
                return False
        self._count -= 1
        return True

    def clear(self) -> int:
        """Forget all; how many there were."""
        count = self._count
        for queue in self._waiting:
            queue.clear()
        self._count = 0
        return count

    def __iter__(self) -> Iterator[Entry]:
        return heapq.merge(*self._waiting, key=lambda entry: entry.seq)
