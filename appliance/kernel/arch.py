"""What differs between machines: system call numbers and where the arguments lie. One table.

The numbers themselves stand in `kernel.numbers`.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from appliance.kernel.numbers import ARM64, I386, I386_SHORT_IDS, X32, X86_64
from appliance.model.diagnostic import NotSupportedError
from appliance.model.event import EventType

# A slot stands for a number and the kind of call it belongs to: see bpf/call.h.
COMPAT_SLOTS, _X32, _SOCKETCALL, _IO_URING = 512, 1024, 1088, 1152
SLOTS = 1216
IO_URING_OPERATIONS = 64

# What an entry of an io_uring stands for: enum io_uring_op of include/uapi/linux/io_uring.h.
_OPERATIONS = {
    1: "readv", 2: "writev", 9: "sendmsg", 10: "recvmsg", 13: "accept4", 16: "connect", 18: "openat", 19: "close",
    22: "read", 23: "write", 26: "sendto", 27: "recvfrom", 28: "openat2", 34: "shutdown", 35: "renameat2",
    36: "unlinkat", 37: "mkdirat", 38: "symlinkat", 39: "linkat", 45: "socket", 56: "bind", 57: "listen",
}  # fmt: skip

# What hides behind the number of socketcall(2), from 1: include/uapi/linux/net.h.
_SOCKETCALLS = (
    "socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername", "socketpair", "send", "recv",
    "sendto", "recvfrom", "shutdown", "setsockopt", "getsockopt", "sendmsg", "recvmsg", "accept4", "recvmmsg",
    "sendmmsg",
)  # fmt: skip


# What makes a call, where it is not called as the call is: the tables of arch/x86/entry/syscalls and
# include/uapi/asm-generic/unistd.h. On the right names of functions, without what stands before all of them.
_NAMES = {
    "stat": "newstat", "lstat": "newlstat", "fstat": "newfstat", "uname": "newuname", "pread": "pread64",
    "pwrite": "pwrite64", "sendfile": "sendfile64", "prlimit": "prlimit64", "umount2": "umount",
    "fadvise64": "fadvise64 fadvise64_64",
}  # fmt: skip
# For 32-bit programs these beside the call's own, and those that end otherwise: with ids of 16 bits, times of 32 or 64.
_NAMES_32 = _NAMES | {
    "umount": "oldumount", "mmap": "old_mmap", "mmap2": "mmap_pgoff", "_newselect": "select", "select": "old_select",
    "readdir": "old_readdir", "oldstat": "stat", "oldlstat": "lstat", "oldfstat": "fstat", "oldolduname": "olduname",
    "olduname": "uname", "getrlimit": "old_getrlimit",
}  # fmt: skip
_ENDS_32 = ("", "16", "32", "64", "_time32", "_time64")


@dataclass(frozen=True, slots=True)
class Slot:
    """One call as one kind of program makes it. `number` is what the kernel calls it; `short_ids`: its user and group
    ids have 16 bits; `operation`: it is one of an io_uring, and `number` says which."""

    slot: int
    number: int
    type: EventType
    short_ids: bool = False
    operation: bool = False


@dataclass(frozen=True, slots=True)
class Arch:
    """One architecture.

    `name` is the folder below `arch/` in a kernel tree, `define` the compiler's macro, `bpf` bpf(2)'s number. `args`
    and `number` are members of `struct pt_regs`, as BTF paths; a path `regs+N` means N bytes into its member `regs`.
    `functions` are how the kernel calls the functions that make calls, `*` being the call's name, each only where those
    before it are not there; `compat_functions` and `x32_functions` those of other programs.
    `compat_args` are those of 32-bit programs, where they are decoded; `compat` and `x32` are their numbers. `syscalls`
    finds the number of a 64-bit program's call.
    """

    name: str
    define: str
    bpf: int
    number: str
    args: tuple[str, str, str, str, str, str]
    numbers: Mapping[int, EventType]
    functions: tuple[str, ...]
    compat_functions: tuple[str, ...] = ()
    x32_functions: tuple[str, ...] = ()
    compat_args: tuple[str, ...] = ()
    compat: Mapping[int, EventType] = field(default_factory=dict)
    compat_short_ids: frozenset[int] = frozenset()
    x32: Mapping[int, EventType] = field(default_factory=dict)
    socketcall: int | None = None
    syscalls: Mapping[EventType, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "syscalls", MappingProxyType({t: n for n, t in self.numbers.items()}))

    def slots(self) -> Iterator[Slot]:
        """All calls of all kinds of programs."""
        for number, type_ in self.numbers.items():
            yield Slot(number, number, type_)
        for number, type_ in self.compat.items():
            yield Slot(COMPAT_SLOTS + number, number, type_, number in self.compat_short_ids)
        for number, type_ in self.x32.items():
            yield Slot(_X32 + number - 512, number, type_)
        if self.socketcall is not None:
            for i, name in enumerate(_SOCKETCALLS, 1):
                yield Slot(_SOCKETCALL + i, self.socketcall, EventType(name))
        for operation, name in _OPERATIONS.items():
            yield Slot(_IO_URING + operation, operation, EventType(name), operation=True)

    def functions_of(self, slot: int, type_: EventType) -> list[tuple[str, ...]]:
        """Names of the kernel's functions that make a call: of each tuple the first that is there. A call that is kept
        in several sizes has several."""
        if slot < COMPAT_SLOTS:
            names = _NAMES.get(type_.value, type_.value).split()
            return [tuple(f.replace("*", name) for f in self.functions) for name in names]
        if slot >= _SOCKETCALL:
            return [tuple(f.replace("*", "socketcall") for f in self.compat_functions)] if slot < _IO_URING else []
        if slot >= _X32:
            return [tuple(f.replace("*", type_.value) for f in self.x32_functions)]
        stems = (type_.value, *_NAMES_32.get(type_.value, "").split())
        sizes = dict.fromkeys(stem + end for stem in stems for end in _ENDS_32)
        return [tuple(f.replace("*", name) for f in self.compat_functions) for name in sizes]


_X86_64 = Arch(
    name="x86",
    define="__x86_64__",
    bpf=321,
    number="orig_ax",
    args=("di", "si", "dx", "r10", "r8", "r9"),
    numbers=X86_64,
    # a call without arguments is one function with several names and can be hooked by one only: types are reported
    # `__do_sys_*` on each kernel, on some of another as well
    functions=("__do_sys_*", "__x64_sys_*"),
    compat_functions=(
        "__ia32_compat_sys_ia32_*",
        "__ia32_sys_ia32_*",
        "__do_compat_sys_*",
        "__ia32_compat_sys_*",
        "__do_sys_*",
        "__ia32_sys_*",
    ),
    x32_functions=("__x64_compat_sys_*", "__x32_compat_sys_*"),
    compat_args=("bx", "cx", "dx", "si", "di", "bp"),
    compat=I386,
    compat_short_ids=I386_SHORT_IDS,
    x32=X32,
    socketcall=102,
)

_ARM64 = Arch(
    name="arm64",
    define="__aarch64__",
    bpf=280,
    number="syscallno",
    # the first argument's register is overwritten by the result; the kernel keeps it in orig_x0
    args=("orig_x0", "regs+8", "regs+16", "regs+24", "regs+32", "regs+40"),
    numbers=ARM64,
    functions=("__do_sys_*", "__arm64_sys_*"),
)

ARCHES: Mapping[str, Arch] = {"x86_64": _X86_64, "aarch64": _ARM64}


def this_arch(machine: str | None = None) -> Arch:
    """The architecture of this machine (or the one named as `uname -m` does). Raises `NotSupportedError`."""
    machine = machine or platform.machine()
    if machine not in ARCHES:
        raise NotSupportedError(f"processor architecture `{machine}`", f"one of {', '.join(ARCHES)} is needed")
    return ARCHES[machine]
