"""Where a condition on opens may hold, as the kernel can ask: sets of classes by pieces of a path.

Comes in: a condition, and what each of its checks says of an open's class. Goes out: a `Reach` that holds all opens on
which the condition can hold, and perhaps others. Never: one that misses an open on which it holds.

A piece is what a path begins with, what it ends with, or the name of the file that an open really gave. Of several that
must all be there one is asked for, the most telling; so that each alternative of a condition is one piece, and nothing
grows with the number of alternatives but a table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, assert_never

from appliance.catalog.opens import ALL, FAILED, HIDDEN, classes_with
from appliance.model.expr import And, Check, Const, Expr, FieldRef, Macro, Not, Or, Quantifier, Word
from appliance.model.field import Operator

Reach = Mapping[bytes, int]
"""By piece: the classes of opens (`catalog.opens`) that are reached where a path has it. A piece is

- empty: any path;
- what a plain absolute path begins with, a NUL behind the path: with it, the whole path;
- `ENDS` and what such a path ends with, backwards;
- `REAL`, a file's name where links were followed, and a NUL;
- `ODD`: no plain absolute path, only others.
"""

ENDS: Final = b"\1"
REAL: Final = b"\2"
ODD: Final = b"."
EVERYWHERE: Final[Reach] = {b"": ALL}
_PRODUCT: Final = 20_000  # of two sets of pieces that are joined one by one
_PATHS: Final = frozenset({"fd.name", "fd.nameraw", "fs.path.name", "fs.path.nameraw"})  # alike where it is plain
_FOLDER, _FILE, _REALLY = "fd.directory", "fd.filename", "fd.realpath"
_LITERAL: Final = re.compile(r"[^*?\[\]\\{}!]*")
_HIDDEN: Final = classes_with(HIDDEN)
_SUCCEEDED: Final = ALL & ~classes_with(FAILED)
_EQUAL: Final = frozenset({Operator.EQ, Operator.IN, Operator.INTERSECTS})


@dataclass(frozen=True, slots=True)
class Says:
    """Of a check: the classes on whose opens it can hold, and those on whose opens it holds, whatever else they are."""

    may: int = ALL
    must: int = 0


def reach_of(expr: Expr, says: Callable[[Check], Says], *, negated: bool = False) -> Reach:
    """Where a condition may hold; where it may not, with `negated`."""
    match expr:
        case Const(value):
            return EVERYWHERE if value is not negated else {}
        case Check():
            if negated:
                return _only(ALL & ~says(expr).must)
            pieces = pieces_of(expr)
            return _only(says(expr).may) if pieces is None else pieces
        case Not(part):
            return reach_of(part, says, negated=not negated)
        case And(parts) | Or(parts):
            reaches = (reach_of(part, says, negated=negated) for part in parts)
            return _both(reaches) if isinstance(expr, And) is not negated else joined(reaches)
        case Macro():
            raise AssertionError(f"{expr!r} is not a checked condition")
        case _:
            assert_never(expr)


def joined(reaches: Iterable[Reach]) -> dict[bytes, int]:
    """What is reached by any of them."""
    found: dict[bytes, int] = {}
    for reach in reaches:
        for piece, classes in reach.items():
            found[piece] = found.get(piece, 0) | classes
    return found


def all_of(reach: Reach) -> int:
    """All classes that are reached."""
    classes = 0
    for some in reach.values():
        classes |= some
    return classes


def _only(classes: int) -> Reach:
    return {b"": classes} if classes else {}


def _both(reaches: Iterable[Reach]) -> Reach:
    found = EVERYWHERE
    for reach in reaches:
        found = _pair(found, reach)
    return found


def _pair(one: Reach, other: Reach) -> Reach:
    if len(one) * len(other) > _PRODUCT:  # weakened: the paths of the larger one are not asked for
        large, small = (one, other) if len(one) > len(other) else (other, one)
        return _pair(small, _only(all_of(large))) if len(small) <= _PRODUCT else _only(all_of(large) & all_of(small))
    found: dict[bytes, int] = {}
    for a, a_classes in one.items():
        for b, b_classes in other.items():
            piece = _one_of(a, b)
            if piece is not None and (classes := a_classes & b_classes):
                found[piece] = found.get(piece, 0) | classes
    return found


def _one_of(a: bytes, b: bytes) -> bytes | None:
    """The more telling of two pieces that a path must have both; None where none can have."""
    if not a or not b:
        return a or b
    if ODD in (a, b):
        return ODD
    if a[:1] != b[:1]:
        return max(a, b, key=_telling)
    return a if a.startswith(b) else b if b.startswith(a) else None


def _telling(piece: bytes) -> int:
    if piece[:1] == REAL:
        return 0
    if piece[:1] == ENDS:
        return 2
    return 3 if piece[-1:] == b"\0" else 1


def pieces_of(check: Check) -> dict[bytes, int] | None:
    """What a path must have one of so that a check holds, and which class then; None where the check says nothing of
    that."""
    left, right = check.left, check.right
    if not isinstance(left, FieldRef) or left.arg is not None or not isinstance(right, Word | tuple):
        return None
    if left.name not in _PATHS and left.name not in (_FOLDER, _FILE, _REALLY):
        return None
    if check.quantifier not in (None, Quantifier.ANY, Quantifier.ONE):  # where all of none hold, no path is needed
        return None
    words = right if isinstance(right, tuple) else (right,)
    reaches: list[Reach] = []
    for word in words:
        pieces = _pieces(left.name, check.op, word.text)
        if pieces is None:
            return None
        reaches.append(pieces)
    return joined(reaches)


def _pieces(field: str, op: Operator, text: str) -> Reach | None:
    if field == _REALLY:
        return _real(text) if op in _EQUAL else {b"": _SUCCEEDED}
    if field == _FILE:
        return _hiding(f"/{text}", _ends(f"/{text}")) if op in _EQUAL else None
    of_folder = field == _FOLDER
    match op:
        case Operator.EQ | Operator.IN | Operator.INTERSECTS:
            return _hiding(text, _begins((text if text == "/" else f"{text}/") if of_folder else f"{text}\0"))
        case Operator.STARTSWITH:
            return _hiding(text, _begins(text))
        case Operator.ENDSWITH:
            return _hiding(text, {b"": ALL} if of_folder else _ends(text))
        case Operator.CONTAINS:
            return _hiding(text, {b"": ALL})
        case Operator.GLOB:
            plain = _literal(text)
            return _hiding(text, _begins(f"{plain}\0" if plain == text and not of_folder else plain), glob=True)
        case Operator.PMATCH:
            plain = _literal(text)
            whole = plain.rstrip("/")
            if plain != text:
                return _hiding(text, _begins(whole), glob=True)
            return _hiding(whole, joined((_begins(f"{whole}\0"), _begins(f"{whole}/"))))
        case _:
            return None


def _literal(text: str) -> str:
    found = _LITERAL.match(text)
    return "" if found is None else found[0]


def _encoded(text: str) -> bytes | None:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a pair
        return None


def _begins(text: str) -> Reach:
    piece = _encoded(text)
    if not piece:
        return EVERYWHERE
    return {piece if piece[:1] == b"/" else ODD: ALL}


def _ends(text: str) -> Reach:
    piece = _encoded(text)
    return {ENDS + piece[::-1]: ALL} if piece else EVERYWHERE


def _real(text: str) -> Reach:
    name = _encoded(text.rpartition("/")[2])
    return {REAL + name + b"\0": _SUCCEEDED} if name else {b"": _SUCCEEDED}


def _hiding(text: str, reach: Reach, *, glob: bool = False) -> Reach:
    """Narrowed by what stands in a path as it is written: a hidden component, or what no plain path has."""
    if glob and any(c in text for c in "[]\\{}"):  # where a dot need not stand for itself
        return reach
    if ".." in text:
        return {ODD: ALL}
    if "/." in text:
        return {piece: classes & _HIDDEN for piece, classes in reach.items()}
    return reach
