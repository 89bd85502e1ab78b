"""What makes the appliance unhealthy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from appliance.daemon.canary import CanaryHealth
from appliance.daemon.generation import one_digest
from appliance.daemon.loop import Glance
from appliance.daemon.metrics import collect
from appliance.daemon.status import astray, to_json
from appliance.sinks.base import SinkStats
from tests.support.status import full_status, glance, status

ROOT = Path(__file__).resolve().parents[2]


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


def test_what_is_told_is_what_the_schema_says() -> None:
    validator = jsonschema.Draft202012Validator(json.loads((ROOT / "schemas/status.schema.json").read_text()))
    validator.validate(to_json(full_status()))
    validator.validate(to_json(status(None)))


def test_digests_of_two_hosts_are_equal_where_their_files_are() -> None:
    here, there = {Path("/a/x.yaml"): "ab" * 32, Path("/a/y.yaml"): "cd" * 32}, {Path("/b"): "ab" * 32}
    assert one_digest(here) == one_digest({Path("/b"): "ab" * 32, Path("/c"): "cd" * 32})
    assert len({one_digest(here), one_digest(there), one_digest({}), one_digest(dict(reversed(here.items())))}) == 4


def test_included_files_count_as_configuration_and_those_of_folders_as_rules() -> None:
    generation = status(None).generation
    config = replace(generation.config, included=(Path("c.d/b.yaml"),), rules_files=(Path("r.d"), Path("r.yaml")))
    names = ("tercel.yaml", "c.d/b.yaml", "r.d/1.yaml", "r.yaml")
    made = replace(generation, config=config, digests={Path(name): name for name in names})
    assert list(made.config_digests.values()) == ["tercel.yaml", "c.d/b.yaml"]
    assert list(made.rules_digests.values()) == ["r.d/1.yaml", "r.yaml"]


@pytest.mark.parametrize(("stuck_s", "red"), [(0.0, False), (9.0, False), (11.0, True)])
def test_a_sink_that_holds_one_alert_for_long(stuck_s: float, red: bool) -> None:
    sink = SinkStats("http_output", 0, 0, {}, stuck_s=stuck_s, trouble="connection refused")
    assert bool(status(glance(900), sink).troubles()) is red


def test_two_rules_files_of_one_name_and_contents_are_one_sample() -> None:
    """Prometheus takes no two samples with the same labels."""
    full = full_status()
    digests = {Path("a/r.yaml"): "ab" * 32, Path("b/r.yaml"): "ab" * 32, Path("c/r.yaml"): "cd" * 32}
    config = replace(full.generation.config, rules_files=tuple(digests))
    generation = replace(full.generation, config=config, digests=digests)
    for metric in collect(replace(full, generation=generation), config.metrics, (), ()):
        labels = [tuple(sorted(labels.items())) for labels, _ in metric.samples]
        assert len(labels) == len(set(labels)), metric.name
