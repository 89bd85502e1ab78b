"""What the parts of the hub say of themselves, for `tercel hub status`, the metrics and the page.

Comes in: each part's facts, once a second. Goes out: the latest of each. Never: a wait of one part for another.

`status.sqlite` below `data_dir` has a row for each part: `collect`, `deliver`, `output:NAME`.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TABLES = """
CREATE TABLE IF NOT EXISTS part (name TEXT PRIMARY KEY, at_ns INTEGER NOT NULL, facts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS lanes (output TEXT PRIMARY KEY, lanes TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS held (output TEXT, number INTEGER, held TEXT NOT NULL, PRIMARY KEY (output, number))
"""
LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)


@dataclass(frozen=True, slots=True)
class OutputStatus:
    """One output, as of `at_ns`.

    `state`: `ok`, `failing`, `open` (the breaker holds it), `off` (cannot be made; `trouble` says why). `failed` counts
    tries by kind. `lag` is how many positions of the journal are before it, `lag_s` how long the oldest of them has
    waited, `oldest_ns` when that came. `latency` counts alerts by the time from arrival to delivery, below each of
    `LATENCY_BUCKETS_S`, the last entry beyond all; `latency_sum_s` is their sum. `lost` is what retention took.
    """

    name: str
    type: str
    at_ns: int
    state: str
    trouble: str
    delivered: int
    passed_over: int
    grouped: int
    retried: int
    dead: int
    failed: Mapping[str, int]
    lag: int
    lag_s: float
    oldest_ns: int
    in_flight: int
    latency: Sequence[int]
    latency_sum_s: float
    backlog: int
    last_success_ns: int
    lost: int = 0


class StatusFile:
    """Opened by each part and by who asks; `path` is `data_dir/status.sqlite`."""

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._db = sqlite3.connect(
            data_dir / "status.sqlite", timeout=5.0, isolation_level=None, check_same_thread=False
        )
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_TABLES)
        self._lock = threading.Lock()  # workers write from threads of their own

    def write(self, facts: Mapping[str, Mapping[str, Any]], *, instead_of: str | None = None) -> None:
        """Put rows of parts; of parts whose names begin with `instead_of`, no other remains."""
        now_ns = time.time_ns()
        with self._transaction():
            if instead_of is not None:
                self._db.execute("DELETE FROM part WHERE name LIKE ? || '%'", (instead_of,))
            self._db.executemany(
                "INSERT INTO part VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET at_ns = excluded.at_ns, "
                "facts = excluded.facts",
                [(name, now_ns, json.dumps(told)) for name, told in facts.items()],
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    def read(self) -> Mapping[str, Mapping[str, Any]]:
        """All rows: facts by part, each with `at_ns`."""
        rows = self._db.execute("SELECT name, at_ns, facts FROM part ORDER BY name").fetchall()
        return {name: {**json.loads(facts), "at_ns": at_ns} for name, at_ns, facts in rows}

    def outputs(self) -> Sequence[OutputStatus]:
        """The rows of outputs."""
        return [OutputStatus(**told) for name, told in self.read().items() if name.startswith("output:")]

    def lanes(self, output: str) -> list[tuple[Any, ...]]:
        """The stretches of the journal that an output has still to deliver, as `put_work` got them; often none."""
        row = self._db.execute("SELECT lanes FROM lanes WHERE output = ?", (output,)).fetchone()
        return [tuple(lane) for lane in json.loads(row[0])] if row else []

    def held(self, output: str) -> Mapping[int, str]:
        """The groups of alerts that an output holds back, by number."""
        return dict(self._db.execute("SELECT number, held FROM held WHERE output = ?", (output,)).fetchall())

    def put_work(self, output: str, lanes: Sequence[tuple[Any, ...]], held: Mapping[int, str | None]) -> None:
        """Keep an output's lanes, and in the same transaction those groups that have changed; None: the group is gone.
        Without lanes the journal's cursor is all there is to know."""
        with self._transaction():
            if lanes:
                self._db.execute(
                    "INSERT INTO lanes VALUES (?, ?) ON CONFLICT DO UPDATE SET lanes = excluded.lanes",
                    (output, json.dumps(lanes)),
                )
            else:
                self._db.execute("DELETE FROM lanes WHERE output = ?", (output,))
            gone = [(output, number) for number, text in held.items() if text is None]
            self._db.executemany("DELETE FROM held WHERE output = ? AND number = ?", gone)
            kept = [(output, number, text) for number, text in held.items() if text is not None]
            self._db.executemany("INSERT OR REPLACE INTO held VALUES (?, ?, ?)", kept)

    def forget(self, output: str) -> None:
        """Drop what is kept of an output's work."""
        with self._transaction():
            self._db.execute("DELETE FROM lanes WHERE output = ?", (output,))
            self._db.execute("DELETE FROM held WHERE output = ?", (output,))

    def close(self) -> None:
        """Release the file."""
        self._db.close()
