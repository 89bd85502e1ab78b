"""The control socket: one line, one answer, and only for those who may ask."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.daemon.control import (
    ControlClient,
    ControlError,
    ControlServer,
    diagnostic_from_json,
    diagnostic_to_json,
)
from appliance.model.diagnostic import Diagnostic, Severity, Span
from tests.support.receivers import wait_until
from tests.support.threads import no_threads

ASK = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(60)
s.connect(sys.argv[1])
try:
    s.sendall(b'{"do": "echo"}\\n')
except BrokenPipeError:  # it has said no already, and that can be read
    pass
print(s.makefile().readline())
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ControlServer]:
    def fail(request: object) -> dict[str, object]:
        raise ZeroDivisionError

    server = ControlServer(tmp_path / "c.sock", {"echo": lambda request: {"said": request.get("say")}, "fail": fail})
    server.start()
    yield server
    server.stop()


def raw(server: ControlServer, data: bytes) -> list[bytes]:
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(os.fspath(server.path))
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        return s.makefile("rb").read().splitlines()


def test_many_questions_on_one_connection(server: ControlServer) -> None:
    with ControlClient(server.path) as client:
        for n in range(100):
            assert client.ask("echo", say=n) == {"said": n}


def test_hostile_text_stays_json(server: ControlServer) -> None:
    (answer,) = raw(server, b'{"do": "echo", "say": "a\\udcff\\n\\u202e"}\n')
    assert json.loads(answer) == {"said": "a\\xff\n\u202e"}
    assert b"\\ud" not in answer


@pytest.mark.parametrize(
    "line",
    [b"\n", b"{}\n", b"[]\n", b"null\n", b'{"do": ["echo"]}\n', b"\xff\xfe\n", b"[" * 60_000 + b"\n", b"x" * 200_000,
     b'{"do": "fail"}\n'],
    ids=["empty", "nothing", "list", "null", "no text", "bytes", "deep", "long", "fails"],
)  # fmt: skip
def test_nonsense_is_answered_and_the_next_is_served(server: ControlServer, line: bytes) -> None:
    try:
        answers = raw(server, line)
    except ConnectionError:  # it hung up before all of a long line was sent
        answers = []
    assert all("error" in json.loads(answer) for answer in answers)
    with ControlClient(server.path) as client:
        assert client.ask("echo", say=1) == {"said": 1}


def test_a_refusal_is_an_exception_for_who_asks(server: ControlServer) -> None:
    with ControlClient(server.path) as client, pytest.raises(ControlError, match="one of: echo, fail"):
        client.ask("nothing")


def test_more_askers_than_there_is_room_for_are_turned_away(server: ControlServer) -> None:
    clients = []
    try:
        for _ in range(16):
            clients.append(ControlClient(server.path))
            clients[-1].ask("echo")
        with ControlClient(server.path) as late, pytest.raises(ControlError, match=r"too many|closed|answer"):
            late.ask("echo")
    finally:
        for client in clients:
            client.__exit__()

    def served() -> bool:
        try:
            with ControlClient(server.path) as client:
                return client.ask("echo", say=2) == {"said": 2}
        except ControlError:
            return False

    wait_until(served, "room again")


def test_only_its_owner_may_open_it_and_the_kernel_says_who_asks(server: ControlServer) -> None:
    assert stat.S_IMODE(server.path.stat().st_mode) == 0o600
    if os.geteuid() != 0:
        pytest.skip("needs root, to ask as somebody else")
    server.path.chmod(0o666)  # as if somebody had opened it up
    for folder in server.path.parents:
        if folder.stat().st_uid == 0 and "pytest" in str(folder):
            folder.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-I", "-c", ASK, server.path], user=65534, capture_output=True, text=True, timeout=120
    )
    assert "only root and the appliance's own user" in done.stdout, done.stderr


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(server: ControlServer, tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="another appliance listens"):
        ControlServer(server.path, {}).start()
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(os.fspath(stale))
    fresh = ControlServer(stale, {"echo": lambda request: {}})
    fresh.start()
    with ControlClient(stale) as client:
        assert client.ask("echo") == {}
    fresh.stop()
    assert not stale.exists()
    with pytest.raises(ControlError, match="no appliance answers"):
        ControlClient(stale)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "precious"
    file.write_text("data")
    with pytest.raises(ControlError, match="cannot listen"):
        ControlServer(file, {}).start()
    assert file.read_text() == "data"


def test_without_a_thread_it_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    server = ControlServer(tmp_path / "s", {})
    with no_threads(), pytest.raises(ControlError, match="cannot start a thread"):
        server.start()
    assert not (tmp_path / "s").exists()


def test_stop_wakes_the_one_who_accepts(tmp_path: Path) -> None:
    server = ControlServer(tmp_path / "c.sock", {})
    server.start()
    server.stop()
    wait_until(lambda: not any(t.name == "control" for t in threading.enumerate()), "the thread's end")


def test_diagnostics_come_through_whole() -> None:
    for diagnostic in (
        Diagnostic("a-name", "a `message`", Span("f.yaml", 3, 4, 5), "a hint", Severity.WARNING, "  line"),
        Diagnostic("b-name", "without place"),
    ):
        told = json.loads(json.dumps(diagnostic_to_json(diagnostic)))
        assert diagnostic_from_json(told) == diagnostic
