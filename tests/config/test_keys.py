"""Falco's own configuration file: every key of it, and of its schema, has a row, and the rows are true."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.config.document import Node
from appliance.config.keys import BY_KEY, ROWS, State, notes
from appliance.config.load import load_config, load_schema
from appliance.model.diagnostic import ConfigError
from tests.config.proofs import KEYS_WRITTEN, PROOFS

ROOT = Path(__file__).resolve().parents[2]
FALCO = ROOT.parent / "shared/falco"


def leaves(value: Any, at: str = "") -> Iterator[str]:
    """The keys of a value as rows spell them."""
    if at in BY_KEY or not isinstance(value, dict | list):
        yield at
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{at}.{name}" if at else name)
    else:
        for inner in value:
            yield from leaves(inner, f"{at}[]")
        if not value:
            yield at


def schema_leaves(part: dict[str, Any], whole: dict[str, Any], at: str = "") -> Iterator[str]:
    """The keys that a schema of Falco's names."""
    if "$ref" in part:
        part = whole["definitions"][part["$ref"].rpartition("/")[2]]
    inner = [part, *part.get("oneOf", ())]
    found = False
    for one in inner:
        for name, below in one.get("properties", {}).items():
            found = True
            yield from schema_leaves(below, whole, f"{at}.{name}" if at else name)
    if "items" in part:
        yield from schema_leaves(part["items"], whole, f"{at}[]")
    elif not found:
        yield at


def has_row(key: str) -> bool:
    return key in BY_KEY or (key.endswith("[]") and key[:-2] in BY_KEY)


def test_every_key_of_the_official_file_has_a_row() -> None:
    official = yaml.safe_load((FALCO / "falco.yaml").read_text())
    assert [key for key in leaves(official) if not has_row(key)] == []


def test_every_key_of_the_official_schema_has_a_row() -> None:
    schema = json.loads((FALCO / "falco-config.schema.json").read_text())
    keys = list(schema_leaves(schema, schema))
    assert len(keys) > 100
    assert [key for key in keys if not has_row(key)] == []


def test_a_key_has_one_row_and_those_without_effect_say_why() -> None:
    assert len(BY_KEY) == len(ROWS)
    assert [row.key for row in ROWS if row.state is not State.IMPLEMENTED and not row.note] == []


def test_the_schema_knows_what_is_not_refused_and_nothing_else() -> None:
    def known(key: str) -> bool:
        part: dict[str, Any] = load_schema()
        for step in key.replace("[]", ".[]").split("."):
            options = [part, *part.get("anyOf", ())]
            below = [o["items"] if step == "[]" else o["properties"][step] for o in options
                     if (step == "[]" and "items" in o) or step in o.get("properties", {})]  # fmt: skip
            if not below:
                return False
            part = below[0]
        return True

    assert [row.key for row in ROWS if known(row.key) is (row.state is State.REFUSED)] == []


def test_falcos_own_file_is_accepted_and_what_differs_is_told() -> None:
    config = load_config(FALCO / "falco.yaml")
    told = {key for note in config.notes for key in note.keys}
    assert {"engine.kmod.buf_size_preset", "libs_logger.severity", "falco_libs.snaplen"} <= told
    assert "engine.kind" not in told, "it asks for what is done"
    assert config.syslog_output.enabled
    assert config.capture.ring_mib == 8


def test_a_row_that_is_refused_refuses(tmp_path: Path) -> None:
    for row in ROWS:
        if row.state is not State.REFUSED:
            continue
        value: Any = {"x": 1}
        for step in reversed(row.key.split(".")):
            value = {step: value}
        (tmp_path / "t.yaml").write_text(yaml.safe_dump(value))
        with pytest.raises(ConfigError) as caught:
            load_config(tmp_path / "t.yaml")
        assert [(d.name, d.hint) for d in caught.value.diagnostics] == [("refused-key", row.note)]


def test_a_section_that_is_switched_off_is_not_told_of() -> None:
    def node(value: Any) -> Node:
        if isinstance(value, dict):
            return Node({name: node(inner) for name, inner in value.items()})
        return Node([node(inner) for inner in value] if isinstance(value, list) else value)

    assert notes(node({"metrics": {"enabled": False, "plugins_metrics_enabled": True}})) == ()
    assert [n.keys for n in notes(node({"metrics": {"enabled": True, "plugins_metrics_enabled": True}}))] == [
        ("metrics.plugins_metrics_enabled",)
    ]


def test_every_implemented_key_has_a_test_of_its_effect() -> None:
    assert len(PROOFS) == KEYS_WRITTEN, "a key has one row"
    implemented = {row.key for row in ROWS if row.state is State.IMPLEMENTED}
    assert set(PROOFS) == implemented
    files = sorted({name.partition("::")[0] for name in PROOFS.values()})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    collected = {line.partition("[")[0] for line in done.stdout.splitlines()}
    assert sorted(set(PROOFS.values()) - collected) == []
