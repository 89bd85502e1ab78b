"""A file to a `Config`, or to all that is wrong with it.

Comes in: `tercel.yaml` (path, overrides). Goes out: a `Config`, or `ConfigError` with every diagnostic, each at the
line and column of the key or value it is about. Never: a start with a key that nobody reads.

The contract is `schemas/config.schema.json`; what a schema cannot say (a URL where HTTP is on) is checked here.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from appliance.config import keys
from appliance.config.document import Document, Key, Node, merge, read, set_option
from appliance.config.files import schema_file
from appliance.config.keys import Note, State
from appliance.config.older import BY_KEY as OLDER_BY_KEY
from appliance.config.older import retire
from appliance.config.plugins import BUILT_IN, k8s_audit
from appliance.config.schema import against_schema
from appliance.config.settings import AppendOutput, Config, Plugin, RuleSwitch, Secret, SyslogOutput
from appliance.model.alert import Priority
from appliance.model.diagnostic import ConfigError, Diagnostic, Span
from appliance.model.event import EventType
from appliance.model.text import why

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_FILES_MAX = 100
_SECRET_MAX = 64 << 10
_FALCOS_OWN = Path("/etc/falco")  # places that Falco's own file names: they may be missing
_ENDINGS = (".yaml", ".yml")
SECRET_TEXTS = frozenset({"http_output.url", "http_output.token", "hub.url", "hub.token", "syslog_output.url"})
"""Keys whose value may stand in a file or a credential of systemd, and is shown nowhere."""
SECRET_FILES = frozenset({
    "http_output.client_cert", "http_output.client_key", "http_output.ca_cert", "http_output.ca_bundle",
    "syslog_output.client_cert", "syslog_output.client_key", "syslog_output.ca_cert", "webserver.ssl_certificate",
    "webserver.token_file",
})  # fmt: skip
"""Keys that name a file, which may be a credential of systemd."""


def load_config(
    path: Path | None,
    *,
    overrides: Sequence[str] = (),
    rules_files: Sequence[Path] | None = None,
    environment: Mapping[str, str] = os.environ,
    starts: bool = True,
) -> Config:
    """Read a configuration; without a path, the built-in defaults.

    `overrides` are `key.sub[1]=value` texts (values in YAML) that win over the files; `rules_files`, where given, take
    the place of the files', relative to the working directory. Variables and `CREDENTIALS_DIRECTORY` come from
    `environment`. Where nobody `starts` by it, credentials without that folder are a note: only the service has them.
    Raises `ConfigError` with all diagnostics.
    """
    document = Document(Node({}), SECRET_TEXTS)
    if path is not None:
        document.root = read(path, environment, document.unset)
    problems: list[Diagnostic] = []
    if not isinstance(document.root.value, dict):
        raise ConfigError(_against_schema(document))
    first = [text for text in overrides if text.startswith("config_files")]
    problems += _set(document, first)
    included, folders, told = _include(document, path, environment, problems)
    problems += _set(document, [text for text in overrides if text not in first])
    for key, text, node in retire(document.root):
        told.append(Note((key,), text if text.startswith("is ") else f"off, and not here: {text}", _span(node.key)))
    if not problems:
        _drop_unset(document.root, load_schema())
    problems += _against_schema(document)
    if problems:
        raise ConfigError(sorted(problems, key=_place))
    notes = [*told, *keys.notes(document.root)]
    notes += [
        Note((f"${{{name}}}",), "the variable is not set and stands for nothing", _span(place))
        for name, place in document.unset.items()
    ]
    awaited: dict[Key, Node] = {}
    problems += _put_secrets(document, environment, None if starts else awaited)
    if awaited:
        named = tuple(".".join(map(str, at)) for at in awaited)
        first_place = _span(next(iter(awaited.values())).place)
        notes.append(Note(named, "credentials, which systemd hands to the service; not looked at here", first_place))
    _translate(document.root)
    _put_rules_files(document, path)
    if problems:
        raise ConfigError(sorted(problems, key=_place))
    try:
        config = _config(document, path)
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
    else:
        missing = [file for file in config.rules_files if not _there(file) and _is_falcos(file)]
        if missing:
            text = f"{', '.join(map(str, missing))}: not there, and passed over as Falco passes it over"
            notes.append(Note(("rules_files",), text, None))
            config = replace(config, rules_files=tuple(f for f in config.rules_files if f not in missing))
            if not config.rules_files:
                notes.append(Note(("rules_files",), "none of them is there: no event is judged. Name rules with -r"))
    problems = list(_inconsistencies(config, document, awaited))
    if problems:
        raise ConfigError(problems)
    return replace(config, included=included, folders=folders, notes=tuple(notes), options=tuple(overrides))


def _place(diagnostic: Diagnostic) -> tuple[str, int, int]:
    return (diagnostic.span.file, diagnostic.span.line, diagnostic.span.column) if diagnostic.span else ("", 0, 0)


def _span(place: Any) -> Span | None:
    return Span(place.file, place.line, place.column) if place else None


def _is_falcos(path: Path) -> bool:
    return path.is_relative_to(_FALCOS_OWN)


def _there(path: Path) -> bool:
    """Whether a file can be seen; `Path.exists` raises for a name that is too long or a folder that may not be read."""
    return os.path.exists(path)  # noqa: PTH110


def _set(document: Document, options: Sequence[str]) -> list[Diagnostic]:
    return [problem for text in options if (problem := set_option(document.root, text)) is not None]


def _include(
    document: Document, path: Path | None, environment: Mapping[str, str], problems: list[Diagnostic]
) -> tuple[tuple[Path, ...], tuple[Path, ...], list[Note]]:
    """Merge what `config_files` names into the document. The files, the folders, and notes of those passed over."""
    node = document.root.value.get("config_files")
    notes: list[Note] = []
    found: list[Path] = []
    folders: list[Path] = []
    for i, entry in enumerate(node.value if node is not None and isinstance(node.value, list) else ()):
        value = entry.plain()
        name, strategy = (value.get("path"), value.get("strategy", "append")) if isinstance(value, dict) else (
            value, "append")  # fmt: skip
        if not isinstance(name, str) or not name or strategy not in ("append", "override", "add-only"):
            continue  # the schema says what is wrong with it
        place = (path.parent if path is not None else Path()) / name
        files = _files_of(place)
        if _is_folder(place):
            folders.append(place)
        if not files and not _there(place):
            if _is_falcos(place):
                notes.append(Note(("config_files",), f"{place}: not there, and passed over as Falco passes it over"))
            else:
                problems.append(
                    document.diagnose("config-missing", f"there is no configuration file or folder `{place}`",
                                      ("config_files", i), "paths are relative to the folder of the configuration file")
                )  # fmt: skip
        for file in files:
            if len(found) >= _FILES_MAX:
                problems.append(
                    document.diagnose("too-many-files", f"`config_files` names more than {_FILES_MAX} files",
                                      ("config_files", i), "is this the right folder?")
                )  # fmt: skip
                return tuple(found), tuple(folders), notes
            found.append(file)
            problems += _merge_file(document, file, strategy, environment)
    return tuple(found), tuple(folders), notes


def _is_folder(place: Path) -> bool:
    """As `_there`: without an error for a name that can be none."""
    return os.path.isdir(place)  # noqa: PTH112


def _files_of(place: Path) -> list[Path]:
    try:
        if place.is_dir():
            return sorted(p for p in place.iterdir() if p.suffix in _ENDINGS)
    except OSError:
        return [place]
    return [place] if _there(place) else []


def _merge_file(document: Document, file: Path, strategy: str, environment: Mapping[str, str]) -> Sequence[Diagnostic]:
    try:
        extra = read(file, environment, document.unset)
    except ConfigError as error:
        return error.diagnostics
    alone = Document(extra, document.secret)
    if not isinstance(extra.value, dict):
        return _against_schema(alone)
    if "config_files" in extra.value:
        return [alone.diagnose("nested-include", "a file that is read by `config_files` cannot name further ones",
                               ("config_files",), "name them in the main file", key=True)]  # fmt: skip
    merge(document.root, extra, strategy)
    return ()


def _drop_unset(node: Node, schema: Mapping[str, Any]) -> None:
    """Take away values made of unset variables where no text may stand: the default counts, as in Falco."""
    for name, inner in list(node.value.items()):
        below = schema.get("properties", {}).get(name, {})
        if inner.unset and below.get("type") != "string":
            del node.value[name]
        elif isinstance(inner.value, dict):
            _drop_unset(inner, below)


def _put_secrets(
    document: Document, environment: Mapping[str, str], awaited: dict[Key, Node] | None
) -> Iterator[Diagnostic]:
    """Put the contents of files and credentials where `file:` and `credential:` name them. What systemd has not handed
    over goes to `awaited`, where that is given."""
    for key in sorted(SECRET_TEXTS | SECRET_FILES):
        at: Key = tuple(key.split("."))
        node = document.root.find(at)
        if node is None or not isinstance(node.value, str):
            continue
        form, colon, name = node.value.partition(":")
        if colon and form in ("file", "credential") and not name.startswith("//"):
            file = Path(name)
            if form == "credential":
                folder = environment.get("CREDENTIALS_DIRECTORY")
                if not folder and awaited is not None and _names_one(name):
                    awaited[at] = node
                    continue
                if not folder or not _names_one(name):
                    yield document.diagnose(
                        "no-credential", f"`{key}` asks for the credential `{name}`, and there is none", at,
                        "start by systemd with `LoadCredential=NAME:FILE`, or write `file:PATH`",
                    )  # fmt: skip
                    continue
                file = Path(folder) / name
            if key in SECRET_FILES:
                node.value = str(file)
                continue
            try:
                with file.open("rb") as stream:
                    node.value = Secret(stream.read(_SECRET_MAX).decode().strip())
            except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a name that can be none
                reason = why(error) if isinstance(error, OSError) else "it is not text"
                yield document.diagnose("no-credential", f"`{key}`: cannot read `{file}`: {reason}", at,
                                        "the file holds the value and nothing else")  # fmt: skip


def _names_one(name: str) -> bool:
    """Whether systemd could hand over a credential of that name."""
    return re.fullmatch(r"[^/\0]+", name) is not None and name not in (".", "..")


def _translate(root: Node) -> None:
    """Falco's keys that are other keys here, where the file does not set these, too."""

    def given(*at: str) -> Any:
        node = root.find(at)
        return None if node is None else node.plain()

    def put(value: object, section: str, name: str) -> None:
        there = root.value.setdefault(section, Node({}))
        there.value.setdefault(name, Node(value if not isinstance(value, list) else [Node(v) for v in value]))

    engine = ("engine", "modern_ebpf")
    if (preset := given(*engine, "buf_size_preset")) is not None:
        put(1 << (preset - 1), "capture", "ring_mib")
    if (cpus := given(*engine, "cpus_for_each_buffer")) is not None:
        put(cpus, "capture", "cpus_per_ring")
    if (drop := given(*engine, "drop_failed_exit")) is not None:
        put(drop, "capture", "drop_failed")
    if (sockets := given("container_engines", "cri", "sockets")) is not None:
        put([s for s in sockets if "crio" not in s], "containers", "containerd_sockets")
        put([s for s in sockets if "crio" in s], "containers", "crio_sockets")
    for engine_name, names in (("docker", ["docker"]), ("podman", ["podman"]), ("cri", ["containerd", "crio"])):
        if given("container_engines", engine_name, "enabled") is False:
            for name in names:
                root.value.setdefault("containers", Node({})).value[f"{name}_sockets"] = Node([])
    if given("hub", "url") and given("http_output", "enabled") is None and given("http_output", "url") is None:
        for name, value in (("enabled", True), ("batch", 256), ("batch_wait_ms", 1000)):
            put(value, "http_output", name)
        for name in ("url", "token"):
            if (node := root.find(("hub", name))) is not None:
                put(node.value, "http_output", name)
    if (timeout := root.value.get("output_timeout")) is not None:
        root.value.setdefault("output_timeout_ms", timeout)
    for old in ("rules_file", "rule_files"):
        if old in root.value:
            named = root.value[old]
            one = [Node(named.value, named.place, named.key)] if isinstance(named.value, str) else None
            root.value.setdefault("rules_files", named if one is None else Node(one, named.place, named.key))
    if given("outputs_queue", "capacity") == 0:
        del root.value["outputs_queue"].value["capacity"]


