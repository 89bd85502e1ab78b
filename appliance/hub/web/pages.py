"""The pages that people read.

Comes in: a request by `dispatch.py`. Goes out: pages. Never: a change; those are in `changes.py`.
"""

from __future__ import annotations

import json
import sqlite3
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any
from urllib.parse import parse_qsl, quote

from starlette.responses import RedirectResponse, Response

from appliance.hub.alert import HubAlert
from appliance.hub.fleet.table import Host, read_hosts
from appliance.hub.people.triage import OPEN, State
from appliance.hub.query.tree import check, conjunction, read_filter
from appliance.hub.query.words import text_of
from appliance.hub.store.base import DIMENSIONS, Histogram, Span
from appliance.hub.store.lifetimes import group_id, keys_of
from appliance.hub.web import groups as grouped
from appliance.hub.web import reports, rules, show
from appliance.hub.web.context import Ask, Hub, shown
from appliance.hub.web.dispatch import Refused
from appliance.hub.web.filters import MS, View, conditions, read_view
from appliance.hub.web.render import page
from appliance.model.expr import TRUE
from appliance.model.field import Operator

MINUTE_NS = 60 * show.SECOND
FACETS = ("priority", "rule", "hostname", "proc.name", "container.name", "user.name", "source", "tags")


def zone_of(ask: Ask) -> str:
    """The reader's time zone."""
    return ask.session.user.zone if ask.session else "UTC"


def view_of(ask: Ask) -> View:
    """The view that the address asks for."""
    return read_view(ask.query, ask.now_ns, zone_of(ask))


def bars(histogram: Histogram) -> dict[str, Any]:
    """A histogram for the script that draws it, and for the table beside it."""
    step = histogram.step_ns // MS
    start = histogram.from_ns // MS
    used = [p for p in range(8) if any(row[p] for row in histogram.counts)]
    return {
        "start": start,
        "step": step,
        "priorities": used,
        "counts": [[row[p] for row in histogram.counts] for p in used],
        "names": [show.PRIORITIES[p] for p in used],
        "totals": [sum(row[p] for row in histogram.counts) for p in used],
    }


def facets(hub: Hub, view: View) -> list[tuple[str, Sequence[tuple[str | None, int]]]]:
    """The most frequent values of each dimension."""
    found = []
    for name in FACETS:
        values = hub.store.top(view.tree, view.span, name, 8)
        if any(value is not None for value, _ in values):
            found.append((name, values))
    return found


def now(hub: Hub, ask: Ask) -> Response:
    """Groups: what there is to decide."""
    user = ask.session.user if ask.session else None
    if user and user.home and not ask.query:
        row = hub.db.one("SELECT query FROM views WHERE slug = ?", user.home)
        if row is not None:
            ask = _with_query(ask, str(row[0]))
    view = view_of(ask)
    found = grouped.listed(hub, view, user.visited_ns if user else 0, ask.now_ns)
    histogram = hub.store.histogram(view.tree, view.span)
    return page(
        hub,
        ask,
        "now.html",
        view=view,
        found=found,
        histogram=bars(histogram),
        facets=facets(hub, view),
        health=hub.store.health(),
        banner=banner(hub, ask),
        views=views_of(hub, ask),
        here="/",
        dimensions=DIMENSIONS,
        people=[u.name for u in hub.accounts.users() if not u.disabled],
    )


def _with_query(ask: Ask, query: str) -> Ask:
    return replace(ask, query=dict(parse_qsl(query)))


def alerts(hub: Hub, ask: Ask) -> Response:
    """Single alerts, newest first."""
    view = view_of(ask)
    found = hub.store.search(view.tree, view.span, limit=100, cursor=view.cursor)
    total = hub.store.count(view.tree, view.span)
    histogram = hub.store.histogram(view.tree, view.span)
    return page(
        hub,
        ask,
        "alerts.html",
        view=view,
        alerts=[shown(hub, ask, a) for a in found.alerts],
        cursor=found.cursor,
        total=total,
        histogram=bars(histogram),
        facets=facets(hub, view),
        banner=banner(hub, ask),
        views=views_of(hub, ask),
        here="/alerts",
        health=hub.store.health(),
    )


def newest(hub: Hub, ask: Ask) -> Response:
    """The newest alert of a view: a group's permanent link to something to look at."""
    view = view_of(ask)
    found = hub.store.search(view.tree, view.span, limit=1).alerts
    if not found:
        raise Refused(404, "this group has no alert in this range", "choose a longer range")
    behind = "/exception" if ask.query.get("then") == "exception" else ""
    return RedirectResponse(ask.url(f"/alert/{quote(found[0].id, safe='')}{behind}"), 303)


