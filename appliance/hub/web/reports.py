"""The report of a shift: what came, what was decided, what is open, for who comes next. Markdown, and the same as a
page.

Comes in: a view. Goes out: figures, and a text that renders inert wherever it is pasted.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from appliance.hub.people.triage import Entry
from appliance.hub.store.base import GROUP_KEYS
from appliance.hub.web import groups as grouped
from appliance.hub.web import show
from appliance.hub.web.context import Ask, Hub
from appliance.hub.web.filters import View
from appliance.hub.web.groups import GroupRow


@dataclass(frozen=True, slots=True)
class Report:
    """`rows` are the groups that are open, `decided` what people did."""

    title: str
    total: int
    by_priority: Sequence[tuple[str | None, int]]
    rules: Sequence[tuple[str | None, int]]
    hosts: Sequence[tuple[str | None, int]]
    rows: Sequence[GroupRow]
    decided: Sequence[tuple[str, Entry]]
    markdown: str


def report(hub: Hub, view: View, ask: Ask, zone: str) -> Report:
    """The report of a view's range."""
    span = hub.store.within(view.span)
    rows = grouped.listed(
        hub, replace(view, keys=GROUP_KEYS, order="priority", state="open", page=1), 0, ask.now_ns
    ).rows
    title = f"{show.moment(span.from_ns, zone)} to {show.moment(span.to_ns, zone)} ({zone})"
    parts = (
        hub.store.count(view.tree, view.span),
        hub.store.top(view.tree, view.span, "priority", 8),
        hub.store.top(view.tree, view.span, "rule", 10),
        hub.store.top(view.tree, view.span, "hostname", 10),
        rows,
        hub.triage.between(view.span.from_ns, min(view.span.to_ns, 2**62)),
    )
    return Report(title, *parts, _markdown(title, *parts, zone))


def _markdown(
    title: str,
    total: int,
    by_priority: Sequence[tuple[str | None, int]],
    rules: Sequence[tuple[str | None, int]],
    hosts: Sequence[tuple[str | None, int]],
    rows: Sequence[GroupRow],
    decided: Sequence[tuple[str, Entry]],
    zone: str,
) -> str:
    lines = [f"# Shift report: {title}", "", f"{total:,} alerts.", ""]
    for heading, values in (("Priority", by_priority), ("Rule", rules), ("Host", hosts)):
        lines += [
            f"| {heading} | Alerts |",
            "|---|---:|",
            *(f"| {plain(name or 'none')} | {n:,} |" for name, n in values),
            "",
        ]
    lines += [
        "## Open groups",
        "",
        "| Priority | Rule | Process | Host | Count | Last seen | State | Assignee |",
        "|---|---|---|---|---:|---|---|---|",
    ]
    for row in rows:
        keys = row.group.keys
        cells = (
            show.PRIORITIES[row.group.priority],
            keys.get("rule"),
            keys.get("proc.name"),
            keys.get("hostname"),
            f"{row.group.count:,}",
            show.moment(row.group.last_ns, zone),
            row.standing.state.value,
            row.decision.assignee,
        )
        lines.append("| " + " | ".join(plain(str(c or "")) for c in cells) + " |")
    lines += ["", "## What was done", ""]
    lines += [
        f"- {show.moment(e.at_ns, zone)} {plain(e.by)}: {plain(e.kind)} {plain(e.text)}".rstrip() for _, e in decided
    ] or ["Nothing."]
    return "\n".join(lines) + "\n"


def plain(text: str) -> str:
    """Text from strangers inside Markdown: one line, no markup, no HTML, no link."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~:@-])", r"\\\1", html.escape(show.safe(text), quote=False))
