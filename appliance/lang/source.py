"""YAML nodes and texts that remember where every character lay.

Comes in: the text of a file. Goes out: nodes (`Text`, `Sequence`, `Mapping`) with exact places, also inside block
scalars and folded or quoted strings. Never: a value guessed from its spelling; what `true` means is for the reader.

Nodes are made from the parser's events with a stack of our own, so that no depth of nesting meets a recursion limit.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import yaml

from appliance.model.diagnostic import Diagnostic, Severity, Span
from appliance.model.spelling import nearest

_INDENTATION = re.compile(r"^[ \t]*\t[ \t]*", re.MULTILINE)
MAX_DEPTH = 32
MAX_TOLD = 1000  # errors, and as many warnings: nobody reads on
_GUESSED = 100  # characters of a word that are looked at
MAX_GUESSES = 100_000  # words looked at for a near miss, about 20 microseconds each
MAX_ALIASES = 200
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Source:
    """One file's text; offsets into it count characters."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self._starts = [0, *(m.end() for m in re.finditer("\n", text))]
        self._tabs: list[int] = []  # of each line's indentation, where they have been put by blanks

    def without_tabs(self) -> Source:
        """The same text with two blanks for each tab of an indentation; its places are still those of this one."""
        made = Source(self.name, _INDENTATION.sub(lambda m: m[0].replace("\t", "  "), self.text))
        made._tabs = [found[0].count("\t") if (found := _INDENTATION.match(line)) else 0
                      for line in self.text.split("\n")]  # fmt: skip
        return made

    def span(self, start: int, end: int) -> Span:
        """The place of `text[start:end]`, cut at the end of its first line."""
        index = bisect_right(self._starts, start) - 1
        begin = self._starts[index]
        stop = self._starts[index + 1] - 1 if index + 1 < len(self._starts) else len(self.text)
        column = max(1, start - begin + 1 - (self._tabs[index] if self._tabs else 0))
        return Span(self.name, index + 1, column, max(1, min(end, stop) - start))

    def line(self, number: int) -> str | None:
        """The line of that number (from 1), without its end."""
        if not 1 <= number <= len(self._starts):
            return None
        begin = self._starts[number - 1]
        stop = self._starts[number] - 1 if number < len(self._starts) else len(self.text)
        return self.text[begin:stop].rstrip("\r")


class Report:
    """The diagnostics of a run, with the lines they point into. Of more than MAX_TOLD it keeps the number."""

    def __init__(self, *, lenient: bool = False) -> None:
        """`lenient`: keys and items that nobody knows are warned of, as Falco does it, and refuse nothing."""
        self.lenient = lenient
        self._sources: dict[str, Source] = {}
        self._lines: dict[tuple[str, int], str | None] = {}  # shared by all that point into a line
        self._found: dict[Diagnostic, None] = {}
        self._counts = dict.fromkeys(Severity, 0)
        self._guesses = MAX_GUESSES

    def know(self, source: Source) -> None:
        """Lines of this source may be shown."""
        self._sources[source.name] = source

    def add(
        self,
        name: str,
        message: str,
        span: Span | None,
        hint: str | None = None,
        *,
        code: str | None = None,
        severity: Severity = Severity.ERROR,
    ) -> None:
        """One thing that is wrong; the same thing at the same place is reported once."""
        line = None if span is None or self._counts[severity] >= MAX_TOLD else self._line(span)
        diagnostic = Diagnostic(name, message, span, hint, severity, line, code)
        if diagnostic in self._found:
            return
        self._counts[severity] += 1
        if self._counts[severity] <= MAX_TOLD:
            self._found[diagnostic] = None

    def _line(self, span: Span) -> str | None:
        key = span.file, span.line
        if key not in self._lines:
            source = self._sources.get(span.file)
            self._lines[key] = None if source is None else source.line(span.line)
        return self._lines[key]

    def warn(
        self, name: str, message: str, span: Span | None, hint: str | None = None, code: str | None = None
    ) -> None:
        """One thing that may be wrong."""
        self.add(name, message, span, hint, code=code, severity=Severity.WARNING)

    @property
    def error_count(self) -> int:
        """How many errors were added so far, with those that are only counted."""
        return self._counts[Severity.ERROR]

    def near(self, word: str, known: Collection[str]) -> str | None:
        """`did you mean ...?` if something known is spelled alike; after MAX_GUESSES words it guesses no more."""
        if self._guesses <= 0:
            return None
        self._guesses -= len(known)
        found = nearest(word[:_GUESSED], known)
        return f"did you mean `{found}`?" if found else None

    def sorted(self, files: Iterable[str]) -> tuple[Diagnostic, ...]:
        """All of them by file (in load order) and place; behind them how many are left out."""
        order = {name: i for i, name in enumerate(files)}

        def key(d: Diagnostic) -> tuple[int, int, int]:
            return (order.get(d.span.file, -1), d.span.line, d.span.column) if d.span else (-1, 0, 0)

        more = [
            Diagnostic("too-many", f"{count - MAX_TOLD} more {severity.value}s are not shown", None,
                       "mend those above and check again", severity)
            for severity, count in self._counts.items() if count > MAX_TOLD
        ]  # fmt: skip
        return (*sorted(self._found, key=key), *more)


