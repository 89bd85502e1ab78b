"""Names of users and groups: the host's, and each container's own.

Comes in: a number, the container, a process in it. Goes out: an `Account`. Never: a question to the network. The
system's own look-up (getpwuid) may ask LDAP or another daemon: it can block, and what it does would come back to us as
events. So we read /etc/passwd and /etc/group, and nothing else; who is known only to a directory service has a number.

A container's files are written by whoever attacks the host: they are opened component by component without following
links, must be regular files, and are read up to a limit, by a thread that is not waited for without end.
"""

from __future__ import annotations

import os
import stat
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from appliance.host.bounded import read_up_to
from appliance.host.patience import Patience
from appliance.model.event import Account, Container

_SIZE_MAX = 1024 * 1024
_LOOK_NS = 1_000_000_000  # the host's files are looked at again at most this often
_AGAIN_NS = 60 * _LOOK_NS  # a container's files, too; sooner if they could not be read
_CONTAINERS_MAX = 512


class _File(NamedTuple):
    """One passwd or group file: what it said, and the stamp it had."""

    accounts: dict[int, Account]
    stamp: tuple[int, int, int] | None  # mtime_ns, size, inode; None where it could not be read
    looked_ns: int


_NEVER = _File({}, None, -(1 << 62))


class HostAccounts:
    """Names of the host (below `root`) and of containers (through `proc`/PID/root). `now_ns`: CLOCK_MONOTONIC."""

    def __init__(
        self,
        root: Path = Path("/"),
        proc: Path = Path("/proc"),
        now_ns: Callable[[], int] = time.monotonic_ns,
        patience: Patience | None = None,
    ) -> None:
        self._root = root
        self._proc = proc
        self._now_ns = now_ns
        self._patience = Patience() if patience is None else patience
        self._host: dict[str, _File] = {"passwd": _NEVER, "group": _NEVER}
        self._contained: OrderedDict[tuple[str, str], _File] = OrderedDict()

    def user(self, uid: int, container: Container, pid: int) -> Account:
        """The user of that number; one without a name where the passwd file has none."""
        return self._lookup("passwd", uid, container, pid)

    def group(self, gid: int, container: Container, pid: int) -> Account:
        """The group of that number; one without a name where the group file has none."""
        return self._lookup("group", gid, container, pid)

    def _lookup(self, file: str, number: int, container: Container, pid: int) -> Account:
        now = self._now_ns()
        if container.is_host:
            known = self._host[file]
            if now - known.looked_ns >= _LOOK_NS:
                known = self._host[file] = _refreshed(known, self._root, file, now)
        else:
            key = (container.full_id, file)
            known = self._contained.get(key, _NEVER)
            if now - known.looked_ns >= (_LOOK_NS if known.stamp is None else _AGAIN_NS):
                before, root = known, self._proc / str(pid) / "root"
                known = self._patience.ask(
                    lambda: _refreshed(before, root, file, now),
                    before._replace(looked_ns=now),
                    f"container {container.id}, its {file} file",
                )
                self._contained[key] = known
                if len(self._contained) > _CONTAINERS_MAX:
                    self._contained.popitem(last=False)
        return known.accounts.get(number) or Account(number)


def _refreshed(known: _File, root: Path, file: str, now: int) -> _File:
    """The file anew if it has changed; what was known stays where it cannot be read now."""
    try:
        fd = _open_inside(root, ("etc", file))
    except OSError:
        return known._replace(looked_ns=now)
    try:
        found = os.fstat(fd)
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _SIZE_MAX:
            return known._replace(looked_ns=now)
        if stamp == known.stamp:
            return known._replace(looked_ns=now)
        return _File(_parse(read_up_to(fd, _SIZE_MAX), file), stamp, now)
    except OSError:
        return known._replace(looked_ns=now)
    finally:
        os.close(fd)


def _open_inside(root: Path, parts: tuple[str, ...]) -> int:
    """Open a file below a folder, following no link; never waits for a pipe's other end."""
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # /proc/PID/root itself is a link of the kernel's
    for part in parts[:-1]:
        try:
            inner = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        finally:
            os.close(folder)
        folder = inner
    try:
        # a look first: opening a device can do things
        if not stat.S_ISREG(os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode):
            raise FileNotFoundError(parts[-1])
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return os.open(parts[-1], flags, dir_fd=folder)
    finally:
        os.close(folder)


def _parse(data: bytes, file: str) -> dict[int, Account]:
    """Lines of passwd(5) or group(5); the first entry of a number counts, others and broken lines are skipped."""
    accounts: dict[int, Account] = {}
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        fields = line.split(":")
        if len(fields) < (7 if file == "passwd" else 4) or not (fields[2].isascii() and fields[2].isdigit()):
            continue
        number = int(fields[2][:10])
        if file == "passwd":
            accounts.setdefault(number, Account(number, fields[0], fields[5], fields[6]))
        else:
            accounts.setdefault(number, Account(number, fields[0]))
    return accounts
