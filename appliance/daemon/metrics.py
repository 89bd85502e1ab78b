"""Numbers for machines: Prometheus text, OpenMetrics text, and the fields of the metrics snapshot.

Comes in: a `Status`, what rules and hooks cost, which groups are wanted (`metrics:`). Goes out: text, or a map. Never:
a label or a value that breaks a line.

Names are Falco's where both have the thing (falco.org/docs/concepts/metrics), so that dashboards and alarms go on
working; what only Tercel has begins with `tercel_`.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance import __version__
from appliance.config.settings import Metrics
from appliance.daemon.audit import AuditStats
from appliance.daemon.cost import RuleCost
from appliance.daemon.generation import one_digest
from appliance.daemon.loop import Glance
from appliance.daemon.status import Status
from appliance.model.alert import FieldValue
from appliance.model.event import EventType
from appliance.model.text import json_safe
from appliance.sinks.base import QUEUE_FULL, SinkStats

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_ENGINE = "modern_bpf"
_FALCO, _SCAP, _OURS = "falcosecurity_falco", "falcosecurity_scap", "tercel"

# Falco's coarse classes of what a full buffer dropped; whatever is in none of them is `other_interest`.
_DROP_CLASSES: Mapping[str, frozenset[str]] = {
    "clone_fork": frozenset({"clone", "clone3", "fork", "vfork"}),
    "execve": frozenset({"execve", "execveat"}),
    "connect": frozenset({"connect"}),
    "open": frozenset({"open", "openat", "openat2", "creat", "open_by_handle_at"}),
    "dir_file": frozenset({
        "rename", "renameat", "renameat2", "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "link", "linkat",
        "symlink", "symlinkat", "chmod", "fchmod", "fchmodat", "chown", "fchown", "fchownat", "lchown",
    }),
    "close": frozenset({"close"}),
    "proc": frozenset({"procexit"}),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class HookCost:
    """What one of our programs took in the kernel, as the kernel counted (`kernel.bpf_stats_enabled`)."""

    hook: str
    runs: int
    run_ns: int


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric and its samples. `name` is whole, with unit and `_total`; `kind` is `counter` or `gauge`."""

    name: str
    kind: str
    doc: str
    samples: tuple[tuple[Mapping[str, str], float], ...]


def collect(
    status: Status,
    wanted: Metrics,
    costs: Sequence[RuleCost] = (),
    hooks: Sequence[HookCost] = (),
    host: Mapping[str, float] | None = None,
) -> list[Metric]:
    """All metrics of the wanted groups. `host` is what `host_resources` gives, None to ask it."""
    made = [*_base(status)]
    if wanted.rules_counters_enabled:
        made += _rules(status, costs)
    if wanted.resource_utilization_enabled:
        made += _resources(status, host_resources() if host is None else host)
    glance = status.glance
    if glance is not None:
        if wanted.state_counters_enabled:
            made += _state(glance)
        if wanted.kernel_event_counters_enabled or wanted.kernel_event_counters_per_cpu_enabled:
            made += _kernel(glance)
        if wanted.kernel_event_counters_per_cpu_enabled:
            made += _by_cpu(glance)
    if wanted.libbpf_stats_enabled:
        made += _hooks(hooks)
    return [metric for metric in made if metric.samples]


def _one(name: str, kind: str, doc: str, value: float) -> Metric:
    return Metric(name, kind, doc, (({}, value),))


def _info(name: str, doc: str, **labels: str) -> Metric:
    return Metric(name, "gauge", doc, ((labels, 1),))


