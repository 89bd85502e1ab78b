"""The durable queue before a sink whose other end is another machine: at least once, in order, across restarts.

Comes in: alerts. Goes out: the same to one sink. Never: a wait for whoever submits, an acknowledged alert that is gone
without a count, or a disk that can hold up the loop: `submit` puts into a bounded queue in memory, a thread of our own
writes from there to disk, a second one delivers.

- An alert is *acknowledged* once it is on the disk (group commit: what waits is written together, then one fdatasync).
- Delivery is in order within each lane: the express lane (`critical` and above by default), which goes first, and the
  ordinary one. A failed try is repeated after a pause that doubles, with jitter; an alert that the other end refuses
  for good goes to `dead.jsonl`. After a crash some are delivered a second time, under the same id.
- Beyond `max_bytes` the lowest priority goes first, of it the oldest. Beyond `max_age_ms` alerts go, too: age is time
  in which the appliance ran, so that neither a stopped daemon nor a clock set wrong throws alerts away.
- A disk that is full, broken, read-only or does not answer: what is on it stays, new alerts wait in memory (the lowest
  goes first beyond the bound) and are delivered from there, until the disk takes them again.
- `submitted = delivered + dead + dropped + waiting`, in each run and over all of them (the file `cursor`).
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from appliance.model.alert import Alert, Priority
from appliance.model.diagnostic import ConfigError, DeliveryError, Diagnostic
from appliance.model.moment import iso_time
from appliance.model.text import json_printable, printable, why
from appliance.model.wire import Format, pack, to_json, unpack
from appliance.sinks.base import AT_END, NO_THREAD, QUEUE_FULL, Depth, Losses, Sink, SinkStats
from appliance.sinks.disk import Disk, refuse_unsafe
from appliance.sinks.errnos import Remedy, remedy
from appliance.sinks.queue import LANES, AlertQueue, Entry
from appliance.sinks.segments import Account, CursorFile, Place, Record, Segment, Segments, put_bad_aside

log = logging.getLogger(__name__)

DEAD = "dead.jsonl"
_TOO_OLD = "older than the spool keeps"
_TOO_MUCH = "more than the spool holds"
_DAMAGED = "damaged on the disk"
_NOT_FOUND = "not found on the disk at the start"

_GROUP = 512  # records of one group commit
_SAVE_S = 0.1  # between two savings of the cursor: what a crash delivers twice
_AGE_LOOK_S = 1.0
_DISK_RETRY_S = (0.5, 15.0)  # first and longest pause after the disk refused
_HUNG_S = 5.0  # a disk that has not answered for so long is not waited for
_RETRY_S = 0.5  # first pause after the other end did
_LINGER_LOOK_S = 0.02  # how often a batch that fills is counted
_EXPRESS_RETRY_S = 1.0  # an express alert need not wait longer for the next try
_LOOK_S = 1.0
_TRIES = 5  # of what the disk says is broken, before it counts as damaged or is put aside
_READ_PAUSE_S = 0.2
_LAST_TRIES = 3
_GRACE_S = 2.0  # for the disk, at the end
_MAX_DEAD = 16 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the spool of one sink may hold, and how long its deliverer pauses at most."""

    max_bytes: int = 256 << 20
    max_age_ms: int = 7 * 24 * 3600 * 1000
    min_free_bytes: int = 0
    segment_bytes: int = 1 << 20
    retry_max_s: float = 60.0


@dataclass(slots=True, eq=False)
class _InHand:
    """An alert that the deliverer has taken: from the disk, or from memory."""

    seq: int
    priority: Priority
    alert: Alert | None  # None until it is read
    entry: Entry | None = None  # as it waits in memory
    loose: bool = False  # it waits nowhere else: not on the disk, and not in memory
    was_on_disk: bool = True
    damage: str = ""  # why it cannot be delivered


