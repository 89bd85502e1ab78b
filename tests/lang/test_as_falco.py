"""What Falco 0.44.1 takes and answers where one might expect something else: exceptions, sources, lists."""

from __future__ import annotations

import pytest

from appliance.lang.load import LoadedRules, load_texts

HEAD = """
- list: helpers
  items: [cat, head]
- rule: r
  desc: d
  condition: evt.type = open
  output: o
  priority: INFO
"""
AUDIT = "- {rule: k, desc: d, condition: ka.verb = get, output: o, priority: INFO, source: k8s_audit}\n"


def load(text: str) -> LoadedRules:
    return load_texts([("rules.yaml", text)])


def names(loaded: LoadedRules) -> list[str]:
    return [d.name for d in loaded.diagnostics if d.name != "unused-list"]


@pytest.mark.parametrize(
    ("fields", "comps", "values", "meaning"),
    [
        ("[proc.name]", "[in]", "[[(helpers)]]", "proc.name in (cat, head)"),
        ("[proc.name]", "[in]", "[[helpers]]", "proc.name in (cat, head)"),
        ("[proc.name]", "[in]", "[['(helpers, z)']]", "proc.name in (cat, head, z)"),
        ("[proc.name]", "[in]", "[['(y, z)']]", "proc.name in (y, z)"),
        ("[proc.name]", "[in]", "[['y, helpers']]", "proc.name in (y, cat, head)"),
        ("[proc.name]", "[in]", "[['y,z']]", "proc.name in (y, z)"),
        ("[proc.name]", "[in]", "[[[helpers, z]]]", "proc.name in (cat, head, z)"),
        ("proc.name", "in", "[(helpers)]", "proc.name in (cat, head)"),
        ("proc.name", "in", "[helpers, z]", "proc.name in (cat, head, z)"),
        ("[fd.name]", "[pmatch]", "[['(/a, /b)']]", "fd.name pmatch (/a, /b)"),
        ("[proc.name]", "[startswith oneof]", "[[[a, helpers]]]", "proc.name startswith oneof (a, cat, head)"),
        ("[proc.name]", "[endswith anyof]", "[[(helpers)]]", "proc.name endswith anyof (cat, head)"),
        ("[proc.name]", "[contains allof]", "[['a, b']]", "proc.name contains allof (a, b)"),
    ],
)
def test_lists_in_exceptions(fields: str, comps: str, values: str, meaning: str) -> None:
    loaded = load(f"{HEAD}  exceptions: [{{name: e, fields: {fields}, comps: {comps}, values: {values}}}]\n")
    assert names(loaded) == []
    assert str(loaded.rules[0].condition) == f"evt.type = open and not {meaning}"


@pytest.mark.parametrize("comp", ["in oneof", "= no", "< oneof", "startswith oneof anyof"])
def test_no_comp(comp: str) -> None:
    loaded = load(f"{HEAD}  exceptions: [{{name: e, fields: [proc.name], comps: ['{comp}'], values: [[a]]}}]\n")
    assert names(loaded) == ["unknown-operator"]


def test_a_list_by_name_behind_a_quantifier() -> None:
    text = HEAD.replace(
        "evt.type = open", "evt.type = open and proc.name startswith oneof helpers and proc.exe = oneof"
    )
    loaded = load(text)
    assert names(loaded) == []
    assert str(loaded.rules[0].condition) == (
        "evt.type = open and proc.name startswith oneof (cat, head) and proc.exe = oneof"
    )


ONE, TWO = "{name: e, fields: [proc.name], values: [[a]]}", "{name: e, fields: [fd.name], values: [[b]]}"


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD}  exceptions: [{ONE}, {TWO}]\n",
        f"{HEAD}- {{rule: r, exceptions: [{ONE}, {TWO}], override: {{exceptions: append}}}}\n",
        f"{HEAD}- {{rule: r, exceptions: [{ONE}, {TWO}], override: {{exceptions: replace}}}}\n",
    ],
)
def test_an_exception_given_twice_counts_twice(text: str) -> None:
    loaded = load(text)
    assert names(loaded) == ["exception-twice"]
    assert str(loaded.rules[0].condition) == "evt.type = open and not proc.name = a and not fd.name = b"


