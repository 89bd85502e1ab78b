"""What one rule said about one event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

FieldValue = str | int | float | bool | tuple[str, ...] | None


class Priority(IntEnum):
    """How bad it is, most severe first; the numbers are syslog's severities (RFC 5424, table 2)."""

    EMERGENCY = 0
    ALERT = 1
    CRITICAL = 2
    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFORMATIONAL = 6
    DEBUG = 7

    @property
    def label(self) -> str:
        """The name as Falco writes it in messages: `Warning`."""
        return self.name.capitalize()


@dataclass(frozen=True, slots=True)
class Alert:
    """Made once, never edited.

    `id` is host, boot and sequence (`web1:6f1c...:42`): an alert sent twice is one. `ts_ns` is the event's wall clock,
    nanoseconds since the epoch. `output` is the message with its fields filled in, without time and priority before
    it. `fields` holds the output's fields in the order they are written (`proc.name`), None where absent. Text in
    `output` and `fields` comes from the monitored host and is hostile: every edge escapes it.
    """

    id: str
    ts_ns: int
    hostname: str
    rule: str
    priority: Priority
    source: str
    tags: tuple[str, ...]
    output: str
    fields: Mapping[str, FieldValue]
