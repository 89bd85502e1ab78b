"""Who is speaking: host name, boot, and the sequence that makes an alert's id unique.

Comes in: /proc. Goes out: ids like `web1:6f1cbc9e:42`. Never: the same id twice in one boot of one daemon start.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from appliance.model.alert import Alert, FieldValue, Priority

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def hostname() -> str:
    """The host's name; `FALCO_HOSTNAME` and `TERCEL_HOSTNAME` in the environment win, as with Falco."""
    return os.environ.get("TERCEL_HOSTNAME") or os.environ.get("FALCO_HOSTNAME") or socket.gethostname()


def id_maker(host: str, boot_id: Path = _BOOT_ID) -> Callable[[], str]:
    """A function that gives a new id at each call. The sequence begins anew with the daemon, so its start is in it."""
    boot = boot_id.read_text().strip().partition("-")[0]
    start = f"{time.time_ns():x}"
    sequence = itertools.count(1)
    return lambda: f"{host}:{boot}:{start}-{next(sequence)}"


def internal_alerts(host: str, new_id: Callable[[], str]) -> Callable[..., Alert]:
    """A maker of alerts that the appliance raises about itself: source `internal`."""

    def make(rule: str, priority: Priority, output: str, fields: Mapping[str, FieldValue]) -> Alert:
        return Alert(new_id(), time.time_ns(), host, rule, priority, "internal", ("tercel",), output, fields)

    return make


def boot_offset_ns() -> int:
    """Wall clock minus CLOCK_BOOTTIME, the clock of the starts of processes, nanoseconds."""
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def wall_offset_ns() -> int:
    """Wall clock minus CLOCK_MONOTONIC, the clock of the kernel's records, in nanoseconds."""
    return time.time_ns() - time.monotonic_ns()
