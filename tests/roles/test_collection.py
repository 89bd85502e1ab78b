"""The collection as such: its style, its interface, its package."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.roles.conftest import ROOT, Controller

ROLES = sorted(p.name for p in (ROOT / "roles").iterdir())
PLAYBOOKS = sorted(p.stem for p in (ROOT / "playbooks").glob("*.yml"))


def loaded(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


def test_the_linter_has_nothing_against_it(controller: Controller) -> None:
    done = controller.run("ansible-lint", "--offline", "--profile", "production", "--nocolor", "--strict")
    assert done.status == 0, done.out


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_playbooks_are_well_formed(controller: Controller, name: str) -> None:
    done = controller.run("ansible-playbook", "-i", "localhost,", f"playbooks/{name}.yml", "--syntax-check")
    assert done.status == 0, done.out


@pytest.mark.parametrize("role", ROLES)
def test_every_default_has_its_specification(role: str) -> None:
    specs = loaded(ROOT / "roles" / role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    defaults = loaded(ROOT / "roles" / role / "defaults/main.yml")
    assert {name: spec.get("default") for name, spec in specs.items()} == defaults
    for name, spec in specs.items():
        assert name.startswith(role) and spec["type"] and spec["description"], name


@pytest.mark.parametrize("role", ROLES)
def test_no_variable_is_read_that_is_not_specified(role: str) -> None:
    specified: set[str] = set()
    for other in ROLES:
        for entry in loaded(ROOT / "roles" / other / "meta/argument_specs.yml")["argument_specs"].values():
            specified |= set(entry["options"])
    for file in [p for p in (ROOT / "roles" / role).rglob("*") if p.suffix in (".yml", ".j2")]:
        text = re.sub(r"name: tercel\w*|role tercel\w*|system_\w+", "", file.read_text())
        for name in re.findall(r"(?<![\w/.-])(tercel_[a-z_]+)", text):
            assert name in specified or name in ROLES or name in ("tercel_rules.yaml",), f"{file}: {name}"


def test_it_is_built_and_installed_and_finds_its_roles(controller: Controller, tmp_path: Path) -> None:
    """By the commands of docs/fleet.md, but for where things lie."""
    page = (ROOT / "docs/fleet.md").read_text()
    build, install, play = re.findall(
        r"^ansible-(?:galaxy .*|playbook .* tercel[.]appliance[.].*)$", page, re.MULTILINE
    )
    checkout = tmp_path / "checkout"
    tracked = controller.run("git", "ls-files", "--cached", "--others", "--exclude-standard").out.splitlines()
    junk = (
        "fleet/inventory.yml",
        "group_vars/all.yml",
        "drift.json",
        "report.json",
        ".venv/x",
        "dist/x",
        "playbooks/files/key.pem",
    )
    for name in [*(name for name in tracked if (ROOT / name).is_file()), *junk]:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_bytes(b"" if name in junk else (ROOT / name).read_bytes())
    built = controller.run(*build.replace("--output-path dist", f"--output-path {tmp_path}").split(), cwd=checkout)
    assert built.status == 0, built.out
    (tar,) = tmp_path.glob("tercel-appliance-*.tar.gz")
    assert f" dist/{tar.name}" in install
    with tarfile.open(tar) as archive:
        names = archive.getnames()
        tops = {name.split("/")[0] for name in names}
    assert not {*junk} & {*names}
    shipped = [name for name in tracked if name.startswith(("roles/", "playbooks/", "docs/", "rules/", "meta/"))]
    assert not {name for name in shipped if (ROOT / name).is_file()} - {*names}
    assert tops == {
        "FILES.json", "MANIFEST.json", "ARCHITECTURE.md", "CHANGELOG.md", "README.md", "docs", "meta", "playbooks",
        "roles", "rules", "LICENSE", "LICENSES", "CONTRIBUTING.md",
    }  # fmt: skip
    there = {"ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections")}
    argv = install.replace("dist/", f"{tmp_path}/").split()
    done = controller.run(*argv, "--offline", "-p", tmp_path / "collections", cwd=tmp_path, env=there)
    assert done.status == 0, done.out
    for name in PLAYBOOKS:
        argv = play.replace("fleet/inventory.yml", "localhost,").replace(".site", f".{name}").split()
        done = controller.run(*argv, "--list-tasks", cwd=tmp_path, env=there)
        assert done.status == 0, done.out
        assert name in ("drift", "rollout") or "Preflight" in done.out or "Put it there" in done.out, done.out
    done = controller.run("ansible-doc", "-t", "role", "tercel.appliance.tercel_rules", cwd=tmp_path, env=there)
    assert done.status == 0 and "tercel_rules_window_s" in done.out, done.out
