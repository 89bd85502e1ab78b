"""Each sink against a real other end."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import logging
import os
import re
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from appliance.config.settings import Config, HttpOutput
from appliance.model.alert import Priority
from appliance.model.diagnostic import DeliveryError
from appliance.model.wire import Format
from appliance.sinks.build import build_sinks
from appliance.sinks.dispatch import Dispatcher
from appliance.sinks.file import FileSink
from appliance.sinks.http import HttpSink
from appliance.sinks.program import ProgramSink
from appliance.sinks.stdout import StdoutSink
from appliance.sinks.syslog import SyslogSink
from tests.support.receivers import failing_server, http_receiver, https_receiver, rsyslog, wait_until
from tests.support.sinks import HOSTILE, alert

ROOT = Path(__file__).resolve().parents[2]
TEXT, JSON = Format(), Format(json_output=True)
SCHEMA = json.loads((ROOT / "schemas/alert.schema.json").read_text())
ACTS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2028\ud800-\udfff]")
BAD = alert(output=HOSTILE, fields={"proc.name": HOSTILE, "n": 1})


def whole(line: str) -> dict[str, Any]:
    """A JSON line that keeps the contract and acts on nobody."""
    assert not ACTS.search(line)
    document: dict[str, Any] = json.loads(line)
    jsonschema.validate(document, SCHEMA)
    assert list(document) == ["hostname", "output", "output_fields", "priority", "rule", "source", "tags", "time"]
    return document


# -- standard output


@pytest.mark.parametrize(("color", "coloured"), [("auto", False), ("never", False), ("always", True)])
def test_stdout_is_a_line(color: str, coloured: bool) -> None:
    stream = io.StringIO()
    StdoutSink(stream, TEXT, color).deliver(BAD)
    text = stream.getvalue()
    assert text.endswith("\n") and text.count("\n") == 1
    assert (text.startswith("\x1b[33m"), text.endswith("\x1b[0m\n")) == (coloured, coloured)
    assert not ACTS.search(text.removeprefix("\x1b[33m").removesuffix("\x1b[0m\n"))


def test_stdout_that_is_full() -> None:
    with open("/dev/full", "w") as stream:  # noqa: PTH123
        sink = StdoutSink(stream, TEXT)
        with pytest.raises(DeliveryError, match="No space left"):
            sink.deliver(alert())
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


# -- file


@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_file_gets_whole_lines_and_is_for_its_owner(tmp_path: Path, keep_alive: bool) -> None:
    file = tmp_path / "alerts"
    sink = FileSink(file, JSON, keep_alive=keep_alive)
    for n in range(3):
        sink.deliver(alert(n))
    sink.deliver(BAD)
    lines = file.read_text().split("\n")
    assert lines.pop() == ""
    assert [whole(line)["output_fields"].get("fd.num") for line in lines] == [0, 1, 2, None]
    assert file.stat().st_mode & 0o777 == 0o600
    sink.close()


@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_file_stays_open_or_does_not(tmp_path: Path, keep_alive: bool) -> None:
    file = tmp_path / "alerts"
    sink = FileSink(file, JSON, keep_alive=keep_alive)
    sink.deliver(alert())
    there = file.stat()
    assert any(same_file(fd, there) for fd in range(3, 200)) is keep_alive
    sink.close()


def same_file(fd: int, there: os.stat_result) -> bool:
    """Whether a descriptor of ours is open on this file."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(fd), there)
    return False


def test_a_rotated_file_is_left(tmp_path: Path) -> None:
    file, old = tmp_path / "alerts", tmp_path / "alerts.1"
    sink = FileSink(file, TEXT, keep_alive=True)
    sink.deliver(alert(output="first"))
    file.rename(old)
    sink.deliver(alert(output="second"))
    assert "first" in old.read_text() and "second" not in old.read_text()
    assert "second" in file.read_text()
    sink.close()


