"""A condition as a tree, each node with the place where it was written.

Comes in: nothing. Goes out: the nodes. `str()` of a node is text that parses to an equal node; places do not count
when nodes are compared. A macro's name is a `Macro` node until it has been put in place; checked rules hold none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from appliance.model.diagnostic import Span
from appliance.model.field import Operator

NOWHERE = Span("", 0, 0, 0)
"""The place of a node that nobody wrote."""

_BARE = re.compile(r"[^()\"'\s=,]+")


def _place() -> Span:
    return field(default=NOWHERE, compare=False, repr=False)


def _kept() -> int:
    """A node's hash: made once from those of its parts, as trees are looked up many times while rules are compiled."""
    return field(default=0, init=False, compare=False, repr=False)


def _keep(node: object, value: int) -> None:
    object.__setattr__(node, "_hash", value)


def quote(text: str) -> str:
    """`text` as a double-quoted string of the language."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass(frozen=True, slots=True)
class Word:
    """A value as it was written. `quoted` words never stand for a list."""

    text: str
    quoted: bool = False
    span: Span = _place()

    @classmethod
    def of(cls, text: str, span: Span = NOWHERE) -> Word:
        """The word for any text: quoted where it could not be read back bare."""
        return cls(text, not _BARE.fullmatch(text), span)

    def __str__(self) -> str:
        return quote(self.text) if self.quoted else self.text


@dataclass(frozen=True, slots=True)
class FieldRef:
    """A field, `proc.aname[2]`: `arg` is the text between the brackets, None without brackets."""

    name: str
    arg: str | None = None
    span: Span = _place()

    def __str__(self) -> str:
        if self.arg is None:
            return self.name
        return f"{self.name}[{self.arg if _BARE_ARG.fullmatch(self.arg) else quote(self.arg)}]"


_BARE_ARG = re.compile(r"[^()\"'\s\[\]]+")


@dataclass(frozen=True, slots=True)
class Call:
    """A transformer over operands: `tolower(proc.name)`. Without a name a list of them: `(proc.name, proc.exe)`."""

    name: str
    args: tuple[Operand | Word, ...]
    index: str | None = None
    span: Span = _place()

    def __str__(self) -> str:
        suffix = "" if self.index is None else str(FieldRef("", self.index))
        return f"{self.name}({', '.join(map(str, self.args))}){suffix}"


Operand = FieldRef | Call


class Quantifier(Enum):
    """How a check with a list of right sides is read: `proc.name startswith anyof (a, b)`."""

    ONE = "oneof"
    ANY = "anyof"
    ALL = "allof"


Right = Word | tuple[Word, ...] | FieldRef | Call | None


@dataclass(frozen=True, slots=True)
class Check:
    """Field, operator, value. `right` is a word, a list of words, another field (`val(...)`), or None (`exists`)."""

    left: Operand
    op: Operator
    right: Right = None
    quantifier: Quantifier | None = None
    span: Span = _place()
    op_span: Span = _place()
    _hash: int = _kept()

    def __post_init__(self) -> None:
        _keep(self, hash((self.left, self.op, self.right, self.quantifier)))

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        head = f"{self.left} {self.op.value}"
        if self.quantifier is not None:
            head += f" {self.quantifier.value}"
        match self.right:
            case None:
                return head
            case tuple(words):
                return f"{head} ({', '.join(map(str, words))})"
            case FieldRef():
                return f"{head} val({self.right})"
            case _:
                return f"{head} {self.right}"


@dataclass(frozen=True, slots=True)
class Macro:
    """A macro's name where a check could stand."""

    name: str
    span: Span = _place()

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Const:
    """What always or never holds. Nobody writes it: it comes of folding, and prints as `<true>` or `<false>`."""

    value: bool
    span: Span = _place()

    def __str__(self) -> str:
        return "<true>" if self.value else "<false>"


@dataclass(frozen=True, slots=True)
class Not:
    """Negation: true where `part` is false, on absent values too."""

    part: Expr
    span: Span = _place()
    _hash: int = _kept()

    def __post_init__(self) -> None:
        _keep(self, hash((Not, self.part)))

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return f"not {_inner(self.part)}"


@dataclass(frozen=True, slots=True)
class And:
    """All of two or more parts."""

    parts: tuple[Expr, ...]
    span: Span = _place()
    _hash: int = _kept()

    def __post_init__(self) -> None:
        _keep(self, hash((And, self.parts)))

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return " and ".join(map(_inner, self.parts))


@dataclass(frozen=True, slots=True)
class Or:
    """Any of two or more parts."""

    parts: tuple[Expr, ...]
    span: Span = _place()
    _hash: int = _kept()

    def __post_init__(self) -> None:
        _keep(self, hash((Or, self.parts)))

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return " or ".join(f"({p})" if isinstance(p, Or) else str(p) for p in self.parts)


Expr = And | Or | Not | Check | Macro | Const
TRUE = Const(True)
FALSE = Const(False)


def checks_of(expr: Expr) -> Iterator[Check]:
    """All checks of a condition, in order."""
    if isinstance(expr, Check):
        yield expr
    elif isinstance(expr, Not):
        yield from checks_of(expr.part)
    elif isinstance(expr, And | Or):
        for part in expr.parts:
            yield from checks_of(part)


def _inner(part: Expr) -> str:
    return f"({part})" if isinstance(part, And | Or) else str(part)
