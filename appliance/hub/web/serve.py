"""The page as a process: opens the stores, starts the indexer beside it, serves until it is asked to stop.

Comes in: settings. Goes out: an exit status. Never: a listener beyond the loopback without TLS unless the settings
insist."""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from appliance.hub.journal.sqlite import SqliteJournal
from appliance.hub.people.accounts import Accounts
from appliance.hub.people.database import Database
from appliance.hub.people.triage import Triage
from appliance.hub.settings import HubSettings, JournalSettings
from appliance.hub.store.indexer import Indexer, index_folder
from appliance.hub.store.lifetimes import Lifetimes
from appliance.hub.store.sqlite import SqliteStore
from appliance.hub.web.app import make_app
from appliance.hub.web.context import Hub

log = logging.getLogger(__name__)

RESTART_S = 1.0


def journal_folder(data_dir: Path) -> Path:
    """Where the journal of a hub lies."""
    return data_dir / "journal"


def open_hub(settings: HubSettings) -> Hub:
    """Everything that the page reads, opened."""
    data_dir = settings.data_dir
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
    db = Database(data_dir / "page.sqlite")
    return Hub(
        settings,
        SqliteJournal(journal_folder(data_dir), settings.journal),
        SqliteStore(index_folder(data_dir)),
        Lifetimes(index_folder(data_dir) / "groups.db"),
        db,
        Accounts(db),
        Triage(db),
        time.time_ns,
    )


def index(data_dir: Path, settings: JournalSettings, parent: int) -> None:
    """The indexer, in a process of its own: it ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder = index_folder(data_dir)
    journal = SqliteJournal(journal_folder(data_dir), settings)
    Indexer(journal, SqliteStore(folder), Lifetimes(folder / "groups.db")).run(lambda: os.getppid() != parent)


class _Beside(threading.Thread):
    """Starts the indexer again whenever it ends."""

    def __init__(self, settings: HubSettings) -> None:
        super().__init__(name="indexer", daemon=True)
        self._settings = settings
        self._ended = threading.Event()
        self._process: multiprocessing.process.BaseProcess | None = None

    def run(self) -> None:
        context = multiprocessing.get_context("spawn")
        while not self._ended.is_set():
            self._process = context.Process(
                target=index, args=(self._settings.data_dir, self._settings.journal, os.getpid()), daemon=True
            )
            self._process.start()
            self._process.join()
            # systemd signals the whole control group, so the indexer may end before this process learns that it should
            if not self._ended.wait(RESTART_S):
                log.error("the indexer ended with status %s and is started again", self._process.exitcode)

    def expect_end(self) -> None:
        """From now on the end of the indexer is no fault."""
        self._ended.set()

    def stop(self) -> None:
        """End it."""
        self.expect_end()
        if self._process is not None and self._process.is_alive():
            self._process.terminate()
        self.join(5.0)


class _Server(uvicorn.Server):
    """Calls `leaving` when a signal asks it to end, before it waits for open requests."""

    def __init__(self, config: uvicorn.Config, leaving: Callable[[], None]) -> None:
        super().__init__(config)
        self._leaving = leaving

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Of SIGTERM and SIGINT."""
        self._leaving()
        super().handle_exit(sig, frame)


def main(
    settings: HubSettings, alive: Callable[[], None] = lambda: None, listening: socket.socket | None = None
) -> int:
    """Serve the page until SIGTERM or SIGINT; 0 at a clean end. `alive` is called every few seconds. `listening` takes
    the place of the settings' address."""
    signal.signal(signal.SIGTERM, _leave)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each thread has each file of the index open
    page = settings.page
    beside = _Beside(settings)
    beside.start()
    hub = open_hub(settings)
    config = uvicorn.Config(
        make_app(hub, alive),
        host=page.address,
        port=page.port,
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        ssl_certfile=page.tls.cert,
        ssl_keyfile=page.tls.key,
        ssl_ca_certs=str(page.tls.client_ca) if page.tls.client_ca else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if page.tls.client_ca else ssl.CERT_NONE,
    )
    where = (page.address, page.port) if listening is None else listening.getsockname()[:2]
    log.info("page: %s:%d%s", *where, page.base_path)
    server = _Server(config, beside.expect_end)
    signal.signal(signal.SIGTERM, server.handle_exit)  # uvicorn's own follows, and raises the signal again at its end
    try:
        server.run(sockets=None if listening is None else [listening])
    except SystemExit:
        log.error("cannot listen at %s:%d", page.address, page.port)
        return 1
    finally:
        beside.stop()
    return 0


def _leave(number: int, frame: object) -> None:
    """Before the server runs there is nothing to finish."""
    os._exit(0)
