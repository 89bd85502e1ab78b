"""The collector as a process: journal, fleet, server.

Comes in: settings and a listening socket. Goes out: the exit status. Never: an answer after the journal is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sqlite3
import ssl
import sys
import time
from collections.abc import Callable

import uvicorn
import uvloop

from appliance.hub.fleet.table import Fleet
from appliance.hub.ingest.app import Books, Collect
from appliance.hub.ingest.commit import Committer
from appliance.hub.ingest.enrich import enricher
from appliance.hub.ingest.protocol import BoundedProtocol
from appliance.hub.journal.base import JournalError
from appliance.hub.journal.sqlite import SqliteJournal
from appliance.hub.metrics import text_of
from appliance.hub.settings import HubSettings
from appliance.hub.status import StatusFile

log = logging.getLogger(__name__)

_TICK_S = 1.0


def collect(settings: HubSettings, listener: socket.socket, alive: Callable[[], None] = lambda: None) -> int:
    """Serve until SIGTERM; 0, or 1 where the journal cannot be opened."""
    try:
        journal = SqliteJournal(settings.data_dir / "journal", settings.journal, writes=True)
    except JournalError as error:
        log.error("%s", error)
        return 1
    gc.collect()
    gc.freeze()  # what is loaded stays: collections need not walk it
    gc.set_threshold(20_000, 20, 20)
    sys.setswitchinterval(0.002)  # the journal's thread must not wait long for its turn after the disk
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, listener, journal, alive))
    finally:
        journal.close()
    return 0


async def _serve(
    settings: HubSettings, listener: socket.socket, journal: SqliteJournal, alive: Callable[[], None]
) -> None:
    committer = Committer(journal)
    fleet = Fleet(settings.data_dir, settings.fleet)
    status = StatusFile(settings.data_dir)
    started_ns = time.time_ns()

    def metrics(books: Books) -> str:
        silent = sum("silent" in host.reported for host in list(fleet.hosts.values()))
        states = {"known": len(fleet.hosts), "silent": silent}
        return text_of(books, status.outputs(), journal.health(), states, {"commits": float(committer.commits)})

    app = Collect(
        settings.collector, committer, enricher(settings.enrichment), fleet, metrics,
        may_be_empty=bool(settings.enrichment.customfields),
    )  # fmt: skip
    tls = settings.collector.tls
    config = uvicorn.Config(
        app, http=BoundedProtocol, ws="none", lifespan="off", access_log=False, log_config=None, server_header=False,
        date_header=False, limit_concurrency=settings.collector.max_connections, timeout_keep_alive=75, backlog=2048,
        timeout_graceful_shutdown=max(1, int(settings.shutdown_s)), proxy_headers=False,
        ssl_certfile=str(tls.cert) if tls.cert else None, ssl_keyfile=str(tls.key) if tls.key else None,
        ssl_ca_certs=str(tls.client_ca) if tls.client_ca else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if tls.client_ca else ssl.CERT_NONE,
    )  # fmt: skip
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    server = uvicorn.Server(config)
    signal.signal(
        signal.SIGTERM, server.handle_exit
    )  # from now on; uvicorn's own follows, and raises it again at its end
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not task.done():
            await asyncio.wait([task], timeout=_TICK_S)
            if not server.started:
                continue
            alive()
            await _tick(app, committer, fleet, status, journal, started_ns)
        task.result()
    finally:
        await asyncio.to_thread(committer.close)
        fleet.close()
        with contextlib.suppress(sqlite3.Error):
            status.write({}, instead_of="collect")  # it runs no more
        status.close()


async def _tick(
    app: Collect, committer: Committer, fleet: Fleet, status: StatusFile, journal: SqliteJournal, started_ns: int
) -> None:
    """Once a second: the hub's own alerts, and what the collector says of itself."""
    try:
        own = fleet.judge(time.time_ns())
        if own:
            await committer.commit(own)
        await asyncio.to_thread(fleet.save)
        books = app.books
        health = await asyncio.to_thread(journal.health)
        facts = {
            "started_ns": started_ns, "requests": dict(books.requests), "alerts": books.alerts,
            "duplicates": books.duplicates, "refused": dict(books.refused), "bytes_in": books.bytes_in,
            "heartbeats": books.heartbeats, "hosts": len(fleet.hosts),
            "journal": {
                "first_seq": health.first_seq, "last_seq": health.last_seq, "oldest_ns": health.oldest_ns,
                "size_bytes": health.size_bytes, "fsync_ms": health.fsync_ms, "trouble": health.trouble,
                "lost": dict(health.lost),
            },
        }  # fmt: skip
        await asyncio.to_thread(status.write, {"collect": facts})
    except (JournalError, sqlite3.Error, OSError) as error:
        log.warning("the collector's figures cannot be written: %s", error)
