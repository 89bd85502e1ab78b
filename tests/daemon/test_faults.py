"""A fault of ours stops nothing: each long-lived thread is poisoned, or its child hangs, and it goes on and says so."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from appliance.config.plugins import K8sAudit
from appliance.config.settings import CanarySettings, Capture, Metrics
from appliance.daemon.audit import Audit
from appliance.daemon.canary import Canary
from appliance.daemon.control import ControlClient, ControlError, ControlServer
from appliance.daemon.guard import Guard, Watched
from appliance.daemon.recorder import Recorded, Recorder
from appliance.daemon.reload import Reloader, Verdict
from appliance.daemon.snapshots import Snapshots
from appliance.daemon.status import to_json
from appliance.daemon.watch import Watcher
from appliance.host.faults import Faults
from appliance.host.listening import BoundedServer, Listener
from appliance.model.event import Container
from appliance.sources.container import ContainerSource
from appliance.sources.digests import Digests
from appliance.sources.domains import Domains
from appliance.sources.k8saudit import UNREADABLE, AuditQueue, read_body
from tests.support.events import event, process
from tests.support.loop import Batches, loop_of, make_alert
from tests.support.receivers import wait_until
from tests.support.status import full_status, status

ERROR = "an error of ours"


class Poison:
    """A function that raises when it is called first, and then gives an answer."""

    def __init__(self, answer: object = None, times: int = 1) -> None:
        self.calls = 0
        self._answer = answer
        self._times = times

    def __call__(self, *_: object, **__: object) -> Any:
        self.calls += 1
        if self.calls <= self._times:
            raise ZeroDivisionError(ERROR)
        return self._answer


# -- the owner of threads


def test_work_that_an_error_ends_is_begun_again(caplog: pytest.LogCaptureFixture) -> None:
    faults, ending, work = Faults(), threading.Event(), Poison(times=2)
    thread = faults.thread("work", work, ending)
    thread.start()
    thread.join(30)
    assert work.calls == 3 and not thread.is_alive()
    assert faults.counts == {"thread `work`": 2} and faults.dead() == [], "it has done its work"
    assert caplog.text.count("Traceback") == 1


def test_even_an_exit_ends_no_thread() -> None:
    faults, ending = Faults(), threading.Event()
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise SystemExit

    thread = faults.thread("work", work, ending)
    thread.start()
    thread.join(30)
    assert len(calls) == 2


def test_a_thread_that_died_in_its_owner_makes_the_appliance_unhealthy() -> None:
    """Where even the counting fails, as without memory, nothing of ours runs in the thread any more."""

    class Unlucky(Faults):
        def caught(self, seam: str) -> None:
            raise MemoryError

    faults = Unlucky()
    before, threading.excepthook = threading.excepthook, lambda args: None
    try:
        thread = faults.thread("work", Poison(), threading.Event())
        thread.start()
        thread.join(30)
    finally:
        threading.excepthook = before
    assert faults.dead() == ["work"]
    well = full_status()
    assert well.troubles() == []
    ill = replace(well, faults={"state": 3}, dead=("work",))
    assert ill.troubles() == ["the thread `work` does not run"]
    assert to_json(ill)["faults"] == {"state": 3}
    assert to_json(status(None))["faults"] == {}


# -- each thread


def source_of(faults: Faults, *engines: Any, **options: Any) -> ContainerSource:
    return ContainerSource(engines, timeout_s=5, pause_s=0.02, faults=faults, **options)


class OddEngine:
    """Whose answers and events are more than we can read, at first."""

    runtime, owner = "docker", None

    def __init__(self) -> None:
        self.asked, self.listened = Poison(Container("a" * 12, "a" * 64)), Poison(times=3)

    def container(self, full_id: str, timeout_s: float) -> Container:
        found: Container = self.asked()
        return found

    def listen(self, timeout_s: float) -> Any:
        self.listened()
        raise OSError("gone")


def containers(faults: Faults, tmp_path: Path) -> Iterator[None]:
    engine, discover = OddEngine(), Poison(())
    source = source_of(faults, engine, discover=discover)
    source.start()
    yield
    wait_until(lambda: discover.calls > 1 and engine.listened.calls > 3, "they go on")
    for _ in range(2):
        source.ask("a" * 64, None)
    wait_until(lambda: engine.asked.calls == 2, "the second question is asked, too")
    source.close()


def domains(faults: Faults, tmp_path: Path) -> Iterator[None]:
    lookup = Poison(frozenset({"10.0.0.1"}))
    made = Domains(lookup, faults=faults)
    made.watch(["a", "b"])
    yield
    wait_until(lambda: made.names == {"10.0.0.1": ("b",)}, "the other name")
    made.close()


def digests(faults: Faults, tmp_path: Path) -> Iterator[None]:
    made = Digests(faults=faults, root=tmp_path)
    made._digest = Poison("ab")  # type: ignore[method-assign]
    facts = {"exe_dev": 1, "exe_size": 1, "exe_ctime_ns": 1, "exe_mtime_ns": 1}
    events = [event("execve", process=process(exe_ino=n, **facts)) for n in (1, 2)]
    keys = [made.complete(e)[1] for e in events]
    yield
    wait_until(lambda: all(made.is_known(key) for key in keys), "nothing waits for ever")
    assert made.complete(events[1])[0].process.exe_sha256 == "ab"
    assert made.missing == {"digest not made: internal error": 1}
    made.close()


def guard(faults: Faults, tmp_path: Path) -> Iterator[None]:
    differences = Poison([])
    made = Guard(
        Watched(differences, lambda: None, dict, tuple, lambda: True), lambda *_: None,
        state_file=tmp_path / "run.json", interval_s=0.01, faults=faults,
    )  # fmt: skip
    made.start({})
    yield
    wait_until(lambda: differences.calls > 2, "the next look")
    made.stop(farewell=True)


def reload(faults: Faults, tmp_path: Path) -> Iterator[None]:
    verdicts: list[Verdict] = []
    generation = full_status().generation
    made = Reloader(generation, build=Poison(generation), adopt=lambda *_: None, told=lambda *_: None, faults=faults)
    made.start()
    made.ask("a", Poison())
    yield
    made.ask("b", verdicts.append)
    wait_until(lambda: len(verdicts) == 1, "a verdict")
    made.stop()


def watch(faults: Faults, tmp_path: Path) -> Iterator[None]:
    file = tmp_path / "r.yaml"
    file.write_text("a")
    known, changed = Poison([{}]), []
    made = Watcher(lambda: [file], known, lambda: changed.append(1), faults=faults)
    made.start()
    file.write_text("b")
    wait_until(lambda: known.calls == 1, "a look")
    yield
    file.write_text("c")
    wait_until(lambda: bool(changed), "the change")
    made.stop()


def control(faults: Faults, tmp_path: Path) -> Iterator[None]:
    made = ControlServer(tmp_path / "s", {"status": Poison({"well": True})}, faults)
    made.start()
    with ControlClient(tmp_path / "s") as client, pytest.raises(ControlError, match="ZeroDivisionError"):
        client.ask("status")
    yield
    with ControlClient(tmp_path / "s") as client:
        assert client.ask("status") == {"well": True}
    made.stop()


def metrics(faults: Faults, tmp_path: Path) -> Iterator[None]:
    told: list[object] = []
    made = Snapshots(
        Metrics(enabled=True, output_rule=True, interval="100ms"),
        status=Poison(full_status()), hooks=list, tell=told.append, faults=faults,
    )  # fmt: skip
    made.start()
    yield
    wait_until(lambda: bool(told), "a snapshot")
    made.stop()


def recording(faults: Faults, tmp_path: Path) -> Iterator[None]:
    done = Poison()
    made = Recorder(Capture(enabled=True, path_prefix=str(tmp_path / "t")), hostname="h", done=done, faults=faults)
    for n in (1, 2):
        e = event("openat", res=3)._replace(num=n)
        made.saw(e)
        made.fired(e, full_status().generation.loaded.rules[0], {})
        writing = made.end()
        assert writing is not None
        writing.join(30)
    yield
    assert done.calls == 2


THREADS: list[Callable[[Faults, Path], Iterator[None]]] = [
    containers, domains, digests, guard, reload, watch, control, metrics, recording,
]  # fmt: skip


@pytest.mark.parametrize("part", THREADS, ids=lambda part: part.__name__)
def test_each_thread_survives_an_error_of_ours(part: Callable[..., Any], tmp_path: Path) -> None:
    faults = Faults()
    with contextmanager(part)(faults, tmp_path):
        wait_until(lambda: bool(faults.counts), "the error is counted")
    assert faults.dead() == []


def test_a_child_that_hangs_does_not_end_the_canary(tmp_path: Path) -> None:
    program = tmp_path / "slow"
    program.write_text("#!/bin/sh\nexec sleep 100\n")
    program.chmod(0o755)
    late: list[float] = []
    canary = Canary(CanarySettings(interval_s=0.05, patience_s=0.05))
    canary._program = str(program)
    canary.start(late.append)
    wait_until(lambda: len(late) > 1, "it is told, and the next one too", 30)
    assert canary.health().late > 1
    canary.stop()
    assert canary._thread is not None and not canary._thread.is_alive()


def test_an_error_of_the_canary_is_a_trouble_that_passes() -> None:
    faults = Faults()
    canary = Canary(CanarySettings(interval_s=0.05, patience_s=0.05), faults=faults)
    canary.start(Poison())
    wait_until(lambda: faults.counts.get("canary") == 1, "the error")
    wait_until(lambda: canary.health().late > 1, "the next act", 30)
    canary.stop()


def test_an_error_in_an_http_handler_is_no_client_that_went_away() -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/bug":
                raise ValueError(ERROR)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(BoundedServer):
        room = threading.BoundedSemaphore(4)
        timeout_s, tls = 5.0, None

    faults = Faults()
    listener = Listener(Server(("127.0.0.1", 0), Handler), "test")
    listener.start(faults)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", listener.port, timeout=30)
        connection.request("GET", "/bug")
        with pytest.raises((http.client.HTTPException, OSError)):
            connection.getresponse()
        connection.close()
        with socket.create_connection(("127.0.0.1", listener.port)) as gone:
            gone.sendall(b"GET / HT")
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # it resets the connection
        connection = http.client.HTTPConnection("127.0.0.1", listener.port, timeout=30)
        connection.request("GET", "/")
        assert connection.getresponse().status == 204
        connection.close()
        assert faults.counts == {f"answering HTTP on port {listener.port}": 1}
    finally:
        listener.stop()


# -- recordings and audit logs


def test_a_recording_that_is_whole_is_told_as_whole_whatever_becomes_of_older_ones(tmp_path: Path) -> None:
    (tmp_path / "t_0000.jsonl").mkdir()  # nothing that unlink(2) removes
    told: list[Recorded] = []
    made = Recorder(Capture(enabled=True, path_prefix=str(tmp_path / "t"), max_files=1), hostname="h", done=told.append)
    e = event("openat", res=3)
    made.saw(e)
    made.fired(e, full_status().generation.loaded.rules[0], {})
    writing = made.end()
    assert writing is not None
    writing.join(30)
    (recorded,) = told
    assert recorded.error == "" and recorded.events == 1 and recorded.path.exists()


def audit_line(number: int) -> str:
    return json.dumps({"auditID": str(number), "stage": "s"}) + "\n"


def test_a_reader_that_waits_for_room_is_not_refused_and_a_bad_line_is_lost(tmp_path: Path) -> None:
    (tmp_path / "1.log").write_text("".join(map(audit_line, range(30))) + "{no JSON\n" + audit_line(30))
    (tmp_path / "2.log").write_text(audit_line(31))
    source = Batches()
    loop, _ = loop_of(source)
    audit = Audit(K8sAudit(logs=tmp_path), loop, make_alert)
    audit._queue.capacity = 4
    audit.start()
    wait_until(lambda: len(audit._queue) == 4, "the queue is full")
    time.sleep(0.3)  # and the reader waits
    source.empty = lambda: loop.stop() if loop.counts.documents == 32 else None
    summary = loop.run()
    audit.close()
    stats = audit.stats()
    assert (stats.taken, stats.refused, stats.lost) == (32, 0, {UNREADABLE: 1})
    assert summary.counts.documents == 32


def test_what_waits_at_the_end_is_lost_and_counted() -> None:
    queue = AuditQueue(capacity=10)
    queue.put(read_body(b'[{"auditID": "1", "stage": "s"}, {"auditID": "2", "stage": "s"}]', now_ns=0))
    assert queue.give_up() == 2 and len(queue) == 0
    assert queue.lost == {"k8s_audit: not evaluated before the end": 2}
