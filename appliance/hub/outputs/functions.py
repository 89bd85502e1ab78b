"""Functions, workflows, responders and bridges: services that take the JSON event by HTTP.

Comes in: alerts. Goes out: the JSON event, with the headers and the path that each service wants. Never: a header value
that a stranger's text could break.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from appliance.config.settings import Secret
from appliance.hub.alert import HubAlert
from appliance.hub.options import option
from appliance.hub.outputs.base import Answer, Outcome, Request, Verdict
from appliance.hub.outputs.event import event, to_array, to_bytes
from appliance.hub.outputs.http import HttpOptions, Row, by_status
from appliance.hub.outputs.logs import JSON
from appliance.hub.outputs.words import basic, bearer, moment


@dataclass(frozen=True, slots=True)
class UrlOptions(HttpOptions):
    """Where to."""

    url: Secret = option(doc="Where to send to.", example="https://flows.example.org/alerts")


def _event_to(url: str, alert: HubAlert, headers: Mapping[str, str] = {}) -> Request:
    return Request("POST", url, {**JSON, **headers}, to_bytes(event(alert)))


def _plain(batch: Sequence[HubAlert], options: UrlOptions) -> Sequence[Request]:
    return [_event_to(str(options.url), alert) for alert in batch]


@dataclass(frozen=True, slots=True)
class NoderedOptions(UrlOptions):
    """Also who asks."""

    user: str = option("", "User of basic authentication.")
    password: Secret = option(Secret(""), "Password of basic authentication.")


@dataclass(frozen=True, slots=True)
class N8nOptions(NoderedOptions):
    """Also by a header."""

    headerauthname: str = option("", "Name of the header that authenticates.")
    headerauthvalue: Secret = option(Secret(""), "Its value.")


def _with_user(batch: Sequence[HubAlert], options: NoderedOptions) -> Sequence[Request]:
    headers = basic(options.user, str(options.password))
    if isinstance(options, N8nOptions) and options.headerauthname:
        headers |= {options.headerauthname: str(options.headerauthvalue)}
    return [_event_to(str(options.url), alert, headers) for alert in batch]


def _webui(batch: Sequence[HubAlert], options: UrlOptions) -> Sequence[Request]:
    """What Falcosidekick-UI takes; the hub's own page takes it, too."""
    made = []
    for alert in batch:
        body = to_bytes({"event": event(alert), "outputs": ["webui"]})
        made.append(Request("POST", str(options.url), JSON, body))
    return made


# -- functions in a cluster


@dataclass(frozen=True, slots=True)
class OpenfaasOptions(HttpOptions):
    """Which function."""

    gateway: str = option("http://gateway.openfaas:8080", "Address of the gateway.")
    functionname: str = option(doc="Name of the function.")
    functionnamespace: str = option("openfaas-fn", "Its namespace.")
    asynchronous: bool = option(False, "Queue the call (`/async-function`), not run it.")


def _openfaas(batch: Sequence[HubAlert], options: OpenfaasOptions) -> Sequence[Request]:
    way = "async-function" if options.asynchronous else "function"
    name = f"{quote(options.functionname)}.{quote(options.functionnamespace)}"
    url = f"{options.gateway.rstrip('/')}/{way}/{name}"
    return [_event_to(url, alert, {"event-id": _ascii(alert.id)}) for alert in batch]


@dataclass(frozen=True, slots=True)
class FissionOptions(HttpOptions):
    """Which function."""

    router: str = option("http://router.fission", "Address of the router.")
    function: str = option(doc="Name of the function.")


def _fission(batch: Sequence[HubAlert], options: FissionOptions) -> Sequence[Request]:
    url = f"{options.router.rstrip('/')}/fission-function/{quote(options.function)}"
    return [_event_to(url, alert, {"event-id": _ascii(alert.id)}) for alert in batch]


@dataclass(frozen=True, slots=True)
class KubelessOptions(HttpOptions):
    """Which function."""

    function: str = option(doc="Name of the function.")
    namespace: str = option("kubeless", "Its namespace.")
    port: int = option(8080, "Its port.", minimum=1, maximum=65535)


def _kubeless(batch: Sequence[HubAlert], options: KubelessOptions) -> Sequence[Request]:
    url = f"http://{options.function}.{options.namespace}.svc.cluster.local:{options.port}"
    headers = {"event-type": "falco", "event-namespace": options.namespace}
    return [
        _event_to(url, alert, headers | {"event-id": _ascii(alert.id), "event-time": moment(alert)}) for alert in batch
    ]


