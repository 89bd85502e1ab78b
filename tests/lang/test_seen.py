"""Rules files as people write them for Falco: old keys, odd quotes, anchors, every form of exceptions. All load."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.lang.load import load_rules, load_texts
from appliance.lang.parser import parse
from appliance.model.alert import Priority
from tests.support.rules import ruleset_of

FILES = sorted(Path(__file__).with_name("seen").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.stem)
def test_it_loads_prints_back_and_compiles(file: Path) -> None:
    loaded = load_rules([file])
    assert [d.render() for d in loaded.errors] == []
    assert loaded.rules
    for rule in loaded.rules:
        assert parse(str(rule.condition)) == rule.condition
    ruleset_of(loaded.rules)


def test_what_old_items_came_to() -> None:
    rules = {rule.name: rule for rule in load_rules([FILES[0].with_name("company.yaml")]).rules}
    port = rules["Unexpected port"]
    assert port.enabled and port.priority is Priority.ERROR
    text = str(port.condition)
    assert "not proc.name = foo" in text
    assert "not proc.name in (nginx, apache2, caddy)" in text
    assert "proc.name in (zzz) and fd.sport = 90" in text
    assert "nc, ncat" in text, "a list's name in an exception stands for its items"
    assert "ex_none" not in text


def test_container_info_is_what_it_was() -> None:
    rule = "- {rule: r, desc: d, condition: evt.type = open, output: 'x %container.info y', priority: INFO}\n"
    loaded = load_texts([("a.yaml", rule)])
    assert not loaded.diagnostics
    shown = "".join(p if isinstance(p, str) else f"%{p}" for p in loaded.rules[0].output.parts)
    assert shown == "x container_id=%container.id container_name=%container.name y"
