"""YAML text to nodes that remember where they stand, and what is done to them before they are settings.

Comes in: a file's text, the environment, options of the command line. Goes out: a tree of `Node`s, or `ConfigError`
with places. Never: a value without the file, line and column it came from, however many files were merged.

Variables are expanded as Falco expands them in `falco.yaml` (userspace/falco/yaml_helper.h): `${NAME}` in any value, an
unset one standing for nothing, `$${NAME}` for the text `${NAME}`. `${NAME:-default}` is ours.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from appliance.model.diagnostic import ConfigError, Diagnostic, Span
from appliance.model.text import why

log = logging.getLogger(__name__)

_SIZE_MAX = 1 << 20
_NODES_MAX = 20_000
_DEPTH_MAX = 20
_VARIABLE = re.compile(r"(?P<literal>\$)?\$\{(?P<name>[^}:]*)(?::-(?P<default>[^}]*))?\}")
_STEP = re.compile(r"(?P<dot>\.)?(?P<name>(?:\\[.\[\]\\]|[^.\[\]=\\])+)|\[(?P<index>\d{0,4})\]")
_ESCAPED = re.compile(r"\\(.)")

Key = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key or value was written: `line` and `column` count from 1, `text` is the line."""

    file: str
    line: int
    column: int
    text: str


@dataclass(slots=True)
class Node:
    """A map of nodes, a list of nodes, or a plain value. `key` is the place of its key, where it has one.

    `unset`: made of variables that are not set, and nothing else.
    """

    value: Any
    place: Place | None = None
    key: Place | None = None
    unset: bool = False

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {name: node.plain() for name, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def find(self, at: Key) -> Node | None:
        """The node at a key, or None."""
        node: Node | None = self
        for step in at:
            if node is None:
                return None
            inner = node.value
            if isinstance(inner, dict):
                node = inner.get(step)
            elif isinstance(inner, list) and isinstance(step, int) and step < len(inner):
                node = inner[step]
            else:
                return None
        return node


@dataclass(slots=True)
class Document:
    """The tree that all files and options make together. `secret` are keys whose text is never shown."""

    root: Node
    secret: frozenset[str] = frozenset()
    unset: dict[str, Place] = field(default_factory=dict)  # variables that are not set

    def diagnose(self, name: str, message: str, at: Key, hint: str | None, *, key: bool = False) -> Diagnostic:
        """A diagnostic at a key or at its value; or at the nearest enclosing key that has a position."""
        shown = ".".join(map(str, at)) not in self.secret
        place: Place | None = None
        while True:
            node = self.root.find(at)
            if node is not None:
                place = (node.key if key else node.place) or node.place
            if place or not at:
                break
            at, key = at[:-1], True
        if place is None:
            return Diagnostic(name, message, hint=hint)
        length = len(str(at[-1])) if key and at else max(1, len(place.text.rstrip()) - place.column + 1)
        span = Span(place.file, place.line, place.column, length)
        return Diagnostic(name, message, span, hint, source_line=place.text if shown else None)


def one(name: str, message: str, hint: str) -> ConfigError:
    """An error of one diagnostic without a place."""
    return ConfigError([Diagnostic(name, message, hint=hint)])


def read(path: Path, environment: Mapping[str, str], unset: dict[str, Place]) -> Node:
    """A file's tree; an empty file gives an empty map. Unset variables are noted in `unset`."""
    name = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(_SIZE_MAX + 1)
    except OSError as error:
        raise one("config-unreadable", f"cannot read `{name}`: {why(error)}", "give the file with -c") from error
    if len(data) > _SIZE_MAX:
        raise one("config-too-large", f"`{name}` is larger than {_SIZE_MAX} bytes", "is this the right file?")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise one(
            "config-not-text", f"`{name}` is not UTF-8 text: byte {data[error.start]:#04x} at offset {error.start}",
            "is this the right file?",
        ) from error  # fmt: skip
    return parse(name, text, environment, unset)


def parse(name: str, text: str, environment: Mapping[str, str], unset: dict[str, Place]) -> Node:
    """A text's tree; `name` stands in diagnostics."""
    lines = text.split("\n")
    builder = _Builder(name, lines, environment, unset)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        made = builder.build(node, 0) if node is not None else Node({})
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_yaml_problem(name, lines, error)]) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise one("yaml-error", f"`{name}` is not YAML: {error}", "is this the right file?") from error
    if builder.problems:
        raise ConfigError(builder.problems)
    if made.value is None:
        made.value = {}
    return made


def _yaml_problem(name: str, lines: list[str], error: yaml.MarkedYAMLError) -> Diagnostic:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Diagnostic("yaml-error", f"`{name}` is not YAML: {error.problem}")
    line = lines[mark.line] if mark.line < len(lines) else ""
    span = Span(name, mark.line + 1, mark.column + 1)
    if "\t" in line[: mark.column + 1] or "'\\t'" in (error.problem or ""):
        return Diagnostic(
            "yaml-tab", "a tab stands where YAML wants blanks", span, "indent with blanks, two for each level",
            source_line=line,
        )  # fmt: skip
    context = f" {error.context}" if error.context else ""
    return Diagnostic("yaml-error", f"{error.problem}{context}", span, source_line=line)


