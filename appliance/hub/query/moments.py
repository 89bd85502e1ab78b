"""Times and ranges as people write them.

Comes in: `2026-11-30T22:00+01:00`, `-90min`, `now`, seconds or nanoseconds since the epoch. Goes out: nanoseconds since
the epoch. Never: a look at the clock.
"""

from __future__ import annotations

import datetime
import re
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

SECOND = 1_000_000_000
_UNITS = {
    "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "M": 30 * 86400, "y": 365 * 86400,
}  # fmt: skip
_SPAN = re.compile(r"(\d{1,9})\s*(s|sec|min|m|h|d|w|M|y)")
_LAST_NS = 253_402_300_799 * SECOND  # the end of the year 9999


def read_span(text: str) -> int:
    """`90min`, `24h`, `7d` in nanoseconds; `M` is 30 days. A bare number is seconds. Raises ValueError."""
    if text.isascii() and text.isdigit() and len(text) < 12:
        return int(text) * SECOND
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"`{text}` is not a time span such as `15min`, `24h` or `7d`")
    return int(match[1]) * _UNITS[match[2]] * SECOND


def read_moment(text: str, now_ns: int, zone: str = "UTC") -> int:
    """A moment in nanoseconds since the epoch. Raises ValueError."""
    text = text.strip()
    if text == "now":
        return now_ns
    if text.startswith("-") and not text[1:].isdigit():
        return max(0, now_ns - read_span(text[1:]))
    if text.isascii() and text.isdigit() and len(text) < 20:
        value = int(text)
        return min(value * SECOND if len(text) <= 11 else value, _LAST_NS)
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"`{text}` is not a time") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone_of(zone))
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    try:
        delta = moment - epoch
    except OverflowError:
        raise ValueError(f"`{text}` is out of range") from None
    return max(0, (delta.days * 86400 + delta.seconds) * SECOND + delta.microseconds * 1000)


def zone_of(name: str) -> datetime.tzinfo:
    """The time zone of that name; UTC where there is none."""
    if name in ("", "UTC"):
        return datetime.UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return datetime.UTC
