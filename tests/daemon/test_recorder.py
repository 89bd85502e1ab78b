"""Recordings: what was judged around an alert, judged again to the same alerts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from appliance.config.settings import Capture, Config
from appliance.daemon.generation import Generation, build_generation
from appliance.daemon.recorder import Recorded, Recorder
from appliance.lang.load import load_texts
from appliance.model.event import Event, EventType
from appliance.model.rule import Rule
from appliance.sources.replay import read_events, read_head
from tests.support.daemon import COMMAND, Daemon
from tests.support.receivers import wait_until
from tests.support.threads import no_threads

RULES = """
- rule: Marked program
  desc: d
  condition: evt.type in (execve, execveat) and proc.name startswith tercel-mark and proc.args contains PLACE
  output: ran %proc.cmdline (parent=%proc.pname ancestors=%proc.aname user=%user.name cwd=%proc.cwd time=%evt.time)
  priority: WARNING
- rule: Marked file
  desc: d
  condition: evt.type in (mkdir, mkdirat) and fs.path.name startswith PLACE/data
  output: made %fs.path.name by %proc.cmdline of %proc.pcmdline (failed=%evt.failed num=%evt.num)
  priority: ERROR
  capture: true
  capture_duration: 1500
"""
HOSTILE = "x\x1b[2J\n\u202e\udcff"
SECOND = 1_000_000_000


def rule(**changes: object) -> Rule:
    text = "- {rule: R, desc: d, condition: evt.type = openat, output: o, priority: INFO, capture: true}"
    (made,) = load_texts([("r", text)]).rules
    return replace(made, **changes)  # type: ignore[arg-type]


def event(n: int, at_s: float = 0.0) -> Event:
    return Event(EventType.OPENAT, n, int(at_s * SECOND), 0, 1, 0, (None,) * 8)


@pytest.fixture
def done() -> list[Recorded]:
    return []


def recorder(tmp_path: Path, done: list[Recorded], **settings: object) -> Recorder:
    made = Capture(enabled=True, path_prefix=str(tmp_path / "folder" / "t"), **settings)  # type: ignore[arg-type]
    return Recorder(made, hostname="web1", done=done.append)


def numbers(path: Path) -> list[int]:
    with path.open() as file:
        return [e.num for e in read_events(file, "f")]


def test_a_recording_for_which_there_is_no_thread(tmp_path: Path, done: list[Recorded]) -> None:
    made = recorder(tmp_path, done)
    with no_threads():
        made.saw(event(1))
        made.fired(event(1), rule(), {})
    assert [(r.rule, r.events, r.error) for r in done] == [("R", 0, "cannot start a thread")]
    assert made.end() is None, "nobody to wait for"
    made.fired(event(2, at_s=1), rule(), {})
    made.end()
    wait_until(lambda: len(done) == 2, "the next one is written")
    assert done[1].error == ""


def test_what_was_before_and_what_comes_after(tmp_path: Path, done: list[Recorded]) -> None:
    made = recorder(tmp_path, done, before_ms=2000, default_duration=3000)
    for n in range(20):
        made.saw(event(n, at_s=n))
        if n == 10:
            made.fired(event(n, at_s=n), rule(), {Path("r.yaml"): "ab"})
    wait_until(lambda: len(done) == 1, "the file")
    assert (done[0].rule, done[0].events, done[0].cut, done[0].error) == ("R", 6, "", "")
    assert numbers(done[0].path) == [8, 9, 10, 11, 12, 13]
    assert done[0].path.name == f"t_{10 * SECOND:020d}_{10:020d}.jsonl"
    assert done[0].path.stat().st_mode & 0o777 == 0o600
    head = read_head(done[0].path.read_text().splitlines()[0])
    assert head == {"hostname": "web1", "rule": "R", "event": 10, "sha256": {"r.yaml": "ab"}}


def test_another_alert_makes_it_longer_and_a_rule_has_its_own_duration(tmp_path: Path, done: list[Recorded]) -> None:
    made = recorder(tmp_path, done, before_ms=0, default_duration=2000)
    for n in range(20):
        made.saw(event(n, at_s=n))
        if n in (5, 6):
            made.fired(event(n, at_s=n), rule(capture_duration_ms=4000 if n == 5 else None), {})
    wait_until(lambda: len(done) == 1, "the file")
    assert numbers(done[0].path) == [5, 6, 7, 8, 9]


def test_time_ends_it_where_no_event_comes(tmp_path: Path, done: list[Recorded]) -> None:
    made = recorder(tmp_path, done, default_duration=1000)
    made.saw(event(1, at_s=1))
    made.fired(event(1, at_s=1), rule(), {})
    made.tick(2 * SECOND)
    assert done == []
    made.tick(2 * SECOND + 1)
    wait_until(lambda: len(done) == 1, "the file")
    assert made.end() is None


def test_bounds_hold_and_are_said(tmp_path: Path, done: list[Recorded]) -> None:
    made = recorder(tmp_path, done, max_events=100, max_file_size_mb=1, max_files=2)
    large = replace_param(event(0), "x" * 100_000)
    for n in range(300):
        made.saw(event(n))
    assert len(made._recent) == 100
    made.fired(event(299), rule(), {})
    for n in range(30):
        made.saw(large._replace(num=n))
    thread = made.end()
    assert thread is not None
    thread.join(30)
    assert "max_file_size_mb" in done[0].cut
    assert done[0].path.stat().st_size <= 1 << 20
    for n in range(4):
        made.fired(event(1000 + n, at_s=n), rule(), {})
        thread = made.end()
        assert thread is not None
        thread.join(30)
    assert [p.name[-9:-6] for p in sorted(done[0].path.parent.iterdir())] == ["002", "003"]


def replace_param(made: Event, text: str) -> Event:
    return made._replace(path=text)


def test_a_folder_that_cannot_be_written(tmp_path: Path, done: list[Recorded]) -> None:
    (tmp_path / "folder").write_text("a file")
    made = recorder(tmp_path, done)
    made.saw(event(1))
    made.fired(event(1), rule(), {})
    made.end()
    wait_until(lambda: len(done) == 1, "the verdict")
    assert done[0].error


def test_modes(tmp_path: Path, done: list[Recorded]) -> None:
    assert recorder(tmp_path, done).wants(rule()) and not recorder(tmp_path, done).wants(rule(capture=False))
    assert recorder(tmp_path, done, mode="all_rules").wants(rule(capture=False))


def test_keys_of_a_rule_and_their_mistakes() -> None:
    text = "- {rule: R, desc: d, condition: evt.type = openat, output: o, priority: INFO, capture: true%s}"
    (made,) = load_texts([("r", text % ", capture_duration: 250")]).rules
    assert (made.capture, made.capture_duration_ms) == (True, 250)
    change = (
        "\n- {rule: R, capture: false, capture_duration: 7, override: {capture: replace, capture_duration: replace}}"
    )
    (made,) = load_texts([("r", text % "" + change)]).rules
    assert (made.capture, made.capture_duration_ms) == (False, 7)
    for wrong in ("soon", "-1", "0", "1.5", "[1]"):
        (problem,) = load_texts([("r", text % f", capture_duration: {wrong}")]).errors
        assert "whole number of milliseconds" in problem.message


# -- the real thing


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("recorder")
    (folder / "rules.yaml").write_text(RULES.replace("PLACE", str(folder)))
    config = {"capture": {"enabled": True, "path_prefix": str(folder / "recordings" / "t"), "max_events": 2000}}
    with Daemon(folder, config, rules=[folder / "rules.yaml"]) as daemon:
        yield daemon


@pytest.mark.kernel
def test_a_replay_gives_the_same_alerts_byte_for_byte(daemon: Daemon) -> None:
    folder = daemon.folder
    program = folder / "tercel-mark"
    shutil.copy("/bin/true", program)
    hostile = os.fsencode(str(folder)) + b"/data" + HOSTILE.encode(errors="surrogateescape")
    for n in range(5):
        subprocess.run([program, f"{folder} before {n}"], check=True)
    subprocess.run(["mkdir", hostile], check=True)
    for n in range(5):
        subprocess.run([program, f"{folder} after {n}"], check=True)
    alert = daemon.wait_for(lambda a: a["rule"] == "Tercel internal: recording", patience_s=120)
    file = Path(alert["output_fields"]["recording.file"])
    assert alert["output_fields"]["recording.rule"] == "Marked file"
    lines = daemon.file.read_text().splitlines()
    with file.open() as events:
        times = [event.ts_ns for event in read_events(events, "file")]
    # older ones had no room where much happens, later ones were too late
    lived = [
        line for line in lines if json.loads(line)["source"] == "syscall" and min(times) <= at_ns(line) <= max(times)
    ]
    assert any("Marked file" in line for line in lived)
    done = subprocess.run(
        [COMMAND, "replay", "--json", "-c", folder / "tercel.yaml", file], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == lived
    with (folder / "rules.yaml").open("a") as rules:
        rules.write("# changed\n")
    short = folder / "short.jsonl"
    short.write_text("\n".join(file.read_text().splitlines()[:2]))
    noted = subprocess.run(
        [COMMAND, "replay", "-c", folder / "tercel.yaml", short], capture_output=True, text=True, timeout=240
    )
    assert "was made by other contents of" in noted.stderr


def at_ns(line: str) -> int:
    """The time of an alert, nanoseconds since the epoch."""
    whole, _, fraction = json.loads(line)["time"].removesuffix("Z").partition(".")
    return int(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * SECOND + int(fraction)


def test_generation_keeps_what_rules_say(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RULES.replace("PLACE", "/x"))
    made: Generation = build_generation(Config(rules_files=(tmp_path / "r.yaml",)), hostname="h", new_id=lambda: "1")
    assert [r.capture for r in made.ruleset.rules] == [False, True]
