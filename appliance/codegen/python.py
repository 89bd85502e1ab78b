"""Checked conditions -> Python: the exact predicate, which is what a rule means.

Comes in: rules and an event type. Goes out: the text of a function and the constants it names. Never: a text of the
monitored host inside the code, or an author's text other than as a literal.

All rules of one event type make one function, so that what they ask alike is found out once for each event: a check, a
macro's tree or a costly value that occurs twice is kept in a local at its first use. Every check stands on a line of
its own with the place where it was written behind it, and so does a traceback.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import assert_never

from appliance.catalog.lookup import Value as OperandValue
from appliance.catalog.lookup import value_of, value_type
from appliance.catalog.narrow import specialise
from appliance.catalog.operators import ORDER, TEXTS, Network, Value, convert, regex_matcher
from appliance.catalog.values import NAMES as VALUE_NAMES
from appliance.codegen import runtime
from appliance.model.diagnostic import Span
from appliance.model.event import EventType
from appliance.model.expr import FALSE, And, Call, Check, Const, Expr, FieldRef, Not, Operand, Or, Quantifier, Word
from appliance.model.field import Field, FieldType, Operator
from appliance.model.rule import Rule
from appliance.model.text import printable

_CALLED = (
    runtime.absent_text, runtime.ascii_lower, runtime.below, runtime.in_networks, runtime.text_of,
    runtime.field_value, runtime.list_value, runtime.related,
    runtime.lowered, runtime.uppered, runtime.unbase64, runtime.base_name, runtime.length, runtime.concatenated,
    runtime.joined, runtime.listed, runtime.options_of,
)  # fmt: skip
NAMES: Mapping[str, object] = MappingProxyType({**VALUE_NAMES, **{f.__name__: f for f in _CALLED}})
"""What generated code may name besides its own constants and Python's built-ins."""

_DEPTH = 25  # of nested brackets; CPython's parser ends at 200, and each of our levels makes up to four
_INDENT = "    "


@dataclass(frozen=True, slots=True)
class Code:
    """A module's text and the constants it names."""

    text: str
    constants: Mapping[str, object]


def judge_code(rules: Sequence[tuple[int, Rule]], type_: EventType, *, first: bool) -> Code | None:
    """The function `judge(e)` that gives the numbers of the rules that hold on an event of this type.

    `rules` are numbered; the numbers come back in their order, with `first` at most one. None: no rule can hold.
    """
    trees = [(n, rule, specialise(rule.condition, type_)) for n, rule in rules]
    trees = [(n, rule, tree) for n, rule, tree in trees if tree != FALSE]
    return _Writer(trees, first).code() if trees else None


class _Shared:
    """What occurs more than once among the trees of a function."""

    def __init__(self, trees: Iterable[Expr]) -> None:
        self._nodes: Counter[Expr] = Counter()
        self._values: Counter[str] = Counter()
        for tree in trees:
            self._count(tree)
        self.nodes = {node: f"c{i}" for i, node in enumerate(n for n, count in self._nodes.items() if count > 1)}
        self.values = {text: f"v{i}" for i, text in enumerate(t for t, count in self._values.items() if count > 1)}

    def _count(self, expr: Expr) -> None:
        costly = False
        if isinstance(expr, Check):
            text = _value(expr.left).code
            costly = is_costly(text)
            if costly and not self._nodes[expr]:
                self._values[text] += 1
        if costly or not isinstance(expr, Check | Const):
            self._nodes[expr] += 1
            if self._nodes[expr] > 1:
                return
        if isinstance(expr, Not):
            self._count(expr.part)
        elif isinstance(expr, And | Or):
            for part in expr.parts:
                self._count(part)


def is_costly(value: str) -> bool:
    """Whether an expression does more than look an attribute up."""
    return "(" in value or "[" in value


