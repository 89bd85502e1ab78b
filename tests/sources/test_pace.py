"""How much a flood may make others wait: what the reader says of its own speed."""

from __future__ import annotations

from appliance.sources.syscall import Pace

MIB = 1 << 20
MS = 1_000_000
UNKNOWN = Pace(1).size


def test_it_is_what_is_read_in_two_seconds_for_each_ring() -> None:
    for rings, size in ((1, 4 * MIB), (4, MIB)):
        pace = Pace(rings)
        assert not pace.worked(0, 0, MIB)
        assert pace.worked(100 * MS, MIB // 4, MIB) and pace.size == size


def test_a_pace_that_changes_little_stays() -> None:
    """Each change begins the shares anew."""
    pace = Pace(1)
    pace.worked(0, 0, MIB)
    pace.worked(100 * MS, MIB // 8, MIB)
    now, read, changes = 100 * MS, MIB // 8, 0
    for share in (7, 9, 8, 12, 7, 10):
        now, read = now + 200 * MS, read + MIB * share // 32
        changes += pace.worked(now, read, MIB)
    assert changes == 0


def test_a_reader_for_which_little_waits_is_not_slow() -> None:
    """However long it was not scheduled."""
    pace = Pace(1)
    pace.worked(0, 0, 100)
    assert not pace.worked(500 * MS, 1000, 100)
    assert not pace.worked(501 * MS, 2000, MIB), "the time before that is not measured"
    assert pace.size == UNKNOWN


def test_what_was_measured_is_forgotten_when_there_is_nothing_to_do() -> None:
    pace = Pace(1)
    assert not pace.idle()
    pace.worked(0, 0, MIB)
    pace.worked(100 * MS, 1000, MIB)
    assert pace.size == 256 << 10, "no less than that"
    assert pace.idle() and pace.size == UNKNOWN
