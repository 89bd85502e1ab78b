"""A file to a `Config`, or to all that is wrong with it.

Comes in: `tercel.yaml` (path, overrides). Goes out: a `Config`, or `ConfigError` with every diagnostic, each at the
line and column of the key or value it is about. Never: a start with a key that nobody reads.

The contract is `schemas/config.schema.json`; what a schema cannot say (a URL where HTTP is on) is checked here.
"""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import jsonschema
import yaml

from appliance.config.files import schema_file
from appliance.config.settings import Config, RuleSwitch, SyslogOutput
from appliance.model.alert import Priority
from appliance.model.diagnostic import ConfigError, Diagnostic, Span

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_SIZE_MAX = 1 << 20
_NODES_MAX = 20_000
_DEPTH_MAX = 20

Key = tuple[str | int, ...]


@dataclass(slots=True)
class _Document:
    """A parsed file: its plain value, and where each key and value stands."""

    name: str
    lines: list[str]
    value: Any
    keys: dict[Key, yaml.Mark]
    values: dict[Key, yaml.Mark]

    def diagnose(self, name: str, message: str, at: Key, hint: str | None, *, key: bool = False) -> Diagnostic:
        marks = self.keys if key else self.values
        while at not in marks and at:
            at, marks = at[:-1], self.keys if key else self.values
        mark = marks.get(at)
        if mark is None:
            return Diagnostic(name, message, hint=hint)
        line = self.lines[mark.line] if mark.line < len(self.lines) else ""
        length = len(str(at[-1])) if key and at else max(1, len(line.rstrip()) - mark.column)
        return Diagnostic(
            name, message, Span(self.name, mark.line + 1, mark.column + 1, length), hint, source_line=line
        )


def load_config(
    path: Path | None, *, overrides: Sequence[str] = (), rules_files: Sequence[Path] | None = None
) -> Config:
    """Read a configuration; without a path, the built-in defaults.

    `overrides` are `key.sub=value` texts (values in YAML) that win over the file; `rules_files`, where given, take the
    place of the file's, relative to the working directory. Raises `ConfigError` with all diagnostics.
    """
    document = _read(path) if path is not None else _Document("", [], {}, {}, {})
    problems: list[Diagnostic] = []
    for text in overrides:
        problem = _override(document, text)
        if problem:
            problems.append(problem)
    problems += _against_schema(document)
    if problems:
        raise ConfigError(sorted(problems, key=_place))
    try:
        config = _config(document.value or {}, path)
    except ValueError as error:  # shlex
        raise ConfigError(
            [
                document.diagnose(
                    "wrong-value", f"`program_output.program` cannot be split into words: {error}".lower(),
                    ("program_output", "program"), "close the quote, or give a list of words",
                )
            ]
        ) from error  # fmt: skip
    if rules_files is not None:
        config = replace(config, rules_files=tuple(rules_files))
    problems = list(_inconsistencies(config, document))
    if problems:
        raise ConfigError(problems)
    return config


def _place(diagnostic: Diagnostic) -> tuple[int, int]:
    return (diagnostic.span.line, diagnostic.span.column) if diagnostic.span else (0, 0)


def _read(path: Path) -> _Document:
    name = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(_SIZE_MAX + 1)
    except OSError as error:
        raise _one("config-unreadable", f"cannot read `{name}`: {error.strerror}", "give the file with -c") from error
    if len(data) > _SIZE_MAX:
        raise _one("config-too-large", f"`{name}` is larger than {_SIZE_MAX} bytes", "is this the right file?")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _one(
            "config-not-text", f"`{name}` is not UTF-8 text: byte {data[error.start]:#04x} at offset {error.start}",
            "is this the right file?",
        ) from error  # fmt: skip
    return _parse(name, text)


def _one(name: str, message: str, hint: str) -> ConfigError:
    return ConfigError([Diagnostic(name, message, hint=hint)])


def _parse(name: str, text: str) -> _Document:
    lines = text.split("\n")
    document = _Document(name, lines, None, {}, {})
    problems: list[Diagnostic] = []
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            document.value = _Builder(document, problems).build(node, (), 0)
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_yaml_problem(name, lines, error)]) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise _one("yaml-error", f"`{name}` is not YAML: {error}", "is this the right file?") from error
    if problems:
        raise ConfigError(problems)
    return document


def _yaml_problem(name: str, lines: list[str], error: yaml.MarkedYAMLError) -> Diagnostic:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Diagnostic("yaml-error", f"`{name}` is not YAML: {error.problem}")
    line = lines[mark.line] if mark.line < len(lines) else ""
    span = Span(name, mark.line + 1, mark.column + 1)
    if "\t" in line[: mark.column + 1] or "'\\t'" in (error.problem or ""):
        return Diagnostic(
            "yaml-tab", "a tab stands where YAML wants blanks", span, "indent with blanks, two for each level",
            source_line=line,
        )  # fmt: skip
    context = f" {error.context}" if error.context else ""
    return Diagnostic("yaml-error", f"{error.problem}{context}", span, source_line=line)


