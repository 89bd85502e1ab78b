"""Alerting services: Alertmanager, PagerDuty, Opsgenie, Grafana OnCall.

Comes in: alerts. Goes out: incidents that the service can merge: alerts of one rule, host and container share a key.
Never: a process id or a command line as a label, which would make each alert a group of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.config.settings import Secret
from appliance.hub.alert import HubAlert
from appliance.hub.options import option
from appliance.hub.outputs.base import Request
from appliance.hub.outputs.event import to_array, to_bytes
from appliance.hub.outputs.http import HttpOptions, Row, by_status
from appliance.hub.outputs.logs import JSON
from appliance.hub.outputs.words import (
    bearer,
    cut,
    cut_bytes,
    facts,
    group_key,
    label,
    moment,
    severity,
    text_of,
    title,
)
from appliance.model.moment import iso_time


@dataclass(frozen=True, slots=True)
class AlertmanagerOptions(HttpOptions):
    """Where to, and what tells groups apart."""

    hostport: tuple[str, ...] = option(
        doc="Addresses of Alertmanager; each alert goes to all of them, as Prometheus does with a cluster.",
        example=["http://alertmanager.example.org:9093"],
    )
    endpoint: str = option("/api/v2/alerts", "Path of the API.")
    expiresafter: int = option(
        0, "Seconds after which the alert resolves; 0: Alertmanager's `resolve_timeout`.", minimum=0
    )
    extralabels: Mapping[str, str] = option({}, "Labels added to each alert.")
    extraannotations: Mapping[str, str] = option({}, "Annotations added to each alert.")
    labelfields: tuple[str, ...] = option(
        ("container.id", "k8s.ns.name", "k8s.pod.name"),
        "Fields that become labels, and so tell groups apart; all others are annotations.",
    )
    customseveritymap: Mapping[str, str] = option({}, "`severity` for a priority in place of ours, as `notice: info`.")


_SEVERITIES = ("critical", "critical", "critical", "warning", "warning", "information", "information", "information")


def _alertmanager(batch: Sequence[HubAlert], options: AlertmanagerOptions) -> Sequence[Request]:
    given = {name.lower(): text for name, text in options.customseveritymap.items()}
    documents = []
    for alert in batch:
        level = alert.priority.label
        labels = {
            "alertname": alert.rule,
            "rule": alert.rule,
            "source": "falco",
            "eventsource": alert.source,
            "priority": level,
            "severity": given.get(level.lower(), _SEVERITIES[alert.priority]),
        }
        labels |= {"hostname": alert.hostname} if alert.hostname else {}
        labels |= {"tags": ",".join(sorted(alert.tags))} if alert.tags else {}
        annotations = {"summary": alert.rule, "description": cut(alert.output, 20_000), "info": cut(alert.output, 1000)}
        for name, value in alert.fields.items():
            if value is None or value == "":
                continue
            place = labels if name in options.labelfields else annotations
            place.setdefault(label(name), cut(text_of(value), 1000 if place is labels else 20_000))
        document: dict[str, Any] = {
            "labels": labels | {label(k): v for k, v in options.extralabels.items()},
            "annotations": annotations | {label(k): v for k, v in options.extraannotations.items()},
            "startsAt": moment(alert),
        }
        if options.expiresafter:
            document["endsAt"] = iso_time(alert.ts_ns + options.expiresafter * 1_000_000_000) + "Z"
        documents.append(document)
    body = to_array(documents)
    return [Request("POST", host.rstrip("/") + options.endpoint, JSON, body) for host in options.hostport]


ALERTMANAGER = Row(
    name="alertmanager",
    title="Prometheus Alertmanager",
    category="Alerting",
    doc="Alerts by API v2. Labels are few, so that grouping and silences work; fields are annotations.",
    delivered="Each Alertmanager answered 2xx.",
    options=AlertmanagerOptions,
    build=_alertmanager,
    judge=by_status,
    batch=lambda options: 50 if len(options.hostport) == 1 else 1,
    batch_max=lambda options: 1000 if len(options.hostport) == 1 else 1,
)


@dataclass(frozen=True, slots=True)
class PagerdutyOptions(HttpOptions):
    """Which service."""

    routingkey: Secret = option(doc="Integration key of Events API v2.")
    region: str = option("us", "Region of the account.", choices=("us", "eu"))
    url: str = option("", "Address of the events API, in place of the region's.")


def _pagerduty(batch: Sequence[HubAlert], options: PagerdutyOptions) -> Sequence[Request]:
    region = "eu." if options.region == "eu" else ""
    url = options.url or f"https://events.{region}pagerduty.com/v2/enqueue"
    made = []
    for alert in batch:
        document = {
            "routing_key": str(options.routingkey),
            "event_action": "trigger",
            "dedup_key": cut_bytes(group_key(alert), 255),
            "client": "Tercel",
            "payload": {
                "summary": cut(f"{title(alert)}: {alert.output}", 1024),
                "source": alert.hostname or "falco",
                "severity": severity(alert, ("critical", "error", "warning", "info")),
                "timestamp": moment(alert),
                "component": text_of(alert.fields.get("container.name")) or text_of(alert.fields.get("proc.name")),
                "group": alert.source,
                "class": alert.rule,
                "custom_details": {name: cut(text, 4000) for name, text in facts(alert)[:200]},
            },
        }
        made.append(Request("POST", url, JSON, to_bytes(document)))
    return made


PAGERDUTY = Row(
    name="pagerduty",
    title="PagerDuty",
    category="Alerting",
    doc="Events API v2; the severity follows the priority, the dedup key is rule, host and container.",
    delivered="PagerDuty answered 2xx (202).",
    options=PagerdutyOptions,
    build=_pagerduty,
    judge=by_status,
    batch_max=lambda options: 1,
)


@dataclass(frozen=True, slots=True)
class OpsgenieOptions(HttpOptions):
    """Which account."""

    apikey: Secret = option(doc="API key of an integration.")
    region: str = option("us", "Region of the account.", choices=("us", "eu"))
    url: str = option("", "Address of the API, in place of the region's.")


_OPSGENIE = ("P1", "P1", "P1", "P2", "P3", "P4", "P5", "P5")


def _opsgenie(batch: Sequence[HubAlert], options: OpsgenieOptions) -> Sequence[Request]:
    region = "eu." if options.region == "eu" else ""
    url = options.url or f"https://api.{region}opsgenie.com/v2/alerts"
    made = []
    for alert in batch:
        details: dict[str, str] = {}
        room = 7500  # of the 8,000 characters that all details may have
        for name, text in facts(alert):
            text = cut(text, 1000)
            if room < len(name) + len(text):
                break
            details[label(name)] = text
            room -= len(name) + len(text)
        document = {
            "message": title(alert, 130),
            "alias": cut(group_key(alert), 512),
            "description": cut(alert.output, 15_000),
            "entity": cut(alert.hostname or "falco", 512),
            "source": "Tercel",
            "priority": _OPSGENIE[alert.priority],
            "tags": [cut(tag, 50) for tag in alert.tags[:20]],
            "details": details,
        }
        made.append(Request("POST", url, JSON | bearer(str(options.apikey), "GenieKey"), to_bytes(document)))
    return made


OPSGENIE = Row(
    name="opsgenie",
    title="Opsgenie",
    category="Alerting",
    doc="Alert API v2, alerts of one incident share an alias.",
    delivered="Opsgenie answered 2xx (202).",
    options=OpsgenieOptions,
    build=_opsgenie,
    judge=by_status,
    batch_max=lambda options: 1,
)


@dataclass(frozen=True, slots=True)
class GrafanaOncallOptions(HttpOptions):
    """Where to."""

    webhookurl: Secret = option(doc="URL of the formatted webhook integration; it is the secret.")


def _grafanaoncall(batch: Sequence[HubAlert], options: GrafanaOncallOptions) -> Sequence[Request]:
    made = []
    for alert in batch:
        document = {
            "alert_uid": group_key(alert),
            "title": title(alert),
            "state": "alerting",
            "message": cut(alert.output, 8000),
            "details": dict(facts(alert)),
        }
        made.append(Request("POST", str(options.webhookurl), JSON, to_bytes(document)))
    return made


GRAFANAONCALL = Row(
    name="grafanaoncall",
    title="Grafana OnCall",
    category="Alerting",
    doc="A formatted webhook for each alert.",
    delivered="OnCall answered 2xx.",
    options=GrafanaOncallOptions,
    build=_grafanaoncall,
    judge=by_status,
    batch_max=lambda options: 1,
)

ROWS = (ALERTMANAGER, PAGERDUTY, OPSGENIE, GRAFANAONCALL)
