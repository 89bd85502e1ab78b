"""What a sink is.

Comes in: an `Alert`. Goes out: the alert, somewhere. Never: silence about one that did not arrive: `deliver` raises.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from appliance.model.alert import Alert

log = logging.getLogger(__name__)

QUEUE_FULL = "queue full"
NO_THREAD = "cannot start a thread"
AT_END = "not delivered when the appliance ended"


@dataclass(frozen=True, slots=True)
class Depth:
    """How full a spool is: `alerts` that wait on the disk, the bytes that its files take there, and may take."""

    alerts: int
    size_bytes: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class SinkStats:
    """The account of one sink: `submitted = delivered + lost + dead + waiting`.

    `reasons` says why alerts were lost: reason -> how many. `dead` were refused for good and stand in the dead-letter
    file. `waiting` are in memory or on disk; `acknowledged` were written to disk in this run. `submitted` includes what
    waited on disk when the run began. `where` is what and where, as the sink describes itself. `stuck_s` is how long
    the alert in hand has been there, in seconds, `trouble` what goes wrong right now, empty where nothing does. `spool`
    is None where none stands before the sink.
    """

    name: str
    delivered: int
    lost: int
    reasons: Mapping[str, int]
    waiting: int = 0
    where: str = ""
    stuck_s: float = 0.0
    submitted: int = 0
    dead: int = 0
    acknowledged: int = 0
    trouble: str = ""
    spool: Depth | None = None


class Losses:
    """Alerts that were lost before one sink: reason -> how many. Not for several threads at once: its owner holds a
    lock."""

    def __init__(self, sink: str) -> None:
        self._sink = sink
        self._counts: Counter[str] = Counter()
        self._told = 0

    def add(self, reason: str, count: int) -> None:
        """Count a loss, and log it at the first and whenever their number has doubled."""
        self._counts[reason] += count
        if self.total >= 2 * self._told or not self._told:
            self._told = self.total
            log.warning("%s: alerts were lost: %d so far; the latest: %s", self._sink, self.total, reason)

    @property
    def total(self) -> int:
        """How many in all."""
        return self._counts.total()

    @property
    def reasons(self) -> Mapping[str, int]:
        """A copy, by reason."""
        return dict(self._counts)


class Sink(ABC):
    """One place where alerts go. Called by one thread only, the worker that the dispatcher gives it."""

    name: str
    """The key of its settings, `file_output`."""

    remote: bool = False
    """Whether the other end is another machine's: then a spool on disk stands before it."""

    batch: int = 1
    """How many alerts it takes at once."""

    linger_s: float = 0.0
    """How long a batch that is not full waits for more, where a spool stands before the sink."""

    @abstractmethod
    def deliver(self, alert: Alert) -> None:
        """Hand one alert over. Returns when the other end has it; raises `DeliveryError` when it has not."""

    def deliver_several(self, alerts: Sequence[Alert]) -> None:
        """Hand over at most `batch` alerts, in order: all of them, or `DeliveryError` and perhaps some."""
        for alert in alerts:
            self.deliver(alert)

    def reopen(self) -> None:  # noqa: B027  (for those that have something to reopen)
        """Let go of files that may have been moved away. Called by any thread, also while an alert is delivered."""

    def look(self) -> None:  # noqa: B027  (for those that can lose a connection)
        """Called now and then while no alert comes. Raises `DeliveryError` where the other end has gone."""

    def abandon(self) -> None:  # noqa: B027  (for those that hold what would outlive us)
        """Its time is up, and its thread is still within a call: end what would go on without us, soon. By another
        thread, and once."""

    @abstractmethod
    def close(self) -> None:
        """Give back what is held open. No alert follows."""

    @abstractmethod
    def describe(self) -> str:
        """For the banner: what and where, on one line."""