@pytest.mark.parametrize(
    "item",
    [
        "- {rule: k, desc: d, condition: evt.type = open, output: o, priority: INFO}\n",
        "- {rule: k, condition: and proc.name = a, source: syscall, append: true}\n",
    ],
)
def test_a_rule_keeps_its_source(item: str) -> None:
    loaded = load(AUDIT + item)
    assert [d.name for d in loaded.errors] == ["other-source"]
    assert "source: k8s_audit" in (loaded.errors[0].hint or "")


def test_an_exception_without_values_names_known_fields() -> None:
    assert names(load(f"{HEAD}  exceptions: [{{name: e, fields: [no.such]}}]\n")) == ["unknown-field"]
    assert names(load(f"{HEAD}  exceptions: [{{name: e, fields: [proc.name]}}]\n")) == []


def test_an_item_with_nothing_in_it() -> None:
    assert names(load(f"-\n{HEAD}-\n")) == []


@pytest.mark.parametrize(
    ("check", "told", "hint"),
    [
        ("proc.name = proc.pname", "field-as-text", "`proc.name = val(proc.pname)`"),
        ("proc.name in (proc.pname, bash)", "field-as-text", "`proc.name = val(proc.pname)` and join it by `or`"),
        ("proc.name startswith %proc.pname", "field-as-text", "`proc.name startswith val(proc.pname)`"),
        ("proc.name = proc.aname[2]", "field-as-text", "val(proc.aname[2])"),
        ("user.uid != user.loginuid", "bad-value", "`user.uid != val(user.loginuid)`"),
        ('proc.name = "proc.pname"', None, ""),
        ("proc.name = proc.sh", None, ""),
        ("evt.dir = >", "evt-dir", "never holds"),
        ("evt.dir = <", "evt-dir", "take it out"),
        ("evt.dir != >", "evt-dir", "take it out"),
        ("fd.name = <NA>", "unsafe-na", "`not fd.name exists`"),
        ("fd.name != <NA>", "unsafe-na", "`fd.name exists`"),
        ('fd.name in ("<NA>", a)', "unsafe-na", "`not fd.name exists`, joined by `or`,"),
        ("user.name = <NA>", None, ""),
        ("user.loginname != <NA>", None, ""),
        ("tolower(group.name) = <NA>", None, ""),
    ],
)
def test_checks_that_mean_something_else(check: str, told: str | None, hint: str) -> None:
    loaded = load(HEAD.replace("evt.type = open", f"evt.type = open and {check}"))
    assert names(loaded) == ([] if told is None else [told])
    assert told is None or hint in (loaded.diagnostics[-1].hint or loaded.diagnostics[0].hint or "")


def test_a_missing_source_is_told_once() -> None:
    items = "".join(
        f"- {{rule: r{n}, desc: d, condition: ct.name = x, output: o, priority: INFO, source: aws_cloudtrail}}\n"
        for n in range(50)
    )
    (told,) = load(items).diagnostics
    assert told.name == "unknown-source"
    assert "`r0` and 49 more are for the source `aws_cloudtrail`" in told.message


def test_a_library_of_macros_may_hold_what_nobody_uses() -> None:
    library = "- {macro: used, condition: evt.type = open}\n- {macro: free, condition: evt.type = close}\n"
    library += "- {list: spare, items: [a]}\n"
    rules = "- {macro: mine, condition: evt.type = close}\n"
    rules += "- {rule: r, desc: d, condition: used, output: o, priority: INFO}\n"
    told = load_texts([("library.yaml", library), ("rules.yaml", rules)]).diagnostics
    assert [(d.name, d.span.file if d.span else "") for d in told] == [("unused-macro", "rules.yaml")]


def test_an_unknown_key_names_the_way_to_pass_over_it() -> None:
    (told,) = load(HEAD + "  colour_of_it: 5\n").errors
    assert "`rules_unknown_keys: warn`" in (told.hint or "")
