"""Journal -> store: what makes alerts searchable.

Comes in: the journal, from where the store is. Goes out: appended batches. The store keeps the position itself, in one
transaction with the alerts, so a kill at any point loses nothing and repeats nothing. Never: a write to the journal
beyond the cursor that tells retention what may go.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from appliance.hub.journal.base import Journal
from appliance.hub.store.lifetimes import Lifetimes
from appliance.hub.store.sqlite import SqliteStore

CURSOR = "@index"
"""Its name among the journal's readers; `@` marks those that are no outputs."""

BATCH = 2000
POLL_S = 0.03
_ADVANCE_EVERY_S = 1.0


class Indexer:
    """Follows a journal by the position of its store."""

    def __init__(self, journal: Journal, store: SqliteStore, lifetimes: Lifetimes) -> None:
        self._journal, self._store, self._lifetimes = journal, store, lifetimes
        self._told = -1
        self._told_at = 0.0

    def step(self) -> int:
        """Append one batch; how many alerts it had. 0 when all is appended."""
        after = min(self._store.watermark(), self._lifetimes.position())
        batch = self._journal.read(after, BATCH)
        if batch:
            self._store.append(batch)
            self._lifetimes.add(batch)
            after = batch[-1].seq
        self._advance(after, idle=not batch)
        return len(batch)

    def _advance(self, seq: int, *, idle: bool) -> None:
        now = time.monotonic()
        if seq > self._told and (idle or now - self._told_at > _ADVANCE_EVERY_S):
            self._journal.advance(CURSOR, seq)
            self._told, self._told_at = seq, now

    def run(self, stopped: Callable[[], bool]) -> None:
        """Until `stopped()`: batch after batch, a short pause when there is nothing."""
        while not stopped():
            if self.step() == 0:
                time.sleep(POLL_S)


def index_folder(data_dir: Path) -> Path:
    """Where the index of a hub lies."""
    return data_dir / "index"


def rebuild(journal: Journal, data_dir: Path) -> int:
    """Make the index again from the whole journal; how many alerts it has. The page must not run meanwhile."""
    store = SqliteStore(index_folder(data_dir))
    store.clear()
    lifetimes = Lifetimes(index_folder(data_dir) / "groups.db")
    indexer = Indexer(journal, store, lifetimes)
    total = 0
    while done := indexer.step():
        total += done
    store.close()
    lifetimes.close()
    return total
