"""The verbs for those who write rules: the installed command, without root, as people and as programs read it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from appliance.sources.replay import event_schema, read_event, write_event
from tests.cli.test_check import nobody
from tests.rules.test_offline import CASES
from tests.support.audit import EXEC, POD
from tests.support.daemon import COMMAND, ROOT

CAT = {
    "type": "openat", "res": 3, "ts_ns": 1_700_000_000_000_000_001,
    "process": {"pid": 7, "name": "cat", "exepath": "/usr/bin/cat", "args": ["/etc/shadow"]},
    "ancestors": [{"pid": 6, "name": "bash"}],
    "fd": {"name": "/etc/shadow", "typechar": "f", "num": 3},
    "params": {"flags": 0},
}  # fmt: skip
RULE = "Read of a sensitive file"


def tercel(*argv: str | Path, status: int = 0, stdin: str = "") -> tuple[str, str]:
    readable = os.geteuid() == 0 and (ROOT.stat().st_mode & 0o5) == 0o5
    done = subprocess.run(
        [COMMAND, *argv], input=stdin, capture_output=True, text=True, cwd="/", preexec_fn=nobody if readable else None
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


# -- replay


@pytest.mark.parametrize("verb", [["list", "fields"], ["version"], ["replay", "-"]], ids=["much", "little", "events"])
def test_a_reader_that_has_seen_enough_is_no_error_of_ours(verb: list[str]) -> None:
    """`tercel list fields | head`."""
    reader, writer = os.pipe()
    os.close(reader)
    lines = (json.dumps(CAT) + "\n") * 100
    done = subprocess.run([COMMAND, *verb], input=lines, stdout=writer, stderr=subprocess.PIPE, text=True, cwd="/")
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_replay_is_the_same_twice() -> None:
    lines = json.dumps(CAT) + "\n\n" + json.dumps(CAT | {"res": -13}) + "\n" + json.dumps({"type": "fork"}) + "\n"
    first, said = tercel("replay", "--json", "-", stdin=lines)
    assert said == "3 events, 2 alerts\n"
    assert tercel("replay", "--json", "-", stdin=lines)[0] == first
    alerts = [json.loads(line) for line in first.splitlines()]
    assert [a["rule"] for a in alerts] == [RULE, RULE]
    assert alerts[0]["time"] == "2023-11-14T22:13:20.000000001Z"
    assert alerts[0]["output_fields"]["proc.pname"] == "bash"
    assert [a["output_fields"]["evt.res"] for a in alerts] == ["SUCCESS", "EACCES"]
    text, _ = tercel("replay", "-", stdin=lines)
    assert "Warning Read of a sensitive file (file=/etc/shadow" in text


def test_a_replay_writes_alerts_as_the_configuration_wants_them() -> None:
    options = [f"-ojson_include_{name}_property={value}" for name, value in (("message", True), ("tags", False))]
    out, _ = tercel("replay", "--json", *options, "-", stdin=json.dumps(CAT) + "\n")
    alert = json.loads(out)
    assert alert["message"].startswith("Read of a sensitive file (file=/etc/shadow")
    assert "tags" not in alert


@pytest.mark.parametrize("verb", [["replay", "-"], ["test", "rules/cases"], ["show", RULE], ["explain", RULE, "-"]])
def test_what_a_configuration_asks_for_in_vain_is_told_offline_too(verb: list[str]) -> None:
    done = subprocess.run(
        [COMMAND, verb[0], "-o", "libs_logger={enabled: true}", *verb[1:]],
        input="{}", capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert "note: of this configuration 1 settings have no effect" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("{", "-:1: not JSON"),
        ("[]", "-:1: expected an object"),
        ("{}", "`type` must be the name of an event, not `None`"),
        ('{"type": "opne"}', "not `opne`"),
        ('{"type": "open", "proces": {}}', "there is no key `proces`"),
        ('{"type": "open", "process": {"nmae": "x"}}', "-:1: process: there is no key `nmae`"),
        ('{"type": "open", "process": {"pid": "x"}}', "-:1: process.pid: expected a whole number"),
        ('{"type": "open", "process": {"name": 5}}', "-:1: process.name: expected a text or null"),
        ('{"type": "open", "params": {"uid": 5}}', "`open` has no parameter `uid`; it has: name, flags, mode"),
        ('{"type": "open", "container": {}}', "-:1: container: `id` is missing"),
        ('{"type": "open", "res": true}', "-:1: res: expected a whole number"),
        ('{"type": "open", "ancestors": {}}', "ancestors: expected a list"),
        ('{"type": "open", "process": {"user": {"id": 1, "nam": 2}}}', "process.user: there is no key `nam`"),
    ],
)
def test_events_that_are_refused(line: str, error: str) -> None:
    out, said = tercel("replay", "-", stdin=line, status=1)
    assert out == ""
    assert error in said


def test_an_event_written_is_the_event_read(request: pytest.FixtureRequest) -> None:
    schema = event_schema()
    file = ROOT / "schemas/event.schema.json"
    if request.config.getoption("--accept"):
        file.write_text(json.dumps(schema, indent=2) + "\n")
    assert json.loads(file.read_text()) == schema, "run `pytest --accept tests/cli` and read the difference"
    for event, _ in CASES:
        document: dict[str, Any] = json.loads(json.dumps(write_event(event)))
        jsonschema.validate(document, schema)
        again = read_event(document, "x")
        assert again._replace(lineage=event.lineage) == event
        assert [again.ancestor(n) for n in range(4)] == [event.ancestor(n) for n in range(4)]


# -- test


def test_the_cases_of_the_default_rules(tmp_path: Path) -> None:
    out, said = tercel("test", ROOT / "rules/cases")
    assert out == ""
    assert re.search(r"\n\d{3} cases, 0 failed\n$", said)
    assert "no case shows" not in said, "each rule has cases that fire and cases that do not"


def test_the_cases_of_the_kubernetes_rules_and_a_replay_of_an_audit_log() -> None:
    rules = ROOT / "rules/k8s_audit_rules.yaml"
    _, said = tercel("test", "-r", rules, ROOT / "rules/cases/k8s_audit")
    assert said.endswith("34 cases, 0 failed\n")
    assert "no case shows" not in said
    lines = json.dumps({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": [POD, EXEC]}) + "\n"
    out, said = tercel("replay", "--json", "-r", rules, "-o", "rule_matching=all", "-", stdin=lines)
    assert said == "2 events, 3 alerts\n"
    alerts = [json.loads(line) for line in out.splitlines()]
    assert {a["source"] for a in alerts} == {"k8s_audit"}
    assert alerts[0]["time"] == "2026-01-02T03:04:05.123456000Z"


def test_a_report_that_cannot_be_written_is_told() -> None:
    _, said = tercel("test", "--junit", "/nowhere/report.xml", ROOT / "rules/cases", status=1)
    assert said == "error: /nowhere/report.xml: No such file or directory\n"


def test_a_case_that_fails(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    cases = tmp_path / "cases.yaml"
    cases.write_text(
        json.dumps(
            [
                {
                    "rule": RULE,
                    "cases": [
                        {"name": "right", "fires": True, "event": CAT},
                        {"name": "fires", "fires": False, "event": CAT},
                        {"name": "output \x1b[2J", "fires": True, "output": "x", "event": CAT},
                        {"name": "alerts", "fires": True, "alerts": [], "event": CAT},
                        {"name": "quiet", "fires": True, "event": {"type": "fork"}},
                    ],
                },
                {"rule": "No such rule", "cases": [{"name": "unknown", "fires": False, "event": CAT}]},
            ]
        )
    )
    report = tmp_path / "report.xml"
    _, said = tercel("test", "--junit", report, cases, status=1)
    assert "6 cases, 5 failed" in said
    for text in (
        "expected it not to fire, and it did",
        "expected the output `x`, got `Read of a sensitive file (file=/etc/shadow",
        "expected alerts none, got `Read of a sensitive file`",
        "expected it to fire, and it did not",
        "no enabled rule is called `No such rule`",
    ):
        assert text in said
    assert "\x1b" not in said
    suite = ElementTree.fromstring(report.read_text())
    assert (suite.get("tests"), suite.get("failures")) == ("6", "5")
    out, _ = tercel("test", "--json", cases, status=1)
    document = json.loads(out)
    assert document["ok"] is False
    assert [case["ok"] for case in document["cases"]] == [True, False, False, False, False, False]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("- rule: [", "not YAML"),
        ("rule: x", "expected a sequence"),
        ("- {rule: x, case: []}", "there is no key `case`"),
        ("- {rule: x, cases: [{name: y}]}", "needs a `name`, and `fires: true` or `fires: false`"),
        ("- {rule: x, cases: [{name: y, fires: true, event: {type: z}}]}", "x: case 1: event: `type` must be"),
    ],
)
def test_cases_that_are_refused(tmp_path: Path, text: str, error: str) -> None:
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    file = tmp_path / "cases.yaml"
    file.write_text(text)
    assert error in tercel("test", file, status=1)[1]


# -- explain, show, list


def test_explain_names_the_clause_that_decided() -> None:
    out, _ = tercel("explain", RULE, "-", stdin=json.dumps(CAT))
    assert f"event 1, openat: `{RULE}` fires" in out
    trusted = CAT | {"process": {"pid": 7, "name": "sshd", "exepath": "/usr/sbin/sshd"}}
    out, _ = tercel("explain", RULE, "-", stdin=json.dumps(trusted), status=1)
    assert "does not fire" in out
    deciding = [line for line in out.splitlines() if line.startswith("*")]
    assert any("proc.name in (atd" in line and "[proc.name is sshd]" in line for line in deciding)
    out, _ = tercel("explain", "--json", RULE, "-", stdin=json.dumps(trusted), status=1)
    document = json.loads(out)
    assert document["fires"] is False
    assert {"proc.name": "sshd"} in [d["values"] for d in document["deciding"]]


def test_show_prints_every_stage() -> None:
    out, _ = tercel("show", RULE)
    for text in (
        "priority    Warning; enabled",
        "on open, openat, openat2:",
        "def judge(e):",
        "def write(e):",
        "costly ",
    ):
        assert text in out
    document = json.loads(tercel("show", "--json", RULE)[0])
    assert document["forms"][0]["events"] == ["open", "openat", "openat2"]
    assert "did you mean `Read of a sensitive file`" in tercel("show", "Read of sensitive file", status=1)[1]


def test_show_tells_what_each_check_costs() -> None:
    """Each check once, with its place, its share of all, and on how many of the events it holds; no time is judged."""
    cost = json.loads(tercel("show", "--json", RULE)[0])["cost"]
    checks = [(check["check"], check["line"]) for check in cost["checks"]]
    assert (cost["measured_on"], cost["events"]) == ("typical", 1)
    assert len(set(checks)) == len(checks) > 10
    assert all(check["ns"] >= 0 and check["line"] > 0 for check in cost["checks"])
    assert [check["ns"] for check in cost["checks"]] == sorted((c["ns"] for c in cost["checks"]), reverse=True)
    assert sum(check["share"] for check in cost["checks"]) == pytest.approx(1, abs=0.01)
    rename = {"type": "rename"}  # not one of the rule's types
    events = "\n".join(map(json.dumps, [CAT, CAT | {"res": -2}, CAT, CAT, rename]))
    document = json.loads(tercel("show", "--json", "--events", "-", RULE, stdin=events)[0])
    assert (document["cost"]["measured_on"], document["cost"]["events"]) == ("recorded", 4)
    holds = {check["check"]: check["holds"] for check in document["cost"]["checks"]}
    assert holds["evt.res in (ENOENT, ENOTDIR)"] == 0.25
    assert holds["fd.typechar = f"] == 1
    out, _ = tercel("show", "--events", "-", RULE, stdin=events)
    assert "ns an event, on 4 of the file; each check by itself" in out
    assert "evt.res in (ENOENT, ENOTDIR)" in out.split("each check by itself")[1].split("def judge")[0]
    assert "`type` must be the name of an event" in tercel("show", "--events", "-", RULE, stdin="{}", status=1)[1]
    assert "No such file" in tercel("show", "--events", "/none/such", RULE, status=1)[1]


@pytest.mark.parametrize(
    ("what", "contains"),
    [
        ("fields", "proc.name"),
        ("events", "openat2"),
        ("operators", "pmatch"),
        ("transformers", "basename"),
        ("rules", "Terminal shell in a container"),
    ],
)
def test_lists(what: str, contains: str) -> None:
    out, _ = tercel("list", what)
    assert contains in out
    rows = json.loads(tercel("list", "--json", what)[0])
    assert contains in {next(iter(row.values())) for row in rows}
    assert len(out.splitlines()) == len(rows) + 1


def test_a_rule_that_is_switched_off_is_listed_so() -> None:
    out, _ = tercel("list", "--json", "rules", "-o", "rules=[{disable: {tag: T1609}}]")
    rows = {row["rule"]: row["enabled"] for row in json.loads(out)}
    assert rows["Terminal shell in a container"] is False
    assert rows[RULE] is True
