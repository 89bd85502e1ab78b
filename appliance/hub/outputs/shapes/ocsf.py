"""An alert as a Detection Finding of the Open Cybersecurity Schema Framework (schema.ocsf.io, 1.1.0, class 2004).

Comes in: an alert. Goes out: the finding as a mapping of JSON. Never: a field of the alert lost; those that the class
has no place for stand under `unmapped`.
"""

from __future__ import annotations

import re
from typing import Any

from appliance import __version__
from appliance.hub.alert import HubAlert
from appliance.model.alert import Priority

SCHEMA = "1.1.0"
CLASS_UID = 2004
_SEVERITY = {
    Priority.EMERGENCY: (6, "Fatal"), Priority.ALERT: (5, "Critical"), Priority.CRITICAL: (5, "Critical"),
    Priority.ERROR: (4, "High"), Priority.WARNING: (3, "Medium"), Priority.NOTICE: (2, "Low"),
    Priority.INFORMATIONAL: (1, "Informational"), Priority.DEBUG: (1, "Informational"),
}  # fmt: skip
_TACTICS = {
    "reconnaissance": "TA0043", "resource_development": "TA0042", "initial_access": "TA0001", "execution": "TA0002",
    "persistence": "TA0003", "privilege_escalation": "TA0004", "defense_evasion": "TA0005",
    "credential_access": "TA0006", "discovery": "TA0007", "lateral_movement": "TA0008", "collection": "TA0009",
    "exfiltration": "TA0010", "command_and_control": "TA0011", "impact": "TA0040",
}  # fmt: skip
_TECHNIQUE = re.compile(r"T[0-9]{4}(?:\.[0-9]{3})?")


def finding(alert: HubAlert) -> dict[str, Any]:
    """One finding. Times are milliseconds since the epoch; the nanoseconds stand under `unmapped`."""
    severity_id, severity = _SEVERITY[alert.priority]
    ms = alert.ts_ns // 1_000_000
    about: dict[str, Any] = {
        "uid": alert.id,
        "title": alert.rule,
        "desc": alert.output,
        "created_time": ms,
        "data_sources": [alert.source],
        "analytic": {"name": alert.rule, "uid": alert.rule, "type_id": 1, "type": "Rule"},
    }
    if attacks := _attacks(alert.tags):
        about["attacks"] = attacks
    made: dict[str, Any] = {
        "activity_id": 1, "activity_name": "Create", "category_uid": 2, "category_name": "Findings",
        "class_uid": CLASS_UID, "class_name": "Detection Finding", "type_uid": CLASS_UID * 100 + 1,
        "type_name": "Detection Finding: Create", "time": ms, "severity_id": severity_id, "severity": severity,
        "status_id": 1, "status": "New", "message": alert.output,
        "metadata": {
            "version": SCHEMA, "uid": alert.id, "log_name": alert.source,
            "product": {"name": "Tercel", "vendor_name": "Tercel", "version": __version__},
        },
        "finding_info": about,
        "unmapped": {"priority": alert.priority.label, "time_ns": alert.ts_ns, "output_fields": alert.fields},
    }  # fmt: skip
    if alert.tags:
        made["metadata"]["labels"] = list(alert.tags)
    if alert.hostname:
        made["resources"] = [{"name": alert.hostname, "uid": alert.hostname, "type": "host"}]
    return made


def _attacks(tags: tuple[str, ...]) -> list[dict[str, Any]]:
    """What tags such as `mitre_credential_access` and `T1552.001` name."""
    made: list[dict[str, Any]] = []
    for tag in tags:
        name = tag.removeprefix("mitre_").lower()
        if tag.startswith("mitre_") and name in _TACTICS:
            made.append({"version": "14.1", "tactic": {"name": name.replace("_", " ").title(), "uid": _TACTICS[name]}})
        elif _TECHNIQUE.fullmatch(tag):
            made.append({"version": "14.1", "technique": {"name": tag, "uid": tag}})
    return made
