"""`tercel test`: the cases beside the rules.

Comes in: rules and files of cases. Goes out: each case that failed and why, what no case has shown, a verdict; with
`--junit` a report for machines. Never: a pass for a case that was not run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from appliance.cli.casefile import CaseError, find_cases, read_cases
from appliance.cli.loading import add_rule_options, load_generation
from appliance.cli.terminal import say
from appliance.engine.cases import Coverage, Outcome, coverage, run_cases
from appliance.model.text import json_safe, printable, why


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser(
        "test",
        help="run the test cases of rules; needs no root",
        description="Run test cases of rules: given events, a rule fires, does not fire, has this output. Exit status 0"
        " if all pass, else 1.",
    )
    add_rule_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write a JUnit report")
    parser.add_argument("--coverage", action="store_true", help="tell the clauses that no case has shown both ways")
    parser.add_argument("cases", nargs="+", type=Path, metavar="CASES", help="files or folders of cases")
    parser.set_defaults(verb=run)


def run(args: argparse.Namespace) -> int:
    """Test; 1 if a case fails or anything is refused."""
    generation = load_generation(args, "rule_matching=all", "rules_profile=all", "priority=debug")
    if generation is None:
        return 1
    try:
        cases = [case for path in find_cases(args.cases) for case in read_cases(path)]
    except (CaseError, OSError) as error:
        say(f"error: {printable(str(error))}")
        return 1
    outcomes = run_cases(generation.ruleset, cases)
    covered = coverage(generation.ruleset.rules, cases)
    failed = [outcome for outcome in outcomes if outcome.problem is not None]
    if args.junit:
        try:
            args.junit.write_bytes(junit(outcomes))
        except OSError as error:
            say(f"error: {printable(str(args.junit))}: {why(error)}")
            return 1
    if args.json:
        print(json.dumps(_document(outcomes, covered), indent=2))
    else:
        for outcome in failed:
            say(f"FAILED {printable(outcome.case.place)}: {printable(outcome.case.name)}")
            say(f"   {printable(outcome.problem or '')}")
        _tell_coverage(covered, args.coverage)
        say(f"{len(outcomes)} cases, {len(failed)} failed")
    return 1 if failed else 0


def _tell_coverage(covered: Sequence[Coverage], clauses: bool) -> None:
    for rule in covered:
        lacks = [word for word, has in (("fires", rule.fires), ("does not fire", rule.quiet)) if not has]
        if lacks:
            say(f"no case shows that `{printable(rule.rule)}` {' or '.join(lacks)}")
        if clauses:
            for clause in rule.open:
                way = "seen by no case" if not clause.held and not clause.failed else (
                    "never false" if clause.held else "never true"
                )  # fmt: skip
                say(f"`{printable(rule.rule)}`: {way}: {printable(str(clause.check))[:100]}")
    total = sum(rule.checks for rule in covered)
    shown = total - sum(len(rule.open) for rule in covered)
    say(f"{shown} of {total} clauses were seen both ways")


def _document(outcomes: Sequence[Outcome], covered: Sequence[Coverage]) -> dict[str, object]:
    return {
        "ok": all(outcome.problem is None for outcome in outcomes),
        "cases": [
            {
                "rule": json_safe(o.case.rule),
                "name": json_safe(o.case.name),
                "place": json_safe(o.case.place),
                "ok": o.problem is None,
                "problem": None if o.problem is None else json_safe(o.problem),
            }
            for o in outcomes
        ],
        "coverage": [
            {"rule": c.rule, "clauses": c.checks, "open": [str(clause.check) for clause in c.open]} for c in covered
        ],
    }


def junit(outcomes: Sequence[Outcome]) -> bytes:
    """The outcomes as JUnit XML; characters that XML cannot hold are escaped."""
    failures = sum(outcome.problem is not None for outcome in outcomes)
    suite = ElementTree.Element(
        "testsuite", name="tercel test", tests=str(len(outcomes)), failures=str(failures), errors="0", skipped="0"
    )
    for outcome in outcomes:
        case = ElementTree.SubElement(
            suite, "testcase", classname=printable(outcome.case.rule), name=printable(outcome.case.name)
        )
        if outcome.problem is not None:
            ElementTree.SubElement(case, "failure", message=printable(outcome.problem)).text = printable(
                outcome.case.place
            )
    return bytes(ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True))
