"""The log on standard error, written by a thread of its own, and to the local syslog daemon.

Comes in: log records, from any thread. Goes out: lines. Never: a wait for whoever reads standard error. A terminal that
is stopped or a pipe that nobody empties holds up neither the loop nor a sink; what finds no room is counted and told.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import sys
import threading
import time

from appliance.cli.terminal import printable_lines

_ROOM = 1000
_DAEMON = 3 << 3  # the facility
_SEVERITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (25, 5), (logging.INFO, 6))


class LineFormatter(logging.Formatter):
    """Lines that give no orders to a terminal: who logs escapes what strangers wrote, and an error of ours may quote
    them all the same."""

    def format(self, record: logging.LogRecord) -> str:
        """One record, of several lines perhaps."""
        return printable_lines(super().format(record))


class BackgroundHandler(logging.Handler):
    """Hands formatted lines to a thread that writes them to standard error."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: queue.Queue[str] = queue.Queue(_ROOM)
        self._left_out = 0
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one record; where there is no room, count it."""
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._left_out += 1
        except Exception:
            self.handleError(record)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            try:
                if self._left_out and self._lines.empty():
                    count, self._left_out = self._left_out, 0
                    told = {"msg": "%d log lines dropped: log queue full", "args": (count,), "levelno": logging.WARNING}
                    line += "\n" + self.format(logging.makeLogRecord(told | {"levelname": "WARNING"}))
                print(line, file=sys.stderr, flush=True)
            except Exception:  # whatever it is: there is no other thread to write, and nowhere to say so
                self._left_out += 1
            finally:
                self._lines.task_done()

    def drain(self, timeout_s: float) -> None:
        """Wait until what was logged is written, for so long at most."""
        deadline = time.monotonic() + timeout_s
        while self._lines.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.005)


class LocalSyslogHandler(logging.Handler):
    """Log lines to the local syslog daemon (RFC 3164), facility daemon. One that does not read at once misses lines."""

    def __init__(self, path: str) -> None:
        """Raises OSError where nobody listens."""
        super().__init__()
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.setFormatter(LineFormatter(f"tercel[{os.getpid()}]: %(message)s"))
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as tried:
                tried.connect(path)
        except OSError:
            self._socket.close()
            raise

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record, without waiting: by the path, so that a daemon that was started anew gets it."""
        priority = _DAEMON + next((n for level, n in _SEVERITIES if record.levelno >= level), 7)
        try:
            self._socket.sendto(f"<{priority}>{self.format(record)}".encode(errors="replace"), self._path)
        except OSError:
            return  # a log that cannot be written is no reason to write one

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()
        super().close()