class _Builder:
    """YAML nodes to plain values, noting where each stands; refuses repeated keys and what grows without bound."""

    def __init__(self, document: _Document, problems: list[Diagnostic]) -> None:
        self._document = document
        self._problems = problems
        self._count = 0

    def build(self, node: yaml.Node, at: Key, depth: int) -> Any:
        self._count += 1
        if self._count > _NODES_MAX or depth > _DEPTH_MAX:
            raise yaml.YAMLError("too many or too deeply nested values")
        self._document.values[at] = node.start_mark
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, at, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, (*at, i), depth + 1) for i, child in enumerate(node.value)]
        return yaml.SafeLoader("").construct_object(node)

    def _mapping(self, node: yaml.MappingNode, at: Key, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            here = (*at, key)
            repeated = key in found
            self._document.keys[here] = key_node.start_mark
            if repeated:
                self._problems.append(
                    self._document.diagnose(
                        "repeated-key", f"`{key}` stands here a second time", here, "keep one of them", key=True
                    )
                )
            found[key] = self.build(value_node, here, depth + 1)
        return found


def _override(document: _Document, text: str) -> Diagnostic | None:
    key, equals, value_text = text.partition("=")
    if not equals or not key:
        return Diagnostic("bad-option", f"`-o {text}` is not `key=value`", hint="write `-o json_output=true`")
    try:
        value = yaml.safe_load(value_text)
    except yaml.YAMLError:
        return Diagnostic("bad-option", f"the value in `-o {text}` is not YAML", hint="quote it")
    if document.value is None:
        document.value = {}
    place = document.value
    *parents, last = key.split(".")
    for part in parents:
        place = place.setdefault(part, {}) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        return Diagnostic("bad-option", f"`{key}` in `-o {text}` is no key that can be set")
    place[last] = value
    return None


def load_schema() -> dict[str, Any]:
    """The contract of the configuration file."""
    schema: dict[str, Any] = json.loads(schema_file("config.schema.json").read_text())
    return schema


def _against_schema(document: _Document) -> list[Diagnostic]:
    validator = jsonschema.Draft202012Validator(load_schema())
    errors = sorted(validator.iter_errors(document.value), key=lambda e: [str(p) for p in e.absolute_path])
    return [d for error in errors for d in _explain(document, error)]


def _explain(document: _Document, error: jsonschema.ValidationError) -> Iterator[Diagnostic]:
    at: Key = tuple(error.absolute_path)
    name = ".".join(map(str, at)) or "the file"
    schema = error.schema if isinstance(error.schema, Mapping) else {}
    match error.validator:
        case "additionalProperties":
            known = list(schema.get("properties", {}))
            for key in error.instance if isinstance(error.instance, Mapping) else ():
                if key not in known:
                    yield document.diagnose(
                        "unknown-key", f"there is no key `{key}`{f' in `{name}`' if at else ''}", (*at, key),
                        _near(str(key), known), key=True,
                    )  # fmt: skip
        case "type" | "anyOf":
            wanted = schema.get("type", "string or array")  # the one anyOf of the schema
            yield document.diagnose(
                "wrong-type", f"`{name}` is {_kind(error.instance)}, expected {_wanted(wanted)}", at, _example(schema)
            )
        case "enum":
            choices = [str(choice) for choice in schema["enum"]]
            yield document.diagnose(
                "wrong-value", f"`{name}` is `{error.instance}`, expected one of {', '.join(choices)}", at,
                _near(str(error.instance), choices),
            )  # fmt: skip
        case "pattern" if at == ("priority",):
            choices = [p.name.lower() for p in Priority]
            yield document.diagnose(
                "wrong-value", f"`{name}` is `{error.instance}`, expected one of {', '.join(choices)}", at,
                _near(str(error.instance).lower(), choices),
            )  # fmt: skip
        case "pattern":
            yield document.diagnose(
                "wrong-value", f"`{name}` is `{error.instance}`, which is not of the form it must have", at,
                _example(schema),
            )  # fmt: skip
        case "minimum" | "maximum":
            yield document.diagnose(
                "wrong-value",
                f"`{name}` is {error.instance}, expected {schema.get('minimum')} to {schema.get('maximum')}", at, None,
            )  # fmt: skip
        case _:
            yield document.diagnose("wrong-value", f"`{name}`: {error.message}", at, _example(schema))


def _near(word: str, known: Sequence[str]) -> str | None:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(known)}"