def _base(status: Status) -> Iterator[Metric]:
    generation = status.generation
    yield _info(f"{_FALCO}_version_info", "Version of Tercel.", version=__version__)
    yield _info(f"{_FALCO}_kernel_release_info", "Release of the kernel.", kernel_release=platform.release())
    yield _info(f"{_SCAP}_engine_name_info", "Event capture engine in use.", engine_name=_ENGINE, evt_source="syscall")
    yield _info(
        f"{_OURS}_hooks_info",
        "Where system-call exits are traced (`capture.hooks`, if the kernel allows it).",
        hooks=status.hooked,
    )
    yield _info("falcosecurity_evt_hostname_info", "Name of the host.", hostname=status.hostname)
    for what, digests in (("rules", generation.rules_digests), ("config", generation.config_digests)):
        yield Metric(
            f"{_FALCO}_sha256_{what}_files_info",
            "gauge",
            f"SHA-256 of the {what} files in force.",
            tuple(
                ({"file_name": name, "sha256": digest}, 1)  # two files of one name and contents are one sample
                for name, digest in dict.fromkeys((path.name, digest) for path, digest in digests.items())
            ),
        )
        whole = generation.config_sha256 if what == "config" else one_digest(digests)
        yield _info(f"{_OURS}_{what}_sha256_info", f"One SHA-256 of all {what} files in force.", sha256=whole)
    yield _one(f"{_FALCO}_start_timestamp_nanoseconds", "gauge", "Start of the appliance.", status.started_ns)
    yield _one(f"{_FALCO}_reload_timestamp_nanoseconds", "gauge", "Latest accepted load.", generation.made_ns)
    yield _one(f"{_FALCO}_host_boot_timestamp_nanoseconds", "gauge", "Boot of the host.", boot_ns())
    yield _one(f"{_FALCO}_host_num_cpus_total", "gauge", "Processors of the host.", os.cpu_count() or 1)
    yield _one(f"{_FALCO}_duration_seconds_total", "counter", "Seconds since the start.", int(status.seconds))
    full = sum(sink.reasons.get(QUEUE_FULL, 0) for sink in status.sinks)
    yield _one(f"{_FALCO}_outputs_queue_num_drops_total", "counter", "Alerts that found a sink's queue full.", full)
    yield _one(f"{_OURS}_healthy", "gauge", "1 while nothing is wrong.", not status.troubles())
    yield _one(f"{_OURS}_generation", "gauge", "Number of the generation in force.", generation.number)
    yield Metric(
        f"{_OURS}_reloads_total",
        "counter",
        "Reloads by verdict.",
        (({"verdict": "accepted"}, status.reloads[0]), ({"verdict": "refused"}, status.reloads[1])),
    )
    yield from _sinks(status.sinks)
    if status.audit is not None:
        yield from _audit(status.audit)


def _sinks(stats: Sequence[SinkStats]) -> Iterator[Metric]:
    sinks = [(sink, {"sink": sink.name}) for sink in stats]
    for name, kind, doc, attribute in (
        ("alerts_submitted_total", "counter", "Alerts that a sink was given, with those that waited at the start.",
         "submitted"),
        ("alerts_acknowledged_total", "counter", "Alerts that are safe in a sink's spool, or were.", "acknowledged"),
        ("alerts_delivered_total", "counter", "Alerts that a sink's other end has.", "delivered"),
        ("alerts_lost_total", "counter", "Alerts that a sink lost.", "lost"),
        ("alerts_dead_total", "counter", "Alerts that a sink's other end refused for good.", "dead"),
        ("alerts_waiting", "gauge", "Alerts that wait before a sink.", "waiting"),
        ("sink_stuck_seconds", "gauge", "For how long a sink has had the same alert in hand.", "stuck_s"),
    ):  # fmt: skip
        yield Metric(f"{_OURS}_{name}", kind, doc, tuple((labels, getattr(sink, attribute)) for sink, labels in sinks))
    spools = [(sink.spool, labels) for sink, labels in sinks if sink.spool is not None]
    for name, doc, attribute in (
        ("spool_alerts", "Alerts that wait in a sink's spool, on the disk.", "alerts"),
        ("spool_size_bytes", "Bytes that a sink's spool takes on the disk.", "size_bytes"),
        ("spool_max_bytes", "Bytes that it may take.", "max_bytes"),
    ):
        yield Metric(
            f"{_OURS}_{name}", "gauge", doc, tuple((labels, getattr(depth, attribute)) for depth, labels in spools)
        )


