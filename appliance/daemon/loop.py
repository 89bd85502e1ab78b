"""The loop: source -> state -> ruleset -> dispatch.

Comes in: a source, the state, a ruleset, the dispatcher. Goes out: alerts to the dispatcher, a `Summary` at the end.
Never: a wait for a disk, a network or a lock between reading a record and handing its alert over.

Other threads reach the loop by `post` alone: what they post runs on the loop's thread between two events, so that a
new ruleset is adopted, or the books are read, at one point of the stream of events. However long a batch takes, the
loop turns to them, to the watchdog and to the books after 50 ms of work; one event is the unit that is not divided.

The end is bounded: what waits when `stop` is called is judged for as long as the drain lasts, and what is left then is
counted as lost, by type. What is posted after that runs on the thread that posts it.

The books: every record that the kernel made is judged here, or counted as lost by the kernel's own C, or counted as
undecodable. At the end `produced == judged + filtered + lost` or the summary says by how much not.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from appliance.daemon.canary import WATCHED, Canary, CanaryHealth
from appliance.daemon.cost import Sample
from appliance.daemon.early import WRONG_RULE, EarlyFilter
from appliance.daemon.ledger import Ledger, Snapshot
from appliance.daemon.pen import Pen, is_waiting
from appliance.daemon.recorder import Recorder
from appliance.daemon.shortcut import Shortcut
from appliance.engine.ruleset import Ruleset
from appliance.engine.state import State
from appliance.engine.timing import Stopwatch
from appliance.host.faults import Faults
from appliance.kernel.loader import Books
from appliance.model.alert import Alert, Priority
from appliance.model.event import SAMPLED, Event, EventType, RawEvent

log = logging.getLogger(__name__)

_BATCH = 2048
_DOCUMENTS = 256  # of other sources, between two looks at the ring
_DOCUMENTS_AT_ONCE = 16
_WORK_NS = 50_000_000  # of work at most, before the loop turns to what else there is to do
_LAST_ROUNDS = 10_000  # of actions that post actions, at the end
_HASH_WAIT_NS = 1_000_000_000
_BOOKKEEPING_NS = 500_000_000
_RECENT = 64  # alerts kept for those who look
COMPAT_RULE = "Tercel internal: 32-bit calls not seen"


def _nothing() -> None:
    pass


def _no_documents(limit: int) -> Sequence[Event]:
    return ()


class Source(Protocol):
    """Where raw events come from: `sources.syscall.SyscallSource` in life."""

    def read(self, limit: int) -> list[RawEvent]:
        """The oldest events, at most `limit`, without waiting."""

    def wait(self) -> None:
        """Wait a little for more."""

    def books(self) -> Books:
        """The kernel's counts since start."""

    def stop(self, take: Callable[[list[RawEvent]], None], go_on: Callable[[], bool]) -> Books:
        """Stop, hand over what is left while `go_on` says so, give the final counts."""

    @property
    def undecodable(self) -> int:
        """Records that did not fit their layout."""

    @property
    def waiting_bytes(self) -> int:
        """Bytes of records that wait to be read."""

    @property
    def holding(self) -> int:
        """Records that were read and wait for their turn."""


class ContainerFacts(Protocol):
    """What container engines tell, as events: `sources.container.ContainerSource` in life."""

    def take(self) -> list[RawEvent]:
        """What was told since the last call, without waiting."""


class FileDigests(Protocol):
    """Digests of running files: `sources.digests.Digests` in life."""

    def complete(self, event: Event) -> tuple[Event, Hashable | None]:
        """The event with the digest of its process's file; or as it is, and what to ask `is_known` of."""

    def is_known(self, key: Any) -> bool:
        """Whether there is no use in waiting any longer."""

    @property
    def missing(self) -> Mapping[str, int]:
        """Why digests could not be had, how often."""


