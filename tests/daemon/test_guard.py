"""The watch over the watch: tables written, hooks closed, files edited, stopped, killed; each is told, and mended."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import signal
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from appliance.daemon.guard import FAREWELL_RULE, FILES_RULE, STILL_RULE, TAMPER_RULE, Guard, Trace, Watched
from appliance.kernel import bpfcall
from appliance.kernel.arch import SLOTS
from appliance.kernel.layout import NUMBERS
from appliance.kernel.program import Buffers
from appliance.model.alert import FieldValue, Priority
from appliance.model.event import EventType
from appliance.sources.syscall import SyscallSource
from tests.support.daemon import Daemon
from tests.support.intruder import close_in

RULE = """
- rule: Marked file
  desc: d
  condition: evt.type in (open, openat) and fd.name endswith tercel-mark
  output: opened %fd.name
  priority: WARNING
"""


class Told:
    """What a guard tells, and a guard with nothing in the kernel."""

    def __init__(self, tmp_path: Path, **watched: Any) -> None:
        self.alerts: list[tuple[str, Priority, str, Mapping[str, FieldValue]]] = []
        facts: dict[str, Any] = {
            "differences": list, "repair": lambda: None, "digests": dict, "files": tuple, "followed": lambda: True,
        }  # fmt: skip
        self.guard = Guard(
            Watched(**facts | watched),
            lambda *alert: self.alerts.append(alert),
            state_file=tmp_path / "state" / "run.json",
            interval_s=3600,
        )

    def rules(self) -> list[str]:
        return [alert[0] for alert in self.alerts]


def test_a_good_end_leaves_nothing_and_a_bad_one_is_told_by_the_next_start(tmp_path: Path) -> None:
    for farewell in (True, False, True):
        told = Told(tmp_path)
        told.guard.start({"version": "1"})
        told.guard.stop(farewell=farewell)
        assert (tmp_path / "state/run.json").exists() is not farewell
    ((rule, priority, output, fields),) = told.alerts
    assert (rule, priority) == (FAREWELL_RULE, Priority.CRITICAL)
    assert f"pid {os.getpid()}" in output and fields["earlier.same_boot"] is True


def test_a_machine_that_went_down_is_another_thing(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/run.json").write_text(json.dumps({"pid": 7, "boot": "another"}))
    told = Told(tmp_path)
    told.guard.start({})
    told.guard.stop(farewell=True)
    assert [(rule, priority) for rule, priority, _, _ in told.alerts] == [(FAREWELL_RULE, Priority.NOTICE)]
    assert "the machine went down" in told.alerts[0][2]


@pytest.mark.parametrize("content", [b"\xff\x00nonsense", b"[1]", b"null", b"{", b"x" * 100_000])
def test_a_trace_that_is_nonsense_is_still_a_trace(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/run.json").write_bytes(content)
    told = Told(tmp_path)
    told.guard.start({})
    told.guard.stop(farewell=True)
    assert told.rules() == [FAREWELL_RULE]


def test_a_trace_that_another_run_holds_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, two = Trace(tmp_path / "run"), Trace(tmp_path / "run")
    assert one.begin({}) is None
    assert two.begin({}) is None
    assert "another appliance runs" in caplog.text
    two.end(farewell=True)
    assert (tmp_path / "run").exists()
    one.end(farewell=True)
    assert not (tmp_path / "run").exists()


def test_a_trace_that_cannot_be_left_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    assert Trace(tmp_path / "file" / "run").begin({}) is None
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert Trace(tmp_path / "link").begin({}) is None
    assert not (tmp_path / "elsewhere").exists()
    assert caplog.text.count("cannot write the run-state file") == 2


def test_files_that_nobody_takes_up_are_told_once_for_each_change(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("a")
    from appliance.daemon.generation import file_digests

    followed = False
    was = file_digests([file])
    told = Told(tmp_path, digests=lambda: was, files=lambda: [file], followed=lambda: followed)
    for content, count in (("a", 0), ("b", 1), ("b", 1), ("c", 2), ("a", 2), ("c", 3)):
        file.write_text(content)
        told.guard._look_at_files()
        assert len(told.alerts) == count, content
    assert set(told.rules()) == {FILES_RULE} and str(file) in told.alerts[0][2]
    file.unlink()
    told.guard._look_at_files()
    assert len(told.alerts) == 4
    followed = True
    told.guard._look_at_files()
    assert len(told.alerts) == 4


def test_what_cannot_be_mended_is_told_once(tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError("no right")

    found = ["the hook on `sys_exit` is gone"]
    told = Told(tmp_path, differences=lambda: found, repair=fail)
    for _ in range(3):
        told.guard._look_at_kernel()
    assert told.rules() == [TAMPER_RULE]
    assert "could not be put right: no right" in told.alerts[0][2]


# -- the real kernel


def map_id(pid: int | str, name: str) -> int:
    """The id of a process's map, as anybody with root finds it: by its shape."""
    for link in sorted(Path(f"/proc/{pid}/fd").iterdir(), key=lambda p: int(p.name)):
        try:
            if "bpf-map" not in os.readlink(link):  # noqa: PTH115
                continue
        except FileNotFoundError:
            continue
        info = dict(re.findall(r"(\w+):\s+(\d+)", Path(f"/proc/{pid}/fdinfo/{link.name}").read_text()))
        if SHAPES[name](info):
            return int(info["map_id"])
    raise AssertionError(f"no map `{name}`")


