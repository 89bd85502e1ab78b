"""Nobody comes in without a secret of their own, and every decision ends when it should."""

from __future__ import annotations

from pathlib import Path

import pytest
from argon2 import PasswordHasher

from appliance.hub.people.accounts import IDLE_NS, SECOND, AccountError, Accounts
from appliance.hub.people.database import Database
from appliance.hub.people.roles import HIDDEN, Right, Role, hidden, may, patterns_of
from appliance.hub.people.triage import Decision, State, Triage, standing
from tests.hub.alerts import hub_alert

NOW = 1_790_000_000 * SECOND
GOOD = "correct horse battery"


@pytest.fixture
def db(tmp_path: Path) -> Database:
    return Database(tmp_path / "page.db")


@pytest.fixture
def accounts(db: Database) -> Accounts:
    made = Accounts(db, PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    made.add("ann", GOOD, Role.ADMIN, NOW)
    return made


def test_there_is_no_user_before_one_is_made(db: Database) -> None:
    accounts = Accounts(db, PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    assert accounts.users() == []
    assert accounts.check_password("admin", "admin", NOW) is None


def test_a_password_is_kept_as_argon2id_and_is_long(accounts: Accounts, db: Database) -> None:
    [row] = db.all("SELECT hash FROM users")
    assert str(row[0]).startswith("$argon2id$")
    for name, password in (("bob", "short"), ("a b", GOOD), ("ann", GOOD), ("", GOOD)):
        with pytest.raises(AccountError):
            accounts.add(name, password, Role.VIEWER, NOW)


def test_failures_lock_an_account_for_a_while(accounts: Accounts) -> None:
    for _ in range(5):
        assert accounts.check_password("ann", "wrong", NOW) is None
    assert accounts.check_password("ann", GOOD, NOW) is None
    assert accounts.check_password("ann", GOOD, NOW + 31 * SECOND) is not None


def test_a_session_ends_by_itself(accounts: Accounts, db: Database) -> None:
    secret = accounts.start("ann", NOW, "127.0.0.1")
    session = accounts.session(secret, NOW + SECOND)
    assert session is not None
    assert session.user.name == "ann"
    assert secret not in str(db.all("SELECT * FROM sessions"))
    assert accounts.session(secret, NOW + IDLE_NS + 2 * SECOND) is None
    assert accounts.session("nonsense", NOW) is None


def test_a_new_password_and_a_lock_end_sessions(accounts: Accounts) -> None:
    accounts.add("bob", GOOD, Role.VIEWER, NOW)
    secret = accounts.start("bob", NOW, "")
    accounts.set_password("bob", GOOD + "!")
    assert accounts.session(secret, NOW) is None
    secret = accounts.start("bob", NOW, "")
    accounts.set_disabled("bob", True)
    assert accounts.session(secret, NOW) is None
    assert accounts.check_password("bob", GOOD + "!", NOW) is None


def test_the_last_admin_stays(accounts: Accounts) -> None:
    with pytest.raises(AccountError, match="last admin"):
        accounts.set_role("ann", Role.VIEWER)
    with pytest.raises(AccountError, match="last admin"):
        accounts.set_disabled("ann", True)


def test_a_token_has_no_more_rights_than_its_owner(accounts: Accounts) -> None:
    accounts.add("bob", GOOD, Role.ANALYST, NOW)
    bob = accounts.user("bob")
    assert bob is not None
    with pytest.raises(AccountError):
        accounts.make_token(bob, "script", Role.ADMIN, NOW, 30)
    secret = accounts.make_token(bob, "script", Role.ANALYST, NOW, 30)
    found = accounts.token(secret, NOW)
    assert found is not None
    assert found.user.role is Role.ANALYST
    assert accounts.token(secret, NOW + 31 * 86_400 * SECOND) is None
    accounts.set_role("bob", Role.VIEWER)
    assert accounts.token(secret, NOW) is None


def test_what_came_since_the_last_visit_is_new(accounts: Accounts) -> None:
    accounts.start("ann", NOW, "")
    accounts.start("ann", NOW + 100 * SECOND, "")
    user = accounts.user("ann")
    assert user is not None
    assert user.visited_ns == NOW


def test_rights_grow_with_roles() -> None:
    table = {role: [right for right in Right if may(role, right)] for role in Role}
    assert [len(table[role]) for role in Role] == [1, 2, 3, 4]


def test_a_hidden_value_is_hidden_in_the_message_too() -> None:
    alert = hub_alert(
        fields={"proc.cmdline": "mysql -psecret", "proc.name": "mysql"}, output="ran (cmd=mysql -psecret)"
    )
    rules = {"analyst": ["proc.cmd*"]}
    assert patterns_of(Role.EDITOR, rules) == []
    for role in (Role.VIEWER, Role.ANALYST):
        shown = hidden(alert, patterns_of(role, rules))
        assert shown.fields["proc.cmdline"] == HIDDEN
        assert "secret" not in shown.output


@pytest.mark.parametrize(
    ("decision", "last_ns", "total", "rate", "state"),
    [
        (Decision(State.CLOSED, at_ns=NOW), NOW - 1, 5, 0, State.CLOSED),
        (Decision(State.CLOSED, at_ns=NOW), NOW + 1, 6, 0, State.OPEN),
        (Decision(State.ACKNOWLEDGED, at_ns=NOW), NOW + 1, 6, 0, State.ACKNOWLEDGED),
        (Decision(State.SNOOZED, at_ns=NOW, until_ns=NOW + 10), NOW + 1, 6, 99, State.SNOOZED),
        (Decision(State.SNOOZED, at_ns=NOW, until_ns=NOW + 5), NOW + 1, 6, 0, State.OPEN),
        (Decision(State.SNOOZED, at_ns=NOW, until_total=10), NOW + 1, 9, 99, State.SNOOZED),
        (Decision(State.SNOOZED, at_ns=NOW, until_total=10), NOW + 1, 10, 0, State.OPEN),
        (Decision(State.SNOOZED, at_ns=NOW, rate=20.0), NOW + 1, 99, 50.0, State.SNOOZED),
        (Decision(State.SNOOZED, at_ns=NOW, rate=20.0), NOW + 1, 99, 61.0, State.OPEN),
    ],
)
def test_a_decision_ends_when_it_should(
    decision: Decision, last_ns: int, total: int, rate: float, state: State
) -> None:
    found = standing(decision, NOW + 6, last_ns, total, rate)
    assert found.state is state
    assert bool(found.why) == (state is not decision.state)


def test_history_keeps_who_did_what(db: Database) -> None:
    triage = Triage(db)
    keys = {"rule": "r", "hostname": None}
    id_ = triage.decide(keys, Decision(State.CLOSED, "fixed", by="ann", at_ns=NOW))
    assert triage.assign(keys, NOW + 1, "ann", "bob") == id_
    triage.note(keys, NOW + 2, "bob", "looked at it")
    assert [(e.by, e.kind, e.text) for e in triage.history(id_)] == [
        ("bob", "note", "looked at it"), ("ann", "assigned", "bob"), ("ann", "closed", "fixed"),
    ]  # fmt: skip
    decision = triage.decisions([id_, "other"])[id_]
    assert (decision.state, decision.assignee) == (State.CLOSED, "bob")
    assert [keys_ for _, keys_, _ in triage.all_in([State.CLOSED])] == [keys]
    assert len(triage.between(NOW, NOW + 2)) == 2
