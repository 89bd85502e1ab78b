"""What differs between machines: system call numbers and where the arguments lie. One table.

Numbers: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h of the kernel.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass

from appliance.model.diagnostic import NotSupportedError
from appliance.model.event import EventType as E


@dataclass(frozen=True, slots=True)
class Arch:
    """One architecture.

    `name` is the folder below `arch/` in a kernel tree, `macro` bcc's `__TARGET_ARCH_*`. `args` and `number` are
    members of `struct pt_regs`, as BTF paths; a path `regs+N` means N bytes into its member `regs`.
    """

    name: str
    define: str
    number: str
    args: tuple[str, str, str, str, str, str]
    syscalls: Mapping[E, int]


_X86_64 = Arch(
    name="x86",
    define="__x86_64__",
    number="orig_ax",
    args=("di", "si", "dx", "r10", "r8", "r9"),
    syscalls={
        E.OPEN: 2, E.DUP: 32, E.DUP2: 33, E.SOCKET: 41, E.CONNECT: 42, E.CLONE: 56, E.FORK: 57, E.VFORK: 58,
        E.EXECVE: 59, E.CHDIR: 80, E.FCHDIR: 81, E.RENAME: 82, E.MKDIR: 83, E.RMDIR: 84, E.CREAT: 85, E.LINK: 86,
        E.UNLINK: 87, E.SYMLINK: 88, E.CHMOD: 90, E.FCHMOD: 91, E.CHOWN: 92, E.FCHOWN: 93, E.LCHOWN: 94,
        E.PTRACE: 101, E.SETUID: 105, E.SETGID: 106, E.SETREUID: 113, E.SETREGID: 114, E.SETRESUID: 117,
        E.SETRESGID: 119, E.SETFSUID: 122, E.SETFSGID: 123, E.MOUNT: 165, E.OPENAT: 257, E.MKDIRAT: 258,
        E.FCHOWNAT: 260, E.UNLINKAT: 263, E.RENAMEAT: 264, E.LINKAT: 265, E.SYMLINKAT: 266, E.FCHMODAT: 268,
        E.DUP3: 292, E.RENAMEAT2: 316, E.EXECVEAT: 322, E.CLONE3: 435, E.OPENAT2: 437, E.FCHMODAT2: 452,
    },
)  # fmt: skip

_ARM64 = Arch(
    name="arm64",
    define="__aarch64__",
    number="syscallno",
    # the first argument's register is overwritten by the result; the kernel keeps it in orig_x0
    args=("orig_x0", "regs+8", "regs+16", "regs+24", "regs+32", "regs+40"),
    syscalls={
        E.DUP: 23, E.DUP3: 24, E.MKDIRAT: 34, E.UNLINKAT: 35, E.SYMLINKAT: 36, E.LINKAT: 37, E.RENAMEAT: 38,
        E.MOUNT: 40, E.CHDIR: 49, E.FCHDIR: 50, E.FCHMOD: 52, E.FCHMODAT: 53, E.FCHOWNAT: 54, E.FCHOWN: 55,
        E.OPENAT: 56, E.PTRACE: 117, E.SETREGID: 143, E.SETGID: 144, E.SETREUID: 145, E.SETUID: 146,
        E.SETRESUID: 147, E.SETRESGID: 149, E.SETFSUID: 151, E.SETFSGID: 152, E.SOCKET: 198, E.CONNECT: 203,
        E.CLONE: 220, E.EXECVE: 221, E.RENAMEAT2: 276, E.EXECVEAT: 281, E.CLONE3: 435, E.OPENAT2: 437,
        E.FCHMODAT2: 452,
    },
)  # fmt: skip

ARCHES: Mapping[str, Arch] = {"x86_64": _X86_64, "aarch64": _ARM64}


def this_arch(machine: str | None = None) -> Arch:
    """The architecture of this machine (or the one named as `uname -m` does). Raises `NotSupportedError`."""
    machine = machine or platform.machine()
    if machine not in ARCHES:
        raise NotSupportedError(f"processor architecture `{machine}`", f"one of {', '.join(ARCHES)} is needed")
    return ARCHES[machine]