class _Writer:
    def __init__(self, trees: Sequence[tuple[int, Rule, Expr]], first: bool) -> None:
        self._trees = trees
        self._first = first
        self._shared = _Shared(tree for _, _, tree in trees)
        self._constants: dict[str, object] = {}
        self._known: dict[object, str] = {}
        self._parts: list[str] = []  # of their own functions, where brackets would nest too deep
        self._used: set[str] = set()
        self._in_part = False

    def code(self) -> Code:
        body: list[str] = []
        for number, rule, tree in self._trees:
            body.append(f"{_INDENT}if (  # {_remark(rule.name)}, {_place(rule.span)}")
            body += self._lines(tree, 2)
            body.append(f"{_INDENT}):")
            if self._first:
                body.append(f"{_INDENT * 2}return ({number},)")
            else:
                body.append(f"{_INDENT * 2}found += ({number},)")
        head = ["def judge(e):"]
        cells = sorted(self._used, key=lambda name: (name[0], int(name[1:])))
        checks, values = [n for n in cells if n[0] == "c"], [n for n in cells if n[0] == "v"]
        if checks:
            head.append(f"{_INDENT}{' = '.join(checks)} = None")
        if values:
            head.append(f"{_INDENT}{' = '.join(values)} = UNSET")
            self._constants["UNSET"] = _UNSET
        if not self._first:
            head.append(f"{_INDENT}found = ()")
        tail = [f"{_INDENT}return {'()' if self._first else 'found'}"]
        text = "\n".join([*self._parts, _with_locals(head, body), *tail]) + "\n"
        return Code(text, MappingProxyType(self._constants))

    # -- trees

    def _lines(self, expr: Expr, depth: int) -> list[str]:
        """The lines of an expression, each at least at this depth."""
        cell = None if self._in_part else self._shared.nodes.get(expr)
        if cell is not None:
            self._used.add(cell)
            pad = _INDENT * depth
            return [f"{pad}({cell} if {cell} is not None else ({cell} := (", *self._bare(expr, depth + 1), f"{pad})))"]
        return self._bare(expr, depth)

    def _bare(self, expr: Expr, depth: int) -> list[str]:
        pad = _INDENT * depth
        match expr:
            case Const(value):
                return [f"{pad}{value}"]
            case Check():
                return [f"{pad}{self._check(expr)}  # {_place(expr.span)}"]
            case Not(part):
                return [f"{pad}not (", *self._deeper(part, depth + 1), f"{pad})"]
            case And(parts) | Or(parts):
                word = "and" if isinstance(expr, And) else "or"
                lines = []
                for i, part in enumerate(parts):
                    if i:
                        lines.append(f"{pad}{word}")
                    if isinstance(part, And | Or) and part not in self._shared.nodes:
                        lines += [f"{pad}(", *self._deeper(part, depth + 1), f"{pad})"]
                    else:
                        lines += self._deeper(part, depth)
                return lines
            case _:
                raise AssertionError(f"{expr!r} is not a checked condition")

    def _deeper(self, expr: Expr, depth: int) -> list[str]:
        if depth < _DEPTH or isinstance(expr, Check | Const):
            return self._lines(expr, depth)
        name = f"part{len(self._parts)}"
        self._parts.append("")
        index, was_in_part = len(self._parts) - 1, self._in_part
        self._in_part = True  # a function of its own sees none of the locals
        lines = self._bare(expr, 2)
        self._in_part = was_in_part
        self._parts[index] = _with_locals([f"def {name}(e):"], [f"{_INDENT}return bool(", *lines, f"{_INDENT})"])
        return [f"{_INDENT * depth}{name}(e)"]

    # -- checks

    def _check(self, check: Check) -> str:
        value = _value(check.left)
        text, row = value.code, value.row
        if isinstance(check.right, FieldRef | Call):
            return f"related({check.op.value!r}, {self._cell(text)}, {self._cell(_value(check.right).code)})"
        words = check.right if isinstance(check.right, tuple) else (check.right,)
        if value.several:
            return self._check_several(check, text, row, words)
        if check.op is Operator.EXISTS:
            return f"{self._cell(text)} is not None"
        test, safe = self._quantified(row, check, words)
        cell = self._cell(text)
        if safe:
            return f"({test.format(v=cell)})"
        if ":=" in cell:  # a plain local once it has been read
            return f"({cell} is not None and {test.format(v=self._shared.values[text])})"
        return f"((x := {cell}) is not None and {test.format(v='x')})"

    def _quantified(self, row: Field, check: Check, words: Sequence[object]) -> tuple[str, bool]:
        """The test of a check with one right side, or with several and a word before them."""
        if check.quantifier is None:
            return self._test(row, check.op, words)
        tests = [f"({self._test(row, check.op, [word])[0]})" for word in words]
        match check.quantifier:
            case Quantifier.ANY:
                return f"({' or '.join(tests) or 'False'})", False
            case Quantifier.ALL:
                return f"({' and '.join(tests) or 'True'})", False
            case Quantifier.ONE:
                return f"(sum(map(bool, ({''.join(t + ', ' for t in tests)}))) == 1)", False
            case _:
                assert_never(check.quantifier)

    def _check_several(self, check: Check, text: str, row: Field, words: Sequence[object]) -> str:
        """A check of several values: as a comprehension's iterable may bind no name, they are bound before."""
        head = f"bool(w := {self._cell(text)})"
        if check.op is Operator.EXISTS:
            return head
        test, _ = self._quantified(row, check, words)
        every = (row.both and check.op is Operator.NE) or (row.is_list and check.op is Operator.IN)
        if not every and test.startswith("{v} == "):
            return f"({head} and {test.removeprefix('{v} == ')} in w)"
        if not every and test.startswith("{v} in K"):
            return f"({head} and not {test.removeprefix('{v} in ')}.isdisjoint(w))"
        return f"({head} and {'all' if every else 'any'}({test.format(v='x')} for x in w))"

    def _cell(self, text: str) -> str:
        """A value, kept in a local if it is costly and asked for again."""
        cell = None if self._in_part else self._shared.values.get(text)
        if cell is None:
            return text if not is_costly(text) and " " not in text else f"({text})"
        self._used.add(cell)
        return f"({cell} if {cell} is not UNSET else ({cell} := {text}))"

    def _constant(self, value: object) -> str:
        key = (type(value), value) if not callable(value) else id(value)
        if key not in self._known:
            self._known[key] = name = f"K{len(self._constants)}"
            self._constants[name] = value
        return self._known[key]

    def _test(self, row: Field, op: Operator, words: Sequence[object]) -> tuple[str, bool]:
        """A test of `{v}`, and whether it is right (false) for None too."""
        texts = [w.text for w in words if isinstance(w, Word)]
        if op in _TEXT_TESTS and row.type is not FieldType.BYTES:
            return self._of_text(row, _TEXT_TESTS[op](self, texts[0])), False
        if op is Operator.PMATCH:
            return self._of_text(row, self._pmatch(texts)), False
        if op in ORDER and row.type in TEXTS:
            return f"{{v}} {op.value} {_literal(texts[0])}", False
        values = [convert(value_type(row, op, t), op, t) for t in texts]
        if row.type is FieldType.BYTES:
            return _BYTES_TESTS[op].format(k=self._constant(values[0]), v="{v}"), False
        if row.name == "evt.rawarg":  # a text argument may look like a number
            values += [t for t, v in zip(texts, values, strict=True) if not isinstance(v, str)]
        if row.type is FieldType.NET:
            networks = tuple(v for v in values if not isinstance(v, str | bytes | int | float | bool))
            return f"{'not ' if op is Operator.NE else ''}in_networks({{v}}, {self._constant(networks)})", False
        return self._plain(row, op, values)

    @staticmethod
    def _of_text(row: Field, test: str) -> str:
        """A raw argument may be a number on one event and a text on another."""
        return f"(isinstance({{v}}, str) and {test})" if row.name == "evt.rawarg" else test

    def _plain(self, row: Field, op: Operator, values: Sequence[Value]) -> tuple[str, bool]:
        if row.name == "evt.around":  # its value is a distance
            return f"{{v}} <= {_literal(values[0])}", False
        match op:
            case Operator.EQ | Operator.IN | Operator.INTERSECTS:
                if len(values) == 1:
                    return f"{{v}} {'is' if isinstance(values[0], bool) else '=='} {_literal(values[0])}", True
                return f"{{v}} in {self._constant(frozenset(values))}", True
            case Operator.NE:
                if len(values) == 1:
                    return f"{{v}} {'is not' if isinstance(values[0], bool) else '!='} {_literal(values[0])}", False
                return f"{{v}} not in {self._constant(frozenset(values))}", False
            case _:
                test = f"{{v}} {op.value} {_literal(values[0])}"
                return (f"isinstance({{v}}, int) and {test}", False) if row.name == "evt.rawarg" else (test, False)

    def _pmatch(self, texts: Sequence[str]) -> str:
        plain = frozenset(t.rstrip("/") or "/" for t in texts if not runtime.has_wildcard(t))
        patterns = [t for t in texts if runtime.has_wildcard(t)]
        tests = []
        if plain:
            tests.append(f"below({{v}}, {self._constant(plain)})")
        if patterns:
            tests.append(f"{self._constant(runtime.below_globber(patterns))}({{v}}) is not None")
        return f"({' or '.join(tests)})" if tests else "False"

    def _glob(self, text: str, *, ignore_case: bool = False) -> str:
        return f"{self._constant(runtime.globber([text], ignore_case=ignore_case))}({{v}}) is not None"


