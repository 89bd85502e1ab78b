"""What a descriptor is: the kernel's facts and the caller's address as one `Fd`.

Comes in: an event's descriptor facts (`catalog.events`). Goes out: an `Fd` in Falco's words. Never: a name looked up.
"""

from __future__ import annotations

import socket
import stat
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from appliance.catalog.params import FD_FLAGS
from appliance.model.event import Fd

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET = 1, 2, 10, 16, 17

_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp", 255: "raw"}
_TYPES = {1: "tcp", 2: "udp", 3: "raw"}  # SOCK_STREAM, SOCK_DGRAM, SOCK_RAW of the internet families
_SOCK_RAW = 3
_FAMILIES = {
    AF_UNIX: ("unix", "u"),
    AF_INET: ("ipv4", "4"),
    AF_INET6: ("ipv6", "6"),
    AF_NETLINK: ("netlink", "n"),
    AF_PACKET: ("packet", "k"),
}
_OTHER = ("unsupported", "o")
_MAPPED = b"\0" * 10 + b"\xff\xff"
_NO_ADDRESS = b"\0" * 16
_EPHEMERAL = 32_768  # lowest port of net.ipv4.ip_local_port_range by default
_CONNECTED = frozenset({1, 4, 5, 8, 9, 11})  # states of tcp_states.h once both ends have met; UDP borrows the first

_PSEUDO, _CLIENT, _SERVER = FD_FLAGS["PSEUDO"], FD_FLAGS["CLIENT"], FD_FLAGS["SERVER"]

_ANON_INODE_FS, _PID_FS = 0x09041934, 0x50494446  # include/uapi/linux/magic.h

# What the kernel calls its anonymous inodes -> Falco's word and letter.
_ANONYMOUS = {
    "[eventpoll]": ("eventpoll", "l"),
    "[eventfd]": ("event", "e"),
    "[signalfd]": ("signalfd", "s"),
    "[timerfd]": ("timerfd", "t"),
    "[io_uring]": ("io_uring", "r"),
    "[userfaultfd]": ("userfaultfd", "x"),
    "[pidfd]": ("pidfd", "P"),
    "inotify": ("inotify", "i"),
}


LETTERS = {
    "file": "f", "directory": "d", "pipe": "p", "memfd": "m", "bpf": "b", "pidfd": "P",
    **dict((*_FAMILIES.values(), *_ANONYMOUS.values())),
}  # fmt: skip
"""Falco's letter for each of its words."""


class FdFacts(NamedTuple):
    """The facts of `catalog.events`, in table order."""

    mode: int = 0
    ino: int = 0
    dev: int = 0
    magic: int = 0
    flags: int = 0
    family: int = 0
    type: int = 0
    proto: int = 0
    state: int = 0
    local_port: int = 0
    remote_port: int = 0
    local_addr: bytes = _NO_ADDRESS
    remote_addr: bytes = _NO_ADDRESS
    path: str | None = None
    name: bytes | None = None  # a sockaddr_un

    @property
    def is_socket(self) -> bool:
        """True for a socket of any family."""
        return stat.S_ISSOCK(self.mode)


class SocketNames:
    """What sockets were last called, by inode: tells when an event gave one another name, and what it was connected to
    once the kernel has let its ports go. Bounded: the socket that was heard of longest ago is forgotten first."""

    def __init__(self, room: int = 16_384) -> None:
        self._room = room
        self._names: dict[int, str] = {}
        self._ends: dict[int, Fd] = {}

    def connected(self, fd: Fd) -> None:
        """Keep both ends of a socket that was just connected or accepted."""
        if fd.ino and fd.lport and fd.rport:
            self._ends.pop(fd.ino, None)
            self._ends[fd.ino] = fd
            if len(self._ends) > self._room:
                del self._ends[next(iter(self._ends))]

    def whole(self, fd: Fd) -> Fd:
        """The descriptor of a socket with the ports that it had, where the kernel has none of them any more: both ends
        are shut, or the other refused."""
        if fd.typechar not in ("4", "6") or (fd.lport and fd.rport) or not fd.ino:
            return fd
        kept = self._ends.get(fd.ino)
        if kept is None or (kept.lip, kept.rip) != (fd.lip, fd.rip):
            return fd
        return kept._replace(num=fd.num, flags=fd.flags, connected=fd.connected, name_changed=False)

    def noted(self, fd: Fd, before: str | None) -> Fd:
        """The descriptor with `name_changed` as it is, its name taken note of; `before` is the name of a socket that is
        not known yet."""
        ino, name = fd.ino, fd.name
        if not ino or name is None or fd.typechar not in ("4", "6", "u"):
            return fd
        known = self._names.pop(ino, before)
        self._names[ino] = name
        if len(self._names) > self._room:
            del self._names[next(iter(self._names))]
        return fd if known == name else fd._replace(name_changed=True)


