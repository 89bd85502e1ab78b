"""Errors of ours: caught at a seam, counted, logged, and the rest goes on. The threads that live as long as the daemon.

Comes in: an exception that nobody expected, the work of a thread. Goes out: counts by seam, a line in the log, the
names of threads that should run and do not. Never: an error that ends what it did not happen in, or is not counted.

A seam is logged with its stack at its first error, and by count at the tenth, the hundredth and so on: an error that
comes with every event must not fill the disk.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from appliance.model.diagnostic import worth_a_line

log = logging.getLogger(__name__)

_FIRST_S, _LONGEST_S = 0.1, 5.0  # before a thread's work begins anew: doubled with each error that follows at once


class Faults:
    """The count of one daemon. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._threads: dict[str, tuple[threading.Thread, threading.Event]] = {}

    @property
    def counts(self) -> Mapping[str, int]:
        """Errors so far, by seam."""
        with self._lock:
            return dict(self._counts)

    def caught(self, seam: str) -> None:
        """Count the error that is being handled. Call it in an `except` clause."""
        with self._lock:
            count = self._counts[seam] = self._counts.get(seam, 0) + 1
        if count == 1:
            log.exception("internal error in %s: please report it", seam)
        elif worth_a_line(count):
            log.error("%d internal errors in %s so far", count, seam)

    def thread(self, name: str, run: Callable[[], None], ending: threading.Event) -> threading.Thread:
        """A daemon thread, not started yet, whose work is started again when an error ends it, until `ending` is set.

        `run` returns when the work is done. A thread that has died otherwise is named by `dead`.
        """
        returned = threading.Event()

        def keep() -> None:
            pause_s = _FIRST_S
            while not ending.is_set():
                try:
                    run()
                    break
                except BaseException:
                    self.caught(f"thread `{name}`")
                ending.wait(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_S)
            returned.set()

        thread = threading.Thread(target=keep, name=name, daemon=True)
        with self._lock:
            self._threads = {n: (t, e) for n, (t, e) in self._threads.items() if not e.is_set()}
            self._threads[name] = thread, returned
        return thread

    def dead(self) -> list[str]:
        """The names of threads whose work is not done and that do not run, nor wait for their start."""
        with self._lock:
            threads = list(self._threads.items())
        return [n for n, (t, done) in threads if t.ident is not None and not t.is_alive() and not done.is_set()]
