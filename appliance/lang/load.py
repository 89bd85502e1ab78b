"""The front door: files -> rules and diagnostics.

Comes in: paths or texts. Goes out: `LoadedRules`, with all that is wrong in all of them. Never: an exception for what
an author wrote, and no rule that has an error in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.catalog.narrow import ORDINARY, event_types
from appliance.lang.check import Checker
from appliance.lang.collector import RuleBook, collect
from appliance.lang.exceptions import excused, operands_of
from appliance.lang.lexer import Unreadable
from appliance.lang.lint import lint
from appliance.lang.parser import parse_output
from appliance.lang.reader import Item, read_items
from appliance.lang.resolve import Resolver
from appliance.lang.source import Report, Source, read_documents
from appliance.model.diagnostic import Diagnostic, Severity, Span
from appliance.model.event import EventType
from appliance.model.expr import And, Expr, FieldRef, Operand
from appliance.model.field import SOURCES
from appliance.model.rule import Output, Rule, RuleDef
from appliance.model.text import why

MAX_BYTES = 4 << 20
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_TYPE_NAMES = frozenset(t.value for t in EventType)
_FILE = "LOAD_ERR_FILE_READ"


@dataclass(frozen=True, slots=True)
class LoadedRules:
    """All rules that hold up, in load order, and all diagnostics by place."""

    rules: tuple[Rule, ...]
    diagnostics: tuple[Diagnostic, ...]
    macros: int = 0
    lists: int = 0

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The diagnostics that refuse the rules."""
        return tuple(d for d in self.diagnostics if d.severity is Severity.ERROR)


def load_rules(files: Sequence[Path], *, lenient: bool = False, rest: Callable[[], None] = lambda: None) -> LoadedRules:
    """Read rule files, and the `.yml` and `.yaml` files of folders by name, in the given order.

    `lenient`: unknown keys and items are warned of and passed over. `rest` is called between two rules.
    """
    report = Report(lenient=lenient)
    names: list[str] = []
    sources: list[Source] = []
    for path in files:
        for file in _expand(path, report):
            names.append(str(file))
            source = _read(file, report)
            if source is not None:
                sources.append(source)
    return _load(sources, names, report, rest)


def load_texts(texts: Sequence[tuple[str, str]], *, lenient: bool = False) -> LoadedRules:
    """The same for (name, text) pairs that are in memory already."""
    sources = [Source(name, text) for name, text in texts]
    return _load(sources, [name for name, _ in texts], Report(lenient=lenient), lambda: None)


def _expand(path: Path, report: Report) -> list[Path]:
    try:
        if not path.is_dir():
            return [path]
        found = sorted(p for p in path.iterdir() if p.suffix in (".yml", ".yaml") and not p.is_dir())
    except OSError as error:
        report.add("unreadable-file", f"cannot read the folder: {why(error)}", Span(str(path), 1, 1), code=_FILE)
        return []
    if not found and path.suffix != ".d":  # one that others may drop files into has none at first
        report.warn("empty-folder", "no `.yml` or `.yaml` file is in this folder", Span(str(path), 1, 1))
    return found


def _read(path: Path, report: Report) -> Source | None:
    start = Span(str(path), 1, 1)
    try:
        if path.exists() and not path.is_file():
            report.add("unreadable-file", "not a regular file", start, code=_FILE)
            return None
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        hint = "check the path, or `rules_files` in the configuration" if isinstance(error, FileNotFoundError) else None
        report.add("unreadable-file", f"cannot read the file: {why(error)}", start, hint, code=_FILE)
        return None
    if len(data) > MAX_BYTES:
        report.add(
            "file-too-large", f"the file has {size} bytes; a rules file may have {MAX_BYTES}", start,
            "split it into several files", code=_FILE,
        )  # fmt: skip
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        report.add(
            "not-utf-8", "the file is not UTF-8 text", Span(str(path), line, column),
            "is this a rules file? save it as UTF-8", code=_FILE,
        )  # fmt: skip
        return None
    return Source(str(path), text)


def _load(sources: Sequence[Source], names: Sequence[str], report: Report, rest: Callable[[], None]) -> LoadedRules:
    items: list[Item] = []
    for source in sources:
        report.know(source)
        control = _CONTROL.search(source.text)
        if control is not None:
            at = control.start()
            report.add(
                "binary-file", f"a control character (code {ord(control.group())}) stands in the file",
                source.span(at, at + 1), "is this a text file? remove the character", code="LOAD_ERR_YAML_PARSE",
            )  # fmt: skip
            continue
        items += read_items(read_documents(source, report), report, items)
    book = collect(items, report)
    rules = _Compiler(book, report).rules(rest)
    return LoadedRules(rules, report.sorted(names), len(book.macros), len(book.lists))


def _with_container_info(parts: Iterable[str | Operand]) -> Iterator[str | Operand]:
    """`%container.info`, which is no field: rules of old have it where the container's id and name are to stand."""
    for part in parts:
        if isinstance(part, FieldRef) and part.name == "container.info" and part.arg is None:
            yield "container_id="
            yield FieldRef("container.id", None, part.span)
            yield " container_name="
            yield FieldRef("container.name", None, part.span)
        else:
            yield part


def _named_types(condition: str) -> frozenset[str]:
    """The types of event that a condition names, as far as its text shows."""
    return _TYPE_NAMES.intersection(re.findall(r"\w+", condition)) if "evt.type" in condition else frozenset()


