"""What container engines say: names, images, mounts.

Comes in: questions (`ask`) and the engines' own events. Goes out: CONTAINER events, by `take`. Never: a wait on the
caller's thread, or trust in an answer; engines may be absent, hang, restart or talk nonsense.

Docker and podman answer the same API on their unix sockets (Docker Engine API: `/containers/json`,
`/containers/ID/json`, `/images/ID/json`, `/events`). One thread for each engine listens to its events, one answers
questions. The listener makes a container's facts known when it is created, before its first process runs.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from appliance.model.event import Container, EventType, Mount, RawEvent

_ANSWER_MAX = 4 * 1024 * 1024
_LINE_MAX = 1024 * 1024
_QUESTIONS_MAX = 1024
_ANSWERS_MAX = 4096
_MOUNTS_MAX = 256
_TELLING = frozenset({"create", "start", "rename", "update"})  # after these, facts may be new


@dataclass(frozen=True, slots=True)
class ImageName:
    """An image's name in its parts; empty where it has none (`sha256:...` alone names no repository)."""

    repository: str
    tag: str
    digest: str


def parse_image(name: str) -> ImageName:
    """`host:5000/a/b:tag@sha256:...` in its parts; a colon before a slash belongs to the registry's port."""
    if name.startswith("sha256:"):
        return ImageName("", "", "")
    rest, _, digest = name.partition("@")
    head, colon, tail = rest.rpartition(":")
    if colon and "/" not in tail:
        return ImageName(head, tail, digest)
    return ImageName(rest, "" if digest else "latest", digest)


class EngineError(Exception):
    """An engine did not answer, or not as the API promises."""


class UnknownContainerError(Exception):
    """The engine answered that it has no such container (or image)."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine: its word (`docker`, `podman`) and where it answers."""

    runtime: str
    socket: Path

    def connect(self, timeout_s: float) -> _UnixConnection:
        """A connection not opened yet."""
        return _UnixConnection(self.socket, timeout_s)

    def get(self, path: str, timeout_s: float) -> Any:
        """The JSON that the engine answers. Raises `EngineError`, `UnknownContainerError` (404)."""
        connection = self.connect(timeout_s)
        deadline = time.monotonic() + timeout_s
        try:
            connection.request("GET", path, headers={"Host": "localhost", "Connection": "close"})
            answer = connection.getresponse()
            if answer.status == 404:
                raise UnknownContainerError
            if answer.status != 200:
                raise EngineError(f"status {answer.status}")
            parts, size = [], 0
            while part := answer.read1(65_536):
                size += len(part)
                parts.append(part)
                if size > _ANSWER_MAX:
                    raise EngineError(f"answer larger than {_ANSWER_MAX} bytes")
                if time.monotonic() > deadline:
                    raise EngineError("answer too slow")
            return json.loads(b"".join(parts))
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            raise EngineError(str(error)) from error
        finally:
            connection.close()

    def container(self, full_id: str, timeout_s: float) -> Container:
        """All facts of one container."""
        told = self.get(f"/containers/{quote(full_id, safe='')}/json", timeout_s)
        container = read_answer(told, self.runtime)
        if container.full_id != full_id:
            raise EngineError("an answer about another container")
        digest = container.image_digest or self._digest(container, str(told.get("Image") or ""), timeout_s)
        return _with_digest(container, digest)

    def _digest(self, container: Container, image_id: str, timeout_s: float) -> str:
        """The digest under which the image was pulled: it stands with the image, not with the container."""
        if not image_id:
            return ""
        try:
            digests = _mapping(self.get(f"/images/{quote(image_id, safe=':')}/json", timeout_s)).get("RepoDigests")
        except (EngineError, UnknownContainerError):
            return ""
        named = [d.partition("@") for d in digests if isinstance(d, str)] if isinstance(digests, list) else []
        same = [digest for repository, _, digest in named if repository == container.image_repository]
        return (same or [digest for _, _, digest in named] or [""])[0]