class Text:
    """A scalar. `plain` tells that it was written without quotes; only then can it be a number or `true`."""

    __slots__ = ("_end", "_map", "_parts", "_start", "_style", "plain", "source", "value")

    def __init__(self, source: Source, value: str, start: int, end: int, style: str | None) -> None:
        self.source = source
        self.value = value
        self.plain = style is None or style == ""
        self._start, self._end, self._style = start, end, style
        self._map: tuple[list[int], list[int]] | None = None
        self._parts: tuple[tuple[int, Text], ...] = ()

    @classmethod
    def joined(cls, first: Text, second: Text) -> Text:
        """Both texts with a blank between them; places stay those of the parts."""
        made = cls(first.source, f"{first.value} {second.value}", first._start, first._end, first._style)
        made._parts = (
            *(first._parts or ((0, first),)),
            *((at + len(first.value) + 1, part) for at, part in second._parts or ((0, second),)),
        )
        return made

    def __repr__(self) -> str:
        return f"Text({self.value!r})"

    def span(self, start: int = 0, end: int | None = None) -> Span:
        """The place of `value[start:end]`, cut at the end of its first line."""
        stop = len(self.value) if end is None else end
        if self._parts:
            at, part = next((at, part) for at, part in reversed(self._parts) if at <= start or at == 0)
            return part.span(start - at, min(stop - at, len(part.value)))
        if not self.value:
            return self.source.span(self._start, max(self._end, self._start + 1))
        if start >= len(self.value):  # behind the end, as for "something is missing here"
            place = self._offset(len(self.value.rstrip()) - 1) + 1
            return self.source.span(place, place + 1)
        first, last = self._offset(start), self._offset(max(start, stop - 1))
        return self.source.span(first, max(first, last) + 1)

    def _offset(self, index: int) -> int:
        if self._map is None:
            self._map = self._locate()
        indexes, offsets = self._map
        at = bisect_right(indexes, max(index, 0)) - 1
        return offsets[at] + max(index, 0) - indexes[at]

    def _locate(self) -> tuple[list[int], list[int]]:
        """Where stretches of the value lie: (index in value, offset in source), both rising."""
        text, start = self.source.text, self._start
        if self._style in ("|", ">"):
            start = text.find("\n", start) + 1  # behind the header
        elif self._style in ("'", '"'):
            start = text.find(self._style, start) + 1
            if self._style == '"' or "'" in self.value:
                return self._locate_quoted(start)
        elif self.value and not text.startswith(self.value.split(None, 1)[0], start):
            start = max(start, text.find(self.value.split(None, 1)[0], start))  # behind an anchor or a tag
        indexes, offsets = [0], [start]
        for word in re.finditer(r"\S+", self.value):
            found = text.find(word.group(), start, self._end)
            if found < 0:
                break
            if found - offsets[-1] != word.start() - indexes[-1]:
                indexes.append(word.start())
                offsets.append(found)
            start = found + len(word.group())
        return indexes, offsets

    def _locate_quoted(self, start: int) -> tuple[list[int], list[int]]:
        text, indexes, offsets = self.source.text, [], []
        for index, char in enumerate(self.value):
            if not char.isspace():
                while start < self._end and (text[start].isspace() or text.startswith("\\\n", start)):
                    start += 2 if text[start] == "\\" else 1
            indexes.append(index)
            offsets.append(min(start, self._end - 1))
            start += _width(text, start, self._style)
        return (indexes, offsets) if indexes else ([0], [start])


