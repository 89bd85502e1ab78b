"""`tercel replay`: events from a file, judged offline.

Comes in: JSON Lines, as `schemas/event.schema.json` describes them. Goes out: alerts on standard output, the same ones
at every replay. Never: a look at this machine's kernel, clock or users.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from appliance.cli.loading import add_rule_options, lines_of, load_generation
from appliance.cli.terminal import say
from appliance.daemon.generation import file_digests
from appliance.engine.ruleset import Ruleset
from appliance.engine.timing import Stopwatch
from appliance.model.text import printable
from appliance.model.wire import Format, line
from appliance.sinks.build import format_of
from appliance.sources.replay import ReplayError, read_events, read_head


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser(
        "replay",
        help="judge events from a file; needs no root",
        description="Judge events from a file of JSON Lines (schemas/event.schema.json) and print the alerts. The same"
        " events and rules give the same alerts. Exit status 0, or 1 if rules or events are refused.",
    )
    add_rule_options(parser)
    parser.add_argument("--json", action="store_true", help="alerts as JSON, whatever the configuration says")
    parser.add_argument("events", type=Path, metavar="EVENTS", help="file of events, `-` for standard input")
    parser.set_defaults(verb=run)


def run(args: argparse.Namespace) -> int:
    """Replay; 1 if anything is refused."""
    generation = load_generation(args)
    if generation is None:
        return 1
    options = format_of(generation.config)
    options = replace(options, json_output=args.json or options.json_output)
    try:
        _replay(args.events, options, generation.ruleset)
    except ReplayError as error:
        say(f"error: {printable(str(error))}")
        return 1
    return 0


def _replay(file: Path, options: Format, rules: Ruleset) -> None:
    events = alerts = 0
    lines = lines_of(file)
    first = next(lines, "")
    head = read_head(first)
    _compare(head, file)
    for event in Stopwatch().all(read_events(itertools.chain([first], lines), str(file))):
        events += 1
        for alert in rules.match(event):
            alerts += 1
            if "hostname" in head:
                alert = replace(alert, hostname=str(head["hostname"]))
            print(line(alert, options))
    say(f"{events} events, {alerts} alerts")


def _compare(head: Mapping[str, Any], name: Path) -> None:
    """Say where a recording was made by rules that are others by now: its alerts may be others, too."""
    digests = head.get("sha256")
    if not isinstance(digests, dict):
        return
    now = file_digests([Path(str(file)) for file in digests])
    changed = [file for file, digest in digests.items() if now.get(Path(str(file))) not in ("", digest)]
    if changed:
        say(f"note: {printable(str(name))} was made by other contents of {printable(', '.join(map(str, changed)))}")