class Spool:
    """One sink with its queue on disk: writer and deliverer start when it is made."""

    def __init__(
        self,
        sink: Sink,
        folder: Path,
        limits: Limits,
        *,
        capacity: int,
        express: Priority = Priority.CRITICAL,
        make_disk: Callable[[Path], Disk] = Disk,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        on_commit: Callable[[Sequence[Alert]], None] | None = None,
        after: Callable[[], None] | None = None,
    ) -> None:
        """`capacity`: alerts that may wait in memory for the disk. `on_commit` gets the acknowledged alerts.

        `after` is run, on the spool's own thread, before the folder is touched: until then another one may use it.
        Without it the folder is looked at here: raises `ConfigError` where it is not safe, or in use. A disk that does
        not work is no error: see above.
        """
        self.name = sink.name
        self._after = after
        self._sink = sink
        self._folder = folder
        self._limits = limits
        self._capacity = capacity
        self._make_disk = make_disk
        self._clock = clock
        self._jitter = jitter
        self._on_commit = on_commit
        self._lock = threading.RLock()
        self._to_writer = threading.Condition(self._lock)
        self._to_deliverer = threading.Condition(self._lock)
        # guarded by it
        self._queue = AlertQueue(capacity, express)
        self._writing: list[Entry] = []
        self._hands: tuple[list[_InHand], ...] = tuple([] for _ in range(LANES))
        self._seq = 0
        self._account = Account()
        self._before = Account()  # the account when this run began
        self._submitted = self._delivered = self._dead = self._carried = self._acknowledged = 0
        self._lost = Losses(sink.name)
        self._dirty = False
        self._opened = False
        self._broken = ""  # what the disk said, while it refuses
        self._busy_since = 0.0  # when the writer turned to the disk; 0 while it does not
        self._sink_trouble = ""
        self._in_hand_since = 0.0  # when the alerts in hand were taken up
        self._finishing = self._closing = self._abandoned = False
        # the writer's
        self._disk: Disk | None = None
        self._segments: Segments | None = None
        self._cursor: CursorFile | None = None
        self._started = clock()
        self._next_save = self._next_age_look = self._next_disk_try = 0.0
        self._disk_pause_s = _DISK_RETRY_S[0]
        self._unkept = 0
        self._read_failures = 0  # the deliverer's: of the first alert in hand, in a row
        self._dead_failures = 0  # tries in a row that the dead-letter file refused as broken
        self._open_failures = 0
        if after is None:
            self._lock_folder()
        self._writer = threading.Thread(target=self._write_until_end, name=f"{sink.name} spool", daemon=True)
        self._deliverer = threading.Thread(target=self._deliver_until_end, name=sink.name, daemon=True)

    def start(self) -> None:
        """Begin to write and to deliver. Raises RuntimeError where no thread can be started; call it again then."""
        for thread in (self._writer, self._deliverer):
            if thread.ident is None:
                thread.start()

    @property
    def sink(self) -> Sink:
        """Where it delivers to."""
        return self._sink

    def _lock_folder(self) -> None:
        refuse_unsafe(self._folder)
        try:
            self._disk = self._make_disk(self._folder)
        except BlockingIOError as error:
            raise ConfigError(
                [
                    Diagnostic(
                        "spool-in-use", f"another process uses the spool `{self._folder}`",
                        hint="end it, or give this one a `spool.path` of its own",
                    )
                ]
            ) from error  # fmt: skip
        except OSError as error:
            self._set_broken(error)

    # -- from outside

    def submit(self, alert: Alert) -> None:
        """Take an alert, without waiting for anything."""
        with self._lock:
            self._submitted += 1
            self._seq += 1
            if self._finishing:
                self._lose(AT_END, 1)
                return
            self._shed(self._queue.put(Entry(self._seq, alert)))
            self._to_writer.notify()
            if self._from_memory():
                self._to_deliverer.notify()

    def finish(self) -> None:
        """No more will come."""
        with self._lock:
            self._finishing = True
            self._notify()

    def end(self, deadline: float) -> SinkStats:
        """Deliver until `deadline` (CLOCK_MONOTONIC, seconds); what is left stays on disk."""
        self.finish()
        if self._writer.ident is None and self._after is not None:
            self._after()
        if self._deliverer.ident is not None:
            self._deliverer.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            self._closing = True
            self._notify()
        if self._writer.ident is not None:
            self._writer.join(max(_GRACE_S, deadline - time.monotonic()))
        with self._lock:
            self._abandoned = True
            left = len(self._unwritten()) + self._queue.clear() + self._loose()
            self._writing = []
            for hand in self._hands:
                hand.clear()
            if left:
                self._lose(AT_END, left)
            self._notify()
        return self.stats()

    def _notify(self) -> None:
        self._to_writer.notify_all()
        self._to_deliverer.notify_all()

    def reopen(self) -> None:
        """Pass on to the sink."""
        self._sink.reopen()

    def stats(self) -> SinkStats:
        """The account of this run so far. Waits for no disk."""
        with self._lock:
            submitted = self._carried + self._submitted
            stuck = any(self._hands)
            return SinkStats(
                self.name,
                self._delivered,
                self._lost.total,
                self._lost.reasons,
                waiting=submitted - self._delivered - self._dead - self._lost.total,
                where=self._sink.describe(),
                stuck_s=time.monotonic() - self._in_hand_since if stuck else 0.0,
                submitted=submitted,
                dead=self._dead,
                acknowledged=self._acknowledged,
                trouble="; ".join(filter(None, (self._threadless(), self._broken or self._hung(), self._sink_trouble))),
                spool=Depth(self._count_on_disk(), self._size_bytes(), self._limits.max_bytes),
            )

    def count_waiting(self) -> int:
        """What waits, counted one by one where it lies: a check on `stats`."""
        with self._lock:
            return len(self._unwritten()) + len(self._queue) + self._count_on_disk() + self._loose()

    # -- the books; the lock is held

    def _count_on_disk(self) -> int:
        return self._segments.waiting(self._account.done) if self._opened and self._segments else 0

    def _size_bytes(self) -> int:
        return self._segments.total_bytes if self._opened and self._segments else 0

    def _hung(self) -> str:
        """What is wrong where the disk does not answer at all."""
        hung = self._busy_since and self._clock() - self._busy_since > _HUNG_S
        return f"{self._folder}: the disk does not answer" if hung else ""

    def _threadless(self) -> str:
        return NO_THREAD if self._deliverer.ident is None else ""

    def _from_memory(self) -> bool:
        """Whether alerts are delivered from memory, as the disk refuses or does not answer."""
        return bool(self._broken or self._hung())

    def _unwritten(self) -> list[Entry]:
        """What is being written and has not been delivered from memory meanwhile."""
        return [e for e in self._writing if e.seq > self._account.done[e.alert.priority]]

    def _in_memory(self, lane: int) -> Iterator[Entry]:
        """What waits in memory for a lane, in order."""
        writing = (e for e in self._unwritten() if self._queue.lane(e.alert.priority) == lane)
        return chain(writing, self._queue.of(lane))

    def _loose(self) -> int:
        return sum(item.loose for hand in self._hands for item in hand)

    def _lose(self, reason: str, count: int) -> None:
        self._lost.add(reason, count)
        self._dirty = True

    def _shed(self, entry: Entry | None, reason: str = QUEUE_FULL) -> None:
        """Account for what there was no room for."""
        if entry is None:
            return
        for hand in self._hands:
            for item in hand:
                if item.entry is entry:  # it is being delivered
                    item.entry, item.loose = None, True
                    return
        self._lose(reason, 1)

    def _current(self) -> Account:
        """The account over all runs, as it is now."""
        account, before = self._account, self._before
        account.seq = max(self._seq, account.seq)
        account.delivered = before.delivered + self._delivered
        account.dead = before.dead + self._dead
        account.dropped = before.dropped + self._lost.total
        account.meter_ms = self._meter_ms()
        return account

    def _meter_ms(self) -> int:
        return self._before.meter_ms + int((self._clock() - self._started) * 1000)

    def _set_broken(self, error: OSError) -> None:
        text = f"{self._folder}: {why(error)}"
        if not self._broken:
            log.error("%s: the spool cannot be written, alerts wait in memory: %s", self._sink.name, printable(text))
        self._broken = text

    # -- the writer: the one that changes what is on the disk

    def _write_until_end(self) -> None:
        try:
            if self._after is not None:
                self._after()
            while self._write_some():
                pass
        except Exception:
            log.exception("%s: an error of ours in the spool", self._sink.name)
            with self._lock:
                self._broken = "internal error"
                self._to_deliverer.notify_all()
        self._leave()

    def _write_some(self) -> bool:
        """One round; False at the end."""
        with self._lock:
            while (pause := self._writer_pause()) is None or pause > 0:
                if self._closing:
                    break
                self._to_writer.wait(pause)
            last = self._closing
            may_try = last or self._clock() >= self._next_disk_try
        if not may_try:
            return True
        self._busy_since = self._clock()
        try:
            if not self._opened:
                self._open()
            wrote = self._write_group()
        except OSError as error:
            self._busy_since = 0.0
            self._open_failures += not self._opened and remedy(error) is Remedy.ASIDE
            with self._lock:
                self._queue.put_back(self._unwritten())
                self._writing = []
                while (shed := self._queue.make_room()) is not None:
                    self._shed(shed)
                self._set_broken(error)
                self._next_disk_try = self._clock() + self._disk_pause_s
                self._disk_pause_s = min(_DISK_RETRY_S[1], self._disk_pause_s * 2)
                self._to_deliverer.notify_all()
            return not last
        self._disk_pause_s = _DISK_RETRY_S[0]
        try:
            self._keep_house(now=last and not wrote)
        except OSError as error:  # the next round tries again, at the end at once
            if not self._unkept:
                log.error("%s: the spool's cursor cannot be kept: %s", self._sink.name, why(error))
            self._unkept += 1
            self._next_save = self._clock() + _DISK_RETRY_S[0]
            return not last or self._unkept < _LAST_TRIES
        finally:
            self._busy_since = 0.0
        self._unkept = 0
        return wrote or not last

    def _writer_pause(self) -> float | None:
        """Seconds until the writer has something to do; None for as long as nobody wakes it."""
        now = self._clock()
        if self._broken or not self._opened:
            return max(0.0, self._next_disk_try - now)
        if len(self._queue):
            return 0.0
        due = self._next_age_look if self._waiting() else float("inf")
        if self._dirty or self._account.gone:
            due = min(due, self._next_save)
        return None if due == float("inf") else max(0.0, due - now)

    def _waiting(self) -> int:
        return self._carried + self._submitted - self._delivered - self._dead - self._lost.total

    def _open(self) -> None:
        """Learn what is on the disk, and put what came meanwhile behind it."""
        disk = self._disk
        if disk is None:
            try:
                refuse_unsafe(self._folder)
            except ConfigError as error:
                raise OSError(errno.EPERM, error.diagnostics[0].message) from error
            disk = self._disk = self._make_disk(self._folder)
        with contextlib.suppress(OSError):  # on a disk that only reads
            mend_dead(disk)
        segments = Segments(disk, self._lock, segment_bytes=self._limits.segment_bytes)
        cursor = CursorFile(disk)
        give_up = self._open_failures >= _TRIES
        found = cursor.load(give_up=give_up)
        account = found or Account()
        segments.load(account, give_up=give_up)
        last = max(account.seq, segments.last_seq(), *account.done)
        waiting = segments.waiting(account.done)
        if found is None:
            account.base = last - waiting
            if last:
                log.warning("%s: the spool had no cursor; all that it holds is delivered again", self._sink.name)
        missing = last - account.base - account.delivered - account.dead - account.dropped - waiting
        if missing < 0:  # some that were given up are there after all
            back = min(account.dropped, -missing)
            account.dropped -= back
            account.base -= -missing - back
            missing = 0
        account.meter_ms = max(account.meter_ms, segments.newest_stamp_ms())
        with self._lock:
            self._segments, self._cursor = segments, cursor
            for hand in self._hands:
                for item in hand:
                    item.seq += last
                    if item.entry is not None:  # it is delivered from memory, and not written
                        self._queue.remove(item.entry)
                        item.entry, item.loose = None, True
            for entry in self._queue:
                entry.seq += last
            self._seq += last
            self._account = account
            self._before = Account.decode(account.encode())
            self._started = self._clock()
            self._carried = waiting + missing
            if missing:
                self._lose(_NOT_FOUND, missing)
            self._opened = True
            self._broken = ""
            self._dirty = True
            self._to_deliverer.notify_all()
        if waiting:
            log.info("%s: %d alerts wait in the spool", self._sink.name, waiting)

    def _write_group(self) -> bool:
        """Write and acknowledge what waits in memory; whether there was any."""
        assert self._segments is not None  # noqa: S101
        with self._lock:
            if self._abandoned:
                return False
            self._writing = self._queue.oldest(_GROUP)
            stamp = self._meter_ms()
            group = list(self._writing)
        if not group:
            return False
        records = [Record(e.seq, e.alert.priority, stamp, pack(e.alert)) for e in group]
        records = self._make_room(records)
        if records:
            self._segments.append(records)
        kept = {record.seq for record in records}
        with self._lock:
            if self._abandoned:
                return False
            self._writing = []
            self._acknowledged += len(records)
            self._account.seq = max(self._account.seq, group[-1].seq)
            for entry in group:
                if entry.seq not in kept and entry.seq > self._account.done[entry.alert.priority]:
                    self._shed(entry, _TOO_MUCH)
            if self._broken:
                log.warning("%s: the spool can be written again", self._sink.name)
                self._broken = ""
            self._to_deliverer.notify_all()
        if self._on_commit is not None and records:
            self._on_commit([entry.alert for entry in group if entry.seq in kept])
        return True

    def _make_room(self, records: list[Record]) -> list[Record]:
        """Remove the lowest priority until the records fit, or leave out those of them that are lower than all else."""
        assert self._segments is not None and self._disk is not None  # noqa: S101
        size = sum(len(record.payload) + 32 for record in records)
        if self._limits.min_free_bytes and self._disk.free_bytes() - size < self._limits.min_free_bytes:
            raise OSError(errno.ENOSPC, f"less than {self._limits.min_free_bytes >> 20} MiB are free")
        while records and self._segments.total_bytes + size > self._limits.max_bytes:
            worst = max(records, key=lambda record: (record.priority, record.seq))
            lowest = self._segments.lowest()
            if lowest is not None and lowest.priority >= worst.priority:
                self._give_up(lowest, _TOO_MUCH)
            else:
                records.remove(worst)
                size -= len(worst.payload) + 32
        return records

    def _give_up(self, segment: Segment, reason: str) -> None:
        """Lose what a segment holds, by the limits."""
        assert self._segments is not None  # noqa: S101
        with self._lock:
            done = self._account.done[segment.priority]
            in_hand = {item.seq: item for hand in self._hands for item in hand}
            lost = 0
            for seq in segment.seqs:
                if seq in in_hand:
                    in_hand[seq].loose = True
                elif seq > done:
                    lost += 1
            self._segments.forget(segment)
            self._account.gone.append(segment.name)
            if lost:
                self._lose(reason, lost)
            self._dirty = True
        self._save()
        self._remove_gone()

    def _save(self) -> None:
        assert self._cursor is not None  # noqa: S101
        with self._lock:
            if self._abandoned:
                return
            self._dirty = False
            account = Account.decode(self._current().encode())
        self._next_save = self._clock() + _SAVE_S
        try:
            self._cursor.save(account)
        except OSError:
            with self._lock:
                self._dirty = True
            raise

    def _remove_gone(self) -> None:
        assert self._segments is not None  # noqa: S101
        with self._lock:
            names = list(self._account.gone)
        for name in names:
            self._segments.remove(name)
            with self._lock:
                self._account.gone.remove(name)

    def _keep_house(self, *, now: bool) -> None:
        """Save the cursor, remove what is done with or too old."""
        segments = self._segments
        assert segments is not None  # noqa: S101
        if self._clock() >= self._next_age_look:
            self._next_age_look = self._clock() + _AGE_LOOK_S
            while (old := segments.older_than(self._meter_ms() - self._limits.max_age_ms)) is not None:
                self._give_up(old, _TOO_OLD)
        if not (now or ((self._dirty or self._account.gone) and self._clock() >= self._next_save)):
            return
        with self._lock:
            done = list(self._account.done)
        finished = [s for s in segments.finished(done) if now or not segments.is_active(s)]
        with self._lock:
            for segment in finished:
                segments.forget(segment)
                self._account.gone.append(segment.name)
        self._save()
        self._remove_gone()
        if now:
            self._save()
        with self._lock:
            if self._broken and not len(self._queue):
                self._broken = ""

    def _leave(self) -> None:
        """Close what the writer holds, and unlock the folder."""
        try:
            if self._segments is not None:
                self._segments.close()
            if self._disk is not None:
                self._disk.leave()
        except OSError as error:
            log.warning("%s: closing the spool: %s", self._sink.name, why(error))

    # -- the deliverer

    def _deliver_until_end(self) -> None:
        failures = waits = 0
        while (lane := self._next_lane()) is not None:
            try:
                if self._fill(lane):
                    self._deliver(lane)
            except OSError as error:  # of reading
                self._note_trouble(f"{self._folder}: the spool cannot be read: {why(error)}")
                waits = waits + 1 if remedy(error) is Remedy.WAIT else 0
                pause = min(_DISK_RETRY_S[1], _READ_PAUSE_S * 2.0 ** min(waits, 10))
            except DeliveryError as error:
                failures += 1
                self._note_trouble(str(error))
                pause = min(self._limits.retry_max_s, _RETRY_S * 2.0 ** min(failures - 1, 30))
                pause = max(pause * (0.5 + self._jitter() / 2), min(error.after_s, self._limits.retry_max_s))
            except Exception as error:
                log.exception("%s: an error of ours in the spool", self._sink.name)
                self._note_trouble(f"internal error: {type(error).__name__}")
                pause = self._limits.retry_max_s
            else:
                failures = waits = 0
                self._note_trouble("")
                continue
            if not self._pause(pause):
                break
        try:
            self._sink.close()
        except Exception:
            log.exception("%s: an error while closing", self._sink.name)

    def _note_trouble(self, text: str) -> None:
        with self._lock:
            before = self._sink_trouble
            self._sink_trouble = text
        if text and not before:
            log.warning("%s: cannot deliver, alerts wait: %s", self._sink.name, printable(text))
        elif before and not text:
            log.info("%s: delivers again", self._sink.name)

    def _next_lane(self) -> int | None:
        """The lane to serve next, when there is something in it; None at the end."""
        while True:
            with self._lock:
                if self._abandoned or self._closing:
                    return None
                for lane in range(LANES):
                    if self._in_lane(lane):
                        if lane and not self._gathered():
                            return 0
                        return None if self._abandoned or self._closing else lane
                in_memory = len(self._queue) + len(self._unwritten())
                if self._finishing and not in_memory and (self._opened or self._broken):
                    return None
                woken = self._to_deliverer.wait(_LOOK_S)
            if not woken:
                try:
                    self._sink.look()
                except DeliveryError as error:
                    self._note_trouble(str(error))

    def _gathered(self) -> bool:
        """Let a batch of the ordinary lane fill, as long as the sink says. False where an express alert comes first.
        The lock is held."""
        end = self._clock() + self._sink.linger_s
        while not self._hands[1] and (left := end - self._clock()) > 0:
            if self._finishing or self._closing or self._abandoned:
                break
            if self._in_lane(0):
                return False
            if self._waiting_in(1) >= self._sink.batch:
                break
            self._to_deliverer.wait(min(left, _LINGER_LOOK_S))
        return True

    def _waiting_in(self, lane: int) -> int:
        """How many wait in a lane, up to a batch; the lock is held."""
        batch = self._sink.batch
        count = 0
        if self._opened and self._segments is not None:
            count = len(self._segments.plan(self._queue.priorities(lane), self._account.done, batch))
        return count or sum(1 for _ in islice(self._in_memory(lane), batch))

    def _in_lane(self, lane: int) -> bool:
        """Whether there is something to deliver; the lock is held."""
        priorities = self._queue.priorities(lane)
        if self._hands[lane]:
            return True
        if self._opened and self._segments is not None and self._segments.any_after(priorities, self._account.done):
            return True
        return self._from_memory() and next(self._in_memory(lane), None) is not None

    def _fill(self, lane: int) -> bool:
        """Take the next alerts of a lane into the hand, where it is empty; False where there were none after all.

        Raises OSError where the disk gives none of them.
        """
        hand = self._hands[lane]
        places: list[Place] = []
        with self._lock:
            if hand:
                return True
            segments = self._segments
            if self._opened and segments is not None:
                places = segments.plan(self._queue.priorities(lane), self._account.done, self._sink.batch)
                hand[:] = [_InHand(place.seq, place.segment.priority, None) for place in places]
            if not places and self._from_memory():
                entries = islice(self._in_memory(lane), self._sink.batch)
                hand[:] = [_InHand(e.seq, e.alert.priority, e.alert, e, was_on_disk=False) for e in entries]
            self._in_hand_since = time.monotonic()
            if not places:
                return bool(hand)
        assert segments is not None  # noqa: S101
        try:
            self._read(hand, places, segments)
        finally:
            segments.stop_reading()
        return bool(hand)

    def _read(self, hand: list[_InHand], places: Sequence[Place], segments: Segments) -> None:
        """Read what was planned; what comes after a place that cannot be read is let go, for the next time."""
        for at, (item, place) in enumerate(zip(list(hand), places, strict=True)):
            try:
                record = segments.fetch(place)
                item.alert = unpack(record.payload) if record is not None else None
            except ValueError:
                item.alert = None
            except OSError as error:
                self._read_failures += at == 0 and remedy(error) is Remedy.ASIDE
                if self._read_failures >= _TRIES:
                    item.damage = f"{_DAMAGED}: {why(error)}"
                    at += 1
                with self._lock:
                    lost = sum(rest.loose for rest in hand[at:])
                    del hand[at:]
                    if lost:
                        self._lose(_TOO_MUCH, lost)
                if not hand:
                    raise
                return
            self._read_failures = 0
            if item.alert is None:
                item.damage = _DAMAGED

    def _deliver(self, lane: int) -> None:
        """Deliver what is in hand: all at once where the sink takes it, one by one where it refuses that."""
        hand = list(self._hands[lane])
        alerts = [item.alert for item in hand if item.alert is not None and not item.damage]
        if len(alerts) > 1:
            try:
                self._attempt(alerts)
            except DeliveryError as error:
                if error.retry:
                    raise
            else:
                for item in hand:
                    self._settle(lane, item, lost=item.damage)
                return
        for item in hand:
            with self._lock:
                if self._abandoned:
                    return
            if item.alert is None or item.damage:
                self._settle(lane, item, lost=item.damage or _DAMAGED)
                continue
            try:
                self._attempt([item.alert])
            except DeliveryError as error:
                if error.retry:
                    raise
                self._refuse(lane, item, str(error))
            else:
                self._settle(lane, item)

    def _attempt(self, alerts: Sequence[Alert]) -> None:
        try:
            if len(alerts) == 1:
                self._sink.deliver(alerts[0])
            else:
                self._sink.deliver_several(alerts)
        except DeliveryError:
            raise
        except Exception as error:
            log.exception("%s: an error of ours", self._sink.name)
            raise DeliveryError(f"internal error: {type(error).__name__}", retry=False) from error

    def _refuse(self, lane: int, item: _InHand, reason: str) -> None:
        """To the dead-letter file. Raises `DeliveryError` where that cannot be written and the alert is on disk."""
        assert item.alert is not None  # noqa: S101
        try:
            if self._disk is None:
                raise OSError(errno.EBUSY, "the spool is not open")
            write_dead(self._disk, item.alert, reason)
        except OSError as error:
            self._dead_failures += remedy(error) is Remedy.ASIDE
            if self._dead_failures >= _TRIES and self._disk is not None:
                self._dead_failures = 0
                with contextlib.suppress(OSError):  # the next try makes a new one
                    put_bad_aside(self._disk, DEAD, error)
            if item.was_on_disk and not item.loose:
                raise DeliveryError(f"{DEAD}: {why(error)}", retry=True) from error
            self._settle(lane, item, lost=f"{reason}; {DEAD}: {why(error)}")
        else:
            self._dead_failures = 0
            self._settle(lane, item, dead=True)

    def _settle(self, lane: int, item: _InHand, *, dead: bool = False, lost: str = "") -> None:
        """Done with this one."""
        with self._lock:
            if self._abandoned:
                return
            if lost:
                self._lose(lost, 1)
            elif dead:
                self._dead += 1
            else:
                self._delivered += 1
            if item.entry is not None:
                self._queue.remove(item.entry)
            if not item.loose:
                done = self._account.done
                done[item.priority] = max(done[item.priority], item.seq)
            self._hands[lane].remove(item)
            if not self._dirty:
                self._dirty = True
                self._to_writer.notify()

    def _pause(self, seconds: float) -> bool:
        """Wait; shorter where an express alert comes meanwhile. False at the end."""
        start = self._clock()
        with self._lock:
            had_express = self._in_lane(0)
            while (left := start + seconds - self._clock()) > 0:
                if self._finishing:
                    return False
                if not had_express and self._in_lane(0):
                    had_express, seconds = True, min(seconds, _EXPRESS_RETRY_S)
                    continue
                self._to_deliverer.wait(left)
            return not self._finishing


