"""Alerts, clients and servers for tests of the hub."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count

from appliance.hub.alert import HubAlert
from appliance.hub.outputs.base import Client, Outcome, Verdict
from appliance.hub.outputs.http import HttpOptions
from appliance.hub.outputs.table import Kind
from appliance.hub.settings import OutputSettings
from appliance.model.alert import Priority

_numbers = count(1)
BASE = HubAlert(
    seq=0,
    id="",
    ts_ns=1_790_000_000_123_456_789,
    received_ns=0,
    hostname="web1",
    rule="Terminal shell in container",
    priority=Priority.NOTICE,
    source="syscall",
    tags=("container", "shell"),
    output='a "shell" was spawned, by bob\n\u2028',
    fields={"proc.name": "bash", "evt.time": 1790000000123456789, "evt.arg": None, "n": 1.5, "list": ["a", 1]},
)


def alert(**changes: object) -> HubAlert:
    """One alert, its id of its own unless given."""
    return replace(BASE, **{"id": f"web1:boot:{next(_numbers)}", "received_ns": time.time_ns()} | changes)  # type: ignore[arg-type]


def alerts(number: int, **changes: object) -> list[HubAlert]:
    """Several."""
    return [alert(**changes) for _ in range(number)]


class MemoryClient(Client):
    """Keeps what it is sent; `answer` may say or raise anything else."""

    def __init__(self, answer: Callable[[Sequence[HubAlert]], Awaitable[Outcome] | None] = lambda batch: None) -> None:
        self.batches: list[list[HubAlert]] = []
        self.answer = answer
        self.closed = False

    async def send(self, batch: Sequence[HubAlert]) -> Outcome:
        """Take them."""
        waiting = self.answer(batch)
        if waiting is not None:
            outcome = await waiting
        else:
            outcome = Outcome((Verdict.DONE,) * len(batch))
        done = [a for a, verdict in zip(batch, outcome.verdicts, strict=True) if verdict is Verdict.DONE]
        if done:
            self.batches.append(done)
        return outcome

    async def close(self) -> None:
        """No more."""
        self.closed = True

    @property
    def got(self) -> list[HubAlert]:
        """All that was delivered, in order."""
        return [a for batch in self.batches for a in batch]


def kind(batch: int = 10) -> Kind:
    """A type of output for tests."""
    return Kind(
        name="memory", title="Memory", category="Test", doc="", delivered="", options=HttpOptions,
        connect=lambda options: MemoryClient(), batch=lambda options: batch,
    )  # fmt: skip


def output(name: str = "out", **changes: object) -> OutputSettings:
    """Settings that try again quickly and begin with the oldest."""
    quick = {"retry_min_s": 0.01, "retry_max_s": 0.05, "start": "oldest", "deadline_s": 5.0}
    return OutputSettings(type="memory", name=name, **quick | changes)  # type: ignore[arg-type]


async def until(holds: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain: {what}")
        await asyncio.sleep(0.01)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(handler: Handler, ssl: object = None) -> AsyncIterator[int]:
    """A server on the loopback whose every connection `handler` has; its port."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                await handler(reader, writer)
            finally:
                writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=ssl)  # type: ignore[arg-type]
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def read_request(reader: asyncio.StreamReader) -> tuple[str, Mapping[str, str], bytes]:
    """Request line, headers with small names, body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return first, headers, await reader.readexactly(int(headers.get("content-length", 0)))


def answering(*answers: bytes) -> tuple[Handler, list[tuple[str, Mapping[str, str], bytes]]]:
    """A handler that gives these answers in turn, the last one ever after; and the requests that came."""
    requests: list[tuple[str, Mapping[str, str], bytes]] = []
    left: Iterator[bytes] = iter(answers[:-1])

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            requests.append(await read_request(reader))
            writer.write(next(left, answers[-1]))
            await writer.drain()

    return handler, requests


def http(status: int, body: bytes = b"", **headers: str) -> bytes:
    """An answer as bytes."""
    lines = [
        f"HTTP/1.1 {status} X",
        f"Content-Length: {len(body)}",
        *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
