"""Metrics at an interval, as an alert or as lines of a file: Falco's `metrics:` keys.

Comes in: the settings, a reader of the status. Goes out: `Tercel internal: metrics snapshot`, lines of JSON. Never: a
wait for the loop, or an end of the snapshots because a disk is full.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from appliance.config.settings import Metrics
from appliance.daemon.metrics import HookCost, snapshot
from appliance.daemon.status import Status
from appliance.host.faults import Faults
from appliance.host.files import open_own, put_aside
from appliance.model.alert import FieldValue
from appliance.model.text import json_safe, why

log = logging.getLogger(__name__)

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK


class Snapshots:
    """Takes a snapshot every interval, on a thread of its own, until `stop`."""

    def __init__(
        self,
        settings: Metrics,
        *,
        status: Callable[[], Status],
        hooks: Callable[[], Sequence[HookCost]],
        tell: Callable[[Mapping[str, FieldValue]], None],
        faults: Faults | None = None,
    ) -> None:
        """`tell` makes an alert of the fields; it is called where `output_rule` is set."""
        self._settings = settings
        self._status = status
        self._hooks = hooks
        self._tell = tell
        self._ending = threading.Event()
        self._before: Status | None = None
        self._count = 0
        self._failed = ""
        self._faults = Faults() if faults is None else faults
        self._thread = self._faults.thread("metrics", self._run, self._ending)

    def start(self) -> None:
        """Begin; the first snapshot comes after one interval."""
        self._thread.start()

    def stop(self) -> None:
        """End, soon."""
        self._ending.set()

    def _run(self) -> None:
        interval_s = self._settings.interval_s
        due = time.monotonic() + interval_s
        while not self._ending.wait(max(0.0, due - time.monotonic())):
            due = max(due + interval_s, time.monotonic())
            try:
                self.take()
            except Exception:
                self._faults.caught("metrics snapshot")

    def take(self) -> None:
        """One snapshot, now."""
        status = self._status()
        fields = snapshot(status, self._before, self._settings, self._hooks())
        self._before = status
        self._count += 1
        if self._settings.output_rule:
            self._tell(fields)
        if self._settings.output_file:
            self._append(Path(self._settings.output_file), fields)

    def _append(self, path: Path, fields: Mapping[str, FieldValue]) -> None:
        clean = {json_safe(k): json_safe(v) if isinstance(v, str) else v for k, v in fields.items()}
        line = json.dumps({"sample": self._count, "output_fields": clean}).encode() + b"\n"
        try:
            try:
                fd = open_own(path, _FLAGS)
            except PermissionError:
                if not put_aside(path):
                    raise
                fd = open_own(path, _FLAGS)
            try:
                if (written := os.write(fd, line)) < len(line):
                    if stat.S_ISREG((info := os.fstat(fd)).st_mode):
                        os.ftruncate(fd, info.st_size - written)  # no torn line
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(fd)
        except OSError as error:
            if self._failed != str(error):
                self._failed = str(error)
                log.warning("metrics cannot be written to %s: %s", path, why(error))
        else:
            self._failed = ""
