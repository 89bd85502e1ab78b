"""Events as JSON, one object a line: for judging without a kernel, and for test cases of rules.

Comes in: JSON values. Goes out: `Event`s, or `ReplayError` with the place of what is wrong. `event_schema` is the
contract, written to `schemas/event.schema.json`; what is not given is absent, and `type` alone is an event.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any

from appliance.catalog.events import EVENTS
from appliance.model.diagnostic import TercelError
from appliance.model.event import (
    HOST,
    NO_FD,
    NO_PROCESS,
    VIA,
    Account,
    Container,
    Event,
    EventType,
    Fd,
    Line,
    Mount,
    ParamValue,
    Pod,
    Process,
)
from appliance.sources.k8saudit import MAX_BODY_BYTES, AuditError, audit_documents, audit_event, is_audit

_CLASSES = (Process, Container, Account, Mount, Pod)
_PATHS = ("path", "path_raw", "source_path", "source_path_raw", "target_path", "target_path_raw")
_NUMBERS = ("num", "ts_ns", "cpu", "tid", "res")
_KEYS = ("type", *_NUMBERS, "params", "process", "ancestors", "container", "fd", "via", *_PATHS)
_HEAD = "# tercel recording: "
DRAFT = "https://json-schema.org/draft/2020-12/schema"


class ReplayError(TercelError):
    """An event that cannot be read: the message begins by its place."""


@dataclass(frozen=True, slots=True)
class _Lineage:
    """The ancestors that an event was given: nearest first."""

    chain: tuple[Process, ...]

    def __call__(self, event: Event) -> Line:
        return Line(event.process, self.chain)


def recording_head(facts: Mapping[str, object]) -> str:
    """The first line of a recording: what it is, for `read_head`."""
    return f"{_HEAD}{json.dumps(facts)}\n"


def read_head(line: str) -> dict[str, Any]:
    """What the first line of a recording says; nothing where it is no recording."""
    try:
        facts = json.loads(line.removeprefix(_HEAD)) if line.startswith(_HEAD) else {}
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def read_events(lines: Iterable[str], name: str) -> Iterator[Event]:
    """The events of JSON Lines; empty lines and those that begin with `#` are passed over. Raises `ReplayError`.

    Kubernetes audit events may come as arrays and lists, and printed over several lines.
    """
    numbered = iter(enumerate(lines, 1))
    for number, line in numbered:
        if not line.strip() or line.startswith("#"):
            continue
        try:
            document = _document(line, numbered)
        except (ValueError, RecursionError) as error:
            raise ReplayError(f"{name}:{number}: not JSON: {error}") from error
        if is_audit(document):
            try:
                yield from (audit_event(d, num=number) for d in audit_documents(document))
            except AuditError as error:
                raise ReplayError(f"{name}:{number}: {error}") from error
            continue
        yield read_event(document, f"{name}:{number}", number)


def _document(line: str, more: Iterator[tuple[int, str]]) -> object:
    """The JSON value of a line; one that opens a bracket and ends goes on in the next lines, up to its last bracket."""
    if line.strip() not in ("{", "["):
        return json.loads(line)
    text = [line]
    size = 0
    for _, inner in more:
        text.append(inner)
        size += len(inner)
        if inner.rstrip() in ("}", "]") and inner[:1] in ("}", "]"):  # a pretty printer puts the last one in column 1
            break
        if size > MAX_BODY_BYTES:
            raise ValueError(f"more than {MAX_BODY_BYTES} characters")
    return json.loads("".join(text))


def read_event(document: object, place: str, number: int = 1) -> Event:
    """One event; `number` is its `num` where it gives none. Raises `ReplayError`."""
    facts = _mapping(document, place)
    if is_audit(facts):
        return audit_event(facts, num=number)
    for key in facts:
        if key not in _KEYS:
            raise ReplayError(f"{place}: there is no key `{key}`; keys: {', '.join(_KEYS)}")
    try:
        type_ = EventType(facts["type"])
    except (KeyError, ValueError):
        raise ReplayError(f"{place}: `type` must be the name of an event, not `{facts.get('type')}`") from None
    values = {name: _number(facts[name], f"{place}: {name}") for name in _NUMBERS if name in facts}
    paths = {name: _read(facts[name], str | None, f"{place}: {name}") for name in _PATHS if name in facts}
    process = _object(Process, facts.get("process"), NO_PROCESS, f"{place}: process")
    ancestors = facts.get("ancestors", [])
    if not isinstance(ancestors, list):
        raise ReplayError(f"{place}: ancestors: expected a list, nearest first")
    chain = tuple(_object(Process, a, NO_PROCESS, f"{place}: ancestors[{i}]") for i, a in enumerate(ancestors))
    return Event(
        type_, values.get("num", number), values.get("ts_ns", 0), values.get("cpu", 0),
        values.get("tid", max(process.pid, 0)), values.get("res", 0), _params(type_, facts.get("params", {}), place),
        process, _object(Container, facts.get("container"), HOST, f"{place}: container"),
        _fd(facts.get("fd"), f"{place}: fd"), lineage=_Lineage(chain), via=_via(facts.get("via"), place), **paths,
    )  # fmt: skip


def _via(value: object, place: str) -> str:
    if value is None:
        return "syscall"
    if value not in VIA:
        raise ReplayError(f"{place}: via: expected one of {', '.join(VIA)}")
    return str(value)


def _mapping(value: object, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ReplayError(f"{place}: expected an object")
    return value


def _number(value: object, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ReplayError(f"{place}: expected a whole number")
    return value


def _params(type_: EventType, value: object, place: str) -> tuple[ParamValue, ...]:
    index = EVENTS[type_].index
    found: list[ParamValue] = [None] * len(index)
    for name, given in _mapping(value, f"{place}: params").items():
        if name not in index:
            known = ", ".join(index) or "none"
            raise ReplayError(f"{place}: params: `{type_.value}` has no parameter `{name}`; it has: {known}")
        if isinstance(given, list) and all(isinstance(item, str) for item in given):
            found[index[name]] = tuple(given)
        elif given is None or (isinstance(given, str | int) and not isinstance(given, bool)):
            found[index[name]] = given
        else:
            raise ReplayError(f"{place}: params: `{name}` must be a number, a text or a list of texts")
    return tuple(found)


def _fd(value: object, place: str) -> Fd:
    if value is None:
        return NO_FD
    return Fd(**_members(value, _hints(Fd), place))


def _object(cls: Any, value: object, default: Any, place: str) -> Any:
    if value is None:
        return default
    members = _members(value, _hints(cls), place)
    missing = [name for name in _required(cls) if name not in members]
    if missing:
        raise ReplayError(f"{place}: `{missing[0]}` is missing")
    return cls(**members)


@cache
def _hints(cls: Any) -> Mapping[str, Any]:
    """The types of a class's members, by name: found out once, for it takes long."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls)} if is_dataclass(cls) else hints


