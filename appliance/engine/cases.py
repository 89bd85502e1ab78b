"""Test cases of rules: an event, and what the rules must make of it.

Comes in: cases, a ruleset. Goes out: outcomes, and which clauses of each rule no case has seen both ways. Never: a case
that passes because it names a rule that does not exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from appliance.engine.explain import explain
from appliance.engine.ruleset import Ruleset
from appliance.model.event import Event
from appliance.model.expr import Check, checks_of
from appliance.model.rule import Rule


@dataclass(frozen=True, slots=True)
class Case:
    """`fires`: the rule must hold on the event. `output`: its whole message. `alerts`: all rules that must hold."""

    rule: str
    name: str
    place: str
    event: Event
    fires: bool
    output: str | None = None
    alerts: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """`problem` is None for a case that passed."""

    case: Case
    problem: str | None


def run_cases(rules: Ruleset, cases: Iterable[Case]) -> list[Outcome]:
    """The outcome of each case; `rules` must have been built with `matching="all"`."""
    known = {rule.name for rule in rules.rules}
    return [Outcome(case, _problem(rules, case, known)) for case in cases]


def _problem(rules: Ruleset, case: Case, known: set[str]) -> str | None:
    if case.rule not in known:
        return f"no enabled rule is called `{case.rule}`"
    alerts = rules.match(case.event)
    names = [alert.rule for alert in alerts]
    if rules.errors:
        return f"errors in generated code: {dict(rules.errors)}"
    if case.alerts is not None and tuple(names) != case.alerts:
        return f"expected alerts {_list(case.alerts)}, got {_list(names)}"
    if (case.rule in names) != case.fires:
        return f"expected it {'to fire' if case.fires else 'not to fire'}, and it {'did not' if case.fires else 'did'}"
    if case.output is not None:
        found = next((alert.output for alert in alerts if alert.rule == case.rule), None)
        if found != case.output:
            return f"expected the output `{case.output}`, got `{found}`"
    return None


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


@dataclass(frozen=True, slots=True)
class Clause:
    """A check of a rule that no case has seen hold, or has seen not hold."""

    rule: str
    check: Check
    held: bool
    failed: bool


@dataclass(frozen=True, slots=True)
class Coverage:
    """Of one rule: how many checks there are, and those not seen both ways. A rule without a firing or without a quiet
    case is reported, too."""

    rule: str
    checks: int
    open: tuple[Clause, ...]
    fires: bool
    quiet: bool


def coverage(rules: Iterable[Rule], cases: Sequence[Case]) -> list[Coverage]:
    """What the cases of each rule have shown of its clauses."""
    found = []
    for rule in rules:
        mine = [case for case in cases if case.rule == rule.name]
        checks = list(dict.fromkeys(checks_of(rule.condition)))
        held: set[Check] = set()
        failed: set[Check] = set()
        for case in mine:
            stack = [explain(rule, case.event)]
            while stack:
                verdict = stack.pop()
                stack += verdict.parts
                if isinstance(verdict.expr, Check):
                    (held if verdict.holds else failed).add(verdict.expr)
        clauses = tuple(
            Clause(rule.name, c, c in held, c in failed) for c in checks if c not in held or c not in failed
        )
        fires, quiet = any(c.fires for c in mine), any(not c.fires for c in mine)
        found.append(Coverage(rule.name, len(checks), clauses, fires, quiet))
    return found
