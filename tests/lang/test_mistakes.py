"""Typical mistakes, one file each: one diagnostic that names the cause, and no cascade."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance.lang.lint import shadowed
from appliance.lang.load import load_rules, load_texts
from appliance.model.diagnostic import Diagnostic, Severity

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


def followed(text: str, told: Diagnostic) -> str | None:
    """The text after a hint was followed by the letter; None where it asks for more than an exchange of words."""
    hint, span = told.hint or "", told.span
    assert span is not None
    lines = text.split("\n")
    at = span.line - 1
    head = max(i for i, line in enumerate(lines[: at + 1]) if line.startswith("- "))
    end = next((i for i in range(head + 1, len(lines)) if lines[i].startswith("- ")), len(lines))

    def put(new: str) -> str:
        line = lines[at]
        lines[at] = line[: span.column - 1] + new + line[span.column - 1 + span.length :]
        return "\n".join(lines)

    found = re.search(r"`([^`]+)`", hint)
    new = found[1] if found is not None else ""
    if new.startswith("override: ") and "append" not in told.name and told.name != "missing-key":
        return None
    if new.startswith("override: "):
        out = [f"  {key}:" for key in re.findall(r"`(\w+)`", hint.partition(" out")[0].partition("and take")[2])]
        out.append("  append:")
        kept = [line for line in lines[head:end] if not line.startswith(tuple(out))]
        return "\n".join([*lines[:head], kept[0], f"  {new}", *kept[1:], *lines[end:]])
    if hint.startswith("take the line out"):
        return "\n".join([*lines[:at], *lines[at + 1 :]])
    if re.match(r"add a line `(\w+): \.\.\.` to it", hint):
        return "\n".join([*lines[: head + 1], f"  {new.partition(':')[0]}: x", *lines[head + 1 :]])
    if match := re.match(r"add `(\w+): replace` to `override`", hint):
        return text.replace("override: {", f"override: {{{match[1]}: replace, ", 1)
    if hint.startswith("did you mean"):
        return put(new)
    if match := re.match(r"\w+ events have `(\S+)`$", hint):
        return put(match[1])
    if told.name == "name-too-long" and hint.startswith("write"):
        return put(new)
    if match := re.match(r"a blank is missing(?:, perhaps)?: `(.+)`$", hint):
        return text.replace(match[1].replace(" ", ""), match[1], 1)
    if told.name in ("bad-value", "field-as-text") and (match := re.search(r"write `(.+?)`", hint)):
        value = match[1].rpartition(" ")[2]
        return put(value)
    if told.name == "syntax" and re.match(r"write `(and|or|not|and not)`$", hint):
        return put(f"{new} ")
    if told.name == "syntax" and hint.startswith("operators are written in lower case"):
        return put(new)
    if told.name == "unknown-operator" and re.match(r"write `\S+`$", hint):
        return put(new)
    return None


FOLLOWED = [file for file in FILES if followed(file.read_text(), load_rules([file]).diagnostics[0]) is not None]


@pytest.mark.parametrize("file", FOLLOWED, ids=lambda p: p.stem)
def test_a_hint_that_is_followed_mends(file: Path) -> None:
    """By the letter: the file then loads, or has fewer errors, and the same thing is not told again."""
    text = file.read_text()
    before = load_texts([("rules.yaml", text)])
    mended = followed(text, before.diagnostics[0])
    assert mended is not None and mended != text
    after = load_texts([("rules.yaml", mended)])
    said = "\n".join(d.render() for d in after.diagnostics)
    assert len(after.errors) < len(before.errors) or not after.errors, f"{mended}\n{said}"
    first = before.diagnostics[0]
    assert not any((d.name, d.span) == (first.name, first.span) for d in after.diagnostics), said
    if first.severity is Severity.ERROR:
        assert after.rules


def test_many_hints_can_be_followed() -> None:
    assert len(FOLLOWED) >= 20
