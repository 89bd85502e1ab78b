"""Every event type, its parameters and their types: one row each.

Comes in: nothing. Goes out: `EVENTS`. Read by `kernel.layout` (the record and its decoder), by the rule checker, by
`tercel list` and by the docs. Parameters stand in Falco's order under Falco's names (`falco --list-events`, exit
events); those marked `internal` follow them.

Paths: a path parameter is what the caller gave. Where it is relative, the `internal` parameter beside it (`base` and
the like) carries the folder it is relative to, as the kernel knows it; it is empty where the path is absolute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import Any

from appliance.catalog.flags import (
    ACCESS_MODES,
    BPF_COMMANDS,
    CLOSE_RANGE_FLAGS,
    EPOLL_FLAGS,
    FCNTL_COMMANDS,
    FSCONFIG_COMMANDS,
    FUTEX_OPERATIONS,
    IO_URING_ENTER_FLAGS,
    IO_URING_FEATURES,
    IO_URING_REGISTER_OPERATIONS,
    IO_URING_SETUP_FLAGS,
    KEYCTL_OPERATIONS,
    LEVELS,
    LIMITS,
    LOCKS,
    MAP_FLAGS,
    MEMFD_FLAGS,
    MLOCK2_FLAGS,
    MLOCKALL_FLAGS,
    MODULE_FLAGS,
    NAMESPACES,
    NEW_FD_FLAGS,
    PIDFD_FLAGS,
    PRCTL_OPTIONS,
    PROTECTIONS,
    QUOTA_COMMANDS,
    QUOTA_FORMATS,
    QUOTA_TYPES,
    SEMAPHORE_FLAGS,
    SEMCTL_COMMANDS,
    SEMGET_FLAGS,
    SHUTDOWNS,
    SIGNALS,
    SOCKET_FLAGS,
    SOCKET_OPTIONS,
    SPLICE_FLAGS,
    STAT_FLAGS,
    UMOUNT_FLAGS,
    UNLOAD_FLAGS,
    USERFAULTFD_FLAGS,
    WHENCE,
)
from appliance.catalog.params import (
    CHOWN_FLAGS,
    CLONE_FLAGS,
    CONTROL,
    CONTROL_SIZE,
    CREAT_FLAGS,
    CWD,
    EXE_FLAGS,
    FAMILIES,
    FD_FLAGS,
    FILE_MODES,
    LINK_FLAGS,
    MOUNT_FLAGS,
    NAME,
    NAME_SIZE,
    NUMBER,
    OPEN_FLAGS,
    PTRACE_REQUESTS,
    RENAME_FLAGS,
    RESOLVE_FLAGS,
    RESULT,
    UNLINK_FLAGS,
    VEC,
    VEC_SIZE,
    ZERO,
    Arg,
    Flags,
    Form,
    Param,
    ParamType,
)
from appliance.model.event import EventType


class Category(Enum):
    """`evt.category`, in Falco's words."""

    FILE = "file"
    NET = "net"
    IO_READ = "io-read"
    IO_WRITE = "io-write"
    IPC = "IPC"
    MEMORY = "memory"
    SIGNAL = "signal"
    SLEEP = "sleep"
    TIME = "time"
    WAIT = "wait"
    PROCESS = "process"
    USER = "user"
    SYSTEM = "system"
    INTERNAL = "internal"
    OTHER = "other"
    UNKNOWN = "unknown"


class PathRole(Enum):
    """What a path parameter is to its event."""

    NAME = "name"  # the one file the event is about
    SOURCE = "source"  # of two: the existing one
    TARGET = "target"  # of two: the new one


@dataclass(frozen=True, slots=True)
class PathParam:
    """A path parameter of an event, and the parameter that carries the folder it is relative to (None: always kept
    as given, like the text of a symbolic link)."""

    name: str
    base: str | None
    role: PathRole


@dataclass(frozen=True, slots=True)
class EventSpec:
    """One row. `index` finds a stored parameter in `RawEvent.params`."""

    type: EventType
    category: Category
    params: tuple[Param, ...]
    paths: tuple[PathParam, ...] = ()
    has_fd: bool = False  # the event is about a descriptor: `fd.*` fields have values
    doc: str = ""
    fd_arg: int | None = None  # the argument that is this descriptor, or RESULT, where `kernel.plan` takes its facts
    told: bool = True  # its arguments are reported, not only name and result
    bulk: bool = False  # so frequent that only a rule that names it is judged on it
    vector: int | None = None  # the argument that is a struct iovec (its VEC and VEC_SIZE)
    message: int | None = None  # the argument that is a struct msghdr (VEC to CONTROL_SIZE)
    own: bool = False  # the system call has a program of its own; the plan is for io_uring
    several: bool = False  # it is the first of several struct mmsghdr; the result is their number
    folder: str | None = None  # the parameter that is the descriptor of the folder which the event is about
    source: str = "syscall"  # whose events these are, see `model.field.SOURCES`
    index: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        stored = (p.name for p in self.params if p.stored)
        object.__setattr__(self, "index", MappingProxyType({name: i for i, name in enumerate(stored)}))

    def param(self, name: str) -> Param | None:
        """The parameter of that name, or None."""
        return next((p for p in self.params if p.name == name), None)

    @property
    def stored(self) -> tuple[Param, ...]:
        """The parameters that the record carries, in the order of `RawEvent.params`."""
        return tuple(p for p in self.params if p.stored)


T = ParamType
_RES = Param("res", T.RES)
_FD = Param("fd", T.RES_FD)


def _internal(name: str, type_: ParamType, block: str | None = None, *, arg: Arg | None = None) -> Param:
    return Param(name, type_, internal=True, block=block, arg=arg)


def _arg(
    name: str, type_: ParamType, n: int, flags: Flags | None = None, *, form: Form | None = None, **more: Any
) -> Param:
    """A parameter that is the n-th argument of the call, or lies where that points to."""
    return Param(name, type_, flags, arg=Arg(n, **more), form=form)


def _bits(*numbers: int) -> int:
    """A set of numbers below 32 as `Arg.when` has it."""
    return sum(1 << number for number in numbers)


def _zero(name: str) -> Param:
    """What a later version of the call takes, and this one leaves at nothing."""
    return Param(name, T.UINT32, get="0")


def _base(folder: int = CWD, name: str = "base") -> Param:
    """The folder that a path is relative to: that of the descriptor in argument `folder`."""
    return Param(name, T.DIRPATH, internal=True, arg=Arg(folder))


_BASE = _internal("base", T.DIRPATH)  # for a program of its own

# What a descriptor is, as the kernel knows it: the inode's mode, number, device (as stat(2) tells it) and its file
# system's magic number; `catalog.params.FD_FLAGS`; for sockets family, type, protocol, state and both ends; the path of
# files and of unix sockets bound to one, the address of those with an abstract name. Order and names are those of
# `engine.sockets`, which reads them.
_FD_FACTS = (
    _internal("inode_mode", T.UINT32, "fd"),
    _internal("fd_ino", T.UINT64, "fd"),
    _internal("fd_dev", T.UINT32, "fd"),
    _internal("fd_magic", T.UINT32, "fd"),
    Param("fd_flags", T.FLAGS, FD_FLAGS, internal=True, block="fd"),
    _internal("sock_family", T.UINT16, "fd"),
    _internal("sock_type", T.UINT16, "fd"),
    _internal("sock_proto", T.UINT16, "fd"),
    _internal("sock_state", T.UINT16, "fd"),
    _internal("local_port", T.UINT16, "fd"),
    _internal("remote_port", T.UINT16, "fd"),
    _internal("local_addr", T.ADDR16, "fd"),
    _internal("remote_addr", T.ADDR16, "fd"),
    _internal("fd_path", T.DIRPATH, "fd"),
    _internal("sock_name", T.BYTES, "fd"),
)
FD_FACTS = len(_FD_FACTS)
"""How many parameters from `inode_mode` on are the facts of a descriptor."""

