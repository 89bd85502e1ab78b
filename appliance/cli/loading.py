"""Rules and configuration for the verbs that judge without a kernel.

Comes in: arguments. Goes out: a `Generation`, or None where what is wrong has been printed; the events of a file.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

from appliance.cli.terminal import print_diagnostics, print_notes, print_some
from appliance.config.files import SYSTEM_CONFIG, default_config
from appliance.config.load import load_config
from appliance.daemon.generation import Generation, build_generation
from appliance.model.diagnostic import DiagnosticsError
from appliance.model.event import Event
from appliance.model.text import why
from appliance.sources.replay import ReplayError, read_events

HOST = "replay"


def add_rule_options(parser: argparse.ArgumentParser) -> None:
    """`-c`, `-r`, `-o`."""
    add_config_option(parser)
    parser.add_argument(
        "-r", "--rules", type=Path, action="append", metavar="PATH",
        help="rules file or folder, in place of rules_files; may be given several times",
    )  # fmt: skip
    add_key_option(parser)


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """`-c`."""
    parser.add_argument(
        "-c", "--config", type=Path, metavar="FILE",
        help=f"configuration file; without it {SYSTEM_CONFIG}, or the shipped one where that is not there",
    )  # fmt: skip


def add_key_option(parser: argparse.ArgumentParser) -> None:
    """`-o`."""
    parser.add_argument(
        "-o", "--option", action="append", default=[], metavar="KEY=VALUE",
        help="set a configuration key, a.b=c for a nested one; may be given several times",
    )  # fmt: skip


def load_generation(args: argparse.Namespace, *options: str) -> Generation | None:
    """Configuration and rules, built as the daemon builds them. Ids count from `replay:1`. Tells warnings and notes."""
    numbers = itertools.count(1)
    try:
        config = load_config(
            args.config or default_config(),
            overrides=[*args.option, *options],
            rules_files=args.rules,
            starts=False,
        )
        generation = build_generation(config, hostname=HOST, new_id=lambda: f"{HOST}:{next(numbers)}")
    except DiagnosticsError as error:
        print_diagnostics(error.diagnostics)
        return None
    print_some(generation.warnings, [*(args.rules or ()), *([config.path] if config.path is not None else [])])
    print_notes(config.notes)
    return generation


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a file, `-` for standard input. Raises `ReplayError` where it cannot be read."""
    standard = str(path) == "-"
    try:
        with open(0 if standard else path, encoding="utf-8", errors="surrogateescape", closefd=not standard) as stream:
            yield from stream
    except OSError as error:
        raise ReplayError(f"{path}: {why(error)}") from error


def events_of(path: Path) -> Iterator[Event]:
    """The events of a file of JSON Lines, `-` for standard input. Raises `ReplayError`."""
    return read_events(lines_of(path), str(path))
