"""The loop: its work is cut into pieces, its end is bounded, and no error of ours ends it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from appliance.daemon.ledger import LOSS_RULE
from appliance.daemon.loop import Loop
from appliance.model.alert import Priority
from appliance.model.event import Event, EventType, RawEvent
from appliance.sources.k8saudit import audit_event
from tests.engine.test_state import E, known, raw
from tests.support.loop import OPENS, Batches, Clock, Taken, loop_of, make_alert, ruleset, state, types

SLOW_NS = 10_000_000  # what an event costs, by the loop's clock
PIECE_NS = 50_000_000


def opened(pid: int = 1, **facts: Any) -> RawEvent:
    shown = {"res": 3, "dirfd": -100, "name": "/x", "flags": 0, "mode": 0, "base": "", "ino": 7, "dev": 1, "real": ""}
    return raw(E.OPENAT, pid, 1, **shown | facts)


def slow(source: Batches, clock: Clock, **options: Any) -> tuple[Loop, Taken]:
    """A loop for which each event of the kernel takes `SLOW_NS`."""
    made = state()
    made.apply(known(1, 1))
    apply = made.apply

    def slowly(event: RawEvent) -> Event | None:
        clock.now_ns += SLOW_NS
        return apply(event)

    made.apply = slowly  # type: ignore[method-assign]
    return loop_of(source, of=made, clock=clock, **options)


def test_a_batch_of_whatever_size_is_cut_by_time() -> None:
    """The watchdog, posted work and questions have their turn after 50 ms of work, and the books close in between."""
    clock = Clock()
    loop, taken = slow(Batches([opened()] * 2048), clock)
    fed, looked = [clock.now_ns], []
    loop.pulse = lambda: fed.append(clock.now_ns)

    def look() -> None:
        glance = loop.look()
        looked.append((clock.now_ns, glance.in_flight - glance.holding))
        if loop.counts.judged < 2048:
            loop.post(look)

    loop.post(look)
    summary = loop.run()
    assert summary.counts.judged == len(taken.alerts) == 2048
    assert summary.counts.slowest_pass_ns <= PIECE_NS + SLOW_NS
    times = [at for at, _ in looked]
    assert len(times) > 300 and max(b - a for a, b in pairwise(times)) <= PIECE_NS + SLOW_NS
    assert {astray for _, astray in looked} == {0}, "nothing is in hand that the books do not know"
    assert max(b - a for a, b in pairwise(fed)) <= 500_000_000 + PIECE_NS + SLOW_NS


def test_a_ruleset_adopted_inside_a_batch_judges_what_follows() -> None:
    clock = Clock()
    loop, taken = slow(Batches([opened()] * 20), clock)
    loop.post(lambda: loop.post(lambda: loop.adopt(ruleset(OPENS.replace("rule: R", "rule: New")))))
    loop.run()
    names = taken.rules()
    assert len(names) == 20 and names == sorted(names, reverse=True) and {"R", "New"} == set(names) | {"R"}


def test_the_end_is_bounded_and_the_rest_is_counted_by_type() -> None:
    clock = Clock()
    source = Batches(last=[[opened()] * 100, [opened()] * 100, [known(1, 1)] * 3])
    source.produced = types((E.OPENAT, 200), (E.PROCINFO, 3))
    loop, taken = slow(source, clock, drain_ns=1_000_000_000)
    begun: list[int] = []
    loop.stop()
    summary = loop.run(ending=lambda: begun.append(clock.now_ns))
    assert begun, "the end is announced before the drain"
    assert clock.now_ns - begun[0] <= 1_000_000_000 + PIECE_NS + SLOW_NS
    judged = summary.counts.judged
    assert 90 <= judged <= 110
    assert summary.books.by_type[E.OPENAT].unread == 200 - judged and summary.books.by_type[E.PROCINFO].unread == 3
    assert summary.difference == 0
    (loss,) = (alert for alert in taken.alerts if alert.rule == LOSS_RULE)
    assert loss.fields["lost"] == 203 - judged and "openat" in str(loss.fields["lost.classes"])


def test_the_end_is_announced_within_a_batch() -> None:
    """Whoever counts the signs of life has to know it at once, however long the batch in hand takes."""
    clock = Clock()
    loop, _ = slow(Batches([opened()] * 1000), clock)
    announced: list[int] = []
    loop.post(lambda: loop.post(loop.stop))
    summary = loop.run(ending=lambda: announced.append(loop.counts.judged))
    assert len(announced) == 1 and announced[0] <= 2 * PIECE_NS // SLOW_NS + 2
    assert summary.counts.judged == 1000


def test_a_second_call_to_stop_ends_at_once_with_the_account() -> None:
    clock = Clock()
    loop, taken = slow(Batches(last=[[opened()] * 1000]), clock)
    loop.stop()
    loop.post(loop.stop)
    summary = loop.run()
    assert loop.hurried
    assert summary.counts.judged <= PIECE_NS // SLOW_NS + 1
    assert summary.difference == 0 and summary.books.unread == 1000 - summary.counts.judged
    assert LOSS_RULE in taken.rules()


def test_what_is_posted_at_the_end_or_later_is_run() -> None:
    loop, taken = loop_of(Batches())

    def tell(name: str) -> None:
        loop.tell(make_alert(name, Priority.NOTICE, "o", {}))

    loop.post(lambda: loop.post(lambda: loop.post(lambda: tell("posted by what was posted"))))
    summary = loop.run()
    loop.post(lambda: tell("late"))
    thread = threading.Thread(target=lambda: loop.post(lambda: tell("late, of another thread")))
    thread.start()
    thread.join()
    assert taken.rules() == ["posted by what was posted", "late", "late, of another thread"]
    assert summary.counts.by_rule.total() == 3, "and counted"


def test_posts_that_race_with_the_end_are_none_of_them_lost() -> None:
    loop, _ = loop_of(Batches())
    ran: list[int] = []
    ending = threading.Event()

    def posts() -> None:
        while not ending.is_set():
            loop.post(lambda: ran.append(1))
            posted.append(1)

    posted: list[int] = []
    threads = [threading.Thread(target=posts) for _ in range(4)]
    for thread in threads:
        thread.start()
    loop.run()
    ending.set()
    for thread in threads:
        thread.join()
    assert len(ran) == len(posted)


def test_documents_are_counted_in_a_look() -> None:
    source = Batches()
    loop, _ = loop_of(source)
    documents = [audit_event({"auditID": "x", "stage": "s"})]
    loop.documents = lambda limit: [documents.pop()] if documents else ()
    loop.run()
    assert loop.look().counts.documents == 1


def boom(*_: object) -> Any:
    raise IndexError("an error of ours")


def test_an_error_in_the_state_costs_one_event_and_is_a_loss() -> None:
    made = state()
    made._handlers[E.RMDIR] = boom
    source = Batches([known(1, 1), opened(), raw(E.RMDIR, 1, 1), raw(E.RMDIR, 1, 1), opened()])
    loop, taken = loop_of(source, of=made)
    summary = loop.run()
    assert summary.undecodable == 2 and summary.difference == 0
    assert taken.rules() == ["R", "R", LOSS_RULE]
    assert summary.faults == {"state": 2}


def seams() -> Iterator[Any]:
    """Where an error of ours may happen on the loop's thread."""

    def alerts(loop: Loop, taken: Taken) -> None:
        calls = iter((boom, *[taken.alerts.append] * 99))
        taken.submit = lambda alert: next(calls)(alert)  # type: ignore[method-assign]

    def posted(loop: Loop, taken: Taken) -> None:
        loop.post(boom)

    def pulse(loop: Loop, taken: Taken) -> None:
        loop.pulse = boom

    def books(loop: Loop, taken: Taken) -> None:
        loop.ledger.look = boom  # type: ignore[method-assign]

    def recorder(loop: Loop, taken: Taken) -> None:
        class Broken:
            saw = tick = end = boom

        loop.recorder = Broken()  # type: ignore[assignment]

    def containers(loop: Loop, taken: Taken) -> None:
        told = [raw(E.CONTAINER, 1, 1)._replace(params=())]
        loop._containers.take = lambda: [told.pop()] if told else []  # type: ignore[method-assign]

    for seam, name in (
        (alerts, "evaluation"), (posted, "what was posted to the loop"), (pulse, "signs of life"), (books, "the books"),
        (recorder, "evaluation"), (containers, "state"),
    ):  # fmt: skip
        yield pytest.param(seam, name, id=seam.__name__)