def write_dead(disk: Disk, alert: Alert, reason: str) -> None:
    """Append one line to the dead-letter file: why, when, and the alert with its id. Raises OSError.

    A full file is put aside as `dead.jsonl.1`, in place of the one before it.
    """
    head = json.dumps({"id": printable(alert.id), "reason": printable(reason), "time": iso_time(time.time_ns()) + "Z"})
    body = to_json(alert, options=Format(json_output=True))
    line = f'{json_printable(head)[:-1]}, "alert": {body}}}\n'.encode()
    try:
        fd = disk.open(DEAD)
        if disk.size(fd) > _MAX_DEAD:
            disk.close(fd)
            disk.rename(DEAD, f"{DEAD}.1")
            raise FileNotFoundError
    except FileNotFoundError:
        fd = disk.create(DEAD)
        disk.sync_folder()
    try:
        size = at = disk.size(fd)
        try:
            while line:
                count = disk.write(fd, line, at)
                line, at = line[count:], at + count
            disk.sync(fd)
        except OSError:
            with contextlib.suppress(OSError):  # then `mend_dead` does it, at the next start
                disk.truncate(fd, size)
            raise
    finally:
        disk.close(fd)


def mend_dead(disk: Disk) -> None:
    """Take away a torn last line that an earlier run left. Raises OSError."""
    try:
        fd = disk.open(DEAD)
    except FileNotFoundError:
        return
    try:
        size = disk.size(fd)
        tail = disk.read(fd, 1 << 20, max(0, size - (1 << 20)))
        if tail and not tail.endswith(b"\n"):
            disk.truncate(fd, size - len(tail) + tail.rfind(b"\n") + 1)
    finally:
        disk.close(fd)
