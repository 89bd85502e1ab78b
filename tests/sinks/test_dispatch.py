"""A queue and a worker for each sink: nothing waits, nothing is lost without a count."""

from __future__ import annotations

import contextlib
import logging

import pytest

from appliance.sinks.dispatch import AT_END, ATTEMPTS, QUEUE_FULL, Dispatcher
from tests.support.receivers import wait_until
from tests.support.sinks import MemorySink, alert, failing
from tests.support.threads import no_threads


def test_all_alerts_reach_all_sinks_in_order() -> None:
    one, two = MemorySink("one"), MemorySink("two")
    dispatcher = Dispatcher([one, two], capacity=1000)
    for n in range(500):
        dispatcher.submit(alert(n))
    stats = dispatcher.close(timeout_s=30)
    assert [s.delivered for s in stats] == [500, 500]
    assert [a.id for a in one.alerts] == [a.id for a in two.alerts] == [f"web1:boot:{n}" for n in range(500)]
    assert one.closed and two.closed


def test_a_sink_that_hangs_delays_no_other_and_is_accounted_for(caplog: pytest.LogCaptureFixture) -> None:
    hung, good = MemorySink("hung"), MemorySink("good")
    hung.gate.clear()
    dispatcher = Dispatcher([hung, good], capacity=100)
    for n in range(10_000):
        dispatcher.submit(alert(n))
        if n % 50 == 0:
            wait_until(lambda n=n: len(good.alerts) == n + 1, "the good sink")
    wait_until(lambda: len(good.alerts) == 10_000, "the good sink")
    of_hung, of_good = dispatcher.close(timeout_s=0.2)
    hung.gate.set()
    assert (of_good.delivered, of_good.lost) == (10_000, 0)
    assert of_hung.delivered == 0
    assert of_hung.reasons == {QUEUE_FULL: 10_000 - 101, AT_END: 101}  # one was in its hands
    assert of_hung.lost == 10_000
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "hung: alerts were lost: 1 so far" in told[0]
    assert len(told) < 20, "at doublings only"


@pytest.mark.parametrize(
    ("errors", "retry", "delivered", "tries"),
    [(1, True, 1, 2), (ATTEMPTS - 1, True, 1, ATTEMPTS), (ATTEMPTS, True, 0, ATTEMPTS), (1, False, 0, 1)],
)
def test_another_try_where_it_can_help(errors: int, retry: bool, delivered: int, tries: int) -> None:
    sink = MemorySink(errors=failing(errors, retry=retry))
    dispatcher = Dispatcher([sink], capacity=10)
    dispatcher.submit(alert())
    wait_until(lambda: sum((s := dispatcher.stats()[0]).reasons.values()) + s.delivered == 1, "the verdict")
    (stats,) = dispatcher.close(timeout_s=10)
    assert (stats.delivered, stats.lost, sink.tries) == (delivered, 1 - delivered, tries)
    assert stats.reasons == ({} if delivered else {"the other end is away": 1})


def test_an_error_of_ours_ends_no_worker(caplog: pytest.LogCaptureFixture) -> None:
    sink = MemorySink(errors=[ZeroDivisionError()])
    dispatcher = Dispatcher([sink], capacity=10)
    dispatcher.submit(alert(1))
    dispatcher.submit(alert(2))
    (stats,) = dispatcher.close(timeout_s=30)
    assert (stats.delivered, stats.reasons) == (1, {"internal error: ZeroDivisionError": 1})
    assert "Traceback" in caplog.text


def test_what_comes_after_the_end_is_counted() -> None:
    dispatcher = Dispatcher([MemorySink()], capacity=10)
    dispatcher.close(timeout_s=10)
    dispatcher.submit(alert())
    assert dispatcher.stats()[0].reasons == {AT_END: 1}


