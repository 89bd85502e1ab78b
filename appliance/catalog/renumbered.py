"""The numbers by which Falco carries flags and choices, where they are not the kernel's, and its order of their names.

Comes in: nothing. Goes out: `RENUMBERED`, tables that stand beside those of `catalog.params` and `catalog.flags`. Texts
name flags in this order, and `evt.rawarg` tells these numbers, as `falco --list-events` types them. Names that Falco
does not have follow with a number of their own above its bits, or none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from appliance.catalog import flags, params
from appliance.catalog.params import Flags


@dataclass(frozen=True, slots=True)
class Renumbered:
    """`kernel` is the table of the kernel's numbers, `falco` the same names with Falco's, in its order; `unknown` is
    the name and the number for values that neither table lists, `empty` the name of an empty set."""

    kernel: Flags
    falco: Flags
    unknown: tuple[str, int] | None = None
    empty: str = "0"


def _bits(names: str, first: int = 1) -> dict[str, int]:
    return {name: first << n for n, name in enumerate(names.split()) if name != "-"}


def _count(names: str, first: int = 0) -> dict[str, int]:
    return {name: first + n for n, name in enumerate(names.split()) if name != "-"}


_OPEN_BITS = _bits(
    "- - O_CREAT O_APPEND O_DSYNC O_EXCL O_NONBLOCK O_SYNC O_TRUNC O_DIRECT O_DIRECTORY O_LARGEFILE O_CLOEXEC O_TMPFILE"
    " O_F_CREATED FD_UPPER_LAYER FD_LOWER_LAYER"
)
_OPEN_ORDER = (
    "O_LARGEFILE O_DIRECTORY O_DIRECT O_TRUNC O_SYNC O_NONBLOCK O_EXCL O_DSYNC O_APPEND O_CREAT O_RDWR O_WRONLY"
    " O_RDONLY O_CLOEXEC O_TMPFILE O_F_CREATED FD_UPPER_LAYER FD_LOWER_LAYER"
)
_OPEN_NUMBERS = {"O_RDONLY": 1, "O_WRONLY": 2, "O_RDWR": 3, **_OPEN_BITS}
OPEN = {name: _OPEN_NUMBERS[name] for name in _OPEN_ORDER.split()}
"""Open flags in Falco's order: the access mode is a set of bits there, too."""

_NEW_FD = {name: OPEN[name] for name in ("O_DIRECT", "O_NONBLOCK", "O_CLOEXEC")}

_CLONE = _bits(
    "CLONE_FILES CLONE_FS CLONE_IO CLONE_NEWIPC CLONE_NEWNET CLONE_NEWNS CLONE_NEWPID CLONE_NEWUTS CLONE_PARENT"
    " CLONE_PARENT_SETTID CLONE_PTRACE CLONE_SIGHAND CLONE_SYSVSEM CLONE_THREAD CLONE_UNTRACED CLONE_VM - - - -"
    " CLONE_NEWUSER - - CLONE_CHILD_CLEARTID CLONE_CHILD_SETTID CLONE_SETTLS CLONE_STOPPED CLONE_VFORK CLONE_NEWCGROUP"
    " CLONE_CHILD_IN_PIDNS"
)

