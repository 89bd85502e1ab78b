"""Questions that may never be answered: a real file system that never answers, and everything around it."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from appliance.catalog.events import EVENTS
from appliance.host.patience import Patience
from appliance.model.event import HOST, Account, Container, EventType
from appliance.sources.accounts import HostAccounts
from appliance.sources.procfs import Procfs
from tests.support.receivers import wait_until
from tests.support.threads import no_threads

T = TypeVar("T")
LIBC = ctypes.CDLL(None, use_errno=True)
MNT_DETACH = 2
BOX = Container("0123456789ab", "0123456789ab" * 5)


def answered(question: Callable[[], T], patience_s: float = 60.0) -> T:
    """The answer of what must not wait without end: where it does, the test fails and the file system is let go."""
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(question()), daemon=True)
    thread.start()
    thread.join(patience_s)
    assert found, "no answer"
    return found[0]


# -- a question


def test_an_answer_an_error_and_none() -> None:
    patience, gate = Patience(60), threading.Event()
    assert patience.ask(lambda: 7, 0, "x") == 7
    with pytest.raises(ZeroDivisionError):
        patience.ask(lambda: 1 // 0, 0, "x")
    assert (patience.ask(lambda: 8, 0, "x"), patience.unanswered) == (8, 0)
    patience = Patience(0.1, most=2)
    try:
        assert [patience.ask(gate.wait, False, "x") for _ in range(2)] == [False, False]
        assert (patience.ask(lambda: 7, 0, "x"), patience.unanswered) == (0, 3), "not asked: two have no answer"
    finally:
        gate.set()
    wait_until(lambda: patience.ask(lambda: 8, 0, "x") == 8, "both come back, and it goes on as before")


def test_it_is_told_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    patience = Patience(0.1, most=0)
    with caplog.at_level(logging.WARNING):
        assert [patience.ask(lambda: 7, 0, f"box \n\x1b[2J{n}") for n in range(3)] == [0, 0, 0]
    assert [r.getMessage() for r in caplog.records] == [
        "a file system does not answer, facts are absent: box \\n\\x1b[2J0"
    ]


def test_a_machine_without_threads_answers_nothing_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    patience = Patience(60)
    with no_threads(), caplog.at_level(logging.WARNING):
        assert (patience.ask(lambda: 7, 0, "process 1"), patience.unanswered) == (0, 1)
    assert [r.getMessage() for r in caplog.records] == [
        "there is no thread to ask a file system, facts are absent: process 1"
    ]
    assert patience.ask(lambda: 7, 0, "process 1") == 7, "and it goes on as before"


# -- a file system that never answers


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Path]:
    """A FUSE mount whose server never says a word: every look at its files waits until the server is gone."""
    folder = tmp_path / "7" / "root" / "etc"
    folder.mkdir(parents=True)
    server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
    try:
        assert LIBC.mount(b"hanging", os.fsencode(folder), b"fuse", 0, options) == 0, os.strerror(ctypes.get_errno())
        yield folder
    finally:
        os.close(server)
        LIBC.umount2(os.fsencode(folder), MNT_DETACH)


@pytest.mark.kernel
def test_a_process_whose_descriptor_lies_there_is_read_all_the_same(hanging: Path) -> None:
    there = os.open(hanging, os.O_PATH)
    try:
        child = subprocess.Popen(["sleep", "600"], stdin=there, env={"A": "1"})
    finally:
        os.close(there)
    try:
        processes = Procfs(patience=Patience(3.0))
        told = answered(lambda: processes.read_process(child.pid))
        assert told is not None
        values = dict(zip(EVENTS[EventType.PROCINFO].index, told.params, strict=True))
        assert (values["comm"], values["ptid"], values["args"]) == ("sleep", os.getpid(), ("sleep", "600"))
        assert (values["env"], values["stdio"]) == (("A=1",), ())
        assert values["exe_size"], "its program lies elsewhere"
        pids = [told.pid for told in answered(lambda: list(processes.scan()))]
        assert pids == sorted(set(pids)) and {1, os.getpid(), child.pid} <= set(pids), "nor does it hide others"
    finally:
        child.kill()
        child.wait()


def test_what_could_not_be_asked_is_not_told_as_empty() -> None:
    told = Procfs(patience=Patience(60, most=0)).read_process(os.getpid())
    assert told is not None
    values = dict(zip(EVENTS[EventType.PROCINFO].index, told.params, strict=True))
    assert values["comm"] == Path("/proc/self/comm").read_text().rstrip("\n")
    assert values["env"] is None, "a later look may tell it"


@pytest.mark.kernel
def test_a_container_whose_accounts_lie_there_has_numbers(hanging: Path) -> None:
    accounts = HostAccounts(proc=hanging.parents[2], patience=Patience(3.0))
    assert answered(lambda: accounts.user(33, BOX, 7)) == Account(33)
    assert answered(lambda: accounts.user(0, HOST, 7)).name == "root"
