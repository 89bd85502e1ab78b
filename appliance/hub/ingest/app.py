"""The collector's HTTP: a bare ASGI application.

Comes in: requests. Goes out: answers; alerts to the journal before the answer that acknowledges them. Never: a
connection that is lost for what its request said.

Paths are Falcosidekick's (`POST` to any path but these, `/ping`, `/healthz`, `/test`, `/metrics`), and `/heartbeat`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from appliance.hub.alert import HubAlert, NewAlert, fields_of, new_alert, whole_alert
from appliance.hub.fleet.table import BadHeartbeat, Fleet
from appliance.hub.ingest.check import Refused, alert_of
from appliance.hub.ingest.commit import Committer
from appliance.hub.ingest.enrich import Enrich
from appliance.hub.ingest.guard import Denied, Guard, Sender, seconds_text
from appliance.hub.ingest.parse import BadBody, Event, events_in, unpack
from appliance.hub.journal.base import JournalError
from appliance.hub.outputs.shape import TEST_RULE
from appliance.hub.settings import Collector
from appliance.model.alert import Priority
from appliance.model.moment import iso_time
from appliance.model.text import printable

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

NOT_VALID = "Please send a valid request body"
NOT_POST = "Please send with post http method"
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_EMPTY_HEADERS = [(b"content-length", b"0")]
_NAMESPACE = b'"k8s.ns.name"'
_SERIES_MAX = 10_000
_STRIDE = 256
_REFUSALS_SHOWN = 100
_LOG_NS = 10_000_000_000


@dataclass(slots=True)
class Books:
    """What the collector has counted since its start."""

    requests: Counter[str] = field(default_factory=Counter)  # by accepted, rejected
    answers: Counter[int] = field(default_factory=Counter)
    alerts: int = 0
    duplicates: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # alerts by reason
    bytes_in: int = 0
    bytes_unpacked: int = 0
    events: Counter[tuple[str, str, Priority, str, str]] = field(default_factory=Counter)
    heartbeats: int = 0
    senders: Counter[str] = field(default_factory=Counter)

    def count(self, alerts: Sequence[NewAlert]) -> None:
        """So many more for `falco_events_total`; series beyond a bound count under empty names."""
        events = self.events
        series = Counter([(a.hostname, a.rule, a.priority, a.source, _namespace_of(a.fields)) for a in alerts])
        for key, count in series.items():
            if key in events or len(events) < _SERIES_MAX:
                events[key] += count
            else:
                events["", "", key[2], "", ""] += count


def _namespace_of(fields: msgspec.Raw) -> str:
    if _NAMESPACE not in bytes(fields):
        return ""
    found = fields_of(fields).get("k8s.ns.name")
    return found if isinstance(found, str) else ""


class Collect:
    """The application. `metrics` makes the text of `/metrics`."""

    def __init__(
        self,
        settings: Collector,
        committer: Committer,
        enrich: Enrich | None,
        fleet: Fleet,
        metrics: Callable[[Books], str],
        *,
        may_be_empty: bool = False,
    ) -> None:
        self._settings = settings
        self._committer = committer
        self._enrich = enrich
        self._fleet = fleet
        self._metrics = metrics
        self._may_be_empty = may_be_empty
        self._guard = Guard(settings)
        self._body_max = settings.max_body_mib << 20
        self._alert_max = settings.max_alert_kib << 10
        self._waiting_max = settings.max_waiting_mib << 20
        self._waiting = 0
        self._told_ns = 0
        self.books = Books()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the start and end of the server."""
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        path, method = scope["path"], scope["method"]
        try:
            if path in _FIXED:
                kind, text = _FIXED[path]
                await self._answer(send, 200, text, [(b"content-type", kind)])
                return
            sender = self._guard.sender_of(headers.get(b"authorization", b"").decode("latin-1"))
            if path == "/metrics":
                text = await asyncio.to_thread(self._metrics, self.books)
                await self._answer(send, 200, text, [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")])
                return
            if method != "POST":
                raise Denied(400, NOT_POST)
            if path == "/test":
                await self._store([new_alert(test_alert())], sender)
                await self._answer(send, 200)
                return
            reserved = self._reserve(headers)
            try:
                raw = await self._body(receive, reserved)
                self._guard.check_signature(raw, headers.get(b"tercel-signature", b"").decode("latin-1"))
                self.books.bytes_in += len(raw)
                body = raw
                if encoding := headers.get(b"content-encoding"):
                    body = await asyncio.to_thread(unpack, raw, encoding.decode("latin-1"), self._body_max)
                self.books.bytes_unpacked += len(body)
                self._waiting += len(body) - reserved[0]
                reserved[0] = len(body)
                if path == "/heartbeat":
                    self._fleet.beat(body, time.time_ns())
                    self.books.heartbeats += 1
                    await self._answer(send, 200)
                else:
                    await self._take(body, headers, sender, send)
            finally:
                self._waiting -= reserved[0]
        except (Denied, BadBody) as error:
            self.books.requests["rejected"] += 1
            more: list[tuple[bytes, bytes]] = []
            if isinstance(error, Denied) and error.retry_after_s is not None:
                more.append((b"retry-after", seconds_text(error.retry_after_s).encode()))
            if error.status == 401:
                more.append((b"www-authenticate", b"Bearer"))
            reason = str(error)
            text = reason if isinstance(error, Denied) else f"{NOT_VALID}\n{reason}"
            await self._answer(send, error.status, f"{text}\n", [_TEXT, *more])
        except BadHeartbeat as error:
            await self._answer(send, 400, f"{error}\n", [_TEXT])
        except JournalError as error:
            self.books.requests["rejected"] += 1
            log.error("an alert was not acknowledged: %s", error)
            await self._answer(send, 503, f"{error}\n", [_TEXT, (b"retry-after", b"5")])

    def _reserve(self, headers: Mapping[bytes, bytes]) -> list[int]:
        """Make room for a body of the announced size; the list holds how much. Raises `Denied`."""
        length = headers.get(b"content-length", b"")
        size = int(length) if length.isdigit() and len(length) < 16 else 0
        if size > self._body_max:
            raise Denied(413, f"{NOT_VALID}\nthe body is larger than {self._body_max} bytes")
        if self._waiting and self._waiting + size > self._waiting_max:
            raise Denied(503, "too many requests wait", 1.0)
        self._waiting += size
        return [size]

    async def _body(self, receive: Receive, reserved: list[int]) -> bytes:
        """The body as it comes over the wire. Raises `Denied`."""
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            body: bytes = message.get("body", b"")
            if len(body) <= self._body_max:
                return body
        parts = bytearray(message.get("body", b""))
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                while message.get("more_body"):
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Denied(400, NOT_VALID)
                    parts += message.get("body", b"")
                    if len(parts) > reserved[0]:  # sent in chunks
                        if self._waiting > self._waiting_max:
                            raise Denied(503, "too many requests wait", 1.0)
                        self._waiting += len(parts) - reserved[0]
                        reserved[0] = len(parts)
                    if len(parts) > self._body_max:
                        raise Denied(413, f"{NOT_VALID}\nthe body is larger than {self._body_max} bytes")
        except TimeoutError:
            raise Denied(408, "the body took too long") from None
        return bytes(parts)

    async def _take(self, body: bytes, headers: Mapping[bytes, bytes], sender: Sender, send: Send) -> None:
        """Alerts of a body: check, store, answer."""
        received_ns = time.time_ns()
        told = headers.get(b"tercel-alert-id", b"").decode("latin-1")
        ids = told.split(", ") if told else []
        alerts: list[NewAlert] = []
        refusals: list[tuple[int, str]] = []
        n = -1
        found: Event | str
        for n, found in enumerate(events_in(body, self._alert_max)):
            if n % _STRIDE == _STRIDE - 1:
                await asyncio.sleep(0)  # others' turn
            if isinstance(found, str):
                refusals.append((n, found))
                continue
            try:
                id_ = ids[n] if n < len(ids) else None
                alert = alert_of(found, received_ns, id_, may_be_empty=self._may_be_empty or id_ is not None)
                alerts.append(new_alert(self._enrich(whole_alert(alert))) if self._enrich else alert)
            except Refused as error:
                refusals.append((n, str(error)))
        for _, reason in refusals:
            self.books.refused[reason.partition(":")[0][:100]] += 1
        if refusals and received_ns - self._told_ns > _LOG_NS:
            self._told_ns = received_ns
            log.warning(
                "alerts are refused, %d of this request; the first: %s", len(refusals), printable(refusals[0][1])
            )
        if not alerts:
            raise BadBody(400, "; ".join(dict.fromkeys(reason for _, reason in refusals[:5])))
        duplicates = await self._store(alerts, sender)
        if n == 0:
            await self._answer(send, 200)
            return
        said = {"accepted": len(alerts) - duplicates, "duplicates": duplicates, "rejected": [
            {"index": at, "reason": reason} for at, reason in refusals[:_REFUSALS_SHOWN]
        ]}  # fmt: skip
        # a sender of ids sends each again alone when a batch is refused: it then knows which it is, and loses none
        status = 400 if refusals and ids else 200
        await self._answer(send, status, json.dumps(said) + "\n", [(b"content-type", b"application/json")])

    async def _store(self, alerts: Sequence[NewAlert], sender: Sender) -> int:
        """Make them durable; how many were duplicates."""
        self._guard.admit(sender, [alert.hostname for alert in alerts], len(alerts))
        positions = await self._committer.commit(alerts)
        duplicates = positions.count(0)
        books = self.books
        books.requests["accepted"] += 1
        books.alerts += len(alerts) - duplicates
        books.duplicates += duplicates
        if sender.name:
            books.senders[sender.name] += len(alerts)
        stored = alerts if not duplicates else [a for a, n in zip(alerts, positions, strict=True) if n]
        books.count(stored)
        for hostname, count in Counter([alert.hostname for alert in stored]).items():
            self._fleet.seen(hostname, received_ns=stored[0].received_ns, alerts=count)
        return duplicates

    async def _answer(
        self, send: Send, status: int, text: str = "", headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        self.books.answers[status] += 1
        body = text.encode("utf-8", "replace")
        length = _EMPTY_HEADERS if not body else [*headers, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": length})
        await send({"type": "http.response.body", "body": body})


_FIXED = {
    "/ping": (b"text/plain; charset=utf-8", "pong\n"),
    "/healthz": (b"application/json", '{"status": "ok"}'),
}


def test_alert() -> HubAlert:
    """The alert of `/test` and of `tercel hub send-test`: every output has it, whatever it passes over."""
    now_ns = time.time_ns()
    text = f"{iso_time(now_ns)}Z: Debug This is a test alert of the hub (user=nobody command=true)"
    return HubAlert(
        0, f"test:{now_ns}", now_ns, now_ns, "tercel-hub", TEST_RULE, Priority.DEBUG, "internal", ("example", "test"),
        text, {"proc.name": "true", "user.name": "nobody"},
    )  # fmt: skip
