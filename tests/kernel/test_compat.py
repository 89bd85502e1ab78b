"""32-bit programs, `int 0x80` and x32: calls that do not come by the door of the machine are seen as what they are."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.catalog.events import STATE
from appliance.catalog.values import argument, raw_argument
from appliance.kernel.arch import this_arch
from appliance.kernel.program import Hooks
from appliance.model.event import Event
from appliance.model.event import EventType as E
from tests.support.capture import HOOKS, TYPES, Capture

pytestmark = pytest.mark.kernel

SOURCE = Path(__file__).with_name("calls32.c")
CALLED = STATE | {
    E.OPEN, E.OPENAT, E.OPENAT2, E.CHMOD, E.CHOWN, E.RENAME, E.WRITEV, E.LLSEEK, E.PIPE2, E.SETRLIMIT, E.NANOSLEEP,
    E.SOCKET, E.CONNECT, E.SENDMSG, E.WAITPID, E.MMAP, E.UNLINK,
}  # fmt: skip
Told = tuple[Event, dict[str, object]]


@pytest.fixture(scope="module")
def capture() -> Capture:  # type: ignore[misc]
    if not this_arch().compat:
        pytest.skip("this architecture has no 32-bit calls that are decoded")
    with Capture(types=CALLED if HOOKS is Hooks.FUNCTIONS else TYPES | CALLED) as capture:
        yield capture


def built(folder: Path, *options: str) -> Path:
    """The program, which needs no C library. Where there is no compiler either (test_vm.py), it was built before."""
    program = folder / "calls32"
    if "TERCEL_BUILT" in os.environ:
        shutil.copy(Path(os.environ["TERCEL_BUILT"]) / f"calls32{''.join(options)}", program)
        return program
    command = ["cc", "-nostdlib", "-static", "-fno-pie", "-no-pie", "-fno-stack-protector", "-O1", *options]
    subprocess.run([*command, "-o", program, SOURCE], check=True)
    return program


def run(capture: Capture, program: Path, folder: Path) -> list[Event]:
    """The program's own events behind its start."""
    pid, events = capture.run([program], cwd=folder)
    mine = [e for e in events if e.process.pid == pid]
    start = next(i for i, e in enumerate(mine) if e.type is E.EXECVE and e.res == 0)
    return [e for e in mine[start + 1 :] if e.type is not E.PROCEXIT]


def told(event: Event, *names: str) -> tuple[object, ...]:
    """Type, result by name where it is an error, and arguments."""
    res = errno.errorcode[-event.res] if event.res < 0 else "ok"
    return (event.type.value, res, *(argument(event, n) for n in names))


