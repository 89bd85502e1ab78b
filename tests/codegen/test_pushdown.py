"""What may be decided early: a weakened condition is true wherever the whole one is."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.catalog.lookup import value_of
from appliance.catalog.narrow import specialise
from appliance.codegen.pushdown import _OF_AN_OPEN, of_an_open, over
from appliance.model.expr import FALSE, TRUE, And, Check, Const, Expr, FieldRef, Not, Or, Word
from appliance.model.field import Operator
from tests.codegen.test_python import EVENTS, conditions, plainly


@given(
    conditions(), st.sets(st.sampled_from(["proc.name", "proc.pname", "fd.name", "user.name", "fd.num", "evt.type"]))
)
@settings(max_examples=100, deadline=None)
def test_what_is_weakened_holds_wherever_the_whole_does(tree: Expr, known: set[str]) -> None:
    weak = over(tree, lambda check: isinstance(check.left, FieldRef) and check.left.name in known)
    for e in EVENTS:
        rest = specialise(weak, e.type)
        assert not plainly(tree, e) or (rest.value if isinstance(rest, Const) else plainly(rest, e))


NAME = Check(FieldRef("fd.name"), Operator.EQ, Word("/etc/shadow"))
WHO = Check(FieldRef("proc.name"), Operator.EQ, Word("cat"))


def test_what_is_not_known_is_no_reason_to_hold_back() -> None:
    assert over(And((NAME, WHO)), of_an_open) == And((NAME, TRUE))
    assert over(And((NAME, Not(WHO))), of_an_open) == And((NAME, Not(FALSE)))
    assert specialise(over(Or((NAME, Not(WHO))), of_an_open), EVENTS[0].type) == TRUE


def test_what_an_opens_arguments_say() -> None:
    def says(name: str, arg: str | None = None, right: object = Word("1")) -> bool:
        return of_an_open(Check(FieldRef(name, arg), Operator.EQ, right))  # type: ignore[arg-type]

    assert says("fd.name")
    assert says("evt.arg.flags")
    assert says("evt.arg", "flags")
    assert not says("evt.arg", "fd")
    assert not says("evt.arg.ino")
    assert not says("evt.rawres")
    assert not says("fd.num")
    assert not says("fd.ino")
    assert not says("proc.name")
    assert not says("fd.name", right=FieldRef("proc.exepath"))
    assert says("fd.name", right=FieldRef("fd.nameraw"))


ABOUT_THE_OPEN = re.compile(
    r"e\.fd\.(name|nameraw|directory|filename|type|typechar|realpath)|e\.path(_raw)? if e\.res >= 0 else None"
    r"|(e\.res < 0|result_name\(e\)) if is_call\(e\) else None|e\.type\.value|(is_open_\w+|raw_name|paths_text)\(e\)"
)


@pytest.mark.parametrize("name", sorted(_OF_AN_OPEN))
def test_a_field_that_is_known_early_looks_at_the_open_alone(name: str) -> None:
    """A field that is told in another way one day has to leave the list, or this pattern to grow with a reason."""
    value = value_of(FieldRef(name))
    assert value is not None
    assert ABOUT_THE_OPEN.fullmatch(value.code), value.code