# Who the process is after the event.
_CREDENTIALS = (
    _internal("new_uid", T.UID, "cred"),
    _internal("new_gid", T.UID, "cred"),
    _internal("new_suid", T.UID, "cred"),
    _internal("new_sgid", T.UID, "cred"),
    _internal("new_euid", T.UID, "cred"),
    _internal("new_egid", T.UID, "cred"),
    Param("cap_inheritable", T.UINT64, block="cred", form=Form.HEXADECIMAL),
    Param("cap_permitted", T.UINT64, block="cred", form=Form.HEXADECIMAL),
    Param("cap_effective", T.UINT64, block="cred", form=Form.HEXADECIMAL),
)

# The same of calls that Falco tells without them.
_STANDING = tuple(replace(p, internal=True) for p in _CREDENTIALS)

_MEMORY_OF = tuple(Param(f"vm_{part}", T.UINT32) for part in ("size", "rss", "swap"))  # KiB, like Falco's

# All that the kernel tells of a process when it starts a program; /proc tells the same of those that ran before us.
# `args_size` is the whole size of the argument area in bytes, larger than `args` where that had to be cut.
_PROCESS_FACTS = (
    Param("exe", T.TEXT, get="p['args'][0] if p['args'] else ''"),  # of a failed start, what was asked for
    Param("args", T.ARGS),  # with the first, which is `exe`; `catalog.arguments` leaves that out
    Param("tid", T.PID, get="e.tid"),
    Param("pid", T.PID, get="e.process.pid"),
    Param("ptid", T.PID),
    Param("cwd", T.DIRPATH),
    Param("fdlimit", T.UINT64),
    Param("pgft_maj", T.UINT64),
    Param("pgft_min", T.UINT64),
    *_MEMORY_OF,
    Param("comm", T.TEXT),
    Param("cgroups", T.DIRPATH),
    Param("env", T.ARGS),
    Param("tty", T.UINT32),
    Param("vpgid", T.PID, form=Form.TEXT),
    Param("loginuid", T.UID),
    Param("flags", T.FLAGS, EXE_FLAGS),
    *_CREDENTIALS[6:],  # capabilities
    Param("exe_ino", T.UINT64),
    Param("exe_ino_ctime", T.ABSTIME),
    Param("exe_ino_mtime", T.ABSTIME),
    Param("uid", T.UID, get="e.process.uid"),
    Param("trusted_exepath", T.DIRPATH),
    Param("pgid", T.PID, form=Form.TEXT),
    Param("gid", T.UID, get="e.process.gid"),
    Param("filename", T.PATH),
    _internal("cgroups_v1", T.DIRPATH),
    _internal("sid", T.PID),
    _internal("vpid", T.PID),
    *_CREDENTIALS[:6],
    _internal("args_size", T.UINT32),
    _internal("stdio", T.FDS),  # descriptors 0, 1 and 2
    _internal("pidns_init_start_ts", T.UINT64),  # since boot
    _internal("exe_dev", T.UINT32),  # as stat(2) tells a device
    _internal("exe_size", T.UINT64),
    _internal("exe_magic", T.UINT32),  # what kind of file system it lies on
)

_CLONE = (
    Param("res", T.RES_PID),
    Param("exe", T.TEXT, get="e.process.exe"),
    Param("args", T.ARGS, get="e.process.args"),
    Param("tid", T.PID, get="e.tid"),
    Param("pid", T.PID, get="e.process.pid"),
    Param("ptid", T.PID, get="e.ancestor(1).pid if e.ancestor(1).pid > 0 else e.process.ppid"),
    Param("cwd", T.TEXT, get="e.process.cwd"),
    Param("fdlimit", T.INT64),  # from here to `vm_swap`: of the caller
    Param("pgft_maj", T.UINT64),
    Param("pgft_min", T.UINT64),
    *_MEMORY_OF,
    Param("comm", T.TEXT, get="e.process.name"),
    Param("cgroups", T.DIRPATH, get="e.process.cgroup"),
    Param("flags", T.FLAGS, CLONE_FLAGS),
    Param("uid", T.UINT32, get="e.process.uid"),
    Param("gid", T.UINT32, get="e.process.gid"),
    Param("vtid", T.PID, get="e.process.vpid if e.tid == e.process.pid else e.tid"),
    Param("vpid", T.PID, get="e.process.vpid"),
    Param("pidns_init_start_ts", T.UINT64, get="e.process.pidns_started_ns"),
    _internal("child_pid", T.PID),  # 0 where the call failed
    _internal("child_tid", T.PID),  # differs from child_pid for a thread
    _internal("child_vpid", T.PID),
    _internal("child_ppid", T.PID),  # not the caller's pid with CLONE_PARENT
    _internal("child_start_ns", T.UINT64),
)


def _name(name: str, base: str = "base") -> tuple[PathParam, ...]:
    return (PathParam(name, base, PathRole.NAME),)


def _two(source: str, source_base: str | None, target: str, target_base: str) -> tuple[PathParam, ...]:
    return (PathParam(source, source_base, PathRole.SOURCE), PathParam(target, target_base, PathRole.TARGET))


_FLAGS = Param("flags", T.FLAGS, OPEN_FLAGS)
_MODE = Param("mode", T.MODE)
# Where what was opened lies, as the kernel knows it: only where a rule asks, and not of an io_uring's.
_REAL = Param("real", T.DIRPATH, internal=True, arg=Arg(ZERO))
_OPENED = (_arg("dev", T.UINT32, ZERO, form=Form.HEXADECIMAL), _arg("ino", T.UINT64, ZERO))  # 0 where the call failed
_OPENED_AT = (
    _arg("dirfd", T.FD, 0),
    _arg("name", T.PATH, 1),
    _arg("flags", T.FLAGS, 2, OPEN_FLAGS),
    _arg("mode", T.MODE, 3, mask=0o7777),
)
_TUPLE = Param("tuple", T.TEXT, get="e.fd.name")
# Descriptors that a call waits for, the first 8; of each `engine.state` makes the texts of `catalog.values.POLLED`.
_POLLED = Param("fds", T.TEXT, get="' '.join(p['polled'][::7])")
_UNTOLD = "None"  # Falco has the parameter, we have no value for it: see docs/falco-differences.md

_E, _C = EventType, Category


def _mode(n: int) -> Param:
    """What the kernel takes of a mode (S_IALLUGO)."""
    return _arg("mode", T.MODE, n, mask=0o7777, form=Form.HEXADECIMAL)


def _named_mode(n: int, mask: int = 0o7777) -> Param:
    """The same where Falco tells its bits by name: in calls that change the mode of a file or make a node."""
    return _arg("mode", T.MODE, n, FILE_MODES, mask=mask)


def _node(n: int) -> tuple[Param, Param]:
    """The device of a node, as the kernel's own dev_t; the caller's is laid out as stat(2) tells one."""
    major, minor = "(p['device'] >> 8 & 0xFFF)", "(p['device'] & 0xFF | p['device'] >> 12 & 0xFFF00)"
    return Param("dev", T.UINT32, get=f"{major} << 20 | {minor}"), _internal("device", T.UINT32, arg=Arg(n))


def _owner(n: int) -> tuple[Param, Param]:
    return _arg("uid", T.UINT32, n, owner=True), _arg("gid", T.UINT32, n + 1, owner=True)


def _sockaddr(n: int, size: int, *, size_at: bool = False) -> Param:
    """The address as the caller gave or got it, cut at 128 bytes."""
    return _internal("sockaddr", T.BYTES, arg=Arg(n, size=size, size_at=size_at, most=128))


def _about_fd(
    type_: EventType, category: Category, params: tuple[Param, ...], fd: int = 0, *behind: Param, **more: Any
) -> EventSpec:
    """A call about the descriptor in argument `fd` (or RESULT); `behind` stand behind the descriptor's facts."""
    return EventSpec(type_, category, (*params, *_FD_FACTS, *behind), (), True, fd_arg=fd, **more)


def _by_path(
    type_: EventType, params: tuple[Param, ...], name: str = "path", folder: int = CWD, category: Category = _C.FILE
) -> EventSpec:
    """A call about one path, relative to the folder in argument `folder`."""
    descriptor = next((p.name for p in params if p.arg is not None and p.arg.n == folder), None)
    return EventSpec(type_, category, (*params, _base(folder)), _name(name), descriptor is not None, folder=descriptor)


