"""Stored alerts in SQLite: a file per slice, each with its own index.

Comes in: alerts in the order of the journal. Goes out: what `base.Store` promises. One process appends; each thread
that reads has connections of its own. Never: work that grows with what lies outside the range asked for.
"""

from __future__ import annotations

import heapq
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import zstandard

from appliance.hub.alert import HubAlert, JsonValue
from appliance.hub.query.predicate import predicate
from appliance.hub.query.tree import conjunction
from appliance.hub.query.words import MARK, text_of
from appliance.hub.store import cells
from appliance.hub.store.base import (
    DIMENSIONS,
    GROUP_KEYS,
    Group,
    Groups,
    Histogram,
    Page,
    Span,
    StoreHealth,
)
from appliance.hub.store.segment import (
    COLUMNS,
    HOUR_MS,
    LEVELS_MS,
    MINUTE_MS,
    PRIORITY_DIM,
    SHIFT,
    Segment,
    pack,
    row_of,
    rows_of,
)
from appliance.model.alert import Priority
from appliance.model.expr import TRUE, And, Check, Expr, FieldRef, Word
from appliance.model.field import Operator

SEGMENT_ROWS = 500_000
SEGMENT_MS = 24 * HOUR_MS
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 604800)
_BATCH = 500
_GROUP_TOPS = ("hostname", "container.name", "user.name")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A query in one segment: FTS5's text, "" with `hits`; `low` and `high` are row numbers."""

    text: str
    low: int
    high: int
    everything: bool
    hits: bool

    def source(self) -> tuple[str, tuple[int | str, ...]]:
        """The FROM and WHERE of a query over `narrow n`, and what is bound in it."""
        if self.hits:
            return "temp.hits h CROSS JOIN narrow n ON n.row = h.row WHERE 1", ()
        if self.everything:
            return "narrow n WHERE n.row BETWEEN ? AND ?", (self.low, self.high)
        return (
            "words w CROSS JOIN narrow n ON n.row = w.rowid WHERE words MATCH ? AND w.rowid BETWEEN ? AND ?",
            (self.text, self.low, self.high),
        )


@dataclass(frozen=True, slots=True)
class _Cells:
    """Cells of one segment: those of a level from slot `first` to slot `last`."""

    wanted: cells.Wanted
    level: int
    first: int
    last: int

    def rows(self, segment: Segment, *, by_host: bool = False) -> Iterator[tuple[int, int, int, int, int, int]]:
        """See `cells.rows_of_cells`."""
        found = list(cells.rows_of_cells(segment.db, self.wanted, self.level, self.first, self.last, by_host=by_host))
        segment.names()  # again: an alert that came meanwhile may be of a new kind
        yield from found


_CELL_DIMENSIONS = frozenset(("priority", "hostname", *cells.KIND_DIMENSIONS))


