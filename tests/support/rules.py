"""Rules of a test, made ready to judge and to be asked."""

from __future__ import annotations

from collections.abc import Iterable

from appliance.catalog.fields import FIELDS
from appliance.engine.ruleset import Ruleset, compile_value
from appliance.model.alert import Priority
from appliance.model.event import Event
from appliance.model.rule import Rule


def ruleset_of(rules: Iterable[Rule], *, matching: str = "all", hostname: str = "h") -> Ruleset:
    """Rules of every priority; an event fires all that hold. Each alert has the id `i`."""
    return Ruleset.build(rules, minimum=Priority.DEBUG, matching=matching, hostname=hostname, new_id=lambda: "i")


def value(event: Event, field: str, arg: str | int | None = None) -> object:
    """What a field tells of an event."""
    return compile_value(FIELDS[field].get.replace("{arg}", repr(arg)))(event)
