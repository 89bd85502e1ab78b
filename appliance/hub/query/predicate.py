"""A tree -> a function that judges one alert.

Comes in: a tree of `tree.read_filter`. Goes out: alert -> whether it matches, exactly as every engine of `store`
answers. A check of an absent value is false, `!=` included, as in Falco's conditions. Never: a time that grows faster
than the alert's text: patterns are RE2's.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import assert_never

from appliance.catalog.operators import regex_matcher
from appliance.hub.alert import HubAlert, JsonValue
from appliance.hub.query.tree import ORDER, PRIORITIES, number_of, read_filter, words_right
from appliance.hub.query.words import searched, text_of, words_of
from appliance.model.expr import And, Call, Check, Const, Expr, FieldRef, Macro, Not, Operand, Or, Quantifier, Word
from appliance.model.field import Operator

Judge = Callable[[HubAlert], bool]
_Values = Callable[[HubAlert], Sequence[JsonValue]]
_Test = Callable[[JsonValue], bool]


def compile_filter(text: str, now_ns: int = 0) -> Judge:
    """The judge of a filter as a person wrote it. Raises `RuleError` with a diagnostic for that person."""
    return predicate(read_filter(text, now_ns))


def predicate(expr: Expr) -> Judge:
    """The judge of a tree."""
    match expr:
        case Const(value):
            return lambda alert: value
        case Not(part):
            inner = predicate(part)
            return lambda alert: not inner(alert)
        case And(parts):
            judges = tuple(map(predicate, parts))
            return lambda alert: all(judge(alert) for judge in judges)
        case Or(parts):
            judges = tuple(map(predicate, parts))
            return lambda alert: any(judge(alert) for judge in judges)
        case Check():
            return _check(expr)
        case Macro():
            raise TypeError("a search holds no macros")
        case _:
            assert_never(expr)


def own_value(alert: HubAlert, name: str) -> JsonValue:
    """The value of a field, an alert's own or one of its output fields; None where absent."""
    match name:
        case "rule":
            return alert.rule or None
        case "hostname":
            return alert.hostname or None
        case "source":
            return alert.source or None
        case "output":
            return alert.output
        case "id":
            return alert.id
        case "priority":
            return alert.priority.label
        case _:
            return alert.fields.get(name)


def _check(check: Check) -> Judge:
    if isinstance(check.left, FieldRef):
        match check.left.name:
            case "text":
                return _text(check)
            case "priority":
                return _priority(check)
            case "time":
                return _time(check)
    values = _values(check.left)
    if check.op is Operator.EXISTS:
        return lambda alert: bool(values(alert))
    if isinstance(check.right, FieldRef | Call):
        return _with_field(values, check.op, _values(check.right))
    words = [check.right.text] if isinstance(check.right, Word) else [w.text for w in check.right or ()]
    if check.quantifier is not None:
        tests = [_test(check.op, [word]) for word in words]
        return _quantified(values, check.quantifier, tests)
    test = _test(check.op, words)
    if check.op is Operator.NE:  # of several values: none of them is that one
        return lambda alert: bool(found := values(alert)) and all(map(test, found))
    return lambda alert: any(map(test, values(alert)))


def _quantified(values: _Values, quantifier: Quantifier, tests: Sequence[_Test]) -> Judge:
    def judge(alert: HubAlert) -> bool:
        found = values(alert)
        held = sum(any(map(test, found)) for test in tests)
        match quantifier:
            case Quantifier.ANY:
                return held > 0
            case Quantifier.ALL:
                return bool(found) and held == len(tests)
            case Quantifier.ONE:
                return held == 1

    return judge


def _text(check: Check) -> Judge:
    [word] = words_right(check)
    words = words_of(word.text)
    if not words:
        return lambda alert: False
    prefix = word.text.rstrip().endswith("*")
    phrase = " ".join(words)
    tail = "" if prefix else r"(?![0-9a-z_\x80-\U0010ffff])"
    gap = r"[^0-9a-z_\x80-\U0010ffff]+"
    pattern = re.compile(r"(?<![0-9a-z_\x80-\U0010ffff])" + gap.join(map(re.escape, words)) + tail)
    first = max(phrase.split(" "), key=len)

    def judge(alert: HubAlert) -> bool:
        text = searched(alert)
        return first in text and pattern.search(text) is not None

    return judge


