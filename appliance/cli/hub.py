"""`tercel hub`: the central hub and what is asked of it.

Comes in: arguments. Goes out: an exit status. Never: an import of the hub's libraries before the verb is used, so that
a host without them keeps all other verbs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.cli.loading import add_key_option
from appliance.cli.terminal import print_diagnostics, say
from appliance.config.files import SYSTEM_HUB_CONFIG, default_hub_config
from appliance.model.diagnostic import ConfigError
from appliance.model.text import printable

if TYPE_CHECKING:
    from appliance.hub.settings import HubSettings

ACTIONS = ("run", "check", "status", "send-test", "replay-dead", "export", "user", "tune", "reindex", "demo")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser(
        "hub",
        help="collect alerts of many hosts and forward them",
        description="The central hub. run: collect alerts, store them, forward them to outputs, show them on a page."
        " check: check the configuration. status: how the collector, each output and each host are. send-test: send a"
        " test alert to one output, or to all. replay-dead: deliver the dead letters of an output again. export: print"
        " the stored alerts as lines of JSON; the hub need not run. user: list the page's users, or add, disable and"
        " enable one, or set a password or role. tune: propose an exception for an alert and try it on stored alerts."
        " reindex: make the page's index again from the journal. demo: fill an empty hub with a day of a fictitious"
        " fleet.",
    )
    parser.add_argument("action", choices=ACTIONS, help="what to do")
    parser.add_argument(
        "output", nargs="?", metavar="OUTPUT",
        help="name of an output, for send-test and replay-dead; id of an alert, for tune; for user, what to do",
    )  # fmt: skip
    parser.add_argument("name", nargs="?", metavar="NAME", help="for user: whose account")
    parser.add_argument(
        "--role", default="viewer", choices=("viewer", "analyst", "editor", "admin"), help="for user: their role"
    )
    parser.add_argument(
        "--one-time",
        action="store_true",
        help="for user: make a password up, print it, to be changed at the first login",
    )
    parser.add_argument("--fields", default="", metavar="A,B", help="for tune: the fields that the exception asks for")
    parser.add_argument(
        "-c", "--config", type=Path, metavar="FILE",
        help=f"the hub's configuration file, or Falcosidekick's; without it {SYSTEM_HUB_CONFIG}, or the shipped one",
    )  # fmt: skip
    add_key_option(parser)
    parser.add_argument(
        "--sidekick", action="store_true",
        help="the file of -c, if any, and the environment are Falcosidekick's; its file is also known by its keys",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="for status and check: print one JSON object")
    parser.add_argument(
        "--after", type=int, default=0, metavar="POSITION", help="for export: begin after this position of the journal"
    )
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="for export: print at most so many alerts")
    parser.set_defaults(verb=run)


def run(args: argparse.Namespace) -> int:
    """Do what is asked; 1 where it is refused or fails, 3 for the status of a hub that is not well."""
    try:
        from appliance.hub import actions
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("appliance"):
            raise
        say(f"error: the hub needs {error.name}, which is not installed\n   hint: pip install 'tercel[hub]'")
        return 1

    path = args.config or (None if args.sidekick else default_hub_config())

    def load() -> HubSettings:
        return actions.load(path, args.option, sidekick=args.sidekick)[0]

    try:
        settings, notes = actions.load(path, args.option, sidekick=args.sidekick)
        for note in notes if args.action in ("run", "check") else ():
            say(f"note: {printable(note)}")
        match args.action:
            case "run":
                return actions.run_hub(settings, load)
            case "check":
                say(printable(f"ok: {actions.describe(settings)}"))
                return 0
            case "status":
                return actions.print_status(settings, sys.stdout, as_json=args.json)
            case "send-test":
                return actions.send_test(settings, args.output, sys.stdout)
            case "replay-dead":
                return actions.replay_dead(settings, args.output, sys.stdout)
            case "user" | "tune" | "reindex" | "demo":
                return _manage(args, settings)
            case _:
                return actions.export(settings, sys.stdout.buffer, after=args.after, limit=args.limit)
    except ConfigError as error:
        print_diagnostics(error.diagnostics)
        return 1


def _manage(args: argparse.Namespace, settings: HubSettings) -> int:
    from appliance.hub import manage

    match args.action:
        case "user":
            name = args.name or ""
            return manage.user(settings, args.output or "list", name, args.role, sys.stdout, one_time=args.one_time)
        case "tune":
            fields = [name for name in args.fields.split(",") if name]
            return manage.propose(settings, args.output or "", fields, sys.stdout)
        case "reindex":
            return manage.reindex(settings, sys.stdout)
        case _:
            return manage.demo(settings, args.limit or manage.DEMO_ALERTS, sys.stdout)
