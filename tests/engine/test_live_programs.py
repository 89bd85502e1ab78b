"""What is known of the file that a process runs, of its environment and its leaders, on the real kernel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance.catalog.values import argument
from appliance.model.event import Event, EventType
from tests.support.capture import Capture
from tests.support.docker import DockerEngine
from tests.support.rules import value

pytestmark = pytest.mark.kernel


def started(events: list[Event], pid: int) -> Event:
    return [e for e in events if e.process.pid == pid and e.type in (EventType.EXECVE, EventType.EXECVEAT)][-1]


def test_the_running_file_is_known(capture: Capture, tmp_path: Path) -> None:
    program = tmp_path / "program"
    shutil.copy("/bin/true", program)
    program.chmod(0o755)
    pid, events = capture.run([program], env={"TERCEL_A": "a b", "EMPTY": ""}, start_new_session=True)
    event, found = started(events, pid), program.stat()
    assert value(event, "proc.exe_ino") == found.st_ino
    assert value(event, "proc.exe_ino.ctime") == found.st_ctime_ns
    assert value(event, "proc.exe_ino.mtime") == found.st_mtime_ns
    assert value(event, "proc.is_exe_writable") is True
    assert value(event, "proc.is_exe_from_memfd") is False
    assert "EXE_WRITABLE" in str(argument(event, "flags")).split("|")
    assert (value(event, "proc.env", "TERCEL_A"), value(event, "proc.env", "NOT_THERE")) == ("a b", "")
    assert value(event, "proc.env") == "TERCEL_A=a b EMPTY="
    assert (value(event, "proc.vpgid"), value(event, "proc.is_vpgid_leader")) == (pid, True)
    assert value(event, "proc.aenv", 1) is not None
    duration = value(event, "proc.duration")
    assert isinstance(duration, int) and 0 <= duration < 60 * 10**9
    since_change = value(event, "proc.exe_ino.ctime_duration_proc_start")
    assert isinstance(since_change, int) and since_change < 60 * 10**9
    vmsize, limit = value(event, "proc.vmsize"), value(event, "proc.fdlimit")
    assert isinstance(vmsize, int) and 0 < vmsize < 1 << 20
    assert isinstance(limit, int) and limit > 0


def test_whose_user_may_not_write_to_it(capture: Capture) -> None:
    pid, events = capture.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/bin/true"])
    assert started(events, pid).process.name == "true"
    assert value(started(events, pid), "proc.is_exe_writable") is False


def test_a_program_from_memory(capture: Capture) -> None:
    code = (
        "import os\nfd = os.memfd_create('tercel-memory')\n"
        "os.write(fd, open('/bin/true', 'rb').read())\nos.execve(fd, ['true'], {})\n"
    )
    pid, events = capture.run([sys.executable, "-S", "-c", code])
    event = started(events, pid)
    assert value(event, "proc.is_exe_from_memfd") is True
    assert "EXE_FROM_MEMFD" in str(argument(event, "flags")).split("|")
    assert "memfd:tercel-memory" in str(event.process.exepath)


def test_a_program_that_gives_its_owners_rights(capture: Capture, tmp_path: Path) -> None:
    """Whose user and group it becomes, at the event of its start: saved ids, too."""
    program = tmp_path / "given"
    shutil.copy("/bin/true", program)
    os.chown(program, 65534, 8)
    program.chmod(0o6755)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    _, events = capture.run(["setpriv", "--reuid=1", "--regid=2", "--clear-groups", program])
    process = next(e for e in events if e.type is EventType.EXECVE and e.res == 0 and e.process.name == "given").process
    assert (process.uid, process.euid, process.suid) == (1, 65534, 65534)
    assert (process.gid, process.egid, process.sgid) == (2, 8, 8)
    assert process.user is not None and process.user.name == "nobody"
    ended = next(e for e in events if e.type is EventType.PROCEXIT and e.process.pid == process.pid)
    assert ended.process.euid == 65534


def test_a_program_whose_file_is_gone(capture: Capture, tmp_path: Path) -> None:
    """Its path is the one that it had, as Falco tells it: no ` (deleted)` behind it, whenever we came to know of it."""
    program, other = tmp_path / "gone", tmp_path / "real (deleted)"
    for path in (program, other):
        shutil.copy("/bin/sleep", path)
        path.chmod(0o755)
    code = (
        "import os, sys\npid = os.fork()\n"
        "if pid == 0: os.unlink(sys.argv[1]); os.execv(sys.argv[2], ['x', '0'])\n"
        "os.waitpid(pid, 0)"
    )
    again = tmp_path / "again"
    shutil.copy("/bin/sleep", again)
    fd = os.open(again, os.O_RDONLY)
    again.unlink()
    try:  # started by its descriptor when its name was gone
        pid, events = capture.run([f"/proc/self/fd/{fd}", "0"], pass_fds=[fd])
    finally:
        os.close(fd)
    assert started(events, pid).process.exepath == str(again)
    _, events = capture.run([sys.executable, "-c", code, program, other])
    assert next(e for e in events if e.process.args == ("0",)).process.exepath == str(other)
    shutil.copy("/bin/sleep", program)
    child = subprocess.Popen([program, "600"])
    try:
        while Path(f"/proc/{child.pid}/exe").readlink() != program:
            time.sleep(0.01)
        program.unlink()
        with Capture() as late:
            child.kill()
            events = late.until(lambda e: e.type is EventType.PROCEXIT and e.process.pid == child.pid)
    finally:
        child.kill()
        child.wait()
    assert next(e for e in events if e.process.pid == child.pid).process.exepath == str(program)


def test_layers_of_an_overlay(capture: Capture, tmp_path: Path) -> None:
    """A program of the image and one that was dropped beside it."""
    lower, upper, both = (tmp_path / name for name in ("lower", "upper", "both"))
    for folder in (lower, upper, both):
        folder.mkdir()
    shutil.copy("/bin/true", lower / "shipped")
    script = (
        f"mount -t tmpfs none {tmp_path}/upper && mkdir {upper}/u {upper}/w && "
        f"mount -t overlay overlay -o lowerdir={lower},upperdir={upper}/u,workdir={upper}/w {both} && "
        f"cp {both}/shipped {both}/dropped && {both}/shipped && {both}/dropped"
    )
    _, events = capture.run(["unshare", "--mount", "sh", "-c", script])
    execs = {e.process.name: e for e in events if e.type is EventType.EXECVE and e.res == 0}
    shipped, dropped = execs["shipped"], execs["dropped"]
    assert (value(shipped, "proc.is_exe_lower_layer"), value(shipped, "proc.is_exe_upper_layer")) == (True, False)
    assert (value(dropped, "proc.is_exe_lower_layer"), value(dropped, "proc.is_exe_upper_layer")) == (False, True)


def test_the_same_of_one_that_ran_before_us(tmp_path: Path) -> None:
    program = tmp_path / "program"
    shutil.copy("/bin/sleep", program)
    child = subprocess.Popen([program, "600"], env={"TERCEL_B": "x"}, start_new_session=True)
    try:
        while Path(f"/proc/{child.pid}/exe").readlink() != program:
            time.sleep(0.01)
        with Capture() as capture:
            child.kill()
            events = capture.until(lambda e: e.type is EventType.PROCEXIT and e.process.pid == child.pid)
    finally:
        child.kill()
        child.wait()
    event = next(e for e in events if e.process.pid == child.pid and e.type is EventType.PROCEXIT)
    found = program.stat()
    assert (value(event, "proc.exe_ino"), value(event, "proc.exe_ino.ctime")) == (found.st_ino, found.st_ctime_ns)
    assert value(event, "proc.is_exe_writable") is True
    assert value(event, "proc.env", "TERCEL_B") == "x"
    assert value(event, "proc.vpgid") == child.pid
    assert isinstance(event.process.vmsize, int) and event.process.vmsize > 0


@pytest.mark.docker
def test_a_program_dropped_into_a_container(capture: Capture, docker_engine: DockerEngine, nginx_image: str) -> None:
    """A real one: what the image brought lies in a lower layer, what was written since in the upper one."""
    # where its folder cannot carry an overlay, Docker copies whole trees, and there are no layers to tell
    layered = docker_engine.client("info", "--format", "{{.Driver}}").strip() in ("overlay2", "overlayfs")
    mark = f"tercel{os.getpid()}"
    script = f"cp /usr/bin/id /tmp/{mark}-new && /usr/bin/id && /tmp/{mark}-new"
    docker_engine.client("run", "--rm", "--network=none", nginx_image, "bash", "-c", script)
    events = capture.until(lambda e: e.type is EventType.PROCEXIT and e.process.name == f"{mark}-new"[:15])
    execs = [e for e in events if e.type is EventType.EXECVE and e.res == 0 and e.process.container_id != "host"]
    shipped = next(e for e in execs if e.process.exepath == "/usr/bin/id")
    dropped = next(e for e in execs if e.process.exepath == f"/tmp/{mark}-new")
    assert (value(shipped, "proc.is_exe_lower_layer"), value(shipped, "proc.is_exe_upper_layer")) == (layered, False)
    assert (value(dropped, "proc.is_exe_lower_layer"), value(dropped, "proc.is_exe_upper_layer")) == (False, layered)
    since_start = value(dropped, "proc.exe_ino.ctime_duration_pidns_start")
    assert isinstance(since_start, int) and since_start >= 0
    assert value(dropped, "proc.vpid") != dropped.process.pid
