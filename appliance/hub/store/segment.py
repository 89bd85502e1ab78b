"""One slice of the index: up to half a million alerts in a SQLite file of their own.

Comes in: alerts in one transaction. Goes out: rows by number. A row's number is its time: milliseconds since the
epoch, then eight bits of its place in the journal, so the order of rows is the order of time and a range of time is a
range of numbers. Retention removes whole files. Never: an alert here twice, or one that the figures do not count.

    rows     the alert itself, compressed        ids     digest of its id -> row
    narrow   its dimensions as small numbers     names   those numbers -> values, per dimension
    words    FTS5 over text and facets' tokens   rolled  counts by dimension and slot of a minute, an hour, a day
    kinds    what many alerts share              cells   counts by kind, host and slot of an hour, a day
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import zstandard

from appliance.hub.alert import HubAlert, JsonValue
from appliance.hub.query.predicate import own_value
from appliance.hub.query.words import MARK, searched
from appliance.hub.store import cells
from appliance.hub.store.base import DIMENSIONS, Span
from appliance.hub.store.compile import EVERY, KIND_LETTER, LETTERS, Query, compile_tree
from appliance.model.alert import Priority
from appliance.model.expr import Expr
from appliance.model.text import json_safe

SHIFT = 8
_LAST_MS = 2**54 - 2  # far beyond the year 9999
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
COLUMNS = {name: f"d{n}" for n, name in enumerate(DIMENSIONS)} | {"priority": "prio"}
PRIORITY_DIM = len(DIMENSIONS)
LEVELS_MS = (MINUTE_MS, HOUR_MS, 24 * HOUR_MS)
"""The lengths of slots. Minutes are counted for priorities alone."""

_DIMS = ", ".join(f"d{n} INTEGER" for n in range(len(DIMENSIONS)))
_SCHEMA = f"""
CREATE TABLE rows(row INTEGER PRIMARY KEY, seq INTEGER NOT NULL, dict INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE ids(digest INTEGER PRIMARY KEY, row INTEGER NOT NULL);
CREATE TABLE narrow(row INTEGER PRIMARY KEY, prio INTEGER, {_DIMS});
CREATE TABLE names(dim INTEGER, number INTEGER, value TEXT, PRIMARY KEY(dim, number)) WITHOUT ROWID;
CREATE TABLE rolled(dim INTEGER, level INTEGER, slot INTEGER, number INTEGER, n INTEGER NOT NULL,
    PRIMARY KEY(dim, level, slot, number)) WITHOUT ROWID;
CREATE TABLE dicts(number INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5(text, content='', columnsize=0, tokenize="ascii tokenchars '_'");
INSERT INTO meta VALUES ('watermark', 0), ('alerts', 0), ('sealed', 0);
{cells.SCHEMA}"""
_KIND_PLACES = tuple(DIMENSIONS.index(name) for name in cells.KIND_DIMENSIONS)
_HOST_PLACE = DIMENSIONS.index("hostname")


class _Body(msgspec.Struct, array_like=True):
    id: str
    ts_ns: int
    received_ns: int
    hostname: str
    rule: str
    priority: int
    source: str
    tags: list[str]
    output: str
    fields: dict[str, msgspec.Raw]


_PRIORITIES = tuple(sorted(Priority))
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


def pack(alert: HubAlert) -> bytes:
    """An alert as JSON, without its place in the journal."""
    values = (
        alert.id, alert.ts_ns, alert.received_ns, alert.hostname, alert.rule, int(alert.priority), alert.source,
        alert.tags, alert.output, alert.fields,
    )  # fmt: skip
    try:
        return _encoder.encode(values)
    except UnicodeEncodeError:  # lone surrogates, which JSON of strangers may carry
        return json_safe(json.dumps(values, ensure_ascii=False)).encode()


def unpack(data: bytes, seq: int) -> HubAlert:
    """Undo `pack`."""
    id_, ts_ns, received_ns, hostname, rule, priority, source, tags, output, fields = _decoder.decode(data)
    return HubAlert(
        seq, id_, ts_ns, received_ns, hostname, rule, _PRIORITIES[priority], source, tuple(tags), output, fields
    )  # fmt: skip


def row_of(alert: HubAlert) -> int:
    """The number that an alert would like to have."""
    return (min(max(0, alert.ts_ns) // 1_000_000, _LAST_MS) << SHIFT) | (alert.seq & ((1 << SHIFT) - 1))


def rows_of(span: Span) -> tuple[int, int]:
    """First and last row number of a range of time: no alert of the range lies outside."""
    end_ms = min(-(-span.to_ns // 1_000_000), _LAST_MS + 1)
    return min(max(0, span.from_ns) // 1_000_000, _LAST_MS) << SHIFT, (end_ms << SHIFT) - 1


def _rows_of_slot(level: int, slot: int) -> tuple[int, int]:
    length_ms = LEVELS_MS[level]
    return slot * length_ms << SHIFT, ((slot + 1) * length_ms << SHIFT) - 1


def digest_of(id_: str) -> int:
    """63 bits of an id."""
    raw = hashlib.blake2b(id_.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(raw, "big") >> 1


def dimension_value(alert: HubAlert, dimension: str) -> JsonValue:
    """The value that an alert has there; None where absent."""
    return (alert.tags or None) if dimension == "tags" else own_value(alert, dimension)


def _with(dimension: str, value: JsonValue) -> HubAlert:
    """An alert that has this value there and nothing else."""
    text = value if isinstance(value, str) else ""
    tags = tuple(str(v) for v in value) if dimension == "tags" and isinstance(value, list | tuple) else ()
    fields = {} if dimension in ("rule", "hostname", "source", "tags") or value is None else {dimension: value}
    return HubAlert(
        0, "", 0, 0, text if dimension == "hostname" else "", text if dimension == "rule" else "", Priority.DEBUG,
        text if dimension == "source" else "", tags, "", fields,
    )  # fmt: skip


def _with_kind(priority: int, rule: JsonValue, source: JsonValue, tags: JsonValue, process: JsonValue) -> HubAlert:
    """An alert of that kind."""
    return replace(
        _with("proc.name", process),
        priority=Priority(priority),
        rule=str(rule or ""),
        source=str(source or ""),
        tags=tuple(map(str, tags)) if isinstance(tags, list | tuple) else (),
    )


class Names:
    """The dictionary of one segment: values of dimensions and kinds, and their numbers. Grows; never changes."""

    def __init__(self) -> None:
        self.kinds: dict[tuple[int, ...], int] = {}
        self.kind_keys: dict[int, tuple[int, ...]] = {}
        self.kind_samples: dict[int, HubAlert] = {}
        self.numbers: dict[tuple[int, str], int] = {}
        self.samples: dict[str, dict[int, HubAlert]] = {name: {} for name in DIMENSIONS}
        self.values: dict[str, dict[int, JsonValue]] = {name: {} for name in DIMENSIONS}

    def load(self, db: sqlite3.Connection, *, with_kinds: bool) -> None:
        """Read what has been added."""
        kinds = []
        if with_kinds:  # before the values, so that those of each kind are known
            sql = "SELECT * FROM kinds WHERE number >= ? ORDER BY number"
            kinds = db.execute(sql, (len(self.kinds),)).fetchall()
        for dim, name in enumerate(DIMENSIONS):
            known = len(self.values[name])
            for number, text in db.execute(
                "SELECT number, value FROM names WHERE dim = ? AND number >= ? ORDER BY number", (dim, known)
            ):
                self.add(dim, text, number)
        for number, *key in kinds:
            self.add_kind(tuple(key), number)

    def add_kind(self, key: tuple[int, ...], number: int) -> None:
        """Remember a kind: its priority and the numbers of `cells.KIND_DIMENSIONS`."""
        self.kinds[key] = number
        self.kind_keys[number] = key
        values = [self.values[name][n] for name, n in zip(cells.KIND_DIMENSIONS, key[1:], strict=True)]
        self.kind_samples[number] = _with_kind(key[0], *values)

    def add(self, dim: int, text: str, number: int) -> None:
        """Remember one value, JSON in `text`."""
        value = json.loads(text)
        name = DIMENSIONS[dim]
        self.numbers[dim, text] = number
        self.values[name][number] = value
        self.samples[name][number] = _with(name, value)


class Segment:
    """A connection to one file. Used by one thread at a time."""

    def __init__(self, path: Path, *, writable: bool = False, create: bool = False) -> None:
        self.path = path
        uri = f"file:{path}?mode={'rwc' if create else 'rw' if writable else 'ro'}"
        self.db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10.0, check_same_thread=False)
        self.db.execute("PRAGMA mmap_size = 268435456")
        self.db.execute("PRAGMA temp_store = MEMORY")
        self.hits: tuple[str, int, int, int] | None = None
        """The search whose matches stand in `temp.hits`: a page asks for several figures of the same one."""
        self._names = Names()
        self._names_version = -1
        self._dicts: dict[int, zstandard.ZstdDecompressor] = {0: zstandard.ZstdDecompressor()}
        if create:
            self.db.execute("PRAGMA page_size = 8192")
            self.db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.executescript(_SCHEMA)
        tables = {name for (name,) in self.db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        self.has_cells = "cells" in tables
        """False in files of versions before cells: what they cannot count quickly, they count from the index."""
        if writable:
            self.db.execute("PRAGMA synchronous = NORMAL")
            self.db.execute("PRAGMA cache_size = -65536")
            self.db.execute("PRAGMA wal_autocheckpoint = 4000")

    # -- writing

    def append(self, alerts: Sequence[HubAlert], packed: Sequence[bytes], dictionary: bytes | None) -> None:
        """Add alerts, none of which is here, in one transaction. `dictionary` is for compression, kept here once."""
        if not alerts:
            return
        names = self.names()
        compress, number = self._compressor(dictionary)
        taken = self._taken(map(row_of, alerts))
        rows: list[tuple[int, int, int, bytes]] = []
        narrow: list[tuple[int, ...]] = []
        words: list[tuple[int, str]] = []
        ids: list[tuple[int, int]] = []
        fresh: list[tuple[int, int, str]] = []
        fresh_kinds: list[tuple[int, ...]] = []
        tally = cells.Tally()
        rolled: Counter[tuple[int, int, int, int]] = Counter()
        for alert, body in zip(alerts, packed, strict=True):
            row = row_of(alert)
            while row in taken:
                row += 1
            taken.add(row)
            at_ms = row >> SHIFT
            hour = at_ms // HOUR_MS
            priority = int(alert.priority)
            tokens = [EVERY, f"{MARK}p{priority}"]
            numbers: list[int] = [row, priority]
            rolled[PRIORITY_DIM, 0, at_ms // MINUTE_MS, priority] += 1
            rolled[PRIORITY_DIM, 1, hour, priority] += 1
            for dim, name in enumerate(DIMENSIONS):
                value = dimension_value(alert, name)
                text = "null" if value is None else json.dumps(value)
                name_number = names.numbers.get((dim, text))
                if name_number is None:
                    name_number = len(names.values[name])
                    names.add(dim, text, name_number)
                    fresh.append((dim, name_number, text))
                numbers.append(name_number)
                tokens.append(f"{MARK}{LETTERS[name]}{name_number}")
                rolled[dim, 1, hour, name_number] += 1
            if self.has_cells:
                key = (priority, *[numbers[2 + place] for place in _KIND_PLACES])
                kind = names.kinds.get(key)
                if kind is None:
                    kind = len(names.kinds)
                    names.add_kind(key, kind)
                    fresh_kinds.append((kind, *key))
                tokens.append(f"{MARK}{KIND_LETTER}{kind}")
                tally.add(hour, numbers[2 + _HOST_PLACE], kind, row)
            rows.append((row, alert.seq, number, compress(body)))
            narrow.append(tuple(numbers))
            words.append((row, " ".join((*tokens, searched(alert)))))
            ids.append((digest_of(alert.id), row))
        self.db.execute("BEGIN IMMEDIATE")
        try:
            self._write(rows, narrow, sorted(words), sorted(ids), fresh, rolled)
            if self.has_cells:
                self.db.executemany("INSERT INTO kinds VALUES (?, ?, ?, ?, ?, ?)", fresh_kinds)
                tally.write(self.db)
            self.db.execute(
                "UPDATE meta SET value = max(value, ?) WHERE key = 'watermark'", (max(a.seq for a in alerts),)
            )
            self.db.execute("UPDATE meta SET value = value + ? WHERE key = 'alerts'", (len(alerts),))
            self.db.execute("COMMIT")
        except BaseException:
            self.db.execute("ROLLBACK")
            self._names = Names()
            self._names_version = -1
            raise

    def _write(
        self,
        rows: Sequence[tuple[int, int, int, bytes]],
        narrow: Sequence[tuple[int, ...]],
        words: Sequence[tuple[int, str]],
        ids: Sequence[tuple[int, int]],
        fresh: Sequence[tuple[int, int, str]],
        rolled: Counter[tuple[int, int, int, int]],
    ) -> None:
        many = self.db.executemany
        many("INSERT INTO names VALUES (?, ?, ?)", fresh)
        many("INSERT INTO rows VALUES (?, ?, ?, ?)", sorted(rows))
        many(
            f"INSERT INTO narrow VALUES ({', '.join('?' * (2 + len(DIMENSIONS)))})",
            sorted(narrow),
        )
        many("INSERT INTO words(rowid, text) VALUES (?, ?)", words)
        many("INSERT OR REPLACE INTO ids VALUES (?, ?)", ids)
        for (dim, level, slot, number), n in list(rolled.items()):
            if level == 1:
                rolled[dim, 2, slot // 24, number] += n
        many(
            "INSERT INTO rolled VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n",
            [(*key, n) for key, n in rolled.items()],
        )

    def _taken(self, wanted: Iterable[int]) -> set[int]:
        """Row numbers in use among those that these rows may get."""
        numbers = sorted(set(wanted))
        taken: set[int] = set()
        last = self.db.execute("SELECT max(row) FROM rows").fetchone()[0]
        if last is None:
            return taken
        for number in numbers:
            if number <= last:
                taken.update(
                    r
                    for (r,) in self.db.execute("SELECT row FROM rows WHERE row BETWEEN ? AND ?", (number, number + 64))
                )
        return taken

    def _compressor(self, dictionary: bytes | None) -> tuple[Callable[[bytes], bytes], int]:
        if dictionary is None:
            return zstandard.ZstdCompressor(level=1).compress, 0
        if not hasattr(self, "_kept"):
            found = self.db.execute("SELECT number, data FROM dicts ORDER BY number DESC LIMIT 1").fetchone()
            if found is None:
                self.db.execute("INSERT INTO dicts VALUES (1, ?)", (dictionary,))
                found = (1, dictionary)
            data = zstandard.ZstdCompressionDict(found[1])
            self._kept = (zstandard.ZstdCompressor(level=3, dict_data=data).compress, int(found[0]))
        return self._kept

    def seal(self) -> None:
        """No more alerts come: put the log of SQLite into the file."""
        self.db.execute("UPDATE meta SET value = 1 WHERE key = 'sealed'")
        self.db.execute("INSERT INTO words(words) VALUES ('optimize')")
        # by `executescript`: it steps to the end a statement that yields no row, `execute` frees one page
        self.db.executescript("PRAGMA incremental_vacuum")
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def remove(self, rows: Sequence[int]) -> int:
        """Delete rows and what the index and the figures know of them."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            touched = {cell for row in rows if (cell := self._forget(row)) is not None}
            cells.count_again(self.db, touched, self._names.kind_keys, _rows_of_slot)
            self.db.execute("UPDATE meta SET value = value - ? WHERE key = 'alerts'", (len(rows),))
            self.db.execute("COMMIT")
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        return len(rows)

    def _forget(self, row: int) -> tuple[int, int, int] | None:
        """Delete a row; gives the cell that counted it: hour, host, kind."""
        alert = self.alert(row)
        numbers = self.db.execute("SELECT * FROM narrow WHERE row = ?", (row,)).fetchone()
        tokens = [EVERY, f"{MARK}p{numbers[1]}"]
        tokens += [f"{MARK}{LETTERS[name]}{number}" for name, number in zip(DIMENSIONS, numbers[2:], strict=True)]
        cell = None
        if self.has_cells:
            kind = self.names().kinds[(numbers[1], *[numbers[2 + place] for place in _KIND_PLACES])]
            tokens.append(f"{MARK}{KIND_LETTER}{kind}")
            cell = ((row >> SHIFT) // HOUR_MS, numbers[2 + _HOST_PLACE], kind)
        self.db.execute(
            "INSERT INTO words(words, rowid, text) VALUES ('delete', ?, ?)",
            (row, " ".join((*tokens, searched(alert)))),
        )
        at_ms = row >> SHIFT
        for dim, number in enumerate((*numbers[2:], numbers[1])):
            for level, length_ms in enumerate(LEVELS_MS):
                self.db.execute(
                    "UPDATE rolled SET n = n - 1 WHERE dim = ? AND level = ? AND slot = ? AND number = ?",
                    (dim, level, at_ms // length_ms, number),
                )
        for table in ("rows", "narrow"):
            self.db.execute(f"DELETE FROM {table} WHERE row = ?", (row,))
        self.db.execute("DELETE FROM ids WHERE digest = ?", (digest_of(alert.id),))
        return cell

    # -- reading

    def names(self) -> Names:
        """The dictionary, as of now."""
        [version] = self.db.execute("PRAGMA data_version").fetchone()
        if version != self._names_version:  # another connection has written
            self._names.load(self.db, with_kinds=self.has_cells)
            self._names_version = version
        return self._names

    def meta(self, key: str) -> int:
        """One of `watermark`, `alerts`, `sealed`."""
        return int(self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()[0])

    def bounds(self) -> tuple[int, int]:
        """Lowest and highest row number; (0, -1) when empty."""
        low, high = self.db.execute("SELECT min(row), (SELECT max(row) FROM rows) FROM rows").fetchone()
        return (0, -1) if low is None else (int(low), int(high))

    def query(self, tree: Expr) -> Query:
        """What the index can answer of a tree."""
        names = self.names()
        return compile_tree(tree, names.samples.__getitem__, names.kind_samples)

    def wanted(self, tree: Expr) -> cells.Wanted | None:
        """The cells that hold what a tree matches, None where they cannot tell."""
        if not self.has_cells:
            return None
        names = self.names()
        return cells.wanted_of(tree, names.kind_samples, names.samples["hostname"])

    def matching(self, text: str, low: int, high: int, *, newest_first: bool = True) -> Iterator[int]:
        """Row numbers that a query finds, in order."""
        order = "DESC" if newest_first else "ASC"
        found = self.db.execute(
            f"SELECT rowid FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ? ORDER BY rowid {order}",
            (text, low, high),
        )
        for (row,) in found:
            yield row

    def all_rows(self, low: int, high: int, *, newest_first: bool = True) -> Iterator[tuple[int, HubAlert]]:
        """Every alert of a range, in order."""
        order = "DESC" if newest_first else "ASC"
        for row, seq, number, body in self.db.execute(
            f"SELECT row, seq, dict, body FROM rows WHERE row BETWEEN ? AND ? ORDER BY row {order}",
            (low, high),
        ):
            yield row, unpack(self._plain(number, body), seq)

    def alert(self, row: int) -> HubAlert:
        """The alert of a row."""
        seq, number, body = self.db.execute("SELECT seq, dict, body FROM rows WHERE row = ?", (row,)).fetchone()
        return unpack(self._plain(number, body), seq)

    def find(self, id_: str) -> int | None:
        """The row of an id."""
        found = self.db.execute("SELECT row FROM ids WHERE digest = ?", (digest_of(id_),)).fetchone()
        return None if found is None or self.alert(found[0]).id != id_ else int(found[0])

    def _plain(self, number: int, body: bytes) -> bytes:
        reader = self._dicts.get(number)
        if reader is None:
            [data] = self.db.execute("SELECT data FROM dicts WHERE number = ?", (number,)).fetchone()
            reader = zstandard.ZstdDecompressor(dict_data=zstandard.ZstdCompressionDict(data))
            self._dicts[number] = reader
        return reader.decompress(body)

    def close(self) -> None:
        """Release the file."""
        self.db.close()
