"""What every engine behind `store.base.Store` must do. Another engine joins `ENGINES`."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.hub.alert import HubAlert
from appliance.hub.query.predicate import predicate
from appliance.hub.query.tree import read_filter
from appliance.hub.store import cells, segment
from appliance.hub.store.base import EVER, Span, Store
from appliance.hub.store.sqlite import SqliteStore
from appliance.model.alert import Priority
from appliance.model.expr import TRUE
from tests.hub.alerts import DAY_NS, START_NS, alerts, hub_alert, searches

HOUR = DAY_NS // 24
ENGINES: dict[str, Callable[[Path], Store]] = {"sqlite": lambda folder: SqliteStore(folder / "index", segment_rows=40)}


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = ENGINES[request.param](tmp_path)
    yield made
    made.close()


def many(n: int, seed: int = 7) -> list[HubAlert]:
    """Alerts of two days out of order, some at the very same time."""
    rng = random.Random(seed)
    made = []
    for seq in range(1, n + 1):
        process = rng.choice(["cat", "sshd", "cron"])
        made.append(
            hub_alert(
                seq,
                ts_ns=START_NS + rng.choice([rng.randrange(2 * DAY_NS), HOUR, HOUR + 1]),
                hostname=rng.choice(["web1", "web2", "db1", ""]),
                rule=rng.choice(["Rule A", "Rule B"]),
                priority=rng.choice(list(Priority)),
                tags=rng.sample(["container", "network", "host"], rng.randrange(3)),
                fields={"proc.name": process, "proc.pid": rng.randrange(9), "user.name": None, "fd.name": "/etc/x y"},
            )
        )
    return made


def ids(found: Sequence[HubAlert]) -> list[str]:
    return [alert.id for alert in found]


def pages(store: Store, text: str, span: Span = EVER, *, limit: int = 7, newest_first: bool = True) -> list[HubAlert]:
    found: list[HubAlert] = []
    cursor = ""
    while True:
        page = store.search(read_filter(text), span, limit=limit, cursor=cursor, newest_first=newest_first)
        found += page.alerts
        cursor = page.cursor
        if not cursor:
            return found


def test_an_empty_store_answers(store: Store) -> None:
    assert store.watermark() == 0
    assert store.search(TRUE, EVER).alerts == []
    assert store.count(TRUE, EVER) == 0
    assert store.top(TRUE, EVER, "rule") == []
    assert store.groups(TRUE, EVER).groups == []
    assert sum(map(sum, store.histogram(TRUE, EVER).counts)) == 0
    assert store.get("x") is None
    assert store.health().alerts == 0
    assert store.drop_before(START_NS) == 0


def test_what_went_in_comes_out(store: Store) -> None:
    alert = hub_alert(
        3, output="Ünï \x00 \x1b[31m <script>alert(1)</script>\n", fields={"a": ["x", 1, None], "b": {"c": 1.5}}
    )
    assert store.append([alert]) == 1
    assert store.get(alert.id) == alert
    assert store.search(TRUE, EVER).alerts == [alert]
    assert store.watermark() == 3


def test_a_batch_sent_again_adds_nothing(store: Store) -> None:
    batch = many(100)
    assert store.append(batch[:60]) == 60
    assert store.append(batch[30:]) == 40
    assert store.append(batch) == 0
    assert store.count(TRUE, EVER) == 100
    assert len(set(ids(pages(store, "")))) == 100


def test_pages_are_in_order_and_whole(store: Store) -> None:
    batch = many(150)
    store.append(batch)
    newest = pages(store, "")
    times = [a.ts_ns // 1_000_000 for a in newest]
    assert times == sorted(times, reverse=True)
    assert sorted(ids(newest)) == sorted(ids(batch))
    oldest = pages(store, "", newest_first=False)
    assert ids(oldest) == ids(newest)[::-1]
    assert ids(list(store.scan(TRUE, EVER))) == ids(newest)
    assert ids(list(store.scan(TRUE, EVER, newest_first=False))) == ids(oldest)
    with pytest.raises(ValueError, match="cursor"):
        store.search(TRUE, EVER, cursor="'; DROP TABLE rows")


def test_ranges_are_half_open(store: Store) -> None:
    store.append([hub_alert(n + 1, ts_ns=START_NS + n) for n in range(5)])
    assert store.count(TRUE, Span(START_NS + 1, START_NS + 4)) == 3
    assert store.count(read_filter(f"time > {START_NS + 1} and time <= {START_NS + 4}"), EVER) == 3
    assert store.count(TRUE, Span(START_NS + 4, START_NS + 1)) == 0


TEXTS = (
    "", "cat", "proc.pid > 4", "hostname = web1 -cron", "priority >= error", "tags = network",
    "rule = 'Rule A' and priority <= error", "proc.name in (cat, sshd) and hostname != web1", "not tags = network",
    "proc.name exists and not hostname exists", "tags = host and tags = container", "rule = 'Rule C'",
    "hostname startswith web or rule = 'Rule B'",
)  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_figures_are_those_of_the_alerts(store: Store, text: str) -> None:
    batch = many(150)
    store.append(batch)
    check_figures(store, batch, text)


@pytest.mark.parametrize("text", TEXTS[4::2])
def test_figures_are_those_of_the_alerts_that_are_left(store: Store, text: str) -> None:
    batch = many(150)
    store.append(batch)
    gone = predicate(read_filter("proc.pid > 5 or proc.name = cron and hostname = web2"))
    store.remove(read_filter("proc.pid > 5 or proc.name = cron and hostname = web2"), EVER)
    left = [a for a in batch if not gone(a)]
    store.patch(left[3].id, {"proc.name": "sshd"})
    left[3] = replace(left[3], fields={**left[3].fields, "proc.name": "sshd"})
    check_figures(store, left, text)


@pytest.mark.parametrize("text", TEXTS[3::4])
def test_files_without_cells_answer_alike(tmp_path: Path, text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "SCHEMA", "")
        patch.setattr(segment, "_SCHEMA", segment._SCHEMA.partition("CREATE TABLE kinds")[0])
        store = SqliteStore(tmp_path, segment_rows=40)
        batch = many(150)
        store.append(batch[:110])
    store.append(batch[110:])  # to the old file, then to new ones
    check_figures(store, batch, text)
    store.close()


def test_figures_of_kinds_look_at_no_alert(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kind or a host tells is counted from cells where the range is whole hours: the index answers nothing."""
    store.append(many(150))
    hours = Span(START_NS // HOUR * HOUR, START_NS // HOUR * HOUR + 60 * HOUR)
    tree = read_filter("priority >= warning and hostname = web1")
    monkeypatch.setattr(SqliteStore, "_asked_of", None)
    assert store.count(tree, hours) > 0
    assert sum(map(sum, store.histogram(tree, hours).counts)) == store.count(tree, hours)
    assert sum(n for _, n in store.top(tree, hours, "proc.name")) == store.count(tree, hours)
    assert store.groups(tree, hours, details=False).alerts == store.count(tree, hours)
    with pytest.raises(TypeError):
        store.count(read_filter("cat"), hours)


def check_figures(store: Store, batch: Sequence[HubAlert], text: str) -> None:
    """All figures of a search, by a count of the alerts."""
    tree = read_filter(text)
    span = Span(START_NS + HOUR, START_NS + DAY_NS + HOUR // 3 + 17_000)
    judge = predicate(tree)
    held = [a for a in batch if judge(a) and span.from_ns <= a.ts_ns < span.to_ns]
    assert store.count(tree, span) == len(held)
    assert dict(store.top(tree, span, "rule")) == Counter(a.rule for a in held)
    assert dict(store.top(tree, span, "hostname")) == Counter(a.hostname or None for a in held)
    assert dict(store.top(tree, span, "priority")) == Counter(a.priority.label for a in held)
    assert dict(store.top(tree, span, "tags")) == Counter(itertools.chain.from_iterable(a.tags or [None] for a in held))
    for bins in (7, 60, 5000):
        histogram = store.histogram(tree, span, bins)
        wanted = Counter((int((a.ts_ns - histogram.from_ns) // histogram.step_ns), int(a.priority)) for a in held)
        counted = {(b, p): n for b, row in enumerate(histogram.counts) for p, n in enumerate(row) if n}
        assert counted == wanted
    groups = store.groups(tree, span, ("rule", "hostname"), order="count")
    assert {(g.keys["rule"], g.keys["hostname"]): g.count for g in groups.groups} == Counter(
        (a.rule, a.hostname or None) for a in held
    )
    assert (groups.alerts, groups.total) == (len(held), len(groups.groups))
    for group in groups.groups:
        mine = [a for a in held if (a.rule, a.hostname or None) == (group.keys["rule"], group.keys["hostname"])]
        assert group.priority == min(a.priority for a in mine)
        assert group.first_ns == min(a.ts_ns // 1_000_000 * 1_000_000 for a in mine)
        assert group.last_ns == max(a.ts_ns // 1_000_000 * 1_000_000 for a in mine)
        assert sum(group.spark) == group.count


@given(st.lists(alerts(), min_size=1, max_size=30), st.lists(searches(), min_size=1, max_size=8))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_the_index_answers_as_the_predicate(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[HubAlert], texts: list[str]
) -> None:
    batch = [replace(alert, seq=n + 1, id=f"id-{n + 1}") for n, alert in enumerate(drawn)]
    for engine in ENGINES.values():
        made = engine(tmp_path_factory.mktemp("store"))
        made.append(batch)
        for text in texts:
            tree = read_filter(text)
            judge = predicate(tree)
            assert sorted(ids(pages(made, text))) == sorted(a.id for a in batch if judge(a)), text
            assert made.count(tree, EVER) == sum(map(judge, batch)), text
        made.close()


def test_patch_changes_one_alert(store: Store) -> None:
    store.append(many(50))
    assert store.patch("web1:boot:999", {}) is False
    target = store.search(TRUE, EVER, limit=1).alerts[0]
    assert store.patch(target.id, {"proc.name": "[redacted]"})
    found = store.get(target.id)
    assert found is not None
    assert found.fields["proc.name"] == "[redacted]"
    assert ids(store.search(read_filter("proc.name = '[redacted]'"), EVER).alerts) == [target.id]
    assert store.count(TRUE, EVER) == 50
    assert store.append(many(50)) == 0


def test_remove_forgets_a_host(store: Store) -> None:
    batch = many(150)
    store.append(batch)
    gone = [a for a in batch if a.hostname == "web1"]
    tree = read_filter("hostname = web1")
    assert store.remove(tree, EVER) == len(gone)
    assert store.count(tree, EVER) == 0
    assert store.count(TRUE, EVER) == len(batch) - len(gone)
    assert "web1" not in dict(store.top(TRUE, EVER, "hostname"))
    assert all(store.get(a.id) is None for a in gone)
    assert sum(map(sum, store.histogram(TRUE, EVER).counts)) == len(batch) - len(gone)


def test_drop_before_keeps_what_is_not_older(store: Store) -> None:
    batch = [hub_alert(n + 1, ts_ns=START_NS + n * 1_000_000) for n in range(130)]
    store.append(batch)
    limit = START_NS + 100 * 1_000_000
    dropped = store.drop_before(limit)
    left = pages(store, "")
    assert dropped > 0
    assert len(left) == 130 - dropped
    assert [a for a in batch if a.ts_ns >= limit] == [a for a in reversed(left) if a.ts_ns >= limit]
    assert store.append(batch) == 0


def test_it_opens_again_where_it_was(tmp_path: Path) -> None:
    for engine in ENGINES.values():
        batch = many(100)
        first = engine(tmp_path)
        first.append(batch[:70])
        first.close()
        second = engine(tmp_path)
        assert second.watermark() == 70
        assert second.append(batch) == 30
        assert sorted(ids(pages(second, ""))) == sorted(ids(batch))
        second.close()


def test_readers_see_what_another_connection_appends(tmp_path: Path) -> None:
    for engine in ENGINES.values():
        writer, reader = engine(tmp_path), engine(tmp_path)
        batch = many(120)
        for start in range(0, 120, 30):
            writer.append(batch[start : start + 30])
            assert reader.count(TRUE, EVER) == start + 30
            assert len(pages(reader, "")) == start + 30
        writer.close()
        reader.close()
