"""`tercel check` as its user runs it: the installed command, without root, read as people and as programs read it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import COMMAND, ROOT

GOOD = "- {rule: good, desc: d, condition: evt.type = fork, output: o, priority: INFO}\n"
BAD = "- {rule: bad, desc: d, condition: evt.type = frok, output: o, priority: INFO}\n"


def nobody() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One that any user may read; and so may the folders above it."""
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    return tmp_path


def check(*argv: str | Path, cwd: Path = Path("/")) -> subprocess.CompletedProcess[str]:
    readable = os.access(COMMAND, os.X_OK) and (ROOT.stat().st_mode & 0o5) == 0o5
    done = subprocess.run(
        [COMMAND, "check", *argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        cwd=cwd,
        preexec_fn=nobody if readable else None,
        env={"PATH": os.environ["PATH"]},
    )
    assert "Traceback" not in done.stderr
    return done


def test_the_shipped_configuration_and_rules() -> None:
    done = check("-c", ROOT / "tercel.yaml")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith(f"ok: configuration {ROOT}/tercel.yaml; 98 rules of")
    assert done.stderr.endswith("0 errors, 0 warnings\n")


def test_people_have_no_credentials_and_need_none(folder: Path) -> None:
    """`check`, `list`, and those who ask a daemon, of the configuration of a service that has some."""
    (folder / "a.yaml").write_text(GOOD)
    (folder / "c.yaml").write_text(
        f"control_socket: {folder}/there\nrules_files: [a.yaml]\n"
        "http_output: {enabled: true, url: 'https://h/', ca_cert: 'credential:ca'}\n"
    )
    note = "http_output.ca_cert: credentials, which systemd hands to the service; not looked at here"
    done = check("-c", folder / "c.yaml")
    assert (done.returncode, note in done.stderr) == (0, True)
    for verb, status in (("list", 0), ("status", 1)):
        argv = [COMMAND, verb, *(["rules"] if verb == "list" else []), "-c", folder / "c.yaml"]
        env = {"PATH": os.environ["PATH"]}
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env)
        assert done.returncode == status, done.stderr
        assert ("good" in done.stdout) if verb == "list" else (f"{folder}/there" in done.stderr)


def test_rules_alone(folder: Path) -> None:
    (folder / "a.yaml").write_text(GOOD)
    (folder / "b.yaml").write_text(BAD)
    assert check(folder / "a.yaml").returncode == 0
    done = check(folder)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"{folder}/b.yaml:1:46: error[unknown-event]: no event type is called `frok`",
        "    1 | - {rule: bad, desc: d, condition: evt.type = frok, output: o, priority: INFO}",
        "      |                                              ^^^^",
        "   hint: did you mean `fork`?",
        f"refused: 1 rules of {folder}: 1 error, 0 warnings",
    ]


def test_configuration_and_its_rules_are_told_together(folder: Path) -> None:
    (folder / "r.yaml").write_text(BAD)
    config = folder / "tercel.yaml"
    config.write_text("rules_files: [r.yaml]\njson_output: maybe\n")
    done = check("-c", config)
    assert done.returncode == 1
    assert f"{config}:2:14: error[" in done.stderr
    config.write_text("rules_files: [r.yaml]\n")
    assert "`frok`" in check("-c", config).stderr
    assert "json_outptu" in check("-c", config, "-o", "json_outptu=true").stderr


def test_json_for_programs(folder: Path) -> None:
    (folder / "b.yaml").write_text(BAD)
    done = check("--json", folder / "b.yaml")
    assert (done.returncode, done.stderr) == (1, "")
    document = json.loads(done.stdout)
    assert document["ok"] is False
    (diagnostic,) = document["diagnostics"]
    assert diagnostic["name"] == "unknown-event"
    assert diagnostic["span"] == {"file": f"{folder}/b.yaml", "line": 1, "column": 46, "length": 4}
    assert diagnostic["severity"] == "error"
    assert diagnostic["code"] == "LOAD_ERR_COMPILE_CONDITION"
    (folder / "a.yaml").write_text(GOOD)
    assert json.loads(check("--json", folder / "a.yaml").stdout) == {"ok": True, "diagnostics": [], "notes": []}


