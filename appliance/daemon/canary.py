"""The canary: once in a while something harmless is done, and its event must come through the whole path.

Comes in: a clock, events of the kind it makes. Goes out: how long ago the last one came through, an alert when one is
late. Never: a change to the machine.

The daemon's own calls are not judged, so a child does it: `rmdir` of a folder below /proc that does not exist, under a
name that nobody else can know. Its start comes through a tracepoint and the ring of state, its call through `sys_exit`
and a bulk ring; both pass decoding, state and the rules like any other event, and what the rules say of them is left
out.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from appliance.config.settings import CanarySettings
from appliance.host.faults import Faults
from appliance.model.event import Event, EventType

log = logging.getLogger(__name__)

LATE_RULE = "Tercel internal: canary late"
CALLS = frozenset({EventType.RMDIR, EventType.UNLINKAT})
"""What the act is to the kernel: of the two, the one that the machine's C library makes. Both are to be heard."""

WATCHED = CALLS | {EventType.EXECVE}
_ACT_S = 1.0  # beyond its patience: for the act, and for its end
_PREFIX = "/proc/tercel-canary-"


@dataclass(frozen=True, slots=True)
class CanaryHealth:
    """`age_s`: since the last one came through, None before the first. `late`: how many did not come in time.
    `latency_ms`: from the act to its judgement, of the last one. `trouble`: what is wrong, None when all is well."""

    enabled: bool
    age_s: float | None
    latency_ms: float | None
    seen: int
    late: int
    trouble: str | None


class Canary:
    """Acts from a thread of its own; `saw` is called on the loop's thread, `health` on any."""

    def __init__(self, settings: CanarySettings, *, faults: Faults | None = None) -> None:
        self._settings = settings
        self._faults = Faults() if faults is None else faults
        self._late_told: Callable[[float], None] = _nobody
        self._program = shutil.which("rmdir")
        self._path: str | None = None  # of the act that is waited for
        self._acted_s = 0.0
        self._started_s = time.monotonic()
        self._seen_s: float | None = None
        self._latency_s: float | None = None
        self._steps: set[EventType] = set()
        self._seen = 0
        self._late = 0
        self._trouble: str | None = None
        self._came = threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._child: subprocess.Popen[bytes] | None = None
        if settings.enabled and self._program is None:
            self._trouble = "there is no program `rmdir` to act with"

    @property
    def enabled(self) -> bool:
        """True when it acts."""
        return self._settings.enabled and self._program is not None

    @property
    def types(self) -> frozenset[EventType]:
        """The types of event that must be traced for its act."""
        return CALLS if self.enabled else frozenset()

    def start(self, late: Callable[[float], None] | None = None) -> None:
        """Begin, with the first act at once. `late` is called with the seconds that one has been waited for, from the
        canary's own thread."""
        self._late_told = late or _nobody
        if self.enabled:
            self._thread = self._faults.thread("canary", self._run, self._ending)
            try:
                self._thread.start()
            except RuntimeError as error:
                self._trouble = f"the canary's thread could not be started: {error}"
                log.warning("the canary cannot act: %s", error)

    def stop(self) -> None:
        """End; waits for an act that is under way."""
        self._ending.set()
        self._came.set()
        child = self._child
        if child is not None:
            with contextlib.suppress(OSError):
                child.kill()
        if self._thread is not None and self._thread.ident is not None:
            self._thread.join(1.0)

    def is_mine(self, event: Event) -> bool:
        """True for the events of the act: its program's start and its call. For types in `WATCHED`."""
        path = self._path
        if event.type in CALLS:
            return path is not None and event.path_raw == path
        args = event.process.args
        return len(args) == 1 and args[0].startswith(_PREFIX) and event.process.ppid == os.getpid()

    def saw(self, event: Event) -> None:
        """Its event was judged."""
        if self._path is None or event.process.args != (self._path,):
            return
        self._steps.add(EventType.EXECVE if event.type is EventType.EXECVE else EventType.RMDIR)
        if len(self._steps) < 2:
            return
        now = time.monotonic()
        self._seen_s, self._latency_s = now, now - self._acted_s
        self._seen += 1
        self._path = None
        self._came.set()

    def health(self) -> CanaryHealth:
        """How it is."""
        now = time.monotonic()
        seen = self._seen_s
        trouble = self._trouble
        if trouble is None and self.enabled:
            quiet_s = now - (self._started_s if seen is None else seen)
            if quiet_s > self._settings.interval_s + 2 * self._settings.patience_s:
                trouble = f"no canary has come through for {quiet_s:.0f} s"
        return CanaryHealth(
            enabled=self.enabled,
            age_s=None if seen is None else now - seen,
            latency_ms=None if self._latency_s is None else self._latency_s * 1e3,
            seen=self._seen,
            late=self._late,
            trouble=trouble,
        )

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self._act()
            except OSError as error:
                self._trouble = f"the canary's program could not be started: {error}"
                log.warning("the canary could not act: %s", error)
            except Exception as error:
                self._trouble = f"the canary failed: {type(error).__name__}"
                self._faults.caught("canary")
            self._ending.wait(self._settings.interval_s)

    def _reap(self, child: subprocess.Popen[bytes]) -> None:
        """End the child, whose act has come or is late. One that cannot be ended is left, and said to be."""
        try:
            child.wait(_ACT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            try:
                child.wait(_ACT_S)
            except subprocess.TimeoutExpired:
                self._trouble = f"the canary's program (pid {child.pid}) does not end"
                log.warning("the canary's program hangs, pid %d", child.pid)
        self._child = None

    def _act(self) -> None:
        assert self._program is not None  # noqa: S101  (`enabled`)
        path = _PREFIX + secrets.token_hex(8)
        self._came.clear()
        self._steps = set()
        self._acted_s = time.monotonic()
        self._path = path
        self._child = subprocess.Popen(  # noqa: S603  (a fixed program, a name of our own)
            [self._program, path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
        )
        self._trouble = None
        came = self._came.wait(self._settings.patience_s)
        self._reap(self._child)
        if not came and not self._ending.is_set():
            self._late += 1
            waited_s = time.monotonic() - self._acted_s
            log.warning("a canary is late: its event has not come through for %.1f s", waited_s)
            self._late_told(waited_s)


def _nobody(waited_s: float) -> None:
    """Reports to nobody."""
