"""Descriptors of every kind, on the real kernel: each made by a real program and shown to us by a dup of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.catalog.events import EVENTS, OPENS
from appliance.catalog.values import argument, fd_type, fd_types
from appliance.engine.sockets import standard_streams
from appliance.model.event import Event, EventType, Fd
from appliance.sources.procfs import Procfs
from tests.support.capture import TYPES, Capture
from tests.support.rules import value

pytestmark = pytest.mark.kernel

# Makes one descriptor of each kind and duplicates it to a number of its own; what it knows of them goes to the file
# that is its first argument.
MAKES = """
import ctypes, json, os, socket, struct, sys, tempfile
libc = ctypes.CDLL(None, use_errno=True)
told, at = {}, 100

def show(name, fd):
    global at
    fd = fd if isinstance(fd, int) else fd.fileno()
    if fd < 0:
        raise OSError(ctypes.get_errno(), name)
    os.dup2(fd, at)
    found = os.fstat(fd)
    told[name] = {"num": at, "ino": found.st_ino, "dev": found.st_dev}
    at += 1

keep = []
def kept(thing):
    keep.append(thing)
    return thing

folder = sys.argv[2]
show("file", os.open("plain", os.O_CREAT | os.O_RDWR))
show("directory", os.open(".", os.O_RDONLY))
show("device", os.open("/dev/null", os.O_RDONLY))
os.mkfifo("fifo")
show("fifo", os.open("fifo", os.O_RDWR))
show("pipe", os.pipe()[0])
show("lookalike", os.open("/dev/shm/memfd:x%d" % os.getpid(), os.O_CREAT | os.O_RDWR))
os.unlink("/dev/shm/memfd:x%d" % os.getpid())
show("memfd", os.memfd_create("name me"))
show("event", os.eventfd(0))
show("eventpoll", kept(__import__("select").epoll()))
show("pidfd", os.pidfd_open(os.getpid()))
show("inotify", libc.inotify_init1(0))
show("timerfd", libc.timerfd_create(1, 0))
show("signalfd", libc.signalfd(-1, ctypes.create_string_buffer(128), 0))
machine = os.uname().machine
show("userfaultfd", libc.syscall({"x86_64": 323, "aarch64": 282}[machine], 1))
show("io_uring", libc.syscall(425, 8, ctypes.create_string_buffer(120)))
attr = ctypes.create_string_buffer(struct.pack("IIII", 2, 4, 8, 1) + bytes(112))
show("bpf", libc.syscall({"x86_64": 321, "aarch64": 280}[machine], 0, attr, 128))
show("namespace", os.open("/proc/self/ns/net", os.O_RDONLY))
show("netlink", kept(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)))
show("packet", kept(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)))

fresh = kept(socket.socket())
show("tcp fresh", fresh)
server = kept(socket.create_server(("127.0.0.1", 0)))
show("tcp listening", server)
client = kept(socket.create_connection(server.getsockname()))
show("tcp client", client)
other = kept(server.accept()[0])
show("tcp server", other)
told["tcp ports"] = [client.getsockname()[1], server.getsockname()[1]]
six = kept(socket.create_server(("::1", 0), family=socket.AF_INET6))
client = kept(socket.create_connection(six.getsockname()[:2]))
show("tcp6 client", client)
show("tcp6 server", kept(six.accept()[0]))
told["tcp6 ports"] = [client.getsockname()[1], six.getsockname()[1]]
both = kept(socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True))
client = kept(socket.create_connection(("127.0.0.1", both.getsockname()[1])))
show("mapped server", kept(both.accept()[0]))
told["mapped ports"] = [client.getsockname()[1], both.getsockname()[1]]
udp = kept(socket.socket(type=socket.SOCK_DGRAM))
udp.bind(("127.0.0.1", 0))
show("udp bound", udp)
caller = kept(socket.socket(type=socket.SOCK_DGRAM))
caller.connect(udp.getsockname())
show("udp client", caller)
told["udp ports"] = [caller.getsockname()[1], udp.getsockname()[1]]
show("icmp raw", kept(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)))

