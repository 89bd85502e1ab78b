"""Fan-out: a bounded queue and a worker for each sink, so that a slow one slows only itself.

Comes in: alerts, from the loop. Goes out: the same alerts to every sink, in order; those of the express lane overtake
the others. Never: a wait for whoever submits, or an alert that is neither delivered nor counted: for each sink
`submitted = delivered + lost + dead + waiting`. A sink whose other end is another machine has its queue on disk.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from appliance.config.settings import Outputs
from appliance.model.alert import Alert, Priority
from appliance.model.diagnostic import DeliveryError
from appliance.model.wire import shortened
from appliance.sinks.base import AT_END, NO_THREAD, QUEUE_FULL, Losses, Sink, SinkStats
from appliance.sinks.flood import Flood
from appliance.sinks.queue import AlertQueue, Entry

__all__ = ["ATTEMPTS", "AT_END", "MAX_TEXT", "QUEUE_FULL", "Dispatcher", "SinkStats"]

log = logging.getLogger(__name__)

MAX_TEXT = 64 << 10  # characters of one text of an alert; a queue is bounded in bytes, too
ATTEMPTS = 3
_BACKOFF_S = 0.25
_DRAIN_S = 5.0  # what a sink that leaves has for what waits before it
_TICK_S = 0.25
_TELL_S = 10.0

LOST_RULE = "Tercel internal: alerts lost"
LIMITED_RULE = "Tercel internal: alerts held back"

AlertMaker = Callable[[str, Priority, str, Mapping[str, int | str]], Alert]


class Worker(Protocol):
    """The queue before one sink, with what empties it: of this module, or a `Spool`."""

    name: str

    def start(self) -> None:
        """Begin to deliver, once. Raises RuntimeError where no thread can be started; it may be called again then."""

    def submit(self, alert: Alert) -> None:
        """Take an alert, without waiting."""

    def finish(self) -> None:
        """No more will come."""

    def end(self, deadline: float) -> SinkStats:
        """Deliver until `deadline` (CLOCK_MONOTONIC, seconds), then give up."""

    def stats(self) -> SinkStats:
        """The account so far."""

    def reopen(self) -> None:
        """Let go of files that may have been moved away."""


SpoolMaker = Callable[[Sink, Callable[[], None] | None], Worker]
"""Makes the queue on disk of a sink; what it is given beside it is to be run before the folder is touched."""


class Dispatcher:
    """Hands every alert to every sink. `submit` never waits and never raises."""

    def __init__(
        self,
        sinks: Iterable[Sink],
        *,
        capacity: int,
        outputs: Outputs | None = None,
        spool: SpoolMaker | None = None,
        make_alert: AlertMaker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`capacity`: alerts that may wait before each sink. `outputs`: what to do about floods.

        `spool` makes the queue on disk of a remote sink; without it such a sink is served from memory as the others.
        `make_alert`: for alerts that tell of lost ones; without it they are counted only.
        """
        self._outputs = outputs or Outputs()
        self._spool = spool
        self._clock = clock
        self._workers = tuple(self._worker(sink, capacity, None) for sink in sinks)
        self._past: dict[str, SinkStats] = {}  # accounts of sinks that have left
        self._past_lock = threading.Lock()
        self._leaving: list[_Retirement] = []  # guarded by it
        self._late: list[Worker | _Retirement] = []  # they wait for a thread
        self._late_lock = threading.Lock()
        self._make_alert = make_alert
        self._flood = Flood(self._outputs, clock)
        self._flood_lock = threading.Lock()
        self._told: dict[str, int] = {}
        for worker in self._workers:
            worker.start()
        self._ending = threading.Event()
        self._ticker = threading.Thread(target=self._tick_until_end, name="dispatch", daemon=True)
        self._ticker.start()

    def _worker(self, sink: Sink, capacity: int, after: Callable[[], None] | None) -> Worker:
        if self._spool is not None and sink.remote:
            return self._spool(sink, after)
        return _Worker(sink, capacity, self._outputs.express_priority, after)

    def submit(self, alert: Alert) -> None:
        """Queue an alert for every sink; where a queue is full, the lowest one is lost there and counted."""
        with self._flood_lock:
            if not self._flood.admit(alert):
                return
        self._send(alert)

    def _send(self, alert: Alert, but: str | None = None) -> None:
        alert = shortened(alert, MAX_TEXT)
        for worker in self._workers:
            if worker.name != but:
                worker.submit(alert)

    def replace(
        self,
        gone: Collection[str],
        new: Iterable[Sink],
        *,
        capacity: int,
        outputs: Outputs | None = None,
        spool: SpoolMaker | None = None,
    ) -> None:
        """Let the sinks named `gone` leave and `new` ones take over; those that stay notice nothing. Never waits.

        For who submits: one assignment. A sink that leaves delivers what waits before it, within a bounded time. A new
        one of the same name begins when it has ended, so that order is kept and a place has one writer.
        """
        outputs = outputs or self._outputs
        if outputs != self._outputs:
            with self._flood_lock:
                summaries = self._flood.due(all_of_them=True)
                self._flood = self._flood.succeeded_by(outputs)
            for alert in summaries:
                self._send(alert)
        self._outputs, self._spool = outputs, spool
        leaving = {w.name: _Retirement(w, self._retired) for w in self._workers if w.name in gone}
        with self._past_lock:
            self._leaving += leaving.values()
        added = []
        for sink in new:
            before = leaving.pop(sink.name, None)
            added.append(self._worker(sink, capacity, _nothing if before is None else before.run))
        left = [w for w in self._workers if w.name in gone]
        self._workers = (*(w for w in self._workers if w.name not in gone), *added)
        self._begin([*added, *leaving.values()], without=left)

    def _begin(self, new: Iterable[Worker | _Retirement] = (), without: Collection[Worker] = ()) -> None:
        """Start these, and what has waited for a thread. Where the machine has none, they wait for the next tick."""
        with self._late_lock:
            waiting = [late for late in self._late if late not in without] + list(new)
            late = []
            for one in waiting:
                try:
                    one.start()
                except RuntimeError:
                    late.append(one)
            if late and not self._late:
                log.error("cannot start a thread: some outputs are paused and their alerts are queued")
            elif self._late and not late:
                log.info("all outputs are running again")
            self._late = late

    def _retired(self, retirement: _Retirement, stats: SinkStats) -> None:
        with self._past_lock:
            if retirement not in self._leaving:
                return  # counted
            self._leaving.remove(retirement)
            before = self._past.get(stats.name)
            self._past[stats.name] = _together(before, stats) if before else stats

    def stats(self) -> list[SinkStats]:
        """The accounts so far, of sinks that have left, too."""
        return self._with_past([worker.stats() for worker in self._workers])

    def _with_past(self, now: list[SinkStats]) -> list[SinkStats]:
        with self._past_lock:
            past = dict(self._past)
        found = [_together(past.pop(s.name), s) if s.name in past else s for s in now]
        return found + [replace(s, where="has left", stuck_s=0.0, trouble="", spool=None) for s in past.values()]

    def flood_stats(self) -> Mapping[str, int]:
        """`submitted = passed + grouped + limited`, and how many `summaries` were sent for those grouped."""
        with self._flood_lock:
            names = ("submitted", "passed", "grouped", "limited", "summaries")
            return {name: getattr(self._flood, name) for name in names}

    def reopen(self) -> None:
        """Let the sinks let go of files that may have been moved away (SIGUSR1). Safe in a signal handler."""
        for worker in self._workers:
            worker.reopen()

    def close(self, *, timeout_s: float) -> list[SinkStats]:
        """Let the sinks empty their queues within `timeout_s` all together.

        What is left then is lost and counted, or waits on disk for the next start.
        """
        deadline = time.monotonic() + timeout_s
        self._ending.set()
        self._ticker.join(timeout_s)
        self._tick(last=True)
        self._begin()
        with self._past_lock:
            leaving = list(self._leaving)
        for worker in (*self._workers, *(retirement.worker for retirement in leaving)):
            worker.finish()
        for retirement in leaving:
            retirement.run(deadline)
        return self._with_past([worker.end(deadline) for worker in self._workers])

    def _tick_until_end(self) -> None:
        next_tell = 0.0
        while not self._ending.wait(_TICK_S):
            try:
                if self._late:
                    self._begin()
                tell = time.monotonic() >= next_tell
                if self._tick(last=False, tell=tell):
                    next_tell = time.monotonic() + _TELL_S
            except Exception:
                log.exception("an error of ours in the dispatcher")

    def _tick(self, *, last: bool, tell: bool = True) -> bool:
        """Send the summaries that are due; tell of what was lost. Whether anything was told."""
        with self._flood_lock:
            summaries = self._flood.due(all_of_them=last)
            held_back = self._flood.held_back() if tell else Counter[str]()
        for alert in summaries:
            self._send(alert)
        if not tell or self._make_alert is None:
            return False
        told = False
        if held_back:
            total = held_back.total()
            rules = ", ".join(f"{rule} {count}" for rule, count in held_back.most_common(10))
            text = f"{total} alerts were not sent: more than `outputs.rate` allows: {rules}"
            self._send(self._make_alert(LIMITED_RULE, Priority.WARNING, text, {"held_back": total, "rules": rules}))
            told = True
        for stats in self.stats():
            told |= self._tell_losses(stats)
        return told

    def _tell_losses(self, stats: SinkStats) -> bool:
        new = stats.lost - self._told.get(stats.name, 0)
        if new <= 0 or self._make_alert is None:
            return False
        self._told[stats.name] = stats.lost
        why = "; ".join(f"{count} {reason}" for reason, count in stats.reasons.items())
        text = f"{new} alerts were lost before {stats.name}; in all {stats.lost}: {why}"
        fields: dict[str, int | str] = {"sink": stats.name, "lost": new, "lost.total": stats.lost, "reasons": why}
        self._send(self._make_alert(LOST_RULE, Priority.CRITICAL, text, fields), but=stats.name)
        return True


