"""What an output makes of an alert before its client sees it: passed over, redacted, rendered, grouped.

Comes in: alerts of the journal and an output's settings. Goes out: the alerts to deliver. Never: a change to the
journal's.
"""

from __future__ import annotations

import fnmatch
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from appliance.hub.alert import HubAlert
from appliance.hub.outputs.dead import packed, unpacked
from appliance.hub.query.predicate import compile_filter
from appliance.hub.settings import Grouping, OutputSettings
from appliance.model.diagnostic import RuleError
from appliance.model.moment import iso_time

REDACTED = "[redacted]"
TEST_RULE = "Test rule"
_RENDERED_MAX = 64 << 10
ENVIRONMENT = ImmutableSandboxedEnvironment(autoescape=False)
Shape = Callable[[HubAlert], HubAlert | None]


def shape_of(settings: OutputSettings) -> Shape:
    """What becomes of an alert: None where the output passes it over.

    Raises ValueError for a filter or a template that cannot be read.
    """
    matches = filter_of(settings.filter)
    redact = _redactor(settings.redact)
    render = _renderer(settings.template)
    lowest = settings.minimumpriority

    def shape(alert: HubAlert) -> HubAlert | None:
        if not is_test(alert) and (alert.priority > lowest or not matches(alert)):
            return None
        return render(redact(alert))

    return shape


def is_test(alert: HubAlert) -> bool:
    """Whether it is the alert of `POST /test` or of `tercel hub send-test`, which reaches every output."""
    return alert.rule == TEST_RULE and alert.source == "internal"


def filter_of(text: str) -> Callable[[HubAlert], bool]:
    """A condition over alerts as a predicate. Raises ValueError where it cannot be read."""
    if not text.strip():
        return lambda alert: True
    try:
        return compile_filter(text)
    except RuleError as error:
        first = error.diagnostics[0]
        raise ValueError(f"{first.message}{f'; {first.hint}' if first.hint else ''}") from error


def _redactor(names: Sequence[str]) -> Callable[[HubAlert], HubAlert]:
    if not names:
        return lambda alert: alert
    pattern = re.compile("|".join(fnmatch.translate(name) for name in names))

    def redact(alert: HubAlert) -> HubAlert:
        hidden = [name for name in alert.fields if pattern.match(name)]
        if not hidden:
            return alert
        output = alert.output
        texts = [str(alert.fields[name]) for name in hidden if alert.fields[name] is not None]
        for text in sorted(texts, key=len, reverse=True):  # a text may hold another
            if text:
                output = output.replace(text, REDACTED)
        return replace(alert, output=output, fields={**alert.fields, **dict.fromkeys(hidden, REDACTED)})

    return redact


def template_of(text: str) -> Callable[[HubAlert], str]:
    """A Jinja template as a function of an alert; an error while it renders gives the error's text.

    Raises ValueError where it cannot be read.
    """
    try:
        template = ENVIRONMENT.from_string(text)
    except TemplateError as error:
        raise ValueError(f"the template cannot be read: {error}") from error

    def render(alert: HubAlert) -> str:
        try:
            return template.render(variables_of(alert))[:_RENDERED_MAX]
        except Exception as error:  # a template may fail in any way
            return f"[template: {type(error).__name__}: {error}]"[:500]

    return render


def variables_of(alert: HubAlert) -> dict[str, Any]:
    """What a template sees."""
    return {
        "output": alert.output, "rule": alert.rule, "priority": alert.priority.label, "hostname": alert.hostname,
        "source": alert.source, "tags": list(alert.tags), "time": iso_time(alert.ts_ns) + "Z", "fields": alert.fields,
        "id": alert.id,
    }  # fmt: skip


def _renderer(text: str) -> Callable[[HubAlert], HubAlert]:
    if not text:
        return lambda alert: alert
    render = template_of(text)
    return lambda alert: replace(alert, output=render(alert))


@dataclass(slots=True)
class _Group:
    """`due` by the monotonic clock. `count` alerts are held back, `last` is the latest of them."""

    number: int
    key: tuple[str, ...]
    due: float
    count: int
    last: HubAlert


class Grouper:
    """Passes the first of alike alerts and holds back the others until a summary is due.

    What is held back outlives the process: `changes` gives what to keep since it was last asked, `restore` takes it
    back. From `due` on a group counts no more, so its summary stays the same one however often a crash has it sent
    again; it leaves when the summary is delivered (`sent`).
    """

    def __init__(self, settings: Grouping) -> None:
        self._settings = settings
        self._open: dict[tuple[str, ...], _Group] = {}
        self._sending: dict[int, _Group] = {}
        self._again: list[_Group] = []
        self._next = 1
        self._changed: dict[int, _Group | None] = {}

    def passes(self, alert: HubAlert) -> bool:
        """Whether an alert goes now. One that does not is counted for the summary."""
        if not self._settings.by:
            return True
        key = tuple(self._part(alert, name) for name in self._settings.by)
        group = self._open.get(key)
        first = group is None
        if group is None:
            group = _Group(self._next, key, time.monotonic() + self._settings.window_s, 0, alert)
            self._open[key] = group
            self._next += 1
        else:
            group.count += 1
            group.last = alert
        self._changed[group.number] = group
        return first

    def due(self, *, all_: bool = False) -> dict[int, HubAlert]:
        """Summaries of groups whose time has come, by the group's number; each is given once."""
        now = time.monotonic()
        ready = [group for group in self._open.values() if all_ or group.due <= now]
        for group in ready:
            del self._open[group.key]
            self._changed[group.number] = group if group.count else None
        ready += self._again
        self._again = []
        self._sending |= {group.number: group for group in ready if group.count}
        return {group.number: self._summary(group) for group in ready if group.count}

    def sent(self, numbers: Iterable[int]) -> None:
        """These summaries are delivered, or dead."""
        for number in numbers:
            del self._sending[number]
            self._changed[number] = None

    def changes(self) -> dict[int, str | None]:
        """What is to be kept of each group that changed, None where it is gone."""
        changed, self._changed = self._changed, {}
        ahead_s = time.time() - time.monotonic()
        return {
            number: None
            if group is None
            else json.dumps([group.key, group.due + ahead_s, group.count, packed(group.last), number in self._sending])
            for number, group in changed.items()
        }

    def restore(self, kept: Mapping[int, str]) -> None:
        """Take back what an earlier process kept; summaries that were being sent are due at once."""
        ahead_s = time.time() - time.monotonic()
        latest = time.monotonic() + self._settings.window_s
        for number, text in kept.items():
            self._next = max(self._next, number + 1)
            key, due, count, last, sending = json.loads(text)
            group = _Group(number, tuple(key), min(due - ahead_s, latest), count, unpacked(last))
            if sending:
                self._again.append(group)
            else:
                self._open[group.key] = group

    def _summary(self, group: _Group) -> HubAlert:
        last, s = group.last, "s" if group.count > 1 else ""
        text = f"{group.count} more alert{s} like this within {self._settings.window_s:g} s; the last: {last.output}"
        return replace(last, seq=0, id=f"{last.id}:summary", output=text)

    @staticmethod
    def _part(alert: HubAlert, name: str) -> str:
        match name:
            case "rule" | "hostname" | "source":
                return str(getattr(alert, name))
            case "priority":
                return alert.priority.label
            case _:
                return str(alert.fields.get(name))
