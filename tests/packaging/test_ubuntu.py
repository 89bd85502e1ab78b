"""What the role asks Ubuntu's apt for is there under those names, and the package's dependencies can be had.

Nothing is installed: apt, in a folder of its own and with nothing installed, says what it would do. `TERCEL_UBUNTU` is
the address of an archive of Ubuntu's, which is trusted without its key, as Debian does not ship it; then it runs by
`make test-releases`.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.packaging.conftest import ROOT

ARCHIVE = os.environ["TERCEL_UBUNTU"]


class Apt:
    """apt of another release, without a machine of it."""

    def __init__(self, folder: Path, suite: str) -> None:
        for name in ("apt.conf.d", "preferences.d", "sources.list.d"):
            (folder / "etc/apt" / name).mkdir(parents=True)
        for name in ("lib/apt/lists/partial", "cache/apt/archives/partial", "lib/dpkg"):
            (folder / "var" / name).mkdir(parents=True)
        (folder / "var/lib/dpkg/status").touch()
        (folder / "etc/apt/sources.list").write_text(
            "".join(f"deb [trusted=yes] {ARCHIVE} {name} main universe\n" for name in (suite, f"{suite}-updates"))
        )
        self._options = [f"--option=Dir={folder}", f"--option=Dir::State::status={folder}/var/lib/dpkg/status",
                         "--option=APT::Architecture=amd64", "--option=APT::Architectures::=amd64",
                         "--option=Acquire::Languages=none", "--option=APT::Sandbox::User="]  # fmt: skip

    def get(self, *argv: str | Path) -> str:
        """apt-get(8); what it said."""
        done = subprocess.run(["apt-get", *self._options, *argv], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    def would_install(self, *what: str | Path) -> dict[str, str]:
        """Packages that an installation would bring -> their versions."""
        said = self.get("--simulate", "--no-install-recommends", "install", *what)
        return dict(re.findall(r"(?m)^Inst (\S+) \((\S+) ", said))


@pytest.mark.parametrize("suite", ["noble"])
def test_ubuntu_has_what_we_ask_for(suite: str, debs: dict[str, Path], tmp_path: Path) -> None:
    apt = Apt(tmp_path / "apt", suite)
    apt.get("update")
    named = yaml.safe_load((ROOT / "roles/tercel/vars/main.yml").read_text())["__tercel_packages"]
    assert set(named) <= apt.would_install(*named).keys()

    brought = apt.would_install(debs["amd64"])
    assert set(named) - {"python3-venv"} | {"tercel"} <= brought.keys()
    assert brought["python3"].startswith(("3.11", "3.12", "3.13")), brought["python3"]
