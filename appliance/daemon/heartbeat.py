"""Heartbeats: what `tercel status` knows, in short, to the central hub.

Comes in: a reader of the status. Goes out: a POST each interval. Never: a wait of the loop, or an error that matters to
anything else: a heartbeat that cannot be sent is the hub's to notice.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from appliance import __version__
from appliance.config.settings import HttpOutput, HubLink, Secret
from appliance.daemon.generation import one_digest
from appliance.daemon.status import Status
from appliance.host.faults import Faults
from appliance.model.diagnostic import DeliveryError
from appliance.model.text import json_safe, printable
from appliance.model.wire import Format
from appliance.sinks.http import HttpSink

log = logging.getLogger(__name__)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_RELEASE = Path("/proc/sys/kernel/osrelease")
_TROUBLES_MAX = 20


class Heartbeat:
    """Sends one at the start and one every interval, on a thread of its own, until `stop`."""

    def __init__(
        self, link: HubLink, http: HttpOutput, *, status: Callable[[], Status], faults: Faults | None = None
    ) -> None:
        """`http` gives the certificates and the deadline."""
        self._link = link
        self._status = status
        url = heartbeat_url(link.url)
        settings = replace(http, url=url, token=link.token, batch=1, compress_uploads=False, echo=False)
        self._sink = HttpSink(settings, Format())
        self._ending = threading.Event()
        self._failed = ""
        self._faults = Faults() if faults is None else faults
        self._thread = self._faults.thread("heartbeat", self._run, self._ending)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, soon."""
        self._ending.set()

    def _run(self) -> None:
        interval_s = self._link.interval_ms / 1000
        due = time.monotonic()
        while not self._ending.wait(max(0.0, due - time.monotonic())):
            due = max(due + interval_s, time.monotonic())
            try:
                self.beat()
            except Exception:
                self._faults.caught("heartbeat")
        self._sink.close()

    def beat(self) -> None:
        """One heartbeat, now."""
        text = json.dumps(in_short(self._status(), self._link.group))
        try:
            self._sink.post(text, "application/json", {})
        except DeliveryError as error:
            if not self._failed:
                log.warning("hub: no heartbeat can be sent: %s", printable(str(error)))
            self._failed = str(error)
        else:
            if self._failed:
                log.info("hub: heartbeats are sent again")
            self._failed = ""


def heartbeat_url(url: str) -> str:
    """Where heartbeats go, of the collector's URL; a secret one stays secret."""
    made = f"{url.rstrip('/')}/heartbeat"
    return Secret(made) if isinstance(url, Secret) else made


def in_short(status: Status, group: str) -> dict[str, Any]:
    """What the hub receives: `docs/hub.md` lists the keys."""
    generation, glance = status.generation, status.glance
    lost = sum(sink.lost for sink in status.sinks) + (glance.books.lost if glance is not None else 0)
    canary = glance.canary if glance is not None else None
    return {
        "hostname": json_safe(status.hostname),
        "group": group,
        "boot": _BOOT_ID.read_text().strip(),
        "started_ns": status.started_ns,
        "clock_ns": time.time_ns(),
        "version": __version__,
        "kernel": _RELEASE.read_text().strip(),
        "generation": generation.number,
        "rules_digest": one_digest(generation.rules_digests),
        "config_digest": generation.config_sha256,
        "lost": lost,
        "filtered": glance.books.filtered if glance is not None else 0,
        "queue": sum(sink.waiting for sink in status.sinks),
        "canary_age_s": canary.age_s if canary is not None else None,
        "troubles": [json_safe(text) for text in status.troubles()[:_TROUBLES_MAX]],
    }
