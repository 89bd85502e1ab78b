"""Fan-out: a bounded queue and a worker for each sink, so that a slow one slows only itself.

Comes in: alerts, from the loop. Goes out: the same alerts to every sink, in order. Never: a wait for whoever submits,
or an alert that is neither delivered nor counted: for each sink `submitted = delivered + lost`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from appliance.model.alert import Alert
from appliance.model.diagnostic import DeliveryError
from appliance.model.wire import shortened
from appliance.sinks.base import Sink

log = logging.getLogger(__name__)

MAX_TEXT = 64 << 10  # characters of one text of an alert; a queue is bounded in bytes, too
ATTEMPTS = 3
_BACKOFF_S = 0.25
_DRAIN_S = 5.0  # what a sink that leaves has for what waits before it

QUEUE_FULL = "queue full"
AT_END = "not delivered when the appliance ended"


@dataclass(frozen=True, slots=True)
class SinkStats:
    """The account of one sink. `reasons` says why alerts were lost: reason -> how many."""

    name: str
    delivered: int
    lost: int
    reasons: Mapping[str, int]
    waiting: int = 0
    where: str = ""  # what and where, as the sink describes itself
    stuck_s: float = 0.0  # how long the alert in hand has been there


class Dispatcher:
    """Hands every alert to every sink. `submit` never waits and never raises."""

    def __init__(self, sinks: Iterable[Sink], *, capacity: int) -> None:
        """`capacity`: alerts that may wait before each sink."""
        self._workers = tuple(_Worker(sink, capacity) for sink in sinks)
        self._past: dict[str, Counter[str]] = {}  # accounts of sinks that have left: name -> reason, "" for delivered
        self._past_lock = threading.Lock()
        for worker in self._workers:
            worker.start()

    def submit(self, alert: Alert) -> None:
        """Queue an alert for every sink; where a queue is full, it is lost there and counted."""
        alert = shortened(alert, MAX_TEXT)
        for worker in self._workers:
            worker.submit(alert)

    def replace(self, gone: Collection[str], new: Iterable[Sink], *, capacity: int) -> None:
        """Let the sinks named `gone` leave and `new` ones take over; those that stay notice nothing. Never waits.

        For who submits: one assignment. A sink that leaves delivers what waits before it, within a bounded time. A new
        one of the same name begins when it has ended, so that order is kept and a place has one writer.
        """
        leaving = {worker.name: worker for worker in self._workers if worker.name in gone}
        added = [_Worker(sink, capacity, after=self._retirement(leaving.pop(sink.name, None))) for sink in new]
        self._workers = (*(w for w in self._workers if w.name not in gone), *added)
        for worker in added:
            worker.start()
        for worker in leaving.values():
            retire = self._retirement(worker)
            threading.Thread(target=retire, name=f"{worker.name}, leaving", daemon=True).start()

    def _retirement(self, worker: _Worker | None) -> Callable[[], None]:
        def retire() -> None:
            if worker is None:
                return
            worker.finish()
            stats = worker.end(time.monotonic() + _DRAIN_S)
            with self._past_lock:
                past = self._past.setdefault(stats.name, Counter())
                past.update(stats.reasons)
                past[""] += stats.delivered

        return retire

    def stats(self) -> list[SinkStats]:
        """The accounts so far, of sinks that have left, too."""
        return self._with_past([worker.stats() for worker in self._workers])

    def _with_past(self, now: list[SinkStats]) -> list[SinkStats]:
        with self._past_lock:
            past = {name: counts.copy() for name, counts in self._past.items()}
        found = []
        for stats in now:
            before = past.pop(stats.name, Counter())
            delivered = stats.delivered + before.pop("", 0)
            reasons = Counter(stats.reasons) + before
            found.append(replace(stats, delivered=delivered, lost=reasons.total(), reasons=dict(reasons)))
        for name, counts in past.items():
            delivered = counts.pop("", 0)
            found.append(SinkStats(name, delivered, counts.total(), dict(counts), where="has left"))
        return found

    def close(self, *, timeout_s: float) -> list[SinkStats]:
        """Let the sinks empty their queues within `timeout_s` all together; what is left then is lost and counted."""
        deadline = time.monotonic() + timeout_s
        for worker in self._workers:
            worker.finish()
        return self._with_past([worker.end(deadline) for worker in self._workers])


class _Worker:
    def __init__(self, sink: Sink, capacity: int, after: Callable[[], None] | None = None) -> None:
        """`after` is run, on the worker's own thread, before the first alert is delivered."""
        self.name = sink.name
        self._sink = sink
        self._after = after
        self._since = 0.0  # when the alert in hand was taken up
        self._capacity = capacity
        self._queue: deque[Alert] = deque()
        self._wake = threading.Condition()
        self._finishing = threading.Event()  # no more will come
        self._abandoned = False  # its time is up
        self._in_hand = 0
        self._delivered = 0
        self._lost: Counter[str] = Counter()
        self._told = 0
        self._thread = threading.Thread(target=self._run, name=sink.name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, alert: Alert) -> None:
        with self._wake:
            if self._finishing.is_set():
                self._lose(AT_END, 1)
            elif len(self._queue) >= self._capacity:
                self._lose(QUEUE_FULL, 1)
            else:
                self._queue.append(alert)
                self._wake.notify()

    def finish(self) -> None:
        with self._wake:
            self._finishing.set()
            self._wake.notify()

    def end(self, deadline: float) -> SinkStats:
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._wake:
            self._abandoned = True
            left = len(self._queue) + self._in_hand
            self._queue.clear()
            self._in_hand = 0
            if left:
                self._lose(AT_END, left)
        return self.stats()

    def stats(self) -> SinkStats:
        with self._wake:
            return SinkStats(
                self.name,
                self._delivered,
                self._lost.total(),
                dict(self._lost),
                len(self._queue) + self._in_hand,
                self._sink.describe(),
                time.monotonic() - self._since if self._in_hand else 0.0,
            )

    def _lose(self, reason: str, count: int) -> None:
        """Count a loss, and tell of it at the first and whenever their number has doubled. The lock is held."""
        self._lost[reason] += count
        total = self._lost.total()
        if total >= 2 * self._told or not self._told:
            self._told = total
            log.warning("%s: alerts were lost: %d so far; the latest: %s", self._sink.name, total, reason)

    def _next(self) -> Alert | None:
        with self._wake:
            while not self._queue and not self._finishing.is_set():
                self._wake.wait()
            if not self._queue or self._abandoned:
                return None
            self._in_hand = 1
            self._since = time.monotonic()
            return self._queue.popleft()

    def _run(self) -> None:
        if self._after is not None:
            self._after()
            self._after = None
        while (alert := self._next()) is not None:
            reason = self._deliver(alert)
            with self._wake:
                if self._abandoned:  # already counted as lost
                    return
                self._in_hand = 0
                if reason is None:
                    self._delivered += 1
                else:
                    self._lose(reason, 1)
        try:
            self._sink.close()
        except Exception:
            log.exception("%s: an error while closing", self._sink.name)

    def _deliver(self, alert: Alert) -> str | None:
        """Why it was lost, or None."""
        reason = ""
        for attempt in range(ATTEMPTS):
            if attempt and self._finishing.wait(_BACKOFF_S * 2 ** (attempt - 1)):
                break  # at the end there is no time for another try
            try:
                self._sink.deliver(alert)
            except DeliveryError as error:
                reason = str(error)
                if not error.retry:
                    break
            except Exception as error:
                log.exception("%s: an error of ours", self._sink.name)
                return f"internal error: {type(error).__name__}"
            else:
                return None
        return reason
