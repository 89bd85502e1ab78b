"""An alert as a document of the Elastic Common Schema, version 8.

Comes in: an alert. Goes out: the document, nested as the schema nests. Never: a field of the alert lost; all of them
stand under `falco.output_fields`, and those that the schema knows stand under its names, too, where their type fits.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from appliance import __version__
from appliance.hub.alert import HubAlert, JsonValue
from appliance.model.moment import iso_time

VERSION = "8.11.0"
# name in ECS and its type there, by the name of the field
FIELDS: Mapping[str, tuple[str, type]] = {
    "proc.name": ("process.name", str), "proc.pid": ("process.pid", int), "proc.cmdline": ("process.command_line", str),
    "proc.exepath": ("process.executable", str), "proc.cwd": ("process.working_directory", str),
    "proc.pname": ("process.parent.name", str), "proc.ppid": ("process.parent.pid", int),
    "proc.pcmdline": ("process.parent.command_line", str), "proc.pexepath": ("process.parent.executable", str),
    "user.name": ("user.name", str), "user.uid": ("user.id", str), "group.name": ("group.name", str),
    "group.gid": ("group.id", str), "fd.name": ("file.path", str), "fd.filename": ("file.name", str),
    "fd.directory": ("file.directory", str), "fd.sport": ("destination.port", int), "fd.cport": ("source.port", int),
    "fd.sip": ("destination.ip", str), "fd.cip": ("source.ip", str), "container.id": ("container.id", str),
    "container.name": ("container.name", str), "container.image.repository": ("container.image.name", str),
    "k8s.ns.name": ("orchestrator.namespace", str), "k8s.pod.name": ("orchestrator.resource.name", str),
}  # fmt: skip
_EMPTY = ("", "<NA>", "host")


def document(alert: HubAlert) -> dict[str, Any]:
    """One document, its time in `@timestamp`. `event.severity` is 0 (debug) to 7 (emergency)."""
    when = iso_time(alert.ts_ns) + "Z"
    made: dict[str, Any] = {
        "@timestamp": when,
        "ecs": {"version": VERSION},
        "message": alert.output,
        "event": {
            "id": alert.id, "kind": "alert", "category": ["intrusion_detection"], "type": ["info"], "created": when,
            "module": "falco", "dataset": f"falco.{alert.source}", "provider": alert.source,
            "severity": 7 - alert.priority,
        },
        "rule": {"name": alert.rule},
        "log": {"level": alert.priority.label.lower()},
        "observer": {"product": "Tercel", "vendor": "Tercel", "type": "ids", "version": __version__},
        "falco": {"priority": alert.priority.label},
    }  # fmt: skip
    if alert.tags:
        made["tags"] = list(alert.tags)
    if alert.hostname:
        made["host"] = {"name": alert.hostname, "hostname": alert.hostname}
    for name, (path, kind) in FIELDS.items():
        value = _fitting(name, alert.fields.get(name), kind)
        if value is not None:
            _put(made, path, value)
    made["falco"]["output_fields"] = alert.fields
    return made


def _fitting(name: str, value: JsonValue, kind: type) -> str | int | None:
    """The value in ECS' type; None where it has none, or is none of a file's name or an address."""
    if value is None or isinstance(value, bool) or value in _EMPTY:
        return None
    if kind is int:
        return value if isinstance(value, int) and 0 <= value < 2**63 else None
    text = str(value) if isinstance(value, str | int) else ""
    if name in ("fd.sip", "fd.cip") and not _is_ip(text):
        return None
    if name == "fd.name" and not text.startswith("/"):
        return None  # a connection
    return text or None


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _put(made: dict[str, Any], path: str, value: str | int) -> None:
    *above, last = path.split(".")
    for step in above:
        made = made.setdefault(step, {})
    made[last] = value
