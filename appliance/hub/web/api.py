"""The API: what the page can do, for programs. Described by OpenAPI, made of the table below.

Comes in: requests with a token or a session. Goes out: JSON. Never: an answer to nobody; only `/healthz` is public.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from starlette.responses import JSONResponse, Response

from appliance.hub import tune
from appliance.hub.people.roles import Right
from appliance.hub.query.predicate import compile_filter
from appliance.hub.store.base import DIMENSIONS, Span
from appliance.hub.web import changes, export, pages
from appliance.hub.web import groups as grouped
from appliance.hub.web.context import Ask, Hub, shown
from appliance.hub.web.dispatch import Refused
from appliance.hub.web.filters import ORDERS, RANGES, STATES

Query = Mapping[str, tuple[str, Mapping[str, Any]]]
_TEXT: Mapping[str, Any] = {"type": "string"}
_VIEW: Query = {
    "q": ("the search, as in the page's box", _TEXT),
    "range": ("how far back from now", {"type": "string", "enum": [*RANGES, "all"]}),
    "from": ("start, as `2026-11-30T22:00` or `-90min`", _TEXT),
    "to": ("end, likewise", _TEXT),
}
_LIMIT: tuple[str, Mapping[str, Any]] = ("at most so many", {"type": "integer", "minimum": 1, "maximum": 1000})


@dataclass(frozen=True, slots=True)
class Api:
    """One route of the API."""

    path: str
    method: str
    right: Right
    handler: Callable[[Hub, Ask], Response]
    doc: str
    query: Query
    body: Mapping[str, Any] | None = None


def number(ask: Ask, name: str, default: int, most: int) -> int:
    """A number of the address, within bounds. Raises Refused."""
    text = ask.query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise Refused(400, f"`{name}` is a number from 1 to {most}")
    return int(text)


def answer(value: object, status: int = 200) -> Response:
    """JSON, also of text that is no valid Unicode."""
    return JSONResponse(json.loads(json.dumps(value, default=str).encode("utf-8", "replace")), status)


def alert_json(hub: Hub, ask: Ask, alert: Any) -> dict[str, Any]:
    """An alert as the API has it."""
    value: dict[str, Any] = json.loads(export.line(shown(hub, ask, alert)))
    return value | {"seq": alert.seq, "received_ns": alert.received_ns}


def search(hub: Hub, ask: Ask) -> Response:
    """Alerts by time."""
    view = pages.view_of(ask)
    newest = ask.query.get("order", "newest") != "oldest"
    found = hub.store.search(
        view.tree, view.span, newest_first=newest, limit=number(ask, "limit", 100, 1000), cursor=view.cursor
    )
    return answer({"alerts": [alert_json(hub, ask, a) for a in found.alerts], "cursor": found.cursor})


def one(hub: Hub, ask: Ask) -> Response:
    """One alert."""
    alert = hub.store.get(ask.params["id"])
    if alert is None:
        raise Refused(404, "there is no alert of this id")
    return answer(alert_json(hub, ask, alert))


def count(hub: Hub, ask: Ask) -> Response:
    """How many alerts match."""
    view = pages.view_of(ask)
    return answer({"count": hub.store.count(view.tree, view.span)})


def histogram(hub: Hub, ask: Ask) -> Response:
    """Alerts by time and priority."""
    view = pages.view_of(ask)
    return answer(pages.bars(hub.store.histogram(view.tree, view.span, number(ask, "bins", 60, 1000))))


def top(hub: Hub, ask: Ask) -> Response:
    """The most frequent values of a dimension."""
    dimension = ask.params["dimension"]
    if dimension not in (*DIMENSIONS, "priority"):
        raise Refused(404, f"`{dimension}` is not counted", f"one of: {', '.join((*DIMENSIONS, 'priority'))}")
    view = pages.view_of(ask)
    values = hub.store.top(view.tree, view.span, dimension, number(ask, "limit", 10, 1000))
    return answer({"values": [{"value": value, "count": n} for value, n in values]})


def groups(hub: Hub, ask: Ask) -> Response:
    """Groups and their states."""
    view = pages.view_of(ask)
    visited = ask.session.user.visited_ns if ask.session else 0
    found = grouped.listed(hub, view, visited, ask.now_ns)
    rows = [
        {
            "id": row.id,
            "keys": dict(row.group.keys),
            "count": row.group.count,
            "total": row.total,
            "first_ns": row.first_ns,
            "last_ns": row.group.last_ns,
            "priority": row.group.priority,
            "state": row.standing.state.value,
            "why": row.standing.why,
            "assignee": row.decision.assignee,
            "new": row.new,
            "escalating": row.escalating,
            "top": {name: [list(pair) for pair in pairs] for name, pairs in row.group.top.items()},
        }
        for row in found.rows
    ]
    return answer({"groups": rows, "by_state": dict(found.by_state), "alerts": found.alerts, "pages": found.pages})


def triage(hub: Hub, ask: Ask) -> Response:
    """Decide about groups."""
    value = body(ask)
    keys = value.get("groups")
    if not isinstance(keys, list) or len(keys) > 1000:
        raise Refused(400, "`groups` is a list of up to 1,000 groups' keys")
    form = {name: str(v) for name, v in value.items() if isinstance(v, str | int)}
    done = changes.decide(hub, ask, [json.dumps(k) for k in keys], form)
    return answer({"decided": len(done)})


def body(ask: Ask) -> dict[str, Any]:
    """The JSON object that came. Raises Refused."""
    try:
        value = json.loads(ask.body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Refused(400, "the body is a JSON object")
    return value


def hosts(hub: Hub, ask: Ask) -> Response:
    """Every host."""
    return answer({"hosts": [asdict(row) for row in pages.host_rows(hub, ask)]})


def pipeline(hub: Hub, ask: Ask) -> Response:
    """Collector, journal, index, outputs."""
    return answer(
        {
            "parts": hub.parts(),
            "journal": asdict(hub.journal.health()),
            "store": asdict(hub.store.health()),
            "last": hub.journal.last(),
        }
    )


def replay(hub: Hub, ask: Ask) -> Response:
    """Deliver dead letters of an output again."""
    changes.replay(hub, ask)
    return answer({"replay": ask.params["output"]})


def tuning(hub: Hub, ask: Ask) -> Response:
    """Propose an exception for an alert, and try it on stored alerts."""
    alert = hub.store.get(ask.params["id"])
    if alert is None:
        raise Refused(404, "there is no alert of this id")
    span = Span.of(max(0, ask.now_ns - 30 * changes.DAY_NS), ask.now_ns + 1_000_000_000)
    found = tune.candidates(hub.store, shown(hub, ask, alert), span)
    wanted = [name for name in ask.query.get("fields", "").split(",") if name]
    values = {c.name: c.value for c in found if (c.name in wanted if wanted else c.chosen)}
    if not values:
        raise Refused(400, "an exception needs at least one field", f"fields: {', '.join(c.name for c in found)}")
    tested = tune.back_test(hub.store, alert, values, span)
    name = tune.exception_name(alert.rule, ask.now_ns)
    return answer(
        {
            "fields": [asdict(c) for c in found],
            "chosen": values,
            "silenced": tested.silenced,
            "total": tested.total,
            "beyond": tested.beyond,
            "others": [alert_json(hub, ask, a) for a in tested.others],
            "entry": tune.entry(name, alert.rule, values, ask.who, ask.query.get("reason", ""), ""),
        }
    )


def check_filter(hub: Hub, ask: Ask) -> Response:
    """Whether a search can be read."""
    compile_filter(ask.query.get("q", ""), ask.now_ns)
    return answer({"ok": True})


def audit(hub: Hub, ask: Ask) -> Response:
    """The latest lines of the audit log."""
    rows = hub.db.all(
        "SELECT at_ns, who, action, what, address FROM audit ORDER BY number DESC LIMIT ?",
        number(ask, "limit", 100, 1000),
    )
    return answer(
        {"audit": [dict(zip(("at_ns", "who", "action", "what", "address"), row, strict=True)) for row in rows]}
    )


def views(hub: Hub, ask: Ask) -> Response:
    """Saved views."""
    return answer({"views": pages.views_of(hub, ask)})


_TRIAGE_BODY: Mapping[str, Any] = {
    "type": "object",
    "required": ["groups", "action"],
    "properties": {
        "groups": {"type": "array", "items": {"type": "object"}, "maxItems": 1000},
        "action": {"type": "string", "enum": ["ack", "close", "snooze", "open", "note", "assign"]},
        "reason": _TEXT,
        "until": _TEXT,
        "text": _TEXT,
        "assignee": _TEXT,
    },
}

API: Sequence[Api] = (
    Api(
        "/api/v1/alerts",
        "GET",
        Right.READ,
        search,
        "Alerts by time",
        {
            **_VIEW,
            "limit": _LIMIT,
            "cursor": ("continues behind the last page", _TEXT),
            "order": ("", {"type": "string", "enum": ["newest", "oldest"]}),
        },
    ),
    Api("/api/v1/alerts/{id}", "GET", Right.READ, one, "One alert", {}),
    Api("/api/v1/count", "GET", Right.READ, count, "How many alerts match", _VIEW),
    Api("/api/v1/histogram", "GET", Right.READ, histogram, "Alerts by time and priority", {**_VIEW, "bins": _LIMIT}),
    Api(
        "/api/v1/top/{dimension}",
        "GET",
        Right.READ,
        top,
        "The most frequent values of a dimension",
        {**_VIEW, "limit": _LIMIT},
    ),
    Api(
        "/api/v1/groups",
        "GET",
        Right.READ,
        groups,
        "Groups and their states",
        {
            **_VIEW,
            "by": ("keys, separated by commas", _TEXT),
            "order": ("", {"type": "string", "enum": list(ORDERS)}),
            "state": ("", {"type": "string", "enum": list(STATES)}),
            "page": ("", {"type": "integer", "minimum": 1}),
        },
    ),
    Api("/api/v1/triage", "POST", Right.TRIAGE, triage, "Decide about groups", {}, _TRIAGE_BODY),
    Api("/api/v1/hosts", "GET", Right.READ, hosts, "Every host", {}),
    Api("/api/v1/pipeline", "GET", Right.READ, pipeline, "Collector, journal, index, outputs", {}),
    Api("/api/v1/outputs/{output}/replay", "POST", Right.TUNE, replay, "Deliver dead letters again", {}),
    Api(
        "/api/v1/tune/{id}",
        "GET",
        Right.READ,
        tuning,
        "Propose an exception for an alert and try it",
        {"fields": ("fields, separated by commas", _TEXT), "reason": ("", _TEXT)},
    ),
    Api("/api/v1/check", "GET", Right.READ, check_filter, "Whether a search can be read", {"q": ("the search", _TEXT)}),
    Api("/api/v1/views", "GET", Right.READ, views, "Saved views", {}),
    Api("/api/v1/audit", "GET", Right.ADMIN, audit, "The audit log", {"limit": _LIMIT}),
    Api("/api/v1/export/{format}", "GET", Right.READ, export.export, "A whole search as ndjson, csv or parquet", _VIEW),
)


def openapi(hub: Hub, ask: Ask) -> Response:
    """The description of the API."""
    paths: dict[str, dict[str, Any]] = {}
    for row in API:
        parameters: list[dict[str, Any]] = [
            {"name": name, "in": "path", "required": True, "schema": _TEXT} for name in _names(row.path)
        ]
        parameters += [
            {"name": name, "in": "query", "description": doc, "schema": schema}
            for name, (doc, schema) in row.query.items()
        ]
        told: dict[str, Any] = {
            "summary": row.doc,
            "operationId": row.handler.__name__,
            "parameters": parameters,
            "x-right": row.right.value,
            "responses": {
                "200": {"description": "as asked", "content": {"application/json": {"schema": {"type": "object"}}}},
                "default": {
                    "description": "refused: `error` and `hint`",
                    "content": {"application/json": {"schema": {"type": "object"}}},
                },
            },
        }
        if row.body is not None:
            told["requestBody"] = {"required": True, "content": {"application/json": {"schema": row.body}}}
        paths.setdefault(row.path, {})[row.method.lower()] = told
    return answer(
        {
            "openapi": "3.1.0",
            "info": {"title": "Tercel hub", "version": "1"},
            "servers": [{"url": ask.base or "/"}],
            "paths": paths,
            "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
            "security": [{"token": []}],
        }
    )


def _names(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]