class _Builder:
    """YAML nodes to ours; refuses repeated keys and what grows without bound."""

    def __init__(self, name: str, lines: list[str], environment: Mapping[str, str], unset: dict[str, Place]) -> None:
        self.problems: list[Diagnostic] = []
        self._name = name
        self._lines = lines
        self._environment = environment
        self._unset = unset
        self._count = 0

    def build(self, node: yaml.Node, depth: int) -> Node:
        self._count += 1
        if self._count > _NODES_MAX or depth > _DEPTH_MAX:
            raise yaml.YAMLError("too many or too deeply nested values")
        place = self._place(node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return Node(self._mapping(node, depth), place)
        if isinstance(node, yaml.SequenceNode):
            return Node([self.build(child, depth + 1) for child in node.value], place)
        return self._scalar(node, place)

    def _place(self, mark: yaml.Mark) -> Place:
        text = self._lines[mark.line] if mark.line < len(self._lines) else ""
        return Place(self._name, mark.line + 1, mark.column + 1, text)

    def _scalar(self, node: yaml.Node, place: Place) -> Node:
        if "$" not in node.value:
            return Node(self._value(node, place), place)
        text, missing = expand(node.value, self._environment)
        for variable in missing:
            self._unset.setdefault(variable, place)
        if not text:
            return Node("", place, unset=bool(missing))
        tag = node.tag
        if getattr(node, "style", None) is None:  # plain: a number that comes from a variable is a number
            tag = yaml.SafeLoader("").resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        made = yaml.ScalarNode(tag, text, node.start_mark, node.end_mark)
        return Node(self._value(made, place), place)

    def _value(self, node: yaml.Node, place: Place) -> object:
        """The value of a scalar. Where tag and text do not match, PyYAML fails by whatever its code runs into."""
        value: object = ()
        try:
            value = yaml.SafeLoader("").construct_object(node)
        except yaml.YAMLError:
            raise
        except Exception as error:
            log.debug("a value that PyYAML cannot make: %s", type(error).__name__)
        if value is not None and not isinstance(value, str | int | float | bytes | date):
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            span = Span(place.file, place.line, place.column)
            self.problems.append(
                Diagnostic("yaml-value", f"`{node.value}` is no value of the type `{tag}`", span, "leave the tag out",
                           source_line=place.text)
            )  # fmt: skip
            return None
        return value

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            place = self._place(key_node.start_mark)
            if key in found:
                span = Span(place.file, place.line, place.column, len(key))
                self.problems.append(
                    Diagnostic("repeated-key", f"`{key}` stands here a second time", span, "keep one of them",
                               source_line=place.text)
                )  # fmt: skip
            found[key] = self.build(value_node, depth + 1)
            found[key].key = place
        return found


def expand(text: str, environment: Mapping[str, str]) -> tuple[str, list[str]]:
    """The text with its variables put in, and the names of those that are not set and have no default."""
    missing: list[str] = []

    def value(match: re.Match[str]) -> str:
        if match["literal"]:
            return match[0][1:]
        found = environment.get(match["name"])
        if match["default"] is not None:
            return found or match["default"]
        if found is None:
            missing.append(match["name"])
        return found or ""

    return _VARIABLE.sub(value, text), missing


def merge(base: Node, extra: Node, strategy: str) -> None:
    """Put another file's keys into `base`, by Falco's strategies, key by key of the highest level.

    `append`: lists are joined, anything else replaced. `override`: all is replaced. `add-only`: what is there stays.
    """
    for name, node in extra.value.items():
        there = base.value.get(name)
        if there is None:
            base.value[name] = node
        elif strategy == "append" and isinstance(there.value, list) and isinstance(node.value, list):
            there.value.extend(node.value)
        elif strategy != "add-only":
            base.value[name] = node


def set_option(root: Node, text: str) -> Diagnostic | None:
    """Set what an option `key.sub[1]=value` says (`key[]=value`: one more entry); what is wrong with it, or None."""
    key, equals, value_text = text.partition("=")
    steps = list(_steps(key))
    if not equals or not steps:
        return Diagnostic("bad-option", f"`-o {text}` is not `key=value`", hint="write `-o json_output=true`")
    try:
        made = parse(f"-o {key}", value_text, {}, {}) if value_text.strip() else Node("")
    except ConfigError:
        return Diagnostic("bad-option", f"the value in `-o {text}` is not YAML", hint="quote it")
    _move(made, Place("-o", 1, len(key) + 2, text))
    node = root
    for n, step in enumerate(steps):
        inside = node.value
        fresh = Node({} if n + 1 < len(steps) and isinstance(steps[n + 1], str) else [])
        if isinstance(step, str) and isinstance(inside, dict):
            below = inside.setdefault(step, fresh)
            if below.value is None:
                below.value = fresh.value
        elif isinstance(step, int) and isinstance(inside, list) and step <= len(inside):
            if step in (-1, len(inside)):
                inside.append(fresh)
            below = inside[step]
        else:
            return Diagnostic("bad-option", f"`{key}` in `-o {text}` is no key that can be set",
                              hint="entries of a list are `key[0]`, one more is `key[]`")  # fmt: skip
        node = below
    node.value, node.place, node.key = made.value, made.place, Place("-o", 1, 1, text)
    return None


def _steps(key: str) -> Iterator[str | int]:
    """`a.b[1].c[]` -> a, b, 1, c, -1; nothing where it is not of that form. A `\\.` is a dot within a name."""
    found: list[str | int] = []
    at = 0
    while at < len(key):
        match = _STEP.match(key, at)
        if match is None or (match["name"] and bool(found) != bool(match["dot"])) or (not match["name"] and not found):
            return
        name = _ESCAPED.sub(r"\1", match["name"]) if match["name"] else ""
        found.append(name or (int(match["index"]) if match["index"] else -1))
        at = match.end()
    yield from found


def _move(node: Node, place: Place) -> None:
    """Let a whole tree stand at one place."""
    node.place = place
    if isinstance(node.value, dict):
        for inner in node.value.values():
            inner.key = place
            _move(inner, place)
    elif isinstance(node.value, list):
        for inner in node.value:
            _move(inner, place)
