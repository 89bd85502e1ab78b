"""How fast alerts become searchable, and how fast searches answer.

    bench/hub_search.py [--alerts 500000] [--hosts 300] [--days 30] [--folder DIR] [--queries 200]

Makes the same alerts each time, appends them in batches as the indexer does, then asks mixes of host, rule, priority,
tag, text and NOT for the newest 50, and counts, histograms and facets over the whole range. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from appliance.hub.alert import HubAlert
from appliance.hub.demo import DAY_NS, fleet_alerts, host_names
from appliance.hub.query.tree import read_filter
from appliance.hub.store.base import Span
from appliance.hub.store.sqlite import SqliteStore
from appliance.hub.web.export import as_csv, ndjson
from appliance.model.expr import TRUE

START_NS = 1_790_000_000 * 1_000_000_000
BATCH = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alerts", type=int, default=500_000)
    parser.add_argument("--hosts", type=int, default=300)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        print(json.dumps(measure(args, args.folder or Path(made)), indent=1))


def measure(args: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Append, search, and say how long it took."""
    span = Span(START_NS, START_NS + args.days * DAY_NS)
    store = SqliteStore(folder)
    rates: list[float] = []
    if store.watermark() < args.alerts:
        made = fleet_alerts(args.alerts, start_ns=START_NS, span_ns=span.length_ns, hosts=args.hosts)
        rates = load(store, made, args.alerts)
    size = sum(f.stat().st_size for f in folder.glob("segment-*"))
    store.close()
    begun = time.perf_counter()
    store = SqliteStore(folder)
    store.search(TRUE, span)
    opened_ms = (time.perf_counter() - begun) * 1000
    return {
        "alerts": args.alerts,
        "appended_per_s": round(statistics.mean(rates)) if rates else None,
        "last_tenth_to_first": round(
            statistics.mean(rates[-len(rates) // 10 :]) / statistics.mean(rates[: len(rates) // 10 + 1]), 2
        )
        if rates
        else None,
        "mb_per_million": round(size / args.alerts),
        "opened_ms": round(opened_ms, 1),
        "newest_50_ms": figures(newest(store, span, args)),
        "count_ms": times(3, lambda: store.count(read_filter("proc.name = flux"), span)),
        "count_text_ms": times(3, lambda: store.count(read_filter("connection"), span)),
        "histogram_ms": times(3, lambda: store.histogram(TRUE, span)),
        "histogram_host_ms": times(3, lambda: store.histogram(read_filter("hostname = web-01"), span)),
        "facet_rule_ms": times(3, lambda: store.top(TRUE, span, "rule")),
        "facet_host_ms": times(3, lambda: store.top(TRUE, span, "hostname")),
        "groups_last_day_ms": times(3, lambda: store.groups(TRUE, Span(span.to_ns - DAY_NS, span.to_ns))),
        "export_rows_per_s": {make.__name__: exported(store, span, make) for make in (ndjson, as_csv)},
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def load(store: SqliteStore, made: object, total: int) -> list[float]:
    """Appended alerts per second, batch by batch; making the alerts is not counted."""
    rates = []
    done = 0
    while done < total:
        batch = list(islice(made, BATCH))  # type: ignore[call-overload]
        begun = time.process_time()
        store.append(batch)
        rates.append(len(batch) / (time.process_time() - begun))
        done += len(batch)
    return rates


def newest(store: SqliteStore, span: Span, args: argparse.Namespace) -> list[float]:
    """Milliseconds of each of some searches."""
    rng = random.Random(3)
    hosts = host_names(args.hosts)
    parts: list[Callable[[], str]] = [
        lambda: f"hostname = {rng.choice(hosts)}",
        lambda: f'rule = "{rng.choice(["Write below etc", "Clear log activities", "Terminal shell in container"])}"',
        lambda: "priority >= error",
        lambda: "tags = T1059",
        lambda: rng.choice(["shadow", "python3", "chef", "zebra", '"log files"']),
        lambda: "-flux",
        lambda: 'not rule = "Contact K8S API Server From Container"',
    ]
    spent = []
    for _ in range(args.queries):
        text = " ".join(part() for part in rng.sample(parts, rng.randrange(1, 4)))
        begun = time.perf_counter()
        store.search(read_filter(text), span, limit=50)
        spent.append((time.perf_counter() - begun) * 1000)
    return spent


def exported(store: SqliteStore, span: Span, make: Callable[[Iterator[HubAlert]], Iterator[bytes]]) -> int:
    """Rows by second of processor time."""
    begun = time.process_time()
    count = 100_000
    rows = islice(store.scan(TRUE, span, newest_first=False), count)
    lines = sum(block.count(b"\n") for block in make(rows))
    return round(lines / (time.process_time() - begun))


def figures(spent: list[float]) -> dict[str, float]:
    """Median, 99th percentile, worst."""
    ordered = sorted(spent)
    at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2) for name, share in at.items()}


def times(n: int, call: Callable[[], object]) -> list[float]:
    """Milliseconds of each of n calls."""
    spent = []
    for _ in range(n):
        begun = time.perf_counter()
        call()
        spent.append(round((time.perf_counter() - begun) * 1000, 1))
    return spent


if __name__ == "__main__":
    main()
