"""What rules look at: some facts are had only where one asks.

Comes in: checked rules. Goes out: the names of the fields in their conditions and messages, which events ask, and
whether somebody asks for environments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from appliance.catalog.events import EVENTS, EXECS
from appliance.catalog.lookup import fields_of, fields_of_check, find_field
from appliance.model.event import EventType
from appliance.model.expr import FieldRef, checks_of
from appliance.model.rule import Rule

_ENVIRONMENTS = frozenset({"proc.env", "proc.aenv"})
_ARGUMENTS, _ALL_ARGUMENTS = frozenset({"evt.arg", "evt.rawarg"}), frozenset({"evt.args", "evt.info"})
_OF_ENVIRONMENT = frozenset(
    {"env"} | {n for type_ in EXECS for n, param in enumerate(EVENTS[type_].params) if param.name == "env"}
)


def fields_asked(rules: Iterable[Rule]) -> frozenset[str]:
    """The names of the fields that rules look at, those of their messages included."""
    return frozenset(field.name for rule in rules for field in _fields(rule))


def asks_environment(rules: Iterable[Rule]) -> bool:
    """Whether a rule looks at the environment of programs: among the arguments of their start, or later."""
    return any(_is_environment(field, rule) for rule in rules for field in _fields(rule))


def _is_environment(field: FieldRef, rule: Rule) -> bool:
    if field.name in _ENVIRONMENTS:
        return True
    if rule.event_types.isdisjoint(EXECS):
        return False
    found = find_field(field)
    if found is None or found[0].name not in _ARGUMENTS:
        return field.name in _ALL_ARGUMENTS
    return found[1] in _OF_ENVIRONMENT


def types_asking(rules: Iterable[Rule], names: frozenset[str]) -> frozenset[EventType]:
    """The types of events on which a rule that looks at one of these fields can hold."""
    asking = (rule for rule in rules if any(field.name in names for field in _fields(rule)))
    return frozenset(type_ for rule in asking for type_ in rule.event_types)


def _fields(rule: Rule) -> Iterator[FieldRef]:
    for check in checks_of(rule.condition):
        yield from fields_of_check(check)
    for parts in (rule.output.parts, *(parts for _, parts in rule.output.extra)):
        for part in parts:
            if not isinstance(part, str):
                yield from fields_of(part)
