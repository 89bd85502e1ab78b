"""The file-system calls of the spool, below one folder that is ours alone.

Comes in: names, bytes. Goes out: the kernel's answers, `OSError` where it refuses. Never: a symbolic link followed, a
file that others may read, or two processes in one folder.

A seam: tests put a disk here whose n-th call fails, tears or kills.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path

from appliance.host.files import put_aside
from appliance.model.diagnostic import ConfigError, Diagnostic

_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK


def refuse_unsafe(folder: Path) -> None:
    """Raise `ConfigError` for a folder in which others could lay traps; one that is not there yet is fine.

    What root left of a run by hand is put aside, with the alerts that wait in it.
    """
    _put_roots_aside(folder)
    for place in (folder.parent, folder):
        try:
            info = place.lstat()
        except OSError:
            continue
        if stat.S_ISLNK(info.st_mode):
            raise _unsafe(f"`{place}` is a symbolic link", "name the folder itself in `spool.path`")
        if not stat.S_ISDIR(info.st_mode):
            raise _unsafe(f"`{place}` is not a folder", "name another one in `spool.path`")
        if info.st_uid not in (os.geteuid(), 0) or (place == folder and info.st_uid != os.geteuid()):
            hint = (
                f"chown it to user {os.geteuid()}" if os.geteuid() else "run as that user, or name another `spool.path`"
            )
            raise _unsafe(f"`{place}` belongs to user {info.st_uid}", hint)
        if info.st_mode & stat.S_IWOTH and not info.st_mode & stat.S_ISVTX:
            raise _unsafe(f"everybody may write to `{place}`", "chmod 0700 it")
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if not entry.is_file(follow_symlinks=False):
            raise _unsafe(f"`{entry.path}` is not a regular file", "look who put it there, then remove it")


def _put_roots_aside(folder: Path) -> None:
    with contextlib.suppress(OSError):
        if folder.lstat().st_uid == os.geteuid():
            return
    with contextlib.suppress(OSError):
        if not put_aside(folder.parent):
            put_aside(folder)


def _unsafe(message: str, hint: str) -> ConfigError:
    return ConfigError([Diagnostic("spool-unsafe", message, hint=hint)])


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Disk:
    """One folder, locked while this is open. Every method is one system call, or a few that belong together."""

    def __init__(self, folder: Path) -> None:
        """Make the folder where it is missing (0700), and lock it: raises BlockingIOError where another has it."""
        self.folder = folder
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not folder.exists():
            folder.mkdir(mode=0o700)
            _sync_folder(folder.parent)
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(self._fd).st_mode & 0o077:
                os.fchmod(self._fd, 0o700)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise

    def leave(self) -> None:
        """Unlock the folder and let it go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def names(self) -> list[str]:
        """What lies in the folder, by name."""
        return sorted(os.listdir(self._fd))  # noqa: PTH208  (of a descriptor)

    def create(self, name: str) -> int:
        """A new file for its owner only; FileExistsError where the name is taken."""
        return os.open(name, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._fd)

    def open(self, name: str, *, write: bool = True) -> int:
        """An existing file. Raises OSError with ELOOP for a link and EINVAL for what is no regular file."""
        flags = _FLAGS if write else _FLAGS & ~os.O_RDWR | os.O_RDONLY
        fd = os.open(name, flags, dir_fd=self._fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file")
        return fd

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """At most `size` bytes from `offset`."""
        return os.pread(fd, size, offset)

    def write(self, fd: int, data: bytes, offset: int) -> int:
        """Write at `offset`; how many bytes were."""
        return os.pwrite(fd, data, offset)

    def size(self, fd: int) -> int:
        """The size of a file in bytes."""
        return os.fstat(fd).st_size

    def truncate(self, fd: int, size: int) -> None:
        """Cut a file."""
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        """Return when the data of a file is on the disk."""
        os.fdatasync(fd)

    def sync_folder(self) -> None:
        """Return when names that were made and removed are on the disk."""
        os.fsync(self._fd)

    def close(self, fd: int) -> None:
        """Close a file."""
        os.close(fd)

    def unlink(self, name: str) -> None:
        """Remove a file."""
        os.unlink(name, dir_fd=self._fd)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, in place of what has it."""
        os.rename(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def free_bytes(self) -> int:
        """What others may still write to this file system."""
        info = os.fstatvfs(self._fd)
        return info.f_bavail * info.f_frsize
