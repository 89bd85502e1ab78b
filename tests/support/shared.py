"""Compatibility data that lies beside the checkout and is not ours to ship."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared"


def shared_falco() -> Path:
    """The folder of Falco's data. Where it is absent the test skips and says so; in CI that is a failure."""
    folder = SHARED / "falco"
    if not folder.is_dir():
        reason = "the compatibility data is not beside this checkout (../shared/falco)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
