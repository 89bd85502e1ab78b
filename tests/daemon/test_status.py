"""What makes the appliance unhealthy."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from appliance.config.settings import Config, EventDrops
from appliance.daemon.canary import CanaryHealth
from appliance.daemon.generation import build_generation
from appliance.daemon.ledger import Ledger
from appliance.daemon.loop import Counts, Glance
from appliance.daemon.status import Status, astray
from appliance.kernel.loader import Book, Books
from appliance.model.event import EventType
from appliance.sinks.base import SinkStats
from tests.support.sinks import alert


def glance(judged: int, *, waiting_bytes: int = 0, holding: int = 0) -> Glance:
    """Of a kernel with two processors that made 1000 records of which 10 were lost and 90 filtered."""
    books = Books({EventType.OPENAT: Book(1000, 10, 0, 90)}, 0, 0, (Book(500), Book(500)))
    counts = Counts(judged=judged, by_type=Counter({EventType.OPENAT: judged}))
    ledger = Ledger(EventDrops(), lambda *_: alert())
    return Glance(
        counts=counts, books=books, undecodable=0, waiting_bytes=waiting_bytes, holding=holding, missing={}, errors={},
        judged_without_container=0, in_pen=0, processes=1, containers=0, recent=(),
        ledger=ledger.snapshot(books, counts.by_type, 0), canary=None,
    )  # fmt: skip


def status(look: Glance | None, *sinks: SinkStats) -> Status:
    generation = build_generation(Config(), hostname="h", new_id=lambda: "1")
    return Status(0, 0, "h", "", generation, (0, 0), None, look, sinks, 1, 1.0)


@pytest.mark.parametrize(
    ("look", "missing"),
    [
        (glance(900), 0),
        (glance(898), 0),  # one is being made on each processor
        (glance(897), 1),
        (glance(850, waiting_bytes=50 * 56), 0),
        (glance(850, holding=48), 0),
        (glance(850, holding=20), 28),
        (glance(901), -1),
    ],
)
def test_a_record_that_is_nowhere_is_astray(look: Glance, missing: int) -> None:
    assert astray(look) == missing
    found = status(look).troubles()
    assert found == ([f"the ledger does not close: {missing} records are unaccounted for"] if missing else [])


def test_a_loop_that_does_not_answer() -> None:
    assert "the loop did not answer" in status(None).troubles()[0]


def test_a_canary_that_is_late() -> None:
    look = glance(900)
    health = CanaryHealth(**dict.fromkeys(CanaryHealth.__dataclass_fields__, 0) | {"trouble": "a canary is late"})
    assert status(replace(look, canary=health)).troubles() == ["a canary is late"]


@pytest.mark.parametrize(("stuck_s", "red"), [(0.0, False), (9.0, False), (11.0, True)])
def test_a_sink_that_holds_one_alert_for_long(stuck_s: float, red: bool) -> None:
    sink = SinkStats("http_output", 0, 0, {}, stuck_s=stuck_s, trouble="connection refused")
    assert bool(status(glance(900), sink).troubles()) is red
