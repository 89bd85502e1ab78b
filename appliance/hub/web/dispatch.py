"""Every request goes through here: who asks, may they, did their own page send it; then the route, in a thread.

Comes in: HTTP by Starlette. Goes out: the route's answer with headers that forbid scripts of others. Never: a route
that answers without a right of the table in `routes.py`, or an address of a proxy that nobody named.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from appliance.hub.people.accounts import Session
from appliance.hub.people.roles import Right, Role, may
from appliance.hub.settings import Page
from appliance.hub.web.context import Ask, Hub, record
from appliance.model.diagnostic import RuleError

log = logging.getLogger(__name__)

COOKIE = "tercel_session"
MAX_BODY = 4 << 20
UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})

SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

Handler = Callable[[Hub, Ask], Response]


@dataclass(frozen=True, slots=True)
class Streaming:
    """A route that answers in the event loop, for as long as somebody listens."""

    answer: Callable[[Hub, Ask, Request], Awaitable[Response]]


class Refused(Exception):
    """An answer that is not what was asked for: its status, what is wrong, what to do."""

    def __init__(self, status: int, title: str, hint: str = "") -> None:
        super().__init__(title)
        self.status, self.title, self.hint = status, title, hint


@dataclass(frozen=True, slots=True)
class Row:
    """One route. `right` None is public. `csrf` False for what no browser sends by itself (tokens, other formats)."""

    path: str
    method: str
    right: Right | None
    handler: Handler | Streaming
    doc: str = ""
    csrf: bool = True


def endpoint(
    hub: Hub, row: Row, render_error: Callable[[Hub, Ask, Refused], Response]
) -> Callable[[Request], Awaitable[Response]]:
    """The function that Starlette calls for a row of the table."""

    async def answer(request: Request) -> Response:
        response: Response
        ask = await _asked(hub, request)
        try:
            _admit(row, ask)
            if isinstance(row.handler, Streaming):
                response = await row.handler.answer(hub, ask, request)
            else:
                response = await run_in_threadpool(row.handler, hub, ask)
            if hub.settings.page.audit_reads and row.method == "GET" and row.right is not None and ask.session:
                await run_in_threadpool(record, hub, ask, "read", ask.path)
        except (Refused, RuleError, ValueError, OverflowError) as error:
            response = await run_in_threadpool(render_error, hub, ask, _refusal(error))
        for name, value in SECURITY.items():
            response.headers.setdefault(name, value)
        if "cache-control" not in response.headers:
            response.headers["Cache-Control"] = "no-store"
        return response

    return answer


def _refusal(error: Exception) -> Refused:
    if isinstance(error, Refused):
        return error
    if isinstance(error, RuleError):
        return Refused(400, error.diagnostics[0].message, error.diagnostics[0].render())
    return Refused(400, str(error))


def _admit(row: Row, ask: Ask) -> None:
    if row.right is None:
        return
    if ask.session is None:
        raise Refused(401, "authentication required", "log in, or send `Authorization: Bearer TOKEN`")
    if not may(ask.session.user.role, row.right):
        raise Refused(403, f"your role is `{ask.session.user.role.value}`, which may not do this", "ask an admin")
    if row.method in UNSAFE and row.csrf and ask.session.csrf:
        given = ask.headers.get("x-csrf-token") or ask.form.get("csrf", "")
        if not hmac.compare_digest(given.encode(), ask.session.csrf.encode()):
            raise Refused(
                403, "this form is not from your own page, or your session is new", "reload the page and try again"
            )
    if (
        ask.session.user.must_change
        and ask.path not in ("/me", "/me/password", "/logout")
        and not ask.path.startswith("/api/")
    ):
        raise Refused(428, "choose a password of your own first", "")


async def _asked(hub: Hub, request: Request) -> Ask:
    page = hub.settings.page
    now_ns = hub.now_ns()
    headers = {name.lower(): value for name, value in request.headers.items()}
    peer = request.client.host if request.client else ""
    trusted = _trusted(page, peer)
    address = headers.get("x-forwarded-for", "").split(",")[-1].strip() if trusted else ""
    scheme = headers.get("x-forwarded-proto", "") if trusted else ""
    host = headers.get("x-forwarded-host", "") if trusted else ""
    origin = f"{scheme or request.url.scheme}://{host or headers.get('host', '')}"
    body = await _body(request) if request.method in UNSAFE else b""
    pairs = _form(headers.get("content-type", ""), body)
    lists: dict[str, list[str]] = {}
    for name, value in pairs:
        lists.setdefault(name, []).append(value)
    session = await run_in_threadpool(_session, hub, request.cookies.get(COOKIE, ""), headers, trusted, now_ns)
    return Ask(
        request.method,
        request.url.path.removeprefix(page.base_path),
        {name: str(value) for name, value in request.path_params.items()},
        dict(request.query_params),
        dict(pairs),
        lists,
        body,
        headers,
        session,
        address or peer,
        origin,
        page.base_path,
        now_ns,
    )


async def _body(request: Request) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY:
            return b""
        parts.append(part)
    return b"".join(parts)


def _form(kind: str, body: bytes) -> list[tuple[str, str]]:
    if kind.startswith("application/x-www-form-urlencoded"):
        try:
            return parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=5000)
        except ValueError:
            return []
    if kind.startswith("application/json"):
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return []
        if isinstance(value, dict):
            return [(str(k), v if isinstance(v, str) else json.dumps(v)) for k, v in value.items()]
    return []


def _trusted(page: Page, peer: str) -> bool:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(text, strict=False) for text in page.proxies)


def _session(hub: Hub, cookie: str, headers: Mapping[str, str], trusted: bool, now_ns: int) -> Session | None:
    kind, _, secret = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return hub.accounts.token(secret.strip(), now_ns)
    name = headers.get(hub.settings.page.proxy_user_header.lower(), "") if hub.settings.page.proxy_user_header else ""
    if trusted and name:
        return _of_proxy(hub, name, headers, now_ns)
    return hub.accounts.session(cookie, now_ns) if cookie else None


def _of_proxy(hub: Hub, name: str, headers: Mapping[str, str], now_ns: int) -> Session | None:
    """A user whom the proxy names. Browsers send the proxy's cookie on their own, so changes still need a token against
    forgery: one made of the name and a secret of this hub."""
    given = (
        headers.get(hub.settings.page.proxy_role_header.lower(), "viewer")
        if hub.settings.page.proxy_role_header
        else "viewer"
    )
    role = Role(given) if given in {r.value for r in Role} else Role.VIEWER
    user = hub.accounts.external(name, role, "proxy", now_ns)
    return None if user is None else Session(user, hub.accounts.forgery_token(name), "")


def wants_json(ask: Ask) -> bool:
    """Whether an error should be JSON."""
    return ask.path.startswith("/api/") or "application/json" in ask.headers.get("accept", "")


def problem(refused: Refused) -> Response:
    """An error for programs."""
    headers = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else {}
    return JSONResponse({"error": refused.title, "hint": refused.hint}, refused.status, headers)


def to_login(ask: Ask) -> Response:
    """The way in, and back to where they wanted to go."""
    path = urlsplit(ask.path).path
    query = "&".join(f"{quote(k)}={quote(v)}" for k, v in ask.query.items())
    wanted = quote(path + (f"?{query}" if query else ""), safe="")
    return RedirectResponse(ask.url(f"/login?next={wanted}"), 303)
