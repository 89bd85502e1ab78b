"""A tree -> a query of FTS5 over one segment, weakened to what the index knows.

Comes in: a tree, and the segment's dictionary of values. Goes out: a query that finds every alert which the tree
matches, and whether it finds only those; if not, `query.predicate` judges what was found. Never: an alert lost by the
index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from appliance.hub.alert import HubAlert
from appliance.hub.query.predicate import predicate
from appliance.hub.query.tree import PRIORITIES, conjunction, number_of, words_right
from appliance.hub.query.words import MARK, MOMENTS, words_of
from appliance.hub.store.base import DIMENSIONS
from appliance.hub.store.cells import held_of, is_of_kind
from appliance.model.alert import Priority
from appliance.model.expr import And, Check, Const, Expr, FieldRef, Macro, Not, Or, Word
from appliance.model.field import Operator

EVERY = MARK + "z"
"""The token that every alert has. Tokens of facets start with a character that no text has."""

KIND_LETTER = "c"
"""The letter of a kind's token (see `cells`): alerts of one kind agree in all that makes it."""

LETTERS = dict(zip(DIMENSIONS, "rhstxukien", strict=True))
"""The letter of a facet's token: `r12` is the value with number 12 of the dimension `rule`."""

_MOST_TOKENS = 2_000


@dataclass(frozen=True, slots=True)
class Query:
    """`text` is FTS5's; "" finds nothing and `ALL.text` everything. `exact`: no judge is needed behind it."""

    text: str
    exact: bool


ALL = Query(EVERY, True)
NOTHING = Query("", True)
UNKNOWN = Query(ALL.text, False)

Samples = Callable[[str], Mapping[int, HubAlert]]
"""Dimension -> for each value's number an alert that has this value there."""


def compile_tree(expr: Expr, samples: Samples, kinds: Mapping[int, HubAlert] = {}) -> Query:
    """The weakest query that the index can answer. `kinds` gives an alert of each kind: several checks of what makes a
    kind are one choice of kinds, so that checks which no alert meets together find nothing at once."""
    if kinds and isinstance(expr, And) and len(kinds) <= _MOST_TOKENS:
        same = [part for part in expr.parts if is_of_kind(part)]
        if len(same) > 1:
            others = [compile_tree(part, samples, kinds) for part in expr.parts if part not in same]
            return _all_of([_of_kinds(conjunction(*same), kinds), *others])
    match expr:
        case Const(value):
            return ALL if value else NOTHING
        case Not(part):
            return _negated(compile_tree(part, samples, kinds))
        case And(parts):
            return _all_of([compile_tree(part, samples, kinds) for part in parts])
        case Or(parts):
            return _any_of([compile_tree(part, samples, kinds) for part in parts])
        case Check():
            return _check(expr, samples)
        case Macro():
            raise TypeError("a search holds no macros")
        case _:
            assert_never(expr)


def _negated(query: Query) -> Query:
    if not query.exact:
        return UNKNOWN
    if query == ALL:
        return NOTHING
    return ALL if query == NOTHING else Query(f"({ALL.text}) NOT ({query.text})", True)


def _all_of(queries: Sequence[Query]) -> Query:
    exact = all(query.exact for query in queries)
    if any(not query.text for query in queries):
        return NOTHING
    asked = list(dict.fromkeys(query.text for query in queries if query.text != ALL.text))
    marker = f"({ALL.text}) NOT "
    wanted = [text for text in asked if not text.startswith(marker)]
    unwanted = [text.removeprefix(marker) for text in asked if text.startswith(marker)]
    if not asked:
        return Query(ALL.text, exact)
    base = " AND ".join(f"({text})" for text in wanted) if wanted else ALL.text
    for text in unwanted:
        base = f"({base}) NOT {text}"
    return Query(base, exact)


def _any_of(queries: Sequence[Query]) -> Query:
    exact = all(query.exact for query in queries)
    if any(query.text == ALL.text for query in queries):
        return Query(ALL.text, exact or any(query == ALL for query in queries))
    asked = list(dict.fromkeys(query.text for query in queries if query.text))
    if not asked:
        return NOTHING if exact else UNKNOWN
    return Query(" OR ".join(f"({text})" for text in asked), exact)


def _check(check: Check, samples: Samples) -> Query:
    if not isinstance(check.left, FieldRef):
        return UNKNOWN
    name = str(check.left)
    if name == "text":
        return _text(check)
    if name == "priority":
        judge = predicate(check)
        return _tokens([f"{MARK}p{p.value}" for p in set(PRIORITIES.values()) if judge(_with_priority(p.value))])
    if name in LETTERS and (check.right is None or isinstance(check.right, Word | tuple)):
        return _dimension(check, name, samples)
    return _field(check, name)


def _with_priority(value: int) -> HubAlert:
    return HubAlert(0, "", 0, 0, "", "", Priority(value), "", (), "", {})


def _of_kinds(expr: Expr, kinds: Mapping[int, HubAlert]) -> Query:
    return _numbered(expr, KIND_LETTER, kinds)


def _dimension(check: Check, name: str, samples: Samples) -> Query:
    return _numbered(check, LETTERS[name], samples(name))


def _numbered(expr: Expr, letter: str, numbers: Mapping[int, HubAlert]) -> Query:
    held = sorted(held_of(expr, numbers))
    letter = MARK + letter
    if len(held) * 2 <= len(numbers):
        return _tokens([f"{letter}{number}" for number in held])
    lacking = set(numbers) - set(held)
    return _negated(_tokens([f"{letter}{number}" for number in sorted(lacking)]))


def _tokens(tokens: Sequence[str]) -> Query:
    if not tokens:
        return NOTHING
    if len(tokens) > _MOST_TOKENS:
        return UNKNOWN
    return Query(" OR ".join(tokens), True)


def _phrase(words: Sequence[str], prefix: bool) -> str:
    return '"' + " ".join(words) + '"' + (" *" if prefix else "")


def _text(check: Check) -> Query:
    [word] = words_right(check)
    words = words_of(word.text)
    return Query(_phrase(words, word.text.rstrip().endswith("*")), True) if words else NOTHING


def _field(check: Check, name: str) -> Query:
    """Values stand in the text of their alert, word by word: what has not the words has not the value."""
    if check.quantifier is not None or name in ("time", "id", "output") or name.startswith(MOMENTS):
        return UNKNOWN
    if check.op not in (Operator.EQ, Operator.IN, Operator.STARTSWITH) or not isinstance(check.right, Word | tuple):
        return UNKNOWN
    phrases = []
    for word in words_right(check):
        words = words_of(word.text)
        number = number_of(word.text)
        network = "/" in word.text and (word.text[0].isalnum() or word.text[0] == ":")
        if not words or network or number is not None or _starts_other(word.text):
            return UNKNOWN  # values that are no texts are no words: a number, `true`; a network has many
        phrases.append(_phrase(words, check.op is Operator.STARTSWITH))
    return Query(" OR ".join(f"({p})" for p in phrases), False) if phrases else NOTHING


def _starts_other(text: str) -> bool:
    """Whether a value that is no text could start like that."""
    return text[:1] in "+-0123456789" or any(word.startswith(text) for word in ("true", "false"))
