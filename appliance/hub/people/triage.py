"""What people decided about groups, and whether that still holds.

Comes in: decisions, and what a group did since. Goes out: the state that counts now. A closed group that goes on is
open again by itself; one that was put to sleep wakes at its time, after so many alerts, or when it escalates. Never: a
decision without its author.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from appliance.hub.people.database import Database, Value
from appliance.hub.store.lifetimes import group_id

HOUR_NS = 3600 * 1_000_000_000
ESCALATION = 3.0
"""How many times its former rate a group must reach to be escalating."""

REASONS = ("expected", "false positive", "fixed", "incident handled", "test")


class State(Enum):
    """What a group is."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    SNOOZED = "snoozed"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Decision:
    """The last one. `total` and `rate` (alerts an hour) are the group's at that moment; `until_ns` and `until_total`
    are 0 where they were not asked for; a snooze with neither lasts until the group escalates."""

    state: State
    reason: str = ""
    assignee: str = ""
    by: str = ""
    at_ns: int = 0
    until_ns: int = 0
    until_total: int = 0
    rate: float = 0.0
    total: int = 0


OPEN = Decision(State.OPEN)


@dataclass(frozen=True, slots=True)
class Standing:
    """The state that counts now; `why` says, for people, why it is not the one decided: `regressed`, `woke: ...`."""

    state: State
    why: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a group's history."""

    at_ns: int
    by: str
    kind: str
    text: str


def standing(decision: Decision, now_ns: int, last_ns: int, total: int, rate: float) -> Standing:
    """What a decision is worth now. `last_ns`, `total`, `rate` are the group's."""
    match decision.state:
        case State.CLOSED if last_ns > decision.at_ns:
            return Standing(State.OPEN, "regressed")
        case State.SNOOZED:
            if decision.until_ns and now_ns >= decision.until_ns:
                return Standing(State.OPEN, "woke: time is up")
            if decision.until_total and total >= decision.until_total:
                return Standing(State.OPEN, "woke: count reached")
            if not decision.until_ns and not decision.until_total and escalating(rate, decision.rate):
                return Standing(State.OPEN, "woke: escalating")
    return Standing(decision.state)


def escalating(rate: float, before: float) -> bool:
    """Whether a rate (alerts an hour) is far above what it was, and not only by chance."""
    return rate >= 10 and rate > ESCALATION * before


class Triage:
    """Decisions and history of groups."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def decisions(self, ids: Sequence[str]) -> dict[str, Decision]:
        """The last decision of each of these groups that has one."""
        found: dict[str, Decision] = {}
        for start in range(0, len(ids), 500):
            part = ids[start : start + 500]
            marks = ", ".join("?" * len(part))
            for row in self._db.all(f"SELECT {_COLUMNS} FROM triage WHERE id IN ({marks})", *part):  # noqa: S608
                found[str(row[0])] = _decision(row)
        return found

    def all_in(self, states: Sequence[State]) -> list[tuple[str, Mapping[str, str | None], Decision]]:
        """Groups whose last decision is one of these, newest first."""
        marks = ", ".join("?" * len(states))
        rows = self._db.all(
            f"SELECT {_COLUMNS}, keys FROM triage WHERE state IN ({marks}) ORDER BY at_ns DESC LIMIT 1000",  # noqa: S608
            *[s.value for s in states],
        )
        return [(str(row[0]), json.loads(str(row[-1])), _decision(row)) for row in rows]

    def decide(self, keys: Mapping[str, str | None], decision: Decision) -> str:
        """Record a decision, and a line of history; the group's id."""
        id_ = group_id(keys)
        with self._db.transaction():
            self._db.run(
                "INSERT OR REPLACE INTO triage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                id_, json.dumps(dict(keys)), decision.state.value, decision.reason, decision.assignee, decision.by,
                decision.at_ns, decision.until_ns, decision.until_total, decision.rate, decision.total,
            )  # fmt: skip
            self._note(id_, decision.at_ns, decision.by, decision.state.value, decision.reason)
        return id_

    def note(self, keys: Mapping[str, str | None], at_ns: int, by: str, text: str) -> str:
        """A remark for whoever comes next."""
        id_ = group_id(keys)
        self._note(id_, at_ns, by, "note", text)
        return id_

    def assign(self, keys: Mapping[str, str | None], at_ns: int, by: str, assignee: str) -> str:
        """Who works on it; "" for nobody."""
        id_ = group_id(keys)
        with self._db.transaction():
            self._db.run(
                "INSERT INTO triage VALUES (?, ?, 'open', '', ?, ?, ?, 0, 0, 0, 0)"
                " ON CONFLICT DO UPDATE SET assignee = excluded.assignee",
                id_, json.dumps(dict(keys)), assignee, by, at_ns,
            )  # fmt: skip
            self._note(id_, at_ns, by, "assigned", assignee or "nobody")
        return id_

    def _note(self, id_: str, at_ns: int, by: str, kind: str, text: str) -> None:
        self._db.run(
            "INSERT INTO history(id, at_ns, by, kind, text) VALUES (?, ?, ?, ?, ?)", id_, at_ns, by, kind, text
        )

    def history(self, id_: str, limit: int = 200) -> list[Entry]:
        """What was done about a group, newest first."""
        rows = self._db.all(
            "SELECT at_ns, by, kind, text FROM history WHERE id = ? ORDER BY at_ns DESC, number DESC LIMIT ?",
            id_,
            limit,
        )
        return [Entry(int(r[0] or 0), str(r[1]), str(r[2]), str(r[3])) for r in rows]

    def between(self, from_ns: int, to_ns: int) -> list[tuple[str, Entry]]:
        """Everything that was done in a range of time, oldest first: for the shift report."""
        rows = self._db.all(
            "SELECT id, at_ns, by, kind, text FROM history WHERE at_ns >= ? AND at_ns < ? ORDER BY at_ns LIMIT 2000",
            from_ns,
            to_ns,
        )
        return [(str(r[0]), Entry(int(r[1] or 0), str(r[2]), str(r[3]), str(r[4]))) for r in rows]


_COLUMNS = "id, state, reason, assignee, by, at_ns, until_ns, until_total, rate, total"


def _decision(row: Sequence[Value]) -> Decision:
    _, state, reason, assignee, by, at_ns, until_ns, until_total, rate, total = row[:10]
    return Decision(
        State(str(state)), str(reason), str(assignee), str(by), int(at_ns or 0), int(until_ns or 0),
        int(until_total or 0), float(rate or 0), int(total or 0),
    )  # fmt: skip
