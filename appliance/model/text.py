"""Text from strangers, made safe to show.

Comes in: text of the monitored host, undecodable bytes as surrogates. Goes out: text that stays on its line and gives
no orders to a terminal. Never: a change to what is harmless, so that names in any script stay readable.
"""

from __future__ import annotations

import re

# C0, DEL and C1; Arabic letter mark, left-to-right and right-to-left marks; line and paragraph separators; bidi
# embeddings, overrides and isolates (Unicode Standard Annex 9). Each of them acts on a reader who sees nothing.
_ACTING = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
_UNSAFE = re.compile(f"[{_ACTING}\ud800-\udfff]")
_ACTING_ONLY = re.compile(f"[{_ACTING}]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    """One line, safe for a terminal, a file and a log: what acts instead of showing becomes a backslash escape.

    `\\n`, `\\x1b`, `\\u202e`; an undecodable byte (surrogateescape) becomes `\\x80`, and a C1 control `\\u0080`, so
    that the two can be told apart. All else is kept, the backslash included.
    """
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(_escape, text)


def why(error: OSError) -> str:
    """The reason of an error of the system for a line of the log: `No such file or directory`. An error made by hand
    has a text and no number, and then it is that text."""
    return printable(str(error.strerror or error))


def json_safe(text: str) -> str:
    """Text that a strict JSON parser takes: lone surrogates escaped as in `printable`, the rest left to JSON."""
    return text if text.isascii() else _SURROGATE.sub(_escape, text)


def json_printable(document: str) -> str:
    """A JSON text with acting characters inside its strings as `\\uXXXX`: the same value, safe to look at.

    `document` is one line, free of lone surrogates; white space other than blanks stands only inside its strings.
    """
    if document.isascii() and document.isprintable():
        return document
    return _ACTING_ONLY.sub(lambda match: f"\\u{ord(match[0]):04x}", document)


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    code = ord(char)
    if char in _SHORT:
        return _SHORT[char]
    if code < 0x80:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}"