def _audit(audit: AuditStats) -> Iterator[Metric]:
    yield _one(f"{_OURS}_audit_events_total", "counter", "Kubernetes audit events that were judged.", audit.taken)
    yield _one(f"{_OURS}_audit_waiting", "gauge", "Audit events that wait to be judged.", audit.waiting)
    yield _one(f"{_OURS}_audit_waiting_bytes", "gauge", "Their JSON.", audit.waiting_bytes)
    yield _one(
        f"{_OURS}_audit_refused_total", "counter", "Audit events that found the queue full: they come again.",
        audit.refused,
    )  # fmt: skip
    yield Metric(
        f"{_OURS}_audit_lost_total",
        "counter",
        "Audit events that were not judged and will not come again, by reason.",
        tuple(({"reason": reason}, count) for reason, count in sorted(audit.lost.items())),
    )
    yield _one(
        f"{_OURS}_audit_handshakes_failed_total", "counter",
        "Clients of the audit webhook without TLS, or without a certificate where one is wanted.",
        audit.handshakes_failed,
    )  # fmt: skip
    yield Metric(
        f"{_OURS}_audit_answers_total",
        "counter",
        "Answers of the audit webhook, by HTTP status.",
        tuple(({"status": str(int(status))}, count) for status, count in sorted(audit.answers.items())),
    )


def _rules(status: Status, costs: Sequence[RuleCost]) -> Iterator[Metric]:
    glance = status.glance
    if glance is not None:
        rules = {rule.name: rule for rule in status.generation.loaded.rules}
        samples = []
        for name, count in sorted(glance.counts.by_rule.items()):
            rule = rules.get(name)
            labels = {"rule_name": name, "source": rule.source if rule else "internal"}
            if rule is not None:
                labels |= {"priority": str(int(rule.priority)), "tags": ", ".join(sorted(rule.tags))}
            samples.append((labels, count))
        yield Metric(f"{_FALCO}_rules_matches_total", "counter", "Alerts by rule.", tuple(samples))
        yield Metric(
            f"{_OURS}_rule_errors_total",
            "counter",
            "Errors of a rule's generated code.",
            tuple(({"rule_name": name}, count) for name, count in sorted(glance.errors.items())),
        )
    yield Metric(
        f"{_OURS}_internal_errors_total",
        "counter",
        "Internal errors, by the part that caught them and went on.",
        tuple(({"part": seam}, count) for seam, count in sorted(status.faults.items())),
    )
    yield Metric(
        f"{_OURS}_rule_cost_seconds",
        "gauge",
        "Time of a rule's predicate for one event of its types, measured on a sample.",
        tuple(({"rule_name": cost.rule}, cost.ns / 1e9) for cost in costs),
    )
    yield Metric(
        f"{_OURS}_rule_cost_ratio",
        "gauge",
        "A rule's share of the time of all predicates, measured on a sample.",
        tuple(({"rule_name": cost.rule}, cost.share) for cost in costs),
    )


def _resources(status: Status, host: Mapping[str, float]) -> Iterator[Metric]:
    cpu = status.cpu_seconds / max(status.seconds, 0.001)
    yield _one(f"{_FALCO}_cpu_usage_ratio", "gauge", "Processor time since the start, of one processor.", cpu)
    yield _one(f"{_OURS}_cpu_seconds_total", "counter", "Processor time since the start.", status.cpu_seconds)
    for name, doc in HOST_DOCS.items():
        if name in host:
            yield _one(f"{_FALCO}_{name}", "gauge", doc, host[name])


