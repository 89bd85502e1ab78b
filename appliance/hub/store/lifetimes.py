"""Since when each group is known, and how much it has seen: what `new` and `escalating` are judged by.

Comes in: what the indexer appends. Goes out: first and last time and the total of groups by the default keys. One
process writes; it can be made again from the journal. Never: an alert counted twice: position and counts are one
transaction.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.hub.alert import HubAlert
from appliance.hub.query.words import text_of
from appliance.hub.store.base import GROUP_KEYS
from appliance.hub.store.segment import dimension_value

_SCHEMA = """
CREATE TABLE IF NOT EXISTS lifetimes(id TEXT PRIMARY KEY, keys TEXT NOT NULL, first_ns INTEGER NOT NULL,
    last_ns INTEGER NOT NULL, total INTEGER NOT NULL, worst INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS position(seq INTEGER NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Of one group, over all that was ever indexed; times in nanoseconds since the epoch."""

    keys: Mapping[str, str | None]
    first_ns: int
    last_ns: int
    total: int
    worst: int


def group_id(keys: Mapping[str, str | None]) -> str:
    """The name of a group in links and in the state database: the same for the same keys, whatever their order."""
    text = json.dumps(sorted(keys.items()))
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def keys_of(alert: HubAlert, keys: Sequence[str] = GROUP_KEYS) -> dict[str, str | None]:
    """What an alert shares with its group."""
    found: dict[str, str | None] = {}
    for key in keys:
        value = alert.priority.label if key == "priority" else dimension_value(alert, key)
        found[key] = None if value is None else text_of(value)
    return found


class Lifetimes:
    """The table, in a file of its own."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._local = threading.local()
        self._db().executescript(_SCHEMA)
        self._known: dict[tuple[str | None, ...], str] = {}

    def _db(self) -> sqlite3.Connection:
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        if db is None:
            db = sqlite3.connect(self._path, isolation_level=None, timeout=10.0)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            self._local.db = db
        return db

    def position(self) -> int:
        """The highest `seq` counted."""
        return int(self._db().execute("SELECT coalesce(max(seq), 0) FROM position").fetchone()[0])

    def add(self, alerts: Sequence[HubAlert]) -> None:
        """Count alerts; those up to `position()` are passed over."""
        position = self.position()
        sums: dict[str, list[int]] = {}
        texts: dict[str, str] = {}
        for alert in alerts:
            if alert.seq <= position:
                continue
            id_ = self._id(alert, texts)
            priority = int(alert.priority)
            known = sums.get(id_)
            if known is None:
                sums[id_] = [alert.ts_ns, alert.ts_ns, 1, priority]
            else:
                known[0] = min(known[0], alert.ts_ns)
                known[1] = max(known[1], alert.ts_ns)
                known[2] += 1
                known[3] = min(known[3], priority)
        if not sums:
            return
        db = self._db()
        db.execute("BEGIN IMMEDIATE")
        db.executemany(
            "INSERT INTO lifetimes VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET first_ns = min(first_ns,"
            " excluded.first_ns), last_ns = max(last_ns, excluded.last_ns), total = total + excluded.total,"
            " worst = min(worst, excluded.worst)",
            [(id_, texts.get(id_, ""), *values) for id_, values in sums.items()],
        )
        db.execute("DELETE FROM position")
        db.execute("INSERT INTO position VALUES (?)", (max(a.seq for a in alerts),))
        db.execute("COMMIT")

    def _id(self, alert: HubAlert, texts: dict[str, str]) -> str:
        name = alert.fields.get("proc.name")
        quick = (alert.rule, name if name is None or isinstance(name, str) else text_of(name), alert.hostname)
        known = self._known.get(quick)
        if known is None:
            if len(self._known) > 100_000:
                self._known.clear()
            known = group_id(keys_of(alert))
            self._known[quick] = known
        if known not in texts:
            texts[known] = json.dumps(keys_of(alert))
        return known

    def get(self, ids: Sequence[str]) -> dict[str, Lifetime]:
        """Those of these groups that are known."""
        found: dict[str, Lifetime] = {}
        for start in range(0, len(ids), 500):
            part = ids[start : start + 500]
            for id_, keys, *figures in self._db().execute(
                f"SELECT * FROM lifetimes WHERE id IN ({', '.join('?' * len(part))})",
                list(part),
            ):
                found[id_] = Lifetime(json.loads(keys), *figures)
        return found

    def close(self) -> None:
        """Release this thread's connection."""
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        if db is not None:
            db.close()
            self._local.db = None
