"""The whole C text and its hooks, before anything is loaded: `ProgramSpec`.

Comes in: the kernel's types, the architecture, the size of the ring. Goes out: text, and what goes into its tables.
Never: a call into the kernel, or an event of its own choosing: which calls are heard is a matter of filling a table.
"""

from __future__ import annotations

import mmap
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


@dataclass(frozen=True, slots=True)
class Handler:
    """What runs at the end of one kind of call: a function of the text, and the plan that it reads."""

    function: str
    plan: bytes | None
    number: int
    type: EventType


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """What will be loaded.

    `handlers` are by the call's slot (`kernel.arch`), of all calls. `tracepoints` are attached by bcc from the text's
    own `RAW_TRACEPOINT_PROBE`s. `ring_bytes` is the size of the ring, a power of two.
    """

    text: str
    handlers: Mapping[int, Handler]
    tracepoints: tuple[str, ...]
    ring_bytes: int

    def heard(self, types: Iterable[EventType]) -> frozenset[int]:
        """The slots to fill so that these events are heard, and those that keep state true."""
        wanted = STATE | frozenset(types)
        return frozenset(slot for slot, handler in self.handlers.items() if handler.type in wanted)


def bpf_folder() -> Path:
    """Where the C parts and the stub headers lie."""
    return Path(str(files("appliance.kernel") / "bpf"))


def program_spec(btf: Btf, arch: Arch, *, own_pid: int, ring_bytes: int) -> ProgramSpec:
    """Put the program together. Raises `NotSupportedError` for a kernel that lacks what the C reads."""
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
    handlers: dict[int, Handler] = {}
    for slot in arch.slots():
        plan = plan_of(LAYOUTS[slot.type], btf.offset, short_ids=slot.short_ids)
        function = f"on_{plan.program if plan else slot.type.value}"
        handlers[slot.slot] = Handler(function, plan.data if plan else None, slot.number, slot.type)
    own = {handler.type for handler in handlers.values() if handler.plan is None}
    defines = "\n".join(f"#define {name} {value}" for name, value in sorted(values.items()))
    parts = [f'#line 1 "{name}"\n{(bpf_folder() / name).read_text()}' for name in _PARTS]
    return ProgramSpec(
        text="\n".join((defines, c_structs(own | TRACED), *parts)).replace("#pragma once\n", "\n"),
        handlers=handlers,
        tracepoints=("sys_exit", "sched_process_fork", "sched_process_exec", "sched_process_exit"),
        ring_bytes=ring_bytes,
    )