_CALL_FD = _arg("fd", T.FD, 0)
_MEMORY = tuple(_arg(f"vm_{part}", T.UINT32, ZERO, memory=part) for part in ("size", "rss", "swap"))
_QUEUE = (
    Param("queuepct", T.UINT32, get="100 * p['queuelen'] // p['queuemax'] if p['queuemax'] else 0"),
    _arg("queuelen", T.UINT32, 0, sock="sock.sk_ack_backlog"),
    _arg("queuemax", T.UINT32, 0, sock="sock.sk_max_ack_backlog"),
)


def _sent(pointer: int, size: int) -> Param:
    """The first bytes that are written; all that the call asked for where it failed."""
    return _arg("data", T.DATA, pointer, size=size)


def _got(pointer: int, size: int) -> Param:
    """The first bytes that were read."""
    return _arg("data", T.DATA, pointer, size=size, out=True)


_SEMAPHORES_0, _SEMAPHORES_1 = 0xFFFFFFFE, 0xFFFFFFFC  # as many as the call names: at least one, at least two

# Which operations of keyctl(2) use an argument, and where that is a text; those above 30 have buffers alone.
_KEY_NUMBERS = {
    1: _bits(0, *range(2, 18), *range(19, 31)),
    2: _bits(0, 2, 4, 5, 6, 8, 9, 11, 12, 13, 15, 17, 19, 20, *range(22, 29), 30),
    3: _bits(2, 4, 6, 11, 12, 13, 17, 19, 20, *range(23, 29), 30),
    4: _bits(10, 12, 19, 20, *range(23, 29), 30),
}
_KEY_TEXTS = {1: _bits(1), 2: _bits(10, 29), 3: _bits(10, 29)}


def _key_number(n: int) -> Param:
    return _internal(f"number{n + 1}", T.UINT64, arg=Arg(n, only=0, when=_KEY_NUMBERS[n]))


def _key_text(n: int) -> Param:
    return _internal(f"text{n + 1}", T.TEXT, arg=Arg(n, only=0, when=_KEY_TEXTS[n]))


def _key_argument(n: int) -> Param:
    """An argument of keyctl: the text or the number that it is; a key's own number is of 32 bits."""
    number = f"p['number{n + 1}']" + (" & 0xFFFFFFFF" if n == 1 else "")
    get = f"{number} if p['text{n + 1}'] is None else p['text{n + 1}']" if n in _KEY_TEXTS else number
    return Param(f"arg{n + 1}", T.UINT64, get=get)


