"""A status made by hand, with something of everything in it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from appliance.config.settings import Config, EventDrops
from appliance.daemon.audit import AuditStats
from appliance.daemon.canary import CanaryHealth
from appliance.daemon.generation import Generation
from appliance.daemon.ledger import Ledger
from appliance.daemon.loop import Counts, Glance
from appliance.daemon.status import Status
from appliance.kernel.loader import Book, Books
from appliance.lang.load import load_texts
from appliance.model.event import EventType
from appliance.sinks.base import Depth, SinkStats
from tests.support.rules import ruleset_of
from tests.support.sinks import alert

RULE = "- {rule: R, desc: d, condition: evt.type = openat, output: o, priority: INFO, tags: [t]}"


def glance(
    judged: int = 900, *, waiting_bytes: int = 0, holding: int = 0, canary: CanaryHealth | None = None
) -> Glance:
    """Of a kernel with two processors that made 1000 records, of which 10 were lost and 90 filtered."""
    books = Books({EventType.OPENAT: Book(1000, 10, 0, 90)}, 0, 0, (Book(500), Book(500)))
    counts = Counts(judged=judged, by_type=Counter({EventType.OPENAT: judged}), by_rule=Counter({"R": 3}))
    ledger = Ledger(EventDrops(), lambda *_: alert(), wall_ns=lambda: 1)
    ledger.look(books, 0, (), 0)
    return Glance(
        counts=counts, books=books, undecodable=0, waiting_bytes=waiting_bytes, holding=holding,
        missing={"no such thing": 1}, errors={"R": 1}, judged_without_container=0, in_pen=0, processes=1, containers=0,
        recent=(), ledger=ledger.snapshot(books, counts.by_type, 0), canary=canary,
    )  # fmt: skip


def status(look: Glance | None, *sinks: SinkStats) -> Status:
    """A status of a generation with one rule."""
    loaded = load_texts([("r.yaml", RULE)])
    rules = ruleset_of(loaded.rules)
    config = Config(path=Path("tercel.yaml"), rules_files=(Path("r.yaml"),))
    digests = {Path("tercel.yaml"): "ab" * 32, Path("r.yaml"): "cd" * 32}
    generation = Generation(config, loaded, rules, (), digests=digests)
    audit = AuditStats("here", 1, 0, 0, 9, 9, 1, {"too large": 1}, {200: 1}, 0)
    floods = dict.fromkeys(("submitted", "passed", "grouped", "limited", "summaries"), 0)
    return Status(0, 0, "h", "", generation, (1, 1), None, look, sinks, 1, 1.0, audit, floods)


def full_status() -> Status:
    """With everything that metrics are made of."""
    look = glance(canary=CanaryHealth(enabled=True, age_s=1.0, latency_ms=1.0, seen=1, late=0, trouble=None))
    return status(look, SinkStats("http_output", 1, 0, {}, spool=Depth(1, 9, 99)))
