"""What the role `tercel_hub` does: what it refuses, installs, leaves alone at a second run, and takes away."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.roles.conftest import ALONE, NO_SUDO_HERE, ROOT, Controller, message
from tests.support.tree import Tree

pytestmark = pytest.mark.kernel

PAGE = (ROOT / "docs/fleet.md").read_text()


def of_the_page() -> dict[str, Any]:
    """What the example of docs/fleet.md says of its hub."""
    (text,) = re.findall(r"^```yaml\n(# fleet-with-hub/inventory.yml\n.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    variables: dict[str, Any] = yaml.safe_load(text)["all"]["children"]["hub"]["vars"]
    return variables | {"vault_hub_token": "0123456789abcdef0123456789abcdef"}


@pytest.fixture(scope="module")
def libraries(artifact: Path) -> Path:
    """What `make dist-hub` leaves, for this interpreter and machine."""
    argv = [sys.executable, "packaging/dist.py", "hub", "311", "x86_64"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return ROOT / "dist/wheelhouse-hub"


def inventory(file: Path, tree: Tree, **variables: object) -> Path:
    """An inventory with one hub, a tree."""
    hosts = {"hub1": {"tree_path": str(tree.root), "ansible_become": False}}
    file.write_text(json.dumps({"hub": {"vars": ALONE | NO_SUDO_HERE | variables, "hosts": hosts}}))
    return file


def ours(tree: Tree) -> set[str]:
    return {path for path in tree.files() if "tercel" in path}


def test_from_nothing_to_nothing(
    controller: Controller, grow: Callable[[], Tree], libraries: Path, tmp_path: Path
) -> None:
    tree = grow()
    nothing = ours(tree)
    assert "ansible-playbook -i fleet/inventory.yml playbooks/hub.yml" in PAGE
    example = of_the_page() | {"tercel_hub_manage_service": False}
    example["tercel_hub_tls_names"].append("192.0.2.7")
    example["tercel_hub_config"]["page"]["port"] = 8443
    hosts = inventory(tmp_path / "hosts.json", tree, **example)

    played = controller.play("hub", hosts, "--check")
    assert played.status == 0 and "would be made of tercel-" in message(played), played.out[-3000:]
    assert ours(tree) == nothing

    played = controller.play("hub", hosts)
    assert played.status == 0, played.out[-4000:]
    assert "0123456789abcdef" not in played.out
    folder = tree.root / "etc/systemd/system"
    assert "ListenStream=0.0.0.0:2801" in (folder / "tercel-hub.socket.d/50-ansible.conf").read_text()
    assert "ListenStream=0.0.0.0:8443" in (folder / "tercel-hub-page.socket.d/50-ansible.conf").read_text()
    credentials = "CREDENTIALS_DIRECTORY=/etc/tercel-hub/credentials"
    tree.run("env", credentials, "tercel-hub", "check")
    tree.run(
        "systemd-analyze", "verify", "--man=no", *(f"/usr/lib/systemd/system/tercel-hub{u}" for u in (".service",))
    )
    names = tree.run(
        "openssl", "x509", "-in", "/etc/tercel-hub/credentials/hub-cert", "-noout", "-ext", "subjectAltName"
    )
    assert "DNS:hub.example.org, IP Address:192.0.2.7" in names.stdout
    tree.run("openssl", "verify", "-CAfile", "/etc/tercel-hub/ca/ca.pem", "/etc/tercel-hub/credentials/hub-cert")
    added = tree.run("env", credentials, "tercel-hub", "user", "add", "ann", "--role", "admin", "--one-time")
    assert "one-time" in added.stdout
    modes = tree.files()
    assert modes["/etc/tercel-hub/credentials"][0] == 0o700 and modes["/etc/tercel-hub/credentials/hub-key"][0] == 0o600

    played = controller.play("hub", hosts)
    assert (played.status, played.recap["hub1"]["changed"]) == (0, 0), played.out[-4000:]

    # what is wrong replaces nothing
    before = (tree.root / "etc/tercel-hub/tercel-hub.yaml").read_text()
    example["tercel_hub_config"]["outputz"] = {}
    wrong = inventory(tmp_path / "wrong.json", tree, **example)
    played = controller.play("hub", wrong)
    assert played.status != 0 and "outputz" in message(played)
    assert (tree.root / "etc/tercel-hub/tercel-hub.yaml").read_text() == before

    # what is yours stays; then nothing does
    gone = {"tercel_hub_state": "absent"}
    assert controller.play("hub", hosts, **gone).status == 0
    assert {"/etc/tercel-hub/tercel-hub.yaml", "/var/lib/tercel-hub"} <= ours(tree)
    assert not (tree.root / "opt/tercel-hub").exists()
    assert controller.play("hub", hosts, **gone, tercel_hub_purge=True).status == 0
    assert ours(tree) == nothing


def test_what_is_refused(controller: Controller, bare: Tree, tmp_path: Path) -> None:
    variables = of_the_page() | {"tercel_hub_manage_service": True, "tercel_hub_credentials": []}
    variables |= {"tercel_hub_artifact": str(tmp_path), "tercel_hub_libraries": str(tmp_path)}
    before = ours(bare)
    played = controller.play("hub", inventory(tmp_path / "hosts.json", bare, **variables))
    told = message(played)
    assert played.status != 0 and "refused, and nothing was changed" in told
    for part in ("run `make dist`", "run `make dist-hub`", "does not have: fleet-token", "systemd does not run there"):
        assert part in told, json.dumps(told)
    assert ours(bare) == before
