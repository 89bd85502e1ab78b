"""What generated predicates and messages call.

Comes in: values of an event, constants prepared when the code was made. Goes out: verdicts and texts. Never: an error
whatever the value, or a time that grows faster than the value's length: values are written by whoever attacks the host.
"""

from __future__ import annotations

import base64
import ipaddress
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from appliance.catalog.arguments import Numeral
from appliance.catalog.operators import Network
from appliance.catalog.values import Facts
from appliance.model.alert import FieldValue

ABSENT = "<NA>"
_SEVERAL = (tuple, list, Facts)
_UPPER = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}
_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def ascii_lower(text: str) -> str:
    """`text` with ASCII letters in lower case, all others as they are."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


def below(path: str, roots: frozenset[str]) -> bool:
    """Whether `path` is one of `roots` or lies below one of them, by whole components."""
    path = path.rstrip("/")
    while path:
        if path in roots:
            return True
        path = path.rpartition("/")[0]
    return "/" in roots


@lru_cache(maxsize=4096)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def in_networks(text: str, networks: tuple[Network, ...]) -> bool:
    """Whether an address lies in one of the networks."""
    address = _address(text)
    return address is not None and any(address in network for network in networks)


_RELATIONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "!=": lambda a, b: bool(a != b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
    "contains": lambda a, b: b in a,
    "icontains": lambda a, b: ascii_lower(b) in ascii_lower(a),
    "startswith": lambda a, b: bool(a.startswith(b)),
    "endswith": lambda a, b: bool(a.endswith(b)),
}
_EQUAL = frozenset({"=", "in", "intersects"})


def related(op: str, left: object, right: object) -> bool:
    """A check of one value, or of any of several, against those of another field; false where one is absent."""
    if op in _EQUAL:
        return not frozenset(several(left)).isdisjoint(several(right))
    relation = _RELATIONS[op]
    return any(relation(a, b) for a in several(left) for b in several(right))


def several(value: object) -> Iterable[Any]:
    """A value as several: none where it is absent."""
    if value is None:
        return ()
    return value if isinstance(value, _SEVERAL) else (value,)


def _each(value: object, change: Callable[[str], str | None]) -> Any:
    if isinstance(value, _SEVERAL):
        return [changed for v in value if (changed := change(str(v))) is not None]
    return None if value is None else change(str(value))


def lowered(value: object) -> Any:
    """Transformer `tolower`."""
    return _each(value, ascii_lower)


def uppered(value: object) -> Any:
    """Transformer `toupper`."""
    return _each(value, lambda text: text.upper() if text.isascii() else text.translate(_UPPER))


def unbase64(value: object) -> Any:
    """Transformer `b64`: what a Base64 text stands for; absent where it is none."""
    return _each(value, _unbase64)


def _unbase64(text: str) -> str | None:
    try:
        return base64.b64decode(text, validate=True).decode("utf-8", "surrogateescape")
    except ValueError:  # not ASCII, not the alphabet, not the length: Falco wants the padding, too
        return None


def base_name(value: object) -> Any:
    """Transformer `basename`."""
    return _each(value, lambda text: text.rpartition("/")[2])


def length(value: object) -> int | None:
    """Transformer `len`: bytes of a text, number of several values."""
    if value is None:
        return None
    if isinstance(value, Facts):
        return sum(1 for _ in value)
    return len(value) if isinstance(value, list | tuple) else len(str(value).encode("utf-8", "surrogateescape"))


def concatenated(*values: object) -> str | None:
    """Transformer `concat`."""
    return joined("", *values)


def listed(*values: object) -> tuple[object, ...] | None:
    """Several values as a list of them; absent where one of them is."""
    found = tuple(itertools.chain.from_iterable(several(v) if v is not None else (None,) for v in values))
    return None if None in found else found


def joined(separator: object, *values: object) -> str | None:
    """Transformer `join`: absent where one of the values is."""
    if separator is None or any(value is None for value in values):
        return None
    return str(separator).join(text_of(v) for value in values for v in several(value))


def options_of(words: object, letters: object, letter: str | None) -> Any:
    """Transformer `getopt`: what getopt(3) finds in `words` by `letters` (`nt:` is -n, and -t with a value).

    In order, each option's letter and then its value, `?` for an option that is not among them; a missing value is
    empty. With `letter` only the last value of that option, its letter where it takes none, absent where it is not
    there. Ends at `--` and at the first word that is no option; passes over long ones.
    """
    if letters is None:
        return None
    known, valued = _options(str(letters))
    found: list[str] = []
    last = None
    rest = iter(several(words))
    for word in rest:
        if word == "--" or len(word) < 2 or word[0] != "-":
            break
        for at, option in enumerate(word[1:] if word[1] != "-" else "", 2):
            if option not in known:
                found.append("?")
                continue
            found.append(option)
            if option in valued:
                found.append(word[at:] or next(rest, ""))
            if option == letter:
                last = found[-1]
            if option in valued:
                break
    return found if letter is None else last


@lru_cache(maxsize=256)
def _options(letters: str) -> tuple[frozenset[str], frozenset[str]]:
    """The options of getopt(3)'s optstring, and those of them that take a value."""
    valued = frozenset(a for a, b in itertools.pairwise(letters) if b == ":")
    return frozenset(letters) - {":"}, valued - {":"}


