"""Alerts to a syslog daemon elsewhere, by RFC 5424 with structured data: over UDP, TCP, or TLS.

Comes in: alerts. Goes out: one message each; on a stream octet-counted (RFC 6587 section 3.4.1, RFC 5425), so that no
text can begin a message of its own. Never: a wait longer than the deadline, which holds over the whole exchange:
resolve, connect, handshake, send, and the other machine's acknowledgement.

Syslog has no answers. What can be known is asked: a message counts as delivered when the other machine has acknowledged
its bytes (SIOCOUTQ, tcp(7)), and when a connection breaks, what was sent on it in its last seconds is sent again before
anything new, as the daemon may not have read it. A message that comes twice has the same `id`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import socket
import ssl
import struct
import termios
import time
from collections import deque
from collections.abc import Sequence
from urllib.parse import urlsplit

from appliance.config.settings import SyslogOutput
from appliance.host.patience import Patience
from appliance.model.alert import Alert, FieldValue
from appliance.model.diagnostic import DeliveryError
from appliance.model.moment import iso_time
from appliance.model.text import printable
from appliance.model.wire import Format, line, shortened
from appliance.sinks.base import Sink
from appliance.sinks.syslog import FACILITIES

PORTS = {"udp": 514, "tcp": 601, "tls": 6514}  # RFC 5426, RFC 6587, RFC 5425
_RECALL_S = 5.0  # how long a daemon may need to read what its machine has acknowledged
_RECALL = 1024  # messages that are kept for that at most
_PROOF_S = 0.25  # what a new connection must stand before what was sent on it counts
_NOT_PRINTABLE = re.compile(r"[^\x21-\x7e]")
_NOT_NAME = re.compile(r'[^\x21-\x7e]|[="\]]')
_ESCAPED = re.compile(r'(["\\\]])')
_BOM = "\ufeff"
_SMALLEST = 256


class RemoteSyslogSink(Sink):
    """Keeps one connection; it is made anew when it broke."""

    name = "syslog_output"
    remote = True
    batch = 64

    def __init__(self, settings: SyslogOutput, options: Format, *, timeout_s: float) -> None:
        """`timeout_s`: for one exchange, from the name to the acknowledgement of all that was sent."""
        url = urlsplit(settings.url)
        self._settings = settings
        self._scheme = url.scheme
        self._host = url.hostname or ""
        self._port = url.port or PORTS[url.scheme]
        self._facility = FACILITIES[settings.facility]
        self._options = options
        self._timeout_s = timeout_s
        self._patience = Patience(timeout_s, most=1, logs=False)
        self._socket: socket.socket | None = None
        self._new = False  # a connection that has not proven itself
        self._recent: deque[tuple[float, bytes]] = deque(maxlen=_RECALL)  # delivered on this connection
        self._again: list[bytes] = []  # on one that broke

    def deliver(self, alert: Alert) -> None:
        """Send one message."""
        self.deliver_several([alert])

    def deliver_several(self, alerts: Sequence[Alert]) -> None:
        """Send them, and return when the other machine has acknowledged all of their bytes."""
        try:
            made = self._connected()
            if self._scheme == "udp":
                for alert in alerts:
                    self._send_datagram(made, alert)
                return
            messages = self._again + [b"%d %b" % (len(m), m) for m in map(self.message, alerts)]
            self._settle(made, b"".join(messages))
            now = time.monotonic()
            self._recent.extend((now, message) for message in messages)
            self._again = []
        except (OSError, ValueError) as error:
            self._break()
            raise DeliveryError(f"{self._where()}: {_reason(error)}", retry=True) from error

    def _settle(self, made: socket.socket, data: bytes) -> None:
        """Send, and wait until the other machine has acknowledged everything. Raises OSError and ValueError."""
        deadline = time.monotonic() + self._timeout_s
        made.sendall(data)  # its time-out is for the whole of it
        self._drain(made, deadline)

    def look(self) -> None:
        """Notice that the other end has closed the connection, and send again what it may not have read."""
        if self._socket is None or self._scheme == "udp":
            return
        try:
            if not self._hung_up(self._socket):
                return
        except (OSError, ValueError):
            pass  # it has, and not politely
        self._break()
        if self._again:
            self.deliver_several([])

    def message(self, alert: Alert) -> bytes:
        """One message of RFC 5424, without its frame."""
        number = self._settings.enterprise
        when = iso_time(alert.ts_ns)[:26] + "Z"  # microseconds
        head = (
            f"<{self._facility * 8 + alert.priority}>1 {when} {_token(alert.hostname, 255)} tercel {os.getpid()} alert"
        )
        about: list[tuple[str, FieldValue]] = [
            ("id", alert.id),
            ("rule", alert.rule),
            ("priority", alert.priority.label),
            ("source", alert.source),
            *(("tag", tag) for tag in alert.tags),
        ]
        data = _element(f"tercel@{number}", about)
        fields = [(name, value) for name, value in alert.fields.items() if value is not None]
        if fields:
            data += _element(f"fields@{number}", fields)
        return f"{head} {data} {_BOM}{line(alert, self._options)}".encode()

    def _connected(self) -> socket.socket:
        if self._socket is not None and self._hung_up(self._socket):
            self._break()
        if self._socket is None:
            made = self._patience.ask(self._connect, None, self._where(), late=_close)
            if made is None:
                raise TimeoutError
            self._socket, self._new = made, self._scheme != "udp"
        return self._socket

    def _connect(self) -> socket.socket | None:
        """A new connection; by a thread of its own, as a resolver keeps to no deadline."""
        if self._scheme == "udp":
            return self._udp()
        made = socket.create_connection((self._host, self._port), self._timeout_s)
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self._wrapped(made) if self._scheme == "tls" else made
        except BaseException:
            made.close()
            raise

    def _udp(self) -> socket.socket:
        family, kind, proto, _, address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]
        made = socket.socket(family, kind | socket.SOCK_CLOEXEC, proto)
        made.settimeout(self._timeout_s)
        made.connect(address)
        return made

    def _wrapped(self, made: socket.socket) -> ssl.SSLSocket:
        settings = self._settings
        context = ssl.create_default_context(cafile=settings.ca_cert or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if settings.client_cert:
            context.load_cert_chain(settings.client_cert, settings.client_key)
        return context.wrap_socket(made, server_hostname=self._host)

    def _hung_up(self, made: socket.socket) -> bool:
        """Whether the other end has closed. Nobody sends on such a connection; what comes is thrown away."""
        made.setblocking(False)
        try:
            return made.recv(4096) == b""
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        finally:
            made.settimeout(self._timeout_s)

    def _drain(self, made: socket.socket, deadline: float) -> None:
        pause = 0.0002
        while struct.unpack("i", fcntl.ioctl(made.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0]:
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(pause)
            pause = min(0.02, pause * 2)
        gone = self._hung_up(made)
        if self._new:  # who refuses a client, by its certificate say, does it after the handshake
            until = time.monotonic() + _PROOF_S
            while not gone and (left := until - time.monotonic()) > 0:
                select.select([made], [], [], left)
                gone = self._hung_up(made)
            self._new = gone
        if gone:
            raise ConnectionResetError(errno.ECONNRESET, "the other end has closed the connection")

    def _break(self) -> None:
        """Close the connection, and keep what was delivered on it and may not have been read."""
        since = time.monotonic() - _RECALL_S
        self._again = (self._again + [data for sent, data in self._recent if sent >= since])[-_RECALL:]
        self._recent.clear()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send_datagram(self, made: socket.socket, alert: Alert) -> None:
        """One datagram; texts that none holds are cut, and say so."""
        limit = 0
        while True:
            try:
                made.send(self.message(shortened(alert, limit) if limit else alert))
                return
            except OSError as error:
                if error.errno != errno.EMSGSIZE or limit == _SMALLEST:
                    raise
                limit = max(_SMALLEST, limit // 2 or 32 << 10)

    def close(self) -> None:
        """Close the connection, as politely as the protocol has it."""
        made, self._socket = self._socket, None
        if made is not None:
            try:
                if isinstance(made, ssl.SSLSocket):
                    made.unwrap()
            except (OSError, ValueError):
                pass
            finally:
                made.close()

    def _where(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{self._scheme}://{host}:{self._port}"

    def describe(self) -> str:
        """One line for the start-up banner."""
        return f"syslog {self._where()}"


def _close(made: socket.socket | None) -> None:
    if made is not None:
        made.close()


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not good: {printable(error.verify_message)}"
    return printable(str(getattr(error, "strerror", None) or error))[:200]


def _token(text: str, limit: int) -> str:
    """A text as a field of the header, where only printable ASCII without blanks may stand."""
    return _NOT_PRINTABLE.sub("?", text)[:limit] or "-"


def _element(name: str, params: Sequence[tuple[str, FieldValue]]) -> str:
    """An element of structured data (RFC 5424 section 6.3): `"`, `\\` and `]` are escaped in values."""
    written = "".join(f' {_NOT_NAME.sub("_", key)[:32] or "_"}="{_value(value)}"' for key, value in params)
    return f"[{name}{written}]"


def _value(value: FieldValue) -> str:
    text = ("true" if value else "false") if isinstance(value, bool) else printable(str(value))
    return _ESCAPED.sub(r"\\\1", text)
