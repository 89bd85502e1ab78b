"""Every block of code in README.md and docs/ is run by a test: what no other test runs is run here.

`RUN_BY` says of each block, by its first line, where that is; a block that it does not name fails. What is made of
tables (docs/configuration.md and its kin) is held by tests/test_docs.py.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.daemon import COMMAND, END_S, PROGRAMS, ROOT, START_S
from tests.support.reading import PAGE

BLOCK = re.compile(r"^```(?:\w+)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HERE = "tests/test_examples.py"
RUN_BY = {
    "README.md": {
        "make run ": HERE,
        "# cat /etc/shadow": HERE,
        "20:51:27": HERE,
        "tercel run ": HERE,
        "pip install 'tercel[hub]'": "tests/hub/test_hub.py",
        "make demo": "tests/hub/web/test_first_steps.py",
        "- rule: Unauthorized process": HERE,
    },
    "docs/hub.md": {
        "pip install 'tercel[hub]'": "tests/hub/test_hub.py",
        "hub:": "tests/hub/test_live.py",
        "make demo": "tests/hub/web/test_first_steps.py",
        "tercel hub user add": "tests/hub/web/test_first_steps.py",
        "curl -H": "tests/hub/web/test_first_steps.py",
    },
    "docs/from-falcosidekick.md": {"tercel hub": "tests/hub/test_way_over.py"},
    "docs/from-falco.md": {"tercel ": "tests/hub/test_way_over.py"},
    "docs/fleet.md": {
        "make setup-test": "tests/packaging/conftest.py",  # `make dist`; who runs tests has done the rest
        "# fleet/": "tests/roles/test_roles.py",
        "make dist dist-hub": "tests/roles/test_hub.py",
        "# fleet-with-hub/": "tests/roles/test_hub.py",
        "ansible-playbook": "tests/roles/test_roles.py",
        "ansible-galaxy collection build": "tests/roles/test_collection.py",
    },
    "docs/installing.md": {
        "make deb": "tests/packaging/test_deb.py",
        "apt install": "tests/packaging/test_wheelhouse.py",
    },
    "docs/outputs.md": {"outputs:": "tests/test_docs.py"},
    "docs/performance.md": {".venv/bin/python bench/storm.py": HERE},
    "docs/rules.md": {
        "- list: editors": HERE,
        "- rule: Write below etc": HERE,
        "- rule: Terminal shell": HERE,
        "- rule: Read of a sensitive": HERE,
    },
    "docs/systemd.md": {"# systemctl edit tercel": "molecule/default/tasks/verify_recovery.yml"},
    "docs/testing.md": {"export PATH=": "tests/molecule/test_default.py"},
}
RULES = ROOT / "rules/tercel_rules.yaml"


def of(page: str) -> list[str]:
    """The blocks of a page, in order."""
    return BLOCK.findall((ROOT / page).read_text())


def block(page: str, start: str) -> str:
    """The one that starts so."""
    (found,) = [code for code in of(page) if code.startswith(start)]
    return found


def test_every_block_is_run_by_a_test() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        name = str(page.relative_to(ROOT))
        if page == PAGE:
            continue  # tests/molecule: each of its commands, in a machine
        for code in of(name):
            found = [place for start, place in RUN_BY.get(name, {}).items() if code.startswith(start)]
            assert len(found) == 1, f"{name}: no test runs this:\n{code}"
            assert found == [HERE] or page.name in (ROOT / found[0]).read_text(), f"{found[0]} does not speak of {name}"


def test_what_the_manual_asks_the_journal_is_asked_in_the_machine() -> None:
    """The other pages' questions are among those of docs/reading-alerts.md, each of which has its test."""
    asked = {code.strip() for code in of("docs/reading-alerts.md")}
    for page in ("docs/tercel.md", "docs/installing.md"):
        text = (ROOT / page).read_text()
        commands = {line.partition(" # ")[0].strip() for line in text.splitlines() if "journalctl -t" in line}
        commands = {line for line in commands if line.startswith("journalctl")}
        assert commands and commands <= asked, commands - asked


