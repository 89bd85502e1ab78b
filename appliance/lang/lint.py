"""What a rule's author may not have meant, though it can be loaded.

Comes in: checked rules. Goes out: warnings. Never: a refusal, and no warning that a closer look would take back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from appliance.catalog import elsewhere
from appliance.catalog.lookup import fields_of
from appliance.catalog.narrow import is_absent, specialise
from appliance.lang.source import Report
from appliance.model.diagnostic import Diagnostic, Severity
from appliance.model.event import EventType
from appliance.model.expr import FALSE, TRUE, And, Check, Expr, FieldRef, Not, Or, Word, checks_of
from appliance.model.field import Operator
from appliance.model.rule import Placed, Rule

_COMM = 15  # bytes of a name that the kernel keeps, TASK_COMM_LEN - 1
_PATH_OF = {"proc.name": "proc.exepath", "proc.pname": "proc.pexepath", "proc.aname": "proc.aexepath"}
_COMM_FIELDS = frozenset({"proc.name", "proc.pname", "proc.aname"})
_EQUAL = frozenset({Operator.EQ, Operator.IN})


def lint(rule: Rule, condition: Placed, output: Placed, report: Report) -> None:
    """Look at one rule; `condition` and `output` are its texts as written."""
    if not rule.event_types:
        return  # told already
    causes = [_lint_check(rule, check, report) for check in checks_of(rule.condition)]
    for expr in _all_of(rule.condition):
        causes.append(_contradictions(expr, report))
    forms = {specialise(rule.condition, t) for t in rule.event_types}
    if any(causes):
        pass  # told where it lies
    elif forms == {FALSE}:
        report.warn("never-holds", f"the condition of `{rule.name}` can never hold", condition.span(),
                    "each of its events lacks a field that it needs")  # fmt: skip
    elif TRUE in forms and any(_asks_more(check) for check in checks_of(rule.condition)):
        always = [t for t in rule.event_types if specialise(rule.condition, t) == TRUE]
        report.warn("always-holds", f"the condition of `{rule.name}` holds on every event of {_names(always)}",
                    condition.span(), "its checks look at what such an event never has")  # fmt: skip
    told = set()
    for part in rule.output.parts:
        if isinstance(part, str):
            continue
        for field in fields_of(part):
            if field not in told and _never_told(field, rule.event_types):
                told.add(field)
                report.warn("always-absent", f"`%{field}` is `<NA>` in every message of `{rule.name}`",
                            field.span, f"no event of type {_names(rule.event_types)} has it")  # fmt: skip


def shadowed(rules: Sequence[Rule]) -> Iterator[Diagnostic]:
    """Rules that never raise an alert under `rule_matching: first`, because an earlier one always does.

    Told where an earlier rule asks for nothing that the later one does not ask for, too.
    """
    seen: list[tuple[Rule, frozenset[Expr]]] = []
    for rule in rules:
        if not rule.enabled:
            continue
        parts = frozenset(_parts(rule.condition))
        for earlier, fewer in seen:
            if fewer <= parts:
                yield Diagnostic(
                    "shadowed", f"`{rule.name}` never fires: `{earlier.name}` holds wherever it does, and comes first",
                    rule.span, "put it before, or set `rule_matching: all`", Severity.WARNING,
                )  # fmt: skip
                break
        seen.append((rule, parts))


def _asks_more(check: Check) -> bool:
    return not (isinstance(check.left, FieldRef) and check.left.name == "evt.type")


def _lint_check(rule: Rule, check: Check, report: Report) -> bool:
    """Look at one check; True if it can never hold."""
    if isinstance(check.left, FieldRef) and check.left.name in elsewhere.FIELDS:
        return True  # told already
    never = isinstance(check.left, FieldRef) and _never_told(check.left, rule.event_types)
    if never:
        report.warn("never-true", f"`{check.left}` has no value on the events of `{rule.name}`: this is always false",
                    check.span, f"its events are {_names(rule.event_types)}")  # fmt: skip
    if isinstance(check.left, FieldRef) and check.left.name in _COMM_FIELDS and check.op in _EQUAL:
        for word in _words(check):
            name = word.text.encode("utf-8", "surrogateescape")
            if len(name) > _COMM:
                kept = name[:_COMM].decode("utf-8", "replace")
                hint = f"write `{kept}`"
                if "/" in word.text:
                    hint = f"`{_PATH_OF[check.left.name]}` is the path of the running file"
                elif any(other.text == kept for other in _words(check)):
                    hint = f"take it out: `{kept}`, which is what they are cut to, is there already"
                report.warn("name-too-long", f"`{check.left}` never equals `{word.text}`: names end at {_COMM} bytes",
                            word.span, hint)  # fmt: skip
    return never


def _contradictions(expr: And, report: Report) -> bool:
    """Checks of one `and` that ask one field to be two things; True if there are some."""
    found = False
    wanted: dict[FieldRef, tuple[Check, set[str]]] = {}
    for part in expr.parts:
        if not (isinstance(part, Check) and isinstance(part.left, FieldRef) and part.op in _EQUAL):
            continue
        if part.quantifier is not None or isinstance(part.right, FieldRef) or part.left.name in _SEVERAL:
            continue
        words = {word.text for word in _words(part)}
        before = wanted.get(part.left)
        if before is not None and words and not before[1] & words:
            report.warn("contradiction", f"`{part.left}` cannot be this and `{_short(before[0])}` at once", part.span,
                        f"the other check is at line {before[0].span.line}; join them by `or`")  # fmt: skip
            found = True
        else:
            wanted[part.left] = (part, words)
    return found


_SEVERAL = frozenset(
    {"fd.ip", "fd.port", "fd.net", "proc.aname", "proc.aexe", "proc.aexepath", "proc.acmdline", "proc.apid"}
)


def _never_told(field: FieldRef, types: Iterable[EventType]) -> bool:
    return field.name not in elsewhere.FIELDS and all(is_absent(field, t) for t in types)  # those are reported already


def _short(check: Check) -> str:
    text = str(check)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _names(types: Iterable[EventType]) -> str:
    names = sorted(t.value for t in types)
    return ", ".join(names[:4]) + (" ..." if len(names) > 4 else "")


def _words(check: Check) -> Iterator[Word]:
    words = check.right if isinstance(check.right, tuple) else (check.right,)
    yield from (word for word in words if isinstance(word, Word))


def _parts(expr: Expr) -> Iterator[Expr]:
    if isinstance(expr, And):
        for part in expr.parts:
            yield from _parts(part)
    else:
        yield expr


def _all_of(expr: Expr) -> Iterator[And]:
    if isinstance(expr, And):
        yield And(tuple(_parts(expr)), expr.span)
        for part in _parts(expr):
            yield from _all_of(part)
    elif isinstance(expr, Not):
        yield from _all_of(expr.part)
    elif isinstance(expr, Or):
        for part in expr.parts:
            yield from _all_of(part)
