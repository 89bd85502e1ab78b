"""What the running appliance says of itself: one plain value, for people, health checks and metrics.

Comes in: the appliance, its reloader. Goes out: `Status`, and the same as JSON. Never: a number made up where nobody
counted.

The loop is asked on its own thread, so that the books are those of one point of the stream; a loop that does not answer
is itself the finding.
"""

from __future__ import annotations

import os
import platform
import resource
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from appliance import __version__
from appliance.daemon.assemble import Appliance
from appliance.daemon.audit import AuditStats
from appliance.daemon.control import diagnostic_to_json
from appliance.daemon.generation import Generation, one_digest
from appliance.daemon.loop import Glance
from appliance.daemon.reload import Reloader, Verdict
from appliance.kernel.layout import HEAD_SIZE
from appliance.kernel.program import Hooks
from appliance.lang.reader import ENGINE_VERSION
from appliance.model.diagnostic import Severity
from appliance.model.wire import shortened
from appliance.sinks.dispatch import SinkStats

FORMAT = 1  # of the JSON; rises when a key leaves or changes its meaning, not when one comes
_ANSWER_S = 5.0
_FRESH_S = 0.2  # several who ask at once get one answer
_TEXT_MAX = 300
_RING_HEADER = 8  # bytes before each record, BPF_RINGBUF_HDR_SZ
_STUCK_S = 10.0  # a sink that has one alert in hand for longer is stuck, its tries and their time-outs counted in
_STUCK_TIMEOUTS = 4


@dataclass(frozen=True, slots=True)
class Status:
    """The appliance at one moment. `glance` is None where the loop did not answer in time, `audit` where there is no
    such source. `floods` is the account before the sinks, see `Dispatcher.flood_stats`."""

    taken_ns: int  # wall clock
    started_ns: int
    hostname: str
    hooks: str
    generation: Generation
    reloads: tuple[int, int]  # accepted, refused
    last_reload: Mapping[str, Any] | None
    glance: Glance | None
    sinks: tuple[SinkStats, ...]
    rss_bytes: int
    cpu_seconds: float
    audit: AuditStats | None = None
    floods: Mapping[str, int] = field(default_factory=dict)
    hooked: str = Hooks.TRACEPOINTS.value
    faults: Mapping[str, int] = field(default_factory=dict)  # errors of ours, by the seam that caught them
    dead: tuple[str, ...] = ()  # threads that should run and do not

    @property
    def seconds(self) -> float:
        """Since the start."""
        return (self.taken_ns - self.started_ns) / 1e9

    def troubles(self) -> list[str]:
        """What makes the appliance unhealthy, each a sentence; empty when it is well."""
        found = []
        if self.glance is None:
            found.append(f"the loop did not answer within {_ANSWER_S:.0f} s")
        else:
            if missing := astray(self.glance):
                found.append(f"the ledger does not close: {missing} records are unaccounted for")
            if self.glance.canary is not None and self.glance.canary.trouble:
                found.append(self.glance.canary.trouble)
        found += [f"the thread `{name}` does not run" for name in self.dead]
        patience_s = max(_STUCK_S, _STUCK_TIMEOUTS * self.generation.config.output_timeout_ms / 1000)
        for sink in self.sinks:
            if sink.stuck_s > patience_s:
                why = f": {sink.trouble}" if sink.trouble else ""
                found.append(f"sink {sink.name} is stuck: one alert in hand for {sink.stuck_s:.0f} s{why}")
        return found


def astray(glance: Glance) -> int:
    """Records that the kernel made and that are neither judged nor lost nor anywhere on the way; below zero, judged
    ones that it did not make. 0 where all is well.

    On the way: in the rings, held back for those of another ring, or being made, one on each processor.
    """
    if glance.in_flight < 0:
        return glance.in_flight
    on_the_way = glance.holding + glance.waiting_bytes // (HEAD_SIZE + _RING_HEADER) + len(glance.books.by_cpu)
    return max(0, glance.in_flight - on_the_way)


class StatusReader:
    """Makes a `Status` when asked, from any thread."""

    def __init__(self, appliance: Appliance, reloader: Reloader, *, hostname: str, started_ns: int) -> None:
        self._appliance = appliance
        self._reloader = reloader
        self._hostname = hostname
        self._started_ns = started_ns
        self._lock = threading.Lock()
        self._latest: tuple[float, Status] | None = None

    def read(self) -> Status:
        """The status now, or as it was a moment ago."""
        with self._lock:
            now = time.monotonic()
            if self._latest is None or now - self._latest[0] > _FRESH_S:
                self._latest = time.monotonic(), self._take()
            return self._latest[1]

    def _take(self) -> Status:
        glances: list[Glance] = []
        try:
            self._appliance.on_loop(lambda: glances.append(self._appliance.loop.look()), _ANSWER_S)
        except TimeoutError:
            glances = []
        reloader = self._reloader
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return Status(
            taken_ns=time.time_ns(),
            started_ns=self._started_ns,
            hostname=self._hostname,
            hooks=self._appliance.source.describe(),
            generation=reloader.current,
            reloads=(reloader.accepted, reloader.refused),
            last_reload=None if reloader.last is None else verdict_to_json(reloader.last),
            glance=glances[0] if glances else None,
            sinks=tuple(self._appliance.dispatcher.stats()),
            rss_bytes=rss_bytes(),
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            audit=None if self._appliance.audit is None else self._appliance.audit.stats(),
            floods=self._appliance.dispatcher.flood_stats(),
            hooked=self._appliance.source.hooked.value,
            faults=self._appliance.faults.counts,
            dead=tuple(self._appliance.faults.dead()),
        )


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """What came of a reload, for who asked for it and for who asks later."""
    return {
        "accepted": verdict.accepted,
        "generation": verdict.number,
        "changes": list(verdict.changes),
        "seconds": round(verdict.seconds, 3),
        "diagnostics": [diagnostic_to_json(d) for d in verdict.diagnostics],
    }


