"""The JSON event that most receivers take: Falco's keys, as Falcosidekick sends them on.

Comes in: an alert. Goes out: the event as a mapping or as bytes. Never: a lone surrogate, or an event without its time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from appliance.hub.alert import HubAlert
from appliance.model.moment import iso_time


def event(alert: HubAlert) -> dict[str, Any]:
    """The keys `uuid, output, priority, rule, time, output_fields, source`, and `tags` and `hostname` where there are
    any. `uuid` is the alert's id: the same alert has the same one wherever and whenever it is sent."""
    made: dict[str, Any] = {
        "uuid": alert.id,
        "output": alert.output,
        "priority": alert.priority.label,
        "rule": alert.rule,
        "time": iso_time(alert.ts_ns) + "Z",
        "output_fields": alert.fields,
        "source": alert.source,
    }
    if alert.tags:
        made["tags"] = list(alert.tags)
    if alert.hostname:
        made["hostname"] = alert.hostname
    return made


def to_bytes(document: Mapping[str, Any]) -> bytes:
    """A document as JSON in UTF-8, without blanks."""
    try:
        return msgspec.json.encode(document)
    except (OverflowError, msgspec.MsgspecError):  # numbers beyond 64 bits
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def to_array(documents: Iterable[Mapping[str, Any]]) -> bytes:
    """Documents as one JSON array."""
    return b"[" + b",".join(map(to_bytes, documents)) + b"]"
