"""`tercel show RULE`: a rule at every stage of its way.

Comes in: a rule's name, perhaps events. Goes out: the rule after all changes, its condition expanded, its form for each
event type, the Python that judges it, and what each check costs.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import defaultdict
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from appliance.catalog.lookup import value_of
from appliance.catalog.narrow import specialise
from appliance.cli.costs import RulePrice, price_of
from appliance.cli.loading import add_rule_options, events_of, load_generation
from appliance.cli.terminal import say
from appliance.codegen.output import output_code
from appliance.codegen.python import is_costly, judge_code
from appliance.engine.typical import typical_event
from appliance.model.event import Event, EventType
from appliance.model.expr import Expr, checks_of
from appliance.model.rule import Rule
from appliance.model.text import json_safe, printable
from appliance.sources.replay import ReplayError

_MOST_EVENTS = 10_000  # of a file; more would only take longer
_WIDEST = 80  # characters of a check in the table


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser(
        "show",
        help="show one rule at every stage; needs no root",
        description="Show a rule after all changes, its condition with macros and lists in place, its form for each"
        " event type, the generated Python, and what each check costs on this machine: on the events of a file, or on"
        " one made up for each form.",
    )
    add_rule_options(parser)
    parser.add_argument(
        "--events", type=Path, metavar="EVENTS", help="measure on the events of this file, `-` for standard input"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("rule", metavar="RULE", help="name of the rule")
    parser.set_defaults(verb=run)


def find_rule(rules: Iterable[Rule], name: str) -> Rule | None:
    """The rule of that name; where there is none, the nearest is named."""
    by_name = {rule.name: rule for rule in rules}
    if name not in by_name:
        say(f"error: no rule is called `{printable(name)}`")
        for guess in get_close_matches(name, by_name, 1):
            say(f"   hint: did you mean `{printable(guess)}`?")
    return by_name.get(name)


def run(args: argparse.Namespace) -> int:
    """Show; 1 if there is no such rule."""
    generation = load_generation(args)
    rule = None if generation is None else find_rule(generation.loaded.rules, args.rule)
    if rule is None:
        return 1
    forms = _forms(rule)
    events = _events(args.events, forms)
    if events is None:
        return 1
    price = price_of(rule, events)
    if args.json:
        print(json.dumps(_document(rule, forms, price, recorded=args.events is not None), indent=2))
        return 0
    print(f"rule        {printable(rule.name)}   ({printable(rule.span.file)}:{rule.span.line})")
    print(
        f"priority    {rule.priority.label}; {'enabled' if rule.enabled else 'disabled'}; tags {', '.join(rule.tags)}"
    )
    print(f"desc        {printable(' '.join(rule.desc.split()))}")
    print(f"output      {printable(rule.output.text)}")
    print(f"condition   {printable(str(rule.condition))}")
    print(f"costly      {', '.join(_costly(rule.condition)) or 'no check does more than look an attribute up'}")
    _print_price(price, recorded=args.events is not None)
    for form, types in forms.items():
        print(f"\non {', '.join(types)}:\n  {printable(form)}")
        code = judge_code([(0, rule)], EventType(types[0]), first=True)
        print("\n" + "\n".join(f"    {printable(line)}" for line in (code.text if code else "").splitlines()))
    print("\nmessage:\n")
    print("\n".join(f"    {printable(line)}" for line in output_code(rule.output).text.splitlines()))
    return 0


def _forms(rule: Rule) -> dict[str, list[str]]:
    """The condition as it stands for the event types, types of one form together."""
    found: dict[str, list[str]] = defaultdict(list)
    for type_ in sorted(rule.event_types):
        found[str(specialise(rule.condition, type_))].append(type_.value)
    return dict(found)


def _events(file: Path | None, forms: dict[str, list[str]]) -> list[Event] | None:
    """What to measure on: the file's events, or one for each form; None, and a word, where it cannot be read."""
    if file is None:
        return [typical_event(EventType(types[0])) for types in forms.values()]
    try:
        return list(itertools.islice(events_of(file), _MOST_EVENTS))
    except ReplayError as error:
        say(f"error: {printable(str(error))}")
        return None


def _print_price(price: RulePrice, *, recorded: bool) -> None:
    of = "of the file" if recorded else "made up, one for each form below"
    print(f"\ncost        {price.ns:.0f} ns an event, on {price.events} {of}; each check by itself:\n")
    print(f"    {'ns':>7}  {'share':>5}  {'holds':>5}  check")
    for cost in price.checks:
        place = f"  ({cost.check.span.file}:{cost.check.span.line})"
        check = str(cost.check)
        check = check if len(check) <= _WIDEST else f"{check[:_WIDEST]}..."
        line = f"{cost.ns:7.0f}  {cost.share:5.0%}  {cost.held:5.0%}  {check}{place}"
        print(f"    {printable(line)}")


def _costly(expr: Expr) -> list[str]:
    costly: dict[str, None] = {}
    for check in checks_of(expr):
        value = value_of(check.left)
        if value is not None and is_costly(value.code):
            costly[str(check.left)] = None
    return list(costly)


def _document(rule: Rule, forms: dict[str, list[str]], price: RulePrice, *, recorded: bool) -> dict[str, object]:
    return {
        "rule": json_safe(rule.name),
        "file": json_safe(rule.span.file),
        "line": rule.span.line,
        "desc": json_safe(rule.desc),
        "priority": rule.priority.label,
        "enabled": rule.enabled,
        "source": rule.source,
        "tags": list(rule.tags),
        "output": json_safe(rule.output.text),
        "condition": json_safe(str(rule.condition)),
        "costly": _costly(rule.condition),
        "cost": {
            "ns": round(price.ns, 1),
            "events": price.events,
            "measured_on": "recorded" if recorded else "typical",
            "checks": [
                {
                    "check": json_safe(str(cost.check)),
                    "ns": round(cost.ns, 1),
                    "share": round(cost.share, 4),
                    "holds": round(cost.held, 4),
                    "file": json_safe(cost.check.span.file),
                    "line": cost.check.span.line,
                }
                for cost in price.checks
            ],
        },
        "forms": [{"events": types, "condition": json_safe(form)} for form, types in forms.items()],
    }
