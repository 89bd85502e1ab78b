"""Seconds of the fuzzer, with a seed of today; `tests/config/fuzz.py` runs for as long as one likes (ten minutes)."""

from __future__ import annotations

import os
import time

from tests.config.fuzz import fuzz

SECONDS = 30 if os.environ.get("CI") == "true" else 5


def test_no_configuration_crashes_or_hangs() -> None:
    tally = fuzz(SECONDS, seed=time.time_ns() // 86_400_000_000_000)
    assert tally.read > 20
    assert tally.accepted > 0
