"""The whole C text and its hooks, before anything is loaded: `ProgramSpec`.

Comes in: the kernel's types, the architecture, the size of the ring, the events that are asked for. Goes out: text, and
what goes into its tables. Never: a call into the kernel, or a handler that nobody asked for: each costs time at start.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from appliance.catalog.events import CLONES, EXECS, STATE
from appliance.kernel.arch import SLOTS, Arch
from appliance.kernel.btf import Btf
from appliance.kernel.layout import LAYOUTS, c_structs
from appliance.kernel.offsets import macros
from appliance.kernel.plan import plan_of
from appliance.model.event import EventType

_PARTS = (
    "base.h", "path.h", "call.h", "facts.h", "entry.c", "open.c", "folder.c", "process.c", "self.c", "plan.c",
)  # fmt: skip

_NUMBERS = 1024  # system call numbers that are looked up: more than any architecture has

# The C guards these numbers; a machine without the call gets one that no call has.
_NUMBERED = ("FORK", "VFORK", "CLONE3", "EXECVEAT")

# Told by tracepoints of their own.
TRACED = frozenset({*CLONES, *EXECS, EventType.PROCEXIT})

_HANDLER = re.compile(r"^HANDLER\((\w+)\)\n\{.*?^\}\n", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """What will be loaded.

    `handlers` maps a call's slot (`kernel.arch`) to the function that runs at its end, `plans` to what that function
    reads; `asked` are the numbers of system calls that have a slot. `tracepoints` are attached by bcc from the text's
    own `RAW_TRACEPOINT_PROBE`s. `ring_bytes` is the size of the ring, a power of two. `types` are the events heard.
    """

    text: str
    handlers: Mapping[int, str]
    plans: Mapping[int, bytes]
    asked: frozenset[int]
    tracepoints: tuple[str, ...]
    ring_bytes: int
    types: frozenset[EventType]


def bpf_folder() -> Path:
    """Where the C parts and the stub headers lie."""
    return Path(str(files("appliance.kernel") / "bpf"))


def program_spec(btf: Btf, arch: Arch, *, own_pid: int, ring_bytes: int, types: Iterable[EventType]) -> ProgramSpec:
    """Put the program together. `types` are the events to hear; those that keep state true are always among them.

    Raises `NotSupportedError` for a kernel that lacks what the C reads.
    """
    heard = STATE | frozenset(types)
    values = macros(btf, arch)
    values |= {f"NR_{name}": -1 for name in _NUMBERED}
    values |= {f"NR_{t.name}": n for t, n in arch.syscalls.items() if t.name in _NUMBERED}
    values |= {f"COMPAT_NR_{name}": -1 for name in _NUMBERED}
    values |= {f"COMPAT_NR_{t.name}": n for n, t in arch.compat.items() if t.name in _NUMBERED}
    values |= {
        "OWN_PID": own_pid,
        "RING_PAGES": ring_bytes // mmap.PAGESIZE,
        "SLOTS": SLOTS,
        "NUMBERS": _NUMBERS,
        f"ARCH_{arch.name}": 1,
    }
    values |= {f"WANT_{t.name}": 1 for t in types}
    handlers: dict[int, str] = {}
    plans: dict[int, bytes] = {}
    asked = set()
    for slot in arch.slots():
        if slot.type in heard:
            plan = plan_of(LAYOUTS[slot.type], btf.offset, short_ids=slot.short_ids)
            handlers[slot.slot] = f"on_{plan.program if plan else slot.type.value}"
            if plan:
                plans[slot.slot] = plan.data
            asked.add(slot.number)
    defines = "\n".join(f"#define {name} {value}" for name, value in sorted(values.items()))
    parts = [f'#line 1 "{name}"\n{(bpf_folder() / name).read_text()}' for name in _PARTS]
    wanted = {name.removeprefix("on_") for name in handlers.values()}
    structs = c_structs(t for t in heard if t.value in wanted or t in TRACED)
    return ProgramSpec(
        text=_without(wanted, "\n".join((defines, structs, *parts)).replace("#pragma once\n", "\n")),
        handlers=handlers,
        plans=plans,
        asked=frozenset(asked),
        tracepoints=("sys_exit", "sched_process_fork", "sched_process_exec", "sched_process_exit"),
        ring_bytes=ring_bytes,
        types=heard,
    )


def _without(wanted: set[str], text: str) -> str:
    """The text without the handlers that nobody asked for; its lines keep their numbers."""
    return _HANDLER.sub(lambda m: m[0] if m[1] in wanted else "\n" * m[0].count("\n"), text)
