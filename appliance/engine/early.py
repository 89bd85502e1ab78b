"""What the kernel may drop of opens: a table that it asks before it makes a record.

Comes in: the rules that are judged, and how a check is judged. Goes out: an `Early`: pieces of paths with sets of
classes of opens. Never: a set that lacks the class of an open on which a rule can hold.

What the table says of an open depends on its arguments and on whether it failed, on nothing else: not on who makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from appliance.catalog.events import EVENTS, OPENS
from appliance.catalog.narrow import specialise
from appliance.catalog.opens import ALL, CLASSES, CREATE, FAILED, FOLDER, HIDDEN, WRITE, classes_with, flags_of
from appliance.codegen.reach import ENDS, ODD, REAL, Reach, Says, all_of, joined, reach_of
from appliance.model.event import Event, EventType, Fd, Process
from appliance.model.expr import Check, FieldRef, Word
from appliance.model.field import Operator
from appliance.model.rule import Rule

KEY_BYTES: Final = 192
"""Of a path that is looked up, its NUL included; of a longer one nothing is known."""

MOST_ENTRIES: Final = 65_536
_SHORTER: Final = (KEY_BYTES, 96, 64, 48, 32, 24, 16, 12, 8, 4, 2, 1)

Judged = Callable[[Check, EventType], Callable[[Event], bool]]

_OF_CLASS: Final = frozenset(
    {
        "evt.is_open_read", "evt.is_open_write", "evt.is_open_create", "evt.failed", "fd.type", "fd.typechar",
    }
)  # fmt: skip
_RESULTS: Final = frozenset({"evt.rawres", "fd.num"})
_SUCCEEDED: Final = frozenset({(Operator.GE, "0"), (Operator.GT, "-1")})
_FAILED_ONLY: Final = frozenset({(Operator.LT, "0"), (Operator.LE, "-1")})
_UNKNOWN: Final = Says()
_FAILURES: Final = classes_with(FAILED)
_HIDDEN: Final = classes_with(HIDDEN)
_CREATES: Final = classes_with(CREATE)
_OF_CREAT: Final = sum(1 << n for n in range(CLASSES) if n & ~(HIDDEN | FAILED) == WRITE | CREATE)
_ROOTS: Final = (ENDS, REAL, b"/")


@dataclass(frozen=True, slots=True)
class Early:
    """What is kept of opens. `entries`: by piece (`codegen.reach`), the classes of opens that some rule can hold on
    where a path has it. Of what a path begins with the longest piece counts, and holds what the shorter ones hold; of
    what it ends with, too. A path that is not plain and absolute has the empty piece alone, which holds all
    classes that any rule can hold on. `ends` and `real` are the classes that any piece of these kinds holds.
    `weakened`: pieces were cut, as there were more than fit."""

    entries: Mapping[bytes, int]
    ends: int = 0
    real: int = 0
    weakened: bool = False

    def keeps(self, number: int, path: bytes | None, real: bytes | None = None) -> bool:
        """Whether an open of a class is kept. `path` is None where it is not plain and absolute or not readable; `real`
        is the name of the file that it gave, None where it gave none."""
        if path is None or len(path) >= KEY_BYTES:
            classes = self.entries[b""]
        else:
            classes = self._longest(path + b"\0") | self._longest(ENDS + path[::-1])
            if real is not None:
                classes |= self.entries.get(REAL + real + b"\0", 0)
        return bool(classes >> number & 1)

    def _longest(self, key: bytes) -> int:
        while key not in self.entries:
            key = key[:-1]
        return self.entries[key]


def plain(path: bytes) -> bool:
    """Whether the kernel looks a path up: absolute, without `//`, `..` and `/./`, no slash or `/.` at its end."""
    behind = path + b"\0"
    return path[:1] == b"/" and not any(part in behind for part in (b"//", b"..", b"/./", b"/.\0", b"/\0"))


def early_of(rules: Iterable[Rule], judged: Judged) -> Early:
    """The table for rules, all of which are judged."""
    known: dict[tuple[Check, EventType], Says] = {}
    reaches: list[Reach] = []
    for type_ in sorted(OPENS, key=lambda t: t.value):
        whole = _OF_CREAT if type_ is EventType.CREAT else ALL

        def says(check: Check, type_: EventType = type_) -> Says:
            key = check, type_
            if key not in known:
                known[key] = _says(check, type_, judged)
            return known[key]

        for rule in rules:
            if type_ in rule.event_types:
                reach = reach_of(specialise(rule.condition, type_), says)
                reaches.append({beginning: classes & whole for beginning, classes in reach.items()})
    return _table(joined(reaches))


def _says(check: Check, type_: EventType, judged: Judged) -> Says:
    left, right = check.left, check.right
    if not isinstance(left, FieldRef) or left.arg is not None or not isinstance(right, Word | tuple | None):
        return _UNKNOWN
    if left.name in _RESULTS and isinstance(right, Word) and check.quantifier is None:
        at = check.op, right.text
        classes = ALL & ~_FAILURES if at in _SUCCEEDED else _FAILURES if at in _FAILED_ONLY else None
        return _UNKNOWN if classes is None else Says(classes, classes)
    if left.name == "evt.res" and check.op in (Operator.EQ, Operator.IN) and check.quantifier is None:
        held = _held(check, type_, judged) & ~_FAILURES  # of an error the name is not known
        words = right if isinstance(right, tuple) else (right,)
        only_success = all(word is not None and word.text == "SUCCESS" for word in words)
        return Says(held | (0 if only_success else _FAILURES), held)
    if (left.name, check.op, right) == ("evt.is_open_exec", Operator.EQ, Word("true")):
        return Says(_CREATES, 0)
    if left.name in _OF_CLASS:
        held = _held(check, type_, judged)
        return Says(held, held)
    return _UNKNOWN


def _held(check: Check, type_: EventType, judged: Judged) -> int:
    """The classes on whose opens a check holds that looks at nothing else."""
    judge = judged(check, type_)
    return sum(1 << number for number in range(CLASSES) if judge(_event(type_, number)))


def _event(type_: EventType, number: int) -> Event:
    """An open of a class, as `engine.state` makes it."""
    flags, res = flags_of(number)
    facts: dict[str, object] = {"flags": flags, "mode": 0o644}
    params = tuple(facts.get(param.name, 0) for param in EVENTS[type_].stored)
    word, letter = ("directory", "d") if number & FOLDER and type_ is not EventType.CREAT else ("file", "f")
    fd = Fd(res if res >= 0 else -1, word, letter, "/a", "/a")
    return Event(type_, 1, 1, 0, 1, res, params, Process(1), fd=fd, path="/a", path_raw="/a")  # type: ignore[arg-type]


def _table(reach: Reach) -> Early:
    """From what is reached by itself to what is reached with all that is shorter."""
    for most in _SHORTER:
        short: dict[bytes, int] = {}
        for piece, classes in reach.items():
            # what begins otherwise is no plain path's; a file's name may not be cut, names have no pieces
            at = piece if len(piece) <= most else b"" if piece[:1] == REAL else piece[:most]
            if at != ODD:
                short[at] = short.get(at, 0) | classes
        if len(short) < MOST_ENTRIES - len(_ROOTS) - 1:
            break
    anywhere = short.pop(b"", 0)
    entries = {root: short.pop(root, 0) for root in _ROOTS}
    entries[b"/"] |= anywhere
    above = [b""]
    for piece in sorted((*short, *_ROOTS)):
        while not piece.startswith(above[-1]):
            above.pop()
        classes = entries[above[-1]] | short[piece] if piece in short else entries[piece]
        if piece in _ROOTS or classes != entries[above[-1]]:
            entries[piece] = classes
            above.append(piece)
    kinds = {root: all_of({p: c for p, c in entries.items() if p[:1] == root}) for root in _ROOTS}
    known = all_of(reach)
    unseen = known | (known & _HIDDEN) >> HIDDEN | (known & ~_HIDDEN) << HIDDEN  # of a path whose folder is not known
    entries[b""] = unseen & ALL
    return Early(entries, kinds[ENDS], kinds[REAL], weakened=most != KEY_BYTES)
