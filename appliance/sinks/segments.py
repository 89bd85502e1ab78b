"""Records on disk: a chain of segment files for each priority, and the cursor that says what is done with.

Comes in: numbered records. Goes out: the same in order, after a crash too. Never: a record that counts as written
before the disk has it, or a torn one that stops those around it.

A segment is `p<priority>-<first number>-<n>.seg`, a row of records: magic, length, CRC-32, number, stamp (a header of
28 bytes), payload. One chain for each priority makes "the lowest goes first" the removal of a file: no room is needed
to make room. Several records become one write and one fdatasync for each chain (group commit); after an error the file
is left as it is and a new one begun, as a page that could not be written may read back clean (fsync(2), "EIO").

The cursor is one file of two slots that are written in turn, each with its own CRC: replaced as a whole or not at all,
and without a block more on a full disk.
"""

from __future__ import annotations

import json
import logging
import re
import struct
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice
from threading import RLock

from appliance.model.alert import Priority
from appliance.model.text import why
from appliance.sinks.disk import Disk
from appliance.sinks.errnos import Remedy, remedy

log = logging.getLogger(__name__)

_MAGIC = b"\xf1TRC"
_HEAD = struct.Struct("<4sIIQQ")  # magic, length of the payload, CRC-32 of what follows it, number, stamp
_TAIL = struct.Struct("<QQ")
_NAME = re.compile(r"p(\d)-(\d{20})-(\d+)\.seg\Z")
_MAX_PAYLOAD = 16 << 20
_CHUNK = 1 << 20
CURSOR = "cursor"
_SLOT = struct.Struct("<4sQII")  # magic, version, length, CRC-32
_SLOT_SIZE = 16 << 10
_SLOT_MAGIC = b"\xf1CUR"


@dataclass(frozen=True, slots=True)
class Record:
    """One alert as the disk has it. `stamp_ms` is the spool's own meter: milliseconds for which it has been running."""

    seq: int
    priority: Priority
    stamp_ms: int
    payload: bytes

    def encode(self) -> bytes:
        """The bytes in a segment."""
        tail = _TAIL.pack(self.seq, self.stamp_ms)
        crc = zlib.crc32(self.payload, zlib.crc32(tail))
        return _HEAD.pack(_MAGIC, len(self.payload), crc, self.seq, self.stamp_ms) + self.payload


def scan(data: bytes, priority: Priority) -> Iterator[tuple[int, Record]]:
    """The whole records in the bytes of a segment, each with its offset; what is torn between them is left out."""
    at = 0
    while (at := data.find(_MAGIC, at)) >= 0 and at + _HEAD.size <= len(data):
        _, length, crc, seq, stamp_ms = _HEAD.unpack_from(data, at)
        end = at + _HEAD.size + length
        if length <= _MAX_PAYLOAD and end <= len(data):
            payload = data[at + _HEAD.size : end]
            if zlib.crc32(payload, zlib.crc32(_TAIL.pack(seq, stamp_ms))) == crc:
                yield at, Record(seq, priority, stamp_ms, payload)
                at = end
                continue
        at += 1