unix = kept(socket.socket(socket.AF_UNIX))
show("unix fresh", unix)
unix.bind("u.sock")
unix.listen()
show("unix listening", unix)
client = kept(socket.socket(socket.AF_UNIX))
client.connect("u.sock")
show("unix client", client)
show("unix server", kept(unix.accept()[0]))
abstract = kept(socket.socket(socket.AF_UNIX))
abstract.bind("\\0abs\\0tract%d" % os.getpid())
show("unix abstract", abstract)
show("unix pair", kept(socket.socketpair())[0])
told["pid"] = os.getpid()
json.dump(told, open(sys.argv[1], "w"))
"""

Told = dict[str, Any]


@pytest.fixture(scope="module")
def capture() -> Iterator[Capture]:
    with Capture(types=TYPES | {EventType.RECVFROM, EventType.POLL, EventType.CLOSE}) as capture:
        yield capture


@pytest.fixture(scope="module")
def shown(capture: Capture, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Event], Told, Path]:
    folder = tmp_path_factory.mktemp("fds")
    file = folder / "told"
    pid, events = capture.run([sys.executable, "-S", "-E", "-c", MAKES, file, folder], cwd=folder)
    told = json.loads(file.read_text())
    dups = {e.res: e for e in events if e.process.pid == pid and e.type in (EventType.DUP2, EventType.DUP3)}
    kinds = {kind: facts for kind, facts in told.items() if isinstance(facts, dict)}
    return {kind: dups[facts["num"]] for kind, facts in kinds.items()}, told, folder


def test_words_and_letters(shown: tuple[dict[str, Event], Told, Path]) -> None:
    events, _, _ = shown
    assert {kind: (e.fd.type, e.fd.typechar) for kind, e in events.items()} == {
        "file": ("file", "f"), "directory": ("directory", "d"), "device": ("file", "f"), "fifo": ("pipe", "p"),
        "pipe": ("pipe", "p"), "lookalike": ("file", "f"), "memfd": ("memfd", "m"), "event": ("event", "e"),
        "eventpoll": ("eventpoll", "l"), "pidfd": ("pidfd", "P"), "inotify": ("inotify", "i"),
        "timerfd": ("timerfd", "t"), "signalfd": ("signalfd", "s"), "userfaultfd": ("userfaultfd", "x"),
        "io_uring": ("io_uring", "r"), "bpf": ("bpf", "b"), "namespace": ("file", "f"), "netlink": ("netlink", "n"),
        "packet": ("packet", "k"),
        **{kind: ("unix", "u") for kind in events if kind.startswith("unix")},
        **{kind: ("ipv6", "6") for kind in events if kind.startswith("tcp6")},
        **{kind: ("ipv4", "4") for kind in events if kind.split()[0] in ("tcp", "udp", "mapped", "icmp")},
    }  # fmt: skip


def test_names(shown: tuple[dict[str, Event], Told, Path]) -> None:
    events, told, folder = shown
    names = {kind: e.fd.name for kind, e in events.items()}
    (tc, ts), (sc, ss), (mc, ms), (uc, us) = (told[f"{kind} ports"] for kind in ("tcp", "tcp6", "mapped", "udp"))
    expected = {
        "file": f"{folder}/plain", "directory": str(folder), "device": "/dev/null", "fifo": f"{folder}/fifo",
        "pipe": "", "lookalike": f"/dev/shm/memfd:x{told['pid']}", "memfd": "name me", "event": "",
        "eventpoll": "", "inotify": "", "timerfd": "", "signalfd": "",
        "userfaultfd": "", "io_uring": "", "bpf": "",
        "tcp fresh": "", "tcp listening": f"127.0.0.1:{ts}", "tcp client": f"127.0.0.1:{tc}->127.0.0.1:{ts}",
        "tcp server": f"127.0.0.1:{tc}->127.0.0.1:{ts}", "tcp6 client": f"::1:{sc}->::1:{ss}",
        "tcp6 server": f"::1:{sc}->::1:{ss}", "mapped server": f"127.0.0.1:{mc}->127.0.0.1:{ms}",
        "udp bound": f"127.0.0.1:{us}", "udp client": f"127.0.0.1:{uc}->127.0.0.1:{us}",
        "unix fresh": "", "unix listening": f"{folder}/u.sock", "unix client": f"{folder}/u.sock",
        "unix server": f"{folder}/u.sock", "unix abstract": f"@abs\0tract{told['pid']}", "unix pair": "",
    }  # fmt: skip
    assert {kind: names[kind] for kind in expected} == expected


def test_inodes_and_devices_are_what_stat_says(shown: tuple[dict[str, Event], Told, Path]) -> None:
    events, told, _ = shown
    for kind, event in events.items():
        assert (kind, event.fd.ino, event.fd.dev) == (kind, told[kind]["ino"], told[kind]["dev"])
    dev = told["file"]["dev"]
    found = [value(events["file"], f"fd.dev{part}") for part in ("", ".major", ".minor")]
    assert found == [dev, os.major(dev), os.minor(dev)]


def test_sides_of_sockets_are_the_kernels(shown: tuple[dict[str, Event], Told, Path]) -> None:
    events, told, _ = shown

    def sides(kind: str) -> dict[str, object]:
        names = "cport", "sport", "lport", "rport", "cproto", "rproto", "l4proto", "is_server", "connected"
        return {name: value(events[kind], f"fd.{name}") for name in names}

    c, s = told["tcp ports"]
    both = {"cport": c, "sport": s, "cproto": str(c), "l4proto": "tcp", "is_server": True, "connected": True}
    assert sides("tcp client") == {**both, "lport": c, "rport": s, "rproto": str(s)}
    assert sides("tcp server") == {**both, "lport": s, "rport": c, "rproto": str(c)}
    c, s = told["tcp6 ports"]
    assert (events["tcp6 server"].fd.lport, events["tcp6 server"].fd.cport) == (s, c)
    assert (events["tcp6 client"].fd.lport, events["tcp6 client"].fd.sip) == (c, "::1")
    c, s = told["udp ports"]
    nobody = {"cport": None, "cproto": None, "rport": None, "rproto": None, "is_server": True, "connected": False}
    assert sides("udp bound") == {**nobody, "sport": s, "lport": s, "l4proto": "udp"}
    assert sides("tcp listening") == {**nobody, "sport": told["tcp ports"][1], "lport": told["tcp ports"][1],
                                      "l4proto": "tcp"}  # fmt: skip
    assert (events["udp client"].fd.cport, events["udp client"].fd.connected) == (c, True)
    assert (events["tcp fresh"].fd.l4proto, events["icmp raw"].fd.l4proto) == ("tcp", "raw")
    assert value(events["tcp fresh"], "fd.connected") is False
    assert value(events["file"], "fd.is_server") is False


def test_fields_that_join_others(shown: tuple[dict[str, Event], Told, Path]) -> None:
    events, _, folder = shown
    event = events["file"]
    assert value(event, "fd.uid") == f"{event.tid}{event.fd.num}"
    assert value(event, "fd.containername") == f"host:{folder}/plain"
    assert value(event, "fd.containerdirectory") == f"host:{folder}"
    assert value(events["tcp client"], "fd.containerdirectory") is None
    assert value(event, "fd.is_upper_layer") is False


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Path]:
    """An overlay with the file `low` in its lower layer, as a container's root is one."""
    parts = {name: tmp_path / name for name in ("lower", "upper", "work", "merged")}
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)  # an overlay cannot lie on another's files
    try:
        for part in parts.values():
            part.mkdir()
        (parts["lower"] / "low").write_text("x")
        (parts["lower"] / "changed").write_text("x")
        options = ",".join(f"{name}dir={parts[name]}" for name in ("lower", "upper", "work"))
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, parts["merged"]], check=True)
        yield parts["merged"]
    finally:
        subprocess.run(["umount", parts["merged"]], check=False)
        subprocess.run(["umount", tmp_path], check=True)


