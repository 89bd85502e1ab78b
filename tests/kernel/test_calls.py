"""Every kind of system call, made raw, once: its event says what it was, what it was given and what came of it."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from appliance.catalog.events import EVENTS, STATE
from appliance.catalog.values import argument, raw_argument
from appliance.kernel.arch import this_arch
from appliance.model.event import Event
from appliance.model.event import EventType as E
from tests.kernel.calls import POISON, Call, calls
from tests.support.capture import Capture
from tests.support.receivers import free_port

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("calls.py")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Call], dict[int, list[Event]]]:
    """The calls, and the events between each and the next."""
    folder = str(tmp_path_factory.mktemp("calls"))
    bound = free_port()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        types = {call.event for call in calls(folder, port, bound, 0)} | STATE | {E.PRCTL}
        with Capture(types=types, ring_bytes=64 << 20) as capture:
            child = subprocess.Popen(
                [sys.executable, str(PROGRAM), folder, str(port), str(bound)],
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
            )
            pid, events = child.pid, [capture.state.freeze(e) for e in capture.of_family(child.pid)]
            assert child.wait() == 0
    found: dict[int, list[Event]] = defaultdict(list)
    current = -1
    for event in (e for e in events if e.process.pid == pid):
        name = argument(event, "arg2_str") if event.type is E.PRCTL else None
        if name is not None and (marker := re.fullmatch(r"call-(\d+)|done", name)):
            current = int(marker[1] or -1)
        elif current >= 0:
            found[current].append(event)
    return calls(folder, port, bound, pid), found


def result_fits(call: Call, event: Event) -> bool:
    match call.res:
        case "any or error":
            return True
        case "any" | "fd":
            return event.res >= 0
        case str(name):
            return event.res == -getattr(errno, name)
        case number:
            return event.res == number


def difference(call: Call, event: Event) -> dict[str, object]:
    """What the event says otherwise than it must."""
    wrong: dict[str, object] = {} if result_fits(call, event) else {"res": (event.res, call.res)}
    for name, value in call.facts.items():
        told = raw_argument(event, name) if isinstance(value, int) else argument(event, name)
        if told != value:
            wrong[name] = told
    for name, value in call.fd.items():
        if getattr(event.fd, name) != value:
            wrong[f"fd.{name}"] = getattr(event.fd, name)
    if call.path is not None and event.path != call.path:
        wrong["path"] = event.path
    return wrong


def test_each_call_is_one_event_that_says_what_it_was(made: tuple[list[Call], dict[int, list[Event]]]) -> None:
    todo, found = made
    numbers = this_arch().syscalls
    wrong = {}
    for i, call in enumerate(todo):
        if call.event not in numbers:
            continue
        events = [e for e in found[i] if e.type is call.event]
        right = [e for e in events if not difference(call, e)]
        if len(right) != 1:  # the interpreter itself reads, maps and closes in between
            wrong[f"{i} {call.event.value}"] = [difference(call, e) for e in events[:3]] or "no event"
    assert not wrong, "\n" + "\n".join(f"{name}: {what}" for name, what in wrong.items())


def test_nothing_is_told_of_the_memory_around_arguments(made: tuple[list[Call], dict[int, list[Event]]]) -> None:
    todo, found = made
    types = {call.event for call in todo}
    told = [(e.type.value, p) for events in found.values() for e in events if e.type in types for p in e.params]
    assert len(told) > 500
    for name, value in told:
        if isinstance(value, int):
            assert "eeee" not in f"{value & 0xFFFFFFFFFFFFFFFF:x}", name
        elif value is not None:
            text = value if isinstance(value, bytes) else os.fsencode("".join(value))
            assert POISON * 2 not in text, (name, text)


def test_all_events_with_arguments_are_tried() -> None:
    """What this module does not try is on the list, with the reason."""
    elsewhere = {
        "acts.py and test_capture.py": "execve execveat clone clone3 fork vfork procexit chdir fchdir ptrace setuid "
        "setresuid setresgid open openat openat2 creat chmod fchmod fchmodat chown lchown fchown fchownat unlink "
        "unlinkat rmdir rename renameat renameat2 mkdir mkdirat symlink symlinkat link linkat dup dup2 dup3",
        "the same handler as one that is tried": "setgid setreuid setregid setfsuid setfsgid geteuid getgid getresgid "
        "fchmodat2 process_vm_writev recvmmsg getpeername eventfd signalfd inotify_init epoll_create getdents "
        "mlock munlock mlockall munlockall",
        "32-bit programs only": "umount stat64 lstat64 fstat64 llseek mmap2 send recv",
        "our own": "procinfo container ioring taskname",
    }
    tried = {c.event.value for c in calls("/f", 1, 2, 3)}
    told = {t.value for t, row in EVENTS.items() if row.told and row.source == "syscall"}
    assert told - tried == {name for names in elsewhere.values() for name in names.split()}
