"""Token bucket, grouping, and the lane that neither touches."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from appliance.config.settings import Grouping, Outputs
from appliance.model.alert import Alert, Priority
from appliance.sinks.dispatch import LIMITED_RULE, LOST_RULE, Dispatcher
from appliance.sinks.flood import GROUPED, Flood
from tests.support.receivers import wait_until
from tests.support.sinks import MemorySink, alert, failing


class Clock:
    """Seconds, as told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def grouped(interval_ms: int = 60_000, **more: object) -> Outputs:
    return Outputs(grouping=Grouping(enabled=True, interval_ms=interval_ms, fields=("proc.name",), **more))  # type: ignore[arg-type]


def test_the_bucket_lets_a_burst_through_and_then_the_rate() -> None:
    clock = Clock()
    flood = Flood(Outputs(rate=2, max_burst=5), clock)
    assert [flood.admit(alert(n)) for n in range(8)] == [True] * 5 + [False] * 3
    clock.now += 1.0
    assert [flood.admit(alert(n)) for n in range(4)] == [True, True, False, False]
    clock.now += 1000.0
    assert sum(flood.admit(alert(n)) for n in range(50)) == 5, "no more than the burst is saved up"
    assert flood.held_back() == {"Some rule": 50}
    assert flood.held_back() == {}


def test_the_first_goes_out_at_once_and_the_others_as_one_that_counts_them() -> None:
    clock = Clock()
    flood = Flood(grouped(), clock)
    assert [flood.admit(alert(n)) for n in range(10)] == [True] + [False] * 9
    assert flood.admit(alert(99, fields={"proc.name": "other"})), "another group"
    assert flood.admit(alert(98, rule="Another rule")), "and another"
    assert flood.due() == []
    clock.now += 60
    (summary,) = flood.due()
    assert summary.id == "web1:boot:9", "of the last, which is sent in no other way"
    assert summary.fields[GROUPED] == 9
    assert summary.output == "9 more alerts of this rule within 60 s, the last: something happened"
    assert not flood.admit(alert(10)), "the next interval has begun"
    clock.now += 60
    (summary,) = flood.due()
    assert summary.fields[GROUPED] == 1
    clock.now += 60
    assert flood.due() == [], "a quiet interval: the group is forgotten"
    assert flood.admit(alert(11))


def test_groups_are_bounded() -> None:
    flood = Flood(grouped(max_groups=3), Clock())
    assert all(flood.admit(alert(n, fields={"proc.name": str(n)})) for n in range(100))
    assert len(flood._groups) == 3
    assert flood.admit(alert(fields={"proc.name": "99"})), "not grouped, and not lost"


@given(st.lists(st.tuples(st.sampled_from(Priority), st.integers(0, 2), st.floats(0, 30)), max_size=60), st.booleans())
def test_express_alerts_are_never_held_back_and_the_books_close(
    steps: list[tuple[Priority, int, float]], both: bool
) -> None:
    clock = Clock()
    settings = grouped() if both else Outputs()
    flood = Flood(Outputs(rate=0.1, max_burst=2, grouping=settings.grouping), clock)
    counted = 0
    for priority, name, seconds in steps:
        clock.now += seconds
        passed = flood.admit(alert(priority=priority, fields={"proc.name": str(name)}))
        assert passed or priority > Priority.CRITICAL
        counted += sum(int(a.fields[GROUPED] or 0) for a in flood.due())
    counted += sum(int(a.fields[GROUPED] or 0) for a in flood.due(all_of_them=True))
    assert flood.submitted == flood.passed + flood.grouped + flood.limited == len(steps)
    assert counted == flood.grouped


def internal(rule: str, priority: Priority, output: str, fields: Mapping[str, int | str]) -> Alert:
    return alert(id="internal", rule=rule, priority=priority, output=output, fields=dict(fields), source="internal")


