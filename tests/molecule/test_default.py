"""The roles on a Debian 12 machine of its own, as `make molecule-default` runs them: from nothing to nothing.

What is claimed stands in `molecule/default/tasks`. It takes minutes without KVM: in CI (CI=true) it is a test,
elsewhere where TERCEL_MOLECULE names it (`TERCEL_MOLECULE=default pytest tests/molecule`, as `make nightly` does).
docs/testing.md says what came of the scenarios last. That Molecule can read each scenario, and that the page whose
commands it runs claims something of each, is tested always.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.reading import PAGE, blocks

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = os.environ.get("TERCEL_MOLECULE", "default" if os.environ.get("CI") == "true" else "").split()
PATIENCE_S = 2400

if SCENARIOS:

    @pytest.mark.molecule
    @pytest.mark.parametrize("scenario", SCENARIOS)
    def test_the_scenario(scenario: str, tmp_path: Path) -> None:
        bin_ = Path(sys.executable).parent
        env = {**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}", "NO_COLOR": "1"}
        env["TERCEL_VM_OWNER"] = str(os.getpid())  # a test that is killed leaves no machine behind
        subprocess.run([sys.executable, ROOT / "packaging/dist.py", "wheelhouse"], cwd=ROOT, check=True, timeout=600)
        log = tmp_path / "molecule.log"
        argv = [bin_ / "molecule", "test", "-s", scenario]
        with log.open("wb") as said:
            try:
                done = subprocess.run(
                    argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=PATIENCE_S
                )
            except subprocess.TimeoutExpired:
                subprocess.run([bin_ / "molecule", "destroy", "-s", scenario], cwd=ROOT, env=env, timeout=60)
                pytest.fail(log.read_text(errors="replace")[-20_000:])
        assert done.returncode == 0, log.read_text(errors="replace")[-20_000:]


@pytest.mark.parametrize("scenario", sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml")))
def test_molecule_reads_the_scenario(scenario: str, tmp_path: Path) -> None:
    """Its own settings, in which Molecule takes `$` for a variable's, and every playbook of it."""
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_COLOR": "1"}
    env["XDG_CACHE_HOME"] = env["HOME"] = str(tmp_path)
    argv = [Path(sys.executable).parent / "molecule", "syntax", "-s", scenario]
    done = subprocess.run(
        argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_on_reading_claims_something_of_each_of_its_commands() -> None:
    found = list(blocks(PAGE.read_text()))
    assert sum(block["kind"] == "shows" for block in found) > 20
    assert all(block["shows"] for block in found if block["kind"] == "shows")
    kinds = {(block["kind"], block["there"]) for block in found}
    assert kinds == {("shows", False), ("file", False), ("sends", False)} | {
        ("shows", True), ("file", True), ("receives", False)}  # fmt: skip
