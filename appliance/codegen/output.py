"""A message template -> a formatter.

Comes in: a rule's checked output. Goes out: the text of a function that makes message and fields of an event. Never:
escaping (that is each edge's own), or an author's text other than as a literal.
"""

from __future__ import annotations

from appliance.codegen.python import Code, value_code
from appliance.model.expr import FieldRef, Operand
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
    lines, texts = [], []
    for part in parts:
        if isinstance(part, str):
            texts.append(repr(part))
            continue
        written = str(part)
        if written not in names:
            names[written] = f"v{len(names)}"
            lines.append(f"    {names[written]} = {value_code(part)}")
        name = names[written]
        if isinstance(part, FieldRef) and part.name.startswith(("container.", "k8s.")):
            texts.append(f"(text_of({name}) if {name} is not None else absent_text(e.container.missing))")
        else:
            texts.append(f"text_of({name})")
    told = {written: _MOMENT if written in MOMENTS else f"field_value({name})" for written, name in names.items()}
    told.setdefault("evt.time", _MOMENT)
    fields = ", ".join([*(f"{name!r}: {code}" for name, code in told.items()), *map(_extra_code, output.extra)])
    body = "\n".join(["def write(e):", *lines, f"    return ''.join(({', '.join([*texts, repr('')])})), {{{fields}}}"])
    return Code(body + "\n", {})


def _extra_code(extra: tuple[str, tuple[str | Operand, ...]]) -> str:
    """One more field: a value where the template is a field and nothing else, a text otherwise."""
    name, parts = extra
    if len(parts) == 1 and not isinstance(parts[0], str):
        if str(parts[0]) in MOMENTS:
            return f"{name!r}: {_MOMENT}"
        return f"{name!r}: field_value({value_code(parts[0])})"
    texts = [repr(part) if isinstance(part, str) else f"text_of({value_code(part)})" for part in parts]
    return f"{name!r}: ''.join(({', '.join([*texts, repr('')])}))"
