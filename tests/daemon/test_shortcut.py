"""Opens that are passed over: none that a rule could hold on, that the state learns from, or that is not counted."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.catalog.events import EVENTS
from appliance.daemon.shortcut import Shortcut
from appliance.engine.ruleset import Ruleset
from appliance.engine.state import State
from appliance.kernel.decode import decode, encode
from appliance.kernel.layout import NUMBERS
from appliance.model.event import Account, Container, EventType, RawEvent, changed
from appliance.model.expr import Check, Expr, FieldRef, Word
from appliance.model.field import Operator
from tests.codegen.test_python import conditions, rule_of
from tests.support.rules import ruleset_of

FIELDS: dict[EventType, dict[str, object]] = {
    t: {p.name: 0 for p in EVENTS[t].stored} | {"name": "/etc/hostname", "base": "", "real": ""}
    for t in (EventType.OPEN, EventType.OPENAT, EventType.OPENAT2, EventType.CREAT)
}
PATHS = ("/etc/Shadow File", "/etc/hostname", "a", "", None)


class Accounts:
    def user(self, uid: int, container: Container, pid: int) -> Account:
        return Account(uid, "root" if uid == 0 else None)

    group = user


def raw(type_: EventType = EventType.OPENAT, *, pid: int = 7, res: int = 5, via: int = 0, **facts: object) -> RawEvent:
    params = tuple((FIELDS[type_] | {k: v for k, v in facts.items() if k in FIELDS[type_]}).values())
    return RawEvent(type_, 1_000, 0, pid, pid, 500, 0, 0, res, params, via)  # type: ignore[arg-type]


def ruleset(trees: Iterable[Expr]) -> Ruleset:
    return ruleset_of([rule_of(f"r{n}", tree) for n, tree in enumerate(trees)])


def state() -> State:
    made = State(accounts=Accounts(), read_process=lambda pid: None, ask_container=lambda *_: None, wall_offset_ns=0)
    for pid, name in ((7, "cat"), (8, "bash")):
        made.apply(RawEvent(EventType.GETUID, 1, 0, pid, pid, 500, 0, 0, 0, ()))
        made._live[pid].process = changed(made._live[pid].process, name=name)
    return made


SHADOW = Check(FieldRef("fd.name"), Operator.EQ, Word("/etc/Shadow File"))


@pytest.fixture
def shortcut() -> Shortcut:
    return Shortcut(ruleset([SHADOW]), state().knows)


def skipped(shortcut: Shortcut, *events: RawEvent) -> list[bool]:
    return [shortcut.skip(NUMBERS[e.type], memoryview(encode(e))) for e in events]


def test_the_third_of_a_kind_is_passed_over_and_counted(shortcut: Shortcut) -> None:
    assert skipped(shortcut, *[raw(ino=n, res=3 + n) for n in range(5)]) == [False, False, True, True, True]
    assert skipped(shortcut, *[raw(name="/etc/hosts")] * 3) == [False, False, True]
    assert shortcut.taken() == Counter({EventType.OPENAT: 4})
    assert shortcut.taken() == Counter()


def test_what_a_rule_may_hold_on_never_is(shortcut: Shortcut) -> None:
    assert not any(skipped(shortcut, *[raw(name="/etc/Shadow File")] * 5))
    assert not any(skipped(shortcut, *[raw(name="Shadow File", base="/etc")] * 5))


@pytest.mark.parametrize(
    "event",
    [
        raw(pid=9), raw(res=0), raw(res=2), raw(via=3), raw(name="/x" * 300), raw(name=None), raw(name="a", base=""),
        raw()._replace(start_ns=501),
    ],
    ids=["unknown process", "stdin", "stderr", "io_uring", "long", "unreadable", "no folder", "another start"],
)  # fmt: skip
def test_what_the_state_learns_from_never_is(shortcut: Shortcut, event: RawEvent) -> None:
    skipped(shortcut, *[raw()] * 3)
    assert not any(skipped(shortcut, *[event] * 5))


def test_off_is_off_and_new_rules_are_asked_anew(shortcut: Shortcut) -> None:
    assert skipped(shortcut, *[raw()] * 3)[-1]
    shortcut.on = False
    assert not any(skipped(shortcut, raw()))
    shortcut.on = True
    assert all(skipped(shortcut, raw()))
    shortcut.adopt(ruleset([Check(FieldRef("fd.name"), Operator.EQ, Word("/etc/hostname"))]))
    assert not any(skipped(shortcut, *[raw()] * 5))


def test_calls_that_failed_are_judged_apart_from_those_that_did_not() -> None:
    made = Shortcut(ruleset([Check(FieldRef("evt.res"), Operator.EQ, Word("EACCES"))]), state().knows)
    assert skipped(made, *[raw()] * 3)[-1]
    assert skipped(made, *[raw(res=-2)] * 3)[-1]
    assert not any(skipped(made, *[raw(res=-13)] * 4))


def test_the_table_is_bounded_and_where_nothing_comes_again_it_rests(shortcut: Shortcut) -> None:
    skipped(shortcut, *[raw()] * 3)
    for n in range(15_000):
        skipped(shortcut, raw(name=f"/tmp/{n}"), *[raw()] * 2)
    assert 0 < sum(map(len, shortcut._verdicts.values())) <= 8192
    assert shortcut.taken().total() > 29_900
    for n in range(2 * 4096):
        skipped(shortcut, raw(name=f"/usr/{n}"))
    assert not any(skipped(shortcut, *[raw()] * 3)), "it rests"
    for n in range(40_000):
        skipped(shortcut, raw(name=f"/tmp/{n % 8}"))
    assert skipped(shortcut, *[raw()] * 3)[-1]


def test_a_record_that_is_cut_is_left_to_the_reader(shortcut: Shortcut) -> None:
    record = bytearray(encode(raw(name="/etc/hostname")))
    struct.pack_into("<H", record, 0, 1)
    for _ in range(4):
        assert not shortcut.skip(NUMBERS[EventType.OPENAT], memoryview(record)[:-4])


_opens = st.builds(
    raw,
    st.sampled_from(list(FIELDS)),
    pid=st.sampled_from([7, 8]),
    res=st.sampled_from([3, 4, -1, -2, -13, 1]),
    via=st.sampled_from([0, 0, 1]),
    name=st.sampled_from(PATHS),
    base=st.sampled_from(["", "/", "/etc", None]),
    ino=st.integers(0, 2),
    flags=st.sampled_from([0, 1, 0x241, 0x10000]),
)


@given(st.lists(conditions(), min_size=1, max_size=3), st.lists(_opens, min_size=5, max_size=30))
@settings(max_examples=40, deadline=None)
def test_a_stream_has_the_same_alerts_with_and_without(trees: list[Expr], events: list[RawEvent]) -> None:
    rules, ours, plain = ruleset(trees), state(), state()
    shortcut = Shortcut(rules, ours.knows)
    records = [encode(event) for event in events * 4]
    counts: Counter[EventType] = Counter()
    for record in records:
        event = decode(record)
        whole = plain.apply(event)
        assert whole is not None
        if shortcut.skip(NUMBERS[event.type], memoryview(record)):
            assert rules.match(whole) == (), "passed over, and a rule holds"
            ours.passed_over(1)
            continue
        counts[event.type] += 1
        assert ours.apply(event) == whole._replace(lineage=ours._lineage)
    assert counts + shortcut.taken() == Counter(decode(record).type for record in records)
    assert ours.missing == plain.missing