@dataclass(frozen=True, slots=True)
class CloudRunOptions(HttpOptions):
    """Which service."""

    endpoint: str = option(doc="URL of the Cloud Run service.")
    jwt: Secret = option(Secret(""), "Token of the caller.")


def _cloudrun(batch: Sequence[HubAlert], options: CloudRunOptions) -> Sequence[Request]:
    return [_event_to(options.endpoint, alert, bearer(str(options.jwt))) for alert in batch]


def _ascii(text: str) -> str:
    """A text as the value of a header: printable ASCII, the rest as `%XX`."""
    return quote(text, safe=" !#$&'()*+,/:;=?@[]~")


# -- CloudEvents 1.0, HTTP protocol binding


@dataclass(frozen=True, slots=True)
class CloudEventsOptions(HttpOptions):
    """Where to, and in which mode."""

    address: str = option(doc="URL of the broker or sink.", example="http://broker.example.org/default")
    extensions: Mapping[str, str] = option({}, "Extension attributes added to each event.")
    mode: str = option(
        "binary", "`binary`: attributes are headers. `batch`: one JSON array.", choices=("binary", "batch")
    )


def attributes(alert: HubAlert, extensions: Mapping[str, str]) -> dict[str, str]:
    """The attributes of an alert as a CloudEvent; names of extensions are lower-case letters and digits."""
    made = {
        "id": alert.id,
        "source": "https://falco.org",
        "specversion": "1.0",
        "type": "falco.rule.output.v1",
        "time": moment(alert),
        "priority": alert.priority.label,
        "rule": alert.rule,
        "eventsource": alert.source,
    }
    made |= {"hostname": alert.hostname} if alert.hostname else {}
    return made | {re.sub(r"[^a-z0-9]", "", k.lower())[:20]: v for k, v in extensions.items()}


def _cloudevents(batch: Sequence[HubAlert], options: CloudEventsOptions) -> Sequence[Request]:
    if options.mode == "batch":
        events = [
            attributes(alert, options.extensions) | {"datacontenttype": "application/json", "data": event(alert)}
            for alert in batch
        ]
        headers = {"Content-Type": "application/cloudevents-batch+json; charset=utf-8"}
        return [Request("POST", options.address, headers, to_array(events))]
    made = []
    for alert in batch:
        headers = {f"ce-{k}": _ce_header(v) for k, v in attributes(alert, options.extensions).items()}
        headers["Content-Type"] = "application/json"
        made.append(Request("POST", options.address, headers, to_bytes(event(alert))))
    return made


def _ce_header(text: str) -> str:
    """As the HTTP binding encodes values (section 3.1.3.2): all but printable ASCII, `"` and `%` as `%XX`."""
    return "".join(c if "!" <= c <= "~" and c not in '"%' else quote(c, safe="", errors="replace") for c in text)


# -- bridges to queues


@dataclass(frozen=True, slots=True)
class KafkaRestOptions(HttpOptions):
    """Which topic."""

    address: str = option(
        doc="URL of the topic at the REST proxy.", example="http://proxy.example.org:8082/topics/falco"
    )
    version: int = option(2, "Version of the API.", minimum=1, maximum=2)


def _kafkarest(batch: Sequence[HubAlert], options: KafkaRestOptions) -> Sequence[Request]:
    records = [
        {
            "key": base64.b64encode((alert.hostname or alert.id).encode(errors="replace")).decode(),
            "value": base64.b64encode(to_bytes(event(alert))).decode(),
        }
        for alert in batch
    ]
    kind = f"application/vnd.kafka.binary.v{options.version}+json"
    headers = {"Content-Type": kind, "Accept": f"application/vnd.kafka.v{options.version}+json, application/json"}
    return [Request("POST", options.address, headers, to_bytes({"records": records}))]


def _kafkarest_says(answer: Answer, count: int) -> Outcome:
    """One entry for each record; an error of 1 can be retried, 2 cannot (REST proxy, "Produce messages")."""
    if not 200 <= answer.status < 300:
        return by_status(answer, count)
    try:
        offsets: list[dict[str, Any]] = json.loads(answer.body)["offsets"]
        if len(offsets) != count:
            raise ValueError("another number of offsets than of records")
        codes = [entry.get("error_code") for entry in offsets]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return Outcome((Verdict.AGAIN,) * count, f"the answer is not one of a REST proxy: {error}")
    verdicts = [Verdict.DONE if not code else Verdict.AGAIN if code == 1 else Verdict.NEVER for code in codes]
    return Outcome(tuple(verdicts), next((str(entry.get("error")) for entry in offsets if entry.get("error_code")), ""))


