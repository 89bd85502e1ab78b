"""The nouns of what happened."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model.event import NO_PROCESS, Process, changed
from tests.support.events import SHELL

_NAMES = [field.name for field in fields(Process)]
_FACTS = st.dictionaries(st.sampled_from(_NAMES), st.one_of(st.none(), st.integers(), st.text(max_size=5)))


@settings(deadline=None)
@given(st.sampled_from((SHELL, NO_PROCESS)), _FACTS, _FACTS)
def test_a_changed_process_is_what_replace_makes_of_it(process: Process, first: dict, second: dict) -> None:
    before = replace(process)
    once = changed(process, **first)
    assert once == replace(process, **first)
    assert changed(once, **second) == replace(once, **second)
    assert process == before


def test_a_process_has_no_other_facts() -> None:
    with pytest.raises(KeyError, match="colour"):
        changed(SHELL, colour="red")