def test_layers_of_an_overlay(capture: Capture, overlay: Path) -> None:
    code = (
        "import os\n"
        "os.dup2(os.open('low', os.O_RDONLY), 50)\n"
        "os.dup2(os.open('changed', os.O_RDWR), 51)\n"
        "os.dup2(os.open('new', os.O_RDWR | os.O_CREAT), 52)\n"
    )
    pid, events = capture.run([sys.executable, "-S", "-E", "-c", code], cwd=overlay)
    mine = [e for e in events if e.process.pid == pid]
    layers = "fd.is_lower_layer", "fd.is_upper_layer"
    dups = [e for e in mine if e.res in (50, 51, 52)]
    assert [[value(e, name) for name in layers] for e in dups] == [[True, False], [False, True], [False, True]]
    opens = {e.fd.filename: e for e in mine if e.type in OPENS and (e.fd.name or "").startswith(f"{overlay}/")}
    assert {name: [value(e, layer) for layer in layers] for name, e in opens.items()} == {
        "low": [True, False], "changed": [False, True], "new": [False, True],
    }  # fmt: skip
    flags = {name: argument(e, "flags") or "" for name, e in opens.items()}
    assert "FD_LOWER_LAYER" in flags["low"] and "FD_UPPER_LAYER" in flags["changed"]
    assert "O_F_CREATED" in flags["new"] and "O_F_CREATED" not in flags["changed"]


