"""What a page shows: the search, its range of time, its grouping. It lives in the address, so any view is a link.

Comes in: the query of a request. Goes out: `View`, with its tree, its range and links to views beside it. Raises
`RuleError` or ValueError with what is wrong. Never: a state of a view that the address does not have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from appliance.hub.query.moments import read_moment, read_span
from appliance.hub.query.tree import read_filter
from appliance.hub.store.base import DIMENSIONS, GROUP_KEYS, Span
from appliance.model.expr import Expr, Or, Word

MS = 1_000_000
MINUTE_NS = 60_000 * MS
RANGES = {
    "15min": "15 minutes",
    "1h": "1 hour",
    "6h": "6 hours",
    "24h": "24 hours",
    "7d": "7 days",
    "30d": "30 days",
    "90d": "90 days",
}
ORDERS = {"priority": "priority", "last": "last seen", "count": "count", "first": "first seen"}
STATES = ("open", "snoozed", "closed", "all")
DEFAULT_RANGE = "24h"
PER_PAGE = 50


@dataclass(frozen=True, slots=True)
class View:
    """`start` and `end` are as written, "" where `range_` holds. `keys` group."""

    text: str
    range_: str
    start: str
    end: str
    keys: tuple[str, ...]
    order: str
    state: str
    page: int
    cursor: str
    tree: Expr
    span: Span
    zone: str

    def query(self, **changes: str | int) -> str:
        """The query of a view beside this one; what is as by default is left out. A change of anything else than the
        page starts at the first."""
        values: dict[str, str] = {
            "q": self.text,
            "range": "" if self.start or self.end else self.range_,
            "from": self.start,
            "to": self.end,
            "by": ",".join(self.keys),
            "order": self.order,
            "state": self.state,
            "page": str(self.page),
            "cursor": "",
        }
        if "page" not in changes:
            values["page"] = "1"
        values |= {name.rstrip("_"): str(value) for name, value in changes.items()}
        plain = {"range": DEFAULT_RANGE, "by": ",".join(GROUP_KEYS), "order": "priority", "state": "open", "page": "1"}
        return urlencode({name: value for name, value in values.items() if value and value != plain.get(name)})

    def require(self, dimension: str, value: str | None) -> str:
        """This view with a value required, or no longer so."""
        return self.query(q=with_condition(self.text, condition(dimension, value)))

    def exclude(self, dimension: str, value: str | None) -> str:
        """This view without a value, or no longer so."""
        return self.query(q=with_condition(self.text, f"not {condition(dimension, value)}"))

    def state_of(self, dimension: str, value: str | None) -> str:
        """Whether a value is `required`, `excluded` or neither in this view's text."""
        wanted = condition(dimension, value)
        if f"not {wanted}" in self.text:
            return "excluded"
        return "required" if wanted in self.text else ""

    @property
    def ranged(self) -> str:
        """The range for people."""
        if self.start or self.end:
            return f"{self.start or 'the beginning'} to {self.end or 'now'}"
        return f"last {RANGES.get(self.range_, self.range_)}"


def condition(dimension: str, value: str | None) -> str:
    """A check as a person would write it."""
    if value is None:
        return f"(not {dimension} exists)"
    word = Word.of(value)
    return f"{dimension} = {word if not value.startswith('-') else Word(value, True)}"


def with_condition(text: str, wanted: str) -> str:
    """A search with one more condition, or without it where it has it."""
    if wanted.startswith("not "):
        text = _without(text, wanted)[0] if wanted in text else text + "\0"
        if not text.endswith("\0"):
            return text
        text = text[:-1]
        text, _ = _without(text, wanted.removeprefix("not "))
    else:
        excluded, found = _without(text, f"not {wanted}")
        if found:
            text = excluded
        else:
            text, found = _without(text, wanted)
            if found:
                return text
    if not text.strip():
        return wanted
    needed = isinstance(read_filter(text), Or) and not _wrapped(text)
    return f"({text}) {wanted}" if needed else f"{text} {wanted}"


def _wrapped(text: str) -> bool:
    """Whether a pair of parentheses already holds the whole text."""
    depth = 0
    for at, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return at == len(text) - 1 and char == ")" and '"' not in text
    return False


def _without(text: str, wanted: str) -> tuple[str, bool]:
    if wanted not in text:
        return text, False
    return " ".join(text.replace(wanted, " ", 1).split()), True


def conditions(keys: Mapping[str, str | None]) -> str:
    """The search that finds a group."""
    return " ".join(condition(name, value) for name, value in keys.items())


def read_view(query: Mapping[str, str], now_ns: int, zone: str = "UTC") -> View:
    """The view that an address asks for. Raises `RuleError`, ValueError."""
    text = query.get("q", "").strip()
    start, end = query.get("from", "").strip(), query.get("to", "").strip()
    range_ = query.get("range", "") or DEFAULT_RANGE
    if start or end:
        from_ns = read_moment(start, now_ns, zone) if start else 0
        to_ns = read_moment(end, now_ns, zone) if end else _ceil(now_ns, MINUTE_NS)
    else:
        to_ns = _ceil(now_ns, 1000 * MS)
        from_ns = max(0, to_ns - read_span(range_)) if range_ != "all" else 0
    keys = tuple(key for key in query.get("by", "").split(",") if key in (*DIMENSIONS, "priority"))
    order = query.get("order", "priority")
    state = query.get("state", "open")
    page = query.get("page", "1")
    return View(
        text,
        range_,
        start,
        end,
        keys or GROUP_KEYS,
        order if order in ORDERS else "priority",
        state if state in STATES else "open",
        int(page) if page.isdigit() and 0 < int(page[:6]) < 10_000 else 1,
        query.get("cursor", ""),
        read_filter(text, now_ns),
        Span.of(from_ns // MS * MS, _ceil(to_ns, MS)),
        zone,
    )


def _ceil(value: int, step: int) -> int:
    return -(-value // step) * step


def chosen(values: Sequence[str], allowed: Sequence[str]) -> list[str]:
    """Those of the values that are allowed."""
    return [value for value in values if value in allowed]
