"""The log on standard error, written by a thread of its own, and to the local syslog daemon.

Comes in: log records, from any thread. Goes out: lines. Never: a wait for whoever reads standard error. A terminal that
is stopped or a pipe that nobody empties holds up neither the loop nor a sink; what finds no room is counted and told.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import time
from logging.handlers import SysLogHandler

_ROOM = 1000


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
                    told = {"msg": "lines of the log found no room: %d", "args": (count,), "levelno": logging.WARNING}
                    line += "\n" + self.format(logging.makeLogRecord(told | {"levelname": "WARNING"}))
                print(line, file=sys.stderr, flush=True)
            except (OSError, ValueError):
                self._left_out += 1
            finally:
                self._lines.task_done()

    def drain(self, timeout_s: float) -> None:
        """Wait until what was logged is written, for so long at most."""
        deadline = time.monotonic() + timeout_s
        while self._lines.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.005)


class LocalSyslogHandler(SysLogHandler):
    """Log lines to the local syslog daemon, facility daemon. One that does not read at once misses lines."""

    append_nul = False

    def __init__(self, socket: str) -> None:
        """Raises OSError where nobody listens."""
        super().__init__(socket, facility=SysLogHandler.LOG_DAEMON)
        self.setFormatter(logging.Formatter(f"tercel[{os.getpid()}]: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record, without waiting."""
        connection = getattr(self, "socket", None)  # which its stubs do not tell of
        if connection is not None:
            connection.setblocking(False)
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """A log that cannot be written is no reason to write one."""