_TEXT_TESTS: Mapping[Operator, Callable[[_Writer, str], str]] = MappingProxyType(
    {
        Operator.CONTAINS: lambda w, text: f"{_literal(text)} in {{v}}",
        Operator.ICONTAINS: lambda w, text: f"{_literal(runtime.ascii_lower(text))} in ascii_lower({{v}})",
        Operator.STARTSWITH: lambda w, text: f"{{v}}.startswith({_literal(text)})",
        Operator.ENDSWITH: lambda w, text: f"{{v}}.endswith({_literal(text)})",
        Operator.GLOB: lambda w, text: w._glob(text),
        Operator.IGLOB: lambda w, text: w._glob(text, ignore_case=True),
        Operator.REGEX: lambda w, text: f"{w._constant(regex_matcher(text))}({{v}})",
    }
)


_BYTES_TESTS: Mapping[Operator, str] = MappingProxyType(
    {
        Operator.EQ: "{v} == {k}",
        Operator.NE: "{v} != {k}",
        Operator.CONTAINS: "{k} in {v}",
        Operator.BCONTAINS: "{k} in {v}",
        Operator.STARTSWITH: "{v}.startswith({k})",
        Operator.BSTARTSWITH: "{v}.startswith({k})",
    }
)


class _Unset:
    def __repr__(self) -> str:
        return "UNSET"