@cache
def _required(cls: Any) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls) if f.default is MISSING)


def _members(value: object, hints: Mapping[str, Any], place: str) -> dict[str, Any]:
    found = {}
    for key, given in _mapping(value, place).items():
        if key not in hints:
            raise ReplayError(f"{place}: there is no key `{key}`; keys: {', '.join(hints)}")
        found[key] = _read(given, hints[key], f"{place}.{key}")
    return found


def _read(value: object, hint: Any, place: str) -> Any:
    for choice in _choices(hint):
        if choice is types.NoneType and value is None:
            return None
        if choice in _CLASSES and isinstance(value, dict):
            return _object(choice, value, None, place)
        if typing.get_origin(choice) is tuple and isinstance(value, list):
            return tuple(_read(item, typing.get_args(choice)[0], f"{place}[{i}]") for i, item in enumerate(value))
        if choice in (int, str, bool) and type(value) is choice:
            return value
    raise ReplayError(f"{place}: expected {' or '.join(_word(c) for c in _choices(hint))}")


def _choices(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


_WORDS = {int: "a whole number", str: "a text", bool: "true or false", types.NoneType: "null"}


def _word(hint: Any) -> str:
    return _WORDS.get(hint, "a list" if typing.get_origin(hint) is tuple else "an object")


# -- the other way


def write_event(event: Event) -> dict[str, Any]:
    """The JSON value of an event: `read_event` of it gives the event again. What is absent is left out."""
    if isinstance(event.document, dict):
        return {"kind": "Event", "apiVersion": "audit.k8s.io/v1", **event.document}
    spec = EVENTS[event.type]
    ancestors = [_plain(process) for process in event.line.above()]
    params = {name: _plain(event.params[i]) for name, i in spec.index.items() if event.params[i] is not None}
    document: dict[str, Any] = {"type": event.type.value}
    document |= {name: getattr(event, name) for name in _NUMBERS}
    document |= {"params": params, "process": _plain(event.process), "ancestors": ancestors}
    document |= {"container": _plain(event.container), "fd": _given(event.fd._asdict())}
    document |= {name: getattr(event, name) for name in _PATHS if getattr(event, name) is not None}
    if event.via != "syscall":
        document["via"] = event.via
    return document


def _plain(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _given(
            {f.name: _plain(getattr(value, f.name)) for f in fields(value) if getattr(value, f.name) != f.default}
        )
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value


def _given(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if value is not None}


# -- the contract


def event_schema() -> dict[str, Any]:
    """JSON Schema of one event, made of the nouns themselves."""
    defs = {cls.__name__.lower(): _schema_of(cls) for cls in _CLASSES}
    defs["fd"] = _members_schema(typing.get_type_hints(Fd), ())
    text = {"type": ["string", "null"]}
    number = {"type": "integer"}
    return {
        "$schema": DRAFT,
        "title": "Event",
        "description": "One event, as `tercel replay` reads it, one a line. What is not given is absent.",
        "type": "object",
        "additionalProperties": False,
        "required": ["type"],
        "properties": {
            "type": {"enum": [t.value for t in EventType]},
            **dict.fromkeys(_NUMBERS, number),
            "params": {
                "description": "Parameters of the event's type, by name; see docs/fields.md.",
                "type": "object",
                "additionalProperties": {"type": ["string", "integer", "array", "null"], "items": {"type": "string"}},
            },
            "process": {"$ref": "#/$defs/process"},
            "ancestors": {
                "description": "The process's ancestors, nearest first.",
                "type": "array",
                "items": {"$ref": "#/$defs/process"},
            },
            "container": {"$ref": "#/$defs/container"},
            "fd": {"$ref": "#/$defs/fd"},
            "via": {"description": "By which door the kernel was asked.", "enum": list(VIA)},
            **dict.fromkeys(_PATHS, text),
        },
        "$defs": defs,
    }


def _schema_of(cls: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    required = tuple(f.name for f in fields(cls) if f.default is MISSING)
    return _members_schema({f.name: hints[f.name] for f in fields(cls)}, required)


def _members_schema(hints: Mapping[str, Any], required: tuple[str, ...]) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _hint_schema(hint) for name, hint in hints.items()},
    }
    return schema | ({"required": list(required)} if required else {})


_JSON_TYPES: Mapping[Any, str] = {int: "integer", str: "string", bool: "boolean", types.NoneType: "null"}


def _hint_schema(hint: Any) -> dict[str, Any]:
    one: Callable[[Any], dict[str, Any]] = _one_schema
    choices = _choices(hint)
    if len(choices) == 1:
        return one(choices[0])
    if all(c in _JSON_TYPES for c in choices):
        return {"type": [_JSON_TYPES[c] for c in choices]}
    return {"anyOf": [one(c) for c in choices]}


def _one_schema(hint: Any) -> dict[str, Any]:
    if hint in _CLASSES:
        return {"$ref": f"#/$defs/{hint.__name__.lower()}"}
    if typing.get_origin(hint) is tuple:
        return {"type": "array", "items": _hint_schema(typing.get_args(hint)[0])}
    return {"type": _JSON_TYPES[hint]}
