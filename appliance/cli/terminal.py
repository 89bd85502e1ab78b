"""What verbs print to people: on standard error, escaped, coloured where a person looks.

Comes in: texts and diagnostics. Goes out: lines. Never: a control character from a file or a host.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TextIO

from appliance.config.keys import Note
from appliance.model.diagnostic import Diagnostic, Severity
from appliance.model.text import printable

_COLOURS = {Severity.ERROR: "\x1b[1;31m", Severity.WARNING: "\x1b[1;33m"}
_PLAIN = "\x1b[0m"


def say(text: str, stream: TextIO | None = None) -> None:
    """One message, at once. A reader that has gone is no reason to fail."""
    stream = stream or sys.stderr
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        stream.close()


def coloured(stream: TextIO) -> bool:
    """True for a terminal whose owner has not set NO_COLOR (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def printable_lines(text: str) -> str:
    """`printable`, line by line."""
    return "\n".join(printable(line) for line in text.splitlines())


def print_diagnostics(diagnostics: Iterable[Diagnostic]) -> None:
    """Each with its place, excerpt and hint; an empty line between two."""
    colour = coloured(sys.stderr)
    for diagnostic in diagnostics:
        text = printable_lines(diagnostic.render())
        if colour:
            mark = f"{diagnostic.severity.value}[{diagnostic.name}]"
            text = text.replace(mark, f"{_COLOURS[diagnostic.severity]}{mark}{_PLAIN}", 1)
        say(text)


def print_notes(notes: Iterable[Note]) -> None:
    """One list of what a configuration asks for that means something else here; nothing where there is nothing."""
    notes = tuple(notes)
    if notes:
        say(f"note: of this configuration {sum(len(n.keys) for n in notes)} settings have no effect or another one:")
    for note in notes:
        say(f"   {printable(note.render())}")
