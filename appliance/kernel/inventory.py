"""What is ours in the kernel, and whether it is still as we left it.

Comes in: descriptors, and what was written to tables. Goes out: differences, as sentences. Never: a guess; a difference
is reported when the same question to the kernel has another answer than before.

Whoever has root and CAP_BPF can open our maps by their id and write to them (bpf(2), BPF_MAP_GET_FD_BY_ID), or reach
into this process and close what holds a hook. Tables that never change after the start are frozen against that; the
others are compared with what we wrote.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from pathlib import Path

from appliance.kernel import bpfcall

_ID = ("prog_id", "map_id", "link_id")


class Inventory:
    """Tables and descriptors. Any thread; a table is never compared while one of its cells is being written."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._tables: dict[str, tuple[int, dict[int, bytes | None]]] = {}
        self._descriptors: dict[str, tuple[int, dict[str, int]]] = {}

    def hold(self, name: str, fd: int) -> None:
        """Remember a descriptor and what it stands for in the kernel; under a name that people understand."""
        with self._lock:
            self._descriptors[name] = fd, identity(fd)

    def release(self, name: str) -> None:
        """Forget a descriptor that is given back on purpose."""
        with self._lock:
            self._descriptors.pop(name, None)

    def clear(self) -> None:
        """Forget everything: it is given back."""
        with self._lock:
            self._descriptors.clear()
            self._tables.clear()

    def write(self, name: str, map_fd: int, key: int, value: bytes, *, reads_as: bytes | None = None) -> None:
        """Write a cell of a table and remember it. `reads_as`: what the kernel gives back, where that is another thing:
        a table of programs takes a descriptor and gives an id. Raises OSError."""
        with self._lock:
            bpfcall.update(map_fd, key, value)
            self._tables.setdefault(name, (map_fd, {}))[1][key] = value if reads_as is None else reads_as

    def delete(self, name: str, map_fd: int, key: int) -> None:
        """Empty a cell of a table, and remember that. Raises OSError."""
        with self._lock:
            bpfcall.delete(map_fd, key)
            self._tables.setdefault(name, (map_fd, {}))[1][key] = None

    def differences(self) -> Iterator[str]:
        """What is not as we left it."""
        for name, (fd, was) in list(self._descriptors.items()):
            if (now := identity(fd)) != was:
                yield f"{name} is gone" if not now else f"{name} is another one"
        for name, (map_fd, cells) in list(self._tables.items()):
            with self._lock:
                wrong = sorted(key for key, value in cells.items() if bpfcall.cell(map_fd, key, _size(value)) != value)
            if wrong:
                shown = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
                yield f"{len(wrong)} {'cell' if len(wrong) == 1 else 'cells'} of the table `{name}` ({shown})"


def _size(value: bytes | None) -> int:
    return 4 if value is None else len(value)


def identity(fd: int) -> dict[str, int]:
    """The kernel's ids of a descriptor's program, map or link; empty where it is none of these."""
    return {name: number for name, number in fdinfo(fd).items() if name in _ID}


def fdinfo(fd: int) -> dict[str, int]:
    """The numbers in /proc/self/fdinfo of a descriptor; of programs also what they cost, from kernel 5.1."""
    try:
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines)
    return {pair[0].rstrip(":"): int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def id_cell(fd: int) -> bytes:
    """What a table of programs or maps gives back where this descriptor was put (`map_fd_sys_lookup_elem`)."""
    ids = identity(fd)
    return struct.pack("=I", ids.get("prog_id", ids.get("map_id", 0)))
