"""What people change: each change is by somebody, and in the audit log.

Comes in: forms. Goes out: a redirect to where they were, or for htmx the part of the page that changed. Never: a
change by GET."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from starlette.responses import PlainTextResponse, RedirectResponse, Response

from appliance.hub import tune
from appliance.hub.outputs.dead import DeadLetters
from appliance.hub.people.accounts import NAME, SESSION_NS, AccountError
from appliance.hub.people.roles import Role
from appliance.hub.people.triage import OPEN, REASONS, Decision, State
from appliance.hub.query.moments import read_moment, read_span, zone_of
from appliance.hub.query.tree import check, conjunction
from appliance.hub.store.base import DIMENSIONS, EVER, GROUP_KEYS, Group, Span
from appliance.hub.store.lifetimes import group_id
from appliance.hub.web import groups as grouped
from appliance.hub.web import pages
from appliance.hub.web.context import Ask, Hub, record, shown
from appliance.hub.web.dispatch import COOKIE, Refused
from appliance.hub.web.render import THEMES, page
from appliance.hub.web.show import moment
from appliance.model.expr import Expr, Not
from appliance.model.field import Operator

DAY_NS = 86_400 * 1_000_000_000


# -- coming and going


def log_in(hub: Hub, ask: Ask) -> Response:
    """Name and password -> a session."""
    name = ask.form.get("name", "").strip()
    user = hub.accounts.check_password(name, ask.form.get("password", ""), ask.now_ns)
    record(hub, ask, "login" if user else "login refused", name)
    if user is None:
        return page(
            hub,
            ask,
            "login.html",
            401,
            oidc=bool(hub.settings.page.oidc.issuer),
            failed="password",
            next=ask.form.get("next", "/"),
            nobody=not hub.accounts.users(),
            here="/login",
        )
    return with_session(hub, ask, user.name, ask.form.get("next", "/"))


def with_session(hub: Hub, ask: Ask, name: str, wanted: str) -> Response:
    """Start a session and go where they wanted to go."""
    secret = hub.accounts.start(name, ask.now_ns, ask.address)
    response = RedirectResponse(ask.url(local_path(wanted)), 303)
    response.set_cookie(
        COOKIE,
        secret,
        max_age=SESSION_NS // 1_000_000_000,
        path=ask.base or "/",
        secure=ask.origin.startswith("https"),
        httponly=True,
        samesite="lax",
    )
    return response


def local_path(wanted: str) -> str:
    """A path of this hub, whatever somebody wrote into the link: never another site."""
    parts = urlsplit(wanted)
    if parts.scheme or parts.netloc or not wanted.startswith("/") or wanted.startswith("//") or "\\" in wanted:
        return "/"
    return "".join(char for char in wanted if char.isprintable())


def log_out(hub: Hub, ask: Ask) -> Response:
    """The session ends."""
    if ask.session and ask.session.digest:
        hub.accounts.end(ask.session.digest)
        record(hub, ask, "logout", ask.who)
    response = RedirectResponse(ask.url("/login"), 303)
    response.delete_cookie(COOKIE, path=ask.base or "/")
    return response


# -- triage


def triage(hub: Hub, ask: Ask) -> Response:
    """Decide about one group or several: `keys` is JSON, as often as there are groups."""
    done = decide(hub, ask, ask.lists.get("keys", ()), ask.form)
    if ask.headers.get("hx-request") == "true" and len(done) == 1 and ask.form.get("view") is not None:
        return _row(hub, ask, done[0])
    return RedirectResponse(ask.url(local_path(ask.form.get("back", "/"))), 303)


def decide(hub: Hub, ask: Ask, texts: Any, form: Mapping[str, str]) -> list[dict[str, str | None]]:
    """Record a decision for each group; their keys. Raises Refused."""
    action = form.get("action", "")
    every = [read_keys(text) for text in texts]
    if not every:
        raise Refused(400, "no group is selected", "select groups with the space bar or the boxes at their left")
    for keys in every:
        match action:
            case "note":
                text = form.get("text", "").strip()
                if not text or len(text) > 10_000:
                    raise Refused(400, "a note needs a text of up to 10,000 characters")
                hub.triage.note(keys, ask.now_ns, ask.who, text)
            case "assign":
                assignee = form.get("assignee", "")
                if assignee and hub.accounts.user(assignee) is None:
                    raise Refused(400, f"there is no user `{assignee}`")
                hub.triage.assign(keys, ask.now_ns, ask.who, assignee)
            case _:
                _decide_one(hub, ask, keys, action, form)
        record(hub, ask, f"triage {action}", json.dumps(keys))
    return every


def _decide_one(hub: Hub, ask: Ask, keys: dict[str, str | None], action: str, form: Mapping[str, str]) -> None:
    states = {"ack": State.ACKNOWLEDGED, "close": State.CLOSED, "snooze": State.SNOOZED, "open": State.OPEN}
    if action not in states:
        raise Refused(400, f"`{action}` is not something to do with a group", "ack, close, snooze, open, note, assign")
    id_ = group_id(keys)
    before = hub.triage.decisions([id_]).get(id_, OPEN)
    lifetime = hub.lifetimes.get([id_]).get(id_)
    total = lifetime.total if lifetime else 0
    decision = Decision(
        states[action], form.get("reason", "").strip()[:500], before.assignee, ask.who, ask.now_ns, total=total
    )
    if action == "close" and not decision.reason:
        raise Refused(400, "closing needs a reason", f"one of: {', '.join(REASONS)}, or your own words")
    if action == "snooze":
        decision = _snoozed(hub, ask, keys, decision, form.get("until", "24h"), total)
    hub.triage.decide(keys, decision)


def _snoozed(
    hub: Hub, ask: Ask, keys: Mapping[str, str | None], decision: Decision, until: str, total: int
) -> Decision:
    if until == "escalating":
        span = Span.of(ask.now_ns - DAY_NS, ask.now_ns)
        found = hub.store.count(_tree(keys), span)
        return replace(decision, rate=found / 24, reason=decision.reason or "until it escalates")
    if until.startswith("+"):
        more = int(until[1:]) if until[1:].isdigit() and len(until) < 10 else 0
        if not more:
            raise Refused(400, f"`{until}` is not a number of alerts such as `+100`")
        return replace(decision, until_total=total + more, reason=decision.reason or f"for {more:,} more alerts")
    if until[:1].isdigit() and until[-1:].isalpha():
        return replace(decision, until_ns=ask.now_ns + read_span(until), reason=decision.reason or f"for {until}")
    return replace(
        decision,
        until_ns=read_moment(until, ask.now_ns, pages.zone_of(ask)),
        reason=decision.reason or f"until {until}",
    )


def _tree(keys: Mapping[str, str | None]) -> Expr:
    return conjunction(
        *(check(n, Operator.EQ, v) if v is not None else Not(check(n, Operator.EXISTS)) for n, v in keys.items())
    )


def read_keys(text: str) -> dict[str, str | None]:
    """The keys of a group, as a page sends them. Raises Refused."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    allowed = {*DIMENSIONS, "priority"}
    if (
        not isinstance(value, dict)
        or not value
        or len(text) > 20_000
        or not all(name in allowed and (v is None or isinstance(v, str)) for name, v in value.items())
    ):
        raise Refused(400, "this is not a group", 'keys are JSON: {"rule": "..."}')
    return value


