"""Alerts as they come: one reader of the journal for all viewers, each with a filter and a bounded queue.

Comes in: the journal, polled. Goes out: server-sent events with rows as the page draws them. A viewer that is too slow
sees how many rows it missed. Never: a viewer that slows another, or the journal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from appliance.hub.alert import HubAlert
from appliance.hub.query.predicate import predicate
from appliance.hub.web import show
from appliance.hub.web.context import Ask, Hub, shown
from appliance.hub.web.dispatch import Streaming
from appliance.hub.web.filters import read_view
from appliance.hub.web.render import environment

log = logging.getLogger(__name__)

POLL_S = 0.05
AT_ONCE = 200
WAITING = 300
KEPT_ROWS = 1000
SKIP_BEYOND = 2000
HEARTBEAT_S = 15.0


class Viewer:
    """One open stream."""

    def __init__(self, judge: Callable[[HubAlert], bool]) -> None:
        self.judge = judge
        self.queue: asyncio.Queue[HubAlert] = asyncio.Queue(WAITING)
        self.missed = 0

    def offer(self, alert: HubAlert) -> None:
        """Queue an alert if it matches; count it if there is no room."""
        if not self.judge(alert):
            return
        try:
            self.queue.put_nowait(alert)
        except asyncio.QueueFull:
            self.missed += 1


class Live:
    """The reader and its viewers; lives in the event loop."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.viewers: set[Viewer] = set()
        self._rows: OrderedDict[tuple[object, ...], str] = OrderedDict()
        self._at = -1

    def row(self, ask: Ask, alert: HubAlert, zone: str) -> str:
        """A row, drawn once for all viewers whom it shows the same."""
        role = ask.session.user.role if ask.session else None
        key = (alert.seq, alert.id, role, zone, ask.base)
        known = self._rows.get(key)
        if known is None:
            known = self._rows[key] = json.dumps(row_html(self._hub, ask, alert, zone))
            if len(self._rows) > KEPT_ROWS:
                self._rows.popitem(last=False)
        return known

    async def join(self, viewer: Viewer, since: int) -> None:
        """Add a viewer who wants all that came after the position `since`: none of it may fall between two looks."""
        self.viewers.add(viewer)
        if self._at < 0:
            self._at = since
        elif self._at > since:
            for alert in await run_in_threadpool(self._hub.journal.read, since, min(AT_ONCE, self._at - since)):
                viewer.offer(alert)

    async def run(self) -> None:
        """Follow the journal while anybody watches."""
        while True:
            try:
                await self._step()
            except OSError as error:
                log.warning("live: cannot read the journal: %s", error)
            except Exception:
                log.exception("live: a step failed")
            await asyncio.sleep(POLL_S)

    async def _step(self) -> None:
        if not self.viewers:
            self._at = -1
            return
        last = await run_in_threadpool(self._hub.journal.last)
        if self._at < 0:
            return
        if last - self._at > SKIP_BEYOND:
            for viewer in self.viewers:
                viewer.missed += last - SKIP_BEYOND - self._at
            self._at = last - SKIP_BEYOND
        while self._at < last:
            batch = await run_in_threadpool(self._hub.journal.read, self._at, AT_ONCE)
            if not batch:
                return
            for alert in batch:
                for viewer in self.viewers:
                    viewer.offer(alert)
            self._at = batch[-1].seq
            await asyncio.sleep(0)


def row_html(hub: Hub, ask: Ask, alert: HubAlert, zone: str) -> str:
    """A row, as `alerts.html` draws it, on one line."""
    text = (
        environment()
        .get_template("alert_row.html")
        .render(alert=shown(hub, ask, alert), url=ask.url, at=lambda ns, ms=False: show.moment(ns, zone, ms=ms))
    )
    return " ".join(text.split("\n"))


def stream(live: Live) -> Streaming:
    """The route of the stream."""

    async def answer(hub: Hub, ask: Ask, request: Request) -> Response:
        zone = ask.session.user.zone if ask.session else "UTC"
        view = await run_in_threadpool(read_view, {"q": ask.query.get("q", "")}, ask.now_ns, zone)
        viewer = Viewer(predicate(view.tree))
        since = await run_in_threadpool(hub.journal.last)

        async def events() -> AsyncIterator[bytes]:
            try:
                await live.join(viewer, since)
                yield b": open\n\n"
                while not await request.is_disconnected():
                    rows = await _waited(viewer)
                    if rows or viewer.missed:
                        html = ", ".join([live.row(ask, alert, zone) for alert in rows])
                        missed, viewer.missed = viewer.missed, 0
                        yield f'data: {{"rows": [{html}], "missed": {missed}}}\n\n'.encode()
                    else:
                        yield b": still here\n\n"
            finally:
                live.viewers.discard(viewer)

        return StreamingResponse(events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    return Streaming(answer)


async def _waited(viewer: Viewer) -> list[HubAlert]:
    """What waits, newest last; nothing after a quiet time."""
    rows: list[HubAlert] = []
    with contextlib.suppress(TimeoutError):
        rows.append(await asyncio.wait_for(viewer.queue.get(), HEARTBEAT_S))
    while rows and not viewer.queue.empty() and len(rows) < AT_ONCE:
        rows.append(viewer.queue.get_nowait())
    return rows
