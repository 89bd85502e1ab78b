"""Verbs on what people bring from Falco: audit events of every shape, texts added by source, alerts of Falco's form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.cli.main import main
from tests.support.shared import SHARED, shared_falco

RULES = """
- {rule: Any, desc: d, condition: ka.verb exists, output: "v=%ka.verb", priority: INFO, source: k8s_audit}
- {rule: Exec, desc: d, condition: evt.type = execve, output: "x", priority: INFO}
"""
AUDIT = {
    "kind": "Event", "auditID": "a", "stage": "ResponseComplete", "verb": "create", "user": {"username": "u"},
    "stageTimestamp": "2021-01-27T07:36:30.645337Z",
}  # fmt: skip
CORE = {**AUDIT, "apiVersion": "audit.k8s.io/v1"}
ADDED = """
append_output:
  - suggested_output: true
  - extra_output: "id=%container.id"
    extra_fields: [container.id, evt.num]
"""


def alerts(folder: Path, capsys: pytest.CaptureFixture[str], events: str, more: str = "") -> list[dict[str, Any]]:
    (folder / "rules.yaml").write_text(RULES)
    (folder / "t.yaml").write_text(f"rules_file: rules.yaml\n{more}")
    (folder / "events.json").write_text(events)
    assert main(["replay", "--json", "-c", str(folder / "t.yaml"), str(folder / "events.json")]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("events", "count"),
    [
        (json.dumps(AUDIT), 1),
        (json.dumps(CORE), 1),
        (json.dumps([AUDIT, CORE]), 2),
        (json.dumps({"kind": "EventList", "items": [AUDIT, AUDIT, AUDIT]}), 3),
        (json.dumps(AUDIT, indent=4), 1),
        (json.dumps([AUDIT, CORE], indent=2) + "\n" + json.dumps(AUDIT), 3),
        (json.dumps({k: v for k, v in AUDIT.items() if k != "kind"}), 1),
        ("\n".join(json.dumps(e) for e in (AUDIT, {"type": "execve"}, CORE)), 3),
    ],
)
def test_audit_events_go_by_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str], events: str, count: int) -> None:
    assert len(alerts(tmp_path, capsys, events)) == count


@pytest.mark.parametrize("name", ["14-ka_array.json", "14-ka_noapi.json"])
def test_audit_files_that_were_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    shared_falco()
    (alert,) = alerts(tmp_path, capsys, (SHARED / "cases" / name).read_text())
    assert (alert["rule"], alert["output_fields"]["ka.verb"]) == ("Any", "create")


def test_texts_are_added_by_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kubernetes, call = alerts(tmp_path, capsys, f'{json.dumps(AUDIT)}\n{{"type": "execve", "ts_ns": 5}}', ADDED)
    assert kubernetes["output"].endswith("v=create")
    assert kubernetes["output_fields"].keys() == {"ka.verb", "evt.time", "evt.num"}
    assert "x container_id=host" in call["output"] and call["output"].endswith("id=host")
    assert call["output_fields"]["container.id"] == "host"


def test_what_is_left_out_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "t.yaml").write_text(f"rules_files: [rules.yaml]\n{ADDED}")
    (tmp_path / "events.json").write_text("")
    main(["replay", "-c", str(tmp_path / "t.yaml"), str(tmp_path / "events.json")])
    said = capsys.readouterr().err
    assert "k8s_audit events have no `container.id`" in said
    assert "match: {source: syscall}" in said


def test_without_rules_nothing_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.yaml").write_text("json_output: true\n")
    (tmp_path / "events.json").write_text("")
    assert main(["replay", "-c", str(tmp_path / "t.yaml"), str(tmp_path / "events.json")]) == 0
    assert "nothing will be judged" in capsys.readouterr().err
    assert main(["check", "-c", str(tmp_path / "t.yaml")]) == 0
    assert "nothing will be judged" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["rules_file: rules.yaml", "rule_files: rules.yaml", "rules_file: [rules.yaml]"])
def test_older_names_of_rules_files(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "t.yaml").write_text(f"{text}\n")
    assert main(["check", "-c", str(tmp_path / "t.yaml")]) == 0
    assert "2 rules of" in capsys.readouterr().err


def test_a_dot_in_the_name_of_a_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.yaml").write_text("json_output: true\n")
    assert main(["check", "-c", str(tmp_path / "t.yaml"), "-o", r"no\.such=1"]) == 1
    assert "no key `no.such`" in capsys.readouterr().err


def test_a_recorded_alert_has_the_same_keys_and_types(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A rule of the same fields gives what Falco's gave, key by key and type by type."""
    recorded = [json.loads(line) for line in (shared_falco() / "alerts.jsonl").read_text().splitlines()]
    for falco in recorded:
        asked = " ".join(f"%{name}" for name in falco["output_fields"] if name != "evt.time")
        (tmp_path / "rules.yaml").write_text(
            f'- {{rule: r, desc: d, condition: evt.type exists, output: "{asked}", priority: INFO}}\n'
        )
        (tmp_path / "t.yaml").write_text("rules_files: [rules.yaml]\n")
        process = {"pid": 7, "name": "a", "exe": "a", "exepath": "/a", "cwd": "/", "euid": 0, "loginuid": -1, "tty": 0}
        event = {"type": falco["output_fields"]["evt.type"], "ts_ns": 5, "process": process}
        (tmp_path / "events.json").write_text(json.dumps(event))
        assert main(["replay", "--json", "-c", str(tmp_path / "t.yaml"), str(tmp_path / "events.json")]) == 0
        ours = json.loads(capsys.readouterr().out)
        assert ours["output_fields"].keys() == falco["output_fields"].keys()
        for name, value in falco["output_fields"].items():
            mine = ours["output_fields"][name]
            assert value is None or mine is None or type(mine) is type(value), name


def test_warnings_of_files_that_were_not_named_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES + "- {macro: spare, condition: evt.type = open}\n")
    (tmp_path / "t.yaml").write_text("rules_files: [rules.yaml]\n")
    config = str(tmp_path / "t.yaml")
    assert main(["check", "-c", config]) == 0
    said = capsys.readouterr().err
    assert "unused-macro" not in said and "1 warnings of files that were not named" in said
    for named in (["-c", config, "--all"], [str(rules)], [str(tmp_path / "rules.yaml"), "-c", config]):
        assert main(["check", *named]) == 0
        assert "unused-macro" in capsys.readouterr().err


def test_an_unknown_plugin_is_told_at_its_own_entry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.yaml").write_text("load_plugins:\n  - json\n  - cloudtrail\n")
    assert main(["check", "-c", str(tmp_path / "t.yaml")]) == 1
    assert f"{tmp_path / 't.yaml'}:3:5: error[unknown-plugin]" in capsys.readouterr().err
