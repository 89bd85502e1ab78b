"""Every fact of a process and its descriptors, on the real kernel, told by programs that know them of themselves."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from appliance.catalog.values import argument, capabilities
from appliance.model.event import Event, EventType
from tests.support.capture import Capture

pytestmark = pytest.mark.kernel

# What a program knows of itself, written to the file that is its first argument.
KNOWS = """
import json, os, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
stat = open("/proc/self/stat").read().rpartition(")")[2].split()
json.dump({
    "pid": os.getpid(), "ppid": os.getppid(), "sid": os.getsid(0), "pgid": os.getpgid(0), "tty": int(stat[4]),
    "cwd": os.getcwd(), "exepath": os.readlink("/proc/self/exe"), "uid": os.getuid(), "euid": os.geteuid(),
    "gid": os.getgid(), "loginuid": int(open("/proc/self/loginuid").read()), "cap": int(status["CapEff"], 16),
    "vpid": int(status["NSpid"].split()[-1]), "name": open("/proc/self/comm").read().strip(),
    "start_ticks": int(stat[19]),
}, open(sys.argv[1], "w"))
"""


def last(events: list[Event], pid: int, *types: EventType) -> Event:
    return [e for e in events if e.process.pid == pid and e.type in types][-1]


def assert_knows(event: Event, told: dict[str, Any]) -> None:
    process = event.process
    loginuid = -1 if told["loginuid"] == 2**32 - 1 else told["loginuid"]
    expected = {**told, "cwd": told["cwd"].rstrip("/") + "/", "loginuid": loginuid}
    known = {name: getattr(process, name, None) for name in told}
    known |= {"cap": process.cap_effective, "start_ticks": process.start_ns // 10_000_000}
    assert known == expected


def test_a_process_is_known_by_its_exec(capture: Capture, tmp_path: Path) -> None:
    file = tmp_path / "told"
    pid, events = capture.run([sys.executable, "-c", KNOWS, file, "a b", "", "c\nd\udcff"], cwd=tmp_path)
    event = last(events, pid, EventType.EXECVE)
    assert_knows(event, json.loads(file.read_text()))
    process = event.process
    assert process.exe == sys.executable
    assert process.args == ("-c", KNOWS, str(file), "a b", "", "c\nd\udcff")
    assert not process.args_truncated
    assert process.user is not None and (process.user.name, process.user.homedir) == ("root", "/root")
    assert process.group is not None and process.group.name == "root"
    assert abs(event.ts_ns - time.time_ns()) < 60e9
    assert event.ancestor(1).pid == os.getpid()
    chain, up = [], os.getpid()
    while up:
        chain.append(up)
        up = int(Path(f"/proc/{up}/stat").read_text().rpartition(")")[2].split()[1])
    assert [event.ancestor(n).pid for n in range(1, len(chain) + 1)] == chain
    assert event.ancestor(len(chain) + 1).pid == -1
    assert event.ancestor(1).name == Path("/proc/self/comm").read_text().strip()


def test_a_process_on_a_terminal_as_another_user(capture: Capture, tmp_path: Path) -> None:
    file = tmp_path / "told"
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    master, slave = pty.openpty()
    argv = ["setsid", "--ctty", "--wait", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    try:
        _, events = capture.run(
            [*argv, "/usr/bin/python3", "-c", KNOWS, file], stdin=slave, stdout=slave, stderr=slave, cwd="/usr/share"
        )
    finally:
        os.close(slave)
        os.close(master)
    told = json.loads(file.read_text())
    assert told["tty"] > 0 and told["uid"] == 65534
    event = last(events, told["pid"], EventType.EXECVE)
    assert_knows(event, told)
    assert event.process.user is not None and event.process.user.name == "nobody"
    assert event.process.group is not None and event.process.group.name == "nogroup"
    assert capabilities(event.process.cap_effective) == ""


def test_the_same_of_one_that_ran_before_us(tmp_path: Path) -> None:
    file, go = tmp_path / "told", tmp_path / "go"
    code = KNOWS + "\nimport time\nwhile not os.path.exists(sys.argv[2]): time.sleep(0.01)\nopen('/etc/hostname')\n"
    child = subprocess.Popen([sys.executable, "-c", code, file, go, "x y"], cwd=tmp_path)
    try:
        while not (file.exists() and file.read_text().endswith("}")):
            time.sleep(0.01)
        with Capture() as capture:
            go.touch()
            events = capture.until(lambda e: e.type is EventType.PROCEXIT and e.process.pid == child.pid)
    finally:
        child.wait(180)
    event = next(e for e in events if e.process.pid == child.pid and e.path == "/etc/hostname")
    assert_knows(event, json.loads(file.read_text()))
    assert event.process.exe == sys.executable
    assert event.process.args[-3:] == (str(file), str(go), "x y")
    assert event.ancestor(1).pid == os.getpid()
    assert event.process.user is not None and event.process.user.name == "root"


def test_a_script_is_its_own_name_and_its_interpreters_file(capture: Capture, tmp_path: Path) -> None:
    script = tmp_path / "tercel-script"
    script.write_text("#!/bin/sh\ntrue\n")
    script.chmod(0o755)
    pid, events = capture.run([script, "x"])
    process = last(events, pid, EventType.EXECVE).process
    assert (process.name, process.exe, process.exepath) == ("tercel-script", "/bin/sh", "/usr/bin/dash")
    assert process.args == (str(script), "x")


def run_code(capture: Capture, code: str, *args: object, **options: Any) -> list[Event]:
    """The events of a Python program, from a mark on."""
    mark = "open('/nonexistent/mark', 'rb') if 0 else None\ntry: open('/nonexistent/mark')\nexcept OSError: pass\n"
    pid, events = capture.run(
        [sys.executable, "-S", "-E", "-c", f"import os, socket, sys\n{mark}{code}", *map(str, args)], **options
    )
    mine = [e for e in events if e.process.pid == pid]
    start = next(i for i, e in enumerate(mine) if e.path == "/nonexistent/mark")
    return mine[start + 1 :]


def test_names_are_absolute(capture: Capture, tmp_path: Path) -> None:
    """Relative to the working directory, to a folder's descriptor, and behind a change of directory."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("sub")
    code = (
        "open('x', 'w')\n"
        "d = os.open('sub', os.O_RDONLY)\n"
        "os.open('y', os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=d)\n"
        "os.chdir('sub')\n"
        "open('../sub/./z', 'w')\n"
        "os.fchdir(os.open('..', os.O_RDONLY))\n"
        "os.rename('x', 'sub/w')\n"
        "os.symlink('away', 'sub/s')\n"
        "os.link('sub/w', 'sub/v')\n"
        "os.mkdir('m', 0o750)\n"
        "os.rmdir('m')\n"
        "os.unlink('sub/v')\n"
        "os.chmod('sub/w', 0o104711)\n"
        "os.chown('sub/w', 3, 4)\n"
        "os.open('link/w', os.O_RDONLY)\n"
    )
    events = run_code(capture, code, cwd=tmp_path)
    t = str(tmp_path)

    def at(*types: str) -> list[Event]:
        return [e for e in events if e.type.value in types]

    opened = [e.fd.name for e in at("open", "openat") if e.fd.name and e.fd.name.startswith(t)]
    assert opened == [f"{t}/x", f"{t}/sub", f"{t}/sub/y", f"{t}/sub/z", t, f"{t}/link/w"]
    y = next(e for e in events if e.fd.name == f"{t}/sub/y")
    assert (y.fd.directory, y.fd.filename, y.fd.typechar, y.fd.nameraw) == (f"{t}/sub", "y", "f", "y")
    assert y.fd.num is not None and y.fd.num >= 3 and y.res == y.fd.num
    assert (argument(y, "flags"), argument(y, "mode")) == ("O_CREAT|O_WRONLY|O_CLOEXEC|O_F_CREATED", "0600")
    folder = next(e for e in events if e.fd.name == f"{t}/sub")
    assert folder.fd.type in ("directory", "file")
    (renamed,) = at("rename", "renameat", "renameat2")
    assert (renamed.source_path, renamed.target_path) == (f"{t}/x", f"{t}/sub/w")
    (linked,) = at("link", "linkat")
    assert (linked.source_path, linked.target_path) == (f"{t}/sub/w", f"{t}/sub/v")
    (symlinked,) = at("symlink", "symlinkat")
    assert (symlinked.source_path, symlinked.target_path) == ("away", f"{t}/sub/s")
    assert [e.path for e in at("mkdir", "mkdirat", "rmdir")] == [f"{t}/m", f"{t}/m"]
    assert [e.path for e in at("unlink", "unlinkat")] == [f"{t}/sub/v"]
    (chmod,) = at("chmod", "fchmodat")
    assert (chmod.path, argument(chmod, "mode")) == (f"{t}/sub/w", "S_IXOTH|S_IXGRP|S_IXUSR|S_IWUSR|S_IRUSR|S_ISUID")
    (chown,) = at("chown", "fchownat")
    assert (chown.path, argument(chown, "uid"), argument(chown, "gid")) == (f"{t}/sub/w", "3", "4")
    assert events[-2].process.cwd == f"{t}/"


