"""Log stores by HTTP: Loki, VictoriaLogs, Quickwit, Zincsearch, OpenObserve, Splunk, Datadog, Dynatrace, Sumo Logic,
OpenTelemetry, Grafana annotations, Spyderbat.

Comes in: alerts. Goes out: requests in each vendor's documented form, with the event's own time. Never: a label of
unbounded values.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from appliance.config.settings import Secret
from appliance.hub.alert import HubAlert, JsonValue
from appliance.hub.options import option
from appliance.hub.outputs.base import Answer, Outcome, Request, Verdict
from appliance.hub.outputs.elasticsearch import flattened
from appliance.hub.outputs.event import event, to_array, to_bytes
from appliance.hub.outputs.http import HttpOptions, Row, by_status, excerpt
from appliance.hub.outputs.words import basic, bearer, cut_bytes, label, moment, severity, text_of, title

JSON = {"Content-Type": "application/json; charset=utf-8"}
NDJSON = {"Content-Type": "application/x-ndjson; charset=utf-8"}


def _lines(documents: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(to_bytes(document) + b"\n" for document in documents)


def flat(alert: HubAlert) -> dict[str, Any]:
    """The event with its fields beside its keys, names without dots: what column stores index best."""
    document = event(alert)
    fields = document.pop("output_fields")
    return document | {k if k not in document else f"field_{k}": v for k, v in flattened(fields).items()}


# -- Loki


@dataclass(frozen=True, slots=True)
class LokiOptions(HttpOptions):
    """Where to, and what becomes a label."""

    url: str = option(doc="Address of Loki, without a path.", example="http://loki.example.org:3100")
    endpoint: str = option("/loki/api/v1/push", "Path of the push API.")
    user: str = option("", "User of basic authentication.")
    apikey: Secret = option(Secret(""), "Password or API key of basic authentication.")
    tenant: str = option("", "Tenant, sent as `X-Scope-OrgID`.")
    format: str = option("json", "A line holds the JSON event or the message.", choices=("json", "text"))
    extralabels: tuple[str, ...] = option(
        (),
        "Fields that become labels beside rule, priority, source, hostname and tags. Use few, of few values.",
        example=["k8s.ns.name"],
    )


def _loki(batch: Sequence[HubAlert], options: LokiOptions) -> Sequence[Request]:
    streams: dict[tuple[tuple[str, str], ...], list[tuple[int, str]]] = {}
    for alert in batch:
        labels = {"rule": alert.rule, "priority": alert.priority.label, "source": alert.source}
        labels |= {"hostname": alert.hostname} if alert.hostname else {}
        labels |= {"tags": ",".join(sorted(alert.tags))} if alert.tags else {}
        for name in options.extralabels:
            if (value := alert.fields.get(name)) is not None:
                labels[label(name)] = cut_bytes(text_of(value), 1024)
        line = to_bytes(event(alert)).decode() if options.format == "json" else alert.output
        streams.setdefault(tuple(sorted(labels.items())), []).append((alert.ts_ns, line))
    body = {
        "streams": [
            {"stream": dict(labels), "values": [[str(ts), line] for ts, line in sorted(lines, key=lambda v: v[0])]}
            for labels, lines in streams.items()
        ]
    }
    headers = JSON | basic(options.user, str(options.apikey))
    if options.tenant:
        headers = headers | {"X-Scope-OrgID": options.tenant}
    return [Request("POST", options.url.rstrip("/") + options.endpoint, headers, to_bytes(body))]


LOKI = Row(
    name="loki",
    title="Grafana Loki",
    category="Logs",
    doc="One stream for each rule, priority, source and host; a line for each alert at the time of the event.",
    delivered="Loki answered 2xx (204).",
    options=LokiOptions,
    build=_loki,
    judge=by_status,
    batch=lambda options: 500,
)


# -- stores that take lines or arrays of JSON


@dataclass(frozen=True, slots=True)
class VictoriaLogsOptions(HttpOptions):
    """Where to."""

    url: str = option(doc="Address of VictoriaLogs, without a path.", example="http://logs.example.org:9428")
    username: str = option("", "User of basic authentication.")
    password: Secret = option(Secret(""), "Password of basic authentication.")
    account_id: str = option("", "Tenant, `AccountID`.")
    project_id: str = option("", "Project of the tenant, `ProjectID`.")


def _victorialogs(batch: Sequence[HubAlert], options: VictoriaLogsOptions) -> Sequence[Request]:
    query = urlencode({"_stream_fields": "hostname,rule,source", "_msg_field": "output", "_time_field": "time"})
    headers = NDJSON | basic(options.username, str(options.password))
    headers |= {k: v for k, v in (("AccountID", options.account_id), ("ProjectID", options.project_id)) if v}
    body = _lines([event(alert) for alert in batch])
    return [Request("POST", f"{options.url.rstrip('/')}/insert/jsonline?{query}", headers, body)]


VICTORIALOGS = Row(
    name="victorialogs",
    title="VictoriaLogs",
    category="Logs",
    doc="JSON lines; streams by hostname, rule and source.",
    delivered="VictoriaLogs answered 2xx.",
    options=VictoriaLogsOptions,
    build=_victorialogs,
    judge=by_status,
    batch=lambda options: 500,
)


@dataclass(frozen=True, slots=True)
class QuickwitOptions(HttpOptions):
    """Where to."""

    url: str = option(doc="Address of Quickwit, without a path.", example="http://quickwit.example.org:7280")
    apiendpoint: str = option("/api/v1", "Path of the API.")
    index: str = option("falco", "Index; its mapping must be dynamic, with `time` as the timestamp field.")


def _quickwit(batch: Sequence[HubAlert], options: QuickwitOptions) -> Sequence[Request]:
    documents = [event(alert) | {"output_fields": flattened(alert.fields)} for alert in batch]
    url = f"{options.url.rstrip('/')}{options.apiendpoint}/{quote(options.index, safe='')}/ingest"
    return [Request("POST", url, NDJSON, _lines(documents))]


QUICKWIT = Row(
    name="quickwit",
    title="Quickwit",
    category="Logs",
    doc="JSON lines to the ingest API, names without dots.",
    delivered="Quickwit answered 2xx; it indexes within its commit interval.",
    options=QuickwitOptions,
    build=_quickwit,
    judge=by_status,
    batch=lambda options: 500,
)


@dataclass(frozen=True, slots=True)
class ZincsearchOptions(HttpOptions):
    """Where to."""

    url: str = option(doc="Address of Zincsearch, without a path.", example="http://zinc.example.org:4080")
    index: str = option("falco", "Index.")
    username: str = option("", "User of basic authentication.")
    password: Secret = option(Secret(""), "Password of basic authentication.")


def _zincsearch(batch: Sequence[HubAlert], options: ZincsearchOptions) -> Sequence[Request]:
    parts: list[Mapping[str, Any]] = []
    for alert in batch:
        document = event(alert) | {"output_fields": flattened(alert.fields), "@timestamp": moment(alert)}
        parts += [{"index": {"_index": options.index, "_id": alert.id}}, document]
    headers = NDJSON | basic(options.username, str(options.password))
    return [Request("POST", f"{options.url.rstrip('/')}/api/_bulk", headers, _lines(parts))]


ZINCSEARCH = Row(
    name="zincsearch",
    title="Zincsearch",
    category="Logs",
    doc="Documents by `_bulk` under the alert's id, so that one sent twice is one.",
    delivered="Zincsearch answered 2xx.",
    options=ZincsearchOptions,
    build=_zincsearch,
    judge=by_status,
    batch=lambda options: 500,
)


@dataclass(frozen=True, slots=True)
class OpenObserveOptions(HttpOptions):
    """Where to."""

    url: str = option(doc="Address of OpenObserve, without a path.", example="http://observe.example.org:5080")
    organizationname: str = option("default", "Organisation.")
    streamname: str = option("falco", "Stream.")
    username: str = option("", "User of basic authentication.")
    password: Secret = option(Secret(""), "Password of basic authentication.")


def _openobserve(batch: Sequence[HubAlert], options: OpenObserveOptions) -> Sequence[Request]:
    documents = [flat(alert) | {"_timestamp": alert.ts_ns // 1000} for alert in batch]
    path = f"/api/{quote(options.organizationname, safe='')}/{quote(options.streamname, safe='')}/_json"
    headers = JSON | basic(options.username, str(options.password))
    return [Request("POST", options.url.rstrip("/") + path, headers, to_array(documents))]


def _openobserve_says(answer: Answer, count: int) -> Outcome:
    if not 200 <= answer.status < 300:
        return by_status(answer, count)
    try:
        failed = sum(int(status.get("failed", 0)) for status in json.loads(answer.body)["status"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return Outcome((Verdict.AGAIN,) * count, "the answer is not one of OpenObserve")
    if failed:  # it does not say which: found out one by one
        return Outcome((Verdict.NEVER,) * count, f"{failed} of {count} refused: {excerpt(answer.body)}")
    return Outcome((Verdict.DONE,) * count)


OPENOBSERVE = Row(
    name="openobserve",
    title="OpenObserve",
    category="Logs",
    doc="A JSON array of flat events.",
    delivered="OpenObserve answered 2xx and counts none as failed.",
    options=OpenObserveOptions,
    build=_openobserve,
    judge=_openobserve_says,
    batch=lambda options: 500,
)


# -- Splunk, Datadog, Dynatrace, Sumo Logic


@dataclass(frozen=True, slots=True)
class SplunkOptions(HttpOptions):
    """Where to."""

    url: str = option(
        doc="Address of the HTTP event collector, its path included.",
        example="https://splunk.example.org:8088/services/collector/event",
    )
    token: Secret = option(doc="Token of the collector.")
    index: str = option("", "Index; empty: the token's own.")
    sourcetype: str = option("falcosidekick", "Source type.")


def _splunk(batch: Sequence[HubAlert], options: SplunkOptions) -> Sequence[Request]:
    parts = []
    for alert in batch:
        seconds, nanos = divmod(alert.ts_ns, 1_000_000_000)
        part = {"time": f"{seconds}.{nanos:09}", "source": alert.source, "sourcetype": options.sourcetype}
        part |= {"host": alert.hostname} if alert.hostname else {}
        part |= {"index": options.index} if options.index else {}
        parts.append(part | {"event": event(alert)})
    return [Request("POST", options.url, JSON | bearer(str(options.token), "Splunk"), _lines(parts))]


SPLUNK = Row(
    name="splunk",
    title="Splunk",
    category="SIEM",
    doc="Events by the HTTP event collector, with time and host.",
    delivered="The collector answered 2xx.",
    options=SplunkOptions,
    build=_splunk,
    judge=by_status,
    batch=lambda options: 200,
)


@dataclass(frozen=True, slots=True)
class DatadogLogsOptions(HttpOptions):
    """Where to."""

    url: str = option("https://http-intake.logs.datadoghq.com", "Address of the intake for your site.")
    apikey: Secret = option(doc="API key.")
    service: str = option("falco", "Name of the service.")


def _datadoglogs(batch: Sequence[HubAlert], options: DatadogLogsOptions) -> Sequence[Request]:
    documents = [
        {
            "ddsource": "falco",
            "ddtags": ",".join([f"rule:{_tag(alert.rule)}", f"source:{alert.source}", *map(_tag, alert.tags)]),
            "hostname": alert.hostname,
            "service": options.service,
            "status": severity(alert, ("critical", "error", "warning", "info")),
            "timestamp": alert.ts_ns // 1_000_000,
            "message": cut_bytes(to_bytes(event(alert)).decode(), 450_000),
        }
        for alert in batch
    ]
    headers = JSON | {"DD-API-KEY": str(options.apikey)}
    return [Request("POST", f"{options.url.rstrip('/')}/api/v2/logs", headers, to_array(documents))]


def _tag(text: str) -> str:
    """A Datadog tag: lower-case letters, digits and `_-:./`, 200 characters at most."""
    return "".join(c if c.isalnum() or c in "_-:./" else "_" for c in text.lower())[:200]


DATADOGLOGS = Row(
    name="datadoglogs",
    title="Datadog logs",
    category="Logs",
    doc="Logs whose message is the JSON event; at most 1,000 in a request, each below 1 MB.",
    delivered="Datadog answered 2xx (202).",
    options=DatadogLogsOptions,
    build=_datadoglogs,
    judge=by_status,
    batch=lambda options: 200,
    batch_max=lambda options: 1000,
)


@dataclass(frozen=True, slots=True)
class DatadogOptions(HttpOptions):
    """Where to."""

    url: str = option("https://api.datadoghq.com", "Address of the API for your site.")
    apikey: Secret = option(doc="API key.")


def _datadog(batch: Sequence[HubAlert], options: DatadogOptions) -> Sequence[Request]:
    headers = JSON | {"DD-API-KEY": str(options.apikey)}
    url = f"{options.url.rstrip('/')}/api/v1/events"
    made = []
    for alert in batch:
        tags = [f"{name}:{text_of(value)}" for name, value in sorted(alert.fields.items()) if value not in (None, "")]
        tags += [f"source:{alert.source}", "source:falco", *alert.tags]
        document = {
            "title": title(alert, 500),
            "text": cut_bytes(alert.output, 4000),
            "date_happened": alert.ts_ns // 1_000_000_000,
            "alert_type": severity(alert, ("error", "error", "warning", "info")),
            "priority": "low" if alert.priority >= 6 else "normal",
            "source_type_name": "falco",
            "aggregation_key": cut_bytes(alert.rule, 100),
            "tags": [_tag(tag) for tag in tags][:100],
        }
        document |= {"host": alert.hostname} if alert.hostname else {}
        made.append(Request("POST", url, headers, to_bytes(document)))
    return made


DATADOG = Row(
    name="datadog",
    title="Datadog events",
    category="Metrics and observability",
    doc="One event for each alert.",
    delivered="Datadog answered 2xx (202).",
    options=DatadogOptions,
    build=_datadog,
    judge=by_status,
    batch_max=lambda options: 1,
)


@dataclass(frozen=True, slots=True)
class DynatraceOptions(HttpOptions):
    """Where to."""

    apiurl: str = option(doc="Address of the API.", example="https://ENVIRONMENT.live.dynatrace.com/api")
    apitoken: Secret = option(doc="Token with the scope `logs.ingest`.")


def _dynatrace(batch: Sequence[HubAlert], options: DynatraceOptions) -> Sequence[Request]:
    documents = []
    for alert in batch:
        document: dict[str, Any] = {
            "timestamp": alert.ts_ns // 1_000_000,
            "severity": alert.priority.label.lower(),
            "content": cut_bytes(to_bytes({"output": alert.output, "output_fields": alert.fields}).decode(), 60_000),
            "log.source": alert.source,
            "event.id": alert.id,
            "event.name": cut_bytes(alert.rule, 250),
            "event.provider": "Falco",
            "host.name": alert.hostname,
        }
        mitre = [tag for tag in alert.tags if tag.startswith(("mitre_", "T1"))]
        document |= {"mitre.tags": mitre} if mitre else {}
        for ours, theirs in _DYNATRACE.items():
            if (value := alert.fields.get(ours)) is not None:
                document[theirs] = cut_bytes(text_of(value), 250)
        documents.append(document)
    headers = JSON | bearer(str(options.apitoken), "Api-Token")
    return [Request("POST", f"{options.apiurl.rstrip('/')}/v2/logs/ingest", headers, to_array(documents))]


_DYNATRACE = {
    "container.id": "container.id",
    "container.name": "container.name",
    "container.image.repository": "container.image.name",
    "k8s.ns.name": "k8s.namespace.name",
    "k8s.pod.name": "k8s.pod.name",
    "k8s.pod.uid": "k8s.pod.uid",
    "proc.name": "process.executable.name",
    "proc.exepath": "process.executable.path",
    "span.id": "span_id",
}

DYNATRACE = Row(
    name="dynatrace",
    title="Dynatrace",
    category="Metrics and observability",
    doc="Log events with semantic names.",
    delivered="Dynatrace answered 2xx (204).",
    options=DynatraceOptions,
    build=_dynatrace,
    judge=by_status,
    batch=lambda options: 100,
    batch_max=lambda options: 1000,
)


@dataclass(frozen=True, slots=True)
class SumoLogicOptions(HttpOptions):
    """Where to."""

    receiverurl: Secret = option(doc="URL of the HTTP source; it is the secret.")
    sourcecategory: str = option("", "`X-Sumo-Category`.")
    sourcehost: str = option("", "`X-Sumo-Host`.")
    name: str = option("", "`X-Sumo-Name`.")


def _sumologic(batch: Sequence[HubAlert], options: SumoLogicOptions) -> Sequence[Request]:
    pairs = (
        ("X-Sumo-Category", options.sourcecategory),
        ("X-Sumo-Host", options.sourcehost),
        ("X-Sumo-Name", options.name),
    )
    headers = JSON | {name: value for name, value in pairs if value}
    return [Request("POST", str(options.receiverurl), headers, _lines([event(alert) for alert in batch]))]


SUMOLOGIC = Row(
    name="sumologic",
    title="Sumo Logic",
    category="Logs",
    doc="JSON events, one a line.",
    delivered="Sumo Logic answered 2xx.",
    options=SumoLogicOptions,
    build=_sumologic,
    judge=by_status,
    batch=lambda options: 100,
)


@dataclass(frozen=True, slots=True)
class SpyderbatOptions(HttpOptions):
    """Where to."""

    apiurl: str = option("https://api.spyderbat.com", "Address of the API.")
    apikey: Secret = option(doc="API key.")
    orguid: str = option(doc="Organisation.")
    source: str = option("falcosidekick", "Source uid; it must exist.")


def _spyderbat(batch: Sequence[HubAlert], options: SpyderbatOptions) -> Sequence[Request]:
    documents = []
    for alert in batch:
        document: dict[str, Any] = {
            "schema": "falco_alert::1.0.0",
            "id": alert.id,
            "monotonic_time": 0,
            "time": alert.ts_ns / 1e9,
            "pid": alert.fields.get("proc.pid"),
            "level": alert.priority.label.lower(),
            "msg": [alert.rule, alert.output],
            "container": alert.fields.get("container.id"),
            "args": alert.fields.get("proc.cmdline"),
            "hostname": alert.hostname,
            "output_fields": alert.fields,
        }
        documents.append({k: v for k, v in document.items() if v is not None})
    url = f"{options.apiurl.rstrip('/')}/api/v1/org/{quote(options.orguid)}/source/{quote(options.source)}/data/falco"
    headers = {"Content-Type": "application/ndjson", "Content-Encoding": "gzip"} | bearer(str(options.apikey))
    return [Request("POST", url, headers, gzip.compress(_lines(documents), mtime=0))]


SPYDERBAT = Row(
    name="spyderbat",
    title="Spyderbat",
    category="Metrics and observability",
    doc="Gzipped NDJSON of `falco_alert`.",
    delivered="Spyderbat answered 2xx.",
    options=SpyderbatOptions,
    build=_spyderbat,
    judge=by_status,
    batch=lambda options: 100,
)


@dataclass(frozen=True, slots=True)
class GrafanaOptions(HttpOptions):
    """Where to."""

    hostport: str = option(doc="Address of Grafana.", example="https://grafana.example.org")
    apikey: Secret = option(doc="Token of a service account.")
    dashboarduid: str = option("", "Dashboard; empty: an annotation of the whole organisation.")
    dashboardid: int = option(0, "Number of a dashboard, for old Grafana; 0: none.")
    panelid: int = option(0, "Panel of the dashboard; 0: all.")
    allfieldsastags: bool = option(False, "Fields become tags, too.")


def _grafana(batch: Sequence[HubAlert], options: GrafanaOptions) -> Sequence[Request]:
    made = []
    for alert in batch:
        tags = ["falco", alert.priority.label, alert.rule, alert.source, alert.hostname, *alert.tags]
        if options.allfieldsastags:
            tags += [text_of(value) for value in alert.fields.values() if value not in (None, "")]
        at = alert.ts_ns // 1_000_000
        document: dict[str, Any] = {"text": alert.output, "tags": [t for t in tags if t], "time": at, "timeEnd": at}
        document |= {"dashboardUID": options.dashboarduid} if options.dashboarduid else {}
        document |= {"dashboardId": options.dashboardid} if options.dashboardid else {}
        document |= {"panelId": options.panelid} if options.panelid else {}
        headers = JSON | bearer(str(options.apikey))
        made.append(Request("POST", f"{options.hostport.rstrip('/')}/api/annotations", headers, to_bytes(document)))
    return made


GRAFANA = Row(
    name="grafana",
    title="Grafana annotations",
    category="Logs",
    doc="One annotation for each alert.",
    delivered="Grafana answered 2xx.",
    options=GrafanaOptions,
    build=_grafana,
    judge=by_status,
    batch_max=lambda options: 1,
)


# -- OpenTelemetry: OTLP over HTTP with JSON (opentelemetry.io, "OTLP specification"); the hub's journal is the queue,
# so -- none of an SDK stands between


@dataclass(frozen=True, slots=True)
class OtlpOptions(HttpOptions):
    """Where to."""

    endpoint: str = option(doc="Address of the collector, without a path.", example="http://collector.example.org:4318")
    service: str = option("falco", "`service.name` of the resource.")
    extraattributes: Mapping[str, str] = option({}, "Further attributes of the resource.")


_NUMBERS = (24, 22, 21, 17, 13, 10, 9, 5)  # SeverityNumber of each priority: FATAL4, FATAL2, FATAL, ERROR ...


def any_value(value: JsonValue) -> dict[str, Any]:
    """A value in OTLP's JSON: 64-bit integers as decimal text; larger ones as text."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)} if -(2**63) <= value < 2**63 else {"stringValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, Mapping):
        return {"kvlistValue": {"values": _attributes(value)}}
    if value is None:
        return {}
    return {"arrayValue": {"values": [any_value(item) for item in value]}}


