"""What container engines say: names, images, mounts, labels, pods.

Comes in: questions (`ask`) and the engines' own events. Goes out: CONTAINER events, by `take`. Never: a wait on the
caller's thread, or an answer of one user's engine about a container that is not that user's.

For each engine one thread listens to its events and one asks for the facts of the containers that they name; one more
answers questions. A container's facts are known when it is created, before its first process runs, where the engine
tells of creations; what the event itself says of it (Docker and podman: name, image, labels) comes at once and stays
true of a container that is gone before it can be asked about. Engines that users start in
their own sessions are looked for below /run/user while we run; they have an answering thread of their own, for one that
hangs must not hold up the answers about root's containers.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import logging
import os
import queue
import stat
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from appliance.host.faults import Faults
from appliance.model.event import Container, EventType, RawEvent
from appliance.sources.docker_api import Engine as DockerEngine
from appliance.sources.docker_api import EngineError, UnknownContainerError

log = logging.getLogger(__name__)

_QUESTIONS_MAX = 1024
_ANSWERS_MAX = 4096
_USERS_MAX = 16  # engines of users that we listen to

_Questions = queue.Queue[tuple[str, int | None] | None]  # id and owner; None ends the thread


class Listening(Protocol):
    """An engine's events as they come."""

    def news(self) -> Iterator[Container]:
        """Containers of which something is new, until the engine ends it, as far as the news itself tells of them:
        their `missing` is `WAITING` and the engine's word. Where it tells no more than the id, the name is None."""

    def shut(self) -> None:
        """End `news`, from any thread."""

    def close(self) -> None:
        """Give back what it holds."""


class Engine(Protocol):
    """What can be asked about containers: `sources.docker_api.Engine`, `sources.cri.Engine`."""

    @property
    def runtime(self) -> str:
        """Its word: docker, podman, containerd, cri-o."""

    @property
    def owner(self) -> int | None:
        """The user whose engine it is, None for root's."""

    def container(self, full_id: str, timeout_s: float) -> Container:
        """All facts of one container. Raises `EngineError`, `UnknownContainerError`."""

    def listen(self, timeout_s: float) -> Listening:
        """Its events from now on. Raises `EngineError`, OSError."""


def container_event(container: Container, ts_ns: int) -> RawEvent:
    """The CONTAINER event that carries these facts; keys are the names of `Container`'s fields."""
    text = json.dumps(asdict(container))
    return RawEvent(EventType.CONTAINER, ts_ns, 0, 0, 0, 0, 0, 0, 0, (text,))


def user_engines(root: Path = Path("/run/user")) -> list[Engine]:
    """Engines that users run in their sessions: sockets at the usual places that belong to the user of the folder."""
    found: list[Engine] = []
    try:
        users = sorted(int(name) for name in os.listdir(root) if name.isascii() and name.isdigit())  # noqa: PTH208
    except OSError:
        return found
    for uid in users:
        for runtime, place in (("podman", "podman/podman.sock"), ("docker", "docker.sock")):
            path = root / str(uid) / place
            with contextlib.suppress(OSError):
                told = os.lstat(path)
                if uid > 0 and told.st_uid == uid and stat.S_ISSOCK(told.st_mode):
                    found.append(DockerEngine(runtime, path, uid))
    return found