_ROWS = (
    # -- processes
    EventSpec(_E.EXECVE, _C.PROCESS, (_RES, *_PROCESS_FACTS), doc="a program was started, or failed to"),
    EventSpec(
        _E.EXECVEAT,
        _C.PROCESS,
        (_RES, *(replace(p, internal=p.internal or p.name == "filename") for p in _PROCESS_FACTS)),
        doc="the same, by folder descriptor",
    ),
    EventSpec(_E.CLONE, _C.PROCESS, _CLONE, doc="a process or a thread was created"),
    EventSpec(_E.CLONE3, _C.PROCESS, _CLONE, doc="a process or a thread was created"),
    EventSpec(_E.FORK, _C.PROCESS, _CLONE, doc="a process was created"),
    EventSpec(_E.VFORK, _C.PROCESS, _CLONE, doc="a process was created, its parent waits"),
    EventSpec(
        _E.PROCEXIT,
        _C.PROCESS,
        (
            Param("status", T.RES),
            Param("ret", T.RES, get="(e.res >> 8) & 0xFF"),
            Param("sig", T.SIGNAL, SIGNALS, get="e.res & 0x7F"),
            Param("core", T.UINT32, get="(e.res >> 7) & 1"),
            Param("reaper_tid", T.PID),  # the new parent of its children, 0 without children
        ),
        doc="the last thread of a process has ended",
    ),
    EventSpec(_E.CHDIR, _C.FILE, (_RES, Param("path", T.TEXT), _internal("cwd", T.DIRPATH), _BASE), _name("path")),
    EventSpec(_E.FCHDIR, _C.FILE, (_RES, Param("fd", T.FD, form=Form.TEXT), _internal("cwd", T.DIRPATH)), (), True),
    EventSpec(
        _E.PTRACE,
        _C.PROCESS,
        (
            _RES,
            _arg("addr", T.UINT64, 2, form=Form.HEXADECIMAL),
            _arg("data", T.UINT64, 3, form=Form.HEXADECIMAL),
            _arg("request", T.ENUM, 0, PTRACE_REQUESTS),
            _arg("pid", T.PID, 1),
        ),
        doc="one process controls another",
    ),
    EventSpec(
        _E.PRCTL,
        _C.PROCESS,
        (
            _RES,
            Param("option", T.ENUM, PRCTL_OPTIONS),
            Param("arg2_str", T.TEXT),
            Param("arg2_int", T.INT64),
        ),
        doc="a process changes what it is: its name, its rights",
    ),
    EventSpec(_E.SETSID, _C.PROCESS, (Param("res", T.RES_PID),)),
    EventSpec(
        _E.SETPGID,
        _C.PROCESS,
        (_RES, Param("pid", T.PID), Param("pgid", T.PID), _internal("own_pgid", T.PID)),
    ),
    EventSpec(
        _E.SETNS, _C.PROCESS, (_RES, _CALL_FD, _arg("nstype", T.FLAGS, 1, NAMESPACES), *_FD_FACTS), (), True, fd_arg=0
    ),
    EventSpec(_E.UNSHARE, _C.PROCESS, (_RES, _arg("flags", T.FLAGS, 0, CLONE_FLAGS), *_STANDING)),
    EventSpec(_E.CHROOT, _C.PROCESS, (_RES, _arg("path", T.PATH, 0), _base()), _name("path")),
    EventSpec(_E.SECCOMP, _C.OTHER, (_RES, _arg("op", T.UINT64, 0), _arg("flags", T.UINT64, 1))),
    EventSpec(_E.KILL, _C.SIGNAL, (_RES, _arg("pid", T.PID, 0), _arg("sig", T.SIGNAL, 1, SIGNALS))),
    EventSpec(_E.TKILL, _C.SIGNAL, (_RES, _arg("tid", T.PID, 0), _arg("sig", T.SIGNAL, 1, SIGNALS))),
    EventSpec(
        _E.TGKILL,
        _C.SIGNAL,
        (_RES, _arg("pid", T.PID, 0), _arg("tid", T.PID, 1), _arg("sig", T.SIGNAL, 2, SIGNALS)),
    ),
    EventSpec(
        _E.PIDFD_OPEN,
        _C.PROCESS,
        (_FD, _arg("pid", T.PID, 0), _arg("flags", T.FLAGS, 1, PIDFD_FLAGS), *_FD_FACTS),
        (),
        True,
        fd_arg=RESULT,
    ),
    EventSpec(
        _E.PIDFD_GETFD,
        _C.PROCESS,
        (_FD, _arg("pid_fd", T.FD, 0), _arg("target_fd", T.FD, 1), _arg("flags", T.UINT32, 2), *_FD_FACTS),
        (),
        True,
        fd_arg=RESULT,
    ),
    EventSpec(
        _E.PROCESS_VM_READV,
        _C.IPC,
        (Param("res", T.RES_INT), _arg("pid", T.PID, 0), Param("data", T.DATA, get=_UNTOLD)),
    ),
    EventSpec(
        _E.PROCESS_VM_WRITEV,
        _C.IPC,
        (Param("res", T.RES_INT), _arg("pid", T.PID, 0), Param("data", T.DATA, get=_UNTOLD)),
    ),
    # -- limits
    *(
        EventSpec(
            type_,
            _C.PROCESS,
            (
                _RES,
                _arg("cur", T.INT64, 1, long=0, out=type_ is _E.GETRLIMIT),
                _arg("max", T.INT64, 1, long=1, out=type_ is _E.GETRLIMIT),
                _arg("resource", T.ENUM, 0, LIMITS),
            ),
        )
        for type_ in (_E.GETRLIMIT, _E.SETRLIMIT)
    ),
    EventSpec(
        _E.PRLIMIT,
        _C.PROCESS,
        (
            _RES,
            _arg("newcur", T.INT64, 2, at=0),
            _arg("newmax", T.INT64, 2, at=8),
            _arg("oldcur", T.INT64, 3, at=0, out=True),
            _arg("oldmax", T.INT64, 3, at=8, out=True),
            _arg("pid", T.PID, 0),
            _arg("resource", T.ENUM, 1, LIMITS),
        ),
    ),
    # -- identity
    EventSpec(_E.SETUID, _C.USER, (_RES, _arg("uid", T.UID, 0), *_STANDING)),
    EventSpec(_E.SETGID, _C.USER, (_RES, _arg("gid", T.UID, 0), *_STANDING)),
    EventSpec(_E.SETREUID, _C.USER, (_RES, _arg("ruid", T.UID, 0), _arg("euid", T.UID, 1), *_STANDING)),
    EventSpec(_E.SETREGID, _C.USER, (_RES, _arg("rgid", T.UID, 0), _arg("egid", T.UID, 1), *_STANDING)),
    EventSpec(
        _E.SETRESUID,
        _C.USER,
        (_RES, _arg("ruid", T.UID, 0), _arg("euid", T.UID, 1), _arg("suid", T.UID, 2), *_STANDING),
    ),
    EventSpec(
        _E.SETRESGID,
        _C.USER,
        (_RES, _arg("rgid", T.UID, 0), _arg("egid", T.UID, 1), _arg("sgid", T.UID, 2), *_STANDING),
    ),
    EventSpec(_E.SETFSUID, _C.USER, (_RES, _arg("uid", T.UID, 0), *_STANDING)),
    EventSpec(_E.SETFSGID, _C.USER, (_RES, _arg("gid", T.UID, 0), *_STANDING)),
    EventSpec(_E.CAPSET, _C.PROCESS, (_RES, *_CREDENTIALS)),
    EventSpec(_E.GETUID, _C.USER, (Param("uid", T.RES_UID),)),
    EventSpec(_E.GETEUID, _C.USER, (Param("euid", T.RES_UID),)),
    EventSpec(_E.GETGID, _C.USER, (Param("gid", T.RES_UID),)),
    EventSpec(_E.GETEGID, _C.USER, (Param("egid", T.RES_UID),)),
    EventSpec(
        _E.GETRESUID,
        _C.USER,
        (
            _RES,
            _arg("ruid", T.UID, 0, at=0, out=True),
            _arg("euid", T.UID, 1, at=0, out=True),
            _arg("suid", T.UID, 2, at=0, out=True),
        ),
    ),
    EventSpec(
        _E.GETRESGID,
        _C.USER,
        (
            _RES,
            _arg("rgid", T.UID, 0, at=0, out=True),
            _arg("egid", T.UID, 1, at=0, out=True),
            _arg("sgid", T.UID, 2, at=0, out=True),
        ),
    ),
    # -- files by path
    EventSpec(
        _E.OPEN, _C.FILE, (_FD, Param("name", T.PATH), _FLAGS, _MODE, *_OPENED, _BASE, _REAL), _name("name"), True
    ),
    EventSpec(
        _E.OPENAT,
        _C.FILE,
        (_FD, *_OPENED_AT, *_OPENED, _base(0), _REAL),
        _name("name"),
        True,
        own=True,
    ),
    EventSpec(
        _E.OPENAT2,
        _C.FILE,
        (_FD, *_OPENED_AT, _arg("resolve", T.FLAGS, 4, RESOLVE_FLAGS), *_OPENED, _base(0), _REAL),
        _name("name"),
        True,
        own=True,
    ),
    EventSpec(
        _E.CREAT,
        _C.FILE,
        (_FD, Param("name", T.PATH), _MODE, *_OPENED, Param("creat_flags", T.FLAGS, CREAT_FLAGS), _BASE, _REAL),
        _name("name"),
        True,
    ),
    EventSpec(
        _E.OPEN_BY_HANDLE_AT,
        _C.FILE,
        (
            _FD,
            _arg("mountfd", T.FD, 0),
            _arg("flags", T.FLAGS, 2, OPEN_FLAGS),
            Param("path", T.PATH, get="e.fd.name"),
            Param("dev", T.UINT32, get="e.fd.dev", form=Form.HEXADECIMAL),
            Param("ino", T.UINT64, get="e.fd.ino"),
            *_FD_FACTS,
        ),
        (),
        True,
        fd_arg=RESULT,
        doc="a file was opened by a handle: the path is the kernel's",
    ),
    _by_path(_E.CHMOD, (_RES, _arg("filename", T.PATH, 0), _named_mode(1)), "filename"),
    _by_path(_E.FCHMODAT, (_RES, _arg("dirfd", T.FD, 0), _arg("filename", T.PATH, 1), _named_mode(2)), "filename", 0),
    EventSpec(
        _E.FCHMODAT2,
        _C.FILE,
        (
            _RES,
            _arg("dirfd", T.FD, 0),
            _arg("filename", T.PATH, 1),
            _named_mode(2),
            _arg("flags", T.FLAGS, 3, CHOWN_FLAGS),
            _base(0),
        ),
        _name("filename"),
        doc="the fchmodat of Linux 6.6, with flags",
    ),
    _by_path(_E.CHOWN, (_RES, _arg("path", T.PATH, 0), *_owner(1))),
    _by_path(_E.LCHOWN, (_RES, _arg("path", T.PATH, 0), *_owner(1))),
    _by_path(
        _E.FCHOWNAT,
        (
            _RES,
            _arg("dirfd", T.FD, 0),
            _arg("pathname", T.PATH, 1),
            *_owner(2),
            _arg("flags", T.FLAGS, 4, CHOWN_FLAGS),
        ),
        "pathname",
        0,
    ),
    _by_path(_E.UNLINK, (_RES, _arg("path", T.PATH, 0))),
    _by_path(
        _E.UNLINKAT,
        (_RES, _arg("dirfd", T.FD, 0), _arg("name", T.PATH, 1), _arg("flags", T.FLAGS, 2, UNLINK_FLAGS)),
        "name",
        0,
    ),
    _by_path(_E.RMDIR, (_RES, _arg("path", T.PATH, 0))),
    _by_path(_E.MKDIR, (_RES, _arg("path", T.PATH, 0), _mode(1))),
    _by_path(_E.MKDIRAT, (_RES, _arg("dirfd", T.FD, 0), _arg("path", T.PATH, 1), _mode(2)), "path", 0),
    _by_path(
        _E.MKNOD,
        (_RES, _arg("path", T.PATH, 0), _named_mode(1, 0o177777), *_node(2)),
        category=_C.OTHER,
    ),
    _by_path(
        _E.MKNODAT,
        (
            _RES,
            _arg("dirfd", T.FD, 0),
            _arg("path", T.PATH, 1),
            _named_mode(2, 0o177777),
            *_node(3),
        ),
        "path",
        0,
        _C.OTHER,
    ),
    _by_path(_E.ACCESS, (_RES, _arg("name", T.PATH, 0), _arg("mode", T.FLAGS, 1, ACCESS_MODES)), "name"),
    *(_by_path(type_, (_RES, _arg("path", T.PATH, 0))) for type_ in (_E.STAT, _E.LSTAT, _E.STAT64, _E.LSTAT64)),
    _by_path(
        _E.NEWFSTATAT,
        (_RES, _arg("dirfd", T.FD, 0), _arg("path", T.PATH, 1), _arg("flags", T.FLAGS, 3, STAT_FLAGS)),
        "path",
        0,
    ),
    EventSpec(_E.GETCWD, _C.FILE, (_RES, _arg("path", T.TEXT, 0, out=True))),
    # -- files by two paths
    EventSpec(
        _E.RENAME,
        _C.FILE,
        (
            _RES,
            _arg("oldpath", T.PATH, 0),
            _arg("newpath", T.PATH, 1),
            _base(CWD, "oldbase"),
            _base(CWD, "newbase"),
        ),
        _two("oldpath", "oldbase", "newpath", "newbase"),
    ),
    EventSpec(
        _E.RENAMEAT,
        _C.FILE,
        (
            _RES,
            _arg("olddirfd", T.FD, 0),
            _arg("oldpath", T.PATH, 1),
            _arg("newdirfd", T.FD, 2),
            _arg("newpath", T.PATH, 3),
            _base(0, "oldbase"),
            _base(2, "newbase"),
        ),
        _two("oldpath", "oldbase", "newpath", "newbase"),
    ),
    EventSpec(
        _E.RENAMEAT2,
        _C.FILE,
        (
            _RES,
            _arg("olddirfd", T.FD, 0),
            _arg("oldpath", T.PATH, 1),
            _arg("newdirfd", T.FD, 2),
            _arg("newpath", T.PATH, 3),
            _arg("flags", T.FLAGS, 4, RENAME_FLAGS),
            _base(0, "oldbase"),
            _base(2, "newbase"),
        ),
        _two("oldpath", "oldbase", "newpath", "newbase"),
    ),
    EventSpec(
        _E.LINK,
        _C.FILE,
        (
            _RES,
            _arg("oldpath", T.PATH, 0),
            _arg("newpath", T.PATH, 1),
            _base(CWD, "oldbase"),
            _base(CWD, "newbase"),
        ),
        _two("oldpath", "oldbase", "newpath", "newbase"),
    ),
    EventSpec(
        _E.LINKAT,
        _C.FILE,
        (
            _RES,
            _arg("olddir", T.FD, 0),
            _arg("oldpath", T.PATH, 1),
            _arg("newdir", T.FD, 2),
            _arg("newpath", T.PATH, 3),
            _arg("flags", T.FLAGS, 4, LINK_FLAGS),
            _base(0, "oldbase"),
            _base(2, "newbase"),
        ),
        _two("oldpath", "oldbase", "newpath", "newbase"),
    ),
    EventSpec(
        _E.SYMLINK,
        _C.FILE,
        (_RES, _arg("target", T.TEXT, 0), _arg("linkpath", T.PATH, 1), _base()),
        _two("target", None, "linkpath", "base"),
    ),
    EventSpec(
        _E.SYMLINKAT,
        _C.FILE,
        (_RES, _arg("target", T.TEXT, 0), _arg("linkdirfd", T.FD, 1), _arg("linkpath", T.PATH, 2), _base(1)),
        _two("target", None, "linkpath", "base"),
        True,
        folder="linkdirfd",
    ),
    # -- mounts
    EventSpec(
        _E.MOUNT,
        _C.FILE,
        (
            _RES,
            _arg("dev", T.TEXT, 0),
            _arg("dir", T.PATH, 1),
            _arg("type", T.TEXT, 2),
            _arg("flags", T.FLAGS, 3, MOUNT_FLAGS),
            _base(),
        ),
        _two("dev", None, "dir", "base"),
    ),
    _by_path(_E.UMOUNT, (_RES, _arg("name", T.PATH, 0)), "name", category=_C.FILE),
    _by_path(_E.UMOUNT2, (_RES, _arg("name", T.PATH, 0), _arg("flags", T.FLAGS, 1, UMOUNT_FLAGS)), "name"),
    EventSpec(
        _E.FSCONFIG,
        _C.SYSTEM,
        (
            _RES,
            _CALL_FD,
            _arg("cmd", T.ENUM, 1, FSCONFIG_COMMANDS),
            _arg("key", T.TEXT, 2, only=1, when=_bits(0, 1, 2, 3, 4, 5)),
            _arg("value_bytebuf", T.DATA, 3, size=4, only=1, when=_bits(2)),
            _arg("value_charbuf", T.TEXT, 3, only=1, when=_bits(1, 3, 4)),
            _arg("aux", T.INT32, 4, only=1, when=_bits(2, 3, 4, 5)),
        ),
    ),
    EventSpec(
        _E.QUOTACTL,
        _C.USER,
        (
            _RES,
            _arg("special", T.TEXT, 1),
            *(
                Param(name, type_, get=_UNTOLD)
                for name, type_ in (
                    ("quotafilepath", T.TEXT),
                    ("dqb_bhardlimit", T.UINT64),
                    ("dqb_bsoftlimit", T.UINT64),
                    ("dqb_curspace", T.UINT64),
                    ("dqb_ihardlimit", T.UINT64),
                    ("dqb_isoftlimit", T.UINT64),
                    ("dqb_btime", T.RELTIME),
                    ("dqb_itime", T.RELTIME),
                    ("dqi_bgrace", T.RELTIME),
                    ("dqi_igrace", T.RELTIME),
                    ("dqi_flags", T.UINT32),
                    ("quota_fmt_out", T.UINT32),
                )
            ),
            Param("cmd", T.ENUM, QUOTA_COMMANDS, get="p['quota_command'] >> 8"),
            Param("type", T.ENUM, QUOTA_TYPES, get="p['quota_command'] & 0xFF"),
            _arg("id", T.UINT32, 2),
            Param("quota_fmt", T.ENUM, QUOTA_FORMATS, get="p['id'] if p['quota_command'] >> 8 == 0x800002 else 0"),
            _internal("quota_command", T.UINT32, arg=Arg(0)),
        ),
    ),
    # -- files by descriptor
    _about_fd(_E.FCHMOD, _C.FILE, (_RES, _CALL_FD, _named_mode(1))),
    _about_fd(_E.FCHOWN, _C.FILE, (_RES, _CALL_FD, *_owner(1))),
    _about_fd(_E.DUP, _C.FILE, (Param("res", T.RES_FD), _arg("oldfd", T.FD, 0)), RESULT),
    _about_fd(_E.DUP2, _C.FILE, (Param("res", T.RES_FD), _arg("oldfd", T.FD, 0), _arg("newfd", T.FD, 1)), RESULT),
    _about_fd(
        _E.DUP3,
        _C.FILE,
        (
            Param("res", T.RES_FD),
            _arg("oldfd", T.FD, 0),
            _arg("newfd", T.FD, 1),
            _arg("flags", T.FLAGS, 2, NEW_FD_FLAGS),
        ),
        RESULT,
    ),
    EventSpec(_E.CLOSE, _C.OTHER, (_RES, _CALL_FD), (), True, doc="a descriptor was given back"),
    EventSpec(
        _E.CLOSE_RANGE,
        _C.UNKNOWN,
        (
            _RES,
            _arg("first", T.UINT32, 0),
            _arg("last", T.UINT32, 1),
            _arg("flags", T.FLAGS, 2, CLOSE_RANGE_FLAGS),
        ),
    ),
    *(_about_fd(type_, _C.FILE, (_RES, _CALL_FD)) for type_ in (_E.FSTAT, _E.GETDENTS, _E.GETDENTS64)),
    EventSpec(_E.FSTAT64, _C.FILE, (_RES,)),
    _about_fd(
        _E.LSEEK,
        _C.FILE,
        (_RES, _CALL_FD, _arg("offset", T.UINT64, 1), _arg("whence", T.ENUM, 2, WHENCE)),
    ),
    _about_fd(
        _E.LLSEEK,
        _C.FILE,
        (
            _RES,
            _CALL_FD,
            Param("offset", T.UINT64, get="p['offset_high'] << 32 | p['offset_low']"),
            _arg("whence", T.ENUM, 4, WHENCE),
            _internal("offset_high", T.UINT32, arg=Arg(1)),
            _internal("offset_low", T.UINT32, arg=Arg(2)),
        ),
    ),
    _about_fd(_E.FLOCK, _C.FILE, (_RES, _CALL_FD, _arg("operation", T.FLAGS, 1, LOCKS))),
    _about_fd(
        _E.FCNTL,
        _C.FILE,
        (Param("res", T.RES_FD), _CALL_FD, _arg("cmd", T.ENUM, 1, FCNTL_COMMANDS), _arg("arg", T.UINT64, 2)),
    ),
    _about_fd(
        _E.IOCTL,
        _C.OTHER,
        (
            _RES,
            _CALL_FD,
            _arg("request", T.UINT64, 1, form=Form.HEXADECIMAL),
            _arg("argument", T.UINT64, 2, form=Form.HEXADECIMAL),
        ),
    ),
    # -- reading and writing
    _about_fd(_E.READ, _C.IO_READ, (_RES, _got(1, RESULT), _CALL_FD, _arg("size", T.UINT32, 2)), bulk=True),
    _about_fd(_E.WRITE, _C.IO_WRITE, (_RES, _sent(1, 2), _CALL_FD, _arg("size", T.UINT32, 2)), bulk=True),
    _about_fd(
        _E.PREAD,
        _C.IO_READ,
        (_RES, _got(1, RESULT), _CALL_FD, _arg("size", T.UINT32, 2), _arg("pos", T.UINT64, 3)),
        bulk=True,
    ),
    _about_fd(
        _E.PWRITE,
        _C.IO_WRITE,
        (_RES, _sent(1, 2), _CALL_FD, _arg("size", T.UINT32, 2), _arg("pos", T.UINT64, 3)),
        bulk=True,
    ),
    _about_fd(
        _E.READV,
        _C.IO_READ,
        (_RES, Param("size", T.UINT32, get="e.res if e.res > 0 else 0"), _got(VEC, VEC_SIZE), _CALL_FD),
        vector=1,
        bulk=True,
    ),
    _about_fd(
        _E.WRITEV,
        _C.IO_WRITE,
        (_RES, _sent(VEC, VEC_SIZE), _CALL_FD, Param("size", T.UINT32, get="e.res if e.res > 0 else 0")),
        vector=1,
        bulk=True,
    ),
    _about_fd(
        _E.PREADV,
        _C.IO_READ,
        (
            _RES,
            Param("size", T.UINT32, get="e.res if e.res > 0 else 0"),
            _got(VEC, VEC_SIZE),
            _CALL_FD,
            _arg("pos", T.UINT64, 3),
        ),
        vector=1,
        bulk=True,
    ),
    _about_fd(
        _E.PWRITEV,
        _C.IO_WRITE,
        (
            _RES,
            _sent(VEC, VEC_SIZE),
            _CALL_FD,
            Param("size", T.UINT32, get="e.res if e.res > 0 else 0"),
            _arg("pos", T.UINT64, 3),
        ),
        vector=1,
        bulk=True,
    ),
    EventSpec(
        _E.SENDFILE,
        _C.IO_WRITE,
        (
            _RES,
            _arg("offset", T.UINT64, 2, long=0),
            _arg("out_fd", T.FD, 0),
            _arg("in_fd", T.FD, 1),
            _arg("size", T.UINT64, 3),
            *_FD_FACTS,
        ),
        (),
        True,
        fd_arg=0,
        bulk=True,
    ),
    EventSpec(
        _E.SPLICE,
        _C.FILE,
        (
            _RES,
            _arg("fd_in", T.FD, 0),
            _arg("fd_out", T.FD, 2),
            _arg("size", T.UINT64, 4),
            _arg("flags", T.FLAGS, 5, SPLICE_FLAGS),
            *_FD_FACTS,
        ),
        (),
        True,
        fd_arg=0,
    ),
    EventSpec(
        _E.COPY_FILE_RANGE,
        _C.FILE,
        (
            _RES,
            _arg("fdout", T.FD, 2),
            _arg("offout", T.UINT64, 3, at=0),
            _arg("fdin", T.FD, 0),
            _arg("offin", T.UINT64, 1, at=0),
            _arg("len", T.UINT64, 4),
            *_FD_FACTS,
        ),
        (),
        True,
        fd_arg=2,
    ),
    # -- descriptors made
    EventSpec(
        _E.PIPE,
        _C.IPC,
        (
            _RES,
            _arg("fd1", T.FD, 0, at=0, out=True),
            _arg("fd2", T.FD, 0, at=4, out=True),
            Param("ino", T.UINT64, get=_UNTOLD),
        ),
        (),
        True,
    ),
    EventSpec(
        _E.PIPE2,
        _C.IPC,
        (
            _RES,
            _arg("fd1", T.FD, 0, at=0, out=True),
            _arg("fd2", T.FD, 0, at=4, out=True),
            Param("ino", T.UINT64, get=_UNTOLD),
            _arg("flags", T.FLAGS, 1, NEW_FD_FLAGS),
        ),
        (),
        True,
    ),
    _about_fd(_E.EVENTFD, _C.IPC, (Param("res", T.RES_FD), _arg("initval", T.UINT64, 0), _zero("flags")), RESULT),
    _about_fd(
        _E.EVENTFD2,
        _C.IPC,
        (Param("res", T.RES_FD), _arg("flags", T.FLAGS, 1, NEW_FD_FLAGS), _arg("initval", T.UINT64, 0)),
        RESULT,
    ),
    _about_fd(
        _E.SIGNALFD,
        _C.SIGNAL,
        (Param("res", T.RES_FD), _CALL_FD, _arg("mask", T.UINT32, 1, at=0, form=Form.HEXADECIMAL), _zero("flags")),
        RESULT,
    ),
    _about_fd(
        _E.SIGNALFD4,
        _C.SIGNAL,
        (
            Param("res", T.RES_FD),
            _arg("flags", T.FLAGS, 3, NEW_FD_FLAGS),
            _CALL_FD,
            _arg("mask", T.UINT32, 1, at=0, form=Form.HEXADECIMAL),
        ),
        RESULT,
    ),
    _about_fd(
        _E.TIMERFD_CREATE,
        _C.TIME,
        (
            Param("res", T.RES_FD),
            _arg("clockid", T.UINT32, 0),
            _arg("flags", T.UINT32, 1, NEW_FD_FLAGS, form=Form.HEXADECIMAL),
        ),
        RESULT,
    ),
    _about_fd(_E.INOTIFY_INIT, _C.IPC, (Param("res", T.RES_FD), _zero("flags")), RESULT),
    _about_fd(_E.INOTIFY_INIT1, _C.IPC, (Param("res", T.RES_FD), _arg("flags", T.FLAGS, 0, NEW_FD_FLAGS)), RESULT),
    _about_fd(_E.EPOLL_CREATE, _C.WAIT, (_RES, _arg("size", T.INT32, 0)), RESULT),
    _about_fd(_E.EPOLL_CREATE1, _C.WAIT, (_RES, _arg("flags", T.FLAGS, 0, EPOLL_FLAGS)), RESULT),
    EventSpec(
        _E.MEMFD_CREATE,
        _C.MEMORY,
        (_FD, _arg("name", T.TEXT, 0), _arg("flags", T.FLAGS, 1, MEMFD_FLAGS), *_FD_FACTS),
        (),
        True,
        fd_arg=RESULT,
        doc="a file without a name, in memory",
    ),
    _about_fd(_E.USERFAULTFD, _C.FILE, (_RES, _arg("flags", T.FLAGS, 0, USERFAULTFD_FLAGS)), RESULT),
    EventSpec(
        _E.EPOLL_WAIT, _C.WAIT, (_RES, _arg("maxevents", T.INT64, 2)), doc="a wait for what happens on descriptors"
    ),
    EventSpec(_E.POLL, _C.WAIT, (_RES, _POLLED, Param("timeout", T.INT64), _internal("polled", T.FDS))),
    EventSpec(
        _E.PPOLL,
        _C.WAIT,
        (
            _RES,
            _POLLED,
            Param("timeout", T.RELTIME, get="p['timeout_s'] * 1000000000 + p['timeout_ns']"),
            Param("sigmask", T.SIGSET),
            _internal("timeout_s", T.INT64),
            _internal("timeout_ns", T.INT64),
            _internal("polled", T.FDS),
        ),
    ),
    EventSpec(_E.SELECT, _C.WAIT, (_RES,)),
    EventSpec(
        _E.NANOSLEEP,
        _C.SLEEP,
        (
            _RES,
            Param("interval", T.RELTIME, get="p['interval_s'] * 1000000000 + p['interval_ns']"),
            _internal("interval_s", T.INT64, arg=Arg(0, long=0)),
            _internal("interval_ns", T.INT64, arg=Arg(0, long=1)),
        ),
    ),
    # -- memory
    EventSpec(
        _E.BRK,
        _C.MEMORY,
        (Param("res", T.RES_INT), *_MEMORY, _arg("addr", T.UINT64, 0, form=Form.HEXADECIMAL)),
    ),
    *(
        EventSpec(
            type_,
            _C.MEMORY,
            (
                Param("res", T.RES),
                *_MEMORY,
                _arg("addr", T.UINT64, 0, form=Form.HEXADECIMAL),
                _arg("length", T.UINT64, 1),
                _arg("prot", T.FLAGS, 2, PROTECTIONS),
                _arg("flags", T.FLAGS, 3, MAP_FLAGS),
                _arg("fd", T.FD, 4),
                _arg(offset, T.UINT64, 5),
                *_FD_FACTS,
            ),
            (),
            True,
            fd_arg=4,
        )
        for type_, offset in ((_E.MMAP, "offset"), (_E.MMAP2, "pgoffset"))
    ),
    EventSpec(
        _E.MUNMAP,
        _C.MEMORY,
        (_RES, *_MEMORY, _arg("addr", T.UINT64, 0, form=Form.HEXADECIMAL), _arg("length", T.UINT64, 1)),
    ),
    EventSpec(
        _E.MPROTECT,
        _C.MEMORY,
        (
            _RES,
            _arg("addr", T.UINT64, 0, form=Form.HEXADECIMAL),
            _arg("length", T.UINT64, 1),
            _arg("prot", T.FLAGS, 2, PROTECTIONS),
        ),
    ),
    EventSpec(_E.MLOCK, _C.MEMORY, (_RES, _arg("addr", T.UINT64, 0, form=Form.HEXADECIMAL), _arg("len", T.UINT64, 1))),
    EventSpec(
        _E.MUNLOCK, _C.MEMORY, (_RES, _arg("addr", T.UINT64, 0, form=Form.HEXADECIMAL), _arg("len", T.UINT64, 1))
    ),
    EventSpec(
        _E.MLOCK2,
        _C.MEMORY,
        (
            _RES,
            _arg("addr", T.UINT64, 0, form=Form.HEXADECIMAL),
            _arg("len", T.UINT64, 1),
            _arg("flags", T.FLAGS, 2, MLOCK2_FLAGS),
        ),
    ),
    EventSpec(_E.MLOCKALL, _C.MEMORY, (_RES, _arg("flags", T.FLAGS, 0, MLOCKALL_FLAGS))),
    EventSpec(_E.MUNLOCKALL, _C.MEMORY, (_RES,)),
    EventSpec(
        _E.FUTEX,
        _C.IPC,
        (
            _RES,
            _arg("addr", T.UINT64, 0, form=Form.HEXADECIMAL),
            _arg("op", T.ENUM, 1, FUTEX_OPERATIONS),
            _arg("val", T.UINT64, 2),
        ),
    ),
    EventSpec(
        _E.SEMOP,
        _C.PROCESS,
        (
            _RES,
            _arg("nsops", T.UINT32, 2),
            _arg("sem_num_0", T.UINT16, 1, only=2, when=_SEMAPHORES_0, at=0),
            _arg("sem_op_0", T.INT16, 1, only=2, when=_SEMAPHORES_0, at=2),
            _arg("sem_flg_0", T.FLAGS16, 1, SEMAPHORE_FLAGS, only=2, when=_SEMAPHORES_0, at=4),
            _arg("sem_num_1", T.UINT16, 1, only=2, when=_SEMAPHORES_1, at=6),
            _arg("sem_op_1", T.INT16, 1, only=2, when=_SEMAPHORES_1, at=8),
            _arg("sem_flg_1", T.FLAGS16, 1, SEMAPHORE_FLAGS, only=2, when=_SEMAPHORES_1, at=10),
            _arg("semid", T.INT32, 0),
        ),
    ),
    EventSpec(
        _E.SEMCTL,
        _C.PROCESS,
        (
            _RES,
            _arg("semid", T.INT32, 0),
            _arg("semnum", T.INT32, 1),
            _arg("cmd", T.ENUM, 2, SEMCTL_COMMANDS, mask=0xFF, form=Form.HEXADECIMAL),
            _arg("val", T.INT32, 3),
        ),
    ),
    EventSpec(
        _E.SEMGET,
        _C.PROCESS,
        (
            _RES,
            _arg("key", T.INT32, 0, form=Form.HEXADECIMAL),
            _arg("nsems", T.INT32, 1),
            _arg("semflg", T.FLAGS, 2, SEMGET_FLAGS),
        ),
    ),
    # -- network
    EventSpec(
        _E.SOCKET,
        _C.NET,
        (
            _FD,
            _arg("domain", T.ENUM, 0, FAMILIES),
            _arg("type", T.UINT32, 1),
            _arg("proto", T.UINT32, 2),
            _arg("flags", T.FLAGS, 1, SOCKET_FLAGS),
        ),
        (),
        True,
    ),
    EventSpec(
        _E.SOCKETPAIR,
        _C.IPC,
        (
            _RES,
            _arg("fd1", T.FD, 3, at=0, out=True),
            _arg("fd2", T.FD, 3, at=4, out=True),
            Param("source", T.UINT64, get=_UNTOLD),
            Param("peer", T.UINT64, get=_UNTOLD),
            _arg("domain", T.ENUM, 0, FAMILIES),
            _arg("type", T.UINT32, 1),
            _arg("proto", T.UINT32, 2),
        ),
        (),
        True,
    ),
    _about_fd(_E.BIND, _C.NET, (_RES, Param("addr", T.TEXT, get="p['sockaddr']"), _CALL_FD), 0, _sockaddr(1, 2)),
    _about_fd(
        _E.CONNECT, _C.NET, (_RES, _TUPLE, _CALL_FD, Param("addr", T.TEXT, get="p['sockaddr']")), 0, _sockaddr(1, 2)
    ),
    _about_fd(_E.LISTEN, _C.NET, (_RES, _CALL_FD, _arg("backlog", T.INT32, 1))),
    _about_fd(_E.ACCEPT, _C.NET, (_FD, _TUPLE, *_QUEUE), RESULT),
    _about_fd(
        _E.ACCEPT4,
        _C.NET,
        (_FD, _TUPLE, *_QUEUE, _arg("flags", T.INT32, 3, NEW_FD_FLAGS, form=Form.HEXADECIMAL)),
        RESULT,
    ),
    _about_fd(_E.SHUTDOWN, _C.NET, (_RES, _CALL_FD, _arg("how", T.ENUM, 1, SHUTDOWNS, form=Form.HEXADECIMAL))),
    _about_fd(_E.SEND, _C.IO_WRITE, (_RES, _sent(1, 2), _CALL_FD, _arg("size", T.UINT32, 2), _TUPLE), bulk=True),
    _about_fd(_E.RECV, _C.IO_READ, (_RES, _got(1, RESULT), _CALL_FD, _arg("size", T.UINT32, 2), _TUPLE), bulk=True),
    _about_fd(
        _E.SENDTO,
        _C.IO_WRITE,
        (_RES, _sent(1, 2), _CALL_FD, _arg("size", T.UINT32, 2), _TUPLE),
        0,
        _sockaddr(4, 5),
    ),
    _about_fd(
        _E.RECVFROM,
        _C.IO_READ,
        (_RES, _got(1, RESULT), _TUPLE, _CALL_FD, _arg("size", T.UINT32, 2)),
        0,
        _sockaddr(4, 5, size_at=True),
    ),
    _about_fd(
        _E.SENDMSG,
        _C.IO_WRITE,
        (_RES, _sent(VEC, VEC_SIZE), _CALL_FD, Param("size", T.UINT32, get="e.res if e.res > 0 else 0"), _TUPLE),
        0,
        _sockaddr(NAME, NAME_SIZE),
        message=1,
    ),
    _about_fd(
        _E.RECVMSG,
        _C.IO_READ,
        (
            _RES,
            Param("size", T.UINT32, get="e.res if e.res > 0 else 0"),
            _got(VEC, VEC_SIZE),
            _TUPLE,
            _arg("msgcontrol", T.DATA, CONTROL, size=CONTROL_SIZE, out=True),
            _CALL_FD,
        ),
        0,
        _sockaddr(NAME, NAME_SIZE),
        message=1,
    ),
    _about_fd(
        _E.SENDMMSG,
        _C.IO_WRITE,
        (_RES, _CALL_FD, Param("size", T.UINT32, get="e.res if e.res > 0 else 0"), _sent(VEC, VEC_SIZE), _TUPLE),
        0,
        _sockaddr(NAME, NAME_SIZE),
        message=1,
        several=True,
        doc="several messages at once: the arguments are those of the first, the result is their number",
    ),
    _about_fd(
        _E.RECVMMSG,
        _C.IO_READ,
        (
            _RES,
            _CALL_FD,
            Param("size", T.UINT32, get="e.res if e.res > 0 else 0"),
            _got(VEC, VEC_SIZE),
            _TUPLE,
            _arg("msgcontrol", T.DATA, CONTROL, size=CONTROL_SIZE, out=True),
        ),
        0,
        _sockaddr(NAME, NAME_SIZE),
        message=1,
        several=True,
        doc="several messages at once: the arguments are those of the first, the result is their number",
    ),
    EventSpec(_E.GETSOCKNAME, _C.NET, ()),
    EventSpec(_E.GETPEERNAME, _C.NET, ()),
    *(
        _about_fd(
            type_,
            _C.NET,
            (
                _RES,
                _CALL_FD,
                _arg("level", T.ENUM, 1, LEVELS),
                _arg("optname", T.ENUM, 2, SOCKET_OPTIONS),
                _arg("val", T.DATA, 3, size=4, size_at=type_ is _E.GETSOCKOPT),
                _arg("optlen", T.UINT32, 4, at=0 if type_ is _E.GETSOCKOPT else None),
            ),
        )
        for type_ in (_E.SETSOCKOPT, _E.GETSOCKOPT)
    ),
    # -- the kernel itself
    _about_fd(_E.BPF, _C.OTHER, (_FD, _arg("cmd", T.ENUM, 0, BPF_COMMANDS)), RESULT),
    EventSpec(
        _E.INIT_MODULE,
        _C.OTHER,
        (_RES, _arg("img", T.DATA, 0, size=1), _arg("length", T.UINT64, 1), _arg("uargs", T.TEXT, 2)),
    ),
    EventSpec(
        _E.FINIT_MODULE,
        _C.OTHER,
        (
            _RES,
            _CALL_FD,
            _arg("uargs", T.TEXT, 1),
            _arg("flags", T.FLAGS, 2, MODULE_FLAGS),
            *_FD_FACTS,
        ),
        (),
        True,
        fd_arg=0,
    ),
    EventSpec(_E.DELETE_MODULE, _C.OTHER, (_RES, _arg("name", T.TEXT, 0), _arg("flags", T.FLAGS, 1, UNLOAD_FLAGS))),
    EventSpec(
        _E.KEYCTL,
        _C.OTHER,
        (
            _RES,
            _arg("operation", T.ENUM, 0, KEYCTL_OPERATIONS),
            *(_key_argument(n) for n in range(1, 5)),
            *(_key_number(n) for n in range(1, 5)),
            *(_key_text(n) for n in sorted(_KEY_TEXTS)),
        ),
    ),
    # -- io_uring
    _about_fd(
        _E.IO_URING_SETUP,
        _C.UNKNOWN,
        (
            _RES,
            _arg("entries", T.UINT32, 0),
            _arg("sq_entries", T.UINT32, 1, at=0),
            _arg("cq_entries", T.UINT32, 1, at=4),
            _arg("flags", T.FLAGS, 1, IO_URING_SETUP_FLAGS, at=8),
            _arg("sq_thread_cpu", T.UINT32, 1, at=12),
            _arg("sq_thread_idle", T.UINT32, 1, at=16),
            _arg("features", T.FLAGS, 1, IO_URING_FEATURES, at=20),
        ),
        RESULT,
    ),
    _about_fd(
        _E.IO_URING_ENTER,
        _C.UNKNOWN,
        (
            _RES,
            _CALL_FD,
            _arg("to_submit", T.UINT32, 1),
            _arg("min_complete", T.UINT32, 2),
            _arg("flags", T.FLAGS, 3, IO_URING_ENTER_FLAGS),
            _arg("sig", T.SIGSET, 4, at=0),
        ),
    ),
    _about_fd(
        _E.IO_URING_REGISTER,
        _C.UNKNOWN,
        (
            _RES,
            _CALL_FD,
            _arg("opcode", T.ENUM, 1, IO_URING_REGISTER_OPERATIONS),
            _arg("arg", T.UINT64, 2, form=Form.HEXADECIMAL),
            _arg("nr_args", T.UINT32, 3),
        ),
    ),
    # -- from our own sources
    EventSpec(_E.PROCINFO, _C.INTERNAL, (_RES, *_PROCESS_FACTS), doc="a process that ran before us, read from /proc"),
    EventSpec(
        _E.TASKNAME,
        _C.INTERNAL,
        (_RES, _internal("pid", T.PID), _internal("start_ns", T.UINT64), _internal("name", T.TEXT)),
        doc="a process was given another name, by any of its threads",
    ),
    EventSpec(
        _E.IORING,
        _C.INTERNAL,
        (_RES, _internal("request", T.UINT64), _internal("more", T.UINT32)),
        doc="what a process asked of an io_uring has ended: its event is the one of the call that it stands for",
    ),
    EventSpec(
        _E.CONTAINER,
        _C.INTERNAL,
        (_RES, Param("json", T.TEXT)),
        doc="what a container engine says of a container",
    ),
    # from other sources
    EventSpec(_E.PLUGINEVENT, _C.OTHER, (), source="k8s_audit", doc="a Kubernetes audit event"),
)

