"""`tercel version`: what is installed."""

from __future__ import annotations

import argparse
import platform

from appliance import __version__


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser("version", help="print the versions of Tercel, Python and kernel")
    parser.set_defaults(verb=run)


def run(args: argparse.Namespace) -> int:
    """Print; 0."""
    print(f"tercel {__version__} (Python {platform.python_version()}, {platform.system()} {platform.release()})")
    return 0