@dataclass(frozen=True, slots=True)
class Ancestor:
    """One process above, or the process itself (the last)."""

    name: str
    pid: str
    detail: str


def ancestry(alert: HubAlert) -> list[Ancestor]:
    """The processes above, as far as the alert's fields name them, the outermost first."""
    fields = alert.fields
    found = []
    for depth in range(9, 1, -1):
        name = text_of(fields.get(f"proc.aname[{depth}]"))
        if name:
            found.append(
                Ancestor(
                    name, text_of(fields.get(f"proc.apid[{depth}]")), text_of(fields.get(f"proc.acmdline[{depth}]"))
                )
            )
    parent = text_of(fields.get("proc.pname")) or text_of(fields.get("proc.aname[1]"))
    if parent:
        found.append(Ancestor(parent, text_of(fields.get("proc.ppid")), text_of(fields.get("proc.pcmdline"))))
    name = text_of(fields.get("proc.name"))
    if name:
        found.append(Ancestor(name, text_of(fields.get("proc.pid")), text_of(fields.get("proc.cmdline"))))
    return found


_WORDS = (
    ("Who", ("user.name", "user.uid", "user.loginname", "group.name", "proc.tty")),
    ("What", ("evt.type", "proc.name", "proc.cmdline", "proc.exepath", "fd.name", "evt.res")),
    (
        "Where",
        (
            "container.name",
            "container.image.repository",
            "container.image.tag",
            "container.id",
            "k8s.ns.name",
            "k8s.pod.name",
            "proc.cwd",
        ),
    ),
)


def in_words(alert: HubAlert) -> list[tuple[str, list[tuple[str, str]]]]:
    """Who, what and where, of the fields that the alert has."""
    return [
        (title, [(name, text_of(alert.fields[name])) for name in names if alert.fields.get(name) is not None])
        for title, names in _WORDS
    ]


def alert(hub: Hub, ask: Ask) -> Response:
    """One alert, with all that is around it."""
    found = hub.store.get(ask.params["id"])
    if found is None:
        raise Refused(
            404, "there is no alert of this id", "retention may have removed it, or the index is not there yet"
        )
    keys = keys_of(found)
    id_ = group_id(keys)
    decision = hub.triage.decisions([id_]).get(id_, OPEN)
    near = Span.of(found.ts_ns - 5 * MINUTE_NS, found.ts_ns + 5 * MINUTE_NS)
    around = (
        hub.store.search(check("hostname", Operator.EQ, found.hostname), near, limit=60).alerts
        if found.hostname
        else []
    )
    container = found.fields.get("container.name")
    hidden_one = shown(hub, ask, found)
    day = Span.of(found.ts_ns - 24 * 60 * MINUTE_NS, found.ts_ns + 60 * MINUTE_NS)
    also = []
    for title, name in (("this user", "user.name"), ("this program", "proc.name")):
        value = found.fields.get(name)
        if isinstance(value, str) and value and hidden_one.fields.get(name) == value:
            tree = conjunction(
                check("hostname", Operator.EQ, found.hostname) if found.hostname else TRUE,
                check(name, Operator.EQ, value),
            )
            also.append(
                (
                    title,
                    value,
                    hub.store.top(tree, day, "rule", 6),
                    f"q={conditions({'hostname': found.hostname or None, name: value})}",
                )
            )
    text = rules.rule_texts(hub.settings.page.rules).get(found.rule)
    return page(
        hub,
        ask,
        "alert.html",
        alert=hidden_one,
        keys=keys,
        group=id_,
        decision=decision,
        words=in_words(hidden_one),
        ancestry=ancestry(hidden_one),
        around=[shown(hub, ask, a) for a in around if a.id != found.id],
        same_container=[
            shown(hub, ask, a)
            for a in around
            if container and a.fields.get("container.name") == container and a.id != found.id
        ],
        also=also,
        rule=text,
        deliveries=deliveries(hub, found),
        history=hub.triage.history(id_),
        here="/alerts",
        case=case_of(hidden_one),
        query=conditions(keys),
        states=State,
        people=[u.name for u in hub.accounts.users() if not u.disabled],
    )


def deliveries(hub: Hub, found: HubAlert) -> list[dict[str, Any]]:
    """What became of an alert at each output."""
    parts = hub.parts()
    rows = []
    for name, facts in parts.items():
        if not name.startswith("output:"):
            continue
        output = name.removeprefix("output:")
        at = hub.journal.cursor(output)
        state = "delivered or passed over" if found.seq and at >= found.seq else "waiting"
        rows.append(
            {"name": output, "type": facts.get("type", ""), "state": state, "trouble": facts.get("trouble", "")}
        )
    return rows


