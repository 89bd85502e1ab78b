"""The delivery engine: every output a worker over one journal.

Comes in: settings and a journal. Goes out: alerts to services, figures to `status.sqlite` each second. Never: a worker
that waits for another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from appliance.hub.journal.base import Journal, JournalError
from appliance.hub.outputs.base import Client
from appliance.hub.outputs.dead import DeadLetters
from appliance.hub.outputs.table import Kind, kinds
from appliance.hub.outputs.worker import News, Worker
from appliance.hub.settings import HubSettings, OutputSettings
from appliance.hub.status import OutputStatus, StatusFile

log = logging.getLogger(__name__)

POLL_S = 0.02
_STATUS_S = 1.0


class Engine:
    """All outputs of a configuration. `make` takes the place of the table's clients in tests."""

    def __init__(
        self,
        settings: HubSettings,
        journal: Journal,
        *,
        make: Callable[[OutputSettings], Client] | None = None,
        table: Mapping[str, Kind] | None = None,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._journal = journal
        self._alive = alive
        self.news = News()
        self._status = StatusFile(settings.data_dir)
        known = table or kinds()
        self.workers = [
            Worker(
                output, known[output.type], journal, self._status, DeadLetters(settings.data_dir, name), self.news,
                None if make is None else (lambda output=output: make(output)),  # type: ignore[misc]
            )
            for name, output in settings.outputs.items()
            if output.enabled
        ]  # fmt: skip

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set, then what waits, within `shutdown_s`."""
        await asyncio.to_thread(self._forget_strangers)
        tasks: list[asyncio.Task[None]] = [
            asyncio.create_task(worker.run(), name=worker.settings.name) for worker in self.workers
        ]
        tasks += [asyncio.create_task(self._poll()), asyncio.create_task(self._report())]
        stopping = asyncio.create_task(stop.wait())
        try:
            everything: list[asyncio.Task[Any]] = [stopping, *tasks]
            await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()  # a bug of ours: the supervisor starts this part again
                    raise AssertionError(f"{task.get_name()} ended by itself")
            await self._drain()
        finally:
            stopping.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(sqlite3.Error):
                self._put_status()
            self._status.close()

    def _forget_strangers(self) -> None:
        """Drop the cursors of outputs that the configuration no longer has: nothing waits for them."""
        wanted = {f"{worker.settings.name}" for worker in self.workers}
        for name in self._journal.cursors():
            if name not in wanted and not name.startswith("@"):
                log.info("output %s is gone from the configuration: its cursor is dropped", name)
                self._journal.forget(name)
                self._status.forget(name)

    async def _poll(self) -> None:
        """Tell the workers of the journal's end."""
        while True:
            try:
                self.news.tell(await asyncio.to_thread(self._journal.last))
            except JournalError as error:
                log.warning("%s", error)
                await asyncio.sleep(1.0)
            await asyncio.sleep(POLL_S)

    async def _report(self) -> None:
        while True:
            self._alive()
            try:
                await asyncio.to_thread(self._put_status)
            except (sqlite3.Error, JournalError) as error:
                log.warning("the status cannot be written: %s", error)
            await asyncio.sleep(_STATUS_S)

    def _put_status(self) -> None:
        lost = self._journal.health().lost
        rows = {f"output:{one.name}": asdict(replace(one, lost=lost.get(one.name, 0))) for one in self.status()}
        self._status.write(rows, instead_of="output:")

    def status(self) -> list[OutputStatus]:
        """Each output, as of now."""
        return [worker.status() for worker in self.workers]

    async def _drain(self) -> None:
        last = await asyncio.to_thread(self._journal.last)
        self.news.tell(last)
        waiting = [asyncio.create_task(worker.drained(last)) for worker in self.workers]
        if not waiting:
            return
        _, late = await asyncio.wait(waiting, timeout=self._settings.shutdown_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        if late:
            log.warning(
                "the hub ends before these outputs have delivered all; they go on at the next start: %d", len(late)
            )
