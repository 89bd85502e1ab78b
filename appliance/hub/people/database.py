"""The page's own database: people, sessions, triage, views, the audit log. All else can be made again from the journal.

Comes in: SQL of this package. Goes out: rows. Each thread has a connection of its own; a change is a transaction.
Never: a password, a session or a token in clear.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

Value = str | int | float | bytes | None

_SCHEMA = """
CREATE TABLE IF NOT EXISTS users(name TEXT PRIMARY KEY, hash TEXT NOT NULL, role TEXT NOT NULL, origin TEXT NOT NULL,
    disabled INTEGER NOT NULL DEFAULT 0, made_ns INTEGER NOT NULL, visited_ns INTEGER NOT NULL DEFAULT 0,
    visiting_ns INTEGER NOT NULL DEFAULT 0, failures INTEGER NOT NULL DEFAULT 0, locked_ns INTEGER NOT NULL DEFAULT 0,
    theme TEXT NOT NULL DEFAULT 'system', zone TEXT NOT NULL DEFAULT 'UTC', home TEXT NOT NULL DEFAULT '',
    must_change INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS sessions(digest TEXT PRIMARY KEY, user TEXT NOT NULL, csrf TEXT NOT NULL,
    made_ns INTEGER NOT NULL, used_ns INTEGER NOT NULL, address TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tokens(digest TEXT PRIMARY KEY, name TEXT NOT NULL, user TEXT NOT NULL, role TEXT NOT NULL,
    made_ns INTEGER NOT NULL, ends_ns INTEGER NOT NULL, used_ns INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS triage(id TEXT PRIMARY KEY, keys TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
    assignee TEXT NOT NULL, by TEXT NOT NULL, at_ns INTEGER NOT NULL, until_ns INTEGER NOT NULL,
    until_total INTEGER NOT NULL, rate REAL NOT NULL,
    total INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS history(number INTEGER PRIMARY KEY, id TEXT NOT NULL, at_ns INTEGER NOT NULL,
    by TEXT NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS history_of ON history(id, at_ns);
CREATE TABLE IF NOT EXISTS views(slug TEXT PRIMARY KEY, name TEXT NOT NULL, query TEXT NOT NULL, owner TEXT NOT NULL,
    shared INTEGER NOT NULL, made_ns INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS exceptions(number INTEGER PRIMARY KEY, name TEXT NOT NULL, rule TEXT NOT NULL,
    entry TEXT NOT NULL, filter TEXT NOT NULL, owner TEXT NOT NULL, reason TEXT NOT NULL, made_ns INTEGER NOT NULL,
    ends_ns INTEGER NOT NULL, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS audit(number INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, who TEXT NOT NULL,
    action TEXT NOT NULL, what TEXT NOT NULL, address TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS facts(name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class Database:
    """One file, opened by each thread that asks."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._local = threading.local()
        path.touch(mode=0o600)
        self._connection().executescript(_SCHEMA)

    def _connection(self) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._local, "db", None)
        if found is None:
            found = sqlite3.connect(self._path, isolation_level=None, timeout=10.0)
            found.execute("PRAGMA journal_mode = WAL")
            found.execute("PRAGMA synchronous = FULL")
            self._local.db = found
        return found

    def all(self, sql: str, *values: Value) -> list[Sequence[Value]]:
        """The rows of a query."""
        return self._connection().execute(sql, values).fetchall()

    def one(self, sql: str, *values: Value) -> Sequence[Value] | None:
        """The first row, or None."""
        found: Sequence[Value] | None = self._connection().execute(sql, values).fetchone()
        return found

    def run(self, sql: str, *values: Value) -> int:
        """A change of its own; how many rows it touched."""
        return self._connection().execute(sql, values).rowcount

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Several changes as one."""
        db = self._connection()
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")

    def close(self) -> None:
        """Release this thread's connection."""
        found: sqlite3.Connection | None = getattr(self._local, "db", None)
        if found is not None:
            found.close()
            self._local.db = None


def audit(db: Database, at_ns: int, who: str, action: str, what: str, address: str = "") -> None:
    """Record a change, or a read where the settings ask for it."""
    db.run(
        "INSERT INTO audit(at_ns, who, action, what, address) VALUES (?, ?, ?, ?, ?)", at_ns, who, action, what, address
    )