def _attributes(values: Mapping[str, JsonValue]) -> list[dict[str, Any]]:
    return [{"key": name, "value": any_value(value)} for name, value in values.items() if value is not None]


def _about(alert: HubAlert) -> Mapping[str, JsonValue]:
    about: dict[str, JsonValue] = {
        "priority": alert.priority.label,
        "rule": alert.rule,
        "source": alert.source,
        "uuid": alert.id,
        "tags": list(alert.tags),
    }
    return about | dict(alert.fields)


def _by_host(batch: Sequence[HubAlert], options: OtlpOptions) -> list[tuple[dict[str, Any], list[HubAlert]]]:
    hosts: dict[str, list[HubAlert]] = {}
    for alert in batch:
        hosts.setdefault(alert.hostname, []).append(alert)
    return [
        (
            {
                "attributes": _attributes(
                    {
                        "service.name": options.service,
                        **({"host.name": host} if host else {}),
                        **options.extraattributes,
                    }
                )
            },
            several,
        )
        for host, several in hosts.items()
    ]


def _otlp_logs(batch: Sequence[HubAlert], options: OtlpOptions) -> Sequence[Request]:
    made = []
    for resource, several in _by_host(batch, options):
        records = [
            {
                "timeUnixNano": str(alert.ts_ns),
                "observedTimeUnixNano": str(alert.received_ns or alert.ts_ns),
                "severityNumber": _NUMBERS[alert.priority],
                "severityText": alert.priority.label,
                "body": {"stringValue": alert.output},
                "attributes": _attributes(_about(alert)),
            }
            for alert in several
        ]
        made.append({"resource": resource, "scopeLogs": [{"scope": {"name": "tercel"}, "logRecords": records}]})
    return [Request("POST", f"{options.endpoint.rstrip('/')}/v1/logs", JSON, to_bytes({"resourceLogs": made}))]


