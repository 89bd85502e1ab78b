"""The container source against a real engine, and against ends that misbehave."""

from __future__ import annotations

import json
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from appliance.engine.containers import read_container
from appliance.model.event import Container, EventType, Pod
from appliance.sources.container import ContainerSource, container_event, user_engines
from appliance.sources.docker_api import Engine, EngineError, ImageName, parse_image, read_answer, read_labels
from tests.support.docker import DockerEngine
from tests.support.receivers import wait_until
from tests.support.threads import no_threads

DIGEST = "sha256:" + "ab" * 32
UNKNOWN = "0123456789ab" + "c" * 52


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("nginx", ("nginx", "latest", "")),
        ("nginx:1.25", ("nginx", "1.25", "")),
        ("library/nginx:1.25", ("library/nginx", "1.25", "")),
        ("host:5000/a/b:tag", ("host:5000/a/b", "tag", "")),
        ("host:5000/a/b", ("host:5000/a/b", "latest", "")),
        (f"nginx@{DIGEST}", ("nginx", "", DIGEST)),
        (f"host:5000/a/b:tag@{DIGEST}", ("host:5000/a/b", "tag", DIGEST)),
        (f"host:5000/a/b@{DIGEST}", ("host:5000/a/b", "", DIGEST)),
        (DIGEST, ("", "", "")),
    ],
)
def test_image_names_come_apart(name: str, parts: tuple[str, str, str]) -> None:
    assert parse_image(name) == ImageName(*parts)


@contextmanager
def source_of(*engines: Engine, timeout_s: float = 60.0) -> Iterator[ContainerSource]:
    source = ContainerSource(engines, timeout_s=timeout_s, pause_s=0.05)
    source.start()
    try:
        yield source
    finally:
        source.close()


_unread: WeakKeyDictionary[ContainerSource, deque[Container]] = WeakKeyDictionary()


def wait_for(source: ContainerSource, wanted: Callable[[Container], bool], patience_s: float = 90) -> Container:
    """The first container told that is as wanted, of those after the last that was; waits on the source's descriptor,
    as a poll loop does."""
    deadline = time.monotonic() + patience_s
    seen = []
    unread = _unread.setdefault(source, deque())
    while time.monotonic() < deadline:
        while unread:
            told = unread.popleft()
            if wanted(told):
                return told
            seen.append(told)
        select.select([source.fileno()], [], [], 0.5)
        for raw in source.take():
            assert raw.type is EventType.CONTAINER
            text = raw.params[0]
            assert isinstance(text, str)
            unread.append(read_container(text))
    raise AssertionError(f"nobody told of it; told: {seen}, losses: {source.losses}")


@pytest.mark.docker
def test_running_and_new_containers_are_told(docker_engine: DockerEngine, nginx_image: str, tmp_path: Path) -> None:
    engine = Engine("docker", docker_engine.socket)
    options = ("--privileged", f"--volume={tmp_path}:/data:ro", f"--volume={tmp_path}:/rw")
    old = docker_engine.run(nginx_image, name="old", options=options)
    try:
        with source_of(engine) as source:
            told = wait_for(source, lambda c: c.full_id == old and c.missing is None)
            assert (told.id, told.runtime, told.name) == (old[:12], "docker", "old")
            assert (told.image, told.image_repository, told.image_tag) == (nginx_image, "nginx", "1.22")
            assert told.image_id is not None and len(told.image_id) == 64
            assert told.privileged is True and told.missing is None
            mounts = {m.dest: m for m in told.mounts}
            assert (mounts["/data"].source, mounts["/data"].rdwr) == (str(tmp_path), False)
            assert mounts["/rw"].rdwr is True

            created = docker_engine.client("create", "--network=none", "--name=new", "--label=a=b,c", nginx_image)
            try:  # known before its first process runs: it has been created, not started
                told = wait_for(source, lambda c: c.full_id == created)  # by the event alone
                assert (told.name, told.image, told.missing) == ("new", nginx_image, "waiting for docker")
                assert (told.image_repository, told.image_tag, told.labels) == ("nginx", "1.22", (("a", "b,c"),))
                told = wait_for(source, lambda c: c.full_id == created and c.missing is None)
                assert (told.name, told.privileged, told.mounts) == ("new", False, ())
                docker_engine.client("rename", "new", "newer")
                assert wait_for(source, lambda c: c.full_id == created and c.name == "newer").id == created[:12]
            finally:
                docker_engine.remove(created)
    finally:
        docker_engine.remove(old)


