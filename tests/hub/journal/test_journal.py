"""What every journal promises. Each engine of one is a row of `ENGINES`; the tests know the protocol alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.hub.alert import HubAlert
from appliance.hub.ingest.commit import Committer
from appliance.hub.journal.base import Journal, JournalError
from appliance.hub.journal.sqlite import SqliteJournal
from appliance.hub.settings import JournalSettings
from tests.hub.support import alert, alerts

KILLS = 1000 if os.environ.get("TERCEL_NIGHTLY") else 200
DAY_NS = 86_400 * 1_000_000_000

Make = Callable[..., Journal]
ENGINES = {"sqlite": SqliteJournal}


def bulky(number: int, size: int) -> list[HubAlert]:
    """Alerts that no compressor makes small."""
    return [alert(output=os.urandom(size).hex()) for _ in range(number)]


@pytest.fixture(params=ENGINES)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    made: list[Journal] = []

    def open_(*, writes: bool = True, **changes: object) -> Journal:
        made.append(ENGINES[request.param](tmp_path / "journal", JournalSettings(**changes), writes=writes))  # type: ignore[arg-type]
        return made[-1]

    yield open_
    for journal in made:
        journal.close()


def test_an_empty_one(make: Make) -> None:
    journal = make()
    assert (journal.last(), journal.read(0, 10), journal.cursor("a")) == (0, [], -1)
    assert (journal.health().first_seq, journal.health().last_seq) == (0, 0)


def test_what_goes_in_comes_out_whole_and_in_order(make: Make) -> None:
    journal = make()
    given = [
        alert(
            output="\x00 \U0001f600 ' \"", fields={"big": 2**80, "neg": -(2**70), "": "", "deep": {"a": [None, True]}}
        ),
        alert(tags=(), hostname="", fields={"x" * 1000: "y" * 1_000_000}),
        alert(fields={f"f{n}": n for n in range(10_000)}),
    ]
    assert journal.append(given) == [1, 2, 3]
    got = list(journal.read(0, 10))
    assert [a.seq for a in got] == [1, 2, 3]
    for one, other in zip(given, got, strict=True):
        assert {n: getattr(one, n) for n in one.__slots__ if n != "seq"} == {
            n: getattr(other, n) for n in one.__slots__ if n != "seq"
        }


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 40), max_size=8), after=st.integers(0, 200), limit=st.integers(1, 100))
def test_any_stretch_can_be_read(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], after: int, limit: int
) -> None:
    journal = SqliteJournal(tmp_path_factory.mktemp("j"), writes=True)
    given = [alert() for size in sizes for _ in range(size)]
    at = 0
    for size in sizes:
        journal.append(given[at : at + size])
        at += size
    ids = [a.id for a in given]
    assert [a.id for a in journal.read(after, limit)] == ids[after : after + limit]
    journal.close()


def test_large_alerts_are_read_a_few_at_a_time(make: Make) -> None:
    journal = make()
    journal.append([alert(fields={"x": "y" * 1_000_000}) for _ in range(40)])
    journal.append(alerts(10))
    assert 1 <= len(journal.read(0, 100)) < 20
    assert [a.seq for a in everything(journal)] == list(range(1, 51))


def test_an_id_that_comes_again_is_a_duplicate(make: Make) -> None:
    journal = make(slice_mib=1)
    first = alerts(3)
    assert journal.append(first) == [1, 2, 3]
    assert journal.append([first[1], alert(id="new"), alert(id="new"), first[0]]) == [0, 4, 0, 0]
    journal.append(bulky(3000, 500))  # other files in between
    assert journal.append(first) == [0, 0, 0]
    journal.close()
    again = make()
    assert again.append([*first, alert(id="new")]) == [0, 0, 0, 0]


def test_the_window_of_duplicates_is_bounded(make: Make) -> None:
    journal = make(duplicates_window=1000)
    first = alerts(1)
    journal.append(first)
    for _ in range(20):
        journal.append(alerts(100))
    assert journal.append(first) == [2002]


def test_others_read_while_one_writes(make: Make) -> None:
    writer, reader = make(slice_mib=1), make(writes=False)
    seen: list[int] = []
    for _ in range(40):
        writer.append(bulky(100, 600))
        assert reader.last() == writer.last()
        seen += [a.seq for a in reader.read(seen[-1] if seen else 0, 1000)]
    assert seen == list(range(1, 4001))
    with pytest.raises(JournalError):
        reader.append(alerts(1))


def test_cursors_outlive_the_process(make: Make) -> None:
    journal = make()
    journal.advance("a", 5)
    journal.advance("b", 7)
    journal.advance("a", 6)
    journal.close()
    again = make(writes=False)
    assert again.cursors() == {"a": 6, "b": 7}
    again.forget("a")
    assert (again.cursor("a"), again.cursor("b")) == (-1, 7)


def everything(journal: Journal) -> list[HubAlert]:
    """All that it has, read in parts."""
    got: list[HubAlert] = []
    while part := journal.read(got[-1].seq if got else 0, 5000):
        got += part
    return got


def filled(make: Make, **changes: object) -> Journal:
    """One with several files of about a MiB."""
    journal = make(slice_mib=1, **changes)
    for _ in range(40):
        journal.append(bulky(100, 600))
    return journal


def test_retention_deletes_old_files_that_all_have_passed(make: Make) -> None:
    journal = filled(make, keep_days=1)
    journal.advance("a", journal.last())
    before = journal.health().size_bytes
    assert journal.retain(time.time_ns()) == {}
    assert journal.health().first_seq == 1
    assert journal.retain(time.time_ns() + 2 * DAY_NS) == {}
    health = journal.health()
    assert health.first_seq > 1
    assert health.size_bytes < before / 2
    assert journal.read(0, 1)[0].seq == health.first_seq
    assert journal.append([alert()]) == [4001]


def test_a_hold_outlives_the_process_and_stops_retention(make: Make) -> None:
    journal = filled(make, keep_days=1, keep_gib=0.001, hold_gib=0)
    journal.hold("case 7")
    journal.close()
    journal = make(slice_mib=1, keep_days=1, keep_gib=0.001, hold_gib=0)
    assert journal.held() == "case 7"
    assert journal.retain(time.time_ns() + 900 * DAY_NS) == {}
    assert journal.health().first_seq == 1
    journal.hold("")
    assert journal.held() == ""
    journal.retain(time.time_ns() + 900 * DAY_NS)
    assert journal.health().first_seq > 1


def test_retention_waits_for_a_cursor_and_counts_what_it_loses_in_the_end(make: Make) -> None:
    journal = filled(make, keep_days=1, hold_days=3)
    journal.advance("slow", 10)
    journal.advance("fast", journal.last())
    assert journal.retain(time.time_ns() + 3 * DAY_NS) == {}
    assert journal.health().first_seq == 1
    lost = journal.retain(time.time_ns() + 5 * DAY_NS)
    first = journal.health().first_seq
    assert lost == {"slow": first - 1 - 10}
    assert journal.health().lost == lost


def test_what_retention_loses_is_an_alert_of_its_own(tmp_path: Path) -> None:
    """By the thread that calls it: here a journal whose retention has lost something."""

    class Losing(SqliteJournal):
        def retain(self, now_ns: int | None = None) -> Mapping[str, int]:
            return {"slow": 7}

    journal = Losing(tmp_path / "journal", writes=True)

    async def run() -> None:
        committer = Committer(journal)
        committer._tell(journal.retain())
        await asyncio.to_thread(committer.close)

    asyncio.run(run())
    (one,) = journal.read(0, 10)
    assert (one.rule, one.fields) == ("Tercel hub: alerts lost", {"output.name": "slow", "output.lost": 7})
    journal.close()


def test_retention_by_size(make: Make) -> None:
    journal = filled(make, keep_gib=0.001)
    journal.advance("a", journal.last())
    journal.retain()
    assert journal.health().size_bytes < 4 << 20


def test_positions_go_on_when_all_files_are_gone(make: Make, tmp_path: Path) -> None:
    journal = make()
    journal.append(alerts(5))
    journal.advance("a", 5)
    journal.close()
    for file in (tmp_path / "journal").glob("slice-*"):
        file.unlink()
    assert make().append(alerts(1)) == [6]


def test_killed_at_any_moment_nothing_acknowledged_is_lost_or_there_twice(tmp_path: Path) -> None:
    """The writer prints what was acknowledged; it is forked anew for each time that it is killed."""
    folder = tmp_path / "journal"
    random_ = random.Random(15)
    acknowledged: list[str] = []
    driver = tmp_path / "driver.py"
    driver.write_text(_DRIVER)
    done = subprocess.run(
        [sys.executable, driver, folder, str(KILLS), str(random_.randrange(1 << 30))],
        capture_output=True, text=True, check=True, timeout=600,
    )  # fmt: skip
    acknowledged = done.stdout.split()
    assert len(acknowledged) > KILLS
    journal = SqliteJournal(folder, writes=True)
    whole = everything(journal)
    assert [a.seq for a in whole] == list(range(1, len(whole) + 1))
    got = [a.id for a in whole]
    assert len(got) == len(set(got))
    assert set(acknowledged) <= set(got)
    assert 0 < journal.cursor("reader") <= journal.last()
    assert journal.append([alert(id=acknowledged[-1])]) == [0]
    journal.close()


_DRIVER = f"""
import os, random, signal, sys, time
sys.path.insert(0, {str(Path(__file__).resolve().parents[3])!r})
from pathlib import Path
from appliance.hub.journal.sqlite import SqliteJournal
from appliance.hub.settings import JournalSettings
from tests.hub.support import alert

folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
for run in range(kills):
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        journal = SqliteJournal(folder, JournalSettings(slice_mib=1), writes=True)
        n = 0
        os.write(writer, b"\\n")
        while True:
            size = n * 7 % 23 + 1
            names = [f"{{run}}:{{n + i}}" for i in range(size)]
            journal.append([alert(id=name, output=os.urandom(n % 2000).hex()) for name in names])
            n += size
            os.write(writer, "".join(f"{{name}}\\n" for name in names).encode())
            journal.advance("reader", journal.last())
    os.close(writer)
    os.read(reader, 1)
    time.sleep(chance.random() * 0.03)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    told = b""
    while part := os.read(reader, 65536):
        told += part
    os.close(reader)
    sys.stdout.write(told[: told.rfind(b"\\n") + 1].decode())
"""


def test_a_torn_log_of_sqlite_loses_no_commit_before_it(tmp_path: Path) -> None:
    """A power cut leaves the end of the write-ahead log in any state; what was synchronised before it stands."""
    journal = SqliteJournal(tmp_path / "a", writes=True)
    journal.append(alerts(5))
    wal = next((tmp_path / "a").glob("slice-*-wal"))
    whole = wal.stat().st_size
    journal.append(alerts(50))
    longer = wal.stat().st_size
    assert longer > whole
    chance = random.Random(7)
    for cut in sorted(chance.randrange(whole, longer) for _ in range(12)):
        copy = tmp_path / f"cut{cut}"
        copy.mkdir()
        for file in (tmp_path / "a").iterdir():
            if not file.name.endswith("-shm"):
                (copy / file.name).write_bytes(file.read_bytes())
        torn = copy / wal.name
        torn.write_bytes(torn.read_bytes()[:cut] + os.urandom(max(0, min(100, longer - cut))))
        again = SqliteJournal(copy, writes=True)
        assert [a.seq for a in again.read(0, 100)] == [1, 2, 3, 4, 5]
        assert again.append(alerts(1)) == [6]
        again.close()
    journal.close()


@contextlib.contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Path]:
    """A file system of that size."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", mib=3) as disk:
        journal = SqliteJournal(disk / "journal", writes=True)
        acknowledged = 0
        with pytest.raises(JournalError, match=r"full|space"):
            for _ in range(200):
                journal.append(bulky(50, 600))
                acknowledged += 50
        assert "full" in journal.health().trouble or "space" in journal.health().trouble
        assert len(everything(journal)) >= acknowledged
        subprocess.run(["mount", "-o", "remount,size=30m", disk], check=True)
        assert all(journal.append(alerts(3)))
        assert not journal.health().trouble
        journal.close()


class Failing:
    """A connection whose commits fail in a way that a disk can."""

    def __init__(self, connection: sqlite3.Connection, message: str) -> None:
        self._connection = connection
        self._message = message

    def execute(self, text: str, *args: object) -> sqlite3.Cursor:
        if text == "COMMIT":
            raise sqlite3.OperationalError(self._message)
        return self._connection.execute(text, *args)

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


@pytest.mark.parametrize(
    "message", ["disk I/O error", "attempt to write a readonly database", "database or disk is full"]
)
def test_a_commit_that_fails_acknowledges_nothing_and_the_next_one_works(tmp_path: Path, message: str) -> None:
    journal = SqliteJournal(tmp_path / "journal", writes=True)
    journal.append(alerts(2))
    refused = alerts(3)
    journal._current = Failing(journal._current, message)  # type: ignore[assignment, arg-type]
    with pytest.raises(JournalError, match=message.split()[0]):
        journal.append(refused)
    assert journal.health().trouble
    assert journal.append(refused) == [3, 4, 5]
    assert [a.id for a in journal.read(2, 10)] == [a.id for a in refused]
    assert not journal.health().trouble
    journal.close()


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot open the journal"):
        SqliteJournal(tmp_path / "file", writes=True)
