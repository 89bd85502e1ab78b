"""What a healthy output notices of dead ones, and new alerts of a backlog.

    python bench/hub_isolation.py [--seconds 6] [--rounds 3] [--rate 500] [--dead 20] [--backlog 60000]

The same hub by turns with one healthy output and with dead ones beside it (half hang, half refuse connections): the
time from the POST to the receiver, as the ratio of both 99th percentiles of one run. Then an outage: a backlog is
filled, the service comes back, and live alerts are sent meanwhile: back-fill in alerts/s and each live alert's wait.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.hub_ingest import hung  # noqa: E402
from tests.hub.running import Hub, running, until  # noqa: E402
from tests.hub.test_hub import Receiver, config, output, post, receiving  # noqa: E402
from tests.support.receivers import free_port  # noqa: E402

PAUSE_S = 0.02


class Timed(Receiver):
    """Knows when each alert came."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        super().__init__()

    def take(self, body: bytes) -> int:
        """See `Receiver`."""
        status = super().take(body)
        now = time.monotonic()
        for id_ in list(self.ids)[len(self.at) :]:
            self.at[id_] = now
        return status


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--dead", type=int, default=20)
    parser.add_argument("--backlog", type=int, default=60_000)
    args = parser.parse_args()
    waits: dict[int, list[float]] = {0: [], args.dead: []}
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:  # a disk, not memory
        folder = Path(name)
        for round_ in range(args.rounds):
            for dead in waits:
                waits[dead] += latencies(folder / f"{round_}-{dead}", dead, args)
        for dead, found in waits.items():
            found.sort()
            p50, p99 = (found[int(share * len(found))] * 1000 for share in (0.5, 0.99))
            print(f"beside {dead:2} dead outputs: p50 {p50:.0f} ms, p99 {p99:.0f} ms, {len(found)} alerts")
        tails = [found[int(0.99 * len(found))] for found in waits.values()]
        print(f"ratio of the 99th percentiles: {tails[1] / tails[0]:.2f}")
        outage(folder / "outage", args.backlog)


def latencies(folder: Path, dead: int, args: argparse.Namespace) -> list[float]:
    """Seconds from POST to the healthy receiver, for each alert."""
    with contextlib.ExitStack() as stack, receiving(Timed()) as receiver:
        hangs = [stack.enter_context(hung()) for _ in range(dead // 2)]
        ports = [one.getsockname()[1] for one in hangs] + [free_port() for _ in range(dead - len(hangs))]
        urls = {f"dead{n}": f"http://127.0.0.1:{port}/" for n, port in enumerate(ports)}
        outputs = ", ".join(
            f"{name}: {{type: webhook, url: '{url}', format: ndjson, start: oldest}}"
            for name, url in {"out": receiver.url, **urls}.items()
        )
        with running(folder, f"collector: {{port: 0}}\noutputs: {{{outputs}}}\nshutdown_s: 0.2") as hub:
            return steady(hub, receiver, args.rate, args.seconds)


def steady(hub: Hub, receiver: Receiver, rate: int, seconds: float) -> list[float]:
    """Post at a steady rate after three seconds of warming up."""
    assert isinstance(receiver, Timed)
    sent: dict[str, float] = {}
    few = max(1, int(rate * PAUSE_S))
    client = httpx.Client()
    begun = time.monotonic()
    for n in range(0, int(rate * (seconds + 3)), few):
        time.sleep(max(0.0, begun + n / rate - time.monotonic()))
        now = time.monotonic()
        post(hub, range(n, n + few), client)
        sent |= {f"h{k % 7}:{k}": now for k in range(n, n + few)}
    until(lambda: len(receiver.at) >= len(sent), "all")
    return [receiver.at[id_] - at for id_, at in sent.items() if at - begun > 3]


def outage(folder: Path, count: int) -> None:
    """A backlog and live alerts beside it."""
    with receiving(Timed()) as receiver, running(folder, config(out=receiver.url)) as hub:
        assert isinstance(receiver, Timed)
        receiver.status = 503
        for at in range(0, count, 2000):
            post(hub, range(at, at + 2000))
        until(lambda: output(hub).get("lag") == count, "the backlog")
        time.sleep(5.1)  # so old that it is a backlog
        receiver.status = 200
        until(lambda: receiver.got > 0, "the first after the outage")
        begun = time.monotonic()
        waits = []
        client = httpx.Client()
        n = count
        while len(receiver.ids) < n:
            now = time.monotonic()
            post(hub, range(n, n + 1), client)
            until(lambda n=n: f"h{n % 7}:{n}" in receiver.at, "a live alert", 60)  # type: ignore[misc]
            waits.append(receiver.at[f"h{n % 7}:{n}"] - now)
            n += 1
        rate = count / (time.monotonic() - begun)
    print(f"back-fill of {count}: {rate:,.0f} alerts/s")
    print(f"live alerts meanwhile: {len(waits)}, the slowest waited {max(waits):.2f} s")


if __name__ == "__main__":
    main()