def describe(num: int, facts: FdFacts) -> Fd:
    """The descriptor behind a number. A number that was no descriptor gives an `Fd` with nothing else in it."""
    mode, ino, dev, magic, flags, family, *_ = facts
    path = facts.path
    if stat.S_ISSOCK(mode):
        if family in (AF_INET, AF_INET6):
            local, remote = (facts.local_addr, facts.local_port), (facts.remote_addr, facts.remote_port)
            return _internet(num, facts, family, local, remote)
        word, letter = _FAMILIES.get(family, _OTHER)
        name = _bound_name(facts) if family == AF_UNIX else None
        return Fd(
            num, word, letter, name, ino=ino, dev=dev, flags=flags, connected=family == AF_UNIX and facts.state == 1
        )
    if flags & _PSEUDO or not stat.S_IFMT(mode) or stat.S_ISFIFO(mode):
        kind, char, name = _pseudo(mode, magic, flags, path)
        return Fd(num, kind, char, name, ino=ino, dev=dev, flags=flags) if kind else Fd(num)
    word, letter = ("directory", "d") if stat.S_ISDIR(mode) else ("file", "f")
    return Fd(num, word, letter, path, ino=ino, dev=dev, flags=flags)


def _pseudo(mode: int, magic: int, flags: int, path: str | None) -> tuple[str | None, str | None, str | None]:
    """Word, letter and name of what is in no folder, and of named pipes; no word for what is no descriptor."""
    if stat.S_ISFIFO(mode):
        return "pipe", "p", path if path and not flags & _PSEUDO else ""
    if not path:
        return None, None, None
    name = path.removeprefix("/")
    if magic == _PID_FS:
        return "pidfd", "P", ""
    if magic == _ANON_INODE_FS or not stat.S_IFMT(mode):  # before Linux 6.17 they have no format bits in their mode
        name = name.removeprefix("anon_inode:")
        if name.startswith("bpf"):
            return "bpf", "b", ""
        known = _ANONYMOUS.get(name)  # which Falco calls by their kind alone
        return (*known, "") if known is not None else (*_OTHER, name)
    if name.startswith("memfd:"):
        return "memfd", "m", name.removeprefix("memfd:")
    return "file", "f", name


def _bound_name(facts: FdFacts) -> str:
    """The name of a unix socket as the kernel knows it: where it is bound, or its abstract address behind an `@`."""
    if facts.path:
        return facts.path
    return _unix_name(facts.name, str) if facts.name else ""


def read_facts(numbers: str, path: str, name: str) -> FdFacts:
    """The facts of one open file in a list of them (`ParamType.FDS`). Raises `ValueError` where the texts are none."""
    values = numbers.split(" ")
    ends = [bytes.fromhex(text) for text in values[-2:]]
    return FdFacts._make((*map(int, values[:-2]), *ends, path or None, bytes.fromhex(name) or None))


@lru_cache(maxsize=4096)
def standard_streams(texts: tuple[str, ...]) -> tuple[str | None, ...]:
    """Types and names of descriptors 0, 1 and 2, as `Process.stdio` holds them, from a list of descriptors."""
    found: list[str | None] = []
    for num, numbers, path, name in zip(*(texts[i::4] for i in range(4)), strict=True):
        fd = describe(int(num.split(" ")[0]), read_facts(numbers, path, name))
        found += fd.type, fd.name
    return tuple(found)


def polled(texts: tuple[str, ...]) -> tuple[str, ...]:
    """What a wait's event keeps of each descriptor, as `catalog.values.POLLED` names it, from a list of them."""
    found: list[str] = []
    for num, numbers, path, name in zip(*(texts[i::4] for i in range(4)), strict=True):
        number, _, revents = num.split(" ")
        fd = describe(int(number), read_facts(numbers, path, name))
        found.append(f"{number}:{fd.typechar or 'o'}{int(revents):x}")
        found += (str(v) if v is not None else "" for v in (fd.num, fd.name, fd.cip, fd.sip, fd.cport, fd.sport))
    return tuple(found)


