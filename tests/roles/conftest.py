"""Plays as people run them, against trees of Debian with the running kernel.

A tree has no systemd, so nothing is started there by a role (`tercel_manage_service: false`); where a claim is about a
running daemon, the test starts the tree's own. Units, restarts and reboots are Molecule's matter.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.tree import Tree
from tests.support.vm import disk

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
ALONE = {
    "ansible_connection": "tree", "tree_kernel": True, "ansible_become": False, "tercel_manage_service": False,
    "ansible_python_interpreter": "/usr/bin/python3",
}  # fmt: skip
NO_SUDO_HERE = {"ansible_become": True, "ansible_become_user": "daemon", "ansible_become_exe": "/bin/false"}
"""As many inventories say it for all: it is for the hosts, and nothing that a role does on the controller needs it."""
RULE = "- {rule: Marker, desc: d, condition: 'evt.type = openat and fd.name = /m', output: o, priority: INFO}\n"
CASE = """- rule: Marker
  cases:
    - name: it is opened
      fires: true
      event: {type: openat, res: 3, process: {pid: 7, name: cat}, fd: {name: /m, typechar: f}}
"""
"""A rule of somebody's own, and a case for it that passes."""


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a play. `recap` is host -> counts."""

    status: int
    out: str

    @property
    def recap(self) -> dict[str, dict[str, int]]:
        rows = re.findall(r"^(\S+)\s+: (ok=.*)$", self.out, re.MULTILINE)
        return {host: {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", counts)} for host, counts in rows}


class Controller:
    """Runs Ansible's commands as from the checkout, with the test's own home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")},
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_HOME": str(folder / "ansible"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PIPELINING": "1",  # as ansible.cfg says for ssh
            "ANSIBLE_CONNECTION_PLUGINS": str(ROOT / "tests/roles/connection_plugins"),
        }

    def run(self, *argv: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> Played:
        """Run a command; its status and all it said."""
        done = subprocess.run(
            [str(a) for a in argv], cwd=cwd, env={**self.environment, **(env or {})}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
        )  # fmt: skip
        return Played(done.returncode, done.stdout)

    def play(self, playbook: str, inventory: Path, *argv: str, **variables: Any) -> Played:
        """Run a playbook of ours."""
        extra = ["--extra-vars", json.dumps(variables)] if variables else []
        return self.run("ansible-playbook", "-i", inventory, f"playbooks/{playbook}.yml", *argv, *extra)


@pytest.fixture(scope="session")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Controller:
    return Controller(tmp_path_factory.mktemp("controller"))


@pytest.fixture(scope="session")
def artifact() -> Path:
    """What `make dist` leaves."""
    done = subprocess.run(
        [sys.executable, "packaging/dist.py", "wheelhouse"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return ROOT / "dist/wheelhouse"


@pytest.fixture(scope="session")
def grow() -> Iterator[Callable[[], Tree]]:
    """Makes trees, and takes them away at the end."""
    trees: list[Tree] = []

    def make() -> Tree:
        tree = Tree(disk().image)
        tree.__enter__()
        trees.append(tree)
        return tree

    yield make
    for tree in trees:
        tree.__exit__(None, None, None)


def inventory(file: Path, hosts: dict[str, Tree], **variables: Any) -> Path:
    """An inventory of trees."""
    told = {name: {"tree_path": str(tree.root), "ansible_become": False} for name, tree in hosts.items()}
    file.write_text(json.dumps({"all": {"vars": ALONE | NO_SUDO_HERE | variables, "hosts": told}}))
    return file


def message(played: Played) -> str:
    """What a play said, as one line."""
    return " ".join(played.out.split())


def ours(tree: Tree) -> set[str]:
    """Files of a tree that a role may have put there."""
    return {path for path in tree.files() if re.search(r"tercel|/opt/", path)}


@pytest.fixture(scope="session")
def bare(grow: Callable[[], Tree], artifact: Path) -> Tree:
    """A target on which nothing is ever installed."""
    return grow()
