"""The Kubernetes audit source, joined to the loop.

Comes in: where audit events come from. Goes out: events, to the loop between two of its looks at the kernel's ring.
Never: a wait of the loop's for a client or a disk.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.config.plugins import K8sAudit
from appliance.daemon.loop import Loop
from appliance.model.alert import Alert, Priority
from appliance.model.diagnostic import worth_a_line
from appliance.model.event import Event
from appliance.sources.k8saudit import UNREADABLE, AuditError, AuditQueue, Batch, read_log
from appliance.sources.webhook import Webhook

log = logging.getLogger(__name__)

LOSS_RULE = "Tercel internal: audit events lost"
_PATIENCE_S = 0.05  # of a reader of files, while the queue is full


@dataclass(frozen=True, slots=True)
class AuditStats:
    """The account of the source, in events: `taken` by the loop, `waiting` for it, `refused` since the queue was full
    (the API server sends these again), `lost` for good by reason. `answers`: the webhook's, by HTTP status;
    `handshakes_failed`: its clients that spoke no TLS, or had no certificate where one is wanted."""

    where: str
    taken: int
    waiting: int
    waiting_bytes: int  # of JSON
    capacity: int
    capacity_bytes: int
    refused: int
    lost: Mapping[str, int]
    answers: Mapping[int, int]
    handshakes_failed: int


class Audit:
    """Made before `Loop.run`, which raises `WebhookError`; listens from `start` to `close`."""

    def __init__(
        self, settings: K8sAudit, loop: Loop, make_alert: Callable[[str, Priority, str, dict[str, int | str]], Alert]
    ) -> None:
        self._settings = settings
        self._loop = loop
        self._make_alert = make_alert
        self._queue = AuditQueue(wake=lambda: loop.post(_nothing))
        self._closing = threading.Event()
        self._read: set[Path] = set()
        self._webhook: Webhook | None = None
        if settings.host is not None:
            self._webhook = Webhook(
                host=settings.host,
                port=settings.port,
                path=settings.path,
                certificate=settings.certificate,
                max_event_bytes=settings.max_event_bytes,
                max_body_bytes=settings.max_body_bytes,
                put=self._put,
                client_ca=settings.client_ca,
                cluster=settings.cluster,
            )
        loop.documents = self._take

    def describe(self) -> str:
        """Where it hears, for the start banner."""
        settings = self._settings
        if settings.host is None or self._webhook is None:
            return f"k8s_audit from {settings.logs}"
        scheme = "http" if settings.certificate is None else "https"
        asked = "" if settings.client_ca is None else ", for clients with a certificate"
        return f"k8s_audit at {scheme}://{settings.host}:{self._webhook.port}{settings.path}{asked}"

    def stats(self) -> AuditStats:
        """The account so far, from any thread."""
        queue = self._queue
        return AuditStats(
            where=self.describe(),
            taken=queue.taken,
            waiting=len(queue),
            waiting_bytes=queue.waiting_bytes,
            capacity=queue.capacity,
            capacity_bytes=queue.capacity_bytes,
            refused=queue.refused,
            lost=dict(queue.lost),
            answers={} if self._webhook is None else dict(self._webhook.counts),
            handshakes_failed=0 if self._webhook is None else self._webhook.handshakes_failed,
        )

    def renew(self) -> Callable[[], None]:
        """Read the webhook's certificates again; what is given back puts them into use. Raises `WebhookError`."""
        webhook = self._webhook
        if webhook is None:
            return _nothing
        context = webhook.read_certificates()
        return lambda: webhook.use(context)

    def start(self) -> None:
        """Begin to hear."""
        faults = self._loop.faults
        if self._webhook is not None:
            self._webhook.start(faults)
            return
        thread = faults.thread("k8s-audit", self._read_logs, self._closing)
        try:
            thread.start()
        except RuntimeError as error:
            log.error("cannot start a thread to read audit events: %s", error)
            self._lose_logs("no thread to read it", 1)

    def close(self) -> None:
        """Hear no more."""
        self._closing.set()
        if self._webhook is not None:
            self._webhook.stop()

    def give_up(self) -> None:
        """After the loop's end: what still waits is lost, and said to be."""
        if count := self._queue.give_up():
            log.warning("%d audit events were not evaluated before the end", count)

    def _take(self, limit: int) -> Sequence[Event]:
        return self._queue.take(limit)

    def _put(self, batch: Batch) -> bool:
        taken = self._queue.put(batch)
        if taken and batch.too_large:
            self._loop.post(lambda: self._loop.tell(self._loss(batch.too_large)))
        return taken

    def _loss(self, count: int) -> Alert:
        message = f"{count} Kubernetes audit events were larger than {self._settings.max_event_bytes} bytes: not judged"
        return self._make_alert(LOSS_RULE, Priority.CRITICAL, message, {"lost": count})

    def _read_logs(self) -> None:
        path = self._settings.logs
        if path is None:
            return
        try:
            files = sorted(path.iterdir()) if path.is_dir() else [path]
        except OSError as error:
            log.error("cannot read audit events from %s: %s", path, error)
            self._lose_logs(UNREADABLE, 1)
            return
        for file in files:
            if file not in self._read:  # one that an error of ours ended is not begun again
                self._read.add(file)
                self._read_log(file)

    def _read_log(self, file: Path) -> None:
        """One file, line by line: a line that is no audit event is lost, and those behind it are read."""

        def unreadable(error: AuditError) -> None:
            self._lose_logs(UNREADABLE, 1)
            if worth_a_line(self._queue.lost[UNREADABLE]):
                log.error("a line of audit events is not readable: %s", error)

        try:
            for batch in read_log(file, now_ns=time.time_ns(), cluster=self._settings.cluster, unreadable=unreadable):
                while not self._queue.has_room(batch) and not self._closing.wait(_PATIENCE_S):
                    pass
                if self._closing.is_set():
                    return
                self._put(batch)
        except OSError as error:
            log.error("cannot read audit events from %s: %s", file, error)
            self._lose_logs(UNREADABLE, 1)

    def _lose_logs(self, reason: str, count: int) -> None:
        self._queue.lose(reason, count)


def _nothing() -> None:
    pass
