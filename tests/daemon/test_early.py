"""The kernel's filter follows the rules, and ends where a sample proves it wrong."""

from __future__ import annotations

import pytest

from appliance.daemon.early import EarlyFilter
from appliance.engine.early import Early
from appliance.kernel.early import KeptOpens

ONE, OTHER = Early({b"": 1}), Early({b"": 2}, 3, 4)


class Kernel:
    def __init__(self) -> None:
        self.tables: list[KeptOpens | None] = []
        self.now_ns = 100
        self.refuses = False

    def put(self, table: KeptOpens | None) -> None:
        if self.refuses and table is not None:
            raise OSError("no memory")
        self.tables.append(table)

    def clock(self) -> int:
        return self.now_ns


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def early(kernel: Kernel) -> EarlyFilter:
    return EarlyFilter(kernel.put, clock=kernel.clock)


def test_a_table_is_written_where_it_changes(kernel: Kernel, early: EarlyFilter) -> None:
    for wanted in (None, ONE, ONE, OTHER, None, None, ONE):
        early.use(wanted)
    assert kernel.tables == [KeptOpens({b"": 1}), KeptOpens({b"": 2}, 3, 4), None, KeptOpens({b"": 1})]


def test_an_alert_of_a_sample_ends_it_until_rules_change(kernel: Kernel, early: EarlyFilter) -> None:
    early.use(ONE)
    early.sampled(7, 101)
    assert not early.is_wrong(8)
    assert early.is_wrong(7) and kernel.tables[-1] is None
    early.use(ONE)
    assert kernel.tables[-1] is None
    early.use(OTHER)
    assert kernel.tables[-1] == KeptOpens({b"": 2}, 3, 4)


def test_a_sample_of_other_rules_proves_nothing(kernel: Kernel, early: EarlyFilter) -> None:
    early.use(ONE)
    kernel.now_ns = 200
    early.use(OTHER)
    early.sampled(7, 150)
    assert not early.is_wrong(7)


def test_a_sample_that_waits_while_rules_change_proves_nothing(kernel: Kernel, early: EarlyFilter) -> None:
    early.use(ONE)
    early.sampled(7, 101)
    early.use(OTHER)
    assert not early.is_wrong(7)


def test_where_the_kernel_refuses_it_nothing_is_dropped(
    kernel: Kernel, early: EarlyFilter, caplog: pytest.LogCaptureFixture
) -> None:
    early.use(ONE)
    kernel.refuses = True
    early.use(OTHER)
    early.use(OTHER)
    assert kernel.tables == [KeptOpens({b"": 1}), None]
    assert caplog.text.count("cannot be written") == 1
