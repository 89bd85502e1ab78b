"""A known workload on the real kernel, and the exact events it makes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.catalog.events import EVENTS
from appliance.catalog.params import OPEN_FLAGS
from appliance.kernel.program import Buffers, Hooks
from appliance.model.event import EventType as E
from appliance.model.event import RawEvent
from appliance.sources.syscall import SyscallSource
from tests.support.capture import HOOKS, TYPES
from tests.support.daemon import PROGRAMS

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).resolve().parents[2]
ACTS = Path(__file__).with_name("acts.py")
PATIENCE_S = 180


@pytest.fixture(scope="module")
def source() -> Iterator[SyscallSource]:
    source = SyscallSource(Buffers(16 << 20, 32 << 20), TYPES, hooks=HOOKS, programs=PROGRAMS)  # as Capture's
    yield source
    source.stop(lambda batch: None)
    source.close()


def run(source: SyscallSource, argv: list[str], **options: object) -> tuple[int, list[RawEvent]]:
    """Run a program; its pid, and all events up to its exit, of every process."""
    while source.read(4096):
        pass
    child = subprocess.Popen(argv, **options)  # type: ignore[call-overload]
    events: list[RawEvent] = []
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        batch = source.read(4096)
        events += batch
        if any(e.type is E.PROCEXIT and e.pid == child.pid for e in batch):
            child.wait()
            return child.pid, events
        if not batch:
            source.wait()
    child.kill()
    raise AssertionError(f"no exit of {argv} seen within {PATIENCE_S} s; {len(events)} events")


def test_the_end_of_a_call_is_heard_by_a_typed_tracepoint(source: SyscallSource) -> None:
    """Here and on each of Debian's kernels the verifier takes the typed program; the raw one is for others. Or, where
    test_vm.py asks for it, at the functions that make calls."""
    assert ("functions of the kernel" if HOOKS is Hooks.FUNCTIONS else "sys_exit (typed)") in source.describe()


def params(event: RawEvent) -> dict[str, object]:
    return {name: event.params[i] for name, i in EVENTS[event.type].index.items()}


def some(event: RawEvent, *names: str) -> dict[str, object]:
    return {name: params(event)[name] for name in names}


@pytest.fixture(scope="module")
def acts(source: SyscallSource, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[RawEvent], Path, int]:
    """The events of acts.py behind its import phase, the folder it worked in, the port it connected to."""
    folder = tmp_path_factory.mktemp("acts")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        pid, events = run(
            source,
            [sys.executable, str(ACTS), str(folder), str(port)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            cwd=ROOT,
        )
    mine = [e for e in events if e.pid == pid]
    start = next(i for i, e in enumerate(mine) if e.type is E.CHDIR and params(e)["path"] == str(folder))
    return mine[start + 1 :], folder, port


def test_each_call_is_one_event_in_order_with_its_result(acts: tuple[list[RawEvent], Path, int]) -> None:
    events, _, _ = acts
    ok = {
        E.OPENAT: [True, False, True], E.OPEN: [True], E.OPENAT2: [True], E.CREAT: [True], E.CHMOD: [True],
        E.FCHMOD: [True], E.FCHMODAT: [True], E.CHOWN: [True], E.LCHOWN: [True], E.FCHOWN: [True],
        E.FCHOWNAT: [True], E.MKDIR: [True], E.MKDIRAT: [True], E.SYMLINK: [True], E.SYMLINKAT: [True],
        E.LINK: [True], E.LINKAT: [True], E.RENAME: [True], E.RENAMEAT: [True], E.RENAMEAT2: [True],
        E.UNLINK: [True], E.UNLINKAT: [True], E.RMDIR: [True], E.CHDIR: [True, False], E.FCHDIR: [True],
        E.DUP: [True, False], E.DUP2: [True], E.DUP3: [True], E.SOCKET: [True, True], E.CONNECT: [True, False],
        E.PTRACE: [False], E.MOUNT: [False], E.SETRESGID: [True], E.SETRESUID: [True], E.SETUID: [False],
    }  # fmt: skip
    seen: dict[E, list[bool]] = {}
    for event in events:
        if event.type is not E.PROCEXIT:
            seen.setdefault(event.type, []).append(event.res >= 0)
    assert seen == ok


def one(events: list[RawEvent], event_type: E, place: int = 0) -> RawEvent:
    return [e for e in events if e.type is event_type][place]


def test_paths_are_as_given_and_come_with_the_folder_they_are_relative_to(
    acts: tuple[list[RawEvent], Path, int],
) -> None:
    events, folder, _ = acts
    here = str(folder)
    assert some(one(events, E.OPENAT), "dirfd", "name", "flags", "mode", "base", "dev", "ino") == {
        "dirfd": -100, "name": "one", "flags": os.O_RDWR | os.O_CREAT | OPEN_FLAGS["O_F_CREATED"], "mode": 0o640,
        "base": here, "dev": folder.stat().st_dev, "ino": (folder / "one").stat().st_ino,
    }  # fmt: skip
    assert some(one(events, E.OPENAT, 1), "name", "mode", "base") == {
        "name": "./no/../missing", "mode": 0, "base": here,
    }  # fmt: skip
    assert some(one(events, E.OPEN), "name", "base") == {"name": "/etc/hostname", "base": ""}
    assert some(one(events, E.OPENAT2), "name", "resolve", "base") == {"name": "one", "resolve": 8, "base": here}
    assert some(one(events, E.CREAT), "name", "mode", "base") == {"name": "two", "mode": 0o600, "base": here}
    assert params(one(events, E.RENAMEAT2)) == {
        "olddirfd": -100, "oldpath": "hard3", "newdirfd": params(one(events, E.RENAMEAT2))["newdirfd"],
        "newpath": "hard5", "flags": 1, "oldbase": here, "newbase": here,
    }  # fmt: skip
    assert some(one(events, E.SYMLINKAT), "target", "linkpath", "base") == {
        "target": "/etc/passwd", "linkpath": "sym2", "base": here,
    }  # fmt: skip
    assert some(one(events, E.UNLINKAT), "name", "flags", "base") == {"name": "dir2", "flags": 0x200, "base": here}
    assert some(one(events, E.MOUNT), "dev", "dir", "type", "flags", "base") == {
        "dev": "nodev", "dir": "nodir", "type": "notype", "flags": 4096, "base": here,
    }  # fmt: skip


def test_working_directory_is_told_after_the_change(acts: tuple[list[RawEvent], Path, int]) -> None:
    events, folder, _ = acts
    assert some(one(events, E.CHDIR), "path", "cwd") == {"path": "/usr/../tmp", "cwd": "/tmp"}
    assert some(one(events, E.FCHDIR), "cwd") == {"cwd": str(folder)}
    assert some(one(events, E.CHDIR, 1), "path", "cwd") == {"path": "nowhere", "cwd": str(folder)}


def test_modes_and_owners(acts: tuple[list[RawEvent], Path, int]) -> None:
    events, folder, _ = acts
    assert some(one(events, E.CHMOD), "filename", "mode") == {"filename": "one", "mode": 0o4755}
    assert some(one(events, E.FCHMOD), "mode", "fd_path") == {"mode": 0o644, "fd_path": f"{folder}/one"}
    assert some(one(events, E.CHOWN), "uid", "gid") == {"uid": 1, "gid": 2}
    assert some(one(events, E.FCHOWN), "uid", "gid", "fd_path") == {"uid": 3, "gid": 4, "fd_path": f"{folder}/one"}
    assert some(one(events, E.FCHOWNAT), "pathname", "flags") == {"pathname": "one", "flags": 0x100}


def test_descriptors(acts: tuple[list[RawEvent], Path, int]) -> None:
    events, folder, _ = acts
    for event_type, result in ((E.DUP2, 40), (E.DUP3, 41)):
        event = one(events, event_type)
        assert event.res == result
        assert some(event, "newfd", "fd_path") == {"newfd": result, "fd_path": f"{folder}/one"}
    assert one(events, E.DUP, 1).res == -9  # EBADF


def test_sockets_tell_both_ends_from_the_kernel(acts: tuple[list[RawEvent], Path, int]) -> None:
    events, _, port = acts
    connected = params(one(events, E.CONNECT))
    assert connected["sock_family"] == socket.AF_INET
    assert connected["sock_proto"] == socket.IPPROTO_TCP
    assert connected["remote_port"] == port
    assert connected["local_port"]
    assert connected["remote_addr"] == socket.inet_aton("127.0.0.1") + bytes(12)
    unix = params(one(events, E.CONNECT, 1))
    assert unix["sock_family"] == socket.AF_UNIX
    assert unix["sockaddr"] == b"\x01\x00/nobody/listens\0"


def test_credentials_after_the_call(acts: tuple[list[RawEvent], Path, int]) -> None:
    events, _, _ = acts
    groups = one(events, E.SETRESGID)
    assert some(groups, "rgid", "egid", "sgid", "new_gid", "new_egid", "new_sgid") == {
        "rgid": 7, "egid": 8, "sgid": 9, "new_gid": 7, "new_egid": 8, "new_sgid": 9,
    }  # fmt: skip
    users = one(events, E.SETRESUID)
    assert some(users, "new_uid", "new_euid", "new_suid", "cap_effective") == {
        "new_uid": 4, "new_euid": 5, "new_suid": 6, "cap_effective": 0,
    }  # fmt: skip
    assert one(events, E.SETUID).res == -1  # EPERM: no longer root


@pytest.mark.parametrize("count", [23])
def test_23_programs_started_are_23_events(source: SyscallSource, count: int) -> None:
    pid, events = run(source, ["/bin/sh", "-c", "i=0; while [ $i -lt 23 ]; do /bin/true x$i; i=$((i+1)); done"])
    started = [e for e in events if e.type is E.EXECVE and e.res == 0 and params(e)["ptid"] == pid]
    assert [params(e)["args"] for e in started] == [("/bin/true", f"x{i}") for i in range(count)]
    pids = {e.pid for e in started}
    assert len(pids) == count
    created = [e for e in events if e.pid == pid and e.res in pids and params(e).get("child_pid") == e.res]
    ended = [e for e in events if e.type is E.PROCEXIT and e.pid in pids]
    assert len(created) == count
    assert len(ended) == count
    for event in created:  # the same process, told by three hooks
        child = next(e for e in started if e.pid == event.res)
        assert params(event)["child_start_ns"] == child.start_ns


def test_facts_of_a_program_that_starts(source: SyscallSource, tmp_path: Path) -> None:
    pid, events = run(source, ["./a b", "", "c\nd"], cwd="/usr", executable="/bin/true", process_group=0)
    event = next(e for e in events if e.type is E.EXECVE and e.pid == pid and e.res == 0)
    facts = params(event)
    assert facts["args"] == ("./a b", "", "c\nd")
    assert facts["comm"] == "true"
    assert facts["cwd"] == "/usr"
    assert facts["trusted_exepath"] == "/usr/bin/true"
    assert facts["filename"] == "/bin/true"
    assert facts["ptid"] == os.getpid()
    assert facts["pgid"] == pid
    assert facts["sid"] == os.getsid(0)
    assert facts["vpid"] == pid
    assert facts["new_euid"] == 0
    assert facts["cap_effective"] == int(_status("CapEff"), 16)
    assert facts["args_size"] == len("./a b\0\0c\nd\0")


def _status(key: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{key}:"))


def test_a_program_that_cannot_start_is_an_event(source: SyscallSource, tmp_path: Path) -> None:
    script = "import os\ntry: os.execv('/nowhere/x', ['x', 'y z'])\nexcept OSError: pass"
    pid, events = run(source, [sys.executable, "-c", script])
    failed = [e for e in events if e.pid == pid and e.type is E.EXECVE and e.res < 0]
    assert [(e.res, params(e)["filename"], params(e)["args"]) for e in failed] == [(-2, "/nowhere/x", ("x", "y z"))]


def test_hostile_names_and_arguments(source: SyscallSource, tmp_path: Path) -> None:
    name = b"evil\n\x1b[31m\xff\xfe"
    program = tmp_path / os.fsdecode(name)
    shutil.copy("/bin/true", program)
    pid, events = run(source, [str(program), "x" * 100_000])
    event = next(e for e in events if e.type is E.EXECVE and e.pid == pid and e.res == 0)
    facts = params(event)
    assert facts["trusted_exepath"] == str(program)
    assert facts["comm"] == os.fsdecode(name)[:15]
    size = facts["args_size"]
    assert isinstance(size, int)
    assert size > 100_000
    assert len("".join(facts["args"])) < 4096  # type: ignore[arg-type]


def test_threads_are_told_from_processes(source: SyscallSource) -> None:
    script = "import threading; t = threading.Thread(target=int); t.start(); t.join()"
    pid, events = run(source, [sys.executable, "-c", script])
    made = [e for e in events if e.pid == pid and e.type in (E.CLONE, E.CLONE3)]
    assert len(made) == 1
    assert params(made[0])["child_pid"] == pid
    assert params(made[0])["child_tid"] != pid


def test_a_birth_that_fails_tells_its_flags_as_one_that_came_about(source: SyscallSource) -> None:
    """The lowest byte is the signal at the child's end, no flag. CLONE_THREAD without CLONE_VM is refused."""
    script = (
        "import ctypes, os, platform\n"
        "clone = ctypes.CDLL(None).syscall, {'x86_64': 56, 'aarch64': 220}[platform.machine()]\n"
        "clone[0](clone[1], 0x10000 | 17, 0, 0, 0, 0)\n"
        "if clone[0](clone[1], 0x200 | 17, 0, 0, 0, 0) == 0: os._exit(0)\n"
        "os.wait()"
    )
    pid, events = run(source, [sys.executable, "-c", script])
    told = [(e.res, params(e)["flags"]) for e in events if e.pid == pid and e.type is E.CLONE]
    assert [(res > 0 or res, flags) for res, flags in told] == [(-22, 0x10000), (True, 0x200)]


