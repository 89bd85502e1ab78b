"""`make dist`: what it leaves, twice the same, and that a Debian without a network lives on it."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import appliance
from tests.packaging.conftest import ROOT, build, command_works
from tests.support.tree import Tree

VERSION = appliance.__version__
PAGE = (ROOT / "docs/installing.md").read_text()


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


def test_by_hand_it_is_all_that_a_machine_without_a_network_needs(wheelhouse: Path, tree: Tree) -> None:
    """The commands of docs/installing.md, but that nothing is started: no systemd runs there."""
    (by_hand,) = re.findall(r"^```\n(apt install .*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    shutil.copytree(wheelhouse, tree.root / "root/wheelhouse")
    (tree.root / "root/by-hand").write_text("cd /root\n" + by_hand.replace("enable --now", "enable"))
    tree.run("bash", "-ex", "/root/by-hand")
    installed = tree.run("/opt/tercel/bin/pip", "list", "--local", "--format=freeze").stdout.split()
    assert {name.partition("=")[0] for name in installed} - {"pip", "setuptools", "hpack", "hyperframe"} == {
        "tercel",
        "google-re2",
    }
    command_works(tree)
    assert (tree.root / "etc/systemd/system/multi-user.target.wants/tercel.service").is_symlink()
    tree.run("systemd-analyze", "verify", "--man=no", "/usr/lib/systemd/system/tercel.service")
    assert "Tercel" in tree.run("journalctl", "--dump-catalog").stdout
    for place in ("/usr/local/share/man/man8/tercel.8", "/usr/share/bash-completion/completions/tercel"):
        assert (tree.root / place[1:]).is_file()


def test_without_a_configuration_the_shipped_one_counts(tree: Tree) -> None:
    (tree.root / "etc/tercel/tercel.yaml").unlink()
    checked = tree.run("tercel", "check").stderr
    assert "configuration /opt/tercel/share/tercel/tercel.yaml" in checked
    assert "0 errors, 0 warnings" in checked
