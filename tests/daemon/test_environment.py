"""The environment of programs: told where a rule asks, and then of those as well that ran before anyone did."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.engine.needs import needs_of
from appliance.kernel.program import Extras
from appliance.lang.load import load_rules
from appliance.model.event import Event, EventType
from tests.support.capture import Capture
from tests.support.daemon import COMMAND, Daemon
from tests.support.rules import value

OPENER = """
import os, sys
for line in sys.stdin:
    child = os.fork()  # of a process that is older than who asks
    name = line.strip() + ("" if child else ".child")
    os.close(os.open(name, os.O_RDONLY | os.O_CREAT))
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    print(line, end="", flush=True)
"""


def rules(file: Path, condition: str, output: str) -> Path:
    rule = {"rule": "r", "desc": "d", "condition": condition, "output": output, "priority": "INFO"}
    file.write_text(json.dumps([rule]))
    return file


@pytest.mark.parametrize(
    ("condition", "output", "asks"),
    [
        ("evt.type = openat and proc.env[LD_PRELOAD] != x", "o", True),
        ("evt.type = openat and tolower(proc.aenv) contains x", "o", True),
        ("evt.type = execve and evt.arg.env contains x", "o", True),
        ("evt.type = execve and evt.rawarg[env] exists", "o", True),
        ("evt.type = execve", "all of %evt.args", True),
        ("evt.type = execve", "%evt.arg[13] and %evt.arg[14]", False),
        ("evt.type = execve", "%evt.arg[15]", True),
        ("evt.type = openat", "all of %evt.args", False),
        ("evt.type = openat", "%evt.arg[15] %evt.arg.name", False),
        ("evt.type = execve and proc.name = x", "%proc.cmdline %evt.arg.exe", False),
    ],
)
def test_which_rules_ask(condition: str, output: str, asks: bool, tmp_path: Path) -> None:
    assert needs_of(load_rules([rules(tmp_path / "rules.yaml", condition, output)]).rules).environments is asks


def told(event: Event) -> tuple[object, object]:
    return value(event, "proc.env", "TERCEL_T"), value(event, "evt.arg", "env")


@pytest.mark.kernel
def test_a_start_tells_it_from_the_moment_on_when_someone_asks() -> None:
    with Capture(types={EventType.EXECVE}, environment=False) as capture:
        for extras, expected in ((Extras(), (None, "NULL")), (Extras(environment=True), ("yes", "TERCEL_T=yes"))):
            capture.source.hear({EventType.EXECVE}, extras)
            pid, events = capture.run(["/bin/true"], env={"TERCEL_T": "yes"})
            (event,) = [e for e in events if e.type is EventType.EXECVE and e.process.pid == pid and e.res == 0]
            assert told(event) == expected


def older(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", code], env={"TERCEL_T": "from before"}, text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.kernel
def test_a_reload_that_asks_learns_it_of_who_ran_before(tmp_path: Path) -> None:
    """Nobody asks; programs start; then somebody does. What they had been given is known, and to their children."""
    here = tmp_path / "opened"
    opens = f"evt.type in (open, openat) and fd.name startswith {here}"
    file = rules(tmp_path / "rules.yaml", opens, "%fd.name")
    with Daemon(tmp_path, rules=[file]) as daemon, older(OPENER) as opener:
        assert opener.stdin is not None and opener.stdout is not None

        def tell(name: str) -> None:
            print(here.with_suffix(name), file=opener.stdin, flush=True)
            assert opener.stdout is not None and opener.stdout.readline(), "the opener has ended"

        tell(".1")
        daemon.wait_for(lambda a: a["output_fields"].get("fd.name") == f"{here}.1.child")
        rules(file, f"{opens} and proc.env[TERCEL_T] != ''", "%fd.name by %proc.env[TERCEL_T] of %proc.aenv[TERCEL_T]")
        reload = [COMMAND, "reload", "-c", tmp_path / "tercel.yaml"]
        done = subprocess.run(reload, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        tell(".2")
        for name in (f"{here}.2", f"{here}.2.child"):
            fields = daemon.wait_for(lambda a, name=name: a["output_fields"].get("fd.name") == name)["output_fields"]  # type: ignore[misc]
            assert fields["proc.env[TERCEL_T]"] == "from before"
        rules(file, f"{opens} and proc.name != nobody", "%fd.name again")
        assert subprocess.run(reload, capture_output=True, check=False).returncode == 0
        opener.stdin.close()
