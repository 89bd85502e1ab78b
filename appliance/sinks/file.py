"""Alerts appended to a file, one line each.

Comes in: alerts. Goes out: whole lines at the end of a file. Never: a torn line; where a disk is full, what was written
of the line is taken back.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from appliance.model.alert import Alert
from appliance.model.diagnostic import DeliveryError
from appliance.model.wire import Format, line
from appliance.sinks.base import Sink

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY


class FileSink(Sink):
    """Opens the file for each alert, or once with `keep_alive`; a file that was moved away is left then, too."""

    name = "file_output"

    def __init__(self, path: Path, options: Format, *, keep_alive: bool) -> None:
        self._path = path
        self._options = options
        self._keep_alive = keep_alive
        self._fd = -1

    def deliver(self, alert: Alert) -> None:
        """Append one line. A file that this makes can be read by its owner only."""
        data = line(alert, self._options).encode() + b"\n"
        try:
            if self._fd >= 0 and self._moved():
                self.close()
            if self._fd < 0:
                self._fd = os.open(self._path, _FLAGS, 0o600)
            self._append(data)
        except OSError as error:
            self.close()
            raise DeliveryError(f"{self._path}: {error.strerror}", retry=True) from error
        if not self._keep_alive:
            self.close()

    def _append(self, data: bytes) -> None:
        start = os.fstat(self._fd).st_size
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError:
            if written:
                with contextlib.suppress(OSError):  # a pipe or a device cannot be shortened
                    os.ftruncate(self._fd, start)
            raise

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
        """As for the banner."""
        return f"file {self._path}"