def _put_rules_files(document: Document, path: Path | None) -> None:
    """Make rules files relative to the folder of the file that names them."""
    node = document.root.value.get("rules_files")
    for entry in node.value if node is not None else ():
        written = Path(entry.place.file) if entry.place and entry.place.file != "-o" else path
        entry.value = str((written.parent if written is not None else Path()) / entry.value)


def load_schema() -> dict[str, Any]:
    """The contract of the configuration file."""
    schema: dict[str, Any] = json.loads(schema_file("config.schema.json").read_text())
    return schema


def _against_schema(document: Document) -> list[Diagnostic]:
    return against_schema(document, load_schema(), refused=_refusal)


def _refusal(at: Key) -> tuple[str, str] | None:
    """A key of Falco's that cannot be used here and why; None for one that is not refused."""
    row = keys.BY_KEY.get(keys.spelled(at))
    if row is not None and row.state is State.OLDER:
        older = OLDER_BY_KEY[row.key]
        return row.key, f"{older.note}: {older.instead or 'take it out'}"
    return (row.key, row.note) if row is not None and row.state is State.REFUSED else None


def _config(document: Document, path: Path | None) -> Config:
    """The checked value as settings: the schema has proven names and types."""
    made = dict(document.root.plain())
    if "append_output" in made:
        nodes = document.root.value["append_output"].value
        made["append_output"] = tuple(
            _append_output(entry, node.place) for entry, node in zip(made["append_output"], nodes, strict=True)
        )
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
    load_plugins = tuple(made.pop("load_plugins", ()))
    plugins = tuple(Plugin(**entry) for entry in made.pop("plugins", ()))
    return _fill(replace(Config(), path=path, load_plugins=load_plugins, plugins=plugins), made)


