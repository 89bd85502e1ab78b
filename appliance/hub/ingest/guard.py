"""Who may post, and how much.

Comes in: a request's headers and body. Goes out: the sender, or the answer that refuses it. Never: a comparison of
secrets whose time says how much of one was right.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from appliance.hub.settings import Collector

_HOSTS_MAX = 50_000


@dataclass(frozen=True, slots=True)
class Sender:
    """Who posts: the name of its token, "" where none is needed; `rate` as in the settings."""

    name: str
    rate: int


class Denied(Exception):
    """The request is refused with `status`; `retry_after_s` where coming again can help."""

    def __init__(self, status: int, reason: str, retry_after_s: float | None = None) -> None:
        self.status = status
        self.retry_after_s = retry_after_s
        super().__init__(reason)


class Guard:
    """The collector's tokens, secret and limits."""

    def __init__(self, settings: Collector) -> None:
        self._senders = {hashlib.sha256(t.token.encode()).digest(): Sender(t.name, t.rate) for t in settings.tokens}
        self._secret = settings.hmac_secret.encode()
        self._host_rate = settings.host_rate
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def sender_of(self, authorization: str) -> Sender:
        """Who a bearer token belongs to. Raises `Denied`."""
        if not self._senders:
            return Sender("", 0)
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Denied(401, "authentication required: send `Authorization: Bearer TOKEN`")
        # looked up by its digest: the time says nothing about the token
        sender = self._senders.get(hashlib.sha256(token.strip().encode("utf-8", "replace")).digest())
        if sender is None:
            raise Denied(401, "the token is not known")
        return sender

    def check_signature(self, body: bytes, signature: str) -> None:
        """Hold `Tercel-Signature` against the body as it came. Raises `Denied`."""
        if not self._secret:
            return
        right = "sha256=" + hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(right.encode(), signature.strip().lower().encode("utf-8", "replace")):
            raise Denied(401, "authentication required: `Tercel-Signature` is missing or wrong")

    def admit(self, sender: Sender, hosts: Iterable[str], count: int) -> None:
        """Take what a request brings from the buckets of its sender and hosts. Raises `Denied` with 429."""
        if sender.rate:
            self._take(f"token\0{sender.name}", sender.rate, count, f"the token `{sender.name}`")
        if self._host_rate:
            counted: dict[str, int] = {}
            for host in hosts:
                counted[host] = counted.get(host, 0) + 1
            for host, number in counted.items():
                self._take(f"host\0{host}", self._host_rate, number, "this host")

    def _take(self, key: str, rate: int, count: int, whose: str) -> None:
        """A bucket holds ten seconds of its rate; a request larger than that passes when it is full."""
        now = time.monotonic()
        size = 10.0 * rate
        level, at = self._buckets.get(key, (size, now))
        level = min(size, level + (now - at) * rate)
        needed = min(float(count), size)
        if level < needed:
            self._buckets[key] = (level, now)
            raise Denied(429, f"{whose} sends more than {rate} alerts a second", (needed - level) / rate)
        self._buckets[key] = (level - count, now)
        self._buckets.move_to_end(key)
        while len(self._buckets) > _HOSTS_MAX:
            self._buckets.popitem(last=False)


def seconds_text(seconds: float) -> str:
    """For `Retry-After`: whole seconds, at least one."""
    return str(max(1, math.ceil(seconds)))
