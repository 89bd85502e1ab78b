"""`tercel version`: what is installed."""

from __future__ import annotations

import argparse
import json
import platform

from appliance import __version__


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser(
        "version",
        help="print the versions of Tercel, Python and kernel",
        description="Print the versions of Tercel, Python and kernel.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(verb=run)


def run(args: argparse.Namespace) -> int:
    """Print; 0."""
    if args.json:
        versions = {
            "tercel": __version__, "python": platform.python_version(), "kernel": platform.release(),
            "system": platform.system(), "machine": platform.machine(),
        }  # fmt: skip
        print(json.dumps(versions, indent=2))
        return 0
    print(f"tercel {__version__} (Python {platform.python_version()}, {platform.system()} {platform.release()})")
    return 0