def redirected(stdio: tuple[str | None, ...], fd: Fd) -> tuple[str | None, ...]:
    """The standard streams once one of them is another descriptor."""
    if fd.num is None or not 0 <= fd.num <= 2:
        return stdio
    found = list(stdio or (None,) * 6)
    found[2 * fd.num : 2 * fd.num + 2] = fd.type, fd.name
    return tuple(found)


def new_socket(num: int, family: int, type_: int, proto: int) -> Fd:
    """A socket just made: no names yet. `type_` may hold SOCK_NONBLOCK and SOCK_CLOEXEC."""
    word, letter = _FAMILIES.get(family, _OTHER)
    l4proto = None
    if family in (AF_INET, AF_INET6):
        kind = type_ & 0xF
        l4proto = "raw" if kind == _SOCK_RAW else _PROTOCOLS.get(proto) or _TYPES.get(kind)
    return Fd(num, word, letter, "", None, l4proto)


def connecting(num: int, facts: FdFacts, sockaddr: bytes | None, path_of: Callable[[str], str], *, res: int = 0) -> Fd:
    """The descriptor of a connect: the process is the client.

    The remote side is the kernel's where it is set, else the caller's; so is the family. `path_of` makes the path of a
    unix socket absolute. `res` is the call's result.
    """
    fd = _addressed(num, facts, sockaddr, path_of, _CLIENT)
    return fd._replace(connected=res == 0)


def accepted(num: int, facts: FdFacts) -> Fd:
    """The descriptor that an accept gave: the process is the server."""
    role = facts.flags & ~_CLIENT | _SERVER
    return describe(num, facts._replace(flags=role))


def talking(num: int, facts: FdFacts, sockaddr: bytes | None, path_of: Callable[[str], str], *, incoming: bool) -> Fd:
    """The descriptor of a message sent to or received from the address that the call names, if it names one.

    Who is the client is what the kernel shows; where it shows nothing, who sends first is.
    """
    role = facts.flags & (_CLIENT | _SERVER) or (_SERVER if incoming else _CLIENT)
    return _addressed(num, facts, sockaddr, path_of, role)


def binding(num: int, facts: FdFacts, sockaddr: bytes | None, path_of: Callable[[str], str]) -> Fd:
    """The descriptor of a bind: the address is the kernel's where it took it, else the caller's."""
    told = _family(sockaddr)
    if sockaddr and told == AF_UNIX and (facts.family == AF_UNIX or not facts.is_socket):
        fd = describe(num, facts)
        return fd._replace(type="unix", typechar="u", name=_unix_name(sockaddr, path_of))
    asked = _asked(told, sockaddr) if sockaddr else None
    if facts.local_port or asked is None or facts.family not in (AF_INET, AF_INET6):
        return describe(num, facts._replace(flags=facts.flags & ~_CLIENT | _SERVER))
    return _internet(num, facts._replace(flags=_SERVER), asked[0], asked[1:], (_NO_ADDRESS, 0))


def _family(sockaddr: bytes | None) -> int:
    return int(struct.unpack_from("=H", sockaddr)[0]) if sockaddr and len(sockaddr) >= 2 else 0


def _addressed(num: int, facts: FdFacts, sockaddr: bytes | None, path_of: Callable[[str], str], role: int) -> Fd:
    """The descriptor of a call that names the other side."""
    told = _family(sockaddr)
    family, lport, rport = facts.family, facts.local_port, facts.remote_port
    laddr, raddr = facts.local_addr, facts.remote_addr
    facts = facts._replace(flags=facts.flags & ~(_CLIENT | _SERVER) | role)
    if not facts.is_socket:
        return describe(num, facts) if facts.mode or facts.path else _from_sockaddr(num, told, facts, sockaddr, path_of)
    if family not in (AF_INET, AF_INET6):
        return _from_sockaddr(num, family if told != family else told, facts, sockaddr, path_of)
    if rport == 0 and sockaddr:  # a refused connect clears the port, and keeps the address
        asked = _asked(told, sockaddr)
        if asked is None:
            return _internet(num, facts, family, (laddr, lport), (raddr, rport))
        asked_family, raddr, rport = asked
        if asked_family == AF_INET and family == AF_INET6:
            raddr = _MAPPED + raddr[:4]
        elif asked_family != family:
            family, laddr = asked_family, _NO_ADDRESS
    return _internet(num, facts, family, (laddr, lport), (raddr, rport))


