"""The table of hosts: what each said of itself, when it was last heard, and what is wrong.

Comes in: heartbeats, alerts. Goes out: rows for status and page, alerts of the hub's own. Never: a host that falls
silent without a word.

`fleet.sqlite` below `data_dir` has a row for each host and outlives the process. Agents send heartbeats; of hosts that
send none (Falco's) only the last alert is known, and they are shown as such.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from appliance.hub.alert import HubAlert, JsonValue
from appliance.hub.settings import Fleet as FleetSettings
from appliance.model.alert import Priority
from appliance.model.moment import iso_time

log = logging.getLogger(__name__)

HUB_HOST = "tercel-hub"
"""The host name of alerts that are about the hub itself."""
_HOSTS_MAX = 50_000
_TEXT_MAX = 300
_DAY_NS = 86_400 * 1_000_000_000
_TABLE = "CREATE TABLE IF NOT EXISTS host (hostname TEXT PRIMARY KEY, facts TEXT NOT NULL)"
_NUMBERS = ("generation", "lost", "filtered", "queue", "clock_ns", "started_ns")
_TEXTS = ("version", "rules_digest", "config_digest", "kernel", "group", "boot")


class BadHeartbeat(Exception):
    """A heartbeat that cannot be read; the message says why."""


@dataclass(slots=True)
class Host:
    """One host, as of its last word.

    `kind` is `agent` for one that sends heartbeats, `falco` for one known by its alerts. Times are the hub's clock in
    nanoseconds since the epoch, 0 for never. `skew_s` is the host's clock minus the hub's. `canary_age_s` is how long
    ago its self-test came through, None where it has none. `troubles` are its own words. `reported` names what the hub
    has raised an alert for and is not over.
    """

    hostname: str
    kind: str = "falco"
    first_seen_ns: int = 0
    last_seen_ns: int = 0
    last_alert_ns: int = 0
    alerts: int = 0
    version: str = ""
    generation: int = 0
    rules_digest: str = ""
    config_digest: str = ""
    kernel: str = ""
    group: str = ""
    boot: str = ""
    lost: int = 0
    filtered: int = 0
    queue: int = 0
    started_ns: int = 0
    clock_ns: int = 0
    skew_s: float = 0.0
    canary_age_s: float | None = None
    troubles: list[str] = field(default_factory=list)
    reported: list[str] = field(default_factory=list)
    drift_since_ns: int = 0


def read_hosts(data_dir: Path) -> Sequence[Host]:
    """All hosts, for who only looks; empty where there is no table."""
    path = data_dir / "fleet.sqlite"
    if not path.exists():
        return []
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)
    try:
        return [Host(**json.loads(row[0])) for row in database.execute("SELECT facts FROM host ORDER BY hostname")]
    finally:
        database.close()


class Fleet:
    """The table, in memory and on disk. Not for several threads, but for `save`."""

    def __init__(self, data_dir: Path, settings: FleetSettings, now_ns: int | None = None) -> None:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._settings = settings
        self._db = sqlite3.connect(
            data_dir / "fleet.sqlite", timeout=5.0, isolation_level=None, check_same_thread=False
        )
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(_TABLE)
        self.hosts: dict[str, Host] = {}
        for (facts,) in self._db.execute("SELECT facts FROM host"):
            host = Host(**json.loads(facts))
            self.hosts[host.hostname] = host
        self._changed: set[str] = set()
        # while the hub was down nobody could be heard: silence counts from its start
        self._began_ns = time.time_ns() if now_ns is None else now_ns

    def seen(self, hostname: str, *, received_ns: int, alerts: int = 1) -> None:
        """A host has sent alerts."""
        if not hostname or hostname == HUB_HOST:
            return
        host = self._host(hostname)
        if host is None:
            return
        host.alerts += alerts
        host.last_alert_ns = max(host.last_alert_ns, received_ns)
        if host.kind == "falco":
            host.last_seen_ns = host.last_alert_ns
        self._changed.add(hostname)

    def _host(self, hostname: str) -> Host | None:
        host = self.hosts.get(hostname)
        if host is None:
            if len(self.hosts) >= _HOSTS_MAX:
                return None
            host = self.hosts[hostname] = Host(hostname, first_seen_ns=time.time_ns())
        return host

    def beat(self, body: bytes, now_ns: int) -> None:
        """A heartbeat has come. Raises `BadHeartbeat`."""
        try:
            told = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise BadHeartbeat("the heartbeat is not JSON") from error
        if not isinstance(told, dict) or not isinstance(told.get("hostname"), str) or not told["hostname"]:
            raise BadHeartbeat("the heartbeat has no `hostname`")
        host = self._host(told["hostname"][:_TEXT_MAX])
        if host is None:
            raise BadHeartbeat(f"the table has its {_HOSTS_MAX} hosts")
        host.kind = "agent"
        host.last_seen_ns = now_ns
        for name in _NUMBERS:
            value = told.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63:
                setattr(host, name, value)
        for name in _TEXTS:
            if isinstance(told.get(name), str):
                setattr(host, name, told[name][:_TEXT_MAX])
        age = told.get("canary_age_s")
        host.canary_age_s = float(age) if isinstance(age, int | float) and not isinstance(age, bool) else None
        troubles = told.get("troubles")
        host.troubles = [str(one)[:_TEXT_MAX] for one in troubles[:20]] if isinstance(troubles, list) else []
        host.skew_s = (host.clock_ns - now_ns) / 1e9 if host.clock_ns else 0.0
        self._changed.add(host.hostname)

    def judge(self, now_ns: int) -> list[HubAlert]:
        """Alerts about hosts whose state has become wrong since the last look; recovery is an alert of its own."""
        made: list[HubAlert] = []
        drifting = self._drifting(now_ns)
        for name, host in list(self.hosts.items()):
            if self._settings.forget_days and now_ns - host.last_seen_ns > self._settings.forget_days * _DAY_NS:
                del self.hosts[name]
                self._db.execute("DELETE FROM host WHERE hostname = ?", (name,))
                continue
            wrong = dict(self._wrong(host, now_ns, drifting))
            for what, (priority, text, fields) in wrong.items():
                if what not in host.reported:
                    made.append(_alert(host, what, priority, text, fields, now_ns))
            over = [what for what in host.reported if what not in wrong and what.partition(":")[0] != "losses"]
            for what in over:
                made.append(_alert(host, what, Priority.NOTICE, f"{what} is over", {}, now_ns))
            # a loss is over when it has been told: the next one is a number of its own
            if host.reported != list(wrong):
                host.reported = list(wrong)
                self._changed.add(name)
        return made

    def _wrong(
        self, host: Host, now_ns: int, drifting: Mapping[str, str]
    ) -> Sequence[tuple[str, tuple[Priority, str, Mapping[str, JsonValue]]]]:
        found: list[tuple[str, tuple[Priority, str, Mapping[str, JsonValue]]]] = []
        settings = self._settings
        heard_ns = max(host.last_seen_ns, self._began_ns)
        limit_s = settings.silent_s if host.kind == "agent" else settings.falco_silent_s
        silent_s = (now_ns - heard_ns) / 1e9
        if limit_s and silent_s > limit_s:
            since = iso_time(host.last_seen_ns) + "Z"
            found.append(("silent", (Priority.CRITICAL, f"no word since {since}", {"silent_s": int(silent_s)})))
        if host.kind != "agent" or found:
            return found
        if host.lost:
            text = f"alerts or events were lost: {host.lost} since its start"
            found.append((f"losses:{host.boot}:{host.lost}", (Priority.ERROR, text, {"lost": host.lost})))
        if abs(host.skew_s) > settings.clock_skew_s:
            text = f"its clock differs from the hub's by {host.skew_s:+.1f} s"
            found.append(("clock skew", (Priority.WARNING, text, {"skew_s": round(host.skew_s, 3)})))
        if host.canary_age_s is not None and host.canary_age_s > settings.canary_late_s:
            text = f"its self-test came through last {host.canary_age_s:.0f} s ago"
            found.append(("canary late", (Priority.ERROR, text, {"canary_age_s": host.canary_age_s})))
        if host.hostname in drifting:
            text = f"its {drifting[host.hostname]} differ from those of most hosts of its group"
            found.append(("drift", (Priority.WARNING, text, {"group": host.group})))
        return found

    def _drifting(self, now_ns: int) -> Mapping[str, str]:
        """Hosts whose digests differ from those of most of their group for longer than a roll-out takes."""
        groups: dict[str, list[Host]] = {}
        for host in self.hosts.values():
            if host.kind == "agent" and now_ns - host.last_seen_ns < self._settings.silent_s * 1e9:
                groups.setdefault(host.group, []).append(host)
        found: dict[str, str] = {}
        for hosts in groups.values():
            odd: dict[str, str] = {}
            for name, what in (("rules_digest", "rules"), ("config_digest", "configuration")):
                counted: dict[str, int] = {}
                for host in hosts:
                    counted[getattr(host, name)] = counted.get(getattr(host, name), 0) + 1
                usual = max(counted, key=lambda digest: (counted[digest], digest))
                for host in hosts:
                    if getattr(host, name) != usual and getattr(host, name):
                        odd[host.hostname] = f"{odd[host.hostname]} and {what}" if host.hostname in odd else what
            for host in hosts:
                if host.hostname not in odd:
                    host.drift_since_ns = 0
                    continue
                host.drift_since_ns = host.drift_since_ns or now_ns
                if now_ns - host.drift_since_ns > self._settings.drift_s * 1e9:
                    found[host.hostname] = odd[host.hostname]
        return found

    def save(self) -> None:
        """Write what has changed."""
        changed, self._changed = self._changed, set()
        rows = [(name, json.dumps(asdict(self.hosts[name]))) for name in changed if name in self.hosts]
        if not rows:
            return
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT INTO host VALUES (?, ?) ON CONFLICT DO UPDATE SET facts = excluded.facts", rows)
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Write and release."""
        self.save()
        self._db.close()


def _alert(host: Host, what: str, priority: Priority, text: str, fields: Mapping[str, Any], now_ns: int) -> HubAlert:
    kind = what.partition(":")[0]
    key = hashlib.blake2b(f"{host.hostname}\0{what}\0{now_ns}".encode("utf-8", "replace"), digest_size=8).hexdigest()
    return HubAlert(
        0, f"hub:{key}", now_ns, now_ns, host.hostname, f"Tercel hub: host {kind}", priority, "internal",
        ("fleet", "tercel"), f"{iso_time(now_ns)}Z: {priority.label} host {host.hostname}: {text}",
        {"host.kind": host.kind, "host.last_seen_ns": host.last_seen_ns, **fields},
    )  # fmt: skip
