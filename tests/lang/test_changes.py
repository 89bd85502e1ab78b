"""Items that change others, and exceptions: each against what one would write by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.lang.load import LoadedRules, load_rules
from appliance.model.alert import Priority
from appliance.model.rule import Rule

BASE = """
- list: shells
  items: [bash, sh]
- macro: m
  condition: proc.name in (shells)
- rule: r
  desc: d
  condition: evt.type = fork and m
  output: "o %proc.name"
  priority: INFO
  tags: [one]
"""


def load(folder: Path, *texts: str) -> LoadedRules:
    files = []
    for n, text in enumerate(texts):
        files.append(folder / f"{n}.yaml")
        files[-1].write_text(text)
    return load_rules(files)


def only(loaded: LoadedRules) -> Rule:
    assert [d.render() for d in loaded.errors] == []
    (rule,) = loaded.rules
    return rule


CHANGES = [
    ("- {list: shells, items: [zsh], override: {items: append}}", "condition",
     "evt.type = fork and proc.name in (bash, sh, zsh)"),
    ("- {list: shells, items: [zsh], override: {items: replace}}", "condition",
     "evt.type = fork and proc.name in (zsh)"),
    ("- {list: shells, items: [zsh], append: true}", "condition", "evt.type = fork and proc.name in (bash, sh, zsh)"),
    ("- {macro: m, condition: or proc.name = x, override: {condition: append}}", "condition",
     "evt.type = fork and (proc.name in (bash, sh) or proc.name = x)"),
    ("- {macro: m, condition: proc.name = x, override: {condition: replace}}", "condition",
     "evt.type = fork and proc.name = x"),
    ("- {macro: m, condition: and proc.pid > 1, append: true}", "condition",
     "evt.type = fork and (proc.name in (bash, sh) and proc.pid > 1)"),
    ("- {rule: r, condition: and proc.pid > 1, override: {condition: append}}", "condition",
     "evt.type = fork and proc.name in (bash, sh) and proc.pid > 1"),
    ("- {rule: r, condition: or proc.pid > 1, append: true}", "condition",
     "evt.type = fork and proc.name in (bash, sh) or proc.pid > 1"),
    ("- {rule: r, condition: evt.type = open, override: {condition: replace}}", "condition", "evt.type = open"),
    ("- {rule: r, output: and %proc.pid, override: {output: append}}", "output", "o %proc.name and %proc.pid"),
    ("- {rule: r, output: p, override: {output: replace}}", "output", "p"),
    ("- {rule: r, desc: e, override: {desc: append}}", "desc", "d e"),
    ("- {rule: r, desc: e, override: {desc: replace}}", "desc", "e"),
    ("- {rule: r, tags: [two], override: {tags: append}}", "tags", ("one", "two")),
    ("- {rule: r, tags: [two], override: {tags: replace}}", "tags", ("two",)),
    ("- {rule: r, priority: ERROR, override: {priority: replace}}", "priority", Priority.ERROR),
    ("- {rule: r, enabled: false, override: {enabled: replace}}", "enabled", False),
    ("- {rule: r, enabled: false}", "enabled", False),
    ("- {rule: r, warn_evttypes: false, override: {warn_evttypes: replace}}", "warn_evttypes", False),
    ("- {rule: r, desc: e, output: p, override: {desc: append, output: replace}}", "output", "p"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "key", "expected"), CHANGES, ids=[c[0][3:60] for c in CHANGES])
@pytest.mark.parametrize("together", [True, False], ids=["one file", "two files"])
def test_a_change(tmp_path: Path, change: str, key: str, expected: object, together: bool) -> None:
    rule = only(load(tmp_path, BASE + change) if together else load(tmp_path, BASE, change))
    value = getattr(rule, key)
    assert (value.text if key == "output" else str(value) if key == "condition" else value) == expected


EXCEPTIONS = [
    ("[{name: e, fields: proc.name, values: [a, b]}]", "not proc.name in (a, b)"),
    ("[{name: e, fields: proc.name, comps: startswith, values: [a]}]", None),
    ("[{name: e, fields: [proc.name], values: [[a], [b]]}]", "not (proc.name = a or proc.name = b)"),
    ("[{name: e, fields: [proc.name, fd.name], values: [[a, /b], [c, /d]]}]",
     "not (proc.name = a and fd.name = /b or proc.name = c and fd.name = /d)"),
    ("[{name: e, fields: [proc.name, fd.name], comps: [in, startswith], values: [[[a, b], /c]]}]",
     "not (proc.name in (a, b) and fd.name startswith /c)"),
    ("[{name: e, fields: [proc.name, fd.name], comps: [in, pmatch], values: [[shells, [/c, /d]]]}]",
     "not (proc.name in (bash, sh) and fd.name pmatch (/c, /d))"),
    ("[{name: e, fields: proc.name, values: [shells, x]}]", "not proc.name in (bash, sh, x)"),
    ("[{name: e, fields: [proc.name, proc.pid], comps: ['!=', '>'], values: [[a, 1]]}]",
     "not (proc.name != a and proc.pid > 1)"),
    ("[{name: e, fields: 'proc.aname[2]', values: ['two words']}]", 'not proc.aname[2] in ("two words")'),
    ("[{name: e, fields: proc.name, values: [a]}, {name: f, fields: fd.name, values: [/b]}]",
     "not proc.name in (a) and not fd.name in (/b)"),
    ("[{name: e, fields: [proc.name, fd.name]}]", ""),
    ("[]", ""),
]  # fmt: skip


@pytest.mark.parametrize(("exceptions", "expected"), EXCEPTIONS, ids=[e[0][1:70] for e in EXCEPTIONS])
def test_an_exception_is_its_expansion(tmp_path: Path, exceptions: str, expected: str | None) -> None:
    loaded = load(tmp_path, BASE + f"  exceptions: {exceptions}\n")
    if expected is None:
        assert loaded.errors
        return
    condition = "evt.type = fork and proc.name in (bash, sh)"
    assert str(only(loaded).condition) == (f"{condition} and {expected}" if expected else condition)
    by_hand = load(tmp_path, BASE.replace("fork and m", "fork and m" + (f" and {expected}" if expected else "")))
    assert only(by_hand).condition == only(loaded).condition


APPENDED = [
    ("[{name: e, values: [c]}]", "not proc.name in (a, c)"),
    ("[{name: e, fields: proc.name, values: [c]}]", "not proc.name in (a, c)"),
    ("[{name: f, fields: [fd.name], values: [[/x]]}]", "not proc.name in (a) and not fd.name = /x"),
]


@pytest.mark.parametrize(("exceptions", "expected"), APPENDED, ids=[e[0] for e in APPENDED])
@pytest.mark.parametrize("how", ["append: true", "override: {exceptions: append}"])
def test_values_are_appended(tmp_path: Path, exceptions: str, expected: str, how: str) -> None:
    first = BASE + "  exceptions: [{name: e, fields: proc.name, values: [a]}]\n"
    rule = only(load(tmp_path, first, f"- {{rule: r, exceptions: {exceptions}, {how}}}"))
    assert str(rule.condition) == f"evt.type = fork and proc.name in (bash, sh) and {expected}"


WRONG = [
    ("- {rule: q, condition: or x, append: true}", "unknown-rule"),
    ("- {macro: q, condition: or x, override: {condition: append}}", "unknown-macro"),
    ("- {list: q, items: [x], append: true}", "unknown-list"),
    ("- {rule: r, priority: ERROR, override: {priority: append}}", "cannot-append"),
    ("- {rule: r, priority: ERROR, override: {prioriti: replace}}", "unknown-key"),
    ("- {rule: r, priority: ERROR, output: x, override: {priority: replace}}", "not-overridden"),
    ("- {rule: r, override: {priority: replace}}", "missing-key"),
    ("- {rule: r, priority: ERROR, override: {priority: swap}}", "unknown-operation"),
    ("- {rule: r, priority: ERROR, override: [priority]}", "wrong-type"),
    ("- {rule: r, condition: and x, append: true, override: {condition: append}}", "append-and-override"),
    ("- {rule: r, tags: [x], append: true}", "nothing-to-append"),
    ("- {rule: r, exceptions: [{fields: proc.name}], append: true}", "missing-name"),
    ("- {rule: r, exceptions: [{name: e, values: [x]}], append: true}", "missing-key"),
    ("- {rule: r, exceptions: [{name: e, fields: proc.nmae, values: [x]}], append: true}", "unknown-field"),
    ("- {rule: r, exceptions: [{name: e, fields: proc.name, comps: inn, values: [x]}], append: true}",
     "unknown-operator"),
    ("- {rule: r, exceptions: [{name: e, fields: [proc.name, fd.name], comps: [in], values: [[x, y]]}], append: true}",
     "exception-arity"),
    ("- {rule: r, exceptions: [{name: e, fields: [proc.name, fd.name], values: [[x]]}], append: true}",
     "exception-arity"),
    ("- {rule: r, exceptions: [{name: e, fields: [proc.name, fd.name], values: [[[x], y]]}], append: true}",
     "exception-list"),
    ("- {rule: r, exceptions: [{name: e, fields: [proc.name, fd.name], values: [x]}], append: true}", "wrong-type"),
    ("- {rule: r, exceptions: [{name: e, feilds: proc.name}], append: true}", "unknown-key"),
    ("- {rule: r, exceptions: [{name: e, fields: proc.pid, values: [x]}], append: true}", "bad-value"),
    ("- required_plugin_versions: [{name: nope, version: 1.0.0}]", "unknown-plugin"),
]  # fmt: skip


@pytest.mark.parametrize(("item", "name"), WRONG, ids=[w[0][2:80] for w in WRONG])
def test_what_is_wrong_is_told_once(tmp_path: Path, item: str, name: str) -> None:
    loaded = load(tmp_path, BASE + item)
    assert [d.name for d in loaded.errors] == [name], [d.render() for d in loaded.errors]
    assert loaded.errors[0].span is not None


def test_what_is_wrong_in_what_was_appended_is_shown_where_it_stands(tmp_path: Path) -> None:
    loaded = load(tmp_path, BASE, "\n- rule: r\n  condition: and proc.nmae = x\n  override: {condition: append}\n")
    (error,) = loaded.errors
    assert error.span is not None
    assert (Path(error.span.file).name, error.span.line, error.span.column) == ("1.yaml", 3, 18)


def test_warnings(tmp_path: Path) -> None:
    text = "- {rule: r, exceptions: [{name: e}, {name: e, fields: proc.name, values: [a]}], append: true}\n"
    loaded = load(tmp_path, BASE, text)
    assert {d.code for d in loaded.diagnostics} == {"LOAD_DEPRECATED_ITEM", "LOAD_EXCEPTION_NAME_NOT_UNIQUE"}
    text = (
        "- required_plugin_versions: [{name: nope, version: 1.0.0, alternatives: [{name: k8saudit, version: 0.1.0}]}]"
    )
    assert not load(tmp_path, BASE, text).errors