def test_a_text_of_two_megabytes_takes_less_room() -> None:
    sink = MemorySink()
    dispatcher = Dispatcher([sink], capacity=10)
    dispatcher.submit(alert(output="x" * 2_000_000, fields={"a": "y" * 2_000_000, "b": 1}))
    dispatcher.close(timeout_s=30)
    (kept,) = sink.alerts
    assert len(kept.output) == 65_536 and kept.output.endswith("...[cut]")
    assert len(str(kept.fields["a"])) == 65_536
    assert kept.fields["b"] == 1


def test_sinks_that_come_and_go_get_each_alert_once_and_in_order() -> None:
    old, stays, new = MemorySink("file_output"), MemorySink("other"), MemorySink("file_output")
    old.gate.clear()
    dispatcher = Dispatcher([old, stays], capacity=1000)
    for n in range(100):
        dispatcher.submit(alert(n))
    dispatcher.replace({"file_output"}, [new], capacity=1000)
    for n in range(100, 200):
        dispatcher.submit(alert(n))
    assert new.alerts == [], "the old one has not ended"
    old.gate.set()
    wait_until(lambda: len(new.alerts) == 100, "the new sink")
    assert old.closed
    assert [a.id for a in [*old.alerts, *new.alerts]] == [a.id for a in stays.alerts]
    dispatcher.replace({"other"}, [], capacity=1000)
    wait_until(lambda: stays.closed, "the end of the other")
    dispatcher.submit(alert(200))
    stats = {s.name: s for s in dispatcher.close(timeout_s=30)}
    assert (stats["file_output"].delivered, stats["file_output"].lost) == (201, 0)
    assert (stats["other"].delivered, stats["other"].lost) == (200, 0)


@pytest.mark.parametrize("again", [False, True], ids=["once", "replaced meanwhile"])
def test_a_reload_without_a_thread_loses_nothing(again: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Sinks that come wait for one, and those before them, of the same name or not, leave when there is one."""
    old, leaves, new = MemorySink("file_output"), MemorySink("other"), MemorySink("file_output")
    dispatcher = Dispatcher([old, leaves], capacity=1000)
    dispatcher.submit(alert(0))
    with no_threads():
        if again:
            dispatcher.replace({"file_output"}, [MemorySink("file_output")], capacity=1000)
            dispatcher.submit(alert(1))
        dispatcher.replace({"file_output", "other"}, [new], capacity=1000)
        dispatcher.submit(alert(2))
        assert [s.trouble for s in dispatcher.stats() if s.name == "file_output"] == ["cannot start a thread"]
    wait_until(lambda: len(new.alerts) == 1, "the new sink")
    wait_until(lambda: old.closed and leaves.closed, "the end of the old ones")
    stats = {s.name: s for s in dispatcher.close(timeout_s=30)}
    file = stats["file_output"]
    assert (file.submitted, file.delivered, file.lost) == (2 + again, 2 + again, 0)
    assert (stats["other"].delivered, stats["other"].lost) == (1 + again, 0)
    assert "cannot start a thread" in caplog.text


def test_who_leaves_while_all_ends_is_in_the_account() -> None:
    """Its end is on another thread, which the end of the process would cut off."""
    for with_threads in (True, False):
        old, leaves = MemorySink("file_output"), MemorySink("other")
        old.gate.clear()
        leaves.gate.clear()
        dispatcher = Dispatcher([old, leaves], capacity=1000)
        for n in range(10):
            dispatcher.submit(alert(n))
        with contextlib.nullcontext() if with_threads else no_threads():
            dispatcher.replace({"file_output", "other"}, [MemorySink("file_output")], capacity=1000)
            dispatcher.submit(alert(10))
            stats = {s.name: s for s in dispatcher.close(timeout_s=0.5)}
        old.gate.set()
        leaves.gate.set()
        assert (stats["file_output"].submitted, stats["file_output"].lost) == (11, 11)
        assert (stats["other"].submitted, stats["other"].lost) == (10, 10)
