"""Groups as the first page shows them: figures of the store, decisions of people, and what is new.

Comes in: a view, a user. Goes out: rows in order. Never: a group left out without being counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from appliance.hub.people.triage import OPEN, Decision, Standing, State, escalating, standing
from appliance.hub.store.base import GROUP_KEYS, Group
from appliance.hub.store.lifetimes import Lifetime, group_id
from appliance.hub.web.context import Hub
from appliance.hub.web.filters import PER_PAGE, View

MOST = 1000
HOUR_NS = 3600 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One line. `new`: first seen since the user's last visit."""

    id: str
    group: Group
    decision: Decision
    standing: Standing
    new: bool
    escalating: bool
    total: int
    first_ns: int


@dataclass(frozen=True, slots=True)
class GroupList:
    """One page of rows. `by_state` counts all groups of the view; `more`: groups beyond those that are judged."""

    rows: Sequence[GroupRow]
    by_state: Mapping[str, int]
    alerts: int
    pages: int
    more: int


def rate_of(group: Group, bin_ns: int) -> tuple[float, float]:
    """Alerts an hour in the last sixth of the range, and in what was before it."""
    spark = group.spark
    recent = max(1, len(spark) // 6)
    hours = bin_ns * recent / HOUR_NS
    before = bin_ns * (len(spark) - recent) / HOUR_NS
    return sum(spark[-recent:]) / max(hours, 1e-9), sum(spark[:-recent]) / max(before, 1e-9)


def row_of(
    hub: Hub, group: Group, decision: Decision, lifetime: Lifetime | None, bin_ns: int, visited_ns: int, now_ns: int
) -> GroupRow:
    """A group with all that is known of it."""
    rate, before = rate_of(group, bin_ns)
    total = lifetime.total if lifetime else group.count
    first_ns = lifetime.first_ns if lifetime else group.first_ns
    last_ns = max(group.last_ns, lifetime.last_ns if lifetime else 0)
    return GroupRow(
        group_id(group.keys),
        group,
        decision,
        standing(decision, now_ns, last_ns, total, rate),
        0 < visited_ns < first_ns,
        escalating(rate, before) and before > 0,
        total,
        first_ns,
    )


def listed(hub: Hub, view: View, visited_ns: int, now_ns: int) -> GroupList:
    """The rows of a view."""
    found = hub.store.groups(view.tree, view.span, view.keys, order=view.order, limit=MOST, details=False)
    ids = [group_id(group.keys) for group in found.groups]
    decisions = hub.triage.decisions(ids)
    lifetimes = hub.lifetimes.get(ids) if view.keys == GROUP_KEYS else {}
    bin_ns = max(1, hub.store.within(view.span).length_ns // 24)
    groups = dict(zip(ids, found.groups, strict=True))
    rated = [id_ for id_ in ids if id_ in decisions and decisions[id_].state is State.SNOOZED]
    groups |= _detailed(hub, view, {id_: groups[id_] for id_ in rated})

    def row(id_: str) -> GroupRow:
        decision = decisions.get(id_, OPEN)
        return row_of(hub, groups[id_], decision, lifetimes.get(id_), bin_ns, visited_ns, now_ns)

    rows = [row(id_) for id_ in ids]
    by_state = {"open": 0, "snoozed": 0, "closed": 0, "all": len(rows)}
    for one in rows:
        by_state[_tab(one)] += 1
    kept = [one.id for one in rows if view.state in ("all", _tab(one))]
    start = (view.page - 1) * PER_PAGE
    shown = kept[start : start + PER_PAGE]
    groups |= _detailed(hub, view, {id_: groups[id_] for id_ in shown})
    pages = max(1, -(-len(kept) // PER_PAGE))
    return GroupList([row(id_) for id_ in shown], by_state, found.alerts, pages, max(0, found.total - len(rows)))


def _detailed(hub: Hub, view: View, groups: Mapping[str, Group]) -> dict[str, Group]:
    made = hub.store.details(view.tree, view.span, list(groups.values()))
    return dict(zip(groups, made, strict=True))


def _tab(row: GroupRow) -> str:
    state = row.standing.state
    return state.value if state in (State.SNOOZED, State.CLOSED) else "open"
