"""The hub's noun: one alert as the journal holds it.

Comes in: what ingest has checked. Goes out: a frozen value that journal, outputs, store and page share. Text in it
comes from monitored hosts and is hostile: every edge escapes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
