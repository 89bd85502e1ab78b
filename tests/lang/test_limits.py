"""Large, deep and repetitive rules: taken in full, or refused for a reason that is told; never without end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from appliance.catalog.narrow import event_types
from appliance.lang.load import MAX_BYTES, LoadedRules, load_rules, load_texts
from appliance.lang.source import MAX_GUESSES, MAX_TOLD
from appliance.model.diagnostic import Severity
from appliance.model.event import EventType

RULE = "- {{rule: r{0}, desc: d, condition: evt.type = fork and {1}, output: o, priority: INFO}}\n"


def load(text: str) -> LoadedRules:
    return load_texts([("rules.yaml", text)])


def told(loaded: LoadedRules) -> Counter[str]:
    return Counter(d.name for d in loaded.diagnostics)


def test_ten_megabytes_of_good_rules_are_refused_by_size(tmp_path: Path) -> None:
    rule = RULE.format(1, "proc.name = x")
    file = tmp_path / "big.yaml"
    file.write_text(rule * (10_000_000 // len(rule) + 1))
    loaded = load_rules([file])
    (diagnostic,) = loaded.diagnostics
    assert diagnostic.name == "file-too-large"
    assert f"{file.stat().st_size} bytes" in diagnostic.message and str(MAX_BYTES) in diagnostic.message
    assert loaded.rules == ()


def test_two_thousand_rules_are_all_loaded() -> None:
    text = "".join(f"- {{macro: m{n}, condition: proc.pname = x{n}}}\n" + RULE.format(n, f"m{n}") for n in range(2000))
    loaded = load(text)
    assert not loaded.diagnostics
    assert [r.name for r in loaded.rules] == [f"r{n}" for n in range(2000)]


def test_of_many_errors_the_first_are_told_and_all_are_counted() -> None:
    loaded = load("".join(RULE.format(n, f"proc.nmae{n} = x") for n in range(MAX_TOLD + 234)))
    assert told(loaded) == {"unknown-field": MAX_TOLD, "too-many": 1}
    assert [d.span.line for d in loaded.diagnostics if d.span] == list(range(1, MAX_TOLD + 1))
    assert loaded.diagnostics[-1].render().startswith("error[too-many]: 234 more errors are not shown")
    assert loaded.rules == ()


def test_warnings_never_hide_an_error() -> None:
    macros = "".join(f"- {{macro: m-{n}, condition: proc.name = x}}\n" for n in range(MAX_TOLD + 5))
    loaded = load(macros + RULE.format(1, "proc.nmae = x"))
    assert told(loaded) == {"odd-name": MAX_TOLD, "unknown-field": 1, "too-many": 1}
    assert loaded.diagnostics[-1].severity is Severity.WARNING
    assert [d.name for d in loaded.errors] == ["unknown-field"]


def test_a_mistake_beyond_those_told_still_refuses_its_rule() -> None:
    """The exceptions of a rule are refused by what they add to the errors, shown or not."""
    bad = "".join(f"- macro: x{n}\n" for n in range(MAX_TOLD))
    rule = RULE.format(1, "proc.name = x").replace("priority: INFO", "priority: INFO, exceptions: [{name: e, fields: "
                                                   "[proc.nmae], values: [[a]]}]")  # fmt: skip
    loaded = load(bad + rule)
    assert told(loaded) == {"missing-key": MAX_TOLD, "too-many": 1}
    assert loaded.rules == ()


def test_guessing_what_was_meant_has_an_end() -> None:
    """Each guess looks at every macro: of n macros and n mistakes that is n times n."""
    n = 500
    macros = "".join(f"- {{macro: macro_{i}, condition: proc.name = x}}\n" for i in range(n))
    loaded = load(macros + "".join(RULE.format(i, f"marco_{i}") for i in range(n)))
    hints = [d.hint or "" for d in loaded.errors]
    assert len(hints) == n
    assert sum(h.startswith("did you mean `macro_") for h in hints) == MAX_GUESSES // n
    assert all(hints)


def test_a_long_line_is_kept_once() -> None:
    """A file of one line with many mistakes would otherwise be held once for each."""
    loaded = load("- {rule: r, desc: d, condition: evt.type = fork, priority: INFO, output: '"
                  + "%proc.nmae " * 5000 + "'}\n")  # fmt: skip
    assert len({id(d.source_line) for d in loaded.errors if d.span}) == 1
    assert max(len(d.render()) for d in loaded.errors) < 600


@pytest.mark.parametrize("rule_first", [True, False])
def test_lists_within_lists_have_an_end(rule_first: bool) -> None:
    lists = ["- {list: l0, items: [a]}\n"] + [f"- {{list: l{n}, items: [l{n - 1}]}}\n" for n in range(1, 3000)]
    rule = RULE.format(1, "proc.name in (l2999)")
    loaded = load(rule + "".join(lists) if rule_first else "".join(lists) + rule)
    assert told(loaded) == {"too-deep": 1}
    assert loaded.rules == ()
    good = load("".join(lists[:100]) + RULE.format(1, "proc.name in (l99)"))
    assert not good.diagnostics
    assert str(good.rules[0].condition) == "evt.type = fork and proc.name in (a)"


@pytest.mark.parametrize("rule_first", [True, False])
def test_macros_within_macros_have_an_end_and_no_cycle_is_made_up(rule_first: bool) -> None:
    macros = ["- {macro: m0, condition: proc.name = x}\n"]
    macros += [f"- {{macro: m{n}, condition: not (proc.name = a and m{n - 1})}}\n" for n in range(1, 1500)]
    rule = RULE.format(1, "m1499")
    loaded = load(rule + "".join(macros) if rule_first else "".join(macros) + rule)
    assert set(told(loaded)) == {"too-deep"}
    assert loaded.rules == ()


def test_a_list_that_holds_itself_makes_no_rule() -> None:
    loaded = load("- {list: x, items: [y]}\n- {list: y, items: [x, a]}\n" + RULE.format(1, "proc.name in (x)"))
    assert told(loaded) == {"list-cycle": 1}
    assert loaded.rules == ()


def test_a_hundred_levels_are_taken_and_no_more() -> None:
    for levels, names in ((100, []), (101, ["too-deep"])):
        loaded = load(RULE.format(1, "(" * levels + "proc.name = x" + ")" * levels))
        assert [d.name for d in loaded.diagnostics] == names
        loaded = load(RULE.format(1, "not " * levels + "proc.name = x"))
        assert [d.name for d in loaded.diagnostics] == names


@pytest.mark.parametrize(
    ("condition", "types"),
    [
        ("evt.type = fork", {"fork"}),
        ("evt.type in (fork, open) and evt.type != open", {"fork"}),
        ("not evt.type in (fork, open) and evt.type in (open, chmod, dup)", {"chmod", "dup"}),
        ("evt.type = fork or proc.name = x and evt.type = dup", {"fork", "dup"}),
        ("not (evt.type != fork or proc.name = x)", {"fork"}),
        ("not not (evt.type = fork and not evt.type = fork)", set()),
        ("evt.type exists and evt.type = dup", {"dup"}),
        ("evt.type = dup and evt.type != val(proc.name)", {"dup"}),
        ("evt.type in (dup, fork) and not evt.type = val(proc.name)", {"dup", "fork"}),
        ("evt.type in (dup, fork) and tolower(evt.type) = x", {"dup", "fork"}),
    ],
)
def test_the_types_on_which_a_condition_can_hold(condition: str, types: set[str]) -> None:
    loaded = load(f'- {{rule: r, desc: d, condition: "{condition}", output: o, priority: INFO}}\n')
    assert not loaded.errors
    (rule,) = loaded.rules
    assert rule.event_types == event_types(rule.condition) == {EventType(t) for t in types}
