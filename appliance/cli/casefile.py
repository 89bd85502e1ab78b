"""Files of test cases.

Comes in: YAML. Goes out: `Case`s, or `CaseError` with the place. A file is a sequence of rules with their cases:

    - rule: Read of a sensitive file
      cases:
        - name: cat reads the password hashes
          fires: true
          event: {type: openat, res: 3, fd: {name: /etc/shadow, typechar: f}, process: {pid: 7, name: cat}}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from appliance.engine.cases import Case
from appliance.model.diagnostic import TercelError
from appliance.model.text import why
from appliance.sources.replay import ReplayError, read_event

_MAX_BYTES = 4 << 20
_RULE_KEYS = {"rule", "cases"}
_CASE_KEYS = {"name", "fires", "event", "output", "alerts"}
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class CaseError(TercelError):
    """A file of cases cannot be read."""


def find_cases(paths: Sequence[Path]) -> list[Path]:
    """The files of cases among paths; of a folder its `.yaml` and `.yml` files by name."""
    found: list[Path] = []
    for path in paths:
        found += sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml")) if path.is_dir() else [path]
    return found


def read_cases(path: Path) -> list[Case]:
    """All cases of a file. Raises `CaseError`."""
    try:
        data = path.read_bytes()[: _MAX_BYTES + 1]
        if len(data) > _MAX_BYTES:
            raise CaseError(f"{path}: larger than {_MAX_BYTES} bytes")
        document = yaml.load(data, Loader=_LOADER)  # noqa: S506  (a safe loader)
    except OSError as error:
        raise CaseError(f"{path}: {why(error)}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise CaseError(f"{path}: not YAML: {error}") from error
    return list(_rules(document, str(path)))


def _rules(document: object, path: str) -> Iterator[Case]:
    for i, entry in enumerate(_sequence(document if document is not None else [], path)):
        place = f"{path}: entry {i + 1}"
        facts = _mapping(entry, _RULE_KEYS, place)
        rule = facts.get("rule")
        if not isinstance(rule, str):
            raise CaseError(f"{place}: `rule` must be a rule's name")
        for n, case in enumerate(_sequence(facts.get("cases", []), f"{place}: cases")):
            yield _case(rule, case, f"{path}: {rule}: case {n + 1}")


def _case(rule: str, value: object, place: str) -> Case:
    facts = _mapping(value, _CASE_KEYS, place)
    name, fires, output, alerts = facts.get("name"), facts.get("fires"), facts.get("output"), facts.get("alerts")
    if not isinstance(name, str) or not isinstance(fires, bool):
        raise CaseError(f"{place}: a case needs a `name`, and `fires: true` or `fires: false`")
    if output is not None and not isinstance(output, str):
        raise CaseError(f"{place}: `output` must be a text")
    if alerts is not None and not (isinstance(alerts, list) and all(isinstance(a, str) for a in alerts)):
        raise CaseError(f"{place}: `alerts` must be a sequence of rules' names")
    try:
        event = read_event(facts.get("event"), f"{place}: event")
    except ReplayError as error:
        raise CaseError(str(error)) from error
    return Case(rule, name, place, event, fires, output, None if alerts is None else tuple(alerts))


def _sequence(value: object, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise CaseError(f"{place}: expected a sequence")
    return value


def _mapping(value: object, keys: set[str], place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise CaseError(f"{place}: expected a mapping with {', '.join(sorted(keys))}")
    for key in value:
        if key not in keys:
            raise CaseError(f"{place}: there is no key `{key}`; keys: {', '.join(sorted(keys))}")
    return value
