"""Which operator goes with which type of field, and what a value may look like.

Comes in: a field's type, an operator, a value as it was written. Goes out: the value as Python compares it, or a
`ValueError` whose message says what is wrong with it. Asked by the rule checker and by the code generators alike.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable

import re2

from appliance.model.field import FieldType, Operator

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Value = str | bytes | int | float | bool | Network

TEXTS = frozenset({FieldType.TEXT, FieldType.PATH, FieldType.FLAGS})
NUMBERS = frozenset(
    {FieldType.INT, FieldType.UINT, FieldType.PORT, FieldType.RELTIME, FieldType.ABSTIME, FieldType.DOUBLE}
)

ORDER = frozenset({Operator.LT, Operator.LE, Operator.GT, Operator.GE})
LISTS = frozenset({Operator.IN, Operator.INTERSECTS, Operator.PMATCH})
_EVERY = frozenset({Operator.EQ, Operator.NE, Operator.IN, Operator.INTERSECTS, Operator.EXISTS})
_BYTES = frozenset(
    {Operator.EQ, Operator.NE, Operator.CONTAINS, Operator.STARTSWITH, Operator.BCONTAINS, Operator.BSTARTSWITH,
     Operator.EXISTS}
)  # fmt: skip
_TEXT = _EVERY | {
    Operator.CONTAINS, Operator.ICONTAINS, Operator.STARTSWITH, Operator.ENDSWITH, Operator.GLOB, Operator.IGLOB,
    Operator.REGEX, Operator.PMATCH,
}  # fmt: skip


WITH_FIELD = frozenset(
    {
        Operator.EQ, Operator.NE, *ORDER, Operator.CONTAINS, Operator.ICONTAINS, Operator.STARTSWITH,
        Operator.ENDSWITH, Operator.IN, Operator.INTERSECTS,
    }
)  # fmt: skip
"""The operators whose right side may be another field, `val(...)`."""


def comparable(one: FieldType, other: FieldType) -> bool:
    """Whether values of two types can be held against each other."""
    kinds = (TEXTS, NUMBERS, {FieldType.ADDRESS, FieldType.NET}, {FieldType.BOOL})
    return any(one in kind and other in kind for kind in kinds)


def operators_of(type_: FieldType) -> frozenset[Operator]:
    """The operators that a field of this type can be checked with.

    Texts are ordered too, byte by byte: Falco takes that, for a number on the right.
    """
    if type_ is FieldType.BYTES:
        return _BYTES
    if type_ in TEXTS:
        return _TEXT | ORDER
    return _EVERY | ORDER if type_ in NUMBERS else _EVERY


_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|\d+)")
_FRACTION = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][+-]?\d+)?")


def convert(type_: FieldType, op: Operator, text: str) -> Value:
    """The value that `text` stands for beside a field of this type. Raises ValueError."""
    if type_ in TEXTS:
        if op in ORDER:
            _number(text)
        return _regex(text) if op is Operator.REGEX else text
    if type_ is FieldType.BYTES:
        return _bytes(op, text)
    if type_ is FieldType.BOOL:
        if text not in ("true", "false"):
            raise ValueError(f"`{text}` is neither `true` nor `false`")
        return text == "true"
    if type_ is FieldType.PORT:
        return _port(text)
    if type_ in NUMBERS:
        return _number(text)
    return _network(text) if type_ is FieldType.NET else _address(text)


def _bytes(op: Operator, text: str) -> bytes:
    if op not in (Operator.BCONTAINS, Operator.BSTARTSWITH):
        return text.encode("utf-8", "surrogateescape")
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError(f"`{text}` is not a text of hexadecimal digits, two for each byte") from None


def _regex(text: str) -> str:
    regex_matcher(text)
    return text


def regex_matcher(pattern: str) -> Callable[[str], bool]:
    """A function that is true of texts which the pattern matches as a whole, in time linear to their length.

    RE2's syntax, as Falco's: texts come from whoever attacks the host, and Python's own `re` may backtrack without end.
    Raises ValueError.
    """
    options = re2.Options()
    options.log_errors = False
    try:
        match = re2.compile(pattern.encode("utf-8", "surrogateescape"), options).fullmatch
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if error.args else "malformed"
        raise ValueError(f"`{pattern}` is no regular expression: {reason}") from None
    return lambda text: match(text.encode("utf-8", "surrogateescape")) is not None


def _number(text: str) -> int | float:
    if len(text) <= 40:
        if _NUMBER.fullmatch(text):
            return int(text, 16) if "x" in text.lower() else int(text)
        if _FRACTION.fullmatch(text):
            return float(text)
    raise ValueError(f"`{text}` is not a number")


def _port(text: str) -> int:
    if text.isascii() and text.isdigit():
        if len(text) > 5 or int(text) > 65535:
            raise ValueError(f"`{text}` is not a port: ports end at 65535")
        return int(text)
    try:
        return socket.getservbyname(text)
    except (OSError, ValueError):
        raise ValueError(f"`{text}` is neither a port number nor the name of a service") from None


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        more = "; networks go with the `*net` fields" if "/" in text else ""
        raise ValueError(f"`{text}` is not an IPv4 or IPv6 address{more}") from None


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"`{text}` is not a network such as `10.0.0.0/8`") from None
