"""The service's user, beside root: uid 65534."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65534


@pytest.fixture
def of_nobody() -> Iterator[Path]:
    """The state folder of a service, where it and root can get to."""
    with tempfile.TemporaryDirectory() as above:
        Path(above).chmod(0o755)
        folder = Path(above) / "state"
        folder.mkdir(mode=0o700)
        os.chown(folder, NOBODY, NOBODY)
        yield folder


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """All threads of this process act as the service's user."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
