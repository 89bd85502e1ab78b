"""Our table of events beside Falco's (`falco --list-events`): names, order and kinds of parameters of exit events."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

import pytest

from appliance.catalog import elsewhere
from appliance.catalog.events import EVENTS, STATE, Category
from appliance.catalog.params import VARIABLE, Param, ParamType
from appliance.kernel.arch import ARCHES
from appliance.kernel.layout import LAYOUTS
from appliance.kernel.plan import plan_of
from appliance.kernel.program import TRACED, bpf_folder
from appliance.model.event import EventType
from tests.support.shared import shared_falco

T = ParamType
BARE = [("ID", "SYSCALLID"), ("nativeID", "UINT16")]

# What a value is, whatever its width: ours are as wide as the call's argument, Falco's vary.
KINDS: Mapping[str, frozenset[ParamType]] = {
    "ERRNO": frozenset({T.RES, T.INT64}),
    "FD": frozenset({T.FD, T.RES_FD}),
    "PID": frozenset({T.PID, T.RES_PID}),
    "UID": frozenset({T.UID, T.RES_UID}),
    "GID": frozenset({T.UID, T.RES_UID}),
    "MODE": frozenset({T.MODE}),
    "SIGTYPE": frozenset({T.SIGNAL}),
    "RELTIME": frozenset({T.RELTIME}),
    "ABSTIME": frozenset({T.ABSTIME}),
    "FSPATH": frozenset({T.PATH, T.TEXT, T.DIRPATH}),
    "FSRELPATH": frozenset({T.PATH}),
    "CHARBUF": frozenset({T.TEXT, T.PATH, T.DIRPATH}),
    "BYTEBUF": frozenset({T.DATA, T.ARGS, T.DIRPATH}),
    "SOCKADDR": frozenset({T.TEXT}),
    "SOCKTUPLE": frozenset({T.TEXT}),
    "FDLIST": frozenset({T.TEXT}),
    "SIGSET": frozenset({T.SIGSET}),
    "DYNAMIC": frozenset({T.UINT64, T.DATA}),
    "SYSCALLID": frozenset({T.TEXT}),
    "FLAGS": frozenset({T.FLAGS, T.FLAGS16, T.ENUM}),
    "ENUMFLAGS": frozenset({T.ENUM}),
    "INT": frozenset({T.INT16, T.INT32, T.INT64, T.RES_INT, T.PID}),
    "UINT": frozenset({T.UINT16, T.UINT32, T.UINT64, T.MODE, T.RES_INT, T.UID}),
}

# Where our kind differs from Falco's for a reason.
OTHER_KIND = {
    ("eventfd", "flags"), ("eventfd2", "flags"), ("inotify_init", "flags"), ("inotify_init1", "flags"),
    ("quotactl", "dqi_flags"), ("quotactl", "quota_fmt_out"),  # not told
    ("signalfd", "flags"), ("signalfd4", "flags"),  # as names, as the other calls of their kind have them
}  # fmt: skip


def falco() -> Iterator[tuple[str, list[tuple[str, str]], bool]]:
    """Falco's exit events of system calls: name, parameters, whether they are heard unless asked for."""
    for row in json.loads((shared_falco() / "falco-events.json").read_text())["Syscall events"]:
        if row["dir"] == "<":
            yield row["name"], [(p["name"], p["type"]) for p in row["params"]], row["available"]


def shown(spec_params: tuple[Param, ...]) -> list[Param]:
    return [p for p in spec_params if not p.internal]


def test_every_system_call_that_falco_names_is_an_event() -> None:
    names = {name for name, _, _ in falco()}
    assert names - {t.value for t in EventType} == set()
    ours = {t.value for t, row in EVENTS.items() if row.category is not Category.INTERNAL and row.source == "syscall"}
    assert ours - names == {"procexit"}  # a tracepoint


def test_parameters_stand_under_falcos_names_in_its_order() -> None:
    wrong, missing = {}, {}
    for name, theirs, _ in falco():
        spec = EVENTS[EventType(name)]
        ours = [p.name for p in shown(spec.params)]
        if theirs == BARE and spec.told:
            continue  # we tell more
        order = [n for n, _ in theirs if n in ours]
        extra = set(ours) - {n for n, _ in theirs}
        if ours != order:
            wrong[name] = (ours, order, extra)
        lacking = [n for n, _ in theirs if n not in ours]
        if lacking:
            missing[name] = lacking
    assert not wrong
    assert not missing


def test_parameters_are_of_falcos_kind() -> None:
    wrong = []
    for name, theirs, _ in falco():
        spec = EVENTS[EventType(name)]
        for param, type_ in theirs:
            found = spec.param(param)
            kind = re.sub(r"\d+$", "", type_)
            if found is None or (name, param) in OTHER_KIND:
                continue
            if found.type not in KINDS.get(type_, KINDS.get(kind, frozenset())):
                wrong.append(f"{name}.{param}: {found.type.name}, Falco {type_}")
            if kind in ("FLAGS", "ENUMFLAGS", "SIGTYPE") and found.flags is None:
                wrong.append(f"{name}.{param}: no names")
    assert not wrong


def test_reads_and_writes_are_heard_only_where_a_rule_names_them() -> None:
    bulk = {t.value for t, row in EVENTS.items() if row.bulk}
    assert bulk == {name for name, _, available in falco() if not available}


def test_no_name_is_both_an_event_and_one_to_come() -> None:
    assert {t.value for t in EventType} & elsewhere.EVENT_NAMES == {"procinfo", "container"} & elsewhere.EVENT_NAMES


@pytest.mark.parametrize("machine", sorted(ARCHES))
def test_every_call_has_a_program(machine: str) -> None:
    """A plan that one of the shared programs can follow, or C of its own."""
    text = "".join(file.read_text() for file in sorted(bpf_folder().glob("*.c")))
    own = set(re.findall(r"^HANDLER\((\w+)\)", text, re.MULTILINE))
    for slot in ARCHES[machine].slots():
        plan = plan_of(LAYOUTS[slot.type], lambda member: 8, short_ids=slot.short_ids)
        assert (plan.program if plan else slot.type.value) in own, slot


def test_what_keeps_state_true_can_be_heard_everywhere() -> None:
    for arch in ARCHES.values():
        heard = set(arch.syscalls) | TRACED
        assert {t.value for t in STATE - heard} <= {"fork", "vfork"}


def test_programs_find_texts_in_the_order_in_which_they_write_them() -> None:
    """Texts of the call, then folders; around a descriptor's facts what stands there."""
    for type_, layout in LAYOUTS.items():
        plan = plan_of(layout, lambda member: 8)
        if plan is None or plan.program != "paths":
            continue
        kinds = [p.type is T.DIRPATH for p in layout.variable]
        assert kinds == sorted(kinds), type_
        assert all(p.type in VARIABLE for p in layout.variable)