def test_ten_thousand_open_descriptors(capture: Capture, tmp_path: Path) -> None:
    """Each is known by the kernel's own table, whichever its number."""
    code = (
        "import os, resource, socket, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (12000, 12000))\n"
        "first = os.open('/etc/hostname', os.O_RDONLY)\n"
        "pair = socket.socketpair()\n"
        "for i in range(10000): os.dup2(first if i % 2 else pair[0].fileno(), 1000 + i, inheritable=False)\n"
        "print(len(os.listdir('/proc/self/fd')))\n"
    )
    lost = capture.source.books().lost
    pid, events = capture.run([sys.executable, "-S", "-E", "-c", code], cwd=tmp_path, stdout=subprocess.DEVNULL)
    assert capture.source.books().lost == lost
    dups: list[Fd] = [e.fd for e in events if e.process.pid == pid and e.type is EventType.DUP3]
    assert len(dups) == 10_000
    assert len({fd.num for fd in dups}) == 10_000
    assert {(fd.type, fd.name) for fd in dups} == {("unix", ""), ("file", "/etc/hostname")}


def streams(event: Event) -> list[tuple[object, object]]:
    return [(value(event, f"proc.{name}.type"), value(event, f"proc.{name}.name")) for name in STREAMS]


STREAMS = "stdin", "stdout", "stderr"


@contextmanager
def pipe() -> Iterator[int]:
    """The end of a pipe that is written to."""
    read, write = os.pipe()
    try:
        yield write
    finally:
        os.close(read)
        os.close(write)


def test_standard_streams_of_a_program(capture: Capture, tmp_path: Path) -> None:
    """As they are when it starts, and once it has redirected them: what a reverse shell does."""
    code = (
        "import os, socket, sys\n"
        "s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "os.dup2(s.fileno(), 0)\n"
        "os.dup2(s.fileno(), 1)\n"
        "open('/etc/hostname')\n"
        "os.execv('/bin/true', ['true', 'redirected', str(s.getsockname()[1])])\n"
    )
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        (tmp_path / "errors").open("w") as errors,
        pipe() as write,
    ):
        port = server.getsockname()[1]
        argv = [sys.executable, "-S", "-E", "-c", code, str(port)]
        pid, events = capture.run(argv, stdin=subprocess.DEVNULL, stdout=write, stderr=errors)
    mine = [e for e in events if e.process.pid == pid and e.process.args]
    started = next(e for e in mine if e.type is EventType.EXECVE and "-c" in e.process.args)
    last = ("file", f"{tmp_path}/errors")
    assert streams(started) == [("file", "/dev/null"), ("pipe", ""), last]
    ended = next(e for e in mine if e.process.args[0] == "redirected")
    name = f"127.0.0.1:{ended.process.args[1]}->127.0.0.1:{port}"
    opened = next(e for e in mine if e.path == "/etc/hostname" and "-c" in e.process.args)
    assert streams(opened) == streams(ended) == [("ipv4", name), ("ipv4", name), last]
    dup = next(e for e in mine if e.type in (EventType.DUP2, EventType.DUP3) and (e.res, e.fd.type) == (1, "ipv4"))
    assert [fd_type(dup, n) for n in range(4)] == [("ipv4",), ("ipv4",), ("file",), ()]
    assert fd_types(dup) == ("ipv4", "file")


def test_standard_streams_of_one_that_ran_before_us(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0] as accepted,
        socket.socket(socket.AF_UNIX) as unix,
        pipe() as write,
        os.fdopen(os.memfd_create("m"), "w") as memory,
    ):
        unix.bind(str(tmp_path / "u.sock"))
        child = subprocess.Popen(["/bin/sleep", "600"], stdin=client, stdout=accepted, stderr=unix)
        other = subprocess.Popen(["/bin/sleep", "600"], stdin=write, stdout=memory)
        try:
            told = [Procfs().read_process(p.pid) for p in (child, other)]
        finally:
            for process in (child, other):
                process.kill()
                process.wait()
        name = f"127.0.0.1:{client.getsockname()[1]}->127.0.0.1:{server.getsockname()[1]}"
    first, second = (standard_streams(t.params[EVENTS[t.type].index["stdio"]]) for t in told if t)  # type: ignore[arg-type]
    assert first == ("ipv4", name, "ipv4", name, "unix", f"{tmp_path}/u.sock")
    assert second[:4] == ("pipe", "", "memfd", "m")