def test_a_deep_working_directory_is_cut_and_says_so(source: SyscallSource, tmp_path: Path) -> None:
    script = (
        "import os\nfor i in range(150):\n os.mkdir('d'); os.chdir('d')\n"
        "try: os.open('absent', 0)\nexcept OSError: pass"
    )
    pid, events = run(source, [sys.executable, "-c", script], cwd=tmp_path)
    event = next(e for e in events if e.pid == pid and e.type is E.OPENAT and params(e)["name"] == "absent")
    base = params(event)["base"]
    assert isinstance(base, str)
    assert base.startswith("(truncated)/d/d/d/")


def test_what_is_heard_can_change_while_it_runs(tmp_path: Path) -> None:
    source = SyscallSource(Buffers(1 << 20))
    script = "import os; os.mkdir('made'); os.rmdir('made'); os.rename('not', 'there') if os.path.exists('not') else 0"
    told = []
    for types in ((), (E.MKDIR,), (E.RMDIR, E.RENAME), (E.MKDIR, E.RMDIR), ()):
        source.hear(types)
        pid, events = run(source, [sys.executable, "-c", script], cwd=tmp_path)
        told.append([e.type for e in events if e.pid == pid and e.type in (E.MKDIR, E.RMDIR)])
    source.stop(lambda batch: None)
    source.close()
    assert told == [[], [E.MKDIR], [E.RMDIR], [E.MKDIR, E.RMDIR], []]


