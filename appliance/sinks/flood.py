"""Floods: what is let through when a rule fires without end.

Comes in: alerts, and the time. Goes out: those to send now, and in place of the others counted summaries. Never: a hand
on an alert of the express lane or on one that the appliance raises about itself; an alert that is held back uncounted.

Grouping: of alerts of one rule that have the same values of the chosen fields the first goes out at once; what follows
within the interval becomes one alert at its end, which is the last of them with their number. Then the token bucket, as
Falco's `outputs` keys describe it. `submitted = passed + grouped + limited`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from appliance.config.settings import Outputs
from appliance.model.alert import Alert, FieldValue

INTERNAL = "internal"
GROUPED = "tercel.grouped"
"""The output field of a summary that says how many alerts it stands for."""

_Key = tuple[str, tuple[FieldValue, ...]]


@dataclass(slots=True)
class _Group:
    ends: float
    since: float
    count: int = 0
    last: Alert | None = None


class Flood:
    """Grouping and token bucket. Not for several threads at once: its owner holds a lock."""

    def __init__(self, settings: Outputs, clock: Callable[[], float]) -> None:
        """`clock`: seconds that only rise."""
        self._settings = settings
        self._clock = clock
        self._groups: dict[_Key, _Group] = {}  # in the order in which their intervals end
        self._tokens = float(settings.max_burst)
        self._filled = clock()
        self._untold: Counter[str] = Counter()
        self.submitted = self.passed = self.grouped = self.limited = self.summaries = 0

    def succeeded_by(self, settings: Outputs) -> Flood:
        """The same with other settings. Its counts go on; the groups are for the caller to have made `due` before."""
        made = Flood(settings, self._clock)
        for name in ("submitted", "passed", "grouped", "limited", "summaries"):
            setattr(made, name, getattr(self, name))
        made._untold = self._untold
        return made

    def admit(self, alert: Alert) -> bool:
        """Whether to send this one now."""
        self.submitted += 1
        if alert.priority <= self._settings.express_priority or alert.source == INTERNAL:
            self.passed += 1
            return True
        if self._settings.grouping.enabled and self._joins_group(alert):
            self.grouped += 1
            return False
        if self._settings.rate and not self._token():
            self.limited += 1
            self._untold[alert.rule] += 1
            return False
        self.passed += 1
        return True

    def _joins_group(self, alert: Alert) -> bool:
        grouping = self._settings.grouping
        key = alert.rule, tuple(alert.fields.get(name) for name in grouping.fields)
        now = self._clock()
        group = self._groups.get(key)
        if group is not None:
            group.count += 1
            group.last = alert
            return True
        if len(self._groups) < grouping.max_groups:
            self._groups[key] = _Group(now + grouping.interval_ms / 1000, now)
        return False

    def _token(self) -> bool:
        now = self._clock()
        self._tokens = min(self._settings.max_burst, self._tokens + (now - self._filled) * self._settings.rate)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def due(self, *, all_of_them: bool = False) -> list[Alert]:
        """The summaries of groups whose interval has ended. A group that was quiet for one is forgotten."""
        now = self._clock()
        found = []
        for key, group in list(self._groups.items()):
            if group.ends > now and not all_of_them:
                break
            del self._groups[key]
            if group.last is None:
                continue
            found.append(_summary(group.last, group.count, now - group.since))
            self._groups[key] = _Group(now + self._settings.grouping.interval_ms / 1000, now)
        self.summaries += len(found)
        return found

    def held_back(self) -> Counter[str]:
        """How many the token bucket has held back since the last call, by rule."""
        untold, self._untold = self._untold, Counter()
        return untold


def _summary(last: Alert, count: int, seconds: float) -> Alert:
    """One alert for several. It has the id of the last of them, which is sent in no other way."""
    more = "1 more alert" if count == 1 else f"{count} more alerts"
    return replace(
        last,
        output=f"{more} of this rule within {seconds:.0f} s, the last: {last.output}",
        fields={**last.fields, GROUPED: count},
    )
