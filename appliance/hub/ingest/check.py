"""An event as it was sent -> an alert of the hub's, or the reason why it is refused.

Comes in: an event. Goes out: a `NewAlert`. Never: a time that the sender did not give, or an id that is not the same
when the same event comes again.

The table of what is required is Falcosidekick's. Its faults are not: an absent source is `syscall`, the id is not
random, a field of any type is taken, and nothing is cut.
"""

from __future__ import annotations

import calendar
import hashlib
import re

import msgspec

from appliance.hub.alert import NewAlert
from appliance.hub.ingest.parse import Event
from appliance.model.alert import Priority

_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,18}))?([Zz]|[+-]\d\d:?\d\d)", re.ASCII)
_PRIORITIES = {priority.name.lower(): priority for priority in Priority} | {"info": Priority.INFORMATIONAL}
_AS_FALCO_WRITES = {priority.label: priority for priority in Priority}
_EMPTY = msgspec.Raw(b"{}")
_MAX_NS = 1 << 63
_ID_MAX = 256
_SECONDS_MAX = 10_000
_seconds: dict[str, int] = {}


class Refused(Exception):
    """The event lacks something or says something that cannot be; the message says what."""


def alert_of(event: Event, received_ns: int, id_: str | None, *, may_be_empty: bool = False) -> NewAlert:
    """Check an event. `may_be_empty`: it need not have output fields. Raises `Refused`."""
    rule = event.rule
    if not rule:
        raise Refused("`rule` is missing")
    told = event.priority or ""
    priority = _AS_FALCO_WRITES.get(told)
    if priority is None and (priority := _PRIORITIES.get(told.lower())) is None:
        raise Refused("`priority` is missing or is none of the eight")
    if not event.time:
        raise Refused("`time` is missing")
    ts_ns = time_of(event.time)
    if not may_be_empty and not event.has_fields():
        raise Refused("`output_fields` is missing or empty")
    hostname, output = event.hostname or "", event.output or ""
    return NewAlert(
        id_[:_ID_MAX] if id_ else digest_of(hostname, ts_ns, rule, output),
        ts_ns,
        received_ns,
        hostname,
        rule,
        priority,
        event.source or "syscall",
        tuple(sorted(event.tags)) if event.tags else (),
        output,
        event.output_fields or _EMPTY,
    )


def digest_of(hostname: str, ts_ns: int, rule: str, output: str) -> str:
    """The id of an alert whose sender gives none."""
    text = f"{hostname}\0{ts_ns}\0{rule}\0{output}"
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def time_of(text: str) -> int:
    """RFC 3339 as nanoseconds since the epoch; more than nine digits are cut. Raises `Refused`."""
    # the common form, `2026-01-02T03:04:05.678901234Z`: the same second comes many times
    if text[-1:] == "Z" and len(text) == 30 and text[19] == "." and text[20:29].isdecimal() and text.isascii():
        seconds = _seconds.get(text[:19])
        if seconds is not None:
            return seconds * 1_000_000_000 + int(text[20:29])
    match = _TIME.fullmatch(text)
    if match is None:
        raise Refused("`time` is not RFC 3339 with a zone")
    year, month, day, hour, minute, second = (int(match[n]) for n in range(1, 7))
    if not (1 <= month <= 12 and 1 <= day <= calendar.monthrange(max(year, 1), month)[1]):
        raise Refused("`time` is no date")
    if hour > 23 or minute > 59 or second > 60:
        raise Refused("`time` is no time of day")
    seconds = calendar.timegm((year, month, day, hour, minute, second, 0, 0, 0))
    zone = match[8]
    if zone not in "Zz":
        away = int(zone[1:3]) * 3600 + int(zone[-2:]) * 60
        seconds -= away if zone[0] == "+" else -away
    elif text[10] == "T":
        if len(_seconds) >= _SECONDS_MAX:
            _seconds.clear()
        _seconds[text[:19]] = seconds
    ns = seconds * 1_000_000_000 + int(((match[7] or "0") + "0" * 9)[:9])
    if not 0 < ns < _MAX_NS:
        raise Refused("`time` is before 1970 or after 2262")
    return ns
