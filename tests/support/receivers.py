"""Real other ends of sinks: syslog daemons, HTTP receivers and such that fail. On this machine only, ended by pid."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.docker import end, serve

_RSYSLOG = """
global(workDirectory="{folder}" maxMessageSize="256k")
main_queue(queue.workerThreads="1")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{socket}" CreatePath="on" UseSpecialParser="on" RateLimit.Interval="0")
template(name="raw" type="string" string="%pri% %syslogtag%%msg%\\n")
action(type="omfile" file="{log}" template="raw")
"""


_REMOTE = """
global(workDirectory="{folder}" maxMessageSize="256k" {tls})
main_queue(queue.workerThreads="1")
module(load="imtcp" {driver})
module(load="imudp")
input(type="{input}" address="127.0.0.1" port="{port}")
template(name="raw" type="string" string="%pri% %timestamp:::date-rfc3339% %hostname% %app-name% %msgid% \
%structured-data% %msg%\\n")
action(type="omfile" file="{log}" template="raw")
"""
_TLS = """DefaultNetstreamDriver="gtls" DefaultNetstreamDriverCAFile="{c}/ca.pem"
DefaultNetstreamDriverCertFile="{c}/{name}.pem" DefaultNetstreamDriverKeyFile="{c}/{name}.key\""""
_DRIVER = 'StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="{mode}"'


def wait_until(done: Callable[[], bool], what: str, patience_s: float = 90) -> None:
    """Wait for something that must come. The patience is for machines that stand still now and then."""
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
    process = serve([program, "-n", "-f", config, "-i", folder / "rsyslogd.pid"], folder / "rsyslogd.out")
    try:
        wait_until(daemon.socket.exists, "rsyslogd's socket")
        yield daemon
    finally:
        end(process)


@dataclass
class RemoteRsyslog:
    """A rsyslogd that listens on a port: `lines` are `PRI TIME HOST APP MSGID DATA MSG`."""

    folder: Path
    protocol: str
    port: int
    certificates: Path | None = None
    name: str = "server"
    client: bool = False
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For `syslog_output.url`."""
        return f"{self.protocol}://localhost:{self.port}" if self.protocol != "udp" else f"udp://127.0.0.1:{self.port}"

    def lines(self) -> list[str]:
        """What it took so far."""
        log = self.folder / "remote"
        return log.read_text(errors="surrogateescape").split("\n")[:-1] if log.exists() else []

    def start(self) -> None:
        """Start, and wait until it listens."""
        tls = self.protocol == "tls"
        config = self.folder / "remote.conf"
        config.write_text(
            _REMOTE.format(
                folder=self.folder,
                log=self.folder / "remote",
                port=self.port,
                input="imudp" if self.protocol == "udp" else "imtcp",
                tls=_TLS.format(c=self.certificates, name=self.name) if tls else "",
                driver=_DRIVER.format(mode="x509/certvalid" if self.client else "anon") if tls else "",
            )
        )
        program = shutil.which("rsyslogd") or "/usr/sbin/rsyslogd"
        argv = [program, "-n", "-f", config, "-i", self.folder / "remote.pid"]
        self.process = serve(argv, self.folder / "remote.out")
        wait_until(lambda: listens(self.port, self.protocol == "udp"), "rsyslogd's port")

    def kill(self) -> None:
        """End it without a word."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        (self.folder / "remote.pid").unlink(missing_ok=True)


def listens(port: int, udp: bool = False) -> bool:
    """Whether somebody listens on a port of the loopback."""
    table = Path("/proc/net/udp" if udp else "/proc/net/tcp").read_text()
    return any(
        fields[1].endswith(f":{port:04X}") and fields[3] == ("07" if udp else "0A")
        for fields in (line.split() for line in table.splitlines()[1:])
    )


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """A port of the loopback that nobody has, for a server that somebody else starts.

    It is none that the kernel gives away by itself (ip_local_port_range): nobody's connection takes it in between, and
    none that is made to it while nobody listens meets itself.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = secrets.choice(range(10_000, first))
        with socket.socket(socket.AF_INET, kind) as made, contextlib.suppress(OSError):
            made.bind(("127.0.0.1", port))
            return port


@contextmanager
def closed_port() -> Iterator[int]:
    """A port of the loopback where connections are refused: it is taken, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def remote_rsyslog(
    folder: Path, protocol: str, certificates: Path | None = None, *, name: str = "server", client: bool = False
) -> Iterator[RemoteRsyslog]:
    """Debian's rsyslogd on a port: `udp`, `tcp`, `tls`. `client`: it wants a certificate of the authority's."""
    port = free_port(socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM)
    daemon = RemoteRsyslog(folder, protocol, port, certificates, name, client)
    daemon.start()
    try:
        yield daemon
    finally:
        if daemon.process is not None:
            end(daemon.process)


@contextmanager
def failing_server(how: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port whose connections are handled by `how`, each in a thread, and closed then."""
    ending = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)

        def handle(made: socket.socket) -> None:
            with made:
                made.settimeout(10)
                with contextlib.suppress(OSError):
                    how(made)

        def serve() -> None:
            while not ending.is_set():
                with contextlib.suppress(TimeoutError):
                    made, _ = server.accept()
                    threading.Thread(target=handle, args=(made,), daemon=True).start()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            ending.set()
            thread.join()


@dataclass
class HttpReceiver:
    """Takes POSTs as Falcosidekick does; `answers` are the statuses to give, then 200."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    connections: set[int] = field(default_factory=set)  # the clients' ports

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
                receiver.connections.add(self.client_address[1])
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


@contextmanager
def https_receiver(certificates: Path, *, mtls: bool = False) -> Iterator[tuple[str, list[bytes]]]:
    """A receiver with a certificate of `make_certificates`: its address, and the bodies it took.

    `mtls`: it wants a certificate of the same authority's from the client.
    """
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    if mtls:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates / "ca.pem")

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def finish_request(self, request: Any, client_address: Any) -> None:
            try:
                with context.wrap_socket(request, server_side=True) as wrapped:
                    super().finish_request(wrapped, client_address)
            except OSError:
                request.close()

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}/", bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