def case_of(found: HubAlert) -> str:
    """A skeleton for `tercel test`: what the alert tells of its event."""
    fields = found.fields
    process = {
        "pid": fields.get("proc.pid") or 100,
        "name": text_of(fields.get("proc.name")),
        "exepath": text_of(fields.get("proc.exepath")),
        "cmdline": text_of(fields.get("proc.cmdline")),
        "user": {"name": text_of(fields.get("user.name"))},
    }
    event: dict[str, Any] = {"type": text_of(fields.get("evt.type")) or "execve", "res": 0, "process": process}
    if fields.get("fd.name") is not None:
        event["fd"] = {"num": 3, "type": "file", "typechar": "f", "name": text_of(fields["fd.name"])}
    if fields.get("container.id") not in (None, "host"):
        event["container"] = {"id": text_of(fields["container.id"]), "name": text_of(fields.get("container.name"))}
    case = {"name": f"{process['name']}: from an alert of {found.hostname or 'a host'}", "fires": True, "event": event}
    item = {"rule": found.rule, "cases": [case]}
    return json.dumps([item], indent=2)


def live(hub: Hub, ask: Ask) -> Response:
    """What comes in, as it comes."""
    view = view_of(ask)
    return page(hub, ask, "live.html", view=view, banner=banner(hub, ask), here="/live")


@dataclass(frozen=True, slots=True)
class HostRow:
    """One host, from what it says of itself and from its alerts."""

    name: str
    state: str
    why: str
    facts: Mapping[str, Any]
    alerts: int
    tags: Sequence[str]


def hosts(hub: Hub, ask: Ask) -> Response:
    """Every host and how it is."""
    rows = host_rows(hub, ask)
    wanted = ask.query.get("state", "")
    tag = ask.query.get("tag", "")
    kept = [r for r in rows if (not wanted or r.state == wanted) and (not tag or tag in r.tags)]
    by_state = {state: sum(1 for r in rows if r.state == state) for state in dict.fromkeys(r.state for r in rows)}
    tags = sorted({t for r in rows for t in r.tags})
    return page(
        hub,
        ask,
        "hosts.html",
        rows=kept,
        by_state=by_state,
        tags=tags,
        wanted=wanted,
        tag=tag,
        here="/hosts",
        banner=banner(hub, ask),
    )


def host_rows(hub: Hub, ask: Ask) -> list[HostRow]:
    """Hosts that send heartbeats, those known by their alerts, and those that only the index knows; the ill first."""
    day = Span.of(ask.now_ns - 24 * 60 * MINUTE_NS, ask.now_ns + MINUTE_NS)
    counts = {name or "": n for name, n in hub.store.top(TRUE, day, "hostname", 10_000)}
    rows = []
    for host in fleet(hub):
        state, why = host_state(host, hub.settings.fleet.silent_s, ask.now_ns)
        rows.append(
            HostRow(
                host.hostname,
                state,
                why,
                host_facts(host),
                counts.pop(host.hostname, 0),
                [host.group] if host.group else [],
            )
        )
    rows += [HostRow(name, "alerts only", "sends no heartbeats", {}, n, ()) for name, n in counts.items() if name]
    order = ("silent", "losing", "late", "drifted", "troubled", "alerts only", "well")
    return sorted(rows, key=lambda row: (order.index(row.state), row.name))


def fleet(hub: Hub) -> Sequence[Host]:
    """The table that the collector keeps; empty where it cannot be read."""
    try:
        return read_hosts(hub.settings.data_dir)
    except (sqlite3.Error, TypeError, ValueError):
        return []


def host_state(host: Host, silent_s: float, now_ns: int) -> tuple[str, str]:
    """How a host is, in a word, and why."""
    quiet_s = (now_ns - host.last_seen_ns) / show.SECOND
    told = "; ".join(dict.fromkeys([*host.reported, *host.troubles]))
    if host.kind != "agent":
        return ("silent", told) if "silent" in host.reported else ("alerts only", "sends no heartbeats")
    if "silent" in host.reported or quiet_s > silent_s:
        return "silent", f"last heard of {show.span_text(quiet_s)} ago"
    if any("los" in word for word in host.reported):
        return "losing", told
    if any("drift" in word for word in host.reported):
        return "drifted", told
    if quiet_s > silent_s / 2 or any("canary" in word or "skew" in word or "clock" in word for word in host.reported):
        return "late", told or f"last heard of {show.span_text(quiet_s)} ago"
    return ("troubled", told) if told else ("well", "")


