"""`tercel status` and `tercel top`: what a person sees of the running appliance."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from appliance.cli.status import duration, text_of
from appliance.cli.top import screen
from tests.support.daemon import COMMAND, ROOT, Daemon

SCHEMA = json.loads((ROOT / "schemas/status.schema.json").read_text())
HOSTILE = "evil\x1b[2J\n\u202e" + "x" * 300


def status(**changes: Any) -> dict[str, Any]:
    """An answer of the control socket, as if from a host of somebody who hates us."""
    made = {
        "healthy": False,
        "troubles": [f"sink {HOSTILE} is stuck"],
        "versions": {"tercel_version": "0.1.0"},
        "hostname": HOSTILE,
        "pid": 42,
        "time_ns": 1_700_000_010_000_000_000,
        "seconds": 93_784.5,
        "hooks": "raw tracepoints",
        "generation": {
            "number": 3, "made_ns": 1_700_000_000_000_000_000, "config": None, "rules_files": [HOSTILE], "warnings": 2,
            "rules_loaded": 30, "rules_enabled": 25,
            "config_sha256": "ab" * 32, "rules_sha256": "cd" * 32, "config_options": ["priority", HOSTILE],
        },
        "reloads": {"accepted": 2, "refused": 1, "last": {"accepted": True, "changes": ["1 rule added (A)"]}},
        "events": {
            "produced": 3_000_000, "judged": 2_999_000, "lost": 900, "undecodable": 1, "in_flight": 99, "compat": 7,
            "unfair": 200, "untold": 3, "last_loss_ns": 1_700_000_000_000_000_000,
            "canary": {"age_s": 3.2, "latency_ms": 1.4, "seen": 9, "late": 1},
            "by_type": {"openat": {"produced": 5000}, "close": {"produced": 10}},
        },
        "alerts": {
            "total": 7, "by_priority": {"error": 7}, "by_rule": {f"Rule {n}": n for n in range(40)},
            "errors": {HOSTILE: 1},
            "recent": [
                {"time_ns": 1_700_000_009_000_000_000, "priority": "Informational", "rule": HOSTILE, "output": HOSTILE}
            ] * 64,
        },
        "audit": {"where": HOSTILE, "taken": 5, "waiting": 1, "refused": 2, "lost": 3, "reasons": {HOSTILE: 3}},
        "state": {"processes": 100, "containers": 2, "missing": {"no such thing": 3}},
        "sinks": [
            {"name": HOSTILE, "where": "file", "delivered": 10**9, "lost": 5, "waiting": 3, "stuck_s": 60.0,
             "dead": 1, "trouble": HOSTILE, "spool": {"alerts": 2, "size_bytes": 3 << 19, "max_bytes": 256 << 20},
             "reasons": {"disk full": 5}}
        ] * 9,
        "process": {"rss_bytes": 200 << 20, "cpu_seconds": 12.5},
        "costs": [{"rule": f"Rule {n}", "ns": 1e9 / (n + 1), "share": 0.5, "events": 3} for n in range(9)],
        "hooks_cost": [{"hook": "sys_exit", "runs": 5000, "run_ns": 900_000}],
    }  # fmt: skip
    return made | changes


EARLIER = status(
    time_ns=1_700_000_008_000_000_000,
    events={"produced": 2_900_000, "lost": 0, "by_type": {"openat": {"produced": 1000}}},
    process={"rss_bytes": 1, "cpu_seconds": 11.5},
    hooks_cost=[{"hook": "sys_exit", "runs": 1000, "run_ns": 100_000}],
)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 23), (40, 10), (200, 60), (10, 3), (1, 1)])
def test_a_screen_fits_whatever_it_shows(width: int, height: int) -> None:
    lines = screen(status(), EARLIER, width, height)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    assert all(line.isprintable() for line in lines)


def test_a_screen_says_what_matters_on_eighty_columns() -> None:
    short = status(hostname="web1", troubles=["sink file_output is stuck"])
    text = "\n".join(screen(short, EARLIER, 80, 40))
    for wanted in (
        "web1: NOT WELL", "! sink file_output is stuck", "events 50,000/s of 3,000,000", "! lost 450/s of 900",
        "openat 2,000/s", "canary 3 s ago after 1.4 ms, 1 late", "cpu 50 %", "LATEST ALERTS",
        "hook   sys_exit 2,000/s, 200 ns each", "RULE", "SINK", "up 1 d 2 h",
    ):  # fmt: skip
        assert wanted in text, text


def test_a_screen_without_numbers() -> None:
    text = "\n".join(screen(status(events=None, alerts=None, state=None), EARLIER, 80, 24))
    assert "the loop does not answer" in text


def test_status_lines_are_lines() -> None:
    lines = list(text_of(status()))
    assert all(line.isprintable() for line in lines)
    assert any("produced 3000000" in line and "lost 900" in line for line in lines)
    assert any(line.startswith("  canary") and "1 LATE" in line for line in lines)
    assert any(
        line.startswith("  sink") and "5 disk full" in line and "spool 2, 1.5 of 256 MiB" in line for line in lines
    )
    assert any("200 unfair, 3 not told yet" in line for line in lines)
    assert any(
        line.startswith("  audit") and "judged 5, waiting 1, refused for now 2, lost 3" in line for line in lines
    )
    assert any(line.startswith("  rules") and line.endswith("(cdcdcdcdcdcd)") for line in lines)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.9, "59 s"), (61, "1 min 1 s"), (3600, "1 h"), (90_061, "1 d 1 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_nobody_answers(tmp_path: Path) -> None:
    for verb in ("status", "top", "reload"):
        done = subprocess.run(
            [COMMAND, verb, "--socket", tmp_path / "none"], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 1
        assert "no appliance answers" in done.stderr and "Traceback" not in done.stderr


# -- the real thing


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("status")
    rules = folder / "rules.yaml"
    rules.write_text(
        "- {rule: Any true, desc: d, condition: evt.type = execve and proc.name = true and"
        " proc.pname startswith tercel-, output: ran, priority: INFO}\n"
    )
    webhook = {"name": "k8saudit", "init_config": {}, "open_params": "http://127.0.0.1:0/k8s-audit"}
    nobody = {"enabled": True, "url": "http://127.0.0.1:9/"}  # so that a spool is there
    config = {"load_plugins": ["k8saudit"], "plugins": [webhook], "http_output": nobody}
    with Daemon(folder, config, rules=[rules], argv=["-o", "http_output.user_agent=secret"]) as daemon:
        yield daemon


@pytest.mark.kernel
def test_status_as_json_is_whole_and_its_books_close(daemon: Daemon) -> None:
    done = subprocess.run(
        [COMMAND, "status", "--json", "--socket", daemon.folder / "control.sock"], capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    events = told["events"]
    assert (
        events["produced"] + events["busy"]
        == events["judged"] + events["lost"] + events["undecodable"] + events["in_flight"]
    )
    assert told["pid"] == daemon.pid and told["healthy"] and told["troubles"] == []
    assert told["generation"]["rules_enabled"] == 1
    assert {sink["name"]: sink["spool"] is not None for sink in told["sinks"]} == {
        "file_output": False, "http_output": True,
    }  # fmt: skip
    files = ("config_files_sha256", daemon.folder / "tercel.yaml"), ("rules_files_sha256", daemon.folder / "rules.yaml")
    assert told["generation"]["config_options"] == ["http_output.user_agent"]
    assert b"secret" not in done.stdout
    for key, file in files:
        assert told["generation"][key] == {str(file): hashlib.sha256(file.read_bytes()).hexdigest()}
    jsonschema.Draft202012Validator(SCHEMA).validate(told)
    assert told["audit"] is not None and told["events"]["canary"] is not None, "or the schema was not asked"


class Terminal:
    """A command on a terminal of its own, 80 by 24."""

    def __init__(self, *argv: str | Path) -> None:
        self.master, slave = pty.openpty()
        self.before = termios.tcgetattr(slave)
        self.resize(80, 24)
        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        self.slave = slave
        self.text = ""

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", height, width, 0, 0))

    def read_until(self, pattern: str) -> None:
        deadline = time.monotonic() + 120
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, self.text
            self.text += os.read(self.master, 65536).decode(errors="replace")

    def read_until_frame(self, width: int, height: int) -> None:
        """Until a whole frame is no larger than this. Those that were drawn before may come first."""
        self.text = ""
        end = time.monotonic() + 120
        while True:
            self.read_until(r"(?s)\x1b\[H.*\x1b\[H")
            _, frame, rest = self.text.split("\x1b[H", 2)
            lines = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", frame).split("\r\n")
            if len(lines) <= height and all(len(line) <= width for line in lines):
                return
            assert time.monotonic() < end, frame
            self.text = f"\x1b[H{rest}"

    def press(self, key: str) -> None:
        self.text = ""
        os.write(self.master, key.encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.mark.kernel
def test_top_on_a_terminal(daemon: Daemon) -> None:
    terminal = Terminal(COMMAND, "top", "-d", "0.3", "--socket", daemon.folder / "control.sock")
    try:
        terminal.read_until(r"\x1b\[\?1049h.*Tercel [\d.]+ on .*: (well|NOT WELL)")
        terminal.read_until("q ends")
        terminal.press("p")
        terminal.read_until("paused")
        terminal.press("p")
        terminal.read_until("every 0.3 s")
        terminal.press("-")
        terminal.read_until("every 0.6 s")
        terminal.resize(60, 12)
        terminal.read_until_frame(60, 12)
        terminal.press("q")
        terminal.read_until(r"\x1b\[\?1049l")
        assert terminal.process.wait(120) == 0
        assert termios.tcgetattr(terminal.slave) == terminal.before, "the terminal is as it was"
    finally:
        terminal.close()


@pytest.mark.kernel
def test_top_gives_the_terminal_back_when_it_is_ended(daemon: Daemon) -> None:
    terminal = Terminal(COMMAND, "top", "--socket", daemon.folder / "control.sock")
    try:
        terminal.read_until("q ends")
        terminal.process.send_signal(signal.SIGTERM)
        terminal.read_until(r"\x1b\[\?1049l")
        terminal.process.wait(120)
        assert termios.tcgetattr(terminal.slave) == terminal.before
    finally:
        terminal.close()


@pytest.mark.kernel
def test_top_without_a_terminal_prints_once(daemon: Daemon) -> None:
    done = subprocess.run(
        [COMMAND, "top", "-d", "0.3", "--socket", daemon.folder / "control.sock"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "events" in done.stdout and "\x1b" not in done.stdout
