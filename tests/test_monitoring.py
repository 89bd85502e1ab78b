"""docs/monitoring: every metric that a dashboard or an alert rule names is one of agent or hub, with its labels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from appliance.config.settings import Metrics
from appliance.daemon.cost import RuleCost
from appliance.daemon.metrics import collect, prometheus
from appliance.hub.ingest.app import Books
from appliance.hub.journal.base import JournalHealth
from appliance.hub.metrics import text_of
from appliance.hub.status import LATENCY_BUCKETS_S, OutputStatus
from appliance.model.alert import Priority
from tests.support.status import full_status

FOLDER = Path(__file__).resolve().parents[1] / "docs/monitoring"
NAME = re.compile(r"\b((?:tercel|falcosecurity)_\w+|up)(?:\{([^}]*)\})?")
SCRAPED = {"instance", "job", "le"}
"""Labels that Prometheus adds, and that of histograms."""


def known() -> dict[str, set[str]]:
    """Names of all samples of agent and hub -> their labels."""
    groups = {name: True for name in Metrics.__dataclass_fields__ if name.endswith("_enabled")}
    books = Books()
    books.refused["r"] = books.senders["s"] = books.answers[200] = 1
    books.events["h", "r", Priority.ERROR, "s", ""] = 1
    tries = [1] * (len(LATENCY_BUCKETS_S) + 1)
    output = OutputStatus("out", "webhook", 1, "ok", "", 1, 1, 1, 1, 1, {"refused": 1}, 1, 1.0, 1, 1, tries, 1.0, 1, 1)
    hub = text_of(books, [output], JournalHealth(1, 2, 3, 4, 5.0, "", {}), {"known": 1, "silent": 0}, {})
    found: dict[str, set[str]] = {"up": {"job", "instance"}}
    for text in (prometheus(collect(full_status(), Metrics(**groups), [RuleCost("R", 1.0, 0.5, 9)])), hub):
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions() -> Iterator[tuple[str, str]]:
    for file in sorted(FOLDER.glob("grafana-*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            yield from ((f"{file.name}: {panel['title']}", target["expr"]) for target in panel["targets"])
    for group in yaml.safe_load((FOLDER / "tercel.rules.yaml").read_text())["groups"]:
        yield from ((rule["alert"], rule["expr"]) for rule in group["rules"])


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_what_they_name_exists(where: str, expression: str) -> None:
    metrics = known()
    named = NAME.findall(expression)
    assert named, where
    for name, labels in named:
        assert name in metrics, f"{where}: there is no metric {name}"
        assert set(re.findall(r"(\w+)=", labels)) <= metrics[name] | SCRAPED, f"{where}: {name} has {metrics[name]}"
    have = set().union(*(metrics[name] for name, _ in named)) | SCRAPED
    assert {label.strip() for by in re.findall(r"by \(([^)]*)\)", expression) for label in by.split(",")} <= have, where


def test_each_rule_says_what_it_is_about() -> None:
    for group in yaml.safe_load((FOLDER / "tercel.rules.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("info", "warning", "critical")
            assert set(rule["annotations"]) == {"summary", "description"}
