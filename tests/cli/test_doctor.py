"""`tercel doctor`: what is there, what is not, and which rules see less for it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
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


@pytest.mark.parametrize(
    ("condition", "lost"),
    [
        ("evt.type = mount and container.id != host", True),
        ("evt.type = mkdir and evt.failed = false", False),
        ("evt.type = mkdir and not evt.failed = true", False),
        ("evt.type in (mkdir, mount) and (evt.type = mount or evt.failed = false)", True),
        ("evt.type = mkdir and evt.failed = true", True),
        ("evt.type = mkdir and evt.res = SUCCESS", False),
        ("evt.type = mkdir and evt.res != SUCCESS", True),
        ("evt.type = mkdir and evt.res = EPERM", True),
        ("evt.type = mkdir and evt.rawres >= 0", False),
        ("evt.type = openat and fd.num >= 0", False),
        ("evt.type = read and fd.num >= 0", True),
        ("evt.type = openat and (fd.num >= 0 or proc.name = x)", True),
    ],
)
def test_what_refuses_calls_blinds_rules_that_can_hold_on_a_failure(tmp_path: Path, condition: str, lost: bool) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(f"- {{rule: R, desc: d, condition: '{condition}', output: o, priority: INFO}}\n")
    less = Finding("f", State.DEGRADED, "t", "h", frozenset(EventType), failures=True)
    assert seeing_less(less, load_rules([file]).rules) == (["R"] if lost else [])
    assert seeing_less(replace(less, failures=False), load_rules([file]).rules) == ["R"]


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
