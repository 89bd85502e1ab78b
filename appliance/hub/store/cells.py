"""Counts that answer without a look at the alerts: how many of each kind, by host and hour.

Comes in: a tree, the kinds and hosts of one segment. Goes out: the cells that hold exactly what the tree matches, or
None where cells do not know. A kind is what alerts share in priority, rule, source, tags and process name; a fleet
has a few hundred. Never: a figure that differs from a count of the alerts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from appliance.hub.alert import HubAlert
from appliance.hub.query.predicate import predicate
from appliance.hub.query.tree import conjunction
from appliance.model.expr import And, Check, Const, Expr, FieldRef, Macro, Not, Or, Word
from appliance.model.field import Operator

KIND_DIMENSIONS = ("rule", "source", "tags", "proc.name")
"""What makes a kind, beside the priority."""

ALL_HOSTS = -1
"""The number of the host in cells that sum all hosts."""

SCHEMA = """
CREATE TABLE kinds(number INTEGER PRIMARY KEY, prio INTEGER, d0 INTEGER, d2 INTEGER, d3 INTEGER, d4 INTEGER);
CREATE TABLE cells(level INTEGER, slot INTEGER, host INTEGER, kind INTEGER, n INTEGER NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY(level, slot, host, kind)) WITHOUT ROWID;
"""

_MOST = 5_000
_OF_KIND = frozenset((*KIND_DIMENSIONS, "priority"))
_OF_HOST = frozenset(("hostname",))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Numbers of kinds and of hosts; None where all are wanted."""

    kinds: frozenset[int] | None
    hosts: frozenset[int] | None

    @property
    def nothing(self) -> bool:
        """Whether no alert of the segment can match."""
        return (self.kinds is not None and not self.kinds) or (self.hosts is not None and not self.hosts)


def fields_of(expr: Expr) -> frozenset[str] | None:
    """The fields that a tree asks, None where it compares fields with one another."""
    match expr:
        case Const():
            return frozenset()
        case Not(part):
            return fields_of(part)
        case And(parts) | Or(parts):
            found = [fields_of(part) for part in parts]
            return None if None in found else frozenset().union(*(names for names in found if names is not None))
        case Check(FieldRef() as left, _, right) if right is None or isinstance(right, Word | tuple):
            return frozenset((str(left),))
        case Check() | Macro():
            return None


def is_of_kind(expr: Expr) -> bool:
    """Whether a tree asks nothing but what makes a kind."""
    names = fields_of(expr)
    return names is not None and names <= _OF_KIND


def split(tree: Expr) -> tuple[Expr, Expr] | None:
    """A tree as one over kinds and one over hosts, both of which an alert must match; None where it is not of these."""
    kinds: list[Expr] = []
    hosts: list[Expr] = []
    for part in tree.parts if isinstance(tree, And) else (tree,):
        names = fields_of(part)
        if names is not None and names <= _OF_KIND:
            kinds.append(part)
        elif names is not None and names <= _OF_HOST:
            hosts.append(part)
        else:
            return None
    return conjunction(*kinds), conjunction(*hosts)


def wanted_of(tree: Expr, kinds: Mapping[int, HubAlert], hosts: Mapping[int, HubAlert]) -> Wanted | None:
    """The cells that a tree asks for, by an alert of each kind and of each host; None where cells cannot answer, or no
    cheaper than the index."""
    parts = split(tree)
    if parts is None:
        return None
    made = Wanted(_held(parts[0], kinds), _held(parts[1], hosts))
    too_many = any(numbers is not None and len(numbers) > _MOST for numbers in (made.kinds, made.hosts))
    return None if too_many or len(kinds) > _MOST else made


def held_of(expr: Expr, samples: Mapping[int, HubAlert]) -> frozenset[int]:
    """The numbers whose alerts match."""
    match expr:
        case Check(FieldRef("hostname"), Operator.EQ, Word(text), None) if text and "/" not in text:
            return frozenset(n for n, alert in samples.items() if alert.hostname == text)  # asked in each file
        case _:
            judge = predicate(expr)
            return frozenset(n for n, alert in samples.items() if judge(alert))


