"""The kernel's own functions that make system calls: where a call can be heard instead of where every call ends.

Comes in: the kernel's types, the architecture. Goes out: doors by slot, the calls that have none, why this kernel does
not let us hook them. Never: a choice; coverage and cost differ, and `capture.hooks` says which counts.

A call by a door becomes an event when its function returns. What ends before it gets there (seccomp, a tracer that
cancels the call, a number that this kernel has no function for) is not told, and neither is a call that was under way
when its door was hooked: a program at the end of a function runs only where its begin was hooked, too (fexit)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from appliance.catalog.events import STATE
from appliance.kernel import bpfcall
from appliance.kernel.arch import COMPAT_SLOTS, Arch
from appliance.kernel.btf import Btf
from appliance.kernel.probe import why_refused
from appliance.model.event import EventType

_NEVER = frozenset({EventType.EXIT, EventType.EXIT_GROUP})  # return; the tracepoint does not tell of them either

MISSED = (
    "calls that seccomp or a tracer refuses",
    "calls that were under way when they began to be heard",
)
"""What a kernel hooked by its functions does not tell."""


@dataclass(frozen=True, slots=True)
class Door:
    """A function of the kernel that makes a call, and its type id. Programs can jump only to such as are for functions
    of the same prototype: `group` is the number of its prototype among those that there are."""

    name: str
    target: int
    group: int


def doors_of(btf: Btf, arch: Arch) -> dict[int, tuple[Door, ...]]:
    """The doors of each slot that has some. A slot can have several, and a door several slots."""
    patterns = (*arch.functions, *arch.compat_functions, *arch.x32_functions)
    there = btf.calls(*{pattern.partition("*")[0] for pattern in patterns})
    groups: dict[int, int] = {}
    made: dict[str, Door] = {}
    doors: dict[int, tuple[Door, ...]] = {}
    for slot in arch.slots():
        if slot.type in _NEVER:
            continue
        found = []
        for names in arch.functions_of(slot.slot, slot.type):
            name = next((name for name in names if name in there), None)
            if name is None:
                continue
            target, kind = there[name]
            if name not in made:
                made[name] = Door(name, target, groups.setdefault(kind, len(groups)))
            found.append(made[name])
        if found:
            doors[slot.slot] = tuple(dict.fromkeys(found))
    return doors


def without_door(arch: Arch, doors: Mapping[int, tuple[Door, ...]], types: Iterable[EventType]) -> list[str]:
    """Which of these events' calls have no door, by name. Of kinds of programs that this kernel does not run at all
    nothing is said."""
    wanted = frozenset(types)
    found = []
    for first, more in ((0, ""), (COMPAT_SLOTS, " of 32-bit programs")):
        slots = [slot for slot in arch.slots() if first <= slot.slot < first + COMPAT_SLOTS]
        slots = [slot for slot in slots if slot.type not in _NEVER]
        if any(slot.slot in doors for slot in slots):
            found += sorted({f"{s.type.value}{more}" for s in slots if s.type in wanted and s.slot not in doors})
    return found


def why_no_doors(btf: Btf, arch: Arch, doors: Mapping[int, tuple[Door, ...]]) -> str | None:
    """Why calls cannot be heard at their functions; None where they can. Tried with one of them."""
    number = btf.offset(f"pt_regs.{arch.number}")
    missing = [t.value for t, slot in arch.syscalls.items() if t in STATE and slot not in doors]
    if number is None or missing:
        return f"the functions of {', '.join(missing) or 'calls'} are not told"
    tried = doors[arch.syscalls[EventType.SETSID]][0]
    load = struct.pack("<BBhi BBhi", 0x79, 0x12, 0, 0, 0x61, 0x22, number, 0)  # r2 = ctx[0]; r2 = r2->number
    return why_refused(
        lambda: bpfcall.load_program(
            bpfcall.TRACING, load + bpfcall.EMPTY, attach_type=bpfcall.FEXIT, target=tried.target
        ),
        lambda fd: [bpfcall.attach_traced(fd)],
    )
