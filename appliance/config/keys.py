"""Falco's keys: what becomes of each of them here, one row a key.

Comes in: nothing. Goes out: rows, and which of them concern a given tree. `docs/configuration.md` prints the table,
`tercel check` the notes. Never: a key of Falco's that is passed over in silence; a test holds the rows against the
official file and its schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from appliance.config.document import Key, Node
from appliance.config.older import OLDER
from appliance.model.diagnostic import Span


class State(Enum):
    """What becomes of a key."""

    IMPLEMENTED = "implemented"  # it does what it does in Falco, or what the note says
    ACCEPTED = "accepted"  # it has no effect, for the reason that the note gives
    REFUSED = "refused"  # a file with it is not accepted
    OLDER = "older"  # of an older Falco: passed over where it is off, renamed where it has another name, else refused


@dataclass(frozen=True, slots=True)
class Row:
    """A key of Falco's; in `entries` of a list `[]` stands for the index.

    `same`: values with which there is nothing to tell, because what they ask for is what happens anyway.
    """

    key: str
    state: State
    note: str = ""
    same: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Note:
    """What a file asks for and what that means here: keys with one note in common; `span` is the first one's place."""

    keys: tuple[str, ...]
    text: str
    span: Span | None = None

    def render(self) -> str:
        """`key, key: what it means`."""
        return f"{', '.join(self.keys)}: {self.text}"


def _rows(state: State, note: str, *keys: str, same: tuple[object, ...] = ()) -> list[Row]:
    return [Row(key, state, note, same) for key in keys]


def _under(prefix: str, *names: str) -> list[str]:
    return [f"{prefix}.{name}" for name in names]


_DONE, _TAKEN, _NO = State.IMPLEMENTED, State.ACCEPTED, State.REFUSED
_NO_MODULE = "there is no kernel module here: one eBPF engine watches"
_NO_PLUGINS = "no library is loaded: plugins known here are built in"
_ONE_LOG = "there is no library with a log of its own: `log_level` is for all"

