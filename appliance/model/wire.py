"""The one spelling of an alert that every sink shares: JSON under Falco's keys, and the line of text.

Comes in: an `Alert`. Goes out: one line, escaped for those who read it. Never: a line break, a lone surrogate, or a
character that acts on a terminal.

The keys are those of Falco's JSON output (falco.org, "Formatting Alerts"); `schemas/alert.schema.json` is the contract.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from appliance.model.alert import Alert, FieldValue, Priority
from appliance.model.moment import clock_time, iso_time
from appliance.model.text import json_printable, json_safe, printable

CUT_MARK = "...[cut]"


@dataclass(frozen=True, slots=True)
class Format:
    """How sinks write an alert; the names follow the settings they come from."""

    json_output: bool = False
    include_output: bool = True
    include_message: bool = False
    include_output_fields: bool = True
    include_tags: bool = True
    iso_time: bool = False


def to_json(alert: Alert, *, options: Format) -> str:
    """One JSON object on one line, keys in the order of the alphabet, without a line end.

    `time` is ISO 8601 in UTC with nanoseconds and `Z`; `output` is the whole message, heading included.
    """
    document: dict[str, object] = {"hostname": json_safe(alert.hostname)}
    if options.include_message:
        document["message"] = json_safe(alert.output)
    if options.include_output:
        document["output"] = json_safe(f"{heading(alert, options.iso_time)} {alert.output}")
    if options.include_output_fields:
        document["output_fields"] = {json_safe(name): _json_value(value) for name, value in alert.fields.items()}
    document["priority"] = alert.priority.label
    document["rule"] = json_safe(alert.rule)
    document["source"] = json_safe(alert.source)
    if options.include_tags:
        document["tags"] = [json_safe(tag) for tag in alert.tags]
    document["time"] = iso_time(alert.ts_ns) + "Z"
    return json_printable(json.dumps(document, ensure_ascii=False, separators=(",", ":")))


def pack(alert: Alert) -> bytes:
    """An alert whole, with the bytes of its texts, for storage of our own: JSON in ASCII that `unpack` undoes."""
    return json.dumps(
        {name: getattr(alert, name) for name in Alert.__slots__} | {"fields": dict(alert.fields)}, separators=(",", ":")
    ).encode()


def unpack(data: bytes) -> Alert:
    """Undo `pack`. Raises ValueError."""
    try:
        value = json.loads(data)
        return Alert(**value | {"priority": Priority(value["priority"]), "tags": tuple(value["tags"])})
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"not a packed alert: {error}") from error


def message(alert: Alert, iso: bool) -> str:
    """`HH:MM:SS.nnnnnnnnn: Warning text` on one safe line; `iso` puts the date and time of UTC in front instead."""
    return f"{heading(alert, iso)} {printable(alert.output)}"


def line(alert: Alert, options: Format) -> str:
    """The line that text sinks write, JSON or message as `options` say, without a line end."""
    return to_json(alert, options=options) if options.json_output else message(alert, options.iso_time)


def heading(alert: Alert, iso: bool) -> str:
    """What stands before the text: `12:34:56.000000000: Warning` in local time; `iso` gives date and time in UTC."""
    moment = iso_time(alert.ts_ns) + "+0000" if iso else clock_time(alert.ts_ns)
    return f"{moment}: {alert.priority.label}"


def shortened(alert: Alert, limit: int) -> Alert:
    """The alert with its texts cut to `limit` characters, each cut one ending in `CUT_MARK`."""
    return replace(
        alert,
        output=_cut(alert.output, limit),
        fields={name: _cut(value, limit) if isinstance(value, str) else value for name, value in alert.fields.items()},
    )


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: max(0, limit - len(CUT_MARK))] + CUT_MARK


def _json_value(value: FieldValue) -> FieldValue:
    if isinstance(value, tuple):
        return tuple(map(json_safe, value))
    return json_safe(value) if isinstance(value, str) else value
