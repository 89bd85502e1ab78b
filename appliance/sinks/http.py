"""Alerts by HTTP POST, one JSON object each, as Falcosidekick reads them; or several in one request.

Comes in: alerts. Goes out: requests, each with the ids of its alerts in the header `Tercel-Alert-Id` (the JSON has
Falco's keys and no other), so that a receiver knows an alert that comes a second time. Never: a redirect followed, a
proxy of the environment's, an answer read beyond a bound, or an exchange that takes longer than `timeout_ms`.

The deadline holds over the whole exchange: resolve, connect, handshake, send and read. A thread of its own makes it;
when the deadline passes, its connection is shut down and the alert is tried again, unless the receiver had already
answered 2xx: then it has the alert, however slowly the rest of its answer drips.

An answer of 2xx means that the other end has it. One that is about the request itself (400, 413, 415, 422 and their
kin) refuses that alert for good; one about the place or ourselves (401, 403, 404, 3xx) can be mended by people and is
tried again, as are 408, 425, 429 and 5xx.
"""

from __future__ import annotations

import gzip
import logging
import re
import socket
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from email.message import Message

import requests
import urllib3
from requests.adapters import HTTPAdapter

from appliance.config.settings import HttpOutput, Secret
from appliance.host.patience import Patience
from appliance.model.alert import Alert
from appliance.model.diagnostic import DeliveryError
from appliance.model.text import printable
from appliance.model.wire import Format, to_json
from appliance.sinks.base import Sink

log = logging.getLogger(__name__)

_NOT_IN_HEADER = re.compile(r"[^\x21-\x2b\x2d-\x7e]")  # all but printable ASCII without blank and comma
_MAX_ANSWER = 64 << 10
_MAX_ECHO = 1000
_PAUSE_S = 10.0
# of the client's errors, those about what was sent: the same again gets the same answer (RFC 9110, 15.5)
_REFUSED = frozenset({400, 405, 406, 409, 410, 411, 412, 413, 414, 415, 416, 417, 422, 424, 428, 431, 451})
_MAX_WAIT_S = 86_400
NO_HEADERS = Message()


@dataclass(slots=True)
class _Exchange:
    """One request and what is known of its answer: `status` is 0 until all header lines are there. `broken`: a header
    line is cut."""

    body: bytes
    headers: dict[str, str]
    status: int = 0
    broken: bool = False
    after_s: float = 0.0
    text: bytes = b""


