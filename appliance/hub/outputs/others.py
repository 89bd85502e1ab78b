"""Outputs of a kind of their own: Azure Blob Storage, Apprise (more than a hundred push and chat services by URL), and
Kubernetes policy reports.

Comes in: batches. Goes out: calls of each service's own library or API. Never: a report that overwrites what another
writer put into it meanwhile.
"""

from __future__ import annotations

import gzip
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.config.settings import Secret
from appliance.hub.alert import HubAlert
from appliance.hub.options import option
from appliance.hub.outputs.aws import batch_key
from appliance.hub.outputs.base import Client, Outcome, Verdict
from appliance.hub.outputs.event import event, to_bytes
from appliance.hub.outputs.queues import done
from appliance.hub.outputs.table import Kind
from appliance.hub.outputs.threads import Threads
from appliance.hub.outputs.words import cut, cut_bytes, facts, text_of, title

# -- Azure Blob Storage


@dataclass(frozen=True, slots=True)
class AzureBlobOptions:
    """Which container."""

    connectionstring: Secret = option(doc="Connection string of the storage account.")
    container: str = option("falco", "Container; it is made where it is missing.")
    prefix: str = option("falco", "Put before each blob's name.")


class AzureBlobClient(Client):
    """One blob of gzipped NDJSON for each batch."""

    def __init__(self, options: AzureBlobOptions) -> None:
        from azure.core import exceptions
        from azure.storage.blob import BlobServiceClient

        self._errors: Any = exceptions
        self._options = options
        self._threads = Threads()
        self._service: Any = BlobServiceClient.from_connection_string(
            str(options.connectionstring), connection_timeout=10, read_timeout=20, retry_total=0
        )

    async def send(self, batch: Sequence[HubAlert]) -> Outcome:
        """Upload the blob of a batch; the same batch has the same name."""
        return await self._threads.run(self._send, batch)

    def _send(self, batch: Sequence[HubAlert]) -> Outcome:
        body = gzip.compress(b"".join(to_bytes(event(alert)) + b"\n" for alert in batch), mtime=0)
        name = batch_key(self._options.prefix, batch, ".ndjson.gz")
        container = self._service.get_container_client(self._options.container)
        try:
            try:
                container.upload_blob(name, body, overwrite=True)
            except self._errors.ResourceNotFoundError:
                container.create_container()
                container.upload_blob(name, body, overwrite=True)
        except self._errors.AzureError as error:
            raise OSError(f"{type(error).__name__}: {error}".splitlines()[0][:300]) from error
        return done(batch)

    async def close(self) -> None:
        """Close the connections."""
        await self._threads.run(self._service.close)
        self._threads.close()


# -- Apprise


@dataclass(frozen=True, slots=True)
class AppriseOptions:
    """Which services."""

    urls: tuple[Secret, ...] = option(
        doc="URLs of Apprise, one for each service.",
        example=["pover://USER@TOKEN", "matrixs://USER:PASSWORD@HOST/#ROOM"],
    )


class AppriseClient(Client):
    """A notification for each batch, to all URLs."""

    def __init__(self, options: AppriseOptions) -> None:
        import apprise

        self._apprise: Any = apprise
        self._notifier: Any = apprise.Apprise()
        self._threads = Threads()
        for url in options.urls:
            if not self._notifier.add(str(url)):
                raise ValueError(
                    f"Apprise knows no service for a URL that begins with `{str(url).partition('://')[0]}://`"
                )

    async def send(self, batch: Sequence[HubAlert]) -> Outcome:
        """Send one notification; a service that fails makes all of it be tried again."""
        worst = min(batch, key=lambda alert: alert.priority)
        more = f" (and {len(batch) - 1} more)" if len(batch) > 1 else ""
        parts = []
        for alert in batch[:20]:
            lines = [cut(alert.output, 2000), *(f"{name}: {cut(value, 300)}" for name, value in facts(alert))]
            parts.append("\n".join(lines))
        kind = self._apprise.NotifyType.FAILURE if worst.priority <= 3 else self._apprise.NotifyType.WARNING
        if worst.priority >= 5:
            kind = self._apprise.NotifyType.INFO
        sent = await self._threads.run(
            self._notifier.notify,
            title=title(worst, 180) + more,
            body="\n\n".join(parts),
            notify_type=kind,
            body_format=self._apprise.NotifyFormat.TEXT,
        )
        return (
            done(batch) if sent else Outcome((Verdict.AGAIN,) * len(batch), "a service did not take the notification")
        )

    async def close(self) -> None:
        """Nothing is kept open."""
        self._threads.close()


# -- Kubernetes policy reports

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_GROUPS = {"wgpolicyk8s.io": "v1alpha2", "openreports.io": "v1alpha1"}
_TRIES = 5


@dataclass(frozen=True, slots=True)
class PolicyReportOptions:
    """Which cluster, and which API."""

    url: str = option("https://kubernetes.default.svc", "Address of the API server.")
    token: Secret = option(Secret(""), "Token; empty: that of the pod's service account.")
    ca_file: Path | None = option(None, "Authorities of the API server; null: those of the pod's service account.")
    apigroup: str = option("wgpolicyk8s.io", "API group of the reports.", choices=tuple(_GROUPS))
    namespace: str = option("default", "Namespace of alerts that name none.")
    maxevents: int = option(1000, "Results that a report holds; the oldest go first.", minimum=1)


