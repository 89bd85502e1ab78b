"""The rules, indexed by event type and compiled.

Comes in: checked rules. Goes out: a `Ruleset` that says of an event which alerts it makes. Never: a change once built
(but for its count of errors), or an event that an erroneous predicate keeps from the other rules.
"""

from __future__ import annotations

import linecache
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from appliance.catalog.events import OPENS
from appliance.catalog.narrow import specialise
from appliance.catalog.opens import ALL
from appliance.catalog.values import World
from appliance.codegen.output import output_code
from appliance.codegen.pushdown import of_an_open, over
from appliance.codegen.python import NAMES, Code, judge_code
from appliance.engine.early import Early, early_of
from appliance.engine.needs import needs_of
from appliance.model.alert import Alert, FieldValue, Priority
from appliance.model.diagnostic import worth_a_line
from appliance.model.event import Event, EventType
from appliance.model.expr import TRUE, Check
from appliance.model.rule import Output, Rule

log = logging.getLogger(__name__)

Judge = Callable[[Event], tuple[int, ...]]
Write = Callable[[Event], tuple[str, dict[str, FieldValue]]]


class Ruleset:
    """An immutable index: event type -> predicates. Make it with `build`.

    `rules` are those that are judged, in load order; `event_types` those on which one of them can hold; `errors` counts
    errors of generated code by rule, each a bug of ours. `fields` are the names of all that they look at, in conditions
    and messages; `world` is what they ask beyond the event; `early` is what the kernel may drop of opens.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        judges: Mapping[EventType, Judge],
        writers: Sequence[Write],
        *,
        first: bool,
        world: World,
        new_id: Callable[[], str],
        opens: Mapping[EventType, Judge] | None = None,
        early: Early | None = None,
    ) -> None:
        self.rules = tuple(rules)
        self.event_types = frozenset(judges)
        self.errors: Counter[str] = Counter()
        self._judges = dict(judges)
        self._opens = dict(opens or {})
        self.early = Early({b"": ALL}) if early is None else early
        self._writers = tuple(writers)
        self._first = first
        self.world = world
        self.needs = needs_of(self.rules)
        self._new_id = new_id
        self._by_name = {rule.name: rule for rule in self.rules}
        self._alone: dict[EventType, tuple[tuple[int, Judge], ...]] = {}  # of the types whose joint function has failed

    def rule_named(self, name: str) -> Rule | None:
        """The rule of that name that is judged, None where there is none."""
        return self._by_name.get(name)

    @classmethod
    def build(
        cls,
        rules: Iterable[Rule],
        *,
        minimum: Priority,
        matching: str,
        hostname: str,
        new_id: Callable[[], str],
        rest: Callable[[], None] = lambda: None,
        early: bool = False,
    ) -> Ruleset:
        """Compile the rules that are enabled and at least as severe as `minimum`.

        `matching` is `first` (an event fires the first rule that holds, in load order) or `all`. `new_id` gives each
        alert its id. `rest` is called between two steps, of some milliseconds each. With `early` the table for the
        kernel's filter is made, too.
        """
        chosen = [rule for rule in rules if rule.enabled and rule.priority <= minimum]
        first, world = matching == "first", World(hostname)
        judges: dict[EventType, Judge] = {}
        for type_ in EventType:
            code = judge_code([(n, r) for n, r in enumerate(chosen) if type_ in r.event_types], type_, first=first)
            if code is not None:
                judges[type_] = _judge(code, f"<rules on {type_.value}>", world)
                rest()
        writers = []
        for rule in chosen:
            writers.append(_writer(output_code(rule.output), f"<output of {rule.name}>", world))
            rest()
        opens = {type_: judge for type_ in OPENS if (judge := _generous(chosen, type_, world)) is not None}
        table = early_of(chosen, _compile_check) if early else None
        return cls(chosen, judges, writers, first=first, world=world, new_id=new_id, opens=opens, early=table)

    def may_fire(self, event: Event) -> bool:
        """False for an open on whose arguments no rule can hold, whoever makes it. Of the event only these are looked
        at, and whether it failed (`codegen.pushdown.of_an_open`)."""
        judge = self._opens.get(event.type)
        try:
            return judge is None or bool(judge(event))
        except Exception:  # told when it is judged
            return True

    def match(self, event: Event) -> Sequence[Alert]:
        """The alerts of an event, in load order of their rules."""
        judge = self._judges.get(event.type)
        if judge is None:
            return ()
        try:
            found = judge(event)
        except Exception:
            found = self._one_by_one(event)
        return [self._alert(n, event) for n in found] if found else ()

    def _one_by_one(self, event: Event) -> tuple[int, ...]:
        """Each rule alone, compiled once, so that only the erroneous one is silent; it is counted and logged."""
        alone = self._alone.get(event.type)
        if alone is None:
            alone = self._alone[event.type] = tuple(self._compile_alone(event.type))
        found: list[int] = []
        for n, judge in alone:
            try:
                found += judge(event)
            except Exception:
                self._count_error(self.rules[n])
            if found and self._first:
                break
        return tuple(found)

    def _compile_alone(self, type_: EventType) -> Iterator[tuple[int, Judge]]:
        for n, rule in enumerate(self.rules):
            if type_ in rule.event_types:
                code = judge_code([(n, rule)], type_, first=True)
                if code is not None:
                    yield n, _judge(code, f"<rule {rule.name} on {type_.value}>", self.world)

    def _alert(self, n: int, event: Event) -> Alert:
        rule = self.rules[n]
        try:
            output, fields = self._writers[n](event)
        except Exception:
            self._count_error(rule)
            output, fields = rule.output.text, {}
        return Alert(
            id=self._new_id(),
            ts_ns=event.ts_ns,
            hostname=self.world.hostname or "",
            rule=rule.name,
            priority=rule.priority,
            source=rule.source,
            tags=rule.tags,
            output=output,
            fields=fields,
        )

    def _count_error(self, rule: Rule) -> None:
        self.errors[rule.name] += 1
        count = self.errors[rule.name]
        if count == 1:
            log.exception("generated code of rule `%s` failed: please report it", rule.name)
        elif worth_a_line(count):
            log.error("generated code of rule `%s` has failed %d times", rule.name, count)


def _generous(rules: Iterable[Rule], type_: EventType, world: World) -> Judge | None:
    """The rules weakened to what the arguments of an open say; None where that says nothing."""
    weak = []
    for rule in rules:
        if type_ in rule.event_types:
            tree = specialise(over(specialise(rule.condition, type_), of_an_open), type_)
            if tree == TRUE:
                return None
            weak.append(replace(rule, condition=tree))
    code = judge_code(list(enumerate(weak)), type_, first=True)
    return _nothing if code is None else _judge(code, f"<what {type_.value} may fire>", world)


def _nothing(event: Event) -> tuple[int, ...]:
    return ()


def compile_rule(rule: Rule, type_: EventType) -> Judge | None:
    """One rule's predicate for events of a type, alone; None where it can never hold on them."""
    code = judge_code([(0, rule)], type_, first=True)
    return None if code is None else _judge(code, f"<rule {rule.name} on {type_.value}>", World())


