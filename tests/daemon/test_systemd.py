"""What the service manager is given and told: the unit, its restrictions for real, readiness, watchdog, catalogue.

systemd is not PID 1 on the machines that run these tests. Its own tools check the files; the restrictions are applied
by the kernel's own calls (`tests/support/sandbox.py`); the notify socket is a real one that we read.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.cli.logs import LineFormatter
from appliance.host.systemd import JournalFormatter, Notifier, logs_to_journal
from appliance.sinks.journald import MESSAGE_ID, OWN_MESSAGE_ID, OWN_MESSAGE_IDS
from tests.support.daemon import COMMAND, ROOT, Daemon
from tests.support.receivers import wait_until
from tests.support.sandbox import CAPS, allowed_calls, settings

FOLDER = ROOT / "packaging/systemd"
UNIT = FOLDER / "tercel.service"
NOBODY = 65534
RULE = """
- rule: Marked program
  desc: d
  condition: evt.type in (execve, execveat) and proc.name startswith tercel-mark
  output: ran %proc.cmdline as %user.name in %proc.cwd from %proc.exepath
  priority: WARNING
"""


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=240)


# -- the files, by systemd's own tools


def test_the_unit_is_one(tmp_path: Path) -> None:
    unit = tmp_path / "tercel.service"
    unit.write_text(UNIT.read_text().replace("/usr/bin/tercel", str(COMMAND)))
    done = run("systemd-analyze", "verify", "--man=no", unit)
    said = [line for line in done.stderr.splitlines() if "tercel" in line]
    assert (done.returncode, said) == (0, []), done.stderr


def test_its_exposure_is_at_most_two_and_a_half() -> None:
    done = run("systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=25", UNIT)
    assert done.returncode == 0, done.stdout
    found = re.search(r"Overall exposure level for tercel.service: ([\d.]+)", done.stdout)
    assert found is not None and float(found[1]) <= 2.5


def test_the_right_system_calls_are_left() -> None:
    calls = allowed_calls(settings(UNIT)["SystemCallFilter"])
    assert {"bpf", "openat", "execve", "socket", "inotify_init1"} <= calls
    assert not {"ptrace", "mount", "setuid", "init_module", "kexec_load", "reboot", "perf_event_open"} & calls


@pytest.mark.kernel
def test_user_and_folders(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for tool, kind in (("systemd-sysusers", "sysusers"), ("systemd-tmpfiles", "tmpfiles")):
        argv = [
            tool,
            f"--root={tmp_path}",
            *(["--create"] if kind == "tmpfiles" else []),
            FOLDER / f"tercel.{kind}.conf",
        ]
        done = run(*argv)
        assert done.returncode == 0, done.stderr
    passwd = dict(line.split(":", 1) for line in (tmp_path / "etc/passwd").read_text().splitlines())
    assert passwd["tercel"].endswith(":/var/lib/tercel:/usr/sbin/nologin")
    uid = int(passwd["tercel"].split(":")[1])
    assert {p: ((tmp_path / p).stat().st_uid == uid, oct((tmp_path / p).stat().st_mode)[-3:]) for p in (
        "var/lib/tercel", "var/log/tercel", "etc/tercel", "etc/tercel/credentials"
    )} == {
        "var/lib/tercel": (True, "700"), "var/log/tercel": (True, "750"),
        "etc/tercel": (False, "750"), "etc/tercel/credentials": (False, "700"),
    }  # fmt: skip


def test_the_catalogue_explains_every_id(tmp_path: Path) -> None:
    for folder in ("usr/lib/systemd/catalog", "var/lib/systemd/catalog"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(FOLDER / "tercel.catalog", tmp_path / "usr/lib/systemd/catalog")
    done = run("journalctl", f"--root={tmp_path}", "--update-catalog")
    assert (done.returncode, done.stderr) == (0, "")
    text = run("journalctl", f"--root={tmp_path}", "--dump-catalog").stdout
    ids = set(re.findall(r"^-- ([0-9a-f]{32})$", text, re.MULTILINE))
    assert ids == {MESSAGE_ID, OWN_MESSAGE_ID, *OWN_MESSAGE_IDS.values()}
    assert text.count("Subject: ") == text.count("Defined-By: Tercel") == len(ids)


def test_every_alert_of_our_own_has_an_id() -> None:
    named = {
        name
        for module in (ROOT / "appliance").rglob("*.py")
        for name in re.findall(r'_RULE = "(Tercel internal: [^"]+)"', module.read_text())
    }
    assert named and named <= OWN_MESSAGE_IDS.keys(), "give it an id in sinks/journald.py and a text in tercel.catalog"


# -- what is told


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        (tmp_path / "notify").chmod(0o777)  # as the real one
        manager.settimeout(90)
        yield manager


def environment(manager: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.getsockname(), **more}


def test_the_watchdog_is_fed_at_half_its_time_and_no_more(manager: socket.socket) -> None:
    notifier = Notifier(environment(manager, WATCHDOG_USEC="600000000"), pid=1)
    for _ in range(100):
        notifier.alive(lambda: "well\nREADY=1")
    manager.setblocking(False)
    assert manager.recv(1000) == b"WATCHDOG=1"
    assert manager.recv(1000) == b"STATUS=well READY=1", "one line, whatever it says"
    with pytest.raises(BlockingIOError):
        manager.recv(1000)
    notifier.close()


def test_a_manager_that_does_not_read_holds_up_nobody(manager: socket.socket) -> None:
    notifier = Notifier(environment(manager))
    assert any(not notifier.tell(STATUS="x" * 1000) for _ in range(10_000))
    notifier.close()


def test_without_a_manager_nothing_is_said() -> None:
    notifier = Notifier({})
    assert not notifier.tell(READY=1)
    notifier.alive(lambda: "x")
    assert Notifier({"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}, pid=2).watchdog_s is None


def test_an_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0tercel-test-{os.getpid()}")
        notifier = Notifier({"NOTIFY_SOCKET": f"@tercel-test-{os.getpid()}"})
        assert notifier.tell(READY=1)
        assert manager.recv(100) == b"READY=1"
        notifier.close()


def test_log_lines_carry_their_priority_for_the_journal(tmp_path: Path) -> None:
    import logging

    record = logging.LogRecord("x", logging.ERROR, "f", 1, "two\nlines\x1b[2J", None, None)
    assert JournalFormatter("%(message)s").format(record) == "<3>two\n<3>lines\\x1b[2J"
    assert LineFormatter("a: %(message)s").format(record) == "a: two\nlines\\x1b[2J"
    with (tmp_path / "f").open("w") as file:
        at = os.fstat(file.fileno())
        assert logs_to_journal(file.fileno(), {"JOURNAL_STREAM": f"{at.st_dev}:{at.st_ino}"})
        assert not logs_to_journal(file.fileno(), {"JOURNAL_STREAM": f"{at.st_dev}:1"})
        assert not logs_to_journal(file.fileno(), {})


class Confined:
    """The appliance as the unit has it: nobody, four capabilities, its system calls; with a manager that listens."""

    def __init__(self, folder: Path, manager: socket.socket) -> None:
        os.chown(folder, NOBODY, NOBODY)
        (folder / "rules.yaml").write_text(RULE)
        shutil.copy("/bin/true", folder / "tercel-mark")
        self.manager = manager
        self.daemon = Daemon(
            folder,
            {"watch_config_files": False},
            rules=[folder / "rules.yaml"],
            env=environment(manager, WATCHDOG_USEC="1000000"),
            prefix=[sys.executable, str(ROOT / "tests/support/sandbox.py"), str(UNIT), str(NOBODY), str(NOBODY)],
        )

    def heard(self) -> list[str]:
        """All that was told and not read yet."""
        self.manager.setblocking(False)
        told = []
        try:
            while True:
                told += self.manager.recv(4096).decode().split("\n")
        except BlockingIOError:
            return told


@pytest.mark.kernel
def test_it_runs_with_what_the_unit_leaves_it(tmp_path: Path, manager: socket.socket) -> None:
    confined = Confined(tmp_path, manager)
    with confined.daemon as daemon:
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        bits = sum(1 << cap for cap in CAPS.values())
        assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {bits}
        assert status["Uid"].split() == [str(NOBODY)] * 4
        assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
        told = confined.heard()
        assert "READY=1" in told

        subprocess.run([tmp_path / "tercel-mark", "one"], check=True, cwd="/usr")
        alert = daemon.wait_for(lambda a: "tercel-mark one" in a["output"])
        assert alert["output"].endswith(f"as root in /usr/ from {tmp_path}/tercel-mark")

        sandbox = [sys.executable, ROOT / "tests/support/sandbox.py", UNIT, str(NOBODY), str(NOBODY)]
        done = run(*sandbox, COMMAND, "reload", "--socket", tmp_path / "control.sock")  # as ExecReload= does
        assert done.returncode == 0, done.stderr
        with (tmp_path / "rules.yaml").open("a") as file:
            file.write("nonsense")
        done = run(COMMAND, "reload", "--socket", tmp_path / "control.sock")
        assert done.returncode == 1, "so systemctl reload fails"

        wait_until(lambda: "WATCHDOG=1" in confined.heard(), "the watchdog's food")
        os.kill(daemon.pid, signal.SIGSTOP)
        wait_until(lambda: "State:\tT" in Path(f"/proc/{daemon.pid}/status").read_text(), "the stop")
        confined.heard()
        time.sleep(1.5)
        assert confined.heard() == [], "who is stopped says nothing"
        os.kill(daemon.pid, signal.SIGCONT)
        wait_until(lambda: "WATCHDOG=1" in confined.heard(), "the watchdog's food again")
    assert "STOPPING=1" in confined.heard()


@pytest.mark.kernel
def test_memory_cannot_be_both_written_and_run(tmp_path: Path) -> None:
    """The restriction that a compiler in our process could mind: held by the kernel where it can (6.3 and newer)."""
    if ctypes.CDLL(None).prctl(66, 0, 0, 0, 0) < 0:
        pytest.fail("this kernel has no PR_GET_MDWE: run these tests on 6.3 or newer")
    code = "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)"
    sandbox = ROOT / "tests/support/sandbox.py"
    done = run(sys.executable, sandbox, UNIT, str(NOBODY), str(NOBODY), sys.executable, "-I", "-c", code)
    assert "PermissionError" in done.stderr
