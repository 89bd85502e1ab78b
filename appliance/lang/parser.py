"""Condition text -> tree, and message text -> parts.

Comes in: a text that knows its places. Goes out: nodes. Raises `Unreadable` at the first thing that cannot be read:
what follows a mistake in a condition is guesswork, and one mistake makes one diagnostic.
"""

from __future__ import annotations

import re
from difflib import get_close_matches

from appliance.lang.lexer import Lexer, Token, Unreadable
from appliance.model.diagnostic import Span
from appliance.model.expr import (
    NOWHERE,
    And,
    Call,
    Check,
    Const,
    Expr,
    FieldRef,
    Macro,
    Not,
    Operand,
    Or,
    Quantifier,
    Right,
    Word,
)
from appliance.model.field import Operator
from appliance.model.rule import Placed

MAX_NESTING = 100
TRANSFORMERS = ("tolower", "toupper", "b64", "basename", "len", "join", "concat", "getopt")

_LIST_OPERATORS = frozenset({Operator.IN, Operator.INTERSECTS, Operator.PMATCH})
_WORD_OPERATORS = {op.value: op for op in Operator if op.value.isalpha()}
_SYMBOLS = {op.value: op for op in Operator if not op.value.isalpha()} | {"==": Operator.EQ}
_ORDER = frozenset({Operator.LT, Operator.LE, Operator.GT, Operator.GE})
_QUANTIFIERS = {q.value: q for q in Quantifier}
_FOREIGN = {
    "&&": "and", "&": "and", "||": "or", "|": "or", "!": "not", "=~": "regex", "~": "regex", "matches": "regex",
    "like": "glob", "is": "=", "equals": "=", "eq": "=", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
    "begins": "startswith", "beginswith": "startswith", "starts": "startswith", "ends": "endswith", "has": "contains",
    "<>": "!=",
}  # fmt: skip


def parse(text: str, placed: Placed | None = None) -> Expr:
    """The tree of a condition; places come from `placed`, whose value is `text`."""
    return _Parser(text, placed).whole()


def parse_output(text: str, placed: Placed | None = None) -> tuple[str | Operand, ...]:
    """The parts of a message: literal texts and `%field`s."""
    parts: list[str | Operand] = []
    at = 0
    while (sign := text.find("%", at)) >= 0:
        if sign > at:
            parts.append(text[at:sign])
        operand, at = _Parser(text, placed, sign + 1).output_field(sign)
        parts.append(operand)
    if at < len(text):
        parts.append(text[at:])
    return tuple(parts)


def parse_operand(text: str, placed: Placed | None = None) -> Operand:
    """A field or a transformer that stands alone."""
    return _Parser(text, placed).operand_alone()


def parse_words(text: str, placed: Placed | None = None) -> tuple[Word, ...]:
    """The items of a list that stands alone, with its brackets or without."""
    return _Parser(text, placed).words_alone()


