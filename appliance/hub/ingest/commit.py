"""Alerts of many requests, made durable together.

Comes in: alerts, from the loop. Goes out: their positions, when the journal has them. Never: an answer before the disk.

While one commit waits for the disk the next ones gather: under load a commit has many requests, when it is quiet one.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Mapping, Sequence

from appliance.hub.alert import HubAlert, JsonValue, NewAlert
from appliance.hub.journal.base import Journal, JournalError
from appliance.model.alert import Priority
from appliance.model.moment import iso_time

log = logging.getLogger(__name__)

_MANY = 8192
_BUSY = 4  # requests in a commit that show a load: then the next one waits a little for more
_GATHER_S = 0.001
_RETAIN_S = 60.0
Waiting = tuple[Sequence[NewAlert | HubAlert], "asyncio.Future[Sequence[int]]"]


class Committer:
    """The journal's one writer, a thread. `commit` may be awaited by any number of requests."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self.commits = 0
        self.slowest_ms = 0.0
        self._thread = threading.Thread(target=self._run, name="journal")
        self._thread.start()

    async def commit(self, alerts: Sequence[NewAlert | HubAlert]) -> Sequence[int]:
        """Their positions, 0 for each duplicate. Raises `JournalError`."""
        future: asyncio.Future[Sequence[int]] = self._loop.create_future()
        self._queue.put((alerts, future))
        return await future

    def _run(self) -> None:
        next_retain = time.monotonic() + 5.0
        busy = False
        while True:
            try:
                first = self._queue.get(timeout=5.0)
            except queue.Empty:
                first = ((), self._loop.create_future())
            if first is None:
                return
            if busy:
                time.sleep(_GATHER_S)
            waiting = [first]
            count = len(first[0])
            ends = False
            while count < _MANY:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    ends = True
                    break
                waiting.append(more)
                count += len(more[0])
            busy = len(waiting) > _BUSY
            if count:
                self._commit(waiting)
            if ends:
                return
            if time.monotonic() >= next_retain:
                next_retain = time.monotonic() + _RETAIN_S
                try:
                    self._tell(self._journal.retain())
                except Exception as error:  # what cannot be deleted now can be later; the writer goes on
                    log.warning("retention failed: %s: %s", type(error).__name__, error)

    def _tell(self, lost: Mapping[str, int]) -> None:
        """An alert for each output that has lost some to the retention."""
        now_ns = time.time_ns()
        for name, count in lost.items():
            text = f"{iso_time(now_ns)}Z: Critical retention deleted {count} alerts that output {name} had not passed"
            fields: dict[str, JsonValue] = {"output.name": name, "output.lost": count}
            told = HubAlert(
                0, f"hub:lost:{name}:{now_ns}", now_ns, now_ns, "tercel-hub", "Tercel hub: alerts lost",
                Priority.CRITICAL, "internal", ("tercel",), text, fields,
            )  # fmt: skip
            self._journal.append([told])

    def _commit(self, waiting: Sequence[Waiting]) -> None:
        began = time.perf_counter()
        results: list[tuple[asyncio.Future[Sequence[int]], Sequence[int] | Exception]] = []
        try:
            positions = self._journal.append([alert for alerts, _ in waiting for alert in alerts])
            at = 0
            for alerts, future in waiting:
                results.append((future, positions[at : at + len(alerts)]))
                at += len(alerts)
        except JournalError as error:
            results = [(future, error) for _, future in waiting]
        except Exception as error:  # a bug of ours must not end the thread that all wait for
            log.exception("the journal failed")
            results = [(future, JournalError(f"{type(error).__name__}: {error}")) for _, future in waiting]
        self.commits += 1
        self.slowest_ms = max(self.slowest_ms * 0.99, (time.perf_counter() - began) * 1000)
        self._loop.call_soon_threadsafe(_settle, results)

    def close(self) -> None:
        """Commit what waits, then end."""
        self._queue.put(None)
        self._thread.join()


def _settle(results: Sequence[tuple[asyncio.Future[Sequence[int]], Sequence[int] | Exception]]) -> None:
    for future, result in results:
        if future.done():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
