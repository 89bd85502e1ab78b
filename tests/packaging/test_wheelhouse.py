"""`make dist`: what it leaves, twice the same, and that a Debian without a network lives on it."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import appliance
from tests.packaging.conftest import ROOT, build
from tests.support.tree import Tree

VERSION = appliance.__version__
RELEASE = f"/opt/tercel/releases/{VERSION}"


def digests(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def test_what_it_leaves(wheelhouse: Path) -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION
    names = {file.name for file in wheelhouse.iterdir()}
    assert {name.partition("-")[0] for name in names} == {"tercel", "google_re2", "hpack", "hyperframe", "SHA256SUMS"}
    assert f"tercel-{VERSION}-py3-none-any.whl" in names
    others = {tag for name in names for tag in re.findall(r"-(cp\d+)-manylinux.*_(x86_64|aarch64)[.]whl", name)}
    assert others == {(f"cp3{minor}", machine) for minor in (11, 12, 13) for machine in ("x86_64", "aarch64")}
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=wheelhouse, check=True)
    assert len((wheelhouse / "SHA256SUMS").read_text().splitlines()) == len(names) - 1


def test_made_again_it_is_the_same(wheelhouse: Path) -> None:
    """Whoever makes it, and whenever: times are the commit's, modes are no umask's. A spoiled wheel is fetched anew."""
    before = digests(wheelhouse)
    next(wheelhouse.glob("google_re2-*cp312*aarch64.whl")).write_bytes(b"something else")
    build("wheelhouse", umask=0o077)
    assert digests(wheelhouse) == before


def test_it_is_all_that_a_machine_without_a_network_needs(wheelhouse: Path, tree: Tree) -> None:
    """As the role does it: an environment on Debian's Python, which brings all else."""
    shutil.copytree(wheelhouse, tree.root / "root/wheelhouse")
    tree.run("/usr/bin/python3", "-m", "venv", "--system-site-packages", RELEASE)
    wanted = ("--no-index", "--find-links", "/root/wheelhouse", f"tercel=={VERSION}")
    tree.run(f"{RELEASE}/bin/pip", "install", *wanted)
    installed = tree.run(f"{RELEASE}/bin/pip", "list", "--local", "--format=freeze").stdout.split()
    assert {name.partition("=")[0] for name in installed} - {"pip", "setuptools", "hpack", "hyperframe"} == {
        "tercel",
        "google-re2",
    }
    assert f"tercel {VERSION} " in tree.run(f"{RELEASE}/bin/tercel", "version").stdout
    checked = tree.run(f"{RELEASE}/bin/tercel", "check").stderr
    assert f"configuration {RELEASE}/share/tercel/tercel.yaml" in checked
    assert "0 errors, 0 warnings" in checked
    tree.run(f"{RELEASE}/bin/tercel", "run", "--dry-run")


def test_its_configuration_for_services_holds_where_the_role_puts_it(wheelhouse: Path, tree: Tree) -> None:
    etc, share = tree.root / "etc/tercel", tree.root / RELEASE[1:] / "share/tercel"
    for folder in (etc, etc / "rules.d", etc / "config.d"):
        folder.mkdir()
    for file in (*(share / "rules").iterdir(), share / "etc/tercel.yaml"):
        shutil.copy(file, etc)
    checked = tree.run(f"{RELEASE}/bin/tercel", "check").stderr
    assert "configuration /etc/tercel/tercel.yaml" in checked
    assert "0 errors, 0 warnings" in checked
