"""Config and its parts, under Falco's key names, with their defaults.

Comes in: nothing. Goes out: frozen values. `schemas/config.schema.json` is the contract that these mirror; a test holds
the two together. Durations end in their unit where Falco's key does not say it in its documentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.config.keys import Note
from appliance.model.alert import Priority
from appliance.model.diagnostic import Span

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
LOG_LEVELS = {
    "emergency": 50, "alert": 50, "critical": 50, "error": 40, "warning": 30, "notice": 25, "info": 20,
    "informational": 20, "debug": 10,
}  # fmt: skip
"""Falco's levels as numbers of `logging`."""


class Secret(str):
    """A text from a file or a credential: used as it is, shown by nobody."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(not shown)"


@dataclass(frozen=True, slots=True)
class StdoutOutput:
    """Alerts on standard output, one line each. `color`: `auto` means on a terminal without NO_COLOR."""

    enabled: bool = True
    color: str = "auto"  # auto, always, never


@dataclass(frozen=True, slots=True)
class SyslogOutput:
    """Alerts to the local syslog daemon; with `url` (`udp://`, `tcp://`, `tls://`) to one elsewhere, by RFC 5424.

    `socket` is the local daemon's datagram socket. `enterprise` is the private enterprise number behind the names of
    structured data; 32473 is the one for documentation (RFC 5612).
    """

    enabled: bool = False
    socket: Path = Path("/dev/log")
    facility: str = "user"
    url: str = ""
    enterprise: int = 32473
    insecure: bool = False
    ca_cert: str = ""
    client_cert: str = ""
    client_key: str = ""


@dataclass(frozen=True, slots=True)
class FileOutput:
    """Alerts appended to a file; without `keep_alive` it is opened anew for each.

    Past `rotate_mib` or `rotate_hours` (0: never) it is put aside as `filename.1`, and so on up to `rotate_keep`.
    `sync`: return only when a line is on the disk.
    """

    enabled: bool = False
    keep_alive: bool = False
    filename: Path = Path("./events.txt")
    rotate_mib: int = 0
    rotate_hours: int = 0
    rotate_keep: int = 5
    sync: bool = False


@dataclass(frozen=True, slots=True)
class ProgramOutput:
    """Alerts to a program's standard input: one long-lived program with `keep_alive`, else one for each alert.

    `program` is an argument vector; a string in the file is split as a shell splits words, and no shell runs it.
    """

    enabled: bool = False
    keep_alive: bool = False
    program: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HttpOutput:
    """Alerts by POST, one JSON object each; with `batch` above 1 up to that many in one request."""

    enabled: bool = False
    url: str = ""
    user_agent: str = "tercel"
    insecure: bool = False
    ca_cert: str = ""
    ca_bundle: str = ""
    ca_path: str = ""
    mtls: bool = False
    client_cert: str = ""
    client_key: str = ""
    echo: bool = False
    compress_uploads: bool = False
    keep_alive: bool = True
    max_consecutive_timeouts: int = 5
    timeout_ms: int = 5000
    batch: int = 1
    batch_format: str = "lines"  # lines, array
    batch_wait_ms: int = 0
    token: str = ""


@dataclass(frozen=True, slots=True)
class HubLink:
    """The central hub that hears heartbeats; an empty `url` means that there is none."""

    url: str = ""
    token: str = ""
    group: str = ""
    interval_ms: int = 30_000


@dataclass(frozen=True, slots=True)
class JournaldOutput:
    """Alerts to the journal with native fields."""

    enabled: bool = False


@dataclass(frozen=True, slots=True)
class OutputsQueue:
    """`capacity` alerts may wait before each sink; one more is dropped and counted."""

    capacity: int = 10_000


@dataclass(frozen=True, slots=True)
class Grouping:
    """Of alerts of one rule with the same `fields` the first goes out at once, then a counted one per interval."""

    enabled: bool = False
    interval_ms: int = 60_000
    fields: tuple[str, ...] = ("proc.name", "container.id")
    max_groups: int = 10_000


@dataclass(frozen=True, slots=True)
class Outputs:
    """What to do about floods. `rate` alerts a second may go out on average (0: any), `max_burst` at once.

    Alerts of `express_priority` and higher are never held back, and overtake the others.
    """

    rate: float = 0.0
    max_burst: int = 1000
    express_priority: Priority = Priority.CRITICAL
    grouping: Grouping = Grouping()


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """The queues on disk before outputs on other machines. A folder for each of them is made below `path`."""

    enabled: bool = True
    path: Path = Path("/var/lib/tercel/spool")
    max_mib: int = 256
    max_age_hours: int = 168
    min_free_mib: int = 64
    retry_max_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class ContainerEngines:
    """Where container engines answer (Docker's API, the kubelet's), and how long an event may wait for a container's
    facts. `user_engines`: those that users run in their sessions are found and asked, too."""

    docker_sockets: tuple[Path, ...] = (Path("/var/run/docker.sock"),)
    podman_sockets: tuple[Path, ...] = (Path("/run/podman/podman.sock"),)
    containerd_sockets: tuple[Path, ...] = (
        Path("/run/containerd/containerd.sock"),
        Path("/run/k3s/containerd/containerd.sock"),
    )
    crio_sockets: tuple[Path, ...] = (Path("/run/crio/crio.sock"),)
    user_engines: bool = True
    wait_ms: int = 500


@dataclass(frozen=True, slots=True)
class Capture:
    """The kernel side: sizes of the ring buffers in MiB (powers of two).

    There is a ring of `ring_mib` for each `cpus_per_ring` processors (0: one for all), and one of `state_ring_mib` for
    what keeps the process table true. `hooks` says where the end of a call is heard: at `tracepoints`, or at the
    kernel's `functions` where it offers them. With `drop_failed` calls that failed are dropped in the kernel;
    with `filter: arguments` opens whose arguments no rule can hold on are.
    `programs` is where compiled programs are kept for the next start, None for nowhere. At the end, records that wait
    are evaluated for `drain_ms` milliseconds.

    And recordings, Falco's `capture`: where `enabled`, alerts of rules that ask for it (or of all) are written with
    what was judged `before_ms` milliseconds before and `default_duration` after; `max_events` at most are in memory.
    """

    ring_mib: int = 16
    state_ring_mib: int = 4
    cpus_per_ring: int = 2
    hooks: str = "tracepoints"  # tracepoints, functions
    drop_failed: bool = False
    filter: str = "none"  # none, arguments
    programs: Path | None = Path("/var/lib/tercel/programs")
    drain_ms: int = 10_000
    enabled: bool = False
    path_prefix: str = "/var/lib/tercel/recordings/tercel"
    mode: str = "rules"  # rules, all_rules
    default_duration: int = 5000
    max_file_size_mb: int = 100
    before_ms: int = 5000
    max_events: int = 10_000
    max_files: int = 50


@dataclass(frozen=True, slots=True)
class BaseSyscalls:
    """Calls to hear beside those that rules name, and, after a `!`, calls not to hear though a rule names them.

    What keeps the process table true is always heard.
    """

    custom_set: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EventDrops:
    """What is done about lost events: from which share of a moment's events on (0: any), what (`ignore`, `log`,
    `alert`, `exit`), how often (`rate` a second, `max_burst` at once). `simulate_drops` pretends one at each look."""

    threshold: float = 0.0
    actions: tuple[str, ...] = ("log", "alert")
    rate: float = 1.0
    max_burst: int = 10
    simulate_drops: bool = False


@dataclass(frozen=True, slots=True)
class CanarySettings:
    """How often an act of our own must come through the whole path, and how long it may take."""

    enabled: bool = True
    interval_s: float = 60.0
    patience_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Webserver:
    """Health, versions and metrics over HTTP. `token_file` holds a token that versions and metrics then want."""

    enabled: bool = False
    threadiness: int = 0
    listen_port: int = 8765
    listen_address: str = "127.0.0.1"
    k8s_healthz_endpoint: str = "/healthz"
    prometheus_metrics_enabled: bool = False
    ssl_enabled: bool = False
    ssl_certificate: Path = Path("/etc/tercel/tercel.pem")
    token_file: str = ""


@dataclass(frozen=True, slots=True)
class Metrics:
    """Numbers about the appliance: which groups, and how often as an alert or a line of a file."""

    enabled: bool = False
    interval: str = "1h"
    output_rule: bool = True
    output_file: str = ""
    rules_counters_enabled: bool = True
    resource_utilization_enabled: bool = True
    state_counters_enabled: bool = True
    kernel_event_counters_enabled: bool = True
    kernel_event_counters_per_cpu_enabled: bool = False
    libbpf_stats_enabled: bool = True
    convert_memory_to_mb: bool = True
    include_empty_values: bool = False

    @property
    def interval_s(self) -> float:
        """`interval` in seconds, at least 0.1. The units are Prometheus': `ms s m h d w y`, one after the other."""
        parts = re.findall(r"(\d+)(ms|[smhdwy])", self.interval)
        return max(0.1, sum(int(number) * _SECONDS[unit] for number, unit in parts))


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """How often the appliance looks after itself, and where a run leaves its trace while it lasts."""

    interval_ms: int = 3000
    state_file: Path = Path("/var/lib/tercel/run.json")