class PolicyReportClient(Client):
    """Adds results to the report of each namespace, and to that of the cluster for audit events without one."""

    def __init__(self, options: PolicyReportOptions) -> None:
        self._options = options
        self._client: Any = None

    def _connected(self) -> Any:
        if self._client is None:
            import httpx

            ca_file = self._options.ca_file or (_ACCOUNT / "ca.crt" if (_ACCOUNT / "ca.crt").exists() else None)
            verify: Any = ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
            self._client = httpx.AsyncClient(verify=verify, trust_env=False, follow_redirects=False, timeout=20)
        return self._client

    def _headers(self) -> dict[str, str]:
        token = str(self._options.token)
        if not token and (_ACCOUNT / "token").exists():
            token = (_ACCOUNT / "token").read_text().strip()  # the kubelet renews it
        return {"Authorization": f"Bearer {token}"} if token else {}

    async def send(self, batch: Sequence[HubAlert]) -> Outcome:
        """One change for each report. Alerts of other sources than syscall and k8s_audit are passed over."""
        reports: dict[str, list[HubAlert]] = {}
        for alert in batch:
            if alert.source in ("syscall", "syscalls", "k8s_audit"):
                reports.setdefault(_namespace(alert, self._options), []).append(alert)
        for namespace, alerts in reports.items():
            refused = await self._add(namespace, alerts)
            if refused:
                return Outcome((Verdict.AGAIN,) * len(batch), refused)
        return done(batch)

    async def _add(self, namespace: str, alerts: Sequence[HubAlert]) -> str:
        """Read, change, write; again where somebody else wrote in between. The reason where it was refused."""
        group, version = self._options.apigroup, _GROUPS[self._options.apigroup]
        where = f"/namespaces/{namespace}/policyreports" if namespace else "/clusterpolicyreports"
        name = "falco-policy-report" if namespace else "falco-cluster-policy-report"
        collection = f"{self._options.url.rstrip('/')}/apis/{group}/{version}{where}"
        client = self._connected()
        for _ in range(_TRIES):
            found = await client.get(f"{collection}/{name}", headers=self._headers())
            if found.status_code == 404:
                report: dict[str, Any] = {
                    "apiVersion": f"{group}/{version}",
                    "kind": "PolicyReport" if namespace else "ClusterPolicyReport",
                    "metadata": {"name": name} | ({"namespace": namespace} if namespace else {}),
                    "results": [],
                }
            elif found.status_code == 200:
                report = found.json()
            else:
                return f"answer {found.status_code}: {found.text[:200]}"
            known = {result.get("properties", {}).get("uuid") for result in report.get("results") or ()}
            new = [result_of(alert) for alert in alerts if alert.id not in known]
            report["results"] = [*(report.get("results") or ()), *new][-self._options.maxevents :]
            states = [result["result"] for result in report["results"]]
            report["summary"] = {state: states.count(state) for state in ("pass", "fail", "warn", "error", "skip")}
            if found.status_code == 404:
                put = await client.post(collection, headers=self._headers(), json=report)
            else:
                put = await client.put(f"{collection}/{name}", headers=self._headers(), json=report)
            if put.status_code != 409:
                return "" if put.status_code in (200, 201) else f"answer {put.status_code}: {put.text[:200]}"
        return "the report was changed by others again and again"

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def _namespace(alert: HubAlert, options: PolicyReportOptions) -> str:
    named = alert.fields.get("k8s.ns.name") or alert.fields.get("ka.target.namespace")
    if isinstance(named, str) and named:
        return named
    return "" if alert.source == "k8s_audit" else options.namespace


_SEVERITIES = ("critical", "critical", "critical", "high", "medium", "low", "info", "info")


def result_of(alert: HubAlert) -> dict[str, Any]:
    """An alert as a result of a report; its time in seconds since the epoch."""
    seconds, nanos = divmod(alert.ts_ns, 1_000_000_000)
    fields = {name: cut_bytes(text_of(value), 2000) for name, value in alert.fields.items() if value is not None}
    made: dict[str, Any] = {
        "policy": alert.rule,
        "rule": alert.rule,
        "source": "Falco",
        "category": "SI - System and Information Integrity",
        "severity": _SEVERITIES[alert.priority],
        "scored": False,
        "result": "fail" if alert.priority <= 3 else "warn" if alert.priority == 4 else "skip",
        "message": cut_bytes(alert.output, 4000),
        "timestamp": {"seconds": seconds, "nanos": nanos},
        "properties": fields | {"uuid": alert.id, "hostname": alert.hostname, "priority": alert.priority.label},
    }
    pod = alert.fields.get("k8s.pod.name")
    if isinstance(pod, str) and pod:
        subject = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": pod,
            "namespace": text_of(alert.fields.get("k8s.ns.name")),
        }
        made["resources"] = [subject]
    return made


KINDS = (
    Kind(
        name="azureblob",
        title="Azure Blob Storage",
        category="Object storage",
        extra="hub-azure",
        options=AzureBlobOptions,
        connect=AzureBlobClient,
        doc="A blob of gzipped NDJSON for each batch.",
        delivered="The service stored the blob.",
        batch=lambda options: 500,
    ),
    Kind(
        name="apprise",
        title="Apprise",
        category="Chat",
        extra="hub-chat",
        options=AppriseOptions,
        connect=AppriseClient,
        doc="A notification by any service of Apprise, more than a hundred, each by a URL.",
        delivered="Every service took the notification.",
        batch=lambda options: 20,
        batch_max=lambda options: 100,
    ),
    Kind(
        name="policyreport",
        title="Kubernetes policy reports",
        category="Other",
        options=PolicyReportOptions,
        connect=PolicyReportClient,
        doc="Results in the report of each namespace, in either API group.",
        delivered="The API server stored the report.",
        batch=lambda options: 100,
        batch_max=lambda options: 1000,
    ),
)
