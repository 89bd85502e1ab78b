"""Real other ends of sinks: a syslog daemon, an HTTP receiver. Both on this machine only, both ended by pid."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.docker import end

_RSYSLOG = """
global(workDirectory="{folder}" maxMessageSize="256k")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{socket}" CreatePath="on" UseSpecialParser="on" RateLimit.Interval="0")
template(name="raw" type="string" string="%pri% %syslogtag%%msg%\\n")
action(type="omfile" file="{log}" template="raw")
"""


def wait_until(done: Callable[[], bool], what: str, patience_s: float = 20) -> None:
    """Wait for something that must come."""
    deadline = time.monotonic() + patience_s
    while not done():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {patience_s} s")
        time.sleep(0.02)


@dataclass
class Rsyslog:
    """A running rsyslogd: `socket` takes messages, `log` gets them."""

    socket: Path
    log: Path

    def lines(self) -> list[str]:
        """`PRI TAG: text` of each message so far."""
        return self.log.read_text(errors="surrogateescape").split("\n")[:-1] if self.log.exists() else []


@contextmanager
def rsyslog(folder: Path) -> Iterator[Rsyslog]:
    """Debian's rsyslogd with a configuration, a socket and a log of its own."""
    daemon = Rsyslog(folder / "log.sock", folder / "messages")
    config = folder / "rsyslog.conf"
    config.write_text(_RSYSLOG.format(folder=folder, socket=daemon.socket, log=daemon.log))
    program = shutil.which("rsyslogd") or "/usr/sbin/rsyslogd"
    with (folder / "rsyslogd.out").open("wb") as out:
        process = subprocess.Popen(
            [program, "-n", "-f", config, "-i", folder / "rsyslogd.pid"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        wait_until(daemon.socket.exists, "rsyslogd's socket")
        yield daemon
    finally:
        end(process)


@dataclass
class HttpReceiver:
    """Takes POSTs as Falcosidekick does; `answers` are the statuses to give, then 200."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def alerts(self) -> list[dict[str, Any]]:
        """The bodies as JSON."""
        return [json.loads(body) for body in list(self.bodies)]


@contextmanager
def http_receiver() -> Iterator[HttpReceiver]:
    """A receiver on a port of its own of the loopback."""
    receiver = HttpReceiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = receiver.answers.pop(0) if receiver.answers else 200
            if status == 200:
                receiver.headers.append(dict(self.headers))
                receiver.bodies.append(body)
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
