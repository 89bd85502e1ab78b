"""`tercel check`: configuration and rules, without root and without the kernel.

Comes in: files. Goes out: every diagnostic of all of them, and a verdict. Never: a change to anything.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from appliance.cli.loading import add_config_option, add_key_option
from appliance.cli.results import falco_results
from appliance.cli.terminal import print_notes, print_some, say
from appliance.config.files import default_config
from appliance.config.keys import Note
from appliance.config.load import load_config
from appliance.daemon.generation import NOTHING_JUDGED, appended, selected
from appliance.lang.lint import shadowed
from appliance.lang.load import load_rules
from appliance.lang.portable import only_here
from appliance.model.diagnostic import ConfigError, Diagnostic, Severity
from appliance.model.text import json_safe


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser(
        "check",
        help="check configuration and rules; needs no root",
        description="Check a configuration and the rules it names, or rules alone. Prints everything that is wrong,"
        " each with file, line and column. Exit status 0: all is well, perhaps with warnings; 1: something is refused.",
    )
    add_config_option(parser)
    add_key_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    parser.add_argument(
        "--falco-json",
        action="store_true",
        help="the same in the shape of what `falco -V` prints: a result for each file",
    )
    parser.add_argument("--falco", action="store_true", help="warn of what Tercel accepts and Falco 0.44 would refuse")
    parser.add_argument(
        "--all", action="store_true", help="all warnings, not only those of files named here; of others their number"
    )
    parser.add_argument("rules", nargs="*", type=Path, metavar="RULES", help="rules files or folders, checked together")
    parser.set_defaults(verb=run)


def run(args: argparse.Namespace) -> int:
    """Check; 1 if anything is refused."""
    diagnostics: tuple[Diagnostic, ...] = ()
    files: tuple[Path, ...] = tuple(args.rules)
    checked = []
    config = None
    try:
        if args.config or args.option or not files:
            config_file = args.config or default_config()
            config = load_config(config_file, overrides=args.option, starts=False)
            checked.append(f"configuration {config_file}")
            files = files or config.rules_files
            appended((), config.append_output)
    except ConfigError as error:
        diagnostics += error.diagnostics
    if files:
        loaded = load_rules(files, lenient=config is not None and config.rules_unknown_keys == "warn")
        diagnostics += loaded.diagnostics
        if args.falco:
            diagnostics += tuple(only_here(loaded.rules))
        if config is not None and config.rule_matching == "first":
            diagnostics += tuple(shadowed(selected(loaded.rules, config.switches)))
        checked.append(f"{len(loaded.rules)} rules of {', '.join(map(str, files))}")
    elif config is not None:
        diagnostics += (NOTHING_JUDGED,)
    errors = sum(d.severity is Severity.ERROR for d in diagnostics)
    if args.falco_json:
        print(json.dumps(falco_results(files, diagnostics), indent=2))
    elif args.json:
        notes = config.notes if config is not None else ()
        found = {"ok": not errors, "diagnostics": list(map(_plain, diagnostics)), "notes": list(map(_note, notes))}
        print(json.dumps(found, indent=2))
    else:
        named = [*args.rules, *([config.path] if config is not None and config.path is not None else [])]
        print_some(diagnostics, named, everything=args.all)
        if config is not None:
            print_notes(config.notes)
        verdict = f"{errors} error{'s' * (errors != 1)}, {len(diagnostics) - errors} warnings"
        say(f"{'refused' if errors else 'ok'}: {'; '.join(checked) or 'nothing'}: {verdict}")
    return 1 if errors else 0


def _plain(diagnostic: Diagnostic) -> dict[str, Any]:
    facts = asdict(diagnostic) | {"severity": diagnostic.severity.value}
    return {key: json_safe(value) if isinstance(value, str) else value for key, value in facts.items()}


def _note(note: Note) -> dict[str, Any]:
    return {"keys": list(note.keys), "note": json_safe(note.text), "span": asdict(note.span) if note.span else None}