def _asked(family: int, sockaddr: bytes) -> tuple[int, bytes, int] | None:
    """Family, address and port of a sockaddr_in or sockaddr_in6 (ip(7), ipv6(7))."""
    if family == AF_INET and len(sockaddr) >= 8:
        return family, sockaddr[4:8] + b"\0" * 12, int.from_bytes(sockaddr[2:4], "big")
    if family == AF_INET6 and len(sockaddr) >= 24:
        return family, sockaddr[8:24], int.from_bytes(sockaddr[2:4], "big")
    return None


def _from_sockaddr(num: int, family: int, facts: FdFacts, sockaddr: bytes | None, path_of: Callable[[str], str]) -> Fd:
    word, letter = _FAMILIES.get(family, _OTHER)
    if not sockaddr:
        return describe(num, facts) if facts.is_socket else Fd(num, word, letter)
    if family == AF_UNIX:
        return Fd(
            num, word, letter, _unix_name(sockaddr, path_of), ino=facts.ino or None, dev=facts.dev or None,
            flags=facts.flags,
        )  # fmt: skip
    asked = _asked(family, sockaddr)
    if asked is None:
        return describe(num, facts) if facts.is_socket else Fd(num, word, letter)
    return _internet(num, facts, family, (_NO_ADDRESS, 0), asked[1:])


def _unix_name(sockaddr: bytes, path_of: Callable[[str], str]) -> str:
    """The name in a sockaddr_un (unix(7)): a path up to its NUL; an abstract one whole, behind an `@`."""
    name = sockaddr[2:110]
    if not name:
        return ""
    if name[0] == 0:
        return "@" + name[1:].decode("utf-8", "surrogateescape")
    return path_of(name.split(b"\0", 1)[0].decode("utf-8", "surrogateescape"))


def _internet(num: int, facts: FdFacts, family: int, local: tuple[bytes, int], remote: tuple[bytes, int]) -> Fd:
    """A socket of an internet family. Without a port and a peer it has no name yet; without a peer it is a server's
    address, as Falco has it; who is the server of two that met is what the kernel shows, else the lower port."""
    (laddr, lport), (raddr, rport) = local, remote
    if family == AF_INET6 and (raddr[:12] == _MAPPED or (laddr[:12] == _MAPPED and not any(raddr))):
        family, laddr, raddr = AF_INET, laddr[12:] if laddr[:12] == _MAPPED else b"\0" * 4, raddr[12:] or b"\0" * 4
    word, letter = _FAMILIES[family]
    size = 4 if family == AF_INET else 16
    lip, rip = (socket.inet_ntop(socket.AF_INET if size == 4 else socket.AF_INET6, a[:size]) for a in (laddr, raddr))
    l4proto = "raw" if facts.type == _SOCK_RAW else _PROTOCOLS.get(facts.proto)
    flags, ino, dev = facts.flags, facts.ino or None, facts.dev or None
    if rport == 0 and not any(raddr):  # bound perhaps, connected to nobody
        if lport == 0 and not any(laddr):
            return Fd(num, word, letter, "", None, l4proto, ino=ino, dev=dev, flags=flags)
        name = f"{lip}:{lport}"
        if flags & _CLIENT:
            return Fd(
                num, word, letter, name, None, l4proto, lip, lport, lip=lip, lport=lport, is_server=False, ino=ino,
                dev=dev, flags=flags,
            )  # fmt: skip
        return Fd(
            num, word, letter, name, None, l4proto, None, None, lip, lport, lip, lport, is_server=True, ino=ino,
            dev=dev, flags=flags,
        )  # fmt: skip
    role = flags & (_CLIENT | _SERVER)
    server = role == _SERVER if role else lport < _EPHEMERAL <= rport
    (cip, cport), (sip, sport) = ((rip, rport), (lip, lport)) if server else ((lip, lport), (rip, rport))
    here = server or sip == lip or sip.startswith("127.") or sip == "::1"
    return Fd(
        num, word, letter, f"{cip}:{cport}->{sip}:{sport}", None, l4proto,
        cip, cport, sip, sport, lip, lport, rip, rport, here, ino, dev, flags, facts.state in _CONNECTED,
    )  # fmt: skip
