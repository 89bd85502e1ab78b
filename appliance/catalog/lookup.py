"""From what a rule's author wrote to a row of the table.

Comes in: a field or a transformer as written. Goes out: its row, its type, the code of its value. Asked by the rule
checker and by the code generators.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from appliance.catalog import elsewhere
from appliance.catalog.events import EVENTS
from appliance.catalog.fields import FIELDS
from appliance.catalog.operators import ORDER, convert
from appliance.catalog.params import ParamType
from appliance.catalog.transformers import TRANSFORMERS
from appliance.model.expr import Call, Check, FieldRef, Operand, Word
from appliance.model.field import ArgKind, Field, FieldType, Operator


def find_field(ref: FieldRef) -> tuple[Field, str | int | None] | None:
    """The row of a field and its argument, or None where there is no such row.

    `evt.arg.x` is `evt.arg[x]`, and so it is with labels.
    """
    row = FIELDS.get(ref.name) or elsewhere.FIELDS.get(ref.name)
    argument = ref.arg
    if row is None:
        for base in ("evt.arg.", "evt.rawarg.", "evt.type.is.", "thread.cgroup.", "container.label.", "k8s.pod.label."):
            if ref.name.startswith(base) and ref.arg is None:
                row, argument = FIELDS[base[:-1]], ref.name[len(base) :]
    if row is None:
        return None
    if (
        argument is not None
        and row.arg is not ArgKind.KEY
        and argument.isascii()
        and argument.removeprefix("-").isdigit()
    ):
        return row, int(argument[:9])
    return row, argument


@dataclass(frozen=True, slots=True)
class Value:
    """What an operand gives: `code` is an expression over `e`, None where absent, a list of values with `several`."""

    code: str
    row: Field
    several: bool


def value_of(operand: Operand) -> Value | None:
    """What a checked operand gives; None where a field is unknown. A transformer has a row of its own making."""
    if isinstance(operand, FieldRef):
        found = find_field(operand)
        if found is None:
            return None
        row, argument = found
        if argument is None and row.get_all is not None:
            return Value(row.get_all, row, True)
        return Value(row.get.replace("{arg}", repr(argument)), row, row.is_list)
    if not operand.name:
        return _listed(operand)
    transformer = TRANSFORMERS[operand.name]
    codes, several = [], False
    for n, arg in enumerate(operand.args):
        if isinstance(arg, Word):
            codes.append(repr(arg.text))
            continue
        inner = words_of(arg) if transformer.of_words and n == 0 else value_of(arg)
        if inner is None:
            return None
        codes.append(inner.code)
        several = several or inner.several
    if transformer.of_words:
        codes, several = [*codes, repr(operand.index)], operand.index is None
    code = f"{transformer.function}({', '.join(codes)})"
    row = Field(str(operand), transformer.type, transformer.doc, code, is_list=transformer.of_words and several)
    return Value(code, row, several and not transformer.gathers)


def _listed(operand: Call) -> Value | None:
    """A list of operands and texts."""
    codes = []
    for arg in operand.args:
        inner = None if isinstance(arg, Word) else value_of(arg)
        if inner is None and not isinstance(arg, Word):
            return None
        codes.append(repr(arg.text) if isinstance(arg, Word) else inner.code if inner is not None else "None")
    code = f"listed({', '.join(codes)})"
    return Value(code, Field(str(operand), FieldType.TEXT, "several values", code, is_list=True), True)


def words_of(operand: Operand) -> Value | None:
    """The texts that an operand gives one by one; None where it gives a single one."""
    if isinstance(operand, Call) and not operand.name and len(operand.args) == 1:
        (only,) = operand.args
        if not isinstance(only, Word):
            return words_of(only) or value_of(operand)
    value = value_of(operand)
    if value is not None and value.row.words is not None and isinstance(operand, FieldRef) and operand.arg is None:
        return Value(value.row.words, value.row, True)
    return value if value is not None and value.several else None


def fields_of(operand: Operand) -> Iterator[FieldRef]:
    """The fields that an operand looks at."""
    if isinstance(operand, FieldRef):
        yield operand
        return
    for arg in operand.args:
        if isinstance(arg, FieldRef | Call):
            yield from fields_of(arg)


def fields_of_check(check: Check) -> Iterator[FieldRef]:
    """The fields that a check looks at, on either side."""
    for side in (check.left, *(check.right if isinstance(check.right, tuple) else (check.right,))):
        if isinstance(side, FieldRef | Call):
            yield from fields_of(side)


UNKNOWN_PROCESS = frozenset({"proc.name", "proc.exe"})
_OF_ACCOUNTS = frozenset({"user.name", "user.homedir", "user.shell", "user.loginname", "group.name"})
_ARGUMENTS = {p.name for spec in EVENTS.values() for p in spec.params if p.type in (ParamType.UID, ParamType.RES_UID)}


def is_text_where_unresolved(operand: Operand) -> bool:
    """Whether a number without a name gives the text `<NA>`, as in Falco, where other fields are absent."""
    if isinstance(operand, Call):
        return any(is_text_where_unresolved(arg) for arg in operand.args if isinstance(arg, FieldRef | Call))
    found = find_field(operand)
    if found is not None and found[0].name == "evt.arg":
        return found[1] in _ARGUMENTS or isinstance(found[1], int)
    return found is not None and found[0].name in _OF_ACCOUNTS


_EQUALITIES = frozenset({Operator.EQ, Operator.NE, Operator.IN, Operator.INTERSECTS})
_TEXT_ARGUMENTS = {
    p.name
    for spec in EVENTS.values()
    for p in spec.params
    if p.type in (ParamType.TEXT, ParamType.PATH, ParamType.DATA, ParamType.ARGS, ParamType.DIRPATH)
}


def is_text_argument(operand: Operand) -> bool:
    """Whether a raw argument is a text on some event, so that the operators of texts go with it."""
    found = find_field(operand) if isinstance(operand, FieldRef) else None
    return found is not None and found[0].name == "evt.rawarg" and found[1] in _TEXT_ARGUMENTS


def value_type(row: Field, op: Operator, text: str) -> FieldType:
    """The type by which a value beside this field is read: `evt.rawarg` holds texts too."""
    if row.name == "evt.rawarg" and op not in ORDER:
        if op not in _EQUALITIES:
            return FieldType.TEXT
        try:
            convert(row.type, op, text)
        except ValueError:
            return FieldType.TEXT
    return row.type
