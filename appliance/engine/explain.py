"""Why a rule holds on an event or does not: every clause with its verdict and the value it looked at.

Comes in: a checked condition, an event. Goes out: a tree of verdicts. Each check is judged by the code that the rule's
predicate is made of, alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from appliance.codegen.python import value_code
from appliance.codegen.runtime import text_of
from appliance.engine.ruleset import compile_rule, compile_value
from appliance.model.event import Event
from appliance.model.expr import And, Call, Check, Const, Expr, FieldRef, Not, Or
from appliance.model.rule import Rule


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one node of a condition came to. `values` are the fields that a check looked at, as messages show them."""

    expr: Expr
    holds: bool
    parts: tuple[Verdict, ...] = ()
    values: tuple[tuple[str, str], ...] = ()

    def deciding(self) -> Iterator[Verdict]:
        """The checks that decide: were they otherwise, the whole might be."""
        if isinstance(self.expr, And | Or):
            needs_all = isinstance(self.expr, And) == self.holds
            for part in self.parts:
                if needs_all or part.holds == self.holds:
                    yield from part.deciding()
        elif isinstance(self.expr, Not):
            yield from self.parts[0].deciding()
        else:
            yield self


def explain(rule: Rule, event: Event) -> Verdict:
    """The verdict on a rule's condition, and on each of its parts."""
    return _verdict(rule.condition, rule, event)


def _verdict(expr: Expr, rule: Rule, event: Event) -> Verdict:
    match expr:
        case Const(value):
            return Verdict(expr, value)
        case Not(part):
            inner = _verdict(part, rule, event)
            return Verdict(expr, not inner.holds, (inner,))
        case And(parts) | Or(parts):
            found = tuple(_verdict(part, rule, event) for part in parts)
            every = all(v.holds for v in found) if isinstance(expr, And) else any(v.holds for v in found)
            return Verdict(expr, every, found)
        case Check():
            holds = compile_rule(replace(rule, condition=expr), event.type)
            return Verdict(expr, holds is not None and bool(holds(event)), (), tuple(_values(expr, event)))
        case _:
            raise AssertionError(f"{expr!r} is not a checked condition")


def _values(check: Check, event: Event) -> Iterator[tuple[str, str]]:
    operands = [check.left] + ([check.right] if isinstance(check.right, FieldRef | Call) else [])
    for operand in operands:
        yield str(operand), text_of(compile_value(value_code(operand))(event))