@dataclass(slots=True, eq=False)
class Segment:
    """What is known of one file: the numbers and offsets of its records; `size` bytes of it count."""

    name: str
    priority: Priority
    size: int = 0
    stamp_ms: int = 0  # of its newest record
    seqs: array[int] = field(default_factory=lambda: array("Q"))
    offsets: array[int] = field(default_factory=lambda: array("Q"))

    def after(self, seq: int) -> int:
        """How many of its records have a higher number."""
        return len(self.seqs) - bisect_right(self.seqs, seq)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record lies."""

    seq: int
    segment: Segment
    offset: int


@dataclass(slots=True)
class Account:
    """What the cursor file keeps. `done[p]`: the highest number of priority `p` that is done with.

    `seq - base = delivered + dead + dropped + waiting`: `seq` is the last number given, `base` where counting began.
    `gone` names segments that are no longer counted, whether they are still there or not.
    """

    seq: int = 0
    base: int = 0
    delivered: int = 0
    dead: int = 0
    dropped: int = 0
    meter_ms: int = 0
    done: list[int] = field(default_factory=lambda: [0] * len(Priority))
    gone: list[str] = field(default_factory=list)

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}).encode()

    @classmethod
    def decode(cls, data: bytes) -> Account:
        """Undo `encode`. Raises ValueError."""
        value = json.loads(data)
        if not isinstance(value, dict) or set(value) != set(cls.__slots__) or len(value["done"]) != len(Priority):
            raise ValueError("not an account")
        return cls(**value)


def put_bad_aside(disk: Disk, name: str, error: OSError) -> bool:
    """Rename a file that the disk says is broken, so that the others can be read without it; False for another error.

    Raises OSError.
    """
    if remedy(error) is not Remedy.ASIDE:
        return False
    disk.rename(name, f"{name}.bad")
    log.error("spool: %s is broken, renamed to %s.bad: %s", name, name, why(error))
    return True


class CursorFile:
    """The account on disk, in two slots written in turn."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._version = 0

    def load(self, *, give_up: bool = False) -> Account | None:
        """The newest whole account, or None. Raises OSError; with `give_up` a file that is broken is put aside."""
        try:
            slots = self._slots()
        except FileNotFoundError:
            return None
        except OSError as error:
            if not give_up or not put_bad_aside(self._disk, CURSOR, error):
                raise
            return None
        best: Account | None = None
        for data in slots:
            if len(data) < _SLOT.size:
                continue
            magic, version, length, crc = _SLOT.unpack_from(data)
            body = data[_SLOT.size : _SLOT.size + length]
            if magic == _SLOT_MAGIC and zlib.crc32(body) == crc and version > self._version:
                try:
                    best, self._version = Account.decode(body), version
                except (ValueError, KeyError, TypeError):
                    continue
        return best

    def _slots(self) -> list[bytes]:
        fd = self._disk.open(CURSOR, write=False)
        try:
            return [self._disk.read(fd, _SLOT_SIZE, at) for at in (0, _SLOT_SIZE)]
        finally:
            self._disk.close(fd)

    def save(self, account: Account) -> None:
        """Return when the account is on the disk; raises OSError, and then the one before it still is."""
        body = account.encode()
        if len(body) > _SLOT_SIZE - _SLOT.size:  # thousands of names that no unlink took
            raise OSError("the account has outgrown its slot")
        version = self._version + 1
        # the whole slot, so that later ones need no new block
        data = (_SLOT.pack(_SLOT_MAGIC, version, len(body), zlib.crc32(body)) + body).ljust(_SLOT_SIZE, b"\0")
        made = False
        try:
            fd = self._disk.open(CURSOR)
        except FileNotFoundError:
            fd, made = self._disk.create(CURSOR), True
        try:
            _write_all(self._disk, fd, data, _SLOT_SIZE * (version % 2))
            self._disk.sync(fd)
        finally:
            self._disk.close(fd)
        self._version = version
        if made:
            self._disk.sync_folder()


