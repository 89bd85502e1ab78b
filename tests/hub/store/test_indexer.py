"""What is in the journal is in the index, once, whatever happens in between."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from appliance.hub.demo import fleet_alerts
from appliance.hub.journal.sqlite import SqliteJournal
from appliance.hub.store.base import EVER
from appliance.hub.store.indexer import CURSOR, Indexer, index_folder, rebuild
from appliance.hub.store.lifetimes import Lifetimes, group_id, keys_of
from appliance.hub.store.sqlite import SqliteStore
from appliance.model.expr import TRUE
from tests.hub.alerts import START_NS
from tests.hub.journals import MemoryJournal


def test_it_follows_the_journal_and_tells_how_far(tmp_path: Path) -> None:
    journal = MemoryJournal()
    batch = list(fleet_alerts(500, start_ns=START_NS))
    store, lifetimes = SqliteStore(tmp_path), Lifetimes(tmp_path / "groups.db")
    indexer = Indexer(journal, store, lifetimes)
    assert indexer.step() == 0
    journal.append(batch[:300])
    assert indexer.step() == 300
    journal.append(batch)
    assert (indexer.step(), indexer.step()) == (200, 0)
    assert store.count(TRUE, EVER) == 500
    assert journal.cursor(CURSOR) == 500
    ids = [group_id(keys_of(alert)) for alert in batch]
    known = lifetimes.get(sorted(set(ids)))
    assert sum(lifetime.total for lifetime in known.values()) == 500
    assert all(known[i].first_ns <= alert.ts_ns <= known[i].last_ns for i, alert in zip(ids, batch, strict=True))
    store.close()
    lifetimes.close()


def test_a_part_that_is_behind_catches_up(tmp_path: Path) -> None:
    """A kill between the two commits leaves the groups behind the alerts."""
    journal = MemoryJournal()
    journal.append(list(fleet_alerts(100, start_ns=START_NS)))
    store, lifetimes = SqliteStore(tmp_path), Lifetimes(tmp_path / "groups.db")
    store.append(journal.read(0, 60))
    lifetimes.add(journal.read(0, 40))
    indexer = Indexer(journal, store, lifetimes)
    while indexer.step():
        pass
    assert store.count(TRUE, EVER) == 100
    found = lifetimes.get([group_id(keys_of(alert)) for alert in journal.alerts])
    assert sum(lifetime.total for lifetime in found.values()) == 100
    store.close()
    lifetimes.close()


@pytest.mark.parametrize("after_s", [0.3, 0.6, 0.9])
def test_killed_at_any_point_nothing_is_missing_or_twice(tmp_path: Path, after_s: float) -> None:
    journal = SqliteJournal(tmp_path / "journal", writes=True)
    alerts = list(fleet_alerts(8000, start_ns=START_NS))
    for start in range(0, len(alerts), 500):
        journal.append(alerts[start : start + 500])
    code = textwrap.dedent(f"""
        from pathlib import Path
        from appliance.hub.journal.sqlite import SqliteJournal
        from appliance.hub.store import indexer as it
        from appliance.hub.store.lifetimes import Lifetimes
        from appliance.hub.store.sqlite import SqliteStore
        it.BATCH = 50
        root = Path({str(tmp_path)!r})
        folder = it.index_folder(root)
        print("up", flush=True)
        lifetimes = Lifetimes(folder / "groups.db")
        it.Indexer(SqliteJournal(root / "journal"), SqliteStore(folder), lifetimes).run(lambda: False)
        """)
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(after_s)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    folder = index_folder(tmp_path)
    store, lifetimes = SqliteStore(folder), Lifetimes(folder / "groups.db")
    indexer = Indexer(journal, store, lifetimes)
    while indexer.step():
        pass
    assert store.count(TRUE, EVER) == len(alerts)
    assert {alert.id for alert in store.scan(TRUE, EVER)} == {alert.id for alert in alerts}
    found = lifetimes.get(sorted({group_id(keys_of(alert)) for alert in alerts}))
    assert sum(lifetime.total for lifetime in found.values()) == len(alerts)
    store.close()
    lifetimes.close()
    journal.close()


def test_it_can_be_made_again_from_the_journal(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal", writes=True)
    journal.append(list(fleet_alerts(700, start_ns=START_NS)))
    assert rebuild(journal, tmp_path) == 700
    assert rebuild(journal, tmp_path) == 700
    store = SqliteStore(index_folder(tmp_path))
    assert store.count(TRUE, EVER) == 700
    store.close()
    journal.close()


def test_a_closed_file_holds_no_empty_pages(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, segment_rows=3000)
    alerts = list(fleet_alerts(3500, start_ns=START_NS))
    for start in range(0, 3500, 100):
        store.append(alerts[start : start + 100])
    store.close()
    first = sqlite3.connect(tmp_path / "segment-000001.db")
    assert first.execute("PRAGMA freelist_count").fetchone() == (0,)
    assert first.execute("SELECT value FROM meta WHERE key = 'sealed'").fetchone() == (1,)
    first.close()
