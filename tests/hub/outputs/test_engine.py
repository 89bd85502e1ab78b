"""The delivery engine over a real journal: what happens to alerts when services fail in the ways that services do."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.config.settings import Secret
from appliance.hub.alert import HubAlert
from appliance.hub.journal.sqlite import SqliteJournal
from appliance.hub.outputs.base import Outcome, Verdict
from appliance.hub.outputs.dead import DeadLetters
from appliance.hub.outputs.engine import Engine
from appliance.hub.outputs.retry import CircuitBreaker, backoff_s
from appliance.hub.outputs.shape import shape_of
from appliance.hub.outputs.table import kinds
from appliance.hub.settings import Breaker, Grouping, HubSettings, OutputSettings, RateLimit
from appliance.hub.status import OutputStatus, StatusFile
from appliance.model.alert import Priority
from tests.hub.support import MemoryClient, alert, alerts, kind, output, until

DONE, AGAIN, NEVER = Verdict.DONE, Verdict.AGAIN, Verdict.NEVER


@dataclass
class Running:
    """An engine at work, its journal, and the client of each output."""

    journal: SqliteJournal
    engine: Engine
    clients: dict[str, MemoryClient]
    data_dir: Path

    def status(self, name: str = "out") -> OutputStatus:
        return next(one for one in self.engine.status() if one.name == name)


@contextlib.asynccontextmanager
async def running(
    tmp_path: Path,
    *outputs: OutputSettings,
    clients: dict[str, MemoryClient] | None = None,
    before: Sequence[HubAlert] = (),
    batch: int = 10,
    shutdown_s: float = 5.0,
) -> AsyncIterator[Running]:
    """Start an engine; at the end it drains."""
    made = {one.name: MemoryClient() for one in outputs} | (clients or {})
    journal = SqliteJournal(tmp_path / "journal", writes=True)
    if before:
        journal.append(before)
    settings = HubSettings(data_dir=tmp_path, outputs={one.name: one for one in outputs}, shutdown_s=shutdown_s)
    table = {"memory": kind(batch)}
    engine = Engine(settings, journal, make=lambda one: made[one.name], table=table)
    stop = asyncio.Event()
    task = asyncio.create_task(engine.run(stop))
    try:
        yield Running(journal, engine, made, tmp_path)
    finally:
        stop.set()
        await task
        journal.close()


def ids(found: Sequence[HubAlert]) -> list[str]:
    return [a.id for a in found]


async def test_alerts_arrive_once_in_order_in_batches(tmp_path: Path) -> None:
    given = alerts(95)
    async with running(tmp_path, output(), before=given) as hub:
        client = hub.clients["out"]
        await until(lambda: len(client.got) == 95, "all")
        assert ids(client.got) == ids(given)
        assert max(map(len, client.batches)) == 10
        more = alerts(3)
        hub.journal.append(more)
        await until(lambda: len(client.got) == 98, "the new ones")
        await until(lambda: hub.journal.cursor("out") == 98, "the cursor")
        assert hub.status().lag == 0
        assert sum(hub.status().latency) == hub.status().delivered == 98
    assert client.closed


async def test_a_new_output_begins_now_unless_told_otherwise(tmp_path: Path) -> None:
    async with running(tmp_path, output(start="now"), before=alerts(5)) as hub:
        await until(lambda: hub.journal.cursor("out") == 5, "its place")
        hub.journal.append([alert(id="new")])
        await until(lambda: bool(hub.clients["out"].got), "the new one")
        assert ids(hub.clients["out"].got) == ["new"]


async def test_it_goes_on_where_it_ended(tmp_path: Path) -> None:
    given = alerts(30)
    async with running(tmp_path, output(), before=given[:20]) as hub:
        await until(lambda: len(hub.clients["out"].got) == 20, "the first")
    async with running(tmp_path, output(), before=given[20:]) as hub:
        await until(lambda: len(hub.clients["out"].got) >= 10, "the others")
        assert ids(hub.clients["out"].got) == ids(given[20:])


async def test_failures_are_tried_again_and_nothing_is_lost(tmp_path: Path) -> None:
    errors = iter([ConnectionResetError("reset"), TimeoutError(), RuntimeError("library"), OSError("dns")])

    async def answer(batch: Sequence[HubAlert]) -> Outcome:
        error = next(errors, None)
        if error:
            raise error
        return Outcome((DONE,) * len(batch))

    given = alerts(25)
    breaker = Breaker(failures=0)
    async with running(tmp_path, output(breaker=breaker), clients={"out": MemoryClient(answer)}, before=given) as hub:
        await until(lambda: len(hub.clients["out"].got) == 25, "all")
        assert ids(hub.clients["out"].got) == ids(given)
        status = hub.status()
        assert status.failed == {"connection": 2, "timeout": 1, "error": 1}
        assert status.retried == 40
        assert status.state == "ok"


async def test_only_what_failed_of_a_batch_is_sent_again(tmp_path: Path) -> None:
    tried: Counter[str] = Counter()

    async def answer(batch: Sequence[HubAlert]) -> Outcome:
        tried.update(ids(batch))
        return Outcome(tuple(AGAIN if n % 3 == 0 and tried[a.id] == 1 else DONE for n, a in enumerate(batch)), "busy")

    async with running(tmp_path, output(), clients={"out": MemoryClient(answer)}, before=alerts(10)) as hub:
        await until(lambda: len(hub.clients["out"].got) == 10, "all")
    assert sorted(tried.values()) == [1] * 6 + [2] * 4


async def test_a_refused_alert_is_a_dead_letter_and_the_others_go_on(tmp_path: Path) -> None:
    """The service refuses a whole request for one alert in it: the engine finds out which."""

    async def answer(batch: Sequence[HubAlert]) -> Outcome:
        if any(a.output == "poison" for a in batch):
            return Outcome((NEVER,) * len(batch), "answer 400")
        return Outcome((DONE,) * len(batch))

    given = [alert(output="poison" if n in (3, 17) else "fine") for n in range(20)]
    async with running(tmp_path, output(), clients={"out": MemoryClient(answer)}, before=given) as hub:
        await until(lambda: hub.journal.cursor("out") == 20, "the cursor")
        assert ids(hub.clients["out"].got) == ids([a for a in given if a.output == "fine"])
        assert hub.status().dead == 2
        hub.clients["out"].answer = lambda batch: None
        letters = DeadLetters(tmp_path, "out")
        assert letters.ask_replay() == 2
        await until(lambda: len(hub.clients["out"].got) == 20, "the replay")
        assert sorted(ids(hub.clients["out"].got[-2:])) == sorted([given[3].id, given[17].id])
        assert hub.clients["out"].got[-1] == given[17].__class__(
            **{n: getattr(given[17], n) for n in given[17].__slots__} | {"seq": 18}
        )
        await until(lambda: not letters.replay_file.exists(), "the end of the replay")
        assert letters.ask_replay() == 0


async def test_retries_may_be_bounded(tmp_path: Path) -> None:
    async def answer(batch: Sequence[HubAlert]) -> Outcome:
        raise ConnectionRefusedError("nobody there")

    async with running(
        tmp_path,
        output(retries=2, breaker=Breaker(failures=0)),
        clients={"out": MemoryClient(answer)},
        before=alerts(3),
    ) as hub:
        await until(lambda: hub.status().dead == 3, "dead letters")
        assert hub.status().failed == {"connection": 3}
        assert "3 tries failed" in DeadLetters(tmp_path, "out").file.read_text()


async def test_the_deadline_bounds_a_hung_service(tmp_path: Path) -> None:
    async def answer(batch: Sequence[HubAlert]) -> Outcome:
        await asyncio.Event().wait()
        raise AssertionError

    async with running(
        tmp_path, output(deadline_s=0.1), clients={"out": MemoryClient(answer)}, before=alerts(1), shutdown_s=0.2
    ) as hub:
        await until(lambda: hub.status().failed.get("timeout", 0) >= 2, "time-outs")
        assert hub.journal.cursor("out") == 0


async def test_retry_after_is_honoured(tmp_path: Path) -> None:
    times: list[float] = []

    async def answer(batch: Sequence[HubAlert]) -> Outcome:
        times.append(asyncio.get_running_loop().time())
        return Outcome((DONE if len(times) > 1 else AGAIN,) * len(batch), "429", None if len(times) > 1 else 0.5)

    async with running(tmp_path, output(), clients={"out": MemoryClient(answer)}, before=alerts(1)) as hub:
        await until(lambda: bool(hub.clients["out"].got), "the second try")
    assert times[1] - times[0] >= 0.5


async def test_the_breaker_opens_probes_once_and_closes() -> None:
    breaker = CircuitBreaker(Breaker(failures=2, pause_s=0.05))
    await breaker.ready()
    breaker.failed()
    assert breaker.state == "closed"
    breaker.failed()
    assert breaker.state == "open"
    await breaker.ready()
    assert breaker.state == "probing"
    others = [asyncio.create_task(breaker.ready()) for _ in range(5)]
    await asyncio.sleep(0.02)
    assert not any(task.done() for task in others)
    breaker.succeeded()
    await asyncio.wait_for(asyncio.gather(*others), 5)
    assert breaker.state == "closed"


def test_back_off_is_random_below_a_bound_that_doubles() -> None:
    for tries in range(12):
        found = [backoff_s(tries, 0.5, 60.0) for _ in range(200)]
        bound = min(60.0, 2.0**tries)
        assert all(0 <= one <= bound for one in found)
        assert max(found) > bound / 2 > min(found)


async def test_a_dead_output_does_not_hold_up_the_others(tmp_path: Path) -> None:
    async def hang(batch: Sequence[HubAlert]) -> Outcome:
        await asyncio.Event().wait()
        raise AssertionError

    outputs = [output(f"hung{n}", deadline_s=60.0) for n in range(60)]
    clients = {one.name: MemoryClient(hang) for one in outputs}
    async with running(tmp_path, *outputs, output(), clients=clients, before=alerts(500), shutdown_s=0.1) as hub:
        await until(lambda: len(hub.clients["out"].got) == 500, "the healthy one")
        assert hub.status("hung7").lag == 500


async def test_libraries_that_block_take_no_thread_of_others(tmp_path: Path) -> None:
    """Clients of real libraries, before a server that takes connections and says nothing: boto3 waits 20 s for it, more
    often than the loop has threads. A healthy output goes on meanwhile."""
    pytest.importorskip("boto3")
    options = {"accesskeyid": "x", "secretaccesskey": Secret("y"), "region": "us-east-1"}
    with socket.create_server(("127.0.0.1", 0), backlog=200) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        made = kinds()["awssqs"].options(url=f"{endpoint}/1/q", endpoint=endpoint, **options)
        hung = {f"hung{n}": kinds()["awssqs"].connect(made) for n in range(40)}
        outputs = [output(name, deadline_s=60.0) for name in hung]
        async with running(tmp_path, *outputs, output(), clients=hung, shutdown_s=0.1) as hub:
            hub.journal.append(alerts(1))
            await until(lambda: all(hub.status(name).in_flight == 1 for name in hung), "all hang")
            hub.journal.append(alerts(500)[1:])
            await until(lambda: len(hub.clients["out"].got) == 500, "the healthy one")
            assert all(hub.status(name).in_flight for name in hung)


@pytest.mark.parametrize("how", ["hangs", "fails", "refuses"])
async def test_the_work_of_an_output_is_the_same_beside_dead_ones(tmp_path: Path, how: str) -> None:
    """Counted, not timed: journal reads, requests and commits of a healthy output, alone and beside 20 others."""

    async def dead(batch: Sequence[HubAlert]) -> Outcome:
        if how == "hangs":
            await asyncio.Event().wait()
        if how == "fails":
            raise ConnectionResetError
        return Outcome((NEVER,) * len(batch), "no")

    async def work(folder: Path, others: int) -> tuple[int, int, int]:
        names = [f"dead{n}" for n in range(others)]
        clients = {name: MemoryClient(dead) for name in names}
        outputs = [output(name, deadline_s=60.0) for name in names]
        given = alerts(1000)
        async with running(folder, *outputs, output(), clients=clients, before=given, shutdown_s=0.1) as hub:
            [worker] = [one for one in hub.engine.workers if one.settings.name == "out"]
            calls: Counter[str] = Counter()
            counted = worker._journal
            worker._journal = Counting(counted, calls)  # type: ignore[assignment]
            await until(lambda: len(hub.clients["out"].got) == 1000, "all")
            assert ids(hub.clients["out"].got) == ids(given)
            await until(lambda: counted.cursor("out") == 1000, "the cursor")
        return calls["read"], len(hub.clients["out"].batches), calls["advance"]

    alone = await work(tmp_path / "alone", 0)
    beside = await work(tmp_path / "beside", 20)
    assert beside == alone


class Counting:
    """A journal that counts its calls."""

    def __init__(self, journal: SqliteJournal, calls: Counter[str]) -> None:
        self._journal, self._calls = journal, calls

    def __getattr__(self, name: str) -> object:
        self._calls[name] += 1
        return getattr(self._journal, name)


async def test_alerts_of_a_host_stay_in_order_with_many_requests_at_a_time(tmp_path: Path) -> None:
    busy: set[str] = set()

    async def answer(batch: Sequence[HubAlert]) -> Outcome:
        hosts = {a.hostname for a in batch}
        assert not hosts & busy, "a host in two requests"
        busy.update(hosts)
        await asyncio.sleep(0.001 * (len(batch) % 3))
        busy.difference_update(hosts)
        return Outcome((DONE,) * len(batch))

    given = [alert(hostname=f"h{n * 7 % 13}") for n in range(600)]
    async with running(tmp_path, output(concurrency=8), clients={"out": MemoryClient(answer)}, before=given) as hub:
        await until(lambda: len(hub.clients["out"].got) == 600, "all")
        by_host = defaultdict(list)
        for one in hub.clients["out"].got:
            by_host[one.hostname].append(one.seq)
        assert all(seqs == sorted(seqs) for seqs in by_host.values())


async def test_after_an_outage_new_alerts_do_not_wait_for_the_backlog(tmp_path: Path) -> None:
    """50,000 alerts came while the service was down. When it is back the live ones go beside them: at most a few
    requests of the backlog are between a live alert and its delivery. Each stream keeps its order; nothing comes
    twice, and nothing is missing."""
    up = asyncio.Event()

    async def answer(batch: Sequence[HubAlert]) -> Outcome:
        if not up.is_set():
            raise ConnectionRefusedError
        await asyncio.sleep(0)
        return Outcome((DONE,) * len(batch))

    breaker = Breaker(failures=3, pause_s=0.05)
    one = output(overtake_after_s=0.2, breaker=breaker)
    async with running(tmp_path, one, clients={"out": MemoryClient(answer)}, batch=100, shutdown_s=20) as hub:
        old = [alert(hostname=f"h{n % 9}", received_ns=1) for n in range(50_000)]
        await asyncio.to_thread(lambda: [hub.journal.append(old[n : n + 1000]) for n in range(0, 50_000, 1000)])
        await until(lambda: hub.status().lag >= 50_000, "the backlog")
        up.set()
        await until(lambda: hub.status().backlog > 0, "the second lane")
        client = hub.clients["out"]
        live: list[HubAlert] = []
        waited = []
        for n in range(20):
            mine = alert(hostname=f"h{n % 9}")
            before = len(client.batches)
            live.append(mine)
            hub.journal.append([mine])
            await until(lambda mine=mine: any(mine.id in ids(b) for b in client.batches[-60:]), "a live one")  # type: ignore[misc]
            waited.append(len(client.batches) - before)
        assert hub.status().backlog > 0, "the backlog was gone too early for this test"
        assert sorted(waited)[10] < 50
        await until(lambda: len(client.got) == 50_020, "all", 60)
        got = ids(client.got)
        assert len(set(got)) == 50_020
        new = set(ids(live))
        assert [i for i in got if i in new] == ids(live)
        assert [i for i in got if i not in new] == ids(old)
        await until(lambda: hub.journal.cursor("out") == 50_020, "the cursor")
        assert hub.status().backlog == 0


async def test_the_lanes_outlive_the_process(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal", writes=True)
    journal.append(alerts(100))
    journal.advance("out", 10)
    journal.close()
    status = StatusFile(tmp_path)
    status.put_work("out", [(10, 40), (90, None)], {})
    status.close()
    async with running(tmp_path, output()) as hub:
        await until(lambda: hub.journal.cursor("out") == 100, "the cursor")
        assert sorted(a.seq for a in hub.clients["out"].got) == [*range(11, 41), *range(91, 101)]


async def test_without_overtaking_all_is_in_order(tmp_path: Path) -> None:
    up = asyncio.Event()

    async def answer(batch: Sequence[HubAlert]) -> Outcome:
        if not up.is_set():
            raise ConnectionRefusedError
        return Outcome((DONE,) * len(batch))

    one = output(overtake=False, overtake_after_s=0.0, breaker=Breaker(failures=2, pause_s=0.05))
    given = alerts(2000, received_ns=1)
    async with running(tmp_path, one, clients={"out": MemoryClient(answer)}, before=given) as hub:
        await until(lambda: hub.status().failed.get("connection", 0) > 2, "failures")
        assert hub.status().state in ("open", "failing")
        up.set()
        hub.journal.append(alerts(10))
        await until(lambda: len(hub.clients["out"].got) == 2010, "all")
        assert [a.seq for a in hub.clients["out"].got] == list(range(1, 2011))


async def test_priority_redaction_and_template(tmp_path: Path) -> None:
    one = output(
        minimumpriority=Priority.WARNING,
        redact=("proc.cmd*",),
        template="{{ rule|upper }}: {{ fields['proc.cmdline'] }}",
    )
    given = [
        alert(priority=Priority.NOTICE),
        alert(
            priority=Priority.ERROR,
            rule="r",
            output="ran mysql -psecret now",
            fields={"proc.cmdline": "mysql -psecret", "n": None},
        ),
    ]
    async with running(tmp_path, one, before=given) as hub:
        await until(lambda: hub.journal.cursor("out") == 2, "the cursor")
        (got,) = hub.clients["out"].got
        assert got.output == "R: [redacted]"
        assert got.fields == {"proc.cmdline": "[redacted]", "n": None}
        assert hub.status().passed_over == 1
        assert hub.journal.read(1, 1)[0].output == "ran mysql -psecret now"


def test_redaction_reaches_the_message() -> None:
    shape = shape_of(output(redact=("a", "b")))
    made = shape(alert(output="x ab y abc", fields={"a": "ab", "b": "abc", "c": "ab"}))
    assert made is not None
    assert made.output == "x [redacted] y [redacted]"
    assert made.fields == {"a": "[redacted]", "b": "[redacted]", "c": "ab"}


@pytest.mark.parametrize("text", ["{{ fields.__class__.__mro__ }}", "{{ 1/0 }}", "{{ nothing.at.all }}"])
def test_a_template_that_fails_or_reaches_out_yields_text(text: str) -> None:
    made = shape_of(output(template=text))(alert())
    assert made is not None
    assert made.output in ("", "[template: ZeroDivisionError: division by zero]") or "un" in made.output


def test_a_template_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="template"):
        shape_of(output(template="{{"))


async def test_alike_alerts_go_as_one_and_a_summary(tmp_path: Path) -> None:
    one = output(grouping=Grouping(by=("rule", "hostname"), window_s=0.4))
    given = [alert(hostname="a") for _ in range(50)] + [alert(hostname="b")]
    async with running(tmp_path, one, before=given) as hub:
        client = hub.clients["out"]
        await until(lambda: len(client.got) == 3, "two firsts and a summary")
        assert ids(client.got[:2]) == [given[0].id, given[50].id]
        assert client.got[2].output.startswith("49 more alerts like this within 0.4 s; the last: ")
        assert hub.status().grouped == 49
        hub.journal.append([alert(hostname="a"), alert(hostname="a")])
        await until(lambda: len(client.got) == 4, "a new first")
    assert client.got[-1].output.startswith("1 more alert like")  # when the hub ends, summaries go at once


async def test_what_is_held_back_outlives_a_crash(tmp_path: Path) -> None:
    """Ended without a drain again and again, also between a delivery and its record: each alert is delivered itself or
    counted in one summary, neither twice."""
    hosts = 3
    one = output(grouping=Grouping(by=("hostname",), window_s=0.15), batch=7)
    given = [alert(hostname=f"h{n % hosts}") for n in range(600)]
    journal = SqliteJournal(tmp_path / "journal", writes=True)
    settings = HubSettings(data_dir=tmp_path, outputs={one.name: one})
    got: dict[str, str] = {}
    draw = random.Random(4)

    async def take(batch: Sequence[HubAlert]) -> Outcome:
        await asyncio.sleep(draw.random() * 0.01)
        got.update({a.id: a.output for a in batch})  # an idempotent receiver
        await asyncio.sleep(draw.random() * 0.03)
        return Outcome((DONE,) * len(batch))

    def counted() -> int:
        summaries = [int(text.split()[0]) for id_, text in got.items() if id_.endswith(":summary")]
        return sum(summaries) + sum(not id_.endswith(":summary") for id_ in got)

    for at in range(0, 625, 25):
        if at < 600:
            journal.append(given[at : at + 25])
        engine = Engine(settings, journal, make=lambda one: MemoryClient(take), table={"memory": kind(7)})
        task = asyncio.create_task(engine.run(asyncio.Event()))
        await asyncio.sleep(draw.random() * 0.6)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.02)  # a thread of it may still write
    engine = Engine(settings, journal, make=lambda one: MemoryClient(take), table={"memory": kind(7)})
    task = asyncio.create_task(engine.run(stop := asyncio.Event()))
    await until(lambda: counted() >= 600, "all")
    stop.set()
    await task
    journal.close()
    assert counted() == 600
    assert sum(id_.endswith(":summary") for id_ in got) >= hosts
    assert len(got) < 300, "most were held back"


async def test_the_rate_is_kept(tmp_path: Path) -> None:
    one = output(rate_limit=RateLimit(per_s=100, burst=10), batch=1)
    began = asyncio.get_running_loop().time()
    async with running(tmp_path, one, before=alerts(40)) as hub:
        await until(lambda: len(hub.clients["out"].got) == 40, "all")
    assert asyncio.get_running_loop().time() - began >= 0.29


async def test_the_end_waits_for_what_can_be_delivered(tmp_path: Path) -> None:
    async def slow(batch: Sequence[HubAlert]) -> Outcome:
        await asyncio.sleep(0.01)
        return Outcome((DONE,) * len(batch))

    async with running(tmp_path, output(), clients={"out": MemoryClient(slow)}, before=alerts(200)) as hub:
        await until(lambda: bool(hub.clients["out"].got), "the first")
    assert len(hub.clients["out"].got) == 200


async def test_what_is_missing_turns_one_output_off(tmp_path: Path) -> None:
    def missing(one: OutputSettings) -> MemoryClient:
        if one.name == "bad":
            raise ModuleNotFoundError("No module named 'confluent_kafka'", name="confluent_kafka")
        return client

    client = MemoryClient()
    journal = SqliteJournal(tmp_path / "journal", writes=True)
    journal.append(alerts(5))
    settings = HubSettings(data_dir=tmp_path, outputs={"bad": output("bad"), "out": output()}, shutdown_s=1)
    engine = Engine(settings, journal, make=missing, table={"memory": kind()})
    stop = asyncio.Event()
    task = asyncio.create_task(engine.run(stop))
    await until(lambda: len(client.got) == 5, "the other one")
    bad = next(one for one in engine.status() if one.name == "bad")
    assert (bad.state, bad.trouble) == ("off", "confluent_kafka is not installed: pip install 'tercel[hub]'")
    stop.set()
    await task
    stored = StatusFile(tmp_path)
    assert {one.name: one.state for one in stored.outputs()} == {"bad": "off", "out": "ok"}
    stored.close()
    journal.close()


async def test_a_cursor_of_an_output_that_is_gone_is_dropped(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal", writes=True)
    journal.advance("old", 3)
    journal.advance("@page", 4)
    journal.close()
    async with running(tmp_path, output()) as hub:
        await until(lambda: "out" in hub.journal.cursors(), "its cursor")
        assert set(hub.journal.cursors()) == {"out", "@page"}
