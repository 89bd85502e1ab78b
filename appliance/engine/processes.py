"""The table of processes: who lives, who has ended and may still be asked about, and who is whose child.

Comes in: entries, made by the state. Goes out: the entry of a process, its ancestors. Never: a process that is taken
for another of the same pid, or more of them than there is room for.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

from appliance.engine.places import Place
from appliance.model.event import NO_PROCESS, Process

Key = tuple[int, int]

TICK_NS = 10_000_000  # /proc tells a start in ticks of USER_HZ, always 100 for programs
_DEPTH = 256  # longest chain of ancestors
_RECENT = 512  # ended processes that stay known without living children: for events that come late


class Entry:
    """A process in the table. `key` names it for good; `start_ns` becomes exact once the kernel has told it."""

    __slots__ = ("children", "exact", "key", "parent", "place", "process", "recent", "start_ns", "unlinked")

    def __init__(self, process: Process, place: Place, *, exact: bool) -> None:
        self.process = process
        self.place = place
        self.key: Key = (process.pid, process.start_ns)
        self.start_ns = process.start_ns
        self.exact = exact
        self.parent: Key | None = None
        self.unlinked = True  # the parent has not been looked for
        self.children = 0  # entries that name this one as their parent
        self.recent = False  # ended, and among the last `_RECENT` that did

    def started_at(self, start_ns: int) -> bool:
        """True if that start can be its own: to the nanosecond, or to the tick where /proc told it."""
        if self.exact:
            return self.start_ns == start_ns
        return self.start_ns <= start_ns < self.start_ns + TICK_NS


class Processes:
    """Living and ended processes. One writer: the state."""

    def __init__(
        self, read: Callable[[int], Entry | None], *, most: int, most_ended: int, missing: Counter[str]
    ) -> None:
        """`read(pid)` makes the entry of a parent that is not in the table, None where there is none. At most `most`
        living and `most_ended` ended ones are kept; `missing` counts what is absent for it."""
        self.live: dict[int, Entry] = {}
        self._read = read
        self._most = most
        self._most_ended = most_ended
        self._missing = missing
        self._ended: dict[Key, Entry] = {}
        self._recent: deque[Key] = deque()

    def add(self, entry: Entry) -> Entry:
        """A process that lives; one of the same pid has ended then."""
        before = self.live.get(entry.process.pid)
        if before is not None:  # its exit was lost
            self._missing["end of a process not seen"] += 1
            self.end(before)
        elif len(self.live) >= self._most:
            self._missing["process table full"] += 1
            self.end(next(iter(self.live.values())))
        self.live[entry.process.pid] = entry
        return entry

    def end(self, entry: Entry) -> None:
        """It lives no more; for a while it can be asked about."""
        del self.live[entry.process.pid]
        self._ended[entry.key] = entry
        self._recent.append(entry.key)
        entry.recent = True
        if len(self._recent) > _RECENT:
            oldest = self._recent.popleft()
            if oldest in self._ended:
                self._ended[oldest].recent = False
                self._forget(oldest)
        if len(self._ended) > self._most_ended:
            self._missing["table of ended processes full"] += 1
            self._drop(next(iter(self._ended)))

    def ended(self, pid: int, start_ns: int) -> Entry | None:
        """An ended process by its exact start, or by that start as /proc had told it when the key was made."""
        found = self._ended.get((pid, start_ns)) or self._ended.get((pid, start_ns - start_ns % TICK_NS))
        return found if found is not None and (found.start_ns == start_ns or not found.exact) else None

    def ancestor(self, process: Process, n: int) -> Process:
        """The n-th ancestor of a process as it is known now: 0 is the process itself, `NO_PROCESS` above the first."""
        if n <= 0 or process.pid < 0:
            return process if n == 0 else NO_PROCESS
        entry = self._entry_of(process)
        for _ in range(n):
            if entry is None:
                return NO_PROCESS
            entry = self._parent_of(entry)
        return NO_PROCESS if entry is None else entry.process

    def chain(self, process: Process) -> tuple[Process, ...]:
        """The process and its ancestors as they are now, nearest first."""
        chain = [process]
        entry = self._entry_of(process)
        for _ in range(_DEPTH):
            entry = self._parent_of(entry) if entry is not None else None
            if entry is None:
                break
            chain.append(entry.process)
        return tuple(chain)

    def link(self, entry: Entry, parent: Entry) -> None:
        """Make it the child of another."""
        entry.unlinked = False
        entry.parent = parent.key
        parent.children += 1

    def unlink(self, entry: Entry) -> None:
        """Its parent is to be looked for anew."""
        parent = self._at(entry.parent)
        entry.parent, entry.unlinked = None, True
        if parent is None:
            return
        parent.children -= 1
        if parent.children == 0 and parent.key in self._ended and not parent.recent:
            self._forget(parent.key)

    def _forget(self, key: Key) -> None:
        """Drop an ended process that nobody descends from, and those above it that only it kept."""
        next_: Key | None = key
        while next_ is not None:
            entry = self._ended.get(next_)
            if entry is None or entry.children > 0:
                return
            next_ = self._drop(next_)

    def _drop(self, key: Key) -> Key | None:
        """Drop an ended process; gives its parent's key if the parent has ended too and is not a recent one."""
        entry = self._ended.pop(key)
        parent = self._at(entry.parent)
        if parent is None:
            return None
        parent.children -= 1
        return parent.key if parent.children == 0 and parent.key in self._ended and not parent.recent else None

    def _entry_of(self, process: Process) -> Entry | None:
        entry = self.live.get(process.pid)
        if entry is not None and (entry.start_ns == process.start_ns or entry.key[1] == process.start_ns):
            return entry
        return self.ended(process.pid, process.start_ns)

    def _at(self, key: Key | None) -> Entry | None:
        if key is None:
            return None
        entry = self.live.get(key[0])
        if entry is not None and entry.key == key:
            return entry
        return self._ended.get(key)

    def _parent_of(self, entry: Entry) -> Entry | None:
        if entry.unlinked:
            entry.unlinked = False
            ppid = entry.process.ppid
            if ppid and ppid > 0:
                parent = self.live.get(ppid) or self._read_parent(ppid)
                if parent is not None and parent is not entry and parent.start_ns <= entry.start_ns + TICK_NS:
                    self.link(entry, parent)
                else:
                    self._missing["parent not known"] += 1
        return self._at(entry.parent)

    def _read_parent(self, pid: int) -> Entry | None:
        entry = self._read(pid)
        return None if entry is None else self.add(entry)
