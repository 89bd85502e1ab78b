"""Events made by hand, for tests that need no kernel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from appliance.catalog.events import EVENTS
from appliance.model.event import HOST, NO_FD, NO_PROCESS, Account, Container, Event, EventType, Fd, Line, Process

ROOT_USER = Account(0, "root", "/root", "/bin/bash")
SHELL = Process(
    pid=100, ppid=1, vpid=100, start_ns=1, name="bash", exe="-bash", exepath="/usr/bin/bash", cwd="/root/", tty=34816,
    sid=100, pgid=100, loginuid=-1, uid=0, gid=0, euid=0, egid=0, env=(), user=ROOT_USER, group=Account(0, "root"),
)  # fmt: skip


def process(name: str | None = "cat", *args: str, **facts: Any) -> Process:
    """A process of root's on a terminal; `facts` replace any of its attributes."""
    base = replace(SHELL, pid=200, ppid=100, vpid=200, name=name, exe=name, exepath=f"/usr/bin/{name}", args=args)
    return replace(base, **facts)


def event(
    type_: EventType | str,
    *,
    process: Process = NO_PROCESS,
    ancestors: Iterable[Process] = (),
    container: Container = HOST,
    fd: Fd = NO_FD,
    res: int = 0,
    **rest: Any,
) -> Event:
    """An event; parameters of its row by their names, attributes of `Event` by theirs (`path=...`)."""
    kind = EventType(type_)
    index = EVENTS[kind].index
    values: list[Any] = [None] * len(index)
    attributes = {}
    for name, value in rest.items():
        if name in Event._fields:
            attributes[name] = value
        else:
            values[index[name]] = value
    chain = tuple(ancestors)

    def lineage(of: Event) -> Line:
        return Line(of.process, chain)

    return Event(
        kind, 1, 1_700_000_000_123_456_789, 0, process.pid, res, tuple(values), process, container, fd,
        lineage=lineage, **attributes,
    )  # fmt: skip


def file_fd(path: str, num: int = 3, typechar: str = "f") -> Fd:
    """The descriptor of an open file."""
    return Fd(num=num, type="file" if typechar == "f" else "directory", typechar=typechar, name=path, nameraw=path)


def inet_fd(client: tuple[str, int], server: tuple[str, int], *, l4proto: str = "tcp", is_server: bool = False) -> Fd:
    """The descriptor of a connected socket; the local side is the client's unless `is_server`."""
    (cip, cport), (sip, sport) = client, server
    local, remote = (server, client) if is_server else (client, server)
    char = "6" if ":" in cip else "4"
    return Fd(
        num=4, type=f"ipv{char}", typechar=char, name=f"{cip}:{cport}->{sip}:{sport}", l4proto=l4proto,
        cip=cip, cport=cport, sip=sip, sport=sport, lip=local[0], lport=local[1], rip=remote[0], rport=remote[1],
        is_server=is_server,
    )  # fmt: skip
