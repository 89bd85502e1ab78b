"""Calls heard at the kernel's functions (`capture.hooks: functions`), on a kernel that offers it.

Run in the machines of test_vm.py, with TERCEL_HOOKS=functions and, in TERCEL_BUILT, the programs of test_compat.py, as
there is no compiler.
"""

# ruff: noqa: F811  (a fixture that is another module's)

from __future__ import annotations

import os
import subprocess
import sys

from appliance.catalog.events import STATE
from appliance.kernel.arch import this_arch
from appliance.model.event import Event
from appliance.model.event import EventType as E
from bench.hooks import REFUSED

# its program and its fixture are ours, too: one source for all that is claimed here
from tests.kernel.test_compat import (  # noqa: F401
    CALLED,
    capture,
    test_a_32_bit_program_is_seen_as_what_it_is,
    test_int_0x80_and_x32_of_a_64_bit_program,
)
from tests.support.capture import Capture

ACCT = this_arch().syscalls[E.ACCT]
TRIED = "import ctypes, sys; ctypes.CDLL(None).syscall(int(sys.argv[1]), b'/nonexistent/x')"


def seen(capture: Capture, script: str, *argv: object) -> list[Event]:
    """What a Python program does."""
    pid, events = capture.run([sys.executable, "-c", script, *map(str, argv)], stdout=subprocess.DEVNULL)
    return [e for e in events if e.process.pid == pid]


def of_type(events: list[Event], type_: E) -> list[int]:
    return [e.res for e in events if e.type is type_]


def test_calls_are_heard_at_functions_and_not_where_all_end(capture: Capture) -> None:
    source = capture.source
    assert source.instead is None
    assert "sys_exit" not in source.spec.attached and "sys_exit" not in source.describe()
    assert "functions of the kernel" in source.describe()
    assert E.SETSID in source.heard and source.differences() == []


def test_state_is_kept_and_a_failed_start_is_told(capture: Capture) -> None:
    script = "import os; os.chdir('/usr'); os.setgid(1); os.setuid(1)"
    events = seen(capture, f"{script}\ntry: os.execv('/nonexistent/x', ['x'])\nexcept OSError: pass")
    told = [e for e in events if e.type in (E.CHDIR, E.SETGID, E.SETUID, E.EXECVE)]
    assert [(e.type, e.res) for e in told[-4:]] == [(E.CHDIR, 0), (E.SETGID, 0), (E.SETUID, 0), (E.EXECVE, -2)]
    assert told[-1].process.cwd.rstrip("/") == "/usr" and told[-1].process.uid == 1
    pid, events = capture.run([sys.executable, "-c", "import os; os.fork() or (os.setsid(), os._exit(0)); os.wait()"])
    assert [e.res for e in events if e.type is E.SETSID and e.process.ppid == pid and e.res == e.process.pid]


def test_what_is_heard_can_change_while_it_runs(capture: Capture) -> None:
    source, types = capture.source, STATE | CALLED
    before = source._program.functions
    assert of_type(seen(capture, TRIED, ACCT), E.ACCT) == []
    source.prepare(types | {E.ACCT})
    assert before < source._program.functions <= before + 2  # of 64 and 32 bits
    source.hear(types | {E.ACCT})
    assert of_type(seen(capture, TRIED, ACCT), E.ACCT) in ([-2], [-38])  # or this kernel was made without it
    source.hear(types)
    assert of_type(seen(capture, TRIED, ACCT), E.ACCT) == []
    assert source.differences() == []


def test_what_seccomp_refuses_is_not_told(capture: Capture) -> None:
    """As `tercel doctor` says of this way to hear."""
    source, types = capture.source, STATE | CALLED
    source.hear(types | {E.ACCT})
    assert of_type(seen(capture, REFUSED, ACCT), E.ACCT) == []
    assert len(of_type(seen(capture, TRIED, ACCT), E.ACCT)) == 1
    source.hear(types)


def test_a_hook_that_somebody_closes_is_told_and_put_back(capture: Capture) -> None:
    source = capture.source
    link = next(fd for name, fd in source._program._links.items() if name.endswith("_sys_setgid"))
    os.close(link)
    assert [d for d in source.differences() if "_sys_setgid" in d and "is gone" in d]
    source.repair()
    assert source.differences() == []
    assert of_type(seen(capture, "import os; os.setgid(0)"), E.SETGID) == [0]


def test_books_close(capture: Capture) -> None:
    """The last claim: nothing is heard behind it."""
    books = capture.source.stop(capture.take)
    assert books.outstanding(capture.taken) == 0
    subprocess.run(["/bin/true"], check=True)
    assert capture.source.books() == books