HOST_DOCS = {
    "memory_rss_bytes": "Resident memory of the appliance.",
    "memory_vsz_bytes": "Virtual memory of the appliance.",
    "memory_pss_bytes": "Proportional memory of the appliance.",
    "container_memory_used_bytes": "Memory of the appliance's control group.",
    "host_cpu_usage_ratio": "Processor time of all processes since boot, of all processors.",
    "host_memory_used_bytes": "Memory in use on the host.",
    "host_procs_running_total": "Processes that want a processor now.",
    "host_open_fds_total": "Open files of the host.",
}


def _state(glance: Glance) -> Iterator[Metric]:
    yield _one(f"{_SCAP}_n_threads_total", "gauge", "Processes known.", glance.processes)
    yield _one(f"{_SCAP}_n_containers_total", "gauge", "Containers known.", glance.containers)
    yield _one(f"{_OURS}_events_waiting_for_container", "gauge", "Events held back for facts.", glance.in_pen)
    yield Metric(
        f"{_OURS}_facts_missing_total",
        "counter",
        "Missing context, by reason.",
        tuple(({"reason": reason}, count) for reason, count in sorted(glance.missing.items())),
    )


def _kernel(glance: Glance) -> Iterator[Metric]:
    books = glance.books
    yield _one(f"{_SCAP}_n_evts_total", "counter", "Events that the kernel's programs made.", glance.produced)
    yield _one(
        f"{_OURS}_events_filtered_total",
        "counter",
        "Events discarded in the kernel because no rule uses them.",
        books.filtered,
    )
    yield _one(f"{_SCAP}_n_drops_total", "counter", "Events lost before they could be judged.", books.lost)
    drops = drop_classes({t: book.lost for t, book in books.by_type.items()})
    yield Metric(
        f"{_SCAP}_n_drops_buffer_total",
        "counter",
        "Events for which the ring had no room, by class.",
        tuple(({"dir": "exit", "drop": name}, count) for name, count in drops.items()),
    )
    yield _one(
        f"{_SCAP}_n_drops_scratch_map_total",
        "counter",
        "Events lost because the per-CPU scratch record was in use.",
        books.busy,
    )
    yield _one(f"{_SCAP}_n_drops_bug_total", "counter", "Records that could not be decoded.", glance.undecodable)
    yield _one(f"{_OURS}_events_judged_total", "counter", "Events that were judged.", glance.counts.judged)
    yield _one(f"{_OURS}_events_in_flight", "gauge", "Events made and not yet judged.", glance.in_flight)
    unfair = sum(book.unfair for book in books.by_type.values())
    yield _one(
        f"{_OURS}_events_unfair_total",
        "counter",
        "Of the lost ones, those of control groups that had used their share.",
        unfair,
    )
    yield _one(f"{_OURS}_losses_told_total", "counter", "Losses that an alert has told of.", glance.ledger.told)
    yield _one(f"{_OURS}_losses_not_told", "gauge", "Losses that no alert has told of yet.", glance.ledger.untold)
    if (last := glance.ledger.last_loss_ns) is not None:
        yield _one(f"{_OURS}_last_loss_timestamp_seconds", "gauge", "When an event was lost last.", last / 1e9)
    if (canary := glance.canary) is not None:
        yield _one(f"{_OURS}_canaries_seen_total", "counter", "Canaries that came through.", canary.seen)
        yield _one(f"{_OURS}_canaries_late_total", "counter", "Canaries that did not come in time.", canary.late)
        if canary.age_s is not None:
            yield _one(f"{_OURS}_canary_age_seconds", "gauge", "Since the latest canary came through.", canary.age_s)
        if canary.latency_ms is not None:
            latency_s = canary.latency_ms / 1000
            yield _one(f"{_OURS}_canary_latency_seconds", "gauge", "From a canary's act to its judgement.", latency_s)
    yield _one(f"{_OURS}_ring_waiting_bytes", "gauge", "Bytes that wait in the ring.", glance.waiting_bytes)
    yield _one(
        f"{_OURS}_slowest_pass_seconds", "gauge", "Longest pass of the loop.", glance.counts.slowest_pass_ns / 1e9
    )
    yield _one(f"{_OURS}_calls_not_decoded_total", "counter", "System calls seen and not decoded.", books.compat)
    for name, doc, attribute in (
        ("events_produced_by_type_total", "Events made, by type.", "produced"),
        ("events_lost_by_type_total", "Events lost, by type.", "lost"),
    ):
        yield Metric(
            f"{_OURS}_{name}",
            "counter",
            doc,
            tuple(({"type": t.value}, getattr(book, attribute)) for t, book in books.by_type.items()),
        )


