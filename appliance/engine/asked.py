"""What rules look at: some facts are had only where one asks.

Comes in: checked rules. Goes out: the names of the fields in their conditions and messages, and which events ask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from appliance.catalog.lookup import fields_of
from appliance.model.event import EventType
from appliance.model.expr import Call, FieldRef, checks_of
from appliance.model.rule import Rule


def fields_asked(rules: Iterable[Rule]) -> frozenset[str]:
    """The names of the fields that rules look at, those of their messages included."""
    return frozenset(field.name for rule in rules for field in _fields(rule))


def types_asking(rules: Iterable[Rule], names: frozenset[str]) -> frozenset[EventType]:
    """The types of events on which a rule that looks at one of these fields can hold."""
    asking = (rule for rule in rules if any(field.name in names for field in _fields(rule)))
    return frozenset(type_ for rule in asking for type_ in rule.event_types)


def _fields(rule: Rule) -> Iterator[FieldRef]:
    for check in checks_of(rule.condition):
        for side in (check.left, *(check.right if isinstance(check.right, tuple) else (check.right,))):
            if isinstance(side, FieldRef | Call):
                yield from fields_of(side)
    for parts in (rule.output.parts, *(parts for _, parts in rule.output.extra)):
        for part in parts:
            if not isinstance(part, str):
                yield from fields_of(part)
