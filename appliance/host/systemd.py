"""Notifications to the service manager: ready, alive, ending, and one line of status.

Comes in: `$NOTIFY_SOCKET`, `$WATCHDOG_USEC` (sd_notify(3), sd_watchdog_enabled(3)). Goes out: datagrams. Never: a wait;
where the manager does not read, a message is not sent.

The watchdog is fed by the loop itself, on its own thread: a loop that hangs is not alive, whatever other threads do.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

from appliance.model.text import printable

_STATUS_NS = 10_000_000_000


class Notifier:
    """Speaks to the manager that started us; without one it says nothing. `watchdog_s`: how often it wants to hear of
    us at least, None where it does not ask."""

    def __init__(self, environment: Mapping[str, str] = os.environ, pid: int | None = None) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        self._socket: socket.socket | None = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self.watchdog_s = _watchdog(environment, os.getpid() if pid is None else pid)
        self._next_alive_ns = 0
        self._next_status_ns = 0

    def tell(self, **words: str | int) -> bool:
        """Send assignments, `READY=1` and the like. True when the manager has them."""
        if self._socket is None:
            return False
        lines = (f"{name}={str(value).translate(_ONE_LINE)}" for name, value in words.items())
        try:
            self._socket.sendto("\n".join(lines).encode(errors="replace"), self._address)
        except OSError:  # gone, or its queue is full
            return False
        return True

    def alive(self, status: Callable[[], str]) -> None:
        """The loop goes on: feed the watchdog at half its time, and renew the line of status now and then."""
        if self._socket is None:
            return
        now_ns = time.monotonic_ns()
        if self.watchdog_s is not None and now_ns >= self._next_alive_ns and self.tell(WATCHDOG=1):
            self._next_alive_ns = now_ns + int(self.watchdog_s / 2 * 1e9)
        if now_ns >= self._next_status_ns and self.tell(STATUS=status()):
            self._next_status_ns = now_ns + _STATUS_NS

    def close(self) -> None:
        """Say no more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def inherited_sockets(environment: Mapping[str, str] = os.environ, pid: int | None = None) -> dict[str, socket.socket]:
    """The listening sockets that the manager has opened for us, by their `FileDescriptorName=` (sd_listen_fds(3)).

    Empty where it has opened none, or they are another process's. A name that several have is the last one's.
    """
    if environment.get("LISTEN_PID") != str(os.getpid() if pid is None else pid):
        return {}
    count, names = environment.get("LISTEN_FDS", ""), environment.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, socket.socket] = {}
    for n in range(int(count) if count.isdecimal() else 0):
        made = socket.socket(fileno=_FIRST_INHERITED + n)
        made.set_inheritable(False)
        found[names[n] if n < len(names) else ""] = made
    return found


_FIRST_INHERITED = 3  # SD_LISTEN_FDS_START
_ONE_LINE = {ord("\n"): " ", ord("\r"): " "}


def _watchdog(environment: Mapping[str, str], pid: int) -> float | None:
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    text = environment.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isdecimal() and int(text) > 0 else None


def logs_to_journal(fd: int = 2, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a descriptor leads to the journal (`$JOURNAL_STREAM`, systemd.exec(5)), which reads `<3>` as priority."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        at = os.fstat(fd)
    except OSError:
        return False
    return (device, inode) == (str(at.st_dev), str(at.st_ino))


class JournalFormatter(logging.Formatter):
    """Log lines as the journal wants them from standard error: each begins with its priority (sd-daemon(3)), and shows
    what a stranger's text in it would do."""

    def format(self, record: logging.LogRecord) -> str:
        """One record; every line of it is an entry of its own there."""
        level = 3 if record.levelno >= logging.ERROR else 4 if record.levelno >= logging.WARNING else 6
        if record.levelno < logging.INFO:
            level = 7
        return "\n".join(f"<{level}>{printable(line)}" for line in super().format(record).splitlines())
