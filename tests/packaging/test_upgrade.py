"""The release before this one, this one, and back: what waits for a receiver waits on, and nothing is lost.

By package, into a tree, on this machine's kernel; `molecule/upgrade` does it under systemd, and by wheels. The release
before is the commit that TERCEL_PREVIOUS names, else this checkout under a lower version with one rule more
(tests/support/previous.py): as long as nothing is released there is no other. Runs by `make test-releases`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import appliance
from tests.support import previous
from tests.support.receivers import http_receiver, wait_until
from tests.support.tree import Tree

PATIENCE_S = 120
RUN = """
set -e
for name in proc sys dev; do mount --rbind /$name "$1/$name"; done
exec chroot "$1" tercel run
"""
CONFIG = """
stdout_output: {{enabled: true}}
journald_output: {{enabled: false}}
http_output: {{enabled: true, url: "{url}"}}
"""


@contextmanager
def daemon(tree: Tree, log: Path) -> Iterator[None]:
    """The tree's own daemon, armed; at the end it ends as it should."""
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", RUN, "sh", tree.root]
    with log.open("wb") as said:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: "armed" in log.read_text() or process.poll() is not None, "armed", PATIENCE_S)
        assert process.poll() is None, log.read_text()
        yield
        process.terminate()
        assert process.wait(PATIENCE_S) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.mark.kernel
def test_alerts_outlive_an_upgrade_and_a_downgrade(debs: dict[str, Path], tree: Tree, tmp_path: Path) -> None:
    previous.make(tmp_path / "previous", os.environ.get("TERCEL_PREVIOUS", ""), artifacts=["deb"])
    before, this = tmp_path / f"previous/tercel_{previous.VERSION}_amd64.deb", debs["amd64"]
    (tree.root / "etc/tercel/config.d").mkdir(parents=True)
    with http_receiver() as receiver:
        receiver.answers = [503] * 100_000
        (tree.root / "etc/tercel/config.d/test.yaml").write_text(CONFIG.format(url=receiver.url))
        for step, (deb, version) in enumerate(
            [(before, previous.VERSION), (this, appliance.__version__), (before, previous.VERSION)], start=7001
        ):
            shutil.copy(deb, tree.root / "root/tercel.deb")
            tree.run("dpkg", "--install", "/root/tercel.deb")
            assert f"tercel {version} " in tree.run("tercel", "version").stdout
            rules = (tree.root / "etc/tercel/tercel_rules.yaml").read_text()
            assert ("Of the release before" in rules) == (deb is before)
            log = tmp_path / f"{step}.log"
            with daemon(tree, log):
                subprocess.run(["head", "-n", str(step), "/etc/shadow"], check=True, stdout=subprocess.DEVNULL)
                caused = f"command=head -n {step} /etc/shadow"
                wait_until(lambda caused=caused, log=log: caused in log.read_text(), caused, PATIENCE_S)
                if step == 7003:
                    receiver.answers.clear()
                    last = caused.encode()
                    wait_until(lambda last=last: last in b"\n".join(receiver.bodies), "the third alert", PATIENCE_S)
            account = re.findall(r"http_output: delivered (\d+), lost (\d+)", log.read_text())
            assert account and account[0][1] == "0", log.read_text()
        taken = re.findall(r"command=head -n (700\d) /etc/shadow", b"\n".join(receiver.bodies).decode())
    assert list(dict.fromkeys(taken)) == ["7001", "7002", "7003"]
    assert not list((tree.root / "var/lib/tercel").rglob("dead.jsonl*"))