class HttpSink(Sink):
    """Keeps a connection open between alerts, unless `keep_alive` is off."""

    name = "http_output"
    remote = True

    def __init__(self, settings: HttpOutput, options: Format) -> None:
        self._settings = settings
        self._options = replace(options, json_output=True)
        self._timeout_s = settings.timeout_ms / 1000
        self._session: _Session | None = None
        self._patience = Patience(self._timeout_s, most=1, logs=False)
        self._timeouts = 0  # in a row
        self._paused_until = 0.0
        self.batch = settings.batch
        self.linger_s = settings.batch_wait_ms / 1000 if settings.batch > 1 else 0.0
        if settings.insecure:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def deliver(self, alert: Alert) -> None:
        """Post one alert; any answer of 2xx means that the other end has it."""
        self.deliver_several([alert])

    def deliver_several(self, alerts: Sequence[Alert]) -> None:
        """Post them in one request: as one JSON object where there is one, else as the settings say."""
        if time.monotonic() < self._paused_until:
            raise DeliveryError(f"not tried: {self._timeouts} time-outs in a row", retry=True)
        texts = [to_json(alert, options=self._options) for alert in alerts]
        kind = "application/json"
        if self._settings.batch == 1:
            text = "".join(texts)
        elif self._settings.batch_format == "array":
            text = f"[{','.join(texts)}]"
        else:
            text, kind = "".join(f"{text}\n" for text in texts), "application/x-ndjson"
        self.post(text, kind, {"Tercel-Alert-Id": ", ".join(_NOT_IN_HEADER.sub("?", alert.id) for alert in alerts)})

    def post(self, text: str, kind: str, more: Mapping[str, str]) -> None:
        """Post a text of a media type, with `more` headers. Raises `DeliveryError`."""
        body = text.encode()
        headers = {"Content-Type": f"{kind}; charset=utf-8", "User-Agent": self._settings.user_agent, **more}
        if self._settings.token:
            headers["Authorization"] = f"Bearer {self._settings.token}"
        if self._settings.compress_uploads:
            body = gzip.compress(body, mtime=0)
            headers["Content-Encoding"] = "gzip"
        if not self._settings.keep_alive:
            headers["Connection"] = "close"
        exchange = _Exchange(body, headers)
        try:
            self._post(exchange)
        except requests.Timeout as error:
            raise self._timed_out() from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            if exchange.broken or not 200 <= exchange.status < 300:
                self.close()
                raise DeliveryError(_reason(error), retry=True) from error
            self.close()  # the receiver has the alert; its answer's body broke off
        self._judge(exchange)

    def _post(self, exchange: _Exchange) -> None:
        """Make an exchange within the deadline, or break it off. Raises what requests raises, and `DeliveryError`."""
        session = self._session or self._connect()
        over = self._patience.ask(lambda: self._talk(session, exchange), False, self.describe())
        if not over:
            status = exchange.status
            self.close()
            if exchange.broken or not 200 <= status < 300:
                raise self._timed_out()

    def _talk(self, session: requests.Session, exchange: _Exchange) -> bool:
        with session.post(
            self._settings.url,
            data=exchange.body,
            headers=exchange.headers,
            timeout=(self._timeout_s, self._timeout_s),
            allow_redirects=False,
            stream=True,
        ) as answer:
            exchange.after_s = _seconds(answer.headers.get("Retry-After", ""))
            exchange.broken = bool(getattr(getattr(answer.raw, "_original_response", None), "msg", NO_HEADERS).defects)
            exchange.status = answer.status_code
            exchange.text = answer.raw.read(_MAX_ANSWER, decode_content=False)
        return True

    def _timed_out(self) -> DeliveryError:
        self._timeouts += 1
        if self._timeouts >= self._settings.max_consecutive_timeouts:
            self._paused_until = time.monotonic() + _PAUSE_S
        self.close()
        return DeliveryError(f"no answer within {self._timeout_s:g} s", retry=True)

    def _judge(self, exchange: _Exchange) -> None:
        if not self._settings.keep_alive:  # the other end closes it too, at a time of its own
            self.close()
        self._timeouts = 0
        if self._settings.echo:
            text = printable(exchange.text[:_MAX_ECHO].decode(errors="replace"))
            log.info("http_output: answer %d: %s", exchange.status, text)
        if exchange.broken:  # its last header is cut
            raise DeliveryError("ConnectionError: closed within the answer", retry=True)
        if not 200 <= exchange.status < 300:
            retry = exchange.status not in _REFUSED
            raise DeliveryError(f"answer {exchange.status}", retry=retry, after_s=exchange.after_s)

    def _connect(self) -> _Session:
        settings = self._settings
        session = _Session()
        session.trust_env = False
        session.verify = not settings.insecure and (settings.ca_cert or settings.ca_bundle or settings.ca_path or True)
        if settings.mtls:
            session.cert = (settings.client_cert, settings.client_key)
        self._session = session
        return session

    def close(self) -> None:
        """Close the connection, also under a thread that still waits on it."""
        if self._session is not None:
            self._session.cut()
            self._session.close()
            self._session = None

    def describe(self) -> str:
        """One line for the start-up banner, without what may be secret in the URL."""
        parts = urllib3.util.parse_url(self._settings.url)
        if isinstance(self._settings.url, Secret):  # of a hook's URL the path is the secret
            return f"http {parts.scheme}://{parts.host}/..."
        return f"http {parts.scheme}://{parts.netloc.rpartition('@')[2] if parts.netloc else ''}{parts.path or ''}"


class _Session(requests.Session):
    """A session that knows its connections, so that another thread can shut them down."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[urllib3.connection.HTTPConnection] = weakref.WeakSet()
        self._was_cut = False
        session = self

        class Plain(urllib3.connection.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                session._opened(self)

        class Secure(urllib3.connection.HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                session._opened(self)

        class PlainPool(urllib3.HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(urllib3.HTTPSConnectionPool):
            ConnectionCls = Secure

        adapter = HTTPAdapter()
        adapter.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def _opened(self, connection: urllib3.connection.HTTPConnection) -> None:
        with self._lock:
            self._open.add(connection)
            was_cut = self._was_cut
        if was_cut:  # the deadline passed while it was being made
            connection.close()
            raise TimeoutError

    def cut(self) -> None:
        """Shut all connections down; a thread that reads or writes there gets an error at once."""
        with self._lock:
            self._was_cut = True
            connections = list(self._open)
        for connection in connections:
            with suppress(OSError, AttributeError):  # closed by its own thread meanwhile
                connection.sock.shutdown(socket.SHUT_RDWR)


def _seconds(text: str) -> float:
    """A `Retry-After` in seconds; 0 for a date, or for what is neither."""
    return float(min(int(text), _MAX_WAIT_S)) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0


def _reason(error: Exception) -> str:
    """What went wrong, without the addresses of objects and pools that requests wraps around it."""
    inner: BaseException = error
    while True:
        reason = getattr(inner, "reason", None) or (inner.args[0] if inner.args else None)
        if not isinstance(reason, BaseException):
            break
        inner = reason
    text = str(inner).rpartition(">: ")[2]
    return f"{type(error).__name__}: {printable(text)[:200]}"