@pytest.mark.docker
def test_what_stands_in_an_answer(docker_engine: DockerEngine, nginx_image: str) -> None:
    """Labels, namespaces, health check and start; the pod that a kubelet names by labels, and its sandbox's labels."""
    engine = Engine("docker", docker_engine.socket)
    health = ("--health-cmd=test -e /etc/passwd", "--health-interval=1h")
    sandbox = docker_engine.run(
        nginx_image, name="sandbox",
        options=(
            "--label=io.kubernetes.docker.type=podsandbox", "--label=io.kubernetes.pod.name=web-0",
            "--label=io.kubernetes.pod.namespace=shop", "--label=io.kubernetes.pod.uid=u-1", "--label=app=web",
            "--label=io.kubernetes.container.name=POD",
            f"--label=annotation.kubectl.kubernetes.io/last-applied-configuration={json.dumps(APPLIED)}",
        ),
    )  # fmt: skip
    made = docker_engine.client(
        "run", "--detach", "--network=host", "--pid=host", "--ipc=host", "--label=a=b,c", "--label=empty=",
        "--label=io.kubernetes.pod.name=web-0", "--label=io.kubernetes.pod.namespace=shop",
        "--label=io.kubernetes.pod.uid=u-1", f"--label=io.kubernetes.sandbox.id={sandbox}",
        "--label=io.kubernetes.container.name=web", *health, nginx_image, "sleep", "600",
    )  # fmt: skip
    try:
        told = engine.container(made, 60)
        assert (told.host_network, told.host_pid, told.host_ipc, told.ip) == (True, True, True, "")
        labels = dict(told.labels)
        assert (labels["a"], labels["empty"]) == ("b,c", "")
        assert told.healthcheck == ("/bin/sh", "-c", "test -e /etc/passwd")
        assert told.started_ns is not None and abs(told.started_ns - time.time_ns()) < 600e9
        assert told.pod == Pod(
            uid="u-1", name="web-0", namespace="shop", sandbox_id=sandbox, labels=(("app", "web"),), ip=""
        )
        assert (told.liveness_probe, told.readiness_probe) == (("cat", "/alive"), ())
        told = engine.container(sandbox, 60)
        assert (told.host_network, told.host_pid, told.host_ipc) == (False, False, False)
        assert told.pod is not None and told.pod.sandbox_id == sandbox
    finally:
        docker_engine.remove(made)
        docker_engine.remove(sandbox)


APPLIED = {
    "spec": {"containers": [{"name": "web", "livenessProbe": {"exec": {"command": ["cat", "/alive"]}}}, {"name": "x"}]}
}


@pytest.mark.docker
def test_a_question_is_answered_also_with_no(docker_engine: DockerEngine, nginx_image: str) -> None:
    running = docker_engine.run(nginx_image)
    try:
        with source_of(Engine("docker", docker_engine.socket)) as source:
            source.ask(UNKNOWN, None)
            assert wait_for(source, lambda c: c.full_id == UNKNOWN).missing == "no such container at docker"
            source.ask(running, None)
            assert wait_for(source, lambda c: c.full_id == running and c.missing is None).image == nginx_image
    finally:
        docker_engine.remove(running)


@pytest.mark.docker
def test_an_engine_that_hangs_and_returns(docker_engine: DockerEngine, nginx_image: str) -> None:
    running = docker_engine.run(nginx_image)
    try:
        with source_of(Engine("docker", docker_engine.socket), timeout_s=0.3) as source:
            wait_for(source, lambda c: c.full_id == running)
            docker_engine.pause()
            try:
                source.ask(UNKNOWN, None)
                assert wait_for(source, lambda c: c.full_id == UNKNOWN).missing == "no container engine answered"
            finally:
                docker_engine.resume()
        with source_of(Engine("docker", docker_engine.socket)) as source:
            source.ask(running, None)
            assert wait_for(source, lambda c: c.full_id == running).missing is None
    finally:
        docker_engine.remove(running)


