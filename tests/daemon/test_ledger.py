"""The books: what is lost is told once, with whom it may have blinded, as often as is allowed and never not at all."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.cli.run import account
from appliance.config.settings import EventDrops
from appliance.daemon.identity import internal_alerts
from appliance.daemon.ledger import LOSS_RULE, Ledger, blinded_by
from appliance.daemon.loop import Counts, Summary
from appliance.kernel.loader import Book, Books
from appliance.lang.load import load_rules
from appliance.model.alert import Alert
from appliance.model.event import EventType as E
from appliance.model.rule import Rule
from tests.support.daemon import Daemon

SECOND = 1_000_000_000
DROPS = EventDrops()


@pytest.fixture
def rules(tmp_path: Path) -> tuple[Rule, ...]:
    file = tmp_path / "rules.yaml"
    file.write_text(
        "- {rule: Opens, desc: d, condition: evt.type = openat and fd.name = /x, output: o, priority: INFO}\n"
        "- {rule: Starts, desc: d, condition: evt.type = execve and proc.name = x, output: o, priority: INFO}\n"
    )
    return load_rules([file]).rules


def books(by_type: Mapping[E, Book], busy: int = 0) -> Books:
    return Books(by_type, compat=0, busy=busy)


def ledger(settings: EventDrops = DROPS) -> Ledger:
    return Ledger(settings, internal_alerts("h", lambda: "1"), wall_ns=lambda: 77)


def told(alerts: list[Alert]) -> list[int]:
    assert all(a.rule == LOSS_RULE for a in alerts)
    return [int(a.fields["lost"]) for a in alerts]


def test_the_account_at_the_end_closes_where_records_could_not_be_made() -> None:
    made = books({E.OPENAT: Book(10, full=2), E.CLOSE: Book(5)}, busy=3)
    summary = Summary(Counts(judged=13), made, 0, 2.0, {}, 0, 0, {})
    told = "\n".join(account(summary, [], {"passed": 0, "submitted": 0}))
    assert "produced 18 (9/s), judged 13, lost 5\n" in told
    assert "unaccounted" not in told


def test_a_loss_is_told_once_with_class_count_and_blinded_rules(rules: tuple[Rule, ...]) -> None:
    made = ledger()
    assert made.look(books({E.OPENAT: Book(10)}), 0, rules, SECOND) == []
    alerts = made.look(books({E.OPENAT: Book(30, full=4, unfair=3)}), 0, rules, 2 * SECOND)
    assert told(alerts) == [7]
    assert alerts[0].fields["lost.classes"] == "openat 7"
    assert alerts[0].fields["lost.unfair"] == 3
    assert alerts[0].fields["rules.blinded"] == "Opens"
    assert made.look(books({E.OPENAT: Book(30, full=4, unfair=3)}), 0, rules, 3 * SECOND) == []
    assert made.snapshot(books({}), {}, 0).last_loss_ns == 77


def test_a_loss_without_a_class_may_have_blinded_all(rules: tuple[Rule, ...]) -> None:
    assert blinded_by(["undecodable"], rules) == ["Opens", "Starts"]
    assert blinded_by(["execve", "close"], rules) == ["Starts"]
    assert told(ledger().look(books({}, busy=1), 2, rules, SECOND)) == [3]


def test_what_finds_no_token_waits_and_is_told_with_the_next(rules: tuple[Rule, ...]) -> None:
    made = ledger(EventDrops(rate=0.5, max_burst=2))
    counts = [
        told(made.look(books({E.OPENAT: Book(100, full=n)}), 0, rules, n * SECOND)) for n in (1, 2, 3, 4, 5, 6, 7)
    ]
    assert counts == [[1], [1], [1], [], [2], [], [2]]
    assert told(made.look(books({E.OPENAT: Book(100, full=8)}), 0, rules, 7 * SECOND, last=True)) == [1]
    assert made.snapshot(books({}), {}, 0).told == 8


def test_below_the_threshold_it_waits_until_the_end(rules: tuple[Rule, ...]) -> None:
    made = ledger(replace(DROPS, threshold=0.1))
    assert made.look(books({E.OPENAT: Book(1000, full=5)}), 0, rules, SECOND) == []
    assert told(made.look(books({E.OPENAT: Book(1100, full=30)}), 0, rules, 2 * SECOND)) == [30]
    assert made.look(books({E.OPENAT: Book(2100, full=31)}), 0, rules, 3 * SECOND) == []
    assert told(made.look(books({E.OPENAT: Book(2100, full=31)}), 0, rules, 4 * SECOND, last=True)) == [1]


@pytest.mark.parametrize(("actions", "alerts", "lines", "ends"), [
    (("ignore",), 0, 0, False), (("log",), 0, 1, False), (("alert",), 1, 0, False), (("log", "exit"), 0, 2, True),
])  # fmt: skip
def test_actions(
    actions: tuple[str, ...], alerts: int, lines: int, ends: bool, rules: tuple[Rule, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    made = ledger(replace(DROPS, actions=actions))
    with caplog.at_level(logging.INFO):
        assert len(made.look(books({E.OPENAT: Book(2, full=1)}), 0, rules, SECOND)) == alerts
    assert len(caplog.records) == lines
    assert made.gave_up is ends


def test_the_snapshot_closes() -> None:
    kernel = Books({E.OPENAT: Book(20, full=2, unfair=3, filtered=4), E.CLOSE: Book(5)}, 0, 6, (Book(25),))
    snapshot = ledger().snapshot(kernel, {E.OPENAT: 9, E.CLOSE: 4}, 1)
    assert (snapshot.produced, snapshot.judged, snapshot.filtered, snapshot.lost) == (31, 13, 4, 12)
    assert snapshot.in_flight == 2
    assert [(c.type, c.lost) for c in snapshot.classes] == [(E.OPENAT, 5), (E.CLOSE, 0)]


@pytest.mark.kernel
def test_a_simulated_loss_is_told_and_can_end_the_appliance(tmp_path: Path) -> None:
    """From the settings to the alert: Falco's `simulate_drops`, with every action."""
    drops = {"simulate_drops": True, "actions": ["log", "alert", "exit"]}
    daemon = Daemon(tmp_path, {"syscall_event_drops": drops})
    daemon.start()
    assert daemon.process is not None
    assert daemon.process.wait(60) == 1
    daemon.process = None
    alert = daemon.alerts(LOSS_RULE)[0]
    assert alert["output_fields"]["lost.classes"] == "simulated 1"
    assert alert["priority"] == "Critical"
    assert "1 events were lost" in daemon.errors()
