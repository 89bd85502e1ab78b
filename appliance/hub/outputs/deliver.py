"""The outputs as a process.

Comes in: settings. Goes out: the exit status. Never: an end that cuts a request short before its time is up.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable

import uvloop

from appliance.hub.journal.base import JournalError
from appliance.hub.journal.sqlite import SqliteJournal
from appliance.hub.outputs.engine import Engine
from appliance.hub.settings import HubSettings

log = logging.getLogger(__name__)


def deliver(settings: HubSettings, alive: Callable[[], None] = lambda: None) -> int:
    """Deliver until SIGTERM; 0, or 1 where the journal cannot be opened."""
    try:
        journal = SqliteJournal(settings.data_dir / "journal", settings.journal)
    except JournalError as error:
        log.error("%s", error)
        return 1
    # names are looked up in libuv's pool of threads: name servers that hang must not take all of them
    os.environ.setdefault("UV_THREADPOOL_SIZE", "256")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_deliver(settings, journal, alive))
    finally:
        journal.close()
    return 0


async def _deliver(settings: HubSettings, journal: SqliteJournal, alive: Callable[[], None]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await Engine(settings, journal, alive=alive).run(stop)
