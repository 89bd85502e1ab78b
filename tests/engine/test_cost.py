"""What an event costs, whatever the host looks like: work is counted, as time is the machine's."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.engine.ruleset import Ruleset
from appliance.engine.state import State
from appliance.engine.typical import typical_event
from appliance.lang.load import load_rules
from appliance.model.event import Container, Event, EventType, joined
from tests.engine.test_state import BOOT, E, forked, known, raw
from tests.support.loop import OPENS, ruleset, state
from tests.support.rules import ruleset_of
from tests.support.work import work

SHIPPED = Path(__file__).resolve().parents[2] / "rules" / "tercel_rules.yaml"
DEPTHS = (1, 4, 16, 64, 128, 256)
STEP = 20  # calls for one ancestor at most: to find it, and to look at it


def deep(depth: int) -> tuple[State, int, int]:
    """A line of so many processes, and pid and start of the last."""
    made = state()
    made.apply(known(1, 1, ptid=0, comm="init"))
    pid, start_ns = 1, 1
    for n in range(depth):
        made.apply(forked(pid, 1000 + n, BOOT + n + 1, parent_start_ns=start_ns))
        pid, start_ns = 1000 + n, BOOT + n + 1
    return made, pid, start_ns


def opened(depth: int, name: str = "/root/.ssh/id_rsa", res: int = -13) -> tuple[State, Event]:
    made, pid, start_ns = deep(depth)
    event = made.apply(
        raw(E.OPENAT, pid, start_ns, res=res, dirfd=-100, name=name, flags=0, mode=0, base="", ino=0, dev=0, real="")
    )
    assert event is not None
    return made, event


def cost(rules: Ruleset, event: Event, made: State) -> int:
    """Of one event of its own, by rules that have judged such a one before."""
    rules.match(event)
    fresh = event._replace(num=event.num + 1)  # nothing is remembered of this one
    return work(lambda: rules.match(fresh))


FIELDS = (
    "proc.aname in (sshd, cron)",
    "proc.aname = sshd",
    "proc.aexepath startswith /opt",
    "proc.acmdline contains zzz",
    "proc.aargs contains zzz",
    "proc.apid = 77777",
    "proc.aline contains zzz",
    "proc.loginshellid = 77777",
    "proc.sname = zzz",
    "proc.aenv contains zzz",
    "proc.aname[255] = zzz",
)


@pytest.mark.parametrize("condition", FIELDS)
def test_ancestors_are_followed_once(condition: str) -> None:
    """The first event of an ancestor's kind costs some steps for each of them, however many rules ask."""
    text = "\n".join(
        f"- {{rule: R{n}, desc: d, condition: 'evt.type = openat and {condition} and proc.pid != {n}',"
        " output: o, priority: INFO}"
        for n in range(8)
    )
    rules = ruleset(text)
    costs = {depth: cost(rules, *reversed(opened(depth))) for depth in DEPTHS}
    assert costs[256] <= costs[1] + STEP * 256, costs


@pytest.mark.parametrize("name", ["proc.aname", "proc.acmdline", "proc.aexepath"])
def test_the_first_ancestor_that_fits_ends_the_search(name: str) -> None:
    value = {"proc.aname": "init", "proc.acmdline": "init", "proc.aexepath": "/usr/bin/prog"}[name]
    rules = ruleset(
        f"- {{rule: R, desc: d, condition: evt.type = openat and {name} in ({value}), output: o, priority: INFO}}"
    )
    costs = {}
    for depth in DEPTHS:
        made, event = opened(depth)
        fits = replace(event.process, name="init", args=())
        line = made._live[fits.pid].parent
        assert line is not None
        line.process = replace(line.process, name="init", args=())
        costs[depth] = cost(rules, event, made)
    assert costs[256] == costs[16], costs


@pytest.mark.parametrize("where", ["host", "container"])
@pytest.mark.parametrize("name", ["/root/.ssh/id_rsa", "/etc/shadow", "/etc/x", "/usr/bin/x"])
def test_shipped_rules_are_linear_in_the_depth(name: str, where: str) -> None:
    """What an unprivileged user can make of them by refused opens."""
    loaded = load_rules([SHIPPED])
    rules = ruleset_of([replace(rule, enabled=True) for rule in loaded.rules])
    box = Container("0123456789ab", "0123456789ab" * 5 + "0123", runtime="docker", name="web", image="nginx:1")
    costs = {}
    for depth in DEPTHS:
        made, event = opened(depth, name)
        if where == "container":
            inside = replace(event.process, container_id=box.id)
            event = event._replace(container=box, process=inside)
        costs[depth] = cost(rules, event, made)
    assert costs[256] <= costs[1] + STEP * 256, costs


