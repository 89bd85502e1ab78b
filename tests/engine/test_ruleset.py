"""Selection: which rules are judged at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.catalog.fields import FIELDS
from appliance.engine.ruleset import Ruleset
from appliance.engine.timing import TIMED, Stopwatch
from appliance.lang.load import load_rules
from appliance.model.alert import Priority
from appliance.model.event import Event, EventType, Process, Usage
from tests.support.events import event, process
from tests.support.rules import ruleset_of

RULES = """
- {rule: loud, desc: d, condition: evt.type = execve and proc.name = ls, output: o, priority: CRITICAL}
- {rule: quiet, desc: d, condition: 'evt.type in (execve, connect)', output: o, priority: DEBUG}
- {rule: off, desc: d, condition: evt.type = fork, output: o, priority: CRITICAL, enabled: false}
"""


@pytest.mark.parametrize(
    ("minimum", "matching", "fired", "types"),
    [
        (Priority.DEBUG, "all", ["loud", "quiet"], {EventType.EXECVE, EventType.CONNECT}),
        (Priority.DEBUG, "first", ["loud"], {EventType.EXECVE, EventType.CONNECT}),
        (Priority.ERROR, "all", ["loud"], {EventType.EXECVE}),
        (Priority.EMERGENCY, "all", [], set()),
    ],
)
def test_rules_are_chosen(
    tmp_path: Path, minimum: Priority, matching: str, fired: list[str], types: set[EventType]
) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES)
    ids = iter("123")
    found = Ruleset.build(
        load_rules([file]).rules, minimum=minimum, matching=matching, hostname="h", new_id=lambda: next(ids)
    )
    assert found.event_types == types
    alerts = found.match(event("execve", process=process("ls")))
    assert [a.rule for a in alerts] == fired
    assert len({a.id for a in alerts}) == len(fired)
    assert found.match(event("fork", process=process("ls"))) == ()


def built(tmp_path: Path, condition: str, output: str = "o", source: str = "syscall") -> Ruleset:
    file = tmp_path / "rules.yaml"
    file.write_text(
        f"- {{rule: r, desc: d, condition: '{condition}', output: '{output}', priority: INFO, source: {source}}}\n"
    )
    loaded = load_rules([file])
    assert not loaded.diagnostics
    return ruleset_of(loaded.rules, hostname="host-a")


def said(rules: Ruleset, made: Event) -> list[str]:
    return [alert.output for alert in rules.match(made)]


def test_what_a_process_has_is_looked_for_once_an_event_and_only_where_a_rule_gets_there(tmp_path: Path) -> None:
    rules = built(
        tmp_path,
        "evt.type = open and proc.name = cat and proc.nthreads > 2 and proc.fdusage >= 50",
        "%proc.nthreads %proc.nchilds %proc.fdopencount %proc.fdusage",
    )
    looked: list[int] = []

    def look(of: Process) -> Usage:
        looked.append(of.pid)
        return Usage(3, 2, 8)

    rules.world.look = look
    cat = process("cat", fdlimit=16)
    assert said(rules, event("open", process=cat)._replace(num=7)) == ["3 2 8 50.0"]
    assert said(rules, event("open", process=process("ls"))._replace(num=8)) == []
    assert looked == [cat.pid]
    rules.world.look = lambda of: Usage()
    assert said(rules, event("open", process=cat)._replace(num=9)) == [], "absent: the check is false"
    assert said(built(tmp_path, "evt.type = open", "%proc.nthreads %proc.fdusage"), event("open")) == ["<NA> <NA>"]


def test_the_hosts_name_is_a_field(tmp_path: Path) -> None:
    assert said(built(tmp_path, "evt.type = open and evt.hostname = host-a", "%evt.hostname"), event("open")) == [
        "host-a"
    ]


@pytest.mark.parametrize(
    ("off_ns", "delta_ms", "fires"),
    [(0, 0, True), (10**9, 1000, True), (-(10**9), 1000, True), (10**9 + 1, 1000, False), (-(10**9) - 1, 1000, False)],
)
def test_around_a_moment(tmp_path: Path, off_ns: int, delta_ms: int, fires: bool) -> None:
    made = event("open")
    rules = built(tmp_path, f"evt.type = open and evt.around[{made.ts_ns + off_ns}] = {delta_ms}")
    assert bool(said(rules, made)) is fires


@pytest.mark.parametrize(
    "condition", ["evt.around[1] < 5", "evt.around[x] = 5", "evt.around = 5", "evt.around[1] in (5)"]
)
def test_what_is_no_moment_is_refused(tmp_path: Path, condition: str) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(
        f"- {{rule: r, desc: d, condition: 'evt.type = open and {condition}', output: o, priority: INFO}}\n"
    )
    assert load_rules([file]).diagnostics


def test_times_beside_the_other_events(tmp_path: Path) -> None:
    rules = built(
        tmp_path, "evt.type = open and evt.deltatime >= 0",
        "%evt.reltime %evt.reltime.s %evt.reltime.ns %evt.deltatime %evt.deltatime.s %evt.deltatime.ns",
    )  # fmt: skip
    assert rules.needs.fields & TIMED == TIMED
    assert not TIMED - FIELDS.keys()
    at = (0, 2_500_000_000, 3_000_000_001, 2_000_000_000)
    watch = Stopwatch()
    made = [watch.timed(event("open")._replace(ts_ns=10**18 + ns)) for ns in at]
    assert [said(rules, e)[0] for e in made] == [
        "0 0 0 0 0 0",
        "2500000000 2 500000000 2500000000 2 500000000",
        "3000000001 3 1 500000001 0 500000001",
        "2000000000 2 0 0 0 0",
    ]
    watch.forget()
    assert said(rules, watch.timed(made[0])) == [], "the one before is not known"
    assert said(rules, event("open")) == [], "nobody has looked at a clock"


def test_an_audit_event_is_its_plugins(tmp_path: Path) -> None:
    rules = built(tmp_path, "evt.pluginname = k8saudit", "%evt.plugininfo", "k8s_audit")
    made = event("pluginevent")._replace(document={"kind": "Event", "name": "\u00e4"})
    assert said(rules, made) == ['{"kind":"Event","name":"\u00e4"}']
    assert said(built(tmp_path, "evt.type = open", "%evt.pluginname %evt.plugininfo"), event("open")) == ["<NA> <NA>"]
