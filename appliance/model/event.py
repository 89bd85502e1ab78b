"""What happened: raw as the kernel tells it, and with all that we know about it.

`RawEvent`, `Event` and `Fd` are made hundreds of thousands of times a second, so they are named tuples (three times
cheaper to make than a frozen dataclass, and as unchangeable). The others are frozen dataclasses.

Text from the host is `str` with undecodable bytes as surrogates (`os.fsdecode`). An absent fact is None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class EventType(StrEnum):
    """Every event type, under Falco's name. A member is a `str`: `evt.type` is the member itself."""

    # process
    EXECVE = "execve"
    EXECVEAT = "execveat"
    CLONE = "clone"
    CLONE3 = "clone3"
    FORK = "fork"
    VFORK = "vfork"
    PROCEXIT = "procexit"
    CHDIR = "chdir"
    FCHDIR = "fchdir"
    PTRACE = "ptrace"
    # identity
    SETUID = "setuid"
    SETGID = "setgid"
    SETREUID = "setreuid"
    SETREGID = "setregid"
    SETRESUID = "setresuid"
    SETRESGID = "setresgid"
    SETFSUID = "setfsuid"
    SETFSGID = "setfsgid"
    # files
    OPEN = "open"
    OPENAT = "openat"
    OPENAT2 = "openat2"
    CREAT = "creat"
    CHMOD = "chmod"
    FCHMOD = "fchmod"
    FCHMODAT = "fchmodat"
    FCHMODAT2 = "fchmodat2"
    CHOWN = "chown"
    LCHOWN = "lchown"
    FCHOWN = "fchown"
    FCHOWNAT = "fchownat"
    UNLINK = "unlink"
    UNLINKAT = "unlinkat"
    RMDIR = "rmdir"
    RENAME = "rename"
    RENAMEAT = "renameat"
    RENAMEAT2 = "renameat2"
    MKDIR = "mkdir"
    MKDIRAT = "mkdirat"
    SYMLINK = "symlink"
    SYMLINKAT = "symlinkat"
    LINK = "link"
    LINKAT = "linkat"
    DUP = "dup"
    DUP2 = "dup2"
    DUP3 = "dup3"
    MOUNT = "mount"
    # network
    SOCKET = "socket"
    CONNECT = "connect"
    # told by our own sources, not by the kernel
    PROCINFO = "procinfo"  # a process that ran before us, or that we had missed
    CONTAINER = "container"  # what a container engine says of a container


ParamValue = int | str | bytes | tuple[str, ...] | None


class RawEvent(NamedTuple):
    """One record, decoded and nothing else.

    `ts_ns`: CLOCK_MONOTONIC of the hook, nanoseconds (`bpf_ktime_get_ns`). `start_ns`: start of the process (the
    thread group's leader), nanoseconds since boot (`task_struct.start_boottime`); with `pid` it names a process for
    good, pid reuse or not. `pid` is the thread group, `tid` the thread, both in the host's pid namespace. `uid`, `gid`
    are the real ids in the host's user namespace. `res` is the system call's result: negative errno, descriptor, pid.
    `params` are the stored parameters of the type's row in `catalog.events`, in table order, without the first (the
    result).
    """

    type: EventType
    ts_ns: int
    cpu: int
    pid: int
    tid: int
    start_ns: int
    uid: int
    gid: int
    res: int
    params: tuple[ParamValue, ...]


class Fd(NamedTuple):
    """The descriptor an event is about. `NO_FD` stands where there is none.

    `type` is Falco's word (`file`, `directory`, `ipv4`, `ipv6`, `unix`, `pipe`, `event`, ...), `typechar` its letter.
    `name` is the absolute path, or the tuple `1.2.3.4:5->6.7.8.9:80` of a socket; `nameraw` the path as the caller
    gave it. Addresses are canonical text; `cip`/`cport` the client's side, `sip`/`sport` the server's, `lip`/`rip`
    local and remote. `is_server` is true where the server's address is one of this machine's own. `ino` and `dev` are
    the inode's number and its device as stat(2) tells it, `flags` those of `catalog.params.FD_FLAGS`. `name_changed`:
    this event gave the descriptor another name.
    """

    num: int | None = None
    type: str | None = None
    typechar: str | None = None
    name: str | None = None
    nameraw: str | None = None
    l4proto: str | None = None
    cip: str | None = None
    cport: int | None = None
    sip: str | None = None
    sport: int | None = None
    lip: str | None = None
    lport: int | None = None
    rip: str | None = None
    rport: int | None = None
    is_server: bool | None = None
    ino: int | None = None
    dev: int | None = None
    flags: int = 0
    connected: bool = False
    name_changed: bool = False

    @property
    def directory(self) -> str | None:
        """The folder of a file's name, without a slash at its end (`/` for the root's entries)."""
        if self.name is None or self.typechar not in ("f", "d"):
            return None
        return self.name.rpartition("/")[0] or "/"

    @property
    def filename(self) -> str | None:
        """The last component of a file's name."""
        if self.name is None or self.typechar not in ("f", "d"):
            return None
        return self.name.rpartition("/")[2]


