"""Whose a fact is: a descriptor's name is right or absent, and never another process's."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.catalog.events import EVENTS
from appliance.engine.processes import Entry, Processes
from appliance.engine.state import State
from appliance.model.event import VIA, Event, Process
from tests.engine.test_state import BOOT, E, ended, execed, forked, known, raw
from tests.support.loop import state

CLOEXEC, CLONE_FILES, FCNTL_SETFD = 0o2000000, 0x400, 2


def opening(pid: int, start_ns: int, num: int, name: str, flags: int = 0) -> Any:
    return raw(E.OPENAT, pid, start_ns, res=num, dirfd=-100, name=name, flags=flags, mode=0, base="", ino=7, dev=1)


def about(type_: E, pid: int, start_ns: int, *, path: str = "/x", res: int = 0, **params: Any) -> Any:
    """A call about a descriptor of a file, with what the kernel says of it."""
    facts = dict.fromkeys(
        ("fd_magic", "fd_flags", "sock_family", "sock_type", "sock_proto", "sock_state", "local_port", "remote_port"), 0
    )
    shown = {"inode_mode": 0o100644, "fd_ino": 1, "fd_dev": 1, "fd_path": path}
    nothing = dict.fromkeys(("sock_name", "local_addr", "remote_addr"), b"")
    return raw(type_, pid, start_ns, res=res, **facts, **shown, **nothing, **params)


def closing(made: State, pid: int, start_ns: int, num: int, res: int = 0) -> str | None:
    event = made.apply(raw(E.CLOSE, pid, start_ns, res=res, fd=num))
    assert event is not None and event.fd.num == num
    return event.fd.name


def remembering() -> State:
    made = state()
    made.remember(True)
    made.apply(known(1))
    made.apply(known(100))
    return made


def test_a_pid_that_is_used_again_has_nothing_of_the_one_before() -> None:
    made = remembering()
    made.apply(opening(100, BOOT, 3, "/etc/shadow"))
    made.apply(ended(100))
    made.apply(forked(1, 100, BOOT + 5))
    assert closing(made, 100, BOOT + 5, 3) is None


def test_a_pid_whose_end_was_not_seen_has_nothing_of_the_one_before() -> None:
    made = remembering()
    made.apply(opening(100, BOOT, 3, "/etc/shadow"))
    made.apply(forked(1, 100, BOOT + 5))
    assert closing(made, 100, BOOT + 5, 3) is None
    assert len(made._remembered) == 0


def test_an_exec_closes_what_is_close_on_exec_and_keeps_the_rest() -> None:
    made = remembering()
    made.apply(opening(100, BOOT, 3, "/kept"))
    made.apply(opening(100, BOOT, 4, "/closed", CLOEXEC))
    made.apply(opening(100, BOOT, 5, "/marked"))
    made.apply(about(E.FCNTL, 100, BOOT, path="/marked", fd=5, cmd=FCNTL_SETFD, arg=1))
    made.apply(execed(100))
    assert [closing(made, 100, BOOT, num) for num in (3, 4, 5)] == ["/kept", None, None]


def test_a_failed_exec_closes_nothing() -> None:
    made = remembering()
    made.apply(opening(100, BOOT, 4, "/x", CLOEXEC))
    made.apply(execed(100)._replace(res=-2))
    assert closing(made, 100, BOOT, 4) == "/x"


def test_what_close_range_closes_is_gone() -> None:
    made = remembering()
    for num in (3, 4, 5):
        made.apply(opening(100, BOOT, num, f"/{num}"))
    made.apply(raw(E.CLOSE_RANGE, 100, BOOT, first=4, last=2**32 - 1, flags=0))
    assert [closing(made, 100, BOOT, num) for num in (3, 4, 5)] == ["/3", None, None]


def test_of_a_table_that_two_processes_share_nothing_is_known() -> None:
    made = remembering()
    made.apply(opening(100, BOOT, 3, "/a"))
    made.apply(forked(100, 200, BOOT + 5)._replace(params=_with_files(forked(100, 200, BOOT + 5).params)))
    made.apply(opening(100, BOOT, 4, "/b"))
    assert closing(made, 200, BOOT + 5, 4) is None and closing(made, 100, BOOT, 3) is None
    made.apply(execed(200, BOOT + 5))  # has a table of its own from now on
    made.apply(opening(200, BOOT + 5, 5, "/c"))
    assert closing(made, 200, BOOT + 5, 5) == "/c"


def _with_files(params: tuple[Any, ...]) -> tuple[Any, ...]:
    at = EVENTS[E.CLONE].index["flags"]
    return (*params[:at], CLONE_FILES, *params[at + 1 :])


def test_places_of_an_io_uring_are_no_descriptors() -> None:
    made = remembering()
    made._handlers[E.OPENAT](opening(100, BOOT, 3, "/fixed")._replace(via=VIA.index("io_uring")))
    assert len(made._remembered) == 0


def test_remembering_ends_when_no_rule_needs_it() -> None:
    made = remembering()
    assert made.remembers
    made.apply(opening(100, BOOT, 3, "/x"))
    made.remember(False)
    assert not made.remembers and len(made._remembered) == 0
    assert closing(made, 100, BOOT, 3) is None
    assert not made.remembers, "a close that comes all the same asks for nothing"


def test_after_a_loss_nothing_is_known() -> None:
    made = remembering()
    made.apply(opening(100, BOOT, 3, "/x"))
    made.doubt()
    assert closing(made, 100, BOOT, 3) is None


# -- the model: tables of descriptors as a kernel has them


@dataclass
class Real:
    """A process: its pid, its start, and name and close-on-exec of each descriptor."""

    pid: int
    start_ns: int
    fds: dict[int, tuple[str, bool]] = field(default_factory=dict)


ACTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["fork", "exec", "open", "open cloexec", "gets one unseen", "dup", "close", "close_range", "set", "exit",
             "ends unseen"]
        ),
        st.integers(0, 5), st.integers(3, 7), st.integers(3, 7),
    ),
    max_size=60,
)  # fmt: skip


@given(ACTS)
def test_a_name_is_right_or_absent(acts: list[tuple[str, int, int, int]]) -> None:
    """Few pids and numbers, so that all of them are used again and again."""
    made = state()
    made.remember(True)
    made.apply(known(1))
    running = {1: Real(1, BOOT)}
    now_ns = BOOT
    for n, (act, which, num, other) in enumerate(acts):
        now_ns += 20_000_000
        of = running[sorted(running)[which % len(running)]]
        pid, start_ns = of.pid, of.start_ns
        if act == "fork":
            child = next((p for p in range(100, 104) if p not in running), None)
            if child is not None:
                running[child] = Real(child, now_ns, dict(of.fds))
                made.apply(forked(pid, child, now_ns, parent_start_ns=start_ns))
        elif act == "exec":
            of.fds = {k: v for k, v in of.fds.items() if not v[1]}
            made.apply(execed(pid, start_ns))
        elif act in ("open", "open cloexec") and num not in of.fds:
            of.fds[num] = (f"/{n}", act == "open cloexec")
            made.apply(opening(pid, start_ns, num, f"/{n}", CLOEXEC if act == "open cloexec" else 0))
        elif act == "gets one unseen" and num not in of.fds:
            of.fds[num] = (f"/unseen/{n}", False)  # over a socket, say
        elif act == "dup" and num in of.fds and other != num:
            of.fds[other] = (of.fds[num][0], False)
            made.apply(about(E.DUP2, pid, start_ns, path=of.fds[num][0], res=other, oldfd=num, newfd=other))
        elif act == "close":
            found = closing(made, pid, start_ns, num, 0 if num in of.fds else -9)
            name, _ = of.fds.pop(num, (None, False))
            assert found in (name, None)
        elif act == "close_range":
            of.fds = {k: v for k, v in of.fds.items() if k < num}
            made.apply(raw(E.CLOSE_RANGE, pid, start_ns, first=num, last=2**32 - 1, flags=0))
        elif act == "set" and num in of.fds:
            of.fds[num] = (of.fds[num][0], bool(other % 2))
            made.apply(about(E.FCNTL, pid, start_ns, path=of.fds[num][0], fd=num, cmd=FCNTL_SETFD, arg=other % 2))
        elif act in ("exit", "ends unseen") and pid != 1:
            del running[pid]
            if act == "exit":
                made.apply(ended(pid, start_ns))
    for of in running.values():
        for num in range(3, 8):
            found = closing(made, of.pid, of.start_ns, num)
            assert found in (of.fds.get(num, (None, False))[0], None)


# -- the table of processes


def table(most: int) -> tuple[Processes, list[Entry]]:
    gone: list[Entry] = []
    made = Processes(lambda pid: None, most=most, most_ended=4, missing=Counter(), ended=gone.append)
    return made, gone


@pytest.mark.parametrize("shape", ["line", "star"])
def test_a_full_table_gives_up_leaves_before_ancestors(shape: str) -> None:
    made, gone = table(8)
    root = made.add(Entry(Process(pid=1, start_ns=1), None, exact=True))  # type: ignore[arg-type]
    above = root
    for pid in range(2, 40):
        entry = made.add(Entry(Process(pid=pid, start_ns=pid, ppid=above.process.pid), None, exact=True))  # type: ignore[arg-type]
        made.link(entry, above)
        if shape == "line" and pid <= 7:
            above = entry
    assert len(made.live) == 8
    kept = set(made.live)
    assert 1 in kept and (shape == "star" or set(range(1, 8)) <= kept)
    assert all(entry.children == 0 for entry in gone)
    last = made.live[max(kept)]
    event = Event(E.OPEN, 1, 0, 0, 1, 0, (), process=last.process, lineage=made.line)
    assert list(event.line)[-1].pid == 1, "the line is whole to its first process"
