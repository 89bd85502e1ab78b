"""The playbooks for fleets, as such: who is first, who is left alone, who is in the summary, how it ends.

The roles are stand-ins that do to a host what its variable `goes` says, so that a fleet of ten takes seconds; what the
roles themselves do is the matter of test_roles.py, and of Molecule.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.roles.conftest import ROOT, Controller, Played, message

STAND_IN = ROOT / "tests/roles/stand_in"
AWAY = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
"""A host at whose door nobody is."""


class Fleet:
    """Hosts a to j, b the canary; b, c, d are `web`, e, f `db`."""

    def __init__(self, controller: Controller, folder: Path) -> None:
        self._controller, self._folder = controller, folder
        self.visits = folder / "visits"

    def play(self, name: str, hosts: dict[str, dict[str, Any]], *argv: str, **variables: Any) -> Played:
        """Run one of the playbooks. Each host that a role changed notes it in `visits`."""
        self.visits.write_text("")
        groups = {"canary": "b", "web": "bcd", "db": "ef"}
        inventory = self._folder / "hosts.json"
        inventory.write_text(json.dumps({"all": {
            "vars": {"ansible_connection": "local", "ansible_become": False, "visits": str(self.visits)},
            "hosts": {host: hosts.get(host, {}) for host in "abcdefghij"},
            "children": {group: {"hosts": {host: {} for host in there}} for group, there in groups.items()},
        }}))  # fmt: skip
        # what is called tercel is the fleet's, for this play alone
        over = 'mount -t overlay -o "lowerdir=$1:/usr/bin" none /usr/bin && shift && exec "$@"'
        return self._controller.run(
            "unshare", "--mount", "--propagation", "private", "sh", "-c", over, "sh", STAND_IN / "bin",
            "ansible-playbook", "-i", inventory, f"playbooks/{name}.yml", *argv, "--extra-vars", json.dumps(variables),
            env={"ANSIBLE_ROLES_PATH": str(STAND_IN)},
        )  # fmt: skip

    def rollout(
        self, hosts: dict[str, str | dict[str, Any]], *argv: str, **variables: Any
    ) -> tuple[Played, dict[str, str]]:
        """A rollout, and its summary."""
        report = self._folder / "rollout.json"
        report.unlink(missing_ok=True)
        told = {name: {"goes": goes} if isinstance(goes, str) else goes for name, goes in hosts.items()}
        played = self.play("rollout", told, *argv, tercel_rollout_report=str(report), **variables)
        rows = json.loads(report.read_text()) if report.exists() else []
        for row in rows:
            assert f"{row['host']:24} {row['verdict']:12}" in played.out, played.out[-4000:]
            assert bool(row["reason"]) == (row["verdict"] not in ("well", "not touched")), row
        return played, {row["host"]: row["verdict"] for row in rows}

    def visited(self) -> str:
        return "".join(self.visits.read_text().split())


@pytest.fixture
def fleet(controller: Controller, tmp_path: Path) -> Fleet:
    if os.geteuid():
        pytest.skip("needs root, for a mount of its own")
    return Fleet(controller, tmp_path)


def test_hosts_that_refuse_or_are_away_are_counted_among_all_that_were_asked(fleet: Fleet) -> None:
    """Two of ten, and twenty percent may: the others get it. One percent less, and nobody does."""
    hosts: dict[str, str | dict[str, Any]] = {"a": "refuses", "j": AWAY}
    played, verdicts = fleet.rollout(hosts, tercel_rollout_max_fail_percentage=20)
    assert verdicts == dict.fromkeys("bcdefghi", "well") | {"a": "refused", "j": "unreachable"}
    assert fleet.visited()[0] == "b" and sorted(fleet.visited()) == list("bcdefghi") and played.status != 0
    played, verdicts = fleet.rollout(hosts, tercel_rollout_max_fail_percentage=19)
    assert verdicts == dict.fromkeys("bcdefghi", "not touched") | {"a": "refused", "j": "unreachable"}
    assert fleet.visited() == "" and played.status != 0


def test_a_host_that_is_lost_on_the_way_is_in_the_summary_and_counts(fleet: Fleet) -> None:
    played, verdicts = fleet.rollout({"c": "away"}, tercel_rollout_waves="2,100%")
    assert verdicts == {"a": "well", "b": "well", "c": "failed"} | dict.fromkeys("defghij", "not touched")
    assert "what it runs now is not known" in message(played) and sorted(fleet.visited()) == list("abc")
    assert played.status != 0


def test_with_a_limit_there_is_a_summary_too_and_it_ends_as_it_went(fleet: Fleet) -> None:
    played, verdicts = fleet.rollout({"b": "wrong"}, "--limit", "b,c")
    assert verdicts == {"b": "failed", "c": "not touched"} and "it does not start" in played.out
    assert "0 of 2 hosts have it" in message(played) and played.status != 0


def test_several_groups_are_separated_as_anywhere_else(fleet: Fleet) -> None:
    played, verdicts = fleet.rollout(
        {}, tercel_hosts="web,db", tercel_rollout_canaries="c,b", tercel_rollout_waves="100%"
    )
    assert verdicts == dict.fromkeys("bcdef", "well") and played.status == 0, played.out[-4000:]
    assert {*fleet.visited()[:2]} == {"b", "c"}


def test_canaries_that_the_inventory_does_not_have_are_a_refusal(fleet: Fleet) -> None:
    played, verdicts = fleet.rollout({}, tercel_rollout_canaries="canry")
    assert "tercel_rollout_canaries is `canry`, and the inventory has no such" in message(played)
    assert (verdicts, fleet.visited()) == ({}, "") and played.status != 0
    played, verdicts = fleet.rollout({}, "--limit", "a,b", tercel_rollout_canaries="")
    assert verdicts == {"a": "well", "b": "well"} and played.status == 0, played.out[-4000:]


def test_the_report_of_drift_has_a_row_for_every_host_whatever_is_wrong_with_it(fleet: Fleet, tmp_path: Path) -> None:
    """One that is away, one without tercel, one whose variables are wrong, two whose answers are not understood."""
    hosts: dict[str, dict[str, Any]] = {"a": AWAY, "b": {"goes": "wrong"}}
    for host, does in {
        "c": "export TERCEL_SAYS=broken; exec",
        "d": "export TERCEL_SAYS=other; exec",
        "e": "exec unshare --mount --propagation private sh -c 'umount --lazy /usr/bin && exec \"$@\"' sh",
    }.items():
        (tmp_path / host).write_text(f'#!/bin/sh\n{does} /usr/bin/python3 "$@"\n')
        (tmp_path / host).chmod(0o755)
        hosts[host] = {"ansible_python_interpreter": str(tmp_path / host)}
    report = tmp_path / "drift.json"
    played = fleet.play("drift", hosts, "--limit", "a,b,c,d,e,f", tercel_drift_report=str(report))
    assert played.status == 0, played.out[-4000:]
    rows = {row["host"]: row for row in json.loads(report.read_text())}
    assert {host: row["drift"] for host, row in rows.items()} == {
        "a": ["does not answer"], "b": ["cannot be compared"], "c": ["cannot be compared"], "d": ["cannot be compared"],
        "e": ["does not answer"], "f": [],
    }, played.out[-4000:]  # fmt: skip
    assert len({tuple(sorted(row)) for row in rows.values()}) == 1
    assert rows["e"]["reason"] == "tercel is not installed there" and "nobody_said" in rows["b"]["reason"]
    assert rows["f"]["version"] == "1.0" and all(rows[host]["reason"] for host in "abcde")
    played = fleet.play(
        "drift", hosts, "--limit", "a,f", tercel_drift_report=str(report), tercel_drift_fail=True
    )  # fmt: skip
    assert played.status != 0 and "a differ or do not answer" in message(played)
