"""What the checks of one rule cost, for `tercel show`.

Comes in: a rule, events of its types. Goes out: nanoseconds for an event, of the whole predicate and of each check
alone. Never: a promise: the figures are this machine's, at this moment.

The predicate stops at the first check that decides, so the checks' times do not add up to its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from appliance.daemon.cost import Trial
from appliance.engine.ruleset import compile_rule
from appliance.model.event import Event
from appliance.model.expr import Check, Expr, checks_of
from appliance.model.rule import Rule

_LEAST = 256  # events of one pass, so that it takes longer than the clock's step
_PASSES = 3


@dataclass(frozen=True, slots=True)
class CheckCost:
    """`ns`: for one event, the mean over all events. `share`: of the sum of all checks' times. `held`: on what part of
    the events it holds, by itself."""

    check: Check
    ns: float
    share: float
    held: float


@dataclass(frozen=True, slots=True)
class RulePrice:
    """`ns`: the whole predicate on one event, the mean over `events` of them. `checks`: dearest first."""

    ns: float
    events: int
    checks: tuple[CheckCost, ...]


def price_of(rule: Rule, events: Iterable[Event]) -> RulePrice:
    """Measure; events of types that the rule does not listen to do not count. Without events all is 0."""
    trial = Trial((e for e in events if e.type in rule.event_types), least=_LEAST, passes=_PASSES)
    count = sum(map(len, trial.by_type.values()))

    def ns_of(expr: Expr) -> tuple[float, int]:
        spent, held = 0.0, 0
        for type_, mine in trial.by_type.items():
            judge = compile_rule(replace(rule, condition=expr), type_)
            if judge is not None:
                spent += trial.ns_of(judge, type_)
                held += sum(1 for event in mine if judge(event))
        return spent / max(count, 1), held

    spent = [(check, *ns_of(check)) for check in dict.fromkeys(checks_of(rule.condition))]
    whole = sum(ns for _, ns, _ in spent) or 1.0
    checks = (CheckCost(check, ns, ns / whole, held / max(count, 1)) for check, ns, held in spent)
    return RulePrice(ns_of(rule.condition)[0], count, tuple(sorted(checks, key=lambda cost: -cost.ns)))