def _with_digest(container: Container, digest: str) -> Container:
    return Container(**{**_fields(container), "image_digest": digest})


def _fields(container: Container) -> dict[str, Any]:
    return {name: getattr(container, name) for name in Container.__dataclass_fields__}


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise EngineError("not an object where the API promises one")
    return value


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def read_answer(told: object, runtime: str) -> Container:
    """The facts in an answer of `/containers/ID/json`. Raises `EngineError` where it is none."""
    facts = _mapping(told)
    full_id = _text(facts.get("Id"))
    if not full_id:
        raise EngineError("an answer without an id")
    config, host = _mapping(facts.get("Config") or {}), _mapping(facts.get("HostConfig") or {})
    image = _text(config.get("Image")) or _text(facts.get("ImageName"))
    name = parse_image(image)
    mounts = facts.get("Mounts")
    return Container(
        id=full_id[:12],
        full_id=full_id,
        runtime=runtime,
        name=_text(facts.get("Name")).removeprefix("/"),
        image=image,
        image_id=_text(facts.get("Image")).removeprefix("sha256:")[:12],
        image_repository=name.repository,
        image_tag=name.tag,
        image_digest=name.digest,
        privileged=host.get("Privileged") is True,
        mounts=tuple(_mount(m) for m in mounts[:_MOUNTS_MAX]) if isinstance(mounts, list) else (),
    )


def _mount(told: object) -> Mount:
    facts = _mapping(told)
    return Mount(
        source=_text(facts.get("Source")),
        dest=_text(facts.get("Destination")),
        mode=_text(facts.get("Mode")),
        rdwr=facts.get("RW") is True,
        propagation=_text(facts.get("Propagation")),
    )


def container_event(container: Container, ts_ns: int) -> RawEvent:
    """The CONTAINER event that carries these facts; keys are the names of `Container`'s fields."""
    text = json.dumps(asdict(container))
    return RawEvent(EventType.CONTAINER, ts_ns, 0, 0, 0, 0, 0, 0, 0, (text,))


