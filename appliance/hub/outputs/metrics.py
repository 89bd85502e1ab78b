"""Time-series stores by HTTP: InfluxDB 1 and 2 (and what speaks its line protocol), Wavefront.

Comes in: alerts. Goes out: points at the time of the event, escaped by the protocol's rules. Never: a tag of unbounded
values, which would make a series for each command line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from appliance.config.settings import Secret
from appliance.hub.alert import HubAlert, JsonValue
from appliance.hub.options import option
from appliance.hub.outputs.base import Answer, Outcome, Request, Verdict
from appliance.hub.outputs.http import HttpOptions, Row, by_status
from appliance.hub.outputs.words import basic, bearer, cut_bytes, text_of

_FIELD_BYTES = 60_000  # a string of InfluxDB has 64 KiB


@dataclass(frozen=True, slots=True)
class InfluxOptions(HttpOptions):
    """Which database or bucket."""

    hostport: str = option(doc="Address of InfluxDB, without a path.", example="http://influx.example.org:8086")
    database: str = option("falco", "Database of version 1.")
    organization: str = option("", "Organisation of version 2; with `bucket` the v2 API is used.")
    bucket: str = option("", "Bucket of version 2.")
    user: str = option("", "User of version 1.")
    password: Secret = option(Secret(""), "Password of version 1.")
    token: Secret = option(Secret(""), "Token of version 2, or of version 1.8 with `user:password`.")
    measurement: str = option("events", "Name of the measurement.")
    lines: bool = option(
        False,
        "Write `\\n` for a line end within a text. InfluxDB takes line ends there; stores that split at each line, such"
        " as VictoriaMetrics, do not.",
    )
    tags: tuple[str, ...] = option((), "Fields that become tags beside rule, priority, source, hostname. Use few.")


def line(alert: HubAlert, measurement: str, tags: Sequence[str] = ()) -> bytes:
    """One point. Texts keep their characters; of numbers, integers of 64 bits and floats are numbers, all else is
    text."""
    labels = {"hostname": alert.hostname, "priority": alert.priority.label, "rule": alert.rule, "source": alert.source}
    labels |= {name: text_of(alert.fields.get(name)) for name in tags}
    values = points_of(alert, tags)
    head = ",".join([_measurement(measurement), *(f"{_key(k)}={_tag(v)}" for k, v in sorted(labels.items()) if v)])
    body = ",".join(f"{_key(name)}={_value(value)}" for name, value in values.items())
    return f"{head} {body} {alert.ts_ns}".encode(errors="replace")


def points_of(alert: HubAlert, tags: Sequence[str] = ()) -> Mapping[str, JsonValue]:
    """The fields of a point. A name that is taken, or is one of a tag, has `field.` before it; of two names that
    become one, the second keeps a `_` more. InfluxDB drops a field called `time`."""
    values: dict[str, JsonValue] = {"value": alert.output, "id": alert.id}
    if alert.tags:
        values["tags"] = ",".join(alert.tags)
    for name, value in alert.fields.items():
        if value is None or name in tags:
            continue
        key = _one_line(name).replace("\\", "/") or "_"
        key = f"field.{key}" if key in values or key in _TAKEN else key
        while key in values:
            key += "_"
        values[key] = value
    return values


_TAKEN = frozenset({"time", "tags", "hostname", "priority", "rule", "source"})


def _measurement(text: str) -> str:
    return _one_line(text).replace("\\", "/").replace(",", "\\,").replace(" ", "\\ ") or "events"


def _key(text: str) -> str:
    """A key of a tag or field; a backslash has no escape there, and an empty key is not allowed."""
    text = _one_line(text).replace("\\", "/")
    return text.replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ") or "_"


def _tag(text: str) -> str:
    return _key(cut_bytes(text, 1024))


def _one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", " ", text)


def _quoted(text: str) -> str:
    made = cut_bytes(text, _FIELD_BYTES).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{made}"'


def _value(value: JsonValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return f"{value}i"
    if isinstance(value, float) and abs(value) < 1e300:
        return repr(value)
    return _quoted(text_of(value))


def _influxdb(batch: Sequence[HubAlert], options: InfluxOptions) -> Sequence[Request]:
    if options.organization and options.bucket:
        query = {"org": options.organization, "bucket": options.bucket, "precision": "ns"}
        path = f"/api/v2/write?{urlencode(query)}"
    else:
        path = f"/write?{urlencode({'db': options.database, 'precision': 'ns'})}"
    headers = {"Content-Type": "text/plain; charset=utf-8", "Accept": "application/json"}
    if options.token:
        headers |= bearer(str(options.token), "Token")
    else:
        headers |= basic(options.user, str(options.password))
    points = [line(alert, options.measurement, options.tags) for alert in batch]
    if options.lines:
        points = [point.replace(b"\r", b"").replace(b"\n", b"\\\\n") for point in points]
    body = b"\n".join(points)
    return [Request("POST", options.hostport.rstrip("/") + path, headers, body)]


def _influx_says(answer: Answer, count: int) -> Outcome:
    """404 is a database that is missing, which people make; 400 and 422 are about a point."""
    outcome = by_status(answer, count)
    if answer.status == 400 and b"partial write" in answer.body and count > 1:  # found out one by one
        return Outcome((Verdict.NEVER,) * count, outcome.reason)
    return outcome


INFLUXDB = Row(
    name="influxdb",
    title="InfluxDB",
    category="Metrics and observability",
    doc="Points at the time of the event; rule, priority, source and host are tags, everything else is a field.",
    delivered="InfluxDB answered 2xx (204).",
    options=InfluxOptions,
    build=_influxdb,
    judge=_influx_says,
    batch=lambda options: 500,
)


@dataclass(frozen=True, slots=True)
class WavefrontOptions(HttpOptions):
    """Where to."""

    endpointhost: str = option(doc="Address of Wavefront, or of a proxy.", example="https://TENANT.wavefront.com")
    endpointtoken: Secret = option(Secret(""), "API token, for direct ingestion.")
    metricname: str = option("falco.alert", "Name of the metric.")


def _wavefront(batch: Sequence[HubAlert], options: WavefrontOptions) -> Sequence[Request]:
    lines = []
    for alert in batch:
        tags = {"severity": alert.priority.label, "rule": alert.rule, "source_type": alert.source}
        tags |= {name: text_of(value) for name, value in alert.fields.items() if isinstance(value, str) and value}
        if alert.tags:
            tags["tags"] = ",".join(alert.tags)
        pairs = []
        for name, value in list(tags.items())[:20]:
            key = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:100]
            text = _one_line(cut_bytes(value, 254 - len(key) - 8)).replace("\\", "\\\\").replace('"', '\\"')
            pairs.append(f'"{key}"="{text}"')
        host = re.sub(r"[^A-Za-z0-9_.-]", "_", alert.hostname or "falco")
        lines.append(f'"{options.metricname}" 1 {alert.ts_ns // 1_000_000_000} source="{host}" {" ".join(pairs)}')
    headers = {"Content-Type": "text/plain"} | bearer(str(options.endpointtoken))
    url = f"{options.endpointhost.rstrip('/')}/report?f=wavefront"
    return [Request("POST", url, headers, ("\n".join(lines) + "\n").encode(errors="replace"))]


WAVEFRONT = Row(
    name="wavefront",
    title="Wavefront",
    category="Metrics and observability",
    doc="A point of 1 for each alert; its text fields are point tags within the documented 255 characters.",
    delivered="Wavefront answered 2xx (202).",
    options=WavefrontOptions,
    build=_wavefront,
    judge=by_status,
    batch=lambda options: 100,
)

ROWS = (INFLUXDB, WAVEFRONT)