def test_a_full_disk_leaves_no_torn_line(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "none", tmp_path], check=True)
    try:
        file = tmp_path / "alerts"
        sink = FileSink(file, JSON, keep_alive=True)
        delivered = 0
        with pytest.raises(DeliveryError, match="No space left on device") as caught:
            for delivered in range(100):  # noqa: B007
                sink.deliver(alert(output="x" * 700))
        assert caught.value.retry
        lines = file.read_text().split("\n")
        assert lines.pop() == ""
        assert len([whole(line) for line in lines]) == delivered
        sink.close()
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="No such file or directory"):
        FileSink(tmp_path / "no" / "where", TEXT, keep_alive=False).deliver(alert())


# -- syslog


@pytest.mark.parametrize(
    ("facility", "priority", "number"),
    [("user", Priority.WARNING, 8 + 4), ("local7", Priority.EMERGENCY, 23 * 8), ("authpriv", Priority.DEBUG, 87)],
)
def test_syslog_priorities(tmp_path: Path, facility: str, priority: Priority, number: int) -> None:
    with rsyslog(tmp_path) as daemon:
        sink = SyslogSink(daemon.socket, facility, TEXT, timeout_s=60)
        sink.deliver(alert(priority=priority))
        wait_until(lambda: bool(daemon.lines()), "the message")
        sink.close()
        (line,) = daemon.lines()
    head, _, text = line.partition(": ")
    assert head == f"{number} tercel[{os.getpid()}]"
    assert text.endswith(f"{priority.label} something happened")


def test_syslog_gets_hostile_and_large_texts_and_a_daemon_that_was_restarted(tmp_path: Path) -> None:
    with rsyslog(tmp_path) as daemon:
        sink = SyslogSink(daemon.socket, "user", JSON, timeout_s=60)
        sink.deliver(BAD)
        sink.deliver(alert(output="x" * 2_000_000, fields={}))
        wait_until(lambda: len(daemon.lines()) == 2, "the messages")
        hostile, large = (whole(line.partition(": ")[2]) for line in daemon.lines())
    assert hostile["output_fields"]["proc.name"].startswith("a\x1b[2Jb\nc")
    assert large["output"].endswith("...[cut]") and len(large["output"]) > 10_000
    daemon.socket.unlink(missing_ok=True)
    with pytest.raises(DeliveryError) as caught:
        sink.deliver(alert())
    assert caught.value.retry
    with rsyslog(tmp_path) as daemon:
        sink.deliver(alert(output="again"))
        wait_until(lambda: "again" in daemon.lines()[-1], "the message")
    sink.close()


# -- HTTP


def http(url: str, **settings: Any) -> HttpSink:
    return HttpSink(replace(HttpOutput(enabled=True, url=url, timeout_ms=60_000), **settings), TEXT)


def test_http_posts_json_over_one_connection() -> None:
    with http_receiver() as receiver:
        sink = http(receiver.url, user_agent="tercel/test")
        for n in range(3):
            sink.deliver(alert(n))
        sink.deliver(BAD)
        sink.close()
    assert [whole(b.decode())["output_fields"].get("fd.num") for b in receiver.bodies] == [0, 1, 2, None]
    assert {h["Content-Type"] for h in receiver.headers} == {"application/json; charset=utf-8"}
    assert {h["User-Agent"] for h in receiver.headers} == {"tercel/test"}


@pytest.mark.parametrize("keep_alive", [True, False])
def test_http_keeps_its_connection_or_does_not(keep_alive: bool) -> None:
    with http_receiver() as receiver:
        sink = http(receiver.url, keep_alive=keep_alive)
        for n in range(3):
            sink.deliver(alert(n))
        sink.close()
    assert len(receiver.connections) == (1 if keep_alive else 3)


