"""What an output makes of an alert before its client sees it: passed over, redacted, rendered, grouped.

Comes in: alerts of the journal and an output's settings. Goes out: the alerts to deliver. Never: a change to the
journal's.
"""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from appliance.hub.alert import HubAlert
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
    due: float
    count: int
    last: HubAlert


class Grouper:
    """Passes the first of alike alerts and holds back the others until a summary is due."""

    def __init__(self, settings: Grouping) -> None:
        self._settings = settings
        self._groups: dict[tuple[str, ...], _Group] = {}

    def passes(self, alert: HubAlert) -> bool:
        """Whether an alert goes now. One that does not is counted for the summary."""
        if not self._settings.by:
            return True
        key = tuple(self._part(alert, name) for name in self._settings.by)
        group = self._groups.get(key)
        if group is None:
            self._groups[key] = _Group(time.monotonic() + self._settings.window_s, 0, alert)
            return True
        group.count += 1
        group.last = alert
        return False

    def due(self, *, all_: bool = False) -> list[HubAlert]:
        """Summaries of groups whose time has come."""
        now = time.monotonic()
        ready = [key for key, group in self._groups.items() if all_ or group.due <= now]
        made = []
        for key in ready:
            group = self._groups.pop(key)
            if group.count:
                made.append(self._summary(group))
        return made

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
