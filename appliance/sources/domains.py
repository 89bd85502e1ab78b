"""Addresses of the domain names that rules ask for, as Falco finds them: names are looked up, addresses never.

Comes in: names (`watch`). Goes out: `names`, from address to names, replaced whole when something has changed. Never: a
look-up on the caller's thread, or of anything that an event carries: who connects somewhere cannot make us ask.

A name is asked again after ten seconds, and after twice as long each time that nothing had changed, up to five minutes.
An address stays a name's for an hour: many names answer with some of their addresses at a time.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from appliance.host.faults import Faults

log = logging.getLogger(__name__)

_NAMES_MAX = 1024
_ADDRESSES_MAX = 64  # of one name
_FIRST_S, _LAST_S = 10.0, 320.0
_STAYS_S = 3600.0
_PATIENCE_S = 1.0  # a look-up under way cannot be ended, only left alone


def resolve(name: str) -> frozenset[str]:
    """The addresses of a name now, as the machine's resolver tells them; none where it does not know."""
    try:
        told = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return frozenset()
    return frozenset(str(address[0]).partition("%")[0] for *_, address in told)


class _Name:
    """One name: when its addresses were last seen, when it is asked next."""

    __slots__ = ("due_s", "pause_s", "seen")

    def __init__(self) -> None:
        self.seen: dict[str, float] = {}
        self.due_s = 0.0
        self.pause_s = _FIRST_S

    def learn(self, found: frozenset[str], now_s: float) -> bool:
        """Take note of an answer; true if it changed anything."""
        before = set(self.seen)
        self.seen = {a: at for a, at in self.seen.items() if now_s - at < _STAYS_S}
        self.seen.update(dict.fromkeys(found, now_s))
        while len(self.seen) > _ADDRESSES_MAX:
            del self.seen[min(self.seen, key=self.seen.__getitem__)]
        changed = set(self.seen) != before
        self.pause_s = _FIRST_S if changed else min(self.pause_s * 2, _LAST_S)
        self.due_s = now_s + self.pause_s
        return changed


class Domains:
    """Looks names up in a thread of its own, which runs while there are names. `names` may be read from any thread."""

    def __init__(
        self,
        lookup: Callable[[str], frozenset[str]] = resolve,
        now_s: Callable[[], float] = time.monotonic,
        faults: Faults | None = None,
    ) -> None:
        self._faults = Faults() if faults is None else faults
        self._ending = threading.Event()
        self._lookup = lookup
        self._now_s = now_s
        self._lock = threading.Condition()
        self._known: dict[str, _Name] = {}
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.names: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    def watch(self, names: Iterable[str]) -> None:
        """Look up these names from now on, and no others."""
        wanted = sorted(set(names))
        if len(wanted) > _NAMES_MAX:
            log.warning("too many domain names in rules", extra={"count": len(wanted), "kept": _NAMES_MAX})
        with self._lock:
            self._known = {name: self._known.get(name) or _Name() for name in wanted[:_NAMES_MAX]}
            self._publish()
            if self._known and self._thread is None:
                thread = self._faults.thread("domains", self._run, self._ending)
                try:
                    thread.start()
                except RuntimeError:
                    log.error("cannot start a thread: names in rules are looked up after the next reload")
                else:
                    self._thread = thread
            self._lock.notify_all()

    def close(self) -> None:
        """End the thread, or leave a look-up alone that does not end."""
        with self._lock:
            self._stopping = True
            self._ending.set()
            self._lock.notify_all()
        if self._thread is not None:
            self._thread.join(_PATIENCE_S)

    def _run(self) -> None:
        while True:
            with self._lock:
                name = self._next()
                while name is None and not self._stopping:
                    due = min((k.due_s for k in self._known.values()), default=None)
                    self._lock.wait(None if due is None else max(due - self._now_s(), 0.01))
                    name = self._next()
                if name is None or self._stopping:
                    return
            try:
                found = self._lookup(name)
            except Exception:
                self._faults.caught("domains")
                found = frozenset()
            with self._lock:
                known = self._known.get(name)
                if known is not None and known.learn(found, self._now_s()):
                    self._publish()

    def _next(self) -> str | None:
        now_s = self._now_s()
        return next((name for name, known in self._known.items() if known.due_s <= now_s), None)

    def _publish(self) -> None:
        names: dict[str, tuple[str, ...]] = {}
        for name, known in self._known.items():
            for address in known.seen:
                names[address] = (*names.get(address, ()), name)
        self.names = MappingProxyType(names)