# -- the first page, as its reader follows it


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Callable[[], str], Path]]:
    """`make run`, what it has said so far, and its control socket; its books are its own."""
    folder = tmp_path_factory.mktemp("run")
    socket = folder / "control.sock"
    own = {"control_socket": socket, "guard.state_file": folder / "run.json", "spool.path": folder / "spool"}
    options = " ".join(f"-o {key}={value}" for key, value in {**own, "capture.programs": PROGRAMS}.items())
    said = folder / "said"
    with said.open("wb") as out:
        process = subprocess.Popen(
            ["make", "run", f"ARGS={options}"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    wait(lambda: "\narmed" in said.read_text(), process, said)
    try:
        yield lambda: said.read_text(errors="replace"), socket
    finally:
        os.killpg(process.pid, signal.SIGINT)  # ^C
        try:
            process.wait(END_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert re.search(r"\bproduced\b", said.read_text(errors="replace")), "no account at its end"


def wait(holds: Callable[[], bool], process: subprocess.Popen[bytes], said: Path) -> None:
    deadline = time.monotonic() + START_S
    while not holds():
        assert process.poll() is None and time.monotonic() < deadline, said.read_text(errors="replace")[-4000:]
        time.sleep(0.1)


@pytest.mark.kernel
def test_the_first_page_from_start_to_alert(run: tuple[Callable[[], str], Path]) -> None:
    said, _ = run
    act = block("README.md", "# cat").removeprefix("# ").strip()
    wanted = re.sub(r"(?s).*: (Warning .*)terminal=.*", r"\1", " ".join(block("README.md", "20:51:27").split()))
    wanted = re.sub(r"parent=\w+", "parent=", wanted)  # who has done it is another one here
    subprocess.run(shlex.split(act), stdout=subprocess.DEVNULL, check=True)
    deadline = time.monotonic() + START_S
    while wanted not in re.sub(r"parent=\S+", "parent=", said()):
        assert time.monotonic() < deadline, said()[-4000:]
        time.sleep(0.1)


@pytest.mark.kernel
def test_the_commands_of_the_first_page(run: tuple[Callable[[], str], Path], tmp_path: Path) -> None:
    _, socket = run
    (tmp_path / "my-rules.yaml").write_text(block("README.md", "- rule: Unauthorized"))
    lists = "- {list: none, items: []}\n- {macro: spawned_process, condition: evt.type = execve}\n"
    lists += "- {macro: container, condition: container.id != host}\n"
    (tmp_path / "my-rules.yaml").write_text(lists + (tmp_path / "my-rules.yaml").read_text())
    event = {"type": "openat", "res": 3, "process": {"pid": 7, "name": "cp"}, "fd": {"name": "/etc/x", "typechar": "f"}}
    (tmp_path / "e.jsonl").write_text(json.dumps({**event, "params": {"flags": 0o101}}) + "\n")
    (tmp_path / "rules").symlink_to(ROOT / "rules")
    done = []
    for line in block("README.md", "tercel run ").splitlines():
        argv = shlex.split(line, comments=True)
        verb = argv[1]
        if verb == "top":
            continue  # on a terminal: tests/cli/test_status.py
        if verb == "run":
            argv.append("--dry-run")
        if verb in ("reload", "status"):
            argv += ["--socket", str(socket)]
        answer = subprocess.run([COMMAND, *argv[1:]], cwd=tmp_path, capture_output=True, text=True, check=False)
        # a machine that is loaded by all the other tests may be told that it is not well
        assert answer.returncode in ({0, 3} if verb == "status" else {0}), f"{line}\n{answer.stdout}{answer.stderr}"
        done.append(verb)
    assert done == ["run", "run", "run", "reload", "status", "check", "check", "list", "show", "explain", "test"]


def test_the_rule_of_the_first_page_is_taken(tmp_path: Path) -> None:
    checked(tmp_path, block("README.md", "- rule: Unauthorized"))


# -- docs/rules.md


@pytest.mark.parametrize("start", ["- list: editors", "- rule: Write below etc", "- rule: Terminal shell"])
def test_rules_of_the_page_about_them_are_taken(start: str, tmp_path: Path) -> None:
    checked(tmp_path, block("docs/rules.md", start))


def test_cases_of_the_page_about_rules_hold(tmp_path: Path) -> None:
    text = block("docs/rules.md", "- rule: Read of a sensitive")
    assert len(yaml.safe_load(text)[0]["cases"]) == 1
    (tmp_path / "cases.yaml").write_text(text)
    answer = subprocess.run([COMMAND, "test", tmp_path / "cases.yaml"], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def checked(folder: Path, text: str) -> None:
    """Loaded after the default rules, as local ones are, there is nothing to say of it."""
    (folder / "local.yaml").write_text(text)
    argv = [COMMAND, "check", RULES, folder / "local.yaml"]
    answer = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert answer.returncode == 0 and "0 errors, 0 warnings" in answer.stderr, answer.stdout + answer.stderr


# -- docs/performance.md


@pytest.mark.kernel
def test_the_load_of_the_page_on_performance_is_made_and_accounted_for() -> None:
    """A second instead of a minute and a tenth of the rate: what it reaches is no matter of a test."""
    command = block("docs/performance.md", ".venv/bin/python bench/storm.py")
    assert "--sustain 100000 --seconds 60" in command
    argv = shlex.split(command.replace("--sustain 100000 --seconds 60", "--sustain 10000 --seconds 1"))
    answer = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "unaccounted for 0, lost and not told 0" in answer.stdout, answer.stdout + answer.stderr
