"""The hub's settings: what `tercel-hub.yaml` may say. `schemas/hub.schema.json` is made of these classes.

Comes in: nothing. Goes out: frozen classes, each field with its documentation. Never: a default that is written twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.config.settings import Secret
from appliance.hub.options import option
from appliance.model.alert import Priority


@dataclass(frozen=True, slots=True)
class Token:
    """One sender, or a group of senders, that may post."""

    name: str = option(doc="Its name in logs and metrics.")
    token: Secret = option(doc="The text that senders give as `Authorization: Bearer TOKEN`.")
    rate: int = option(0, "Alerts a second that it may send on average; 0 means no limit.", minimum=0)


@dataclass(frozen=True, slots=True)
class Tls:
    """What the listener shows and demands."""

    cert: Path | None = option(None, "PEM file with the certificate and its chain. TLS is on where it is set.")
    key: Path | None = option(None, "PEM file with the private key.")
    client_ca: Path | None = option(
        None, "PEM file with the authorities of client certificates; a sender without one of them is refused."
    )


@dataclass(frozen=True, slots=True)
class Collector:
    """The HTTP listener that takes alerts."""

    address: str = option("127.0.0.1", "Address to listen at.")
    port: int = option(2801, "Port to listen at; 0 picks a free one.", minimum=0, maximum=65535)
    tls: Tls = option(Tls(), "Certificate of the listener and authorities of senders.")
    tokens: tuple[Token, ...] = option((), "Senders that may post; where this is empty no token is needed.")
    hmac_secret: Secret = option(
        Secret(""),
        "Secret of a signature over the body: `Tercel-Signature: sha256=HEX` (HMAC-SHA256). Empty: none is needed.",
    )
    insecure: bool = option(
        False, "Listen beyond the loopback without TLS and authentication. Anyone who reaches the port can then forge "
        "alerts.",
    )  # fmt: skip
    max_body_mib: int = option(16, "Largest body of a request, after it is decompressed.", minimum=1, maximum=1024)
    max_alert_kib: int = option(2048, "Largest alert.", minimum=1, maximum=65536)
    max_connections: int = option(4096, "Connections at a time; further ones are answered 503.", minimum=1)
    max_waiting_mib: int = option(
        32, "Bodies in memory at a time, in all; beyond it requests are answered 503 with `Retry-After`.", minimum=1
    )
    host_rate: int = option(0, "Alerts a second of one host on average; 0 means no limit.", minimum=0)
    body_timeout_s: float = option(30.0, "How long a sender may take for its body.", minimum=0.1)


@dataclass(frozen=True, slots=True)
class Oidc:
    """Login by an OpenID Connect provider."""

    issuer: str = option("", "Its address, as in `ISSUER/.well-known/openid-configuration`. Empty: off.")
    client_id: str = option("", "The hub's name at the provider.")
    client_secret: Secret = option(Secret(""), "The hub's secret at the provider.")
    name_claim: str = option("preferred_username", "The claim that names the user.")
    roles_claim: str = option("groups", "The claim that lists the user's groups or roles.")
    roles: Mapping[str, str] = option({}, "Group of the provider -> role: viewer, analyst, editor or admin.")
    default_role: str = option(
        "", "Role of users whom no group gives one; empty: they are refused.",
        choices=("", "viewer", "analyst", "editor", "admin"),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hide:
    """Values that some people do not see."""

    role: str = option(doc="This role and those below it do not see them.", choices=("viewer", "analyst", "editor"))
    fields: tuple[str, ...] = option(doc="Names of output fields; `*` stands for any text.", example=["proc.cmdline"])


@dataclass(frozen=True, slots=True)
class Keep:
    """How long alerts of one priority stay searchable."""

    priority: Priority = option(doc="Alerts of this priority.")
    days: float = option(0.0, "Older ones are deleted from the index; 0: no limit of their own.", minimum=0)
    gib: float = option(0.0, "Beyond this size the oldest are deleted from the index; 0: no limit.", minimum=0)


@dataclass(frozen=True, slots=True)
class Page:
    """The web page."""

    enabled: bool = option(True, "Start the page.")
    address: str = option("127.0.0.1", "Address to listen at.")
    port: int = option(2802, "Port to listen at; 0 picks a free one.", minimum=0, maximum=65535)
    tls: Tls = option(Tls(), "Certificate of the page and authorities of browsers' certificates.")
    insecure: bool = option(False, "Listen beyond the loopback without TLS: a proxy in front has it.")
    base_path: str = option("", "Path below which the page lives behind a proxy.", example="/tercel")
    proxies: tuple[str, ...] = option(
        (), "Addresses or networks of proxies whose `X-Forwarded-For`, `-Proto` and `-Host` are believed."
    )
    proxy_user_header: str = option(
        "", "Header by which those proxies name the user they have let in. Empty: off.", example="Remote-User"
    )
    proxy_role_header: str = option("", "Header by which they name the user's role; without it users are viewers.")
    oidc: Oidc = option(Oidc(), "Login by an OpenID Connect provider.")
    hide: tuple[Hide, ...] = option((), "Values that some people do not see, in pages, API and exports.")
    audit_reads: bool = option(False, "Record in the audit log who looked at which page, too.")
    rules: tuple[Path, ...] = option((), "Rules files whose texts the page shows beside alerts.")
    exceptions_file: Path | None = option(
        None, "The local rules file that exceptions are proposed for; the page shows changes to it.",
        example="/etc/tercel/rules.local.yaml",
    )  # fmt: skip
    commit_exceptions: bool = option(
        False, "Commit an accepted exception to the git working tree that `exceptions_file` lies in."
    )
    keep: tuple[Keep, ...] = option((), "How long alerts of a priority stay searchable.")
    keep_gib: float = option(0.0, "Beyond this size the oldest of the index are deleted; 0: no limit.", minimum=0)
    post_token: Secret = option(
        Secret(""), "Token for `POST /` in falcosidekick-ui's format, which goes on to the collector. Empty: an API "
        "token is needed, as everywhere.",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """The store of all alerts."""

    slice_mib: int = option(256, "A file of the journal is closed at this size.", minimum=1)
    slice_s: int = option(3600, "A file of the journal is closed at this age.", minimum=1)
    keep_days: float = option(30.0, "Older files are deleted once every output has passed them.", minimum=0.0)
    keep_gib: float = option(10.0, "Beyond this size the oldest files are deleted once every output has passed them.")
    hold_days: float = option(
        7.0, "How much longer than `keep_days` a file waits for an output that lags; then it is deleted, and what the "
        "output missed is counted and reported.",
    )  # fmt: skip
    hold_gib: float = option(10.0, "How far beyond `keep_gib` the journal may grow for outputs that lag.")
    duplicates_window: int = option(
        1_000_000, "How many of the latest ids are kept in memory: an alert that comes again is recognised among them.",
        minimum=1000,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Breaker:
    """When an output stops trying."""

    failures: int = option(5, "Failures in a row after which it pauses; 0: never.", minimum=0)
    pause_s: float = option(30.0, "Length of the pause; then one batch is tried.", minimum=0.1)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How fast an output may be fed."""

    per_s: float = option(0.0, "Alerts a second on average; 0 means no limit. Alerts wait, none is lost.", minimum=0)
    burst: int = option(10, "Alerts that may go at once after a quiet time.", minimum=1)