def host_facts(host: Host) -> dict[str, Any]:
    """What a host says of itself, as far as it does."""
    facts: dict[str, Any] = {
        "version": host.version,
        "generation": host.generation or "",
        "rules": host.rules_digest[:12],
        "config": host.config_digest[:12],
        "kernel": host.kernel,
        "canary": "" if host.canary_age_s is None else f"{show.span_text(host.canary_age_s)} ago",
        "lost": host.lost if host.kind == "agent" else "",
        "queue": host.queue if host.kind == "agent" else "",
        "clock off": f"{host.skew_s:.1f} s" if abs(host.skew_s) > 0.5 else "",
        "seen_ns": host.last_seen_ns or "",
    }
    return {name: value for name, value in facts.items() if value != ""}


def pipeline(hub: Hub, ask: Ask) -> Response:
    """How alerts travel: in, journal, index, out."""
    parts = hub.parts()
    outputs = [
        {"name": name.removeprefix("output:"), **facts} for name, facts in parts.items() if name.startswith("output:")
    ]
    return page(
        hub,
        ask,
        "pipeline.html",
        outputs=outputs,
        collect=parts.get("collect", {}),
        journal=hub.journal.health(),
        store=hub.store.health(),
        last=hub.journal.last(),
        here="/pipeline",
        banner=banner(hub, ask),
    )


def banner(hub: Hub, ask: Ask) -> list[tuple[str, str]]:
    """What is wrong now, as (text, link)."""
    found = []
    for name, facts in hub.parts().items():
        if not name.startswith("output:"):
            continue
        lag = facts.get("lag_s") or 0
        if facts.get("state") in ("failing", "open", "off") or lag > 60:
            found.append(
                (f"output {name.removeprefix('output:')}: {facts.get('trouble') or f'{lag:.0f} s behind'}", "/pipeline")
            )
    behind = hub.journal.last() - hub.store.watermark()
    if behind > 5000:
        found.append((f"the index is {behind:,} alerts behind the journal", "/pipeline"))
    if behind < 0:
        found.append(("the index is ahead of the journal: make it again by `tercel hub reindex`", "/pipeline"))
    trouble = hub.journal.health().trouble
    if trouble:
        found.append((f"journal: {trouble}", "/pipeline"))
    ill = [
        h.hostname
        for h in fleet(hub)
        if host_state(h, hub.settings.fleet.silent_s, ask.now_ns)[0] in ("silent", "losing")
    ]
    if ill:
        found.append((f"{len(ill)} hosts are silent or lose events: {', '.join(ill[:3])}", "/hosts"))
    return found


def attack(hub: Hub, ask: Ask) -> Response:
    """ATT&CK: what fired, and what loaded rules cover."""
    view = view_of(ask)
    fired: dict[tuple[str, str], int] = {}
    for group in hub.store.groups(view.tree, view.span, ("tags",), order="count", limit=500).groups:
        for cell in rules.cells(str(group.keys["tags"] or "").split()):
            fired[cell] = fired.get(cell, 0) + group.count
    covered: dict[tuple[str, str], list[str]] = {}
    for text in rules.rule_texts(hub.settings.page.rules).values():
        for cell in rules.cells(text.tags):
            covered.setdefault(cell, []).append(text.name)
    every = sorted(set(fired) | set(covered))
    table = {tactic: [t for _, t in cells] for tactic, cells in groupby(every, key=lambda cell: cell[0])}
    top = max([*fired.values(), 1])
    return page(
        hub,
        ask,
        "attack.html",
        view=view,
        table=table,
        tactics=[t for t in rules.TACTICS if t in table],
        fired=fired,
        covered=covered,
        levels={cell: 1 + min(4, int(5 * n**0.5 / top**0.5 - 0.01)) for cell, n in fired.items()},
        here="/attack",
    )


def report(hub: Hub, ask: Ask) -> Response:
    """A shift, for who comes next."""
    view = read_view({"range": "24h", **ask.query}, ask.now_ns, zone_of(ask))
    told = reports.report(hub, view, ask, zone_of(ask))
    form = ask.query.get("format", "")
    if form == "md":
        return Response(
            told.markdown, media_type="text/markdown; charset=utf-8", headers=_attachment("shift-report.md")
        )
    response = page(hub, ask, "report.html", view=view, told=told, here="/report", plain=form == "html")
    if form == "html":
        response.headers.update(_attachment("shift-report.html"))
    return response