def _nothing() -> None:
    pass


class _Retirement:
    """The end of a worker that leaves: on the thread of its successor, on one of its own, or of who closes."""

    def __init__(self, worker: Worker, over: Callable[[_Retirement, SinkStats], None]) -> None:
        self.worker = worker
        self._over = over

    def start(self) -> None:
        """On a thread of its own. Raises RuntimeError where none can be started."""
        threading.Thread(target=self.run, name=f"{self.worker.name}, leaving", daemon=True).start()

    def run(self, deadline: float | None = None) -> None:
        """Let it deliver what waits before it, within a bounded time, and close its account."""
        with contextlib.suppress(RuntimeError):  # one that has waited for a thread in vain
            self.worker.start()
        self.worker.finish()
        self._over(self, self.worker.end(time.monotonic() + _DRAIN_S if deadline is None else deadline))


def _together(past: SinkStats, now: SinkStats) -> SinkStats:
    """Two accounts of one place as one. What waited on disk when the first ended is what the second found there."""
    reasons = Counter(past.reasons) + Counter(now.reasons)
    return replace(
        now,
        delivered=past.delivered + now.delivered,
        lost=reasons.total(),
        reasons=dict(reasons),
        submitted=past.submitted - past.waiting + now.submitted,
        dead=past.dead + now.dead,
        acknowledged=past.acknowledged + now.acknowledged,
    )


