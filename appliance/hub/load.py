"""`tercel-hub.yaml` to `HubSettings`, or to all that is wrong with it.

Comes in: a file, options of the command line, the environment. Goes out: settings, or `ConfigError` with every
diagnostic at its line and column. Never: a start with a key that nobody reads, or a secret in a message.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from appliance.config.document import Document, Key, Node, parse, read, set_option
from appliance.config.schema import against_schema, near
from appliance.config.settings import Secret
from appliance.hub.ingest.enrich import enricher
from appliance.hub.options import build, hints, inner, schema_of
from appliance.hub.outputs.shape import shape_of
from appliance.hub.outputs.table import Kind, kinds
from appliance.hub.settings import Collector, HubSettings, OutputSettings, Page
from appliance.hub.sidekick import is_sidekick, translate
from appliance.model.diagnostic import ConfigError, Diagnostic
from appliance.model.text import why

_SECRET_MAX = 64 << 10
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def hub_schema() -> dict[str, Any]:
    """The contract of `tercel-hub.yaml`, made of the settings' classes."""
    made = schema_of(HubSettings)
    one = schema_of(OutputSettings)
    made["type"] = ["object", "null"]
    made["properties"]["outputs"]["additionalProperties"] = one | {"additionalProperties": True}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:tercel:hub",
        "title": "Tercel hub configuration",
        "description": "The contract of tercel-hub.yaml. An output has further keys by its type.",
    } | made


def load_settings(
    path: Path | None, *, overrides: Sequence[str] = (), environment: Mapping[str, str] = os.environ
) -> HubSettings:
    """Read the hub's configuration; without a path, the defaults. `overrides` are `key.sub=value` texts that win.

    Raises `ConfigError` with all diagnostics.
    """
    return load_with_notes(path, overrides=overrides, environment=environment)[0]


def load_with_notes(
    path: Path | None,
    *,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
    sidekick: bool = False,
) -> tuple[HubSettings, Sequence[str]]:
    """As `load_settings`, and notes on what means something else here. Falcosidekick's file is known by its keys;
    `sidekick`: the file, if any, and the environment are Falcosidekick's. Raises `ConfigError`."""
    document = Document(Node({}))
    if path is not None:
        document.root = read(path, environment, document.unset)
    notes: list[str] = []
    if sidekick or is_sidekick(document.root):
        if not isinstance(document.root.value, dict):
            raise ConfigError(against_schema(document, hub_schema()))
        document.root, notes = translate(document.root, environment, kinds())
    return _checked(document, path, overrides, environment), notes


def settings_of(
    text: str, *, overrides: Sequence[str] = (), environment: Mapping[str, str] = os.environ
) -> HubSettings:
    """As `load_settings`, of a text. Raises `ConfigError`."""
    document = Document(Node({}))
    document.root = parse("tercel-hub.yaml", text, environment, document.unset)
    return _checked(document, None, overrides, environment)


def _checked(
    document: Document, path: Path | None, overrides: Sequence[str], environment: Mapping[str, str]
) -> HubSettings:
    schema = hub_schema()
    if not isinstance(document.root.value, dict):
        raise ConfigError(against_schema(document, schema))
    problems = [p for text in overrides if (p := set_option(document.root, text)) is not None]
    document.secret = frozenset(_secrets(document))
    made_by = dict(kinds())
    outputs = document.root.value.pop("outputs", Node({}))
    problems += against_schema(document, schema)
    document.root.value["outputs"] = outputs
    problems += _outputs_problems(document, outputs, made_by)
    if problems:
        raise ConfigError(sorted(problems, key=_place))
    problems += _put_secrets(document, HubSettings, (), document.root, environment)
    for name, node in outputs.value.items():
        kind = made_by[node.value["type"].value]
        for cls in (OutputSettings, kind.options):
            problems += _put_secrets(document, cls, ("outputs", name), node, environment)
    if problems:
        raise ConfigError(sorted(problems, key=_place))
    plain = document.root.plain()
    given = plain.pop("outputs")
    settings = replace(
        build(HubSettings, plain),
        outputs={name: _output(name, value, made_by[value["type"]]) for name, value in given.items()},
        path=path,
    )
    problems += _inconsistencies(settings, document)
    if problems:
        raise ConfigError(problems)
    return settings


def _output(name: str, value: Mapping[str, Any], kind: Kind) -> OutputSettings:
    return replace(build(OutputSettings, value), name=name, options=build(kind.options, value))


