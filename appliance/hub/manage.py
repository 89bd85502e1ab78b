"""What `tercel hub` does for the page: users, the index, exceptions, the demonstration.

Comes in: settings, arguments. Goes out: an exit status, text on a stream. Never: a default password, or a password in
the arguments of a command, where others could read it."""

from __future__ import annotations

import getpass
import secrets
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from appliance.hub import tune
from appliance.hub.demo import DAY_NS, fleet_alerts
from appliance.hub.journal.sqlite import SqliteJournal
from appliance.hub.people.accounts import AccountError, Accounts
from appliance.hub.people.database import Database, audit
from appliance.hub.people.roles import Role
from appliance.hub.settings import HubSettings
from appliance.hub.store.base import Span
from appliance.hub.store.indexer import index_folder, rebuild
from appliance.hub.store.sqlite import SqliteStore
from appliance.hub.web.serve import journal_folder
from appliance.model.text import printable

USER_ACTIONS = ("list", "add", "password", "role", "disable", "enable")
DEMO_ALERTS = 33_000


def user(settings: HubSettings, action: str, name: str, role: str, stream: TextIO, *, one_time: bool = False) -> int:
    """List users, add one, change one. A password is asked for, or made up with `one_time`."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
    db = Database(settings.data_dir / "page.sqlite")
    accounts = Accounts(db)
    try:
        if action == "list":
            for found in accounts.users():
                state = "disabled" if found.disabled else "may log in"
                print(printable(f"{found.name}  {found.role.value}  {found.origin}  {state}"), file=stream)
            return 0
        if not name:
            raise AccountError(f"`user {action}` needs a name")
        if action != "add" and accounts.user(name) is None:
            raise AccountError(f"there is no user `{name}`")
        _change(accounts, action, name, Role(role), stream, one_time)
        audit(db, time.time_ns(), getpass.getuser(), f"user {action}", name, "terminal")
        return 0
    except AccountError as error:
        print(f"error: {printable(str(error))}", file=stream)
        return 1
    finally:
        db.close()


def _change(accounts: Accounts, action: str, name: str, role: Role, stream: TextIO, one_time: bool) -> None:
    match action:
        case "add":
            password = secrets.token_urlsafe(12) if one_time else _password()
            accounts.add(name, password, role, time.time_ns(), must_change=one_time)
            told = f"; its one-time password: {password}" if one_time else ""
            print(f"added {name}, {role.value}{told}", file=stream)
        case "password":
            password = secrets.token_urlsafe(12) if one_time else _password()
            accounts.set_password(name, password, must_change=one_time)
            print(f"{name}: one-time password {password}" if one_time else f"{name}: changed", file=stream)
        case "role":
            accounts.set_role(name, role)
            print(f"{name}: {role.value}", file=stream)
        case "disable" | "enable":
            accounts.set_disabled(name, action == "disable")
            print(f"{name}: {action}d", file=stream)
        case _:
            raise AccountError(f"`{action}` is not something to do with users: {', '.join(USER_ACTIONS)}")


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise AccountError("the two are not the same")
    return password


def reindex(settings: HubSettings, stream: TextIO) -> int:
    """Make the index again from the journal; the hub must not run."""
    journal = SqliteJournal(journal_folder(settings.data_dir), settings.journal)
    try:
        began = time.monotonic()
        count = rebuild(journal, settings.data_dir)
        print(f"{count:,} alerts indexed in {time.monotonic() - began:.1f} s", file=stream)
    finally:
        journal.close()
    return 0


def propose(settings: HubSettings, id_: str, fields: Sequence[str], stream: TextIO) -> int:
    """The narrowest exception for an alert, tried on stored alerts: what the page shows, in a terminal."""
    store = SqliteStore(index_folder(settings.data_dir))
    try:
        alert = store.get(id_)
        if alert is None:
            print(f"error: there is no alert `{printable(id_)}`", file=stream)
            return 1
        now_ns = time.time_ns()
        span = Span.of(max(0, now_ns - 30 * DAY_NS), now_ns)
        found = tune.candidates(store, alert, span)
        values = {c.name: c.value for c in found if (c.name in fields if fields else c.chosen)}
        for one in found:
            mark = "*" if one.name in values else " "
            print(f"{mark} {one.name} = {printable(one.value)}\n      {one.why}", file=stream)
        if not values:
            print("error: an exception needs at least one field", file=stream)
            return 1
        tested = tune.back_test(store, alert, values, span)
        print(
            f"\nIt would have silenced {tested.silenced:,} of {tested.total:,} alerts of this rule in 30 days;"
            f" {tested.beyond:,} of them are not of this group.", file=stream,
        )  # fmt: skip
        for other in tested.others:
            print(f"    {printable(other.hostname)}: {printable(other.output)[:140]}", file=stream)
        name = tune.exception_name(alert.rule, now_ns)
        print("\n" + tune.entry(name, alert.rule, values, getpass.getuser(), "", ""), end="", file=stream)
        return 0
    finally:
        store.close()


def demo(settings: HubSettings, count: int, stream: TextIO) -> int:
    """Fill an empty journal with a day of a fleet that does not exist; the hub must not run."""
    folder = journal_folder(settings.data_dir)
    journal = SqliteJournal(folder, settings.journal, writes=True)
    try:
        if journal.last():
            print(f"{folder} has alerts already: left as it is", file=stream)
            return 0
        batch = []
        for alert in fleet_alerts(count, start_ns=time.time_ns() - DAY_NS):
            batch.append(alert)
            if len(batch) == 1000:
                journal.append(batch)
                batch = []
        journal.append(batch)
        print(f"{count:,} alerts of a fictitious fleet are in {folder}", file=stream)
        return 0
    finally:
        journal.close()