def _priority(check: Check) -> Judge:
    """`>=` means at least as severe: `priority >= warning` holds for warning, error and all above."""
    if check.op is Operator.EXISTS:
        return lambda alert: True
    words = (
        [check.right] if isinstance(check.right, Word) else list(check.right) if isinstance(check.right, tuple) else []
    )
    wanted = frozenset(PRIORITIES[word.text.lower()] for word in words)
    match check.op:
        case Operator.EQ | Operator.IN:
            return lambda alert: alert.priority in wanted
        case Operator.NE:
            return lambda alert: alert.priority not in wanted
        case _:
            [bound] = wanted
            allowed = frozenset(p for p in PRIORITIES.values() if _ordered(check.op, -p, -bound))
            return lambda alert: alert.priority in allowed


def _time(check: Check) -> Judge:
    [word] = words_right(check)
    bound = int(word.text)
    op = check.op
    return lambda alert: _ordered(op, alert.ts_ns, bound)


def _ordered(op: Operator, left: float, right: float) -> bool:
    match op:
        case Operator.LT:
            return left < right
        case Operator.LE:
            return left <= right
        case Operator.GT:
            return left > right
        case _:
            return left >= right


def _values(operand: Operand) -> _Values:
    if isinstance(operand, FieldRef):
        name = str(operand)
        if name == "tags":
            return lambda alert: alert.tags
        return lambda alert: _several(own_value(alert, name))
    [inner] = operand.args
    of = _values(inner) if not isinstance(inner, Word) else _constant(inner.text)
    change = _CHANGES[operand.name]
    return lambda alert: [change(text_of(value)) for value in of(alert)]


def _constant(text: str) -> _Values:
    return lambda alert: (text,)


_CHANGES: dict[str, Callable[[str], JsonValue]] = {
    "tolower": str.lower,
    "toupper": str.upper,
    "basename": lambda text: text.rpartition("/")[2],
    "len": lambda text: len(text.encode("utf-8", "surrogatepass")),
}


def _several(value: JsonValue) -> Sequence[JsonValue]:
    if value is None:
        return ()
    if isinstance(value, list | tuple):
        return value
    return (value,)


def _with_field(values: _Values, op: Operator, others: _Values) -> Judge:
    def judge(alert: HubAlert) -> bool:
        return any(_test(op, [text_of(other)])(value) for other in others(alert) for value in values(alert))

    return judge


def _test(op: Operator, words: Sequence[str]) -> _Test:
    if op in ORDER:
        bound = number_of(words[0])
        return lambda value: (n := _number(value)) is not None and bound is not None and _ordered(op, n, bound)
    match op:
        case Operator.EQ | Operator.IN | Operator.INTERSECTS:
            return _equal(words)
        case Operator.NE:
            equal = _equal(words)
            return lambda value: not equal(value)
        case Operator.PMATCH:
            roots = frozenset(word.rstrip("/") or "/" for word in words)
            return lambda value: _below(text_of(value), roots)
        case _:
            return _text_test(op, words[0])


def _text_test(op: Operator, word: str) -> _Test:
    match op:
        case Operator.CONTAINS:
            return lambda value: word in text_of(value)
        case Operator.ICONTAINS:
            lower = word.lower()
            return lambda value: lower in text_of(value).lower()
        case Operator.STARTSWITH:
            return lambda value: text_of(value).startswith(word)
        case Operator.ENDSWITH:
            return lambda value: text_of(value).endswith(word)
        case Operator.REGEX:
            matches = regex_matcher(word)
            return lambda value: matches(_encodable(text_of(value)))
        case Operator.GLOB:
            globbed = regex_matcher("(?s)" + _regex_of_glob(word))
            return lambda value: globbed(_encodable(text_of(value)))
        case Operator.IGLOB:
            lowered = regex_matcher("(?s)" + _regex_of_glob(word.lower()))
            return lambda value: lowered(_encodable(text_of(value).lower()))
        case _:
            raise TypeError(f"no test for {op}")


def _encodable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _regex_of_glob(glob: str) -> str:
    return "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in glob)


def _equal(words: Sequence[str]) -> _Test:
    texts = frozenset(words)
    numbers = frozenset(n for word in words if (n := number_of(word)) is not None)
    networks = [network for word in words if "/" in word and (network := _network(word)) is not None]

    def equal(value: JsonValue) -> bool:
        if isinstance(value, str):
            return value in texts or (bool(networks) and _inside(value, networks))
        if isinstance(value, bool):
            return text_of(value) in texts
        return (isinstance(value, int | float) and value in numbers) or text_of(value) in texts

    return equal


def _network(word: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(word, strict=False)
    except ValueError:
        return None


def _inside(text: str, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return any(address in network for network in networks)


def _below(path: str, roots: frozenset[str]) -> bool:
    path = path.rstrip("/")
    while path:
        if path in roots:
            return True
        path = path.rpartition("/")[0]
    return "/" in roots


def _number(value: JsonValue) -> int | float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    return number_of(value) if isinstance(value, str) else None