class AlertTaker(Protocol):
    """Where alerts go: `sinks.dispatch.Dispatcher` in life. Never waits."""

    def submit(self, alert: Alert) -> None:
        """Take an alert."""


@dataclass(slots=True)
class Counts:
    """What the loop saw and said. `judged` counts records of the kernel, of whatever type, `documents` events of other
    sources."""

    judged: int = 0
    by_type: Counter[EventType] = field(default_factory=Counter)
    by_rule: Counter[str] = field(default_factory=Counter)
    by_priority: Counter[Priority] = field(default_factory=Counter)
    slowest_pass_ns: int = 0  # longest time for which the loop turned to nothing but events
    documents: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """The account of a run. `difference` is zero, or a bug."""

    counts: Counts
    books: Books
    undecodable: int
    seconds: float
    missing: Mapping[str, int]  # why facts were absent -> how often
    waited_too_long: int
    pen_overflow: int
    errors: Mapping[str, int]  # rule -> errors of its predicate
    gave_up: bool = False  # a loss ended it, as `syscall_event_drops` asks
    faults: Mapping[str, int] = field(default_factory=dict)  # errors of ours by the seam that caught them

    @property
    def difference(self) -> int:
        """What neither was judged nor is known to be lost."""
        return self.books.outstanding(self.counts.judged + self.undecodable)


@dataclass(frozen=True, slots=True)
class Glance:
    """The account of a run that goes on. Records made and not yet read are in `waiting_bytes` of the ring."""

    counts: Counts
    books: Books
    undecodable: int
    waiting_bytes: int
    holding: int  # records that were read and wait, for older ones of another ring or for their turn
    missing: Mapping[str, int]
    errors: Mapping[str, int]
    judged_without_container: int
    in_pen: int
    processes: int
    containers: int
    recent: tuple[Alert, ...]  # the latest, oldest first
    ledger: Snapshot
    canary: CanaryHealth | None  # None where there is none

    @property
    def produced(self) -> int:
        """Records made that somebody had asked for."""
        return self.books.produced - self.books.filtered

    @property
    def in_flight(self) -> int:
        """Records made and neither judged nor lost yet. Some are younger than the ring's end was when it was read."""
        return self.books.outstanding(self.counts.judged + self.undecodable)


