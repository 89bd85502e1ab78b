"""The canary: an act of the appliance's own that must come through, and is told when it does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from appliance.config.settings import CanarySettings
from appliance.daemon.canary import LATE_RULE, Canary
from appliance.model.event import Event, EventType, Process
from tests.support.daemon import COMMAND, Daemon
from tests.support.receivers import wait_until

LOUD = """
- rule: Any folder
  desc: d
  condition: evt.type in (rmdir, unlinkat) and proc.name = rmdir
  output: "%proc.ppid %proc.cmdline"
  priority: INFO
- rule: Any start
  desc: d
  condition: evt.type = execve and proc.name = rmdir
  output: "%proc.ppid %proc.cmdline"
  priority: INFO
"""


def event(type_: EventType, path: str, ppid: int) -> Event:
    process = Process(pid=5, ppid=ppid, name="rmdir", exe="rmdir", args=(path,))
    raw = None if type_ is EventType.EXECVE else path
    return Event(type_, 1, 0, 0, 5, 0, (), process=process, path=raw, path_raw=raw)


def test_both_of_its_events_must_come_and_those_of_others_are_not_its_own() -> None:
    canary = Canary(CanarySettings(interval_s=600, patience_s=600))
    canary.start()
    wait_until(lambda: canary._path is not None, "the act")
    path = canary._path
    assert path is not None
    started, called = event(EventType.EXECVE, path, os.getpid()), event(EventType.RMDIR, path, os.getpid())
    assert canary.is_mine(started) and canary.is_mine(called)
    assert not canary.is_mine(event(EventType.RMDIR, "/proc/tercel-canary-0", os.getpid()))
    assert not canary.is_mine(event(EventType.EXECVE, path, 1))
    canary.saw(started)
    assert canary.health().seen == 0
    canary.saw(called)
    health = canary.health()
    assert (health.seen, health.late, health.trouble) == (1, 0, None)
    assert health.age_s is not None
    canary.stop()


def test_one_that_does_not_come_is_late_and_in_the_end_a_trouble() -> None:
    late: list[float] = []
    canary = Canary(CanarySettings(interval_s=0.1, patience_s=0.1))
    canary.start(late.append)
    wait_until(lambda: len(late) > 1 and canary.health().trouble is not None, "two late ones")
    canary.stop()
    assert canary.health().late >= 2
    assert "no canary has come through" in (canary.health().trouble or "")


@pytest.mark.kernel
def test_it_comes_through_the_real_path_and_no_rule_speaks_of_it(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(LOUD)
    socket = tmp_path / "control.sock"
    config = {"canary": {"interval_s": 0.2}, "control_socket": str(socket), "rule_matching": "all"}
    with Daemon(tmp_path, config, [rules]) as daemon:
        for _ in range(600):
            answer = subprocess.run(
                [COMMAND, "status", "--json", "--socket", socket], capture_output=True, text=True, check=False
            )
            canary = json.loads(answer.stdout)["events"]["canary"]
            if canary["seen"] >= 3:
                break
            time.sleep(0.1)
        assert canary["seen"] >= 3
        assert canary["trouble"] is None
        subprocess.run(["rmdir", tmp_path / "absent"], stderr=subprocess.DEVNULL, check=False)
        for rule in ("Any folder", "Any start"):
            daemon.wait_for(lambda a, rule=rule: a["rule"] == rule and a["output"].endswith("absent"))  # type: ignore[misc]
        mine = f"{daemon.pid} "
    assert not [a for a in daemon.alerts() if a["output"].startswith(mine)]


@pytest.mark.kernel
def test_one_whose_call_is_not_seen_is_told(tmp_path: Path) -> None:
    """A `rmdir` that removes nothing stands for whatever keeps a call from coming through."""
    shutil.copy("/bin/true", tmp_path / "rmdir")
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    with Daemon(tmp_path, {"canary": {"interval_s": 0.2, "patience_s": 0.2}}, env={"PATH": path}) as daemon:
        alert = daemon.wait_for(lambda a: a["rule"] == LATE_RULE)
    assert alert["priority"] == "Critical"
    assert "a canary is late" in daemon.errors()