def text_of(value: object) -> str:
    """A field's value as messages show it: `<NA>` where absent, `true`; several are joined by blanks."""
    if isinstance(value, str):
        return value
    if value is None:
        return ABSENT
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, _SEVERAL):
        return " ".join(map(text_of, value)) if value else ABSENT
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def absent_text(reason: str | None) -> str:
    """What messages show for an absent value: `<NA>`, or with the reason where there is one."""
    return ABSENT if reason is None else f"<NA: {reason}>"


def field_value(value: object) -> FieldValue:
    """A field's value as alerts carry it."""
    if value is None or isinstance(value, str | float):
        return value
    if isinstance(value, int):
        return str(value) if isinstance(value, Numeral) else value
    if isinstance(value, _SEVERAL) and not value:
        return None
    return text_of(value)


def list_value(value: object) -> FieldValue:
    """The values of a field that is a list, as alerts carry them; None where there is none."""
    return tuple(map(text_of, several(value))) or None


def globber(patterns: Iterable[str], *, ignore_case: bool = False) -> Callable[[str], object]:
    """A function that is true of texts that one of the patterns matches as a whole; `*` crosses `/` too."""
    pattern = "|".join(f"(?:{glob_regex(p)})" for p in patterns)
    return re.compile(pattern, re.DOTALL | (re.IGNORECASE | re.ASCII if ignore_case else 0)).fullmatch


def below_globber(patterns: Iterable[str]) -> Callable[[str], object]:
    """A function that is true of paths at or below one of the patterns, whose wildcards stay within a component."""
    alternatives = (glob_regex(p.rstrip("/"), any_char="[^/]") for p in patterns)
    pattern = "|".join(f"(?:{a}(?:/.*)?)" for a in alternatives)
    return re.compile(pattern, re.DOTALL).fullmatch


@lru_cache(4096)
def has_wildcard(text: str) -> bool:
    """Whether `pmatch` reads a path as a pattern."""
    return any(c in text for c in "*?[")


_CLASS = re.compile(r"\[(?P<no>[!^]?)(?P<body>\]?(?:\[:\w+:\]|\\.|[^\]])*)\]", re.DOTALL)
_POSIX = {
    "alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z", "space": r"\s",
    "punct": r"!-/:-@\[-`{-~", "xdigit": "0-9a-fA-F", "blank": r" \t", "cntrl": r"\x00-\x1f\x7f",
}  # fmt: skip


@lru_cache(4096)
def glob_regex(pattern: str, any_char: str = ".") -> str:
    """A shell pattern (glob(7)) as a regular expression that never backtracks over what a `*` has taken.

    Between two stars the nearest place is always a right one, so each `*` and the text behind it are atomic.
    """
    parts = [""]
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            parts.append("")
        elif char == "?":
            parts[-1] += any_char
        elif char == "\\" and at < len(pattern):
            parts[-1] += re.escape(pattern[at])
            at += 1
        elif char == "[" and (found := _CLASS.match(pattern, at - 1)) is not None:
            parts[-1] += _class_regex(found, any_char)
            at = found.end()
        else:
            parts[-1] += re.escape(char)
    if len(parts) == 1:
        return parts[0]
    inner = "".join(f"(?>{any_char}*?{part})" for part in parts[1:-1] if part)
    return f"{parts[0]}{inner}{any_char}*{parts[-1]}"


def _class_regex(found: re.Match[str], any_char: str) -> str:
    body = re.sub(r"\[:(\w+):\]", lambda m: _POSIX.get(m[1], ""), found["body"])
    body = re.sub(r"\\(.)", lambda m: m[1] if m[1] == "-" else m[0], body)
    safe = "".join(f"\\{c}" if c in "[]&~|^" and body[i - 1 : i] != "\\" else c for i, c in enumerate(body))
    made = f"[{'^' if found['no'] else ''}{safe}]"
    try:
        re.compile(made)
    except re.error:
        return re.escape(found.group())
    return made if any_char == "." else f"(?!/){made}"
