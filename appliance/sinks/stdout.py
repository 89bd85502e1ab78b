"""Alerts on standard output, one line each, coloured for people.

Comes in: alerts. Goes out: lines. Never: a control character of the host's, or half a line where it can be helped.
"""

from __future__ import annotations

import os
from typing import TextIO

from appliance.model.alert import Alert, Priority
from appliance.model.diagnostic import DeliveryError
from appliance.model.text import why
from appliance.model.wire import Format, line
from appliance.sinks.base import Sink

_PLAIN = "\x1b[0m"
_COLOURS = {
    Priority.EMERGENCY: "\x1b[1;37;41m",
    Priority.ALERT: "\x1b[1;31m",
    Priority.CRITICAL: "\x1b[1;31m",
    Priority.ERROR: "\x1b[31m",
    Priority.WARNING: "\x1b[33m",
    Priority.NOTICE: "\x1b[36m",
    Priority.INFORMATIONAL: "",
    Priority.DEBUG: "\x1b[2m",
}


class StdoutSink(Sink):
    """Writes to a text stream and flushes after each line."""

    name = "stdout_output"

    def __init__(self, stream: TextIO, options: Format, color: str = "auto") -> None:
        """`color`: `always`, `never`, or `auto` for a terminal whose owner has not set NO_COLOR (no-color.org)."""
        self._stream = stream
        self._options = options
        self._coloured = color == "always" or (color == "auto" and stream.isatty() and not os.environ.get("NO_COLOR"))

    def deliver(self, alert: Alert) -> None:
        """Write one line."""
        text = line(alert, self._options)
        if self._coloured and (colour := _COLOURS[alert.priority]):
            text = f"{colour}{text}{_PLAIN}"
        try:
            self._stream.write(f"{text}\n")
            self._stream.flush()
        except OSError as error:
            raise DeliveryError(f"cannot write to standard output: {why(error)}", retry=False) from error

    def close(self) -> None:
        """The stream belongs to the process and stays open."""

    def describe(self) -> str:
        """One line for the start-up banner."""
        return "stdout"