def _by_cpu(glance: Glance) -> Iterator[Metric]:
    rows = [({"cpu": str(cpu)}, book) for cpu, book in enumerate(glance.books.by_cpu)]
    yield Metric(
        f"{_SCAP}_n_evts_cpu_total",
        "counter",
        "Events made on a processor.",
        tuple((labels, book.produced - book.filtered) for labels, book in rows),
    )
    yield Metric(
        f"{_SCAP}_n_drops_cpu_total",
        "counter",
        "Events lost on a processor.",
        tuple((labels, book.lost) for labels, book in rows),
    )


def drop_classes(lost: Mapping[EventType, int]) -> dict[str, int]:
    """Losses by Falco's classes of events."""
    classes = dict.fromkeys([*_DROP_CLASSES, "other_interest"], 0)
    for type_, count in lost.items():
        name = next((name for name, types in _DROP_CLASSES.items() if type_.value in types), "other_interest")
        classes[name] += count
    return classes


def _hooks(hooks: Sequence[HookCost]) -> Iterator[Metric]:
    """Falco makes a metric for each hook; the names are made in the same way."""
    for hook in hooks:
        name = re.sub(r"[^a-zA-Z0-9_]", "_", hook.hook)
        yield _one(f"{_SCAP}_{name}_run_cnt_total", "counter", f"Runs of the program on {hook.hook}.", hook.runs)
        yield _one(f"{_SCAP}_{name}_run_time_nanoseconds_total", "counter", f"Its time on {hook.hook}.", hook.run_ns)
        yield _one(
            f"{_SCAP}_{name}_avg_time_nanoseconds", "gauge", f"Its time for a run on {hook.hook}.",
            hook.run_ns / hook.runs if hook.runs else 0.0,
        )  # fmt: skip


# -- the host


def boot_ns() -> int:
    """When the host started, nanoseconds since the epoch (whole seconds, as /proc/stat has it)."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return int(line.split()[1]) * 1_000_000_000
    return 0


def host_resources(proc: Path = Path("/proc")) -> dict[str, float]:
    """Memory of this process, and what the host uses; what cannot be read is not there."""
    found: dict[str, float] = {}
    page = os.sysconf("SC_PAGE_SIZE")
    sizes = (proc / "self/statm").read_text().split()
    found["memory_vsz_bytes"], found["memory_rss_bytes"] = int(sizes[0]) * page, int(sizes[1]) * page
    if (pss := _keyed(proc / "self/smaps_rollup").get("Pss")) is not None:
        found["memory_pss_bytes"] = pss * 1024
    if (group := _group_memory()) is not None:
        found["container_memory_used_bytes"] = group
    memory = _keyed(proc / "meminfo")
    if "MemTotal" in memory:
        free = sum(memory.get(key, 0) for key in ("MemFree", "Buffers", "Cached", "SReclaimable"))
        found["host_memory_used_bytes"] = (memory["MemTotal"] - free) * 1024
    for line in (proc / "stat").read_text().splitlines():
        words = line.split()
        if words[0] == "cpu":
            ticks = [int(word) for word in words[1:9]]
            found["host_cpu_usage_ratio"] = 1 - (ticks[3] + ticks[4]) / max(sum(ticks), 1)
        elif words[0] == "procs_running":
            found["host_procs_running_total"] = int(words[1])
    found["host_open_fds_total"] = int((proc / "sys/fs/file-nr").read_text().split()[0])
    return found


def _keyed(file: Path) -> dict[str, int]:
    """`Key:   123 kB` lines."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return {}
    pairs = (re.match(r"(\w+):\s+(\d+)", line) for line in lines)
    return {pair[1]: int(pair[2]) for pair in pairs if pair}


