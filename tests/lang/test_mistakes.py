"""Typical mistakes, one file each: one diagnostic that names the cause, and no cascade."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.lang.lint import shadowed
from appliance.lang.load import load_rules

FILES = sorted(Path(__file__).with_name("mistakes").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.stem)
def test_one_mistake_is_told_once(file: Path) -> None:
    expected = file.read_text().splitlines()[0].removeprefix("# told: ")
    told = load_rules([file]).diagnostics
    assert [d.name for d in told] == [expected], "\n".join(d.render() for d in told)
    assert told[0].span is not None and told[0].source_line is not None
    assert told[0].span.column <= len(told[0].source_line) + 1


def test_there_are_many() -> None:
    assert len(FILES) >= 40


SHADOW = """
- {rule: all programs, desc: d, condition: evt.type = execve, output: o, priority: INFO}
- {rule: shells, desc: d, condition: evt.type = execve and proc.name = bash, output: o, priority: INFO}
- {rule: files, desc: d, condition: evt.type = open and fd.name = /x, output: o, priority: INFO}
"""


def test_a_rule_that_an_earlier_one_shadows(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(SHADOW)
    rules = load_rules([file]).rules
    (told,) = shadowed(rules)
    assert told.message == "`shells` never fires: `all programs` holds wherever it does, and comes first"
    assert list(shadowed(rules[1:])) == []


def test_a_rule_that_asks_to_be_skipped(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    rule = "- {rule: r, desc: d, condition: evt.type = open and no.such = x, output: o, priority: INFO"
    file.write_text(f"{rule}, skip-if-unknown-filter: true}}\n")
    loaded = load_rules([file])
    assert (loaded.rules, [(d.name, d.code) for d in loaded.diagnostics]) == (
        (),
        [("unknown-field", "LOAD_UNKNOWN_FILTER")],
    )
    assert loaded.errors == ()
    file.write_text(f"{rule}}}\n")
    assert [d.name for d in load_rules([file]).errors] == ["unknown-field"]
