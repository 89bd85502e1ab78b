"""`tercel doctor`: what this machine offers, what is taken of it, and which rules see less because of what it lacks.

Comes in: a configuration. Goes out: findings, for people or as JSON. Exit status 0: all is well; 1: the appliance could
not run here; 3: it would run, and something is degraded. Never: a change to the machine, or a daemon that must run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from appliance.catalog.narrow import holds_on_failure
from appliance.cli.loading import add_rule_options, load_generation
from appliance.model.rule import Rule
from appliance.model.text import printable

if TYPE_CHECKING:
    from appliance.kernel.survey import Finding

DEGRADED = 3  # as `tercel status` of an appliance that is not well
_SHOWN = 8  # rules named for a finding


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser(
        "doctor",
        help="what this machine offers, and which rules see less because of what it lacks",
        description="Look at rights, kernel, hooks and rules, and say what was found, what would be chosen and what is"
        " degraded. Without root it finds out as much as it can. Exit status 0: all is well; 1: the appliance could not"
        " run here; 3: it would run, and something is degraded.",
    )
    add_rule_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(verb=run)


def run(args: argparse.Namespace) -> int:
    """Look and print."""
    from appliance.kernel.program import Hooks  # the kernel room, which other verbs never import
    from appliance.kernel.survey import survey

    generation = load_generation(args)
    if generation is None:
        return 1
    rules = generation.ruleset.rules
    findings = survey(Hooks(generation.config.capture.hooks), generation.ruleset.event_types)
    if args.json:
        print(json.dumps({"status": status_of(findings), "findings": [to_json(f, rules) for f in findings]}))
    else:
        for line in text_of(findings, rules):
            print(line)
    return status_of(findings)


def status_of(findings: Iterable[Finding]) -> int:
    """The exit status."""
    states = {finding.state.value for finding in findings}
    return 1 if "missing" in states else DEGRADED if "degraded" in states else 0


def seeing_less(finding: Finding, rules: Iterable[Rule]) -> list[str]:
    """The names of the rules that listen to something that is not, or not wholly, seen."""
    return [
        rule.name
        for rule in rules
        if any(not finding.failures or holds_on_failure(rule.condition, t) for t in finding.blinds & rule.event_types)
    ]


def to_json(finding: Finding, rules: Iterable[Rule]) -> dict[str, Any]:
    """One finding as JSON."""
    return {
        "name": finding.name,
        "state": finding.state.value,
        "text": finding.text,
        "hint": finding.hint,
        "events": sorted(t.value for t in finding.blinds),
        "rules": seeing_less(finding, rules),
    }


def text_of(findings: Sequence[Finding], rules: Sequence[Rule]) -> Iterator[str]:
    """The lines for people."""
    for finding in findings:
        yield f"{finding.state.value:<9} {finding.name}: {printable(finding.text)}"
        if finding.hint:
            yield f"          hint: {finding.hint}"
        less = seeing_less(finding, rules)
        if less:
            more = f" and {len(less) - _SHOWN} more" if len(less) > _SHOWN else ""
            yield f"          {len(less)} of {len(rules)} rules see less: {printable(', '.join(less[:_SHOWN]))}{more}"
    yield {
        0: f"all is well: {len(rules)} rules see what they listen to",
        1: "the appliance cannot run here",
        DEGRADED: "the appliance runs here; what is degraded is above",
    }[status_of(findings)]
