"""Digests of running files: of the very file that runs, whatever lies at its path."""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.model.event import Event, Process
from appliance.model.event import EventType as E
from appliance.sources.digests import Digests, key_of
from tests.support.capture import Capture
from tests.support.docker import DockerEngine
from tests.support.events import event, process
from tests.support.threads import no_threads

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def capture() -> Iterator[Capture]:
    with Capture(types={E.MKDIR}) as capture:
        yield capture


@pytest.fixture
def digests() -> Iterator[Digests]:
    digests = Digests()
    yield digests
    digests.close()


def digest(digests: Digests, of: Process) -> str | None:
    """The digest that the process's events are given, waited for as the loop does."""
    made = event("open", process=of)
    done, key = digests.complete(made)
    deadline = time.monotonic() + 120
    while key is not None and not digests.is_known(key):
        select.select([digests.fileno()], [], [], 0.5)
        assert time.monotonic() < deadline
    return digests.complete(made)[0].process.exe_sha256 if key is not None else done.process.exe_sha256


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def program(path: Path, tail: bytes = b"") -> Path:
    """A program that sleeps, with a digest of its own."""
    shutil.copy("/bin/sleep", path)
    with path.open("ab") as file:
        file.write(tail)
    return path


def is_start(e: Event, pid: int) -> bool:
    return e.type is E.EXECVE and e.res == 0 and e.process.pid == pid


def started(capture: Capture, pid: int) -> Process:
    """A process that runs on."""
    return next(e.process for e in capture.until(lambda e: is_start(e, pid)) if is_start(e, pid))


def ended(capture: Capture, path: Path) -> Process:
    """One that ran for a moment."""
    pid, events = capture.run([path, "0"])
    return next(e.process for e in events if is_start(e, pid))


def test_of_one_that_runs_and_whose_path_is_anothers_by_now(capture: Capture, digests: Digests, tmp_path: Path) -> None:
    path = program(tmp_path / "sleeper", b"first")
    expected = sha256(path)
    child = subprocess.Popen([path, "600"])
    try:
        running = started(capture, child.pid)
        path.unlink()
        program(path, b"other")
        assert digest(digests, running) == expected != sha256(path)
    finally:
        child.kill()
        child.wait()
    assert digest(digests, running) == expected, "kept"
    assert digests.complete(event("open", process=process("x")))[1] is None, "of which no file is known"


def test_of_one_that_runs_while_there_is_no_thread_to_read_it(
    capture: Capture, digests: Digests, tmp_path: Path
) -> None:
    path = program(tmp_path / "sleeper", b"first")
    child = subprocess.Popen([path, "600"])
    try:
        running = started(capture, child.pid)
        with no_threads():
            key = digests.complete(event("open", process=running))[1]
            assert key is not None and not digests.is_known(key), "it waits, as long as the loop lets it"
        assert digest(digests, running) == sha256(path), "the next event finds a thread for it"
    finally:
        child.kill()
        child.wait()


def test_of_one_in_memory_only(capture: Capture, digests: Digests, tmp_path: Path) -> None:
    source = program(tmp_path / "source", b"in memory")
    code = (
        "import os, sys\nfd = os.memfd_create('m')\nos.write(fd, open(sys.argv[1], 'rb').read())\n"
        "os.execve(fd, ['m', '600'], {})\n"
    )
    child = subprocess.Popen([sys.executable, "-S", "-c", code, source])
    try:
        events = capture.until(lambda e: e.res == 0 and e.process.pid == child.pid and e.process.args == ("600",))
        running = next(e.process for e in events if e.process.pid == child.pid and e.process.args == ("600",))
        assert digest(digests, running) == sha256(source)
    finally:
        child.kill()
        child.wait()


def test_of_one_that_has_ended(capture: Capture, digests: Digests, tmp_path: Path) -> None:
    """Its path counts while the same file lies there, and no longer: another of the same size, made to look as old."""
    path = program(tmp_path / "short", b"first")
    gone = ended(capture, path)
    assert digest(digests, gone) == sha256(path)
    old = path.stat()
    path.unlink()
    program(path, b"other")
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert path.stat().st_size == old.st_size
    fresh = Digests()
    try:
        assert digest(fresh, gone) is None
        reason = "digest not made: process ended, its file lies elsewhere by now"
        assert fresh.missing == {reason: 1}
        path.unlink()
        os.mkfifo(path)
        facts = dict.fromkeys(("exe_dev", "exe_ino", "exe_size", "exe_ctime_ns", "exe_mtime_ns", "exe_magic"), 1)
        assert digest(fresh, process(pid=gone.pid, exepath=str(path), **facts)) is None
        assert fresh.missing == {reason: 2}, "nobody waits for what a fifo has to say"
    finally:
        fresh.close()


def test_of_one_that_ran_before_us(digests: Digests, tmp_path: Path) -> None:
    path = program(tmp_path / "early")
    expected = sha256(path)
    child = subprocess.Popen([path, "600"])
    try:
        while Path(f"/proc/{child.pid}/exe").readlink() != path:
            time.sleep(0.01)
        path.unlink()
        with Capture(types=()) as late:
            known = late.state._live[child.pid].process
        assert digest(digests, known) == expected
    finally:
        child.kill()
        child.wait()


def test_what_is_too_large_or_may_not_answer_is_not_read(capture: Capture, tmp_path: Path) -> None:
    gone = ended(capture, program(tmp_path / "large"))
    small = Digests(size_max=1 << 10)
    try:
        assert digest(small, gone) is None
        assert digest(small, gone) is None, "asked once for a process"
        assert small.missing == {"digest not made: file larger than 0 MiB": 1}
        facts = dict.fromkeys(("exe_dev", "exe_ino", "exe_size", "exe_ctime_ns", "exe_mtime_ns"), 1)
        assert digest(small, process(pid=os.getpid(), exe_magic=0x65735546, **facts)) is None
        assert small.missing["digest not made: its file system may not answer"] == 1
    finally:
        small.close()


def test_a_table_that_ends(capture: Capture, tmp_path: Path) -> None:
    small = Digests(files_max=2)
    try:
        paths = [program(tmp_path / f"p{n}", bytes([n])) for n in range(3)]
        gone = [ended(capture, path) for path in paths]
        assert [digest(small, g) for g in gone] == [sha256(path) for path in paths]
        assert small.complete(event("open", process=gone[2]))[1] is None
        key = small.complete(event("open", process=gone[0]))[1]
        assert key == key_of(gone[0]), "the first was forgotten, and is asked for again"
    finally:
        small.close()


@pytest.mark.docker
def test_of_a_program_in_a_container(
    capture: Capture, digests: Digests, docker_engine: DockerEngine, nginx_image: str
) -> None:
    """From a layer of the image, when it has ended; from what was written since, while it runs."""
    name = f"tercel{os.getpid()}"
    script = f"id; cp /usr/bin/sleep /tmp/{name}; echo >>/tmp/{name}; exec /tmp/{name} 600"
    container = docker_engine.run(nginx_image, "bash", "-c", script)
    try:
        events = capture.until(lambda e: e.type is E.EXECVE and e.res == 0 and e.process.name == name[:15])
        mine = [e.process for e in events if e.type is E.EXECVE and e.process.container_id == container[:12]]
        for path in ("/usr/bin/id", f"/tmp/{name}"):
            made = next(p for p in mine if p.exepath == path)
            assert digest(digests, made) == docker_engine.exec(container, "sha256sum", path).split()[0]
    finally:
        docker_engine.remove(container)
