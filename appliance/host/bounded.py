"""A file read up to a bound, however long it is or becomes meanwhile.

Comes in: a descriptor, or a folder's and a name in it. Goes out: its first bytes. Never: more of them than asked.
"""

from __future__ import annotations

import os


def read_up_to(fd: int, limit: int) -> bytes:
    """The bytes from where the descriptor stands, `limit` at most. Raises `OSError`."""
    parts = []
    while limit > 0 and (part := os.read(fd, min(limit, 65_536))):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


def read_below(folder: int, name: str, limit: int) -> bytes:
    """The first bytes of a file below the folder, `limit` at most. Raises `OSError`."""
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return read_up_to(fd, limit)
    finally:
        os.close(fd)
