"""`tercel reload`: the running appliance takes up changed configuration and rules.

Comes in: nothing but which appliance. Goes out: its verdict with all diagnostics, and an exit status that says it.
Never: an end before the verdict.
"""

from __future__ import annotations

import argparse

from appliance.cli.asking import add_socket_options, ask
from appliance.cli.terminal import print_diagnostics, say
from appliance.daemon.control import diagnostic_from_json
from appliance.model.text import printable


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser(
        "reload",
        help="let the running appliance take up changed configuration and rules",
        description="Ask the running appliance to read its configuration and rules again, and wait for its verdict."
        " Nothing is missed meanwhile. Exit status 0: the new ones are in force; 1: they were refused and the old ones"
        " go on, or no appliance answered.",
    )
    add_socket_options(parser)
    parser.set_defaults(verb=run)


def run(args: argparse.Namespace) -> int:
    """Ask, wait, tell."""
    verdict = ask(args, "reload")
    if verdict is None:
        return 1
    print_diagnostics(diagnostic_from_json(d) for d in verdict["diagnostics"])
    number = verdict["generation"]
    if not verdict["accepted"]:
        say(f"refused; generation {number} goes on")
        return 1
    changes = "; ".join(printable(change) for change in verdict["changes"]) or "nothing has changed"
    say(f"reloaded in {verdict['seconds']:.2f} s: generation {number}, {changes}")
    return 0
