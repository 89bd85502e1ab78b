"""More than can be judged: what is lost is counted in the kernel and told, exactly."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.storm import storm

pytestmark = pytest.mark.kernel


def test_produced_is_judged_and_lost_and_the_losses_are_told(tmp_path: Path) -> None:
    """Five seconds; `bench/storm.py` does the same for a minute."""
    counts = storm(tmp_path, seconds=5, forks=500, processes=4)
    assert counts["opens"] > 0 and counts["forks"] > 0
    assert counts["produced"] == counts["judged"] + counts["lost"]
    assert counts["produced"] >= counts["opens"] + 2 * counts["forks"]
    assert counts["told"] == counts["lost"]
