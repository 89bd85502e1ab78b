"""Every field and every argument beside the real engine: the same acts, the same rules, a real kernel.

`../shared/falco/fields` has the probe, rules that print all there is, and what Falco said on each event. Compared is
what stays the same from run to run there. `fields_differences.tsv` says of each field, and of the events on which it
differs, why: the table may only shrink. What a machine or a build of the probe decides is left out (`OF_THE_MACHINE`).
"""

from __future__ import annotations

import fcntl
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.fields import Probe, Told, answers, pairs
from tests.support.shared import shared_falco

pytestmark = pytest.mark.kernel

SHARE = 0.97  # of the stable values are the same, at least
TABLE = Path(__file__).with_name("fields_differences.tsv")
SIZE = 1806  # rows of a field and an event: more are not taken, fewer are welcome

OF_THE_MACHINE = re.compile(
    "|".join(
        (
            r"(proc|thread)\.vm\w+|thread\.pf\w+|evt\.(raw)?arg\.(vm_\w+|pgft_\w+|fdlimit)",  # memory, limits
            r"evt\.(raw)?arg\.(ino|exe_ino\w*|pidns_init_start_ts)|proc\.exe_ino.*|proc\.pidns_init_start_ts",
            r"proc\.apid.*|evt\.rawarg\.(pid|tid|ptid|vpid|vtid|pgid|vpgid|res)",  # numbers of processes
            # its processes of the host looked as if they were in a container
            r"user\..*|group\..*|container\..*|fd\.container.*|fd\.is_server|evt\.arg\.(uid|gid)",
        )
    )
)
NOT_DONE = {
    "ctr:": "acts in a container of the recorded machine",
    "x_i80": "calls of 32 bits, which Falco does not see whole",
    "x_x32": "calls of x32, which Falco does not see",
}


def told_by_us(folder: Path) -> Mapping[str, list[Told]]:
    """The acts, done."""
    lock = os.open("/tmp", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)  # the places are the probe's own: one run at a time
    probe = Probe(folder)
    try:
        assert not probe.refused
        found = probe.acts()
        assert not probe.rules.errors
        return found
    finally:
        probe.close()
        os.close(lock)


def of_the_machine(field: str, value: object, mine: object) -> bool:
    """Whether the machine decides it: which descriptor is free is what opens before it have given, for one."""
    if field in ("fd.num", "evt.rawarg.fd", "evt.rawres") and isinstance(value, int) and isinstance(mine, int):
        return value > 2 and mine > 2
    return OF_THE_MACHINE.fullmatch(field) is not None


def table() -> Iterator[tuple[str, str, str]]:
    """Field, event, reason."""
    for line in TABLE.read_text().splitlines():
        fields, events, reason = line.split("\t")
        yield from ((field, event, reason) for field in fields.split() for event in events.split())


def test_the_table_of_differences_has_reasons_and_only_shrinks() -> None:
    rows = list(table())
    assert all(reason for _, _, reason in rows)
    assert len(rows) == len({(field, event) for field, event, _ in rows})
    print(f"{len(rows)} differences of a field on an event, for {len({reason for _, _, reason in rows})} reasons")
    assert len(rows) <= SIZE


def test_fields_and_arguments_are_the_real_engines() -> None:
    folder = shared_falco() / "fields"
    theirs, ours = answers(folder), told_by_us(folder)
    reasons = {(field, event): reason for field, event, reason in table()}
    same, counts, unknown = 0, Counter[str](), defaultdict[str, list[str]](list)
    for act, events in theirs.items():
        if any(act.startswith(name) for name in NOT_DONE):
            continue
        for told, found in pairs(events, ours[act]):
            event = told["evt.type"]
            for field, value in told.items():
                mine = found.get(field) if found is not None else None
                if of_the_machine(field, value, mine):
                    continue
                if found is not None and mine == value and type(mine) is type(value):
                    same += 1
                    continue
                reason = reasons.get((field, event)) if found is not None else reasons.get(("*", event))
                counts[reason or "not in the table"] += 1
                if reason is None:
                    where = field if found is not None else "*"
                    unknown[f"{where} {event}"].append(f"{act}: {value!r}, ours {mine!r}"[:200])
    total = same + counts.total()
    print(f"{same} of {total} values are the same: {same / total:.2%}")
    for reason, count in counts.most_common():
        print(f"{count:6} {reason}")
    assert not dict(unknown)
    assert same / total >= SHARE
