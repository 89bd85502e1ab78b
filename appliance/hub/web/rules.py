"""The texts of loaded rules, and MITRE ATT&CK as their tags name it.

Comes in: rules files, as the settings name them. Goes out: a rule's text and description by name; techniques by tactic.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

TACTICS = (
    "reconnaissance",
    "resource_development",
    "initial_access",
    "execution",
    "persistence",
    "privilege_escalation",
    "defense_evasion",
    "credential_access",
    "discovery",
    "lateral_movement",
    "collection",
    "command_and_control",
    "exfiltration",
    "impact",
)

TECHNIQUES = {
    "T1003": "OS Credential Dumping",
    "T1005": "Data from Local System",
    "T1014": "Rootkit",
    "T1020": "Automated Exfiltration",
    "T1021": "Remote Services",
    "T1036": "Masquerading",
    "T1037": "Boot or Logon Initialization Scripts",
    "T1041": "Exfiltration Over C2 Channel",
    "T1046": "Network Service Discovery",
    "T1048": "Exfiltration Over Alternative Protocol",
    "T1053": "Scheduled Task/Job",
    "T1055": "Process Injection",
    "T1059": "Command and Scripting Interpreter",
    "T1068": "Exploitation for Privilege Escalation",
    "T1070": "Indicator Removal",
    "T1071": "Application Layer Protocol",
    "T1078": "Valid Accounts",
    "T1083": "File and Directory Discovery",
    "T1090": "Proxy",
    "T1095": "Non-Application Layer Protocol",
    "T1098": "Account Manipulation",
    "T1105": "Ingress Tool Transfer",
    "T1110": "Brute Force",
    "T1136": "Create Account",
    "T1190": "Exploit Public-Facing Application",
    "T1204": "User Execution",
    "T1222": "File Permissions Modification",
    "T1485": "Data Destruction",
    "T1489": "Service Stop",
    "T1496": "Resource Hijacking",
    "T1505": "Server Software Component",
    "T1543": "Create or Modify System Process",
    "T1547": "Boot or Logon Autostart Execution",
    "T1548": "Abuse Elevation Control Mechanism",
    "T1552": "Unsecured Credentials",
    "T1553": "Subvert Trust Controls",
    "T1554": "Compromise Host Software Binary",
    "T1555": "Credentials from Password Stores",
    "T1556": "Modify Authentication Process",
    "T1562": "Impair Defenses",
    "T1564": "Hide Artifacts",
    "T1565": "Data Manipulation",
    "T1569": "System Services",
    "T1571": "Non-Standard Port",
    "T1574": "Hijack Execution Flow",
    "T1608": "Stage Capabilities",
    "T1609": "Container Administration Command",
    "T1610": "Deploy Container",
    "T1611": "Escape to Host",
    "T1613": "Container and Resource Discovery",
    "T1620": "Reflective Code Loading",
}

_TACTIC_OF = {
    "T1059": "execution",
    "T1609": "execution",
    "T1610": "execution",
    "T1204": "execution",
    "T1053": "persistence",
    "T1543": "persistence",
    "T1505": "persistence",
    "T1098": "persistence",
    "T1136": "persistence",
    "T1554": "persistence",
    "T1037": "persistence",
    "T1547": "persistence",
    "T1068": "privilege_escalation",
    "T1548": "privilege_escalation",
    "T1611": "privilege_escalation",
    "T1055": "privilege_escalation",
    "T1014": "defense_evasion",
    "T1036": "defense_evasion",
    "T1070": "defense_evasion",
    "T1562": "defense_evasion",
    "T1564": "defense_evasion",
    "T1620": "defense_evasion",
    "T1574": "defense_evasion",
    "T1222": "defense_evasion",
    "T1003": "credential_access",
    "T1110": "credential_access",
    "T1552": "credential_access",
    "T1555": "credential_access",
    "T1556": "credential_access",
    "T1046": "discovery",
    "T1083": "discovery",
    "T1613": "discovery",
    "T1021": "lateral_movement",
    "T1005": "collection",
    "T1071": "command_and_control",
    "T1090": "command_and_control",
    "T1095": "command_and_control",
    "T1105": "command_and_control",
    "T1571": "command_and_control",
    "T1020": "exfiltration",
    "T1041": "exfiltration",
    "T1048": "exfiltration",
    "T1485": "impact",
    "T1489": "impact",
    "T1496": "impact",
    "T1565": "impact",
    "T1190": "initial_access",
    "T1078": "initial_access",
    "T1608": "resource_development",
}

_TECHNIQUE = re.compile(r"T\d{4}(?:\.\d{3})?")


@dataclass(frozen=True, slots=True)
class RuleText:
    """A rule as its file has it."""

    name: str
    desc: str
    condition: str
    tags: Sequence[str]
    text: str
    file: str
    line: int


def rule_texts(paths: Sequence[Path]) -> Mapping[str, RuleText]:
    """Rules by name, the last definition of each; files that cannot be read are passed over."""
    stamps = tuple((str(path), path.stat().st_mtime_ns) for path in paths if path.exists())
    return _read(stamps)


@lru_cache(maxsize=4)
def _read(stamps: tuple[tuple[str, int], ...]) -> Mapping[str, RuleText]:
    found: dict[str, RuleText] = {}
    for name, _ in stamps:
        try:
            text = Path(name).read_text(errors="replace")
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except (OSError, yaml.YAMLError):
            continue
        lines = text.splitlines()
        for node in root.value if isinstance(root, yaml.SequenceNode) else []:
            if not isinstance(node, yaml.MappingNode):
                continue
            item = {k.value: v for k, v in node.value if isinstance(k, yaml.ScalarNode)}
            if "rule" not in item or "condition" not in item:
                continue
            tags = item.get("tags")
            rule = str(item["rule"].value)
            first, last = node.start_mark.line, node.end_mark.line
            found[rule] = RuleText(
                rule,
                _scalar(item.get("desc")),
                _scalar(item["condition"]),
                [str(t.value) for t in tags.value] if isinstance(tags, yaml.SequenceNode) else [],
                "\n".join(lines[first:last]).rstrip(),
                Path(name).name,
                first + 1,
            )
    return found


def _scalar(node: yaml.Node | None) -> str:
    return " ".join(str(node.value).split()) if isinstance(node, yaml.ScalarNode) else ""


def techniques(tags: Sequence[str]) -> list[str]:
    """The techniques that tags name."""
    return [tag for tag in tags if _TECHNIQUE.fullmatch(tag)]


def technique_name(technique: str) -> str:
    """`Command and Scripting Interpreter` for `T1059.004`; "" where it is not known here."""
    return TECHNIQUES.get(technique.partition(".")[0], "")


def technique_link(technique: str) -> str:
    """Its page at MITRE."""
    return "https://attack.mitre.org/techniques/" + technique.replace(".", "/") + "/"


def cells(tags: Sequence[str]) -> set[tuple[str, str]]:
    """(tactic, technique) that tags stand for."""
    tactics = [
        tag.removeprefix("mitre_") for tag in tags if tag.startswith("mitre_") and tag.removeprefix("mitre_") in TACTICS
    ]
    found = set()
    for technique in techniques(tags):
        own = _TACTIC_OF.get(technique.partition(".")[0])
        for tactic in tactics or ([own] if own else []):
            found.add((tactic, technique))
    return found
