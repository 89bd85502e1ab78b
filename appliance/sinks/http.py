"""Alerts by HTTP POST, one JSON object each, as Falcosidekick reads them.

Comes in: alerts. Goes out: requests. Never: a redirect followed, a proxy of the environment's, or an answer read beyond
a bound.
"""

from __future__ import annotations

import gzip
import logging
import time
from dataclasses import replace

import requests
import urllib3

from appliance.config.settings import HttpOutput
from appliance.model.alert import Alert
from appliance.model.diagnostic import DeliveryError
from appliance.model.text import printable
from appliance.model.wire import Format, to_json
from appliance.sinks.base import Sink

log = logging.getLogger(__name__)

_MAX_ANSWER = 64 << 10
_MAX_ECHO = 1000
_PAUSE_S = 10.0
_AGAIN = frozenset({408, 429})  # of the client's errors, those that another try can mend (RFC 9110, RFC 6585)


class HttpSink(Sink):
    """Keeps a connection open between alerts, unless told otherwise."""

    name = "http_output"

    def __init__(self, settings: HttpOutput, options: Format) -> None:
        self._settings = settings
        self._options = replace(options, json_output=True)
        self._timeout_s = settings.timeout_ms / 1000
        self._session: requests.Session | None = None
        self._timeouts = 0  # in a row
        self._paused_until = 0.0
        if settings.insecure:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def deliver(self, alert: Alert) -> None:
        """Post one alert; any answer of 2xx means that the other end has it."""
        if time.monotonic() < self._paused_until:
            raise DeliveryError(f"not tried: {self._timeouts} time-outs in a row", retry=False)
        body = to_json(alert, options=self._options).encode()
        headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": self._settings.user_agent}
        if self._settings.compress_uploads:
            body = gzip.compress(body, mtime=0)
            headers["Content-Encoding"] = "gzip"
        if not self._settings.keep_alive:
            headers["Connection"] = "close"
        try:
            self._post(body, headers)
        except requests.Timeout as error:
            self._timeouts += 1
            if self._timeouts >= self._settings.max_consecutive_timeouts:
                self._paused_until = time.monotonic() + _PAUSE_S
            self.close()
            raise DeliveryError(f"no answer within {self._timeout_s:g} s", retry=True) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            self.close()
            retry = not isinstance(error, requests.exceptions.SSLError | requests.exceptions.InvalidURL)
            raise DeliveryError(_reason(error), retry=retry) from error

    def _post(self, body: bytes, headers: dict[str, str]) -> None:
        session = self._session or self._connect()
        with session.post(
            self._settings.url,
            data=body,
            headers=headers,
            timeout=(self._timeout_s, self._timeout_s),
            allow_redirects=False,
            stream=True,
        ) as answer:
            text = answer.raw.read(_MAX_ANSWER, decode_content=False)
            status = answer.status_code
        self._timeouts = 0
        if self._settings.echo:
            log.info("http_output: answer %d: %s", status, printable(text[:_MAX_ECHO].decode(errors="replace")))
        if not 200 <= status < 300:
            raise DeliveryError(f"answer {status}", retry=status >= 500 or status in _AGAIN)

    def _connect(self) -> requests.Session:
        settings = self._settings
        session = requests.Session()
        session.trust_env = False
        session.verify = not settings.insecure and (settings.ca_cert or settings.ca_bundle or settings.ca_path or True)
        if settings.mtls:
            session.cert = (settings.client_cert, settings.client_key)
        self._session = session
        return session

    def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def describe(self) -> str:
        """As for the banner, without what may be secret in the URL."""
        parts = urllib3.util.parse_url(self._settings.url)
        return f"http {parts.scheme}://{parts.netloc.rpartition('@')[2] if parts.netloc else ''}{parts.path or ''}"


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
