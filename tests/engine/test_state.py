"""The engine's memory: bounded, and honest about what it does not know."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from appliance.catalog.events import EVENTS, OPENS
from appliance.catalog.params import EXE_FLAGS
from appliance.engine.state import State
from appliance.model.event import HOST, Account, Container, Event, EventType, Fd, RawEvent

E = EventType
BOOT = 1_000_000_000


class Names:
    """Every number has a name."""

    def user(self, uid: int, container: Container, pid: int) -> Account:
        return Account(uid, f"user{uid}")

    def group(self, gid: int, container: Container, pid: int) -> Account:
        return Account(gid, f"group{gid}")


def raw(type_: E, pid: int, start_ns: int = BOOT, *, res: int = 0, tid: int | None = None, **params: Any) -> RawEvent:
    """A record; parameters that are not given are empty."""
    index = EVENTS[type_].index
    values: list[Any] = [None] * len(index)
    for name, value in params.items():
        values[index[name]] = value
    return RawEvent(type_, 10, 0, pid, pid if tid is None else tid, start_ns, 0, 0, res, tuple(values))


ID = "cd" * 32
FACTS: dict[str, Any] = {
    "args": ("prog",), "ptid": 1, "cwd": "/", "comm": "prog", "cgroups": "/", "cgroups_v1": "", "tty": 0, "sid": 1,
    "pgid": 1, "vpid": 1, "loginuid": 1000, "new_uid": 0, "new_gid": 0, "new_suid": 0, "new_sgid": 0, "new_euid": 0,
    "new_egid": 0, "cap_inheritable": 0, "cap_permitted": 0, "cap_effective": 0, "trusted_exepath": "/usr/bin/prog",
    "filename": "/usr/bin/prog", "args_size": 5, "stdio": (),
}  # fmt: skip


def known(pid: int, start_ns: int = BOOT, **facts: Any) -> RawEvent:
    return raw(E.PROCINFO, pid, start_ns, **(FACTS | {"vpid": pid} | facts))


def execed(pid: int, start_ns: int = BOOT, **facts: Any) -> RawEvent:
    return raw(E.EXECVE, pid, start_ns, **(FACTS | {"vpid": pid} | facts))


def forked(parent: int, child: int, start_ns: int, parent_start_ns: int = BOOT, tid: int | None = None) -> RawEvent:
    return raw(
        E.CLONE, parent, parent_start_ns, res=child, flags=0, child_pid=child, child_tid=child if tid is None else tid,
        child_vpid=child, child_ppid=parent, child_start_ns=start_ns,
    )  # fmt: skip


def ended(pid: int, start_ns: int = BOOT) -> RawEvent:
    return raw(E.PROCEXIT, pid, start_ns)


def opened(pid: int, start_ns: int = BOOT) -> RawEvent:
    return raw(E.OPENAT, pid, start_ns, res=3, dirfd=-100, name="x", flags=0, mode=0, base="/")


Make = Callable[..., State]


@pytest.fixture
def make() -> Make:
    def made(read: Callable[[int], RawEvent | None] = lambda pid: None, **limits: int) -> State:
        asked: list[str] = []
        return State(
            accounts=Names(),
            read_process=read,
            ask_container=lambda full_id, owner: asked.append(full_id),
            wall_offset_ns=0,
            **limits,
        )

    return made


def apply(state: State, event: RawEvent) -> Event:
    made = state.apply(event)
    assert made is not None
    return made


def test_a_child_is_its_parent_until_it_execs(make: Make) -> None:
    state = make()
    state.apply(known(50, comm="shell"))
    state.apply(forked(50, 60, BOOT + 5))
    child = apply(state, opened(60, BOOT + 5))
    assert (child.process.name, child.process.ppid, child.process.vpid) == ("shell", 50, 60)
    assert child.ancestor(1).pid == 50
    state.apply(execed(60, BOOT + 5, comm="ls", args=("ls", "-l"), ptid=50))
    child = apply(state, opened(60, BOOT + 5))
    assert (child.process.name, child.process.cmdline, child.ancestor(1).name) == ("ls", "ls -l", "shell")
    assert child.process.user == Account(0, "user0")
    assert child.process.login == Account(1000, "user1000")


def test_an_ancestor_that_has_ended_is_still_known_to_its_descendants(make: Make) -> None:
    state = make()
    state.apply(known(50, comm="first"))
    state.apply(forked(50, 60, BOOT + 5))
    state.apply(execed(60, BOOT + 5, comm="second", ptid=50))
    state.apply(forked(60, 70, BOOT + 9, BOOT + 5))
    state.apply(ended(60, BOOT + 5))
    for n in range(2000):  # others come and go
        state.apply(forked(50, 1000 + n, BOOT + 100 + n))
        state.apply(ended(1000 + n, BOOT + 100 + n))
    event = apply(state, opened(70, BOOT + 9))
    assert [event.ancestor(n).name for n in (1, 2)] == ["second", "first"]


def test_a_pid_used_again_is_another_process(make: Make) -> None:
    state = make()
    state.apply(known(50))
    state.apply(forked(50, 60, BOOT + 5))
    state.apply(execed(60, BOOT + 5, comm="old"))
    state.apply(ended(60, BOOT + 5))
    state.apply(forked(50, 60, BOOT + 99))
    state.apply(execed(60, BOOT + 99, comm="new"))
    assert apply(state, opened(60, BOOT + 99)).process.name == "new"
    assert apply(state, opened(60, BOOT + 5)).process.name == "old", "an event that came late"
    assert not state.missing


def test_a_thread_is_no_process(make: Make) -> None:
    state = make()
    state.apply(known(50))
    before = state.processes
    state.apply(forked(50, 50, BOOT, tid=51))
    assert state.processes == before


def test_a_process_that_nobody_announced_is_read_and_counted(make: Make) -> None:
    state = make(read=lambda pid: known(pid, comm="late"))
    assert apply(state, opened(77)).process.name == "late"
    assert state.missing == {"process not known, read from /proc": 1}
    apply(state, opened(77))
    assert state.missing == {"process not known, read from /proc": 1}


def test_one_that_is_gone_has_what_the_event_carries(make: Make) -> None:
    state = make()
    event = apply(state, opened(77))
    assert (event.process.pid, event.process.name, event.process.cmdline) == (77, "<NA>", "<NA>")
    assert event.process.user == Account(0, "user0")
    assert event.ancestor(1).pid == -1
    assert state.missing == {"process not known, ended before it could be read": 1}


def test_another_process_in_proc_is_not_taken_for_it(make: Make) -> None:
    """The pid was used again before it could be read."""
    state = make(read=lambda pid: known(pid, BOOT + 10**9, comm="other"))
    assert apply(state, opened(77)).process.name == "<NA>"


def test_an_exit_that_was_lost(make: Make) -> None:
    state = make()
    state.apply(known(50))
    state.apply(forked(50, 60, BOOT + 5))
    state.apply(forked(50, 60, BOOT + 99))
    assert state.missing == {"end of a process not seen": 1}
    assert state.processes == 2


def test_a_hundred_thousand_processes_take_bounded_room(make: Make) -> None:
    state = make(max_processes=1000, max_ended=500)
    state.apply(known(1))
    for n in range(100_000):
        state.apply(forked(1, 10 + n, BOOT + n))
    assert state.processes <= 1000
    assert state.missing["process table full"] >= 99_000
    table = state._processes
    assert len(table.live) <= 1000 and len(table._ended) <= 500 + 1 and len(table._recent) <= 513


def test_containers_are_bounded_and_told_once_they_are_known(make: Make) -> None:
    asked: list[str] = []
    state = State(
        accounts=Names(), read_process=lambda pid: None, ask_container=lambda full_id, owner: asked.append(full_id),
        wall_offset_ns=0, max_containers=10,
    )  # fmt: skip
    full_id = "ab" * 32
    state.apply(known(50, cgroups=f"/docker/{full_id}"))
    event = apply(state, opened(50))
    assert asked == [full_id]
    assert (event.container.id, event.container.full_id, event.container.runtime) == (full_id[:12], full_id, "docker")
    assert event.container.name is None and str(event.container.missing).startswith("waiting")
    told = f'{{"id": "{full_id[:12]}", "full_id": "{full_id}", "name": "web", "image": "nginx"}}'
    state.apply(RawEvent(E.CONTAINER, 0, 0, 0, 0, 0, 0, 0, 0, (told,)))
    event = apply(state, opened(50))
    assert (event.container.name, event.container.image, event.container.runtime) == ("web", "nginx", "docker")
    for n in range(100):
        state.apply(known(100 + n, cgroups=f"/docker/{n:064x}"))
        state.apply(ended(100 + n))
    assert state.containers <= 11


def test_what_an_engine_says_may_be_nonsense(make: Make) -> None:
    state = make()
    for text in ("", "{", "[]", '{"id": 1}', '{"nothing": 2}', '{"mounts": [{}]}'):
        assert state.apply(RawEvent(E.CONTAINER, 0, 0, 0, 0, 0, 0, 0, 0, (text,))) is None
    assert state.missing == {"facts of a container not readable": 6}


def told(**facts: Any) -> RawEvent:
    container = {"id": ID[:12], "full_id": ID, **facts}
    return RawEvent(E.CONTAINER, 0, 0, 0, 0, 0, 0, 0, 0, (json.dumps(container),))


@pytest.mark.parametrize(
    ("differs", "where"),
    [
        ({}, "host"),
        ({"exe_ino": 9, "flags": EXE_FLAGS["EXE_FROM_MEMFD"], "trusted_exepath": "/memfd:runc_cloned:/x"}, "host"),
        ({"exe_ino": 9, "flags": EXE_FLAGS["EXE_FROM_MEMFD"], "trusted_exepath": "/memfd:other"}, ID[:12]),
        ({"exe_ino": 9}, ID[:12]),
        ({"exe_dev": 9}, ID[:12]),
        ({"exe_ino": 0}, ID[:12]),
        ({"args": ("runc", "init", "x")}, ID[:12]),
        ({"args": ("nginx",)}, ID[:12]),
        ({"vpid": 1}, ID[:12]),
        ({"ptid": 51}, ID[:12]),
        ({"ptid": 99}, ID[:12]),
    ],
)
def test_what_an_engine_runs_to_make_a_container_is_not_in_it(make: Make, differs: dict[str, Any], where: str) -> None:
    """`runc init` starts itself anew, and may lie in the container's cgroup by then. 50 is runc, 51 inside."""
    state = make()
    state.apply(execed(50, args=("runc", "create"), exe_dev=5, exe_ino=7))
    state.apply(execed(51, cgroups=f"/docker/{ID}", vpid=1, exe_dev=5, exe_ino=7))
    facts = {"args": ("runc", "init"), "ptid": 50, "exe_dev": 5, "exe_ino": 7, "cgroups": f"/docker/{ID}", "flags": 0}
    event = apply(state, execed(60, **(facts | differs)))
    assert (event.container.id, event.process.container_id, event.process.cgroup) == (where, where, f"/docker/{ID}")
    entered = apply(state, execed(60, **(facts | {"args": ("nginx",), "vpid": 1})))
    assert entered.container.id == ID[:12]


