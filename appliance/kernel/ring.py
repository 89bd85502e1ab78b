"""The kernel's ring buffer, read where it lies.

Comes in: the descriptor of a BPF ring buffer map. Goes out: decoded records. Never: a wait (the caller polls).

Mapped directly, reading costs a third of bcc's callback per record. Layout (kernel/bpf/ringbuf.c): one page with the
reader's position, one with the writer's, then the data twice in a row so that no record wraps; of the second only the
beginning is mapped, as far as a record can reach, for each mapped page counts as memory of ours. A record begins with
a u32: length, and two bits for "being written" and "given up". Positions and headers are read by plain loads, without
an acquire barrier, which Python does not offer: right on x86_64, which keeps the order of loads, and not on arm64,
where `kernel.probe` therefore refuses to start (`READS_IN_ORDER`)."""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Callable
from typing import Final

from appliance.catalog.events import OPENS
from appliance.kernel.decode import BY_NUMBER, Decoder
from appliance.kernel.layout import NUMBERS, TYPE_AT
from appliance.model.event import EventType, RawEvent

Skip = Callable[[int, memoryview], bool]
HOT: Final = frozenset(NUMBERS[t] for t in OPENS)
"""Numbers of the types that a `Skip` is asked about: the others are too few to matter."""

READS_IN_ORDER: Final = frozenset({"x86"})
"""Architectures (`Arch.name`) whose processors do not reorder a load before an earlier one (Intel SDM 3A, 8.2.2)."""

_TYPES: Final = {number: type_ for type_, number in NUMBERS.items()}
_BUSY: Final = 1 << 31
_DISCARDED: Final = 1 << 30
_LENGTH: Final = _DISCARDED - 1
_HEADER: Final = 8
_REACH: Final = 1 << 16  # more than ROOM + TEXT_MAX of bpf/base.h, the longest record


class Ring:
    """A mapped ring buffer. `undecodable` counts records that did not fit their layout: a bug of ours, and a loss;
    `skipped` those that were left out on demand."""

    def __init__(self, fd: int, size: int) -> None:
        """Map the ring of `size` bytes. Raises OSError."""
        page = mmap.PAGESIZE
        self._consumer = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._producer = mmap.mmap(fd, page + size + min(size, _REACH), mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._read_at = memoryview(self._consumer).cast("Q")
        self._written_to = memoryview(self._producer)[:8].cast("Q")
        self._data = memoryview(self._producer)[page:]
        self._words = self._data.cast("I")
        self._mask = size - 1
        self.undecodable = 0
        self.skipped = 0
        self.last_error = ""

    @property
    def empty(self) -> bool:
        """True when nothing waits to be read."""
        return self._read_at[0] == self._written_to[0]

    @property
    def read_bytes(self) -> int:
        """Bytes that have been read."""
        return self._read_at[0]

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait to be read."""
        return self._written_to[0] - self._read_at[0]

    def read(self, limit: int, skip: Skip | None = None) -> list[RawEvent]:
        """Decode at most `limit` records that are complete, oldest first, and free their room. Those that `skip` says
        yes to, asked with a record's number and the record, are left out; eight times as many may be."""
        position, end = self._read_at[0], self._written_to[0]
        words, data, mask = self._words, self._data, self._mask
        decoders: tuple[Decoder, ...] = BY_NUMBER
        batch: list[RawEvent] = []
        add = batch.append
        skipped, most = 0, 8 * limit
        while position < end and limit:
            at = position & mask
            header = words[at >> 2]
            if header & _BUSY:
                break
            length = header & _LENGTH
            if not header & _DISCARDED:
                start = at + _HEADER
                number = words[(start + TYPE_AT) >> 2] & 0xFFFF  # the CPU's number shares the word
                record = data[start : start + length]
                if skip is not None and number in HOT and skip(number, record):
                    position += (length + _HEADER + 7) & ~7
                    skipped += 1
                    if skipped >= most:
                        break
                    continue
                try:
                    add(decoders[number](record))
                except Exception as error:  # whatever a record holds: the next one is read
                    self.undecodable += 1
                    self.last_error = f"record of {length} bytes, type {number}: {error}"
            position += (length + _HEADER + 7) & ~7
            limit -= 1
        self._read_at[0] = position
        self.skipped += skipped
        return batch

    def discard(self) -> Counter[EventType]:
        """Free what waits without decoding it; says how many records of each type that was."""
        position, end = self._read_at[0], self._written_to[0]
        words, mask = self._words, self._mask
        numbers: Counter[int] = Counter()
        while position < end:
            at = position & mask
            header = words[at >> 2]
            if header & _BUSY:
                break
            if not header & _DISCARDED:
                numbers[words[(at + _HEADER + TYPE_AT) >> 2] & 0xFFFF] += 1
            position += ((header & _LENGTH) + _HEADER + 7) & ~7
        self._read_at[0] = position
        known = {number: count for number, count in numbers.items() if number in _TYPES}
        self.undecodable += numbers.total() - sum(known.values())
        return Counter({_TYPES[number]: count for number, count in known.items()})

    def close(self) -> None:
        """Unmap."""
        for view in (self._words, self._data, self._written_to, self._read_at):
            view.release()
        self._producer.close()
        self._consumer.close()
