"""Alerts to the standard input of a program, one line each.

Comes in: alerts. Goes out: lines to a process that runs in a session of its own. Never: a shell, a wait longer than the
deadline for a program that does not read, or a program that outlives us because it does not care that its input has
ended: it and its children are asked to end, then made to.

Its standard output goes to our standard error, so that it does not stand among alerts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence

from appliance.model.alert import Alert
from appliance.model.diagnostic import DeliveryError
from appliance.model.text import printable, why
from appliance.model.wire import Format, line
from appliance.sinks.base import Sink

_GRACE_S = 1.0  # between asking a program to end and forcing it
_LOOK_S = 0.02  # between two looks whether it has ended
_STDERR = 2
_PASSING = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY})  # a moment's lack


class ProgramSink(Sink):
    """Starts the program for each alert; with `keep_alive` once, and again when it has ended."""

    name = "program_output"

    def __init__(self, argv: Sequence[str], options: Format, *, keep_alive: bool, timeout_s: float) -> None:
        """`timeout_s`: how long the program may take to read an alert and, without `keep_alive`, to end."""
        self._argv = tuple(argv)
        self._options = options
        self._keep_alive = keep_alive
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._abandoned = False
        self._group = 0  # that of the program that was started last, 0 when it is known to be gone

    def deliver(self, alert: Alert) -> None:
        """Write one line; without `keep_alive` the program must then end with status 0."""
        data = line(alert, self._options).encode() + b"\n"
        deadline = time.monotonic() + self._timeout_s
        process = self._running()
        try:
            self._write(process, data, deadline)
        except OSError as error:
            self._end(0)
            raise DeliveryError(f"{self._argv[0]}: {why(error)}", retry=True) from error
        if not self._keep_alive:
            self._finish(deadline)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self._end(0)
        if self._process is None:
            try:
                self._process = subprocess.Popen(  # noqa: S603  (the operator's own, from the configuration)
                    self._argv, stdin=subprocess.PIPE, stdout=_STDERR, start_new_session=True, bufsize=0
                )
            except (OSError, ValueError) as error:
                again = isinstance(error, OSError) and error.errno in _PASSING
                raise DeliveryError(f"cannot start {printable(self._argv[0])}: {error}", retry=again) from error
            self._group = self._process.pid  # it leads a session of its own
            assert self._process.stdin is not None  # noqa: S101
            os.set_blocking(self._process.stdin.fileno(), False)
            if self._abandoned:  # meanwhile
                self._end(0)
                raise DeliveryError("the appliance ends", retry=False)
        return self._process

    def _write(self, process: subprocess.Popen[bytes], data: bytes, deadline: float) -> None:
        assert process.stdin is not None  # noqa: S101
        fd = process.stdin.fileno()
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        while data:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError(f"the program did not read within {self._timeout_s:g} s")
            with contextlib.suppress(BlockingIOError):
                data = data[os.write(fd, data) :]

    def _finish(self, deadline: float) -> None:
        """Wait for the end of a program that has its alert."""
        process = self._process
        assert process is not None and process.stdin is not None  # noqa: S101
        process.stdin.close()
        try:
            status = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            self._end(0)
            raise DeliveryError(f"{self._argv[0]}: not ended within {self._timeout_s:g} s", retry=False) from error
        self._process, self._group = None, 0
        if status != 0:
            raise DeliveryError(f"{self._argv[0]}: ended with status {status}", retry=False)

    def _end(self, patience_s: float) -> None:
        """Let the program go: its input is closed, then it and its children are asked to end, then they are made to."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None  # noqa: S101
        with contextlib.suppress(OSError):
            process.stdin.close()
        if self._gone(process, patience_s):
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            self._signal(number)
            if self._gone(process, _GRACE_S):
                return

    def _gone(self, process: subprocess.Popen[bytes], patience_s: float) -> bool:
        """Whether nothing of the program is left, or will be within this time."""
        deadline = time.monotonic() + patience_s
        while process.poll() is None or self._signal(0):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_S)
        self._group = 0
        return True

    def _signal(self, number: int) -> bool:
        """A signal to the whole group; whether somebody was there to get it."""
        group = self._group
        if not group:
            return False
        try:
            os.killpg(group, number)
        except (ProcessLookupError, PermissionError):  # gone, or another user's by now: not ours to end
            return False
        return True

    def abandon(self) -> None:
        """End the program that its thread waits for."""
        self._abandoned = True
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        while self._signal(0) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        self._signal(signal.SIGKILL)

    def close(self) -> None:
        """Close the program's input and wait a moment for its end."""
        self._end(self._timeout_s)

    def describe(self) -> str:
        """One line for the start-up banner."""
        return f"program {' '.join(self._argv)}"