@dataclass(frozen=True, slots=True)
class Grouping:
    """Many alike as one: the first goes at once, the others as one summary."""

    by: tuple[str, ...] = option(
        (), "What alike alerts share: `rule`, `hostname`, `priority`, `source` or the name of a field. Empty: off.",
        example=["rule", "hostname"],
    )  # fmt: skip
    window_s: float = option(60.0, "Time from the first alert to the summary of those after it.", minimum=0.1)


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """One output. Further keys belong to its type."""

    type: str = option(doc="Which service it speaks to; `docs/outputs.md` lists all types.", example="webhook")
    enabled: bool = option(True, "Whether it is fed. An output that is off loses its place in the journal.")
    minimumpriority: Priority = option(Priority.DEBUG, "Alerts of a lower priority are passed over.")
    filter: str = option(
        "", "Alerts that do not satisfy this condition, in the language of rules, are passed over.",
        example="priority >= warning and not hostname startswith test-",
    )  # fmt: skip
    start: str = option("now", "Where a new output begins in the journal.", choices=("now", "oldest"))
    batch: int = option(0, "Alerts in one request at most; 0 means what suits the type.", minimum=0, maximum=10_000)
    pause_ms: int = option(0, "How long a batch waits for more alerts.", minimum=0, maximum=60_000)
    concurrency: int = option(1, "Requests at a time. Alerts of one host stay in order.", minimum=1, maximum=64)
    deadline_s: float = option(30.0, "Time for one request, its answer included.", minimum=0.1, maximum=3600)
    retries: int = option(
        0, "How often a batch is tried again before it is a dead letter; 0: until it is delivered.", minimum=0
    )
    retry_min_s: float = option(0.5, "The first retry comes after a random time of up to twice this.", minimum=0.01)
    retry_max_s: float = option(60.0, "Longest random time between two tries.", minimum=0.01)
    breaker: Breaker = option(Breaker(), "When it stops trying for a while.")
    rate_limit: RateLimit = option(RateLimit(), "How fast it may be fed.")
    grouping: Grouping = option(Grouping(), "Whether alike alerts are grouped.")
    overtake: bool = option(
        True, "After an outage, new alerts go beside the backlog instead of behind it. Each of the two streams keeps "
        "the order of a host. Without it a host's alerts are in order across both, and new ones wait.",
    )  # fmt: skip
    overtake_after_s: float = option(5.0, "A lag beyond this is a backlog.", minimum=0.0)
    redact: tuple[str, ...] = option(
        (), "Fields whose values are replaced by `[redacted]`, in the message too; `*` stands for any text.",
        example=["proc.cmdline", "*.env*"],
    )  # fmt: skip
    template: str = option(
        "", "Jinja template of the message; it sees `output`, `rule`, `priority`, `hostname`, `source`, `tags`, `time` "
        "and `fields`.", example="{{ rule }} on {{ hostname }}: {{ fields['proc.name'] }}",
    )  # fmt: skip
    name: str = field(default="", kw_only=True)
    """Its key in the configuration, which is the name of its cursor."""
    options: Any = field(default=None, kw_only=True)
    """An instance of its type's options class."""