def _kind(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", dict: "a map"}
    return names.get(type(value), "empty")


def _wanted(type_: object) -> str:
    names = {"boolean": "true or false", "integer": "a whole number", "number": "a number", "string": "a text",
             "array": "a list", "object": "a map of keys", "string or array": "a text or a list"}  # fmt: skip
    return names.get(str(type_), "a map of keys")


def _example(schema: Mapping[str, Any]) -> str | None:
    if "examples" in schema:
        return f"for example {json.dumps(schema['examples'][0])}"
    return f"the default is {json.dumps(schema['default'])}" if "default" in schema else None


def _config(value: Mapping[str, Any], path: Path | None) -> Config:
    """The checked value as settings: the schema has proven names and types."""
    made = dict(value)
    folder = path.parent if path is not None else Path()
    if "rules_files" in made:
        made["rules_files"] = tuple(folder / name for name in made["rules_files"])
    if "rules" in made:
        made["rules"] = tuple(
            RuleSwitch(verb == "enable", target.get("rule"), target.get("tag"))
            for entry in made["rules"]
            for verb, target in entry.items()
        )
    if "priority" in made:
        made["priority"] = _priority(made["priority"])
    if "express_priority" in made.get("outputs", {}):
        made["outputs"] = made["outputs"] | {"express_priority": _priority(made["outputs"]["express_priority"])}
    return _fill(replace(Config(), path=path), made)


def _priority(text: str) -> Priority:
    name = text.upper()
    return Priority.INFORMATIONAL if name == "INFO" else Priority[name]


_Settings = TypeVar("_Settings", bound="DataclassInstance")


def _fill(default: _Settings, value: Mapping[str, Any]) -> _Settings:
    changes: dict[str, Any] = {}
    for field in fields(default):
        if field.name not in value:
            continue
        old, new = getattr(default, field.name), value[field.name]
        if is_dataclass(old) and not isinstance(old, type):
            changes[field.name] = _fill(old, new)
        elif isinstance(old, Path):
            changes[field.name] = Path(new)
        elif field.name == "program":
            changes[field.name] = tuple(shlex.split(new)) if isinstance(new, str) else tuple(new)
        elif isinstance(old, tuple):
            paths = field.name not in ("fields", "actions")
            changes[field.name] = tuple(Path(item) if paths and isinstance(item, str) else item for item in new)
        else:
            changes[field.name] = new
    return replace(default, **changes)


def _syslog(syslog: SyslogOutput, document: _Document) -> Iterator[Diagnostic]:
    if not syslog.enabled or not syslog.url:
        return
    try:
        url = urlsplit(syslog.url)
        good = url.scheme in ("udp", "tcp", "tls") and bool(url.hostname) and url.port != 0
    except ValueError:
        good = False
    if not good:
        yield document.diagnose(
            "wrong-value", f"`syslog_output.url` is `{syslog.url}`, expected a udp, tcp or tls URL",
            ("syslog_output", "url"), "for example `tls://logs.example.org:6514`",
        )  # fmt: skip
    elif bool(syslog.client_cert) != bool(syslog.client_key):
        yield document.diagnose(
            "missing-key", "`syslog_output` needs both `client_cert` and `client_key`, or neither",
            ("syslog_output", "client_cert" if syslog.client_cert else "client_key"), "give the paths of both files",
        )  # fmt: skip


def _inconsistencies(config: Config, document: _Document) -> Iterator[Diagnostic]:
    """What is allowed key by key and makes no sense together."""
    http, program = config.http_output, config.program_output
    if http.enabled:
        url = urlsplit(http.url)
        if url.scheme not in ("http", "https") or not url.hostname:
            yield document.diagnose(
                "wrong-value", f"`http_output.url` is `{http.url}`, expected an http or https URL",
                ("http_output", "url"), "for example `http://127.0.0.1:2801/`",
            )  # fmt: skip
        if http.mtls and not (http.client_cert and http.client_key):
            yield document.diagnose(
                "missing-key", "`http_output.mtls` needs `client_cert` and `client_key`", ("http_output", "mtls"),
                "give the paths of both files",
            )  # fmt: skip
    yield from _syslog(config.syslog_output, document)
    if program.enabled and not program.program:
        yield document.diagnose(
            "missing-key", "`program_output.enabled` needs `program`", ("program_output", "enabled"),
            "give the program and its arguments",
        )  # fmt: skip
    for i, file in enumerate(config.rules_files):
        if not file.exists():
            yield document.diagnose(
                "rules-missing", f"there is no rules file or folder `{file}`", ("rules_files", i),
                "paths are relative to the folder of the configuration file",
            )  # fmt: skip