def _width(text: str, start: int, style: str | None) -> int:
    """How many characters of the source make one of the value."""
    if style == "'":
        return 2 if text.startswith("''", start) else 1
    if text.startswith("\\", start):
        return 2 + {"x": 2, "u": 4, "U": 8}.get(text[start + 1 : start + 2], 0)
    return 1


@dataclass(frozen=True, slots=True)
class Sequence:
    """A YAML sequence; `span` is the place of its start."""

    span: Span
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Mapping:
    """A YAML mapping, in the order of the file; keys are unique."""

    span: Span
    pairs: tuple[tuple[Text, Node], ...]

    def get(self, key: str) -> Node | None:
        """The value of a key, or None."""
        return next((node for text, node in self.pairs if text.value == key), None)


Node = Text | Sequence | Mapping


@dataclass(slots=True)
class _Open:
    """A collection whose end has not come yet."""

    is_mapping: bool
    start: int
    anchor: str | None
    nodes: list[Node] = field(default_factory=list)


class _Refused(Exception):
    """The document cannot be read any further; it has been reported."""


def read_documents(source: Source, report: Report) -> tuple[Node, ...]:
    """The documents of a file; what is wrong with its YAML goes to `report` and ends the reading."""
    documents: list[Node] = []
    try:
        _read(source, report, documents)
    except yaml.MarkedYAMLError as error:
        if not _report_tabs(source, report, error):
            _report_syntax(source, report, error)
            return ()
        return _read_without_tabs(source, report)  # so that what else is wrong is reported at once
    except yaml.reader.ReaderError as error:
        at = min(int(error.position), max(0, len(source.text) - 1))
        report.add(
            "bad-character", "a character that YAML does not allow", source.span(at, at + 1),
            "is this a text file? remove control characters", code="LOAD_ERR_YAML_PARSE",
        )  # fmt: skip
        return ()
    except _Refused:
        return ()
    return tuple(documents)


def _at(mark: Any) -> int:
    """The offset of a mark; PyYAML's stubs leave open what its parser always sets."""
    return int(mark.index)


def _read(source: Source, report: Report, documents: list[Node]) -> None:
    stack: list[_Open] = []
    anchors: dict[str, Node] = {}
    aliases = 0

    def done(node: Node, anchor: str | None) -> None:
        if anchor is not None:
            anchors[anchor] = node
        if stack:
            stack[-1].nodes.append(node)
        else:
            documents.append(node)

    for event in yaml.parse(source.text, Loader=_LOADER):
        match event:
            case yaml.ScalarEvent():
                start, end = _at(event.start_mark), _at(event.end_mark)
                done(Text(source, event.value, start, end, event.style), event.anchor)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                start = _at(event.start_mark)
                if len(stack) >= MAX_DEPTH:
                    report.add(
                        "yaml-too-deep", f"YAML nested deeper than {MAX_DEPTH} levels", source.span(start, start + 1),
                        code="LOAD_ERR_YAML_VALIDATE",
                    )  # fmt: skip
                    raise _Refused
                stack.append(_Open(isinstance(event, yaml.MappingStartEvent), start, event.anchor))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                collection = stack.pop()
                done(_close(source, report, collection), collection.anchor)
            case yaml.AliasEvent():
                start, end = _at(event.start_mark), _at(event.end_mark)
                aliases += 1
                if event.anchor not in anchors or aliases > MAX_ALIASES:
                    what = (
                        f"more than {MAX_ALIASES} YAML aliases"
                        if event.anchor in anchors
                        else f"no anchor `&{event.anchor}` stands before this alias"
                    )
                    report.add("yaml-alias", what, source.span(start, end), code="LOAD_ERR_YAML_PARSE")
                    raise _Refused
                done(anchors[event.anchor], None)
            case yaml.DocumentStartEvent():
                anchors.clear()
            case _:
                pass


