"""The queue on disk: what is acknowledged is delivered, in order, and every alert is accounted for."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.alert import Alert, Priority
from appliance.model.diagnostic import ConfigError, DeliveryError
from appliance.model.wire import pack, unpack
from appliance.sinks import spool as module
from appliance.sinks.base import AT_END, SinkStats
from appliance.sinks.disk import Disk
from appliance.sinks.errnos import Remedy, remedy
from appliance.sinks.segments import Account, CursorFile, Record, scan
from appliance.sinks.spool import DEAD, Limits
from tests.support.disks import Plan
from tests.support.receivers import wait_until
from tests.support.sinks import HOSTILE, MemorySink, alert, failing

QUICK = Limits(retry_max_s=0.02, segment_bytes=4096)


def begin(*args: Any, **options: Any) -> module.Spool:
    """One that is started."""
    made = module.Spool(*args, **options)
    made.start()
    return made


@contextmanager
def spool(folder: Path, sink: MemorySink, limits: Limits = QUICK, **options: Any) -> Iterator[module.Spool]:
    """A spool that is ended, and whose books close."""
    made = begin(sink, folder / "spool", limits, **({"capacity": 1000} | options))
    try:
        yield made
    finally:
        close(made)


def close(made: module.Spool, timeout_s: float = 60.0) -> SinkStats:
    stats = made.end(time.monotonic() + timeout_s)
    assert stats.submitted == stats.delivered + stats.dead + stats.lost + stats.waiting
    assert stats.waiting == made.count_waiting()
    return stats


def ids(alerts: Sequence[Alert]) -> list[str]:
    return [a.id for a in alerts]


def names(numbers: range) -> list[str]:
    return [f"web1:boot:{n}" for n in numbers]


def settled(made: module.Spool) -> Callable[[], bool]:
    return lambda: made.stats().waiting == 0


# -- the way of an alert


def test_alerts_arrive_in_order_and_leave_nothing(tmp_path: Path) -> None:
    sink = MemorySink()
    with spool(tmp_path, sink) as made:
        for n in range(500):
            made.submit(alert(n))
        wait_until(settled(made), "delivery")
    assert ids(sink.alerts) == names(range(500))
    assert sink.closed
    assert [f.name for f in (tmp_path / "spool").iterdir()] == ["cursor"]


@given(
    output=st.text(st.characters(codec=None)) | st.just(HOSTILE),
    fields=st.dictionaries(st.text(max_size=9), st.none() | st.booleans() | st.integers() | st.text(max_size=9)),
    priority=st.sampled_from(Priority),
)
def test_an_alert_is_stored_whole(output: str, fields: dict[str, Any], priority: Priority) -> None:
    one = alert(output=output, fields=fields, priority=priority)
    assert unpack(pack(one)) == one


@given(st.binary() | st.from_regex(rb'\{"id":.*\}'))
def test_what_was_not_stored_is_no_alert(data: bytes) -> None:
    with pytest.raises(ValueError):
        unpack(data)


@given(
    st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=9)), max_size=6),
    st.integers(0, 300),
    st.integers(1, 255),
)
def test_torn_and_damaged_bytes_stop_no_record_beside_them(
    parts: list[tuple[bytes, bytes]], at: int, change: int
) -> None:
    """Whole records are found between any bytes; a changed byte costs the record it is in."""
    records = [Record(n, Priority.ERROR, n * 7, payload) for n, (payload, _) in enumerate(parts)]
    data = b"".join(r.encode() + junk for r, (_, junk) in zip(records, parts, strict=True))
    assert [r for _, r in scan(data, Priority.ERROR)] == records
    if at < len(data):
        damaged = data[:at] + bytes([data[at] ^ change]) + data[at + 1 :]
        found = [r for _, r in scan(damaged, Priority.ERROR)]
        assert set(found) <= set(records) and len(found) >= len(records) - 1
    torn = [r for _, r in scan(data[:at], Priority.ERROR)]
    assert torn == records[: len(torn)]


# -- outages


def test_an_outage_is_waited_for_and_nothing_is_lost(tmp_path: Path) -> None:
    sink = MemorySink(errors=failing(7, retry=True))
    with spool(tmp_path, sink) as made:
        for n in range(50):
            made.submit(alert(n))
        wait_until(settled(made), "delivery")
        assert made.stats().trouble == ""
    assert ids(sink.alerts) == names(range(50))


def test_what_waits_is_delivered_after_a_restart(tmp_path: Path) -> None:
    away = MemorySink(errors=failing(10_000, retry=True))
    made = begin(away, tmp_path / "spool", QUICK, capacity=1000)
    for n in range(300):
        made.submit(alert(n, priority=Priority(n % 5 + 3)))
    wait_until(lambda: made.stats().acknowledged == 300, "the disk")
    assert made.stats().trouble == "the other end is away"
    assert close(made).waiting == 300
    back = MemorySink()
    made = begin(back, tmp_path / "spool", QUICK, capacity=1000)
    made.submit(alert(300))
    wait_until(settled(made), "delivery")
    stats = close(made)
    assert (stats.submitted, stats.delivered) == (301, 301)
    assert ids(back.alerts) == names(range(301))


def test_a_pause_doubles_has_jitter_and_a_bound(tmp_path: Path) -> None:
    asked: list[float] = []

    def jitter() -> float:
        asked.append(time.monotonic())
        return 0.0

    sink = MemorySink(errors=failing(5, retry=True))
    with spool(tmp_path, sink, Limits(retry_max_s=0.1), jitter=jitter) as made:
        made.submit(alert())
        wait_until(settled(made), "delivery")
    assert len(asked) == 5
    assert all(later - earlier >= 0.05 for earlier, later in pairwise(asked)), "half of 0.1 s"


# -- priorities


def test_a_critical_alert_overtakes_what_waits(tmp_path: Path) -> None:
    sink = MemorySink(errors=failing(1, retry=True))
    sink.gate.clear()
    with spool(tmp_path, sink, Limits(retry_max_s=30)) as made:
        for n in range(100):
            made.submit(alert(n, priority=Priority.NOTICE))
        wait_until(lambda: sink.tries == 1, "the first try")
        for n in range(100, 103):
            made.submit(alert(n, priority=Priority.CRITICAL))
        wait_until(lambda: made.stats().acknowledged == 103, "the disk")
        sink.gate.set()
        wait_until(settled(made), "delivery")
    assert ids(sink.alerts) == names(range(100, 103)) + names(range(100))


def test_beyond_its_size_the_lowest_goes_first_and_the_oldest_of_it(tmp_path: Path) -> None:
    sink = MemorySink()
    sink.gate.clear()
    limits = Limits(max_bytes=64 << 10, segment_bytes=4 << 10)
    made = begin(sink, tmp_path / "spool", limits, capacity=1000)
    sent = []
    for n in range(400):
        priority = (Priority.CRITICAL, Priority.WARNING, Priority.DEBUG)[n % 3]
        sent.append(alert(n, priority=priority))
        made.submit(sent[-1])
        if n % 10 == 9:
            wait_until(lambda n=n: made.stats().acknowledged + made.stats().lost > n, "the disk")
    wait_until(lambda: not len(made._queue) and not made._writing, "the disk")
    used = sum(f.stat().st_size for f in (tmp_path / "spool").glob("*.seg"))
    assert used <= 64 << 10
    sink.gate.set()
    wait_until(settled(made), "delivery")
    lost = close(made).reasons["more than the spool holds"]
    got = set(ids(sink.alerts))
    kept = {p: [a.id for a in sent if a.priority is p and a.id in got] for p in Priority}
    assert len(kept[Priority.CRITICAL]) == 134, "all of them"
    assert len(kept[Priority.DEBUG]) < len(kept[Priority.WARNING]) < 134
    for p in (Priority.WARNING, Priority.DEBUG):
        newest = [a.id for a in sent if a.priority is p][-len(kept[p]) :]
        assert len(set(kept[p]) - set(newest)) <= 1, "the oldest went, but for the one in hand"
    assert len(got) + lost == 400


def test_of_two_bounds_in_memory_the_lowest_goes_first(tmp_path: Path) -> None:
    plan = Plan(1, errno.EROFS, until=10**9)
    sink = MemorySink()
    sink.gate.clear()
    made = begin(sink, tmp_path / "spool", QUICK, capacity=10, make_disk=plan.disk)
    for n in range(100):
        made.submit(alert(n, priority=Priority.CRITICAL if n % 20 == 0 else Priority.INFORMATIONAL))
    assert made.stats().lost >= 89
    sink.gate.set()
    wait_until(settled(made), "delivery from memory")
    close(made)
    assert {f"web1:boot:{n}" for n in range(0, 100, 20)} <= set(ids(sink.alerts))


def test_what_is_too_old_goes_by_the_time_in_which_we_ran(tmp_path: Path) -> None:
    """A daemon that stood still, and a wall clock that jumps, throw nothing away: neither is asked."""
    now = [1000.0]
    away = MemorySink(errors=failing(10**6, retry=True))
    limits = Limits(max_age_ms=3_600_000, retry_max_s=0.02)
    made = begin(away, tmp_path / "spool", limits, capacity=100, clock=lambda: now[0] + time.monotonic())
    made.submit(alert(1))
    wait_until(lambda: made.stats().acknowledged == 1, "the disk")
    now[0] += 3000
    made.submit(alert(2))
    wait_until(lambda: made.stats().acknowledged == 2, "the disk")
    assert close(made).waiting == 2
    now[0] = 5.0  # a new boot
    made = begin(away, tmp_path / "spool", limits, capacity=100, clock=lambda: now[0] + time.monotonic())
    wait_until(lambda: made.stats().submitted == 2, "the start")
    time.sleep(0.1)
    assert made.stats().lost == 0
    now[0] += 900
    made.submit(alert(3))
    wait_until(lambda: made.stats().acknowledged == 1, "the disk")
    assert made.stats().lost == 0, "one segment, and the second alert in it is not old"
    now[0] += 3500
    wait_until(lambda: made.stats().lost == 1, "the age")
    stats = close(made)
    assert stats.reasons == {"older than the spool keeps": 1, AT_END: 1}, "one of them was in hand until the end"
    assert stats.waiting == 1


# -- refusals


def test_what_is_refused_goes_to_the_dead_letters_and_holds_up_nothing(tmp_path: Path) -> None:
    sink = MemorySink(errors=failing(1, retry=False))
    with spool(tmp_path, sink) as made:
        made.submit(alert(1, output=HOSTILE))
        made.submit(alert(2))
        wait_until(settled(made), "delivery")
        assert made.stats().dead == 1
    (letter,) = [json.loads(line) for line in (tmp_path / "spool" / DEAD).read_text().splitlines()]
    assert (letter["id"], letter["reason"]) == ("web1:boot:1", "the other end is away")
    assert letter["alert"]["rule"] == "Some rule"
    assert ids(sink.alerts) == ["web1:boot:2"]
    assert (tmp_path / "spool" / DEAD).stat().st_mode & 0o777 == 0o600


def test_a_torn_dead_letter_is_taken_away(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o700)
    (tmp_path / "spool" / DEAD).write_text('{"id": "a"}\n{"id": "b", "reas')
    sink = MemorySink(errors=failing(1, retry=False))
    with spool(tmp_path, sink) as made:
        made.submit(alert(1))
        wait_until(settled(made), "the refusal")
    assert [json.loads(x)["id"] for x in (tmp_path / "spool" / DEAD).read_text().splitlines()] == ["a", "web1:boot:1"]


class BatchSink(MemorySink):
    """Takes several at once, but none with a bad one among them."""

    batch = 16

    def deliver_several(self, alerts: Sequence[Alert]) -> None:
        if any(a.output == "bad" for a in alerts):
            raise DeliveryError("answer 400", retry=False)
        self.alerts += alerts

    def deliver(self, alert: Alert) -> None:
        self.deliver_several([alert])


def test_of_several_only_the_bad_one_is_refused(tmp_path: Path) -> None:
    sink = BatchSink()
    with spool(tmp_path, sink) as made:
        for n in range(100):
            made.submit(alert(n, output="bad" if n in (17, 50) else "good"))
        wait_until(settled(made), "delivery")
        assert made.stats().dead == 2
    assert ids(sink.alerts) == [name for n, name in enumerate(names(range(100))) if n not in (17, 50)]


class LingeringSink(BatchSink):
    """Lets a batch fill."""

    linger_s = 30.0

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def deliver_several(self, alerts: Sequence[Alert]) -> None:
        super().deliver_several(alerts)
        self.batches.append(len(alerts))


def test_a_batch_waits_until_it_is_full_but_never_before_an_express_alert(tmp_path: Path) -> None:
    sink = LingeringSink()
    with spool(tmp_path, sink) as made:
        for n in range(20):
            made.submit(alert(n, priority=Priority.NOTICE))
        wait_until(lambda: len(sink.alerts) == 16, "the full batch")
        made.submit(alert(20, priority=Priority.CRITICAL))
        wait_until(lambda: len(sink.alerts) == 17, "the express alert")
        assert sink.alerts[-1].priority is Priority.CRITICAL
    assert sink.batches == [16, 1, 4]  # the end waits for nothing
    assert len(set(ids(sink.alerts))) == 21


# -- a folder that is not safe


def test_links_strangers_and_a_second_process_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    sink = MemorySink()
    folder.symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="is a symbolic link"):
        begin(sink, folder, QUICK, capacity=1)
    folder.unlink()
    folder.mkdir(mode=0o700)
    (folder / "cursor").symlink_to("/etc/passwd")
    with pytest.raises(ConfigError, match="not a regular file"):
        begin(sink, folder, QUICK, capacity=1)
    (folder / "cursor").unlink()
    folder.chmod(0o777)
    with pytest.raises(ConfigError, match="everybody may write"):
        begin(sink, folder, QUICK, capacity=1)
    folder.chmod(0o755)
    with spool(tmp_path, sink):
        assert folder.stat().st_mode & 0o777 == 0o700
        with pytest.raises(ConfigError, match="another process uses"):
            begin(sink, folder, QUICK, capacity=1)
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
        with pytest.raises(ConfigError, match="belongs to user 65534"):
            begin(sink, folder, QUICK, capacity=1)


def test_a_link_that_comes_later_is_not_followed(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "spool")
    (tmp_path / "spool" / "x").symlink_to("/etc/passwd")
    for call in (disk.open, disk.create):
        with pytest.raises(OSError):
            call("x")
    disk.leave()


# -- the cursor


def test_a_cursor_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "spool")
    CursorFile(disk).save(Account(seq=1))
    cursor = CursorFile(disk)
    cursor.load()
    cursor.save(Account(seq=2))
    data = (tmp_path / "spool" / "cursor").read_bytes()
    for at in range(0, 400, 3):  # any damage to the newer one leaves the older one
        (tmp_path / "spool" / "cursor").write_bytes(data[:at] + b"\xff" + data[at + 1 :])
        found = CursorFile(disk).load()
        assert found is not None and found.seq in (1, 2)
    (tmp_path / "spool" / "cursor").write_bytes(b"")
    assert CursorFile(disk).load() is None
    disk.leave()


def test_without_a_cursor_all_is_delivered_again(tmp_path: Path) -> None:
    away = MemorySink(errors=failing(10_000, retry=True))
    made = begin(away, tmp_path / "spool", QUICK, capacity=1000)
    for n in range(20):
        made.submit(alert(n))
    wait_until(lambda: made.stats().acknowledged == 20, "the disk")
    close(made)
    (tmp_path / "spool" / "cursor").unlink()
    sink = MemorySink()
    with spool(tmp_path, sink) as made:
        wait_until(lambda: made.stats().delivered == 20, "delivery")
    assert ids(sink.alerts) == names(range(20))


def test_damage_costs_what_is_damaged_and_is_counted(tmp_path: Path) -> None:
    away = MemorySink(errors=failing(10_000, retry=True))
    made = begin(away, tmp_path / "spool", Limits(retry_max_s=0.02), capacity=1000)
    for n in range(20):
        made.submit(alert(n))
    wait_until(lambda: made.stats().acknowledged == 20, "the disk")
    close(made)
    (segment,) = (tmp_path / "spool").glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    sink = MemorySink()
    with spool(tmp_path, sink) as made:
        wait_until(lambda: made.stats().submitted == 20 and made.stats().waiting == 0, "delivery")
        assert made.stats().reasons == {"not found on the disk at the start": 1}
    assert len(sink.alerts) == 19 and ids(sink.alerts) == sorted(ids(sink.alerts), key=lambda i: int(i.split(":")[2]))


# -- faults


def run_with_faults(folder: Path, plan: Plan) -> None:
    """A fixed piece of work on a disk that fails by plan, then the same folder on one that does not."""
    acknowledged: list[str] = []
    sink = MemorySink(errors=[*failing(1, retry=True), *failing(2, retry=False)])
    made = begin(
        sink, folder, Limits(max_bytes=1 << 20, segment_bytes=2048, retry_max_s=0.01), capacity=100,
        make_disk=plan.disk, on_commit=lambda alerts: acknowledged.extend(ids(alerts)),
    )  # fmt: skip
    for n in range(12):
        made.submit(alert(n, priority=Priority(n % 3 * 2 + 2)))
        if n % 4 == 3:
            wait_until(
                lambda n=n: made.stats().acknowledged > n or made.stats().trouble != "", "the disk or its refusal"
            )
    sink.gate.clear()  # what follows waits on disk
    for n in range(12, 16):
        made.submit(alert(n))
    wait_until(lambda: made.stats().acknowledged >= 4 or made.stats().trouble != "", "the disk or its refusal")
    made.finish()
    sink.gate.set()
    close(made, 3.0)
    dead = made.stats().dead
    plan.healed()
    rest = MemorySink()
    with spool(folder.parent, rest) as made:
        wait_until(lambda: made._opened and made.stats().waiting == 0, "what was left")
    got = ids(sink.alerts) + ids(rest.alerts)
    letters = []
    if (folder / DEAD).exists():
        letters = [json.loads(line)["id"] for line in (folder / DEAD).read_text().splitlines()]
    missing = set(acknowledged) - set(got) - set(letters)
    assert not missing, (missing, plan.calls)
    assert len(set(letters)) >= dead
    for lane in (True, False):
        order = [
            int(i.split(":")[2])
            for i in dict.fromkeys(got)
            if i not in letters and (int(i.split(":")[2]) % 3 == 0) is lane
        ]
        order = [n for n in order if n < 12]
        assert order == sorted(order), (order, letters, plan.calls)


FAULTS = [
    *((code, lasting) for code in (errno.ENOSPC, errno.EIO, errno.EMFILE) for lasting in (False, True)),
    *((code, False) for code in (errno.EBADMSG, errno.EACCES, errno.EDQUOT)),
    *((code, True) for code in (errno.EUCLEAN, errno.ELOOP, errno.EROFS)),
]


@pytest.mark.parametrize(
    ("code", "lasting"), FAULTS, ids=[f"{errno.errorcode[c]}-{'for a while' if w else 'once'}" for c, w in FAULTS]
)
def test_a_fault_at_every_call(tmp_path: Path, code: int, lasting: bool) -> None:
    """The n-th call to the disk fails, for every n: no acknowledged alert is missing, and the books close."""
    n = 1
    while True:
        folder = tmp_path / str(n) / "spool"
        plan = Plan(n, code, until=n + 3 if lasting else None)
        run_with_faults(folder, plan)
        if not plan.failed:
            break
        n += 1
    assert n > 30, "the work has that many calls"


class BadFile(Disk):
    """A disk on which one kind of file cannot be opened or read any more."""

    code = 0
    prefix = ""

    def _look(self, name: str) -> None:
        if BadFile.code and name.startswith(BadFile.prefix):
            raise OSError(BadFile.code, os.strerror(BadFile.code))

    def open(self, name: str, *, write: bool = True) -> int:
        self._look(name)
        return super().open(name, write=write)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        self._look(Path(f"/proc/self/fd/{fd}").readlink().name)
        return super().read(fd, size, offset)


@pytest.fixture
def bad_file() -> Iterator[type[BadFile]]:
    yield BadFile
    BadFile.code = 0


def waits_on_disk(folder: Path, count: int) -> None:
    away = MemorySink(errors=failing(10_000, retry=True))
    made = begin(away, folder, Limits(retry_max_s=0.02), capacity=1000)
    for n in range(count):
        made.submit(alert(n, priority=Priority(4)))
    wait_until(lambda: made.stats().acknowledged == count, "the disk")
    close(made)


BROKEN = (errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ELOOP)
REFUSED = (errno.EACCES, errno.EPERM, errno.ESTALE, 4095)


@pytest.mark.parametrize("code", [*BROKEN, *REFUSED], ids=lambda code: errno.errorcode.get(code, "unknown"))
def test_a_segment_that_cannot_be_read_blocks_nothing_unseen(
    tmp_path: Path, code: int, bad_file: type[BadFile], caplog: pytest.LogCaptureFixture
) -> None:
    """What is broken is given up and counted, and what lies behind it goes on; what is refused waits, and health says
    so. The log has a line for the change and none for each try."""
    folder = tmp_path / "spool"
    waits_on_disk(folder, 5)
    sink = MemorySink()
    sink.gate.clear()
    made = begin(sink, folder, Limits(retry_max_s=0.02), capacity=100, make_disk=bad_file)
    wait_until(lambda: made._opened, "the start")
    bad_file.prefix, bad_file.code = "p4-", code
    caplog.clear()
    sink.gate.set()
    made.submit(alert(9, priority=Priority(5)))
    if code in BROKEN:
        wait_until(lambda: made.stats().waiting == 0, "what can be read")
        stats = made.stats()
        assert stats.delivered + stats.lost == 6 and stats.lost >= 4  # one may have been in hand
        assert any("damaged" in reason for reason in stats.reasons)
        assert sink.alerts[-1].id == alert(9).id
    else:
        wait_until(lambda: "cannot be read" in made.stats().trouble, "the trouble")
        time.sleep(1.0)
        assert made.stats().lost == 0
        assert made.stats().stuck_s > 0 or made.stats().waiting
        bad_file.code = 0
        wait_until(lambda: made.stats().waiting == 0, "delivery after the repair")
        assert made.stats().delivered == 6
    assert sum("cannot be read" in line for line in caplog.messages) <= 2
    close(made)


@pytest.mark.parametrize("name", ["p4-", "cursor"])
def test_a_file_that_is_broken_at_the_start_is_put_aside(
    tmp_path: Path, name: str, bad_file: type[BadFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spool opens without it: new alerts are on the disk again, and what is missing is counted."""
    monkeypatch.setattr("appliance.sinks.spool._DISK_RETRY_S", (0.01, 0.02))
    folder = tmp_path / "spool"
    waits_on_disk(folder, 5)
    bad_file.prefix, bad_file.code = name, errno.EUCLEAN
    sink = MemorySink()
    made = begin(sink, folder, Limits(retry_max_s=0.02), capacity=100, make_disk=bad_file)
    wait_until(lambda: made._opened, "the start")
    made.submit(alert(7, priority=Priority(5)))
    wait_until(lambda: made.stats().waiting == 0, "delivery")
    stats = made.stats()
    assert [p.name for p in folder.glob("*.bad")]
    if name == "cursor":
        assert (stats.delivered, stats.lost) == (6, 0)
    else:
        assert (stats.delivered, stats.reasons) == (1, {"not found on the disk at the start": 5})
    bad_file.code = 0
    close(made)


