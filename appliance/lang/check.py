"""Names and types, by the catalogue.

Comes in: checks and operands with lists in place. Goes out: whether they hold up. Every mistake goes to the report at
the place of the word that is wrong.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Collection, Mapping

from appliance.catalog import elsewhere
from appliance.catalog.events import EVENTS, PARAM_NAMES, Category
from appliance.catalog.fields import FIELDS
from appliance.catalog.lookup import (
    UNKNOWN_PROCESS,
    find_field,
    is_text_argument,
    is_text_where_unresolved,
    value_of,
    value_type,
    words_of,
)
from appliance.catalog.operators import LISTS, ORDER, TEXTS, WITH_FIELD, comparable, convert, operators_of
from appliance.catalog.transformers import TRANSFORMERS
from appliance.lang.lexer import Unreadable
from appliance.lang.parser import parse_operand
from appliance.lang.source import Report
from appliance.model.diagnostic import Severity, Span
from appliance.model.event import EventType
from appliance.model.expr import Call, Check, FieldRef, Operand, Word
from appliance.model.field import ArgKind, Field, FieldType, Operator
from appliance.model.spelling import nearest

_CONDITION = "LOAD_ERR_COMPILE_CONDITION"
_MAX_INDEX = 255


class Checker:
    """Holds checks and operands against the catalogue, for rules of one source.

    Without a source, for what no rule uses: fields of any source will do, and, as Falco compiles rules alone, what is
    wrong is warned of.
    """

    def __init__(self, report: Report, source: str | None = "syscall") -> None:
        self._report = report
        self._source = source
        self.macros: Collection[str] = ()
        self.events: frozenset[str] = frozenset()  # that the rule names, for hints
        self.lenient = False  # of a rule with `skip-if-unknown-filter`: it is left out, and that is no error

    def _add(self, name: str, message: str, span: Span, hint: str | None = None, *, code: str = _CONDITION) -> None:
        severity = Severity.ERROR if self._source is not None else Severity.WARNING
        self._report.add(name, message, span, hint, code=code, severity=severity)

    def _fail(self, name: str, message: str, span: Span, hint: str | None = None) -> bool:
        self._add(name, message, span, hint, code=_CONDITION)
        return False

    def operand(self, operand: Operand, code: str = _CONDITION) -> bool:
        """Whether the field exists and has the argument it needs."""
        if isinstance(operand, Call):
            return self._call(operand, code)
        found = find_field(operand)
        span = operand.span
        if found is None:
            known = [n for table in (FIELDS, elsewhere.FIELDS) for n, row in table.items() if self._has(row)]
            hint = self._report.near(operand.name, known) or "docs/fields.md lists all fields"
            return self._unknown("unknown-field", f"no field is called `{operand.name}`", span, hint, code)
        row, argument = found
        if not self._has(row):
            message = f"`{row.name}` is a field of {' and '.join(row.sources)} events, this rule is for {self._source}"
            same = _SAME.get(row.name)
            hint = f"`source: {row.sources[0]}` in a rule makes it one for these events"
            if same is not None:
                hint = f"{self._source} events have `{same}`"
            elif self._source != "syscall":
                hint = f"{self._source} events have the fields `ka.*` and `jevt.*`: docs/fields.md lists them"
            return self._unknown("field-of-other-source", message, span, hint, code)
        if row.name in elsewhere.FIELDS:
            self._report.warn(
                "not-told", f"no event has a `{row.name}`, here as in Falco: a check on it is false", span,
                "docs/fields.md lists all fields", "LOAD_UNKNOWN_FILTER",
            )  # fmt: skip
        if argument is None:
            if row.arg_required:
                self._add(
                    "missing-argument", f"`{row.name}` needs an argument", span, f"write `{row.name}[...]`", code=code
                )
                return False
            return True
        problem = None
        if row.arg is ArgKind.NONE:
            problem = f"`{row.name}` takes no argument"
        elif row.arg is ArgKind.INDEX and (not isinstance(argument, int) or argument > _MAX_INDEX):
            problem = f"the argument of `{row.name}` must be a number up to {_MAX_INDEX}, not `{argument}`"
        elif row.name == "evt.around" and not (str(argument).isascii() and str(argument).isdigit()):
            problem = f"the argument of `{row.name}` must be nanoseconds since the epoch, not `{argument}`"
        elif row.name in ("evt.arg", "evt.rawarg") and isinstance(argument, str) and argument not in _PARAMS:
            self._add(
                "unknown-argument",
                f"no event has an argument `{argument}`",
                span,
                self._arguments_hint(operand, argument),
                code=code,
            )
            return False
        if problem:
            self._add("bad-argument", problem, span, code=code)
        return problem is None

    def _arguments_hint(self, operand: FieldRef, argument: str) -> str:
        """The arguments of the events that the rule names, else a name that is near."""
        told = []
        for name in sorted(self.events):
            params = [p.name for p in EVENTS[EventType(name)].params if not p.internal]
            told.append(f"`{name}` has {', '.join(f'`{p}`' for p in params) or 'none'}")
        near = self._report.near(argument, _PARAMS)
        if near is not None:
            head, _, tail = str(operand).rpartition(argument)
            near = near.replace("did you mean `", f"did you mean `{head}").replace("`?", f"{tail}`?")
        return "; ".join([*([near] if near else []), *told[:3]]) or "docs/fields.md lists those of each event"

    def _has(self, row: Field) -> bool:
        return self._source is None or self._source in row.sources

    def _unknown(self, name: str, message: str, span: Span, hint: str, code: str) -> bool:
        if self.lenient:
            self._report.warn(name, f"{message}: the rule is left out, as it asks for", span, hint,
                              "LOAD_UNKNOWN_FILTER")  # fmt: skip
        else:
            self._add(name, message, span, hint, code=code)
        return False

    def _call(self, call: Call, code: str) -> bool:
        if not call.name:
            good = [isinstance(arg, Word) or self.operand(arg, code) for arg in call.args]  # all of them are reported
            return all(good)
        row = TRANSFORMERS[call.name]
        if call.index is not None and not row.of_words:
            return self._fail("bad-argument", f"`{call.name}(...)` takes no argument in brackets", call.span)
        if call.index is not None and len(call.index) != 1:
            return self._fail("bad-argument", f"`{call.name}(...)` takes one letter in brackets", call.span)
        if not row.least <= len(call.args) <= row.most:
            wants = str(row.least) if row.least == row.most else f"at least {row.least}"
            return self._fail("bad-argument", f"`{call.name}` takes {wants} arguments, not {len(call.args)}", call.span)
        good = []
        for n, arg in enumerate(call.args):
            if row.of_words and n == 0:
                good.append(self._several(call, arg, code))
            elif isinstance(arg, Word):
                good.append(row.literals or self._fail("bad-argument", f"`{call.name}` takes a field", arg.span))
            elif not self.operand(arg, code):
                good.append(False)
            elif row.texts_only and (value := value_of(arg)) is not None and value.row.type not in TEXTS:
                message = f"`{call.name}` takes texts, and `{arg}` is of type {value.row.type.value}"
                good.append(self._fail("bad-argument", message, arg.span))
        return all(good)

    def _several(self, call: Call, arg: Operand | Word, code: str) -> bool:
        """An argument that must give several texts."""
        if isinstance(arg, FieldRef | Call):
            if not self.operand(arg, code):
                return False
            value = words_of(arg)
            if value is not None and value.row.type in TEXTS:
                return True
        return self._fail("bad-argument", f"`{call.name}` takes arguments one by one, and `{arg}` is a single text",
                          arg.span, f"write `{call.name}(proc.args, ...)`")  # fmt: skip

    def check(self, check: Check) -> bool:
        """Whether the check's names, operator and values go together."""
        if not self.operand(check.left):
            return False
        value = value_of(check.left)
        assert value is not None  # noqa: S101  (operand() has seen it)
        row = value.row
        if row.name == "evt.around" and check.op is not Operator.EQ:
            return self._fail("operator-type", f"`{check.op.value}` does not go with `evt.around`", check.op_span,
                              "`evt.around[T]=D` is true within D milliseconds of T")  # fmt: skip
        operators = operators_of(row.type) | (operators_of(FieldType.TEXT) if is_text_argument(check.left) else set())
        if check.op not in operators:
            allowed = " ".join(op.value for op in Operator if op in operators)
            return self._fail("operator-type", f"`{check.op.value}` does not go with `{check.left}`, a field of type "
                              f"{row.type.value}", check.op_span, f"operators for it: {allowed}")  # fmt: skip
        if isinstance(check.right, FieldRef | Call):
            return self._other(check, row, check.right)
        if check.op is Operator.REGEX:
            self._report.warn(
                "slow-operator", "`regex` costs more than other operators, on each event that gets this far",
                check.op_span, "`in`, `startswith` or `glob`, perhaps; `tercel show RULE` measures it",
                "LOAD_COMPILE_CONDITION",
            )  # fmt: skip
        words = check.right if isinstance(check.right, tuple) else () if check.right is None else (check.right,)
        good = [self._word(row, check, word) for word in words]  # all of them: each mistake is reported
        if all(good) and check.op in ORDER and row.type in TEXTS:
            self._report.warn(
                "order-of-texts", f"`{check.left}` is a text: it is compared letter by letter, not as a number",
                check.op_span, "a field with a number for a value is meant, perhaps",
            )  # fmt: skip
        return all(good)

    def _other(self, check: Check, row: Field, right: Operand) -> bool:
        """A check against another field."""
        if not self.operand(right):
            return False
        if check.op not in WITH_FIELD:
            return self._fail("operator-field", f"`{check.op.value}` takes no field on its right", check.op_span)
        other = value_of(right)
        if other is None or not comparable(row.type, other.row.type):
            kind = other.row.type.value if other is not None else "unknown"
            message = f"`{check.left}` is of type {row.type.value} and `{right}` of type {kind}"
            return self._fail("operand-types", message, right.span)
        return True

    def _word(self, row: Field, check: Check, word: Word) -> bool:
        try:
            convert(value_type(row, check.op, word.text), check.op, word.text)
        except ValueError as error:
            other = None if word.quoted else _field_named(word.text)
            hint = None
            if other is not None and comparable(row.type, other.type) and not isinstance(check.right, tuple):
                hint = f"for the field's value write `{check.left} {check.op.value} val({word.text.removeprefix('%')})`"
            return self._fail("bad-value", f"{error} (for `{check.left}`)", word.span, hint)
        if row.name == "evt.type" and word.text in elsewhere.EVENT_NAMES:
            self._report.warn(
                "event-not-seen", f"`{word.text}` events are not seen by this version", word.span,
                "docs/fields.md lists those that are",
            )  # fmt: skip
            return True
        if row.name == "evt.type" and check.op in (Operator.EQ, Operator.NE, *LISTS) and word.text not in _TYPES:
            hint = (
                self._report.near(word.text, _TYPES | elsewhere.EVENT_NAMES) or "docs/fields.md lists all event types"
            )
            if (macro := nearest(word.text[:100], self.macros)) is not None and "did you mean" not in hint:
                hint = f"`{macro}` is a macro: write it alone, without `evt.type`"
            return self._fail("unknown-event", f"no event type is called `{word.text}`", word.span, hint)
        closed = _CLOSED.get(row.name)
        if closed is not None and check.op in (Operator.EQ, *LISTS) and not closed(word.text):
            plain = f"`evt.rawres` is the number; `{row.name}` is `SUCCESS` or the name of an error"
            named = row.name == "evt.res"
            hint = self._report.near(word.text, _RESULTS if named else _CATEGORIES)
            self._report.warn(
                "never-equal", f"`{row.name}` is never `{word.text}`", word.span,
                hint or (plain if named else f"it is one of {', '.join(sorted(_CATEGORIES))}"),
            )  # fmt: skip
        if word.text == "<NA>" and not is_text_where_unresolved(check.left):
            meant = f"{check.left} exists" if check.op is Operator.NE else f"not {check.left} exists"
            joined = ", joined by `or`," if isinstance(check.right, tuple) and len(check.right) > 1 else ""
            name = str(check.left)
            never = f"`{name}` never is the text `<NA>`: where it has no value, it is absent"
            if name in UNKNOWN_PROCESS:
                never = f"`{name}` is the text `<NA>` only for a process that had ended before it could be read"
            self._report.warn(
                "unsafe-na", never, word.span,
                f"for an absent value write `{meant}`{joined} in place of this check", "LOAD_UNSAFE_NA_CHECK",
            )  # fmt: skip
        elif not word.quoted and _field_named(word.text) is not None:
            self._report.warn(
                "field-as-text", f"`{word.text}` is a field's name, and here it is a text like any other", word.span,
                _other_field(check, word.text), "LOAD_COMPILE_CONDITION",
            )  # fmt: skip
        if row.name == "evt.dir" and check.op in (Operator.EQ, Operator.NE) and word.text in ("<", ">"):
            always = (word.text == "<") is (check.op is Operator.EQ)
            self._report.warn(
                "evt-dir", f"`{check}` is {'always' if always else 'never'} true: each event is the end of a call, `<`",
                check.span, "take it out" if always else "take it out: what it is joined to by `and` never holds",
                "LOAD_DEPRECATED_ITEM",
            )  # fmt: skip
        return True


