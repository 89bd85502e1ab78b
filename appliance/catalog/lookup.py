"""From what a rule's author wrote to a row of the table.

Comes in: a field as written. Goes out: its row and argument. Asked by the rule checker and by the code generators.
"""

from __future__ import annotations

from appliance.catalog.fields import FIELDS
from appliance.catalog.operators import ORDER, convert
from appliance.model.expr import FieldRef
from appliance.model.field import ArgKind, Field, FieldType, Operator


def find_field(ref: FieldRef) -> tuple[Field, str | int | None] | None:
    """The row of a field and its argument, or None where there is no such row; `evt.arg.x` is `evt.arg[x]`."""
    row = FIELDS.get(ref.name)
    argument = ref.arg
    if row is None:
        for base in ("evt.arg.", "evt.rawarg."):
            if ref.name.startswith(base) and ref.arg is None:
                row, argument = FIELDS[base[:-1]], ref.name[len(base) :]
    if row is None:
        return None
    if argument is not None and argument.isascii() and argument.isdigit() and row.arg is not ArgKind.KEY:
        return row, int(argument[:9])
    return row, argument


def value_type(row: Field, op: Operator, text: str) -> FieldType:
    """The type by which a value beside this field is read: `evt.rawarg` holds texts too."""
    if row.name == "evt.rawarg" and op not in ORDER:
        try:
            convert(row.type, op, text)
        except ValueError:
            return FieldType.TEXT
    return row.type
