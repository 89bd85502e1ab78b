"""`tercel show RULE`: a rule at every stage of its way.

Comes in: a rule's name. Goes out: the rule after all changes, its condition expanded, its form for each event type, and
the Python that judges it.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
from difflib import get_close_matches

from appliance.catalog.lookup import value_of
from appliance.catalog.narrow import specialise
from appliance.cli.loading import add_rule_options, load_generation
from appliance.cli.terminal import say
from appliance.codegen.output import output_code
from appliance.codegen.python import is_costly, judge_code
from appliance.model.event import EventType
from appliance.model.expr import Expr, checks_of
from appliance.model.rule import Rule
from appliance.model.text import json_safe, printable


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser(
        "show",
        help="show one rule at every stage; needs no root",
        description="Show a rule after all changes, its condition with macros and lists in place, its form for each"
        " event type, the generated Python, and which checks do more than look an attribute up.",
    )
    add_rule_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("rule", metavar="RULE", help="name of the rule")
    parser.set_defaults(verb=run)


def find_rule(rules: Iterable[Rule], name: str) -> Rule | None:
    """The rule of that name; where there is none, that is told with the nearest."""
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
    if args.json:
        print(json.dumps(_document(rule, forms), indent=2))
        return 0
    print(f"rule        {printable(rule.name)}   ({printable(rule.span.file)}:{rule.span.line})")
    print(
        f"priority    {rule.priority.label}; {'enabled' if rule.enabled else 'disabled'}; tags {', '.join(rule.tags)}"
    )
    print(f"desc        {printable(' '.join(rule.desc.split()))}")
    print(f"output      {printable(rule.output.text)}")
    print(f"condition   {printable(str(rule.condition))}")
    print(f"costly      {', '.join(_costly(rule.condition)) or 'no check does more than look an attribute up'}")
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


def _costly(expr: Expr) -> list[str]:
    costly: dict[str, None] = {}
    for check in checks_of(expr):
        value = value_of(check.left)
        if value is not None and is_costly(value.code):
            costly[str(check.left)] = None
    return list(costly)


def _document(rule: Rule, forms: dict[str, list[str]]) -> dict[str, object]:
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
        "forms": [{"events": types, "condition": json_safe(form)} for form, types in forms.items()],
    }
