"""The hub's figures as Prometheus text, under Falcosidekick's names and our own.

Comes in: the collector's books, what the parts said last, the journal's health. Goes out: text in the exposition
format. Never: a label whose values a stranger can make without bound.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from appliance.hub.ingest.app import Books
from appliance.hub.journal.base import JournalHealth
from appliance.hub.status import LATENCY_BUCKETS_S, OutputStatus

_SIDEKICK = "falcosecurity_falcosidekick_"
_OWN = "tercel_hub_"
Sample = tuple[Mapping[str, str], float]


def text_of(
    books: Books,
    outputs: Sequence[OutputStatus],
    health: JournalHealth,
    fleet: Mapping[str, int],
    extra: Mapping[str, float],
) -> str:
    """The whole page."""
    lines: list[str] = []

    def put(name: str, kind: str, doc: str, samples: Iterable[Sample], suffix: str = "") -> None:
        if kind:
            lines.append(f"# HELP {name} {doc}")
            lines.append(f"# TYPE {name} {kind}")
        for labels, value in samples:
            shown = ",".join(f'{key}="{_label(text)}"' for key, text in labels.items())
            lines.append(f"{name}{suffix}{{{shown}}} {_number(value)}" if shown else f"{name}{suffix} {_number(value)}")

    put(
        f"{_SIDEKICK}inputs_total",
        "counter",
        "Requests by how they ended.",
        [({"source": "requests", "status": status}, books.requests[status]) for status in ("accepted", "rejected")],
    )
    put(
        f"{_SIDEKICK}outputs_total",
        "counter",
        "Alerts delivered, and tries that failed, by output.",
        [
            sample
            for one in outputs
            for sample in (
                ({"destination": one.name.lower(), "status": "ok"}, one.delivered),
                ({"destination": one.name.lower(), "status": "error"}, sum(one.failed.values())),
            )
        ],
    )
    put(
        f"{_SIDEKICK}falco_events_total",
        "counter",
        "Alerts stored.",
        [
            (
                {
                    "hostname": host,
                    "rule": rule,
                    "priority": str(priority + 1),
                    "priority_raw": priority.name.lower(),
                    "source": source,
                    "k8s_ns_name": namespace,
                },
                count,
            )
            for (host, rule, priority, source, namespace), count in sorted(books.events.items())
        ],
    )
    put(f"{_OWN}alerts_total", "counter", "Alerts stored.", [({}, books.alerts)])
    put(f"{_OWN}duplicates_total", "counter", "Alerts that came again and were not stored.", [({}, books.duplicates)])
    put(
        f"{_OWN}refused_total",
        "counter",
        "Alerts refused, by reason.",
        [({"reason": reason}, count) for reason, count in sorted(books.refused.items())[:100]],
    )
    put(
        f"{_OWN}answers_total",
        "counter",
        "Answers by status.",
        [({"status": str(status)}, count) for status, count in sorted(books.answers.items())],
    )
    put(f"{_OWN}received_bytes_total", "counter", "Bytes of bodies as they came.", [({}, books.bytes_in)])
    put(f"{_OWN}unpacked_bytes_total", "counter", "Bytes of bodies when unpacked.", [({}, books.bytes_unpacked)])
    put(
        f"{_OWN}sender_alerts_total",
        "counter",
        "Alerts by token.",
        [({"sender": name}, count) for name, count in sorted(books.senders.items())],
    )
    put(f"{_OWN}heartbeats_total", "counter", "Heartbeats of agents.", [({}, books.heartbeats)])
    put(
        f"{_OWN}hosts",
        "gauge",
        "Hosts in the table, by state.",
        [({"state": state}, count) for state, count in fleet.items()],
    )
    put(f"{_OWN}journal_bytes", "gauge", "Size of the journal on disk.", [({}, health.size_bytes)])
    put(f"{_OWN}journal_first_position", "gauge", "Oldest position that is kept.", [({}, health.first_seq)])
    put(f"{_OWN}journal_last_position", "gauge", "Newest position.", [({}, health.last_seq)])
    put(f"{_OWN}journal_commit_seconds", "gauge", "Duration of the last commit.", [({}, health.fsync_ms / 1000)])
    put(f"{_OWN}journal_ok", "gauge", "1 while the journal takes alerts.", [({}, float(not health.trouble))])
    for name, value in extra.items():
        put(f"{_OWN}{name}", "gauge", "See docs/hub.md.", [({}, value)])
    _outputs(put, outputs)
    put("process_resident_memory_bytes", "gauge", "Resident memory of the collector.", [({}, _resident())])
    return "\n".join(lines) + "\n"


def _outputs(put: Any, outputs: Sequence[OutputStatus]) -> None:
    own = f"{_OWN}output_"

    def each(name: str, kind: str, doc: str, attribute: str) -> None:
        put(own + name, kind, doc, [({"output": one.name}, getattr(one, attribute)) for one in outputs])

    each("delivered_total", "counter", "Alerts delivered.", "delivered")
    each("passed_over_total", "counter", "Alerts that filter or priority passed over.", "passed_over")
    each("grouped_total", "counter", "Alerts that went into a summary.", "grouped")
    each("retried_total", "counter", "Alerts sent again.", "retried")
    each("dead_total", "counter", "Alerts refused for good, in the file of dead letters.", "dead")
    each("lost_total", "counter", "Alerts that retention deleted before they were delivered.", "lost")
    each("lag", "gauge", "Positions of the journal before it.", "lag")
    each("lag_seconds", "gauge", "How long the oldest alert before it has waited.", "lag_s")
    each("oldest_ns", "gauge", "When the oldest alert before it came, nanoseconds since the epoch.", "oldest_ns")
    each("backlog", "gauge", "Positions of its backlog, which new alerts overtake.", "backlog")
    each("in_flight", "gauge", "Alerts in requests that are not answered.", "in_flight")
    put(
        f"{own}failed_total",
        "counter",
        "Tries that failed, by kind.",
        [({"output": one.name, "kind": kind}, count) for one in outputs for kind, count in sorted(one.failed.items())],
    )
    put(
        f"{own}up",
        "gauge",
        "1 while it delivers or has nothing to deliver.",
        [({"output": one.name}, float(one.state == "ok")) for one in outputs],
    )
    samples: list[Sample] = []
    for one in outputs:
        total = 0
        for bound, count in zip((*map(str, LATENCY_BUCKETS_S), "+Inf"), one.latency, strict=True):
            total += count
            samples.append(({"output": one.name, "le": bound}, float(total)))
    name = f"{own}latency_seconds"
    put(name, "histogram", "From the arrival of an alert to its delivery.", samples, suffix="_bucket")
    put(name, "", "", [({"output": one.name}, one.latency_sum_s) for one in outputs], suffix="_sum")
    put(name, "", "", [({"output": one.name}, sum(one.latency)) for one in outputs], suffix="_count")


def _label(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _resident() -> float:
    return float(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
