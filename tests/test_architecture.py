"""The picture in ARCHITECTURE.md, held against the imports."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HOUSE = ROOT / "appliance"

# A room and the rooms that it may import from, besides itself.
MAY_IMPORT = {
    "model": set(),
    "host": {"model"},
    "catalog": {"model"},
    "config": {"model"},
    "lang": {"model", "catalog"},
    "codegen": {"model", "catalog"},
    "engine": {"model", "catalog", "codegen"},
    "kernel": {"model", "catalog"},
    "sources": {"host", "model", "catalog", "kernel"},
    "sinks": {"host", "model", "config"},
    "hub": {"host", "model", "config", "catalog", "lang"},
    "daemon": {"host", "model", "catalog", "config", "lang", "codegen", "engine", "kernel", "sources", "sinks"},
    "cli": {
        "host",
        "model",
        "catalog",
        "config",
        "lang",
        "codegen",
        "engine",
        "kernel",
        "sources",
        "sinks",
        "daemon",
        "hub",
    },
}

# What only some modules may import from outside.
KEEPERS = {
    "bcc": {"appliance/kernel/compiler.py"},
    "systemd": {"appliance/sinks/journald.py", "appliance/host/systemd.py"},
    "requests": {"appliance/sinks/http.py"},
    "re2": {"appliance/catalog/operators.py"},
    "jsonschema": {"appliance/config/schema.py"},
}


def modules() -> list[Path]:
    return sorted(HOUSE.rglob("*.py"))


def imports(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import hides the room"
            yield node.module or ""


def room(module: Path) -> str:
    return module.relative_to(HOUSE).parts[0]


def test_every_room_is_in_the_picture() -> None:
    rooms = {p.name for p in HOUSE.iterdir() if (p / "__init__.py").exists()}
    assert rooms == set(MAY_IMPORT)
    picture = (ROOT / "ARCHITECTURE.md").read_text()
    for module in modules():
        if module.name != "__init__.py" and module.parent != HOUSE:
            assert f"{module.name}" in picture, f"{module.relative_to(ROOT)} is not in ARCHITECTURE.md"


@pytest.mark.parametrize("module", modules(), ids=lambda m: str(m.relative_to(HOUSE)))
def test_imports_go_down(module: Path) -> None:
    if module.parent == HOUSE:
        return
    here = room(module)
    for name in imports(module):
        parts = name.split(".")
        if parts[0] == "appliance" and len(parts) > 1:
            assert parts[1] == here or parts[1] in MAY_IMPORT[here], f"{here} must not know {parts[1]}"


@pytest.mark.parametrize("module", modules(), ids=lambda m: str(m.relative_to(HOUSE)))
def test_foreign_parts_have_one_keeper(module: Path) -> None:
    name = str(module.relative_to(ROOT))
    for imported in imports(module):
        top = imported.split(".")[0]
        assert top not in KEEPERS or name in KEEPERS[top], f"{name} must not import {top}"
        if room(module) == "model":
            assert top == "appliance" or top in sys.stdlib_module_names