@dataclass(frozen=True, slots=True)
class Enrichment:
    """What the hub adds to each alert before the journal has it."""

    customfields: Mapping[str, str] = option({}, "Fields added to each alert; `%NAME` is a variable's value.")
    templatedfields: Mapping[str, str] = option(
        {}, "Fields made by Jinja templates, which see the alert's fields as `fields` and `rule`, `priority`, "
        "`hostname`, `source`, `tags`.",
    )  # fmt: skip
    customtags: tuple[str, ...] = option((), "Tags added to each alert.")
    bracketreplacer: str = option("", "In names of fields, `[` becomes this and `]` goes. Empty: they stay.")
    hosts_file: Path | None = option(
        None, "YAML map (host: {owner: ...}) or CSV file (first column `host`) whose values are added as fields."
    )
    hosts_prefix: str = option("host.", "Put before the names of fields of `hosts_file`.")


@dataclass(frozen=True, slots=True)
class Fleet:
    """The table of hosts and the alerts that the hub raises about them."""

    silent_s: float = option(90.0, "A host without a heartbeat for this long is reported.", minimum=1)
    falco_silent_s: float = option(
        0.0, "A host that sends no heartbeats is reported when its last alert is this old; 0: never.", minimum=0
    )
    clock_skew_s: float = option(2.0, "A host whose clock differs by more is reported.", minimum=0.1)
    canary_late_s: float = option(900.0, "A host whose self-test came through longer ago is reported.", minimum=1)
    drift_s: float = option(
        300.0, "Hosts of one group whose rules or configuration differ for this long are reported.", minimum=1
    )
    forget_days: float = option(30.0, "A host that has been silent for this long leaves the table.", minimum=0)


@dataclass(frozen=True, slots=True)
class Log:
    """The hub's own log, on standard error."""

    level: str = option("info", "Lowest level that is written.", choices=("debug", "info", "warning", "error"))
    json: bool = option(False, "One JSON object a line instead of text.")


@dataclass(frozen=True, slots=True)
class HubSettings:
    """All of it."""

    data_dir: Path = option(Path("/var/lib/tercel-hub"), "Folder of all that the hub keeps.")
    collector: Collector = option(Collector(), "The HTTP listener that takes alerts.")
    page: Page = option(Page(), "The web page.")
    journal: JournalSettings = option(JournalSettings(), "The store of all alerts.")
    outputs: Mapping[str, OutputSettings] = option({}, "Where alerts go: a name of your choice for each output.")
    enrichment: Enrichment = option(Enrichment(), "What is added to each alert.")
    fleet: Fleet = option(Fleet(), "Hosts and the alerts about them.")
    log: Log = option(Log(), "The hub's own log.")
    shutdown_s: float = option(10.0, "After SIGTERM, how long outputs may deliver what waits.", minimum=0, maximum=600)
    path: Path | None = field(default=None, kw_only=True)
    """The file it was read from, None for the defaults."""
