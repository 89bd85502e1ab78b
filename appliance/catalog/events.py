"""Every event type, its parameters and their types: one row each.

Comes in: nothing. Goes out: `EVENTS`. Read by `kernel.layout` (the record and its decoder), by the rule checker, by
`tercel list` and by the docs. Parameters stand in Falco's order under Falco's names (`falco --list-events`, exit
events); those marked `internal` follow them.

Paths: a path parameter is what the caller gave. Where it is relative, the `internal` parameter beside it (`base` and
the like) carries the folder it is relative to, as the kernel knows it; it is empty where the path is absolute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from appliance.catalog.params import (
    CHOWN_FLAGS,
    CLONE_FLAGS,
    CREAT_FLAGS,
    EXECVEAT_FLAGS,
    FAMILIES,
    FD_FLAGS,
    LINK_FLAGS,
    MOUNT_FLAGS,
    OPEN_FLAGS,
    PTRACE_REQUESTS,
    RENAME_FLAGS,
    RESOLVE_FLAGS,
    UNLINK_FLAGS,
    Param,
    ParamType,
)
from appliance.model.event import EventType


class Category(Enum):
    """`evt.category`, in Falco's words."""

    FILE = "file"
    NET = "net"
    PROCESS = "process"
    USER = "user"
    SYSTEM = "system"
    INTERNAL = "internal"
    OTHER = "other"


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


def _internal(name: str, type_: ParamType) -> Param:
    return Param(name, type_, internal=True)


_BASE = _internal("base", T.DIRPATH)

# What a descriptor is, as the kernel knows it: the inode's mode, number, device (as stat(2) tells it) and its file
# system's magic number; `catalog.params.FD_FLAGS`; for sockets family, type, protocol, state and both ends; the path of
# files and of unix sockets bound to one, the address of those with an abstract name. Order and names are those of
# `engine.sockets`, which reads them.
_FD_FACTS = (
    _internal("inode_mode", T.UINT32),
    _internal("fd_ino", T.UINT64),
    _internal("fd_dev", T.UINT32),
    _internal("fd_magic", T.UINT32),
    Param("fd_flags", T.FLAGS, FD_FLAGS, internal=True),
    _internal("sock_family", T.UINT16),
    _internal("sock_type", T.UINT16),
    _internal("sock_proto", T.UINT16),
    _internal("sock_state", T.UINT16),
    _internal("local_port", T.UINT16),
    _internal("remote_port", T.UINT16),
    _internal("local_addr", T.ADDR16),
    _internal("remote_addr", T.ADDR16),
    _internal("fd_path", T.DIRPATH),
    _internal("sock_name", T.BYTES),
)
FD_FACTS = len(_FD_FACTS)
"""How many parameters from `inode_mode` on are the facts of a descriptor."""

# Who the process is after the event.
_CREDENTIALS = (
    _internal("new_uid", T.UID),
    _internal("new_gid", T.UID),
    _internal("new_suid", T.UID),
    _internal("new_sgid", T.UID),
    _internal("new_euid", T.UID),
    _internal("new_egid", T.UID),
    Param("cap_inheritable", T.UINT64),
    Param("cap_permitted", T.UINT64),
    Param("cap_effective", T.UINT64),
)

# All that the kernel tells of a process when it starts a program; /proc tells the same of those that ran before us.
# `args_size` is the whole size of the argument area in bytes, larger than `args` where that had to be cut.
_PROCESS_FACTS = (
    Param("exe", T.TEXT, get="e.process.exe"),
    Param("args", T.ARGS),
    Param("tid", T.PID, get="e.tid"),
    Param("pid", T.PID, get="e.process.pid"),
    Param("ptid", T.PID),
    Param("cwd", T.DIRPATH),
    Param("comm", T.TEXT),
    Param("cgroups", T.DIRPATH),
    _internal("cgroups_v1", T.DIRPATH),
    Param("tty", T.UINT32),
    _internal("sid", T.PID),
    Param("pgid", T.PID),
    _internal("vpid", T.PID),
    Param("loginuid", T.UID),
    *_CREDENTIALS,
    Param("uid", T.UID, get="e.process.uid"),
    Param("gid", T.UID, get="e.process.gid"),
    Param("trusted_exepath", T.DIRPATH),
    Param("filename", T.PATH),
    _internal("args_size", T.UINT32),
    _internal("stdio", T.FDS),  # descriptors 0, 1 and 2
)