def _group_memory() -> int | None:
    """`FALCO_CGROUP_MEM_PATH` names another file, as with Falco."""
    named = os.environ.get("FALCO_CGROUP_MEM_PATH")
    for file in (named, "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes"):
        if file:
            try:
                return int(Path(file).read_text())
            except (OSError, ValueError):
                continue
    return None


# -- text


def prometheus(metrics: Iterable[Metric]) -> str:
    """The text format, version 0.0.4."""
    lines: list[str] = []
    for metric in metrics:
        lines += (f"# HELP {metric.name} {metric.doc}", f"# TYPE {metric.name} {metric.kind}")
        lines += (f"{metric.name}{_labels(labels)} {_number(value)}" for labels, value in metric.samples)
    return "\n".join(lines) + "\n"


def openmetrics(metrics: Iterable[Metric]) -> str:
    """OpenMetrics 1.0: a counter's family is named without `_total`, an info's without `_info`."""
    lines: list[str] = []
    for metric in metrics:
        family, kind = metric.name, metric.kind
        if kind == "counter":
            family = family.removesuffix("_total")
        elif family.endswith("_info"):
            family, kind = family.removesuffix("_info"), "info"
        lines += (f"# HELP {family} {metric.doc}", f"# TYPE {family} {kind}")
        lines += (f"{metric.name}{_labels(labels)} {_number(value)}" for labels, value in metric.samples)
    return "\n".join([*lines, "# EOF"]) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in sorted(labels.items()))
    return f"{{{','.join(pairs)}}}"


def _escaped(value: str) -> str:
    return json_safe(value).replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


# -- the snapshot

SNAPSHOT_RULE = "Tercel internal: metrics snapshot"


def snapshot(
    status: Status, before: Status | None, wanted: Metrics, hooks: Sequence[HookCost] = ()
) -> dict[str, FieldValue]:
    """The fields of one snapshot, under Falco's names. Rates are taken between `before` and now."""
    fields: dict[str, FieldValue] = {
        "evt.time": status.taken_ns,
        "evt.hostname": status.hostname,
        "evt.source": "syscall",
        "falco.version": __version__,
        "falco.kernel_release": platform.release(),
        "falco.start_ts": status.started_ns,
        "falco.reload_ts": status.generation.made_ns,
        "falco.duration_sec": int(status.seconds),
        "falco.host_boot_ts": boot_ns(),
        "falco.host_num_cpus": os.cpu_count() or 1,
        "falco.outputs_queue_num_drops": sum(sink.reasons.get(QUEUE_FULL, 0) for sink in status.sinks),
        "scap.engine_name": _ENGINE,
    }
    for what, digests in (("config", status.generation.config_digests), ("rules", status.generation.rules_digests)):
        for path, digest in digests.items():
            fields[f"falco.sha256_{what}_file.{path.name.replace('.', '_')}"] = digest
    glance = status.glance
    past = before.glance if before is not None else None
    if glance is not None:
        seconds = (status.taken_ns - before.taken_ns) / 1e9 if before is not None else status.seconds
        fields |= _event_fields(glance, past, max(seconds, 0.001))
        if wanted.rules_counters_enabled:
            counts = glance.counts.by_rule
            fields["falco.rules.matches_total"] = counts.total()
            fields |= {
                f"falco.rules.{re.sub(r'[^a-zA-Z0-9]', '_', rule.name)}": counts[rule.name]
                for rule in status.generation.ruleset.rules
            }
        if wanted.state_counters_enabled:
            fields |= {"falco.n_threads": glance.processes, "falco.n_containers": glance.containers}
            missing = sum(glance.missing.values())
            fields |= {
                "tercel.facts_missing": missing,
                "tercel.judged_without_container": glance.judged_without_container,
            }
        if wanted.kernel_event_counters_enabled or wanted.kernel_event_counters_per_cpu_enabled:
            fields |= _kernel_fields(glance, past, max(seconds, 0.001))
        if wanted.kernel_event_counters_per_cpu_enabled:
            for cpu, book in enumerate(glance.books.by_cpu):
                fields[f"scap.n_evts_cpu_{cpu}"] = book.produced - book.filtered
                fields[f"scap.n_drops_cpu_{cpu}"] = book.lost
    if wanted.resource_utilization_enabled:
        fields |= _resource_fields(status, host_resources(), megabytes=wanted.convert_memory_to_mb)
    if wanted.libbpf_stats_enabled:
        for hook in hooks:
            average = hook.run_ns // hook.runs if hook.runs else 0
            fields |= {
                f"scap.{hook.hook}.run_cnt": hook.runs,
                f"scap.{hook.hook}.run_time_ns": hook.run_ns,
                f"scap.{hook.hook}.avg_time_ns": average,
            }
    if not wanted.include_empty_values:
        always = ("falco.num_evts", "scap.n_evts", "scap.n_drops", "falco.outputs_queue", "falco.evts")
        fields = {k: v for k, v in fields.items() if v not in (0, 0.0, "") or k.startswith(always)}
    return fields