def _compile_check(check: Check, type_: EventType) -> Callable[[Event], bool]:
    """A check by itself, as a rule has it."""
    rule = Rule(
        "a check", "", check, Output("", ()), Priority.DEBUG, "syscall", (), True, frozenset((type_,)), check.span
    )
    judge = compile_rule(rule, type_)
    return (lambda event: False) if judge is None else lambda event: bool(judge(event))


def compile_value(value: str) -> Callable[[Event], object]:
    """A function that gives the value of a catalogue expression."""
    get: Callable[[Event], object] = _run(Code(f"def get(e):\n    return {value}\n", {}), "<value>", World())["get"]
    return get


def _judge(code: Code, name: str, world: World) -> Judge:
    judge: Judge = _run(code, name, world)["judge"]
    return judge


def _writer(code: Code, name: str, world: World) -> Write:
    write: Write = _run(code, name, world)["write"]
    return write


def _run(code: Code, name: str, world: World) -> dict[str, Any]:
    """Run a generated module; tracebacks show its lines under `name`."""
    linecache.cache[name] = (len(code.text), None, code.text.splitlines(keepends=True), name)
    module: dict[str, Any] = {**NAMES, "WORLD": world, **code.constants}
    exec(compile(code.text, name, "exec"), module)  # noqa: S102  (made of catalogue expressions and literals)
    return module
