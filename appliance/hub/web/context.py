"""What every route works with, and what it is asked.

Comes in: settings, open stores. Goes out: `Hub`, one for the process; `Ask`, one for a request, checked by
`dispatch.py`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.hub.alert import HubAlert
from appliance.hub.journal.base import Journal
from appliance.hub.people.accounts import Accounts, Session
from appliance.hub.people.database import Database, audit
from appliance.hub.people.roles import Right, hidden, may, patterns_of
from appliance.hub.people.triage import Triage
from appliance.hub.settings import HubSettings
from appliance.hub.store.lifetimes import Lifetimes
from appliance.hub.store.sqlite import SqliteStore


@dataclass(frozen=True, slots=True)
class Hub:
    """The page's parts; the other processes' files are read where they are."""

    settings: HubSettings
    journal: Journal
    store: SqliteStore
    lifetimes: Lifetimes
    db: Database
    accounts: Accounts
    triage: Triage
    now_ns: Callable[[], int]

    def rows(self, file: str, sql: str, *values: object) -> list[dict[str, Any]]:
        """What another process keeps in a SQLite file of `data_dir`; nothing where it has none yet."""
        path = self.settings.data_dir / file
        if not path.exists():
            return []
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2.0)
        try:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(sql, values)]
        except sqlite3.Error:
            return []
        finally:
            db.close()

    def parts(self) -> dict[str, dict[str, Any]]:
        """What the hub's processes said of themselves last."""
        rows = self.rows("status.sqlite", "SELECT name, at_ns, facts FROM part ORDER BY name")
        return {row["name"]: {**json.loads(row["facts"]), "at_ns": row["at_ns"]} for row in rows}


@dataclass(frozen=True, slots=True)
class Ask:
    """One request whose sender is known and may do this. `query` and `form` hold the last value of each name, `lists`
    all values of `form`."""

    method: str
    path: str
    params: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str]
    lists: Mapping[str, Sequence[str]]
    body: bytes
    headers: Mapping[str, str]
    session: Session | None
    address: str
    origin: str
    base: str
    now_ns: int
    nonce: Mapping[str, str] = field(default_factory=dict)

    @property
    def who(self) -> str:
        """The user's name, "" for nobody."""
        return self.session.user.name if self.session else ""

    def may(self, right: str) -> bool:
        """Whether the user has a right, by its name: what templates ask."""
        return self.session is not None and may(self.session.user.role, Right(right))

    def url(self, path: str) -> str:
        """A link that works behind a proxy."""
        return self.base + path


def shown(hub: Hub, ask: Ask, alert: HubAlert) -> HubAlert:
    """The alert without what this user's role must not see."""
    rules: dict[str, list[str]] = {}
    for hide in hub.settings.page.hide:
        rules.setdefault(hide.role, []).extend(hide.fields)
    if not rules or ask.session is None:
        return alert
    return hidden(alert, patterns_of(ask.session.user.role, rules))


def record(hub: Hub, ask: Ask, action: str, what: str) -> None:
    """A line of the audit log."""
    audit(hub.db, ask.now_ns, ask.who, action, what[:2000], ask.address)


STATIC = Path(__file__).parent / "static"
TEMPLATES = Path(__file__).parent / "templates"
