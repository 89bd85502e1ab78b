"""The webhook of the Kubernetes API server's audit backend.

Comes in: POST of an audit event, an `EventList` or an array, as JSON. Goes out: batches to a queue. Never: more memory
than its limits say, a wait for whoever judges (a full queue is answered by 503, and the API server sends again), or a
page for a browser.

On the standard library's server: one path, one method, requests of one trusted kind of client, a few a second at most.
What it lacks (bounds) stands here; an ASGI or WSGI server would bring an event loop or processes of its own into a
daemon whose time belongs to the kernel's ring.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from appliance import __version__
from appliance.model.diagnostic import KernelError
from appliance.sources.k8saudit import AuditError, Batch, read_body
from appliance.sources.listening import BoundedServer

log = logging.getLogger(__name__)

_CONNECTIONS = 64  # at once; the API server keeps a handful
_IDLE_S = 60.0  # between two requests of a connection
_BODY_S = 20.0  # for a whole body, however slowly it comes
_BODIES = 4  # of the largest size, in memory at once
_CHUNK = 64 << 10


class WebhookError(KernelError):
    """The webhook cannot be had: the port is taken, the certificate is not one."""


class Webhook:
    """Listens from `start` to `close`. `counts` has the answers by status."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        path: str,
        certificate: str | None,
        max_event_bytes: int,
        max_body_bytes: int,
        put: Callable[[Batch], bool],
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Bind, and read `certificate` (a PEM file with its key; None: no TLS). Raises `WebhookError`."""
        context = None if certificate is None else _tls(certificate)
        kind = _ServerV6 if ":" in host else _Server
        try:
            self._server = kind((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise WebhookError(f"the audit webhook cannot listen on {host} port {port}: {error}") from error
        self._server.tls = context
        self._server.audit_path = path
        self._server.max_event_bytes = max_event_bytes
        self._server.max_body_bytes = max_body_bytes
        self._server.budget = _Budget(max_body_bytes * _BODIES)
        self._server.put = put
        self._server.clock_ns = clock_ns
        self.counts = self._server.counts
        self._thread = threading.Thread(target=self._server.serve_forever, name="k8s-audit", daemon=True)

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Listen no more. Requests that are being answered end on their own."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


def _tls(certificate: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate)
    except (OSError, ssl.SSLError) as error:
        raise WebhookError(f"{certificate} is no certificate with its key: {error}") from error
    return context


class _Budget:
    """Bytes of bodies that may be in memory at once."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give(self, size: int) -> None:
        with self._lock:
            self._left += size


class _Server(BoundedServer):
    request_queue_size = 64
    timeout_s = _BODY_S
    audit_path: str
    max_event_bytes: int
    max_body_bytes: int
    budget: _Budget
    put: Callable[[Batch], bool]
    clock_ns: Callable[[], int]

    def __init__(self, *args: Any) -> None:
        self.counts: Counter[int] = Counter()
        self.room = threading.BoundedSemaphore(_CONNECTIONS)
        super().__init__(*args)


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = f"tercel/{__version__}"
    sys_version = ""
    protocol_version = "HTTP/1.1"  # connections are kept
    timeout = _IDLE_S

    def do_POST(self) -> None:
        """Take a body, if it is one that can be taken."""
        if self.path.partition("?")[0] != self.server.audit_path:
            self._refuse(HTTPStatus.NOT_FOUND, f"audit events go to {self.server.audit_path}")
            return
        if self.headers.get_content_type() != "application/json":
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the content type must be application/json")
            return
        if self.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body must not be compressed")
            return
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit() and len(length) < 20):
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "a Content-Length is wanted")
            return
        size = int(length)
        if size > self.server.max_body_bytes:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {self.server.max_body_bytes} bytes")
            return
        if not self.server.budget.take(size):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too much at once")
            return
        try:
            self._take(size)
        finally:
            self.server.budget.give(size)

    def _take(self, size: int) -> None:
        data = self._read(size)
        if data is None:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the body did not come")
            return
        try:
            batch = read_body(data, now_ns=self.server.clock_ns(), max_event_bytes=self.server.max_event_bytes)
        except AuditError as error:
            log.warning("an audit request was refused: %s", error)
            self._answer(HTTPStatus.BAD_REQUEST, str(error))
            return
        if self.server.put(batch):
            self._answer(HTTPStatus.OK, "ok")
        else:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "too much at once")

    def _read(self, size: int) -> bytes | None:
        parts: list[bytes] = []
        end = time.monotonic() + _BODY_S
        while size:
            if time.monotonic() > end:
                return None
            try:
                part = self.rfile.read1(min(size, _CHUNK))
            except TimeoutError:
                return None
            if not part:
                return None
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        """Answer without having read the body: the connection cannot be used again."""
        self.close_connection = True
        self._answer(status, why)

    def _answer(self, status: HTTPStatus, why: str) -> None:
        self.server.counts[status] += 1
        body = f"{why}\n".encode(errors="replace")
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Retry-After", "1")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: requests are counted."""
