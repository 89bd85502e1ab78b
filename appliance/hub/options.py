"""Settings as dataclasses: one description yields the schema, the documentation and the checked value.

Comes in: frozen dataclasses whose fields are made by `option`. Goes out: their JSON schema; instances of checked
values. Never: a key that the schema has and nobody reads.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from appliance.config.settings import Secret
from appliance.model.alert import Priority

_PRIORITIES = "|".join(
    "".join(f"[{c}{c.lower()}]" for c in name) for name in ["INFO", *(priority.name for priority in Priority)]
)  # any case, in the dialect that every validator of JSON schemas knows
_PLAIN: Mapping[object, str] = {
    bool: "boolean", int: "integer", float: "number", str: "string", Secret: "string", Path: "string",
    Priority: "string",
}  # fmt: skip

_Made = TypeVar("_Made")


def option(
    default: object = MISSING,
    doc: str = "",
    *,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    example: object = None,
) -> Any:
    """A field of a settings class. Without a default it is required. Mappings and nested classes may be given as the
    default themselves: they are never changed."""
    told = {"doc": doc, "choices": choices, "minimum": minimum, "maximum": maximum, "example": example}
    if default is MISSING:
        return field(metadata=told, kw_only=True)
    return field(default_factory=lambda: default, metadata=told, kw_only=True)


def hints(cls: type) -> Mapping[str, Any]:
    """The types of a settings class's fields, resolved."""
    return typing.get_type_hints(cls)


def inner(kind: Any) -> tuple[Any, Any]:
    """A type taken apart: its origin (`tuple`, `Mapping` or None) and what it holds, `None |` taken away."""
    if isinstance(kind, types.UnionType):
        (kind,) = (part for part in typing.get_args(kind) if part is not types.NoneType)
    origin = typing.get_origin(kind)
    if origin is tuple:
        return tuple, typing.get_args(kind)[0]
    if origin is not None and issubclass(origin, Mapping):
        return Mapping, typing.get_args(kind)[1]
    return None, kind


def schema_of(cls: type) -> dict[str, Any]:
    """The JSON schema of a settings class, descriptions included."""
    described = hints(cls)
    made: dict[str, Any] = {"type": "object", "additionalProperties": False}
    required = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    if required:
        made["required"] = required
    made["properties"] = {f.name: _schema_of_field(f, described[f.name]) for f in fields(cls) if f.metadata}
    return made


def _schema_of_field(f: Any, kind: Any) -> dict[str, Any]:
    told = f.metadata
    made: dict[str, Any] = {"description": told["doc"]} | _schema_of_type(kind)
    if told["choices"]:
        made["enum"] = list(told["choices"])
    for name in ("minimum", "maximum"):
        if told[name] is not None:
            made[name] = told[name]
    if told["example"] is not None:
        made["examples"] = [told["example"]]
    if f.default_factory is not MISSING and "properties" not in made:
        made["default"] = plain(f.default_factory())
    if isinstance(kind, types.UnionType) and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


def _schema_of_type(kind: Any) -> dict[str, Any]:
    origin, held = inner(kind)
    if origin is tuple:
        return {"type": "array", "items": _schema_of_type(held)}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _schema_of_type(held)}
    if isinstance(held, type) and is_dataclass(held):
        return schema_of(held)
    if held is Priority:
        return {"type": "string", "pattern": f"^({_PRIORITIES})$", "examples": ["warning"]}
    return {"type": _PLAIN[held]} if held in _PLAIN else {}


def plain(value: object) -> Any:
    """A setting as JSON has it."""
    if isinstance(value, Priority):
        return value.name.lower()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value) if f.metadata}
    return value


def build(cls: type[_Made], value: Mapping[str, Any]) -> _Made:
    """An instance of a value that the schema has passed; other keys than the class's are left out."""
    described = hints(cls)
    given = {f.name: _made(described[f.name], value[f.name]) for f in fields(cls) if f.name in value}  # type: ignore[arg-type]
    return cls(**given)


def _made(kind: Any, value: Any) -> Any:
    if value is None and isinstance(kind, types.UnionType):
        return None
    origin, held = inner(kind)
    if origin is tuple:
        return tuple(_made(held, item) for item in value)
    if origin is Mapping:
        return {str(name): _made(held, item) for name, item in value.items()}
    if isinstance(held, type) and is_dataclass(held):
        return build(held, value)
    if held is Priority:
        return priority_named(value)
    if held in (Path, float, Secret):
        return held(value)
    return value


def priority_named(text: str) -> Priority:
    """A priority by its name in any case; `info` is informational. Raises KeyError."""
    name = text.upper()
    return Priority.INFORMATIONAL if name == "INFO" else Priority[name]