# map_type, value_size, max_entries of /proc/PID/fdinfo; enum bpf_map_type: 2 array, 3 program array, 6 per-CPU array
SHAPES: Mapping[str, Callable[[Mapping[str, str]], bool]] = {
    "asked": lambda m: (m["map_type"], m["value_size"], m["max_entries"]) == ("2", "4", "1024"),
    "handlers": lambda m: (m["map_type"], int(m["max_entries"])) == ("3", SLOTS),
    "books": lambda m: m["map_type"] == "6" and m["value_size"] == "32",
    "kinds": lambda m: (m["map_type"], m["value_size"]) == ("2", "4") and int(m["max_entries"]) == len(NUMBERS),
}


@pytest.mark.kernel
def test_every_difference_is_found_and_put_right() -> None:
    source = SyscallSource(Buffers(1 << 20, 1 << 20), {EventType.OPENAT})
    try:
        assert source.differences() == []
        program = source._program
        maps = {name: bpfcall.map_by_id(map_id("self", name)) for name in SHAPES}

        def mended(expected: str) -> None:
            (told,) = source.differences()
            assert expected in told
            source.repair()
            assert source.differences() == []

        number = next(n for table, n in program._numbers(program._heard) if table == "asked")
        bpfcall.update(maps["asked"], number, struct.pack("=I", 0))
        mended("table `asked`")
        bpfcall.update(maps["kinds"], NUMBERS[EventType.OPENAT], struct.pack("=I", 0))
        mended("table `kinds`")
        bpfcall.delete(maps["handlers"], min(program._heard))
        mended("table `handlers`")
        os.close(program._links["sys_exit"])
        mended("the hook on `sys_exit` is gone")
        with pytest.raises(PermissionError):
            bpfcall.update(maps["books"], 0, bytes(32 * program._cpus))
        source.hear({EventType.OPENAT, EventType.CHMOD})
        source.hear({EventType.CHMOD})
        assert source.differences() == [], "what we change ourselves is no difference"
    finally:
        for fd in maps.values():
            os.close(fd)
        source.stop(lambda batch: None)
        source.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULE)
    config = {
        "watch_config_files": False,
        "guard": {"state_file": str(tmp_path / "run.json"), "interval_ms": 500},
    }
    with Daemon(tmp_path, config, rules=[rules]) as daemon:
        yield daemon


