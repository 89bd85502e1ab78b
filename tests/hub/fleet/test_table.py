"""The table of hosts: what agents say, and what the hub says about them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.config.settings import HttpOutput, HubLink, Secret
from appliance.daemon.heartbeat import Heartbeat, heartbeat_url, in_short
from appliance.hub.alert import HubAlert
from appliance.hub.fleet.table import BadHeartbeat, Fleet, read_hosts
from appliance.hub.settings import Fleet as FleetSettings
from appliance.model.alert import Priority
from tests.hub.running import running, until
from tests.support.status import full_status

S = 1_000_000_000
NOW = 1_790_000_000 * S
QUICK = FleetSettings(drift_s=100)


def beat(fleet: Fleet, now_ns: int, hostname: str = "web1", **changes: object) -> None:
    told = {
        "hostname": hostname, "group": "web", "boot": "b", "version": "1", "generation": 1, "rules_digest": "r",
        "config_digest": "c", "lost": 0, "filtered": 5, "queue": 2, "clock_ns": now_ns, "canary_age_s": 10.0,
        "kernel": "6.1", "troubles": [], "started_ns": 1,
    }  # fmt: skip
    fleet.beat(json.dumps(told | changes).encode(), now_ns)


def kinds(found: list[HubAlert]) -> list[tuple[str, str]]:
    return [(one.hostname, one.rule.removeprefix("Tercel hub: host ")) for one in found]


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path, QUICK, now_ns=NOW)


def test_silence_is_reported_once_and_its_end_too(fleet: Fleet) -> None:
    beat(fleet, NOW)
    assert fleet.judge(NOW + 89 * S) == []
    (one,) = fleet.judge(NOW + 91 * S)
    assert (one.rule, one.priority, one.hostname) == ("Tercel hub: host silent", Priority.CRITICAL, "web1")
    assert "no word since 2026-09-21T14:13:20" in one.output
    assert fleet.judge(NOW + 200 * S) == []
    beat(fleet, NOW + 201 * S)
    (one,) = fleet.judge(NOW + 202 * S)
    assert "silent is over" in one.output


def test_silence_counts_from_the_start_of_the_hub(tmp_path: Path) -> None:
    first = Fleet(tmp_path, QUICK, now_ns=NOW)
    beat(first, NOW)
    first.close()
    later = Fleet(tmp_path, QUICK, now_ns=NOW + 3600 * S)
    assert later.judge(NOW + 3601 * S) == []
    assert kinds(later.judge(NOW + 3691 * S)) == [("web1", "silent")]
    later.close()
    again = Fleet(tmp_path, QUICK, now_ns=NOW + 7200 * S)
    assert again.hosts["web1"].reported == ["silent"]
    again.close()


def test_losses_are_reported_whenever_their_number_grows(fleet: Fleet) -> None:
    beat(fleet, NOW, lost=3)
    assert kinds(fleet.judge(NOW)) == [("web1", "losses")]
    beat(fleet, NOW + S, lost=3)
    assert fleet.judge(NOW + S) == []
    beat(fleet, NOW + 2 * S, lost=5)
    assert kinds(fleet.judge(NOW + 2 * S)) == [("web1", "losses")]
    beat(fleet, NOW + 3 * S, lost=0, boot="b2")
    assert fleet.judge(NOW + 3 * S) == []


def test_clock_and_canary(fleet: Fleet) -> None:
    beat(fleet, NOW, clock_ns=NOW - 3 * S, canary_age_s=1000.0)
    found = fleet.judge(NOW)
    assert kinds(found) == [("web1", "clock skew"), ("web1", "canary late")]
    assert found[0].fields["skew_s"] == -3.0
    beat(fleet, NOW + S, clock_ns=NOW + S, canary_age_s=None)
    assert [one.output.rpartition(": ")[2] for one in fleet.judge(NOW + S)] == [
        "clock skew is over",
        "canary late is over",
    ]


def test_drift_within_a_group_after_the_time_of_a_roll_out(fleet: Fleet) -> None:
    def all_beat(now_ns: int, odd: str) -> None:
        for name in ("a", "b", "c"):
            beat(fleet, now_ns, name, rules_digest=odd if name == "c" else "r")
        beat(fleet, now_ns, "other", group="db", rules_digest="q")

    all_beat(NOW, "old")
    assert fleet.judge(NOW) == []
    all_beat(NOW + 60 * S, "old")
    assert fleet.judge(NOW + 60 * S) == []
    all_beat(NOW + 120 * S, "old")
    (one,) = fleet.judge(NOW + 120 * S)
    assert (one.hostname, one.rule) == ("c", "Tercel hub: host drift")
    assert "its rules differ" in one.output
    all_beat(NOW + 121 * S, "r")
    assert kinds(fleet.judge(NOW + 121 * S)) == [("c", "drift")]


def test_hosts_of_falco_are_known_by_their_alerts(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, FleetSettings(falco_silent_s=1000), now_ns=NOW)
    fleet.seen("falco1", received_ns=NOW)
    assert fleet.hosts["falco1"].kind == "falco"
    assert fleet.judge(NOW + 999 * S) == []
    assert kinds(fleet.judge(NOW + 1001 * S)) == [("falco1", "silent")]
    beat(fleet, NOW + 1002 * S, "falco1")
    assert fleet.hosts["falco1"].kind == "agent"
    fleet.save()
    (host,) = read_hosts(tmp_path)
    assert (host.hostname, host.alerts, host.version) == ("falco1", 1, "1")


def test_a_host_is_forgotten_in_the_end(fleet: Fleet, tmp_path: Path) -> None:
    beat(fleet, NOW)
    fleet.save()
    fleet.judge(NOW + 31 * 86_400 * S)
    assert fleet.hosts == {}
    assert read_hosts(tmp_path) == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"hostname": 5}', b'{"hostname": ""}', b"[" * 100_000, b"\xff"])
def test_what_is_no_heartbeat(fleet: Fleet, body: bytes) -> None:
    with pytest.raises(BadHeartbeat):
        fleet.beat(body, NOW)


def test_a_heartbeat_of_odd_values_is_taken_without_them(fleet: Fleet) -> None:
    odd = {
        "hostname": "h",
        "lost": "x",
        "version": 5,
        "canary_age_s": [],
        "troubles": "x",
        "clock_ns": 2**70,
        "queue": True,
    }
    fleet.beat(json.dumps(odd).encode(), NOW)
    assert (fleet.hosts["h"].lost, fleet.hosts["h"].version, fleet.hosts["h"].skew_s) == (0, "", 0.0)


def test_an_agents_heartbeat_is_what_the_hub_reads(tmp_path: Path) -> None:
    """The agent's own code, a whole hub, over HTTP."""
    with running(tmp_path / "hub") as hub:
        link = HubLink(url=f"{hub.url}/", group="web")
        Heartbeat(link, HttpOutput(), status=full_status).beat()
        until(lambda: hub.status()["hosts"], "the host")
        (host,) = hub.status()["hosts"]
        told = in_short(full_status(), "web")
        assert host["kind"] == "agent"
        for name in (
            "hostname",
            "group",
            "version",
            "rules_digest",
            "config_digest",
            "lost",
            "queue",
            "canary_age_s",
            "kernel",
        ):
            assert host[name] == told[name], name
        assert abs(host["skew_s"]) < 5


def test_a_secret_url_stays_one() -> None:
    assert isinstance(heartbeat_url(Secret("https://h/x/")), Secret)
    assert heartbeat_url("https://h/x/") == "https://h/x/heartbeat"