class _Compiler:
    def __init__(self, book: RuleBook, report: Report) -> None:
        self._book = book
        self._report = report
        self._strange: dict[str, list[RuleDef]] = {}
        self._checkers = {source: Checker(report, source) for source in SOURCES}
        for checker in self._checkers.values():
            checker.macros = book.macros.keys()
        self._resolvers: dict[str, Resolver] = {}
        parsed = None
        for source, checker in self._checkers.items():
            self._resolvers[source] = Resolver(book, report, checker.check, parsed)
            parsed = self._resolvers[source].parsed
        # what no rule uses may be wrong too; of which source it is meant to be, nobody knows
        self._of_any = Resolver(book, report, Checker(report, None).check, parsed)

    def rules(self, rest: Callable[[], None]) -> tuple[Rule, ...]:
        made: list[Rule | None] = []
        for rule in self._book.rules.values():
            made.append(self._rule(rule))
            rest()
        for source, strange in self._strange.items():
            self._unknown_source(source, strange)
        used_macros = {name for resolver in self._resolvers.values() for name in resolver.used_macros}
        used_lists = {name for resolver in self._resolvers.values() for name in resolver.used_lists}
        for name, macro in self._book.macros.items():
            if name not in used_macros:
                self._of_any.macro(macro)
        if not self._report.error_count:  # what could not be read may use them
            self._unused(used_macros, used_lists)
        return tuple(rule for rule in made if rule is not None)

    def _unknown_source(self, source: str, rules: Sequence[RuleDef]) -> None:
        """One warning for all rules of a source: what is missing is one thing."""
        first = rules[0].name
        who, left = f"rule `{first.value}` is", "it is left out"
        if len(rules) > 1:
            who, left = f"rule `{first.value}` and {len(rules) - 1} more are", "they are left out"
        self._report.warn(
            "unknown-source", f"{who} for the source `{source}`, which is not here; {left}", first.span(),
            f"the sources here are {', '.join(f'`{s}`' for s in SOURCES)}", "LOAD_UNKNOWN_SOURCE",
        )  # fmt: skip

    def _unused(self, macros: set[str], lists: set[str]) -> None:
        # a file without rules is a library: others use of it what they need
        ours = {rule.name.span().file for rule in self._book.rules.values()}
        lists = lists | {i.value for d in self._book.lists.values() for i in d.items} | self._of_any.used_lists
        macros = macros | self._of_any.used_macros
        for name, macro in self._book.macros.items():
            if name not in macros and macro.name.span().file in ours:
                self._report.warn(
                    "unused-macro", f"no rule uses the macro `{name}`", macro.name.span(), None, "LOAD_UNUSED_MACRO"
                )
        for name, listed in self._book.lists.items():
            if name not in lists and listed.name.span().file in ours:
                self._report.warn(
                    "unused-list", f"nothing uses the list `{name}`", listed.name.span(), None, "LOAD_UNUSED_LIST"
                )

    def _rule(self, rule: RuleDef) -> Rule | None:
        name = rule.name.value
        if rule.source not in SOURCES:
            self._strange.setdefault(rule.source, []).append(rule)
            return None
        checker = self._checkers[rule.source]
        checker.lenient = rule.skip_if_unknown_filter
        checker.events = _named_types(rule.condition.value)
        condition = self._condition(rule)
        output = self._output(rule, checker)
        checker.lenient = False
        if condition is None or output is None:
            return None
        types = event_types(condition, rule.source)
        self._types(rule, condition, types)
        made = Rule(
            name, rule.desc.value, condition, output, rule.priority, rule.source, rule.tags, rule.enabled, types,
            rule.name.span(), rule.warn_evttypes, rule.capture, rule.capture_duration_ms,
        )  # fmt: skip
        lint(made, rule.condition, rule.output, self._report)
        return made

    def _condition(self, rule: RuleDef) -> Expr | None:
        """The condition and, behind it, what its exceptions excuse."""
        resolver = self._resolvers[rule.source]
        condition = resolver.condition(rule.condition)
        parts = []
        errors = self._report.error_count
        for exception in rule.exceptions:
            group = excused(exception, self._report)
            if not exception.values:  # nothing is expanded, and its fields must be known all the same
                for operand in operands_of(exception):
                    self._checkers[rule.source].operand(operand, "LOAD_ERR_VALIDATE")
            expanded = None if group is None else resolver.expand(group)
            if expanded is not None:
                parts.append(expanded)
        if condition is None or self._report.error_count > errors:
            return None
        if not parts:
            return condition
        before_them = condition.parts if isinstance(condition, And) else (condition,)
        return And((*before_them, *parts), condition.span)

    def _types(self, rule: RuleDef, condition: Expr, types: frozenset[object]) -> None:
        if not types:
            self._report.warn(
                "never-holds", f"the condition of `{rule.name.value}` can hold on no event type", rule.condition.span(),
                "two checks of `evt.type` joined by `and` exclude each other",
            )  # fmt: skip
        elif rule.source == "syscall" and len(types) * 2 > len(ORDINARY) and rule.warn_evttypes:
            self._report.warn(
                "no-evttype", f"rule `{rule.name.value}` is judged on {len(types)} event types", rule.condition.span(),
                "restrict it by `evt.type in (...)`, or set `warn_evttypes: false`", "LOAD_NO_EVTTYPE",
            )  # fmt: skip

    def _output(self, rule: RuleDef, checker: Checker) -> Output | None:
        text = rule.output
        written = text.value.rstrip()  # a folded block ends in a line end
        code = "LOAD_ERR_COMPILE_OUTPUT"
        try:
            parts = tuple(_with_container_info(parse_output(written, text)))
        except Unreadable as error:
            self._report.add(error.name, error.message, text.span(error.start, error.end), error.hint, code=code)
            return None
        good = [checker.operand(p, code) for p in parts if not isinstance(p, str)]
        return Output(written, parts) if all(good) else None