def test_a_users_engine_speaks_of_that_users_containers_only(make: Make) -> None:
    state = make()
    state.apply(known(50, cgroups=f"/system.slice/docker-{ID}.scope"))
    state.apply(known(51, cgroups=f"/user.slice/user-1000.slice/user@1000.service/docker-{ID}.scope"))
    state.apply(told(owner=1000, image="trusted", name="lie"))
    assert apply(state, opened(50)).container.image is None
    assert apply(state, opened(51)).container.image == "trusted"
    state.apply(told(image="nginx", name="web"))
    assert apply(state, opened(50)).container.name == "web"
    assert apply(state, opened(51)).container.name == "lie"


def test_the_pod_is_known_before_the_engine_answers_and_stays(make: Make) -> None:
    state = make()
    uid = "12345678-1234-1234-1234-123456789012"
    state.apply(known(50, cgroups=f"/kubepods/burstable/pod{uid}/{ID}"))
    pod = apply(state, opened(50)).container.pod
    assert pod is not None and (pod.uid, pod.qos, pod.name) == (uid, "burstable", None)
    state.apply(told(pod={"uid": "another", "name": "web-0", "namespace": "shop", "labels": [["app", "web"]]}))
    pod = apply(state, opened(50)).container.pod
    assert pod is not None
    assert (pod.uid, pod.qos, pod.name, pod.labels) == (uid, "burstable", "web-0", (("app", "web"),))