def _otlp_traces(batch: Sequence[HubAlert], options: OtlpOptions) -> Sequence[Request]:
    """A span for each alert; those of one container, or of one process, share a trace."""
    made = []
    for resource, several in _by_host(batch, options):
        spans = []
        for alert in several:
            about = alert.fields.get("container.id") or alert.fields.get("proc.pid") or alert.id
            spans.append(
                {
                    "traceId": _digest(f"{alert.hostname}:{text_of(about)}", 16),
                    "spanId": _digest(alert.id, 8),
                    "name": alert.rule,
                    "kind": 1,
                    "startTimeUnixNano": str(alert.ts_ns),
                    "endTimeUnixNano": str(alert.ts_ns),
                    "attributes": _attributes({**_about(alert), "output": alert.output}),
                    "status": {"code": 2 if alert.priority <= 3 else 0},
                }
            )
        made.append({"resource": resource, "scopeSpans": [{"scope": {"name": "tercel"}, "spans": spans}]})
    return [Request("POST", f"{options.endpoint.rstrip('/')}/v1/traces", JSON, to_bytes({"resourceSpans": made}))]


def _digest(text: str, size: int) -> str:
    import hashlib

    return hashlib.blake2b(text.encode(errors="replace"), digest_size=size).hexdigest()


def _otlp_metrics(batch: Sequence[HubAlert], options: OtlpOptions) -> Sequence[Request]:
    """The counter `falco.alerts`, as a delta of each batch."""
    made = []
    for resource, several in _by_host(batch, options):
        counts: dict[tuple[str, str, str], list[HubAlert]] = {}
        for alert in several:
            counts.setdefault((alert.rule, alert.priority.label, alert.source), []).append(alert)
        points = [
            {
                "startTimeUnixNano": str(min(a.ts_ns for a in alike)),
                "timeUnixNano": str(max(a.ts_ns for a in alike)),
                "asInt": str(len(alike)),
                "attributes": _attributes({"rule": rule, "priority": priority, "source": source}),
            }
            for (rule, priority, source), alike in counts.items()
        ]
        total = {"aggregationTemporality": 1, "isMonotonic": True, "dataPoints": points}
        metric = {"name": "falco.alerts", "unit": "{alert}", "sum": total}
        made.append({"resource": resource, "scopeMetrics": [{"scope": {"name": "tercel"}, "metrics": [metric]}]})
    return [Request("POST", f"{options.endpoint.rstrip('/')}/v1/metrics", JSON, to_bytes({"resourceMetrics": made}))]


