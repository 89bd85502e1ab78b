"""What a person writes into a search box or a filter -> one tree.

Comes in: Falco's conditions over an alert's fields, plain words, phrases, `-` before what must not be there. Goes out:
the same nodes that conditions of rules have; a word is a check of the field `text`. Raises `RuleError` with the place,
what is wrong and what to write instead. Never: a look at a clock other than through `now_ns`.

    rule startswith "Read sensitive" and priority >= warning
    sshd -cron "failed password" hostname in (web1, web2) since:24h
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches

from appliance.catalog.fields import FIELDS
from appliance.catalog.operators import regex_matcher
from appliance.hub.query.moments import read_moment
from appliance.hub.query.words import words_of
from appliance.lang.lexer import Lexer, Token, Unreadable
from appliance.lang.parser import MAX_NESTING, parse
from appliance.model.alert import Priority
from appliance.model.diagnostic import Diagnostic, RuleError, Span
from appliance.model.expr import TRUE, And, Call, Check, Expr, FieldRef, Not, Or, Word, checks_of
from appliance.model.field import Operator

OWN = ("rule", "priority", "tags", "source", "hostname", "output", "time", "text", "id")
"""What every alert has beside its output fields. `text` is all of its text, word by word."""

PRIORITIES = {p.label.lower(): p for p in Priority} | {"info": Priority.INFORMATIONAL}
TRANSFORMERS = ("tolower", "toupper", "basename", "len")
ORDER = frozenset({Operator.LT, Operator.LE, Operator.GT, Operator.GE})

_OPERATORS = frozenset(op.value for op in Operator if op.value.isalpha())
_EQUALITY = frozenset({Operator.EQ, Operator.NE, Operator.IN, Operator.EXISTS})
_BARE = re.compile(r"[^\s()\"']+")
_TIME_WORD = re.compile(r"(since|until):(\S+)")
_PREFIX = "alert."
_MAX_CHARS = 20_000
_MAX_CHECKS = 1_000


def read_filter(text: str, now_ns: int = 0) -> Expr:
    """The tree of a search; `TRUE` where the text is blank. Relative times (`-1h`, `since:1h`) count from `now_ns`."""
    try:
        if len(text) > _MAX_CHARS:
            raise Unreadable(
                f"the search is longer than {_MAX_CHARS} characters", 0, 1, "use a shorter one", "too-long"
            )
        expr = _Reader(text, now_ns).whole()
        if sum(1 for _ in checks_of(expr)) > _MAX_CHECKS:
            raise Unreadable(f"the search has more than {_MAX_CHECKS} checks", 0, 1, "use a shorter one", "too-long")
        return expr
    except Unreadable as error:
        raise RuleError([_diagnostic(text, error)]) from None


def conjunction(*parts: Expr) -> Expr:
    """All of these, flat and without what always holds."""
    flat: list[Expr] = []
    for part in parts:
        flat += part.parts if isinstance(part, And) else [] if part == TRUE else [part]
    return TRUE if not flat else flat[0] if len(flat) == 1 else And(tuple(flat))


def check(name: str, op: Operator, *values: str) -> Check:
    """A check made by a program: `check("hostname", Operator.EQ, "web1")`."""
    words = tuple(Word.of(v) for v in values)
    right = None if op is Operator.EXISTS else words if op in (Operator.IN, Operator.INTERSECTS) else words[0]
    return Check(FieldRef(name), op, right)


def _diagnostic(text: str, error: Unreadable) -> Diagnostic:
    before = text[: error.start]
    line = before.count("\n") + 1
    column = error.start - (before.rfind("\n") + 1) + 1
    source = text.split("\n")[line - 1] if text else ""
    span = Span("filter", line, column, max(1, error.end - error.start))
    return Diagnostic(error.name, error.message, span, error.hint, source_line=source)


class _Reader:
    def __init__(self, text: str, now_ns: int) -> None:
        self._text = text
        self._now_ns = now_ns
        self._lexer = Lexer(text)
        self._depth = 0

    def whole(self) -> Expr:
        if self._lexer.ended:
            return TRUE
        expr = self._or()
        if not self._lexer.ended:
            found = self._lexer.rest()
            raise Unreadable("this `)` closes nothing", found.start, found.end, "remove it, or add a `(` before")
        return expr

    def _or(self) -> Expr:
        parts = [self._and("")]
        while (token := self._word_of_logic("or")) is not None:
            parts.append(self._and(token.value))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _and(self, after: str) -> Expr:
        parts = [self._not(after)]
        while True:
            token = self._word_of_logic("and")
            if token is None and (self._lexer.ended or self._lexer.peek() == ")" or self._at_or()):
                break
            parts.append(self._not("and" if token else ""))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _at_or(self) -> bool:
        at = self._lexer.at
        found = self._word_of_logic("or") is not None
        self._lexer.at = at
        return found

    def _word_of_logic(self, word: str) -> Token | None:
        at = self._lexer.at
        token = self._lexer.keyword(word)
        if token is not None and not self._lexer.ended and self._text[token.end] not in " \t\r\n(":
            self._lexer.at = at
            return None
        return token

    def _not(self, after: str) -> Expr:
        lexer = self._lexer
        token = self._word_of_logic("not")
        if token is None and lexer.peek() == "-" and self._text[lexer.at + 1 : lexer.at + 2].strip():
            token = lexer.char("-")
        if token is None:
            return self._primary(after)
        self._deeper(token.start)
        part = self._not(token.value)
        self._depth -= 1
        return Not(part)

    def _deeper(self, at: int) -> None:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise Unreadable(f"nested deeper than {MAX_NESTING} levels", at, at + 1, "use fewer `(`", "too-deep")

    def _primary(self, after: str) -> Expr:
        lexer = self._lexer
        opened = lexer.char("(")
        if opened is not None:
            self._deeper(opened.start)
            expr = self._or()
            if lexer.char(")") is None:
                raise Unreadable("this `(` is never closed", opened.start, opened.end, "add a `)`")
            self._depth -= 1
            return expr
        if lexer.ended or lexer.peek() == ")":
            found = lexer.rest()
            where = f" after `{after}`" if after else ""
            raise Unreadable(
                f"the search ends where a word or a check is expected{where}", max(0, found.start - 1), found.start,
                f"add one, or remove the `{after}`" if after else "write a word, or `rule = \"...\"`",
            )  # fmt: skip
        extent = self._extent()
        if extent is not None:
            return self._check(*extent)
        return self._word()

    def _extent(self) -> tuple[int, int] | None:
        """Where a check starts and ends; None, and nothing taken, where none stands."""
        lexer = self._lexer
        start = lexer.at
        name = lexer.name()
        if name is None:
            lexer.at = start
            return None
        if self._text.startswith("(", name.end):
            self._skip_list()
        elif name.end == lexer.at:
            lexer.argument()
        operator = lexer.symbol()
        if operator is None:
            operator = lexer.keyword(*_OPERATORS)
            plain_words = "." not in name.value and name.value not in (*OWN, *TRANSFORMERS) and lexer.peek() != "("
            if plain_words or (
                operator is not None and self._text[operator.end : operator.end + 1].strip() not in ("", "(", '"', "'")
            ):
                operator = None
        if operator is None:
            lexer.at = start
            return None
        if operator.value == "exists":
            return start, operator.end
        quantifier = lexer.keyword("anyof", "allof", "oneof")
        if quantifier is not None and lexer.peek() != "(":
            lexer.at = quantifier.start
        call = lexer.keyword("val", *TRANSFORMERS)
        if call is not None and not self._text.startswith("(", call.end):
            lexer.at = call.start
        if lexer.peek() == "(":
            self._skip_list()
        else:
            lexer.value()
        return start, len(self._text[: lexer.at].rstrip())

    def _skip_list(self) -> None:
        """Past a `(...)`; a missing `)` is the parser's to report."""
        lexer = self._lexer
        depth = 0
        while not lexer.ended:
            if lexer.peek() in ("'", '"'):
                lexer.value()
                continue
            sign = lexer.char("(") or lexer.char(")")
            if sign is None:
                lexer.at += 1
                continue
            depth += 1 if sign.value == "(" else -1
            if depth == 0:
                return

    def _check(self, start: int, end: int) -> Expr:
        written = self._text[start:end]
        head = re.match(r"[A-Za-z0-9_.-]*", written)
        dotless = head is None or ("." not in head[0] and not written.startswith("(", head.end()))
        shift = len(_PREFIX) if dotless else 0
        try:
            expr = parse(_PREFIX + written if dotless else written)
        except Unreadable as error:
            at, to = (max(start, place - shift + start) for place in (error.start, error.end))
            raise Unreadable(error.message.replace(_PREFIX, ""), at, to, error.hint, error.name) from None
        if not isinstance(expr, Check):
            raise Unreadable("expected a check", start, end)
        if isinstance(expr.left, FieldRef) and dotless:
            expr = replace(expr, left=replace(expr.left, name=expr.left.name.removeprefix(_PREFIX)))
        return self._judged(expr, start, end)

    def _judged(self, node: Check, start: int, end: int) -> Expr:
        """The check, if an alert can answer it."""
        for operand in (node.left, node.right):
            if isinstance(operand, Call):
                self._judge_call(operand, start, end)
        name = node.left.name if isinstance(node.left, FieldRef) else ""
        if name == "priority":
            return self._priority(node, start, end)
        if name == "time":
            return self._time(node, start, end)
        if name == "text":
            return self._text_check(node, start, end)
        if node.op in (Operator.BCONTAINS, Operator.BSTARTSWITH):
            raise Unreadable(
                f"`{node.op.value}` is not available in searches", start, end, "use `contains`", "unknown-operator"
            )
        if isinstance(node.left, FieldRef) and "." not in name and name not in OWN:
            near = get_close_matches(name, OWN, 1, 0.7)
            if near:
                self._no_field(name, near[0], start)
        if isinstance(node.left, FieldRef) and "." in name and name not in FIELDS:
            near = get_close_matches(name, FIELDS, 1, 0.85)
            if near and name.split(".")[0] in {n.split(".")[0] for n in FIELDS} and len(name) > 5:
                self._no_field(name, near[0], start)
        if node.op in ORDER and isinstance(node.right, Word) and number_of(node.right.text) is None:
            raise Unreadable(
                f"`{node.right.text}` is not a number",
                start,
                end,
                f"`{node.op.value}` compares numbers",
                "not-a-number",
            )
        if node.op is Operator.REGEX:
            for word in words_right(node):
                try:
                    regex_matcher(word.text)
                except ValueError as error:
                    raise Unreadable(
                        str(error), start, end, "RE2's syntax: https://github.com/google/re2/wiki/Syntax"
                    ) from None
        return node

    def _no_field(self, name: str, near: str, at: int) -> None:
        end = at + len(name)
        raise Unreadable(f"no field is called `{name}`", at, end, f"did you mean `{near}`?", "unknown-field")

    def _judge_call(self, call: Call, start: int, end: int) -> None:
        if call.name not in TRANSFORMERS or len(call.args) != 1 or call.index is not None:
            raise Unreadable(
                f"`{call}` is not available in searches", start, end, f"available: {', '.join(TRANSFORMERS)}",
                "unknown-transformer",
            )  # fmt: skip
        inner = call.args[0]
        if isinstance(inner, Call):
            self._judge_call(inner, start, end)

    def _priority(self, node: Check, start: int, end: int) -> Expr:
        if node.op not in _EQUALITY | ORDER or isinstance(node.right, FieldRef | Call) or node.quantifier is not None:
            raise Unreadable(
                f"`{node.op.value}` does not go with `priority`",
                start,
                end,
                "write `priority >= warning`",
                "bad-operator",
            )
        for word in words_right(node):
            if word.text.lower() not in PRIORITIES:
                near = get_close_matches(word.text.lower(), PRIORITIES, 1)
                all_of_them = f"priorities: {', '.join(p.label.lower() for p in Priority)}"
                hint = f"did you mean `{near[0]}`?" if near else all_of_them
                raise Unreadable(f"`{word.text}` is not a priority", start, end, hint, "unknown-priority")
        return node

    def _time(self, node: Check, start: int, end: int) -> Expr:
        if node.op not in ORDER or not isinstance(node.right, Word):
            raise Unreadable(
                f"`{node.op.value}` does not go with `time`", start, end,
                "write `time >= -1h` or `time < 2026-11-30T22:00`", "bad-operator",
            )  # fmt: skip
        return replace(node, right=Word(str(self._moment(node.right.text, start, end))))

    def _moment(self, text: str, start: int, end: int) -> int:
        try:
            return read_moment(text, self._now_ns)
        except ValueError as error:
            raise Unreadable(
                str(error),
                start,
                end,
                "write `2026-11-30T22:00`, with a zone if it is not UTC, or `-90min`",
                "bad-time",
            ) from None

    def _text_check(self, node: Check, start: int, end: int) -> Expr:
        if node.op not in (Operator.EQ, Operator.CONTAINS) or not isinstance(node.right, Word):
            raise Unreadable(
                "`text` is searched by words",
                start,
                end,
                'write the word alone, or `output contains "..."`',
                "bad-operator",
            )
        return replace(node, op=Operator.EQ)

    def _word(self) -> Expr:
        lexer = self._lexer
        token = lexer.value() if lexer.peek() in ("'", '"') else None
        if token is None:
            token = self._bare()
            moment = _TIME_WORD.fullmatch(token.value)
            if moment is not None:
                ago = f"-{moment[2]}" if re.fullmatch(r"\d+[a-zA-Z]+", moment[2]) else moment[2]
                at = self._moment(ago, token.start, token.end)
                op = Operator.GE if moment[1] == "since" else Operator.LT
                return Check(FieldRef("time"), op, Word(str(at)))
        if not words_of(token.value):
            raise Unreadable(
                f"`{token.value}` has no letter or digit to search for", token.start, token.end,
                "search for signs by `output contains \"...\"`", "no-word",
            )  # fmt: skip
        return Check(FieldRef("text"), Operator.EQ, Word.of(token.value))

    def _bare(self) -> Token:
        lexer = self._lexer
        match = _BARE.match(self._text, lexer.at)
        if match is None:
            raise Unreadable("expected a word", lexer.at, lexer.at + 1)
        lexer.at = match.end()
        lexer.char("")  # past the blanks
        return Token(match.group(), match.start(), match.end())


def words_right(node: Check) -> Iterator[Word]:
    """The words on the right side of a check."""
    if isinstance(node.right, Word):
        yield node.right
    elif isinstance(node.right, tuple):
        yield from node.right


def number_of(text: str) -> int | float | None:
    """The number that a text spells, None where it spells none."""
    if len(text) > 40:
        return None
    try:
        return int(text, 16) if text[:3].lower().lstrip("+-").startswith("0x") else int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value and abs(value) != float("inf") else None
