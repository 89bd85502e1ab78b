"""The journal on SQLite: one file for each stretch of time, a row for each commit.

Comes in: checked alerts. Goes out: the same, by position. Never: an acknowledged alert that a crash takes away, or a
commit of which a part is there.

A file (`slice-<first position>.sqlite`, write-ahead log, synchronous=FULL) holds blocks: the alerts of one commit as
JSON, compressed by zstd, beside the digests of their ids. Retention deletes whole files. Positions of readers are in
`cursors.sqlite`. A re-send is recognised by a digest of its id among the latest `duplicates_window` ids, kept in memory
and read back at the start; the digest is keyed by a secret of the journal's own, so that nobody can make two ids meet.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import sqlite3
import sys
import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from appliance.hub.alert import HubAlert, NewAlert, new_alert, number_of
from appliance.hub.journal.base import Journal, JournalError, JournalHealth
from appliance.hub.settings import JournalSettings
from appliance.model.alert import Priority

log = logging.getLogger(__name__)

_BLOCK_ALERTS = 512
_BLOCK_BYTES = 2 << 20
_READ_BYTES = 8 << 20
_CACHED_BYTES = 32 << 20
_DIGEST = 8
_PRIORITIES = tuple(Priority)
_DAY_NS = 86_400 * 1_000_000_000
_SLICE = """
CREATE TABLE IF NOT EXISTS block (
    first INTEGER PRIMARY KEY, last INTEGER NOT NULL, received_ns INTEGER NOT NULL, ids BLOB NOT NULL,
    packed INTEGER NOT NULL, data BLOB NOT NULL
)
"""
_CURSORS = """
CREATE TABLE IF NOT EXISTS cursor (name TEXT PRIMARY KEY, seq INTEGER NOT NULL, lost INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value)
"""


class _Stored(msgspec.Struct, array_like=True, frozen=True):
    """An alert as a block holds it, without its position."""

    id: str
    ts_ns: int
    received_ns: int
    hostname: str
    rule: str
    priority: int
    source: str
    tags: tuple[str, ...]
    output: str
    fields: dict[str, Any]


_DECODER = msgspec.json.Decoder(list[_Stored], float_hook=number_of)
_encode = msgspec.json.Encoder().encode


def _decode(data: bytes, first: int) -> list[HubAlert]:
    return [
        HubAlert(
            first + n, s.id, s.ts_ns, s.received_ns, s.hostname, s.rule, _PRIORITIES[s.priority], s.source, s.tags,
            s.output, s.fields,
        )
        for n, s in enumerate(_DECODER.decode(data))
    ]  # fmt: skip


class SqliteJournal(Journal):
    """Any number of readers, one writer (`writes`). Safe for several threads of a process."""

    def __init__(self, folder: Path, settings: JournalSettings | None = None, *, writes: bool = False) -> None:
        """Open or make it. Raises `JournalError` where the folder cannot be used."""
        self._folder = folder
        self._settings = settings or JournalSettings()
        self._writes = writes
        self._lock = threading.RLock()
        self._open: OrderedDict[int, sqlite3.Connection] = OrderedDict()
        self._firsts: list[int] = []
        self._seen_dir_ns = -1
        self._blocks: OrderedDict[int, tuple[list[HubAlert], int]] = OrderedDict()
        self._cached_bytes = 0
        self._compress = zstandard.ZstdCompressor(level=1)
        self._expand = zstandard.ZstdDecompressor()
        self._fsync_ms = 0.0
        self._trouble = ""
        self._ids: tuple[set[int], set[int]] = (set(), set())
        self._slice_began_ns = 0
        self._slice_bytes = 0
        self._next = 1
        self._current: sqlite3.Connection | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._cursors = self._connect(folder / "cursors.sqlite", synchronous="NORMAL")
            self._cursors.executescript(_CURSORS)
            if writes:
                self._start_writing()
        except (OSError, sqlite3.Error) as error:
            raise JournalError(f"cannot open the journal in {folder}: {error}") from error

    def _connect(self, path: Path, *, synchronous: str = "FULL", readonly: bool = False) -> sqlite3.Connection:
        uri = f"{path.absolute().as_uri()}{'?mode=ro' if readonly else ''}"
        made = sqlite3.connect(uri, uri=True, timeout=10.0, isolation_level=None, check_same_thread=False)
        made.execute("PRAGMA mmap_size=268435456")
        if not readonly:
            made.execute("PRAGMA journal_mode=WAL")
            made.execute(f"PRAGMA synchronous={synchronous}")
            made.execute("PRAGMA wal_autocheckpoint=4000")
            made.execute("PRAGMA journal_size_limit=67108864")
        return made

    # Files of the journal

    def _path(self, first: int) -> Path:
        return self._folder / f"slice-{first:020}.sqlite"

    def _list(self) -> list[int]:
        """The first positions of all files, ascending; the folder is read again when it has changed."""
        changed_ns = self._folder.stat().st_mtime_ns
        if changed_ns != self._seen_dir_ns:
            names = (entry.name for entry in os.scandir(self._folder))
            self._firsts = sorted(int(n[6:26]) for n in names if n.startswith("slice-") and n.endswith(".sqlite"))
            # a change within the same tick of the clock would not show: look again while it is that young
            self._seen_dir_ns = changed_ns if time.time_ns() - changed_ns > 100_000_000 else -1
            for first in [f for f in self._open if f not in set(self._firsts)]:
                self._open.pop(first).close()
        return self._firsts

    def _reader(self, first: int) -> sqlite3.Connection:
        if first in self._open:
            self._open.move_to_end(first)
            return self._open[first]
        made = self._connect(self._path(first), readonly=True)
        self._open[first] = made
        while len(self._open) > 8:
            self._open.popitem(last=False)[1].close()
        return made

    def _start_writing(self) -> None:
        firsts = self._list()
        with self._transaction(self._cursors):
            self._cursors.execute("INSERT OR IGNORE INTO fact VALUES ('key', ?)", (secrets.token_bytes(32),))
        self._cursors.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (self._key,) = self._cursors.execute("SELECT value FROM fact WHERE name = 'key'").fetchone()
        self._keyed = hashlib.blake2b(digest_size=_DIGEST, key=self._key)
        if firsts:
            self._take(firsts[-1])
            self._next = (self._last_of(firsts[-1]) or firsts[-1] - 1) + 1
        else:
            self._next = (
                max(0, *self.cursors().values(), 0) + 1
            )  # where files were taken away, readers have passed them
            self._new_slice()
        self._recall()

    def _take(self, first: int) -> sqlite3.Connection:
        """Write on in a file that is there, or in a new one."""
        path = self._path(first)
        self._current = self._connect(path)
        self._current.execute(_SLICE)
        row = self._current.execute("SELECT received_ns FROM block ORDER BY first LIMIT 1").fetchone()
        self._slice_began_ns = row[0] if row else time.time_ns()
        self._slice_bytes = path.stat().st_size
        return self._current

    def _new_slice(self) -> sqlite3.Connection:
        if self._current is not None:
            with contextlib.suppress(sqlite3.Error):  # a file that cannot be tidied up is read as it is
                self._current.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._current.close()
            self._current = None
        made = self._take(self._next)
        self._slice_began_ns = time.time_ns()
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # the file's name, too, must outlive a power cut
        finally:
            os.close(descriptor)
        return made

    def _recall(self) -> None:
        """Read back the digests of the latest ids."""
        half = self._settings.duplicates_window // 2
        wanted = 2 * half
        older: list[bytes] = []
        for first in reversed(self._list()):
            for (ids,) in self._reader(first).execute("SELECT ids FROM block ORDER BY first DESC"):
                older.append(ids)
                wanted -= len(ids) // _DIGEST
                if wanted <= 0:
                    break
            if wanted <= 0:
                break
        for ids in reversed(older):
            self._remember(memoryview(ids).cast("Q"))

    def _remember(self, digests: Any) -> None:
        newer, older = self._ids
        newer.update(digests)
        if len(newer) >= self._settings.duplicates_window // 2:
            older.clear()
            self._ids = (older, newer)

    def _digest(self, id_: str) -> int:
        made = self._keyed.copy()
        made.update(id_.encode("utf-8", "surrogatepass"))
        return int.from_bytes(made.digest(), sys.byteorder)

    # What the protocol asks for

    def append(self, alerts: Sequence[NewAlert | HubAlert]) -> Sequence[int]:
        """Make them durable, in order, in one commit. The positions given; 0 for each that is a duplicate by id."""
        with self._lock:
            if not self._writes:
                raise JournalError("this journal is open for reading")
            newer, older = self._ids
            digests: list[int] = []
            fresh: list[NewAlert] = []
            positions: list[int] = []
            inside: set[int] = set()
            position = self._next
            for alert in alerts:
                digest = self._digest(alert.id)
                if digest in newer or digest in older or digest in inside:
                    positions.append(0)
                    continue
                inside.add(digest)
                digests.append(digest)
                fresh.append(alert if isinstance(alert, NewAlert) else new_alert(alert))
                positions.append(position)
                position += 1
            if fresh:
                self._commit(fresh, digests)
                self._remember(digests)
                self._next = position
            return positions

    def _commit(self, fresh: Sequence[NewAlert], digests: Sequence[int]) -> None:
        try:
            current = self._turn_over()
            blocks = list(self._blocks_of(fresh, digests))
            self._slice_bytes += sum(len(block[3]) + len(block[5]) + 40 for block in blocks)
            began = time.perf_counter()
            with self._transaction(current):
                current.executemany("INSERT INTO block VALUES (?, ?, ?, ?, ?, ?)", blocks)
            self._fsync_ms = (time.perf_counter() - began) * 1000
            self._trouble = ""
        except (sqlite3.Error, OSError) as error:
            self._trouble = f"{type(error).__name__}: {error}"
            self._give_up_file()
            raise JournalError(f"the journal cannot be written: {error}") from error

    def _blocks_of(
        self, fresh: Sequence[NewAlert], digests: Sequence[int]
    ) -> Iterator[tuple[int, int, int, bytes, int, bytes]]:
        """Rows of the table: some hundred alerts in each, fewer where they are large."""
        at = 0
        while at < len(fresh):
            end = min(len(fresh), at + _BLOCK_ALERTS)
            data = _encode(fresh[at:end])
            while len(data) > _BLOCK_BYTES and end - at > 1:
                end = at + max(1, (end - at) * _BLOCK_BYTES // (2 * len(data)))
                data = _encode(fresh[at:end])
            packed = len(data) > 400
            stored = self._compress.compress(data) if packed else data
            ids = array("Q", digests[at:end]).tobytes()
            first = self._next + at
            yield first, first + end - at - 1, fresh[end - 1].received_ns, ids, int(packed), stored
            at = end

    @staticmethod
    @contextlib.contextmanager
    def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _turn_over(self) -> sqlite3.Connection:
        """The file to write to: a new one where the last is full, old, or could not be written."""
        now_ns = time.time_ns()
        full = self._slice_bytes >= self._settings.slice_mib << 20
        old = now_ns - self._slice_began_ns >= self._settings.slice_s * 1_000_000_000 and self._next > self._list()[-1]
        if self._current is None:
            return self._take(self._list()[-1] if self._list() else self._next)
        return self._new_slice() if full or old else self._current

    def _give_up_file(self) -> None:
        """After a failure the state of the connection is not to be trusted: open the file anew at the next try.

        A commit whose failure was reported may be on the disk all the same; then it counts, and its alerts are
        duplicates when they come again.
        """
        if self._current is not None:
            with contextlib.suppress(sqlite3.Error):
                self._current.close()
            self._current = None
        with contextlib.suppress(sqlite3.Error, OSError):
            self._seen_dir_ns = -1
            for first in list(self._open):
                self._open.pop(first).close()
            last = self.last()
            if last >= self._next:
                rows = self._reader(self._list()[-1]).execute("SELECT ids FROM block WHERE last >= ?", (self._next,))
                for (ids,) in rows.fetchall():
                    self._remember(memoryview(ids).cast("Q"))
                self._next = last + 1

    def read(self, after: int, limit: int) -> Sequence[HubAlert]:
        """Up to `limit` alerts with `seq > after`, ascending; fewer where they are large."""
        with self._lock:
            made: list[HubAlert] = []
            size = 0
            try:
                while len(made) < limit and size < _READ_BYTES:
                    block, block_size = self._block_after(after)
                    if not block:
                        break
                    size += block_size
                    skip = max(0, after + 1 - block[0].seq)
                    part = block[skip : skip + limit - len(made)]
                    made += part
                    after = part[-1].seq
            except (sqlite3.Error, OSError) as error:
                raise JournalError(f"the journal cannot be read: {error}") from error
            return made

    def _block_after(self, after: int) -> tuple[list[HubAlert], int]:
        """The block that holds the first position above `after`, and its size in memory; empty at the end."""
        for first, (block, size) in reversed(self._blocks.items()):
            if first <= after + 1 <= block[-1].seq:
                return block, size
        firsts = self._list()
        start = max((n for n, first in enumerate(firsts) if first <= after + 1), default=0)
        for first in firsts[start:]:
            try:
                row = self._find(first, after)
            except sqlite3.OperationalError:
                self._seen_dir_ns = -1
                if first in self._list():
                    raise
                continue  # deleted by the retention just now
            if row is not None:
                at, packed, data = row
                whole = self._expand.decompress(data) if packed else data
                block = _decode(whole, at)
                self._blocks[at] = (block, 3 * len(whole) + 500 * len(block))
                self._cached_bytes += self._blocks[at][1]
                while (self._cached_bytes > _CACHED_BYTES or len(self._blocks) > 256) and len(self._blocks) > 1:
                    self._cached_bytes -= self._blocks.popitem(last=False)[1][1]
                return block, self._blocks[at][1] if at in self._blocks else 0
        return [], 0

    def _find(self, first: int, after: int) -> tuple[int, int, bytes] | None:
        reader = self._reader(first)
        row: tuple[int, int, bytes] | None = reader.execute(
            "SELECT first, packed, data FROM block WHERE first <= ? AND last > ? ORDER BY first DESC LIMIT 1",
            (after + 1, after),
        ).fetchone()
        if row is None:
            row = reader.execute(
                "SELECT first, packed, data FROM block WHERE first > ? ORDER BY first LIMIT 1", (after,)
            ).fetchone()
        return row

    def last(self) -> int:
        """The highest position, 0 when empty."""
        with self._lock:
            if self._writes and self._current is not None:
                return self._next - 1
            try:
                for first in reversed(self._list()):
                    last = self._last_of(first)
                    if last:
                        return last
                firsts = self._list()
            except (sqlite3.Error, OSError) as error:
                self._seen_dir_ns = -1
                raise JournalError(f"the journal cannot be read: {error}") from error
            return firsts[-1] - 1 if firsts else 0

    def _last_of(self, first: int) -> int | None:
        try:
            row = self._reader(first).execute("SELECT max(first), last FROM block").fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):  # just made
                return None
            raise
        return row[1] if row and row[0] is not None else None

    def cursor(self, name: str) -> int:
        """The position up to which the reader `name` is done; -1 when it has never been set."""
        with self._lock:
            row = self._cursors.execute("SELECT seq FROM cursor WHERE name = ?", (name,)).fetchone()
            return row[0] if row else -1

    def cursors(self) -> Mapping[str, int]:
        """All readers and their positions."""
        with self._lock:
            return dict(self._cursors.execute("SELECT name, seq FROM cursor").fetchall())

    def advance(self, name: str, seq: int) -> None:
        """Record durably that the reader `name` is done up to and with `seq`."""
        with self._lock:
            try:
                self._cursors.execute(
                    "INSERT INTO cursor (name, seq) VALUES (?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq",
                    (name, seq),
                )
            except sqlite3.Error as error:
                raise JournalError(f"a cursor cannot be written: {error}") from error

    def forget(self, name: str) -> None:
        """Drop a reader: the retention no longer waits for it."""
        with self._lock:
            self._cursors.execute("DELETE FROM cursor WHERE name = ?", (name,))

    def health(self) -> JournalHealth:
        """Figures for status, metrics and the page."""
        with self._lock:
            firsts = self._list()
            size = 0
            for entry in os.scandir(self._folder):
                with contextlib.suppress(FileNotFoundError):
                    size += entry.stat().st_size
            lost = dict(self._cursors.execute("SELECT name, lost FROM cursor WHERE lost > 0").fetchall())
            first, oldest_ns = 0, 0
            for at in firsts:
                with contextlib.suppress(sqlite3.OperationalError):
                    row = self._reader(at).execute("SELECT first, received_ns FROM block ORDER BY first LIMIT 1")
                    if (found := row.fetchone()) is not None:
                        first, oldest_ns = found
                        break
            return JournalHealth(first, self.last(), oldest_ns, size, self._fsync_ms, self._trouble, lost)

    def retain(self, now_ns: int | None = None) -> Mapping[str, int]:
        """Delete files that are too old or too many; the writer calls it now and then.

        A file that an output has not passed stays until `hold_days` and `hold_gib` are used up, too. What cursors
        then lose is counted and returned, by their names. Under a legal hold nothing is deleted.
        """
        if self.held():
            return {}
        with self._lock:
            settings = self._settings
            now_ns = time.time_ns() if now_ns is None else now_ns
            cursors = self.cursors()
            slowest = min(cursors.values(), default=None)
            lost: dict[str, int] = {}
            while len(firsts := self._list()) > 1:
                first, following = firsts[0], firsts[1]
                size = sum(e.stat().st_size for e in os.scandir(self._folder))
                newest = self._reader(first).execute("SELECT max(received_ns) FROM block").fetchone()[0] or 0
                age_ns = now_ns - newest
                spent = age_ns > settings.keep_days * _DAY_NS or size > settings.keep_gib * (1 << 30)
                held = slowest is not None and slowest < following - 1
                beyond = age_ns > (settings.keep_days + settings.hold_days) * _DAY_NS or (
                    size > (settings.keep_gib + settings.hold_gib) * (1 << 30)
                )
                if not spent or (held and not beyond):
                    break
                for name, seq in cursors.items():
                    missed = max(0, following - 1 - max(seq, first - 1))
                    if missed:
                        lost[name] = lost.get(name, 0) + missed
                self._delete(first)
            if lost:
                with self._transaction(self._cursors):
                    for name, count in lost.items():
                        self._cursors.execute("UPDATE cursor SET lost = lost + ? WHERE name = ?", (count, name))
                        log.warning("retention deleted alerts that an output had not passed: %s: %d", name, count)
            return lost

    def hold(self, reason: str) -> None:
        """See `base.Journal`."""
        try:
            with self._lock, self._transaction(self._cursors):
                self._cursors.execute("DELETE FROM fact WHERE name = 'hold'")
                if reason:
                    self._cursors.execute("INSERT INTO fact VALUES ('hold', ?)", (reason,))
        except sqlite3.Error as error:
            raise JournalError(f"the hold of {self._folder} cannot be changed: {error}") from error

    def held(self) -> str:
        """See `base.Journal`."""
        with self._lock:
            row = self._cursors.execute("SELECT value FROM fact WHERE name = 'hold'").fetchone()
        return "" if row is None else str(row[0])

    def _delete(self, first: int) -> None:
        if first in self._open:
            self._open.pop(first).close()
        path = self._path(first)
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        self._seen_dir_ns = -1
        for at in [at for at in self._blocks if at < (self._list() or [0])[0]]:
            self._cached_bytes -= self._blocks.pop(at)[1]

    def close(self) -> None:
        """Release files."""
        with self._lock:
            for connection in (*self._open.values(), self._cursors, *([self._current] if self._current else [])):
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
            self._open.clear()
            self._current = None
