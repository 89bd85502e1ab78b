"""The books: what the kernel made, what became of it, and when to say that something was lost.

Comes in: the kernel's own counts, what the loop judged. Goes out: `Ledger` values for those who look, alerts of our own
for losses. Never: a loss that is not counted, or one that is reported twice.

For each class of event `produced = judged + filtered + lost + in flight`; with empty rings nothing is in flight.
What the kernel made is counted in the kernel, by our own C, for each class and processor (`bpf/ring.h`).

A loss is reported as Falco's `syscall_event_drops` configures it: a share of the last second's events from which on it
is reported (`threshold`), what to do (`actions`), and a bucket of tokens (`rate`, `max_burst`). What finds no token
waits for the next one and is reported then; what is left at the end is reported at the end."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from appliance.config.settings import EventDrops
from appliance.kernel.loader import Book, Books
from appliance.model.alert import Alert, Priority
from appliance.model.event import EventType
from appliance.model.rule import Rule

log = logging.getLogger(__name__)

LOSS_RULE = "Tercel internal: events lost"
_NAMES = 12  # rules named in an alert
BUSY, UNDECODABLE, SIMULATED = "record in use", "undecodable", "simulated"

MakeAlert = Callable[[str, Priority, str, Mapping[str, int | str]], Alert]


@dataclass(frozen=True, slots=True)
class ClassBook:
    """One class of event: `full` and `unfair` are its losses by reason, see `kernel.loader.Book`."""

    type: EventType
    produced: int
    judged: int
    filtered: int
    full: int
    unfair: int

    @property
    def lost(self) -> int:
        """Records that should have been judged and were not."""
        return self.full + self.unfair


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The books at one point of the stream of events.

    `by_cpu` has a row for each possible processor. `busy` records could not be made, `undecodable` ones not be read:
    both are losses without a class. `untold` losses wait for a token; `last_loss_ns` is wall clock, None before one.
    """

    classes: tuple[ClassBook, ...]
    by_cpu: tuple[Book, ...]
    busy: int
    undecodable: int
    told: int
    untold: int
    last_loss_ns: int | None

    @property
    def produced(self) -> int:
        """Records made, and those that should have been."""
        return sum(c.produced for c in self.classes) + self.busy

    @property
    def judged(self) -> int:
        """Records that went through state and rules."""
        return sum(c.judged for c in self.classes)

    @property
    def filtered(self) -> int:
        """Records that nobody had asked for."""
        return sum(c.filtered for c in self.classes)

    @property
    def lost(self) -> int:
        """Records that should have been judged and were not, for whatever reason."""
        return sum(c.lost for c in self.classes) + self.busy + self.undecodable

    @property
    def in_flight(self) -> int:
        """Records made and not yet read: zero when nothing is in the rings, never negative but for a bug of ours."""
        return self.produced - self.judged - self.filtered - self.lost


class Ledger:
    """Follows the books and says what is to be told. One writer: the loop."""

    def __init__(self, settings: EventDrops, make_alert: MakeAlert, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self.settings = settings
        self._make_alert = make_alert
        self._wall_ns = wall_ns
        self._seen: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()
        self._unfair = 0  # of those that wait
        self._unfair_seen = 0
        self._produced = 0
        self._told = 0
        self._tokens = float(settings.max_burst)
        self._refilled_ns = 0
        self._last_loss_ns: int | None = None
        self.gave_up = False
        """True when a loss asks for the end of the appliance (action `exit`)."""

    def snapshot(self, books: Books, judged: Mapping[EventType, int], undecodable: int) -> Snapshot:
        """The books as a value."""
        return Snapshot(
            classes=tuple(
                ClassBook(type_, book.produced, judged.get(type_, 0), book.filtered, book.full, book.unfair)
                for type_, book in books.by_type.items()
            ),
            by_cpu=books.by_cpu,
            busy=books.busy,
            undecodable=undecodable,
            told=self._told,
            untold=self._waiting.total(),
            last_loss_ns=self._last_loss_ns,
        )

    def look(
        self, books: Books, undecodable: int, rules: Iterable[Rule], now_ns: int, *, last: bool = False
    ) -> list[Alert]:
        """What is to be told now, if anything. `now_ns` is a monotonic clock's; `last`: there will be no other look."""
        settings = self.settings
        lost = Counter({type_.value: book.lost for type_, book in books.by_type.items() if book.lost})
        lost[BUSY], lost[UNDECODABLE] = books.busy, undecodable
        new = lost - self._seen
        self._seen |= lost
        if settings.simulate_drops and not last:
            new[SIMULATED] += 1
        unfair = sum(book.unfair for book in books.by_type.values())
        produced = books.produced + books.busy
        made, self._produced = produced - self._produced, produced
        if new:
            self._last_loss_ns = self._wall_ns()
            self._waiting += new
            self._unfair += unfair - self._unfair_seen
            self._unfair_seen = unfair
        if not self._waiting:
            return []
        if not last and self._waiting.total() <= settings.threshold * made:
            return []  # waits: it may grow, and is reported at the end in any case
        if not self._token(now_ns) and not last:
            return []
        told, self._waiting = self._waiting, Counter()
        self._told += told.total()
        unfair, self._unfair = self._unfair, 0
        return self._tell(told, unfair, books, rules)

    def _token(self, now_ns: int) -> bool:
        settings = self.settings
        if self._refilled_ns:
            grown = (now_ns - self._refilled_ns) / 1e9 * settings.rate
            self._tokens = min(float(settings.max_burst), self._tokens + grown)
        self._refilled_ns = now_ns
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _tell(self, lost: Counter[str], unfair: int, books: Books, rules: Iterable[Rule]) -> list[Alert]:
        actions = self.settings.actions
        total = lost.total()
        classes = ", ".join(f"{name} {count}" for name, count in lost.most_common())
        blinded = blinded_by(lost, rules)
        named = ", ".join(blinded[:_NAMES]) + (f" and {len(blinded) - _NAMES} more" if len(blinded) > _NAMES else "")
        if "log" in actions:
            log.warning(
                "%d events were lost (%s); rules that may have been blinded: %s", total, classes, named or "none"
            )
        if "exit" in actions:
            log.error("events were lost, and syscall_event_drops asks to end then")
            self.gave_up = True
        if "alert" not in actions:
            return []
        fields: dict[str, int | str] = {
            "lost": total,
            "lost.classes": classes,
            "lost.unfair": unfair,
            "lost.total": books.lost,
            "produced.total": books.produced,
            "rules.blinded": named,
            "rules.blinded.count": len(blinded),
        }
        output = f"{total} events were lost before they could be judged: {classes}; rules that may have been blinded: "
        return [self._make_alert(LOSS_RULE, Priority.CRITICAL, output + (named or "none"), fields)]


def blinded_by(classes: Collection[str], rules: Iterable[Rule]) -> list[str]:
    """The names of the rules that listen to one of these classes; all rules, where a loss has no class."""
    if BUSY in classes or UNDECODABLE in classes:
        return [rule.name for rule in rules]
    types = {type_ for type_ in EventType if type_.value in classes}
    return [rule.name for rule in rules if not types.isdisjoint(rule.event_types)]
