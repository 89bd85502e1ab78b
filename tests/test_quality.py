"""Formatter, linter and type checker are tests too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLACES = ["appliance", "tests", "bench"]


@pytest.mark.parametrize(
    "argv",
    [
        ["ruff", "format", "--check", *PLACES],
        ["ruff", "check", *PLACES],
        ["mypy"],
    ],
    ids=lambda argv: " ".join(argv[:2]),
)
def test_clean(argv: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *argv], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
