"""A hub's page in this process, and one in a process of its own with 100,000 alerts."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from appliance.hub.alert import HubAlert
from appliance.hub.demo import DAY_NS, fleet_alerts
from appliance.hub.journal.base import Journal
from appliance.hub.journal.sqlite import SqliteJournal
from appliance.hub.load import settings_of
from appliance.hub.people.accounts import Accounts
from appliance.hub.people.database import Database
from appliance.hub.people.roles import Role
from appliance.hub.people.triage import Triage
from appliance.hub.settings import HubSettings
from appliance.hub.store.indexer import Indexer
from appliance.hub.store.lifetimes import Lifetimes
from appliance.hub.store.sqlite import SqliteStore
from appliance.hub.web.app import make_app
from appliance.hub.web.context import Hub
from appliance.hub.web.serve import journal_folder
from tests.hub.journals import MemoryJournal

with warnings.catch_warnings():  # of its choice of an HTTP client, which is ours as well
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

ROOT = Path(__file__).resolve().parents[3]
PASSWORD = "correct horse battery"
NAMES = {"vic": Role.VIEWER, "abe": Role.ANALYST, "eve": Role.EDITOR, "ann": Role.ADMIN}
QUICK = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


@dataclass
class Page:
    """A page in this process, over a journal in memory."""

    hub: Hub
    journal: MemoryJournal
    indexer: Indexer

    def put(self, alerts: Sequence[HubAlert]) -> list[HubAlert]:
        """Alerts arrive and are indexed; as the journal has them."""
        before = self.journal.last()
        self.journal.append(alerts)
        while self.indexer.step():
            pass
        return list(self.journal.read(before, len(alerts)))

    def client(self, name: str = "") -> TestClient:
        """A browser, logged in as one of `NAMES`."""
        client = TestClient(make_app(self.hub), follow_redirects=False, client=("127.0.0.1", 5000))
        if name:
            client.cookies.set("tercel_session", self.hub.accounts.start(name, self.hub.now_ns(), "test"))
        return client

    def csrf(self, client: TestClient) -> str:
        """What forms of this browser bring along."""
        session = self.hub.accounts.session(client.cookies["tercel_session"], self.hub.now_ns())
        assert session is not None
        return session.csrf


@pytest.fixture
def make_page(tmp_path: Path) -> Iterator[Callable[[str], Page]]:
    """Pages with settings of their own."""
    made: list[Page] = []

    def make(settings: str = "") -> Page:
        data_dir = tmp_path / f"hub{len(made)}"
        read = settings_of(settings)
        db = Database(data_dir / "page.sqlite")
        journal, store = MemoryJournal(), SqliteStore(data_dir / "index")
        lifetimes = Lifetimes(data_dir / "index" / "groups.db")
        as_journal: Journal = journal
        accounts = Accounts(db, QUICK)
        hub = Hub(
            replace(read, data_dir=data_dir), as_journal, store, lifetimes, db, accounts, Triage(db), time.time_ns
        )
        for name, role in NAMES.items():
            accounts.add(name, PASSWORD, role, time.time_ns())
        page = Page(hub, journal, Indexer(journal, store, lifetimes))
        made.append(page)
        return page

    yield make
    for page in made:
        page.hub.store.close()
        page.hub.lifetimes.close()
        page.hub.db.close()


@pytest.fixture
def page(make_page: Callable[[str], Page]) -> Page:
    """One with the default settings."""
    return make_page("")


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Running:
    """The page as a process over a real journal, to which the test appends."""

    settings: HubSettings
    journal: SqliteJournal
    base: str
    needle: HubAlert
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers and has indexed all."""
        code = textwrap.dedent(f"""
            from pathlib import Path
            from appliance.hub.load import load_settings
            from appliance.hub.web.serve import main
            if __name__ == "__main__":
                raise SystemExit(main(load_settings(Path({str(self.settings.data_dir / "hub.yaml")!r}))))
            """)
        script = self.settings.data_dir / "run_page.py"
        script.write_text(code)
        self.process = subprocess.Popen([sys.executable, str(script)], cwd=ROOT)
        wait_for(lambda: _answers(self.base))

    def indexed(self) -> bool:
        """Whether all of the journal can be found."""
        store = SqliteStore(self.settings.data_dir / "index")
        try:
            return store.watermark() == self.journal.last()
        finally:
            store.close()

    def kill(self) -> None:
        """SIGKILL, at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """As systemd does."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(15)


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Until something holds."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it never came to hold"
        time.sleep(0.05)


def _answers(base: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base}/healthz", timeout=2) as said:
            return bool(said.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A day of 100,000 alerts of 14 hosts, one of them the needle; users of all roles."""
    data_dir = tmp_path_factory.mktemp("running")
    tree = data_dir / "rules"
    tree.mkdir()
    local = tree / "tercel_rules.local.yaml"
    local.write_text("# rules of our own\n")
    for argv in (["init", "-q"], ["add", "."], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(tree), *argv], check=True)
    port = free_port()
    (data_dir / "hub.yaml").write_text(
        f"data_dir: {data_dir}\npage:\n  port: {port}\n  rules: [{ROOT / 'rules/tercel_rules.yaml'}]\n"
        f"  exceptions_file: {local}\n  commit_exceptions: true\n"
    )
    settings = settings_of((data_dir / "hub.yaml").read_text())
    journal = SqliteJournal(journal_folder(data_dir), settings.journal, writes=True)
    # none of them lies ahead: one that comes after a group was closed opens it again
    minute_ns = 60_000_000_000
    start_ns = time.time_ns() - DAY_NS + 5 * minute_ns
    day = list(fleet_alerts(100_000, start_ns=start_ns, span_ns=DAY_NS - 6 * minute_ns))
    needle = replace(
        day[61_803],
        id="needle:1",
        hostname="edge-02",
        output="Needle opened /srv/haystack/needle.key",
        fields={**day[61_803].fields, "proc.name": "curl", "fd.name": "/srv/haystack/needle.key"},
    )
    day[61_803] = needle
    for start in range(0, len(day), 1000):
        journal.append(day[start : start + 1000])
    accounts = Accounts(Database(data_dir / "page.sqlite"), QUICK)
    for name, role in NAMES.items():
        accounts.add(name, PASSWORD, role, time.time_ns())
    made = Running(settings, journal, f"http://127.0.0.1:{port}", needle)
    made.start()
    wait_for(made.indexed, 120.0)
    yield made
    made.stop()
    journal.close()
