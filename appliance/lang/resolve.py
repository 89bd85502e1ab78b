"""Macros and lists put in place.

Comes in: the book of definitions. Goes out: trees without macros and list names. A macro's tree is made once and shared
by all its users. Each text is parsed and reported on once, where it was written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import assert_never

from appliance.lang.collector import RuleBook
from appliance.lang.exceptions import word_of
from appliance.lang.lexer import Unreadable
from appliance.lang.parser import parse
from appliance.lang.source import Report
from appliance.model.diagnostic import Span
from appliance.model.expr import And, Check, Const, Expr, Macro, Not, Or, Word
from appliance.model.rule import MacroDef, Placed

_COMMENT = re.compile(r"(?:^|\s)#")
MAX_NODES = 50_000
MAX_DEPTH = 150  # of a tree with its macros in place, and of lists in lists; they are walked by recursion
MAX_ITEMS = 200_000


class Resolver:
    """Expands the texts of one book. `check` is called once for every check as written, lists in place.

    `parsed` are the macros' trees of another resolver of the same book: what is wrong with a text is reported once.
    """

    def __init__(
        self,
        book: RuleBook,
        report: Report,
        check: Callable[[Check], bool],
        parsed: Mapping[str, Expr | None] | None = None,
    ) -> None:
        self._book = book
        self._report = report
        self._check = check
        if parsed is None:
            parsed = {name: self._parse(macro.condition) for name, macro in book.macros.items()}
        self.parsed = parsed
        self._macros: dict[str, Expr | None] = {}
        self._sizes: dict[str, int] = {}
        self._open: list[str] = []
        self._level = 0
        self._items: dict[str, tuple[Word, ...] | None] = {}
        self._open_lists: list[str] = []
        self.used_macros: set[str] = set()
        self.used_lists: set[str] = set()

    def condition(self, text: Placed) -> Expr | None:
        """The expanded tree of a condition, or None where a mistake in it (or in what it uses) was reported."""
        return self._sized(self._parse(text), text)[0]

    def expand(self, expr: Expr) -> Expr | None:
        """A tree with lists and macros in place and checked, or None where a mistake in it was reported."""
        return self._expand(expr, [0])

    def macro(self, macro: MacroDef) -> Expr | None:
        """The expanded tree of a macro, or None."""
        name = macro.name.value
        if name not in self._macros:
            self._open.append(name)
            self._macros[name], self._sizes[name] = self._sized(self.parsed[name], macro.condition)
            self._open.pop()
        return self._macros[name]

    def _parse(self, text: Placed) -> Expr | None:
        try:
            return parse(text.value, text)
        except Unreadable as error:
            hint = error.hint
            if _COMMENT.search(text.value, 0, error.start + 1):
                hint = "a `#` within a condition begins no comment: take it out, with what was to be one"
            self._report.add(
                error.name, error.message, text.span(error.start, error.end), hint, code="LOAD_ERR_COMPILE_CONDITION"
            )
            return None

    def _sized(self, tree: Expr | None, text: Placed) -> tuple[Expr | None, int]:
        if tree is None:
            return None, 0
        made = self._expand(tree, size := [0])
        if size[0] > MAX_NODES:
            self._report.add(
                "too-large", f"the condition has more than {MAX_NODES} checks after expansion", text.span(),
                code="LOAD_ERR_VALIDATE",
            )  # fmt: skip
            return None, size[0]
        if made is not None and depth_of(made) > MAX_DEPTH:
            self._too_deep(text.span())
            return None, size[0]
        return made, size[0]

    def _too_deep(self, span: Span) -> None:
        self._report.add(
            "too-deep", f"the condition is nested deeper than {MAX_DEPTH} levels with its macros in place", span,
            "a macro that uses a macro that uses a macro ... : join some of them", code="LOAD_ERR_VALIDATE",
        )  # fmt: skip

    def _expand(self, expr: Expr, size: list[int]) -> Expr | None:
        if self._level >= MAX_DEPTH:
            self._too_deep(expr.span)
            return None
        self._level += 1
        whole: Expr | None
        match expr:
            case Const():
                whole = expr
            case Check():
                size[0] += 1
                listed = self._with_lists(expr)
                whole = listed if listed is not None and self._check(listed) else None
            case Not(part):
                inner = self._expand(part, size)
                whole = None if inner is None else replace(expr, part=inner)
            case And(parts) | Or(parts):
                made = [self._expand(part, size) for part in parts]
                kept = tuple(p for p in made if p is not None)
                whole = replace(expr, parts=kept) if len(kept) == len(made) else None
            case Macro():
                whole = self._put(expr, size)
            case _:
                assert_never(expr)
        self._level -= 1
        return whole

    def _put(self, use: Macro, size: list[int]) -> Expr | None:
        name = use.name
        self.used_macros.add(name)
        macro = self._book.macros.get(name)
        if name in self._open:
            chain = " -> ".join([*self._open[self._open.index(name) :], name])
            self._report.add(
                "macro-cycle", f"the macro `{name}` uses itself: {chain}", use.span, code="LOAD_ERR_VALIDATE"
            )
            return None
        if macro is None:
            if name not in self._book.broken_macros:
                hint = self._report.near(name, self._book.macros)
                if name in self._book.lists:
                    hint = f"`{name}` is a list; a list stands behind `in`: `proc.name in ({name})`"
                self._report.add(
                    "unknown-macro", f"no macro is called `{name}`", use.span,
                    hint or "define it: `- macro: NAME` with a `condition`", code="LOAD_ERR_VALIDATE",
                )  # fmt: skip
            return None
        tree = self.macro(macro)
        size[0] += self._sizes.get(name, 0)
        return tree

    def _with_lists(self, check: Check) -> Check | None:
        if not isinstance(check.right, tuple):
            return check
        words: list[Word] = []
        for word in check.right:
            if word.quoted or word.text not in self._book.lists:
                if not word.quoted and word.text in self._book.broken_lists:
                    return None
                words.append(word)
            else:
                items = self.items(word.text)
                if items is None:
                    return None
                words += items
        if len(words) > MAX_ITEMS:
            self._report.add("too-large", f"more than {MAX_ITEMS} items in a list", check.span)
            return None
        return replace(check, right=tuple(words))

    def items(self, name: str) -> tuple[Word, ...] | None:
        """All items of a list, names of lists within it in place; None where a mistake in them was reported."""
        self.used_lists.add(name)
        if name in self._items:
            return self._items[name]
        self._open_lists.append(name)
        words: list[Word] = []
        good = True
        for item in self._book.lists[name].items:
            text = item.value
            if text in self._open_lists:
                self._report.add("list-cycle", f"the list `{text}` holds itself", item.span(), code="LOAD_ERR_VALIDATE")
                good = False
            elif text in self._book.lists and len(self._open_lists) > MAX_DEPTH:
                self._report.add(
                    "too-deep", f"lists within lists are nested deeper than {MAX_DEPTH} levels", item.span(),
                    code="LOAD_ERR_VALIDATE",
                )  # fmt: skip
                good = False
            elif text in self._book.lists:
                inner = self.items(text)
                good = good and inner is not None
                words += inner or ()
            else:
                word = word_of(item)
                words.append(Word.of(word.text, word.span))
            if len(words) > MAX_ITEMS:
                break
        self._open_lists.pop()
        self._items[name] = tuple(words) if good else None
        return self._items[name]


def depth_of(expr: Expr) -> int:
    """How many levels a tree has."""
    deepest, level = 0, [expr]
    while level:
        deepest += 1
        below: list[Expr] = []
        for node in level:
            if isinstance(node, Not):
                below.append(node.part)
            elif isinstance(node, And | Or):
                below += node.parts
        level = list({id(node): node for node in below}.values())  # macros' trees are shared
    return deepest