def _append_output(entry: Mapping[str, Any], place: Any) -> AppendOutput:
    match = entry.get("match", {})
    extra: list[tuple[str, str]] = []
    for item in entry.get("extra_fields", ()):
        extra += [(item, f"%{item}")] if isinstance(item, str) else item.items()
    return AppendOutput(
        rule=match.get("rule"),
        source=match.get("source"),
        tags=tuple(match.get("tags", ())),
        extra_output=entry.get("extra_output", ""),
        extra_fields=tuple(extra),
        suggested_output=entry.get("suggested_output", False),
        span=_span(place),
    )


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
            changes[field.name] = None if new is None else Path(new)
        elif field.name == "program":
            changes[field.name] = tuple(shlex.split(new)) if isinstance(new, str) else tuple(new)
        elif isinstance(old, tuple):
            paths = field.name not in ("fields", "actions", "custom_set")
            changes[field.name] = tuple(Path(item) if paths and isinstance(item, str) else item for item in new)
        else:
            changes[field.name] = new
    return replace(default, **changes)


def _shown(url: str) -> str:
    """A URL for a message: nothing of one that came from elsewhere, else without what stands before an `@`."""
    return "(not shown)" if isinstance(url, Secret) else re.sub(r"//[^/]*@", "//...@", url.partition("?")[0])


