"""Files that others may have prepared a trap at.

Comes in: paths that the operator has configured. Goes out: open descriptors. Never: a symbolic link of another user
followed. `fs.protected_symlinks` does this in sticky folders such as /tmp, where it is on; this does it everywhere.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_LINKS_MAX = 8


def open_own(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open a file, following a symbolic link at its end only where root or our own user made the link.

    Raises OSError, with ELOOP for a link of somebody else.
    """
    for _ in range(_LINKS_MAX):
        try:
            return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
        path = path.parent / _target(path)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))


def _target(link: Path) -> str:
    """Where a link points; the link that was judged, whatever stands under its name by now."""
    fd = os.open(link, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISLNK(found.st_mode):  # replaced meanwhile: the next look finds what it is
            return link.name
        if found.st_uid not in (0, os.geteuid()):
            raise OSError(errno.ELOOP, f"a symbolic link of user {found.st_uid}, not followed", os.fspath(link))
        return os.readlink("", dir_fd=fd)
    finally:
        os.close(fd)
