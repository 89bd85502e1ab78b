"""Trees of processes on the real kernel: deep ones, numbers used again, threads that rename themselves."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from appliance.kernel.btf import read_btf
from appliance.model.event import EventType
from tests.support.capture import Capture
from tests.support.rules import value

pytestmark = pytest.mark.kernel

DEPTH = 60


def test_a_deep_tree_is_known_to_its_root(capture: Capture) -> None:
    """Each generation forks the next and starts a shell anew: names and numbers all the way up."""
    code = (
        "import os, sys\n"
        "n = int(sys.argv[1])\n"
        "if n == 0: os.execv('/bin/true', ['true', 'leaf'])\n"
        "pid = os.fork()\n"
        "again = [sys.executable, '-S', '-E', '-c', sys.argv[2], str(n - 1), sys.argv[2]]\n"
        "if pid == 0: os.execv(sys.executable, again)\n"
        "os.waitpid(pid, 0)\n"
    )
    pid, events = capture.run([sys.executable, "-S", "-E", "-c", code, str(DEPTH), code])
    leaf = next(e for e in events if e.process.args == ("leaf",) and e.type is EventType.EXECVE)
    assert leaf.ancestor(DEPTH).pid == pid
    levels = [leaf.ancestor(n).args[4] for n in range(1, DEPTH + 1)]
    assert levels == [str(n) for n in range(1, DEPTH + 1)]
    line = str(value(leaf, "proc.aline"))
    assert line.count(" > ") >= DEPTH and line.endswith(" > true")
    assert value(leaf, "proc.apid", DEPTH) == pid


def test_a_number_used_again_is_another_process(capture: Capture) -> None:
    """The kernel is asked for the same pid again, until nobody else takes it in between."""
    code = (
        "import os\n"
        "def child(word):\n"
        "    pid = os.fork()\n"
        "    if pid == 0: os.execv('/bin/true', ['true', word])\n"
        "    os.waitpid(pid, 0)\n"
        "    return pid\n"
        "for n in range(200):\n"
        "    first = child(f'first{n}')\n"
        "    open('/proc/sys/kernel/ns_last_pid', 'w').write(str(first - 1))\n"
        "    if child(f'second{n}') == first: print(n); break\n"
    )
    read, write = os.pipe()
    _, events = capture.run([sys.executable, "-S", "-E", "-c", code], stdout=write)
    os.close(write)
    with os.fdopen(read) as out:
        n = int(out.read())
    (first,) = [e for e in events if e.type is EventType.EXECVE and e.process.args == (f"first{n}",)]
    (second,) = [e for e in events if e.type is EventType.EXECVE and e.process.args == (f"second{n}",)]
    assert first.process.pid == second.process.pid
    assert first.process.start_ns < second.process.start_ns
    ends = [e for e in events if e.type is EventType.PROCEXIT and e.process.pid == first.process.pid]
    assert [e.process.args for e in ends][-2:] == [(f"first{n}",), (f"second{n}",)]


def test_numbers_that_wrap_around(capture: Capture) -> None:
    """In a pid namespace that has few of them (Linux 6.14), each is used several times: no two processes are mixed."""
    if read_btf().offset("pid_namespace.pid_max") is None:
        pytest.skip("this kernel has one `pid_max` for all pid namespaces (Linux 6.14 has one for each)")
    code = (
        "import os\n"
        "open('/proc/sys/kernel/pid_max', 'w').write('340')\n"
        "for n in range(500):\n"
        "    pid = os.fork()\n"
        "    if pid == 0: os.execv('/bin/true', ['true', f'wrapped{n}'])\n"
        "    os.waitpid(pid, 0)\n"
        "    print(pid)\n"
    )
    before = Path("/proc/sys/kernel/pid_max").read_text()
    read, write = os.pipe()
    argv = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-S", "-E", "-c", code]
    _, events = capture.run(argv, stdout=write)
    os.close(write)
    with os.fdopen(read) as out:
        numbers = [int(line) for line in out]
    assert Path("/proc/sys/kernel/pid_max").read_text() == before
    assert len(numbers) == 500 and max(numbers) < 340 and len(set(numbers)) < 345, "they wrapped around"
    mine = [e for e in events if e.process.args and e.process.args[0].startswith("wrapped")]
    execs = [e for e in mine if e.type is EventType.EXECVE]
    ends = [e for e in mine if e.type is EventType.PROCEXIT]
    expected = [(f"wrapped{n}", number) for n, number in enumerate(numbers)]
    for told in (execs, ends):
        assert [(e.process.args[0], e.process.vpid) for e in told] == expected
    assert [e.process.pid for e in execs] == [e.process.pid for e in ends]
    assert len({(e.process.pid, e.process.start_ns) for e in execs}) == 500
    assert len({e.process.ppid for e in mine}) == 1


def test_a_thread_that_renames_itself(capture: Capture) -> None:
    """Another thread's name is its own; the first thread's is the process's."""
    code = (
        "import ctypes, os, threading\n"
        "prctl = ctypes.CDLL(None).prctl\n"
        "def named(name, file):\n"
        "    prctl(15, name, 0, 0, 0)\n"
        "    try: os.open(file, os.O_RDONLY)\n"
        "    except OSError: pass\n"
        "t = threading.Thread(target=named, args=(b'other-thread', '/nonexistent/thread')); t.start(); t.join()\n"
        "named(b'first-thread', '/nonexistent/first')\n"
    )
    pid, events = capture.run([sys.executable, "-S", "-E", "-c", code])
    thread = next(e for e in events if e.process.pid == pid and e.path == "/nonexistent/thread")
    first = next(e for e in events if e.process.pid == pid and e.path == "/nonexistent/first")
    assert thread.tid != pid and value(thread, "thread.ismain") is False
    assert str(thread.process.name).startswith("python")
    assert value(thread, "thread.vtid") == thread.tid
    assert (first.tid, first.process.name) == (pid, "first-thread")
    assert value(first, "thread.vtid") == pid
