"""containerd by its real sockets; CRI-O, and what misbehaves, by a fake beside it."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.event import Mount
from appliance.sources.cri import Engine
from appliance.sources.docker_api import EngineError, UnknownContainerError
from appliance.sources.protobuf import Message, encode
from tests.sources.test_container import UNKNOWN, source_of, wait_for
from tests.support.containerd import IMAGE, Containerd
from tests.support.receivers import wait_until

UID = "12345678-1234-1234-1234-123456789012"


# -- the real one


@pytest.mark.docker
def test_a_container_of_a_pod(containerd: Containerd, tmp_path: Path) -> None:
    engine = Engine("containerd", containerd.socket)
    sandbox = containerd.sandbox("web-0", UID)
    try:
        full_id = containerd.container(sandbox, "web", "/act", "/etc/hostname", mount=tmp_path)
        told = engine.container(full_id, 60)
        assert (told.id, told.full_id, told.runtime, told.name) == (full_id[:12], full_id, "containerd", "web")
        assert (told.image, told.image_repository, told.image_tag) == (IMAGE, "tercel.test:5000/shop/act", "1.2")
        assert told.image_id is not None and len(told.image_id) == 64
        assert (told.privileged, told.host_network, told.host_pid, told.host_ipc) == (False, False, False, False)
        assert told.mounts == (Mount(str(tmp_path), "/data", "", False, "private"),)
        assert dict(told.labels)["io.kubernetes.container.name"] == "web"
        assert told.started_ns is not None and abs(told.started_ns - time.time_ns()) < 600e9
        assert (told.liveness_probe, told.readiness_probe) == ((), ("/act", "/ready"))
        pod = told.pod
        assert pod is not None
        assert (pod.uid, pod.name, pod.namespace, pod.sandbox_id) == (UID, "web-0", "shop", sandbox[0])
        assert dict(pod.labels) == {"app": "web", "tier": "front"}
        assert pod.ip == told.ip and pod.ip is not None and pod.ip.startswith("10.213.77.")
        assert pod.cni is not None and json.loads(pod.cni)["eth0"]["IPConfigs"][0]["IP"] == pod.ip

        told = engine.container(sandbox[0], 60)
        assert (told.name, told.image_tag, told.missing) == ("POD", "1", None)
        assert told.pod is not None and told.pod.name == "web-0"
    finally:
        containerd.remove(sandbox[0])


@pytest.mark.docker
def test_on_the_hosts_network_and_privileged(containerd: Containerd) -> None:
    engine = Engine("containerd", containerd.socket)
    sandbox = containerd.sandbox("node-0", UID, host_network=True, privileged=True)
    try:
        told = engine.container(containerd.container(sandbox, "agent", "/act", "/x", privileged=True), 60)
        assert (told.privileged, told.host_network, told.ip) == (True, True, "")
    finally:
        containerd.remove(sandbox[0])


@pytest.mark.docker
def test_a_container_that_no_kubelet_made(containerd: Containerd) -> None:
    engine = Engine("containerd", containerd.socket)
    options = ("--snapshotter=native", f"--runc-binary={containerd.folder}/runc", "--label=a=b", "--net-host")
    containerd.ctr("--namespace=shop", "run", "--detach", *options, IMAGE, "plain", "/act", "/etc/hostname")
    try:
        told = engine.container("plain", 60)
        assert (told.id, told.name, told.image, told.image_tag) == ("plain", "plain", IMAGE, "1.2")
        assert dict(told.labels)["a"] == "b"
        assert told.image_digest is not None and told.image_digest.startswith("sha256:")
        assert (told.privileged, told.host_network, told.host_pid) == (False, True, False)
        assert told.pod is None and any(m.dest == "/proc" for m in told.mounts)
    finally:
        containerd.ctr("--namespace=shop", "tasks", "kill", "--signal=KILL", "plain")
        deadline = time.monotonic() + 90
        while "STOPPED" not in containerd.ctr("--namespace=shop", "tasks", "ls") and time.monotonic() < deadline:
            time.sleep(0.05)
        containerd.ctr("--namespace=shop", "tasks", "rm", "plain")
        containerd.ctr("--namespace=shop", "containers", "rm", "plain")


@pytest.mark.docker
def test_running_and_new_containers_are_told(containerd: Containerd) -> None:
    sandbox = containerd.sandbox("web-1", UID, host_network=True)
    try:
        old = containerd.container(sandbox, "old", "/act", "/x")
        with source_of(Engine("containerd", containerd.socket)) as source:
            assert wait_for(source, lambda c: c.full_id == old).name == "old"
            new = containerd.container(sandbox, "new", "/act", "/x")
            assert wait_for(source, lambda c: c.full_id == new and c.missing is None).name == "new"
            source.ask(UNKNOWN, None)
            assert wait_for(source, lambda c: c.full_id == UNKNOWN).missing == "no such container at containerd"
    finally:
        containerd.remove(sandbox[0])


# -- a fake one


class FakeEngine:
    """Answers each method by what stands in `answers`: bytes of a message, or a status."""

    def __init__(self, path: Path, answers: dict[str, bytes | int]) -> None:
        self.asked: list[str] = []
        self._answers = answers
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._server.settimeout(0.05)
        self._done = threading.Event()
        self._threads: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._done.set()
        self._thread.join()
        for thread in self._threads:
            thread.join()
        self._server.close()

    def _serve(self) -> None:
        while not self._done.is_set():
            try:
                peer, _ = self._server.accept()
            except TimeoutError:
                continue
            thread = threading.Thread(target=self._answer, args=(peer,))
            thread.start()
            self._threads.append(thread)

    def _answer(self, peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            self._talk(peer)

    def _talk(self, peer: socket.socket) -> None:
        http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        http.initiate_connection()
        peer.sendall(http.data_to_send())
        method = ""
        while data := peer.recv(65_536):
            for event in http.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    method = str(dict(event.headers)[":path"])
                if isinstance(event, h2.events.StreamEnded):
                    self.asked.append(method)
                    self._send(http, self._answers.get(method, 12))
            peer.sendall(http.data_to_send())

    @staticmethod
    def _send(http: h2.connection.H2Connection, answer: bytes | int) -> None:
        status, kind = (":status", "200"), ("content-type", "application/grpc")
        if isinstance(answer, int):
            http.send_headers(1, [status, kind, ("grpc-status", str(answer))], end_stream=True)
            return
        http.send_headers(1, [status, kind])
        http.send_data(1, struct.pack(">BI", 0, len(answer)) + answer)
        http.send_headers(1, [("grpc-status", "0")], end_stream=True)


@contextmanager
def fake(path: Path, answers: dict[str, bytes | int]) -> Iterator[FakeEngine]:
    engine = FakeEngine(path, answers)
    try:
        yield engine
    finally:
        engine.close()


R = "/runtime.v1.RuntimeService"


def test_the_words_of_crio(tmp_path: Path) -> None:
    info = {"sandboxID": "s" * 64, "privileged": True, "runtimeSpec": {}}
    sandbox_info = {"runtimeSpec": {"annotations": {"io.kubernetes.cri-o.CNIResult": '{"ips":[]}'}}}
    status = encode(
        (1, UNKNOWN), (2, encode((1, "web"))), (5, 7), (8, encode((1, "sha256:" + "e" * 64))),
        (9, "quay.io/shop/web@sha256:" + "a" * 64), (12, encode((1, "io.kubernetes.pod.name"), (2, "web-0"))),
    )  # fmt: skip
    pod = encode((1, "s" * 64), (2, encode((1, "web-0"), (2, UID), (3, "shop"))), (5, encode((1, "10.0.0.9"))))
    image = encode((1, encode((1, "sha256:" + "e" * 64), (2, "quay.io/shop/web:3"), (3, "quay.io/shop/web@sha256:x"))))
    answers: dict[str, bytes | int] = {
        f"{R}/ContainerStatus": encode((1, status), (2, encode((1, "info"), (2, json.dumps(info))))),
        f"{R}/PodSandboxStatus": encode((1, pod), (2, encode((1, "info"), (2, json.dumps(sandbox_info))))),
        "/runtime.v1.ImageService/ImageStatus": image,
    }
    with fake(tmp_path / "s", answers):
        told = Engine("cri-o", tmp_path / "s").container(UNKNOWN, 5)
    assert (told.runtime, told.image, told.image_repository, told.image_tag) == (
        "cri-o", "quay.io/shop/web:3", "quay.io/shop/web", "3",
    )  # fmt: skip
    assert (told.image_id, told.image_digest, told.privileged) == ("e" * 64, "sha256:" + "a" * 64, True)
    assert told.pod is not None and (told.pod.uid, told.pod.cni, told.ip) == (UID, '{"ips":[]}', "10.0.0.9")


def test_an_engine_without_events_is_asked_all_the_same(tmp_path: Path) -> None:
    with fake(tmp_path / "s", {f"{R}/ContainerStatus": 5, f"{R}/PodSandboxStatus": 5}):
        engine = Engine("cri-o", tmp_path / "s")
        with pytest.raises(UnknownContainerError):
            engine.container(UNKNOWN, 5)
        with source_of(engine) as source:
            source.ask(UNKNOWN, None)
            assert wait_for(source, lambda c: True).missing == "no such container at cri-o"


def test_without_events_the_list_is_looked_at(tmp_path: Path) -> None:
    status = encode((1, encode((1, UNKNOWN), (2, encode((1, "web"))), (8, encode((1, "web:1"))))))
    listed = {f"{R}/ListContainers": b"", f"{R}/ListPodSandbox": b"", f"{R}/ContainerStatus": status}
    answers: dict[str, bytes | int] = {**listed}
    with fake(tmp_path / "s", answers) as engine, source_of(Engine("cri-o", tmp_path / "s")) as source:
        wait_until(lambda: f"{R}/GetContainerEvents" in engine.asked, "the source to listen")
        answers[f"{R}/ListContainers"] = encode((1, encode((1, UNKNOWN))))
        assert wait_for(source, lambda c: c.full_id == UNKNOWN).name == "web"


@pytest.mark.parametrize(
    "answer",
    [b"\xff" * 40, encode((1, encode((1, "another")))), b"\x0a\x05ab", 13, 2, encode((1, b"\x08" + b"\xff" * 11))],
    ids=["garbage", "another's", "cut", "internal error", "unknown error", "endless number"],
)
def test_nonsense_is_an_error(tmp_path: Path, answer: bytes | int) -> None:
    with fake(tmp_path / "s", {f"{R}/ContainerStatus": answer}), pytest.raises(EngineError):
        Engine("containerd", tmp_path / "s").container(UNKNOWN, 5)


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 400 Bad\r\n\r\n", b"\0" * 100_000, b"\0\0\0\x04\0\0\0\0\0"])
def test_one_that_does_not_speak_it(tmp_path: Path, reply: bytes) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "s"))
    server.listen()

    def serve() -> None:
        peer, _ = server.accept()
        with peer:
            peer.recv(65_536)
            peer.sendall(reply)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with pytest.raises(EngineError):
            Engine("containerd", tmp_path / "s").ask("/x/y", b"", 2)
    finally:
        thread.join()
        server.close()


def test_one_that_hangs_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        with pytest.raises(EngineError):
            Engine("containerd", tmp_path / "s").ask("/x/y", b"", 0.2)


# -- the wire format

FIELDS = st.lists(
    st.tuples(st.integers(1, 2**29 - 1), st.integers(0, 2**64 - 1) | st.text(max_size=20) | st.binary(max_size=20)),
    max_size=10,
)


@given(FIELDS)
def test_a_message_is_what_it_was_made_of(fields: list[tuple[int, int | str | bytes]]) -> None:
    told = Message(encode(*fields))
    for number in {field for field, _ in fields}:
        values = [v for field, v in fields if field == number]
        numbers = [v for v in values if isinstance(v, int)]
        parts = [v.encode() if isinstance(v, str) else v for v in values if not isinstance(v, int)]
        assert told.number(number) == (numbers[-1] if numbers else 0)
        assert told.datas(number) == parts


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_an_error(data: bytes) -> None:
    try:
        told = Message(data)
    except ValueError:
        return
    told.text(1), told.number(1), told.datas(1)