def test_books_close(source: SyscallSource) -> None:
    """Produced = read + lost, for every type, over everything this module did."""
    fresh = SyscallSource(Buffers(1 << 20), TYPES)
    got: Counter[E] = Counter()
    child = subprocess.Popen(["/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do ls -lR /etc >/dev/null 2>&1; done"])
    while child.poll() is None:
        got.update(e.type for e in fresh.read(100))
    books = fresh.stop(lambda batch: got.update(e.type for e in batch))
    fresh.close()
    assert {t: b.produced - b.lost for t, b in books.by_type.items()} == dict(got)
    assert fresh.undecodable == 0


def test_a_full_ring_counts_each_loss(tmp_path: Path) -> None:
    small = SyscallSource(Buffers(64 << 10, 64 << 10), TYPES)
    subprocess.run(["/bin/sh", "-c", "ls -lR /etc /usr/share >/dev/null 2>&1"], check=False)
    got: Counter[E] = Counter()
    books = small.stop(lambda batch: got.update(e.type for e in batch))
    small.close()
    assert books.lost > 0
    assert books.produced == sum(got.values()) + books.lost


def test_events_of_several_rings_come_in_the_order_of_time(source: SyscallSource) -> None:
    """Each program's start, its opens and its end come through two rings, and in the order in which they happened.

    Of one thread that is certain; between threads it would be a matter of no processor being stopped in a hook.
    """
    _, events = run(source, ["/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do /bin/true; cat /etc/hostname; done"])
    for thread in {e.tid for e in events}:
        times = [e.ts_ns for e in events if e.tid == thread]
        assert times == sorted(times)
    assert {E.EXECVE, E.OPENAT, E.PROCEXIT} <= {e.type for e in events}


def test_calls_that_failed_are_not_asked_for(tmp_path: Path) -> None:
    """As Falco's `drop_failed_exit`: filtered in the kernel and counted; a failed execve is told all the same."""
    fresh = SyscallSource(Buffers(1 << 20), {E.OPENAT}, no_failed=True)
    try:
        script = "import os\ntry: os.open('absent', 0)\nexcept OSError: os.open('.', 0)"
        pid, events = run(fresh, [sys.executable, "-c", script], cwd=tmp_path)
        books = fresh.stop(lambda batch: None)
    finally:
        fresh.close()
    mine = [e for e in events if e.pid == pid and e.type is E.OPENAT]
    assert all(e.res >= 0 for e in mine)
    assert any(params(e)["name"] == "." for e in mine)
    assert books.by_type[E.OPENAT].filtered > 0
