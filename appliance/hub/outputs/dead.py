"""Dead letters: alerts that a service refuses for good, kept in a file for people.

Comes in: refused alerts. Goes out: `dead/NAME.ndjson`, a line for each with the reason and the alert whole; the same
alerts again when somebody asks for a replay. Never: a dead letter that is not on the disk before its place is passed.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from appliance.hub.alert import HubAlert
from appliance.hub.outputs.event import to_bytes
from appliance.model.alert import Priority

log = logging.getLogger(__name__)

_BYTES_MAX = 256 << 20


class DeadLetters:
    """The file of one output."""

    def __init__(self, data_dir: Path, output: str) -> None:
        self._folder = data_dir / "dead"
        self.file = self._folder / f"{output}.ndjson"
        self.replay_file = self._folder / f"{output}.replay"

    def add(self, alerts: Sequence[HubAlert], reason: str) -> None:
        """Append them durably. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        if self.file.exists() and self.file.stat().st_size > _BYTES_MAX:
            log.warning("%s is full: it takes the place of the one put aside before", self.file)
            self.file.rename(f"{self.file}.1")
        lines = [
            to_bytes({"at_ns": time.time_ns(), "reason": reason, "alert": packed(alert)}) + b"\n" for alert in alerts
        ]
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            data = b"".join(lines)
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def ask_replay(self) -> int:
        """Set all of them aside to be delivered again; how many. A replay that waits already is added to."""
        count = sum(1 for _ in self._lines(self.file))
        if not count:
            return 0
        if self.replay_file.exists():
            with self.file.open("rb") as old, self.replay_file.open("ab") as new:
                new.write(old.read())
            self.file.unlink()
        else:
            self.file.rename(self.replay_file)
        return count

    def to_replay(self) -> Iterator[HubAlert]:
        """What has been set aside; nothing where there is none. A torn last line is passed over."""
        for line in self._lines(self.replay_file):
            try:
                yield unpacked(json.loads(line)["alert"])
            except (ValueError, KeyError, TypeError):
                continue

    def replayed(self) -> None:
        """All of what was set aside has been delivered or is dead again."""
        self.replay_file.unlink(missing_ok=True)

    @staticmethod
    def _lines(path: Path) -> Iterator[bytes]:
        try:
            with path.open("rb") as file:
                yield from file
        except FileNotFoundError:
            return


def packed(alert: HubAlert) -> dict[str, Any]:
    """An alert whole, as JSON has it."""
    made = {name: getattr(alert, name) for name in HubAlert.__slots__}
    return made | {"priority": alert.priority.value, "tags": list(alert.tags)}


def unpacked(value: dict[str, Any]) -> HubAlert:
    """Undo `packed`. Raises ValueError, KeyError or TypeError."""
    return HubAlert(**value | {"priority": Priority(value["priority"]), "tags": tuple(value["tags"])})
