"""Definitions in file order -> one `RuleBook`.

Comes in: the items of all files. Goes out: the last definition of every name, at the place of its first. A name whose
definition was refused is known as broken, so that its uses are not reported too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from appliance.lang.reader import Broken, Item, Switch, near
from appliance.lang.source import Report
from appliance.model.rule import ListDef, MacroDef, RuleDef

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(slots=True)
class RuleBook:
    """All definitions by name."""

    lists: dict[str, ListDef] = field(default_factory=dict)
    macros: dict[str, MacroDef] = field(default_factory=dict)
    rules: dict[str, RuleDef] = field(default_factory=dict)
    broken_lists: set[str] = field(default_factory=set)
    broken_macros: set[str] = field(default_factory=set)
    broken_rules: set[str] = field(default_factory=set)


def collect(items: Iterable[Item], report: Report) -> RuleBook:
    """The book of all items; a later definition takes an earlier one's place."""
    book = RuleBook()
    broken = {"list": book.broken_lists, "macro": book.broken_macros, "rule": book.broken_rules}
    for item in items:
        match item:
            case Broken(kind, name):
                broken[kind].add(name.value)
            case ListDef():
                _check_name("list", item, report)
                book.lists[item.name.value] = item
            case MacroDef():
                _check_name("macro", item, report)
                book.macros[item.name.value] = item
            case RuleDef():
                book.rules[item.name.value] = item
            case Switch(name, enabled):
                known = book.rules.get(name.value)
                if known is not None:
                    book.rules[name.value] = replace(known, enabled=enabled)
                elif name.value not in book.broken_rules:
                    report.add(
                        "unknown-rule", f"no rule before this one is called `{name.value}`", name.span(),
                        near(name.value, book.rules) or "an item with `enabled` alone switches a rule defined earlier",
                        code="LOAD_ERR_VALIDATE",
                    )  # fmt: skip
    return book


def _check_name(kind: str, item: ListDef | MacroDef, report: Report) -> None:
    if not _NAME.fullmatch(item.name.value):
        report.warn(
            "odd-name", f"the {kind} name `{item.name.value}` holds more than letters, digits and `_`",
            item.name.span(), code=f"LOAD_INVALID_{kind.upper()}_NAME",
        )  # fmt: skip
