"""Small inputs after public reports, each beside what `tercel check` has to say of it. They are not ours to ship."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import COMMAND
from tests.support.shared import SHARED, shared_falco

CASES: list[tuple[str, int, list[str], list[str]]] = [
    ("01-unresolved-user.yaml", 0, ["0 errors, 0 warnings"], ["never equals"]),
    ("02-exception-list-in-brackets.yaml", 0, ["0 errors, 0 warnings"], ["unused-list"]),
    ("03-exception-name-twice.yaml", 0, ["warning[exception-twice]", "both count"], []),
    ("05-field-as-constant.yaml", 1, ["val(proc.pname)", "val(user.loginuid)", "warning[field-as-text]"], []),
    ("06-deprecated-append-hint.yaml", 0, ["`override: {exceptions: append}`"], ["{condition: append}"]),
    ("07-override-source-hint.yaml", 1, ["take the line out"], ["source: replace"]),
    ("08-append-other-source.yaml", 1, ["error[other-source]"], ["`source: syscall` in a rule"]),
    ("09-only-priority.yaml", 1, ["`override: {priority: replace}`"], ["add a line"]),
    ("11-hint-other-source.yaml", 1, ["`ka.target.namespace`"], ["`source: syscall`"]),
    (
        "12-misleading-hints.yaml",
        1,
        ["a `#` within a condition begins no comment", "a blank is missing", "`mount` has", "6 errors"],
        ["lower case", "`proc.is_sid_leader`", "`pwrite`"],
    ),
    ("13-k8s-rule.yaml", 0, ["0 errors, 0 warnings"], []),
    ("-c 13-append-output-k8s.yaml", 0, ["ok: configuration"], []),
    ("-c 16-off-sections.yaml", 0, ["ok: configuration", "grpc: off", "engine.gvisor: off"], ["error["]),
    ("-c 19-old-keys-hints.yaml", 1, ["load_plugins: [k8saudit]", "open_params", "no key `method`"], ["`echo`?"]),
]


@pytest.mark.parametrize(("name", "status", "said", "never_said"), CASES, ids=[case[0] for case in CASES])
def test_case(name: str, status: int, said: list[str], never_said: list[str]) -> None:
    shared_falco()  # skips, or fails in CI, where the inputs are absent
    folder = SHARED / "cases"
    option, _, file = name.rpartition(" ")
    argv = [*([option] if option else []), str(folder / file)]
    done = subprocess.run([COMMAND, "check", *argv], capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    assert done.returncode == status, text
    for part in said:
        assert part in text
    for part in never_said:
        assert part not in text


def test_every_input_has_a_case() -> None:
    shared_falco()
    there = {path.name for path in (SHARED / "cases").glob("*.yaml")}
    assert there == {Path(case[0].rpartition(" ")[2]).name for case in CASES}
