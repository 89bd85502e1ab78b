"""What a descriptor is: the kernel's facts and the caller's address as one `Fd`.

Comes in: an event's descriptor facts (`catalog.events`). Goes out: an `Fd` in Falco's words. Never: a name looked up.
"""

from __future__ import annotations

import socket
import stat
import struct
from collections.abc import Callable

from appliance.model.event import Fd

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET = 1, 2, 10, 16, 17

_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp", 255: "raw"}
_TYPES = {1: "tcp", 2: "udp", 3: "raw"}  # SOCK_STREAM, SOCK_DGRAM, SOCK_RAW of the internet families
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

# What the kernel writes where a path would stand (anonymous inodes) -> Falco's word and letter.
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

FdFacts = tuple[int, int, int, int, int, bytes, bytes, str | None]
"""inode_mode, sock_family, sock_proto, local_port, remote_port, local_addr, remote_addr, fd_path: in table order."""


def describe(num: int, facts: FdFacts) -> Fd:
    """The descriptor behind a number. A number that was no descriptor gives an `Fd` with nothing else in it."""
    mode, family, proto, lport, rport, laddr, raddr, path = facts
    if stat.S_ISSOCK(mode):
        if family in (AF_INET, AF_INET6):
            server = lport < _EPHEMERAL <= rport  # not seen connecting: the ephemeral port is the client's
            return _internet(num, family, proto, (laddr, lport), (raddr, rport), server=server)
        word, letter = _FAMILIES.get(family, _OTHER)
        return Fd(num, word, letter)
    if stat.S_ISFIFO(mode):
        return Fd(num, "pipe", "p", path if path and not path.startswith("/pipe:") and path != "/" else "")
    if stat.S_ISDIR(mode):
        return Fd(num, "directory", "d", path)
    if stat.S_IFMT(mode):
        if path and path.startswith("/memfd:"):
            return Fd(num, "memfd", "m", path[1:])
        return Fd(num, "file", "f", path)
    if path:  # anonymous inodes have no format bits in their mode
        name = path.removeprefix("/").removeprefix("anon_inode:")
        kind = "bpf" if name.startswith("bpf") else name
        word, letter = ("bpf", "b") if kind == "bpf" else _ANONYMOUS.get(name, ("other", "o"))
        return Fd(num, word, letter, name)
    return Fd(num)


def new_socket(num: int, family: int, type_: int, proto: int) -> Fd:
    """A socket just made: no names yet. `type_` may hold SOCK_NONBLOCK and SOCK_CLOEXEC."""
    word, letter = _FAMILIES.get(family, _OTHER)
    l4proto = None
    if family in (AF_INET, AF_INET6):
        l4proto = _PROTOCOLS.get(proto) or _TYPES.get(type_ & 0xF)
    return Fd(num, word, letter, "", None, l4proto)


def connecting(num: int, facts: FdFacts, sockaddr: bytes | None, path_of: Callable[[str], str]) -> Fd:
    """The descriptor of a connect: the process is the client.

    The remote side is the kernel's where it is set, else the caller's; so is the family. `path_of` makes the path of a
    unix socket absolute.
    """
    mode, family, proto, lport, rport, laddr, raddr, _ = facts
    told = struct.unpack_from("=H", sockaddr)[0] if sockaddr and len(sockaddr) >= 2 else 0
    if not stat.S_ISSOCK(mode):
        return describe(num, facts) if mode or facts[7] else _from_sockaddr(num, told, proto, sockaddr, path_of)
    if family not in (AF_INET, AF_INET6):
        return _from_sockaddr(num, family if told != family else told, proto, sockaddr, path_of)
    if rport == 0 and sockaddr:  # a refused connect clears the port, and keeps the address
        asked = _asked(told, sockaddr)
        if asked is None:
            return _internet(num, family, proto, (laddr, lport), (raddr, rport), server=False)
        asked_family, raddr, rport = asked
        if asked_family == AF_INET and family == AF_INET6:
            raddr = _MAPPED + raddr[:4]
        elif asked_family != family:
            family, laddr = asked_family, _NO_ADDRESS
    return _internet(num, family, proto, (laddr, lport), (raddr, rport), server=False)


def _asked(family: int, sockaddr: bytes) -> tuple[int, bytes, int] | None:
    """Family, address and port of a sockaddr_in or sockaddr_in6 (ip(7), ipv6(7))."""
    if family == AF_INET and len(sockaddr) >= 8:
        return family, sockaddr[4:8] + b"\0" * 12, int.from_bytes(sockaddr[2:4], "big")
    if family == AF_INET6 and len(sockaddr) >= 24:
        return family, sockaddr[8:24], int.from_bytes(sockaddr[2:4], "big")
    return None


def _from_sockaddr(num: int, family: int, proto: int, sockaddr: bytes | None, path_of: Callable[[str], str]) -> Fd:
    word, letter = _FAMILIES.get(family, _OTHER)
    if not sockaddr:
        return Fd(num, word, letter)
    if family == AF_UNIX:
        return Fd(num, word, letter, _unix_name(sockaddr, path_of))
    asked = _asked(family, sockaddr)
    if asked is None:
        return Fd(num, word, letter)
    return _internet(num, family, proto, (_NO_ADDRESS, 0), asked[1:], server=False)


def _unix_name(sockaddr: bytes, path_of: Callable[[str], str]) -> str:
    """The name in a sockaddr_un (unix(7)): a path up to its NUL; an abstract one whole, behind an `@`."""
    name = sockaddr[2:110]
    if not name:
        return ""
    if name[0] == 0:
        return "@" + name[1:].decode("utf-8", "surrogateescape")
    return path_of(name.split(b"\0", 1)[0].decode("utf-8", "surrogateescape"))


def _internet(
    num: int, family: int, proto: int, local: tuple[bytes, int], remote: tuple[bytes, int], *, server: bool
) -> Fd:
    (laddr, lport), (raddr, rport) = local, remote
    if family == AF_INET6 and raddr[:12] == _MAPPED:
        family, laddr, raddr = AF_INET, laddr[12:] if laddr[:12] == _MAPPED else b"\0" * 4, raddr[12:]
    word, letter = _FAMILIES[family]
    size = 4 if family == AF_INET else 16
    lip, rip = (socket.inet_ntop(socket.AF_INET if size == 4 else socket.AF_INET6, a[:size]) for a in (laddr, raddr))
    l4proto = _PROTOCOLS.get(proto)
    if rport == 0 and not any(raddr):  # bound perhaps, connected to nobody
        return Fd(num, word, letter, f"{lip}:{lport}", None, l4proto, lip=lip, lport=lport)
    (cip, cport), (sip, sport) = ((rip, rport), (lip, lport)) if server else ((lip, lport), (rip, rport))
    here = server or sip == lip or sip.startswith("127.") or sip == "::1"
    return Fd(
        num, word, letter, f"{cip}:{cport}->{sip}:{sport}", None, l4proto,
        cip, cport, sip, sport, lip, lport, rip, rport, here,
    )  # fmt: skip
