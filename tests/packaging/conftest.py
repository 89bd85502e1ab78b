"""What is shipped, built once for all the tests of it, and Debian trees to install it into."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import appliance
from tests.support.tree import Tree
from tests.support.vm import disk

ROOT = Path(__file__).resolve().parents[2]
collect_ignore = [] if "TERCEL_RELEASES" in os.environ else ["test_upgrade.py"]  # for every night, too
if "TERCEL_UBUNTU" not in os.environ:
    collect_ignore.append("test_ubuntu.py")
RELEASES = os.environ.get("TERCEL_RELEASES", "bookworm").split()
"""Debian's releases to install on. More than one takes an image of each: `make test-releases`, for every night."""


def build(*what: str, umask: int = 0o022) -> None:
    """As the Makefile does it."""
    done = subprocess.run(
        [sys.executable, "packaging/dist.py", *what], cwd=ROOT, capture_output=True, text=True, umask=umask
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def command_works(tree: Tree) -> None:
    """What is installed answers with this version and takes its configuration, by root and by the daemon's user."""
    assert f"tercel {appliance.__version__} " in tree.run("tercel", "version").stdout
    for who in ((), ("setpriv", "--reuid=tercel", "--regid=tercel", "--clear-groups")):
        checked = tree.run(*who, "tercel", "check").stderr
        assert "configuration /etc/tercel/tercel.yaml" in checked
        assert "0 errors, 0 warnings" in checked
        tree.run(*who, "tercel", "run", "--dry-run")


@pytest.fixture(scope="session")
def wheelhouse() -> Path:
    """What `make dist` leaves, as docs/installing.md and docs/fleet.md say it."""
    subprocess.run(["make", "dist"], cwd=ROOT, check=True)
    return ROOT / "dist/wheelhouse"


@pytest.fixture(scope="session")
def debs(wheelhouse: Path) -> dict[str, Path]:
    """What `make deb` leaves, by architecture."""
    for architecture in ([], ["ARCH=arm64"]):
        subprocess.run(["make", "deb", *architecture], cwd=ROOT, check=True)
    return {name: ROOT / f"dist/tercel_{appliance.__version__}_{name}.deb" for name in ("amd64", "arm64")}


@pytest.fixture(scope="module", params=RELEASES)
def tree(request: pytest.FixtureRequest) -> Iterator[Tree]:
    """A Debian of each release."""
    with Tree(disk(request.param, request.param).image) as tree:
        yield tree
