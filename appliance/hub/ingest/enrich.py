"""What the hub adds to an alert: fields, tags, facts about its host.

Comes in: a checked alert. Goes out: the alert with more in it. Never: a field of the sender's changed or taken away,
but by a custom field of the same name.
"""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import yaml

from appliance.hub.alert import HubAlert, JsonValue
from appliance.hub.outputs.shape import template_of
from appliance.hub.settings import Enrichment
from appliance.model.text import json_safe

log = logging.getLogger(__name__)

_FILE_MAX = 16 << 20
Enrich = Callable[[HubAlert], HubAlert]


def enricher(settings: Enrichment, environment: Mapping[str, str] = os.environ) -> Enrich | None:
    """What to do to each alert; None for nothing. Raises ValueError or OSError for a template or file that is wrong."""
    custom = {name: _value(text, environment) for name, text in settings.customfields.items()}
    templates = {name: template_of(text) for name, text in settings.templatedfields.items()}
    hosts = read_hosts(settings.hosts_file, settings.hosts_prefix) if settings.hosts_file else {}
    tags = settings.customtags
    brackets = settings.bracketreplacer
    if not (custom or templates or hosts or tags or brackets):
        return None

    def enrich(alert: HubAlert) -> HubAlert:
        fields: dict[str, JsonValue] = dict(alert.fields)
        if brackets:
            fields = {name.replace("]", "").replace("[", brackets): value for name, value in fields.items()}
        fields |= hosts.get(alert.hostname, {})
        fields |= custom
        made = replace(alert, fields=fields, tags=tuple(sorted({*alert.tags, *tags})) if tags else alert.tags)
        if templates:
            made = replace(made, fields=fields | {name: json_safe(make(made)) for name, make in templates.items()})
        return made

    return enrich


def _value(text: str, environment: Mapping[str, str]) -> str:
    return environment.get(text[1:], "") if text.startswith("%") else text


def read_hosts(path: Path, prefix: str) -> Mapping[str, Mapping[str, JsonValue]]:
    """Facts about hosts, of a YAML map or a CSV file whose first column is the host's name.

    Raises OSError, or ValueError where it is neither.
    """
    if path.stat().st_size > _FILE_MAX:
        raise ValueError(f"`{path}` is larger than {_FILE_MAX} bytes")
    text = path.read_text(encoding="utf-8")
    if path.suffix.lower() == ".csv":
        rows = list(csv.reader(text.splitlines()))
        names = rows[0][1:] if rows else []
        found = {row[0]: dict(zip(names, row[1:], strict=False)) for row in rows[1:] if row}
    else:
        try:
            found = yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            raise ValueError(f"`{path}` is not YAML: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(facts, dict) for facts in found.values()):
        raise ValueError(f"`{path}` is not a map of hosts, each with a map of facts")
    return {
        str(host): {f"{prefix}{name}": value if isinstance(value, bool | int | float) else str(value)
                    for name, value in facts.items()}
        for host, facts in found.items()
    }  # fmt: skip
