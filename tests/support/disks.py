"""Disks that fail: at the n-th call, once or from then on, with a torn write or with the end of the process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.sinks.disk import Disk

CALLS = ("create", "open", "read", "write", "truncate", "sync", "sync_folder", "unlink", "rename", "names")


class Plan:
    """Counts the calls to the disks made by it, and lets the n-th fail; `calls` tells what they were."""

    def __init__(self, fail_at: int = 0, code: int = 0, *, until: int | None = None, kill: bool = False) -> None:
        """`fail_at` counts from 1; 0 means never. Calls `fail_at` to `until` fail (`None`: this one alone)."""
        self.count = 0
        self.calls: list[str] = []
        self.failed = 0
        self._fail_at = fail_at
        self._until = fail_at if until is None else until
        self._code = code
        self._kill = kill

    def healed(self) -> None:
        """No more failures."""
        self._fail_at = self._until = 0

    def due(self, call: str) -> bool:
        self.count += 1
        self.calls.append(call)
        return bool(self._fail_at) and self._fail_at <= self.count <= self._until

    def strike(self) -> None:
        if self._kill:
            os.kill(os.getpid(), signal.SIGKILL)
        self.failed += 1
        raise OSError(self._code, os.strerror(self._code))

    def disk(self, folder: Path) -> Disk:
        """For a spool's `make_disk`."""
        return FaultyDisk(folder, self)


class FaultyDisk(Disk):
    """A real folder; a write that fails has written half of its bytes."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        super().__init__(folder)
        self._plan = plan

    def write(self, fd: int, data: bytes, offset: int) -> int:
        if self._plan.due("write"):
            super().write(fd, data[: len(data) // 2], offset)
            self._plan.strike()
        return super().write(fd, data, offset)


def _failing(call: str) -> Callable[..., Any]:
    real = getattr(Disk, call)

    def method(self: FaultyDisk, *args: Any, **options: Any) -> Any:
        if self._plan.due(call):
            self._plan.strike()
        return real(self, *args, **options)

    return method


for _call in CALLS:
    if _call != "write":
        setattr(FaultyDisk, _call, _failing(_call))
