"""What a process uses, on the real kernel: memory, page faults, limits; told at births, starts, calls about memory. And
which container it is in."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.catalog.values import argument, raw_argument
from appliance.model.event import NO_USAGE, Event, Usage
from appliance.model.event import EventType as E
from tests.support.capture import Capture
from tests.support.cgroups import cgroup

pytestmark = pytest.mark.kernel

KIB = 64 << 10  # of the memory that the programs here take


@pytest.fixture(scope="module")
def capture() -> Iterator[Capture]:
    with Capture(types={E.MMAP, E.MUNMAP, E.BRK, E.MKDIR}) as capture:
        yield capture


def number(event: Event, name: str) -> int:
    value = raw_argument(event, name)
    assert isinstance(value, int)
    return value


def test_a_birth_tells_what_the_caller_uses(capture: Capture) -> None:
    code = (
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (321, 321))\n"
        f"kept = bytearray(os.urandom(1) * ({KIB} << 10))\n"
        "pid = os.fork()\n"
        "if pid == 0: os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
    )
    pid, events = capture.run([sys.executable, "-S", "-c", code])
    birth = next(e for e in events if e.process.pid == pid and e.type in (E.CLONE, E.CLONE3, E.FORK, E.VFORK))
    assert birth.res > 0
    size, rss = number(birth, "vm_size"), number(birth, "vm_rss")
    assert KIB < rss < size < 100 * KIB
    assert number(birth, "vm_swap") <= size
    assert number(birth, "fdlimit") == 321
    assert number(birth, "pgft_min") > KIB // 4 // 512  # by huge pages at the least
    assert [argument(birth, n) for n in ("vpid", "vtid")] == [birth.process.name] * 2
    assert f"cpu={birth.process.cgroup}" in str(argument(birth, "cgroups")).split()
    ended = next(e for e in events if e.type is E.PROCEXIT and e.process.pid == birth.res)
    assert (ended.process.vmsize, ended.process.vmrss, ended.process.fdlimit) == (size, rss, 321)
    assert (ended.process.pfmajor, ended.process.pfminor) == (0, 0), "it is a process of its own"


def test_a_start_tells_what_the_new_program_uses(capture: Capture) -> None:
    pid, events = capture.run(["true"])
    start = next(e for e in events if e.process.pid == pid and e.type is E.EXECVE and e.res == 0)
    page = mmap.PAGESIZE >> 10
    assert page <= number(start, "vm_size") < KIB
    assert 0 <= number(start, "vm_rss") <= number(start, "vm_size")
    assert (start.process.vmsize, start.process.vmrss) == (number(start, "vm_size"), number(start, "vm_rss"))


def test_calls_about_memory_tell_how_much_there_is_behind_them(capture: Capture, tmp_path: object) -> None:
    code = (
        "import mmap, os, sys\n"
        f"m = mmap.mmap(-1, {KIB} << 10, flags=mmap.MAP_PRIVATE | mmap.MAP_POPULATE)\n"
        "os.mkdir('full')\nm.close()\nos.mkdir('empty')\n"
    )
    pid, events = capture.run([sys.executable, "-S", "-c", code], cwd=str(tmp_path))
    mine = [e for e in events if e.process.pid == pid]
    made = next(e for e in mine if e.type is E.MMAP and number(e, "length") == KIB << 10)
    gone = next(e for e in mine if e.type is E.MUNMAP and number(e, "length") == KIB << 10)
    assert number(made, "vm_size") - number(gone, "vm_size") == KIB
    cpus = os.cpu_count() or 1
    slack = 3 * cpus * max(32, 2 * cpus) * (mmap.PAGESIZE >> 10)  # that CPUs may have counted for themselves only
    assert number(made, "vm_rss") - number(gone, "vm_rss") >= KIB - slack
    full, empty = (e for e in mine if e.type is E.MKDIR)
    assert full.process.vmsize == number(made, "vm_size")
    assert empty.process.vmsize is not None and empty.process.vmsize < full.process.vmsize


def test_what_a_process_has_at_the_moment(capture: Capture, tmp_path: Path) -> None:
    code = (
        "import os, sys, threading\n"
        "kept = [open('/dev/null') for _ in range(20)]\n"
        "go = threading.Event(); t = [threading.Thread(target=go.wait) for _ in range(3)]; [x.start() for x in t]\n"
        "print(len(os.listdir('/proc/self/fd')) - 1, flush=True)\n"
        "os.mkdir('now'); sys.stdin.read(); go.set()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        fds = int(child.stdout.readline())
        events = capture.until(lambda e: e.type is E.MKDIR and e.process.pid == child.pid)
        process = next(e.process for e in events if e.type is E.MKDIR and e.process.pid == child.pid)
        assert capture.state.usage(process) == Usage(threads=4, others=3, fds=fds)
        assert fds > 20
        later = replace(process, start_ns=process.start_ns + 10**9)
        assert capture.state.usage(later) == NO_USAGE, "its number, another process"
    finally:
        child.communicate()
    before = capture.state.missing["process ended before its threads and descriptors were counted"]
    assert capture.state.usage(process) == NO_USAGE
    after = capture.state.missing["process ended before its threads and descriptors were counted"]
    assert after == before + 1


def test_one_whose_first_thread_has_ended(capture: Capture, tmp_path: Path) -> None:
    code = (
        "import ctypes, os, sys, threading\n"
        "def rest():\n"
        "    while open(f'/proc/{os.getpid()}/stat').read().rpartition(')')[2].split()[0] != 'Z': pass\n"
        "    os.mkdir('alone'); sys.stdin.read(); os._exit(0)\n"
        "threading.Thread(target=rest).start()\n"
        "ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 0)\n"
    )
    child = subprocess.Popen([sys.executable, "-S", "-c", code], cwd=tmp_path, stdin=subprocess.PIPE)
    try:
        events = capture.until(lambda e: e.type is E.MKDIR and e.process.pid == child.pid)
        process = next(e.process for e in events if e.type is E.MKDIR and e.process.pid == child.pid)
        usage = capture.state.usage(process)
        assert (usage.threads, usage.others) == (1, 1)
    finally:
        child.communicate()


def test_what_makes_a_container_is_not_in_it_though_it_lies_in_its_cgroup(capture: Capture) -> None:
    """As `runc init` does on a busy host: moved by its parent outside, it starts the same file again. What a program of
    the container does likewise is the container's."""
    full_id = "ab" * 30 + f"{os.getpid():04x}"[-4:]
    program = Path(sys.executable).resolve()
    with cgroup(f"docker-{full_id}.scope") as folder:
        code = (
            "import os, subprocess, sys\n"
            f"def enter(): open({str(folder / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
            f"program = {str(program)!r}\n"
            'call = f\'subprocess.call(["runc", "init"], executable={program!r})\'\n'
            "again = ['-S', '-c', f'import subprocess; {call}']\n"
            "for argv in (['runc', 'init'], ['runc', *again]):\n"
            "    subprocess.call(argv, executable=program, preexec_fn=enter, stderr=subprocess.DEVNULL)\n"
        )
        pid, events = capture.run([program, "-S", "-c", code])
    family = {pid}
    seen = []
    for event in events:
        if event.process.ppid in family:
            family.add(event.process.pid)
            if event.type is E.EXECVE and event.res == 0 and event.process.exe == "runc":
                seen.append((event.process.ppid == pid, event.process.args[:1], event.container.id))
    assert seen == [(True, ("init",), "host"), (True, ("-S",), full_id[:12]), (False, ("init",), full_id[:12])]
