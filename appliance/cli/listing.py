"""`tercel list`: what rules can ask for, and the rules that are loaded.

Comes in: what to list. Goes out: a table, or JSON.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence

from appliance.catalog.events import EVENTS, Category
from appliance.catalog.fields import CLASSES
from appliance.catalog.operators import operators_of
from appliance.catalog.transformers import TRANSFORMERS
from appliance.cli.loading import add_rule_options, load_generation
from appliance.daemon.generation import selected
from appliance.model.field import ArgKind, Field, FieldType, Operator
from appliance.model.text import json_safe, printable

_ARGUMENTS = {
    ArgKind.NONE: "",
    ArgKind.INDEX: "[number]",
    ArgKind.KEY: "[name]",
    ArgKind.INDEX_OR_KEY: "[number or name]",
}
_MATURITY = re.compile(r"maturity_(\w+)")

Row = dict[str, object]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser(
        "list",
        help="list fields, events, operators, transformers or the loaded rules; needs no root",
        description="List what conditions and outputs can ask for, or the rules that the configuration loads.",
    )
    add_rule_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON array")
    parser.add_argument("what", choices=["fields", "events", "operators", "transformers", "rules"], help="what to list")
    parser.set_defaults(verb=run)


def run(args: argparse.Namespace) -> int:
    """List; 1 if rules are asked for and refused."""
    if args.what == "rules":
        rows = _rules(args)
        if rows is None:
            return 1
    else:
        rows = _TABLES[args.what]()
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        _print_table(rows)
    return 0


def _fields(source: str | None = None) -> list[Row]:
    return [
        {
            "field": row.name,
            "argument": _ARGUMENTS[row.arg]
            + ("" if row.arg_required or row.arg is ArgKind.NONE else ", may be left out"),
            "type": row.type.value,
            "source": " ".join(row.sources),
            "meaning": row.doc,
        }
        for rows in CLASSES.values()
        for row in rows
        if source is None or source in row.sources
    ]


def _events() -> list[Row]:
    return [
        {
            "event": type_.value,
            "category": spec.category.value,
            "arguments": " ".join(p.name for p in spec.params if not p.internal),
        }
        for type_, spec in EVENTS.items()
        if spec.category is not Category.INTERNAL
    ]


def _operators() -> list[Row]:
    return [
        {"operator": op.value, "types": " ".join(t.value for t in FieldType if op in operators_of(t))}
        for op in Operator
    ]


def _transformers() -> list[Row]:
    return [{"transformer": row.name, "type": row.type.value, "meaning": row.doc} for row in TRANSFORMERS.values()]


_TABLES = {"fields": _fields, "events": _events, "operators": _operators, "transformers": _transformers}


def print_rows(source: str | None, *, as_json: bool, markdown: bool) -> None:
    """The fields of a source, or without one the events, as the flags of `tercel run` print them."""
    rows = _events() if source is None else _fields(source)
    if as_json:
        print(json.dumps(rows, indent=2))
    elif markdown:
        for cells in (list(rows[0]), ["---"] * len(rows[0]), *(map(_text, row.values()) for row in rows)):
            print(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    else:
        _print_table(rows)


def falco_fields(source: str) -> dict[str, object]:
    """The fields of a source as `falco --list --format json` prints them."""
    classes = [
        {
            "name": name,
            "desc": "",
            "event_sources": [source],
            "fields": [
                {
                    "name": row.name,
                    "type": row.type.value,
                    "desc": row.doc,
                    "is_list": row.is_list,
                    "argument": _argument(row),
                }
                for row in rows
                if source in row.sources
            ],
        }
        for name, rows in CLASSES.items()
    ]
    return {"fieldclasses": [c for c in classes if c["fields"]]}


def _argument(row: Field) -> dict[str, object] | None:
    kinds = {ArgKind.INDEX: ["INDEX"], ArgKind.KEY: ["KEY"], ArgKind.INDEX_OR_KEY: ["INDEX", "KEY"]}
    return None if row.arg is ArgKind.NONE else {"required": row.arg_required, "type": kinds[row.arg]}


def falco_events() -> dict[str, object]:
    """The events as `falco --list-events --format json` prints them: all of ours are ends of system calls."""
    events = [
        {
            "name": type_.value,
            "dir": "<",
            "available": not spec.bulk,
            "params": [
                {"name": p.name, "type": p.type.value.strip()} | ({"flags": list(p.flags)} if p.flags else {})
                for p in spec.params
                if not p.internal
            ],
        }
        for type_, spec in EVENTS.items()
        if spec.category is not Category.INTERNAL and spec.source == "syscall"
    ]
    return {"Syscall events": events}


def _rules(args: argparse.Namespace) -> list[Row] | None:
    generation = load_generation(args)
    if generation is None:
        return None
    rows: list[Row] = []
    for rule in selected(generation.loaded.rules, generation.config.switches):
        maturity = [m[1] for tag in rule.tags if (m := _MATURITY.fullmatch(tag))]
        judged = rule.enabled and rule.priority <= generation.config.priority
        rows.append(
            {
                "rule": json_safe(rule.name),
                "priority": rule.priority.label,
                "enabled": judged,
                "maturity": maturity[0] if maturity else "",
                "source": rule.source,
                "tags": " ".join(map(json_safe, rule.tags)),
            }
        )
    return rows


def _print_table(rows: Sequence[Row]) -> None:
    if not rows:
        return
    names = list(rows[0])
    texts = [[printable(_text(row[name])) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in texts)) for i, name in enumerate(names)]
    for line in [[name.upper() for name in names], *texts]:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _text(value: object) -> str:
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
