"""An HTTP server that has bounds: what the webhook of audit events and the daemon's own pages listen with.

Comes in: connections. Goes out: requests to a handler, each in a thread of its own. Never: more connections than there
is room for, a handshake that holds up others, a client that takes its time byte by byte, a head of any size, a question
to the resolver.
"""

from __future__ import annotations

import errno
import io
import logging
import socket
import ssl
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from appliance import __version__
from appliance.host.faults import Faults
from appliance.model.diagnostic import TercelError

log = logging.getLogger(__name__)

_NONE_TO_BE_HAD_S = 0.2
_HEAD_BYTES = 32 << 10  # request line and header lines together


class CertificateError(TercelError):
    """A file holds no certificate with its key, or none of an authority."""


def tls_context(certificate: str, client_ca: str | None = None) -> ssl.SSLContext:
    """For a server with this certificate, a PEM file with its key. Raises `CertificateError`.

    `client_ca`: a PEM file of authorities; a client then has to show a certificate that one of them has signed.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate)
    except (OSError, ssl.SSLError) as error:
        raise CertificateError(f"{certificate} must contain a PEM certificate and its private key: {error}") from error
    if client_ca is not None:
        try:
            context.load_verify_locations(cadata=Path(client_ca).read_text("ascii"))
        except (OSError, UnicodeDecodeError, ssl.SSLError) as error:
            raise CertificateError(f"{client_ca} has no certificates of authorities: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class BoundedServer(ThreadingHTTPServer):
    """`room` has a place for each connection, one more is closed; `timeout_s` bounds the handshake and each write.
    `handshakes_failed` counts clients that could not show a certificate, where one is wanted, or spoke no TLS."""

    daemon_threads = True
    allow_reuse_address = True
    room: threading.BoundedSemaphore
    timeout_s: float
    tls: ssl.SSLContext | None
    handshakes_failed = 0
    faults: Faults

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], listening: socket.socket | None = None
    ) -> None:
        """Bind and listen; or go on with a socket that listens already, which is ours from now on. Raises OSError."""
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        if listening is None:
            super().__init__(address, handler)
            return
        super().__init__(address, handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self._name(listening)

    def server_bind(self) -> None:
        """Bind; not as HTTPServer does, which asks the resolver for a name."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self._name(self.socket)

    def _name(self, bound: socket.socket) -> None:
        self.server_address = bound.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection. Where the process has no descriptor for it, a moment later: it still waits then."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(_NONE_TO_BE_HAD_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection a thread, if there is room."""
        if not self.room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self.room.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Shake hands in the connection's own thread, then handle it."""
        try:
            request.settimeout(self.timeout_s)
            if self.tls is not None:
                try:
                    request = self.tls.wrap_socket(request, server_side=True)
                except (OSError, ssl.SSLError) as error:
                    self.shutdown_request(request)
                    self._handshake_failed(error)
                    return
            super().process_request_thread(request, client_address)
        finally:
            self.room.release()

    def _handshake_failed(self, error: Exception) -> None:
        """Told at the first and whenever their number has doubled: whoever scans ports makes many."""
        self.handshakes_failed += 1
        count = self.handshakes_failed
        if count & (count - 1) == 0:
            log.warning("TLS handshakes with clients have failed", extra={"count": count, "latest": str(error)})

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of ours; anything else is."""
        if isinstance(sys.exception(), OSError):
            log.debug("an HTTP client went away", exc_info=True)
        else:
            self.faults.caught(f"answering HTTP on port {self.server_address[1]}")


class Listener:
    """A server and the thread that serves it: from `start` to `stop`."""

    def __init__(self, server: BoundedServer, name: str) -> None:
        """`server` is bound already; `name` is the thread's."""
        self._bound = server
        self._name = name
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        server.faults = Faults()

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self._bound.server_address[1])

    def start(self, faults: Faults | None = None) -> None:
        """Begin to answer; errors of ours are counted in `faults`. Without a thread for it this listens no more, and
        raises OSError."""
        if faults is not None:
            self._bound.faults = faults
        self._thread = self._bound.faults.thread(self._name, self._bound.serve_forever, self._ending)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._bound.server_close()
            raise OSError(errno.EAGAIN, "cannot start a thread") from error

    def stop(self) -> None:
        """Listen no more. Requests that are being answered end on their own, in the time that they have at most."""
        self._ending.set()
        if self._thread is not None and self._thread.is_alive():
            self._bound.shutdown()
        self._bound.server_close()


class _TooLong(Exception):
    """More bytes than a head may have."""


class _Reader(io.RawIOBase):
    """A socket's bytes, as many and for as long as `allow` has said."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._end = 0.0
        self._bytes: int | None = None

    def allow(self, seconds: float, size: int | None) -> None:
        """From now on so many seconds, and bytes where there is a bound."""
        self._end = time.monotonic() + seconds
        self._bytes = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._bytes is not None and self._bytes <= 0:
            raise _TooLong
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request did not come in time")
        before = self._connection.gettimeout()
        self._connection.settimeout(left)
        try:
            count = self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(before)
        if self._bytes is not None:
            self._bytes -= count
        return count


class BoundedHandler(BaseHTTPRequestHandler):
    """Waits `idle_s` for a request to begin and `request_s` for the rest of it, however slowly its bytes come."""

    server_version = f"tercel/{__version__}"
    sys_version = ""
    idle_s: float
    request_s: float

    def setup(self) -> None:
        """Put the bounds between the connection and who reads from it."""
        super().setup()
        self._reader = _Reader(self.connection)
        self.rfile = io.BufferedReader(self._reader)

    def handle_one_request(self) -> None:
        """Wait for the request line, then handle one request."""
        self._reader.allow(self.idle_s, _HEAD_BYTES)
        try:
            super().handle_one_request()
        except _TooLong:
            self.close_connection = True

    def parse_request(self) -> bool:
        """Read the head; what follows has the bounds of who reads it, and the same end."""
        self._reader.allow(self.request_s, _HEAD_BYTES)
        try:
            return super().parse_request()
        except _TooLong:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            self.close_connection = True
            return False
        finally:
            self._reader.allow(self.request_s, None)
