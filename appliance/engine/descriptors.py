"""What descriptors are, for the close that the kernel tells of when they are gone.

Comes in: what events say of a process's descriptors, and what ends them: a close, an exec, the process's end. Goes out:
what a closed one was, None where that is not known. Never: another process's descriptor, or one that had the number
before; where an event may have been missed, nothing is known.

Remembering costs a table look-up for each open, so it is done only while a rule needs it (`wanted`).
"""

from __future__ import annotations

from typing import NamedTuple

from appliance.engine.processes import Entry, Key
from appliance.model.event import Fd


class _Kept(NamedTuple):
    fd: Fd
    survives: bool  # an exec, as far as is known


class Descriptors:
    """By process, named for good by its entry's key, and number. `most` are kept over all processes: the one not heard
    of for longest is forgotten first. One writer: the state."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._wanted = False
        self._kept: dict[tuple[Key, int], _Kept] = {}
        self._numbers: dict[Key, set[int]] = {}
        self._sharing: set[Key] = set()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def wanted(self) -> bool:
        """Whether anything is remembered."""
        return self._wanted

    def want(self, wanted: bool) -> None:
        """Remember from now on, or forget all and remember no more."""
        if self._wanted and not wanted:
            self.forget()
        self._wanted = wanted

    def forget(self) -> None:
        """Events may have been missed: whatever is known may be wrong."""
        self._kept.clear()
        self._numbers.clear()

    def note(self, entry: Entry, fd: Fd, survives: bool | None = None) -> None:
        """What a descriptor of a process is. `survives`: whether it stays open at an exec; None where the event does
        not say so, and then what was known of the descriptor stands."""
        key, num = entry.key, fd.num
        if num is None or num < 0 or key in self._sharing:
            return
        at = key, num
        before = self._kept.pop(at, None)
        if survives is None:
            survives = before is not None and before.survives
        self._kept[at] = _Kept(fd, survives)
        if before is None:
            self._numbers.setdefault(key, set()).add(num)
            if len(self._kept) > self._most:
                self._drop(*next(iter(self._kept)))

    def of(self, entry: Entry, num: int) -> Fd | None:
        """What is remembered of an open one."""
        kept = self._kept.get((entry.key, num))
        return None if kept is None else kept.fd

    def closed(self, entry: Entry, num: int) -> Fd | None:
        """It is closed: what it was."""
        kept = self._drop(entry.key, num)
        return None if kept is None else kept.fd

    def closed_range(self, entry: Entry, first: int, last: int) -> None:
        """All from the first number to the last are closed."""
        for num in [n for n in self._numbers.get(entry.key, ()) if first <= n <= last]:
            self._drop(entry.key, num)

    def mark(self, entry: Entry, num: int, *, survives: bool) -> None:
        """Whether it stays open at an exec was changed."""
        at = entry.key, num
        if (kept := self._kept.get(at)) is not None:
            self._kept[at] = kept._replace(survives=survives)

    def executed(self, entry: Entry) -> None:
        """Another program runs: what is closed then is gone, and so is what may be."""
        self._sharing.discard(entry.key)  # an exec takes a table of its own (execve(2))
        for num in [n for n in self._numbers.get(entry.key, ()) if not self._kept[entry.key, n].survives]:
            self._drop(entry.key, num)

    def shared(self, *entries: Entry) -> None:
        """These processes have one table of descriptors (CLONE_FILES): what one does to it the other's events do not
        tell."""
        for entry in entries:
            self.ended(entry)
            self._sharing.add(entry.key)

    def ended(self, entry: Entry) -> None:
        """The process has ended."""
        self._sharing.discard(entry.key)
        for num in tuple(self._numbers.get(entry.key, ())):
            self._drop(entry.key, num)

    def _drop(self, key: Key, num: int) -> _Kept | None:
        kept = self._kept.pop((key, num), None)
        if kept is not None:
            numbers = self._numbers[key]
            numbers.discard(num)
            if not numbers:
                del self._numbers[key]
        return kept
