"""Selection: which rules are judged at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.engine.ruleset import Ruleset
from appliance.lang.load import load_rules
from appliance.model.alert import Priority
from appliance.model.event import EventType
from tests.support.events import event, process

RULES = """
- {rule: loud, desc: d, condition: evt.type = execve and proc.name = ls, output: o, priority: CRITICAL}
- {rule: quiet, desc: d, condition: 'evt.type in (execve, connect)', output: o, priority: DEBUG}
- {rule: off, desc: d, condition: evt.type = fork, output: o, priority: CRITICAL, enabled: false}
"""


@pytest.mark.parametrize(
    ("minimum", "matching", "fired", "types"),
    [
        (Priority.DEBUG, "all", ["loud", "quiet"], {EventType.EXECVE, EventType.CONNECT}),
        (Priority.DEBUG, "first", ["loud"], {EventType.EXECVE, EventType.CONNECT}),
        (Priority.ERROR, "all", ["loud"], {EventType.EXECVE}),
        (Priority.EMERGENCY, "all", [], set()),
    ],
)
def test_rules_are_chosen(
    tmp_path: Path, minimum: Priority, matching: str, fired: list[str], types: set[EventType]
) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES)
    ids = iter("123")
    found = Ruleset.build(
        load_rules([file]).rules, minimum=minimum, matching=matching, hostname="h", new_id=lambda: next(ids)
    )
    assert found.event_types == types
    alerts = found.match(event("execve", process=process("ls")))
    assert [a.rule for a in alerts] == fired
    assert len({a.id for a in alerts}) == len(fired)
    assert found.match(event("fork", process=process("ls"))) == ()