def test_json_in_falcos_shape(folder: Path) -> None:
    (folder / "a.yaml").write_text(GOOD)
    (folder / "b.yaml").write_text("# a comment\n" + BAD + "- {macro: unused, condition: proc.name = x}\n")
    (folder / "c.yaml").write_text("- rule: [\n")
    done = check("--falco-json", folder / "a.yaml", folder / "b.yaml", folder / "c.yaml")
    assert (done.returncode, done.stderr) == (1, "")
    good, bad, broken = json.loads(done.stdout)["falco_load_results"]
    assert good == {
        "name": f"{folder}/a.yaml", "successful": True, "errors": [], "warnings": [], "schema_valid": True,
        "schema_warnings": [],
    }  # fmt: skip
    (error,) = bad["errors"]
    assert (bad["successful"], bad["schema_valid"]) == (False, True)
    assert (error["code"], error["item_type"], error["item_name"]) == ("LOAD_ERR_COMPILE_CONDITION", "rule", "bad")
    (location,) = error["context"]["locations"]
    assert location["position"] == {"name": f"{folder}/b.yaml", "line": 2, "column": 46, "offset": 12 + 45}
    assert "frok" in error["context"]["snippet"]
    assert (broken["successful"], broken["schema_valid"]) == (False, False)
    assert broken["errors"][0]["code"] == "LOAD_ERR_YAML_PARSE"


def test_a_rule_in_the_shadow_of_another_is_told_where_only_the_first_fires(folder: Path) -> None:
    (folder / "r.yaml").write_text(GOOD + GOOD.replace("good", "late"))
    config = folder / "tercel.yaml"
    config.write_text("rules_files: [r.yaml]\nrule_matching: first\n")
    assert "warning[shadowed]: `late` never fires" in check("-c", config).stderr
    config.write_text("rules_files: [r.yaml]\nrule_matching: all\n")
    assert "shadowed" not in check("-c", config).stderr


def test_hostile_names_and_texts_give_no_orders(folder: Path) -> None:
    name = "x\x1b[2J\ny\udcff.yaml"
    (folder / name).write_text(
        '- {rule: "\x1b[31mred\\u202e", desc: d, condition: evt.type = frok, output: o, priority: INFO}'
    )
    (folder / ("z" + name)).write_text(BAD.replace("frok", "fr\u202eok\u009b"))
    done = check(folder)
    assert done.returncode == 1
    assert not any(c in done.stderr for c in "\x1b\u202e\u009b\udcff")
    assert r"x\x1b[2J\ny\xff.yaml" in done.stderr
    shutil.rmtree(folder)


def test_files_that_nobody_may_read(folder: Path) -> None:
    file = folder / "r.yaml"
    file.write_text(GOOD)
    file.chmod(0)
    done = check(file)
    if os.geteuid() == 0 and (ROOT.stat().st_mode & 0o5) == 0o5:
        assert done.returncode == 1
        assert "cannot read the file: Permission denied" in done.stderr


@pytest.mark.parametrize("argv", [["--help"], ["run", "--help"], ["check", "--help"], ["version"], ["--version"]])
def test_help_and_version(argv: list[str]) -> None:
    done = subprocess.run([COMMAND, *argv], capture_output=True, text=True, check=True)
    assert "tercel" in done.stdout and done.stderr == ""


def test_the_versions_for_programs() -> None:
    done = subprocess.run([COMMAND, "version", "--json"], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["tercel"] in subprocess.run([COMMAND, "--version"], capture_output=True, text=True).stdout
    assert (told["kernel"], told["machine"]) == (os.uname().release, os.uname().machine)


@pytest.mark.parametrize("argv", [[], ["watch"], ["run", "--nonsense"]])
def test_wrong_usage(argv: list[str]) -> None:
    done = subprocess.run([COMMAND, *argv], capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage: tercel" in done.stderr
