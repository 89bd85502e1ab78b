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


def test_the_reason_of_an_error_is_never_none() -> None:
    """`OSError("text").strerror` is None; `model.text.why` gives the text."""
    for file in (ROOT / "appliance").rglob("*.py"):
        lines = file.read_text().splitlines()
        bare = [n for n, line in enumerate(lines, 1) if ".strerror" in line and "os.strerror(" not in line]
        assert not bare or file.name == "text.py", f"{file.relative_to(ROOT)}: {bare}"
