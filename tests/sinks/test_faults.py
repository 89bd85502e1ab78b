"""Other ends that fail in every way we know: alerts wait on disk, the books close, and all arrive when one is whole."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.config.settings import HttpOutput, SyslogOutput
from appliance.model.alert import Priority
from appliance.model.wire import Format
from appliance.sinks.base import Sink
from appliance.sinks.http import HttpSink
from appliance.sinks.remote_syslog import RemoteSyslogSink
from appliance.sinks.spool import Limits, Spool
from tests.support.receivers import closed_port, failing_server, http_receiver, remote_rsyslog, wait_until
from tests.support.sinks import alert

LIMITS = Limits(retry_max_s=0.2)
COUNT = 12


def never_answers(made: socket.socket) -> None:
    while made.recv(65536):
        pass


def answers_500(made: socket.socket) -> None:
    made.recv(65536)
    made.sendall(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nRetry-After: 0\r\n\r\n")


def closes_half_way_through_the_request(made: socket.socket) -> None:
    made.recv(40)


def closes_half_way_through_its_answer(made: socket.socket) -> None:
    made.recv(65536)
    made.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")


def speaks_nonsense(made: socket.socket) -> None:
    made.recv(65536)
    made.sendall(b"\x15\x03\x01\x00\x02\x02\x28" * 10)


def answers_without_end(made: socket.socket) -> None:
    made.recv(65536)
    made.sendall(b"HTTP/1.1 200 OK\r\nX-A: ")
    while True:
        made.sendall(b"a" * 65536)


def http(url: str, timeout_ms: int = 60_000) -> Sink:
    """One that waits long for an end that is whole: what was not answered in time is sent once more."""
    return HttpSink(HttpOutput(enabled=True, url=url, timeout_ms=timeout_ms), Format())


def impatient(url: str) -> Sink:
    return http(url, timeout_ms=300)


def syslog(url: str, **settings: object) -> Sink:
    made = replace(SyslogOutput(enabled=True, url=url), **settings)  # type: ignore[arg-type]
    return RemoteSyslogSink(made, Format(), timeout_s=0.3)


SERVERS: list[tuple[str, Callable[[socket.socket], None], str]] = [
    ("http", never_answers, "no answer within 0.3 s"),
    ("http", answers_500, "answer 500"),
    ("http", closes_half_way_through_the_request, "ConnectionError"),
    ("http", closes_half_way_through_its_answer, "ConnectionError"),
    ("http", speaks_nonsense, "ConnectionError"),
    ("http", answers_without_end, "ConnectionError|no answer"),
    ("https", never_answers, "no answer|ConnectionError|timed out"),
    ("https", speaks_nonsense, "SSLError"),
    ("tcp", closes_half_way_through_the_request, "reset|closed|Broken pipe"),
    ("tls", never_answers, "no answer in time"),
    ("tls", speaks_nonsense, "SSL|ssl|WRONG_VERSION|alert"),
]


@contextmanager
def fault(name: str, how: Callable[[socket.socket], None] | None, certificates: Path, folder: Path) -> Iterator[Sink]:
    """A sink whose other end fails."""
    make: Callable[..., Sink] = impatient if name.startswith("http") or name == "dns http" else syslog
    with ExitStack() as stack:
        if how is not None:
            yield make(f"{name}://127.0.0.1:{stack.enter_context(failing_server(how))}/")
        elif name == "dns http":
            yield make("http://nowhere.invalid/")
        elif name == "dns tls":
            yield make("tls://nowhere.invalid")
        elif name == "certificate tls":
            daemon = stack.enter_context(remote_rsyslog(folder, "tls", certificates))
            yield make(daemon.url, ca_cert=str(certificates / "stranger.pem"))
        else:
            yield make(f"{name}://127.0.0.1:{stack.enter_context(closed_port())}/")


CASES: list[tuple[str, Callable[[socket.socket], None] | None, str]] = [
    *SERVERS,
    ("dns http", None, "Name or service not known|resolve|NameResolution"),
    ("dns tls", None, "not known"),
    ("certificate tls", None, "the certificate is not good"),
    ("http", None, "refused"),
    ("tcp", None, "refused"),
]


@pytest.mark.parametrize(
    ("name", "how", "reason"), CASES, ids=[f"{n}-{getattr(h, '__name__', '')}" for n, h, _ in CASES]
)
def test_alerts_wait_for_an_end_that_is_whole(
    tmp_path: Path, certificates: Path, name: str, how: Callable[[socket.socket], None] | None, reason: str
) -> None:
    folder = tmp_path / "spool"
    with fault(name, how, certificates, tmp_path) as sink:
        spool = Spool(sink, folder, LIMITS, capacity=100)
        spool.start()
        for n in range(COUNT):
            spool.submit(alert(n, priority=Priority(3 + n % 4)))
        wait_until(lambda: spool.stats().acknowledged == COUNT, "the disk")
        wait_until(lambda: bool(re.search(reason, spool.stats().trouble)), f"{reason} in {spool.stats().trouble}")
        stats = spool.end(time.monotonic() + 0.5)
    assert (stats.submitted, stats.delivered, stats.lost, stats.dead) == (COUNT, 0, 0, 0)
    assert stats.waiting == COUNT == spool.count_waiting()
    wait_until(lambda: not spool._deliverer.is_alive(), "the deliverer's end")
    with http_receiver() as receiver:
        spool = Spool(http(receiver.url), folder, LIMITS, capacity=100)
        spool.start()
        wait_until(lambda: spool.stats().delivered == COUNT, "delivery")
        stats = spool.end(time.monotonic() + 5)
    assert (stats.submitted, stats.delivered, stats.waiting) == (COUNT, COUNT, 0)
    assert [h["Tercel-Alert-Id"] for h in receiver.headers] == [f"web1:boot:{n}" for n in range(COUNT)]


def test_a_receiver_that_asks_to_wait_is_asked_no_sooner(tmp_path: Path) -> None:
    """`Retry-After`, up to the longest pause that is configured."""
    times: list[float] = []

    def busy(made: socket.socket) -> None:
        made.recv(65536)
        times.append(time.monotonic())
        status = "429 Busy" if len(times) == 1 else "200 OK"
        made.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nRetry-After: 2\r\n\r\n".encode())

    with failing_server(busy) as port:
        spool = Spool(http(f"http://127.0.0.1:{port}/"), tmp_path / "spool", Limits(retry_max_s=1.5), capacity=100)
        spool.start()
        spool.submit(alert())
        wait_until(lambda: spool.stats().delivered == 1, "delivery")
        spool.end(time.monotonic() + 5)
    assert times[1] - times[0] >= 1.5


DESCRIPTORS = """
import json, os, resource, sys, time
from pathlib import Path
from appliance.sinks.spool import Limits
from tests.sinks.test_faults import LIMITS, Spool, alert, http, wait_until

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
spool = Spool(http(sys.argv[1]), Path(sys.argv[2]), LIMITS, capacity=1000)
spool.start()
for n in range(10):
    spool.submit(alert(n))
wait_until(lambda: spool.stats().delivered == 10, "delivery")
taken = []
try:
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
for n in range(10, 60):
    spool.submit(alert(n, priority=n % 8))
wait_until(lambda: "Too many open files" in spool.stats().trouble, "the trouble")
assert spool.stats().lost == 0
for fd in taken:
    os.close(fd)
wait_until(lambda: spool.stats().waiting == 0, "delivery")
stats = spool.end(time.monotonic() + 5)
print(json.dumps([stats.submitted, stats.delivered, stats.lost, stats.dead, stats.waiting]))
"""


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    """A process that has none neither stops nor loses: alerts wait in memory, and go to disk and out afterwards."""
    script = DESCRIPTORS.replace("priority=n % 8", "priority=Priority(n % 8)").replace(
        "import LIMITS,", "import LIMITS, Priority,"
    )
    with http_receiver() as receiver:
        done = subprocess.run(
            [sys.executable, "-c", script, receiver.url, str(tmp_path / "spool")],
            cwd=Path(__file__).resolve().parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [60, 60, 0, 0, 0]
    assert {h["Tercel-Alert-Id"] for h in receiver.headers} == {f"web1:boot:{n}" for n in range(60)}
