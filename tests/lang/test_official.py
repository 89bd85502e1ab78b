"""Falco's own rule files, as they are: loaded without an error, heard on the same events, printed back, compiled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.lang.load import LoadedRules, load_rules
from appliance.lang.parser import parse
from appliance.model.event import EventType
from appliance.model.rule import Rule
from tests.support.rules import ruleset_of
from tests.support.shared import shared_falco

FILES = ["falco_rules", "falco-incubating_rules", "falco-sandbox_rules", "k8s_audit_rules"]


def paths(*names: str) -> list[Path]:
    return [shared_falco() / "rules" / f"{name}.yaml" for name in names]


@pytest.fixture(scope="module")
def official() -> LoadedRules:
    return load_rules(paths(*FILES))


def test_they_load_together(official: LoadedRules) -> None:
    assert [d.render() for d in official.errors] == []
    items = [line for path in paths(*FILES) for line in path.read_text().splitlines() if line.startswith("- rule: ")]
    assert len(official.rules) == len(items) == 141
    audit = [rule for rule in official.rules if rule.source == "k8s_audit"]
    assert len(audit) == 48
    assert {rule.event_types for rule in audit} == {frozenset({EventType.PLUGINEVENT})}


def test_every_condition_prints_back(official: LoadedRules) -> None:
    for rule in official.rules:
        assert parse(str(rule.condition)) == rule.condition, rule.name


def test_every_rule_compiles(official: LoadedRules) -> None:
    built = ruleset_of(official.rules)
    assert len(built.rules) == sum(rule.enabled for rule in official.rules)
    assert len(built.event_types) > 20


def test_the_stable_rules_hear_the_same_events(official: LoadedRules) -> None:
    """Of those that this version sees."""
    rules: dict[str, Rule] = {rule.name: rule for rule in official.rules}
    ours = {t.value for t in EventType}
    for told in json.loads((shared_falco() / "falco-loaded-stable.json").read_text()):
        rule = rules[told["name"]]
        assert {t.value for t in rule.event_types} == set(told["events"]) & ours, rule.name
        assert rule.priority.label == told["priority"]
        assert rule.enabled == told["enabled"]


@pytest.mark.parametrize(("name", "count"), list(zip(FILES, [25, 31, 37, 48], strict=True)))
def test_each_alone_brings_all_that_it_needs(name: str, count: int) -> None:
    loaded = load_rules(paths(name))
    assert [d.render() for d in loaded.errors] == []
    assert len(loaded.rules) == count