def test_a_dead_letter_file_that_is_broken_is_put_aside(tmp_path: Path, bad_file: type[BadFile]) -> None:
    bad_file.prefix, bad_file.code = "dead.jsonl", errno.EBADMSG
    sink = MemorySink(errors=failing(1000, retry=False))
    made = begin(sink, tmp_path / "spool", Limits(retry_max_s=0.02), capacity=100, make_disk=bad_file)
    (tmp_path / "spool" / DEAD).write_text("")
    made.submit(alert(1))
    wait_until(lambda: (tmp_path / "spool" / f"{DEAD}.bad").exists(), "the broken file, renamed")
    bad_file.code = 0
    wait_until(lambda: made.stats().dead == 1, "the dead letter")
    assert made.stats().lost == 0
    close(made)


def test_the_errors_of_the_table_each_have_one_remedy() -> None:
    for code in errno.errorcode:
        assert isinstance(remedy(OSError(code, "")), Remedy)
    assert remedy(OSError("a text")) is Remedy.WAIT


def test_kill_at_any_point(tmp_path: Path) -> None:
    """200 times (1,000 with TERCEL_NIGHTLY) a process is killed at a call to the disk, which tears the record that it
    writes, or at a random moment. Whatever was acknowledged is delivered, in order within its lane."""
    kills = 1000 if os.environ.get("TERCEL_NIGHTLY") else 200
    seed = random.randrange(1 << 30) if os.environ.get("TERCEL_NIGHTLY") else 1
    done = subprocess.run(
        [sys.executable, "-m", "tests.sinks.kill_child", str(tmp_path), str(kills), str(seed)],
        cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (seed, done.stdout, done.stderr)
    assert int(done.stdout) > kills, "lives"
    rest = MemorySink()
    with spool(tmp_path, rest) as made:
        wait_until(lambda: made._opened and made.stats().waiting == 0, "what was left")
        account = made._current()
        assert account.seq - account.base == account.delivered + account.dead + account.dropped
    acknowledged = (tmp_path / "acknowledged").read_text().split()
    got = [*(tmp_path / "delivered").read_text().split(), *ids(rest.alerts)]
    assert len(acknowledged) > kills
    assert not set(acknowledged) - set(got), (seed, "acknowledged and not delivered")
    first = list(dict.fromkeys(got))
    for lane in (True, False):
        order = [int(i.rpartition(":")[2]) for i in first if i.startswith("express") is lane]
        assert order == sorted(order), (seed, order)
        assert order


@contextmanager
def small_disk(folder: Path, *, size: str = "64k") -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.kernel
def test_a_full_disk_holds_up_nothing_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """A real one of 64 KiB. While it is full alerts are delivered from memory; when there is room they go to disk."""
    acknowledged: list[Alert] = []
    sink = MemorySink(errors=failing(10**6, retry=True))
    with small_disk(tmp_path / "disk") as disk:
        made = begin(
            sink, disk / "spool", Limits(segment_bytes=4096, retry_max_s=0.05), capacity=1000,
            on_commit=acknowledged.extend,
        )  # fmt: skip
        for n in range(400):
            made.submit(alert(n))
            if n % 20 == 0:
                time.sleep(0.005)
        wait_until(lambda: "No space left" in made.stats().trouble, "the full disk")
        assert 0 < len(acknowledged) < 400
        assert made.stats().lost == 0, "the rest waits in memory"
        sink.errors.clear()
        wait_until(settled(made), "delivery")
        made.submit(alert(400))
        wait_until(lambda: made.stats().acknowledged > len(acknowledged) - 1 and settled(made)(), "the disk again")
        assert close(made).delivered == 401
    assert ids(sink.alerts) == names(range(401))


@pytest.mark.kernel
def test_a_disk_that_turns_read_only(tmp_path: Path) -> None:
    away, sink = MemorySink(), MemorySink()
    with small_disk(tmp_path / "disk", size="1m") as disk:
        made = begin(away, disk / "spool", QUICK, capacity=1000)
        away.gate.clear()
        made.submit(alert(0))
        wait_until(lambda: made.stats().acknowledged == 1, "the disk")
        assert close(made, 0.1).waiting == 1
        away.gate.set()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        made = begin(sink, disk / "spool", QUICK, capacity=1000)
        for n in range(1, 50):
            made.submit(alert(n))
        wait_until(settled(made), "delivery from memory")
        assert "Read-only file system" in made.stats().trouble
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        made.submit(alert(50))
        wait_until(lambda: made.stats().trouble == "" and settled(made)(), "the disk again", 40)
        assert close(made).delivered == 51
    assert ids(sink.alerts) == names(range(51))


def test_a_hung_sink_holds_up_neither_alerts_nor_the_end(tmp_path: Path) -> None:
    sink = MemorySink()
    sink.gate.clear()
    made = begin(sink, tmp_path / "spool", QUICK, capacity=1000)
    for n in range(100):
        made.submit(alert(n))
    wait_until(lambda: made.stats().acknowledged == 100, "the disk")
    start = time.monotonic()
    assert close(made, 0.2).waiting == 100
    assert time.monotonic() - start < 10
    again = MemorySink()
    with spool(tmp_path, again) as made:
        wait_until(lambda: made.stats().delivered == 100, "delivery")
    sink.gate.set()
    assert ids(again.alerts) == names(range(100))


def test_many_threads_submit(tmp_path: Path) -> None:
    sink = MemorySink()
    with spool(tmp_path, sink) as made:
        threads = [
            threading.Thread(target=lambda k=k: [made.submit(alert(k * 100 + n)) for n in range(100)]) for k in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(settled(made), "delivery")
    assert sorted(ids(sink.alerts)) == sorted(names(range(400)))


class HungDisk(Disk):
    """Does not answer once `hang` is set, until `go` is."""

    hang = threading.Event()
    go = threading.Event()

    def sync(self, fd: int) -> None:
        if self.hang.is_set():
            self.go.wait(60)
        super().sync(fd)


def test_a_disk_that_does_not_answer_holds_up_nothing(tmp_path: Path) -> None:
    """Alerts are taken and delivered from memory, those that hang half-way to the disk, too; none comes twice."""
    HungDisk.hang.clear()
    HungDisk.go.clear()
    sink = MemorySink()
    now = [0.0]
    with spool(tmp_path, sink, make_disk=HungDisk, clock=lambda: now[0] + time.monotonic(), capacity=100) as made:
        made.submit(alert(0))
        wait_until(settled(made), "delivery")
        HungDisk.hang.set()
        for n in range(1, 60):
            made.submit(alert(n))
        wait_until(lambda: bool(made._writing), "the write that hangs")
        now[0] += 6
        wait_until(settled(made), "delivery from memory")
        assert "does not answer" in made.stats().trouble
        for n in range(60, 70):
            made.submit(alert(n))
        wait_until(settled(made), "delivery from memory")
        HungDisk.hang.clear()
        HungDisk.go.set()
        made.submit(alert(70))
        wait_until(lambda: made.stats().trouble == "" and made.count_waiting() == 0, "the disk again")
    assert ids(sink.alerts) == names(range(71))


def test_an_alert_counts_as_acknowledged_when_it_is_synced(tmp_path: Path) -> None:
    plan = Plan()
    seen: list[list[str]] = []
    sink = MemorySink()
    with spool(tmp_path, sink, make_disk=plan.disk, on_commit=lambda _: seen.append(list(plan.calls))) as made:
        for n in range(3):
            made.submit(alert(n))
            wait_until(lambda n=n: made.stats().delivered == n + 1, "delivery")
    assert seen
    for calls in seen:
        writes = [c for c in calls if c in ("write", "sync", "create", "sync_folder")]
        last_write = len(writes) - 1 - writes[::-1].index("write")
        assert "sync" in writes[last_write:], "of the segment"
        assert "sync_folder" in writes, "so that its name is there, too"


def test_a_long_outage(tmp_path: Path) -> None:
    """5,000 alerts (100,000 with TERCEL_NIGHTLY) wait on disk, not in memory, and come in order after a restart."""
    count = 100_000 if os.environ.get("TERCEL_NIGHTLY") else 5000
    away = MemorySink(errors=failing(10**6, retry=True))
    made = begin(away, tmp_path / "spool", Limits(retry_max_s=0.1), capacity=1000)
    for n in range(count):
        made.submit(alert(n))
        if n % 500 == 499:
            wait_until(lambda n=n: made.stats().acknowledged == n + 1, "the disk")
    assert not len(made._queue)
    assert close(made).waiting == count
    back = MemorySink()
    with spool(tmp_path, back, Limits()) as made:
        wait_until(lambda: made.stats().delivered == count, "delivery", 300)
    assert ids(back.alerts) == names(range(count))