def link_of(pid: int) -> int:
    """A descriptor of a process that holds a hook: that of the end of calls, where links tell of their tracepoint."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        info = Path(f"/proc/{pid}/fdinfo/{entry.name}")
        with contextlib.suppress(FileNotFoundError):
            if "link_id" in (text := info.read_text()):
                found[int(entry.name)] = "sys_exit" in text
    return max(found, key=lambda fd: (found[fd], -fd))


def possible_cpus() -> int:
    """How many processors the kernel counts with, whether they are there or not."""
    return int(Path("/sys/devices/system/cpu/possible").read_text().strip().rpartition("-")[2]) + 1


def touch(folder: Path, name: str) -> None:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "tercel-mark").touch()


@pytest.mark.kernel
def test_blinded_stopped_edited_and_killed_all_are_told(daemon: Daemon, tmp_path: Path) -> None:
    touch(tmp_path, "before")
    daemon.wait_for(lambda a: "before/tercel-mark" in a["output"])

    table = bpfcall.map_by_id(map_id(daemon.pid, "asked"))
    try:
        for number in range(400):
            bpfcall.update(table, number, struct.pack("=I", 0))
    finally:
        os.close(table)
    alert = daemon.wait_for(lambda a: a["rule"] == TAMPER_RULE)
    assert alert["priority"] == "Critical" and "table `asked`" in alert["output"] and "put right" in alert["output"]
    touch(tmp_path, "after")
    daemon.wait_for(lambda a: "after/tercel-mark" in a["output"])

    if platform.machine() == "x86_64":  # what the intruder knows the registers of
        close_in(daemon.pid, link_of(daemon.pid))
        alert = daemon.wait_for(lambda a: a["rule"] == TAMPER_RULE and " is gone" in a["output"])
        assert alert["output_fields"]["tamper.mended"] is True
        touch(tmp_path, "detached")
        daemon.wait_for(lambda a: "detached/tercel-mark" in a["output"])

    frozen = bpfcall.map_by_id(map_id(daemon.pid, "books"))
    try:
        with pytest.raises(PermissionError):
            bpfcall.update(frozen, 0, bytes(32 * possible_cpus()))
    finally:
        os.close(frozen)

    with (tmp_path / "rules.yaml").open("a") as file:
        file.write("# harmless?\n")
    assert "rules.yaml" in daemon.wait_for(lambda a: a["rule"] == FILES_RULE)["output"]

    os.kill(daemon.pid, signal.SIGSTOP)
    time.sleep(6.5)
    os.kill(daemon.pid, signal.SIGCONT)
    assert daemon.wait_for(lambda a: a["rule"] == STILL_RULE)["output_fields"]["still_s"] >= 5

    assert daemon.process is not None
    pid = daemon.pid
    os.kill(pid, signal.SIGSTOP)
    daemon.process.kill()  # as systemd's watchdog does with one that is stopped for good
    daemon.process.wait()
    daemon.process = None
    daemon.start()
    alert = daemon.wait_for(lambda a: a["rule"] == FAREWELL_RULE)
    assert alert["priority"] == "Critical" and alert["output_fields"]["earlier.pid"] == str(pid)
    daemon.stop()
    daemon.start()
    daemon.settle()
    assert daemon.alerts(FAREWELL_RULE) == [], "a good end is no finding"


@pytest.mark.kernel
def test_a_demand_that_failed_is_none_that_a_repair_puts_into_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a reload that the kernel refused half-way."""
    source = SyscallSource(Buffers(1 << 20, 1 << 20), {EventType.OPENAT})
    try:
        inventory = type(source._program._inventory)
        with monkeypatch.context() as poisoned:
            poisoned.setattr(inventory, "write", lambda *_, **__: (_ for _ in ()).throw(OSError("refused")))
            with pytest.raises(OSError, match="refused"):
                source.hear({EventType.CHMOD})
        source.repair()
        assert EventType.OPENAT in source.heard and EventType.CHMOD not in source.heard
        assert source.differences() == []
    finally:
        source.stop(lambda batch: None)
        source.close()
