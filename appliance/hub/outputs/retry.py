"""When an output may try: pauses between tries, the breaker, the rate.

Comes in: what became of tries. Goes out: how long to wait. Never: a try of its own.
"""

from __future__ import annotations

import asyncio
import random
import time

from appliance.hub.settings import Breaker, RateLimit


def backoff_s(tries: int, min_s: float, max_s: float) -> float:
    """A random time between nothing and a bound that doubles with each try (full jitter): senders that failed
    together do not come back together."""
    return random.uniform(0.0, min(max_s, 2.0 * min_s * 2.0 ** min(tries, 30)))  # noqa: S311


class CircuitBreaker:
    """After `failures` in a row nobody tries for `pause_s`; then one does, and all others wait for what it finds."""

    def __init__(self, settings: Breaker) -> None:
        self._settings = settings
        self._failures = 0
        self._until = 0.0
        self._probing = False
        self._changed = asyncio.Event()

    @property
    def state(self) -> str:
        """`closed`, `open` (nobody tries), or `probing`."""
        if not self._is_open:
            return "closed"
        return "probing" if self._probing else "open"

    @property
    def _is_open(self) -> bool:
        return 0 < self._settings.failures <= self._failures

    async def ready(self) -> None:
        """Wait until a try is allowed."""
        while self._is_open:
            wait_s = self._until - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            elif self._probing:
                self._changed.clear()
                await self._changed.wait()
            else:
                self._probing = True
                return

    def succeeded(self) -> None:
        """A try came through."""
        self._failures = 0
        self._settle()

    def failed(self, after_s: float | None = None) -> None:
        """A try did not; `after_s` is what the service asked for."""
        self._failures += 1
        if self._is_open:
            self._until = time.monotonic() + max(self._settings.pause_s, after_s or 0.0)
        self._settle()

    def gave_up(self) -> None:
        """A try was cancelled: another one may probe."""
        self._settle()

    def _settle(self) -> None:
        self._probing = False
        self._changed.set()


class Pace:
    """A token bucket: `take` waits until that many alerts may go."""

    def __init__(self, settings: RateLimit) -> None:
        self._per_s = settings.per_s
        self._burst = float(settings.burst)
        self._level = float(settings.burst)
        self._at = time.monotonic()

    async def take(self, count: int) -> None:
        """Wait until `count` more alerts may go. Those who wait queue up by going into debt."""
        if self._per_s <= 0:
            return
        now = time.monotonic()
        self._level = min(self._burst, self._level + (now - self._at) * self._per_s) - count
        self._at = now
        if self._level < 0:
            await asyncio.sleep(-self._level / self._per_s)
