"""Our verdicts on small rules files beside those recorded from the real engine (`falco -V`): refused or not, and why.

`falco-verdicts.json` holds a file's text, whether Falco took it, and the codes of its errors and warnings.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from appliance.lang.load import LoadedRules, load_texts
from appliance.model.diagnostic import Severity
from tests.support.shared import SHARED, shared_falco

FILE = SHARED / "falco" / "falco-verdicts.json"
VERDICTS: list[dict[str, Any]] = json.loads(FILE.read_text()) if FILE.is_file() else []


@dataclass(frozen=True)
class Differs:
    """Where we say something else on purpose: the names of all that we tell."""

    told: tuple[str, ...]
    refused: bool


DIFFERENCES = {
    # a misspelled `- rool:` must not take a rule away in silence
    "unknown_item": Differs(("unknown-item",), refused=True),
    # numbers and texts have no order in common; told, so that its author does not rely on it
    "num_op_on_string": Differs(("order-of-texts",), refused=False),
    # Falco refuses it before it loads rules, without a code
    "req_plugin_missing": Differs(("unknown-plugin",), refused=True),
}


def codes(loaded: LoadedRules, severity: Severity) -> list[str]:
    return sorted({d.code or "" for d in loaded.diagnostics if d.severity is severity})


def test_the_recorded_verdicts_are_there() -> None:
    shared_falco()
    assert len(VERDICTS) == 31
    assert set(DIFFERENCES) <= {v["name"] for v in VERDICTS}


@pytest.mark.parametrize("verdict", VERDICTS, ids=lambda v: v["name"])
def test_what_falco_says_of_it_we_say(verdict: dict[str, Any]) -> None:
    loaded = load_texts([("rules.yaml", verdict["yaml"])])
    differs = DIFFERENCES.get(verdict["name"])
    if differs is not None:
        assert tuple(d.name for d in loaded.diagnostics) == differs.told
        assert bool(loaded.errors) == differs.refused
        return
    falco = verdict["falco"]
    assert (not loaded.errors) == falco["ok"], [d.render() for d in loaded.diagnostics]
    assert codes(loaded, Severity.ERROR) == sorted({e["code"] for e in falco["errors"]})
    if falco["ok"]:  # beside an error we may warn of more
        assert codes(loaded, Severity.WARNING) == sorted(set(falco["warnings"]))


@pytest.mark.parametrize("verdict", [v for v in VERDICTS if not v["falco"]["ok"]], ids=lambda v: v["name"])
def test_what_is_refused_is_told_where(verdict: dict[str, Any]) -> None:
    loaded = load_texts([("rules.yaml", verdict["yaml"])])
    lines = verdict["yaml"].splitlines()
    for diagnostic in loaded.errors:
        assert diagnostic.span is not None
        assert 1 <= diagnostic.span.line <= len(lines)
        assert 1 <= diagnostic.span.column <= len(lines[diagnostic.span.line - 1]) + 1
        assert f"rules.yaml:{diagnostic.span.line}:" in diagnostic.render()