def test_sockets(capture: Capture, tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as four,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(str(tmp_path / "u.sock"))
        unix.listen()
        p4, p6 = four.getsockname()[1], six.getsockname()[1]
        code = (
            "a = socket.socket(); a.connect(('127.0.0.1', int(sys.argv[1])))\n"
            "b = socket.socket(socket.AF_INET6); b.connect(('::1', int(sys.argv[2])))\n"
            "c = socket.socket(socket.AF_UNIX); c.connect('u.sock')\n"
            "d = socket.socket(socket.AF_INET6); d.connect(('::ffff:127.0.0.1', int(sys.argv[1])))\n"
            "u = socket.socket(type=socket.SOCK_DGRAM); u.connect(('127.0.0.1', 9))\n"
            "r = socket.socket(); r.connect_ex(('127.0.0.1', 9))\n"
            "os.dup2(a.fileno(), 99)\n"
            "print(a.getsockname()[1], b.getsockname()[1])\n"
        )
        read, write = os.pipe()
        events = run_code(capture, code, p4, p6, cwd=tmp_path, stdout=write)
        os.close(write)
        with os.fdopen(read) as out:
            l4, l6 = map(int, out.read().split())
    tcp4, tcp6, local, mapped, udp, refused = [e for e in events if e.type is EventType.CONNECT]
    assert tcp4.fd.name == f"127.0.0.1:{l4}->127.0.0.1:{p4}"
    assert (tcp4.fd.type, tcp4.fd.l4proto) == ("ipv4", "tcp")
    assert (tcp4.fd.cip, tcp4.fd.cport, tcp4.fd.sip, tcp4.fd.sport) == ("127.0.0.1", l4, "127.0.0.1", p4)
    assert (tcp4.fd.lport, tcp4.fd.rport) == (l4, p4)
    assert (tcp6.fd.type, tcp6.fd.sip, tcp6.fd.sport, tcp6.fd.cport) == ("ipv6", "::1", p6, l6)
    assert (local.fd.type, local.fd.name) == ("unix", f"{tmp_path}/u.sock")
    assert mapped.fd.sip == "127.0.0.1"
    assert (udp.fd.l4proto, udp.fd.sport, udp.res) == ("udp", 9, 0)
    assert (refused.fd.sport, refused.fd.sip, refused.res) == (9, "127.0.0.1", -111)
    dup = [e for e in events if e.type.value in ("dup2", "dup3")][-1]
    assert (dup.fd.num, dup.fd.sport, dup.res) == (99, p4, 99)


def test_a_change_of_user_is_known_at_once(capture: Capture) -> None:
    events = run_code(capture, "os.setresgid(4, 5, 6)\nos.setresuid(1, 2, 3)\nopen('/etc/hostname')\n")
    process = next(e for e in events if e.path == "/etc/hostname").process
    assert (process.uid, process.euid, process.suid) == (1, 2, 3)
    assert (process.gid, process.egid, process.sgid) == (4, 5, 6)
    assert process.user is not None and process.user.name == "bin"
    assert process.cap_effective == 0


def test_a_child_knows_its_ancestors_when_they_are_gone(capture: Capture) -> None:
    """A child whose parent has ended is another's, and that one is known."""
    code = (
        "import os, time\n"
        "parent = os.getpid()\n"
        "if os.fork() == 0:\n"
        "    while os.getppid() == parent: time.sleep(0.01)\n"
        "    os.execv('/bin/true', ['true', 'orphan'])\n"
    )
    pid, events = capture.run([sys.executable, "-S", "-c", code])
    if not any(e.process.args == ("orphan",) for e in events):
        events += capture.until(lambda e: e.process.args == ("orphan",))
    orphan = next(e for e in events if e.process.args == ("orphan",))
    assert orphan.process.ppid != pid, "it was given to another parent"
    assert orphan.process.name == "true"
    assert orphan.ancestor(1).pid == orphan.process.ppid
    assert orphan.ancestor(1).name is not None


def test_an_exit_tells_how(capture: Capture) -> None:
    pid, events = capture.run([sys.executable, "-c", "import os; os._exit(7)"])
    ended = last(events, pid, EventType.PROCEXIT)
    assert argument(ended, "ret") == "7"
    pid, events = capture.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    ended = last(events, pid, EventType.PROCEXIT)
    assert argument(ended, "sig") == "SIGKILL"