def _write_all(disk: Disk, fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = disk.write(fd, bytes(view), offset)
        view, offset = view[count:], offset + count


class Segments:
    """The chains. One thread writes and removes, one reads; `lock` guards the index between them.

    It is never held over a call to the disk.
    """

    def __init__(self, disk: Disk, lock: RLock, *, segment_bytes: int) -> None:
        self._disk = disk
        self._lock = lock
        self._segment_bytes = segment_bytes
        self._chains: tuple[list[Segment], ...] = tuple([] for _ in Priority)
        self._active: dict[Priority, tuple[Segment, int]] = {}  # being appended to, with its descriptor
        self._reading: dict[str, int] = {}
        self._total = 0
        self.damaged = 0  # stretches of bytes that were no records

    # -- start

    def load(self, account: Account, *, give_up: bool = False) -> None:
        """Read what is there, and remove what is gone by the account. Raises OSError, and may be called again then;
        with `give_up` a segment that is broken is put aside, and its alerts are among those that are missing."""
        self._total = self.damaged = 0
        for chain in self._chains:
            chain.clear()
        left = []
        for name in self._disk.names():
            match = _NAME.match(name)
            if match is None or int(match[1]) >= len(Priority):
                continue
            if name not in account.gone:
                try:
                    self._load(Segment(name, Priority(int(match[1]))))
                except OSError as error:
                    if not give_up or not put_bad_aside(self._disk, name, error):
                        raise
            elif not self._unlinked(name):
                left.append(name)
        account.gone = left

    def _unlinked(self, name: str) -> bool:
        try:
            self._disk.unlink(name)
        except OSError:
            return False
        return True

    def _load(self, segment: Segment) -> None:
        fd = self._disk.open(segment.name, write=False)
        try:
            size = self._disk.size(fd)
            data = b"".join(self._disk.read(fd, _CHUNK, at) for at in range(0, size, _CHUNK))
        finally:
            self._disk.close(fd)
        chain = self._chains[segment.priority]
        newest = chain[-1].seqs[-1] if chain else 0
        end = 0
        for offset, record in scan(data, segment.priority):
            self.damaged += offset != end
            end = offset + _HEAD.size + len(record.payload)
            if record.seq <= newest:  # written a second time after an error
                continue
            newest = record.seq
            segment.seqs.append(record.seq)
            segment.offsets.append(offset)
            segment.stamp_ms = record.stamp_ms
        self.damaged += end != len(data)
        segment.size = size
        if segment.seqs:
            chain.append(segment)
            self._total += segment.size
        else:
            self._unlinked(segment.name)

    # -- the writer's

    @property
    def total_bytes(self) -> int:
        """What the segments take."""
        return self._total

    def append(self, records: Sequence[Record]) -> None:
        """Write and sync records, whose numbers rise. Raises OSError, and then none of them counts as written."""
        chains: dict[Priority, list[Record]] = {}
        for record in records:
            chains.setdefault(record.priority, []).append(record)
        written: list[tuple[Segment, list[int], list[Record], int]] = []
        try:
            for priority, several in chains.items():
                segment, fd = self._writable(priority, several[0].seq)
                parts = [record.encode() for record in several]
                offsets, at = [], segment.size
                for part in parts:
                    offsets.append(at)
                    at += len(part)
                written.append((segment, offsets, several, at))
                _write_all(self._disk, fd, b"".join(parts), segment.size)
            for priority in chains:
                self._disk.sync(self._active[priority][1])
        except OSError:
            for priority in chains:
                self.seal(priority)  # what it holds beyond its size is found twice at the next start, and counts once
            raise
        with self._lock:
            for segment, offsets, several, size in written:
                if not segment.seqs:
                    self._chains[segment.priority].append(segment)
                segment.seqs.extend(record.seq for record in several)
                segment.offsets.extend(offsets)
                segment.stamp_ms = several[-1].stamp_ms
                self._total += size - segment.size
                segment.size = size

    def _writable(self, priority: Priority, seq: int) -> tuple[Segment, int]:
        found = self._active.get(priority)
        if found is not None and found[0].size < self._segment_bytes:
            return found
        self.seal(priority)
        for n in range(1000):
            name = f"p{int(priority)}-{seq:020d}-{n:03d}.seg"
            try:
                fd = self._disk.create(name)
            except FileExistsError:
                continue
            self._active[priority] = made = Segment(name, priority), fd
            self._disk.sync_folder()
            return made
        raise OSError(f"a thousand segments are called p{int(priority)}-{seq:020d}")

    def seal(self, priority: Priority) -> None:
        """Append to this segment no more."""
        found = self._active.pop(priority, None)
        if found is None:
            return
        segment, fd = found
        try:
            if self._disk.size(fd) > segment.size:
                self._disk.truncate(fd, segment.size)
            if not segment.seqs:
                self._disk.unlink(segment.name)
        except OSError:
            return  # found at the next start
        finally:
            self._disk.close(fd)

    def lowest(self) -> Segment | None:
        """What would go first: the oldest segment of the lowest priority."""
        with self._lock:
            return next((chain[0] for chain in reversed(self._chains) if chain), None)

    def older_than(self, stamp_ms: int) -> Segment | None:
        """A segment whose newest record is older."""
        with self._lock:
            return next((chain[0] for chain in self._chains if chain and chain[0].stamp_ms < stamp_ms), None)

    def forget(self, segment: Segment) -> None:
        """Count a segment no more; its file is for `remove`. The lock is held."""
        self._chains[segment.priority].remove(segment)
        self._total -= segment.size

    def remove(self, name: str) -> None:
        """Remove the file of a forgotten segment. Raises OSError."""
        for priority, (segment, _) in list(self._active.items()):
            if segment.name == name:
                self.seal(priority)
        try:
            self._disk.unlink(name)
        except FileNotFoundError:
            return

    # -- the reader's

    def waiting(self, done: Sequence[int]) -> int:
        """How many records have a number above what is done with, counted one segment after the other."""
        with self._lock:
            return sum(segment.after(done[segment.priority]) for chain in self._chains for segment in chain)

    def last_seq(self) -> int:
        """The highest number on the disk."""
        with self._lock:
            return max((chain[-1].seqs[-1] for chain in self._chains if chain), default=0)

    def newest_stamp_ms(self) -> int:
        """The meter's highest reading on the disk."""
        with self._lock:
            return max((chain[-1].stamp_ms for chain in self._chains if chain), default=0)

    def plan(self, priorities: Iterable[int], done: Sequence[int], limit: int) -> list[Place]:
        """Where the next records of these priorities lie, in order. The lock is held."""
        return list(islice(merge(*(self._after(p, done[p]) for p in priorities), key=lambda place: place.seq), limit))

    def _after(self, priority: int, seq: int) -> Iterator[Place]:
        for segment in self._chains[priority]:
            start = bisect_right(segment.seqs, seq)
            for i in range(start, len(segment.seqs)):
                yield Place(segment.seqs[i], segment, segment.offsets[i])

    def any_after(self, priorities: Iterable[int], done: Sequence[int]) -> bool:
        """Whether `plan` would find any. The lock is held."""
        return any(chain and chain[-1].seqs[-1] > done[p] for p in priorities for chain in [self._chains[p]])

    def fetch(self, place: Place) -> Record | None:
        """Read one record; None where its bytes are damaged or gone. Raises OSError where the disk does not answer."""
        name = place.segment.name
        fd = self._reading.get(name)
        if fd is None:
            try:
                fd = self._reading[name] = self._disk.open(name, write=False)
            except FileNotFoundError:
                return None
        data = self._disk.read(fd, 4096, place.offset)
        if len(data) >= _HEAD.size:
            size = _HEAD.size + _HEAD.unpack_from(data)[1]
            if len(data) < size <= _HEAD.size + _MAX_PAYLOAD:
                data = self._disk.read(fd, size, place.offset)
            for offset, record in scan(data[:size], place.segment.priority):
                if offset == 0 and record.seq == place.seq:
                    return record
        return None

    def stop_reading(self) -> None:
        """Close what was opened to read: a file that is removed meanwhile takes room until then."""
        while self._reading:
            self._disk.close(self._reading.popitem()[1])

    def finished(self, done: Sequence[int]) -> list[Segment]:
        """Segments of which nothing waits: all of a chain's first ones."""
        with self._lock:
            found = []
            for p, chain in enumerate(self._chains):
                for segment in chain:
                    if segment.seqs[-1] > done[p]:
                        break
                    found.append(segment)
            return found

    def is_active(self, segment: Segment) -> bool:
        """Whether records are still appended to it. Asked by the writer."""
        return any(segment is active for active, _ in self._active.values())

    def close(self) -> None:
        """Close what is written to."""
        for priority in list(self._active):
            self.seal(priority)
