"""Events that wait for the facts of their container, or of their process's file.

Comes in: an event of which something is not yet known. Goes out: the same events in order, when the facts have come or
their time is up. Never: more than its bounds; an event that finds no room is judged as it is, and counted.

A rule may ask for a container's image, and only the engine can tell it. Nearly always it has told it before the
container's first process runs (we listen to its events); the pen is for the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator

from appliance.model.event import WAITING, Container, Event


class Pen:
    """Events in waiting, by what they wait for. `overflow` counts those that found no room, `late` those whose time was
    up."""

    def __init__(self, *, wait_ns: int, room: int = 8192) -> None:
        """`wait_ns`: how long an event may wait at most; `room`: how many may, over all containers."""
        self._wait_ns = wait_ns
        self._room = room
        self._waiting: dict[Hashable, deque[tuple[int, Event]]] = {}
        self._count = self._of_users = 0
        self.overflow = 0
        self.late = 0

    def __len__(self) -> int:
        return self._count

    def put(self, event: Event, now_ns: int, key: Hashable = None) -> bool:
        """Keep an event until its container is known, or what `key` stands for; False where there is no room. The
        containers of users, who can make as many as they like and have their own engine keep silent, get half of it
        together."""
        users = event.container.owner is not None
        if self._count >= self._room or (users and self._of_users >= self._room // 2):
            self.overflow += 1
            return False
        self._waiting.setdefault(event.container.key if key is None else key, deque()).append(
            (now_ns + self._wait_ns, event)
        )
        self._count += 1
        self._of_users += users
        return True

    def release(self, find: Callable[[str], Container | None], now_ns: int) -> Iterator[Event]:
        """The events whose container is known by now, or whose time is up, oldest first within a container.

        `find` tells what is known of a container by its `key`.
        """
        for key in list(self._waiting):
            container = find(str(key))
            known = container is not None and not is_waiting(container)
            for event in self._leave(key, known, now_ns):
                yield event if container is None else event._replace(container=container)

    def ready(self, is_known: Callable[[Hashable], bool], now_ns: int) -> Iterator[Event]:
        """The events for which there is nothing more to wait for, by their keys, or whose time is up."""
        for key in list(self._waiting):
            yield from self._leave(key, is_known(key), now_ns)

    def _leave(self, key: Hashable, known: bool, now_ns: int) -> Iterator[Event]:
        queue = self._waiting[key]
        while queue and (known or queue[0][0] <= now_ns):
            _, event = queue.popleft()
            self._count -= 1
            self._of_users -= event.container.owner is not None
            self.late += not known
            yield event
        if not queue:
            del self._waiting[key]


def is_waiting(container: Container) -> bool:
    """True while an engine may still tell the container's facts."""
    return container.missing is not None and container.missing.startswith(WAITING)