def _otlp_says(answer: Answer, count: int) -> Outcome:
    """A 200 may refuse some of them: `partialSuccess` (OTLP specification, "Partial Success"); retrying is
    forbidden."""
    if answer.status == 200:
        try:
            partial = json.loads(answer.body or b"{}").get("partialSuccess") or {}
            refused = max((int(v) for k, v in partial.items() if k.startswith("rejected")), default=0)
        except (ValueError, TypeError, AttributeError):
            refused, partial = 0, {}
        if refused:
            return Outcome((Verdict.NEVER,) * count, f"{refused} refused: {str(partial.get('errorMessage'))[:200]}")
    return by_status(answer, count)


def _otlp(name: str, what: str, doc: str, build: Any) -> Row:
    return Row(
        name=name,
        title=f"OpenTelemetry {what}",
        category="OpenTelemetry",
        doc=doc,
        delivered="The collector answered 2xx and rejected none.",
        options=OtlpOptions,
        build=build,
        judge=_otlp_says,
        batch=lambda options: 200,
    )


ROWS = (
    LOKI,
    VICTORIALOGS,
    QUICKWIT,
    ZINCSEARCH,
    OPENOBSERVE,
    SPLUNK,
    DATADOGLOGS,
    DATADOG,
    DYNATRACE,
    SUMOLOGIC,
    SPYDERBAT,
    GRAFANA,
    _otlp("otlplogs", "logs", "Log records with severity, all fields as attributes, and the event's time.", _otlp_logs),
    _otlp("otlptraces", "traces", "A span for each alert; alerts of one container share a trace.", _otlp_traces),
    _otlp("otlpmetrics", "metrics", "The counter `falco.alerts` by rule, priority, source.", _otlp_metrics),
)
