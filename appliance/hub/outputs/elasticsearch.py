"""Elasticsearch 7 to 9, OpenSearch, and what speaks their `_bulk`.

Comes in: alerts. Goes out: `_bulk` requests that create one document for each alert under the alert's id, so that one
sent twice is one document. Never: a field name with a dot, which would clash with an object of the same name.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.config.settings import Secret
from appliance.hub.alert import HubAlert
from appliance.hub.options import option
from appliance.hub.outputs.base import Answer, Outcome, Request, Verdict
from appliance.hub.outputs.event import event, to_bytes
from appliance.hub.outputs.http import REFUSED, HttpOptions, Row, by_status
from appliance.hub.outputs.shapes import ecs

_SUFFIXES = {"daily": "-%Y.%m.%d", "monthly": "-%Y.%m", "annually": "-%Y", "none": ""}


@dataclass(frozen=True, slots=True)
class ElasticsearchOptions(HttpOptions):
    """Where to, and how documents are named and shaped."""

    url: str = option(doc="Address of the service, without a path.", example="https://search.example.org:9200")
    index: str = option("falco", "Name of the index, or of the data stream with `suffix: none`.")
    suffix: str = option("daily", "Date of the event, in UTC, after the index's name.", choices=tuple(_SUFFIXES))
    pipeline: str = option("", "Ingest pipeline.")
    username: str = option("", "User of basic authentication.")
    password: Secret = option(Secret(""), "Password of basic authentication.")
    apikey: Secret = option(Secret(""), "API key, encoded as the service gives it; not with `username`.")
    flattenfields: bool = option(
        True, "Dots in names of fields become `_`. Without it fields such as `evt.time` and `evt.time.iso8601` clash, "
        "and the service refuses the alert.",
    )  # fmt: skip
    mapping: str = option(
        "falco", "`falco`: the JSON event. `ecs`: a document of ECS 8, all fields under `falco.output_fields` as well.",
        choices=("falco", "ecs"),
    )  # fmt: skip


def build(batch: Sequence[HubAlert], options: ElasticsearchOptions) -> Sequence[Request]:
    """One `_bulk` request: `create` under the alert's id in the index of its own day."""
    lines: list[bytes] = []
    for alert in batch:
        stamp = time.strftime(_SUFFIXES[options.suffix], time.gmtime(alert.ts_ns // 1_000_000_000))
        document = ecs.document(alert) if options.mapping == "ecs" else event(alert)
        document.setdefault("@timestamp", document.get("time"))
        if options.flattenfields:
            (document["falco"] if options.mapping == "ecs" else document)["output_fields"] = flattened(alert.fields)
        lines.append(to_bytes({"create": {"_index": options.index + stamp, "_id": _document_id(alert.id)}}))
        lines.append(to_bytes(document))
    query = "?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason"
    if options.pipeline:
        query += f"&pipeline={options.pipeline}"
    headers = {"Content-Type": "application/x-ndjson"}
    if options.username:
        pair = base64.b64encode(f"{options.username}:{options.password}".encode()).decode()
        headers["Authorization"] = f"Basic {pair}"
    elif options.apikey:
        headers["Authorization"] = f"ApiKey {options.apikey}"
    return [Request("POST", f"{options.url.rstrip('/')}/_bulk{query}", headers, b"\n".join(lines) + b"\n")]


def _document_id(text: str) -> str:
    """An id has at most 512 bytes; a longer one makes the service refuse the whole request."""
    data = text.encode(errors="replace")
    return text if len(data) <= 512 else hashlib.sha256(data).hexdigest()


def flattened(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Names with `_` for dots; of two names that become one, the second keeps a `_` more."""
    made: dict[str, Any] = {}
    for name, value in fields.items():
        key = name.replace(".", "_")
        while key in made:
            key += "_"
        made[key] = value
    return made


def judge(answer: Answer, count: int) -> Outcome:
    """A verdict for each document. 409 means that it is there already, by an earlier try."""
    if not 200 <= answer.status < 300:
        return by_status(answer, count)
    try:
        said = json.loads(answer.body)
        if not said["errors"]:
            return Outcome((Verdict.DONE,) * count)
        items = [next(iter(item.values())) for item in said["items"]]
    except (ValueError, TypeError, KeyError, AttributeError, StopIteration):
        return Outcome((Verdict.AGAIN,) * count, "the answer is not one of `_bulk`")
    if len(items) != count:
        return Outcome((Verdict.AGAIN,) * count, f"{len(items)} answers for {count} documents")
    verdicts = [_verdict(int(item.get("status", 500))) for item in items]
    reasons = [_reason(item) for item, verdict in zip(items, verdicts, strict=True) if verdict is not Verdict.DONE]
    return Outcome(tuple(verdicts), reasons[0] if reasons else "")


def _verdict(status: int) -> Verdict:
    if 200 <= status < 300 or status == 409:
        return Verdict.DONE
    return Verdict.NEVER if status in REFUSED else Verdict.AGAIN


def _reason(item: Mapping[str, Any]) -> str:
    error = item.get("error")
    told = f"{error.get('type')}: {error.get('reason')}" if isinstance(error, dict) else str(error)
    return f"{item.get('status')} {told}"[:300]


ROW = Row(
    name="elasticsearch",
    title="Elasticsearch, OpenSearch",
    category="Logs",
    doc="Documents by `_bulk`, one for each alert under the alert's id, in the index of the event's day.",
    delivered="The service acknowledged the document, or has it already.",
    options=ElasticsearchOptions,
    build=build,
    judge=judge,
    batch=lambda options: 500,
    answer_bytes=4 << 20,
)
