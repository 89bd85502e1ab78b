"""uvicorn's HTTP/1.1 with bounds that it has not: time for the head of a request, and its size.

Comes in: bytes of a connection. Goes out: the same to uvicorn. Never: a connection that waits for ever for the rest of
a head, or a request on its way that the end of the server cuts off.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 30.0
HEAD_BYTES = 256 << 10
LAST_HEAD_S = 1.0  # for a request that is on its way when the server ends


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose next request has no whole head in time."""

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True
    _leaving = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A peer is there: its head is awaited."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Bytes of a head are counted."""
        if self._in_head:
            self._head_bytes += len(data)
            before = self._head_bytes
            super().data_received(data)
            if self._in_head and before > HEAD_BYTES:
                self._give_up()
            return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().on_headers_complete()
        if self._leaving:
            self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        """The next head is awaited."""
        super().on_response_complete()
        self._await_head()

    def shutdown(self) -> None:
        """The server ends. A connection that it has accepted may have its first request, or the rest of one, on its
        way: senders like Falco, who open a connection for each alert and send it once, would lose that alert."""
        if self.cycle is not None and (not self._in_head or not self._head_bytes):
            super().shutdown()
            return
        self._leaving = True
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer = self.loop.call_later(LAST_HEAD_S, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer has gone."""
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._in_head, self._head_bytes = True, 0
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer = self.loop.call_later(HEAD_S, self._give_up)

    def _give_up(self) -> None:
        transport: Any = self.transport
        if self._in_head and transport is not None and not transport.is_closing():
            transport.close()
