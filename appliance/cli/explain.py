"""`tercel explain`: for events and a rule, which clause decided, with the values.

Comes in: a rule's name, events. Goes out: each clause with its verdict and what it looked at.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appliance.cli.loading import add_rule_options, events_of, load_generation
from appliance.cli.show import find_rule
from appliance.cli.terminal import say
from appliance.engine.explain import Verdict, explain
from appliance.model.event import Event
from appliance.model.expr import And, Check, Not, Or
from appliance.model.text import json_safe, printable
from appliance.sources.replay import ReplayError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser(
        "explain",
        help="say why a rule fires on an event, or does not; needs no root",
        description="For each event of a file (as for `tercel replay`) say whether a rule fires, and which clauses"
        " decided, with the values they looked at. A `*` marks those that decide. Exit status 0 if the rule fires on"
        " every event, 1 if not, or if anything is refused.",
    )
    add_rule_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object for each event")
    parser.add_argument("rule", metavar="RULE", help="name of the rule")
    parser.add_argument("events", type=Path, metavar="EVENTS", help="file of events, `-` for standard input")
    parser.set_defaults(verb=run)


def run(args: argparse.Namespace) -> int:
    """Explain; 1 if the rule does not fire on every event."""
    generation = load_generation(args)
    rule = None if generation is None else find_rule(generation.loaded.rules, args.rule)
    if rule is None:
        return 1
    fired = True
    try:
        for number, event in enumerate(events_of(args.events), 1):
            verdict = explain(rule, event)
            fired = fired and verdict.holds
            if args.json:
                print(json.dumps(_document(number, event, verdict)))
                continue
            answer = "fires" if verdict.holds else "does not fire"
            print(f"event {number}, {event.type.value}: `{printable(rule.name)}` {answer}")
            deciding = {id(v) for v in verdict.deciding()}
            for text in _lines(verdict, deciding, 1):
                print(text)
    except ReplayError as error:
        say(f"error: {printable(str(error))}")
        return 1
    return 0 if fired else 1


def _lines(verdict: Verdict, deciding: set[int], depth: int) -> Iterator[str]:
    mark = "*" if id(verdict) in deciding else " "
    head = f"{mark} {'true ' if verdict.holds else 'false'} {'  ' * depth}"
    match verdict.expr:
        case And():
            yield f"{head}all of"
        case Or():
            yield f"{head}any of"
        case Not():
            yield f"{head}not"
        case other:
            values = "; ".join(f"{name} is {value}" for name, value in verdict.values)
            span = other.span
            place = f"  ({span.file}:{span.line})" if span.line else ""
            yield f"{head}{printable(str(other))}    [{printable(values)}]{printable(place)}"
    for part in verdict.parts:
        yield from _lines(part, deciding, depth + 1)


def _document(number: int, event: Event, verdict: Verdict) -> dict[str, Any]:
    return {
        "event": number,
        "type": event.type.value,
        "fires": verdict.holds,
        "deciding": [
            {
                "check": json_safe(str(v.expr)),
                "holds": v.holds,
                "values": {json_safe(name): json_safe(value) for name, value in v.values},
                "file": json_safe(v.expr.span.file),
                "line": v.expr.span.line,
            }
            for v in verdict.deciding()
            if isinstance(v.expr, Check)
        ],
    }
