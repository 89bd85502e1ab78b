"""Every code of Falco's list stands beside a diagnostic of ours, under a stable name, at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.config.load import load_config
from appliance.daemon.generation import build_generation
from appliance.lang.load import load_rules, load_texts
from appliance.model.diagnostic import RuleError, Severity

RULE = "- {rule: r, desc: d, condition: evt.type = open and fd.name = /x, output: o, priority: INFO}\n"


def rule(condition: str = "evt.type = open", output: str = "o", more: str = "") -> str:
    return f"- {{rule: x, desc: d, condition: {condition}, output: '{output}', priority: INFO{more}}}\n"


SKIP = ", skip-if-unknown-filter: true"
EXCEPTION = ", exceptions: [{name: e, fields: [proc.name]}"
TOLD = [
    ("LOAD_ERR_YAML_PARSE", "yaml-syntax", "- rule: [\n"),
    ("LOAD_ERR_YAML_VALIDATE", "missing-key", "- {rule: x, desc: d}\n"),
    ("LOAD_ERR_YAML_VALIDATE", "unknown-key", rule(more=", tag: [a]")),
    ("LOAD_ERR_COMPILE_CONDITION", "unknown-field", rule("evt.type = open and proc.nmae = x")),
    ("LOAD_ERR_COMPILE_CONDITION", "unknown-event", rule("evt.type = opne")),
    ("LOAD_ERR_COMPILE_OUTPUT", "output-percent", rule(output="100 %%")),
    ("LOAD_ERR_COMPILE_OUTPUT", "unknown-field", rule(output="%proc.nmae")),
    ("LOAD_ERR_VALIDATE", "unknown-macro", rule("evt.type = open and nothing")),
    ("LOAD_ERR_VALIDATE", "engine-version", "- required_engine_version: 9.9.9\n"),
    ("LOAD_ERR_VALIDATE", "unknown-plugin", "- required_plugin_versions: [{name: cloudtrail, version: 0.1.0}]\n"),
    ("LOAD_ERR_VALIDATE", "unknown-rule", "- {rule: nobody, condition: and evt.type = open, append: true}\n"),
    ("LOAD_ERR_VALIDATE", "exception-arity",
     rule(more=", exceptions: [{name: e, fields: [proc.name, fd.name], values: [[a]]}]")),
    ("LOAD_UNKNOWN_SOURCE", "unknown-source", rule(more=", source: aws_cloudtrail")),
    ("LOAD_UNSAFE_NA_CHECK", "unsafe-na", rule("evt.type = open and proc.name = <NA>")),
    ("LOAD_COMPILE_CONDITION", "slow-operator", rule("evt.type = open and fd.name regex /etc/.*")),
    ("LOAD_NO_EVTTYPE", "no-evttype", rule("proc.name = x")),
    ("LOAD_UNKNOWN_FILTER", "unknown-field", rule("evt.type = open and no.such = x", more=SKIP)),
    ("LOAD_UNUSED_MACRO", "unused-macro", "- {macro: m, condition: evt.type = open}\n" + rule("evt.type = open")),
    ("LOAD_UNUSED_LIST", "unused-list", "- {list: l, items: [a]}\n" + rule("evt.type = open")),
    ("LOAD_DEPRECATED_ITEM", "deprecated-append", RULE + "- {rule: r, condition: and fd.num > 1, append: true}\n"),
    ("LOAD_APPEND_NO_VALUES", "no-values",
     rule(more=EXCEPTION + "]") + "- {rule: x, exceptions: [{name: e}], override: {exceptions: append}}\n"),
    ("LOAD_EXCEPTION_NAME_NOT_UNIQUE", "exception-twice", rule(more=EXCEPTION + ", {name: e, fields: [fd.name]}]")),
    ("LOAD_INVALID_MACRO_NAME", "odd-name", "- {macro: m-1, condition: fd.num > 1}\n" +
     rule("evt.type = open and m-1")),
    ("LOAD_INVALID_LIST_NAME", "odd-name", "- {list: l-1, items: [a]}\n" +
     rule("evt.type = open and proc.name in (l-1)")),
]  # fmt: skip


@pytest.mark.parametrize(("code", "name", "text"), TOLD, ids=[f"{c}-{n}" for c, n, _ in TOLD])
def test_a_code(code: str, name: str, text: str) -> None:
    found = load_texts([("rules.yaml", text)]).diagnostics
    told = [d for d in found if (d.code, d.name) == (code, name)]
    assert len(told) == 1 or name == "missing-key", [d.render() for d in found]
    severity = Severity.ERROR if code.startswith("LOAD_ERR") or name == "unknown-key" else Severity.WARNING
    for diagnostic in told:
        assert diagnostic.severity is severity
        assert diagnostic.span is not None and diagnostic.source_line is not None
    assert told


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (told,) = load_rules([tmp_path / "none.yaml"]).diagnostics
    assert (told.code, told.name) == ("LOAD_ERR_FILE_READ", "unreadable-file")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("LOAD_UNKNOWN_KEY", rule(more=", tag: [a]")),
        ("LOAD_UNKNOWN_KEY", rule(more=", exceptions: [{name: e, fields: [proc.name], feilds: x}]")),
        ("LOAD_UNKNOWN_ITEM", rule() + "- {rool: y}\n"),
    ],
)
def test_what_nobody_knows_can_be_warned_of_as_falco_does(code: str, text: str) -> None:
    assert load_texts([("rules.yaml", text)]).errors
    loaded = load_texts([("rules.yaml", text)], lenient=True)
    assert [(d.code, d.severity) for d in loaded.diagnostics] == [(code, Severity.WARNING)]
    assert [r.name for r in loaded.rules] == ["x"]


def test_the_configuration_says_which(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(rule(more=", tag: [a]"))
    config = load_config(None, overrides=["rules_unknown_keys=warn"], rules_files=[file])
    built = build_generation(config, hostname="h", new_id=lambda: "i")
    assert [d.code for d in built.warnings] == ["LOAD_UNKNOWN_KEY"]
    with pytest.raises(RuleError):
        build_generation(load_config(None, rules_files=[file]), hostname="h", new_id=lambda: "i")
