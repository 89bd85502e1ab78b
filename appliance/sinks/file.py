"""Alerts appended to a file, one line each.

Comes in: alerts. Goes out: whole lines at the end of a file. Never: a torn line (where a disk is full, what was
written of the line is taken back), or another user's symbolic link followed.

The file is put aside by itself past a size or an age (`alerts.1`, `alerts.2` ...), or by logrotate: a file that was
moved away is left at once, one that was cut (copytruncate) goes on at its new end, and SIGUSR1 opens it anew.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from appliance.config.settings import FileOutput
from appliance.host.files import open_own, put_aside
from appliance.model.alert import Alert
from appliance.model.diagnostic import DeliveryError
from appliance.model.text import why
from appliance.model.wire import Format, line
from appliance.sinks.base import Sink

log = logging.getLogger(__name__)

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY


class FileSink(Sink):
    """Opens the file for each alert, or once with `keep_alive`; a file that was moved away is left then, too."""

    name = "file_output"
    batch = 64

    def __init__(
        self,
        path: Path,
        options: Format,
        *,
        keep_alive: bool,
        rotate_bytes: int = 0,
        rotate_s: float = 0,
        keep: int = 5,
        sync: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`rotate_bytes` and `rotate_s`: 0 for never. `keep`: files that were put aside. `clock` only rises.

        A file's age is counted by `clock` while this writes to it; `wall_clock` tells once how old it was found.
        """
        self._path = path
        self._options = options
        self._keep_alive = keep_alive
        self._rotate_bytes = rotate_bytes
        self._rotate_s = rotate_s
        self._keep = keep
        self._sync = sync
        self._clock = clock
        self._wall_clock = wall_clock
        self._fd = -1
        self._inode = (0, 0)
        self._began = 0.0  # by `clock`, of the file that `_inode` is
        self._reopen = False
        self._cannot_rotate = False

    @classmethod
    def of(cls, settings: FileOutput, options: Format) -> FileSink:
        """As the settings say."""
        return cls(
            settings.filename,
            options,
            keep_alive=settings.keep_alive,
            rotate_bytes=settings.rotate_mib << 20,
            rotate_s=settings.rotate_hours * 3600.0,
            keep=settings.rotate_keep,
            sync=settings.sync,
        )

    def deliver(self, alert: Alert) -> None:
        """Append one line. A file that this makes can be read by its owner only."""
        self.deliver_several([alert])

    def deliver_several(self, alerts: Sequence[Alert]) -> None:
        """Append their lines by one write, and sync once; all of them, or none."""
        data = b"".join(line(alert, self._options).encode() + b"\n" for alert in alerts)
        try:
            if self._fd >= 0 and (self._reopen or self._moved()):
                self.close()
            self._reopen = False
            if self._fd < 0:
                self._open()
            if self._rotate_bytes or self._rotate_s:
                self._rotate_if_due(len(data))
            self._append(data)
        except OSError as error:
            self.close()
            raise DeliveryError(f"{self._path}: {why(error)}", retry=True) from error
        if not self._keep_alive:
            self.close()

    def reopen(self) -> None:
        """Open the file anew before the next line."""
        self._reopen = True

    def _open(self) -> None:
        try:
            self._fd = open_own(self._path, _FLAGS)
        except PermissionError:
            if not put_aside(self._path):
                raise
            self._fd = open_own(self._path, _FLAGS)
        info = os.fstat(self._fd)
        if (info.st_dev, info.st_ino) != self._inode:
            self._inode = info.st_dev, info.st_ino
            age = self._wall_clock() - info.st_mtime if info.st_size else 0.0
            self._began = self._clock() - max(0.0, age)

    def _append(self, data: bytes) -> None:
        start = os.fstat(self._fd).st_size
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
            if self._sync:
                os.fdatasync(self._fd)
        except OSError:
            if written:
                with contextlib.suppress(OSError):  # a pipe or a device cannot be shortened
                    os.ftruncate(self._fd, start)
            raise

    def _rotate_if_due(self, more: int) -> None:
        info = os.fstat(self._fd)
        if not stat.S_ISREG(info.st_mode) or not info.st_size:
            return
        too_large = self._rotate_bytes and info.st_size + more > self._rotate_bytes
        too_old = self._rotate_s and self._clock() - self._began >= self._rotate_s
        if not too_large and not too_old:
            return
        try:
            for n in range(self._keep - 1, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    self._aside(n).replace(self._aside(n + 1))
            self._path.replace(self._aside(1))
        except OSError as error:  # the alert matters more than the size of its file
            if not self._cannot_rotate:
                log.error("%s: cannot be put aside: %s", self._path, why(error))
            self._cannot_rotate = True
            return
        self._cannot_rotate = False
        self.close()
        self._open()

    def _aside(self, n: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{n}")

    def _moved(self) -> bool:
        """Whether the path names another file by now, or none."""
        try:
            there, here = os.stat(self._path), os.fstat(self._fd)  # noqa: PTH116
        except OSError:
            return True
        return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def describe(self) -> str:
        """One line for the start-up banner."""
        return f"file {self._path}"
