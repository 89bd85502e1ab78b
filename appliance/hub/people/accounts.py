"""Users, passwords, sessions, tokens.

Comes in: names, passwords, the secrets of cookies and headers. Goes out: who that is, and what role they have.
Passwords are kept as argon2id, sessions and tokens as SHA-256. Never: a hint whether name or password was wrong, or a
default password.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from appliance.hub.people.database import Database, Value
from appliance.hub.people.roles import Role

SECOND = 1_000_000_000
SESSION_NS = 12 * 3600 * SECOND
IDLE_NS = 2 * 3600 * SECOND
FREE_FAILURES = 5
SHORTEST_PASSWORD = 12
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,63}")
_TOKEN_PREFIX = "tercel_"  # noqa: S105 (a mark by which leaked tokens are found)


@dataclass(frozen=True, slots=True)
class User:
    """`visited_ns` is when the visit before this one ended: what came later is new. `home` is the slug of a view."""

    name: str
    role: Role
    origin: str
    disabled: bool
    made_ns: int
    visited_ns: int
    theme: str
    zone: str
    home: str
    must_change: bool


@dataclass(frozen=True, slots=True)
class Session:
    """Who asks. `csrf` is "" for tokens and proxies, which no foreign page can make a browser send."""

    user: User
    csrf: str
    digest: str


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token without its secret."""

    name: str
    user: str
    role: Role
    made_ns: int
    ends_ns: int
    used_ns: int
    digest: str


class AccountError(ValueError):
    """What cannot be done, for the person who asked."""


