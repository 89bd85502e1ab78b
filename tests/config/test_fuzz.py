"""The first inputs of the fuzzer, the same each time; `tests/config/fuzz.py` goes on with others (ten minutes)."""

from __future__ import annotations

import os

from tests.config.fuzz import fuzz

MOST = 10_000 if os.environ.get("CI") == "true" else 1000


def test_no_configuration_crashes_or_hangs() -> None:
    tally = fuzz(60, seed=1, most=MOST)
    assert tally.read > 20
    assert tally.accepted > 0