def _field_named(text: str) -> Field | None:
    """The field whose name a text is, with a `%` before it or without."""
    try:
        operand = parse_operand(text.removeprefix("%")) if "." in text else None
    except Unreadable:
        return None
    found = find_field(operand) if isinstance(operand, FieldRef) else None
    return None if found is None else found[0]


def _other_field(check: Check, text: str) -> str:
    """A hint: how a check against another field is written."""
    op = {Operator.IN: Operator.EQ, Operator.INTERSECTS: Operator.EQ}.get(check.op, check.op)
    name = text.removeprefix("%")
    if op not in WITH_FIELD:
        return f"`{op.value}` takes no field on its right; quote it if the text `{text}` is meant"
    alone = not isinstance(check.right, tuple) or len(check.right) == 1
    joined = "" if alone else " and join it by `or`"
    return f"for the field's value write `{check.left} {op.value} val({name})`{joined}; quote it if the text is meant"


_SAME = {
    "k8s.ns.name": "ka.target.namespace", "k8s.pod.name": "ka.target.pod.name", "user.name": "ka.user.name",
    "container.image": "ka.req.pod.containers.image", "evt.type": "ka.verb", "evt.res": "ka.response.code",
    "container.image.repository": "ka.req.pod.containers.image.repository",
    "ka.target.namespace": "k8s.ns.name", "ka.user.name": "user.name",
}  # fmt: skip
"""Fields that tell of events of one source what another field tells of the other."""
_RESULTS = {"SUCCESS", *errno.errorcode.values()}
_CATEGORIES = {c.value for c in Category}
_CLOSED: Mapping[str, Callable[[str], bool]] = {
    "evt.res": lambda text: text in _RESULTS or re.fullmatch(r"-\d+", text) is not None,
    "evt.category": lambda text: text in _CATEGORIES,
}
"""Fields with few values: whether a text is one of them."""
_TYPES = {t.value for t in EventType}
_PARAMS = PARAM_NAMES | elsewhere.PARAM_NAMES