class Loop:
    """One run. `run` returns when `stop` was called."""

    def __init__(
        self,
        *,
        source: Source,
        state: State,
        ruleset: Ruleset,
        alerts: AlertTaker,
        containers: ContainerFacts,
        wall_offset_ns: Callable[[], int],
        make_alert: Callable[[str, Priority, str, Mapping[str, int | str]], Alert],
        wait_ns: int,
        ledger: Ledger,
        canary: Canary | None = None,
        digests: FileDigests | None = None,
        faults: Faults | None = None,
        drain_ns: int = 10_000_000_000,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`wall_offset_ns` gives wall clock minus the records' clock; `make_alert` an alert of our own; `drain_ns` is
        the time for records that wait when `stop` is called; `clock` is monotonic, in nanoseconds."""
        self._source = source
        self._state = state
        self._ruleset = ruleset
        self._alerts = alerts
        self._containers = containers
        self._wall_offset_ns = wall_offset_ns
        self._make_alert = make_alert
        self._pen = Pen(wait_ns=wait_ns)
        self._digests = digests
        self._digest_pen = Pen(wait_ns=max(wait_ns, _HASH_WAIT_NS))
        self._stopping = self._asked_to_stop = self._hurried = False
        self._drain_ns = drain_ns
        self._ending: Callable[[], None] = _nothing
        self._drain_ends_ns = 0  # once it was seen that it is to end
        self._clock = clock
        self._due_ns = self._served_ns = clock()
        self._in_hand = 0  # records that were read and are not judged yet
        self._abandoned: Counter[EventType] = Counter()
        self._lost = 0  # events, at the last look at the books
        self._failed = 0  # records that the state could not be told of
        self.faults = Faults() if faults is None else faults
        self._ended = False
        self._door = threading.RLock()  # guards it, and what is posted behind it
        self._posted: deque[Callable[[], None]] = deque()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._errors: Counter[str] = Counter()  # of rulesets that have left
        self.recent: deque[Alert] = deque(maxlen=_RECENT)
        self.sample = Sample(state.freeze)
        self.recorder: Recorder | None = None
        self.digests: Mapping[Path, str] = {}  # of the generation's files, for recordings
        self.documents: Callable[[int], Sequence[Event]] = _no_documents  # events of other sources, at most so many
        self.pulse: Callable[[], None] = _nothing  # called on the loop's thread, twice a second or so
        self.shortcut: Shortcut | None = None  # asked by the source for what need not be judged
        self.early: EarlyFilter | None = None  # what the kernel drops
        self.ledger = ledger
        self._canary = canary if canary is not None and canary.enabled else None
        self._compat_told = 0
        self._next_bookkeeping_ns = 0
        self.counts = Counts()
        self._watch, self._documents_watch = Stopwatch(), Stopwatch()
        self._look_for(ruleset)

    def _look_for(self, ruleset: Ruleset) -> None:
        """What the rules ask beyond their events."""
        ruleset.world.look = self._state.usage
        ruleset.world.account = self._state.account
        ruleset.world.births = self._state.births
        ruleset.world.process_name = self._state.process_name
        ruleset.world.descriptor = self._state.descriptor
        self._hashed = frozenset() if self._digests is None else ruleset.needs.digest_types
        self._times = ruleset.needs.times

    def stop(self) -> None:
        """Ask `run` to return: once what waits was judged or the drain is over; asked again, at once. Safe to call from
        a signal handler."""
        self._hurried = self._asked_to_stop
        self._asked_to_stop = self._stopping = True

    @property
    def hurried(self) -> bool:
        """True when `stop` was called again."""
        return self._hurried

    @property
    def ended(self) -> bool:
        """True once nothing is judged any more."""
        return self._ended

    def fileno(self) -> int:
        """Readable when something was posted: for the source to watch."""
        return self._bell

    def post(self, action: Callable[[], None]) -> None:
        """From any thread: run `action` on the loop's, between two events and soon. It must not wait. Once the loop has
        ended it runs at once, on the caller's thread, one after the other."""
        with self._door:
            if self._ended:
                self._run_one(action)
                return
            self._posted.append(action)
        os.eventfd_write(self._bell, 1)

    def adopt(self, ruleset: Ruleset) -> None:
        """Judge the events that follow by another ruleset. On the loop's thread, or before `run`."""
        self._errors += self._ruleset.errors
        self._ruleset = ruleset
        self._look_for(ruleset)
        if self.shortcut is not None:
            self.shortcut.adopt(ruleset)
        self._choose_what_passes()

    def tell(self, alert: Alert) -> None:
        """Hand over an alert of the appliance's own, counted as any other. On the loop's thread."""
        self._submit(alert)

    def look(self) -> Glance:
        """The books as they are at this point of the stream. On the loop's thread."""
        counts = self.counts
        books, undecodable = self._source.books(), self._undecodable
        return Glance(
            counts=Counts(
                counts.judged,
                counts.by_type.copy(),
                counts.by_rule.copy(),
                counts.by_priority.copy(),
                counts.slowest_pass_ns,
                counts.documents,
            ),
            books=books,
            undecodable=undecodable,
            waiting_bytes=self._source.waiting_bytes,
            holding=self._source.holding + self._in_hand,
            missing=self._missing(),
            errors=dict(self.errors),
            judged_without_container=self._pen.late + self._pen.overflow,
            in_pen=len(self._pen) + len(self._digest_pen),
            processes=self._state.processes,
            containers=self._state.containers,
            recent=tuple(self.recent),
            ledger=self.ledger.snapshot(books, counts.by_type, undecodable),
            canary=None if self._canary is None else self._canary.health(),
        )

    @property
    def errors(self) -> Mapping[str, int]:
        """Errors of generated code by rule, of all rulesets."""
        return self._errors + self._ruleset.errors

    def run(self, ending: Callable[[], None] = _nothing) -> Summary:
        """Judge until `stop`, then what is left, and account for all of it. `ending` is called when the end begins."""
        started = time.monotonic()
        self._ending = ending
        self._served_ns = self._clock()
        while not self._stopping:
            self._attend()
            self._choose_what_passes()
            batch = self._source.read(_BATCH)
            self._take(batch)
            if not batch:
                self._attend()
                self._source.wait()
                self._served_ns = self._clock()
        self._has_time()
        books = self._drain()
        return Summary(
            counts=self.counts,
            books=books,
            undecodable=self._undecodable,
            seconds=time.monotonic() - started,
            missing=self._missing(),
            waited_too_long=self._pen.late,
            pen_overflow=self._pen.overflow,
            errors=dict(self.errors),
            gave_up=self.ledger.gave_up,
            faults=self.faults.counts,
        )

    def _choose_what_passes(self) -> None:
        """Let opens that no rule can hold on be dropped in the kernel and passed over here, or let all of them come."""
        # a recording wants every event, a stopwatch the one before, a close the name that an open gave
        may = self.recorder is None and not self._times and not self._state.remembers
        if self.shortcut is not None:
            self.shortcut.on = may
        if self.early is not None:
            self.early.use(self._ruleset.early if may else None)

    def _drain(self) -> Books:
        """The end: what waits is judged while there is time, the rest is counted."""
        books = self._source.stop(self._take, self._has_time).with_unread(self._abandoned)
        self._listen_to_containers()
        self._take_documents(2**63)
        for event in self._pen.release(self._state.container, now_ns=2**63):
            self._judge_apart(self._judge, event)
        self._judge_hashed(now_ns=2**63)
        self._guarded("the books", lambda: self._keep_books(books, last=True))
        for _ in range(_LAST_ROUNDS):
            with self._door:  # nothing comes in between: what is posted from here on runs where it is posted
                self._ended = not self._posted
                if self._ended:
                    break
            self._run_posted()
        self._ended = True
        return books

    def _has_time(self) -> bool:
        """False once the drain is over. Where this sees first that the end has come, it begins."""
        if not self._stopping:
            return True
        if not self._drain_ends_ns:
            self._drain_ends_ns = self._clock() + self._drain_ns
            self._guarded("the end of the loop", self._ending)
        return not self._hurried and self._clock() < self._drain_ends_ns

    @property
    def _undecodable(self) -> int:
        return self._source.undecodable + self._failed

    def _serve(self) -> None:
        """Turn to what was posted, to the watchdog and to the books."""
        now_ns = self._clock()
        self.counts.slowest_pass_ns = max(self.counts.slowest_pass_ns, now_ns - self._served_ns)
        if self._posted:
            self._run_posted()
        if now_ns >= self._next_bookkeeping_ns:
            self._next_bookkeeping_ns = now_ns + _BOOKKEEPING_NS
            self._guarded("the books", lambda: self._keep_books(self._source.books()))
        self._served_ns = self._clock()
        self._due_ns = self._served_ns + _WORK_NS

    def _attend(self) -> None:
        """Turn to all but the kernel's records."""
        self._serve()
        self._listen_to_containers()
        self._take_documents(_DOCUMENTS)

    def _guarded(self, seam: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:
            self.faults.caught(seam)

    def _run_posted(self) -> None:
        """What has been posted by now; what that posts has its turn later."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        for _ in range(len(self._posted)):
            self._run_one(self._posted.popleft())

    def _run_one(self, action: Callable[[], None]) -> None:
        self._guarded("what was posted to the loop", action)

    def _pass_over(self, shortcut: Shortcut) -> None:
        """Count what the source left out because no rule can hold on it."""
        counts = shortcut.taken()
        self.counts.by_type += counts
        self.counts.judged += counts.total()
        self._state.passed_over(counts.total())

    def _take(self, batch: Sequence[RawEvent]) -> None:
        if self.shortcut is not None:
            self._pass_over(self.shortcut)
        if batch:
            self._watch.begin(batch[0].ts_ns + self._state.wall_offset_ns)
        self._in_hand = len(batch)
        while self._in_hand:
            self._take_some(batch)
            if self._in_hand:
                if not self._has_time():
                    self._abandoned.update(raw.type for raw in islice(batch, len(batch) - self._in_hand, None))
                    self._in_hand = 0
                    return
                self._attend()

    def _take_some(self, batch: Sequence[RawEvent]) -> None:
        """Judge of a batch what is in hand, until it is time for something else."""
        apply, types = self._state.apply, self._ruleset.event_types
        judge, by_type = self._judge_known if self._hashed else self._judge, self.counts.by_type
        watched = frozenset() if self._canary is None else WATCHED
        latest: Event | None = None
        timed = self._watch.timed if self._times else None
        if timed is None:
            self._watch.forget()
        clock, due_ns = self._clock, self._due_ns
        begun = self._in_hand
        for raw in islice(batch, len(batch) - begun, None):
            if clock() >= due_ns and self._in_hand < begun:
                break
            self._in_hand -= 1
            try:
                event = apply(raw)
            except Exception:
                self.faults.caught("state")
                self._failed += 1
                self.counts.judged -= 1
                continue
            by_type[raw.type] += 1
            if event is None:
                continue
            if raw.via == SAMPLED and self.early is not None:
                self.early.sampled(event.num, raw.ts_ns)
            if self._state.newborn is not None:
                self._born()
            try:
                if timed is not None:
                    event = timed(event)
                if (raw.type in watched and self._is_canary(event)) or event.type not in types:
                    continue
                container = event.container
                if container.missing is not None and is_waiting(container):
                    event = self._state.freeze(event)
                    if self._pen.put(event, time.monotonic_ns()):
                        continue
                latest = event
                judge(event)
            except Exception:
                self.faults.caught("evaluation")
        self.counts.judged += begun - self._in_hand
        if latest is not None:
            self.sample.offer(latest, time.monotonic_ns())

    def _born(self) -> None:
        """Judge the child's side of a birth as the event of its own that it is."""
        event, self._state.newborn = self._state.newborn, None
        if event is None or event.type not in self._ruleset.event_types:
            return
        try:
            container = event.container
            if container.missing is not None and is_waiting(container):
                event = self._state.freeze(event)
                if self._pen.put(event, time.monotonic_ns()):
                    return
            self._judge(event)
        except Exception:
            self.faults.caught("evaluation")

    def _is_canary(self, event: Event) -> bool:
        """The canary's events are judged like any other, and what the rules say of them is left out."""
        if self._canary is None or not self._canary.is_mine(event):
            return False
        self._ruleset.match(event)
        self._canary.saw(event)
        return True

    def _judge_known(self, event: Event) -> None:
        """Judge, once the digest of the running file is known where a rule asks for it."""
        if self._digests is not None and event.type in self._hashed:
            event, key = self._digests.complete(event)
            if key is not None and self._digest_pen.put(self._state.freeze(event), time.monotonic_ns(), key):
                return
        self._judge(event)

    def _judge_hashed(self, now_ns: int) -> None:
        """Judge those that have waited for a digest, and have it or can wait no longer."""
        digests = self._digests
        if digests is not None and len(self._digest_pen):
            for event in self._digest_pen.ready(digests.is_known, now_ns):
                self._judge_apart(self._judge, digests.complete(event)[0])

    def _missing(self) -> dict[str, int]:
        """Why facts were absent, how often."""
        pen, missing = self._digest_pen, dict(self._state.missing)
        if self._digests is not None:
            missing |= self._digests.missing
        late = {"digest not made in time": pen.late, "digest not waited for, too many events wait": pen.overflow}
        return missing | {reason: count for reason, count in late.items() if count}

    def _judge(self, event: Event) -> None:
        recorder = self.recorder
        if recorder is not None:
            event = self._state.freeze(event)
            recorder.saw(event)
        for alert in self._ruleset.match(event):
            self._submit(alert)
            if self.early is not None and self.early.is_wrong(event.num):
                self._tell_wrong(event, alert)
            if recorder is not None:
                self._record(recorder, event, alert)

    def _tell_wrong(self, event: Event, alert: Alert) -> None:
        """An event that the kernel would have dropped, had it not been a sample, made an alert: a bug of ours."""
        path = event.path or ""
        log.error("the kernel's filter would have dropped an event that rule `%s` holds on; it is off now", alert.rule)
        self._submit(
            self._make_alert(
                WRONG_RULE,
                Priority.CRITICAL,
                f"the kernel's filter would have dropped an event that rule `{alert.rule}` holds on: {event.type.value}"
                f" {path}; the filter is off until the rules change. Please report it",
                {"filter.rule": alert.rule, "filter.event": event.type.value, "filter.path": path},
            )
        )

    def _record(self, recorder: Recorder, event: Event, alert: Alert) -> None:
        rule = self._ruleset.rule_named(alert.rule)
        if rule is not None and recorder.wants(rule):
            recorder.fired(event, rule, self.digests)

    def _take_documents(self, limit: int) -> None:
        while limit > 0 and (events := self.documents(min(limit, _DOCUMENTS_AT_ONCE))):
            limit -= len(events)
            self.counts.documents += len(events)
            for event in self._documents_watch.all(events) if self._times else events:
                self._judge_apart(self._judge, event)
            if self._stopping and not self._has_time():
                return  # the rest is counted where it waits

    def _listen_to_containers(self) -> None:
        for raw in self._containers.take():
            try:
                self._state.apply(raw)
            except Exception:
                self.faults.caught("state")
        if len(self._pen):
            for event in self._pen.release(self._state.container, time.monotonic_ns()):
                self._judge_apart(self._judge_known, event)
        self._judge_hashed(time.monotonic_ns())

    def _judge_apart(self, judge: Callable[[Event], None], event: Event) -> None:
        """Judge an event that is of no batch."""
        try:
            judge(event)
        except Exception:
            self.faults.caught("evaluation")
        if self._clock() >= self._due_ns:
            self._serve()

    def _keep_books(self, books: Books, *, last: bool = False) -> None:
        """Follow the wall clock, and tell what was lost since the last look."""
        self._guarded("signs of life", self.pulse)
        if self.recorder is not None:
            self.recorder.tick(time.time_ns())
        self._state.wall_offset_ns = self._wall_offset_ns()
        if books.lost != self._lost:
            self._lost = books.lost
            self._state.doubt()
        for alert in self.ledger.look(books, self._undecodable, self._ruleset.rules, time.monotonic_ns(), last=last):
            self._submit(alert)
        if self.ledger.gave_up:
            self._stopping = True
        if books.compat > 2 * self._compat_told:
            self._compat_told = books.compat
            self._tell_compat(books.compat)

    def _tell_compat(self, count: int) -> None:
        """Told at the first call and whenever their number has doubled: a program that makes them makes millions."""
        log.warning("32-bit system calls are not decoded", extra={"count": count})
        self._submit(
            self._make_alert(
                COMPAT_RULE,
                Priority.WARNING,
                f"{count} system calls of 32-bit programs were not judged: they are not decoded yet",
                {"calls.total": count},
            )
        )

    def _submit(self, alert: Alert) -> None:
        self.counts.by_rule[alert.rule] += 1
        self.counts.by_priority[alert.priority] += 1
        self.recent.append(alert)
        self._alerts.submit(alert)
