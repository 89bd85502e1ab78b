"""The table of processes: who lives, who has ended and may still be asked about, and who is whose child.

Comes in: entries, made by the state. Goes out: the entry of a process, its ancestors. Never: a process that is taken
for another of the same pid, or more of them than there is room for.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from itertools import islice

from appliance.engine.places import Place
from appliance.model.event import MAX_LINE, NO_PROCESS, Event, Line, Process

Key = tuple[int, int]

TICK_NS = 10_000_000  # /proc tells a start in ticks of USER_HZ, always 100 for programs
_LEAVES = 64  # of the youngest processes, looked at for one without children
_RECENT = 512  # ended processes that stay known without living children: for events that come late


class Entry:
    """A process in the table. `key` names it for good; `start_ns` becomes exact once the kernel has told it."""

    __slots__ = (
        "children", "exact", "gone", "heir", "key", "parent", "place", "process", "reaper", "reaps", "recent",
        "start_ns", "unlinked",
    )  # fmt: skip

    def __init__(self, process: Process, place: Place, *, exact: bool) -> None:
        self.process = process
        self.place = place
        self.key: Key = (process.pid, process.start_ns)
        self.start_ns = process.start_ns
        self.exact = exact
        self.parent: Entry | None = None  # by birth
        self.reaper: Entry | None = None  # who is its parent now that the one by birth has ended
        self.heir: Entry | None = None  # who got its children when it ended, as the kernel said
        self.reaps = False  # a subreaper, as far as we saw it become one (PR_SET_CHILD_SUBREAPER)
        self.unlinked = True  # the parent has not been looked for
        self.children = 0  # entries that name this one as their parent
        self.recent = False  # ended, and among the last `_RECENT` that did
        self.gone = False  # dropped from the table: nobody's ancestor any more

    def started_at(self, start_ns: int) -> bool:
        """True if that start can be its own: to the nanosecond, or to the tick where /proc told it."""
        if self.exact:
            return self.start_ns == start_ns
        return self.start_ns <= start_ns < self.start_ns + TICK_NS


class Processes:
    """Living and ended processes. One writer: the state."""

    def __init__(
        self,
        read: Callable[[int], Entry | None],
        *,
        most: int,
        most_ended: int,
        missing: Counter[str],
        ended: Callable[[Entry], None] = lambda entry: None,
        parent_now: Callable[[int, int], int | None] = lambda pid, start_ns: None,
    ) -> None:
        """`read(pid)` makes the entry of a parent that is not in the table, None where there is none. At most `most`
        living and `most_ended` ended ones are kept; `missing` counts what is absent for it; `ended` is called with each
        that has ended; `parent_now(pid, start_ns)` gives the number of that process's parent as the kernel says it now,
        None for one that has ended."""
        self._parent_now = parent_now
        self.live: dict[int, Entry] = {}
        self._read = read
        self._most = most
        self._most_ended = most_ended
        self._missing = missing
        self._tell_ended = ended
        self._ended: dict[Key, Entry] = {}
        self._recent: deque[Key] = deque()
        self._line_num = -1
        self._line = Line(NO_PROCESS)

    def add(self, entry: Entry) -> Entry:
        """A process that lives; one of the same pid has ended then."""
        before = self.live.get(entry.process.pid)
        if before is not None:  # its exit was lost
            self._missing["end of a process not seen"] += 1
            self.end(before)
        elif len(self.live) >= self._most:
            self._missing["process table full"] += 1
            self.end(self._youngest_leaf())
        self.live[entry.process.pid] = entry
        return entry

    def _youngest_leaf(self) -> Entry:
        """The entry to give up where there is no room: whoever fills the table made the youngest, and the chains of all
        others stay whole. A bounded number is looked at."""
        some = tuple(islice(reversed(self.live.values()), _LEAVES))
        return next((entry for entry in some if not entry.children), some[0])

    def end(self, entry: Entry) -> None:
        """Move a process to the ended ones: look-ups still find it for a while."""
        del self.live[entry.process.pid]
        self._tell_ended(entry)
        if entry.key in self._ended:
            self._drop(entry.key)
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

    def line(self, event: Event) -> Line:
        """The process of an event and its ancestors as they are now. It is walked once for an event: the last one's is
        kept."""
        if event.num != self._line_num or self._line[0] is not event.process:
            self._line_num, self._line = event.num, Line(event.process, self._above(event.process))
        return self._line

    def births(self, process: Process) -> Line:
        """A process and those by whom it and they were born, whether these live or not."""
        return Line(process, self._above(process, by_birth=True))

    def _above(self, process: Process, *, by_birth: bool = False) -> Iterator[Process]:
        entry = self._entry_of(process) if process.pid >= 0 else None
        while entry is not None:
            parent = self._parent_of(entry) if entry.unlinked or entry.parent is None else entry.parent
            if not by_birth and (parent is None or self.live.get(parent.process.pid) is not parent):
                parent = self._reaper_of(entry, parent)
            if parent is None or parent.gone:
                return
            yield parent.process
            entry = parent

    def _nearest_reaper(self, elder: Entry | None) -> Entry | None:
        for _ in range(MAX_LINE):
            if elder is None:
                break
            if elder.reaps and self.live.get(elder.process.pid) is elder:
                return elder
            elder = elder.parent
        return self.live.get(1)

    def _reaper_of(self, entry: Entry, parent: Entry | None) -> Entry | None:
        """The parent of a process whose parent has ended: the kernel gave it another, and said which at that end. Where
        that was not heard, /proc is asked once for each time it happens; of a process that has ended itself, or is
        about to be given another, the nearest subreaper that is known above it is taken, else the first process; as
        the kernel does (find_new_reaper)."""
        reaper = entry.reaper
        if reaper is not None and self.live.get(reaper.process.pid) is reaper:
            return reaper
        heir = parent
        for _ in range(MAX_LINE):
            heir = None if heir is None else heir.heir
            if heir is None:
                break
            if self.live.get(heir.process.pid) is heir:
                entry.reaper = heir
                return heir
        if self.live.get(entry.process.pid) is entry:
            number = self._parent_now(entry.process.pid, entry.start_ns)
            if number is not None and (parent is None or number != parent.process.pid):
                entry.reaper = self.live.get(number) or (self._read_parent(number) if number > 0 else None)
                return entry.reaper
        if parent is None:
            return None
        found = self._nearest_reaper(parent)
        return parent if found is None or found is entry else found

    def link(self, entry: Entry, parent: Entry) -> None:
        """Make it the child of another."""
        entry.unlinked = False
        entry.parent = parent
        parent.children += 1

    def unlink(self, entry: Entry) -> None:
        """Its parent is to be looked for anew."""
        parent = entry.parent
        entry.parent, entry.unlinked = None, True
        if parent is None:
            return
        parent.children -= 1
        if parent.children == 0 and not parent.recent and self._ended.get(parent.key) is parent:
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
        entry.gone, entry.heir = True, None
        parent, entry.parent = entry.parent, None
        if parent is None:
            return None
        parent.children -= 1
        ended = self._ended.get(parent.key) is parent
        return parent.key if parent.children == 0 and ended and not parent.recent else None

    def _entry_of(self, process: Process) -> Entry | None:
        entry = self.live.get(process.pid)
        if entry is not None and (entry.start_ns == process.start_ns or entry.key[1] == process.start_ns):
            return entry
        return self.ended(process.pid, process.start_ns)

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
        parent = entry.parent
        if parent is not None and parent.gone:
            entry.parent = parent = None
        return parent

    def _read_parent(self, pid: int) -> Entry | None:
        entry = self._read(pid)
        return None if entry is None else self.add(entry)
