"""What makes the appliance unhealthy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.daemon.canary import CanaryHealth
from appliance.daemon.loop import Glance
from appliance.daemon.status import astray
from appliance.sinks.base import SinkStats
from tests.support.status import glance, status


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