def test_http_leaves_a_connection_it_does_not_keep_before_the_other_end_does() -> None:
    made: list[socket.socket] = []

    def answer_and_wait(connection: socket.socket) -> None:
        made.append(connection)
        while chunk := connection.recv(65536):
            if chunk.endswith(b"}"):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with failing_server(answer_and_wait) as port:
        sink = http(f"http://127.0.0.1:{port}/", keep_alive=False)
        for n in range(3):
            sink.deliver(alert(n))
    assert len(made) == 3


@pytest.mark.parametrize("echo", [True, False])
def test_http_answers_are_logged_where_that_is_wanted(echo: bool, caplog: pytest.LogCaptureFixture) -> None:
    with http_receiver() as receiver, caplog.at_level(logging.INFO):
        sink = http(receiver.url, echo=echo)
        sink.deliver(alert())
        sink.close()
    assert ("answer 200: ok" in caplog.text) is echo


def test_http_compressed() -> None:
    with http_receiver() as receiver:
        sink = http(receiver.url, compress_uploads=True)
        sink.deliver(alert())
        sink.close()
    assert receiver.headers[0]["Content-Encoding"] == "gzip"
    whole(gzip.decompress(receiver.bodies[0]).decode())


@pytest.mark.parametrize(
    ("status", "retry"),
    [
        (500, True),
        (503, True),
        (429, True),
        (408, True),
        (404, True),
        (401, True),
        (302, True),
        (400, False),
        (413, False),
    ],
)
def test_http_answers(status: int, retry: bool) -> None:
    with http_receiver() as receiver:
        receiver.answers = [status]
        sink = http(receiver.url)
        with pytest.raises(DeliveryError, match=f"answer {status}") as caught:
            sink.deliver(alert())
        assert caught.value.retry is retry
        sink.deliver(alert())
        sink.close()
    assert len(receiver.bodies) == 1


def test_http_that_does_not_answer() -> None:
    """The time-outs of one alert after another are not waited for without end."""
    with socket_that_hangs() as port:
        sink = http(f"http://127.0.0.1:{port}/", timeout_ms=100, max_consecutive_timeouts=2)
        for expected in ("no answer within 0.1 s", "no answer within 0.1 s", "not tried: 2 time-outs in a row"):
            with pytest.raises(DeliveryError, match=expected):
                sink.deliver(alert())
        sink.close()


@contextmanager
def socket_that_hangs() -> Iterator[int]:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_http_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeliveryError, match=r"ConnectionError: .*refused") as caught:
        http("http://127.0.0.1:9/").deliver(alert())
    assert caught.value.retry
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    with http_receiver() as receiver:
        sink = http(receiver.url)
        sink.deliver(alert())  # a proxy of the environment is not asked
        sink.close()
    assert len(receiver.bodies) == 1