def test_a_pod_of_a_container_that_was_told_before_it_ran(make: Make) -> None:
    state = make()
    uid = "12345678-1234-1234-1234-123456789012"
    state.apply(told(name="web", pod={"name": "web-0", "uid": uid}))
    state.apply(known(50, cgroups=f"/kubepods/pod{uid}/{ID}"))
    pod = apply(state, opened(50)).container.pod
    assert pod is not None and (pod.uid, pod.qos, pod.name) == (uid, "guaranteed", "web-0")


def test_a_machine_that_has_no_engine_is_known_by_its_cgroup() -> None:
    asked: list[str] = []
    state = State(
        accounts=Names(), read_process=lambda pid: None, ask_container=lambda full_id, owner: asked.append(full_id),
        wall_offset_ns=0,
    )  # fmt: skip
    state.apply(known(50, cgroups="/lxc.payload.web/system.slice"))
    state.apply(known(51, cgroups="/machine.slice/systemd-nspawn@a-long-name-of-it.service/payload"))
    container = apply(state, opened(50)).container
    assert (container.id, container.name, container.runtime, container.missing) == ("web", "web", "lxc", None)
    assert apply(state, opened(51)).container.id == "a-long-name-of-it"
    assert asked == []


def test_descriptors_remembered_for_their_close_are_bounded(make: Make) -> None:
    state = make(max_descriptors=10)
    state.remember(True)
    state.apply(known(50))

    def closed(num: int) -> str | None:
        return apply(state, raw(E.CLOSE, 50, fd=num)).fd.name

    assert closed(1) is None
    for num in range(3, 103):
        state.apply(opened(50)._replace(res=num))
    assert [closed(num) for num in (92, 93, 102, 102)] == [None, "/x", "/x", None]


