"""What verbs that ask the running appliance share: where its socket is, and what to say when nobody answers.

Comes in: arguments. Goes out: a connection or an answer, or a message and None.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from appliance.cli.terminal import print_diagnostics, say
from appliance.config.files import default_config
from appliance.config.load import load_config
from appliance.config.settings import Config
from appliance.daemon.control import ControlClient, ControlError
from appliance.model.diagnostic import ConfigError
from appliance.model.text import printable


def add_socket_options(parser: argparse.ArgumentParser) -> None:
    """`-c`, `--socket`."""
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="configuration file: it names the socket")
    parser.add_argument("--socket", type=Path, metavar="PATH", help="control socket of the appliance to ask")


def connect(args: argparse.Namespace) -> ControlClient | None:
    """A connection to the appliance that the arguments mean; None where there is none, and that was said."""
    try:
        return ControlClient(args.socket or _socket_of(args.config))
    except ControlError as error:
        say(f"error: {printable(str(error))}")
    except ConfigError as error:
        print_diagnostics(error.diagnostics)
    return None


def ask(args: argparse.Namespace, what: str) -> dict[str, Any] | None:
    """One answer of the appliance that the arguments mean; None where there is none, and that was said."""
    client = connect(args)
    if client is None:
        return None
    with client:
        try:
            return client.ask(what)
        except ControlError as error:
            say(f"error: {printable(str(error))}")
            return None


def _socket_of(config: Path | None) -> Path:
    """The socket that a configuration names; the default where it is wrong, as an older one may run."""
    path = config or default_config()
    try:
        return load_config(path, starts=False).control_socket
    except ConfigError:
        if config is not None and not config.exists():
            raise
        return Config().control_socket
