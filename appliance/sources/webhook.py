"""The webhook of the Kubernetes API server's audit backend.

Comes in: POST of an audit event, an `EventList` or an array, as JSON. Goes out: batches to a queue. Never: more memory
than its limits say, a wait for whoever judges (a full queue is answered by 503, and the API server sends again), an
event of a client without a certificate where one is wanted, or a page for a browser.

On the standard library's server: one path, one method, requests of one trusted kind of client, a few a second at most.
What it lacks (bounds) stands here; an ASGI or WSGI server would bring an event loop or processes of its own into a
daemon whose time belongs to the kernel's ring.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from appliance.host.listening import BoundedHandler, BoundedServer, CertificateError, Listener, tls_context
from appliance.model.diagnostic import KernelError
from appliance.sources.k8saudit import AuditError, Batch, read_body

log = logging.getLogger(__name__)

_CONNECTIONS = 64  # at once; the API server keeps a handful
_IDLE_S = 60.0  # between two requests of a connection
_BODY_S = 20.0  # for a whole request, however slowly it comes
_BODIES = 4  # of the largest size, in memory at once
_CHUNK = 64 << 10
_LINE = 1024  # of a chunked body: a size, with what may follow it; a header line at its end
_LINES_AT_END = 100


class WebhookError(KernelError):
    """The webhook cannot start: the port is taken, or the certificate is not one."""


class _Refused(Exception):
    """A request that is not taken; its connection cannot be used again."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class Webhook(Listener):
    """Listens from `start` to `stop`. `counts` has the answers by status."""

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
        client_ca: str | None = None,
        cluster: str = "",
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Bind, and read `certificate` (a PEM file with its key; None: no TLS). Raises `WebhookError`.

        `client_ca`: a PEM file of authorities; a client then has to show a certificate that one of them has signed.
        `cluster` is the name of the cluster for events that tell none.
        """
        self._certificates = certificate, client_ca
        context = self.read_certificates()
        try:
            self._server = _Server((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise WebhookError(f"the audit webhook cannot listen on {host} port {port}: {error}") from error
        self._server.tls = context
        self._server.audit_path = path
        self._server.max_event_bytes = max_event_bytes
        self._server.max_body_bytes = max_body_bytes
        self._server.budget = _Budget(max_body_bytes * _BODIES)
        self._server.put = put
        self._server.cluster = cluster
        self._server.clock_ns = clock_ns
        self.counts = self._server.counts
        super().__init__(self._server, "k8s-audit")

    @property
    def handshakes_failed(self) -> int:
        """Clients that spoke no TLS, or had no certificate where one is wanted."""
        return self._server.handshakes_failed

    def read_certificates(self) -> ssl.SSLContext | None:
        """What its files hold now, for `use`; None without TLS. Raises `WebhookError`."""
        certificate, client_ca = self._certificates
        try:
            return None if certificate is None else tls_context(certificate, client_ca)
        except CertificateError as error:
            raise WebhookError(str(error)) from error

    def use(self, context: ssl.SSLContext | None) -> None:
        """Meet the clients that come from now on with these certificates."""
        self._server.tls = context


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


class _Taken:
    """What one request has taken of the budget."""

    def __init__(self, budget: _Budget) -> None:
        self._budget = budget
        self.size = 0

    def more(self, size: int) -> bool:
        if not self._budget.take(size):
            return False
        self.size += size
        return True

    def give_back(self) -> None:
        self._budget.give(self.size)


class _Server(BoundedServer):
    request_queue_size = 64
    timeout_s = _BODY_S
    audit_path: str
    max_event_bytes: int
    max_body_bytes: int
    budget: _Budget
    put: Callable[[Batch], bool]
    cluster: str
    clock_ns: Callable[[], int]

    def __init__(self, *args: Any) -> None:
        self.counts: Counter[int] = Counter()
        self.room = threading.BoundedSemaphore(_CONNECTIONS)
        super().__init__(*args)


class _Handler(BoundedHandler):
    server: _Server
    protocol_version = "HTTP/1.1"  # connections are kept
    timeout = request_s = _BODY_S
    idle_s = _IDLE_S

    def do_POST(self) -> None:
        """Take a body, if it is one that can be taken."""
        taken = _Taken(self.server.budget)
        try:
            self._check_head()
            data = self._chunked(taken) if "Transfer-Encoding" in self.headers else self._whole(taken)
            self._take(data)
        except _Refused as refusal:
            self._refuse(refusal.status, str(refusal))
        except TimeoutError:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the body did not come")
        finally:
            taken.give_back()

    def _check_head(self) -> None:
        if self.path.partition("?")[0] != self.server.audit_path:
            raise _Refused(HTTPStatus.NOT_FOUND, f"audit events go to {self.server.audit_path}")
        if self.headers.get_content_type() != "application/json":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the content type must be application/json")
        if self.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body must not be compressed")

    def _whole(self, taken: _Taken) -> bytes:
        """A body whose length is said before it."""
        lengths = self.headers.get_all("Content-Length", [])
        length = lengths[0] if len(lengths) == 1 else ""
        if not (length.isascii() and length.isdigit() and len(length) < 20):
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "a Content-Length is wanted")
        return b"".join(self._read(int(length), taken))

    def _chunked(self, taken: _Taken) -> bytes:
        """A body that comes in chunks, each with its size before it (RFC 9112, section 7.1)."""
        codings = self.headers.get_all("Transfer-Encoding", [])
        if len(codings) != 1 or codings[0].strip().lower() != "chunked":
            raise _Refused(HTTPStatus.NOT_IMPLEMENTED, "the only transfer coding is chunked")
        if "Content-Length" in self.headers or self.request_version == "HTTP/1.0":
            raise _Refused(HTTPStatus.BAD_REQUEST, "both Content-Length and Transfer-Encoding were given")
        parts: list[bytes] = []
        while size := self._chunk_size():
            parts += self._read(size, taken)
            if self._line() != b"":
                raise _Refused(HTTPStatus.BAD_REQUEST, "a chunk is longer than its size")
        for _ in range(_LINES_AT_END):
            if not self._line():
                return b"".join(parts)
        raise _Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too many lines after the last chunk")

    def _chunk_size(self) -> int:
        text = self._line().partition(b";")[0].strip(b" \t")
        if not text or len(text) > 16 or text.strip(b"0123456789abcdefABCDEF"):
            raise _Refused(HTTPStatus.BAD_REQUEST, "a chunk has no size")
        return int(text, 16)

    def _line(self) -> bytes:
        line = self.rfile.readline(_LINE)
        if not line.endswith(b"\r\n"):
            raise _Refused(HTTPStatus.BAD_REQUEST, "a line of a chunked body has no end")
        return line[:-2]

    def _read(self, size: int, taken: _Taken) -> list[bytes]:
        """So many bytes of the body, if they have room."""
        if taken.size + size > self.server.max_body_bytes:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {self.server.max_body_bytes} bytes")
        if not taken.more(size):
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too much at once")
        parts: list[bytes] = []
        while size:
            part = self.rfile.read1(min(size, _CHUNK))
            if not part:
                raise _Refused(HTTPStatus.BAD_REQUEST, "the body ended early")
            parts.append(part)
            size -= len(part)
        return parts

    def _take(self, data: bytes) -> None:
        server = self.server
        try:
            batch = read_body(
                data, now_ns=server.clock_ns(), max_event_bytes=server.max_event_bytes, cluster=server.cluster
            )
        except AuditError as error:
            log.warning("an audit request was refused: %s", error)
            self._answer(HTTPStatus.BAD_REQUEST, str(error))
            return
        if server.put(batch):
            self._answer(HTTPStatus.OK, "ok")
        else:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "too much at once")

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