class ContainerSource:
    """Asks engines in threads of its own. `start` once, `close` once; the other methods from any thread.

    `timeout_s` bounds each answer, `pause_s` is the time between two tries to reach an engine's events.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        *,
        now_ns: Callable[[], int] = time.monotonic_ns,
        timeout_s: float = 2.0,
        pause_s: float = 2.0,
    ) -> None:
        self._engines = tuple(engines)
        self._now_ns = now_ns
        self._timeout_s = timeout_s
        self._pause_s = pause_s
        self._questions: queue.Queue[tuple[str, int] | None] = queue.Queue(_QUESTIONS_MAX)
        self._lock = threading.Lock()
        self._answers: deque[RawEvent] = deque()
        self._losses: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._listening: dict[Engine, _UnixConnection] = {}
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._threads = [
            threading.Thread(target=self._answer_all, name="containers", daemon=True),
            *(threading.Thread(target=self._listen, args=(e,), name=e.runtime, daemon=True) for e in self._engines),
        ]

    def start(self) -> None:
        """Begin to listen and to answer."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End the threads; waits for an answer under way, at most about `timeout_s`."""
        self._stopping.set()
        with self._lock:
            for connection in self._listening.values():
                if connection.sock is not None:
                    _shut(connection.sock)
        try:
            self._questions.put_nowait(None)
        except queue.Full:
            self._questions.get_nowait()  # nobody waits for it any more
            self._questions.put_nowait(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(self._timeout_s * 2 + 1)
        os.close(self._wake)

    def fileno(self) -> int:
        """A descriptor that is readable while `take` has something."""
        return self._wake

    def ask(self, full_id: str, pid: int) -> None:
        """Ask the engines about a container; the answer comes by `take`, also when there is none to give."""
        try:
            self._questions.put_nowait((full_id, pid))
        except queue.Full:
            self._lose("question about a container dropped, queue full")
            self._tell(_unknown(full_id, "too many questions at once"))

    def take(self) -> list[RawEvent]:
        """What has been answered since the last call; does not wait."""
        with self._lock:
            answers = list(self._answers)
            self._answers.clear()
            with contextlib.suppress(BlockingIOError):  # nothing since the last time
                os.eventfd_read(self._wake)
        return answers

    @property
    def losses(self) -> Mapping[str, int]:
        """What went wrong, how often: dropped questions and answers, engines that did not answer."""
        with self._lock:
            return dict(self._losses)

    # -- the threads

    def _answer_all(self) -> None:
        while not self._stopping.is_set():
            question = self._questions.get()
            if question is None:
                return
            self._tell(self._answer(question[0]))

    def _answer(self, full_id: str) -> Container:
        denied = []
        for engine in self._engines:
            try:
                return engine.container(full_id, self._timeout_s)
            except UnknownContainerError:
                denied.append(engine.runtime)
            except EngineError:
                self._lose(f"{engine.runtime} did not answer")
        reason = f"no such container at {', '.join(denied)}" if denied else "no container engine answered"
        return _unknown(full_id, reason)

    def _listen(self, engine: Engine) -> None:
        while not self._stopping.is_set():
            try:
                self._follow(engine)
            except (EngineError, OSError, http.client.HTTPException):
                self._lose(f"events of {engine.runtime} not reachable")
            finally:
                with self._lock:
                    self._listening.pop(engine, None)
            self._stopping.wait(self._pause_s)

    def _follow(self, engine: Engine) -> None:
        """Listen to an engine's events until it ends them. The running containers are told after the listening began:
        one that starts in between is told twice, not missed."""
        filters = json.dumps({"type": ["container"]})
        connection = engine.connect(self._timeout_s)
        try:
            connection.request("GET", f"/events?{urlencode({'filters': filters})}", headers={"Host": "localhost"})
            sock = connection.sock
            with self._lock:
                self._listening[engine] = connection
            if engine.runtime == "podman":  # it answers only with its first event
                self._list(engine)
            sock.settimeout(None)  # silence is no failure here; `close` shuts the socket
            if self._stopping.is_set():
                return
            answer = connection.getresponse()
            if answer.status != 200:
                raise EngineError(f"status {answer.status}")
            if engine.runtime != "podman":
                self._list(engine)
            while line := answer.readline(_LINE_MAX):
                self._heard(engine, line)
        finally:
            connection.close()

    def _list(self, engine: Engine) -> None:
        told = engine.get("/containers/json", self._timeout_s)
        if not isinstance(told, list):
            raise EngineError("not a list of containers")
        for entry in told[:_ANSWERS_MAX]:
            self._learn(engine, _text(_mapping(entry).get("Id")))

    def _heard(self, engine: Engine, line: bytes) -> None:
        try:
            event = _mapping(json.loads(line))
            actor = _mapping(event.get("Actor") or {})
        except (ValueError, RecursionError) as error:
            raise EngineError("an event that is no JSON") from error
        if event.get("Action", event.get("status")) in _TELLING:
            self._learn(engine, _text(actor.get("ID") or event.get("id")))

    def _learn(self, engine: Engine, full_id: str) -> None:
        if not full_id or self._stopping.is_set():
            return
        try:
            self._tell(engine.container(full_id, self._timeout_s))
        except UnknownContainerError:  # gone already
            return
        except EngineError:
            self._lose(f"{engine.runtime} did not answer")

    def _tell(self, container: Container) -> None:
        event = container_event(container, self._now_ns())
        with self._lock:
            if len(self._answers) >= _ANSWERS_MAX:
                self._answers.popleft()
                self._losses["answer about a container dropped, queue full"] += 1
            self._answers.append(event)
            if not self._stopping.is_set():
                os.eventfd_write(self._wake, 1)

    def _lose(self, reason: str) -> None:
        with self._lock:
            self._losses[reason] += 1


def _unknown(full_id: str, reason: str) -> Container:
    return Container(full_id[:12], full_id, missing=reason)


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:  # it was never connected, or is gone
        return
