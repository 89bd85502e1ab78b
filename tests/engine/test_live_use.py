"""What a process uses, on the real kernel: memory, page faults, limits; told at births, starts, calls about memory."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator

import pytest

from appliance.catalog.values import argument, raw_argument
from appliance.model.event import Event
from appliance.model.event import EventType as E
from tests.support.capture import Capture

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
    assert [argument(birth, n) for n in ("vpid", "vtid", "cgroups")] == [str(pid), str(pid), birth.process.cgroup]
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
    slack = 4096  # KiB that CPUs have counted for themselves only
    assert number(made, "vm_rss") - number(gone, "vm_rss") >= KIB - slack
    full, empty = (e for e in mine if e.type is E.MKDIR)
    assert full.process.vmsize == number(made, "vm_size")
    assert empty.process.vmsize is not None and empty.process.vmsize < full.process.vmsize
