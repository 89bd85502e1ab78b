"""Text -> the words that searches find.

Comes in: text from strangers. Goes out: words: runs of ASCII letters, digits, `_` and of every character beyond ASCII,
in lower case. SQLite's FTS5 with `ascii tokenchars '_'` cuts the same text at the same places, so a predicate and an
index answer alike. Never: an opinion on languages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from appliance.hub.alert import HubAlert, JsonValue
from appliance.model.text import json_safe

_WORD = re.compile("[0-9a-z_\x80-\U0010ffff]+")
MARK = "\ue000"
"""A private character, taken out of all text, so that an index can use it for tokens of its own."""

_LESS = {0: " ", ord(MARK): " "}
BREAK = " . "
"""Stands between two values of one alert: a phrase of a search may run across it, as both sides agree that it does."""


def plain(text: str) -> str:
    """`text` as it is searched: lower case, no NUL, no `MARK`, no lone surrogate."""
    return json_safe(text if text.isascii() and text.islower() else text.casefold()).translate(_LESS)


def words_of(text: str) -> list[str]:
    """The words of a text, in order."""
    return _WORD.findall(plain(text))


def text_of(value: JsonValue) -> str:
    """A field's value as people and rules write it: `true`, several joined by blanks, "" where absent."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return " ".join(f"{name}={text_of(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(text_of, value))
    return str(value)


MOMENTS = ("evt.time", "evt.rawtime", "evt.datetime", "evt.num")
"""Fields that differ in every alert: words do not find them, `evt.time = ...` does."""

_HEADING = re.compile(r"\d\d:\d\d:\d\d\.\d{9}: [A-Za-z]+ ")


def searched(alert: HubAlert) -> str:
    """All text of an alert that plain words search: rule, host, output without its time, and values
    that the output does not show; numbers are no words."""
    output = alert.output
    heading = _HEADING.match(output)
    parts = [alert.rule, alert.hostname, output[heading.end() :] if heading else output]
    for name, value in alert.fields.items():
        if name.startswith(MOMENTS):
            continue
        text = value if isinstance(value, str) else "" if isinstance(value, int | float) else text_of(value)
        if text and not _shown(text, output):
            parts.append(text)
    return plain(BREAK.join(parts))


def _shown(text: str, output: str) -> bool:
    """Whether `output` shows `text`, and not only as a part of longer words."""
    at = output.find(text)
    if at < 0:
        return False
    end = at + len(text)
    return not (_joins(output[at - 1 : at]) or _joins(output[end : end + 1]))


def _joins(char: str) -> bool:
    return bool(char) and (char.isalnum() or char == "_" or char > "\x7f")