def _place(diagnostic: Diagnostic) -> tuple[str, int, int]:
    return (diagnostic.span.file, diagnostic.span.line, diagnostic.span.column) if diagnostic.span else ("", 0, 0)


def _outputs_problems(document: Document, outputs: Node, made_by: Mapping[str, Kind]) -> Iterator[Diagnostic]:
    if not isinstance(outputs.value, dict):
        yield document.diagnose(
            "wrong-type", "`outputs` is not a map, expected a name for each output", ("outputs",), "for example "
            "`outputs: {siem: {type: webhook, url: 'http://127.0.0.1:8080/'}}`",
        )  # fmt: skip
        return
    for name, node in outputs.value.items():
        at: Key = ("outputs", name)
        if not _NAME.fullmatch(str(name)):
            yield document.diagnose(
                "wrong-value", f"an output cannot be called `{name}`", at, "letters, digits, `_`, `.` and `-`, at most "
                "64 of them", key=True,
            )  # fmt: skip
            continue
        value = node.plain()
        type_ = value.get("type") if isinstance(value, dict) else None
        kind = made_by.get(type_) if isinstance(type_, str) else None
        if isinstance(type_, str) and kind is None:
            yield document.diagnose(
                "unknown-output", f"there is no output of the type `{type_}`", (*at, "type"), near(type_, list(made_by))
            )
            continue
        yield from against_schema(document, output_schema(kind), at=at, value=value)


def output_schema(kind: Kind | None) -> dict[str, Any]:
    """The schema of one output: keys common to all and, where the type is known, those of its type."""
    made = schema_of(OutputSettings)
    if kind is not None:
        own = schema_of(kind.options)
        made["properties"] = made["properties"] | own["properties"]
        made["required"] = [*made["required"], *own.get("required", ())]
    return made


def _secrets(document: Document) -> Iterator[str]:
    """Keys whose line is not shown in a diagnostic, dotted: those of type `Secret`, and any URL, which may hold one."""
    made_by = kinds()
    outputs = document.root.find(("outputs",))
    for name, node in outputs.value.items() if outputs is not None and isinstance(outputs.value, dict) else ():
        type_ = node.find(("type",))
        kind = made_by.get(type_.value) if type_ is not None and isinstance(type_.value, str) else None
        for key, held in hints(kind.options).items() if kind is not None else ():
            if held is Secret:
                yield f"outputs.{name}.{key}"
    yield "collector.hmac_secret"
    yield "page.oidc.client_secret"
    yield "page.post_token"


def _put_secrets(
    document: Document, cls: type, at: Key, node: Node, environment: Mapping[str, str]
) -> Iterator[Diagnostic]:
    """Put in place what `file:PATH` and `credential:NAME` stand for, where a secret or a path belongs."""
    if not isinstance(node.value, dict):
        return
    described = hints(cls)
    for f in fields(cls):
        below = node.value.get(f.name)
        if below is None or not f.metadata:
            continue
        origin, held = inner(described[f.name])
        here: Key = (*at, f.name)
        if isinstance(held, type) and is_dataclass(held) and origin is not Mapping:
            entries = enumerate(below.value) if origin is tuple else [(None, below)]
            for index, entry in entries:
                yield from _put_secrets(document, held, here if index is None else (*here, index), entry, environment)
        elif held in (Secret, Path) and isinstance(below.value, str):
            yield from _put_one(document, here, below, held, environment)
        elif held is Secret and isinstance(below.value, dict):
            for key, entry in below.value.items():
                if isinstance(entry.value, str):
                    yield from _put_one(document, (*here, key), entry, held, environment)