def test_a_32_bit_program_is_seen_as_what_it_is(capture: Capture, tmp_path: Path) -> None:
    events = run(capture, built(tmp_path, "-m32"), tmp_path)
    assert {e.via for e in events} == {"ia32"}
    names = {
        E.OPEN: ("name", "flags", "mode"), E.OPENAT: ("dirfd", "name"), E.OPENAT2: ("name", "resolve"),
        E.CHMOD: ("filename", "mode"), E.RENAME: ("oldpath", "newpath"), E.WRITEV: ("data",), E.LLSEEK: ("offset",),
        E.EXECVE: ("filename",), E.PIPE2: ("flags",), E.SETRLIMIT: ("cur", "max", "resource"),
        E.NANOSLEEP: ("interval",), E.SOCKET: ("domain", "type"), E.SENDMSG: ("data",), E.UNLINK: ("path",),
        E.MMAP: ("length", "prot", "flags", "fd"), E.CLONE: ("flags",), E.CLONE3: ("flags",), E.FORK: ("flags",),
    }  # fmt: skip
    here = str(tmp_path)
    assert [told(e, *names.get(e.type, ())) for e in events] == [
        ("open", "ok", f"{here}/file32", "O_CREAT|O_RDWR|O_F_CREATED", "0640"),
        ("openat", "ENOENT", "AT_FDCWD", f"{here}/missing"),
        ("openat2", "ok", f"{here}/file32", "RESOLVE_BENEATH"),
        ("chmod", "ok", f"{here}/file32", "S_IWUSR|S_IRUSR"),
        ("chown", "ok"),
        ("chown", "ok"),
        ("rename", "ok", f"{here}/file32", f"{here}/other32"),
        ("writev", "ok", "thirty-two"),
        ("llseek", "ok", str(1 << 32 | 2)),
        ("execve", "ENOENT", f"{here}/missing"),
        ("pipe2", "ok", "O_CLOEXEC"),
        ("setrlimit", "ok", "1000", "2000", "RLIMIT_CORE"),
        ("nanosleep", "ok", "1e-06s"),
        ("socket", "ok", "AF_INET", "2"),
        ("connect", "ok"),
        ("sendmsg", "ok", "thirty-two"),
        ("sendmsg", *told(events[16])[1:], "thirty-two"),  # refused, or sent: nobody listens
        ("fork", "ok", "0"),
        ("waitpid", "ok"),
        ("clone", "ok", "CLONE_FILES|CLONE_FS"),
        ("waitpid", "ok"),
        ("clone3", "ok", "CLONE_FILES"),
        ("waitpid", "ok"),
        ("clone", "EINVAL", "CLONE_THREAD"),
        ("setresuid", "ok"),
        ("mmap", "ok", "4096", "PROT_READ", "MAP_PRIVATE|MAP_ANONYMOUS", "EPERM"),
        ("unlink", "EACCES" if events[-1].res < 0 else "ok", f"{here}/other32"),
    ]
    assert events[0].path == str(tmp_path / "file32")
    short, wide = events[4], events[5]
    unchanged = 0xFFFFFFFF
    assert [raw_argument(short, n) for n in ("uid", "gid")] == [7, unchanged]
    assert [raw_argument(wide, n) for n in ("uid", "gid")] == [70000, unchanged]
    assert events[9].type is E.EXECVE
    connected, sent = events[14], events[15]
    assert (connected.fd.sip, connected.fd.sport, connected.fd.l4proto) == ("127.0.0.1", 9, "udp")
    assert (sent.fd.sip, sent.fd.sport) == ("127.0.0.1", 9)
    user = next(e for e in events if e.type is E.SETRESUID)
    assert [raw_argument(user, n) for n in ("ruid", "euid", "suid")] == [1, 2, unchanged]


def test_int_0x80_and_x32_of_a_64_bit_program(capture: Capture, tmp_path: Path) -> None:
    events = run(capture, built(tmp_path, "-DWIDE"), tmp_path)
    x32 = "ENOSYS"  # this kernel has no x32 ABI: the call is told, and that nothing came of it
    seen = [(e.via, *told(e, "name" if e.type is E.OPENAT else "filename")) for e in events]
    if any(via == "x32" and res != "ENOSYS" for via, _, res, _ in seen):
        x32 = "ENOENT"
    here = str(tmp_path)
    x32_calls = [("x32", "openat", x32, f"{here}/other32"), ("x32", "execve", x32, f"{here}/missing")]
    if x32 == "ENOSYS" and HOOKS is Hooks.FUNCTIONS:  # there is no function that could tell
        x32_calls = []
    assert seen == [
        ("ia32", "openat", "ok", f"{here}/file32"),
        ("ia32", "execve", "ENOENT", f"{here}/missing"),
        *x32_calls,
        ("syscall", "openat", "ENOENT", f"{here}/missing"),
    ]
    assert events[0].path == str(tmp_path / "file32")


def test_arguments_of_a_32_bit_program_that_fails_to_start_another(capture: Capture, tmp_path: Path) -> None:
    events = run(capture, built(tmp_path, "-m32"), tmp_path)
    failed = next(e for e in events if e.type is E.EXECVE)
    assert argument(failed, "args") == "an arg"


def test_a_32_bit_program_that_forks_has_a_child(capture: Capture, tmp_path: Path) -> None:
    program = built(tmp_path, "-m32")
    pid, events = capture.run([program], cwd=tmp_path)
    child = next(e.res for e in events if e.type is E.FORK and e.process.pid == pid)
    ended = next(e for e in events if e.type is E.PROCEXIT and e.process.pid == child)
    assert ended.process.ppid == pid
    assert (ended.process.exepath or "").endswith("/calls32")
