"""Values -> what people read: times, counts, words. Text from hosts goes through `safe` before a template escapes
it."""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Sequence

from markupsafe import Markup

from appliance.hub.alert import HubAlert, JsonValue
from appliance.hub.query.moments import zone_of
from appliance.hub.query.words import text_of
from appliance.model.text import json_safe, printable

SECOND = 1_000_000_000
PRIORITIES = ("Emergency", "Alert", "Critical", "Error", "Warning", "Notice", "Informational", "Debug")
SHAPES = ("◆", "◆", "▲", "▲", "■", "●", "○", "·")
"""A priority's sign beside its colour, so that neither is needed to read the other."""


def safe(value: JsonValue) -> str:
    """A value of an alert as one line that acts on nothing."""
    return printable(text_of(value))


def moment(ts_ns: int, zone: str = "UTC", *, ms: bool = False) -> str:
    """`2026-11-30 22:00:00`, in the reader's zone; "" for 0."""
    if ts_ns <= 0:
        return ""
    try:
        at = datetime.datetime.fromtimestamp(ts_ns / 1e9, zone_of(zone))
    except (OverflowError, ValueError, OSError):
        return str(ts_ns)
    return at.strftime("%Y-%m-%d %H:%M:%S") + (f".{ts_ns // 1_000_000 % 1000:03}" if ms else "")


def iso(ts_ns: int) -> str:
    """For `<time datetime>`."""
    seconds, nanos = divmod(max(0, ts_ns), SECOND)
    second = _iso_second(seconds)
    return f"{second}.{nanos // 1_000_000:03}+00:00" if second else ""


@functools.lru_cache(maxsize=256)
def _iso_second(seconds: int) -> str:
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return ""


def ago(ts_ns: int, now_ns: int) -> str:
    """`3 min ago`, `in 2 h`."""
    if ts_ns <= 0:
        return "never"
    seconds = (now_ns - ts_ns) // SECOND
    text = span_text(abs(seconds))
    return f"{text} ago" if seconds >= 0 else f"in {text}"


def span_text(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h`, `4 d`."""
    for length, unit in ((86400 * 2, "d"), (3600 * 2, "h"), (60 * 2, "min")):
        if seconds >= length:
            return f"{int(seconds * 2 // length)} {unit}"
    return f"{int(seconds)} s"


def count(n: float) -> str:
    """`12,345`."""
    return f"{n:,.0f}"


def size(n: float) -> str:
    """`1.2 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024 or unit == "GiB":
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return ""


def spark(values: Sequence[int], label: str) -> Markup:
    """A small row of bars. A reader of text gets `label`."""
    top = max([*values, 1])
    bars = []
    for at, value in enumerate(values):
        height = round(16 * value / top) if value else 0
        height = max(1, height) if value else 0
        if height:
            bars.append(f'<rect x="{at * 4}" y="{16 - height}" width="3" height="{height}"/>')
    return Markup(
        '<svg class="spark" viewBox="0 0 {} 16" width="{}" height="16" role="img" aria-label="{}">{}</svg>'
    ).format(
        len(values) * 4,
        len(values) * 4,
        label,
        Markup("".join(bars)),  # noqa: S704 (numbers of our own)
    )


def document(alert: HubAlert) -> str:
    """An alert as the JSON that Falco writes, with the hub's keys beside it."""
    value = {
        "id": alert.id,
        "seq": alert.seq,
        "time": iso(alert.ts_ns),
        "time_ns": alert.ts_ns,
        "received_ns": alert.received_ns,
        "hostname": alert.hostname,
        "rule": alert.rule,
        "priority": alert.priority.label,
        "source": alert.source,
        "tags": list(alert.tags),
        "output": alert.output,
        "output_fields": dict(alert.fields),
    }
    return json_safe(json.dumps(value, ensure_ascii=False, indent=2))
