"""A moment as text: the spellings that headings, JSON and fields share.

Comes in: nanoseconds since the epoch. Goes out: a text with nine digits behind the seconds. Never: a look at the clock.
"""

from __future__ import annotations

import time


def iso_time(ts_ns: int) -> str:
    """UTC as `2024-01-01T00:00:00.000000000`, without a zone."""
    seconds, nanos = divmod(ts_ns, 1_000_000_000)
    return f"{_text(time.gmtime(seconds), 'T')}.{nanos:09}"


def clock_time(ts_ns: int) -> str:
    """The local time of day: `20:12:44.000000001`."""
    return date_time(ts_ns).partition(" ")[2]


def date_time(ts_ns: int) -> str:
    """The local date and time: `2026-11-23 20:12:44.000000001`."""
    seconds, nanos = divmod(ts_ns, 1_000_000_000)
    return f"{_text(time.localtime(seconds), ' ')}.{nanos:09}"


def _text(moment: time.struct_time, between: str) -> str:
    """By hand, as strftime(3) does not pad years below 1000."""
    year, month, day, hour, minute, second = moment[:6]
    return f"{year:04}-{month:02}-{day:02}{between}{hour:02}:{minute:02}:{second:02}"
