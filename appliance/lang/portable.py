"""What only Tercel accepts: rules that Falco 0.44 would refuse, though they can be loaded here.

Comes in: checked rules. Goes out: warnings, asked for by `tercel check --falco`. Never: a refusal. What Falco refuses
was tried on it, form by form.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from appliance.catalog.fields import FIELDS
from appliance.catalog.lookup import find_field, value_of
from appliance.catalog.operators import NUMBERS
from appliance.model.diagnostic import Diagnostic, Severity
from appliance.model.expr import Call, Check, FieldRef, Operand, Word, checks_of
from appliance.model.field import Operator
from appliance.model.rule import Rule

_OURS = "(not in Falco)"
_BY_DOT = {"evt.arg": "evt.arg.{}", "evt.rawarg": "evt.rawarg.{}", "evt.type.is": "evt.type.is.{}",
           "thread.cgroup": "thread.cgroup.{}"}  # fmt: skip
_OF_LISTS = frozenset({Operator.IN, Operator.INTERSECTS, Operator.EXISTS, Operator.PMATCH})

Found = tuple[Operand | Word | Check, str, str]


def only_here(rules: tuple[Rule, ...]) -> Iterator[Diagnostic]:
    """A warning for each thing in a rule that Falco would refuse."""
    for rule in rules:
        seen: set[tuple[object, str]] = set()
        for where, what, hint in _of_rule(rule):
            if (where.span, what) not in seen:
                seen.add((where.span, what))
                yield Diagnostic(
                    "only-here", f"rule `{rule.name}`: {what}", where.span, hint, severity=Severity.WARNING
                )


def _of_rule(rule: Rule) -> Iterator[Found]:
    for check in checks_of(rule.condition):
        yield from _operand(check.left)
        yield from _check(check)
        if isinstance(check.right, FieldRef | Call):
            yield from _operand(check.right)
    for parts in (rule.output.parts, *(parts for _, parts in rule.output.extra)):
        for part in parts:
            if not isinstance(part, str):
                yield from _operand(part)


def _operand(operand: Operand) -> Iterator[Found]:
    if isinstance(operand, Call):
        yield from _call(operand)
        return
    found = find_field(operand)
    if found is None:
        return
    if _OURS in found[0].doc:
        yield operand, f"`{operand.name}` is a field of Tercel alone", "leave it out where Falco must load the rule"
    dotted = _BY_DOT.get(operand.name)
    if dotted is not None and operand.arg is not None and not operand.arg.isdigit():
        yield operand, f"Falco does not read `{operand}`", f"write `{dotted.format(operand.arg)}`"


def _call(call: Call) -> Iterator[Found]:
    listed = [isinstance(arg, Call) and not arg.name for arg in call.args]
    if call.name == "join" and not (len(listed) == 2 and listed[1]):
        items = ", ".join(map(str, call.args[1:]))
        yield call, "Falco's `join` takes a list", f"write `join({call.args[0]}, ({items}))`"
    if call.name == "getopt" and not listed[0]:
        yield call, "Falco's `getopt` takes a list", f"write `getopt(({call.args[0]}), ...)`"
    for arg in call.args:
        if isinstance(arg, Word):
            continue
        value = value_of(arg)
        if call.name == "len" and value is not None and not value.several and value.row.type in NUMBERS:
            yield call, f"Falco's `len` takes no number, as `{arg}` is one", "compare the number itself"
        yield from _operand(arg)


def _check(check: Check) -> Iterator[Found]:
    name = check.left.name if isinstance(check.left, FieldRef) else ""
    if name == "fd.types" and check.op not in _OF_LISTS:
        yield check, f"Falco's `fd.types` is a list, and takes no `{check.op.value}`", f"write `{check.left} in (...)`"
    right = check.right
    if isinstance(right, FieldRef) and (right.arg is not None or right.name.startswith("evt.rawarg")):
        yield right, f"Falco takes no `val({right})`", "compare fields without arguments"
    for word in right if isinstance(right, tuple) else (right,):
        if not isinstance(word, Word):
            continue
        if check.op is Operator.REGEX and "(?" in word.text:
            yield word, "Falco refuses options in a regular expression", "use `icontains`, or write both cases"
        row = FIELDS.get(name)
        if row is not None and row.type in NUMBERS and word.text.lower().startswith("0x"):
            yield word, f"Falco reads no `{word.text}` for a number", f"write `{int(word.text, 16)}`"
        if _is_mapped(word.text):
            yield word, f"Falco reads no `{word.text}`", "write the IPv4 address"


def _is_mapped(text: str) -> bool:
    """True for an IPv4 address as IPv6 writes it."""
    try:
        return ":" in text and getattr(ipaddress.ip_address(text), "ipv4_mapped", None) is not None
    except ValueError:
        return False
