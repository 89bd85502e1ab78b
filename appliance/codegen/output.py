"""A message template -> a formatter.

Comes in: a rule's checked output. Goes out: the text of a function that makes message and fields of an event. Never:
escaping (that is each edge's own), or an author's text other than as a literal.
"""

from __future__ import annotations

from appliance.catalog.lookup import fields_of, value_of
from appliance.codegen.python import Code, value_code
from appliance.model.expr import Call, FieldRef, Operand
from appliance.model.rule import Output

MOMENTS = frozenset({"evt.time", "evt.time.s", "evt.time.iso8601", "evt.datetime", "evt.datetime.s"})
_MOMENT = "e.ts_ns"


def output_code(output: Output) -> Code:
    """The function `write(e)` that gives `(text, {field: value})`: the message without heading, fields in order.

    `evt.time` is among the fields of every message. It and other moments are numbers there, as in Falco's JSON:
    nanoseconds since the epoch, whatever the message shows.

    A `*` at the start of a template once asked Falco to print it whatever is absent; it does that now without, and so
    do we. What a container's engine did not tell says why in the message: `<NA: no such container at docker>`.
    """
    parts = list(output.parts)
    if parts and isinstance(parts[0], str):
        parts[0] = parts[0].removeprefix("*")
    names: dict[str, str] = {}  # field as written -> local
    parts_told: dict[str, tuple[Operand, str]] = {}
    lines, texts = [], []
    for part in parts:
        if isinstance(part, str):
            texts.append(repr(part))
            continue
        written = str(part)
        if written not in names:
            names[written] = f"v{len(names)}"
            parts_told[written] = part, names[written]
            lines.append(f"    {names[written]} = {value_code(part)}")
        name = names[written]
        if isinstance(part, FieldRef) and part.name.startswith(("container.", "k8s.")):
            texts.append(f"(text_of({name}) if {name} is not None else absent_text(e.container.missing))")
        else:
            texts.append(f"text_of({name})")
    for part, _ in tuple(parts_told.values()):  # the plain field stands beside what was made of it, as in Falco
        for field in fields_of(part) if isinstance(part, Call) else ():
            if str(field) not in names:
                names[str(field)] = f"v{len(names)}"
                parts_told[str(field)] = field, names[str(field)]
                lines.append(f"    {names[str(field)]} = {value_code(field)}")
    told = {written: _told(part, written, name) for written, (part, name) in parts_told.items()}
    told.setdefault("evt.time", _MOMENT)
    fields = ", ".join([*(f"{name!r}: {code}" for name, code in told.items()), *map(_extra_code, output.extra)])
    body = "\n".join(["def write(e):", *lines, f"    return ''.join(({', '.join([*texts, repr('')])})), {{{fields}}}"])
    return Code(body + "\n", {})


def _told(part: Operand, written: str, name: str) -> str:
    """A field's value in the alert: numbers, texts, and a list where the field is one."""
    if written in MOMENTS:
        return _MOMENT
    value = value_of(part)
    return f"{'list_value' if value is not None and value.row.is_list else 'field_value'}({name})"


def _extra_code(extra: tuple[str, tuple[str | Operand, ...]]) -> str:
    """One more field: a value where the template is a field and nothing else, a text otherwise."""
    name, parts = extra
    if len(parts) == 1 and not isinstance(parts[0], str):
        if str(parts[0]) in MOMENTS:
            return f"{name!r}: {_MOMENT}"
        return f"{name!r}: field_value({value_code(parts[0])})"
    texts = [repr(part) if isinstance(part, str) else f"text_of({value_code(part)})" for part in parts]
    return f"{name!r}: ''.join(({', '.join([*texts, repr('')])}))"
