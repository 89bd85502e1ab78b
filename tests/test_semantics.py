"""Our answers beside those recorded from the real engine: the same program, the same checks, a real kernel.

`falco-semantics.json` holds a selector, a check, and how often `(selector) and (check)` fired when `tprobe` ran once.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from appliance.lang.load import load_rules
from appliance.model.diagnostic import Severity
from appliance.model.event import Event
from tests.support.capture import Capture
from tests.support.rules import ruleset_of
from tests.support.shared import shared_falco

pytestmark = pytest.mark.kernel

PORT = 18765
PROBE, FOLDER = Path("/tmp/tprobe"), Path("/tmp/tpd")


def probe_events() -> list[Event]:
    """What state makes of one run of the probe."""
    start = "import subprocess, sys; subprocess.run(sys.argv[1:], check=True)"
    argv = ["/usr/bin/python3", "-c", start, PROBE, FOLDER, str(PORT), "arg with space", "UPPER"]
    with Capture() as capture:
        _, events = capture.run(argv, stdin=subprocess.DEVNULL, cwd="/", start_new_session=True)
    return [e for e in events if e.process.name == "tprobe"]


@pytest.fixture(scope="module")
def events() -> list[Event]:
    source = shared_falco() / "tprobe.c"
    lock = os.open("/tmp", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)  # the places are the probe's own: one run at a time, over what a killed one left
    try:
        shutil.rmtree(FOLDER, ignore_errors=True)
        subprocess.run(["cc", "-o", PROBE, source], check=True)
        (FOLDER / "sub").mkdir(parents=True)
        with socket.create_server(("127.0.0.1", PORT)):
            return probe_events()
    finally:
        PROBE.unlink(missing_ok=True)
        shutil.rmtree(FOLDER, ignore_errors=True)
        os.close(lock)


def answers(rows: list[dict[str, Any]], events: list[Event], file: Path) -> tuple[dict[int, int | str], dict[int, str]]:
    """Number of row -> how often it fired, or `invalid`; and why a row was refused."""
    found: dict[int, int | str] = {}
    why: dict[int, str] = {}
    for i, row in enumerate(rows):
        condition = f"({row['select']}) and ({row['check']})"
        text = {"rule": "r", "desc": "d", "condition": condition, "output": "o", "priority": "INFO"}
        file.write_text(json.dumps([text]))
        loaded = load_rules([file])
        errors = [d for d in loaded.diagnostics if d.severity is Severity.ERROR]
        if errors:
            found[i], why[i] = "invalid", errors[0].message
            continue
        rules = ruleset_of(loaded.rules)
        found[i] = sum(len(rules.match(e)) for e in events)
        assert not rules.errors
    return found, why


def test_our_answers_are_the_real_engines(events: list[Event], tmp_path: Path) -> None:
    rows = json.loads((shared_falco() / "falco-semantics.json").read_text())
    ours, why = answers(rows, events, tmp_path / "rules.yaml")
    assert not [
        f"{row['select']} | {row['check']}: {row['falco']}, ours {ours[i]} {why.get(i, '')}"
        for i, row in enumerate(rows)
        if ours[i] != row["falco"]
    ]
