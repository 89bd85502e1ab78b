"""What this machine offers, what we take of it, and what is lost by what it lacks: `tercel doctor`.

Comes in: where calls shall be heard, and which. Goes out: `Finding`s, each with its reason and what it blinds. Never: a
change that outlives the question: what is loaded to see whether it can be is closed at once.

The kernel is asked, by loading a program that does nothing; a version number says little, for vendors backport.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from appliance.catalog.events import EVENTS, STATE
from appliance.kernel import bpfcall
from appliance.kernel.arch import ARCHES, Arch
from appliance.kernel.btf import VMLINUX, Btf, read_btf
from appliance.kernel.doors import MISSED, Door, doors_of, why_no_doors, without_door
from appliance.kernel.offsets import io_uring_macros, macros
from appliance.kernel.probe import (
    can_load,
    describe_machine,
    effective_capabilities,
    in_first_pid_namespace,
    why_not_typed,
    why_refused,
)  # fmt: skip
from appliance.kernel.program import TRACEPOINTS, Hooks
from appliance.model.diagnostic import NotSupportedError
from appliance.model.event import EventType
from appliance.model.text import why

_STATUS = Path("/proc/self/status")
_JIT = Path("/proc/sys/net/core/bpf_jit_enable")
_LSM = Path("/sys/kernel/security/lsm")
_CALLABLE = frozenset(t for t, row in EVENTS.items() if row.source == "syscall" and row.told)


class State(Enum):
    """How a thing stands."""

    WELL = "ok"
    CHOSEN = "chosen"
    UNUSED = "unused"  # it is there, or not, and nothing depends on it
    DEGRADED = "degraded"  # we run, and something is seen less well
    MISSING = "missing"  # we cannot run
    UNKNOWN = "unknown"  # it could not be asked


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `blinds` are the types of event that are not seen, or not wholly, because of it;
    with `failures` only calls that fail are not."""

    name: str
    state: State
    text: str
    hint: str | None = None
    blinds: frozenset[EventType] = frozenset()
    failures: bool = False


def survey(hooks: Hooks = Hooks.TRACEPOINTS, types: Iterable[EventType] = ()) -> list[Finding]:
    """All findings, in the order in which one would mend them. `hooks` is what is configured, `types` are the events
    that rules ask for."""
    return list(_survey(hooks, frozenset(types)))


def _survey(hooks: Hooks, types: frozenset[EventType]) -> Iterator[Finding]:
    yield Finding("machine", State.WELL, describe_machine())
    arch = ARCHES.get(platform.machine())
    if platform.system() != "Linux" or arch is None:
        yield Finding("architecture", State.MISSING, f"{platform.system()} on `{platform.machine()}` is not supported",
                      f"Linux on one of {', '.join(ARCHES)} is needed")  # fmt: skip
        return
    yield from _architecture(arch)
    allowed = can_load(effective_capabilities(_STATUS))
    if allowed:
        yield Finding("rights", State.WELL, "programs may be loaded into the kernel")
    else:
        yield Finding("rights", State.MISSING, f"uid {os.geteuid()} may not load programs into the kernel",
                      "run as root: `sudo tercel doctor` finds out the rest")  # fmt: skip
    if in_first_pid_namespace():
        yield Finding("pid namespace", State.WELL, "the host's")
    else:
        yield Finding("pid namespace", State.MISSING, "not the host's: the kernel's pids cannot be matched with /proc",
                      "in a container, start it with the host's: `docker run --pid=host --privileged`")  # fmt: skip
    yield _bcc()
    btf = None
    try:
        btf = read_btf()
    except NotSupportedError as error:
        yield Finding("kernel types", State.MISSING, f"{VMLINUX}: {error.missing}", error.hint)
    else:
        yield from _types(btf, arch)
    yield from _hooks(btf, arch, allowed, hooks, types)
    yield from _ring(allowed)
    yield _jit()