def argv(words: int) -> Event:
    event = typical_event(EventType.EXECVE)
    return event._replace(process=replace(event.process, args=("x",) * words))


@pytest.mark.parametrize(
    "condition",
    ["proc.cmdline contains zzz", "proc.args contains zzz", "proc.cmdnargs > 5000", "proc.args in (proc.aname, zzz)"],
)
def test_a_wide_command_line_costs_no_more_calls(condition: str) -> None:
    rules = ruleset(
        f"- {{rule: R, desc: d, condition: 'evt.type = execve and {condition}', output: o, priority: INFO}}"
    )
    costs = [work(lambda n=n: rules.match(argv(n))) for n in (1, 64, 2048)]
    assert costs[1] == costs[2] <= costs[0] + STEP, costs


def test_the_arguments_of_ancestors_are_joined_once() -> None:
    """By whoever looks at them for each event, at 256 processes with thousands of words each."""
    words = tuple("x" * 2048)
    made = argv(3).process
    wide = replace(made, args=words)
    assert joined(words) is joined(words), "the text is kept"
    assert wide.cmdline == f"{made.name} {' '.join(words)}" and wide.exeline == f"{made.exe} {' '.join(words)}"
    others = [tuple(f"{n}" for _ in range(20)) for n in range(2000)]
    assert [joined(other) for other in others] == [" ".join(other) for other in others], "but not for ever"


def test_two_lists_are_compared_without_each_pair() -> None:
    rules = ruleset(
        "- {rule: R, desc: d, condition: evt.type = execve and proc.aname = val(proc.args), output: o, priority: INFO}"
    )
    made, pid, start_ns = deep(256)
    event = made.apply(raw(E.OPENAT, pid, start_ns, res=3, dirfd=-100, name="/x", flags=0, mode=0, base=""))
    assert event is not None
    wide = argv(2048)._replace(process=replace(event.process, args=("x",) * 2048), lineage=event.lineage)
    assert work(lambda: rules.match(wide)) <= STEP * 256 + 2048


def holding(count: int) -> str:
    return "\n".join(
        f"- {{rule: R{n}, desc: d, condition: evt.type = openat, output: 'o %proc.aline', priority: INFO}}"
        for n in range(count)
    )


def test_each_rule_that_holds_costs_its_own_alert_and_no_more() -> None:
    _, event = opened(16)
    rules = {n: ruleset(holding(n)) for n in (1, 8, 64)}
    costs = {n: cost(r, event, state()) for n, r in rules.items()}
    each = (costs[8] - costs[1]) / 7
    assert costs[64] <= costs[8] + 56 * each * 1.1, costs


@pytest.mark.parametrize("failing", [1, 8])
def test_a_failing_predicate_is_compiled_once_and_the_others_go_on(
    failing: int, caplog: pytest.LogCaptureFixture
) -> None:
    """An event by which a predicate fails costs what the rules cost one by one, and hardly ever a line of the log."""
    bad = "\n".join(
        f"- {{rule: Bad{n}, desc: d, condition: evt.type = openat and proc.args contains {n},"
        " output: o, priority: INFO}"
        for n in range(failing)
    )
    rules = ruleset_of([*load_rules([SHIPPED]).rules, *ruleset(f"{bad}\n{OPENS}").rules])
    event = typical_event(EventType.OPENAT)
    event = event._replace(process=replace(event.process, args=(1,)))  # type: ignore[arg-type]  # no text: join fails
    with caplog.at_level(logging.ERROR):
        first = work(lambda: rules.match(event))
        costs = [work(lambda: rules.match(event)) for _ in range(19)]
    count = sum(EventType.OPENAT in rule.event_types for rule in rules.rules)
    usual = sorted(costs)[-2]  # one of them writes lines of the log
    assert usual <= 60 * count and 3 * usual < first, "no compiler in it"
    assert {f"Bad{n}" for n in range(failing)} <= rules.errors.keys() and set(rules.errors.values()) == {20}
    assert len(caplog.records) == 2 * len(rules.errors), "at the first error, and at the tenth"
    assert [alert.rule for alert in rules.match(event)] == ["R"]
