"""A condition, seen from one event type.

Comes in: an expanded condition, an event type. Goes out: what is known of it before any event is seen. Never: a guess;
what depends on the event stays in place.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from appliance.catalog import elsewhere
from appliance.catalog.events import EVENTS, OPEN_LIKE, Category
from appliance.catalog.lookup import find_field
from appliance.model.event import EventType
from appliance.model.expr import FALSE, TRUE, And, Call, Check, Const, Expr, FieldRef, Not, Or, Word
from appliance.model.field import SOURCES, Operator

ORDINARY = frozenset(
    t for t, row in EVENTS.items() if row.category is not Category.INTERNAL and not row.bulk and row.source == "syscall"
)
"""The types that rules on system calls are judged on unless they name another: not our own, nor (as in Falco) reads and
writes."""
_OF_SOURCE = {source: frozenset(t for t, row in EVENTS.items() if row.source == source) for source in SOURCES}
_ALL: frozenset[EventType] = frozenset(EventType)
_NONE: frozenset[EventType] = frozenset()


def event_types(expr: Expr, source: str = "syscall") -> frozenset[EventType]:
    """The types on which a condition can hold by its checks of `evt.type`, as Falco reckons them.

    Our own internal events are among them only where it names them, those of other sources never.
    """
    if source != "syscall":
        return _OF_SOURCE[source] - _decided(expr)[0]
    named = _named(expr)
    return (
        _OF_SOURCE[source].intersection(t for t in EventType if t in ORDINARY or t.value in named) - _decided(expr)[0]
    )


def specialise(expr: Expr, type_: EventType) -> Expr:
    """The condition as it stands for events of one type: `Const`, or a tree of checks that depend on the event.

    Besides `evt.type` it knows which fields that type can never have.
    """
    return _fold(expr, type_)


def holds_on_failure(expr: Expr, type_: EventType) -> bool:
    """Whether a condition can hold on a call of this type that failed. False only where its own checks of the result
    say that it cannot."""
    return _fold(_failed(specialise(expr, type_), type_), type_) != FALSE


def _failed(expr: Expr, type_: EventType) -> Expr:
    match expr:
        case Not(part):
            return replace(expr, part=_failed(part, type_))
        case And(parts) | Or(parts):
            return replace(expr, parts=tuple(_failed(p, type_) for p in parts))
        case Check(FieldRef(name, None), op, Word(text), None):
            known = _known_of_failure(name, op, text, type_)
            return expr if known is None else TRUE if known else FALSE
        case _:
            return expr


def _known_of_failure(name: str, op: Operator, text: str, type_: EventType) -> bool | None:
    """What a check of a call's result says where it failed: then it is negative, and an open gives no descriptor."""
    says = {"evt.failed": {"true": True, "false": False}, "evt.res": {"SUCCESS": False}}.get(name, {}).get(text)
    if says is not None:
        return says if op is Operator.EQ else not says if op is Operator.NE else None
    not_negative = (op in (Operator.GE, Operator.EQ) and text.isdecimal()) or (op, text) == (Operator.GT, "-1")
    result = name == "evt.rawres" or (name == "fd.num" and type_ in OPEN_LIKE)
    return False if result and not_negative else None


def _decided(expr: Expr) -> tuple[frozenset[EventType], frozenset[EventType]]:
    """The types for which `expr` is false, and those for which it is true, by its checks of `evt.type` alone."""
    match expr:
        case Const(value):
            return (_NONE, _ALL) if value else (_ALL, _NONE)
        case Not(part):
            false, true = _decided(part)
            return true, false
        case And(parts):
            sides = [_decided(p) for p in parts]
            return _NONE.union(*(s[0] for s in sides)), _ALL.intersection(*(s[1] for s in sides))
        case Or(parts):
            sides = [_decided(p) for p in parts]
            return _ALL.intersection(*(s[0] for s in sides)), _NONE.union(*(s[1] for s in sides))
        case Check(FieldRef("evt.type")):
            return _decided_by_type(expr)
        case _:
            return _NONE, _NONE


@lru_cache(maxsize=4096)
def _decided_by_type(check: Check) -> tuple[frozenset[EventType], frozenset[EventType]]:
    known = {t: _known(check, t) for t in EventType}
    return frozenset(t for t in known if known[t] is False), frozenset(t for t in known if known[t])


def _fold(expr: Expr, type_: EventType) -> Expr:
    match expr:
        case Not(part):
            inner = _fold(part, type_)
            if isinstance(inner, Const):
                return FALSE if inner.value else TRUE
            return inner.part if isinstance(inner, Not) else replace(expr, part=inner)
        case And(parts):
            return _joined(expr, [_fold(p, type_) for p in parts], FALSE, TRUE)
        case Or(parts):
            return _joined(expr, [_fold(p, type_) for p in parts], TRUE, FALSE)
        case Check():
            known = _known(expr, type_)
            if known is None and _never_true(expr, type_):
                known = False
            return expr if known is None else TRUE if known else FALSE
        case _:
            return expr


def _joined(expr: And | Or, parts: list[Expr], decides: Const, neutral: Const) -> Expr:
    if decides in parts:
        return decides
    kept: list[Expr] = []
    for part in parts:
        if isinstance(part, type(expr)):
            kept += part.parts
        elif part != neutral:
            kept.append(part)
    if not kept:
        return neutral
    return kept[0] if len(kept) == 1 else replace(expr, parts=tuple(kept))


def _known(check: Check, type_: EventType) -> bool | None:
    if not isinstance(check.left, FieldRef) or check.left.name != "evt.type" or check.quantifier is not None:
        return None
    if isinstance(check.right, FieldRef | Call):
        return None  # what the other field holds is the event's to say
    words = check.right if isinstance(check.right, tuple) else (check.right,)
    names = {w.text for w in words if isinstance(w, Word)}
    match check.op:
        case Operator.EQ | Operator.IN | Operator.INTERSECTS:
            return type_.value in names
        case Operator.NE:
            return type_.value not in names
        case Operator.EXISTS:
            return True
        case _:
            return None


def is_absent(field: FieldRef, type_: EventType) -> bool:
    """Whether a field has no value on any event of this type."""
    name, spec = field.name, EVENTS[type_]
    if name in elsewhere.FIELDS:
        return True
    if name.startswith("fd."):
        return not spec.has_fd
    if name.startswith(("evt.arg", "evt.rawarg")):
        found = find_field(field)
        argument = found[1] if found is not None else None
        if isinstance(argument, int):
            return argument >= len(spec.params)
        return argument is not None and spec.param(argument) is None
    return False


def _never_true(check: Check, type_: EventType) -> bool:
    if not isinstance(check.left, FieldRef):
        return False
    if check.left.name.startswith("evt.is_open_") and type_ not in OPEN_LIKE:
        return check.op is Operator.EQ and isinstance(check.right, Word) and check.right.text == "true"
    return is_absent(check.left, type_)


def _named(expr: Expr) -> set[str]:
    match expr:
        case Check(FieldRef("evt.type"), Operator.EQ | Operator.IN, right):
            words = right if isinstance(right, tuple) else (right,)
            return {w.text for w in words if isinstance(w, Word)}
        case Not(part):
            return _named(part)
        case And(parts) | Or(parts):
            return set().union(*map(_named, parts))
        case _:
            return set()
