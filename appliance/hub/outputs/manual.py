"""`docs/outputs.md`, made of the table of outputs.

Comes in: the table. Goes out: Markdown: every output, its keys, an example, and what "delivered" means. Never: a key
that the table lacks."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from typing import Any

from appliance.config.settings import Secret
from appliance.hub.options import hints, inner, plain
from appliance.hub.outputs.http import HttpOptions
from appliance.hub.outputs.queues import TlsOptions
from appliance.hub.outputs.table import Kind, kinds
from appliance.hub.settings import OutputSettings

_HEAD = """# Outputs of the hub

An output is an entry below `outputs` in `tercel-hub.yaml`: a name of your choice, `type`, the keys of its type, and the
keys that every output takes. `tercel hub send-test NAME` sends it one alert. This page is made of the table of outputs
(`make man`).

Alerts are in the journal before the sender has its answer. An output reads them from there, in order for each host, and
keeps its place: one that is down for an hour loses nothing and slows nobody. An alert that the service refuses for good
becomes a dead letter; `tercel hub replay-dead NAME` sends those again.

"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD, _overview(), "## Keys of every output\n\n", _keys(OutputSettings, ()), "\n"]
    parts += ["Outputs that speak HTTP also take:\n\n", _keys(HttpOptions, ()), "\n"]
    parts += ["Outputs with `tls` also take:\n\n", _keys(TlsOptions, ()), "\n"]
    for kind in sorted(kinds().values(), key=lambda kind: kind.title.lower()):
        parts.append(_section(kind))
    return "".join(parts)


def _overview() -> str:
    rows = ["| type | service | category | needs |\n|---|---|---|---|\n"]
    for kind in sorted(kinds().values(), key=lambda kind: kind.name):
        need = "`tercel[hub]`" if kind.extra == "hub" else f"`tercel[hub,{kind.extra}]`"
        rows.append(f"| `{kind.name}` | {kind.title} | {kind.category} | {need} |\n")
    return "".join([*rows, "\n"])


def _section(kind: Kind) -> str:
    base: tuple[type, ...] = (HttpOptions, TlsOptions)
    common = next((one for one in base if issubclass(kind.options, one)), None)
    hidden = {f.name for f in fields(common)} if common is not None else set()
    size = kind.batch(_example_options(kind))
    many = f" Up to {size} alerts go at once; `batch` changes that." if size > 1 else ""
    return (
        f"## {kind.title}\n\n`type: {kind.name}`. {kind.doc}{many}\n\n**Delivered** means: {kind.delivered}\n\n"
        f"```yaml\n{_example(kind)}```\n\n{_keys(kind.options, hidden)}\n"
    )


def _required(kind: Kind) -> list[Any]:
    return [f for f in fields(kind.options) if f.default is MISSING and f.default_factory is MISSING]


def _value_of(f: Any, described: Any) -> Any:
    origin, held = inner(described)
    example = f.metadata.get("example")
    if example is not None:
        return example
    if origin is tuple:
        return [f"<{f.name}>"]
    return 1 if held in (int, float) else f"<{f.name}>"


def _example(kind: Kind) -> str:
    described = hints(kind.options)
    lines = ["outputs:", f"  {kind.name}-1:", f"    type: {kind.name}"]
    lines += [
        f"    {f.name}: {json.dumps(_value_of(f, described[f.name]), ensure_ascii=False)}" for f in _required(kind)
    ]
    return "\n".join(lines) + "\n"


def _example_options(kind: Kind) -> Any:
    described = hints(kind.options)
    given: dict[str, Any] = {}
    for f in _required(kind):
        origin, held = inner(described[f.name])
        value = _value_of(f, described[f.name])
        if origin is tuple:
            given[f.name] = tuple(Secret(v) if held is Secret else v for v in value)
        else:
            given[f.name] = Secret(value) if held is Secret else value
    return kind.options(**given)


def _keys(cls: type, hidden: Any) -> str:
    described = hints(cls)
    lines = []
    for f in fields(cls):
        if not f.metadata or f.name in hidden:
            continue
        if f.default is MISSING and f.default_factory is MISSING:
            default = "required"
        else:
            value = plain(f.default_factory())  # type: ignore[operator]
            default = f"default `{json.dumps(value, ensure_ascii=False)}`"
        secret = ", secret" if inner(described[f.name])[1] is Secret else ""
        choices = ""
        if f.metadata["choices"]:
            choices = " One of " + ", ".join(f"`{c}`" if c else "empty" for c in f.metadata["choices"]) + "."
        lines.append(f"- **`{f.name}`** ({default}{secret}): {f.metadata['doc']}{choices}\n")
    return "".join(lines) or "It has no keys of its own.\n"
