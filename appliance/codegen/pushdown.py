"""A condition weakened to the checks that can be made before all is known of an event.

Comes in: a checked condition. Goes out: one that is true wherever the first is, and perhaps elsewhere. Never: one that
is false where the first is true. What is held back by it is never judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from appliance.catalog.lookup import fields_of_check
from appliance.model.expr import FALSE, TRUE, And, Check, Const, Expr, FieldRef, Not, Or

_OF_AN_OPEN: Final = frozenset(
    {
        "evt.is_open_read", "evt.is_open_write", "evt.is_open_create", "evt.is_open_exec", "evt.failed", "evt.res",
        "evt.type", "fd.name", "fd.nameraw", "fd.directory", "fd.filename", "fd.type", "fd.typechar", "fs.path.name",
        "fs.path.nameraw", "fs.paths", "fd.realpath",
    }
)  # fmt: skip
_ARGUMENTS: Final = frozenset({"name", "flags", "mode"})


def over(expr: Expr, can_push: Callable[[Check], bool], unknown: Const = TRUE) -> Expr:
    """Weaken `expr` to checks that `can_push` accepts; `unknown` stands in for the others."""
    match expr:
        case Const():
            return expr
        case Check():
            return expr if can_push(expr) else unknown
        case Not(part):  # to weaken a negation, strengthen what it negates
            return Not(over(part, can_push, FALSE if unknown == TRUE else TRUE))
        case And(parts) | Or(parts):
            return replace(expr, parts=tuple(over(part, can_push, unknown) for part in parts))
        case _:
            raise AssertionError(f"{expr!r} is not a checked condition")


def of_an_open(check: Check) -> bool:
    """True for a check that looks at nothing but the arguments of an open and whether it failed: not at who made it,
    when, or under which number and inode."""
    return all(_known(field) for field in fields_of_check(check))


def _known(field: FieldRef) -> bool:
    for head in ("evt.arg", "evt.rawarg"):
        if field.name == head or field.name.startswith(f"{head}."):
            return (field.arg or field.name.removeprefix(f"{head}.")) in _ARGUMENTS
    return field.arg is None and field.name in _OF_AN_OPEN
