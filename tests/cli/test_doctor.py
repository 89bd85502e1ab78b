"""`tercel doctor`: what is there, what is not, and which rules see less for it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from appliance.cli.doctor import seeing_less, status_of, text_of
from appliance.kernel.survey import Finding, State
from appliance.lang.load import load_rules
from appliance.model.event import EventType
from appliance.model.rule import Rule
from tests.support.daemon import COMMAND

NOBODY = 65534


@pytest.fixture
def rules(tmp_path: Path) -> tuple[Rule, ...]:
    file = tmp_path / "rules.yaml"
    file.write_text(
        "- {rule: Opens, desc: d, condition: evt.type = openat and fd.name = /x, output: o, priority: INFO}\n"
        "- {rule: Starts, desc: d, condition: evt.type = execve and proc.name = x, output: o, priority: INFO}\n"
    )
    return load_rules([file]).rules


def test_rules_that_see_less_are_named_and_the_worst_state_is_the_status(rules: tuple[Rule, ...]) -> None:
    fine = Finding("machine", State.WELL, "Linux")
    less = Finding("io_uring", State.DEGRADED, "not told", "another kernel", frozenset({EventType.OPENAT}))
    gone = Finding("bcc", State.MISSING, "not there", "install it")
    assert seeing_less(less, rules) == ["Opens"]
    assert [status_of(f) for f in ([fine], [fine, less], [less, gone])] == [0, 3, 1]
    lines = list(text_of([fine, less], rules))
    assert "          1 of 2 rules see less: Opens" in lines
    assert "          hint: another kernel" in lines


@pytest.mark.kernel
def test_this_machine_is_well_and_what_was_chosen_is_said() -> None:
    done = subprocess.run([COMMAND, "doctor", "--json"], capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)
    states = {f["name"]: f["state"] for f in told["findings"]}
    assert states["raw tracepoints"] == "chosen"
    assert "missing" not in states.values()
    assert done.returncode == told["status"] == (3 if "degraded" in states.values() else 0)
    assert all(f["text"] for f in told["findings"])


@pytest.mark.kernel
def test_without_rights_it_says_so_and_finds_out_the_rest(tmp_path: Path) -> None:
    done = subprocess.run(
        [COMMAND, "doctor", "--json"], capture_output=True, text=True, check=False, user=NOBODY, group=NOBODY,
        env={"PATH": os.environ["PATH"]}, cwd="/",
    )  # fmt: skip
    told = json.loads(done.stdout)
    states = {f["name"]: f["state"] for f in told["findings"]}
    assert done.returncode == told["status"] == 1
    assert (states["rights"], states["hooks"], states["bcc"]) == ("missing", "unknown", "ok")