ROWS: tuple[Row, ...] = (
    # files
    *_rows(_DONE, "", "config_files", "config_files[].path", "config_files[].strategy", "watch_config_files"),
    Row("rules_files", _DONE, "a missing file is an error, but for Falco's own below /etc/falco"),
    *_rows(_DONE, "an older name of `rules_files`", "rules_file", "rule_files"),
    *_rows(_DONE, "", "rules", *_under("rules[].enable", "rule", "tag"), *_under("rules[].disable", "rule", "tag")),
    # engine
    Row("engine.kind", _TAKEN, _NO_MODULE + "; recordings are judged by `tercel replay`", ("modern_ebpf",)),
    *_rows(_TAKEN, _NO_MODULE, *_under("engine.kmod", "buf_size_preset", "drop_failed_exit")),
    Row("engine.modern_ebpf.buf_size_preset", _DONE, "sets `capture.ring_mib`, the size of each ring"),
    Row("engine.modern_ebpf.cpus_for_each_buffer", _DONE, "sets `capture.cpus_per_ring`"),
    Row("engine.modern_ebpf.drop_failed_exit", _DONE, "sets `capture.drop_failed`"),
    Row("engine.modern_ebpf.disable_iterators", _TAKEN, "what ran before the start is always read from /proc"),
    Row("engine.replay.capture_file", _TAKEN, "recordings are judged by `tercel replay FILE`", ("",)),
    # recordings
    *_rows(_DONE, "recordings are JSON Lines, not scap", *_under("capture", "enabled", "path_prefix")),
    *_rows(_DONE, "", *_under("capture", "mode", "default_duration", "max_file_size_mb")),
    # plugins
    Row("load_plugins", _DONE, "built in are `k8saudit`, `json` and `container`; another is an error"),
    *_rows(_DONE, "those of `k8saudit`", *_under("plugins[]", "name", "init_config", "open_params")),
    Row("plugins[].library_path", _TAKEN, _NO_PLUGINS),
    Row("plugins_hostinfo", _TAKEN, _NO_PLUGINS),
    # containers
    Row("container_engines.docker.enabled", _DONE, "`false` empties `containers.docker_sockets`"),
    Row("container_engines.podman.enabled", _DONE, "`false` empties `containers.podman_sockets`"),
    Row("container_engines.cri.enabled", _DONE,
        "`false` empties `containers.containerd_sockets` and `containers.crio_sockets`"),
    Row("container_engines.cri.sockets", _DONE,
        "sets `containers.containerd_sockets` and, of those with `crio` in their path, `containers.crio_sockets`"),
    Row("container_engines.cri.disable_async", _TAKEN, "events wait `containers.wait_ms` for a container's facts",
        (False,)),
    *_rows(_TAKEN, "there is no such engine here: its containers have an id at most",
           "container_engines.lxc.enabled", "container_engines.libvirt_lxc.enabled", "container_engines.bpm.enabled",
           same=(False,)),
    # outputs
    Row("time_format_iso_8601", _DONE),
    Row("buffer_format_base64", _TAKEN, "buffers are printed as escaped text", (False,)),
    *_rows(_DONE, "", "priority", "json_output", "json_include_output_property", "json_include_message_property",
           "json_include_output_fields_property", "json_include_tags_property", "rule_matching", "rules_profile"),
    Row("buffered_outputs", _TAKEN, "each alert is written at once", (False,)),
    Row("outputs_queue.capacity", _DONE, "0 means 10,000 and not `without bound`; each output has a queue of its own"),
    *_rows(_DONE, "", *_under("append_output[].match", "rule", "source", "tags"),
           *_under("append_output[]", "extra_output", "extra_fields")),
    Row("append_output[].suggested_output", _DONE, "the fields of containers and pods"),
    Row("static_fields", _NO, "there are no fields made by the configuration: use `append_output[].extra_fields`, or a"
        " list in the rules"),
    *_rows(_DONE, "", "stdout_output.enabled", "syslog_output.enabled",
           *_under("file_output", "enabled", "keep_alive", "filename"),
           *_under("http_output", "enabled", "url", "user_agent", "insecure", "ca_cert", "ca_bundle", "ca_path", "mtls",
                   "client_cert", "client_key", "echo", "compress_uploads", "keep_alive", "max_consecutive_timeouts"),
           *_under("program_output", "enabled", "keep_alive")),
    Row("program_output.program", _DONE, "no shell runs it: for a pipeline write `sh -c '...'`"),
    # services
    Row("webserver.enabled", _DONE, "off unless asked for"),
    Row("webserver.threadiness", _DONE),
    Row("webserver.listen_address", _DONE, "loopback by default"),
    *_rows(_DONE, "", *_under("webserver", "listen_port", "k8s_healthz_endpoint", "prometheus_metrics_enabled",
                              "ssl_enabled", "ssl_certificate")),
    # logs
    *_rows(_DONE, "", "log_stderr", "log_syslog", "log_level"),
    *_rows(_TAKEN, _ONE_LOG, *_under("libs_logger", "enabled", "severity")),
    Row("output_timeout", _DONE, "sets `output_timeout_ms`, after which an alert has failed, and not a log line"),
    Row("syscall_event_timeouts.max_consecutives", _TAKEN, "`canary` tells when nothing comes through any more"),
    *_rows(_DONE, "", *_under("syscall_event_drops", "threshold", "actions", "rate", "max_burst", "simulate_drops")),
    *_rows(_DONE, "", *_under("metrics", "enabled", "interval", "output_rule", "output_file", "rules_counters_enabled",
                              "resource_utilization_enabled", "state_counters_enabled",
                              "kernel_event_counters_enabled", "kernel_event_counters_per_cpu_enabled",
                              "libbpf_stats_enabled", "convert_memory_to_mb", "include_empty_values")),
    Row("metrics.plugins_metrics_enabled", _TAKEN, _NO_PLUGINS),
    Row("metrics.kernel_iter_event_counters_enabled", _TAKEN, "there are no BPF iterators to count"),
    Row("metrics.jemalloc_stats_enabled", _TAKEN, "there is no jemalloc here", (False,)),
    # tuning
    Row("base_syscalls.custom_set", _DONE, "added to the calls that rules name, `!` takes away; what keeps the process"
        " table true is always heard"),
    Row("base_syscalls.repair", _TAKEN, "no more than rules, `custom_set` and the process table need is heard anyway",
        (True, False)),
    Row("base_syscalls.all", _TAKEN, "every call that a rule names is heard anyway", (True, False)),
    *_rows(_TAKEN, "tables have bounds of their own, and the end of a process takes its entry away",
           *_under("falco_libs", "thread_table_size", "thread_table_auto_purging_interval_s",
                   "thread_table_auto_purging_thread_timeout_s")),
    Row("falco_libs.snaplen", _TAKEN, "buffers are kept as far as the events' own bounds"),
    # what older versions had
    *(Row(row.key, State.OLDER, row.note + (f"; where it is on: {row.instead}" if row.instead else ""))
      for row in OLDER),
)  # fmt: skip

BY_KEY: Mapping[str, Row] = {row.key: row for row in ROWS}


def spelled(at: Key) -> str:
    """A key as rows spell it: `rules[].enable.tag`."""
    text = ""
    for step in at:
        text += "[]" if isinstance(step, int) else f".{step}" if text else step
    return text


def notes(root: Node) -> tuple[Note, ...]:
    """What a tree asks for that has no effect here, or another one; a section that is switched off is passed over."""
    found: dict[str, dict[str, Span | None]] = {}
    for at, node in _leaves(root, ()):
        row = BY_KEY.get(spelled(at))
        if row is None or row.state is not State.ACCEPTED or _among(node.plain(), row.same):
            continue
        place = node.key or node.place
        span = Span(place.file, place.line, place.column, 1) if place else None
        found.setdefault(row.note, {}).setdefault(row.key, span)
    return tuple(Note(tuple(keys), text, next(iter(keys.values()))) for text, keys in found.items())


def _leaves(node: Node, at: Key) -> Iterator[tuple[Key, Node]]:
    if spelled(at) in BY_KEY or not isinstance(node.value, dict | list):
        yield at, node
    elif isinstance(node.value, dict):
        enabled = node.value.get("enabled")
        if enabled is not None and enabled.value is False and len(node.value) > 1:
            return
        for name, inner in node.value.items():
            yield from _leaves(inner, (*at, name))
    else:
        for i, inner in enumerate(node.value):
            yield from _leaves(inner, (*at, i))


def _among(value: object, values: tuple[object, ...]) -> bool:
    return any(json.dumps(value, default=str) == json.dumps(other) for other in values)
