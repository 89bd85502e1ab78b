"""`make dist`: what it leaves, twice the same, and that a Debian without a network lives on it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import appliance
from tests.support.tree import Tree
from tests.support.vm import disk

ROOT = Path(__file__).resolve().parents[2]
WHEELHOUSE = ROOT / "dist/wheelhouse"


def make(umask: int) -> dict[str, str]:
    """`make dist`, as the Makefile runs it. Each file's digest."""
    done = subprocess.run(
        [sys.executable, "packaging/dist.py", "wheelhouse"], cwd=ROOT, capture_output=True, text=True, umask=umask
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in WHEELHOUSE.iterdir()}


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return make(0o022)


@pytest.fixture(scope="module")
def tree() -> Iterator[Tree]:
    with Tree(disk().image) as tree:
        yield tree


def test_what_it_leaves(made: dict[str, str]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version == appliance.__version__
    ours = f"tercel-{version}-py3-none-any.whl"
    others = {tuple(re.findall(r"-(cp\d+)-manylinux.*_(x86_64|aarch64)[.]whl", name)) for name in made}
    assert {name.partition("-")[0] for name in made} == {"tercel", "google_re2", "SHA256SUMS"}
    assert ours in made
    assert others - {()} == {((f"cp3{n}", machine),) for n in (11, 12, 13) for machine in ("x86_64", "aarch64")}
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=WHEELHOUSE, check=True)
    assert len((WHEELHOUSE / "SHA256SUMS").read_text().splitlines()) == len(made) - 1


def test_made_again_it_is_the_same(made: dict[str, str]) -> None:
    """Whoever makes it, and whenever: times are the commit's, modes are no umask's."""
    assert make(0o077) == made


def test_it_is_all_that_a_machine_without_a_network_needs(made: dict[str, str], tree: Tree) -> None:
    """As the role does it: an environment on Debian's Python, which brings all else."""
    shutil.copytree(WHEELHOUSE, tree.root / "root/wheelhouse")
    release = f"/opt/tercel/releases/{appliance.__version__}"
    tree.run("/usr/bin/python3", "-m", "venv", "--system-site-packages", release)
    wanted = ("--no-index", "--find-links", "/root/wheelhouse", f"tercel=={appliance.__version__}")
    tree.run(f"{release}/bin/pip", "install", *wanted)
    installed = tree.run(f"{release}/bin/pip", "list", "--local", "--format=freeze").stdout.split()
    assert {name.partition("=")[0] for name in installed} - {"pip", "setuptools"} == {"tercel", "google-re2"}
    assert appliance.__version__ in tree.run(f"{release}/bin/tercel", "version").stdout
    checked = tree.run(f"{release}/bin/tercel", "check").stderr
    assert f"configuration {release}/share/tercel/tercel.yaml" in checked
    assert "0 errors, 0 warnings" in checked
    tree.run(f"{release}/bin/tercel", "run", "--dry-run")


def test_its_configuration_for_services_holds_where_the_role_puts_it(made: dict[str, str], tree: Tree) -> None:
    release = f"/opt/tercel/releases/{appliance.__version__}"
    etc, share = tree.root / "etc/tercel", tree.root / release[1:] / "share/tercel"
    for folder in (etc, etc / "rules.d", etc / "config.d"):
        folder.mkdir()
    for file in (*(share / "rules").iterdir(), share / "etc/tercel.yaml"):
        shutil.copy(file, etc)
    checked = tree.run(f"{release}/bin/tercel", "check").stderr
    assert "configuration /etc/tercel/tercel.yaml" in checked
    assert "0 errors, 0 warnings" in checked


def test_a_wheel_that_is_not_what_it_should_be_is_fetched_again(made: dict[str, str]) -> None:
    spoiled = next(WHEELHOUSE.glob("google_re2-*cp312*aarch64.whl"))
    spoiled.write_bytes(b"something else")
    os.utime(spoiled, (0, 0))
    assert make(0o022) == made