def _leads_somewhere(text: str, *schemes: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in schemes and bool(url.hostname) and url.port != 0
    except ValueError:
        return False


def _syslog(syslog: SyslogOutput, document: Document, awaited: Container[Key]) -> Iterator[Diagnostic]:
    if not syslog.enabled or not syslog.url:
        return
    if ("syslog_output", "url") not in awaited and not _leads_somewhere(syslog.url, "udp", "tcp", "tls"):
        yield document.diagnose(
            "wrong-value", f"`syslog_output.url` is `{_shown(syslog.url)}`, expected a udp, tcp or tls URL",
            ("syslog_output", "url"), "for example `tls://logs.example.org:6514`",
        )  # fmt: skip
    elif bool(syslog.client_cert) != bool(syslog.client_key):
        yield document.diagnose(
            "missing-key", "`syslog_output` needs both `client_cert` and `client_key`, or neither",
            ("syslog_output", "client_cert" if syslog.client_cert else "client_key"), "give the paths of both files",
        )  # fmt: skip


def _inconsistencies(config: Config, document: Document, awaited: Container[Key]) -> Iterator[Diagnostic]:
    """What is allowed key by key and makes no sense together. What is `awaited` is not known yet."""
    strange = [i for i, name in enumerate(config.load_plugins) if name not in BUILT_IN]
    for i in strange:
        yield document.diagnose(
            "unknown-plugin", f"no plugin is called `{config.load_plugins[i]}` here", ("load_plugins", i),
            f"built in are {', '.join(BUILT_IN)}; take it out, and the rules that need it",
        )  # fmt: skip
    try:
        k8s_audit(config.plugins, tuple(name for name in config.load_plugins if name in BUILT_IN))
    except ValueError as error:
        yield document.diagnose("wrong-value", str(error), ("plugins" if config.plugins else "load_plugins",), None)
    http, program = config.http_output, config.program_output
    if http.enabled:
        is_known = ("http_output", "url") not in awaited and ("hub", "url") not in awaited
        if is_known and not _leads_somewhere(http.url, "http", "https"):
            yield document.diagnose(
                "wrong-value", f"`http_output.url` is `{_shown(http.url)}`, expected an http or https URL",
                ("http_output", "url"), "for example `http://127.0.0.1:2801/`",
            )  # fmt: skip
        if http.mtls and not (http.client_cert and http.client_key):
            yield document.diagnose(
                "missing-key", "`http_output.mtls` needs `client_cert` and `client_key`", ("http_output", "mtls"),
                "give the paths of both files",
            )  # fmt: skip
    if config.hub.url and ("hub", "url") not in awaited and not _leads_somewhere(config.hub.url, "http", "https"):
        yield document.diagnose(
            "wrong-value", f"`hub.url` is `{_shown(config.hub.url)}`, expected an http or https URL", ("hub", "url"),
            "for example `https://hub.example.org:2801/`",
        )  # fmt: skip
    yield from _syslog(config.syslog_output, document, awaited)
    known = [type_.value for type_ in EventType]
    for i, name in enumerate(config.base_syscalls.custom_set):
        if name.removeprefix("!") not in known:
            near = difflib.get_close_matches(name.removeprefix("!"), known, n=1)
            yield document.diagnose(
                "unknown-event", f"there is no system call `{name.removeprefix('!')}`",
                ("base_syscalls", "custom_set", i),
                f"did you mean `{near[0]}`?" if near else "`tercel list events` lists them",
            )  # fmt: skip
    shell = [word for word in program.program if word in ("|", "||", "&&", ">", ">>", "<", ";")]
    if program.enabled and shell and program.program[0] not in ("sh", "/bin/sh", "bash", "/bin/bash"):
        yield document.diagnose(
            "no-shell", f"`program_output.program` holds `{shell[0]}`, and no shell runs it",
            ("program_output", "program"), "for a pipeline write `sh -c '...'`",
        )  # fmt: skip
    if program.enabled and not program.program:
        yield document.diagnose(
            "missing-key", "`program_output.enabled` needs `program`", ("program_output", "enabled"),
            "give the program and its arguments",
        )  # fmt: skip
    for i, file in enumerate(config.rules_files):
        if not _there(file):
            yield document.diagnose(
                "rules-missing", f"there is no rules file or folder `{file}`", ("rules_files", i),
                "paths are relative to the folder of the configuration file",
            )  # fmt: skip