_UNSET = _Unset()


def value_code(operand: Operand) -> str:
    """The expression over `e` of an operand's value (a list of them where it has several), None where absent."""
    return _value(operand).code


def _value(operand: Operand) -> OperandValue:
    found = value_of(operand)
    assert found is not None, "the checker lets no unknown field pass"  # noqa: S101
    return found


def _literal(value: Value | Network) -> str:
    return _brace_safe(repr(value))


def _brace_safe(text: str) -> str:
    """A Python literal that may go through `str.format`."""
    return text.replace("{", "\\x7b").replace("}", "\\x7d")


_ROOTS = ("process", "fd", "container")


def _with_locals(head: list[str], body: list[str]) -> str:
    """The function's text, with the parts of the event that it looks at more than once in locals."""
    text = "\n".join(body)
    for root in _ROOTS:
        name = re.compile(rf"\be\.{root}\b(?=\.)")
        if len(name.findall(text)) > 1:
            head = [*head, f"{_INDENT}{root} = e.{root}"]
            text = name.sub(root, text)
    return "\n".join([*head, text])


def _place(span: Span) -> str:
    return f"{_remark(span.file)}:{span.line}:{span.column}" if span.line else "not written by anybody"


def _remark(text: str) -> str:
    return printable(text)[:200]
