"""The whole C text and its hooks, before anything is loaded: `ProgramSpec`.

Comes in: the kernel's types, the architecture, the size of the rings. Goes out: text, and what goes into its tables.
Never: a call into the kernel, or a choice that depends on the rules: what is listened to changes while it runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib.resources import files
from pathlib import Path

from appliance.catalog import opens
from appliance.catalog.events import CLONES, EXECS, FD_MAKERS, STATE
from appliance.kernel import bpfcall
from appliance.kernel.arch import IO_URING_OPERATIONS, SLOTS, Arch
from appliance.kernel.btf import Btf
from appliance.kernel.doors import MISSED, Door
from appliance.kernel.layout import LAYOUTS, c_structs
from appliance.kernel.objects import OWN_PID_MARK
from appliance.kernel.offsets import io_uring_macros, macros
from appliance.kernel.plan import plan_of
from appliance.model.event import EventType

_PARTS = (
    "base.h", "ring.h", "path.h", "call.h", "facts.h", "entry.c", "open.c", "folder.c", "process.c", "self.c", "plan.c",
    "poll.c", "uring.c",
)  # fmt: skip

_EARLY_PARTS = ("early.h", "early.c")  # where the kernel filters opens

_NUMBERS = 1024  # system call numbers that are looked up: more than any architecture has

IO_URING_TRACEPOINTS = ("io_uring_submit_req", "io_uring_submit_sqe", "io_uring_complete")

# The C guards these numbers; a machine without the call gets one that no call has.
_NUMBERED = ("FORK", "VFORK", "CLONE", "CLONE3", "EXECVE", "EXECVEAT")

MOST_RINGS = 16

_SYS_EXIT = "sys_exit"
TRACEPOINTS = (_SYS_EXIT, "sched_process_fork", "sched_process_exec", "sched_process_exit", "task_rename")

# Told by tracepoints of their own.
TRACED = frozenset({*CLONES, *EXECS, EventType.PROCEXIT, EventType.TASKNAME})


class Hooks(Enum):
    """Where the end of a call is heard, by the name that `capture.hooks` has for it: at the tracepoint that every call
    passes, which sees all; or at the functions that make the calls, which costs others nothing and sees less."""

    TRACEPOINTS = "tracepoints"
    FUNCTIONS = "functions"


@dataclass(frozen=True, slots=True)
class Buffers:
    """The rings between kernel and reader.

    `ring_bytes` is the size of each bulk ring, `state_bytes` that of the one for what keeps the process table true:
    powers of two, multiples of a page. There is a bulk ring for each `cpus_per_ring` processors; 0 means one for all.
    """

    ring_bytes: int
    state_bytes: int = 8 << 20
    cpus_per_ring: int = 2

    def per_ring(self, cpus: int) -> int:
        """Processors that share a ring on a machine of so many: never more than `MOST_RINGS` rings."""
        return max(self.cpus_per_ring or cpus, -(-cpus // MOST_RINGS))

    def sizes(self, cpus: int) -> tuple[int, ...]:
        """The size of each ring in bytes, that of the state ring first."""
        return (self.state_bytes, *(self.ring_bytes for _ in range(-(-cpus // self.per_ring(cpus)))))


@dataclass(frozen=True, slots=True)
class Extras:
    """What costs the host something and is added where a rule asks: with `real` opens say where the opened file lies,
    with `environment` programs that start what environment they were given."""

    real: bool = False
    environment: bool = False


BARE = Extras()


@dataclass(frozen=True, slots=True)
class Handler:
    """What runs at the end of one kind of call: a function of the text, and the plan that it reads."""

    function: str
    plan: bytes | None
    number: int
    type: EventType
    operation: bool = False  # `number` is one of an io_uring's


@dataclass(frozen=True, slots=True)
class Loading:
    """A program to load: under which name we keep it, its function of the text, kind of program, kind of attachment,
    the type that it attaches to, and the group of doors that it belongs to."""

    name: str
    function: str
    kind: int = bpfcall.RAW_TRACEPOINT
    attach_type: int = 0
    target: int = 0
    group: int = 0


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """What will be loaded.

    `handlers` are by the call's slot (`kernel.arch`), of all calls, heard or not. `tracepoints` are the raw tracepoints
    and the functions that run there; `typed` are those of them whose arguments' types the verifier knows, with the type
    ids by which programs attach there. `rings` are the sizes of the rings in bytes, the state ring's first. `blind`
    names what this machine does not let us see, with the reason. With `doors` (by slot) a call is heard where the
    functions that make it return, and not by the tracepoint that every call passes.
    """

    text: str
    handlers: Mapping[int, Handler]
    tracepoints: Mapping[str, str]
    rings: tuple[int, ...]
    blind: tuple[str, ...] = ()
    typed: Mapping[str, int] = field(default_factory=dict)
    doors: Mapping[int, tuple[Door, ...]] = field(default_factory=dict)

    @property
    def attached(self) -> Mapping[str, str]:
        """The tracepoints that are attached from the start to the end, and their functions."""
        return {n: f for n, f in self.tracepoints.items() if not (self.doors and n == _SYS_EXIT)}

    @property
    def groups(self) -> int:
        """How many groups of doors there are; one where there are no doors."""
        return 1 + max((door.group for doors in self.doors.values() for door in doors), default=0)

    @property
    def entry(self) -> str:
        """The function where every call that is heard begins."""
        return self.tracepoints.get(_SYS_EXIT, "")

    def loadings(self) -> Iterator[Loading]:
        """All programs that are loaded at the start. Those of doors themselves are loaded when a call is heard."""
        groups: dict[str, dict[int, int]] = {}  # function -> group -> some door of it
        for slot, doors in self.doors.items():
            for door in doors:
                groups.setdefault(self.handlers[slot].function, {}).setdefault(door.group, door.target)
        for function in self.functions:
            if function not in groups:
                if not self.doors or function != self.entry:
                    yield Loading(function, function, *self.how(function))
                continue
            for group, target in sorted(groups[function].items()):
                yield Loading(grouped(function, group), function, bpfcall.TRACING, bpfcall.FEXIT, target, group)

    def how(self, function: str) -> tuple[int, int, int]:
        """How a function is loaded: kind of program, kind of attachment, the type that it attaches to."""
        entry = {f: name for name, f in self.tracepoints.items()}
        calls = {h.function for h in self.handlers.values() if not h.operation}  # reached from the end of a call
        target = self.typed.get(_SYS_EXIT if function in calls else entry.get(function, ""))
        if target is None:
            return bpfcall.RAW_TRACEPOINT, 0, 0
        return bpfcall.TRACING, bpfcall.TYPED_TRACEPOINT, target

    @property
    def functions(self) -> tuple[str, ...]:
        """All programs, by name."""
        return tuple(sorted({*(h.function for h in self.handlers.values()), *self.tracepoints.values()}))

    def heard(self, types: Iterable[EventType]) -> frozenset[int]:
        """The slots to fill so that these events are heard, and those that keep state true."""
        wanted = STATE | frozenset(types)
        if EventType.CLOSE in wanted:
            wanted |= FD_MAKERS | {EventType.CONNECT, EventType.CLOSE_RANGE}
        return frozenset(
            slot
            for slot, handler in self.handlers.items()
            if handler.type in wanted and (handler.operation or not self.doors or slot in self.doors)
        )


def grouped(name: str, group: int) -> str:
    """The name of what there is once for each group of doors: of the first, the name itself."""
    return f"{name}.{group + 1}" if group else name


def bpf_folder() -> Path:
    """Where the C parts and the stub headers lie."""
    return Path(str(files("appliance.kernel") / "bpf"))


def program_spec(
    btf: Btf,
    arch: Arch,
    *,
    buffers: Buffers,
    cpus: int,
    typed: bool = False,
    early: bool = False,
    doors: Mapping[int, tuple[Door, ...]] | None = None,
) -> ProgramSpec:
    """Put the program together. `cpus` is the number of processors that may ever be there.
    With `typed`, the end of a call is heard by a typed tracepoint (`kernel.probe.why_not_typed` knows whether it can);
    with `doors`, at the functions that make it (`kernel.doors`), with the same text. With `early`, opens can be dropped
    by a table (`kernel.early`); without, the text holds nothing of that.

    Raises `NotSupportedError` for a kernel that lacks what the C reads.
    """
    rings = buffers.sizes(cpus)
    values = macros(btf, arch)
    values |= {f"NR_{name}": -1 for name in _NUMBERED}
    values |= {f"NR_{t.name}": n for t, n in arch.syscalls.items() if t.name in _NUMBERED}
    values |= {f"COMPAT_NR_{name}": -1 for name in _NUMBERED}
    values |= {f"COMPAT_NR_{t.name}": n for n, t in arch.compat.items() if t.name in _NUMBERED}
    values |= {
        "OWN_PID_MARK": OWN_PID_MARK,
        "RINGS": len(rings),
        "RING_BYTES": buffers.ring_bytes,
        "STATE_RING_BYTES": buffers.state_bytes,
        "CPUS_PER_RING": buffers.per_ring(cpus),
        "SLOTS": SLOTS,
        "NUMBERS": _NUMBERS,
        "IO_URING_OPERATIONS": IO_URING_OPERATIONS,
        f"ARCH_{arch.name}": 1,
    }
    if early:
        values |= {**opens.MACROS, "EARLY": 1}
    target = btf.typed_tracepoint(_SYS_EXIT) if typed or doors else None
    if target is not None:
        values["TYPED"] = 1
        if btf.enum("bpf_func_id", "BPF_FUNC_get_current_task_btf") is not None:
            values["HAVE_TYPED_TASK"] = 1
    handlers: dict[int, Handler] = {}
    io_uring = io_uring_macros(btf)
    told = tuple(name for name in IO_URING_TRACEPOINTS if f"HAVE_{name}" in io_uring)
    values |= io_uring
    for slot in arch.slots():
        layout = LAYOUTS[slot.type]
        plan = plan_of(layout, btf.offset, short_ids=slot.short_ids)
        data = plan.data if plan else None
        if slot.operation:
            if plan is not None and io_uring:
                function = "on_uring_descriptor" if plan.program == "descriptor" else "on_uring_paths"
                handlers[slot.slot] = Handler(function, data, slot.number, slot.type, operation=True)
        elif plan is None or layout.spec.own:
            handlers[slot.slot] = Handler(f"on_{slot.type.value}", None, slot.number, slot.type)
        else:
            handlers[slot.slot] = Handler(f"on_{plan.program}", data, slot.number, slot.type)
    defines = "\n".join(f"#define {name} {value}" for name, value in sorted(values.items()))
    names = (*_PARTS, *_EARLY_PARTS) if early else _PARTS
    parts = "\n".join(f'#line 1 "{name}"\n{(bpf_folder() / name).read_text()}' for name in names)
    own = {type_ for type_ in EventType if f"HANDLER({type_.value})" in parts} | {EventType.IORING}
    return ProgramSpec(
        text="\n".join((defines, c_structs(own | TRACED), parts)).replace("#pragma once\n", "\n"),
        handlers=handlers,
        tracepoints={name: f"at_{name}" for name in (*TRACEPOINTS, *told)},
        rings=rings,
        blind=(*_blind(arch, io_uring=bool(io_uring)), *(MISSED if doors else ())),
        typed={} if target is None else {_SYS_EXIT: target},
        doors=doors or {},
    )


def _blind(arch: Arch, *, io_uring: bool) -> Iterator[str]:
    if not io_uring:
        yield "work of io_urings: this kernel's tracepoints do not name requests, as Linux does from 5.19"
    if not arch.compat:
        yield "what calls of 32-bit programs are: they are counted, not decoded, on this architecture"