@pytest.mark.parametrize("type_", sorted(OPENS, key=lambda t: t.value))
@pytest.mark.parametrize("closes", [False, True])
def test_what_is_made_by_hand_is_what_its_constructor_makes(type_: E, closes: bool, make: Make) -> None:
    """Opens are made past the constructors, which know how many attributes there are and what they default to."""
    made = make()
    made.apply(known(7))
    made.remember(closes)
    index = EVENTS[type_].index
    given = {"name": "a/../b", "base": "/f", "flags": 0, "creat_flags": 0, "dev": 9, "ino": 8, "real": "/r/b"}
    record = raw(type_, 7, res=3, **{k: v for k, v in given.items() if k in index})
    opened = made.apply(record)
    assert opened is not None
    fd = Fd(3, "file", "f", "/f/b", "a/../b", ino=8, dev=9, name_changed=True, realpath="/r/b")
    assert opened.fd == fd and type(opened.fd) is Fd
    assert opened == Event(
        type_, opened.num, record.ts_ns + made.wall_offset_ns, 0, 7, 3, record.params, opened.process, HOST, fd,
        path="/f/b", path_raw="a/../b", lineage=opened.lineage, via="syscall",
    )  # fmt: skip
    assert (len(opened), len(opened.fd)) == (len(Event._fields), len(Fd._fields))


def test_an_environment_is_learned_of_the_very_process_that_lacks_it(make: Make) -> None:
    """By a start that is rounded to ticks, as /proc tells it; what a start has told is not undone."""
    state, start = make(), BOOT + 3

    def env() -> object:
        event = state.apply(opened(7, start))
        assert event is not None
        return event.process.env

    state.apply(execed(7, start))
    assert (env(), state.without_environment()) == (None, [7])
    for other in (BOOT - 10_000_000, BOOT + 10_000_000):
        state.apply(known(7, other, env=("A=another",)))
        assert env() is None
    state.apply(known(7, BOOT, env=("A=1",)))
    assert (env(), state.without_environment()) == (("A=1",), [])
    state.apply(known(7, BOOT, env=("A=2",)))
    assert env() == ("A=1",)