def _row(hub: Hub, ask: Ask, keys: dict[str, str | None]) -> Response:
    """The line of a group, as it is now."""
    asked = replace(ask, query=dict(parse_qsl(ask.form.get("view", ""))))
    view = pages.view_of(asked)
    found = hub.store.groups(_tree(keys), view.span, tuple(keys), limit=1).groups
    group = found[0] if found else Group(keys, 0, 0, 0, 7, {}, {}, [])
    id_ = group_id(keys)
    lifetime = hub.lifetimes.get([id_]).get(id_) if tuple(keys) == GROUP_KEYS else None
    visited = ask.session.user.visited_ns if ask.session else 0
    bin_ns = max(1, hub.store.within(view.span).length_ns // 24)
    row = grouped.row_of(hub, group, hub.triage.decisions([id_]).get(id_, OPEN), lifetime, bin_ns, visited, ask.now_ns)
    return page(hub, ask, "row.html", row=row, view=view)


# -- exceptions


def propose(hub: Hub, ask: Ask) -> Response:
    """An exception from an alert: proposal, diff, back-test. Nothing is written."""
    alert = hub.store.get(ask.params["id"])
    if alert is None:
        raise Refused(404, "there is no alert of this id")
    span = Span.of(max(0, ask.now_ns - 30 * DAY_NS), ask.now_ns + 1_000_000_000)
    found = tune.candidates(hub.store, shown(hub, ask, alert), span)
    names = ask.lists.get("field") or [c.name for c in found if c.chosen]
    if ask.query.get("field"):
        names = ask.query["field"].split(",")
    values = {c.name: c.value for c in found if c.name in names}
    if not values:
        raise Refused(400, "an exception needs at least one field", "without one it would silence the whole rule")
    name = ask.form.get("name") or tune.exception_name(alert.rule, ask.now_ns)
    ends = ask.form.get("ends", "90d")
    ends_text = "" if ends == "never" else _date(ask.now_ns + read_span(ends))
    entry = tune.entry(name, alert.rule, values, ask.who, ask.form.get("reason", ""), ends_text)
    before = local_rules(hub)
    tested = tune.back_test(hub.store, alert, values, span)
    tested = replace(tested, others=[shown(hub, ask, other) for other in tested.others])
    return page(
        hub,
        ask,
        "except.html",
        alert=shown(hub, ask, alert),
        candidates=found,
        chosen=values,
        name=name,
        entry=entry,
        tested=tested,
        reason=ask.form.get("reason", ""),
        ends=ends,
        here="/exceptions",
        can_commit=hub.settings.page.commit_exceptions,
        diff=tune.diff(before, tune.with_entry(before, entry), _rules_name(hub)),
    )


def _date(ns: int) -> str:
    return moment(ns)[:10]


def _rules_name(hub: Hub) -> str:
    path = hub.settings.page.exceptions_file
    return path.name if path else "tercel_rules.local.yaml"


def local_rules(hub: Hub) -> str:
    """The local rules file as it is; "" where there is none."""
    path = hub.settings.page.exceptions_file
    return path.read_text() if path is not None and path.exists() else ""


def accept(hub: Hub, ask: Ask) -> Response:
    """Take an exception: record it, and hand it out as file or patch, or commit it."""
    alert = hub.store.get(ask.params["id"])
    if alert is None:
        raise Refused(404, "there is no alert of this id")
    values = {
        n: v for n in ask.lists.get("field", ()) if n in tune.FIELDS and isinstance(v := alert.fields.get(n), str)
    }
    reason, name = ask.form.get("reason", "").strip(), ask.form.get("name", "").strip()
    if not values or not reason:
        raise Refused(400, "an exception needs fields and a reason", "say in one line why this is expected")
    if not name or not all(c.isalnum() or c == "_" for c in name):
        raise Refused(400, "the name of an exception has letters, digits and `_` only")
    ends = ask.form.get("ends", "90d")
    ends_ns = 0 if ends == "never" else ask.now_ns + read_span(ends)
    entry = tune.entry(name, alert.rule, values, ask.who, reason, _date(ends_ns) if ends_ns else "")
    before = local_rules(hub)
    after = tune.with_entry(before, entry)
    how = ask.form.get("how", "patch")
    state = "exported"
    if how == "commit":
        path = hub.settings.page.exceptions_file
        if path is None or not hub.settings.page.commit_exceptions:
            raise Refused(
                400, "commits are not set up", "set `page.exceptions_file` and `page.commit_exceptions: true`"
            )
        state = "committed " + tune.commit(Path(path), after, f"rules: except {name}\n\n{reason}", ask.who)
    text = str(tune.exception_tree(alert.rule, values))
    hub.db.run(
        "INSERT INTO exceptions(name, rule, entry, filter, owner, reason, made_ns, ends_ns, state)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        name,
        alert.rule,
        entry,
        text,
        ask.who,
        reason,
        ask.now_ns,
        ends_ns,
        state,
    )
    record(hub, ask, "exception", f"{name}: {state}")
    if how == "commit":
        return RedirectResponse(ask.url("/exceptions"), 303)
    patch = how == "patch"
    return PlainTextResponse(
        tune.diff(before, after, _rules_name(hub)) if patch else after,
        headers={
            "Content-Disposition": f'attachment; filename="{name}.patch"'
            if patch
            else f'attachment; filename="{_rules_name(hub)}"'
        },
    )


def drop_exception(hub: Hub, ask: Ask) -> Response:
    """Take an exception off the list; the rules file is its owner's to change."""
    hub.db.run("UPDATE exceptions SET state = 'withdrawn' WHERE number = ?", int(ask.params["number"]))
    record(hub, ask, "exception withdrawn", ask.params["number"])
    return RedirectResponse(ask.url("/exceptions"), 303)


# -- views and preferences


def save_view(hub: Hub, ask: Ask) -> Response:
    """A view under a short address."""
    name = ask.form.get("name", "").strip()[:100]
    if not name:
        raise Refused(400, "a view needs a name")
    path = ask.form.get("path", "/")
    query = ask.form.get("query", "")[:10_000]
    slug = secrets.token_urlsafe(5)
    shared = int(ask.form.get("shared", "") == "1" and ask.may("triage"))
    kind = path if path in ("/", "/alerts", "/live", "/attack") else "/"
    hub.db.run(
        "INSERT INTO views VALUES (?, ?, ?, ?, ?, ?)", slug, name, f"{kind}?{query}", ask.who, shared, ask.now_ns
    )
    record(hub, ask, "view", name)
    return RedirectResponse(ask.url(f"/v/{slug}"), 303)


def drop_view(hub: Hub, ask: Ask) -> Response:
    """Delete a view of one's own; an admin any."""
    hub.db.run(
        "DELETE FROM views WHERE slug = ? AND (owner = ? OR ?)", ask.params["slug"], ask.who, int(ask.may("admin"))
    )
    return RedirectResponse(ask.url("/me"), 303)


def preferences(hub: Hub, ask: Ask) -> Response:
    """Theme, time zone, first view."""
    theme = ask.form.get("theme", "system")
    zone = ask.form.get("zone", "UTC")
    zone_of(zone)
    hub.accounts.set_preferences(
        ask.who, theme if theme in THEMES else "system", zone[:64], ask.form.get("home", "")[:64]
    )
    return RedirectResponse(ask.url(local_path(ask.form.get("back", "/me"))), 303)


def change_password(hub: Hub, ask: Ask) -> Response:
    """A new password, by whoever knows the old one."""
    if hub.accounts.check_password(ask.who, ask.form.get("old", ""), ask.now_ns) is None:
        raise Refused(400, "the old password is not right")
    try:
        hub.accounts.set_password(ask.who, ask.form.get("new", ""))
    except AccountError as error:
        raise Refused(400, str(error)) from None
    record(hub, ask, "password", ask.who)
    return with_session(hub, ask, ask.who, "/")


def make_token(hub: Hub, ask: Ask) -> Response:
    """An API token; its secret is shown this once."""
    if ask.session is None:
        raise Refused(401, "authentication required")
    days = ask.form.get("days", "90")
    try:
        secret = hub.accounts.make_token(
            ask.session.user,
            ask.form.get("name", ""),
            Role(ask.form.get("role", "viewer")),
            ask.now_ns,
            int(days) if days.isdigit() and len(days) < 6 else 90,
        )
    except AccountError as error:
        raise Refused(400, str(error)) from None
    record(hub, ask, "token made", ask.form.get("name", ""))
    return pages.me(hub, replace(ask, nonce={"token": secret}))


def drop_token(hub: Hub, ask: Ask) -> Response:
    """A token is worth nothing any more."""
    hub.accounts.drop_token(ask.params["digest"], None if ask.may("admin") else ask.who)
    record(hub, ask, "token dropped", ask.params["digest"][:12])
    return RedirectResponse(ask.url(local_path(ask.form.get("back", "/me"))), 303)


# -- what admins do


def add_user(hub: Hub, ask: Ask) -> Response:
    """A new user with a password that they must change."""
    try:
        hub.accounts.add(
            ask.form.get("name", "").strip(),
            ask.form.get("password", ""),
            Role(ask.form.get("role", "viewer")),
            ask.now_ns,
            must_change=True,
        )
    except AccountError as error:
        raise Refused(400, str(error)) from None
    record(hub, ask, "user added", f"{ask.form.get('name')} {ask.form.get('role')}")
    return RedirectResponse(ask.url("/people"), 303)


def change_user(hub: Hub, ask: Ask) -> Response:
    """Another role, a lock, a new password."""
    name = ask.params["name"]
    if hub.accounts.user(name) is None or not NAME.fullmatch(name):
        raise Refused(404, f"there is no user `{name}`")
    try:
        match ask.form.get("action", ""):
            case "role":
                hub.accounts.set_role(name, Role(ask.form.get("role", "viewer")))
            case "disable":
                hub.accounts.set_disabled(name, True)
            case "enable":
                hub.accounts.set_disabled(name, False)
            case "password":
                hub.accounts.set_password(name, ask.form.get("password", ""))
            case other:
                raise Refused(400, f"`{other}` is not something to do with a user")
    except AccountError as error:
        raise Refused(400, str(error)) from None
    record(hub, ask, f"user {ask.form.get('action')}", f"{name} {ask.form.get('role', '')}".strip())
    return RedirectResponse(ask.url("/people"), 303)


def replay(hub: Hub, ask: Ask) -> Response:
    """Dead letters of an output are delivered again."""
    name = ask.params["output"]
    if name not in hub.settings.outputs:
        raise Refused(404, f"there is no output `{name}`")
    count = DeadLetters(hub.settings.data_dir, name).ask_replay()
    record(hub, ask, "replay", f"{name}: {count} alerts")
    return RedirectResponse(ask.url("/pipeline"), 303)


def hold(hub: Hub, ask: Ask) -> Response:
    """A legal hold: while there is one, nothing is deleted from journal and index."""
    reason = ask.form.get("reason", "").strip()[:500]
    if reason:
        told = f"{reason} ({ask.who})"
        hub.journal.hold(told)
        hub.db.run("INSERT OR REPLACE INTO facts VALUES ('hold', ?)", told)
    else:
        hub.db.run("DELETE FROM facts WHERE name = 'hold'")
        hub.journal.hold("")
    record(hub, ask, "legal hold", reason or "lifted")
    return RedirectResponse(ask.url("/retention"), 303)


def forget_host(hub: Hub, ask: Ask) -> Response:
    """Delete what is stored of a host, on request."""
    name = ask.form.get("hostname", "")
    if not name or ask.form.get("confirm", "") != name:
        raise Refused(400, "the name of the host is not confirmed", "write it into both fields")
    if hub.db.one("SELECT value FROM facts WHERE name = 'hold'") is not None:
        raise Refused(409, "there is a legal hold", "lift it first")
    removed = hub.store.remove(check("hostname", Operator.EQ, name), EVER)
    record(hub, ask, "host forgotten", f"{name}: {removed} alerts")
    return RedirectResponse(ask.url("/retention"), 303)