@dataclass(frozen=True, slots=True)
class EventHubOptions(HttpOptions):
    """Which hub, and by which key."""

    eventhub: str = option(doc="URL of the Event Hub.", example="https://NAMESPACE.servicebus.windows.net/HUB")
    keyname: str = option("RootManageSharedAccessKey", "Name of the shared access policy.")
    key: Secret = option(doc="Key of the policy.")


def _eventhub(batch: Sequence[HubAlert], options: EventHubOptions) -> Sequence[Request]:
    """The REST API, "Send batch events"; the token is one of a shared access signature, for an hour."""
    url = options.eventhub.rstrip("/")
    parts = urlsplit(url)
    resource = quote(f"{parts.scheme}://{parts.netloc}{parts.path}".lower(), safe="")
    until = int(time.time()) + 3600
    signed = hmac.digest(str(options.key).encode(), f"{resource}\n{until}".encode(), hashlib.sha256)
    signature = quote(base64.b64encode(signed).decode(), safe="")
    token = f"SharedAccessSignature sr={resource}&sig={signature}&se={until}&skn={quote(options.keyname)}"
    bodies = [
        {"Body": to_bytes(event(alert)).decode(), "UserProperties": {"id": alert.id, "rule": alert.rule}}
        for alert in batch
    ]
    headers = {"Content-Type": "application/vnd.microsoft.servicebus.json", "Authorization": token}
    return [Request("POST", f"{url}/messages?timeout=60&api-version=2014-01", headers, to_array(bodies))]


def _one(options: Any) -> int:
    return 1


def _row(
    name: str,
    title: str,
    category: str,
    doc: str,
    options: type[HttpOptions],
    build: Any,
    *,
    judge: Callable[[Answer, int], Outcome] = by_status,
    batch: Callable[[Any], int] = _one,
    batch_max: Callable[[Any], int] = _one,
) -> Row:
    return Row(
        name=name,
        title=title,
        category=category,
        doc=doc,
        delivered="The service answered 2xx.",
        options=options,
        build=build,
        judge=judge,
        batch=batch,
        batch_max=batch_max,
    )


_F, _W = "Functions", "Workflow"
ROWS = (
    _row("nodered", "Node-RED", _W, "The JSON event to an HTTP-in node.", NoderedOptions, _with_user),
    _row("n8n", "n8n", _W, "The JSON event to a webhook node.", N8nOptions, _with_user),
    _row("tekton", "Tekton", _W, "The JSON event to an EventListener.", UrlOptions, _plain),
    _row("talon", "Falco Talon", "Response", "The JSON event; Talon acts on it.", UrlOptions, _plain),
    _row("webui", "Falcosidekick-UI", "Web", "The payload that Falcosidekick-UI takes.", UrlOptions, _webui),
    _row("openfaas", "OpenFaaS", _F, "Calls a function with the JSON event.", OpenfaasOptions, _openfaas),
    _row("fission", "Fission", _F, "Calls a function with the JSON event.", FissionOptions, _fission),
    _row("kubeless", "Kubeless", _F, "Calls a function with the JSON event.", KubelessOptions, _kubeless),
    _row("gcpcloudrun", "Google Cloud Run", _F, "The JSON event to a service.", CloudRunOptions, _cloudrun),
    _row(
        "cloudevents",
        "CloudEvents",
        "Queue",
        "A CloudEvent 1.0, for Knative and others.",
        CloudEventsOptions,
        _cloudevents,
        batch=lambda options: 50 if options.mode == "batch" else 1,
        batch_max=lambda options: 1000 if options.mode == "batch" else 1,
    ),
    _row(
        "kafkarest",
        "Kafka REST proxy",
        "Queue",
        "Records keyed by host.",
        KafkaRestOptions,
        _kafkarest,
        judge=_kafkarest_says,
        batch=lambda options: 200,
        batch_max=lambda options: 1000,
    ),
    _row(
        "azureeventhub",
        "Azure Event Hubs",
        "Queue",
        "Batches by the REST API with a shared access signature.",
        EventHubOptions,
        _eventhub,
        batch=lambda options: 50,
        batch_max=lambda options: 200,
    ),
)
