"""A rule that asks for the digest of the running file: its events wait for it, the books close."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.receivers import wait_until

pytestmark = pytest.mark.kernel

COUNT = 20


def test_each_of_many_short_programs_is_known_by_its_content(tmp_path: Path) -> None:
    expected = {}
    for n in range(COUNT):
        path = tmp_path / f"t-sum-{n}"
        shutil.copy("/bin/true", path)
        with path.open("ab") as file:
            file.write(bytes([n]))
        expected[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "- rule: A known program\n  desc: d\n  priority: NOTICE\n  output: o\n"
        f"  condition: evt.type = execve and proc.exe_sha256 = {expected['t-sum-7']}\n"
        "- rule: A program\n  desc: d\n  priority: INFO\n  output: ran %proc.name %proc.exe_sha256\n"
        "  condition: evt.type = execve and evt.failed = false and proc.name startswith t-sum-\n"
    )
    with Daemon(tmp_path, {"rule_matching": "all", "containers": {"wait_ms": 60_000}}, rules=[rules]) as daemon:
        for name in expected:
            subprocess.run([tmp_path / name], check=True)
        wait_until(lambda: len(daemon.alerts("A program")) >= COUNT, "alerts", 120)
        wait_until(lambda: bool(daemon.alerts("A known program")), "the known one", 120)
        told = [a["output_fields"] for a in daemon.alerts("A program")]
    assert {f["proc.name"]: f["proc.exe_sha256"] for f in told} == expected
    assert len(told) == COUNT and len(daemon.alerts("A known program")) == 1
    assert daemon.summary_number("lost") == 0
    assert "unaccounted for" not in daemon.errors()
