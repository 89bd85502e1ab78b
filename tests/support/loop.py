"""The loop of the daemon between a source and outputs made of lists."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from appliance.config.settings import EventDrops
from appliance.daemon.identity import internal_alerts
from appliance.daemon.ledger import Ledger
from appliance.daemon.loop import Loop
from appliance.engine.ruleset import Ruleset
from appliance.engine.state import State
from appliance.kernel.loader import Book, Books
from appliance.lang.load import load_texts
from appliance.model.alert import Alert
from appliance.model.event import EventType, RawEvent
from tests.engine.test_state import Names
from tests.support.rules import ruleset_of

make_alert = internal_alerts("h", lambda: "1")


class Batches:
    """A source of batches. What `last` holds is left in the ring when the loop is told to stop."""

    undecodable = waiting_bytes = 0

    def __init__(self, *batches: Sequence[RawEvent], last: Iterable[Sequence[RawEvent]] = ()) -> None:
        self.batches = [list(batch) for batch in batches]
        self.last = [list(batch) for batch in last]
        self.produced = Counter(raw.type for batch in (*self.batches, *self.last) for raw in batch)
        self.empty: Callable[[], None] = lambda: None  # called when nothing is left to read

    @property
    def holding(self) -> int:
        """Records in the ring."""
        return sum(map(len, (*self.batches, *self.last)))

    def read(self, limit: int) -> list[RawEvent]:
        """The next batch, whatever its size."""
        return self.batches.pop(0) if self.batches else []

    def wait(self) -> None:
        """Nothing is left."""
        self.empty()
        time.sleep(0.001)

    def books(self) -> Books:
        """All that was made."""
        return Books({type_: Book(count) for type_, count in self.produced.items()}, 0, 0)

    def stop(self, take: Callable[[list[RawEvent]], None], go_on: Callable[[], bool]) -> Books:
        """As the real one: hand over while there is time, count the rest."""
        rest = [*self.batches, *self.last]
        self.batches, self.last = [], []
        while rest and go_on():
            take(rest.pop(0))
        return self.books().with_unread(Counter(raw.type for batch in rest for raw in batch))


class NoContainers:
    """Engines that say nothing."""

    def take(self) -> list[RawEvent]:
        """Nothing."""
        return []


class Taken:
    """Where alerts go."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    def submit(self, alert: Alert) -> None:
        """Keep it."""
        self.alerts.append(alert)

    def rules(self) -> list[str]:
        """Of the alerts, in order."""
        return [alert.rule for alert in self.alerts]


class Clock:
    """Nanoseconds that pass when somebody says so."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def __call__(self) -> int:
        return self.now_ns


def state() -> State:
    """One that knows nothing yet."""
    return State(accounts=Names(), read_process=lambda pid: None, ask_container=lambda *_: None, wall_offset_ns=0)


def ruleset(text: str) -> Ruleset:
    """Rules of a text, checked."""
    loaded = load_texts([("r.yaml", text)])
    assert not [d for d in loaded.diagnostics if d.severity.value == "error"], loaded.diagnostics
    return ruleset_of(loaded.rules)


OPENS = "- {rule: R, desc: d, condition: evt.type = openat, output: o, priority: INFO}"


def loop_of(
    source: Batches,
    *,
    of: State | None = None,
    rules: str = OPENS,
    clock: Callable[[], int] = time.monotonic_ns,
    drain_ns: int = 10**10,
) -> tuple[Loop, Taken]:
    """A loop that stops when its source is empty, and where its alerts go."""
    taken = Taken()
    loop = Loop(
        source=source, state=of or state(), ruleset=ruleset(rules), alerts=taken, containers=NoContainers(),
        wall_offset_ns=lambda: 0, make_alert=make_alert, wait_ns=1, ledger=Ledger(EventDrops(), make_alert),
        clock=clock, drain_ns=drain_ns,
    )  # fmt: skip
    source.empty = loop.stop
    return loop, taken


def types(*counts: tuple[EventType, int]) -> Counter[EventType]:
    """Counts by type."""
    return Counter(dict(counts))
