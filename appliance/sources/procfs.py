"""What ran before us, and what we missed: processes read from /proc.

Comes in: a pid. Goes out: a PROCINFO event, or None where there is no such process (any more). Never: a mix of two
processes; the start is read before and after the rest, and a process that changed in between is read as gone. Nor a
wait without end: what its files and its memory tell is asked with patience, as they may lie on a file system that never
answers; its name, ids and cgroup are the kernel's own.
Sources of the facts: proc(5).
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from appliance.catalog.events import EVENTS
from appliance.catalog.params import EXE_FLAGS
from appliance.host.bounded import read_below
from appliance.host.patience import Patience
from appliance.model.event import EventType, ParamValue, RawEvent, Usage
from appliance.sources.descriptors import Descriptors

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_ARGS_MAX = 128 * 1024  # bytes of a command line that are read
_TEXT_MAX = 64 * 1024  # bytes of any other file: each is the kernel's own and small
_ENV_MAX = 4096
_UNLIMITED = (1 << 64) - 1
_DAC_OVERRIDE = 1
_FDS_MAX = 65_536  # that are counted one by one
_AT_ONCE = 64
_T = TypeVar("_T")
_TRIES = 2  # a process may start another program while it is read


class Procfs:
    """Reads processes below `root`. `now_ns` gives CLOCK_MONOTONIC in nanoseconds. Their environments are read while
    `environments` says so."""

    def __init__(
        self,
        root: Path = Path("/proc"),
        now_ns: Callable[[], int] = time.monotonic_ns,
        *,
        environments: bool = True,
        patience: Patience | None = None,
    ) -> None:
        self.environments = environments
        self._patience = Patience() if patience is None else patience
        self._root = str(root)
        self._now_ns = now_ns
        self._descriptors = Descriptors(now_ns)

    def read_process(self, pid: int) -> RawEvent | None:
        """The process as it is now; None if there is none of that pid, or it ended while it was read.

        Kernel threads are processes here: they have no exe and no arguments.
        """
        return self._process(pid, self._patience)

    def _process(self, pid: int, patience: Patience | None) -> RawEvent | None:
        for _ in range(_TRIES):
            try:
                folder = self._open(pid)
            except OSError:
                return None
            try:  # the descriptor names the process for good: a pid used again is not seen through it
                return self._read(pid, folder, patience)
            except _ChangedError:
                continue
            except (OSError, ValueError, IndexError, KeyError):
                return None
            finally:
                os.close(folder)
        return None

    def _open(self, pid: int) -> int:
        return os.open(f"{self._root}/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def usage(self, pid: int, start_ns: int) -> Usage | None:
        """The threads and descriptors that the process of this start has now; None where it has ended."""

        def count(folder: int, line: _Stat) -> Usage:
            others = line.threads - 1  # a first thread that has ended is counted for as long as there are others
            return Usage(others + (line.state not in "ZX"), others, _open_fds(folder))

        return self._ask(pid, start_ns, count)

    def parent(self, pid: int, start_ns: int) -> int | None:
        """The number of the parent that the process of this start has now; None where it has ended."""
        return self._ask(pid, start_ns, lambda _, line: None if line.state in "ZX" else line.ppid)

    def _ask(self, pid: int, start_ns: int, question: Callable[[int, _Stat], _T | None]) -> _T | None:
        """The answer of the process of this start, from its folder and its line of stat; None where it has ended."""
        try:
            folder = self._open(pid)
        except OSError:
            return None
        try:
            line = _stat_line(_read(folder, "stat"))
            return question(folder, line) if line.start_ticks == start_ns // _TICK_NS else None
        except (OSError, ValueError, IndexError):
            return None
        finally:
            os.close(folder)

    def scan(self) -> Iterator[RawEvent]:
        """All processes, oldest pid first."""
        pids = sorted(int(name) for name in os.listdir(self._root) if name.isascii() and name.isdigit())  # noqa: PTH208
        at = 0
        while at < len(pids):
            some = pids[at : at + _AT_ONCE]  # by one question: each costs two switches of threads
            told: list[RawEvent | None] = []
            self._patience.ask(partial(self._read_some, some, told), None, f"one of the processes from {some[0]} on")
            found = list(told)
            if len(found) < len(some):  # the next one keeps us waiting: alone it says what it can
                found.append(self.read_process(some[len(found)]))
            at += len(found)
            yield from (process for process in found if process is not None)

    def _read_some(self, pids: Sequence[int], told: list[RawEvent | None]) -> None:
        for pid in pids:
            told.append(self._process(pid, None))

    def _read(self, pid: int, folder: int, patience: Patience | None) -> RawEvent:
        before = _stat_line(_read(folder, "stat"))
        status = _status(_read(folder, "status"))
        link, cwd = _link(folder, "exe"), _link(folder, "cwd")
        unified, pids = _cgroups(_read(folder, "cgroup"))
        loginuid = _loginuid(folder)
        uids, gids = ([_id(v) for v in status[key].split()] for key in ("Uid", "Gid"))
        lent = _Lent(folder, link)
        rights = uids[1], gids[1], int(status["CapEff"], 16)
        if patience is None:
            self._read_lent(lent, *rights)
        else:
            patience.ask(lambda: self._read_lent(lent, *rights), None, f"process {pid}")
        after = _stat_line(_read(folder, "stat"))
        if before.comm != after.comm or before.start_ticks != after.start_ticks or link != _link(folder, "exe"):
            raise _ChangedError
        # the last of NSpid is the pid in the innermost namespace
        vpid = int(status["NSpid"].split()[-1]) if "NSpid" in status else pid
        cmdline, exe = lent.cmdline, lent.exe
        args = _arguments(cmdline[:_ARGS_MAX])
        values: dict[str, ParamValue] = {
            "args": args,
            "ptid": after.ppid,
            "cwd": cwd,
            "comm": after.comm,
            "cgroups": unified,
            "cgroups_v1": pids,
            "tty": after.tty,
            "sid": after.sid,
            "pgid": after.pgid,
            "vpid": vpid,
            "loginuid": loginuid,
            "new_uid": uids[0],
            "new_gid": gids[0],
            "new_suid": uids[2],
            "new_sgid": gids[2],
            "new_euid": uids[1],
            "new_egid": gids[1],
            "cap_inheritable": int(status["CapInh"], 16),
            "cap_permitted": int(status["CapPrm"], 16),
            "cap_effective": int(status["CapEff"], 16),
            "trusted_exepath": exe,
            "filename": exe,
            "stdio": lent.stdio,
            "fdlimit": _fdlimit(folder),
            "pgft_maj": after.pfmajor,
            "pgft_min": after.pfminor,
            "vm_size": after.vmsize_bytes // 1024,
            "vm_rss": _kib(status, "VmRSS"),
            "vm_swap": _kib(status, "VmSwap"),
            "env": lent.env,
            "vpgid": int(status["NSpgid"].split()[-1]) if "NSpgid" in status else after.pgid,
            **lent.exe_facts,
            "pidns_init_start_ts": 0,
            "args_size": max(len(cmdline), sum(len(os.fsencode(a)) + 1 for a in args)),
        }
        params = tuple(values[name] for name in EVENTS[EventType.PROCINFO].index)
        return RawEvent(
            EventType.PROCINFO, self._now_ns(), 0, pid, pid, after.start_ticks * _TICK_NS, uids[0], gids[0], 0, params
        )

    def _read_lent(self, lent: _Lent, euid: int, egid: int, rights: int) -> None:
        """What may lie on a file system that never answers; the likeliest last."""
        if lent.exe is not None:
            lent.exe = _exe(lent.folder, lent.exe)
            lent.exe_facts = _exe_facts(lent.folder, lent.exe, euid, egid, rights)
        lent.cmdline = _read(lent.folder, "cmdline", _ARGS_MAX + 1)
        lent.env = _environment(lent.folder) if self.environments else None
        lent.stdio = self._descriptors.standard(lent.folder)


class _Lent:
    """Facts of a process that somebody else may keep from us: each is there once it has been read. `folder` is a
    descriptor of its own, closed when nobody holds this any more."""

    __slots__ = ("cmdline", "env", "exe", "exe_facts", "folder", "stdio")

    def __init__(self, folder: int, exe: str | None) -> None:
        self.folder = -1
        self.folder = os.dup(folder)
        self.exe = exe
        self.exe_facts = _NO_EXE
        self.cmdline = b""
        self.env: tuple[str, ...] | None = None
        self.stdio: tuple[str, ...] = ()

    def __del__(self) -> None:
        if self.folder >= 0:
            os.close(self.folder)


class _ChangedError(Exception):
    """The process started another program while it was read."""


class _Stat:
    """The fields of /proc/PID/stat that we use."""

    __slots__ = (
        "comm", "pfmajor", "pfminor", "pgid", "ppid", "sid", "start_ticks", "state", "threads", "tty", "vmsize_bytes",
    )  # fmt: skip

    def __init__(self, comm: str, rest: list[bytes]) -> None:
        """`rest` begins with field 3, the state."""
        self.comm = comm
        self.state, self.threads = os.fsdecode(rest[0]), int(rest[17])
        self.ppid, self.pgid, self.sid = int(rest[1]), int(rest[2]), int(rest[3])
        self.tty = int(rest[4]) & 0xFFFFFFFF
        self.pfminor, self.pfmajor = int(rest[7]), int(rest[9])
        self.start_ticks, self.vmsize_bytes = int(rest[19]), int(rest[20])


def _stat_line(data: bytes) -> _Stat:
    """The name may hold blanks, brackets and line ends: it lies between the first `(` and the last `)`."""
    left, right = data.index(b"("), data.rindex(b")")
    return _Stat(os.fsdecode(data[left + 1 : right]), data[right + 1 :].split())


def _open_fds(folder: int) -> int:
    """How many descriptors are open: Linux 6.2 tells it as the folder's size, before that they are counted."""
    found = os.stat("fd", dir_fd=folder).st_size
    if found:
        return found
    fd = os.open("fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        with os.scandir(fd) as entries:
            return sum(1 for _ in islice(entries, _FDS_MAX))
    finally:
        os.close(fd)


def _fdlimit(folder: int) -> int:
    """The soft limit of descriptors, 0 where it cannot be read."""
    for line in _read(folder, "limits").split(b"\n"):
        if line.startswith(b"Max open files"):
            soft = line.split()[3]
            return int(soft) if soft.isdigit() else _UNLIMITED
    return 0


def _environment(folder: int) -> tuple[str, ...]:
    """As the program was given it, cut where the kernel part cuts it; empty where it may not be read."""
    try:
        return _arguments(_read(folder, "environ", _ENV_MAX))
    except OSError:
        return ()


_NO_EXE: dict[str, ParamValue] = dict.fromkeys(
    ("flags", "exe_ino", "exe_ino_ctime", "exe_ino_mtime", "exe_dev", "exe_size", "exe_magic"), 0
)


def _exe_facts(folder: int, exe: str, euid: int, egid: int, rights: int) -> dict[str, ParamValue]:
    """Inode, times and flags of the running file. On an overlay, which layer it lies in is not told here."""
    try:
        found, below = os.stat("exe", dir_fd=folder), _statvfs(folder)
    except OSError:
        return _NO_EXE
    shift = 6 if found.st_uid == euid else 3 if found.st_gid == egid else 0
    writable = rights >> _DAC_OVERRIDE & 1 or found.st_mode >> shift & 2
    flags = EXE_FLAGS["EXE_WRITABLE"] if writable and not below & os.ST_RDONLY else 0
    if exe.startswith("/memfd:") and found.st_nlink == 0:
        flags |= EXE_FLAGS["EXE_FROM_MEMFD"]
    return {
        "flags": flags,
        "exe_ino": found.st_ino,
        "exe_ino_ctime": found.st_ctime_ns,
        "exe_ino_mtime": found.st_mtime_ns,
        "exe_dev": found.st_dev & 0xFFFFFFFF,
        "exe_size": found.st_size,
        "exe_magic": 0,  # not told by fstatvfs(3)
    }


def _statvfs(folder: int) -> int:
    """Mount flags of what the running file lies on; opened by path only, so that nothing is done to it."""
    fd = os.open("exe", os.O_PATH | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.fstatvfs(fd).f_flag
    finally:
        os.close(fd)


def _status(data: bytes) -> dict[str, str]:
    """The kernel escapes the name's line ends here; each other line is its own."""
    lines = (line.partition(b":") for line in data.split(b"\n"))
    return {os.fsdecode(key): os.fsdecode(value.strip()) for key, _, value in lines}


def _kib(status: dict[str, str], name: str) -> int:
    """A line such as `VmRSS:    1234 kB`; 0 for a process without memory of its own."""
    return int(status.get(name, "0 kB").split()[0])


def _arguments(data: bytes) -> tuple[str, ...]:
    text = os.fsdecode(data)
    return tuple(text.removesuffix("\0").split("\0")) if text else ()


def _id(text: str) -> int:
    number = int(text)
    return -1 if number == 0xFFFFFFFF else number


def _read(folder: int, name: str, limit: int = _TEXT_MAX) -> bytes:
    return read_below(folder, name, limit)


def _link(folder: int, name: str) -> str | None:
    """Where a link of /proc leads; None for kernel threads and where it is refused."""
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError:
        return None


def _exe(folder: int, path: str) -> str:
    """The running file. The kernel marks a deleted one by ` (deleted)`, which a file's name may end in as well."""
    if not path.endswith(" (deleted)"):
        return path
    try:
        found = os.stat("exe", dir_fd=folder)
    except OSError:
        return path
    return path.removesuffix(" (deleted)") if stat.S_ISREG(found.st_mode) and found.st_nlink == 0 else path


def _cgroups(data: bytes) -> tuple[str, str]:
    """The paths in the unified hierarchy and in version 1 of pids (else memory), "" where there is none."""
    unified, found = "", dict[str, str]()
    for line in os.fsdecode(data).split("\n"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            unified = path
        else:
            found.update((controller, path) for controller in controllers.split(","))
    return unified, found.get("pids") or found.get("memory", "")


def _loginuid(folder: int) -> int:
    try:
        return _id(os.fsdecode(_read(folder, "loginuid")))
    except (OSError, ValueError):  # a kernel without audit
        return -1
