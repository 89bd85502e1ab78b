"""Fixtures and options shared by the tests of several rooms, and what may be skipped where."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

pytest_plugins = ["tests.support.docker", "tests.support.containerd"]

_IN_CI = os.environ.get("CI") == "true"
_BOUND_S, _MACHINES_BOUND_S = 1200, 2700  # no test takes half of it; one that hangs is told with its stacks

# The same examples each time, on machines that may be slow: a change is judged by itself, not by an example that nobody
# has tried before. The nights look for new ones.
hypothesis.settings.register_profile(
    "changes", derandomize=True, database=None, deadline=None, print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)  # fmt: skip
hypothesis.settings.register_profile(
    "nights", hypothesis.settings.get_profile("changes"), derandomize=False, max_examples=1000
)
hypothesis.settings.load_profile("nights" if os.environ.get("TERCEL_NIGHTLY") else "changes")

# A registry that hiccups is asked again, by each pip that a test starts.
os.environ.setdefault("PIP_RETRIES", "10")
os.environ.setdefault("PIP_DEFAULT_TIMEOUT", "60")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--accept", action="store_true", help="rewrite expected files by what is found; read the difference"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes last: a mistake elsewhere is told before."""
    items.sort(key=lambda item: item.get_closest_marker("molecule") is not None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if os.environ.get("CI") == "true":
        return
    if item.get_closest_marker("kernel") and (os.geteuid() != 0 or not Path("/sys/kernel/btf/vmlinux").exists()):
        pytest.skip("needs root and a kernel with BTF")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test that hangs fails by itself, with where each thread was; its fixtures are ended as after any other."""

    def late(number: int, frame: object) -> None:
        faulthandler.dump_traceback(sys.stderr)
        pytest.fail(f"not ended within {bound} s; where its threads are stands in its standard error")

    machines = item.get_closest_marker("molecule") or "machine" in getattr(item, "fixturenames", ())
    bound = _MACHINES_BOUND_S if machines else _BOUND_S
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(bound)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI nothing is skipped: what a test lacks there is a failure."""
    report = yield
    if _IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.longrepr = f"skipped in CI, where nothing may be: {reason}"
    return report