NO_FD = Fd()


@dataclass(frozen=True, slots=True)
class Account:
    """A user or a group by number, with what a passwd or group file says of it. None: the file has no such entry."""

    id: int
    name: str | None = None
    homedir: str | None = None
    shell: str | None = None


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount of a container, as its engine tells it."""

    source: str
    dest: str
    mode: str
    rdwr: bool
    propagation: str


@dataclass(frozen=True, slots=True)
class Container:
    """A container, or the host (`HOST`).

    `id` is the first 12 characters of the engine's id (`host` on the host), `full_id` all of them. What only the engine
    can tell is None until it has told it; `missing` then says why (`waiting for docker`, `no such container`).
    """

    id: str
    full_id: str
    runtime: str | None = None
    name: str | None = None
    image: str | None = None
    image_id: str | None = None
    image_repository: str | None = None
    image_tag: str | None = None
    image_digest: str | None = None
    privileged: bool | None = None
    mounts: tuple[Mount, ...] = ()
    missing: str | None = None

    @property
    def is_host(self) -> bool:
        """True for the host itself."""
        return self.id == "host"


# Falco gives the host a name and empty, not absent, image facts (recorded from the real engine).
HOST = Container(
    id="host", full_id="host", runtime="host", name="host", image="", image_id="", image_repository="", image_tag="",
    image_digest="", privileged=False,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Process:
    """A process as it was when an event happened. `NO_PROCESS` stands where we know nothing.

    `name` is the kernel's comm (15 bytes at most). `exe` is the first argument, `args` the others. `exepath` is the
    file that the kernel runs, `cwd` ends in `/`. `tty` is the device number of the controlling terminal, 0 for none.
    `start_ns` is since boot, as in `RawEvent`; `loginuid` is -1 when nobody logged in. Capabilities are bit sets.
    `stdio` are type and name of descriptor 0, then of 1 and of 2, in the words of `Fd`; empty where they are not known.
    """

    pid: int = -1
    ppid: int | None = None
    vpid: int | None = None
    start_ns: int = 0
    name: str | None = None
    exe: str | None = None
    exepath: str | None = None
    args: tuple[str, ...] = ()
    args_truncated: bool = False
    cwd: str | None = None
    tty: int | None = None
    sid: int | None = None
    pgid: int | None = None
    loginuid: int | None = None
    uid: int | None = None
    gid: int | None = None
    euid: int | None = None
    egid: int | None = None
    suid: int | None = None
    sgid: int | None = None
    cap_effective: int | None = None
    cap_permitted: int | None = None
    cap_inheritable: int | None = None
    container_id: str = "host"
    stdio: tuple[str | None, ...] = ()
    user: Account | None = None
    login: Account | None = None
    group: Account | None = None

    @property
    def cmdline(self) -> str | None:
        """Name and arguments, as Falco writes a command line: the name, not the first argument, stands first."""
        if self.name is None:
            return None
        return " ".join((self.name, *self.args))

    @property
    def exeline(self) -> str | None:
        """The first argument as it was given, and the others."""
        if self.exe is None:
            return None
        return " ".join((self.exe, *self.args))


NO_PROCESS = Process()

Ancestor = Callable[[Process, int], Process]
"""`ancestor(process, n)`: the n-th ancestor (0 is the process itself), or `NO_PROCESS`."""


def no_ancestor(process: Process, n: int) -> Process:
    """The `Ancestor` of an event that stands alone."""
    return process if n == 0 else NO_PROCESS


class Event(NamedTuple):
    """One event with all that we know about it: what predicates judge and messages print.

    `num` counts events since start, from 1. `ts_ns` is the wall clock, nanoseconds since the epoch. `params` are as in
    `RawEvent`. `path` is the absolute path of the file the event is about, `source_path` and `target_path` those of a
    call with two, each lexically normalised, None where there is none; the `raw` twins are as the caller gave them.
    `lineage` finds ancestors as they were at this event, see `ancestor`.
    """

    type: EventType
    num: int
    ts_ns: int
    cpu: int
    tid: int
    res: int
    params: tuple[ParamValue, ...]
    process: Process = NO_PROCESS
    container: Container = HOST
    fd: Fd = NO_FD
    path: str | None = None
    path_raw: str | None = None
    source_path: str | None = None
    source_path_raw: str | None = None
    target_path: str | None = None
    target_path_raw: str | None = None
    lineage: Ancestor = no_ancestor

    def ancestor(self, n: int) -> Process:
        """The n-th ancestor: 0 is the process itself, 1 its parent; `NO_PROCESS` where there is none."""
        return self.lineage(self.process, n)
