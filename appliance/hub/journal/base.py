"""What a journal promises; SQLite keeps it by default, another engine may.

Comes in: alerts that ingest has checked. Goes out: the same alerts, by position. Never: an alert that was acknowledged
and is gone without being counted, or one alert at two positions.

Calls block on the disk: asynchronous code makes them in a thread. Any process may open the journal for reading while
another appends; one process appends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from appliance.hub.alert import HubAlert, NewAlert
from appliance.model.diagnostic import TercelError


class JournalError(TercelError):
    """The journal cannot be opened, read or written; the message says why."""


@dataclass(frozen=True, slots=True)
class JournalHealth:
    """`first_seq` and `last_seq` are 0 in an empty journal; `trouble` is "" when all is well. `lost` counts, by cursor,
    alerts that retention removed before that cursor had passed them."""

    first_seq: int
    last_seq: int
    oldest_ns: int
    size_bytes: int
    fsync_ms: float
    trouble: str
    lost: Mapping[str, int]


class Journal(Protocol):
    """Append, read from a position, remember positions of readers."""

    def append(self, alerts: Sequence[NewAlert | HubAlert]) -> Sequence[int]:
        """Make them durable, in order, in one commit. The positions given; 0 for each that is a duplicate by id.

        Raises `JournalError` when the disk refuses: then none of them is acknowledged.
        """

    def read(self, after: int, limit: int) -> Sequence[HubAlert]:
        """Up to `limit` alerts with `seq > after`, ascending; fewer where they are large, none at the end alone. A gap
        means that retention removed what was there."""

    def last(self) -> int:
        """The highest position, 0 when empty. Cheap: readers poll it every 20 to 50 ms."""

    def cursor(self, name: str) -> int:
        """The position up to which the reader `name` is done; -1 when it has never been set."""

    def advance(self, name: str, seq: int) -> None:
        """Record durably that the reader `name` is done up to and with `seq`."""

    def cursors(self) -> Mapping[str, int]:
        """All readers and their positions."""

    def forget(self, name: str) -> None:
        """Drop a reader: the retention no longer waits for it."""

    def retain(self, now_ns: int | None = None) -> Mapping[str, int]:
        """Delete what the settings no longer keep; the writer calls it now and then. Returns how many alerts each
        reader lost by it."""

    def hold(self, reason: str) -> None:
        """From now on, durably, `retain` deletes nothing, whatever the settings say; "" lifts it. Raises
        `JournalError` when the disk refuses."""

    def held(self) -> str:
        """The reason of a hold, "" where there is none."""

    def health(self) -> JournalHealth:
        """Figures for status, metrics and the page."""

    def close(self) -> None:
        """Release files."""
