"""Fixtures and options shared by the tests of several rooms."""

import pytest

pytest_plugins = ["tests.support.docker"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--accept", action="store_true", help="rewrite expected files by what is found; read the difference"
    )