RENUMBERED: Mapping[int, Renumbered] = {
    id(table.kernel): table
    for table in (
        Renumbered(params.CLONE_FLAGS, _CLONE),
        Renumbered(flags.NAMESPACES, {name: _CLONE[name] for name in _CLONE if name.startswith("CLONE_NEW")}),
        Renumbered(flags.NEW_FD_FLAGS, _NEW_FD, empty="O_NONE"),
        Renumbered(flags.SOCKET_FLAGS, {name: _NEW_FD[name] for name in flags.SOCKET_FLAGS}, empty="O_NONE"),
        Renumbered(flags.EPOLL_FLAGS, {"EPOLL_CLOEXEC": 1}),
        Renumbered(flags.UNLOAD_FLAGS, {"O_NONBLOCK": 2, "O_TRUNC": 1}),
        Renumbered(flags.SEMAPHORE_FLAGS, {"IPC_NOWAIT": 1, "SEM_UNDO": 2}),
        Renumbered(flags.SEMGET_FLAGS, {"IPC_EXCL": 1 << 14, "IPC_CREAT": 1 << 13}),
        Renumbered(
            flags.SEMCTL_COMMANDS,
            _bits(
                "IPC_STAT IPC_SET IPC_RMID IPC_INFO SEM_INFO SEM_STAT GETALL GETNCNT GETPID GETVAL GETZCNT SETALL"
                " SETVAL"
            ),
        ),
        Renumbered(
            params.RESOLVE_FLAGS,
            _bits(
                "RESOLVE_BENEATH RESOLVE_IN_ROOT RESOLVE_NO_MAGICLINKS RESOLVE_NO_SYMLINKS RESOLVE_NO_XDEV"
                " RESOLVE_CACHED"
            ),
        ),
        Renumbered(params.CREAT_FLAGS, {"FD_UPPER_LAYER_CREAT": 1, "FD_LOWER_LAYER_CREAT": 2}),
        Renumbered(
            params.PTRACE_REQUESTS,
            _count(
                "PTRACE_TRACEME PTRACE_PEEKTEXT PTRACE_PEEKDATA PTRACE_PEEKUSR PTRACE_POKETEXT PTRACE_POKEDATA"
                " PTRACE_POKEUSR PTRACE_CONT PTRACE_KILL PTRACE_SINGLESTEP PTRACE_ATTACH PTRACE_DETACH PTRACE_SYSCALL"
                " PTRACE_SETOPTIONS PTRACE_GETEVENTMSG PTRACE_GETSIGINFO PTRACE_SETSIGINFO PTRACE_GETREGSET"
                " PTRACE_SETREGSET PTRACE_SEIZE PTRACE_INTERRUPT PTRACE_LISTEN PTRACE_PEEKSIGINFO PTRACE_GETSIGMASK"
                " PTRACE_SETSIGMASK PTRACE_GETREGS PTRACE_SETREGS PTRACE_GETFPREGS PTRACE_SETFPREGS",
                1,
            ),
            ("PTRACE_UNKNOWN", 0),
        ),
        Renumbered(
            flags.PROTECTIONS,
            _bits("PROT_READ PROT_WRITE PROT_EXEC PROT_SEM PROT_GROWSDOWN PROT_GROWSUP"),
            empty="PROT_NONE",
        ),
        Renumbered(
            flags.MAP_FLAGS,
            _bits(
                "MAP_SHARED MAP_PRIVATE MAP_FIXED MAP_ANONYMOUS MAP_32BIT - MAP_NORESERVE MAP_POPULATE MAP_NONBLOCK"
                " MAP_GROWSDOWN MAP_DENYWRITE MAP_EXECUTABLE - - MAP_LOCKED"
            ),
        ),
        Renumbered(
            flags.ACCESS_MODES,
            {"R_OK": 1, "W_OK": 2, "X_OK": 4},
            empty="F_OK",
        ),
        Renumbered(flags.LIMITS, flags.LIMITS, ("RLIMIT_UNKNOWN", 255)),
        Renumbered(flags.SOCKET_OPTIONS, {name: n for n, name in enumerate(flags.SOCKET_OPTIONS, 1)}, ("UNKNOWN", 0)),
        Renumbered(flags.LEVELS, {"SOL_SOCKET": 1, "SOL_TCP": 2}, ("UNKNOWN", 0)),
        Renumbered(
            flags.QUOTA_COMMANDS,
            _bits(
                "Q_QUOTAON Q_QUOTAOFF Q_GETFMT Q_GETINFO Q_SETINFO Q_GETQUOTA Q_SETQUOTA Q_SYNC Q_XQUOTAON Q_XQUOTAOFF"
                " Q_XGETQUOTA Q_XSETQLIM Q_XGETQSTAT Q_XQUOTARM Q_XQUOTASYNC"
            ),
        ),
        Renumbered(flags.QUOTA_TYPES, {"USRQUOTA": 1, "GRPQUOTA": 2}),
        Renumbered(
            flags.QUOTA_FORMATS,
            {"QFMT_NOT_USED": 1, "QFMT_VFS_OLD": 2, "QFMT_VFS_V0": 4, "QFMT_VFS_V1": 8},
            ("QFMT_NOT_USED", 1),
        ),
    )
}
"""By the identity of the kernel's table."""