class SqliteStore:
    """`base.Store` over the files of one folder."""

    def __init__(self, folder: Path, *, segment_rows: int = SEGMENT_ROWS) -> None:
        self._folder = folder
        self._segment_rows = segment_rows
        folder.mkdir(parents=True, exist_ok=True)
        self._local = threading.local()
        self._writer: Segment | None = None
        self._written = 0
        self._lowest_ms = 0
        self._dictionary: bytes | None = None
        self._samples: list[bytes | bytearray | memoryview] = []
        self._sealed: dict[str, tuple[int, int]] = {}

    # -- writing

    def append(self, alerts: Sequence[HubAlert]) -> int:
        """See `base.Store`."""
        writer = self._current()
        known = self.watermark()
        fresh = [alert for alert in alerts if alert.seq > known]
        done = 0
        while done < len(fresh):
            part = fresh[done : done + max(1, self._segment_rows - self._written)]
            packed = [pack(alert) for alert in part]
            writer.append(part, packed, self._trained(packed))
            self._written += len(part)
            done += len(part)
            if self._written >= self._segment_rows or self._too_long(part):
                writer = self._roll(writer)
        return len(fresh)

    def _too_long(self, part: Sequence[HubAlert]) -> bool:
        first = self._lowest_ms or min(row_of(a) for a in part) >> SHIFT
        self._lowest_ms = first
        return self._written > 50_000 and (max(row_of(a) for a in part) >> SHIFT) - first > SEGMENT_MS

    def _trained(self, packed: Sequence[bytes]) -> bytes | None:
        """A dictionary for compression, made once of the first alerts of this process."""
        if self._dictionary is None:
            self._samples += packed[: 2000 - len(self._samples)]
            if len(self._samples) >= 1000:
                self._dictionary = zstandard.train_dictionary(65_536, self._samples).as_bytes()
                self._samples = []
        return self._dictionary

    def _current(self) -> Segment:
        if self._writer is None:
            paths = self._paths()
            writer = Segment(paths[-1], writable=True) if paths else None
            if writer is None or writer.meta("sealed"):
                writer = self._create(len(paths) and int(paths[-1].stem.rpartition("-")[2]))
            self._written = writer.meta("alerts")
            self._writer = writer
        return self._writer

    def _create(self, after: int) -> Segment:
        path = self._folder / f"segment-{after + 1:06}.db"
        made = self._folder / "segment.new"
        for leftover in self._folder.glob("segment.new*"):
            leftover.unlink()
        segment = Segment(made, writable=True, create=True)
        segment.close()
        made.rename(path)
        return Segment(path, writable=True)

    def _roll(self, writer: Segment) -> Segment:
        number = int(writer.path.stem.rpartition("-")[2])
        known = writer.meta("watermark")
        writer.seal()
        writer.close()
        self._writer = self._create(number)
        self._writer.db.execute("UPDATE meta SET value = ? WHERE key = 'watermark'", (known,))
        self._written = 0
        self._lowest_ms = 0
        return self._writer

    def watermark(self) -> int:
        """See `base.Store`."""
        segments = self._segments()
        return segments[-1].meta("watermark") if segments else 0

    def patch(self, id_: str, fields: Mapping[str, JsonValue]) -> bool:
        """See `base.Store`."""
        for segment in self._segments():
            row = segment.find(id_)
            if row is None:
                continue
            alert = segment.alert(row)
            changed = replace(alert, fields={**alert.fields, **fields})
            with _writing(segment.path) as writer:
                known = writer.meta("watermark")
                writer.remove([row])
                writer.append([changed], [pack(changed)], None)
                writer.db.execute("UPDATE meta SET value = ? WHERE key = 'watermark'", (known,))
            return True
        return False

    def remove(self, tree: Expr, span: Span) -> int:
        """See `base.Store`."""
        removed = 0
        for segment in self._segments():
            rows = list(self._rows(segment, *_narrowed(tree, span), newest_first=False))
            if rows:
                with _writing(segment.path) as writer:
                    for start in range(0, len(rows), _BATCH):
                        removed += writer.remove(rows[start : start + _BATCH])
                self._sealed.pop(segment.path.name, None)
        return removed

    def drop_before(self, ts_ns: int) -> int:
        """See `base.Store`. Here: whole files, once all in them is older."""
        dropped = 0
        limit = row_of(HubAlert(0, "", ts_ns, 0, "", "", Priority.DEBUG, "", (), "", {}))
        for segment in self._segments()[:-1]:
            if segment.bounds()[1] < limit and segment.meta("sealed"):
                dropped += segment.meta("alerts")
                self._unlink(segment.path)
        return dropped

    def drop_oldest(self) -> int:
        """Let go of the oldest file that takes no more alerts; how many alerts it had. 0 where there is none."""
        for segment in self._segments()[:-1]:
            if segment.meta("sealed"):
                dropped = segment.meta("alerts")
                self._unlink(segment.path)
                return dropped
        return 0

    def _unlink(self, path: Path) -> None:
        for file in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
            file.unlink(missing_ok=True)

    # -- reading

    def search(self, tree: Expr, span: Span, *, newest_first: bool = True, limit: int = 50, cursor: str = "") -> Page:
        """See `base.Store`."""
        alerts: list[HubAlert] = []
        last = ""
        for number, row, segment in self._merged(tree, span, newest_first, cursor):
            if len(alerts) == limit:
                return Page(alerts, last)
            alerts.append(segment.alert(row))
            last = f"{row}.{number}"
        return Page(alerts, "")

    def scan(self, tree: Expr, span: Span, *, newest_first: bool = True) -> Iterator[HubAlert]:
        """See `base.Store`."""
        if tree == TRUE and not newest_first:
            yield from self._all(span)
            return
        for _, row, segment in self._merged(tree, span, newest_first, ""):
            yield segment.alert(row)

    def _all(self, span: Span) -> Iterator[HubAlert]:
        tree, span = _narrowed(TRUE, span)
        low, high = rows_of(span)
        streams = [
            s.all_rows(low, high, newest_first=False) for s in self._segments() if _meets(self._bounds(s), low, high)
        ]
        judge = predicate(tree)
        for _, alert in heapq.merge(*streams, key=lambda pair: pair[0]):
            if judge(alert):
                yield alert

    def get(self, id_: str) -> HubAlert | None:
        """See `base.Store`."""
        for segment in reversed(self._segments()):
            row = segment.find(id_)
            if row is not None:
                return segment.alert(row)
        return None

    def count(self, tree: Expr, span: Span) -> int:
        """See `base.Store`."""
        tree, span = _narrowed(tree, span)
        if tree == TRUE:
            return sum(n for _, n in self._rolled(span, "priority"))
        total = 0
        for segment, asked in self._pieces(tree, span, [1, 2]):
            if isinstance(asked, _Cells):
                total += sum(n for _, _, _, n, _, _ in asked.rows(segment))
            elif asked.hits:
                total += segment.db.execute("SELECT count(*) FROM temp.hits").fetchone()[0]
            else:
                total += segment.db.execute(
                    "SELECT count(*) FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ?",
                    (asked.text, asked.low, asked.high),
                ).fetchone()[0]
        return total

    def histogram(self, tree: Expr, span: Span, bins: int = 60) -> Histogram:
        """See `base.Store`. Bins are a round number of seconds long and start at round times."""
        tree, span = _narrowed(tree, span)
        span = self.within(span)
        wanted_s = span.length_ns / 1e9 / bins
        step_ms = next((s for s in _STEPS_S if s >= wanted_s), max(1, round(wanted_s / 604800)) * 604800) * 1000
        first = span.from_ns // 1_000_000 // step_ms
        last = max(first, -(-span.to_ns // 1_000_000) // step_ms)
        counts = [[0] * 8 for _ in range(min(last - first + 1, 2 * bins + 2))]
        for at, priority, n in self._binned(tree, span, step_ms):
            if 0 <= at - first < len(counts):
                counts[at - first][priority] += n
        return Histogram(first * step_ms * 1_000_000, step_ms * 1_000_000, counts)

    def _binned(self, tree: Expr, span: Span, step_ms: int) -> Iterator[tuple[int, int, int]]:
        if tree == TRUE and step_ms % MINUTE_MS == 0:
            yield from self._binned_minutes(span, step_ms)
            return
        levels = [n for n in (1, 2) if step_ms % LEVELS_MS[n] == 0]
        for segment, asked in self._pieces(tree, span, levels):
            if isinstance(asked, _Cells):
                keys = segment.names().kind_keys
                slots: Counter[tuple[int, int]] = Counter()
                for slot, _, kind, n, _, _ in asked.rows(segment):
                    slots[slot, kind] += n
                for (slot, kind), n in slots.items():
                    yield slot * LEVELS_MS[asked.level] // step_ms, keys[kind][0], n
                continue
            if not asked.hits and not asked.everything:
                for priority in range(8):
                    for at, n in segment.db.execute(
                        f"SELECT (rowid >> {SHIFT}) / ?, count(*) FROM words"
                        " WHERE words MATCH ? AND rowid BETWEEN ? AND ? GROUP BY 1",
                        (step_ms, f"({asked.text}) AND {MARK}p{priority}", asked.low, asked.high),
                    ):
                        yield at, priority, n
                continue
            source, bound = asked.source()
            yield from segment.db.execute(
                f"SELECT (n.row >> {SHIFT}) / ?, n.prio, count(*) FROM {source} GROUP BY 1, 2",
                (step_ms, *bound),
            )

    def _binned_minutes(self, span: Span, step_ms: int) -> Iterator[tuple[int, int, int]]:
        low, high = rows_of(span)
        slots, edges = _cover(low, high, [n for n, length_ms in enumerate(LEVELS_MS) if step_ms % length_ms == 0])
        for segment in self._meeting(low, high):
            for level, first, last in slots:
                yield from segment.db.execute(
                    "SELECT slot * ? / ?, number, sum(n) FROM rolled"
                    " WHERE dim = ? AND level = ? AND slot BETWEEN ? AND ? GROUP BY 1, 2",
                    (LEVELS_MS[level], step_ms, PRIORITY_DIM, level, first, last),
                )
            for edge in edges:
                yield from segment.db.execute(
                    f"SELECT (row >> {SHIFT}) / ?, prio, count(*) FROM narrow WHERE row BETWEEN ? AND ? GROUP BY 1, 2",
                    (step_ms, *edge),
                )

    def top(self, tree: Expr, span: Span, dimension: str, limit: int = 10) -> Sequence[tuple[str | None, int]]:
        """See `base.Store`."""
        column = COLUMNS[dimension]
        tree, span = _narrowed(tree, span)
        if tree == TRUE:
            return _most(self._rolled(span, dimension), limit)
        found: Counter[str | None] = Counter()
        known = dimension in _CELL_DIMENSIONS
        for segment, asked in self._pieces(tree, span, [1, 2]) if known else self._asked(tree, span):
            read = _reader(segment, dimension)
            if isinstance(asked, _Cells):
                numbers: Counter[int] = Counter()
                place = _place(segment, dimension)
                for _, host, kind, n, _, _ in asked.rows(segment, by_host=dimension == "hostname"):
                    numbers[place(host, kind)] += n
                for number, n in numbers.items():
                    for value in read(number):
                        found[value] += n
                continue
            source, bound = asked.source()
            for number, n in segment.db.execute(f"SELECT n.{column}, count(*) FROM {source} GROUP BY 1", bound):
                for value in read(number):
                    found[value] += n
        return _most(found.items(), limit)

    def _rolled(self, span: Span, dimension: str) -> Sequence[tuple[str | None, int]]:
        low, high = rows_of(span)
        dim = PRIORITY_DIM if dimension == "priority" else DIMENSIONS.index(dimension)
        slots, edges = _cover(low, high, [0, 1, 2] if dim == PRIORITY_DIM else [1, 2])
        found: Counter[str | None] = Counter()
        for segment in self._meeting(low, high):
            numbers: Counter[int] = Counter()
            for level, first, last in slots:
                for number, n in segment.db.execute(
                    "SELECT number, sum(n) FROM rolled WHERE dim = ? AND level = ? AND slot BETWEEN ? AND ? GROUP BY 1",
                    (dim, level, first, last),
                ):
                    numbers[number] += n
            for edge in edges:
                for number, n in segment.db.execute(
                    f"SELECT {COLUMNS[dimension]}, count(*) FROM narrow WHERE row BETWEEN ? AND ? GROUP BY 1",
                    edge,
                ):
                    numbers[number] += n
            read = _reader(segment, dimension)
            for number, n in numbers.items():
                for value in read(number):
                    found[value] += n
        return [(value, n) for value, n in found.items() if n]

    def groups(
        self,
        tree: Expr,
        span: Span,
        keys: Sequence[str] = GROUP_KEYS,
        *,
        order: str = "last",
        limit: int = 50,
        offset: int = 0,
        bins: int = 24,
        details: bool = True,
    ) -> Groups:
        """See `base.Store`."""
        tree, span = _narrowed(tree, span)
        span = self.within(span)
        columns = ", ".join(f"n.{COLUMNS[key]}" for key in keys)
        merged: dict[tuple[str | None, ...], list[int]] = {}
        in_cells = _CELL_DIMENSIONS.issuperset(keys)
        for segment, asked in self._pieces(tree, span, [1, 2]) if in_cells else self._asked(tree, span):
            read = [_reader(segment, key, whole=True) for key in keys]
            rows: Iterable[tuple[int, ...]]
            if isinstance(asked, _Cells):
                rows = _grouped_cells(segment, asked, keys)
            else:
                source, bound = asked.source()
                rows = segment.db.execute(
                    f"SELECT {columns}, count(*), min(n.row), max(n.row), min(n.prio) FROM {source}"
                    f" GROUP BY {', '.join(str(i + 1) for i in range(len(keys)))}",
                    bound,
                )
            for *raw, n, first, last, worst in rows:
                key = tuple(of(number)[0] for of, number in zip(read, raw, strict=True))
                known = merged.get(key)
                if known is None:
                    merged[key] = [n, first, last, worst]
                else:
                    merged[key] = [known[0] + n, min(known[1], first), max(known[2], last), min(known[3], worst)]
        ranked = sorted(merged.items(), key=_ORDERS[order])[offset : offset + limit]
        groups: Sequence[Group] = [
            Group(dict(zip(keys, key, strict=True)), n, _time_of(first), _time_of(last), worst, {}, {}, [0] * bins)
            for key, (n, first, last, worst) in ranked
        ]
        if details:
            groups = self.details(tree, span, groups, bins=bins)
        return Groups(groups, len(merged), sum(n for n, *_ in merged.values()))

    def details(self, tree: Expr, span: Span, groups: Sequence[Group], *, bins: int = 24) -> Sequence[Group]:
        """See `base.Store`."""
        if not groups:
            return []
        tree, span = _narrowed(tree, span)
        span = self.within(span)
        keys = tuple(groups[0].keys)
        found = {tuple(group.keys.values()): _Details(bins) for group in groups}
        for segment, asked in self._asked(tree, span):
            here = _known_there(segment, keys, found)
            if here:
                self._detail(segment, asked, keys, here, found, span, bins)
        return [
            replace(
                group,
                top={name: c.most_common(3) for name, c in of.tops.items()},
                distinct={name: len(c) for name, c in of.tops.items()},
                spark=of.spark,
            )
            for group, of in zip(groups, found.values(), strict=True)
        ]

    def _detail(
        self,
        segment: Segment,
        asked: _Asked,
        keys: Sequence[str],
        here: Mapping[tuple[int, ...], tuple[str | None, ...]],
        found: Mapping[tuple[str | None, ...], _Details],
        span: Span,
        bins: int,
    ) -> None:
        """Sparklines and the most frequent values of some groups."""
        db = segment.db
        db.execute("DROP TABLE IF EXISTS temp.shown")
        names = ", ".join(f"k{i} INTEGER" for i in range(len(keys)))
        primary = ", ".join(f"k{i}" for i in range(len(keys)))
        db.execute(f"CREATE TEMP TABLE shown({names}, g INTEGER, PRIMARY KEY({primary})) WITHOUT ROWID")
        marks = ", ".join("?" * (len(keys) + 1))
        db.executemany(f"INSERT INTO temp.shown VALUES ({marks})", [(*raw, n) for n, raw in enumerate(here)])
        order = [found[key] for key in here.values()]
        joined = " AND ".join(f"n.{COLUMNS[key]} = g.k{i}" for i, key in enumerate(keys))
        source, bound = asked.source()
        source = source.replace(" WHERE ", f" JOIN temp.shown g ON {joined} WHERE ", 1)
        step_ms = max(1, -(-span.length_ns // 1_000_000 // bins))
        for g, at, n in db.execute(
            f"SELECT g.g, ((n.row >> {SHIFT}) - ?) / ?, count(*) FROM {source} GROUP BY 1, 2",
            (span.from_ns // 1_000_000, step_ms, *bound),
        ):
            order[g].spark[min(max(0, at), bins - 1)] += n
        reads = [_reader(segment, name) for name in _GROUP_TOPS]
        tops = ", ".join(f"n.{COLUMNS[name]}" for name in _GROUP_TOPS)
        for g, *numbers, n in db.execute(f"SELECT g.g, {tops}, count(*) FROM {source} GROUP BY 1, 2, 3, 4", bound):
            for name, read, number in zip(_GROUP_TOPS, reads, numbers, strict=True):
                for value in read(number):
                    if value is not None:
                        order[g].tops[name][value] += n

    def health(self) -> StoreHealth:
        """See `base.Store`."""
        segments = self._segments()
        bounds = [b for s in segments if (b := s.bounds())[1] >= 0]
        size = sum(f.stat().st_size for f in self._folder.glob("segment-*") if f.exists())
        return StoreHealth(
            sum(s.meta("alerts") for s in segments),
            _time_of(min(low for low, _ in bounds)) if bounds else 0,
            _time_of(max(high for _, high in bounds)) if bounds else 0,
            size, len(segments), segments[-1].meta("watermark") if segments else 0, "",
        )  # fmt: skip

    def close(self) -> None:
        """See `base.Store`. Connections of other threads end with them."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for segment in getattr(self._local, "open", {}).values():
            segment.close()
        self._local = threading.local()

    def clear(self) -> None:
        """Let go of everything: the journal fills it again."""
        self.close()
        self._sealed.clear()
        shutil.rmtree(self._folder)
        self._folder.mkdir(parents=True)

    # -- segments

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("segment-*.db"))

    def _segments(self) -> list[Segment]:
        """This thread's connections, oldest file first."""
        known: dict[str, Segment] = getattr(self._local, "open", {})
        self._local.open = known
        paths = self._paths()
        for gone in known.keys() - {path.name for path in paths}:
            known.pop(gone).close()
            self._sealed.pop(gone, None)
        for path in paths:
            if path.name not in known:
                known[path.name] = Segment(path)
        return [known[path.name] for path in paths]

    def _bounds(self, segment: Segment) -> tuple[int, int]:
        bounds = self._sealed.get(segment.path.name)
        if bounds is None:
            sealed = segment.meta("sealed")
            bounds = segment.bounds()
            if sealed:
                self._sealed[segment.path.name] = bounds
        return bounds

    def _meeting(self, low: int, high: int) -> Iterator[Segment]:
        return (segment for segment in self._segments() if _meets(self._bounds(segment), low, high))

    def within(self, span: Span) -> Span:
        """The range, cut to where alerts are: an open end would make endless bins."""
        bounds = [b for s in self._segments() if (b := self._bounds(s))[1] >= 0]
        if not bounds:
            return Span(span.from_ns, max(span.from_ns, min(span.to_ns, span.from_ns + 1)))
        low = _time_of(min(b[0] for b in bounds))
        high = _time_of(max(b[1] for b in bounds)) + 1_000_000
        open_start, open_end = span.from_ns <= 0, span.to_ns >= 2**61
        start = low if open_start else span.from_ns
        return Span(start, max(start, high if open_end else span.to_ns))

    def _pieces(self, tree: Expr, span: Span, levels: Sequence[int]) -> Iterator[tuple[Segment, _Asked | _Cells]]:
        """The range in each file: whole slots of `levels` as cells, if they know the tree; what is left is asked of
        the index."""
        low, high = rows_of(span)
        for segment in self._meeting(low, high):
            wanted = segment.wanted(tree) if levels else None
            if wanted is None:
                yield from self._asked_of(segment, tree, low, high)
                continue
            if wanted.nothing:
                continue
            start, end = self._bounds(segment)
            day = LEVELS_MS[2] << SHIFT  # where the file's alerts end, slots may go on
            slots, edges = _cover(max(low, start // day * day), min(high, (end // day + 1) * day - 1), levels)
            for level, first, last in slots:
                yield segment, _Cells(wanted, level, first, last)
            for edge in edges:
                if _meets((start, end), *edge):
                    yield from self._asked_of(segment, tree, *edge)

    def _asked(self, tree: Expr, span: Span) -> Iterator[tuple[Segment, _Asked]]:
        low, high = rows_of(span)
        for segment in self._meeting(low, high):
            yield from self._asked_of(segment, tree, low, high)

    def _asked_of(self, segment: Segment, tree: Expr, low: int, high: int) -> Iterator[tuple[Segment, _Asked]]:
        """One question, or none where nothing can match."""
        query = segment.query(tree)
        if not query.text:
            return
        if query.exact:
            yield segment, _Asked(query.text, low, high, tree == TRUE, False)
            return
        asked_for = (str(tree), low, high, segment.meta("alerts"))
        if segment.hits != asked_for:
            db = segment.db
            segment.hits = None
            db.execute("DROP TABLE IF EXISTS temp.hits")
            db.execute("CREATE TEMP TABLE hits(row INTEGER PRIMARY KEY)")
            rows = self._rows_between(segment, tree, low, high, newest_first=False)
            while batch := [(row,) for row, _ in zip(rows, range(_BATCH), strict=False)]:
                db.executemany("INSERT INTO temp.hits VALUES (?)", batch)
            segment.hits = asked_for
        yield segment, _Asked("", low, high, False, True)

    def _rows(self, segment: Segment, tree: Expr, span: Span, *, newest_first: bool) -> Iterator[int]:
        low, high = rows_of(span)
        yield from self._rows_between(segment, tree, low, high, newest_first)

    def _rows_between(self, segment: Segment, tree: Expr, low: int, high: int, newest_first: bool) -> Iterator[int]:
        if tree == TRUE:
            order = "DESC" if newest_first else "ASC"
            for (row,) in segment.db.execute(
                f"SELECT row FROM narrow WHERE row BETWEEN ? AND ? ORDER BY row {order}",
                (low, high),
            ):
                yield row
            return
        query = segment.query(tree)
        if not query.text:
            return
        found = segment.matching(query.text, low, high, newest_first=newest_first)
        if query.exact:
            yield from found
            return
        judge = predicate(tree)
        for row in found:
            if judge(segment.alert(row)):
                yield row

    def _merged(self, tree: Expr, span: Span, newest_first: bool, cursor: str) -> Iterator[tuple[int, int, Segment]]:
        """Numbers of file and row of all that matches, in order; a file is asked when its time has come."""
        tree, span = _narrowed(tree, span)
        low, high = rows_of(span)
        after = _read_cursor(cursor)
        sign = -1 if newest_first else 1
        waiting: list[tuple[int, int, Segment]] = []
        for segment in self._meeting(low, high):
            number = int(segment.path.stem.rpartition("-")[2])
            start, end = self._bounds(segment)
            waiting.append((sign * (end if newest_first else start), sign * number, segment))
        waiting.sort(key=lambda entry: entry[:2])
        heap: list[tuple[int, int, Segment, Iterator[int]]] = []
        while waiting or heap:
            while waiting and (not heap or waiting[0][0] <= heap[0][0]):
                _, number, segment = waiting.pop(0)
                here_low, here_high = low, high
                if after is not None:
                    same = 0 if sign * after[1] < number else 1
                    if newest_first:
                        here_high = min(high, after[0] - same)
                    else:
                        here_low = max(low, after[0] + same)
                rows = self._rows_between(segment, tree, here_low, here_high, newest_first)
                first = next(rows, None)
                if first is not None:
                    heapq.heappush(heap, (sign * first, number, segment, rows))
            if not heap:
                continue
            key, number, segment, rows = heap[0]
            yield sign * number, sign * key, segment
            following = next(rows, None)
            if following is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (sign * following, number, segment, rows))


class _Details:
    def __init__(self, bins: int) -> None:
        self.spark = [0] * bins
        self.tops: dict[str, Counter[str | None]] = {name: Counter() for name in _GROUP_TOPS}


class _writing:
    """A segment opened for a change."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Segment:
        self._segment = Segment(self._path, writable=True)
        return self._segment

    def __exit__(self, *exc: object) -> None:
        self._segment.close()


def _known_there(
    segment: Segment, keys: Sequence[str], wanted: Mapping[tuple[str | None, ...], _Details]
) -> dict[tuple[int, ...], tuple[str | None, ...]]:
    """The numbers by which a segment knows groups, of those that it does know."""
    numbers: list[Mapping[str | None, int]] = []
    for place, key in enumerate(keys):
        values = {wanted_key[place] for wanted_key in wanted}
        if key == "priority":
            numbers.append({p.label: p.value for p in Priority})
            continue
        read = _reader(segment, key, whole=True)
        names = segment.names().values[key]
        numbers.append({text: number for number in names if (text := read(number)[0]) in values})
    found = {}
    for group in wanted:
        raw = tuple(known.get(part, -1) for known, part in zip(numbers, group, strict=True))
        if -1 not in raw:
            found[raw] = group
    return found


def _place(segment: Segment, dimension: str) -> Callable[[int, int], int]:
    """Host and kind of a cell -> the number of its value in a dimension."""
    if dimension == "hostname":
        return lambda host, kind: host
    at = ("priority", *cells.KIND_DIMENSIONS).index(dimension)
    keys = segment.names().kind_keys
    return lambda host, kind: keys[kind][at]


def _grouped_cells(segment: Segment, asked: _Cells, keys: Sequence[str]) -> Iterator[tuple[int, ...]]:
    """Numbers of the keys, count, first and last row, worst priority."""
    found: dict[tuple[int, int], list[int]] = {}
    for _, host, kind, n, first, last in asked.rows(segment, by_host="hostname" in keys):
        known = found.get((host, kind))
        if known is None:
            found[host, kind] = [n, first, last]
        else:
            known[0] += n
            known[1] = min(known[1], first)
            known[2] = max(known[2], last)
    places = [_place(segment, key) for key in keys]
    priorities = segment.names().kind_keys
    for (host, kind), (n, first, last) in found.items():
        yield (*[place(host, kind) for place in places], n, first, last, priorities[kind][0])


_Ranked = tuple[tuple[str | None, ...], list[int]]


def _sortable(entry: _Ranked) -> tuple[str, ...]:
    return tuple(part or "" for part in entry[0])


_ORDERS: Mapping[str, Callable[[_Ranked], tuple[object, ...]]] = {
    "last": lambda entry: (-entry[1][2], _sortable(entry)),
    "first": lambda entry: (-entry[1][1], _sortable(entry)),
    "count": lambda entry: (-entry[1][0], _sortable(entry)),
    "priority": lambda entry: (entry[1][3], -entry[1][2], _sortable(entry)),
}


def _time_of(row: int) -> int:
    return (row >> SHIFT) * 1_000_000


def _meets(bounds: tuple[int, int], low: int, high: int) -> bool:
    return bounds[0] <= high and bounds[1] >= low


def _cover(low: int, high: int, levels: Sequence[int]) -> tuple[list[tuple[int, int, int]], list[tuple[int, int]]]:
    """A range of rows as whole slots, the longest that fit (level, first, last), and the ranges of rows left over."""
    if low > high:
        return [], []
    if not levels:
        return [], [(low, high)]
    length_ms = LEVELS_MS[levels[-1]]
    first = -(-(low >> SHIFT) // length_ms)
    last = ((high >> SHIFT) + 1) // length_ms - 1
    if last < first:
        return _cover(low, high, levels[:-1])
    before = _cover(low, (first * length_ms << SHIFT) - 1, levels[:-1])
    behind = _cover((last + 1) * length_ms << SHIFT, high, levels[:-1])
    return [(levels[-1], first, last), *before[0], *behind[0]], [*before[1], *behind[1]]


def _most(found: Iterable[tuple[str | None, int]], limit: int) -> Sequence[tuple[str | None, int]]:
    return sorted(found, key=lambda pair: (-pair[1], pair[0] or ""))[:limit]


def _reader(segment: Segment, dimension: str, *, whole: bool = False) -> Callable[[int], Sequence[str | None]]:
    """A number of the dictionary -> its values as text; None where absent. Tags are several, with `whole` one text."""
    if dimension == "priority":
        return lambda number: (Priority(number).label,)
    values = segment.names().values[dimension]

    def read(number: int) -> Sequence[str | None]:
        value = values[number]
        if value is None:
            return (None,)
        if isinstance(value, list) and not whole:
            return [text_of(part) for part in value]
        return (text_of(value),)

    return read


def _read_cursor(cursor: str) -> tuple[int, int] | None:
    if not cursor:
        return None
    row, _, number = cursor.partition(".")
    if not (row.isascii() and row.isdigit() and number.isascii() and number.isdigit() and len(cursor) < 40):
        raise ValueError("the cursor is not from here: start again without one")
    return int(row), int(number)


def _narrowed(tree: Expr, span: Span) -> tuple[Expr, Span]:
    """Checks of the time become the range, as far as it can hold them: rows know milliseconds."""
    rest: list[Expr] = []
    start, end = span.from_ns, span.to_ns
    for part in tree.parts if isinstance(tree, And) else (tree,):
        if isinstance(part, Check) and part.left == FieldRef("time") and isinstance(part.right, Word):
            bound = int(part.right.text)
            match part.op:
                case Operator.GE:
                    start = max(start, bound)
                case Operator.GT:
                    start = max(start, bound + 1)
                case Operator.LT:
                    end = min(end, bound)
                case _:
                    end = min(end, bound + 1)
        else:
            rest.append(part)
    for bound, op in ((start, Operator.GE), (end, Operator.LT)):
        if bound % 1_000_000 and bound < 2**61:
            rest.append(Check(FieldRef("time"), op, Word(str(bound))))
    return conjunction(*rest), Span(start, max(start, end))
