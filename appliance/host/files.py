"""Files that others may have prepared a trap at, or that root left in the service's way.

Comes in: paths that the operator has configured. Goes out: open descriptors, files renamed. Never: a symbolic link of
another user followed. `fs.protected_symlinks` does this in sticky folders such as /tmp, where it is on; this does it
everywhere."""

from __future__ import annotations

import errno
import logging
import os
import stat
from pathlib import Path

log = logging.getLogger(__name__)

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


def put_aside(path: Path) -> bool:
    """Rename what root made in a folder that is ours and not root's: `alerts.json` becomes `alerts.json.of-0`. A run by
    hand with the configuration of the service leaves it, and it keeps the service from its own place.

    True where there was such a thing; the log tells where it is now. Raises OSError.
    """
    try:
        there, above = path.lstat(), path.parent.stat()
    except OSError:
        return False
    if there.st_uid != 0 or above.st_uid != os.geteuid() or above.st_uid == 0:
        return False
    names = (f"{path.name}.of-0{more}" for more in ("", *(f".{n}" for n in range(1, 100))))
    aside = next((place for name in names if not os.path.lexists(place := path.with_name(name))), None)
    if aside is None:
        return False
    path.rename(aside)
    log.error(
        "%s was owned by root and blocked the service; renamed to %s, please check its contents", path, aside.name
    )
    return True
