"""Open descriptors of processes that ran before us, read from /proc in the words of the kernel's records.

Comes in: a process's folder of /proc, as a descriptor. Goes out: texts of `ParamType.FDS`. Never: an open of the file
behind a descriptor; links are read and inodes looked at, nothing else (proc(5)).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from appliance.host.bounded import read_below

_AGAIN_NS = 1_000_000_000  # a network namespace's tables are read again after this long
_NAMESPACES_MAX = 64
_TABLE_MAX = 4 * 1024 * 1024  # bytes of one table that are read

_PSEUDO, _CLIENT, _SERVER = 4, 8, 16  # catalog.params, FD_FLAGS
_ANON_INODE_FS, _PID_FS = 0x09041934, 0x50494446  # include/uapi/linux/magic.h
_LISTEN, _CLOSE = 10, 7  # tcp_states.h
_NOBODY = "00" * 16
_NONE = (f"0 0 0 0 0 0 0 0 0 0 0 {_NOBODY} {_NOBODY}", "", "")

# Table of /proc/PID/net -> family, type, protocol.
_TABLES = {
    "tcp": (2, 1, 6), "tcp6": (10, 1, 6), "udp": (2, 2, 17), "udp6": (10, 2, 17), "raw": (2, 3, 255),
    "raw6": (10, 3, 255), "icmp": (2, 2, 1), "icmp6": (10, 2, 58),
}  # fmt: skip

_Sockets = dict[int, tuple[str, str]]  # inode -> numbers from the flags on, path


class Descriptors:
    """Reads descriptors. The tables of sockets are kept for a second: many processes share them."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._tables: dict[str, tuple[int, _Sockets]] = {}

    def standard(self, folder: int) -> tuple[str, ...]:
        """Descriptors 0, 1 and 2 of a process, zeros for those that are not open."""
        return tuple(text for num in range(3) for text in (f"{num} 0 0", *self.one(folder, num)))

    def one(self, folder: int, num: int) -> tuple[str, str, str]:
        """One descriptor: numbers and addresses, path, abstract name. Zeros where it cannot be read."""
        try:
            link = os.readlink(f"fd/{num}", dir_fd=folder)
            found = os.stat(f"fd/{num}", dir_fd=folder)
        except OSError:
            return _NONE
        flags = magic = 0
        path = link
        if stat.S_ISSOCK(found.st_mode):
            rest, path = self._sockets(folder).get(found.st_ino, (f"0 0 0 0 0 0 0 {_NOBODY} {_NOBODY}", ""))
            name = ""
            if path.startswith("@"):
                path, name = "", (b"\1\0\0" + os.fsencode(path[1:]).replace(b"@", b"\0")).hex()
            return f"{found.st_mode} {found.st_ino} {found.st_dev & 0xFFFFFFFF} 0 {rest}", path, name
        if not link.startswith("/"):  # `pipe:[1]`, `anon_inode:[eventfd]`: in no folder
            flags, path = _PSEUDO, f"/{link}"
            magic = _PID_FS if link.startswith(("pidfd:", "anon_inode:[pidfd]")) else 0
            magic = magic or (_ANON_INODE_FS if link.startswith("anon_inode:") else 0)
        elif link.endswith(" (deleted)") and found.st_nlink == 0:
            path = link.removesuffix(" (deleted)")
            flags = _PSEUDO if path.startswith("/memfd:") else 0
        numbers = f"{found.st_mode} {found.st_ino} {found.st_dev & 0xFFFFFFFF} {magic} {flags} 0 0 0 0 0 0"
        return f"{numbers} {_NOBODY} {_NOBODY}", path, ""

    def _sockets(self, folder: int) -> _Sockets:
        """The sockets of a process's network namespace."""
        try:
            namespace = os.readlink("ns/net", dir_fd=folder)
        except OSError:
            return {}
        now = self._now_ns()
        known = self._tables.get(namespace)
        if known is not None and now - known[0] < _AGAIN_NS:
            return known[1]
        sockets: _Sockets = {}
        for table, kind in _TABLES.items():
            _internet(_read(folder, f"net/{table}"), kind, sockets)
        _unix(_read(folder, "net/unix"), sockets)
        if len(self._tables) >= _NAMESPACES_MAX:
            self._tables.clear()
        self._tables[namespace] = now, sockets
        return sockets


def _read(folder: int, name: str) -> list[str]:
    """The lines of a table without its head; a line that was cut is left out."""
    try:
        return os.fsdecode(read_below(folder, name, _TABLE_MAX)).split("\n")[1:-1]
    except OSError:
        return []


def _internet(lines: list[str], kind: tuple[int, int, int], sockets: _Sockets) -> None:
    """/proc/net/tcp and its kin: `sl local rem st tx:rx tr:tm retrnsmt uid timeout inode ...`."""
    family, type_, proto = kind
    listening = set()
    rows = []
    for line in lines:
        fields = line.split()
        try:
            (lip, lport), (rip, rport) = (end.split(":") for end in fields[1:3])
            state, inode = int(fields[3], 16), int(fields[9])
            rows.append((inode, state, int(lport, 16), int(rport, 16), _address(lip), _address(rip)))
        except (ValueError, IndexError):
            continue
        if state == _LISTEN:
            listening.add(int(lport, 16))
    for inode, state, lport_, rport_, laddr, raddr in rows:
        server = state == _LISTEN or (proto == 6 and lport_ in listening) or (proto != 6 and not rport_)
        flags = _SERVER if server else _CLIENT if rport_ else 0
        sockets[inode] = f"{flags} {family} {type_} {proto} {state} {lport_} {rport_} {laddr} {raddr}", ""


def _address(text: str) -> str:
    """An address of these tables, words in the machine's order, as 16 bytes in the network's."""
    words = (int(text[i : i + 8], 16) for i in range(0, len(text), 8))
    return b"".join(word.to_bytes(4, "little") for word in words).hex().ljust(32, "0")


def _unix(lines: list[str], sockets: _Sockets) -> None:
    """/proc/net/unix: `Num RefCount Protocol Flags Type St Inode Path`; the path may hold blanks, or be missing."""
    for line in lines:
        fields = line.split(None, 6)
        try:
            kind, state = int(fields[4], 16), int(fields[5], 16)
            inode, _, path = fields[6].partition(" ")
            told = f"{_SERVER if path else 0} 1 {kind} 0 {1 if state == 3 else _CLOSE} 0 0 {_NOBODY} {_NOBODY}"
            sockets[int(inode)] = told, path
        except (ValueError, IndexError):
            continue
