"""Definitions in file order -> one `RuleBook`.

Comes in: the items of all files. Goes out: the last definition of every name, at the place of its first, with the
changes that follow it. A name whose definition was refused is known as broken, so that its uses are not reported too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from appliance.lang.reader import Broken, Change, Item, Switch
from appliance.lang.source import Report, Text
from appliance.model.rule import ExceptionDef, ListDef, MacroDef, Placed, RuleDef

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
                known = book.rules.get(item.name.value)
                if known is not None and known.source != item.source:
                    _other_source(item.name, known.source, item.source, report)
                    continue
                book.rules[item.name.value] = item
            case Change():
                _change(book, item, report)
            case Switch(name, enabled):
                known = book.rules.get(name.value)
                if known is not None:
                    book.rules[name.value] = replace(known, enabled=enabled)
                elif name.value not in book.broken_rules:
                    report.add(
                        "unknown-rule", f"no rule before this one is called `{name.value}`", name.span(),
                        report.near(name.value, book.rules)
                        or "an item with `enabled` alone switches a rule defined earlier",
                        code="LOAD_ERR_VALIDATE",
                    )  # fmt: skip
    return book


def _change(book: RuleBook, change: Change, report: Report) -> None:
    kind, name = change.kind, change.name.value
    known: Collection[str] = {"list": [*book.lists], "macro": [*book.macros], "rule": [*book.rules]}[kind]
    if name not in known:
        if name not in {"list": book.broken_lists, "macro": book.broken_macros, "rule": book.broken_rules}[kind]:
            report.add(
                f"unknown-{kind}", f"no {kind} before this one is called `{name}`, so there is nothing to change",
                change.name.span(), report.near(name, known) or "is the file that defines it loaded before this one?",
                code="LOAD_ERR_VALIDATE",
            )  # fmt: skip
        return
    match change.part:
        case ListDef(_, items):
            before = book.lists[name]
            appended = change.operations.get("items") == "append"
            book.lists[name] = replace(before, items=before.items + items if appended else items)
        case MacroDef(_, condition):
            macro = book.macros[name]
            appended = change.operations.get("condition") == "append"
            book.macros[name] = replace(macro, condition=_joined(macro.condition, condition) if appended else condition)
        case RuleDef():
            rule = book.rules[name]
            if change.source is not None and change.source.value != rule.source:
                _other_source(change.source, rule.source, change.source.value, report)
                return
            book.rules[name] = _changed(rule, change.part, change, report)


def _other_source(at: Placed, before: str, now: str, report: Report) -> None:
    report.add(
        "other-source", f"this rule is one for {before} events; it cannot become one for {now}", at.span(),
        f"write `source: {before}`, or give the rule another name", code="LOAD_ERR_VALIDATE",
    )  # fmt: skip


def _changed(rule: RuleDef, part: RuleDef, change: Change, report: Report) -> RuleDef:
    for key, operation in change.operations.items():
        appended = operation == "append"
        match key:
            case "condition":
                rule = replace(rule, condition=_joined(rule.condition, part.condition) if appended else part.condition)
            case "output":
                rule = replace(rule, output=_joined(rule.output, part.output) if appended else part.output)
            case "desc":
                rule = replace(rule, desc=_joined(rule.desc, part.desc) if appended else part.desc)
            case "tags":
                rule = replace(rule, tags=rule.tags + part.tags if appended else part.tags)
            case "exceptions":
                before = rule.exceptions if appended else ()
                rule = replace(rule, exceptions=_with_exceptions(before, part.exceptions, report))
            case "priority":
                rule = replace(rule, priority=part.priority)
            case "enabled":
                rule = replace(rule, enabled=part.enabled)
            case "warn_evttypes":
                rule = replace(rule, warn_evttypes=part.warn_evttypes)
            case "capture":
                rule = replace(rule, capture=part.capture)
            case "capture_duration":
                rule = replace(rule, capture_duration_ms=part.capture_duration_ms)
            case "skip-if-unknown-filter":
                rule = replace(rule, skip_if_unknown_filter=part.skip_if_unknown_filter)
    return rule


def _joined(first: Placed, second: Placed) -> Placed:
    assert isinstance(first, Text) and isinstance(second, Text)  # noqa: S101  (the reader makes no others)
    return Text.joined(first, second)


def _with_exceptions(
    before: tuple[ExceptionDef, ...], added: tuple[ExceptionDef, ...], report: Report
) -> tuple[ExceptionDef, ...]:
    """Values are added to an exception of the same name; another name is a new exception."""
    found = [*before]
    for n, new in enumerate(added):
        at = next((i for i, e in enumerate(found) if e.name.value == new.name.value), None)
        twice = new.fields is not None and any(e.name.value == new.name.value for e in added[:n])
        if at is not None and found[at].fields is None and new.fields is not None:  # named before, and now defined
            found[at] = replace(new, values=_more(found[at], new) or None)
            continue
        if at is None or twice:
            found.append(new)
            continue
        known = found[at]
        if new.values is None:
            report.warn(
                "no-values", f"nothing is appended to the exception `{new.name.value}`: it has no values",
                new.name.span(), None, "LOAD_APPEND_NO_VALUES",
            )  # fmt: skip
            continue
        if (new.fields is not None and _texts(new.fields) != _texts(known.fields)) or (
            new.comps is not None and _texts(new.comps) != _texts(known.comps)
        ):
            report.add(
                "exception-differs", f"the exception `{new.name.value}` has other fields or comps than it had before",
                new.name.span(), "leave `fields` and `comps` out to append values", code="LOAD_ERR_VALIDATE",
            )  # fmt: skip
            continue
        found[at] = replace(known, values=_more(known, new))
    return tuple(found)


def _more(known: ExceptionDef, new: ExceptionDef) -> tuple[tuple[Placed | tuple[Placed, ...], ...], ...]:
    before, added = known.values or (), new.values or ()
    if known.single and len(before) == 1 and len(added) == 1:
        (one,), (other,) = before[0], added[0]
        if isinstance(one, tuple) and isinstance(other, tuple):
            return ((one + other,),)
    return before + added


def _texts(placed: tuple[Placed, ...] | None) -> tuple[str, ...]:
    return tuple(p.value for p in placed or ())


def _check_name(kind: str, item: ListDef | MacroDef, report: Report) -> None:
    if not _NAME.fullmatch(item.name.value):
        report.warn(
            "odd-name", f"the {kind} name `{item.name.value}` holds more than letters, digits and `_`",
            item.name.span(), code=f"LOAD_INVALID_{kind.upper()}_NAME",
        )  # fmt: skip
