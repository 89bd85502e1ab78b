"""Condition text -> tokens, taken one at a time.

Comes in: a text. Goes out: tokens with their places in it. What a character means depends on where it stands (`<` is an
operator behind a field and part of a value behind `=`), so the parser asks for the kind it expects. Never: a crash or a
loop without progress, whatever the text.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_BLANK = re.compile(r"\s*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")
_BARE = re.compile(r"[^()\"'\s=,]+")
_BARE_ARG = re.compile(r"[^()\"'\s\[\]]*")
_SYMBOL = re.compile(r"==|!=|<=|>=|[=<>]")
_ANYTHING = re.compile(r"[A-Za-z0-9_.]+|&&|\|\||\S")


class Token(NamedTuple):
    """A stretch of the text: `text[start:end]`; `value` is what it stands for, without quotes and escapes."""

    value: str
    start: int
    end: int
    quoted: bool = False


class Unreadable(Exception):
    """The text cannot be a condition: what is wrong at `start:end`, and what to do about it."""

    def __init__(self, message: str, start: int, end: int, hint: str | None = None, name: str = "syntax") -> None:
        super().__init__(message)
        self.message, self.start, self.end, self.hint, self.name = message, start, end, hint, name


class Lexer:
    """A place in a text, moved forward by what is taken from it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self._skip()

    def _skip(self) -> None:
        match = _BLANK.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def _take(self, pattern: re.Pattern[str]) -> Token | None:
        match = pattern.match(self.text, self.at)
        if match is None:
            return None
        self.at = match.end()
        self._skip()
        return Token(match.group(), match.start(), match.end())

    @property
    def ended(self) -> bool:
        """True when nothing is left."""
        return self.at >= len(self.text)

    def peek(self) -> str:
        """The next character, empty at the end."""
        return self.text[self.at : self.at + 1]

    def char(self, char: str) -> Token | None:
        """That one character, or nothing."""
        if not self.text.startswith(char, self.at):
            return None
        token = Token(char, self.at, self.at + len(char))
        self.at = token.end
        self._skip()
        return token

    def keyword(self, *words: str) -> Token | None:
        """One of these words, standing alone."""
        match = _NAME.match(self.text, self.at)
        return self._take(_NAME) if match is not None and match.group() in words else None

    def name(self) -> Token | None:
        """A name with or without dots: a field, a macro, a transformer."""
        return self._take(_NAME)

    def symbol(self) -> Token | None:
        """An operator made of signs."""
        return self._take(_SYMBOL)

    def value(self) -> Token | None:
        """A value, quoted or bare."""
        return self._quoted() if self.peek() in ("'", '"') else self._take(_BARE)

    def argument(self) -> Token | None:
        """`[...]` right behind a name, without blanks before it; the value is what stands between the brackets."""
        start = self.at
        if (start and self.text[start - 1].isspace()) or not self.text.startswith("[", start):
            return None
        self.at += 1
        if self.peek() in ("'", '"'):
            inner = self._quoted().value
        else:
            match = _BARE_ARG.match(self.text, self.at)
            inner = match.group() if match else ""
            self.at += len(inner)
        if not self.text.startswith("]", self.at):
            raise Unreadable("this `[` has no `]`", start, start + 1, "close the argument: `proc.aname[2]`")
        self.at += 1
        token = Token(inner, start, self.at)
        self._skip()
        return token

    def _quoted(self) -> Token:
        start, sign = self.at, self.text[self.at]
        parts: list[str] = []
        at = start + 1
        while at < len(self.text):
            char = self.text[at]
            if char == sign:
                self.at = at + 1
                self._skip()
                return Token("".join(parts), start, at + 1, True)
            if char == "\\" and self.text[at + 1 : at + 2] in (sign, "\\"):
                at += 1
                char = self.text[at]
            parts.append(char)
            at += 1
        raise Unreadable(f"this {sign} is never closed", start, start + 1, f"put a {sign} at the end of the text")

    def rest(self) -> Token:
        """What stands here, whatever it is: for messages. Takes nothing."""
        match = _ANYTHING.match(self.text, self.at)
        if match is None:
            return Token("the end", len(self.text), len(self.text))
        return Token(match.group(), match.start(), match.end())