def test_without_an_engine_the_answer_says_so(tmp_path: Path) -> None:
    with source_of(Engine("docker", tmp_path / "none.sock"), Engine("podman", tmp_path / "none2.sock")) as source:
        source.ask(UNKNOWN, None)
        told = wait_for(source, lambda c: True)
    assert told == Container(UNKNOWN[:12], UNKNOWN, missing="no container engine answered")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00\xff\n" * 100,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" + b'{"Id":[]}',
        b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 200_000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 5_000_000,
    ],
    ids=["closed", "garbage", "no json", "a list", "an id that is none", "error", "deep", "large"],
)
def test_nonsense_is_an_answer_too(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "engine.sock"
    with serving(path, answer), source_of(Engine("docker", path), timeout_s=2) as source:
        source.ask(UNKNOWN, None)
        told = wait_for(source, lambda c: c.full_id == UNKNOWN)
        assert told.missing == "no container engine answered"


@contextmanager
def serving(path: Path, answer: bytes) -> Iterator[None]:
    """An engine that answers everything with the same bytes."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    server.settimeout(0.1)
    done = threading.Event()

    def serve() -> None:
        while not done.is_set():
            try:
                peer, _ = server.accept()
            except TimeoutError:
                continue
            with peer:
                try:
                    peer.recv(65_536)
                    peer.sendall(answer)
                except OSError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        server.close()


@contextmanager
def answering(path: Path, told: object) -> Iterator[None]:
    """The same with JSON; None for 404."""
    body = json.dumps(told).encode()
    head = "404 Not Found" if told is None else "200 OK"
    with serving(path, f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body):
        yield


ODD = [
    {"NetworkSettings": {"Networks": [1]}},
    {"NetworkSettings": {"Networks": "x"}},
    {"State": {"StartedAt": "9999-12-31T23:59:59"}},
    {"State": {"StartedAt": "9999-12-31T23:59:59-23:59"}},
    {"Image": "\ud800"},
    {"Config": {"Labels": {"io.kubernetes.pod.uid": "u", "io.kubernetes.sandbox.id": "\udcff"}}},
]


@pytest.mark.parametrize("odd", ODD)
def test_an_answer_of_odd_values_is_answered_and_the_next_question_too(tmp_path: Path, odd: dict[str, Any]) -> None:
    """A user's engine is that user's program: it says what it likes, and others' questions go through the same
    thread."""
    with answering(tmp_path / "s", {"Id": UNKNOWN, **odd}), source_of(Engine("docker", tmp_path / "s")) as source:
        for _ in range(2):
            source.ask(UNKNOWN, None)
            assert wait_for(source, lambda c: c.full_id == UNKNOWN).missing is None


class BrokenEngine(Engine):
    """It raises what nobody expects."""

    def container(self, full_id: str, timeout_s: float) -> Container:
        raise ZeroDivisionError


def test_an_error_of_ours_ends_no_thread_of_the_source(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with source_of(BrokenEngine("docker", tmp_path / "s")) as source:
        for _ in range(2):
            source.ask(UNKNOWN, None)
            assert wait_for(source, lambda c: c.full_id == UNKNOWN).missing == "no container engine answered"
    assert source.losses["docker: an error of ours"] == 2
    assert caplog.text.count("internal error in reading docker") == 1, "told once"


def test_an_engine_without_a_list_is_listened_to_again(tmp_path: Path) -> None:
    """A proxy before an engine may let through some of its pages only."""
    source = ContainerSource([Engine("podman", tmp_path / "s")], pause_s=0.01)
    with answering(tmp_path / "s", None):
        source.start()
        try:
            wait_until(lambda: source.losses.get("events of podman not reachable", 0) > 2, "another try")
        finally:
            source.close()


def test_the_queue_of_questions_is_bounded(tmp_path: Path) -> None:
    source = ContainerSource([Engine("docker", tmp_path / "none.sock")])  # not started: nobody answers
    for i in range(1025):
        source.ask(f"{i:064}", None)
    told = [read_container(str(raw.params[0])) for raw in source.take()]
    assert [c.missing for c in told] == ["too many questions at once"]
    assert source.losses == {"question about a container dropped, queue full": 1}
    source.close()


def test_labels_are_bounded_and_the_kubelets_stay() -> None:
    flood = {f"x{n}": "y" * 4000 for n in range(1000)}
    told = dict(read_labels({**flood, "n": 7, "io.kubernetes.pod.name": "web-0", "long": "z" * 5000}))
    assert told["io.kubernetes.pod.name"] == "web-0"
    assert sum(len(k) + len(v) for k, v in told.items()) <= 32 * 1024
    assert "n" not in told and "long" not in told and len(told) > 5
    assert read_labels(None) == read_labels([("a", "b")]) == ()


def test_facts_survive_their_event() -> None:
    told = read_answer(
        {
            "Id": UNKNOWN,
            "Name": "/we\nb\x1b[31m",
            "Image": DIGEST,
            "Config": {"Image": "nginx:1.25"},
            "HostConfig": {"Privileged": True},
            "Mounts": [{"Source": "/", "Destination": "/host", "Mode": "rw", "RW": True, "Propagation": "rprivate"}],
        },
        "docker",
    )
    told = replace(told, owner=1000, healthcheck=("a", "b"), pod=Pod(uid="u", labels=(("k", "v"),)))
    raw = container_event(told, 7)
    assert raw.ts_ns == 7
    assert read_container(str(raw.params[0])) == told
    with pytest.raises(EngineError):
        read_answer({"Id": UNKNOWN, "Mounts": ["x"]}, "docker")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"id":"a","full_id":"a","no":1}', json.dumps({"mounts": [1]})])
def test_other_texts_are_no_containers(text: str) -> None:
    with pytest.raises(ValueError):
        read_container(text)


def test_a_users_socket_must_be_the_users(tmp_path: Path) -> None:
    """Sockets are looked for below each user's folder; a link is no socket, and who listens is asked."""
    for uid in ("1000", "1001", "0", "x"):
        (tmp_path / uid / "podman").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as other:
        server.bind(str(tmp_path / "1000/podman/podman.sock"))
        server.listen()
        other.bind(str(tmp_path / "0/podman/podman.sock"))
        (tmp_path / "1001/podman/podman.sock").symlink_to(tmp_path / "1000/podman/podman.sock")
        assert user_engines(tmp_path) == []  # it is root's, as this test is
        os.chown(tmp_path / "1000/podman/podman.sock", 1000, 1000)
        assert user_engines(tmp_path) == [Engine("podman", tmp_path / "1000/podman/podman.sock", 1000)]
        with pytest.raises(EngineError, match="not answered by user 1000"):
            user_engines(tmp_path)[0].container(UNKNOWN, 2)


def test_an_engine_that_hangs_holds_up_its_users_answers_only(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(tmp_path / "s"))
        hanging.listen()
        engines = Engine("podman", tmp_path / "s", os.getuid()), Engine("docker", tmp_path / "none")
        with source_of(*engines, timeout_s=60) as source:
            for n in range(5):
                source.ask(f"{n:064}", os.getuid())
            source.ask(UNKNOWN, None)
            assert wait_for(source, lambda c: c.full_id == UNKNOWN, 30).missing == "no container engine answered"
            hanging.close()


def test_engines_are_found_again_when_there_are_threads_again(tmp_path: Path) -> None:
    """Neither who listens to root's engine nor who looks for users' gives up while the machine has no thread."""
    looks: list[int] = []
    roots, users = Engine("docker", tmp_path / "r"), Engine("podman", tmp_path / "u", os.getuid())

    def discover() -> list[Engine]:
        looks.append(1)
        return [users]

    with socket.socket(socket.AF_UNIX) as root, socket.socket(socket.AF_UNIX) as user:
        source = ContainerSource([roots], discover=discover, timeout_s=60, pause_s=0.05)
        source.start()  # nobody answers yet
        try:
            with no_threads():
                for server, engine in ((root, roots), (user, users)):
                    server.bind(os.fspath(engine.socket))
                    server.listen()
                    server.settimeout(60)
                for _ in range(3):
                    root.accept()[0].close()
                seen = len(looks)
                wait_until(lambda: len(looks) > seen + 2, "looks for users' engines go on")
            root.accept()[0].close()
            user.accept()[0].close()
        finally:
            source.close()


def test_the_descriptor_is_quiet_when_there_is_nothing(tmp_path: Path) -> None:
    source = ContainerSource([])
    assert source.take() == []
    assert select.select([source.fileno()], [], [], 0)[0] == []
    assert os.get_blocking(source.fileno()) is False
    source.close()
