"""Rules: as they were written (`...Def`), and what they mean once checked (`Rule`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from appliance.model.alert import Priority
from appliance.model.diagnostic import Span
from appliance.model.event import EventType
from appliance.model.expr import Expr, Operand


class Placed(Protocol):
    """A text that knows where each of its characters was written."""

    @property
    def value(self) -> str:
        """The text."""

    def span(self, start: int = 0, end: int | None = None) -> Span:
        """The place of `value[start:end]`, cut at the end of its first line."""


@dataclass(frozen=True, slots=True)
class ListDef:
    """Named items, as written."""

    name: Placed
    items: tuple[Placed, ...]


@dataclass(frozen=True, slots=True)
class MacroDef:
    """A named condition, as written."""

    name: Placed
    condition: Placed


@dataclass(frozen=True, slots=True)
class ExceptionDef:
    """Tuples that excuse a rule. An entry of a tuple is a text, or several for `in`, `pmatch`, `intersects`.

    `single`: `fields` was one name, so `values` is one list for it. `comps` is None where it was not given.
    """

    name: Placed
    fields: tuple[Placed, ...] | None
    comps: tuple[Placed, ...] | None
    values: tuple[tuple[Placed | tuple[Placed, ...], ...], ...] | None
    single: bool = False


@dataclass(frozen=True, slots=True)
class RuleDef:
    """A rule after all later items that change it, its texts as written."""

    name: Placed
    condition: Placed
    output: Placed
    desc: Placed
    priority: Priority
    source: str = "syscall"
    tags: tuple[str, ...] = ()
    enabled: bool = True
    warn_evttypes: bool = True
    skip_if_unknown_filter: bool = False
    exceptions: tuple[ExceptionDef, ...] = ()
    capture: bool = False
    capture_duration_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """A message: literal texts and fields, in order. `text` is the template as it was written.

    `extra` are further output fields, each a name and a message of its own.
    """

    text: str
    parts: tuple[str | Operand, ...]
    extra: tuple[tuple[str, tuple[str | Operand, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that was checked and can be compiled.

    `condition` holds no macro and no list name. `event_types` are those on which it can hold at all; `span` is the
    place of its name. `capture`: its alerts are recorded, for `capture_duration_ms` milliseconds (None: as configured).
    """

    name: str
    desc: str
    condition: Expr
    output: Output
    priority: Priority
    source: str
    tags: tuple[str, ...]
    enabled: bool
    event_types: frozenset[EventType]
    span: Span
    warn_evttypes: bool = True
    capture: bool = False
    capture_duration_ms: int | None = None