TLS: list[tuple[bool, Callable[[Path], dict[str, Any]], bool]] = [
    (False, lambda c: {"ca_cert": str(c / "ca.pem")}, True),
    (False, lambda c: {"ca_bundle": str(c / "ca.pem")}, True),
    (False, lambda c: {"ca_path": str(c / "hashed")}, True),
    (False, lambda c: {"insecure": True}, True),
    (False, lambda c: {}, False),
    (False, lambda c: {"ca_cert": str(c / "client.pem")}, False),
    (True, lambda c: {"ca_cert": str(c / "ca.pem")}, False),
    (
        True,
        lambda c: {
            "ca_cert": str(c / "ca.pem"), "mtls": True, "client_cert": str(c / "client.pem"),
            "client_key": str(c / "client.key"),
        },
        True,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("mtls", "settings", "accepted"), TLS, ids=range(len(TLS)))
def test_https(certificates: Path, mtls: bool, settings: Callable[[Path], dict[str, Any]], accepted: bool) -> None:
    with https_receiver(certificates, mtls=mtls) as (url, bodies):
        sink = http(url, **settings(certificates))
        if accepted:
            sink.deliver(alert())
        else:
            with pytest.raises(DeliveryError, match=r"SSLError|ConnectionError|InvalidHeader") as caught:
                sink.deliver(alert())
            assert " at 0x" not in str(caught.value), "no address of an object in what people read"
        sink.close()
    assert len(bodies) == accepted


def test_the_banner_tells_no_password() -> None:
    assert http("https://user:secret@sidekick:2801/x").describe() == "http https://sidekick:2801/x"


# -- programs


def test_a_program_that_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    sink = ProgramSink(["dd", f"of={out}", "status=none"], JSON, keep_alive=True, timeout_s=60)
    for n in range(3):
        sink.deliver(alert(n))
    sink.deliver(BAD)
    sink.close()
    assert [whole(line)["output_fields"].get("fd.num") for line in out.read_text().splitlines()] == [0, 1, 2, None]


def test_a_program_for_each_alert(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = 'read -r line; echo "$$ $line" >> "$0"'
    sink = ProgramSink(["sh", "-c", script, str(out)], TEXT, keep_alive=False, timeout_s=60)
    for n in range(3):
        sink.deliver(alert(output=f"number {n}"))
    sink.close()
    lines = out.read_text().splitlines()
    assert [line[-8:] for line in lines] == ["number 0", "number 1", "number 2"]
    assert len({line.split()[0] for line in lines}) == 3


def test_a_program_that_dies_is_started_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    sink = ProgramSink(
        ["sh", "-c", 'read -r line; echo "$line" >> "$0"', str(out)], TEXT, keep_alive=True, timeout_s=60
    )
    for n in range(3):
        sink.deliver(alert(output=f"number {n}"))
        wait_until(lambda n=n: out.exists() and len(out.read_text().splitlines()) == n + 1, "the line")
        wait_until(lambda: sink._process is None or sink._process.poll() is not None, "its end")
    sink.close()
    assert [line[-8:] for line in out.read_text().splitlines()] == ["number 0", "number 1", "number 2"]


def test_a_program_that_never_reads_is_ended(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    script = 'echo $$ > "$0.new"; mv "$0.new" "$0"; sleep 1000'
    sink = ProgramSink(["sh", "-c", script, str(mark)], TEXT, keep_alive=True, timeout_s=0.5)
    sink.deliver(alert())
    wait_until(mark.exists, "the program")
    with pytest.raises(DeliveryError, match=r"did not read within 0\.5 s") as caught:
        for _ in range(100):
            sink.deliver(alert(output="x" * 60_000))
    assert caught.value.retry
    pid = int(mark.read_text())
    assert not Path(f"/proc/{pid}").exists()
    sink.close()


STUBBORN = 'trap "" TERM HUP; sleep 1000 & echo $$ $! > "$0.new"; mv "$0.new" "$0"; while :; do sleep 0.1; done'
CHILD = 'sleep 1000 & echo $! > "$0.new"; mv "$0.new" "$0"; cat > /dev/null'


@pytest.mark.parametrize("script", [STUBBORN, CHILD], ids=["deaf", "its child"])
def test_a_program_that_goes_on_without_input_is_not_left_behind(tmp_path: Path, script: str) -> None:
    mark = tmp_path / "pids"
    sink = ProgramSink(["sh", "-c", script, str(mark)], TEXT, keep_alive=True, timeout_s=0.3)
    sink.deliver(alert())
    wait_until(mark.exists, "the program")
    sink.close()
    wait_until(lambda: not any(map(runs, mark.read_text().split())), "the end of all of it")


@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_program_is_not_left_behind_by_an_appliance_that_ends(tmp_path: Path, keep_alive: bool) -> None:
    mark = tmp_path / "pids"
    argv = ["sh", "-c", STUBBORN, str(mark)]
    dispatcher = Dispatcher([ProgramSink(argv, TEXT, keep_alive=keep_alive, timeout_s=60)], capacity=10)
    dispatcher.submit(alert())
    wait_until(mark.exists, "the program")
    dispatcher.close(timeout_s=0.2)
    wait_until(lambda: not any(map(runs, mark.read_text().split())), "the end of all of it")


def runs(pid: str) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("argv", "keep_alive", "timeout_s", "error"),
    [
        (["/nonexistent/program"], True, 60, "cannot start /nonexistent/program"),
        (["false"], False, 60, "ended with status 1|Broken pipe"),
        (["sleep", "1000"], False, 0.5, "not ended within"),
    ],
)
def test_programs_that_fail(argv: list[str], keep_alive: bool, timeout_s: float, error: str) -> None:
    sink = ProgramSink(argv, TEXT, keep_alive=keep_alive, timeout_s=timeout_s)
    with pytest.raises(DeliveryError, match=error):
        sink.deliver(alert())
    sink.close()


def test_a_program_that_is_being_replaced_is_tried_again(tmp_path: Path) -> None:
    program = Path(shutil.copy("/bin/cat", tmp_path / "program"))
    sink = ProgramSink([str(program)], TEXT, keep_alive=True, timeout_s=60)
    with program.open("ab"), pytest.raises(DeliveryError, match="busy") as refused:
        sink.deliver(alert())
    assert refused.value.retry
    sink.deliver(alert())
    sink.close()


def test_no_shell_reads_an_alert(tmp_path: Path) -> None:
    out = tmp_path / "out"
    sink = ProgramSink(["dd", f"of={out}", "status=none"], TEXT, keep_alive=True, timeout_s=60)
    sink.deliver(alert(output="$(touch /tmp/never) `touch /tmp/never`; touch /tmp/never"))
    sink.close()
    assert "$(touch /tmp/never)" in out.read_text()


# -- all of them


def test_settings_become_sinks(tmp_path: Path) -> None:
    nothing = build_sinks(
        replace(Config(), stdout_output=replace(Config().stdout_output, enabled=False)), io.StringIO()
    )
    assert nothing == []
    (only,) = build_sinks(Config(), io.StringIO())
    assert only.describe() == "stdout"
    config = Config()
    everything = replace(
        config,
        file_output=replace(config.file_output, enabled=True, filename=tmp_path / "f"),
        syslog_output=replace(config.syslog_output, enabled=True),
        http_output=replace(config.http_output, enabled=True, url="http://127.0.0.1:9/"),
        program_output=replace(config.program_output, enabled=True, program=("cat", "-n")),
        journald_output=replace(config.journald_output, enabled=True),
    )
    sinks = build_sinks(everything, io.StringIO())
    assert [sink.describe() for sink in sinks] == [
        "stdout", f"file {tmp_path}/f", "journal", "syslog /dev/log", "http http://127.0.0.1:9/", "program cat -n",
    ]  # fmt: skip
    assert len({sink.name for sink in sinks}) == 6


@pytest.mark.parametrize("iso", [False, True])
def test_text_lines(tmp_path: Path, iso: bool) -> None:
    file = tmp_path / "f"
    FileSink(file, Format(iso_time=iso), keep_alive=False).deliver(alert())
    pattern = r"2023-11-14T22:13:20\.123456789\+0000" if iso else r"\d\d:\d\d:\d\d\.123456789"
    assert re.fullmatch(pattern + ": Warning something happened\n", file.read_text())


def test_a_fifo_without_a_reader_holds_only_its_own_sink(tmp_path: Path) -> None:
    from tests.support.sinks import MemorySink

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    good = MemorySink()
    dispatcher = Dispatcher([FileSink(fifo, TEXT, keep_alive=False), good], capacity=10)
    dispatcher.submit(alert())
    wait_until(lambda: len(good.alerts) == 1, "the other sink")
    of_fifo, _ = dispatcher.close(timeout_s=0.2)
    assert (of_fifo.delivered, of_fifo.lost) == (0, 1)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)  # let the worker go
    select.select([reader], [], [], 5)
    time.sleep(0.1)
    os.close(reader)
