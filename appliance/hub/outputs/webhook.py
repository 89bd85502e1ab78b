"""A webhook: the JSON event by POST or PUT to any URL.

Comes in: alerts. Goes out: one event in a request, or many as NDJSON or as an array. Never: anything but the event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.config.settings import Secret
from appliance.hub.alert import HubAlert
from appliance.hub.options import option
from appliance.hub.outputs.base import Request
from appliance.hub.outputs.event import to_bytes
from appliance.hub.outputs.http import HttpOptions, Row, by_status
from appliance.hub.outputs.shapes import SHAPE_DOC, SHAPES


@dataclass(frozen=True, slots=True)
class WebhookOptions(HttpOptions):
    """Where to and how."""

    url: Secret = option(doc="Where to send to.", example="https://hooks.example.org/alerts")
    method: str = option("POST", "Method of the request.", choices=("POST", "PUT"))
    format: str = option(
        "single", "`single`: one event in a request. `ndjson`: a line for each. `array`: one JSON array.",
        choices=("single", "ndjson", "array"),
    )  # fmt: skip
    shape: str = option("falco", SHAPE_DOC, choices=tuple(SHAPES))


def build(batch: Sequence[HubAlert], options: WebhookOptions) -> Sequence[Request]:
    """One request for each alert, or one for all, by `format`. Ids go in `Tercel-Alert-Id`, too."""
    events = [to_bytes(SHAPES[options.shape](alert)) for alert in batch]
    if options.format == "single":
        return [_request(options, "application/json; charset=utf-8", body) for body in events]
    if options.format == "array":
        return [_request(options, "application/json; charset=utf-8", b"[" + b",".join(events) + b"]")]
    return [_request(options, "application/x-ndjson; charset=utf-8", b"".join(body + b"\n" for body in events))]


def _request(options: WebhookOptions, kind: str, body: bytes) -> Request:
    return Request(options.method, str(options.url), {"Content-Type": kind}, body)


ROW = Row(
    name="webhook",
    title="Webhook",
    category="Web",
    doc="The JSON event to any URL.",
    delivered="The receiver answered 2xx.",
    options=WebhookOptions,
    build=build,
    judge=by_status,
    batch=lambda options: 1 if options.format == "single" else 100,
    batch_max=lambda options: 1 if options.format == "single" else 10_000,
)
