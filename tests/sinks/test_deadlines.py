"""Peers that take their time: the deadline of an output holds over the whole exchange, whatever part of it drags."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.config.settings import HttpOutput, SyslogOutput
from appliance.model.diagnostic import DeliveryError
from appliance.model.wire import Format
from appliance.sinks.base import Sink
from appliance.sinks.http import HttpSink
from appliance.sinks.remote_syslog import RemoteSyslogSink
from tests.support.receivers import failing_server, http_receiver
from tests.support.sinks import alert

_PAUSE_S = 0.05  # between two bytes of a peer that drips: far below the time-out of one read
_TIMEOUT_MS = 400
_LONG_S = 60.0  # what the exchange would take without a deadline, at least


def drip(made: socket.socket, data: bytes) -> None:
    """Send a byte at a time, until the other end has had enough."""
    stop = threading.Event()
    for byte in data:
        made.sendall(bytes([byte]))
        stop.wait(_PAUSE_S)


def drips_its_status(made: socket.socket) -> None:
    made.recv(65536)
    drip(made, b"HTTP/1.1 " + b"2" * 2000)


def drips_its_header(made: socket.socket) -> None:
    made.recv(65536)
    made.sendall(b"HTTP/1.1 200 OK\r\n")
    drip(made, b"X-A: " + b"a" * 2000)


def drips_its_refusal(made: socket.socket) -> None:
    made.recv(65536)
    made.sendall(b"HTTP/1.1 500 Oops\r\nContent-Length: 60000\r\n\r\n")
    drip(made, b"x" * 2000)


def drips_its_thanks(made: socket.socket) -> None:
    made.recv(65536)
    made.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
    drip(made, b"x" * 2000)


def drips_its_handshake(made: socket.socket) -> None:
    made.recv(65536)
    drip(made, b"\x16\x03\x03\x40\x00" + b"\x02" * 2000)


def closes_its_half(made: socket.socket) -> None:
    made.shutdown(socket.SHUT_WR)
    while made.recv(65536):
        pass


def reads_nothing(made: socket.socket) -> None:
    threading.Event().wait(5)


def http(port: int, scheme: str = "http") -> HttpSink:
    url = f"{scheme}://127.0.0.1:{port}/"
    return HttpSink(HttpOutput(enabled=True, url=url, timeout_ms=_TIMEOUT_MS, insecure=scheme == "https"), Format())


def syslog(port: int, scheme: str) -> RemoteSyslogSink:
    settings = SyslogOutput(enabled=True, url=f"{scheme}://127.0.0.1:{port}", insecure=True)
    return RemoteSyslogSink(settings, Format(), timeout_s=_TIMEOUT_MS / 1000)


def ended(sink: Sink, deliver: Callable[[], None] | None = None) -> str:
    """What a delivery says, "" where the alert arrived. It must say something long before the peer is done."""
    said: list[str] = []

    def run() -> None:
        try:
            (deliver or (lambda: sink.deliver(alert())))()
            said.append("")
        except DeliveryError as error:
            assert error.retry
            said.append(str(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_LONG_S / 2)
    assert said, "still waits for a peer that takes its time"
    return said[0]


@pytest.mark.parametrize("how", [drips_its_status, drips_its_header, drips_its_refusal])
def test_a_receiver_that_drips_holds_nothing(how: Callable[[socket.socket], None]) -> None:
    with failing_server(how) as port:
        sink = http(port)
        assert ended(sink) in ("no answer within 0.4 s", "answer 500")
        sink.close()


def test_an_answer_of_2xx_counts_however_slowly_its_body_drips() -> None:
    """Another try would bring the alert twice, and never succeed."""
    with failing_server(drips_its_thanks) as port:
        sink = http(port)
        assert ended(sink) == ""
        sink.close()


@pytest.mark.parametrize("scheme", ["https", "tls"])
def test_a_handshake_that_drips_holds_nothing(scheme: str) -> None:
    with failing_server(drips_its_handshake) as port:
        sink: Sink = http(port, scheme) if scheme == "https" else syslog(port, scheme)
        assert ended(sink)
        sink.close()


def test_a_half_closed_connection_is_an_error_and_no_wait() -> None:
    with failing_server(closes_its_half) as port:
        sink = http(port)
        assert "ConnectionError" in ended(sink)
        sink.close()
        stream = syslog(port, "tcp")
        assert "closed" in ended(stream) or "closed" in ended(stream)
        stream.close()


def test_a_daemon_that_reads_nothing_holds_nothing() -> None:
    """More than the buffers of both ends take."""
    big = [alert(n, output="x" * 60_000) for n in range(200)]
    with failing_server(reads_nothing) as port:
        sink = syslog(port, "tcp")
        assert "no answer in time" in ended(sink, lambda: sink.deliver_several(big))
        sink.close()


def test_after_a_deadline_the_next_try_is_made_on_a_new_connection() -> None:
    with failing_server(drips_its_header) as port:
        sink = http(port)
        assert ended(sink)
        with http_receiver() as receiver:
            object.__setattr__(sink._settings, "url", receiver.url)
            assert ended(sink) == ""
            assert len(receiver.headers) == 1
        sink.close()


SILENT_RESOLVER = """
import socket, sys, time
from pathlib import Path
from tests.sinks.test_deadlines import *

resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
resolver.bind(("127.0.0.1", 53))  # asked, and says nothing
settings = HttpOutput(enabled=True, url="http://receiver.example/", timeout_ms=400)
print(ended(HttpSink(settings, Format())))
for scheme in ("tcp", "udp"):
    made = RemoteSyslogSink(SyslogOutput(enabled=True, url=f"{scheme}://receiver.example"), Format(), timeout_s=0.4)
    print(ended(made))
    print(ended(made))  # while the first question is still open
assert resolver.recv(512), "it was asked"
sys.stdout.flush()
import os
os._exit(0)  # the resolver's own patience is longer than ours
"""


@pytest.mark.kernel
def test_a_resolver_that_never_answers_holds_nothing(tmp_path: Path) -> None:
    """A real one, on port 53 of a network namespace; glibc gives up on it after ten seconds."""
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:5\n")
    (tmp_path / "nsswitch.conf").write_text("hosts: dns\n")
    steps = (
        f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && "
        f"mount --bind {tmp_path}/nsswitch.conf /etc/nsswitch.conf && ip link set lo up && "
        'exec "$0" -c "$1"'
    )
    done = subprocess.run(
        ["unshare", "--mount", "--net", "sh", "-c", steps, sys.executable, SILENT_RESOLVER],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "no answer within 0.4 s" and len(lines) == 5
    assert all("no answer in time" in line for line in lines[1:])
