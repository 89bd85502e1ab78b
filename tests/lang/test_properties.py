"""What always holds: macros, lists and exceptions mean what their hand-expanded form means."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.lang.load import load_texts
from appliance.model.expr import Expr
from tests.lang.test_parser import parse

WORDS = st.sampled_from(["a", "bash", "/etc/x", "with blank", 'q"uote', "it's", "a=b", "(x)", "7"])
FIELDS = st.sampled_from(["proc.name", "proc.pname", "fd.name", "proc.cmdline"])
OPERATORS = st.sampled_from(["=", "!=", "contains", "startswith", "endswith"])


def quoted(word: str) -> str:
    return json.dumps(word)


def condition_of(items: list[dict[str, Any]]) -> Expr:
    loaded = load_texts([("rules.yaml", json.dumps(items))])
    assert [d.render() for d in loaded.errors] == []
    return loaded.rules[0].condition


def rule(condition: str, **more: Any) -> dict[str, Any]:
    return {"rule": "r", "desc": "d", "condition": condition, "output": "o", "priority": "INFO", **more}


class Made:
    """A condition as it is written with macros and lists, and as it is without them."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []

    def listed(self, draw: st.DrawFn, depth: int = 0) -> tuple[str, list[str]]:
        words = draw(st.lists(WORDS, min_size=1, max_size=3))
        written: list[str] = [f'"{w}"' if not w.isalnum() and '"' not in w else w for w in words]
        whole = list(words)
        if depth < 2 and draw(st.booleans()):
            name, inner = self.listed(draw, depth + 1)
            written.append(name)
            whole += inner
        name = f"list{len(self.items)}"
        self.items.append({"list": name, "items": written})
        return name, whole

    def check(self, draw: st.DrawFn) -> tuple[str, str]:
        field = draw(FIELDS)
        if draw(st.booleans()):
            name, whole = self.listed(draw)
            return f"{field} in ({name})", f"{field} in ({', '.join(map(quoted, whole))})"
        text = f"{field} {draw(OPERATORS)} {quoted(draw(WORDS))}"
        return text, text

    def tree(self, draw: st.DrawFn, depth: int = 0) -> tuple[str, str]:
        kind = draw(st.sampled_from(["check", "not", "and", "or"])) if depth < 3 else "check"
        if kind == "check":
            written, whole = self.check(draw)
        elif kind == "not":
            one, two = self.tree(draw, depth + 1)
            written, whole = f"not ({one})", f"not ({two})"
        else:
            parts = [self.tree(draw, depth + 1) for _ in range(draw(st.integers(2, 3)))]
            written = f" {kind} ".join(f"({one})" for one, _ in parts)
            whole = f" {kind} ".join(f"({two})" for _, two in parts)
        if draw(st.booleans()):
            name = f"macro{len(self.items)}"
            self.items.append({"macro": name, "condition": written})
            return name, f"({whole})"
        return written, whole


@st.composite
def conditions(draw: st.DrawFn) -> tuple[list[dict[str, Any]], str, str]:
    made = Made()
    written, whole = made.tree(draw)
    order = draw(st.permutations(made.items))  # a use may stand before its definition
    return list(order), written, whole


def same(one: Expr, other: Expr) -> bool:
    """Equal but for quotes, which say of an item that it is no list's name."""
    return plain(one) == plain(other)


def plain(expr: Any) -> Any:
    if isinstance(expr, tuple):
        return tuple(map(plain, expr))
    if hasattr(expr, "quoted"):
        return expr.text
    if hasattr(expr, "__dataclass_fields__"):
        names = [n for n, field in expr.__dataclass_fields__.items() if field.compare]
        return (type(expr).__name__, *(plain(getattr(expr, n)) for n in names))
    return expr


@settings(max_examples=150, deadline=None)
@given(conditions())
def test_macros_and_lists_are_what_one_would_write_by_hand(made: tuple[list[dict[str, Any]], str, str]) -> None:
    items, written, whole = made
    found = condition_of([*items, rule(f"evt.type = open and ({written})")])
    assert same(found, parse(f"evt.type = open and ({whole})"))
    assert parse(str(found)) == found


ENTRIES = st.tuples(st.lists(WORDS, min_size=1, max_size=2), WORDS)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.tuples(FIELDS, FIELDS), OPERATORS, st.lists(ENTRIES, min_size=1, max_size=3)), max_size=3),
    st.booleans(),
)
def test_exceptions_are_what_one_would_write_by_hand(
    made: list[tuple[tuple[str, str], str, list[tuple[list[str], str]]]], appended: bool
) -> None:
    exceptions, whole = [], ["evt.type = open", "proc.name exists"]
    for n, ((first, second), op, entries) in enumerate(made):
        values = [[[item(w) for w in words], item(word)] for words, word in entries]
        exceptions.append({"name": f"e{n}", "fields": [first, second], "comps": ["in", op], "values": values})
        groups = [
            f"({first} in ({', '.join(map(quoted, words))}) and {second} {op} {quoted(word)})"
            for words, word in entries
        ]
        whole.append(f"not ({' or '.join(groups)})")
    condition = "evt.type = open and proc.name exists"
    if appended and exceptions:
        items = [rule(condition), {"rule": "r", "exceptions": exceptions, "override": {"exceptions": "append"}}]
    else:
        items = [rule(condition, exceptions=exceptions)]
    assert same(condition_of(items), parse(" and ".join(whole)))


def item(word: str) -> str:
    """A value as an author writes it in YAML: quotes of its own where it is no bare word."""
    return f'"{word}"' if " " in word else word
