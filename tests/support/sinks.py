"""Alerts made by hand, and sinks for tests of what stands before sinks."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from appliance.model.alert import Alert, Priority
from appliance.model.diagnostic import DeliveryError
from appliance.sinks.base import Sink

HOSTILE = "a\x1b[2Jb\nc\rd\x00\u202ee\x9bf\udcffg%n{}\u2028<b>\"'\\"


def alert(
    n: int = 1, *, output: str = "something happened", priority: Priority = Priority.WARNING, **rest: Any
) -> Alert:
    """An alert; `rest` replaces any of its attributes."""
    facts: dict[str, Any] = {
        "id": f"web1:boot:{n}",
        "ts_ns": 1_700_000_000_123_456_789,
        "hostname": "web1",
        "rule": "Some rule",
        "priority": priority,
        "source": "syscall",
        "tags": ("host", "T1059"),
        "output": output,
        "fields": {"proc.name": "cat", "fd.num": n, "proc.aname[2]": "sshd", "fd.sip": None, "evt.failed": False},
    }
    return Alert(**(facts | rest))


class MemorySink(Sink):
    """Keeps what it is given; fails as told, and waits while `gate` is closed."""

    def __init__(self, name: str = "memory", errors: list[Exception] | None = None) -> None:
        self.name = name
        self.alerts: list[Alert] = []
        self.errors = errors or []
        self.gate = threading.Event()
        self.gate.set()
        self.tries = 0
        self.closed = False

    def deliver(self, alert: Alert) -> None:
        self.tries += 1
        self.gate.wait(60)
        with contextlib.suppress(IndexError):  # they may be taken away at any moment
            raise self.errors.pop(0)
        self.alerts.append(alert)

    def close(self) -> None:
        self.closed = True

    def describe(self) -> str:
        return self.name


def failing(count: int, *, retry: bool) -> list[Exception]:
    return [DeliveryError("the other end is away", retry=retry) for _ in range(count)]