def _event_fields(glance: Glance, past: Glance | None, seconds: float) -> dict[str, FieldValue]:
    now, then = glance.counts.judged, past.counts.judged if past is not None else 0
    return {
        "falco.num_evts": now,
        "falco.num_evts_prev": then,
        "falco.evts_rate_sec": _tenth((now - then) / seconds),
    }


def _kernel_fields(glance: Glance, past: Glance | None, seconds: float) -> dict[str, FieldValue]:
    made, lost = glance.produced, glance.books.lost
    made_then, lost_then = (past.produced, past.books.lost) if past is not None else (0, 0)
    drops = drop_classes({t: book.lost for t, book in glance.books.by_type.items()})
    return {
        "scap.n_evts": made,
        "scap.n_evts_prev": made_then,
        "scap.evts_rate_sec": _tenth((made - made_then) / seconds),
        "scap.n_drops": lost,
        "scap.n_drops_prev": lost_then,
        "scap.evts_drop_rate_sec": _tenth((lost - lost_then) / seconds),
        "scap.n_drops_perc": _tenth(100 * (lost - lost_then) / max(made - made_then, 1)),
        "scap.n_drops_scratch_map": glance.books.busy,
        "scap.n_drops_bug": glance.undecodable,
        "scap.n_drops_buffer_total": sum(drops.values()),
        **{f"scap.n_drops_buffer_{name}_exit": count for name, count in drops.items()},
    }


def _resource_fields(status: Status, host: Mapping[str, float], *, megabytes: bool) -> dict[str, FieldValue]:
    fields: dict[str, FieldValue] = {
        "falco.cpu_usage_perc": _tenth(100 * status.cpu_seconds / max(status.seconds, 0.001)),
        "falco.host_cpu_usage_perc": _tenth(100 * host.get("host_cpu_usage_ratio", 0.0)),
        "falco.host_procs_running": int(host.get("host_procs_running_total", 0)),
        "falco.host_open_fds": int(host.get("host_open_fds_total", 0)),
    }
    for name in ("memory_rss", "memory_vsz", "memory_pss", "host_memory_used", "container_memory_used"):
        size = host.get(f"{name}_bytes", 0.0)
        if megabytes:
            fields[f"falco.{name}_mb"] = _tenth(size / 2**20)
        elif name == "container_memory_used":
            fields["falco.container_memory_used_bytes"] = int(size)
        else:
            fields[f"falco.{name}_kb"] = int(size) // 1024
    return fields


def _tenth(value: float) -> float:
    return round(value, 1)
