"""More than is read: who floods loses first, what state needs is not lost at all, and every record is accounted for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.catalog.events import EVENTS, STATE
from appliance.kernel.loader import Books
from appliance.kernel.program import Buffers
from appliance.model.event import EventType as E
from appliance.model.event import RawEvent
from appliance.sources.syscall import SyscallSource
from tests.support.cgroups import cgroup

pytestmark = pytest.mark.kernel

OPENS = "import os\nfor i in range({count}): os.close(os.open('/etc/hostname', 0))"
# folders within folders, then opens of what is not there
NESTED = (
    "import os\n"
    "for i in range(200):\n"
    "    os.mkdir('d'); os.chdir('d')\n"
    "try: os.open('absent', 0)\n"
    "except OSError: pass\n"
    "try: os.open('/' + 'x' * 4094, 0)\n"
    "except OSError: pass\n"
)


@pytest.fixture
def cgroups() -> Iterator[tuple[Path, Path]]:
    """Two cgroups of ours, in the hierarchy by which containers are told apart."""
    with cgroup(f"tercel-test-{os.getpid()}-loud") as loud, cgroup(f"tercel-test-{os.getpid()}-quiet") as quiet:
        yield loud, quiet


def run_in(cgroup: Path, program: str) -> int:
    """Run a Python program in a cgroup; its pid."""
    join = f"import os\nopen({str(cgroup / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", join + program])
    assert child.wait(180) == 0
    return child.pid


def drained(source: SyscallSource) -> tuple[list[RawEvent], Books]:
    events: list[RawEvent] = []
    books = source.stop(events.extend)
    source.close()
    return events, books


def closes(events: list[RawEvent], books: Books) -> bool:
    got = Counter(e.type for e in events)
    made = {t: b.produced - b.lost - b.filtered for t, b in books.by_type.items()}
    return {t: n for t, n in made.items() if n} == dict(got)


def named(events: list[RawEvent], pid: int, type_: E = E.OPENAT) -> list[object]:
    at = EVENTS[type_].index["name"]
    return [e.params[at] for e in events if e.pid == pid and e.type is type_]


def test_who_floods_is_blind_first_and_its_neighbour_is_not(cgroups: tuple[Path, Path]) -> None:
    """Nobody reads. The flood is held to its share of the ring; a quarter is left, and the quiet one is seen whole."""
    loud, quiet = cgroups
    source = SyscallSource(Buffers(1 << 20, 4 << 20, 0), {E.OPENAT})
    flooder = run_in(loud, OPENS.format(count=20_000))
    other = run_in(quiet, OPENS.format(count=100))
    events, books = drained(source)
    assert named(events, other).count("/etc/hostname") == 100
    assert 0 < named(events, flooder).count("/etc/hostname") < 20_000
    book = books.by_type[E.OPENAT]
    assert book.unfair > 0
    assert book.full == 0
    assert closes(events, books)


def test_a_flood_cannot_blind_the_process_table(tmp_path: Path) -> None:
    """The bulk ring overflows by far; each start and end of a process is there."""
    source = SyscallSource(Buffers(64 << 10, 4 << 20, 0), {E.OPENAT})
    starts = "\nfor i in range(20): os.waitpid(os.spawnv(os.P_NOWAIT, '/bin/true', ['t']), 0)"
    subprocess.run([sys.executable, "-I", "-S", "-c", OPENS.format(count=5_000) + starts], check=True)
    events, books = drained(source)
    assert books.by_type[E.OPENAT].lost > 0
    assert all(book.lost == 0 for type_, book in books.by_type.items() if type_ in STATE)
    at = EVENTS[E.EXECVE].index["comm"]
    started = [e for e in events if e.type is E.EXECVE and e.res == 0 and e.params[at] == "true"]
    assert len(started) >= 20
    assert {e.pid for e in started} <= {e.pid for e in events if e.type is E.PROCEXIT}
    assert closes(events, books)


def test_deep_folders_and_long_paths(tmp_path: Path) -> None:
    """200 folders deep the walk is cut and says so; a path of 4,095 bytes is told whole."""
    source = SyscallSource(Buffers(4 << 20), {E.OPENAT, E.MKDIR})
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", NESTED], cwd=tmp_path)
    assert child.wait(180) == 0
    events, books = drained(source)
    mine = [e for e in events if e.pid == child.pid and e.type is E.OPENAT]
    index = EVENTS[E.OPENAT].index
    absent = next(e for e in mine if e.params[index["name"]] == "absent")
    assert str(absent.params[index["base"]]).startswith("(truncated)/d/d")
    assert "/" + "x" * 4094 in named(events, child.pid)
    made = [e for e in events if e.pid == child.pid and e.type is E.MKDIR]
    assert len(made) == 200
    assert closes(events, books)


def test_a_fork_bomb(tmp_path: Path) -> None:
    """Bounded: six generations, each process makes two. Each birth and each end is told once."""
    source = SyscallSource(Buffers(4 << 20, 8 << 20), ())
    bomb = (
        "import os\nfor i in range(6):\n    os.fork()\n"
        "try:\n    while True: os.wait()\nexcept ChildProcessError: os._exit(0)"
    )
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", bomb])
    assert child.wait(180) == 0
    events, books = drained(source)
    at = EVENTS[E.CLONE].index["child_pid"]
    born = {child.pid}
    for event in events:
        if event.type in (E.CLONE, E.FORK, E.VFORK, E.CLONE3) and event.pid in born and event.res > 0:
            born.add(int(str(event.params[at])))
    assert len(born) == 64
    assert born <= {e.pid for e in events if e.type is E.PROCEXIT}
    assert books.lost == 0
    assert closes(events, books)
