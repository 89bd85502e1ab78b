"""Questions whose answer may never come, asked by threads of their own.

Comes in: a question, what to take for an answer where none comes. Goes out: the answer within a bounded time. Never: a
wait of the caller's thread on a file system that a program or another machine serves, or on a peer of the network.

Reading a process's files can block on such a file system whatever we do (stat(2) of /proc/PID/exe or of a descriptor;
its arguments may lie in memory that is mapped from there), and the kernel gives no warning. An exchange with a peer has
parts without a deadline of their own: name resolution, several addresses, an answer that arrives byte by byte.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar, cast

from appliance.model.text import printable

log = logging.getLogger(__name__)
T = TypeVar("T")

_SLICES = 10  # a machine that was stopped costs one of them
_LOG_S = 60.0
_SILENT = "a file system does not answer"


class _Job:
    """A question on its way. `answered` is released with the answer; `left` says that nobody waits any more."""

    __slots__ = ("answer", "answered", "ask", "error", "late", "left", "over")

    def __init__(self, ask: Callable[[], object], late: Callable[[object], None] | None) -> None:
        self.ask = ask
        self.late = late
        self.answer: object = None
        self.error: Exception | None = None
        self.over = self.left = False
        self.answered = threading.Lock()
        self.answered.acquire()


class Patience:
    """Asks, and waits `patience_s` at most. While `most` questions are without an answer no other is asked, nor is one
    while the machine has no thread to give.

    Any thread may ask. `unanswered` counts the questions that had no answer in time, those not asked among them.
    """

    def __init__(self, patience_s: float = 2.0, most: int = 4, *, logs: bool = True) -> None:
        """`logs`: whether a question without an answer is a line of the log; else the caller reports it."""
        self._logs = logs
        self._slice_s = patience_s / _SLICES
        self._most = most
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[_Job]] = []
        self._open = 0  # questions that were left
        self._logged_s = float("-inf")
        self.unanswered = 0

    def ask(self, question: Callable[[], T], otherwise: T, about: str, *, late: Callable[[T], None] | None = None) -> T:
        """The answer, or `otherwise` where none comes in time, and at once while `most` earlier questions have none:
        the log then says what it was `about`. What the question raises is raised here. `late` is called with an answer
        that comes after that."""
        job = _Job(question, cast("Callable[[object], None] | None", late))
        with self._lock:
            full = self._open >= self._most
            jobs = None if full else self._idle.pop() if self._idle else self._hire()
        if jobs is None:
            self._log(about, _SILENT if full else "there is no thread to ask a file system")
            return otherwise
        jobs.put(job)
        for _ in range(_SLICES):
            if job.answered.acquire(timeout=self._slice_s):
                break
        with self._lock:
            if job.over:
                self._idle.append(jobs)
            else:
                job.left = True
                self._open += 1
        if job.left:
            self._log(about)
            return otherwise
        if job.error is not None:
            raise job.error
        return cast(T, job.answer)

    def _hire(self) -> SimpleQueue[_Job] | None:
        jobs: SimpleQueue[_Job] = SimpleQueue()
        try:
            threading.Thread(target=self._serve, args=(jobs,), name="patience", daemon=True).start()
        except RuntimeError:  # a fork bomb, say, has them all
            return None
        return jobs

    def _serve(self, jobs: SimpleQueue[_Job]) -> None:
        while True:
            job = jobs.get()
            try:
                job.answer = job.ask()
            except Exception as error:  # the asker's
                job.error = error
            with self._lock:
                job.over = True
                if job.left:
                    self._open -= 1
                    break
            job.answered.release()
        if job.late is not None and job.error is None:
            job.late(job.answer)

    def _log(self, about: str, why: str = _SILENT) -> None:
        with self._lock:
            self.unanswered += 1
            now = time.monotonic()
            if not self._logs or now - self._logged_s < _LOG_S:
                return
            self._logged_s = now
        log.warning("%s, facts are absent: %s", why, printable(about))  # a container's name is whoever's made it
