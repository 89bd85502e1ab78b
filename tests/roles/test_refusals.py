"""What cannot work is refused before anything on a target is changed, and the task's message says why."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.roles.conftest import CASE, ROOT, RULE, Controller, inventory, message, ours
from tests.support.tree import Tree

pytestmark = pytest.mark.kernel

Edit = Callable[[Path], dict[str, Any]]


def _tampered(folder: Path) -> dict[str, Any]:
    copy = folder / "wheelhouse"
    shutil.copytree(ROOT / "dist/wheelhouse", copy)
    with next(copy.glob("tercel-*.whl")).open("ab") as wheel:
        wheel.write(b"x")
    return {"tercel_artifact": str(copy)}


def _rules(rule: str, case: str = "") -> Edit:
    """Local rules for all hosts, and a case of theirs."""

    def edit(folder: Path) -> dict[str, Any]:
        layer = folder / "rules/all"
        (layer / "cases").mkdir(parents=True)
        (layer / "mine.yaml").write_text(rule)
        if case:
            (layer / "cases/mine.yaml").write_text(case)
        return {"tercel_rules_local": str(folder / "rules")}

    return edit


READ = {"config_files": ["/etc/tercel/config.d"]}
REFUSALS: dict[str, tuple[Edit, str]] = {
    "no artifact": (lambda folder: {"tercel_artifact": str(folder)}, "holds no wheel of tercel: `make dist` makes it"),
    "another version": (lambda _: {"tercel_version": "9.9"}, "holds no wheel of tercel 9.9"),
    "damaged artifact": (_tampered, "FAILED"),
    "kernel without types": (lambda _: {"tree_kernel": False}, "tells no types (/sys/kernel/btf/vmlinux)"),
    "machine": (lambda _: {"tree_prefix": "setarch i686"}, "the machine is i686; supported are x86_64, aarch64"),
    "no space": (lambda _: {"tercel_free_mib": 99999999}, "has less than 99999999 MiB free"),
    "kernel without a ring buffer": (
        lambda _: {"__tercel_found": FOUND | {"ring_buffer": "Invalid argument"}},
        "kernel 5.10.0 makes no BPF ring buffer (Invalid argument): Linux 5.8 or newer is needed",
    ),
    "kernel that is locked": (
        lambda _: {"__tercel_found": FOUND | {"lockdown": True}},
        "the kernel is locked down for confidentiality",
    ),
    "rule with a mistake": (
        _rules(RULE.replace("fd.name", "fd.nmae")),
        "error[unknown-field]: no field is called `fd.nmae`",
    ),
    "rule that fails its test": (_rules(RULE, CASE.replace("true", "false")), "expected it not to fire, and it did"),
    "no systemd": (lambda _: {"tercel_manage_service": True}, "systemd does not run there"),
    "old Python": (
        lambda _: {"__tercel_found": FOUND | {"python": [3, 9], "system_name": "Debian GNU/Linux 11 (bullseye)"}},
        "Debian GNU/Linux 11 (bullseye) has Python 3.9; the daemon needs 3.11 or newer",
    ),
    "unknown key": (
        lambda _: {"tercel_config": READ | {"journald_outputs": {"enabled": True}}},
        "error[unknown-key]: there is no key `journald_outputs`",
    ),
    "value of another type": (
        lambda _: {"tercel_config": READ | {"journald_output": {"enabled": "perhaps"}}},
        "refused, and nothing was changed: tercel_config is wrong",
    ),
    "programs of 32 bits": (
        lambda _: {"__tercel_found": FOUND | {"bits": 32}},
        "its programs are of 32 bits under a kernel of 64: an installation of amd64 or arm64 is needed",
    ),
    "container": (
        lambda _: {"__tercel_found": FOUND | {"ring_buffer": "Operation not permitted"}},
        "install it on the host itself",
    ),
    "output with a mistake": (
        lambda _: {"tercel_outputs_config": {"htp_output": {}}},
        "nothing was changed: tercel_outputs_config is wrong",
    ),
    "credential that nobody gives": (
        lambda _: {"tercel_outputs_config": {"http_output": {"enabled": True, "url": "credential:hub"}}},
        "names credentials that tercel_outputs_credentials does not have: hub",
    ),
    "credential of no file": (
        lambda _: {
            "tercel_outputs_credentials": [{"name": "a", "src": "/no/a.pem"}, {"name": "b", "src": "files/b.pem"}]
        },
        "files of credentials that the controller does not have: /no/a.pem, b.pem",
    ),
    "outputs that nobody would read": (
        lambda _: {"tercel_config": {"journald_output": {"enabled": True}}},
        "tercel_config.config_files does not name /etc/tercel/config.d, so nobody would read",
    ),
    "unknown way": (
        lambda _: {"tercel_install_method": "snap"},
        "value of tercel_install_method must be one of: wheel, deb",
    ),
}
FOUND: dict[str, Any] = {
    "machine": "x86_64", "bits": 64,
    "like": ["debian"], "system_name": "Debian", "python": [3, 11], "kernel": "5.10.0", "uid": 0,
    "types": True, "ring_buffer": "", "lockdown": False, "systemd": True, "user": False, "package": "", "room_mib": {},
    "missing": [], "files": {"/opt/tercel/current": {"kind": "none"}}, "wrong_folders": [], "releases": [],
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSALS)
def test_what_cannot_work_is_refused_before_anything_is_changed(
    why: str, bare: Tree, controller: Controller, tmp_path: Path
) -> None:
    edit, expected = REFUSALS[why]
    before = ours(bare)
    played = controller.play("site", inventory(tmp_path / "hosts.json", {"here": bare}), **edit(tmp_path))
    assert played.status != 0 and expected in message(played), played.out[-3000:]
    assert played.recap["here"]["changed"] == 0
    assert ours(bare) == before
