"""One output at work: a cursor over the journal, and what becomes of each alert behind it.

Comes in: the journal's alerts above the cursor. Goes out: batches to the client, a cursor that moves when they are
delivered, dead or passed over. Never: a queue of its own, or a cursor that passes an alert whose fate is open.

After an outage the stretch that was missed becomes a lane of its own, and new alerts go beside it (`overtake`): each of
the two lanes keeps the order of a host; the live one does not wait for the other. Requests of both take turns at the
same `concurrency` permits. With more than one permit a batch is split by host, so that a host's alerts never travel in
two requests at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import zlib
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from appliance.hub.alert import HubAlert, JsonValue
from appliance.hub.journal.base import Journal, JournalError
from appliance.hub.outputs.base import Client, Outcome, Verdict
from appliance.hub.outputs.dead import DeadLetters
from appliance.hub.outputs.retry import CircuitBreaker, Pace, backoff_s
from appliance.hub.outputs.shape import Grouper, shape_of
from appliance.hub.outputs.table import Kind, remedy
from appliance.hub.settings import OutputSettings
from appliance.hub.status import LATENCY_BUCKETS_S, OutputStatus, StatusFile
from appliance.model.text import printable

log = logging.getLogger(__name__)

_FETCH = 256
_BATCH_BYTES = 4 << 20
_LANES_MAX = 16
_GRACE_S = 0.2


@dataclass(slots=True)
class Lane:
    """A stretch of the journal: done up to `after`; ends at `upto`, or never. Alerts up to `counted` have been grouped;
    of those above `after` the ones in `passed` go out, the others are held back."""

    after: int
    upto: int | None = None
    counted: int = 0
    passed: set[int] = field(default_factory=set)

    def kept(self) -> tuple[int, int | None, int, list[int]]:
        """As `status` keeps it."""
        return self.after, self.upto, self.counted, sorted(self.passed)

    @classmethod
    def of(cls, after: int, upto: int | None, counted: int = 0, passed: Sequence[int] = ()) -> Lane:
        """Undo `kept`."""
        return cls(after, upto, counted, set(passed))


class News:
    """The journal's last position, as the engine's poll has it; workers wait for it to grow."""

    def __init__(self) -> None:
        self.last = 0
        self._grown = asyncio.Event()

    def tell(self, last: int) -> None:
        """It is this now."""
        if last != self.last:
            self.last = last
            grown, self._grown = self._grown, asyncio.Event()
            grown.set()

    async def beyond(self, seq: int) -> None:
        """Wait until there is something above a position."""
        while self.last <= seq:
            await self._grown.wait()


class Worker:
    """One output. `run` goes on until it is cancelled; `settled` says whether all up to now is done."""

    def __init__(
        self,
        settings: OutputSettings,
        kind: Kind,
        journal: Journal,
        status: StatusFile,
        dead: DeadLetters,
        news: News,
        make: Callable[[], Client] | None = None,
    ) -> None:
        self.settings = settings
        self._kind = kind
        self._journal = journal
        self._status = status
        self._dead = dead
        self._news = news
        self._make = make or (lambda: kind.connect(settings.options))
        most = kind.batch_max(settings.options)
        self._batch = max(1, min(settings.batch or kind.batch(settings.options), most))
        self._client: Client | None = None
        self._breaker = CircuitBreaker(settings.breaker)
        self._pace = Pace(settings.rate_limit)
        self._grouper = Grouper(settings.grouping)
        self._permits = asyncio.Semaphore(settings.concurrency)
        self._live = Lane(0)
        self._back: deque[Lane] = deque()
        self._back_news = asyncio.Event()
        self._committed = -1
        self._committing = asyncio.Lock()
        self._had_lanes = True  # a row may be there
        self._worked = False
        self._draining = False
        self._off = ""
        self.trouble = ""
        self.delivered = self.passed_over = self.grouped = self.retried = self.dead = 0
        self.failed: Counter[str] = Counter()
        self.in_flight = 0
        self._failing = False
        self._latency = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self._latency_sum_s = 0.0
        self._last_success_ns = 0
        self._oldest_ns = 0

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            self._shape = shape_of(self.settings)
            self._client = self._make()
        except ImportError as error:
            self._turn_off(f"{error.name or error} is not installed: {remedy(self._kind.extra)}")
        except Exception as error:  # options may be wrong in ways that only the client's library knows
            self._turn_off(f"{type(error).__name__}: {error}")
        await self._find_place()
        if self._off:
            await asyncio.Event().wait()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._run_live())
                group.create_task(self._run_back())
                group.create_task(self._run_extras())
        finally:
            if self._client is not None:
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(1.0):
                        await self._client.close()

    def _turn_off(self, reason: str) -> None:
        self._off = self.trouble = printable(reason)
        log.error("output %s cannot start: %s", self.settings.name, self._off)

    async def _find_place(self) -> None:
        name = self.settings.name
        at = await asyncio.to_thread(self._journal.cursor, name)
        if at < 0:
            at = 0 if self.settings.start == "oldest" else await asyncio.to_thread(self._journal.last)
            await asyncio.to_thread(self._journal.advance, name, at)
        lanes = [Lane.of(*kept) for kept in self._status.lanes(name)]
        self._grouper.restore(self._status.held(name))
        if not lanes or min(lane.after for lane in lanes) < at or lanes[-1].upto is not None:
            lanes = [Lane(at)]
        self._live = lanes.pop()
        self._back.extend(lanes)
        self._committed = at
        self._back_news.set()

    async def _run_live(self) -> None:
        while True:
            await self._news.beyond(self._live.after)
            if self.settings.pause_ms and not self._draining and self._news.last - self._live.after < self._batch:
                await asyncio.sleep(self.settings.pause_ms / 1000)
            await self._advance(self._live)

    async def _run_back(self) -> None:
        while True:
            if not self._back:
                self._back_news.clear()
                await self._back_news.wait()
            lane = self._back[0]
            await self._advance(lane)
            if lane.upto is not None and lane.after >= lane.upto:
                self._back.popleft()
                log.info("output %s has delivered its backlog up to position %d", self.settings.name, lane.upto)
                await self._commit()

    async def _advance(self, lane: Lane) -> None:
        """Deliver the next stretch of a lane."""
        limit = max(_FETCH, self._batch * self.settings.concurrency)
        if lane.upto is not None:
            limit = min(limit, max(1, lane.upto - lane.after))
        try:
            alerts = await asyncio.to_thread(self._journal.read, lane.after, limit)
        except JournalError as error:
            self._trouble("journal", str(error))
            await asyncio.sleep(1.0)
            return
        if lane.upto is not None:
            alerts = [alert for alert in alerts if alert.seq <= lane.upto]
        if not alerts:
            if lane.upto is not None:  # retention took the rest
                lane.after = lane.upto
            else:
                await asyncio.sleep(0.02)
            return
        if lane is self._live:
            self._oldest_ns = alerts[0].received_ns
            if self._is_late(alerts[0]):
                self._split()
                return
        step = self._batch * self.settings.concurrency
        at = 0
        while at < len(alerts):  # up to `step` alerts that the output wants, and all between that it passes over
            wanted: list[HubAlert] = []
            while at < len(alerts) and len(wanted) < step:
                shaped = self._shape(alerts[at])
                if shaped is None:
                    self.passed_over += 1
                elif self._goes(lane, shaped):
                    wanted.append(shaped)
                else:
                    self.grouped += 1
                at += 1
            await self._deliver_apart(wanted)
            lane.after = alerts[at - 1].seq
            lane.passed.clear()
            await self._commit()
            if lane is self._live and at < len(alerts):
                self._oldest_ns = alerts[at].received_ns
                if self._is_late(alerts[at]):
                    self._split()
                    return

    def _goes(self, lane: Lane, alert: HubAlert) -> bool:
        """Whether an alert goes now, or later in the summary of its group; decided once, also across a crash."""
        if not self.settings.grouping.by:
            return True
        if alert.seq > lane.counted:
            lane.counted = alert.seq
            if self._grouper.passes(alert):
                lane.passed.add(alert.seq)
        return alert.seq in lane.passed

    def _is_late(self, alert: HubAlert) -> bool:
        """Whether what waits is a backlog that new alerts should not wait for. Only once the service works: while it is
        down all wait alike."""
        settings = self.settings
        if not settings.overtake or not self._worked or self._failing or len(self._back) >= _LANES_MAX:
            return False
        many = self._news.last - alert.seq > 2 * self._batch * settings.concurrency
        return many and time.time_ns() - alert.received_ns > settings.overtake_after_s * 1e9

    def _split(self) -> None:
        last = self._news.last
        log.info("output %s has a backlog of %d: new alerts go beside it", self.settings.name, last - self._live.after)
        self._back.append(replace(self._live, upto=last))
        self._live = Lane(last)
        self._back_news.set()

    async def _commit(self) -> None:
        """Record what is done: the cursor is the least of all lanes."""
        async with self._committing:  # what is newer is written later
            await self._record()

    async def _record(self) -> None:
        lanes = [*self._back, self._live]
        least = min(lane.after for lane in lanes)
        held = self._grouper.changes()
        keeps = len(lanes) > 1 or bool(self.settings.grouping.by)
        kept = [lane.kept() for lane in lanes]
        before = self._committed
        self._committed = least

        def record() -> None:
            if keeps or held:
                self._status.put_work(self.settings.name, kept, held)
            if least != before:
                self._journal.advance(self.settings.name, least)
            if not keeps and self._had_lanes:
                self._status.put_work(self.settings.name, [], {})
            self._had_lanes = keeps

        while True:
            try:
                await asyncio.to_thread(record)
                return
            except Exception as error:  # the disk: what was delivered is delivered again after a crash, no more
                self._trouble("cursor", f"{type(error).__name__}: {error}")
                await asyncio.sleep(1.0)

    async def _deliver_apart(self, alerts: Sequence[HubAlert]) -> None:
        """Deliver; where several requests may travel at a time, the alerts of one host in one of them."""
        ways = self.settings.concurrency
        if ways == 1 or len(alerts) <= 1:
            await self._deliver_in_order(alerts)
            return
        parts: dict[int, list[HubAlert]] = {}
        for alert in alerts:
            parts.setdefault(zlib.crc32(alert.hostname.encode(errors="replace")) % ways, []).append(alert)
        async with asyncio.TaskGroup() as group:
            for part in parts.values():
                group.create_task(self._deliver_in_order(part))

    async def _deliver_in_order(self, alerts: Sequence[HubAlert]) -> None:
        at = 0
        while at < len(alerts):
            end, size = at, 0
            while end < len(alerts) and end - at < self._batch and (end == at or size < _BATCH_BYTES):
                size += size_of(alerts[end])
                end += 1
            await self._deliver(alerts[at:end])
            at = end

    async def _deliver(self, batch: Sequence[HubAlert]) -> None:
        """Try until each alert is delivered or dead."""
        settings = self.settings
        tries = 0
        while batch:
            await self._breaker.ready()
            try:
                await self._pace.take(len(batch))
                async with self._permits:
                    outcome = await self._try(batch)
            except asyncio.CancelledError:
                self._breaker.gave_up()
                raise
            again = [a for a, verdict in zip(batch, outcome.verdicts, strict=True) if verdict is Verdict.AGAIN]
            never = [a for a, verdict in zip(batch, outcome.verdicts, strict=True) if verdict is Verdict.NEVER]
            if len(again) < len(batch):  # it answers, be it with a refusal
                self._breaker.succeeded()
                self._worked, self._failing = True, False
                if not again:
                    self.trouble = ""
            if len(never) == len(batch) and len(batch) > 1:  # find out which of them it refuses
                middle = len(batch) // 2
                await self._deliver(batch[:middle])
                await self._deliver(batch[middle:])
                return
            if never:
                await self._bury(never, outcome.reason)
            batch = again
            if not again:
                return
            self._failing = True
            if len(again) == len(outcome.verdicts):
                self._breaker.failed(outcome.retry_after_s)
            tries += 1
            if settings.retries and tries > settings.retries:
                await self._bury(again, f"{tries} tries failed; the last: {outcome.reason}")
                return
            self.retried += len(again)
            pause_s = backoff_s(tries - 1, settings.retry_min_s, settings.retry_max_s)
            await asyncio.sleep(max(pause_s, outcome.retry_after_s or 0.0))

    async def _try(self, batch: Sequence[HubAlert]) -> Outcome:
        client = self._client or self._make()
        count = len(batch)
        self.in_flight += count
        try:
            async with asyncio.timeout(self.settings.deadline_s):
                outcome = await client.send(batch)
            if len(outcome.verdicts) != count:
                raise AssertionError(f"{len(outcome.verdicts)} verdicts for {count} alerts")
        except TimeoutError:
            outcome = self._failure("timeout", f"no answer within {self.settings.deadline_s:g} s", count)
        except OSError as error:
            outcome = self._failure("connection", f"{type(error).__name__}: {error}", count)
        except Exception as error:  # a client's library may raise anything
            kind = "connection" if type(error).__module__.startswith("httpx") else "error"
            outcome = self._failure(kind, f"{type(error).__name__}: {error}", count)
        else:
            if outcome.reason:
                self._trouble("refused" if Verdict.NEVER in outcome.verdicts else "answer", outcome.reason)
        finally:
            self.in_flight -= count
        now_ns = time.time_ns()
        for alert, verdict in zip(batch, outcome.verdicts, strict=True):
            if verdict is Verdict.DONE:
                self.delivered += 1
                self._last_success_ns = now_ns
                took_s = max(0.0, (now_ns - alert.received_ns) / 1e9)
                self._latency[bisect_left(LATENCY_BUCKETS_S, took_s)] += 1
                self._latency_sum_s += took_s
        return outcome

    def _failure(self, kind: str, reason: str, count: int) -> Outcome:
        self._trouble(kind, reason)
        return Outcome((Verdict.AGAIN,) * count, reason)

    def _trouble(self, kind: str, reason: str) -> None:
        reason = printable(reason)[:500]
        if not self.trouble:
            log.warning("output %s: %s", self.settings.name, reason)
        self.trouble = reason
        self.failed[kind] += 1

    async def _bury(self, alerts: Sequence[HubAlert], reason: str) -> None:
        while True:
            try:
                await asyncio.to_thread(self._dead.add, alerts, reason)
                break
            except OSError as error:
                self._trouble("dead letters", f"cannot write {self._dead.file}: {error}")
                await asyncio.sleep(1.0)
        if not self.dead:
            log.warning("output %s: dead letters: the service refuses alerts: %s", self.settings.name, reason)
        self.dead += len(alerts)

    async def _run_extras(self) -> None:
        """Summaries that are due, and dead letters that are to be tried again."""
        while True:
            await asyncio.sleep(_GRACE_S)
            await self._summarise()
            if self._dead.replay_file.exists():
                await self._replay()

    async def _summarise(self, *, all_: bool = False) -> None:
        summaries = self._grouper.due(all_=all_)
        if summaries:
            await self._commit()
            await self._deliver_in_order(list(summaries.values()))
            self._grouper.sent(summaries)
            await self._commit()

    async def _replay(self) -> None:
        letters = iter(self._dead.to_replay())
        count = 0
        while batch := [alert for _, alert in zip(range(self._batch), letters, strict=False)]:
            await self._deliver(batch)
            count += len(batch)
        await asyncio.to_thread(self._dead.replayed)
        log.info("output %s: dead letters were tried again: %d", self.settings.name, count)

    async def drained(self, last: int) -> None:
        """Wait until all up to a position is done, summaries included."""
        self._draining = True
        if self._off:
            return
        while self._back or self._live.after < last or self.in_flight:
            await asyncio.sleep(0.02)
        await self._summarise(all_=True)

    def status(self) -> OutputStatus:
        """As of now."""
        done = self._committed
        missing = sum((lane.upto or self._news.last) - lane.after for lane in (*self._back, self._live))
        lag = max(0, missing) if done >= 0 else 0
        now_ns = time.time_ns()
        oldest_ns = self._oldest_ns if lag else 0
        state = "off" if self._off else self._breaker.state
        if state == "closed":
            state = "failing" if self._failing else "ok"
        return OutputStatus(
            name=self.settings.name, type=self._kind.name, at_ns=now_ns, state="open" if state == "probing" else state,
            trouble=self.trouble, delivered=self.delivered, passed_over=self.passed_over, grouped=self.grouped,
            retried=self.retried, dead=self.dead, failed=dict(self.failed), lag=lag,
            lag_s=max(0.0, (now_ns - oldest_ns) / 1e9) if oldest_ns else 0.0, oldest_ns=oldest_ns,
            in_flight=self.in_flight, latency=list(self._latency), latency_sum_s=self._latency_sum_s,
            backlog=sum((lane.upto or 0) - lane.after for lane in self._back), last_success_ns=self._last_success_ns,
        )  # fmt: skip


def size_of(alert: HubAlert) -> int:
    """About how large an alert is in a request."""
    size = len(alert.output) + 200
    for name, value in alert.fields.items():
        size += len(name) + _size_of(value)
    return size


def _size_of(value: JsonValue) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list | tuple):
        return 2 + sum(_size_of(item) + 1 for item in value)
    if isinstance(value, dict):
        return 2 + sum(len(name) + _size_of(item) + 4 for name, item in value.items())
    return 20


async def send_once(settings: OutputSettings, kind: Kind, alert: HubAlert) -> Outcome:
    """Deliver one alert now, past filter and journal; errors are raised as they come."""
    client = kind.connect(settings.options)
    try:
        shape = shape_of(replace(settings, filter="", minimumpriority=type(alert.priority).DEBUG))
        async with asyncio.timeout(settings.deadline_s):
            return await client.send([shape(alert) or alert])
    finally:
        await client.close()
