"""The first inputs of the fuzzer, the same each time; `tests/lang/fuzz.py` goes on with others (ten minutes)."""

from __future__ import annotations

import os

from tests.lang.fuzz import fuzz

MOST = 30_000 if os.environ.get("CI") == "true" else 3000


def test_no_rules_file_crashes_or_hangs() -> None:
    tally = fuzz(60, seed=1, most=MOST)
    assert tally.read > 100
