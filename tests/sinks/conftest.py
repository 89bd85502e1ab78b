"""What tests of several sinks share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.certificates import make_certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server's certificate for localhost and a client's: see `make_certificates`."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))