def rss_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """Resident memory of this process (proc(5), second number of statm)."""
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def versions() -> dict[str, str]:
    """What runs here, for `/versions`."""
    return {
        "tercel_version": __version__,
        "engine_version": str(ENGINE_VERSION[1]),
        "engine_version_semver": ".".join(map(str, ENGINE_VERSION)),
        "python_version": platform.python_version(),
        "kernel_release": platform.release(),
        "architecture": platform.machine(),
    }


def to_json(status: Status) -> dict[str, Any]:
    """The whole status as the control socket and `tercel status --json` give it: `schemas/status.schema.json`."""
    generation = status.generation
    troubles = status.troubles()
    glance = status.glance
    return {
        "format": FORMAT,
        "healthy": not troubles,
        "troubles": troubles,
        "versions": versions(),
        "hostname": status.hostname,
        "pid": os.getpid(),
        "time_ns": status.taken_ns,
        "started_ns": status.started_ns,
        "seconds": round(status.seconds, 3),
        "hooks": status.hooks,
        "generation": {
            "number": generation.number,
            "made_ns": generation.made_ns,
            "config": str(generation.config.path) if generation.config.path else None,
            "rules_files": [str(path) for path in generation.config.rules_files],
            "config_sha256": generation.config_sha256,
            "rules_sha256": one_digest(generation.rules_digests),
            "config_options": [
                option.partition("=")[0] for option in generation.config.options
            ],  # a value may be secret
            "config_files_sha256": {str(path): digest for path, digest in generation.config_digests.items()},
            "rules_files_sha256": {str(path): digest for path, digest in generation.rules_digests.items()},
            "rules_loaded": len(generation.loaded.rules),
            "rules_enabled": len(generation.ruleset.rules),
            "warnings": sum(d.severity is Severity.WARNING for d in generation.warnings),
        },
        "reloads": {"accepted": status.reloads[0], "refused": status.reloads[1], "last": status.last_reload},
        "events": None if glance is None else _events(glance),
        "alerts": None if glance is None else _alerts(glance),
        "state": None if glance is None else _state(glance),
        "floods": dict(status.floods),
        "audit": None if status.audit is None else _audit(status.audit),
        "faults": dict(status.faults),
        "sinks": [_sink(sink) for sink in status.sinks],
        "process": {"rss_bytes": status.rss_bytes, "cpu_seconds": round(status.cpu_seconds, 2)},
    }


def _sink(sink: SinkStats) -> dict[str, Any]:
    return {
        "name": sink.name,
        "where": sink.where,
        "submitted": sink.submitted,
        "acknowledged": sink.acknowledged,
        "delivered": sink.delivered,
        "lost": sink.lost,
        "reasons": dict(sink.reasons),
        "dead": sink.dead,
        "waiting": sink.waiting,
        "spool": None if sink.spool is None else asdict(sink.spool),
        "stuck_s": round(sink.stuck_s, 1),
        "trouble": sink.trouble,
    }


def _audit(audit: AuditStats) -> dict[str, Any]:
    told = asdict(audit)
    return told | {"lost": sum(audit.lost.values()), "reasons": dict(audit.lost),
                   "answers": {str(int(status)): count for status, count in sorted(audit.answers.items())}}  # fmt: skip


def _events(glance: Glance) -> dict[str, Any]:
    books = glance.books
    return {
        "produced": glance.produced,
        "filtered": books.filtered,
        "judged": glance.counts.judged,
        "busy": books.busy,
        "lost": books.lost,
        "unfair": sum(book.unfair for book in books.by_type.values()),
        "told": glance.ledger.told,
        "untold": glance.ledger.untold,
        "last_loss_ns": glance.ledger.last_loss_ns,
        "undecodable": glance.undecodable,
        "in_flight": glance.in_flight,
        "waiting_bytes": glance.waiting_bytes,
        "compat": books.compat,
        "slowest_pass_ms": round(glance.counts.slowest_pass_ns / 1e6, 1),
        "by_type": {
            t.value: {
                "produced": book.produced,
                "judged": glance.counts.by_type[t],
                "filtered": book.filtered,
                "lost": book.lost,
                "unfair": book.unfair,
            }
            for t, book in books.by_type.items()
        },
        "by_cpu": [
            {"produced": book.produced, "filtered": book.filtered, "lost": book.lost, "unfair": book.unfair}
            for book in books.by_cpu
        ],
        "canary": None if glance.canary is None else asdict(glance.canary),
    }


def _alerts(glance: Glance) -> dict[str, Any]:
    return {
        "total": glance.counts.by_rule.total(),
        "by_priority": {p.name.lower(): n for p, n in sorted(glance.counts.by_priority.items())},
        "by_rule": dict(glance.counts.by_rule.most_common()),
        "errors": dict(glance.errors),
        "recent": [
            {"time_ns": a.ts_ns, "priority": a.priority.label, "rule": a.rule, "output": a.output}
            for a in (shortened(alert, _TEXT_MAX) for alert in glance.recent)
        ],
    }


def _state(glance: Glance) -> dict[str, Any]:
    return {
        "processes": glance.processes,
        "containers": glance.containers,
        "in_pen": glance.in_pen,
        "judged_without_container": glance.judged_without_container,
        "missing": dict(glance.missing),
    }
