"""What pages and API ask of stored alerts; SQLite answers by default, another engine may.

Comes in: trees of `query`, ranges of time. Goes out: alerts, counts, histograms, groups. Never: an answer that differs
from `query.predicate` over the same alerts.

`tests/hub/store/` holds every engine against this page. Calls block on the disk: asynchronous code makes them in a
thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from appliance.hub.alert import HubAlert, JsonValue
from appliance.model.expr import Expr

DIMENSIONS = (
    "rule", "hostname", "source", "tags", "proc.name", "user.name", "container.name", "container.image.repository",
    "proc.exepath", "proc.pname",
)  # fmt: skip
"""What facets, groups and top lists count by, beside `priority`. An absent value is None."""

GROUP_KEYS = ("rule", "proc.name", "hostname")
"""What makes a group unless the page asks for other keys."""


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of event time, in nanoseconds since the epoch."""

    from_ns: int
    to_ns: int

    @classmethod
    def of(cls, from_ns: int, to_ns: int) -> Span:
        """The range widened to whole milliseconds, which an index knows without a look at the alerts."""
        return cls(max(0, from_ns) // 1_000_000 * 1_000_000, -(-to_ns // 1_000_000) * 1_000_000)

    @property
    def length_ns(self) -> int:
        """How long it is; 0 where it ends before it starts."""
        return max(0, self.to_ns - self.from_ns)


EVER = Span(0, 2**62)


@dataclass(frozen=True, slots=True)
class Page:
    """Alerts in the order asked for. `cursor` continues behind the last of them; "" at the end."""

    alerts: Sequence[HubAlert]
    cursor: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """`counts[bin][priority]`; bin n starts at `from_ns + n * step_ns`."""

    from_ns: int
    step_ns: int
    counts: Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Group:
    """Alerts that are alike by `keys`. `priority` is the worst of them. `top` holds, for a few dimensions, the most
    frequent values with their counts; `distinct` how many values there are."""

    keys: Mapping[str, str | None]
    count: int
    first_ns: int
    last_ns: int
    priority: int
    top: Mapping[str, Sequence[tuple[str | None, int]]]
    distinct: Mapping[str, int]
    spark: Sequence[int]


@dataclass(frozen=True, slots=True)
class Groups:
    """One page of groups; `total` counts all of the range."""

    groups: Sequence[Group]
    total: int
    alerts: int


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """`trouble` is "" when all is well. `watermark` is the journal's position up to which alerts can be found."""

    alerts: int
    oldest_ns: int
    newest_ns: int
    size_bytes: int
    segments: int
    watermark: int
    trouble: str


class Store(Protocol):
    """One process appends, any number search."""

    def append(self, alerts: Sequence[HubAlert]) -> int:
        """Make them searchable in one commit; how many were new. An alert that is there already (by `seq`, which the
        journal gives once for an id) is passed over, so any batch may be sent again."""

    def watermark(self) -> int:
        """The highest `seq` appended, 0 when empty."""

    def search(self, tree: Expr, span: Span, *, newest_first: bool = True, limit: int = 50, cursor: str = "") -> Page:
        """A page of what matches, by time. Raises ValueError for a cursor that is not from here."""

    def scan(self, tree: Expr, span: Span, *, newest_first: bool = True) -> Iterator[HubAlert]:
        """All that matches, by time, in constant memory."""

    def get(self, id_: str) -> HubAlert | None:
        """The alert of that id."""

    def count(self, tree: Expr, span: Span) -> int:
        """How many match, exactly."""

    def histogram(self, tree: Expr, span: Span, bins: int = 60) -> Histogram:
        """How many match, by time and priority, exactly."""

    def top(self, tree: Expr, span: Span, dimension: str, limit: int = 10) -> Sequence[tuple[str | None, int]]:
        """The most frequent values of a dimension (one of `DIMENSIONS`, or `priority`) among what matches."""

    def groups(
        self,
        tree: Expr,
        span: Span,
        keys: Sequence[str] = GROUP_KEYS,
        *,
        order: str = "last",
        limit: int = 50,
        offset: int = 0,
        bins: int = 24,
        details: bool = True,
    ) -> Groups:
        """Groups of what matches, ordered by `last`, `first`, `count` or `priority`; without `details` their `top`,
        `distinct` and `spark` are empty, and it costs less."""

    def details(self, tree: Expr, span: Span, groups: Sequence[Group], *, bins: int = 24) -> Sequence[Group]:
        """The same groups with `top`, `distinct` and `spark`. All have the same keys."""

    def patch(self, id_: str, fields: Mapping[str, JsonValue]) -> bool:
        """Replace output fields of one alert; False where there is none of that id."""

    def remove(self, tree: Expr, span: Span) -> int:
        """Delete what matches, for good; how many those were."""

    def drop_before(self, ts_ns: int) -> int:
        """Let go of alerts older than that, in the steps that are cheap for the engine; how many those were. An alert
        that is not older is never dropped."""

    def health(self) -> StoreHealth:
        """Figures for status, metrics and the page."""

    def close(self) -> None:
        """Release files."""