def _put_one(
    document: Document, at: Key, node: Node, held: type, environment: Mapping[str, str]
) -> Iterator[Diagnostic]:
    key = ".".join(map(str, at))
    form, colon, name = node.value.partition(":")
    if not colon or form not in ("file", "credential") or name.startswith("//"):
        return
    file = Path(name)
    if form == "credential":
        folder = environment.get("CREDENTIALS_DIRECTORY")
        if not folder or "/" in name or name in ("", ".", ".."):
            yield document.diagnose(
                "no-credential", f"`{key}` asks for the credential `{name}`, which is not available", at,
                "start by systemd with `LoadCredential=NAME:FILE`, or write `file:PATH`",
            )  # fmt: skip
            return
        file = Path(folder) / name
    if held is Path:
        node.value = str(file)
        return
    try:
        with file.open("rb") as stream:
            node.value = stream.read(_SECRET_MAX).decode().strip()
    except (OSError, ValueError) as error:
        reason = why(error) if isinstance(error, OSError) else "it is not text"
        yield document.diagnose(
            "no-credential", f"`{key}`: cannot read `{file}`: {reason}", at, "the file holds the value and nothing else"
        )


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def may_collect_at(address: str, collector: Collector) -> bool:
    """Whether the collector's settings allow it to listen there: not beyond this machine without TLS and senders who
    prove who they are, unless it is said so."""
    return is_loopback(address) or collector.insecure or _is_guarded(collector)


def may_show_at(address: str, page: Page) -> bool:
    """Whether the page's settings allow it to listen there: not beyond this machine without TLS, but by `insecure`."""
    return is_loopback(address) or page.insecure or page.tls.cert is not None


def _inconsistencies(settings: HubSettings, document: Document) -> Iterator[Diagnostic]:
    """What is allowed key by key and makes no sense together."""
    collector = settings.collector
    tls = collector.tls
    if (tls.cert is None) != (tls.key is None):
        yield document.diagnose(
            "missing-key", "`collector.tls` needs both `cert` and `key`, or neither", ("collector", "tls"),
            "give the paths of both files",
        )  # fmt: skip
    if tls.client_ca is not None and tls.cert is None:
        yield document.diagnose(
            "missing-key", "`collector.tls.client_ca` needs `cert` and `key`", ("collector", "tls", "client_ca"), None
        )
    if not may_collect_at(collector.address, collector):
        yield document.diagnose(
            "insecure-listener", f"`collector.address` is `{collector.address}`, and anyone who reaches it could forge "
            "alerts", ("collector", "address"),
            "set `collector.tls.cert` and `key`, and `tokens`, `hmac_secret` or `tls.client_ca`; or `insecure: true`",
        )  # fmt: skip
    page = settings.page
    if page.enabled and not may_show_at(page.address, page):
        yield document.diagnose(
            "insecure-listener", f"`page.address` is `{page.address}`, and passwords would cross the network in clear",
            ("page", "address"), "set `page.tls.cert` and `key`; or `page.insecure: true` behind a proxy that has TLS",
        )  # fmt: skip
    if (page.tls.cert is None) != (page.tls.key is None):
        yield document.diagnose(
            "missing-key", "`page.tls` needs both `cert` and `key`, or neither", ("page", "tls"),
            "give the paths of both files",
        )  # fmt: skip
    for group, role in page.oidc.roles.items():
        if role not in ("viewer", "analyst", "editor", "admin"):
            yield document.diagnose(
                "wrong-value", f"`{role}` is not a role", ("page", "oidc", "roles", group),
                "roles: viewer, analyst, editor, admin",
            )  # fmt: skip
    if page.proxy_user_header and not page.proxies:
        yield document.diagnose(
            "missing-key", "`page.proxy_user_header` needs `page.proxies`", ("page", "proxy_user_header"),
            "name the addresses of the proxies that may name users",
        )  # fmt: skip
    seen: set[str] = set()
    for n, token in enumerate(collector.tokens):
        if len(token.token) < 16:
            yield document.diagnose(
                "weak-token", f"the token of `{token.name}` has fewer than 16 characters", ("collector", "tokens", n),
                "make one by `openssl rand -hex 32`",
            )  # fmt: skip
        if token.name in seen:
            yield document.diagnose(
                "repeated-name", f"two tokens are called `{token.name}`", ("collector", "tokens", n), None
            )
        seen.add(token.name)
    for name, output in settings.outputs.items():
        for key in ("filter", "template"):
            try:
                shape_of(replace(output, **{"filter": "", "template": "", key: getattr(output, key)}))
            except ValueError as error:
                yield document.diagnose("wrong-value", f"`outputs.{name}.{key}`: {error}", ("outputs", name, key), None)
    try:
        enricher(settings.enrichment)
    except (ValueError, OSError) as error:
        yield document.diagnose("wrong-value", f"`enrichment`: {error}", ("enrichment",), None)


def _is_guarded(collector: Collector) -> bool:
    known = bool(collector.tokens or collector.hmac_secret or collector.tls.client_ca)
    return collector.tls.cert is not None and known
