"""What several outputs make of an alert: facts for people, colours, severities, names that a service accepts.

Comes in: alerts, texts. Goes out: texts within the limits that services document. Never: a text cut within a character.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping

from appliance.hub.alert import HubAlert, JsonValue
from appliance.model.alert import Priority
from appliance.model.moment import iso_time

MARK = "…"
COLOURS: Mapping[Priority, int] = {
    Priority.EMERGENCY: 0x8E0B16,
    Priority.ALERT: 0xB3121F,
    Priority.CRITICAL: 0xD7263D,
    Priority.ERROR: 0xE8590C,
    Priority.WARNING: 0xF2A900,
    Priority.NOTICE: 0x2F9E44,
    Priority.INFORMATIONAL: 0x1C7ED6,
    Priority.DEBUG: 0x868E96,
}
EMOJI: Mapping[Priority, str] = {
    Priority.EMERGENCY: "🚨",
    Priority.ALERT: "🚨",
    Priority.CRITICAL: "🔴",
    Priority.ERROR: "🟠",
    Priority.WARNING: "🟡",
    Priority.NOTICE: "🟢",
    Priority.INFORMATIONAL: "🔵",
    Priority.DEBUG: "⚪",
}
_NOT_LABEL = re.compile(r"[^A-Za-z0-9_]")


def cut(text: str, limit: int) -> str:
    """At most `limit` characters; a text that is cut ends in `MARK`."""
    return text if len(text) <= limit else text[: limit - 1] + MARK


def cut_bytes(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8."""
    data = text.encode(errors="replace")
    if len(data) <= limit:
        return data.decode()
    return data[: limit - len(MARK.encode())].decode(errors="ignore") + MARK


def text_of(value: JsonValue) -> str:
    """A value of `fields` as people read it; lists and objects as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def facts(alert: HubAlert, *, fields: bool = True) -> list[tuple[str, str]]:
    """Names and texts of what is known, for a person: rule, priority, where, the fields that have a value, time."""
    made = [("rule", alert.rule), ("priority", alert.priority.label)]
    made += [("hostname", alert.hostname)] if alert.hostname else []
    made += [("source", alert.source)]
    made += [("tags", ", ".join(alert.tags))] if alert.tags else []
    if fields:
        made += [(name, text_of(value)) for name, value in alert.fields.items() if value is not None and value != ""]
    return [*made, ("time", moment(alert))]


def moment(alert: HubAlert) -> str:
    """The alert's time, RFC 3339 with nanoseconds."""
    return iso_time(alert.ts_ns) + "Z"


def title(alert: HubAlert, limit: int = 250) -> str:
    """`Warning: Terminal shell in container on web1`."""
    where = f" on {alert.hostname}" if alert.hostname else ""
    return cut(f"{alert.priority.label}: {alert.rule}{where}", limit)


def colour(alert: HubAlert) -> str:
    """`#f2a900`."""
    return f"#{COLOURS[alert.priority]:06x}"


def label(name: str) -> str:
    """A name that Prometheus, Loki and their kin accept: `proc.name` becomes `proc_name`."""
    text = _NOT_LABEL.sub("_", name)
    return text if text and not text[0].isdigit() else f"_{text}"


def severity(alert: HubAlert, names: tuple[str, str, str, str]) -> str:
    """One of four: critical and above, error, warning, below."""
    critical, error, warning, info = names
    match alert.priority:
        case Priority.EMERGENCY | Priority.ALERT | Priority.CRITICAL:
            return critical
        case Priority.ERROR:
            return error
        case Priority.WARNING:
            return warning
        case _:
            return info


def group_key(alert: HubAlert) -> str:
    """What alerts of one incident share: rule, host, container. For services that merge by a key."""
    container = alert.fields.get("container.id")
    return ":".join(["tercel", alert.hostname, alert.rule, text_of(container)])


def basic(user: str, password: str) -> dict[str, str]:
    """The header of basic authentication; none without a user."""
    if not user:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def bearer(token: str, scheme: str = "Bearer") -> dict[str, str]:
    """The header of a token; none without one."""
    return {"Authorization": f"{scheme} {token}"} if token else {}