def test_a_flood_through_the_dispatcher() -> None:
    sink = MemorySink()
    dispatcher = Dispatcher([sink], capacity=1000, outputs=grouped(300), make_alert=internal)
    for n in range(100):
        dispatcher.submit(alert(n))
    wait_until(lambda: len(sink.alerts) == 2, "the summary")
    for n in range(100, 150):
        dispatcher.submit(alert(n))
    dispatcher.close(timeout_s=10)
    assert sink.alerts[0].id == "web1:boot:0"
    assert sum(int(a.fields.get(GROUPED) or 0) for a in sink.alerts) + 1 == 150, "what is grouped at the end is told"
    stats = dispatcher.flood_stats()
    assert (stats["submitted"], stats["passed"], stats["grouped"]) == (150, 1, 149)


def test_what_is_held_back_or_lost_is_told_by_an_alert() -> None:
    good, bad = MemorySink("good"), MemorySink("bad", errors=failing(1, retry=False))
    outputs = Outputs(rate=0.001, max_burst=3)
    dispatcher = Dispatcher([good, bad], capacity=1000, outputs=outputs, make_alert=internal)
    for n in range(10):
        dispatcher.submit(alert(n))
    wait_until(lambda: {LIMITED_RULE, LOST_RULE} <= {a.rule for a in good.alerts}, "the alerts about alerts")
    dispatcher.close(timeout_s=10)
    held = [a for a in good.alerts if a.rule == LIMITED_RULE]
    (lost,) = [a for a in good.alerts if a.rule == LOST_RULE]
    assert sum(int(a.fields["held_back"] or 0) for a in held) == 7
    assert str(held[0].fields["rules"]).startswith("Some rule ")
    assert (lost.fields["sink"], lost.fields["lost"], lost.priority) == ("bad", 1, Priority.CRITICAL)
    assert LOST_RULE not in {a.rule for a in bad.alerts}, "not to the place that lost it"


def test_a_critical_alert_passes_a_queue_that_lower_ones_fill() -> None:
    sink = MemorySink()
    sink.gate.clear()
    dispatcher = Dispatcher([sink], capacity=100)
    for n in range(500):
        dispatcher.submit(alert(n, priority=Priority.NOTICE))
        if n == 0:
            wait_until(lambda: sink.tries == 1, "the one in hand")
    for n in range(1000, 1050):
        dispatcher.submit(alert(n, priority=Priority.CRITICAL))
    sink.gate.set()
    (stats,) = dispatcher.close(timeout_s=30)
    order = [int(a.id.rpartition(":")[2]) for a in sink.alerts]
    assert order[1:51] == list(range(1000, 1050)), "after the one that was in hand"
    assert order[51:] == sorted(order[51:])
    assert stats.delivered == 101 and stats.lost == 449
    assert stats.submitted == stats.delivered + stats.lost == 550


def test_a_critical_alert_does_not_wait_for_the_next_try_of_a_lower_one() -> None:
    sink = MemorySink(errors=failing(1, retry=True))
    dispatcher = Dispatcher([sink], capacity=100)
    dispatcher.submit(alert(1, priority=Priority.NOTICE))
    wait_until(lambda: sink.tries == 1, "the first try")
    dispatcher.submit(alert(2, priority=Priority.ALERT))
    dispatcher.close(timeout_s=10)
    assert [a.id for a in sink.alerts] in (["web1:boot:2", "web1:boot:1"], ["web1:boot:2"])


def test_settings_can_be_changed_while_alerts_come() -> None:
    sink = MemorySink()
    dispatcher = Dispatcher([sink], capacity=1000, outputs=grouped())
    for n in range(10):
        dispatcher.submit(alert(n))
    dispatcher.replace([], [], capacity=1000, outputs=Outputs())
    for n in range(10, 20):
        dispatcher.submit(alert(n))
    dispatcher.close(timeout_s=10)
    assert len(sink.alerts) == 1 + 1 + 10
    assert dispatcher.flood_stats()["submitted"] == 20
