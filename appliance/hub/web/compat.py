"""What scripts for Falcosidekick-UI ask: its read API and its POST, with the shapes that it answers.

Comes in: its queries (`priority=a,b`, `since=24h`, `filter=text`, `page`, `limit`), and its payload. Goes out: its
JSON. What it posts goes on to the collector, which alone writes the journal. Never: an event refused for its
characters, or a success before the collector has it."""

from __future__ import annotations

import base64
import hmac
import importlib.metadata
import json
import ssl
from pathlib import Path
from typing import Any

import httpx
from starlette.responses import JSONResponse, PlainTextResponse, Response

from appliance.hub.alert import HubAlert
from appliance.hub.query.moments import read_span
from appliance.hub.query.tree import check, conjunction
from appliance.hub.query.words import words_of
from appliance.hub.store.base import Span
from appliance.hub.web import show
from appliance.hub.web.context import Ask, Hub, shown
from appliance.hub.web.dispatch import Refused
from appliance.model.expr import Check, Expr, FieldRef, Or, Word
from appliance.model.field import Operator

DIMENSIONS = {"priority": "priority", "rule": "rule", "source": "source", "hostname": "hostname", "tags": "tags"}


def _asked(ask: Ask) -> tuple[Expr, Span]:
    parts: list[Expr] = []
    for name in DIMENSIONS:
        text = ask.query.get(name, "")
        values = [value for value in text.split(",") if value and value != "null"]
        if values:
            parts.append(check(name, Operator.IN, *values) if name != "priority" else _priorities(values))
    text = ask.query.get("filter", "")
    if words_of(text):
        parts.append(
            Or(
                (
                    Check(FieldRef("text"), Operator.EQ, Word(text.rstrip("*") + "*", True)),
                    check("output", Operator.ICONTAINS, text),
                )
            )
        )
    since = ask.query.get("since", "")
    from_ns = ask.now_ns - read_span(since) if since and since != "null" else 0
    return conjunction(*parts), Span.of(max(0, from_ns) // 1_000_000 * 1_000_000, 2**62)


def _priorities(values: list[str]) -> Expr:
    known = [v for v in values if v.capitalize() in show.PRIORITIES or v.lower() == "info"]
    if not known:
        raise Refused(400, "no such priority", f"priorities: {', '.join(show.PRIORITIES)}")
    return check("priority", Operator.IN, *known)


def event(alert: HubAlert) -> dict[str, Any]:
    """An alert as it writes events."""
    return {
        "uuid": alert.id,
        "output": alert.output,
        "priority": alert.priority.label,
        "rule": alert.rule,
        "time": show.iso(alert.ts_ns),
        "source": alert.source,
        "output_fields": dict(alert.fields),
        "hostname": alert.hostname,
        "tags": list(alert.tags),
    }


def _json(ask: Ask, value: object, status: int = 200) -> Response:
    text = json.dumps(value, indent=2 if ask.query.get("pretty") == "true" else None, default=str)
    return Response(text, status, media_type="application/json")


def search(hub: Hub, ask: Ask) -> Response:
    """Events, newest first, by pages."""
    tree, span = _asked(ask)
    page, limit = _number(ask, "page", 1), min(_number(ask, "limit", 100), 1000)
    if page * limit > 100_000:
        raise Refused(400, "pages end at 100,000 events", "use /api/v1/alerts with its cursor, or /api/v1/export")
    skip = (page - 1) * limit
    cursor = ""
    while skip > 0:
        passed = hub.store.search(tree, span, limit=min(skip, 1000), cursor=cursor)
        cursor, skip = passed.cursor, skip - len(passed.alerts)
        if not cursor:
            break
    found = (
        hub.store.search(tree, span, limit=limit, cursor=cursor).alerts if skip == 0 and (page == 1 or cursor) else []
    )
    value: dict[str, Any] = {"statistics": {"returned": len(found), "all": hub.store.count(tree, span)}}
    if found:
        value["results"] = [event(shown(hub, ask, alert)) for alert in found]
    return _json(ask, value)


def _number(ask: Ask, name: str, default: int) -> int:
    text = ask.query.get(name, "")
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 8 else default


def count(hub: Hub, ask: Ask) -> Response:
    """How many events."""
    tree, span = _asked(ask)
    return _json(ask, {"statistics": {"all": hub.store.count(tree, span)}})


def count_by(hub: Hub, ask: Ask) -> Response:
    """How many events of each value."""
    name = ask.params["dimension"]
    if name not in DIMENSIONS:
        raise Refused(400, f"cannot group by `{name}`", f"one of: {', '.join(DIMENSIONS)}")
    tree, span = _asked(ask)
    values = {value: n for value, n in hub.store.top(tree, span, name, 10_000) if value is not None}
    return _json(ask, {"results": values, "statistics": {"distincts": len(values), "all": sum(values.values())}})


def outputs(hub: Hub, ask: Ask) -> Response:
    """Names of outputs."""
    return _json(ask, sorted(hub.settings.outputs))


def version(hub: Hub, ask: Ask) -> Response:
    """Which hub this is."""
    return _json(ask, {"GitVersion": importlib.metadata.version("tercel"), "Compiler": "CPython", "Platform": "linux"})


def configuration(hub: Hub, ask: Ask) -> Response:
    """Its configuration, as far as it means something here; no secret among it."""
    page = hub.settings.page
    return _json(
        ask, {"listen-address": page.address, "listen-port": page.port, "disable-auth": False, "credentials": "*******"}
    )


def healthz(hub: Hub, ask: Ask) -> Response:
    """The page answers and its files can be read."""
    hub.journal.last()
    hub.store.watermark()
    return JSONResponse({"status": "ok"})


def authenticate(hub: Hub, ask: Ask) -> Response:
    """Whether a token or session is good: it got here."""
    return JSONResponse("authorized")


def add(hub: Hub, ask: Ask) -> Response:
    """An event in the payload of Falcosidekick's `webui` output."""
    _admitted(hub, ask)
    try:
        value = json.loads(ask.body)
    except (ValueError, RecursionError):
        value = None
    inner = value.get("event") if isinstance(value, dict) else None
    if not isinstance(inner, dict):
        raise Refused(400, 'expected `{"event": {...}, "outputs": [...]}`')
    collector = hub.settings.collector
    scheme = "https" if collector.tls.cert else "http"
    headers = {"Content-Type": "application/json"}
    if collector.tokens:
        headers["Authorization"] = f"Bearer {collector.tokens[0].token}"
    body = json.dumps({name: part for name, part in inner.items() if name != "uuid"}).encode()
    if collector.hmac_secret:
        headers["Tercel-Signature"] = (
            "sha256=" + hmac.new(str(collector.hmac_secret).encode(), body, "sha256").hexdigest()
        )
    try:
        said = httpx.post(
            f"{scheme}://{collector.address}:{collector.port}/",
            content=body,
            headers=headers,
            timeout=10.0,
            verify=_trust(collector.tls.cert),
        )
    except httpx.HTTPError as error:
        raise Refused(503, "the collector does not answer", str(error)) from None
    if said.status_code >= 300:
        raise Refused(said.status_code if said.status_code < 500 else 503, "the collector refused it", said.text[:300])
    return PlainTextResponse('"{}"', media_type="application/json")


def _trust(cert: Path | None) -> ssl.SSLContext | bool:
    """The collector is ours: its own certificate is what it must show, whatever name is in it."""
    if cert is None:
        return True
    context = ssl.create_default_context(cafile=str(cert))
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _admitted(hub: Hub, ask: Ask) -> None:
    """A session, an API token, or the token of the settings (as Bearer, or as the password of the URL)."""
    token = str(hub.settings.page.post_token)
    kind, _, given = ask.headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode("utf-8", "replace").partition(":")[2]
        except ValueError:
            given = ""
    if token and hmac.compare_digest(given.encode(), token.encode()):
        return
    if ask.session is None or ask.session.csrf:  # a cookie is no proof that the user wanted it
        raise Refused(401, "authentication required", "send `Authorization: Bearer TOKEN`, or http://x:TOKEN@HUB:2802")
