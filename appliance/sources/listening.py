"""An HTTP server that has bounds: what the webhook of audit events and the daemon's own pages listen with.

Comes in: connections. Goes out: requests to a handler, each in a thread of its own. Never: more connections than there
is room for, a handshake that holds up others, a question to the resolver.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from http.server import ThreadingHTTPServer
from typing import Any

log = logging.getLogger(__name__)


class BoundedServer(ThreadingHTTPServer):
    """`room` has a place for each connection, one more is closed; `timeout_s` bounds each wait."""

    daemon_threads = True
    allow_reuse_address = True
    room: threading.BoundedSemaphore
    timeout_s: float
    tls: ssl.SSLContext | None

    def server_bind(self) -> None:
        """Bind; not as HTTPServer does, which asks the resolver for a name."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection a thread, if there is room."""
        if not self.room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread to be had
            self.room.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Shake hands in the connection's own thread, then handle it."""
        try:
            request.settimeout(self.timeout_s)
            if self.tls is not None:
                try:
                    request = self.tls.wrap_socket(request, server_side=True)
                except (OSError, ssl.SSLError):
                    self.shutdown_request(request)
                    return
            super().process_request_thread(request, client_address)
        finally:
            self.room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of ours."""
        log.debug("an HTTP client went away", exc_info=True)