def _held(expr: Expr, samples: Mapping[int, HubAlert]) -> frozenset[int] | None:
    held = held_of(expr, samples)
    return None if len(held) == len(samples) else held


def rows_of_cells(
    db: sqlite3.Connection, wanted: Wanted, level: int, first: int, last: int, *, by_host: bool
) -> Iterator[tuple[int, int, int, int, int, int]]:
    """Slot, host, kind, count, first and last row number of each cell of a range of slots. Without `by_host` and a
    choice of hosts the cells are those that sum all hosts."""
    sql = "SELECT c.slot, c.host, c.kind, c.n, c.first, c.last FROM "
    if wanted.hosts is None and by_host:
        sql += f"cells c WHERE c.level = ? AND c.slot BETWEEN ? AND ? AND c.host > {ALL_HOSTS}"
        bound = (level, first, last)
    else:
        hosts = (ALL_HOSTS,) if wanted.hosts is None else wanted.hosts
        sql = "WITH RECURSIVE s(slot) AS (VALUES(?) UNION ALL SELECT slot + 1 FROM s WHERE slot < ?) " + sql
        sql += f"s CROSS JOIN cells c ON c.level = ? AND c.slot = s.slot AND c.host IN ({_listed(hosts)}) WHERE 1"
        bound = (first, last, level)
    if wanted.kinds is not None:
        sql += f" AND +c.kind IN ({_listed(wanted.kinds)})"
    yield from db.execute(sql, bound)


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


class Tally:
    """Cells of one transaction: of hours, then days and all hosts."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, int, int], list[int]] = {}

    def add(self, hour: int, host: int, kind: int, row: int) -> None:
        """Count one alert."""
        cell = self._cells.get((hour, host, kind))
        if cell is None:
            self._cells[hour, host, kind] = [1, row, row]
            return
        cell[0] += 1
        if row < cell[1]:
            cell[1] = row
        elif row > cell[2]:
            cell[2] = row

    def write(self, db: sqlite3.Connection) -> None:
        """Add them to what is there."""
        summed: dict[tuple[int, int, int, int], list[int]] = {}
        for (hour, host, kind), cell in self._cells.items():
            summed[1, hour, host, kind] = cell
            for key in ((2, hour // 24, host, kind), (1, hour, ALL_HOSTS, kind), (2, hour // 24, ALL_HOSTS, kind)):
                known = summed.get(key)
                if known is None:
                    summed[key] = list(cell)
                else:
                    known[0] += cell[0]
                    known[1] = min(known[1], cell[1])
                    known[2] = max(known[2], cell[2])
        db.executemany(
            "INSERT INTO cells VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n,"
            " first = min(first, excluded.first), last = max(last, excluded.last)",
            [(*key, *cell) for key, cell in sorted(summed.items())],
        )


def count_again(
    db: sqlite3.Connection,
    touched: Iterable[tuple[int, int, int]],
    kinds: Mapping[int, tuple[int, ...]],
    row_range: Callable[[int, int], tuple[int, int]],
) -> None:
    """After alerts went: cells of some hours (hour, host, kind) from what is left. `row_range` gives first and last
    row number of a slot of a level."""
    todo: set[tuple[int, int, int, int]] = set()
    for hour, host, kind in touched:
        for level, slot in ((1, hour), (2, hour // 24)):
            todo.update(((level, slot, host, kind), (level, slot, ALL_HOSTS, kind)))
    for level, slot, host, kind in todo:
        of_host = "" if host == ALL_HOSTS else f" AND d1 = {host}"
        n, first, last = db.execute(
            "SELECT count(*), min(row), max(row) FROM narrow WHERE row BETWEEN ? AND ?"
            f" AND prio = ? AND d0 = ? AND d2 = ? AND d3 = ? AND d4 = ?{of_host}",
            (*row_range(level, slot), *kinds[kind]),
        ).fetchone()
        key = (level, slot, host, kind)
        db.execute("DELETE FROM cells WHERE level = ? AND slot = ? AND host = ? AND kind = ?", key)
        if n:
            db.execute("INSERT INTO cells VALUES (?, ?, ?, ?, ?, ?, ?)", (*key, n, first, last))