# Falco tells these by name only.
_BARE = (Param("ID", T.TEXT, get="e.type.value"), _arg("nativeID", T.UINT16, NUMBER))

_TOLD = {row.type: row for row in _ROWS}

EVENTS: Mapping[EventType, EventSpec] = MappingProxyType(
    {t: _TOLD[t] if t in _TOLD else EventSpec(t, _C.OTHER, _BARE, told=False) for t in EventType}
)
"""Every event type's row."""

PARAM_NAMES: frozenset[str] = frozenset(p.name for row in EVENTS.values() for p in row.params)
"""All parameter names: `evt.arg.NAME` is an error for any other."""

STATE = frozenset(
    {
        _E.EXECVE, _E.EXECVEAT, _E.CLONE, _E.CLONE3, _E.FORK, _E.VFORK, _E.PROCEXIT, _E.CHDIR, _E.FCHDIR, _E.CHROOT,
        _E.PRCTL, _E.UNSHARE, _E.SETSID, _E.SETPGID, _E.CAPSET, _E.SETUID, _E.SETGID, _E.SETREUID, _E.SETREGID,
        _E.SETRESUID, _E.SETRESGID, _E.SETFSUID, _E.SETFSGID, _E.TASKNAME,
    }
)  # fmt: skip
"""What keeps the tables of `engine.state` true: heard whether a rule asks for it or not."""

FD_MAKERS = frozenset(t for t, spec in EVENTS.items() if any(p.type is ParamType.RES_FD for p in spec.params[:1]))
"""What gives a process a descriptor: heard where a rule asks for `close`, which the kernel tells when it is gone."""

OPENS = frozenset({EventType.OPEN, EventType.OPENAT, EventType.OPENAT2, EventType.CREAT})
OPEN_LIKE = OPENS | {EventType.OPEN_BY_HANDLE_AT}
"""What `evt.is_open_read` and its kin are about."""
CLONES = frozenset({EventType.CLONE, EventType.CLONE3, EventType.FORK, EventType.VFORK})
EXECS = frozenset({EventType.EXECVE, EventType.EXECVEAT})

assert EVENTS.keys() == set(EventType), "every event type has a row"  # noqa: S101  (a table proves itself)
