"""What is installed: the wheel holds all that the command needs, and the command works away from the checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of a wheel, in an environment of its own."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, tracked.stdout.split("\0")):
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, source], check=True)
    (wheel,) = folder.glob("tercel-*.whl")
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    subprocess.run([*pip, "--python", venv / "bin/python", "install", "--no-deps", wheel], check=True)
    return venv


def test_the_wheel_brings_schemas_rules_and_configuration(installed: Path) -> None:
    share = next(installed.rglob("share/tercel"))
    there = {str(p.relative_to(share)) for p in share.rglob("*") if p.is_file()}
    assert there == {
        "tercel.yaml", "tercel-hub.yaml", "schemas/hub.schema.json",
        "schemas/config.schema.json", "schemas/alert.schema.json", "schemas/event.schema.json",
        "schemas/status.schema.json",
        "rules/tercel_rules.yaml",
        "rules/tercel_attack_rules.yaml",
        "rules/tercel_rules.local.yaml",
        "rules/k8s_audit_rules.yaml",
        *(f"systemd/tercel-hub{kind}" for kind in (".service", ".socket", "-page.socket")),
        *(f"systemd/tercel.{kind}" for kind in ("service", "catalog", "sysusers.conf", "tmpfiles.conf")),
        "etc/tercel.yaml",
        "doc/CHANGELOG.md",
        *(f"doc/{p.name}" for p in (ROOT / "docs").glob("*.md")),
        *(f"man/{p.name}" for p in (ROOT / "docs/man").iterdir()),
        *(f"completions/{name}" for name in ("tercel.bash", "_tercel", "tercel.fish")),
    }  # fmt: skip
    headers = list(installed.rglob("kernel/bpf/**/*.h"))
    assert {p.name for p in headers} == {p.name for p in (ROOT / "appliance/kernel/bpf").rglob("*.h")}
    assert len(list(installed.rglob("kernel/bpf/*.c"))) == len(list((ROOT / "appliance/kernel/bpf").glob("*.c")))


def test_the_command_finds_them(installed: Path, tmp_path: Path) -> None:
    # ours, without the checkout itself: a .pth file is not read there
    libraries = ":".join(dict.fromkeys(str(Path(str(m.__file__)).parents[1]) for m in (jsonschema, yaml)))
    done = subprocess.run(
        [installed / "bin/tercel", "check"],
        cwd=tmp_path,
        env={"PYTHONPATH": libraries},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"configuration {installed}/share/tercel/tercel.yaml" in done.stderr
    assert "0 errors" in done.stderr