@dataclass(frozen=True, slots=True)
class RuleSwitch:
    """Switches on or off the rules whose name matches `rule` (`*` stands for any text) and that have `tag`."""

    enable: bool
    rule: str | None = None
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class AppendOutput:
    """What alerts of some rules say beyond their output: of those that `rule`, `source` and all `tags` describe.

    `extra_fields` are names with templates; `span` is where the entry was written.
    """

    rule: str | None = None
    source: str | None = None
    tags: tuple[str, ...] = ()
    extra_output: str = ""
    extra_fields: tuple[tuple[str, str], ...] = ()
    suggested_output: bool = False
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin of Falco's that is built in here, as `config.plugins` reads it."""

    name: str = ""
    library_path: str = ""
    init_config: Mapping[str, object] | str | None = None
    open_params: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of one run. `path` is the file they came from, None for the built-in defaults.

    `included` are the further files that `config_files` named, `folders` the folders; `notes` what they ask for that is
    otherwise here. `options` are the `key=value` texts of the command line that won over the files.
    """

    path: Path | None = None
    included: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()
    notes: tuple[Note, ...] = ()
    options: tuple[str, ...] = ()
    rules_files: tuple[Path, ...] = ()
    rules: tuple[RuleSwitch, ...] = ()
    rules_profile: str = "balanced"  # quiet, balanced, all: which classes of noise judge; `switches` says how
    rules_unknown_keys: str = "error"  # error, or warn: what is done about keys and items that rules do not have
    priority: Priority = Priority.DEBUG
    json_output: bool = False
    json_include_output_property: bool = True
    json_include_message_property: bool = False
    json_include_output_fields_property: bool = True
    json_include_tags_property: bool = True
    time_format_iso_8601: bool = False
    rule_matching: str = "first"  # first: an event fires the first rule that matches it; all: every one
    log_level: str = "info"
    log_stderr: bool = True
    log_syslog: bool = False
    append_output: tuple[AppendOutput, ...] = ()
    output_timeout_ms: int = 2000
    outputs_queue: OutputsQueue = OutputsQueue()
    outputs: Outputs = Outputs()
    spool: SpoolSettings = SpoolSettings()
    stdout_output: StdoutOutput = StdoutOutput()
    syslog_output: SyslogOutput = SyslogOutput()
    file_output: FileOutput = FileOutput()
    program_output: ProgramOutput = ProgramOutput()
    http_output: HttpOutput = HttpOutput()
    hub: HubLink = HubLink()
    journald_output: JournaldOutput = JournaldOutput()
    control_socket: Path = Path("/run/tercel/control.sock")
    watch_config_files: bool = True
    webserver: Webserver = Webserver()
    metrics: Metrics = Metrics()
    guard: GuardSettings = GuardSettings()
    containers: ContainerEngines = ContainerEngines()
    capture: Capture = Capture()
    load_plugins: tuple[str, ...] = ()
    plugins: tuple[Plugin, ...] = ()
    syscall_event_drops: EventDrops = EventDrops()
    base_syscalls: BaseSyscalls = BaseSyscalls()
    canary: CanarySettings = CanarySettings()

    @property
    def switches(self) -> tuple[RuleSwitch, ...]:
        """What switches rules on and off, in order: the profile, then each entry of `rules`."""
        return (*(RuleSwitch(enable=False, tag=tag) for tag in _TOO_NOISY[self.rules_profile]), *self.rules)


_TOO_NOISY: Mapping[str, tuple[str, ...]] = {
    "quiet": ("noise_moderate", "noise_high"),
    "balanced": ("noise_high",),
    "all": (),
}
"""The tags of rules that do not judge, by profile."""
