"""Who may do what, and which values they do not see.

Comes in: a role, what is asked for. Goes out: yes or no; an alert with values hidden. Never: a right that is written
anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from fnmatch import fnmatchcase

from appliance.hub.alert import HubAlert
from appliance.hub.query.words import text_of


class Role(Enum):
    """Each may what those before it may."""

    VIEWER = "viewer"
    ANALYST = "analyst"
    EDITOR = "editor"
    ADMIN = "admin"


class Right(Enum):
    """What a route asks for. `READ` see, search, export; `TRIAGE` states, notes, assignees, shared views; `TUNE`
    exceptions, replay of dead letters; `ADMIN` people, tokens of others, retention, deletion, the audit log."""

    READ = "read"
    TRIAGE = "triage"
    TUNE = "tune"
    ADMIN = "admin"


_ORDER = tuple(Role)
_NEEDED = dict(zip(Right, Role, strict=True))
HIDDEN = "[redacted]"


def may(role: Role, right: Right) -> bool:
    """Whether a role has a right."""
    return _ORDER.index(role) >= _ORDER.index(_NEEDED[right])


def hidden(alert: HubAlert, patterns: Sequence[str]) -> HubAlert:
    """The alert without the values of fields that match, in its text neither. `*` stands for any text."""
    if not patterns:
        return alert
    output = alert.output
    fields = dict(alert.fields)
    for name, value in alert.fields.items():
        if value is not None and any(fnmatchcase(name, pattern) for pattern in patterns):
            fields[name] = HIDDEN
            text = text_of(value)
            if text:
                output = output.replace(text, HIDDEN)
    return replace(alert, output=output, fields=fields)


def patterns_of(role: Role, rules: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """What a role must not see: `rules` maps the name of a role to patterns; roles below it see no more."""
    at = _ORDER.index(role)
    return [p for name, patterns in rules.items() if _ORDER.index(Role(name)) >= at for p in patterns]
