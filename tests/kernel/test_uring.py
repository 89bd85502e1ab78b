"""What a process asks of an io_uring is seen as the calls that it replaces, with what came of them."""

from __future__ import annotations

import errno
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.catalog.events import STATE
from appliance.catalog.values import argument
from appliance.model.event import Event
from appliance.model.event import EventType as E
from tests.support.capture import TYPES, Capture

pytestmark = pytest.mark.kernel

SOURCE = Path(__file__).with_name("uring.c")
HEARD = TYPES | STATE | {E.READ, E.WRITE}


@pytest.fixture(scope="module")
def capture() -> Iterator[Capture]:
    with Capture(types=HEARD) as capture:
        yield capture


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("uring") / "program"
    subprocess.run(["cc", "-w", "-O1", "-o", built, SOURCE], check=True)
    return built


@pytest.fixture(scope="module", params=["", "polled", "async"])
def seen(
    request: pytest.FixtureRequest, capture: Capture, program: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Event], list[int], Path, int]:
    """Events that came through a ring, the results that the program was told, its folder, the port it went to."""
    folder = tmp_path_factory.mktemp("work")
    out = program.with_name(f"out{request.param}")
    with socket.create_server(("127.0.0.1", 0)) as server, out.open("w") as file:
        port = server.getsockname()[1]
        pid, events = capture.run([program, str(port), request.param], cwd=folder, stdout=file)
    told = [int(line) for line in out.read_text().split()]
    assert len(told) == 17, "a kernel with io_uring is needed"
    return [e for e in events if e.process.pid == pid and e.via == "io_uring"], told, folder, port


def test_each_entry_is_one_event_in_order_with_its_result(seen: tuple[list[Event], list[int], Path, int]) -> None:
    events, told, _, _ = seen
    types = [
        E.OPENAT, E.OPENAT, E.OPENAT, E.OPENAT2, E.WRITE, E.READ, E.MKDIRAT, E.SYMLINKAT, E.LINKAT, E.RENAMEAT2,
        E.UNLINKAT, E.UNLINKAT, E.CLOSE, E.SOCKET, E.CONNECT, E.SENDTO, E.SENDMSG,
    ]  # fmt: skip
    heard = [(t, 0 if res == -1000 else res) for t, res in zip(types, told, strict=True) if t is not E.CLOSE]
    assert [(e.type, e.res) for e in events] == heard
    assert told[1] == -errno.ENOENT


def test_paths_are_those_of_the_caller(seen: tuple[list[Event], list[int], Path, int]) -> None:
    events, _, work, _ = seen
    here = str(work)
    opened, missing, shadow, second = events[:4]
    assert (opened.path, argument(opened, "name"), argument(opened, "mode")) == (f"{here}/made", f"{here}/made", "0640")
    assert argument(opened, "flags") == "O_LARGEFILE|O_CREAT|O_RDWR"  # which the kernel adds
    assert (missing.path, missing.res) == (f"{here}/missing", -errno.ENOENT)
    assert (shadow.fd.name, shadow.fd.num) == ("/etc/shadow", shadow.res)
    assert (second.path, argument(second, "resolve")) == (f"{here}/made", "RESOLVE_BENEATH")
    made = next(e for e in events if e.type is E.MKDIRAT)
    assert (made.path, argument(made, "mode")) == (f"{here}/folder", "1C0")
    soft = next(e for e in events if e.type is E.SYMLINKAT)
    assert (argument(soft, "target"), soft.target_path) == ("made", f"{here}/soft")
    hard = next(e for e in events if e.type is E.LINKAT)
    assert (hard.source_path, hard.target_path) == (f"{here}/made", f"{here}/hard")
    renamed = next(e for e in events if e.type is E.RENAMEAT2)
    assert (renamed.source_path, renamed.target_path) == (f"{here}/hard", f"{here}/harder")
    gone, folder = [e for e in events if e.type is E.UNLINKAT]
    assert (gone.path, folder.path, argument(folder, "flags")) == (f"{here}/harder", f"{here}/folder", "AT_REMOVEDIR")


def test_descriptors_and_peers(seen: tuple[list[Event], list[int], Path, int]) -> None:
    events, told, work, port = seen
    written = next(e for e in events if e.type is E.WRITE)
    assert (written.fd.num, written.fd.name, argument(written, "data")) == (told[0], f"{work}/made", "written")
    connected = next(e for e in events if e.type is E.CONNECT)
    assert (connected.fd.num, connected.fd.sip, connected.fd.sport) == (told[13], "127.0.0.1", port)
    for type_, data in ((E.SENDTO, "hello"), (E.SENDMSG, "message")):
        sent = next(e for e in events if e.type is type_)
        assert (argument(sent, "data"), sent.fd.rport) == (data, port)


def test_what_no_rule_asks_for_is_not_heard(capture: Capture, program: Path, tmp_path: Path) -> None:
    capture.source.hear({E.MKDIRAT})
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            argv = [program, str(server.getsockname()[1])]
            pid, events = capture.run(argv, cwd=tmp_path, stdout=subprocess.DEVNULL)
    finally:
        capture.source.hear(HEARD)
    assert [e.type for e in events if e.process.pid == pid and e.via == "io_uring"] == [E.MKDIRAT]
