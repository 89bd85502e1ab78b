"""The role installs the Debian package: refused before anything is there, installed, and then left as it is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import appliance
from tests.packaging.conftest import ROOT
from tests.support.tree import Tree

PLAY = """
- hosts: all
  gather_facts: false
  roles:
    - role: tercel
"""


def rebuilt(deb: Path, folder: Path) -> Path:
    """The same version, with one line more in its rules."""
    subprocess.run(["dpkg-deb", "--raw-extract", deb, folder / "parts"], check=True)
    with (folder / "parts/etc/tercel/tercel_rules.yaml").open("a") as rules:
        rules.write("# of another build\n")
    subprocess.run(["dpkg-deb", "--build", "-Zgzip", "-z1", folder / "parts", folder / deb.name], check=True)
    return folder / deb.name


def play(tree: Tree, deb: Path, folder: Path, *argv: str, **variables: object) -> tuple[str, dict[str, int]]:
    """Run the role. All that it said, and its account of the target."""
    (folder / "play.yml").write_text(PLAY)
    inventory = {"all": {"hosts": {"target": {
        "ansible_connection": "tree", "tree_path": str(tree.root), "tree_kernel": True,
        "ansible_python_interpreter": "/usr/bin/python3", "tercel_install_method": "deb", "tercel_artifact": str(deb),
        "tercel_manage_packages": False, "tercel_manage_service": False, **variables,
    }}}}  # fmt: skip
    (folder / "inventory.json").write_text(json.dumps(inventory))
    env = {
        **os.environ, "ANSIBLE_ROLES_PATH": str(ROOT / "roles"), "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_CONNECTION_PLUGINS": str(ROOT / "tests/roles/connection_plugins"), "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_LOCALHOST_WARNING": "false", "LC_ALL": "C.UTF-8", "ANSIBLE_HOME": str(folder / "ansible"),
    }  # fmt: skip
    argv = [
        Path(sys.executable).with_name("ansible-playbook"),
        "-i",
        folder / "inventory.json",
        folder / "play.yml",
        *argv,
    ]
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    recap = re.search(r"target +: .*", said)
    assert recap is not None, said
    return said, {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", recap[0])}


def test_the_role_installs_the_package(tree: Tree, debs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(debs["amd64"], tree.root / "root/tercel.deb")
    before = tree.files().keys()
    said, refused = play(tree, debs["amd64"], tmp_path, tercel_config={"journald_output": {"enabled": "perhaps"}})
    assert refused["failed"] == 1, said
    assert "nothing was changed: tercel_config is wrong" in said
    assert {name for name in tree.files().keys() - before if not name.startswith(("/root", "/tmp"))} == set()

    said, done = play(tree, debs["amd64"], tmp_path)
    assert done["failed"] == 0, said
    assert f"tercel {appliance.__version__} " in tree.run("tercel", "version").stdout
    checked = tree.run("tercel", "check").stderr
    assert "configuration /etc/tercel/tercel.yaml" in checked
    assert "0 errors" in checked
    assert (tree.root / "etc/tercel/rules.d").is_symlink()
    assert not list((tree.root / "var/cache").glob("tercel-*"))

    said, again = play(tree, debs["amd64"], tmp_path)
    assert (again["failed"], again["changed"]) == (0, 0), said

    # another build of the same version is another package: a look says so and does nothing, a run installs it
    other = rebuilt(debs["amd64"], tmp_path)
    rules = tree.root / "etc/tercel/tercel_rules.yaml"
    said, looked = play(tree, other, tmp_path, "--check", "--diff")
    assert looked["failed"] == 0 and "would be installed; " in said and "is there, but of another build" in said, said
    assert "of another build" not in rules.read_text()
    said, done = play(tree, other, tmp_path)
    assert done["failed"] == 0 and "of another build" in rules.read_text(), said

    tree.run("dpkg", "--install", "/root/tercel.deb")  # an upgrade by hand leaves the role's rules in force
    assert (tree.root / "etc/tercel/rules.d").is_symlink()
    said, _ = play(tree, debs["amd64"], tmp_path, "--check")  # and nobody knows what it was of
    assert "is there, but nobody kept which build" in said, said

    # taken away whichever way the inventory says: by dpkg, and a drop-in of somebody's own stays
    mine = tree.root / "etc/systemd/system/tercel.service.d/override.conf"
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("[Service]\nNice=5\n")
    said, gone = play(tree, debs["amd64"], tmp_path, tercel_state="absent", tercel_install_method="wheel")
    assert gone["failed"] == 0 and mine.exists(), said
    status = tree.run("dpkg-query", "--show", "--showformat=${db:Status-Status}", "tercel", check=False).stdout
    assert status in ("", "config-files") and not (tree.root / "usr/lib/tercel").exists(), said
    said, gone = play(tree, debs["amd64"], tmp_path, tercel_state="absent", tercel_install_method="wheel")
    assert (gone["failed"], gone["changed"]) == (0, 0), said
