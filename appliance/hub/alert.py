"""The hub's noun: one alert as the journal holds it.

Comes in: what ingest has checked. Goes out: a frozen value that journal, outputs, store and page share, and the form
that it has on its way into the journal. Text in both comes from monitored hosts and is hostile: every edge escapes it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from appliance.model.alert import Priority

JsonValue = str | int | float | bool | None | Sequence["JsonValue"] | Mapping[str, "JsonValue"]
"""A value of `fields`: Falco writes texts, numbers, booleans, null and, for a few fields, lists."""


@dataclass(frozen=True, slots=True)
class HubAlert:
    """Made once by ingest, never edited.

    `seq` is its place in the journal, 1 and up without order across hosts; 0 before the journal has it. `id` is
    unique: the sender's `Tercel-Alert-Id`, else a digest of hostname, time, rule and output, so a re-send is a
    duplicate. `ts_ns` is the event's time, `received_ns` the hub's clock when it came, both nanoseconds since the
    epoch. `hostname` is "" where the sender named none. `source` is `syscall`, `k8s_audit`, or what the sender says.
    `output` is the whole message as it came. `fields` is `output_fields` as it came, custom fields of the hub added.
    """

    seq: int
    id: str
    ts_ns: int
    received_ns: int
    hostname: str
    rule: str
    priority: Priority
    source: str
    tags: tuple[str, ...]
    output: str
    fields: Mapping[str, JsonValue]


class NewAlert(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A checked alert before the journal has given it a position: the parts of `HubAlert`, in the order in which the
    journal writes them. `fields` is the text of a JSON object in UTF-8, as the sender wrote it: the collector handles
    many alerts that nobody looks into, and does not build a dictionary for each."""

    id: str
    ts_ns: int
    received_ns: int
    hostname: str
    rule: str
    priority: Priority
    source: str
    tags: tuple[str, ...]
    output: str
    fields: msgspec.Raw


def new_alert(alert: HubAlert) -> NewAlert:
    """The form that the journal writes, of a whole alert."""
    return NewAlert(
        alert.id, alert.ts_ns, alert.received_ns, alert.hostname, alert.rule, alert.priority, alert.source, alert.tags,
        alert.output, msgspec.Raw(json_of(alert.fields)),
    )  # fmt: skip


def whole_alert(new: NewAlert) -> HubAlert:
    """The whole alert of a new one, still without a position."""
    return HubAlert(
        0, new.id, new.ts_ns, new.received_ns, new.hostname, new.rule, new.priority, new.source, new.tags,
        new.output, fields_of(new.fields),
    )  # fmt: skip


def json_of(fields: Mapping[str, JsonValue]) -> bytes:
    """The text of an object, in UTF-8; numbers may have more than 64 bits."""
    try:
        return _encode(fields)
    except (OverflowError, ValueError, TypeError, msgspec.MsgspecError):  # numbers beyond 64 bits
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def fields_of(text: msgspec.Raw | bytes) -> Mapping[str, JsonValue]:
    """The object of a text. Raises `msgspec.MsgspecError` where it is none."""
    return _decode(text)


def number_of(text: str) -> float | str:
    """A number with a fraction or an exponent; one that is too large for a double stays the text that it was."""
    value = float(text)
    return value if math.isfinite(value) else text


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any], float_hook=number_of).decode
