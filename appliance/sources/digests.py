"""The SHA-256 of the files that processes run, read by threads of its own.

Comes in: a process. Goes out: the digest of its running file, or that it is being made. Never: a wait on the caller's
thread, a path trusted: what is read is the file that the kernel runs, by /proc/PID/exe, deleted or in memory only as it
may be. Where the process has ended, its path is tried, and counts only if the very file still lies there.

A file is the same as long as device, inode, size and both times are; its digest is made once and kept for it. Nobody
but the kernel sets the time of the last change of an inode. File systems whose answers come from a program or a network
are not read: they may not answer. Files that are too large are not read either.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.host.faults import Faults
from appliance.model.event import Event, Process, changed

Key = tuple[int, int, int, int, int]
"""Device, inode, size, time of the last change of the inode and of the content."""

_FILES_MAX = 4096  # digests that are kept
_WAITING_MAX = 256  # files that wait to be read
_SIZE_MAX = 512 << 20
_CHUNK = 1 << 20
_THREADS_MAX = 4
_HANGS_S = 10.0  # a thread that has read one file for so long is not waited for
_MOUNTINFO_MAX = 1 << 20

# include/uapi/linux/magic.h: what answers there is a program, or another machine.
_FOREIGN = frozenset(
    {
        0x65735546,  # fuse
        0x6969,  # nfs
        0xFF534D42, 0xFE534D42, 0x517B,  # cifs, smb
        0x00C36400,  # ceph
        0x01021997,  # 9p
        0x5346414F, 0x6B414653,  # afs
        0x73757245,  # coda
    }
)  # fmt: skip
_FOREIGN_NAMES = ("fuse", "nfs", "cifs", "smb", "ceph", "9p", "afs", "coda")


class NoDigestError(Exception):
    """There is no digest of this file; the message is the reason, one of few."""


@dataclass(frozen=True, slots=True)
class _Job:
    key: Key
    pid: int
    ppid: int | None
    path: str | None
    magic: int


def key_of(process: Process) -> Key | None:
    """What names the running file of a process, None where the kernel did not tell it."""
    told = process.exe_dev, process.exe_ino, process.exe_size, process.exe_ctime_ns, process.exe_mtime_ns
    dev, ino, size, ctime_ns, mtime_ns = told
    if dev is None or ino is None or size is None or ctime_ns is None or mtime_ns is None:
        return None
    return dev, ino, size, ctime_ns, mtime_ns


class Digests:
    """Digests by file. `complete` and `is_known` from one thread; `close` once. No thread runs before the first file.

    `size_max` is the largest file that is read, in bytes; `files_max` how many digests are kept.
    """

    def __init__(
        self,
        *,
        size_max: int = _SIZE_MAX,
        files_max: int = _FILES_MAX,
        now: Callable[[], float] = time.monotonic,
        root: Path = Path("/proc"),
        faults: Faults | None = None,
    ) -> None:
        self._faults = Faults() if faults is None else faults
        self._size_max = size_max
        self._files_max = files_max
        self._now = now
        self._root = root
        self._lock = threading.Condition()
        self._known: dict[Key, str] = {}
        self._failed: dict[Key, int] = {}  # the process of which it could not be had
        self._jobs: deque[_Job] = deque()
        self._wanted: set[Key] = set()
        self._busy: dict[threading.Thread, float] = {}  # since when each thread reads its file
        self._threads: list[threading.Thread] = []
        self._stopping = False
        self._missing: Counter[str] = Counter()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """A descriptor that is readable once a digest was made; `is_known` reads it."""
        return self._wake

    @property
    def missing(self) -> Mapping[str, int]:
        """Why digests could not be had, how often."""
        with self._lock:
            return dict(self._missing)

    def complete(self, event: Event) -> tuple[Event, Key | None]:
        """The event with the digest of its process's file; or as it is, and the key by which `is_known` is asked."""
        process = event.process
        key = key_of(process)
        if key is None or process.exe_sha256 is not None:
            return event, None
        with self._lock:
            digest = self._known.pop(key, None)
            if digest is not None:
                self._known[key] = digest  # the one not asked for longest goes first
                return event._replace(process=changed(process, exe_sha256=digest)), None
            if self._failed.get(key) == process.pid:
                return event, None
            if key not in self._wanted:
                if len(self._jobs) >= _WAITING_MAX:
                    self._missing["digest not made: too many files at once"] += 1
                    return event, None
                self._wanted.add(key)
                self._jobs.append(_Job(key, process.pid, process.ppid, process.exepath, process.exe_magic or 0))
                self._lock.notify()
            self._employ()
        return event, key

    def is_known(self, key: Key) -> bool:
        """Whether there is no use in waiting any longer."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        with self._lock:
            return key not in self._wanted

    def close(self) -> None:
        """End the threads; one that hangs in a file is left alone."""
        with self._lock:
            self._stopping = True
            self._jobs.clear()
            self._lock.notify_all()
        for thread in self._threads:
            thread.join(1.0)
        if not any(thread.is_alive() for thread in self._threads):
            os.close(self._wake)

    # -- the threads

    def _employ(self) -> None:
        """One thread, and one more for each that hangs."""
        late = self._now() - _HANGS_S
        hanging = sum(since < late for since in self._busy.values())
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._busy = {thread: since for thread, since in self._busy.items() if thread.is_alive()}
        if len(self._threads) <= hanging and len(self._threads) < _THREADS_MAX:
            thread = threading.Thread(target=self._work, name="digests", daemon=True)
            with contextlib.suppress(RuntimeError):  # cannot start a thread: the next event asks again
                thread.start()
                self._threads.append(thread)

    def _work(self) -> None:
        me = threading.current_thread()
        while True:
            with self._lock:
                while not self._jobs and not self._stopping:
                    self._lock.wait()
                if self._stopping:
                    return
                job = self._jobs.popleft()
                self._busy[me] = self._now()
            digest, reason = None, ""
            try:
                digest = self._digest(job)
            except NoDigestError as error:
                reason = str(error)
            except OSError:
                reason = "file not readable"
            except Exception:
                self._faults.caught("digests")
                reason = "internal error"
            with self._lock:
                del self._busy[me]
                self._wanted.discard(job.key)
                table: dict[Key, str] | dict[Key, int]
                if digest is not None:
                    self._known[job.key], table = digest, self._known
                else:
                    self._missing[f"digest not made: {reason}"] += 1
                    self._failed.pop(job.key, None)
                    self._failed[job.key], table = job.pid, self._failed
                if len(table) > self._files_max:
                    del table[next(iter(table))]
                if self._stopping:
                    return
                os.eventfd_write(self._wake, 1)

    def _digest(self, job: _Job) -> str:
        if job.magic in _FOREIGN or (not job.magic and self._is_foreign(job)):
            raise NoDigestError("its file system may not answer")
        if job.key[2] > self._size_max:
            raise NoDigestError(f"file larger than {self._size_max >> 20} MiB")
        for path, is_it in self._places(job):
            with contextlib.suppress(OSError):
                fd = _opened(path, job.key, is_it)
                if fd is not None:
                    try:
                        return _read(fd, job.key[2])
                    finally:
                        os.close(fd)
        raise NoDigestError("process ended, its file lies elsewhere by now")

    def _places(self, job: _Job) -> Iterator[tuple[str, Callable[[os.stat_result, Key], bool]]]:
        """Where the file may be, and how it is known: with the process; at its path as the parent sees it; at its path
        here."""
        yield f"{self._root}/{job.pid}/exe", _runs
        if job.path is not None and job.path.startswith("/"):
            if job.ppid:
                yield f"{self._root}/{job.ppid}/root{job.path}", _is
            yield job.path, _is

    def _is_foreign(self, job: _Job) -> bool:
        """Of a process that was read from /proc, the kernel did not tell the kind of its file system."""
        device = f"{os.major(job.key[0])}:{os.minor(job.key[0])}"
        try:
            with (self._root / str(job.pid) / "mountinfo").open(errors="surrogateescape") as file:
                lines = file.read(_MOUNTINFO_MAX).split("\n")
        except OSError:
            return False  # it has ended: nothing will be opened by its number
        for line in lines:
            fields, _, behind = line.partition(" - ")
            if fields.split(" ")[2:3] == [device]:
                return behind.startswith(_FOREIGN_NAMES)
        return False


def _opened(path: str, key: Key, is_it: Callable[[os.stat_result, Key], bool]) -> int | None:
    """The file at a path, if it is the one; looked at before it is opened, for devices act when they are."""
    at = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        found = os.fstat(at)
        if not stat.S_ISREG(found.st_mode) or not is_it(found, key):
            return None
        again = f"/proc/self/fd/{at}"
        try:
            return os.open(again, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOATIME)
        except PermissionError:  # O_NOATIME is for the owner and root
            return os.open(again, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    finally:
        os.close(at)


def _runs(found: os.stat_result, key: Key) -> bool:
    """Whether what the process runs is still that file: its link is gone or its time set, perhaps, but nobody can write
    to it. Overlays and btrfs tell programs other devices, and then other inodes, than the kernel has."""
    dev, ino, size, _, mtime_ns = key
    return found.st_size == size and (found.st_ino == ino if found.st_dev == dev else found.st_mtime_ns == mtime_ns)


def _is(found: os.stat_result, key: Key) -> bool:
    """Whether a file is that one, unchanged."""
    return _runs(found, key) and (found.st_ctime_ns, found.st_mtime_ns) == key[3:]


def _read(fd: int, size: int) -> str:
    made, left, before = hashlib.sha256(), size + 1, os.fstat(fd)
    while left > 0 and (part := os.read(fd, min(_CHUNK, left))):
        made.update(part)
        left -= len(part)
    after = os.fstat(fd)
    if left != 1 or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise NoDigestError("file changed while it was read")
    return made.hexdigest()
