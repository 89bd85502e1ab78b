"""What rules ask of the machine, as one value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.engine.needs import Needs, needs_of
from appliance.lang.load import load_rules
from appliance.model.event import EventType


def needs(folder: Path, condition: str, output: str = "x") -> Needs:
    file = folder / "rules.yaml"
    file.write_text(f"- {{rule: r, desc: d, condition: '{condition}', output: '{output}', priority: INFO}}\n")
    loaded = load_rules([file])
    assert loaded.rules, loaded.diagnostics
    return needs_of(loaded.rules)


CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("evt.type = close", "x", {"closes": True, "real_paths": False}),
    ("evt.type = open and fd.realpath startswith /etc", "x", {"real_paths": True, "closes": False}),
    ("evt.type = execve", "%proc.env[HOME]", {"environments": True}),
    ("evt.type = execve", "%evt.arg.env", {"environments": True}),
    ("evt.type = open", "%evt.args", {"environments": False}),
    ("evt.type = connect and fd.sip.name in (a.example, b.example)", "x", {"domains": {"a.example", "b.example"}}),
    ("evt.type = execve and proc.exe_sha256 = aa", "x", {"digest_types": {EventType.EXECVE}}),
    ("evt.type = open", "%evt.deltatime", {"times": True}),
    ("evt.type = open", "x", {"times": False, "digest_types": set(), "domains": set(), "environments": False}),
]


@pytest.mark.parametrize(("condition", "output", "expected"), CASES)
def test_each_need(tmp_path: Path, condition: str, output: str, expected: dict[str, Any]) -> None:
    found = needs(tmp_path, condition, output)
    for name, value in expected.items():
        assert getattr(found, name) == value, name


def test_two_generations_are_compared_by_value(tmp_path: Path) -> None:
    first = needs(tmp_path, "evt.type in (open, openat)")
    assert first == needs(tmp_path, "evt.type in (openat, open)")
    assert first != needs(tmp_path, "evt.type in (openat, open) and fd.realpath = /x")


def test_a_custom_set_adds_types_and_takes_them_away(tmp_path: Path) -> None:
    found = needs(tmp_path, "evt.type in (open, close)").tracing(["!close", "mkdir"])
    assert found.types == {EventType.OPEN, EventType.MKDIR}
    assert not found.closes