def _architecture(arch: Arch) -> Iterator[Finding]:
    yield Finding("architecture", State.WELL, f"{arch.name}: {len(arch.syscalls)} system calls are known")
    if arch.compat:
        yield Finding("32-bit programs", State.WELL, "their calls are seen as what they are")
    else:
        yield Finding("32-bit programs", State.DEGRADED, "their calls are counted and told, not decoded",
                      "there is no way around it but not to run such programs", _CALLABLE)  # fmt: skip


def _bcc() -> Finding:
    if find_spec("bcc") is None:
        return Finding("bcc", State.MISSING, "the Python module `bcc` is not there",
                       "install Debian's python3-bpfcc and use an environment that sees it")  # fmt: skip
    try:
        ctypes.CDLL("libbcc.so.0")
    except OSError as error:
        return Finding("bcc", State.MISSING, f"libbcc: {error}", "install Debian's python3-bpfcc")
    return Finding("bcc", State.WELL, "compiles the program at start, in a process that then ends")


def _types(btf: Btf, arch: Arch) -> Iterator[Finding]:
    try:
        macros(btf, arch)
    except NotSupportedError as error:
        yield Finding("kernel types", State.MISSING, error.missing, error.hint)
        return
    yield Finding("kernel types", State.WELL, f"read from {VMLINUX}; no kernel headers are needed")
    if btf.offset("task_struct.loginuid") is None:
        yield Finding("audit", State.DEGRADED, "a kernel without CONFIG_AUDIT: `user.loginuid` is absent")
    if btf.offset("sock.__sk_common.skc_v6_daddr") is None:
        yield Finding("ipv6", State.DEGRADED, "a kernel without IPv6: addresses of its sockets are absent")
    if btf.offset("unix_sock.addr") is None:
        yield Finding("unix sockets", State.DEGRADED, "af_unix is a module whose types are not told: paths are absent")
    if io_uring_macros(btf):
        yield Finding("io_uring", State.CHOSEN, "its tracepoints: work done without a system call is seen")
    elif _io_uring_off():
        yield Finding("io_uring", State.UNUSED, "switched off (kernel.io_uring_disabled)")
    else:
        blinds = frozenset(slot.type for slot in arch.slots() if slot.operation)
        yield Finding("io_uring", State.DEGRADED,
                      "this kernel's tracepoints do not tell of requests: what is done through an io_uring is not seen",
                      "sysctl kernel.io_uring_disabled=2 (Linux 6.6), or a kernel from 5.19 on", blinds)  # fmt: skip


def _hooks(btf: Btf | None, arch: Arch, allowed: bool, hooks: Hooks, types: frozenset[EventType]) -> Iterator[Finding]:
    if not allowed:
        yield Finding("hooks", State.UNKNOWN, "could not be tried without the rights to load programs")
        return
    doors = {} if btf is None else doors_of(btf, arch)
    no_doors = "their types are not told" if btf is None else why_no_doors(btf, arch, doors)
    by_doors = hooks is Hooks.FUNCTIONS and no_doors is None
    problem = why_refused(lambda: bpfcall.load_program(bpfcall.RAW_TRACEPOINT, bpfcall.EMPTY), _at_tracepoints)
    if problem is None:
        said = f"{', '.join(TRACEPOINTS[1:] if by_doors else TRACEPOINTS)}"
        yield Finding("raw tracepoints", State.CHOSEN, f"{said}{'' if by_doors else ': every call passes the first'}")
    else:
        yield Finding("raw tracepoints", State.MISSING, f"refused: {problem}",
                      "is the kernel locked down (/sys/kernel/security/lockdown), or bpf(2) filtered?")  # fmt: skip
    problem = why_not_typed(btf, arch) if btf is not None else "their types are not told"
    if by_doors:
        yield Finding("typed tracepoints", State.UNUSED, "calls are heard at their functions")
    elif problem is None:
        yield Finding(
            "typed tracepoints", State.CHOSEN, "sys_exit: the verifier knows its arguments, registers are loaded"
        )
    else:
        yield Finding("typed tracepoints", State.UNUSED,
                      f"refused by this kernel ({problem}); raw ones see the same, at 30 ns more a call")  # fmt: skip
    yield from _functions(arch, doors, no_doors, hooks, types)
    yield _lsm(btf)


