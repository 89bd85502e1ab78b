"""The web server: health for probes, versions, metrics.

Comes in: GET and HEAD. Goes out: JSON and metrics text. Never: a change to anything, more connections at once than it
was given room for, or details to somebody who may not see them.

It listens on loopback unless told otherwise. Where a token is set, `/metrics` and `/versions` want it (`Authorization:
Bearer ...`); the health check does not, since probes have none, and then says only well or not.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import json
import logging
import os
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path

from appliance.config.settings import Webserver
from appliance.host.listening import BoundedHandler, BoundedServer, CertificateError, Listener, tls_context
from appliance.model.diagnostic import TercelError

log = logging.getLogger(__name__)

_TIMEOUT_S = 10.0
_LEAST_ROOM = 4  # connections at once, even where few threads are asked for
JSON = "application/json; charset=utf-8"
_TOKEN_LEAST = 16


class WebError(TercelError):
    """The web server cannot start: the port is taken, or the certificate is not one."""


# What a page says: status, type, text. It gets what the client accepts, and whether it may see details.
Page = Callable[[str, bool], tuple[HTTPStatus, str, str]]


class WebServer(Listener):
    """Serves pages until `stop`. `pages` maps a path to who makes it."""

    def __init__(self, settings: Webserver, pages: Mapping[str, Page], before: WebServer | None = None) -> None:
        """Bind, and read the certificate and the token. Raises `WebError`.

        `before` is one that serves the same address until this one starts: the two share its socket, so that no client
        is turned away between them.
        """
        self._server: _Server = _bind(settings, None if before is None else before._server.socket.dup())
        try:
            self._server.pages = dict(pages)
            self._server.open_pages = frozenset({settings.k8s_healthz_endpoint})
            self._server.token = read_token(settings.token_file)
            self._server.tls = _tls(settings)
            self._server.room = threading.BoundedSemaphore(
                max(settings.threadiness or os.cpu_count() or 1, _LEAST_ROOM)
            )
        except WebError:
            self._server.server_close()
            raise
        warn_if_open(settings.listen_address, tls=self._server.tls is not None, token=bool(self._server.token))
        super().__init__(self._server, "web")


def warn_if_open(address: str, *, tls: bool, token: bool) -> None:
    """Say what is missing on an address that others can reach."""
    if not ipaddress.ip_address(address).is_loopback and not (token and tls):
        log.warning(
            "the web server listens on %s without %s: anybody who reaches it sees which rules are loaded",
            address,
            "TLS" if token else "a token" if tls else "TLS and a token",
        )


def read_token(name: str) -> str:
    """The token in a file, or none. `$CREDENTIALS_DIRECTORY` (systemd's LoadCredential=) is where a bare name lies."""
    if not name:
        return ""
    file = Path(name)
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder and file.parent == Path():
        file = Path(folder) / file
    try:
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise WebError(f"cannot read the web server's token from {file}: {error}") from error
    if len(token) < _TOKEN_LEAST:
        raise WebError(f"the web server's token in {file} has fewer than {_TOKEN_LEAST} characters")
    return token


def _tls(settings: Webserver) -> ssl.SSLContext | None:
    try:
        return tls_context(str(settings.ssl_certificate)) if settings.ssl_enabled else None
    except CertificateError as error:
        raise WebError(str(error)) from error


def _bind(settings: Webserver, listening: socket.socket | None) -> _Server:
    try:
        return _Server((settings.listen_address, settings.listen_port), _Handler, listening)
    except (OSError, OverflowError) as error:
        raise WebError(f"cannot listen on {settings.listen_address} port {settings.listen_port}: {error}") from error


class _Server(BoundedServer):
    request_queue_size = 16
    timeout_s = _TIMEOUT_S
    pages: dict[str, Page]
    open_pages: frozenset[str]
    token: str


class _Handler(BoundedHandler):
    server: _Server
    timeout = idle_s = request_s = _TIMEOUT_S

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        page = self.server.pages.get(path)
        allowed = self._has_token()
        extra: dict[str, str] = {}
        if page is None:
            status, kind, text = HTTPStatus.NOT_FOUND, JSON, error_text("there is no such page")
        elif not allowed and path not in self.server.open_pages:
            status, kind, text = (
                HTTPStatus.UNAUTHORIZED,
                JSON,
                error_text("authentication required: send `Authorization: Bearer TOKEN`"),
            )
            extra["WWW-Authenticate"] = "Bearer"
        else:
            try:
                status, kind, text = page(str(self.headers.get("Accept", "")), allowed)
            except Exception:
                log.exception("an error of ours while a page was made")
                status, kind, text = HTTPStatus.INTERNAL_SERVER_ERROR, JSON, error_text("internal error")
        body = text.encode()
        self.send_response(status)
        extra |= {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"}
        for name, value in extra.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _has_token(self) -> bool:
        if not self.server.token:
            return True
        given = self.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(errors="replace"), f"Bearer {self.server.token}".encode())

    def log_message(self, format: str, *args: object) -> None:
        with contextlib.suppress(Exception):
            log.debug("web: %s", format % args)


def error_text(why: str) -> str:
    """The body of a refusal."""
    return json.dumps({"error": why})