def test_messages_name_the_other_side(capture: Capture) -> None:
    """Of a socket that is connected to nobody, each message tells whom it went to or came from."""
    code = (
        "import os, socket, sys\n"
        "a = socket.socket(type=socket.SOCK_DGRAM); a.bind(('127.0.0.1', 0))\n"
        "b = socket.socket(type=socket.SOCK_DGRAM); b.bind(('127.0.0.1', 0))\n"
        "s = socket.socket(type=socket.SOCK_DGRAM)\n"
        "for to in (a, a, b): s.sendto(b'x', to.getsockname())\n"
        "a.recvfrom(9); a.recvfrom(9); b.recvfrom(9)\n"
        "s.connect(a.getsockname()); s.send(b'y')\n"
    )
    pid, events = capture.run([sys.executable, "-S", "-E", "-c", code])
    mine = [e for e in events if e.process.pid == pid]
    sent = [e for e in mine if e.type.value == "sendto"]
    heard = [e for e in mine if e.type.value == "recvfrom"]
    (connected,) = [e for e in mine if e.type is EventType.CONNECT]
    s, a = connected.fd.lport, connected.fd.rport
    b = sent[2].fd.rport
    assert [e.fd.name for e in sent] == [f"0.0.0.0:{s}->127.0.0.1:{p}" for p in (a, a, b)] + [connected.fd.name]
    assert [e.fd.name for e in heard] == [f"127.0.0.1:{s}->127.0.0.1:{p}" for p in (a, a, b)]
    assert [value(e, "fd.name_changed") for e in sent] == [True, False, True, False]
    assert [value(e, "fd.name_changed") for e in heard] == [True, False, True]
    assert [value(e, "fd.connected") for e in sent] == [False, False, False, True]
    assert [(e.fd.cport, e.fd.sport, e.fd.lport) for e in heard] == [(s, p, p) for p in (a, a, b)]
    assert value(connected, "fd.name_changed") is True
    assert {e.fd.l4proto for e in (*sent, *heard)} == {"udp"}


def test_what_a_program_waits_for(capture: Capture) -> None:
    code = (
        "import os, select, socket\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "client = socket.create_connection(server.getsockname())\n"
        "read, write = os.pipe()\n"
        "p = select.poll()\n"
        "for fd in (client.fileno(), read, os.eventfd(0)): p.register(fd, select.POLLIN | select.POLLOUT)\n"
        "p.poll(0)\n"
        "os.dup2(client.fileno(), 77)\n"
    )
    pid, events = capture.run([sys.executable, "-S", "-E", "-c", code])
    mine = [e for e in events if e.process.pid == pid]
    client = next(e for e in mine if e.res == 77).fd
    (told,) = [e for e in mine if e.type is EventType.POLL and str(value(e, "fdlist.names")).startswith(client.name)]
    assert value(told, "fdlist.names") == client.name
    numbers = str(value(told, "fdlist.nums")).split(",")
    assert len(numbers) == 3
    assert value(told, "fdlist.cips") == value(told, "fdlist.sips") == "127.0.0.1"
    assert value(told, "fdlist.cports") == str(client.cport)
    assert value(told, "fdlist.sports") == str(client.sport)
    assert argument(told, "fds") == f"{numbers[0]}:44 {numbers[1]}:p0 {numbers[2]}:e4"
    assert value(mine[0], "fdlist.nums") is None


def test_what_was_closed(capture: Capture, tmp_path: Path) -> None:
    code = (
        "import os, socket\n"
        "f = os.open('plain', os.O_CREAT | os.O_RDWR)\n"
        "s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname())\n"
        "os.dup2(f, 76); os.dup2(c.fileno(), 77); os.close(76); os.close(77)\n"
        "try: os.close(78)\n"
        "except OSError: pass\n"
    )
    pid, events = capture.run([sys.executable, "-S", "-E", "-c", code], cwd=tmp_path, stdin=subprocess.DEVNULL)
    mine = [e for e in events if e.process.pid == pid]
    closed = [e for e in mine if e.type is EventType.CLOSE and e.fd.num in (76, 77, 78)]
    name = next(e for e in mine if e.res == 77).fd.name
    assert [(e.fd.type, e.fd.name, e.res) for e in closed] == [
        ("file", f"{tmp_path}/plain", 0), ("ipv4", name, 0), (None, None, -9),
    ]  # fmt: skip
