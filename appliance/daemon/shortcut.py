"""Opens that no rule can hold on, known again by their bytes.

Comes in: records of opens, before they are decoded. Goes out: whether one can be passed over. Never: a record that a
rule could hold on, that the state would learn from, or that goes uncounted.

Most opens on most machines are the same ones again: libraries, caches, settings. What rules ask of an open's arguments
(`codegen.pushdown`) is found out when its bytes come a second time. Where that says that no rule can hold, whoever does
it, those that follow cost a look into a table: a fraction of what decoding, state and rules would take. The key is all
of the record but for its head and the inode; what the head tells is looked at here, or by no weakened rule. Where few
come again (somebody walks a tree), nothing is looked up for a while.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from typing import Final

from appliance.catalog.events import OPENS
from appliance.engine.ruleset import Ruleset
from appliance.engine.state import State
from appliance.host.faults import Faults
from appliance.kernel.decode import BY_NUMBER
from appliance.kernel.layout import HEAD_SIZE, LAYOUTS, NUMBERS
from appliance.model.event import Account, Container, EventType, RawEvent

_HEAD: Final = struct.Struct("=8xQqI16xI")  # of kernel.layout.HEAD: start_ns, res, pid, via
_ONCE, _MAY, _HARMLESS = range(3)
_KEYS: Final = 8192
_KEY_BYTES: Final = 512  # a longer one is judged each time
_WINDOW, _PAUSE, _WORTH = 4096, 32_768, 8  # it rests so long when of a window less than one in eight was passed over
_TYPES: Final = {NUMBERS[t]: t for t in OPENS}
# the inode, another one for each file of /proc, stands first
_KEY_AT: Final = {n: HEAD_SIZE + (8 if LAYOUTS[t].places.get("ino") == HEAD_SIZE else 0) for n, t in _TYPES.items()}


class _Nobody:
    """Accounts of nobody: weakened rules do not ask for any."""

    def user(self, uid: int, container: Container, pid: int) -> Account:
        """That number."""
        return Account(uid)

    group = user


class Shortcut:
    """On the loop's thread alone. `on` says whether anything may be passed over; `knows` whether a process is known by
    pid and start (`State.knows`)."""

    def __init__(self, ruleset: Ruleset, knows: Callable[[int, int], bool], *, faults: Faults | None = None) -> None:
        self.on = True
        self._faults = Faults() if faults is None else faults
        self._knows = knows
        self._passed: Counter[int] = Counter()
        self._asked = self._gained = self._rest = 0
        self._state = State(
            accounts=_Nobody(), read_process=lambda pid: None, ask_container=lambda *_: None, wall_offset_ns=0
        )
        self.adopt(ruleset)

    def adopt(self, ruleset: Ruleset) -> None:
        """Forget what another ruleset said."""
        self._may_fire = ruleset.may_fire
        self._verdicts: dict[tuple[int, int], dict[bytes, int]] = {}
        self._keys = 0

    def skip(self, number: int, record: memoryview) -> bool:
        """True for a record that was counted and needs no more. An error of ours passes nothing over."""
        try:
            return self._skip(number, record)
        except Exception:
            self._faults.caught("shortcut")
            return False

    def _skip(self, number: int, record: memoryview) -> bool:
        if self._rest:
            self._rest -= 1
            return False
        if not self.on or len(record) > _KEY_BYTES:
            return False
        self._asked += 1
        if self._asked == _WINDOW:
            self._rest = 0 if self._gained * _WORTH >= _WINDOW else _PAUSE
            self._asked = self._gained = 0
        start_ns, res, pid, via = _HEAD.unpack_from(record)
        if via or 0 <= res <= 2:  # a standard stream is a fact of its process
            return False
        kind = number, res if res < 0 else 0
        key = record[_KEY_AT[number] :].tobytes()
        try:
            verdict = self._verdicts[kind].get(key)
        except KeyError:
            self._verdicts[kind] = {}
            verdict = None
        if verdict == _HARMLESS and self._knows(pid, start_ns):
            self._passed[number] += 1
            self._gained += 1
            return True
        if verdict is None:
            self._note(kind, key)
        elif verdict == _ONCE:
            self._verdicts[kind][key] = self._judged(number, record)
        return False

    def taken(self) -> Counter[EventType]:
        """How many were passed over since the last call, by type."""
        if not self._passed:
            return Counter()
        counts = Counter({_TYPES[number]: count for number, count in self._passed.items()})
        self._passed.clear()
        return counts

    def _note(self, kind: tuple[int, int], key: bytes) -> None:
        if self._keys >= _KEYS:  # what still comes is soon known again
            self._verdicts = {kind: {}}
            self._keys = 0
        self._verdicts[kind][key] = _ONCE
        self._keys += 1

    def _judged(self, number: int, record: memoryview) -> int:
        try:
            raw: RawEvent = BY_NUMBER[number](record)
        except (ValueError, struct.error):  # counted where it is read
            return _MAY
        state = self._state
        raw = raw._replace(pid=1, tid=1, start_ns=1)
        if not state.processes:  # which is a fact that is absent, too
            state.apply(raw)
        before = sum(state.missing.values())
        event = state.apply(raw)
        if event is None or sum(state.missing.values()) != before:  # a fact is absent: that is counted each time
            return _MAY
        return _MAY if self._may_fire(event) else _HARMLESS
