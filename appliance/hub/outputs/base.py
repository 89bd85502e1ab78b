"""What an output is to the delivery engine: a client that takes a batch and says what became of it.

Comes in: batches of alerts, in the journal's order. Goes out: requests to one service. Never: a retry, a queue, a sleep
of its own: pauses, retries, breakers and dead letters are the engine's, the same for all.

Three kinds: HTTP outputs are rows of a table (`http.py` runs them), protocols are classes with `Client`'s methods, chat
and push services go by Apprise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from appliance.hub.alert import HubAlert


class Verdict(Enum):
    """What became of one alert: `DONE` the service has it; `AGAIN` another try may help; `NEVER` the service refuses
    this alert whatever is tried, so it becomes a dead letter."""

    DONE = "done"
    AGAIN = "again"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`verdicts` has one entry an alert of the batch, in its order. `reason` is one line for people where not all are
    done. `retry_after_s` is what the service asked for, None where it asked for nothing."""

    verdicts: Sequence[Verdict]
    reason: str = ""
    retry_after_s: float | None = None


class Client(Protocol):
    """One service. The engine calls `send` of one client from one task at a time unless the row allows more."""

    async def send(self, batch: Sequence[HubAlert]) -> Outcome:
        """Deliver a batch within the engine's deadline (it cancels). Errors of the network are raised as they come
        (OSError, TimeoutError, library errors): the engine counts them as `AGAIN` for the whole batch."""

    async def close(self) -> None:
        """Let the connection go."""


@dataclass(frozen=True, slots=True)
class Request:
    """What an HTTP row makes of a batch."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service said; `body` is cut at 64 KiB, header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