class _Worker:
    def __init__(self, sink: Sink, capacity: int, express: Priority, after: Callable[[], None] | None = None) -> None:
        """`after` is run, on the worker's own thread, before the first alert is delivered."""
        self.name = sink.name
        self._sink = sink
        self._after = after
        self._since = 0.0  # when the alert in hand was taken up
        self._queue = AlertQueue(capacity, express)
        self._wake = threading.Condition()
        self._finishing = False  # no more will come
        self._abandoned = False  # its time is up
        self._in_hand = 0  # how many
        self._submitted = self._delivered = 0
        self._lost = Losses(sink.name)
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name=sink.name, daemon=True)

    def start(self) -> None:
        if self._thread.ident is None:
            self._thread.start()

    def submit(self, alert: Alert) -> None:
        with self._wake:
            self._submitted += 1
            if self._finishing:
                self._lost.add(AT_END, 1)
                return
            if self._queue.put(Entry(self._submitted, alert)) is not None:
                self._lost.add(QUEUE_FULL, 1)
            self._wake.notify()

    def reopen(self) -> None:
        self._sink.reopen()

    def finish(self) -> None:
        with self._wake:
            self._finishing = True
            self._wake.notify()

    def end(self, deadline: float) -> SinkStats:
        if self._thread.ident is None:  # it never had a thread
            self._first()
        else:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._wake:
            self._abandoned = True
            left = self._queue.clear() + self._in_hand
            self._in_hand = 0
            if left:
                self._lost.add(AT_END, left)
        if self._thread.is_alive():
            self._sink.abandon()
        return self.stats()

    def stats(self) -> SinkStats:
        with self._wake:
            return SinkStats(
                self.name,
                self._delivered,
                self._lost.total,
                self._lost.reasons,
                waiting=len(self._queue) + self._in_hand,
                where=self._sink.describe(),
                stuck_s=time.monotonic() - self._since if self._in_hand else 0.0,
                submitted=self._submitted,
                trouble=self._trouble if self._thread.ident is not None else NO_THREAD,
            )

    def _next(self) -> list[Entry]:
        """The next alerts, of one lane, as many as the sink takes at once; none at the end."""
        with self._wake:
            while not len(self._queue) and not self._finishing:
                self._wake.wait()
            if self._abandoned:
                return []
            entries = self._queue.take(self._sink.batch)
            self._in_hand = len(entries)
            self._since = time.monotonic()
            return entries

    def _run(self) -> None:
        self._first()
        while entries := self._next():
            reason = self._deliver([entry.alert for entry in entries])
            if reason is not None and reason is not _LATER and len(entries) > 1:  # some may pass where all do not
                for entry in entries:
                    self._settle([entry], self._deliver([entry.alert], tries=1))
            else:
                self._settle(entries, reason)
        try:
            self._sink.close()
        except Exception:
            log.exception("%s: an error while closing", self._sink.name)

    def _first(self) -> None:
        after, self._after = self._after, None
        if after is not None:
            after()

    def _settle(self, entries: list[Entry], reason: str | None) -> None:
        with self._wake:
            if self._abandoned:  # already counted as lost
                return
            self._in_hand -= len(entries)
            if reason is None:
                self._delivered += len(entries)
            elif reason is _LATER:
                self._queue.put_back(entries)
            else:
                self._lost.add(reason, len(entries))

    def _deliver(self, alerts: list[Alert], tries: int = ATTEMPTS) -> str | None:
        """Why they were lost, `_LATER` where an express alert goes first, or None."""
        reason = ""
        for attempt in range(tries):
            if attempt:
                ended, express = self._pause(_BACKOFF_S * 2 ** (attempt - 1), alerts[0])
                if express:
                    return _LATER
                if ended:
                    break  # at the end there is no time for another try
            try:
                if len(alerts) == 1:
                    self._sink.deliver(alerts[0])
                else:
                    self._sink.deliver_several(alerts)
            except DeliveryError as error:
                reason = str(error)
                self._note(reason)
                if not error.retry:
                    break
            except Exception as error:
                log.exception("%s: an error of ours", self._sink.name)
                return f"internal error: {type(error).__name__}"
            else:
                self._note("")
                return None
        return reason

    def _note(self, trouble: str) -> None:
        with self._wake:
            self._trouble = trouble

    def _pause(self, seconds: float, alert: Alert) -> tuple[bool, bool]:
        """Wait before another try. Whether the end has come; whether an express alert has, for one that is not."""
        until = time.monotonic() + seconds
        ordinary = self._queue.lane(alert.priority) == 1
        with self._wake:
            while not self._finishing and (left := until - time.monotonic()) > 0:
                if ordinary and self._queue.has(0):
                    return False, True
                self._wake.wait(left)
            return self._finishing, False


_LATER = "an express alert goes first"
