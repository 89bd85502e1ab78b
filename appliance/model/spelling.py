"""Which known word may be meant by one that nobody knows.

Comes in: a word, words that are known. Goes out: the nearest, None where none is near. Never: a guess for its own sake.
"""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

_LOOKED_AT = 5


def nearest(word: str, known: Collection[str]) -> str | None:
    """The known word that is one slip of each three letters away at most, or goes on where `word` ends.

    Of two names of one class (`proc.nmae`, `proc.name`) what stands behind it is held against each other.
    """
    for other in get_close_matches(word, known, _LOOKED_AT, 0.6):
        one, two = word.lower(), other.lower()
        head, dot, rest = one.partition(".")
        if dot and two.startswith(f"{head}."):
            one, two = rest, two[len(head) + 1 :]
        if _distance(one, two) <= max(1, min(len(one), len(two)) // 3) or (len(one) > 2 and two.startswith(one)):
            return other
    return None


def _distance(one: str, other: str) -> int:
    """Letters put in, left out, exchanged, or swapped with their neighbour."""
    older: list[int] = []
    before: list[int] = [*range(len(other) + 1)]
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
        older, before = before, row
    return before[-1]