def _close(source: Source, report: Report, made: _Open) -> Node:
    span = source.span(made.start, made.start + 1)
    if not made.is_mapping:
        return Sequence(span, tuple(made.nodes))
    pairs: dict[str, tuple[Text, Node]] = {}
    for key, value in zip(made.nodes[::2], made.nodes[1::2], strict=True):
        if not isinstance(key, Text):
            report.add("bad-key", "a key must be a name", key.span, code="LOAD_ERR_YAML_VALIDATE")
        elif key.value in pairs:
            first = pairs[key.value][0].span()
            report.add(
                "duplicate-key", f"the key `{key.value}` stands twice in one item", key.span(),
                f"it was given first at line {first.line}; remove one of them", code="LOAD_ERR_YAML_VALIDATE",
            )  # fmt: skip
        else:
            pairs[key.value] = (key, value)
    return Mapping(span, tuple(pairs.values()))


_TAB_INDENT = re.compile(r"^ *\t", re.MULTILINE)


def _mark_of(source: Source, error: yaml.MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return min(_at(mark), len(source.text)) if mark is not None else 0


def _report_tabs(source: Source, report: Report, error: yaml.MarkedYAMLError) -> bool:
    """Whether the error comes of tabs; it has been told then."""
    at = _mark_of(source, error)
    tabs = [m.end() - 1 for m in _TAB_INDENT.finditer(source.text)]
    line_end = source.text.find("\n", at)
    before = [t for t in tabs if t <= (line_end if line_end >= 0 else len(source.text))]
    if not before:
        return False
    span = source.span(before[0], before[0] + 1)
    more = f" (and {len(tabs) - 1} more lines)" if len(tabs) > 1 else ""
    report.add(
        "tab-indentation",
        f"line {span.line} is indented by a tab{more}; YAML forbids tabs for indentation",
        span,
        "replace each tab at the start of a line by spaces, two for each level",
        code="LOAD_ERR_YAML_PARSE",
    )
    return True


def _read_without_tabs(source: Source, report: Report) -> tuple[Node, ...]:
    documents: list[Node] = []
    try:
        _read(source.without_tabs(), report, documents)
    except (yaml.MarkedYAMLError, yaml.reader.ReaderError, _Refused):
        return ()
    return tuple(documents)


def _report_syntax(source: Source, report: Report, error: yaml.MarkedYAMLError) -> None:
    at = _mark_of(source, error)
    if error.context_mark is not None and at >= len(source.text.rstrip()):
        at = _at(error.context_mark)  # the end of the file says nothing
    problem = (error.problem or error.context or "malformed YAML").replace("'", "`")
    hint = None
    if "mapping values are not allowed" in problem:
        hint = (
            "a `: ` inside a text needs quotes around the text, or a block (`key: >` with the text indented below); "
            "keys of one item stand in one column"
        )
    elif "expected" in problem and "block end" in problem:
        hint = "items of one sequence start in the same column, and so do the keys of one item"
    elif "found character `%`" in problem or "cannot start any token" in problem:
        hint = "a text that starts with `%`, `@` or a backquote needs quotes"
    if error.context and error.context not in problem:
        problem = f"{error.context}: {problem}" if error.problem else problem
    report.add("yaml-syntax", problem, source.span(at, at + 1), hint, code="LOAD_ERR_YAML_PARSE")