def _attachment(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def exceptions(hub: Hub, ask: Ask) -> Response:
    """Exceptions made here: who, why, until when, and whether they hit."""
    rows = []
    month = 30 * 24 * 60 * MINUTE_NS
    for row in hub.db.all(
        "SELECT number, name, rule, entry, filter, owner, reason, made_ns, ends_ns, state FROM exceptions"
        " ORDER BY number DESC LIMIT 200"
    ):
        number, name, rule, entry, text, owner, reason, made_ns, ends_ns, state = row
        tree = read_filter(str(text))
        made, ends = int(made_ns or 0), int(ends_ns or 0)
        before = hub.store.count(tree, Span.of(made - month, made))
        since = hub.store.count(tree, Span.of(made, ask.now_ns + MINUTE_NS))
        rows.append(
            {
                "number": number,
                "name": name,
                "rule": rule,
                "entry": entry,
                "filter": text,
                "owner": owner,
                "reason": reason,
                "made_ns": made,
                "ends_ns": ends,
                "state": state,
                "expired": bool(ends) and ends < ask.now_ns,
                "before": before,
                "since": since,
            }
        )
    return page(hub, ask, "exceptions.html", rows=rows, here="/exceptions")


def view_by_slug(hub: Hub, ask: Ask) -> Response:
    """A saved view, by its short address."""
    row = hub.db.one("SELECT query, shared, owner FROM views WHERE slug = ?", ask.params["slug"])
    if row is None or (not row[1] and row[2] != ask.who):
        raise Refused(404, "there is no such view", "its owner may have deleted it, or not shared it")
    kind, _, query = str(row[0]).partition("?")
    return RedirectResponse(ask.url(f"{kind or '/'}?{query}"), 303)


def views_of(hub: Hub, ask: Ask) -> list[dict[str, Any]]:
    """Views that this user can open."""
    rows = hub.db.all(
        "SELECT slug, name, query, owner, shared FROM views WHERE owner = ? OR shared ORDER BY name LIMIT 200", ask.who
    )
    return [{"slug": r[0], "name": r[1], "query": r[2], "owner": r[3], "shared": bool(r[4])} for r in rows]


def me(hub: Hub, ask: Ask) -> Response:
    """One's own preferences, password and tokens."""
    return page(
        hub,
        ask,
        "me.html",
        tokens=hub.accounts.tokens(ask.who),
        views=views_of(hub, ask),
        zones=sorted(zoneinfo.available_timezones()),
        made=ask.nonce.get("token", ""),
        here="/me",
    )


def people(hub: Hub, ask: Ask) -> Response:
    """Users and their roles."""
    return page(hub, ask, "people.html", users=hub.accounts.users(), tokens=hub.accounts.tokens(), here="/people")


def audit_log(hub: Hub, ask: Ask) -> Response:
    """Who did what."""
    who = ask.query.get("who", "")
    rows = hub.db.all(
        "SELECT at_ns, who, action, what, address FROM audit WHERE ? = '' OR who = ? ORDER BY number DESC LIMIT 500",
        who,
        who,
    )
    return page(hub, ask, "audit.html", rows=rows, who=who, here="/audit")


def retention(hub: Hub, ask: Ask) -> Response:
    """What is kept, for how long, and what is held."""
    ever = Span.of(0, ask.now_ns + MINUTE_NS)
    by_priority = dict(hub.store.top(TRUE, ever, "priority", 8))
    row = hub.db.one("SELECT value FROM facts WHERE name = 'hold'")
    return page(
        hub,
        ask,
        "retention.html",
        by_priority=by_priority,
        store=hub.store.health(),
        journal=hub.journal.health(),
        journal_settings=hub.settings.journal,
        page_settings=hub.settings.page,
        hold=str(row[0]) if row else "",
        here="/retention",
        hosts=[name for name, _ in hub.store.top(TRUE, ever, "hostname", 1000) if name],
    )


def help_page(hub: Hub, ask: Ask) -> Response:
    """How to search, and the keys."""
    return page(hub, ask, "help.html", here="/help", dimensions=(*DIMENSIONS, "priority", "time", "output"))


def login(hub: Hub, ask: Ask) -> Response:
    """The way in."""
    if ask.session is not None:
        return RedirectResponse(ask.url("/"), 303)
    return page(
        hub,
        ask,
        "login.html",
        oidc=bool(hub.settings.page.oidc.issuer),
        failed=ask.query.get("failed", ""),
        next=ask.query.get("next", "/"),
        nobody=not hub.accounts.users(),
        here="/login",
    )