class _Parser:
    def __init__(self, text: str, placed: Placed | None, at: int = 0) -> None:
        self._lexer = Lexer(text)
        self._placed = placed
        self._depth = 0
        if at:
            self._lexer.at = at

    def _span(self, start: int, end: int) -> Span:
        return NOWHERE if self._placed is None else self._placed.span(start, end)

    # -- conditions

    def whole(self) -> Expr:
        if self._lexer.ended:
            raise Unreadable("the condition is empty", 0, 1, "a condition needs at least one check: `evt.type = open`")
        expr = self._or()
        if not self._lexer.ended:
            self._unexpected()
        return expr

    def operand_alone(self) -> Operand:
        name = self._lexer.name()
        if name is None:
            found = self._lexer.rest()
            raise Unreadable(f"expected a field, found `{found.value}`", found.start, max(found.end, found.start + 1))
        operand = self._operand(name)
        if not self._lexer.ended:
            found = self._lexer.rest()
            raise Unreadable(f"expected the end of the field, found `{found.value}`", found.start, found.end)
        return operand

    def words_alone(self) -> tuple[Word, ...]:
        lexer = self._lexer
        words = self._words(Operator.IN) if lexer.peek() == "(" else ()
        while not words and not lexer.ended:
            words = (self._word(Operator.IN),)
            while lexer.char(",") is not None:
                words = (*words, self._word(Operator.IN))
        if not lexer.ended:
            found = lexer.rest()
            raise Unreadable(
                f"expected `,` or the end of the list, found `{found.value}`", found.start, found.end,
                "items are separated by commas; an item with blanks needs quotes",
            )  # fmt: skip
        return words

    def _unexpected(self) -> None:
        """A whole expression was read and something else stands behind it."""
        found = self._lexer.rest()
        if found.value == ")":
            raise Unreadable("this `)` closes nothing", found.start, found.end, "remove it, or add a `(` before")
        raise Unreadable(
            f"expected `and`, `or` or the end, found `{found.value}`", found.start, found.end, self._near_logic(found)
        )

    def _near_logic(self, found: Token) -> str | None:
        word = found.value.lower()
        before = self._lexer.text[: found.start].split()
        for glued in ("and", "or"):
            if before and before[-1].endswith(glued) and before[-1] != glued and not before[-1].endswith(")"):
                return f"a blank is missing, perhaps: `{before[-1].removesuffix(glued)} {glued}`"
            if found.value.startswith(glued) and "." in self._lexer.text[found.start :].split()[0]:
                return f"a blank is missing: `{glued} {found.value.removeprefix(glued)}`"
        if word in ("and", "or", "not") and word != found.value:
            return f"operators are written in lower case: `{word}`"
        if word == "not":
            return "write `and not`"
        double = self._lexer.text[found.start : found.start + 2]
        for sign in (double, found.value):
            if sign in _FOREIGN:
                return f"write `{_FOREIGN[sign]}`"
        if get_close_matches(word, ["and", "or"], 1, 0.6):
            return f"did you mean `{get_close_matches(word, ['and', 'or'], 1, 0.6)[0]}`?"
        return "join two checks by `and` or `or`; a value with blanks or special characters needs quotes"

    def _deeper(self, at: int) -> None:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise Unreadable(
                f"nested deeper than {MAX_NESTING} levels", at, at + 1, "move a part of it to a macro", "too-deep"
            )

    def _joined(self, word: str, expr: Expr, start: int) -> bool:
        token = self._lexer.keyword(word)
        if token is None:
            return False
        if not self._lexer.text[token.end : token.end + 1].isspace() and self._lexer.peek() not in ("(", ""):
            raise Unreadable(f"expected a blank or `(` after `{word}`", token.start, token.end)
        return True

    def _or(self) -> Expr:
        start = self._lexer.at
        first = self._and()
        parts = [first]
        while self._joined("or", first, start):
            parts.append(self._and("or"))
        return parts[0] if len(parts) == 1 else Or(tuple(parts), parts[0].span)

    def _and(self, after: str = "") -> Expr:
        start = self._lexer.at
        first = self._not(after)
        parts = [first]
        while self._joined("and", first, start):
            parts.append(self._not("and"))
        return parts[0] if len(parts) == 1 else And(tuple(parts), parts[0].span)

    def _not(self, after: str) -> Expr:
        token = self._lexer.keyword("not")
        if token is None:
            return self._primary(after)
        self._deeper(token.start)
        part = self._not("not")
        self._depth -= 1
        return Not(part, self._span(token.start, token.end))

    def _primary(self, after: str) -> Expr:
        lexer = self._lexer
        opened = lexer.char("(")
        if opened is not None:
            self._deeper(opened.start)
            expr = self._or()
            if lexer.char(")") is None:
                if lexer.ended:
                    raise Unreadable("this `(` is never closed", opened.start, opened.end, "add a `)`")
                self._unexpected()
            self._depth -= 1
            return expr
        for value in (True, False):
            if lexer.text.startswith(str(Const(value)), lexer.at):
                token = lexer.char(str(Const(value)))
                return Const(value, self._span(token.start, token.end) if token else NOWHERE)
        name = lexer.name()
        if name is None or name.value in ("and", "or"):
            self._no_check(name or lexer.rest(), after)
            raise AssertionError
        if "." not in name.value and not (name.value in TRANSFORMERS or lexer.peek() == "("):
            return self._macro(name)
        return self._check(self._operand(name))

    def _no_check(self, found: Token, after: str) -> None:
        where = f" after `{after}`" if after else ""
        if found.start >= len(self._lexer.text):
            raise Unreadable(
                f"the condition ends where a check is expected{where}", found.start, found.end,
                f"add a check, or remove the `{after}`" if after else None,
            )  # fmt: skip
        hint = f"write `{_FOREIGN[found.value]}`" if found.value in _FOREIGN else None
        if found.value in ("and", "or"):
            hint = f"remove this `{found.value}`, or put a check before it"
        raise Unreadable(f"expected a check{where}, found `{found.value}`", found.start, found.end, hint)

    def _macro(self, name: Token) -> Expr:
        lexer = self._lexer
        if lexer.symbol() is not None or lexer.keyword(*_WORD_OPERATORS) is not None:
            raise Unreadable(
                f"no field is called `{name.value}`", name.start, name.end,
                "a field has a class and a name: `proc.name`", "unknown-field",
            )  # fmt: skip
        return Macro(name.value, self._span(name.start, name.end))

    # -- checks

    def _operand(self, name: Token) -> Operand:
        lexer = self._lexer
        if lexer.text.startswith("(", name.end):
            return self._call(name)
        argument = lexer.argument() if name.end == lexer.at else None
        if argument is None:
            return FieldRef(name.value, None, self._span(name.start, name.end))
        if not argument.value:
            raise Unreadable("the argument is empty", argument.start, argument.end, "write `[2]` or `[name]`")
        return FieldRef(name.value, argument.value, self._span(name.start, argument.end))

    def _call(self, name: Token) -> Call:
        lexer = self._lexer
        if name.value not in TRANSFORMERS:
            near = get_close_matches(name.value, [*TRANSFORMERS, "val"], 1)
            raise Unreadable(
                f"no transformer is called `{name.value}`", name.start, name.end,
                f"did you mean `{near[0]}`?" if near else f"transformers: {', '.join(TRANSFORMERS)}",
                "unknown-transformer",
            )  # fmt: skip
        lexer.char("(")
        return self._arguments(name)

    def _arguments(self, name: Token) -> Call:
        """The arguments of a transformer, or, without a name, the items of a list of them; the bracket is open."""
        lexer = self._lexer
        self._deeper(name.start)
        args: list[Operand | Word] = []
        while True:
            if lexer.peek() in ("'", '"'):
                args.append(self._word())
            elif name.value and (opened := lexer.char("(")) is not None:
                args.append(self._arguments(Token("", opened.start, opened.start)))
            else:
                inner = lexer.name()
                if inner is None:
                    found = lexer.rest()
                    raise Unreadable(f"expected a field, found `{found.value}`", found.start, found.end)
                args.append(self._operand(inner))
            if lexer.char(",") is None:
                break
        closed = lexer.at
        if lexer.char(")") is None:
            raise Unreadable("this transformer has no `)`", name.start, name.end, "add a `)` behind its arguments")
        self._depth -= 1
        index = lexer.argument() if name.value else None
        span = self._span(name.start, closed + 1)
        return Call(name.value, tuple(args), index.value if index else None, span)

    def _check(self, left: Operand) -> Check:
        lexer = self._lexer
        start = lexer.at
        token = lexer.symbol() or lexer.keyword(*_WORD_OPERATORS)
        if token is None:
            self._no_operator(left)
            raise AssertionError
        if lexer.text.startswith("~", token.end):
            sign = f"{token.value}~"
            raise Unreadable(
                f"no operator is called `{sign}`", token.start, token.end + 1, "write `regex`", "unknown-operator"
            )
        op = _SYMBOLS.get(token.value) or _WORD_OPERATORS[token.value]
        quantifier, right = self._right(op)
        return Check(left, op, right, quantifier, left.span, self._span(start, token.end))

    def _no_operator(self, left: Operand) -> None:
        found = self._lexer.rest()
        if found.start >= len(self._lexer.text) or found.value in ("and", "or", ")"):
            raise Unreadable(
                f"`{left}` is compared with nothing", max(0, found.start - 1), found.start,
                f"add an operator and a value, `{left} = true` for instance, or `{left} exists`",
                "missing-operator",
            )  # fmt: skip
        word = found.value.lower()
        double = self._lexer.text[found.start : found.start + 2]
        near = get_close_matches(word, _WORD_OPERATORS, 1, 0.6)
        if word in _WORD_OPERATORS:
            hint = f"operators are written in lower case: `{word}`"
        elif word == "not":
            hint = f"`not` stands before the check: `not {left} in (...)`"
        elif double in _FOREIGN or word in _FOREIGN:
            hint = f"write `{_FOREIGN.get(double) or _FOREIGN[word]}`"
        else:
            hint = f"did you mean `{near[0]}`?" if near else f"operators: {' '.join(o.value for o in Operator)}"
        raise Unreadable(
            f"expected an operator behind `{left}`, found `{found.value}`", found.start, found.end, hint,
            "unknown-operator",
        )  # fmt: skip

    def _right(self, op: Operator) -> tuple[Quantifier | None, Right]:
        lexer = self._lexer
        if op is Operator.EXISTS:
            return None, None
        if op in _LIST_OPERATORS:
            other = self._other_field()
            if other is not None:
                return None, other
            return None, self._words(op) if lexer.peek() == "(" else (self._word(op),)
        if op not in _ORDER:
            save = lexer.at
            token = lexer.keyword(*_QUANTIFIERS)
            if token is not None and lexer.peek() == "(":
                return _QUANTIFIERS[token.value], self._words(op)
            if token is not None and (listed := self._list_name()) is not None:
                return _QUANTIFIERS[token.value], (listed,)
            lexer.at = save
        return None, self._other_field() or self._word(op)

    def _list_name(self) -> Word | None:
        """The name of a list behind `oneof`; nothing where `oneof` is the value itself."""
        if self._lexer.ended or self._lexer.peek() == ")" or self._lexer.keyword("and", "or") is not None:
            return None
        return self._word()

    def _other_field(self) -> Operand | None:
        """`val(field)` or a transformer, where a value could stand."""
        lexer = self._lexer
        save = lexer.at
        token = lexer.keyword("val", *TRANSFORMERS)
        if token is None or not lexer.text.startswith("(", token.end):
            lexer.at = save
            return None
        if token.value != "val":
            return self._call(token)
        lexer.char("(")
        name = lexer.name()
        if name is None:
            found = lexer.rest()
            raise Unreadable(
                f"expected a field, found `{found.value}`", found.start, found.end, "write `val(proc.pid)`"
            )
        operand = self._operand(name)
        if lexer.char(")") is None:
            raise Unreadable("this `val(` has no `)`", token.start, token.end, "write `val(proc.pid)`")
        return operand

    def _word(self, op: Operator | None = None) -> Word:
        lexer = self._lexer
        token = lexer.value()
        if token is None:
            found = lexer.rest()
            where = f" behind `{op.value}`" if op else ""
            what = "the end" if found.start >= len(lexer.text) else f"`{found.value}`"
            hint = None
            if found.value == "(" and op is not None:
                hint = "a list needs `in`: `proc.name in (a, b)`"
            raise Unreadable(f"expected a value{where}, found {what}", found.start, found.end, hint, "missing-value")
        return Word(token.value, token.quoted, self._span(token.start, token.end))

    def _words(self, op: Operator) -> tuple[Word, ...]:
        lexer = self._lexer
        opened = lexer.char("(")
        start = opened.start if opened else lexer.at
        words: list[Word] = []
        if lexer.char(")") is not None:
            return ()
        while True:
            words.append(self._word(op))
            if lexer.char(",") is not None:
                continue
            if lexer.char(")") is not None:
                return tuple(words)
            found = lexer.rest()
            if lexer.ended:
                raise Unreadable("this list is never closed", start, start + 1, "add a `)`")
            raise Unreadable(
                f"expected `,` or `)` in the list, found `{found.value}`", found.start, found.end,
                "items are separated by commas; an item with blanks needs quotes",
            )  # fmt: skip

    # -- messages

    def output_field(self, sign: int) -> tuple[Operand, int]:
        """The field behind a `%`, and where the text goes on."""
        lexer = self._lexer
        match = _OUTPUT_NAME.match(lexer.text, lexer.at + lexer.text.startswith("*", lexer.at))
        if match is None:
            found = lexer.text[lexer.at : lexer.at + 1]
            what = "ends the message" if not found else f"is followed by `{found}`"
            raise Unreadable(
                f"this `%` {what}; it must start a field", sign, sign + 1,
                "write `%proc.name`, or leave the `%` out", "output-percent",
            )  # fmt: skip
        name = Token(match.group(), match.start(), match.end())
        lexer.at = name.end
        if "." not in name.value and not lexer.text.startswith("(", name.end):
            raise Unreadable(
                f"no field is called `{name.value}`", name.start, name.end,
                "a field has a class and a name: `%proc.name`", "unknown-field",
            )  # fmt: skip
        operand = self._operand(name)
        end = name.end if isinstance(operand, FieldRef) and operand.arg is None else lexer.text.rindex(
            "]" if isinstance(operand, FieldRef) or operand.index is not None else ")", 0, max(lexer.at, name.end)
        ) + 1  # fmt: skip
        return operand, end


_OUTPUT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_]+)*")
