"""What each rule costs: its predicate alone, timed on events that were really judged.

Comes in: events, a sample of those the loop judged; rules. Goes out: nanoseconds for an event, and the share of each
rule. Never: work on the loop's thread beyond keeping one event now and then.

All rules of an event type run as one function, which cannot be taken apart while it runs. So each is measured when
somebody asks, on the asker's thread, by that thread's own processor time: what the loop does meanwhile does not count.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from appliance.engine.ruleset import Judge, Ruleset, compile_rule
from appliance.model.event import Event, EventType

_SAMPLE = 256
_BETWEEN_NS = 20_000_000
_FRESH_S = 15.0
_LEAST_NS = 200_000  # a predicate is run until its time can be told from the clock's


class Sample:
    """The latest of the events that were judged, one every 20 ms at most. `room` bounds their number."""

    def __init__(self, freeze: Callable[[Event], Event], room: int = _SAMPLE) -> None:
        """`freeze` makes an event that can be judged later, on another thread."""
        self._freeze = freeze
        self._events: deque[Event] = deque(maxlen=room)
        self._next_ns = 0

    def offer(self, event: Event, now_ns: int) -> None:
        """Perhaps keep an event."""
        if now_ns >= self._next_ns:
            self._next_ns = now_ns + _BETWEEN_NS
            self._events.append(self._freeze(event))

    def events(self) -> tuple[Event, ...]:
        """Those that are kept, oldest first."""
        return tuple(self._events.copy())


@dataclass(frozen=True, slots=True)
class RuleCost:
    """`ns`: for an event of the types that the rule listens to. `share`: of all rules' time, on the events sampled.
    `events`: how many events of the sample the rule was judged on."""

    rule: str
    ns: float
    share: float
    events: int


class Trial:
    """Events by type, to time predicates on. `least` of each at the least: they are repeated. Of so many `passes` the
    shortest counts, as what others do only adds."""

    def __init__(self, events: Iterable[Event], *, least: int = 1, passes: int = 1) -> None:
        by_type: defaultdict[EventType, list[Event]] = defaultdict(list)
        for event in events:
            by_type[event.type].append(event)
        self.by_type: Mapping[EventType, Sequence[Event]] = by_type
        self._passes = passes
        self._repeated = {type_: -(-least // len(mine)) for type_, mine in by_type.items()}
        self._empty = {type_: self._pass(_nothing, type_) for type_ in by_type}

    def ns_of(self, judge: Judge, type_: EventType) -> float:
        """Nanoseconds of processor time for all events of the type, the loop around them taken off; never nothing."""
        return max(1.0, self._pass(judge, type_) - self._empty[type_])

    def _pass(self, judge: Judge, type_: EventType) -> float:
        times = self._repeated[type_]
        events = [*self.by_type[type_]] * times
        return min(_time_of(judge, events) for _ in range(self._passes)) / times


class CostMeter:
    """Measures when asked, and remembers for a while. One generation's predicates are kept at a time."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self._lock = threading.Lock()
        self._ruleset: Ruleset | None = None
        self._judges: dict[tuple[int, EventType], Judge | None] = {}
        self._measured_s = float("-inf")
        self._costs: tuple[RuleCost, ...] = ()

    def costs(self, ruleset: Ruleset) -> tuple[RuleCost, ...]:
        """The rules that cost something, dearest first."""
        with self._lock:
            if ruleset is not self._ruleset:
                self._ruleset, self._judges = ruleset, {}
                self._measured_s = float("-inf")
            if time.monotonic() - self._measured_s > _FRESH_S:
                self._costs = self._measure(ruleset)
                self._measured_s = time.monotonic()
            return self._costs

    def _measure(self, ruleset: Ruleset) -> tuple[RuleCost, ...]:
        trial = Trial(self._sample.events())
        spent: list[tuple[str, float, int]] = []
        for n, rule in enumerate(ruleset.rules):
            total, count = 0.0, 0
            for type_ in rule.event_types & trial.by_type.keys():
                judge = self._judge(n, ruleset, type_)
                if judge is not None:
                    total += trial.ns_of(judge, type_)
                count += len(trial.by_type[type_])
            if count:
                spent.append((rule.name, total, count))
            time.sleep(0)  # the loop first
        whole = sum(total for _, total, _ in spent) or 1.0
        costs = (RuleCost(name, total / count, total / whole, count) for name, total, count in spent)
        return tuple(sorted(costs, key=lambda cost: -cost.share))

    def _judge(self, n: int, ruleset: Ruleset, type_: EventType) -> Judge | None:
        key = n, type_
        if key not in self._judges:
            self._judges[key] = compile_rule(ruleset.rules[n], type_)
        return self._judges[key]


def _time_of(judge: Judge, events: Sequence[Event]) -> float:
    """Nanoseconds of one pass over the events, with the loop around them."""
    rounds, spent = 0, 0
    while spent < _LEAST_NS and rounds < 64:
        started = time.thread_time_ns()
        for event in events:
            try:
                judge(event)
            except Exception:  # noqa: S112  (counted where it is judged in earnest)
                continue
        spent += time.thread_time_ns() - started
        rounds += 1
    return spent / rounds


def _nothing(event: Event) -> tuple[int, ...]:
    return ()
