"""Exceptions of a rule -> what is put behind its condition.

Comes in: an `ExceptionDef`. Goes out: `not ((f1 c1 v1 and f2 c2 v2) or ...)`, lists still by name. Never: a tuple that
does not fit the fields; it is reported.

As Falco pastes it into the condition, a text beside a comp that takes a list is one: `(a, b)`, `a, b` and `(my_list)`.
"""

from __future__ import annotations

from appliance.catalog.operators import ORDER
from appliance.lang.lexer import Unreadable
from appliance.lang.parser import parse_operand, parse_words
from appliance.lang.source import Report
from appliance.model.diagnostic import Span
from appliance.model.expr import And, Check, Expr, Not, Operand, Or, Quantifier, Word
from appliance.model.field import Operator
from appliance.model.rule import ExceptionDef, Placed

_CODE = "LOAD_ERR_VALIDATE"
_QUANTIFIERS = {q.value: q for q in Quantifier}
_OPERATORS = {op.value: op for op in Operator if op is not Operator.EXISTS} | {"==": Operator.EQ}
_LISTS = frozenset({Operator.IN, Operator.INTERSECTS, Operator.PMATCH})
_NO_QUANTIFIER = _LISTS | ORDER

Comp = tuple[Operator, Quantifier | None, Span]
Value = Placed | tuple[Placed, ...]


def excused(exception: ExceptionDef, report: Report) -> Expr | None:
    """The negated group of an exception; None where it has no values, or a mistake in it was reported."""
    if exception.fields is None:
        report.add(
            "missing-key", f"the exception `{exception.name.value}` has no `fields`", exception.name.span(),
            "add `fields: [proc.name, fd.name]`", code=_CODE,
        )  # fmt: skip
        return None
    operands = [_operand(field, report) for field in exception.fields]
    comps = _comps(exception, len(operands), report)
    if comps is None or not all(operands) or not exception.values:
        return None
    groups = [_group(exception, operands, comps, values, report) for values in exception.values]
    good = [group for group in groups if group is not None]
    if len(good) != len(groups) or not good:
        return None
    place = exception.name.span()
    return Not(good[0] if len(good) == 1 else Or(tuple(good), place), place)


def _operand(field: Placed, report: Report) -> Operand | None:
    try:
        return parse_operand(field.value, field)
    except Unreadable as error:
        report.add(error.name, error.message, field.span(error.start, error.end), error.hint, code=_CODE)
        return None


def operands_of(exception: ExceptionDef) -> list[Operand]:
    """Its fields, as far as they can be read."""
    found = [_operand(field, Report()) for field in exception.fields or ()]
    return [operand for operand in found if operand is not None]


def _comps(exception: ExceptionDef, count: int, report: Report) -> list[Comp] | None:
    if exception.comps is None:
        default = Operator.IN if exception.single else Operator.EQ
        return [(default, None, exception.name.span())] * count
    if len(exception.comps) != count:
        report.add(
            "exception-arity",
            f"the exception `{exception.name.value}` has {count} fields and {len(exception.comps)} comps",
            exception.comps[0].span() if exception.comps else exception.name.span(),
            "give one comp for each field", code=_CODE,
        )  # fmt: skip
        return None
    found: list[Comp] = []
    for comp in exception.comps:
        word, _, rest = comp.value.strip().partition(" ")
        op, quantifier = _OPERATORS.get(word), _QUANTIFIERS.get(rest.strip())
        if op is None or (rest and (quantifier is None or op in _NO_QUANTIFIER)):
            wrong = word if op is None else comp.value
            hint = report.near(word, _OPERATORS) if op is None else "write `startswith oneof`, or the operator alone"
            report.add(
                "unknown-operator", f"no operator is called `{wrong}`", comp.span(),
                hint or f"operators: {' '.join(_OPERATORS)}", code=_CODE,
            )  # fmt: skip
        else:
            found.append((op, quantifier, comp.span()))
    return found if len(found) == count else None


def _group(
    exception: ExceptionDef,
    operands: list[Operand | None],
    comps: list[Comp],
    values: tuple[Value, ...],
    report: Report,
) -> Expr | None:
    if len(values) != len(operands):
        report.add(
            "exception-arity",
            f"this entry of the exception `{exception.name.value}` has {len(values)} values for {len(operands)} fields",
            _place(values, exception), "give one value for each field", code=_CODE,
        )  # fmt: skip
        return None
    checks: list[Expr] = []
    for operand, (op, quantifier, op_span), value in zip(operands, comps, values, strict=True):
        assert operand is not None  # noqa: S101
        several = op in _LISTS or quantifier is not None
        if not several and isinstance(value, tuple):
            report.add(
                "exception-list", f"a list does not go with `{op.value}`", _place((value,), exception),
                "write the comp `in`, or one entry for each value", code=_CODE,
            )  # fmt: skip
            return None
        place = _place((value,), exception)
        if not several:
            assert not isinstance(value, tuple)  # noqa: S101
            checks.append(Check(operand, op, word_of(value), None, place, op_span))
            continue
        words = _words(value, exception.single, report)
        if words is None:
            return None
        checks.append(Check(operand, op, words, quantifier, place, op_span))
    return checks[0] if len(checks) == 1 else And(tuple(checks), checks[0].span)


def _words(value: Value, single: bool, report: Report) -> tuple[Word, ...] | None:
    """The items of a list, given as one or as a text that is one; None where that was reported.

    `single`: the value holds all entries of an exception of one field, each of which may be such a text in brackets.
    """
    words: list[Word] = []
    for item in value if isinstance(value, tuple) else (value,):
        text = item.value.strip()
        pasted = text.startswith("(") or ("," in text and not single)
        if not pasted or (isinstance(value, tuple) and not single):
            words.append(word_of(item))
            continue
        try:
            words += parse_words(item.value, item)
        except Unreadable as error:
            report.add(
                "exception-list", f"this is no list: {error.message}", item.span(error.start, error.end),
                error.hint, code=_CODE,
            )  # fmt: skip
            return None
    return tuple(words)


def _place(values: tuple[Value, ...], exception: ExceptionDef) -> Span:
    for value in values:
        if isinstance(value, tuple):
            if value:
                return value[0].span()
        else:
            return value.span()
    return exception.name.span()


def word_of(item: Placed) -> Word:
    """An item of a list, or a value of an exception: quotes of its own are quotes, a bare name may be a list's."""
    text = item.value
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return Word(text[1:-1], True, item.span())
    return Word.of(text, item.span())
