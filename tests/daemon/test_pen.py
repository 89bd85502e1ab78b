"""Events that wait for the facts of their container: in order, for a time, within bounds."""

from __future__ import annotations

from appliance.daemon.pen import Pen
from appliance.model.event import Container, Event
from tests.support.events import event


def waiting(name: str, owner: int | None = None) -> Event:
    return event("open", container=Container(name, name, "docker", owner=owner, missing="waiting for docker"))


def test_events_leave_in_order_when_their_container_is_known_or_their_time_is_up() -> None:
    pen = Pen(wait_ns=100)
    for n, name in enumerate(("a", "b", "a")):
        assert pen.put(waiting(name)._replace(num=n), now_ns=n)
    known = {"a": Container("a", "a", "docker", name="web")}
    left = list(pen.release(known.get, now_ns=50))
    assert [(e.num, e.container.name) for e in left] == [(0, "web"), (2, "web")]
    assert (len(pen), pen.late) == (1, 0)
    assert [e.num for e in pen.release(known.get, now_ns=101)] == [1]
    assert (len(pen), pen.late) == (0, 1)


def test_containers_of_users_cannot_take_all_the_room() -> None:
    pen = Pen(wait_ns=100, room=10)
    assert [pen.put(waiting(f"u{n}", owner=1000), 0) for n in range(7)] == [True] * 5 + [False] * 2
    assert [pen.put(waiting("root"), 0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert pen.overflow == 4
    assert len(list(pen.release(lambda key: None, now_ns=200))) == 10
    assert [pen.put(waiting("u", owner=1000), 0) for _ in range(6)] == [True] * 5 + [False]
