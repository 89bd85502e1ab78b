"""Where an opened file lies, links followed, as the kernel knows it: told where a rule asks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.engine.needs import needs_of
from appliance.lang.load import load_rules
from appliance.model.event import Event, EventType
from tests.support.capture import Capture
from tests.support.rules import value


@pytest.fixture(scope="module")
def capture() -> Iterator[Capture]:
    with Capture(real=True) as capture:
        yield capture


def opened(events: list[Event], name: str) -> Event:
    return next(e for e in events if e.fd.name == name and e.type in (EventType.OPEN, EventType.OPENAT))


@pytest.mark.kernel
def test_a_link_does_not_hide_what_is_read(capture: Capture, tmp_path: Path) -> None:
    """`/tmp/link` leads to a file, a folder's link to its folder, `..` behind a link to the folder above its end."""
    (tmp_path / "innocent").symlink_to("/etc/shadow")
    (tmp_path / "folder").symlink_to("/etc")
    names = [f"{tmp_path}/innocent", f"{tmp_path}/folder/passwd", "/etc/hostname", f"{tmp_path}/missing"]
    code = "import os, sys\nfor n in sys.argv[1:]:\n    try: os.open(n, os.O_RDONLY)\n    except OSError: pass\n"
    pid, events = capture.run([sys.executable, "-S", "-E", "-c", code, *names])
    mine = [e for e in events if e.process.pid == pid]
    found = [(value(opened(mine, n), "fd.realpath"), value(opened(mine, n), "fd.is_elsewhere")) for n in names]
    assert found == [("/etc/shadow", True), ("/etc/passwd", True), ("/etc/hostname", False), (None, None)]


@pytest.mark.kernel
def test_nothing_is_told_where_no_rule_asks(tmp_path: Path) -> None:
    (tmp_path / "innocent").symlink_to("/etc/hostname")
    with Capture(types={EventType.OPEN, EventType.OPENAT}) as capture:
        pid, events = capture.run(["cat", tmp_path / "innocent"])
        mine = [e for e in events if e.process.pid == pid]
        assert value(opened(mine, f"{tmp_path}/innocent"), "fd.realpath") is None


@pytest.mark.parametrize(
    ("condition", "output", "asks"),
    [
        ("evt.type = openat and fd.realpath = /etc/shadow", "o", True),
        ("evt.type = openat and basename(fd.realpath) in (shadow)", "o", True),
        ("evt.type = openat and proc.name != val(fd.realpath)", "o", True),
        ("evt.type = openat and fd.name = /etc/shadow", "at %fd.realpath", True),
        ("evt.type = openat and fd.name = /etc/shadow", "at %fd.name", False),
    ],
)
def test_which_rules_ask(condition: str, output: str, asks: bool, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    rule = {"rule": "r", "desc": "d", "condition": condition, "output": output, "priority": "INFO"}
    file.write_text(json.dumps([rule]))
    assert needs_of(load_rules([file]).rules).real_paths is asks
