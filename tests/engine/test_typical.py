"""The event of each type that rules are measured on: whole enough that no field's expression fails on it."""

from __future__ import annotations

from appliance.catalog.events import EVENTS
from appliance.catalog.fields import FIELDS
from appliance.codegen.runtime import text_of
from appliance.engine.ruleset import compile_value
from appliance.engine.typical import typical_event
from appliance.model.event import EventType
from appliance.model.field import ArgKind, Field

GETS = {row.name: compile_value(row.get_all or row.get) for row in FIELDS.values() if row.arg is ArgKind.NONE}


def rows(source: str) -> list[Field]:
    return [row for row in FIELDS.values() if row.name in GETS and source in row.sources]


def test_every_field_can_be_asked_of_it() -> None:
    for type_ in EVENTS:
        ask(type_)


def ask(type_: EventType) -> None:
    event = typical_event(type_)
    assert event.type is type_
    values = {row.name: GETS[row.name](event) for row in rows(EVENTS[type_].source)}
    assert all(text_of(value) for name, value in values.items() if name.startswith(("proc.name", "evt.type")))
    if EVENTS[type_].source == "syscall":
        assert values["proc.pname"] == "sh"
        assert (values["fd.name"] is not None) == EVENTS[type_].has_fd
    else:
        assert values["ka.verb"] == "get"
