"""Alerts to the local syslog daemon, as libc's syslog(3) sends them.

Comes in: alerts. Goes out: one datagram each (RFC 3164: `<PRI>Mmm dd hh:mm:ss tercel[pid]: text`). Never: a wait longer
than the deadline for a daemon that does not read.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from pathlib import Path

from appliance.model.alert import Alert
from appliance.model.diagnostic import DeliveryError
from appliance.model.text import why
from appliance.model.wire import Format, line, shortened
from appliance.sinks.base import Sink

# RFC 5424, table 1
FACILITIES = {"kern": 0, "user": 1, "daemon": 3, "auth": 4, "syslog": 5, "authpriv": 10} | {
    f"local{n}": 16 + n for n in range(8)
}
_SMALLEST = 256  # characters of a text below which cutting is no help


class SyslogSink(Sink):
    """Keeps one socket, connected anew when the daemon was restarted."""

    name = "syslog_output"

    def __init__(self, path: Path, facility: str, options: Format, *, timeout_s: float) -> None:
        """`facility` is one of `FACILITIES`."""
        self._path = path
        self._facility = FACILITIES[facility]
        self._options = options
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None

    def deliver(self, alert: Alert) -> None:
        """Send one message; texts that no datagram holds are cut, and say so."""
        limit = 0
        while True:
            try:
                self._send(self._message(shortened(alert, limit) if limit else alert))
                return
            except OSError as error:
                if error.errno == errno.EMSGSIZE and limit != _SMALLEST:
                    limit = max(_SMALLEST, limit // 2 or 64 << 10)
                    continue
                self.close()
                reason = "the daemon does not read" if isinstance(error, TimeoutError) else why(error)
                raise DeliveryError(f"{self._path}: {reason}", retry=True) from error

    def _message(self, alert: Alert) -> bytes:
        when = time.localtime(alert.ts_ns // 1_000_000_000)
        moment = f"{time.strftime('%b', when)} {when.tm_mday:>2} {time.strftime('%H:%M:%S', when)}"
        head = f"<{self._facility * 8 + alert.priority}>{moment} tercel[{os.getpid()}]: "
        return (head + line(alert, self._options)).encode()

    def _send(self, message: bytes) -> None:
        if self._socket is None:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            try:
                made.settimeout(self._timeout_s)
                made.connect(os.fspath(self._path))
            except OSError:
                made.close()
                raise
            self._socket = made
        self._socket.send(message)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def describe(self) -> str:
        """One line for the start-up banner."""
        return f"syslog {self._path}"
