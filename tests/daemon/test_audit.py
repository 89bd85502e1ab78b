"""The daemon hears the API server's webhook, with Falco's own Kubernetes audit rules as they are."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

import pytest

from tests.support.audit import BINDING, EXEC, POD, QUIET
from tests.support.daemon import Daemon
from tests.support.receivers import free_port
from tests.support.shared import shared_falco

pytestmark = pytest.mark.kernel


def test_posted_audit_events_raise_alerts(tmp_path: Path) -> None:
    port = free_port()
    config = {
        "load_plugins": ["k8saudit", "json"],
        "plugins": [
            {
                "name": "k8saudit",
                "open_params": f"http://127.0.0.1:{port}/k8s-audit",
                "init_config": {"webhookMaxBatchSize": 20_000},
            }
        ],
        "rule_matching": "all",
    }
    with Daemon(tmp_path, config, [shared_falco() / "rules/k8s_audit_rules.yaml"]) as daemon:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        bodies = [json.dumps(QUIET), json.dumps(POD), json.dumps({"kind": "EventList", "items": [EXEC, BINDING]})]
        for body in bodies:
            connection.request("POST", "/k8s-audit", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, b"ok\n")
        connection.request("POST", "/k8s-audit", b" " * 20_001, {"Content-Type": "application/json"})
        assert connection.getresponse().status == 413, "as the plugin's own configuration has it"
        connection.close()
        for rule in ("Create Privileged Pod", "Attach/Exec Pod", "Attach to cluster-admin Role"):
            alert = daemon.wait_for(lambda a, rule=rule: a["rule"] == rule)
            assert alert["source"] == "k8s_audit"
            assert alert["time"].startswith("2026-01-02T03:04:05.123456")