def _functions(
    arch: Arch, doors: Mapping[int, tuple[Door, ...]], refused: str | None, hooks: Hooks, types: frozenset[EventType]
) -> Iterator[Finding]:
    """fexit on the functions that make the calls that are heard."""
    asked = hooks is Hooks.FUNCTIONS
    if refused is not None:
        yield Finding("functions", State.UNUSED,
                      f"refused by this kernel ({refused}); the tracepoint sees more, at a cost to every call",
                      "`capture.hooks: functions` has no effect here" if asked else None)  # fmt: skip
        return
    wanted = types | STATE
    slots = [slot.slot for slot in arch.slots() if slot.type in wanted and not slot.operation]
    count = len({door.name for slot in slots for door in doors.get(slot, ())})
    if not asked:
        yield Finding("functions", State.UNUSED,
                      f"offered by this kernel and not used (`capture.hooks`): at {count} of them a call that nobody"
                      " asks about would cost nothing, and calls that seccomp refuses would not be seen")  # fmt: skip
        return
    yield Finding("functions", State.CHOSEN, f"calls are heard at {count} of them, others cost nothing; {MISSED[1]} are"
                  " not seen")  # fmt: skip
    yield Finding("calls that do not reach their function", State.DEGRADED, f"{MISSED[0]} are not seen",
                  "`capture.hooks: tracepoints` sees them, at a cost to every call", types & _CALLABLE,
                  failures=True)  # fmt: skip
    none = without_door(arch, doors, wanted)
    if none:
        unseen = frozenset(slot.type for slot in arch.slots() if not slot.operation and slot.slot not in doors)
        yield Finding("calls without a function", State.DEGRADED,
                      f"not seen, or not there at all, as this kernel names no function for {', '.join(none)}",
                      "`capture.hooks: tracepoints` sees them, at a cost to every call", types & unseen)  # fmt: skip


def _lsm(btf: Btf | None) -> Finding:
    target = btf.function("bpf_lsm_file_open") if btf is not None else None
    if target is None or not _lsm_active():
        return Finding("LSM hooks", State.UNUSED, "this kernel has none; tracepoints see more")
    load = partial(bpfcall.load_program, bpfcall.LSM, bpfcall.EMPTY, attach_type=bpfcall.LSM_MAC, target=target)
    refused = why_refused(load, _traced)
    if refused is not None:
        return Finding("LSM hooks", State.UNUSED, f"refused by this kernel ({refused}); tracepoints see more")
    return Finding("LSM hooks", State.UNUSED, "offered by this kernel and not used: they tell neither results nor all"
                   " calls")  # fmt: skip


def _traced(fd: int) -> list[int]:
    return [bpfcall.attach_traced(fd)]


def _at_tracepoints(fd: int) -> list[int]:
    return [bpfcall.attach_raw_tracepoint(name, fd) for name in TRACEPOINTS]


def _lsm_active() -> bool:
    try:
        return "bpf" in _LSM.read_text().split(",")
    except OSError:
        return False


def _ring(allowed: bool) -> Iterator[Finding]:
    if not allowed:
        return
    try:
        os.close(bpfcall.create_ring(1 << 16))
    except OSError as error:
        yield Finding("ring buffer", State.MISSING, f"cannot be made: {why(error)}",
                      "Linux 5.8 or newer is needed; before 5.11 its memory counts against `ulimit -l`")  # fmt: skip
    else:
        yield Finding("ring buffer", State.WELL, "can be made")


def _io_uring_off() -> bool:
    try:
        return Path("/proc/sys/kernel/io_uring_disabled").read_text().strip() == "2"
    except OSError:
        return False


def _jit() -> Finding:
    try:
        on = int(_JIT.read_text())
    except (OSError, ValueError):
        return Finding("JIT", State.UNKNOWN, f"{_JIT} cannot be read")
    if on:
        return Finding("JIT", State.WELL, "programs run as machine code")
    return Finding("JIT", State.DEGRADED, "programs are interpreted: every system call pays several times as much",
                   "sysctl net.core.bpf_jit_enable=1")  # fmt: skip
