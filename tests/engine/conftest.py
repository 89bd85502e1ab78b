"""What tests on the real kernel share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.capture import Capture


@pytest.fixture(scope="module")
def capture() -> Iterator[Capture]:
    """All that is not noise; a module that asks for something else has a fixture of its own."""
    with Capture() as capture:
        yield capture
