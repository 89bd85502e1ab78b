"""Google Cloud by its REST APIs: Cloud Storage, Pub/Sub, Cloud Functions, Chronicle.

Comes in: batches. Goes out: requests with a token that google-auth fetches and renews. Never: a client library with
threads and queues of its own.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from appliance.config.settings import Secret
from appliance.hub.alert import HubAlert
from appliance.hub.options import option
from appliance.hub.outputs.aws import batch_key
from appliance.hub.outputs.base import Answer, Request
from appliance.hub.outputs.event import event, to_bytes
from appliance.hub.outputs.http import HttpClient, HttpOptions, Row, by_status
from appliance.hub.outputs.logs import JSON
from appliance.hub.outputs.table import Kind
from appliance.hub.outputs.threads import Threads
from appliance.hub.outputs.words import cut_bytes, moment
from appliance.model.moment import iso_time

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)


@dataclass(frozen=True, slots=True)
class GoogleOptions(HttpOptions):
    """Who asks."""

    projectid: str = option("", "Project.")
    credentials: Secret = option(
        Secret(""), "JSON of a service account's key, or the same in base64; empty: the machine's own identity."
    )
    anonymous: bool = option(False, "Send no token, for emulators.")


class GoogleClient(HttpClient):
    """An HTTP output whose requests carry a token."""

    def __init__(self, row: Row, options: GoogleOptions) -> None:
        super().__init__(row, options)
        self._google = options
        self._credentials: Any = None
        self._threads = Threads()

    async def close(self) -> None:
        """Close all connections."""
        await super().close()
        self._threads.close()

    async def _exchange(self, request: Request) -> Answer:
        if not self._google.anonymous:
            token = await self._threads.run(self._token)
            request = replace(request, headers={**request.headers, "Authorization": f"Bearer {token}"})
        return await super()._exchange(request)

    def _token(self) -> str:
        import google.auth
        import google.auth.transport.requests
        from google.oauth2 import service_account

        if self._credentials is None:
            text = str(self._google.credentials)
            if text:
                key = json.loads(text if text.lstrip().startswith("{") else base64.b64decode(text))
                self._credentials = service_account.Credentials.from_service_account_info(key, scopes=_SCOPES)  # type: ignore[no-untyped-call]
            else:
                self._credentials, _ = google.auth.default(scopes=_SCOPES)
        if not self._credentials.valid:
            self._credentials.refresh(google.auth.transport.requests.Request())
        return str(self._credentials.token)


@dataclass(frozen=True, slots=True)
class GcsOptions(GoogleOptions):
    """Which bucket."""

    bucket: str = option(doc="Bucket.")
    prefix: str = option("falco", "Put before each object's name.")
    compress: bool = option(True, "Compress objects by gzip.")
    endpoint: str = option("https://storage.googleapis.com", "Address of the service.")


def _gcs(batch: Sequence[HubAlert], options: GcsOptions) -> Sequence[Request]:
    body = b"".join(to_bytes(event(alert)) + b"\n" for alert in batch)
    name = batch_key(options.prefix, batch, ".ndjson.gz" if options.compress else ".ndjson")
    kind = "application/gzip" if options.compress else "application/x-ndjson"
    url = f"{options.endpoint.rstrip('/')}/upload/storage/v1/b/{quote(options.bucket)}/o"
    url += f"?uploadType=media&name={quote(name, safe='')}"
    return [Request("POST", url, {"Content-Type": kind}, gzip.compress(body, mtime=0) if options.compress else body)]


@dataclass(frozen=True, slots=True)
class PubsubOptions(GoogleOptions):
    """Which topic."""

    topic: str = option(doc="Topic.")
    customattributes: Mapping[str, str] = option({}, "Attributes added to each message.")
    ordered: bool = option(False, "Set the host as the ordering key.")
    endpoint: str = option("https://pubsub.googleapis.com", "Address of the service.")


def _pubsub(batch: Sequence[HubAlert], options: PubsubOptions) -> Sequence[Request]:
    messages = []
    for alert in batch:
        about = {"id": alert.id, "rule": alert.rule, "priority": alert.priority.label} | dict(options.customattributes)
        one: dict[str, Any] = {
            "data": base64.b64encode(to_bytes(event(alert))).decode(),
            "attributes": {name: cut_bytes(text, 1000) for name, text in about.items() if text},
        }
        messages.append(one | ({"orderingKey": cut_bytes(alert.hostname, 1000)} if options.ordered else {}))
    path = f"/v1/projects/{quote(options.projectid)}/topics/{quote(options.topic)}:publish"
    return [Request("POST", options.endpoint.rstrip("/") + path, JSON, to_bytes({"messages": messages}))]


@dataclass(frozen=True, slots=True)
class CloudFunctionsOptions(GoogleOptions):
    """Which function."""

    name: str = option(doc="Full name.", example="projects/P/locations/us-central1/functions/F")
    endpoint: str = option("https://cloudfunctions.googleapis.com", "Address of the service.")


def _functions(batch: Sequence[HubAlert], options: CloudFunctionsOptions) -> Sequence[Request]:
    url = f"{options.endpoint.rstrip('/')}/v1/{quote(options.name)}:call"
    return [Request("POST", url, JSON, to_bytes({"data": to_bytes(event(alert)).decode()})) for alert in batch]


@dataclass(frozen=True, slots=True)
class ChronicleOptions(GoogleOptions):
    """Which instance."""

    region: str = option("us", "Region.")
    customerid: str = option(doc="Customer id of the instance.")
    forwarderid: str = option(doc="Forwarder id.")
    endpoint: str = option("", "Address of the service, in place of the region's.")


def _chronicle(batch: Sequence[HubAlert], options: ChronicleOptions) -> Sequence[Request]:
    base = options.endpoint or f"https://{options.region}-chronicle.googleapis.com"
    parent = f"projects/{options.projectid}/locations/{options.region}/instances/{options.customerid}"
    entries = [
        {
            "data": base64.b64encode(to_bytes(event(alert))).decode(),
            "logEntryTime": moment(alert),
            "collectionTime": iso_time(max(alert.received_ns, alert.ts_ns + 1)) + "Z",
        }
        for alert in batch
    ]
    body = {"inlineSource": {"forwarder": f"{parent}/forwarders/{options.forwarderid}", "logs": entries}}
    url = f"{base.rstrip('/')}/v1beta/{quote(parent)}/logTypes/FALCO_IDS/logs:import"
    return [Request("POST", url, JSON, to_bytes(body))]


def _row(name: str, title: str, category: str, doc: str, options: type[GoogleOptions], build: Any, size: int) -> Row:
    return Row(
        name=name,
        title=title,
        category=category,
        doc=doc,
        delivered="The service answered 2xx.",
        options=options,
        build=build,
        judge=by_status,
        batch=lambda given: size,
        batch_max=lambda given: 1000 if size > 1 else 1,
    )


ROWS = (
    _row(
        "gcpstorage",
        "Google Cloud Storage",
        "Object storage",
        "An object of NDJSON for each batch.",
        GcsOptions,
        _gcs,
        500,
    ),
    _row("gcppubsub", "Google Pub/Sub", "Queue", "Messages with attributes.", PubsubOptions, _pubsub, 200),
    _row(
        "gcpcloudfunctions",
        "Google Cloud Functions",
        "Functions",
        "Calls a function with the JSON event.",
        CloudFunctionsOptions,
        _functions,
        1,
    ),
    _row(
        "gcpchronicle", "Google Chronicle", "SIEM", "Raw logs of the type FALCO_IDS.", ChronicleOptions, _chronicle, 100
    ),
)


def _kind(row: Row) -> Kind:
    return Kind(
        name=row.name,
        title=row.title,
        category=row.category,
        doc=row.doc,
        delivered=row.delivered,
        options=row.options,
        connect=lambda options: GoogleClient(row, options),
        batch=row.batch,
        batch_max=row.batch_max,
        extra="hub-gcp",
    )


KINDS = tuple(map(_kind, ROWS))
