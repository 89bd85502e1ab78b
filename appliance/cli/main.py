"""`tercel`: one command, one file per verb.

Comes in: arguments. Goes out: an exit status. Never: work of its own; a verb's module does it.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
from collections.abc import Sequence

from appliance import __version__
from appliance.cli import (
    check,
    completion,
    doctor,
    explain,
    hub,
    listing,
    reload,
    replay,
    run,
    show,
    status,
    test,
    top,
    version,
)

_VERBS = (run, reload, status, top, doctor, check, listing, show, explain, replay, test, hub, version, completion)


def make_parser() -> argparse.ArgumentParser:
    """All verbs with their options: also what manual pages and completions are made of; `parser` of what it gives is
    itself."""
    parser = argparse.ArgumentParser(
        prog="tercel",
        description="Runtime security for Linux hosts and containers: watches system calls through eBPF, judges them by"
        " rules in Falco's language, writes alerts where operators read.",
        epilog="Each verb explains itself: tercel VERB --help",
    )
    parser.add_argument("--version", action="version", version=f"tercel {__version__}")
    subparsers = parser.add_subparsers(metavar="VERB", required=True)
    for verb in _VERBS:
        verb.add_parser(subparsers)
    parser.set_defaults(parser=parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb. The exit status: 0 done, 1 refused or failed, 2 wrong usage."""
    args = make_parser().parse_args(argv)
    try:
        status: int = args.verb(args)
        sys.stdout.flush()
    except BrokenPipeError:
        if not _is_deserted(sys.stdout.fileno()):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def hub_main() -> int:
    """`tercel-hub ACTION`: the command of an installation that is a hub's alone; it is `tercel hub ACTION`."""
    return main(["hub", *sys.argv[1:]])


def _is_deserted(fd: int) -> bool:
    """True for a pipe whose reader has seen enough: `tercel list fields | head`."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


if __name__ == "__main__":
    sys.exit(main())