class Accounts:
    """The people of a hub."""

    def __init__(self, db: Database, hasher: PasswordHasher | None = None) -> None:
        self._db = db
        self._hasher = hasher or PasswordHasher()
        self._nobody = self._hasher.hash(secrets.token_hex(16))

    # -- users

    def add(
        self, name: str, password: str, role: Role, now_ns: int, *, origin: str = "local", must_change: bool = False
    ) -> None:
        """A new user. Raises AccountError."""
        if not NAME.fullmatch(name):
            raise AccountError(f"`{name}` cannot be a name: letters, digits and `_.@+-`, up to 64")
        if self._db.one("SELECT 1 FROM users WHERE name = ?", name) is not None:
            raise AccountError(f"there is a user `{name}` already")
        hash_ = self._hash(password) if origin == "local" else ""
        self._db.run(
            "INSERT INTO users(name, hash, role, origin, made_ns, must_change) VALUES (?, ?, ?, ?, ?, ?)",
            name, hash_, role.value, origin, now_ns, int(must_change),
        )  # fmt: skip

    def _hash(self, password: str) -> str:
        if len(password) < SHORTEST_PASSWORD:
            raise AccountError(f"a password needs at least {SHORTEST_PASSWORD} characters")
        if len(password) > 1024:
            raise AccountError("a password has at most 1,024 characters")
        return self._hasher.hash(password)

    def set_password(self, name: str, password: str, *, must_change: bool = False) -> None:
        """A new password; all sessions of the user end. Raises AccountError."""
        hash_ = self._hash(password)
        self._db.run(
            "UPDATE users SET hash = ?, failures = 0, locked_ns = 0, must_change = ? WHERE name = ?",
            hash_,
            int(must_change),
            name,
        )
        self._db.run("DELETE FROM sessions WHERE user = ?", name)

    def set_role(self, name: str, role: Role) -> None:
        """Another role. Raises AccountError where that would leave no admin."""
        self._keep_an_admin(name, role is Role.ADMIN)
        self._db.run("UPDATE users SET role = ? WHERE name = ?", role.value, name)
        self._db.run("DELETE FROM tokens WHERE user = ?", name)

    def set_disabled(self, name: str, disabled: bool) -> None:
        """Lock a user out, or let them in again."""
        self._keep_an_admin(name, not disabled)
        self._db.run("UPDATE users SET disabled = ?, failures = 0, locked_ns = 0 WHERE name = ?", int(disabled), name)
        if disabled:
            self._db.run("DELETE FROM sessions WHERE user = ?", name)
            self._db.run("DELETE FROM tokens WHERE user = ?", name)

    def _keep_an_admin(self, name: str, stays: bool) -> None:
        others = self._db.one("SELECT count(*) FROM users WHERE role = 'admin' AND disabled = 0 AND name != ?", name)
        user = self.user(name)
        if not stays and user is not None and user.role is Role.ADMIN and others is not None and not others[0]:
            raise AccountError(f"`{name}` is the last admin")

    def set_preferences(self, name: str, theme: str, zone: str, home: str) -> None:
        """What a user likes."""
        self._db.run("UPDATE users SET theme = ?, zone = ?, home = ? WHERE name = ?", theme, zone, home, name)

    def user(self, name: str) -> User | None:
        """The user of that name."""
        row = self._db.one(f"SELECT {_USER} FROM users WHERE name = ?", name)  # noqa: S608
        return None if row is None else _user(row)

    def users(self) -> list[User]:
        """All users, by name."""
        return [_user(row) for row in self._db.all(f"SELECT {_USER} FROM users ORDER BY name")]  # noqa: S608

    # -- coming in

    def check_password(self, name: str, password: str, now_ns: int) -> User | None:
        """The user, if name and password belong together and the account is not locked. Takes as long either way."""
        row = self._db.one(
            "SELECT hash, disabled, failures, locked_ns FROM users WHERE name = ? AND origin = 'local'", name
        )
        hash_, disabled, failures, locked_ns = row if row is not None else (self._nobody, 1, 0, 0)
        right = False
        with contextlib.suppress(Argon2Error, InvalidHashError):
            right = self._hasher.verify(str(hash_), password[:1024])
        if row is None or disabled or int(locked_ns or 0) > now_ns:
            return None
        if not right:
            count = int(failures or 0) + 1
            wait_s = min(3600, 30 * 2 ** (count - FREE_FAILURES)) if count >= FREE_FAILURES else 0
            self._db.run(
                "UPDATE users SET failures = ?, locked_ns = ? WHERE name = ?", count, now_ns + wait_s * SECOND, name
            )
            return None
        self._db.run("UPDATE users SET failures = 0, locked_ns = 0 WHERE name = ?", name)
        return self.user(name)

    def start(self, name: str, now_ns: int, address: str) -> str:
        """A session; the secret for the cookie. What this user has not seen is what came since the last one."""
        secret = secrets.token_urlsafe(32)
        with self._db.transaction():
            self._db.run("DELETE FROM sessions WHERE made_ns < ?", now_ns - SESSION_NS)
            self._db.run("UPDATE users SET visited_ns = visiting_ns, visiting_ns = ? WHERE name = ?", now_ns, name)
            self._db.run(
                "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?)",
                digest(secret), name, secrets.token_urlsafe(24), now_ns, now_ns, address,
            )  # fmt: skip
        return secret

    def session(self, secret: str, now_ns: int) -> Session | None:
        """Who has this cookie."""
        key = digest(secret)
        row = self._db.one("SELECT user, csrf, made_ns, used_ns FROM sessions WHERE digest = ?", key)
        if row is None:
            return None
        name, csrf, made_ns, used_ns = str(row[0]), str(row[1]), int(row[2] or 0), int(row[3] or 0)
        user = self.user(name)
        if user is None or user.disabled or now_ns - made_ns > SESSION_NS or now_ns - used_ns > IDLE_NS:
            self.end(key)
            return None
        if now_ns - used_ns > 60 * SECOND:
            self._db.run("UPDATE sessions SET used_ns = ? WHERE digest = ?", now_ns, key)
            self._db.run("UPDATE users SET visiting_ns = ? WHERE name = ?", now_ns, name)
        return Session(user, csrf, key)

    def end(self, key: str) -> None:
        """A session is over."""
        self._db.run("DELETE FROM sessions WHERE digest = ?", key)

    def external(self, name: str, role: Role, origin: str, now_ns: int) -> User | None:
        """A user whom a provider or a proxy vouches for: made at the first visit, its role as they say."""
        if not NAME.fullmatch(name):
            return None
        user = self.user(name)
        if user is None:
            self.add(name, "", role, now_ns, origin=origin)
        elif user.origin != origin or user.disabled:
            return None
        elif user.role is not role:
            self._db.run("UPDATE users SET role = ? WHERE name = ?", role.value, name)
        return self.user(name)

    def forgery_token(self, name: str) -> str:
        """What a form of a user without a session of ours must bring along."""
        row = self._db.one("SELECT value FROM facts WHERE name = 'secret'")
        if row is None:
            self._db.run("INSERT OR IGNORE INTO facts VALUES ('secret', ?)", secrets.token_hex(32))
            row = self._db.one("SELECT value FROM facts WHERE name = 'secret'")
        return hmac.new(str(row[0] if row else "").encode(), name.encode(), "sha256").hexdigest()

    # -- tokens

    def make_token(self, user: User, name: str, role: Role, now_ns: int, days: int) -> str:
        """A token for scripts, shown once. Raises AccountError where it would have more rights than its user."""
        order = list(Role)
        if order.index(role) > order.index(user.role):
            raise AccountError("a token cannot have more rights than its owner")
        if not name.strip() or len(name) > 100:
            raise AccountError("a token needs a name of up to 100 characters")
        secret = _TOKEN_PREFIX + secrets.token_urlsafe(32)
        ends_ns = now_ns + max(1, min(days, 3650)) * 86_400 * SECOND
        self._db.run(
            "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, 0)",
            digest(secret),
            name.strip(),
            user.name,
            role.value,
            now_ns,
            ends_ns,
        )
        return secret

    def token(self, secret: str, now_ns: int) -> Session | None:
        """Who has this token."""
        key = digest(secret)
        row = self._db.one("SELECT user, role, ends_ns, used_ns FROM tokens WHERE digest = ?", key)
        if row is None or int(row[2] or 0) < now_ns:
            return None
        user = self.user(str(row[0]))
        if user is None or user.disabled:
            return None
        if now_ns - int(row[3] or 0) > 60 * SECOND:
            self._db.run("UPDATE tokens SET used_ns = ? WHERE digest = ?", now_ns, key)
        order = list(Role)
        role = order[min(order.index(Role(str(row[1]))), order.index(user.role))]
        return Session(_with_role(user, role), "", key)

    def tokens(self, user: str | None = None) -> list[TokenInfo]:
        """Tokens of a user, or all."""
        rows = self._db.all(
            "SELECT name, user, role, made_ns, ends_ns, used_ns, digest FROM tokens"
            " WHERE ? IS NULL OR user = ? ORDER BY user, name",
            user, user,
        )  # fmt: skip
        return [
            TokenInfo(str(r[0]), str(r[1]), Role(str(r[2])), int(r[3] or 0), int(r[4] or 0), int(r[5] or 0), str(r[6]))
            for r in rows
        ]

    def drop_token(self, key: str, user: str | None = None) -> bool:
        """Make a token worthless; with `user` only if it is theirs."""
        return bool(self._db.run("DELETE FROM tokens WHERE digest = ? AND (? IS NULL OR user = ?)", key, user, user))


_USER = "name, role, origin, disabled, made_ns, visited_ns, theme, zone, home, must_change"


def _user(row: Sequence[Value]) -> User:
    name, role, origin, disabled, made_ns, visited_ns, theme, zone, home, must_change = row
    return User(
        str(name), Role(str(role)), str(origin), bool(disabled), int(made_ns or 0), int(visited_ns or 0), str(theme),
        str(zone), str(home), bool(must_change),
    )  # fmt: skip


def _with_role(user: User, role: Role) -> User:
    return User(
        user.name, role, user.origin, user.disabled, user.made_ns, user.visited_ns, user.theme, user.zone, user.home,
        user.must_change,
    )  # fmt: skip


def digest(secret: str) -> str:
    """What is kept of a secret of 256 random bits."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