class ContainerSource:
    """Asks engines in threads of its own. `start` once, `close` once; the other methods from any thread.

    `timeout_s` bounds each answer, `pause_s` is the time between two tries to reach an engine's events, and between two
    looks for engines by `discover`.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        *,
        discover: Callable[[], Sequence[Engine]] = lambda: (),
        now_ns: Callable[[], int] = time.monotonic_ns,
        timeout_s: float = 2.0,
        pause_s: float = 2.0,
        faults: Faults | None = None,
    ) -> None:
        self._faults = Faults() if faults is None else faults
        self._engines = tuple(engines)
        self._discover = discover
        self._users: dict[Engine, threading.Thread] = {}
        self._now_ns = now_ns
        self._timeout_s = timeout_s
        self._pause_s = pause_s
        self._questions: tuple[_Questions, _Questions] = (queue.Queue(_QUESTIONS_MAX), queue.Queue(_QUESTIONS_MAX))
        self._lock = threading.Lock()
        self._answers: deque[RawEvent] = deque()
        self._losses: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._listening: dict[Engine, Listening] = {}
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._threads = [
            *(
                self._faults.thread(f"containers{of}", partial(self._answer_all, q), self._stopping)
                for q, of in zip(self._questions, ("", " of users"), strict=True)
            ),
            self._faults.thread("users' engines", self._look_for_users, self._stopping),
            *(
                self._faults.thread(f"engine {n}: {e.runtime}", partial(self._listen, e), self._stopping)
                for n, e in enumerate(self._engines, 1)
            ),
        ]

    def start(self) -> None:
        """Begin to listen and to answer."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End the threads; waits for an answer under way, at most about `timeout_s`."""
        self._stopping.set()
        with self._lock:
            for listening in self._listening.values():
                listening.shut()
        for questions in self._questions:
            try:
                questions.put_nowait(None)
            except queue.Full:
                questions.get_nowait()  # nobody waits for it any more
                questions.put_nowait(None)
        for thread in [*self._threads, *self._users.values()]:
            if thread.is_alive():
                thread.join(self._timeout_s * 2 + 1)
        os.close(self._wake)

    def fileno(self) -> int:
        """A descriptor that is readable while `take` has something."""
        return self._wake

    def ask(self, full_id: str, owner: int | None) -> None:
        """Ask the engines of that owner about a container; the answer comes by `take`, also when there is none."""
        try:
            self._questions[owner is not None].put_nowait((full_id, owner))
        except queue.Full:
            self._lose("question about a container dropped, queue full")
            self._tell(_unknown(full_id, owner, "too many questions at once"))

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

    def _answer_all(self, questions: _Questions) -> None:
        while not self._stopping.is_set():
            question = questions.get()
            if question is None:
                return
            try:
                answer = self._answer(*question)
            except Exception:
                self._faults.caught("facts of containers")
                answer = _unknown(*question, "internal error")
            self._tell(answer)

    def _answer(self, full_id: str, owner: int | None) -> Container:
        denied = []
        for engine in self._of(owner):
            try:
                return engine.container(full_id, self._timeout_s)
            except UnknownContainerError:
                denied.append(engine.runtime)
            except EngineError:
                self._lose(f"{engine.runtime} did not answer")
            except Exception:
                self._err(engine)
        reason = f"no such container at {', '.join(denied)}" if denied else "no container engine answered"
        return _unknown(full_id, owner, reason)

    def _of(self, owner: int | None) -> list[Engine]:
        """The engines that may speak for this owner's containers."""
        if owner is None:
            return [e for e in self._engines if e.owner is None]
        with self._lock:
            known = [e for e in (*self._engines, *self._users) if e.owner == owner]
        return known or [e for e in self._discover() if e.owner == owner]

    def _look_for_users(self) -> None:
        """Listen to the engines that users start; a thread ends when its socket is gone."""
        while not self._stopping.is_set():
            try:
                self._find_users()
            except Exception:
                self._faults.caught("engines of users")
            self._stopping.wait(self._pause_s)

    def _find_users(self) -> None:
        for engine in self._discover():
            with self._lock:
                running = {e: t for e, t in self._users.items() if t.is_alive()}
                if engine in running or len(running) >= _USERS_MAX or self._stopping.is_set():
                    self._users = running
                    continue
                thread = threading.Thread(target=self._listen, args=(engine,), name=engine.runtime, daemon=True)
                with contextlib.suppress(RuntimeError):  # cannot start a thread: the next look finds it again
                    thread.start()
                    running[engine] = thread
                self._users = running

    def _listen(self, engine: Engine) -> None:
        while not self._stopping.is_set():
            try:
                self._follow(engine)
            except (EngineError, UnknownContainerError, OSError, http.client.HTTPException):
                self._lose(f"events of {engine.runtime} not reachable")
                if engine.owner is not None:
                    return  # found again if it comes back
            except Exception:
                self._err(engine)
            self._stopping.wait(self._pause_s)

    def _follow(self, engine: Engine) -> None:
        listening = engine.listen(self._timeout_s)
        news: queue.Queue[Container | None] = queue.Queue(_QUESTIONS_MAX)
        learner = threading.Thread(target=self._learn, args=(engine, news), name=f"{engine.runtime} facts", daemon=True)
        try:
            with self._lock:
                self._listening[engine] = listening
            if self._stopping.is_set():
                return
            try:
                learner.start()
            except RuntimeError as error:
                raise OSError(errno.EAGAIN, "cannot start a thread") from error
            for container in listening.news():
                if not container.full_id or self._stopping.is_set():
                    continue
                if container.name is not None:
                    self._tell(container)
                try:
                    news.put_nowait(container)
                except queue.Full:
                    self._lose("news of a container dropped, queue full")
                    self._tell_rest(container, "too many containers at once")
        finally:
            with self._lock:
                self._listening.pop(engine, None)
            if learner.is_alive():
                news.put(None)  # there will be room: each question has its time
                learner.join()
            listening.close()

    def _learn(self, engine: Engine, news: queue.Queue[Container | None]) -> None:
        """Ask for the rest of what is to be known of the containers in the news."""
        while (container := news.get()) is not None:
            if self._stopping.is_set():
                continue
            try:
                self._tell(engine.container(container.full_id, self._timeout_s))
            except UnknownContainerError:
                self._tell_rest(container, f"removed before {engine.runtime} could be asked")
            except EngineError:
                self._lose(f"{engine.runtime} did not answer")
                self._tell_rest(container, f"{engine.runtime} did not answer")
            except Exception:
                self._err(engine)
                self._tell_rest(container, f"{engine.runtime} did not answer")

    def _tell_rest(self, container: Container, reason: str) -> None:
        """The news is all that will be told; of one that has told nothing, an event will ask."""
        if container.name is not None:
            self._tell(replace(container, missing=reason))

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

    def _err(self, engine: Engine) -> None:
        """What an engine said was more than we can read. Told once: a user's engine may say it as often as it likes."""
        self._lose(f"{engine.runtime}: an error of ours")
        self._faults.caught(f"reading {engine.runtime}")


def _unknown(full_id: str, owner: int | None, reason: str) -> Container:
    return Container(full_id[:12], full_id, owner=owner, missing=reason)