@pytest.mark.parametrize(("poison", "seam"), list(seams()))
def test_an_error_at_any_seam_of_the_loop_is_counted_and_the_rest_goes_on(
    poison: Any, seam: str, caplog: pytest.LogCaptureFixture
) -> None:
    loop, taken = loop_of(Batches([known(1, 1)], [opened()], [opened()]))
    poison(loop, taken)
    summary = loop.run()
    assert summary.counts.by_type[E.OPENAT] == 2 and summary.difference == 0
    assert summary.faults[seam] >= 1
    assert caplog.text.count("Traceback") == len(summary.faults), "one stack for each seam"
    if poison.__name__ != "recorder":
        assert taken.alerts, "the others go on"


def test_errors_of_the_same_seam_are_logged_at_powers_of_ten(caplog: pytest.LogCaptureFixture) -> None:
    made = state()
    made._handlers[E.RMDIR] = boom
    loop, _ = loop_of(Batches([raw(E.RMDIR, 1, 1)] * 250), of=made)
    loop.run()
    lines = [r.getMessage() for r in caplog.records if "internal" in r.getMessage()]
    assert lines == [
        "internal error in state: please report it", "10 internal errors in state so far",
        "100 internal errors in state so far",
    ]  # fmt: skip


def test_types_of_events_that_nobody_judges_are_cut_by_time_too() -> None:
    """What keeps state true is applied and no more: a flood of it must not hold the loop either."""
    clock = Clock()
    loop, _ = slow(Batches([replace_type(opened(), EventType.CHDIR)] * 500), clock)
    summary = loop.run()
    assert summary.counts.judged == 500 and summary.counts.slowest_pass_ns <= PIECE_NS + SLOW_NS


def replace_type(event: RawEvent, type_: EventType) -> RawEvent:
    return raw(type_, event.pid, event.start_ns, cwd="/", path="/")
