"""What once passed a rule unseen, on the real kernel: relative paths, split texts, copies in memory, lost parents."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.catalog.values import World, by_birth
from appliance.lang.load import load_rules, load_texts
from appliance.model.event import Event
from appliance.model.event import EventType as E
from tests.support.capture import TYPES, Capture
from tests.support.rules import ruleset_of, value
from tests.support.shared import shared_falco

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def capture() -> Iterator[Capture]:
    with Capture(types=TYPES | {E.WRITEV, E.READV}) as capture:
        yield capture


def fired(condition: str, events: list[Event]) -> list[Event]:
    rule = f"- {{rule: r, desc: d, priority: INFO, output: o, condition: '{condition}'}}"
    loaded = load_texts([("r.yaml", rule)])
    assert len(loaded.rules) == 1, loaded.diagnostics
    rules = ruleset_of(loaded.rules)
    return [e for e in events if rules.match(e)]


def test_relative_paths_are_found_by_falcos_own_rules(capture: Capture, tmp_path: Path) -> None:
    rules = ruleset_of(load_rules([shared_falco() / "rules" / "falco_rules.yaml"]).rules)
    _, events = capture.run(["sh", "-c", f"cd /etc && ln shadow {tmp_path}/x; rm -f {tmp_path}/x"])
    told = {alert.rule for e in events for alert in rules.match(e)}
    assert "Create Hardlink Over Sensitive Files" in told


@pytest.mark.parametrize(
    ("script", "condition"),
    [
        ("mkdir d", "evt.type in (mkdir, mkdirat) and evt.arg.path = {here}/d"),
        ("mkdir -p a/b; cd a; mv b ../c", "evt.type startswith rename and evt.arg.oldpath = {here}/a/b"),
        ("mkdir f; rmdir f", 'evt.type in (rmdir, unlinkat) and evt.args contains "({here}/f)"'),
        ("ln -s x s; cd /tmp", "evt.type startswith symlink and evt.arg.linkpath = {here}/s"),
        (": >g; chmod 600 g", "evt.type startswith fchmodat and evt.arg.filename = {here}/g"),
        (": >h; chown 1 h", "evt.type startswith fchownat and evt.arg.pathname = {here}/h"),
    ],
)  # fmt: skip
def test_a_relative_path_is_absolute(capture: Capture, tmp_path: Path, script: str, condition: str) -> None:
    _, events = capture.run(["sh", "-c", script.format(here=tmp_path)], cwd=tmp_path)
    found = fired(condition.format(here=tmp_path), events)
    assert found
    for event in found:
        assert all(name in str(value(event, "evt.args")) for name in (str(tmp_path), "("))


def test_a_text_in_several_pieces_is_found(capture: Capture, tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "os.writev(fd, [b'one', b'', b'two', b'x' * 200])\n"
        "os.lseek(fd, 0, 0)\n"
        "os.readv(fd, [bytearray(4), bytearray(2), bytearray(1000)])\n"
    )
    _, events = capture.run([sys.executable, "-S", "-c", code, tmp_path / "file"])
    for type_ in ("writev", "readv"):
        (event,) = fired(f"evt.type = {type_} and evt.buffer contains onetwo", events)
        assert value(event, "evt.buffer") == b"onetwo" + b"x" * 74


def test_a_program_in_memory_has_falcos_name(capture: Capture) -> None:
    code = (
        "import os\nfd = os.memfd_create('runc_cloned:/proc/self/exe')\nos.write(fd, open('/bin/true', 'rb').read())\n"
        "os.execve(f'/proc/self/fd/{fd}', ['in memory'], {})"
    )
    pid, events = capture.run([sys.executable, "-S", "-c", code])
    started = [e for e in events if e.process.pid == pid and e.type is E.EXECVE][-1]
    assert value(started, "proc.exepath") == "memfd:runc_cloned:/proc/self/exe"
    assert value(started, "evt.rawarg", "trusted_exepath") == "memfd:runc_cloned:/proc/self/exe"
    assert value(started, "proc.is_exe_from_memfd") is True
    rules = ruleset_of(load_rules([shared_falco() / "rules" / "falco_rules.yaml"]).rules)
    assert "Fileless execution via memfd_create" not in {alert.rule for alert in rules.match(started)}


ORPHAN = """
import os, sys, time
if len(sys.argv) > 1:
    import ctypes
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    child = os.fork()
    if child:
        time.sleep(0.6)
        os._exit(0)
first = os.fork()
if first == 0:
    if os.fork() == 0:
        time.sleep(0.2)
        os.close(os.open("/dev/null", os.O_RDONLY))
        open(os.environ["TOLD"], "w").write(f"{os.getpid()} {os.getppid()}")
    os._exit(0)
os.waitpid(first, 0)
time.sleep(0.4)
"""


@pytest.mark.parametrize("reaped", [False, True])
def test_the_parent_is_the_one_that_the_kernel_names(capture: Capture, tmp_path: Path, reaped: bool) -> None:
    told = tmp_path / "told"
    argv = [sys.executable, "-S", "-c", ORPHAN, *(["reaper"] if reaped else [])]
    child = subprocess.Popen(argv, env=os.environ | {"TOLD": str(told)})
    opened: list[tuple[object, object, list[object]]] = []
    world = World()
    world.births = capture.state.births
    for event in capture.of_family(child.pid):
        if event.type is E.OPENAT and value(event, "fd.name") == "/dev/null" and event.process.pid != child.pid:
            births = list(by_birth(world, event, "pid"))
            opened.append((event.process.pid, value(event, "proc.ppid"), births))
    child.wait()
    pid, ppid = map(int, told.read_text().split())
    (mine,) = [row for row in opened if row[0] == pid]
    assert mine[1] == ppid
    assert (ppid == child.pid) is reaped
    assert child.pid in mine[2] and ppid != mine[2][0], "by birth, the ended one in between stands"


OLD_REAPER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
print("ready", flush=True)
sys.stdin.readline()
first = os.fork()
if first == 0:
    first = os.getpid()
    if os.fork() == 0:
        while os.getppid() == first: pass
        os.close(os.open("/dev/null", os.O_RDONLY))
    os._exit(0)
os.wait(), os.wait()
"""


def test_the_heir_of_what_has_ended_already() -> None:
    """A subreaper from before the capture, as a container's shim is; all have ended when the first event is read."""
    argv = [sys.executable, "-S", "-c", OLD_REAPER]
    with subprocess.Popen(argv, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reaper:
        assert reaper.stdin is not None and reaper.stdout is not None
        assert reaper.stdout.readline() == "ready\n"
        with Capture() as capture:
            reaper.stdin.close()
            assert reaper.wait() == 0
            parents = [
                value(event, "proc.ppid")
                for event in capture.of_family(reaper.pid)
                if event.type is E.OPENAT and value(event, "fd.name") == "/dev/null" and event.process.pid != reaper.pid
            ]
    assert parents == [reaper.pid]