_CLONE = (
    Param("res", T.RES_PID),
    Param("exe", T.TEXT, get="e.process.exe"),
    Param("args", T.ARGS, get="e.process.args"),
    Param("tid", T.PID, get="e.tid"),
    Param("pid", T.PID, get="e.process.pid"),
    Param("ptid", T.PID, get="e.process.ppid"),
    Param("cwd", T.TEXT, get="e.process.cwd"),
    Param("comm", T.TEXT, get="e.process.name"),
    Param("flags", T.FLAGS, CLONE_FLAGS),
    Param("uid", T.UID, get="e.process.uid"),
    Param("gid", T.UID, get="e.process.gid"),
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
_OPENED = (Param("dev", T.UINT32), Param("ino", T.UINT64))  # 0 where the call failed
_OWNER = (Param("uid", T.UID), Param("gid", T.UID))
_OLD_BASE, _NEW_BASE = _internal("oldbase", T.DIRPATH), _internal("newbase", T.DIRPATH)

_E, _C = EventType, Category

_ROWS = (
    # -- processes
    EventSpec(_E.EXECVE, _C.PROCESS, (_RES, *_PROCESS_FACTS), doc="a program was started, or failed to"),
    EventSpec(
        _E.EXECVEAT,
        _C.PROCESS,
        (_RES, *_PROCESS_FACTS, Param("flags", T.FLAGS, EXECVEAT_FLAGS)),
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
            Param("sig", T.UINT32, get="e.res & 0x7F"),
            Param("core", T.UINT32, get="(e.res >> 7) & 1"),
        ),
        doc="the last thread of a process has ended",
    ),
    EventSpec(_E.CHDIR, _C.FILE, (_RES, Param("path", T.PATH), _internal("cwd", T.DIRPATH), _BASE), _name("path")),
    EventSpec(_E.FCHDIR, _C.FILE, (_RES, Param("fd", T.FD), _internal("cwd", T.DIRPATH))),
    EventSpec(
        _E.PTRACE,
        _C.OTHER,
        (
            _RES,
            Param("addr", T.UINT64),
            Param("data", T.UINT64),
            Param("request", T.ENUM, PTRACE_REQUESTS),
            Param("pid", T.PID),
        ),
        doc="one process controls another",
    ),
    # -- identity
    EventSpec(_E.SETUID, _C.USER, (_RES, Param("uid", T.UID), *_CREDENTIALS)),
    EventSpec(_E.SETGID, _C.USER, (_RES, Param("gid", T.UID), *_CREDENTIALS)),
    EventSpec(_E.SETREUID, _C.USER, (_RES, Param("ruid", T.UID), Param("euid", T.UID), *_CREDENTIALS)),
    EventSpec(_E.SETREGID, _C.USER, (_RES, Param("rgid", T.UID), Param("egid", T.UID), *_CREDENTIALS)),
    EventSpec(
        _E.SETRESUID,
        _C.USER,
        (_RES, Param("ruid", T.UID), Param("euid", T.UID), Param("suid", T.UID), *_CREDENTIALS),
    ),
    EventSpec(
        _E.SETRESGID,
        _C.USER,
        (_RES, Param("rgid", T.UID), Param("egid", T.UID), Param("sgid", T.UID), *_CREDENTIALS),
    ),
    EventSpec(_E.SETFSUID, _C.USER, (_RES, Param("uid", T.UID), *_CREDENTIALS)),
    EventSpec(_E.SETFSGID, _C.USER, (_RES, Param("gid", T.UID), *_CREDENTIALS)),
    # -- files by path
    EventSpec(_E.OPEN, _C.FILE, (_FD, Param("name", T.PATH), _FLAGS, _MODE, *_OPENED, _BASE), _name("name"), True),
    EventSpec(
        _E.OPENAT,
        _C.FILE,
        (_FD, Param("dirfd", T.FD), Param("name", T.PATH), _FLAGS, _MODE, *_OPENED, _BASE),
        _name("name"),
        True,
    ),
    EventSpec(
        _E.OPENAT2,
        _C.FILE,
        (
            _FD,
            Param("dirfd", T.FD),
            Param("name", T.PATH),
            _FLAGS,
            _MODE,
            Param("resolve", T.FLAGS, RESOLVE_FLAGS),
            *_OPENED,
            _BASE,
        ),
        _name("name"),
        True,
    ),
    EventSpec(
        _E.CREAT,
        _C.FILE,
        (_FD, Param("name", T.PATH), _MODE, *_OPENED, Param("creat_flags", T.FLAGS, CREAT_FLAGS), _BASE),
        _name("name"),
        True,
    ),
    EventSpec(_E.CHMOD, _C.FILE, (_RES, Param("filename", T.PATH), _MODE, _BASE), _name("filename")),
    EventSpec(
        _E.FCHMODAT,
        _C.FILE,
        (_RES, Param("dirfd", T.FD), Param("filename", T.PATH), _MODE, _BASE),
        _name("filename"),
    ),
    EventSpec(
        _E.FCHMODAT2,
        _C.FILE,
        (_RES, Param("dirfd", T.FD), Param("filename", T.PATH), _MODE, Param("flags", T.FLAGS, CHOWN_FLAGS), _BASE),
        _name("filename"),
        doc="the fchmodat of Linux 6.6, with flags",
    ),
    EventSpec(_E.CHOWN, _C.FILE, (_RES, Param("path", T.PATH), *_OWNER, _BASE), _name("path")),
    EventSpec(_E.LCHOWN, _C.FILE, (_RES, Param("path", T.PATH), *_OWNER, _BASE), _name("path")),
    EventSpec(
        _E.FCHOWNAT,
        _C.FILE,
        (_RES, Param("dirfd", T.FD), Param("pathname", T.PATH), *_OWNER, Param("flags", T.FLAGS, CHOWN_FLAGS), _BASE),
        _name("pathname"),
    ),
    EventSpec(_E.UNLINK, _C.FILE, (_RES, Param("path", T.PATH), _BASE), _name("path")),
    EventSpec(
        _E.UNLINKAT,
        _C.FILE,
        (_RES, Param("dirfd", T.FD), Param("name", T.PATH), Param("flags", T.FLAGS, UNLINK_FLAGS), _BASE),
        _name("name"),
    ),
    EventSpec(_E.RMDIR, _C.FILE, (_RES, Param("path", T.PATH), _BASE), _name("path")),
    EventSpec(_E.MKDIR, _C.FILE, (_RES, Param("path", T.PATH), _MODE, _BASE), _name("path")),
    EventSpec(_E.MKDIRAT, _C.FILE, (_RES, Param("dirfd", T.FD), Param("path", T.PATH), _MODE, _BASE), _name("path")),
    # -- files by two paths
    EventSpec(
        _E.RENAME,
        _C.FILE,
        (_RES, Param("oldpath", T.PATH), Param("newpath", T.PATH), _OLD_BASE, _NEW_BASE),
        _two("oldpath", "oldbase", "newpath", "newbase"),
    ),
    EventSpec(
        _E.RENAMEAT,
        _C.FILE,
        (
            _RES,
            Param("olddirfd", T.FD),
            Param("oldpath", T.PATH),
            Param("newdirfd", T.FD),
            Param("newpath", T.PATH),
            _OLD_BASE,
            _NEW_BASE,
        ),
        _two("oldpath", "oldbase", "newpath", "newbase"),
    ),
    EventSpec(
        _E.RENAMEAT2,
        _C.FILE,
        (
            _RES,
            Param("olddirfd", T.FD),
            Param("oldpath", T.PATH),
            Param("newdirfd", T.FD),
            Param("newpath", T.PATH),
            Param("flags", T.FLAGS, RENAME_FLAGS),
            _OLD_BASE,
            _NEW_BASE,
        ),
        _two("oldpath", "oldbase", "newpath", "newbase"),
    ),
    EventSpec(
        _E.LINK,
        _C.FILE,
        (_RES, Param("oldpath", T.PATH), Param("newpath", T.PATH), _OLD_BASE, _NEW_BASE),
        _two("oldpath", "oldbase", "newpath", "newbase"),
    ),
    EventSpec(
        _E.LINKAT,
        _C.FILE,
        (
            _RES,
            Param("olddir", T.FD),
            Param("oldpath", T.PATH),
            Param("newdir", T.FD),
            Param("newpath", T.PATH),
            Param("flags", T.FLAGS, LINK_FLAGS),
            _OLD_BASE,
            _NEW_BASE,
        ),
        _two("oldpath", "oldbase", "newpath", "newbase"),
    ),
    EventSpec(
        _E.SYMLINK,
        _C.FILE,
        (_RES, Param("target", T.PATH), Param("linkpath", T.PATH), _BASE),
        _two("target", None, "linkpath", "base"),
    ),
    EventSpec(
        _E.SYMLINKAT,
        _C.FILE,
        (_RES, Param("target", T.PATH), Param("linkdirfd", T.FD), Param("linkpath", T.PATH), _BASE),
        _two("target", None, "linkpath", "base"),
    ),
    EventSpec(
        _E.MOUNT,
        _C.SYSTEM,
        (
            _RES,
            Param("dev", T.TEXT),
            Param("dir", T.PATH),
            Param("type", T.TEXT),
            Param("flags", T.FLAGS, MOUNT_FLAGS),
            _BASE,
        ),
        _two("dev", None, "dir", "base"),
    ),
    # -- files by descriptor
    EventSpec(_E.FCHMOD, _C.FILE, (_RES, Param("fd", T.FD), _MODE, *_FD_FACTS), (), True),
    EventSpec(_E.FCHOWN, _C.FILE, (_RES, Param("fd", T.FD), *_OWNER, *_FD_FACTS), (), True),
    EventSpec(_E.DUP, _C.FILE, (Param("res", T.RES_FD), Param("oldfd", T.FD), *_FD_FACTS), (), True),
    EventSpec(
        _E.DUP2, _C.FILE, (Param("res", T.RES_FD), Param("oldfd", T.FD), Param("newfd", T.FD), *_FD_FACTS), (), True
    ),
    EventSpec(
        _E.DUP3,
        _C.FILE,
        (Param("res", T.RES_FD), Param("oldfd", T.FD), Param("newfd", T.FD), _FLAGS, *_FD_FACTS),
        (),
        True,
    ),
    # -- network
    EventSpec(
        _E.SOCKET,
        _C.NET,
        (_FD, Param("domain", T.ENUM, FAMILIES), Param("type", T.UINT32), Param("proto", T.UINT32)),
        (),
        True,
    ),
    EventSpec(
        _E.CONNECT,
        _C.NET,
        (
            _RES,
            Param("tuple", T.TEXT, get="e.fd.name"),
            Param("fd", T.FD),
            Param("addr", T.TEXT, get="e.fd.name"),
            *_FD_FACTS,
            _internal("sockaddr", T.BYTES),  # as the caller gave it, cut at 128 bytes
        ),
        (),
        True,
    ),
    # -- from our own sources
    EventSpec(_E.PROCINFO, _C.INTERNAL, (_RES, *_PROCESS_FACTS), doc="a process that ran before us, read from /proc"),
    EventSpec(
        _E.CONTAINER,
        _C.INTERNAL,
        (_RES, Param("json", T.TEXT)),
        doc="what a container engine says of a container",
    ),
)

EVENTS: Mapping[EventType, EventSpec] = MappingProxyType({row.type: row for row in _ROWS})
"""Every event type's row."""

PARAM_NAMES: frozenset[str] = frozenset(p.name for row in _ROWS for p in row.params)
"""All parameter names: `evt.arg.NAME` is an error for any other."""

OPENS = frozenset({EventType.OPEN, EventType.OPENAT, EventType.OPENAT2, EventType.CREAT})
CLONES = frozenset({EventType.CLONE, EventType.CLONE3, EventType.FORK, EventType.VFORK})
EXECS = frozenset({EventType.EXECVE, EventType.EXECVEAT})

assert EVENTS.keys() == set(EventType), "every event type has a row"  # noqa: S101  (a table proves itself)
