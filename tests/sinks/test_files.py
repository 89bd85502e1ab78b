"""The file that alerts are appended to: rotated by us, by a real logrotate, by signals and clocks."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from appliance.config.settings import FileOutput
from appliance.model.wire import Format
from appliance.sinks.file import FileSink
from tests.support.receivers import wait_until
from tests.support.sinks import alert

JSON = Format(json_output=True)


def numbers(*files: Path) -> list[int]:
    """The alerts in these files, in order; every line is whole."""
    return [json.loads(line)["output_fields"]["fd.num"] for f in files for line in f.read_text().splitlines()]


@pytest.mark.parametrize("keep_alive", [True, False])
def test_rotation_by_size(tmp_path: Path, keep_alive: bool) -> None:
    file = tmp_path / "alerts"
    sink = FileSink(file, JSON, keep_alive=keep_alive, rotate_bytes=2000, keep=3)
    for n in range(60):
        sink.deliver(alert(n))
    sink.close()
    asides = [tmp_path / f"alerts.{n}" for n in (3, 2, 1)]
    assert sorted(tmp_path.iterdir()) == sorted([file, *asides]), "and no more than these"
    found = numbers(*asides, file)
    assert found == list(range(60))[-len(found) :]
    assert all(f.stat().st_size <= 2000 and f.stat().st_mode & 0o777 == 0o600 for f in [file, *asides])


def test_a_line_larger_than_a_file_may_be(tmp_path: Path) -> None:
    file = tmp_path / "alerts"
    sink = FileSink(file, JSON, keep_alive=True, rotate_bytes=100)
    for n in range(3):
        sink.deliver(alert(n))
    sink.close()
    assert numbers(tmp_path / "alerts.2", tmp_path / "alerts.1", file) == [0, 1, 2]


def test_rotation_by_age_and_a_wall_clock_that_jumps(tmp_path: Path) -> None:
    file, aside = tmp_path / "alerts", tmp_path / "alerts.1"
    now, wall = [0.0], [1_700_000_000.0]
    options = {"keep_alive": True, "rotate_s": 3600.0, "clock": lambda: now[0], "wall_clock": lambda: wall[0]}

    def age(seconds: float) -> None:
        os.utime(file, (wall[0] - seconds, wall[0] - seconds))

    sink = FileSink(file, JSON, **options)  # type: ignore[arg-type]
    sink.deliver(alert(0))
    for jump in (-1e9, 2e9):
        wall[0] += jump
        sink.deliver(alert(1))
    assert not aside.exists(), "the wall clock says nothing of a file that we have open"
    now[0] += 3600
    sink.deliver(alert(2))
    assert (numbers(aside), numbers(file)) == ([0, 1, 1], [2])
    sink.close()
    age(1800)  # found by another run, half an hour old
    sink = FileSink(file, JSON, **options)  # type: ignore[arg-type]
    sink.deliver(alert(3))
    now[0] += 1801
    sink.deliver(alert(4))
    assert (numbers(aside), numbers(file)) == ([2, 3], [4])
    sink.close()


def test_what_cannot_be_put_aside_grows_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "alerts"
    (tmp_path / "alerts.1" / "in the way").mkdir(parents=True)
    sink = FileSink(file, JSON, keep_alive=True, rotate_bytes=1000, keep=1)
    for n in range(20):
        sink.deliver(alert(n))
    sink.close()
    assert numbers(file) == list(range(20))
    assert caplog.text.count("cannot be put aside") == 1


def test_devices_and_fifos_are_not_rotated() -> None:
    sink = FileSink(Path("/dev/null"), JSON, keep_alive=True, rotate_bytes=1, rotate_s=0.0001)
    for n in range(3):
        sink.deliver(alert(n))
    sink.close()
    assert Path("/dev/null").is_char_device()


def test_settings(tmp_path: Path) -> None:
    made = FileSink.of(FileOutput(True, True, tmp_path / "x", 3, 2, 7, True), JSON)
    assert (made._rotate_bytes, made._rotate_s, made._keep, made._sync) == (3 << 20, 7200.0, 7, True)
    made.deliver(alert())
    made.close()


def test_a_file_is_opened_anew_when_asked(tmp_path: Path) -> None:
    file = tmp_path / "alerts"
    sink = FileSink(file, JSON, keep_alive=True)
    sink.deliver(alert(0))
    first = sink._fd
    os.set_inheritable(first, True)  # a mark on this description's descriptor
    sink.reopen()
    sink.deliver(alert(1))
    assert not os.get_inheritable(sink._fd)
    sink.close()
    assert numbers(file) == [0, 1]


@pytest.mark.parametrize("how", ["create 0600", "nocreate", "copytruncate"])
@pytest.mark.parametrize("keep_alive", [True, False])
def test_under_logrotate(tmp_path: Path, how: str, keep_alive: bool) -> None:
    """Debian's logrotate, forced again and again while a thread writes; copytruncate when it does not, as what is
    written between copy and cut is lost by its own account (logrotate(8))."""
    file = tmp_path / "alerts"
    config = tmp_path / "logrotate.conf"
    config.write_text(f"{file} {{\n  rotate 100\n  missingok\n  {how}\n  su root root\n}}\n")
    config.chmod(0o600)
    sink = FileSink(file, JSON, keep_alive=keep_alive)
    wanted, written = [0], [0]
    ahead = 0 if how == "copytruncate" else 20  # further than that it waits for logrotate, so that each turn has alerts
    wake = threading.Event()

    def write() -> None:
        while written[0] < 300:
            if written[0] < wanted[0] + ahead:
                sink.deliver(alert(written[0]))
                written[0] += 1
            wake.wait(0.002)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for turn in range(1, 6):
            wanted[0] = turn * 60
            wait_until(lambda: written[0] >= wanted[0] - ahead, "the alerts of this turn")
            subprocess.run(
                ["/usr/sbin/logrotate", "-f", "-s", str(tmp_path / "state"), str(config)],
                check=True, stdin=subprocess.DEVNULL,
            )  # fmt: skip
    finally:
        wanted[0] = 300
        thread.join()
    sink.close()
    asides = sorted(tmp_path.glob("alerts.*"), key=lambda f: -int(f.name.rpartition(".")[2]))
    assert len(asides) >= 4
    assert numbers(*asides, *([file] if file.exists() else [])) == list(range(300))
