"""A minute of the fuzzer, with a seed of today; `tests/lang/fuzz.py` runs for as long as one likes."""

from __future__ import annotations

import os
import time

from tests.lang.fuzz import fuzz

SECONDS = 60 if os.environ.get("CI") == "true" else 5


def test_no_rules_file_crashes_or_hangs() -> None:
    tally = fuzz(SECONDS, seed=time.time_ns() // 86_400_000_000_000)
    assert tally.read > 100
