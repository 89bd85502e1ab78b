"""What verbs print to people: on standard error, escaped, coloured where a person looks.

Comes in: texts and diagnostics. Goes out: lines. Never: a control character from a file or a host.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from appliance.config.keys import Note
from appliance.model.diagnostic import Diagnostic, Severity
from appliance.model.text import printable

_COLOURS = {Severity.ERROR: "\x1b[1;31m", Severity.WARNING: "\x1b[1;33m"}
_OF_THE_CONFIGURATION = frozenset({"shadowed"})  # stand in rules, and are warnings of how these are used
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


def print_some(diagnostics: Iterable[Diagnostic], named: Iterable[Path], *, everything: bool = False) -> None:
    """Errors, and the warnings of files that were `named` (or lie in a folder that was); of others how many there are.

    What stands in no file is shown, too.
    """
    of = frozenset(named)
    shown, others = [], 0
    for diagnostic in diagnostics:
        file = Path(diagnostic.span.file) if diagnostic.span is not None else None
        asked = file is None or not of.isdisjoint((file, file.parent)) or diagnostic.name in _OF_THE_CONFIGURATION
        if everything or asked or diagnostic.severity is Severity.ERROR:
            shown.append(diagnostic)
        else:
            others += 1
    print_diagnostics(shown)
    if others:
        say(f"note: {others} warnings of files that were not named; `tercel check --all` shows them")


def print_notes(notes: Iterable[Note]) -> None:
    """One list of what a configuration asks for that means something else here; nothing where there is nothing."""
    notes = tuple(notes)
    if notes:
        say(f"note: of this configuration {sum(len(n.keys) for n in notes)} settings have no effect or another one:")
    for note in notes:
        say(f"   {printable(note.render())}")
