#!/usr/bin/env python3
"""How long after a system call its alert is in a file, and on the disk: 1,000 alerts a second, median and 99th.

Three runs of the same load (a process that opens a file, RATE times a second), one after the other:

- floor: the records are read as the appliance reads them and nothing is done with them, an empty callback;
- file: the appliance, alerts appended to a file with `file_output.sync`, each on the disk when it counts;
- spool: the appliance, alerts acknowledged by the spool before an HTTP receiver that answers at once.

The time is from the kernel's own stamp at the end of the call to the moment after fdatasync has returned. Prints the
floor first and the others beside it. Needs root and a C compiler.

usage: bench/latency.py [--seconds N] [--rate N]
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from appliance.config.settings import Config, HttpOutput  # noqa: E402
from appliance.daemon.assemble import arm  # noqa: E402
from appliance.daemon.generation import build_generation  # noqa: E402
from appliance.daemon.identity import hostname, id_maker, internal_alerts  # noqa: E402
from appliance.kernel.program import Buffers  # noqa: E402
from appliance.model.alert import Alert  # noqa: E402
from appliance.model.event import EventType  # noqa: E402
from appliance.model.wire import Format  # noqa: E402
from appliance.sinks.base import Sink  # noqa: E402
from appliance.sinks.dispatch import Dispatcher  # noqa: E402
from appliance.sinks.file import FileSink  # noqa: E402
from appliance.sinks.http import HttpSink  # noqa: E402
from appliance.sinks.spool import Limits, Spool  # noqa: E402
from appliance.sources.syscall import SyscallSource  # noqa: E402

NAME = f"load{os.getpid()}"  # nobody else's on this machine
RULE = """
- rule: bench
  desc: an alert for each call of the load
  condition: evt.type in (open, openat) and proc.name = NAME and fd.name = /etc/hostname
  output: opened %fd.name (%proc.cmdline)
  priority: WARNING
"""


class TimedFile(FileSink):
    """Notes when each alert's line was on the disk."""

    def __init__(self, *args: object, note: Callable[[Sequence[Alert]], None], **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self._note = note

    def deliver_several(self, alerts: Sequence[Alert]) -> None:
        super().deliver_several(alerts)
        self._note(alerts)


class Load:
    """The process that makes the calls; `samples` are the latencies in seconds."""

    def __init__(self, folder: Path, seconds: int, rate: int) -> None:
        self._argv = [str(folder / NAME), "open", str(seconds * rate), str(seconds + 5), str(rate)]
        self.samples: list[float] = []

    def run(self) -> int:
        """Run it; its pid."""
        child = subprocess.Popen(self._argv, stdout=subprocess.DEVNULL)
        child.wait()
        return child.pid

    def note(self, alerts: Sequence[Alert]) -> None:
        """These are durable now."""
        now = time.time_ns()
        self.samples += [(now - alert.ts_ns) / 1e9 for alert in alerts if alert.rule == "bench"]


def floor(load: Load) -> list[float]:
    """Latencies of an empty callback."""
    source = SyscallSource(Buffers(32 << 20), {EventType.OPEN, EventType.OPENAT})
    done = threading.Event()
    stamps: list[tuple[int, int, int]] = []
    pids: list[int] = []

    def work() -> None:
        pids.append(load.run())
        time.sleep(0.2)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not done.is_set():
        batch = source.read(2048)
        now = time.monotonic_ns()
        stamps += [(raw.pid, raw.ts_ns, now) for raw in batch if raw.type is EventType.OPENAT]
        if not batch:
            source.wait()
    source.stop(lambda _: None)
    source.close()
    thread.join()
    return [(seen - made) / 1e9 for pid, made, seen in stamps if pid == pids[0]]


def whole(load: Load, folder: Path, sink: Sink, *, spool: bool) -> list[float]:
    """Latencies of the appliance with one sink."""
    rules = folder / "rules.yaml"
    rules.write_text(RULE.replace("NAME", NAME))
    config = replace(Config(), rules_files=(rules,))
    host = hostname()
    new_id = id_maker(host)
    generation = build_generation(config, hostname=host, new_id=new_id)

    def before(sink: Sink, after: Callable[[], None] | None) -> Spool:
        return Spool(sink, folder / "spool", Limits(), capacity=100_000, after=after, on_commit=load.note)

    dispatcher = Dispatcher(
        [sink], capacity=100_000, spool=before if spool else None, make_alert=internal_alerts(host, new_id)
    )
    appliance = arm(generation, dispatcher, io.StringIO(), hostname=host, new_id=new_id)

    def work() -> None:
        load.run()
        time.sleep(0.5)
        appliance.stop()

    thread = threading.Thread(target=work)
    thread.start()
    summary = appliance.run()
    thread.join()
    (stats,) = dispatcher.close(timeout_s=30)
    if summary.difference or stats.submitted != stats.delivered + stats.lost + stats.dead + stats.waiting:
        raise SystemExit(f"the books do not close: {summary.difference}, {stats}")
    return load.samples


@contextmanager
def receiver() -> Iterator[str]:
    """The address of an HTTP receiver in a process of its own: the other end is another machine's."""
    script = "from tests.support.receivers import http_receiver as h\nwith h() as r: print(r.url, flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.communicate("\n")


def quantile(samples: Sequence[float], q: float) -> float:
    return sorted(samples)[min(len(samples) - 1, int(q * len(samples)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=20, help="length of each run (default 20)")
    parser.add_argument("--rate", type=int, default=1000, help="calls a second (default 1000)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(["cc", "-O2", "-o", folder / NAME, ROOT / "bench/workload.c"], check=True)

        def load() -> Load:
            return Load(folder, args.seconds, args.rate)

        runs = {"floor": floor(load())}
        one = load()
        options = {"keep_alive": True, "sync": True, "note": one.note}
        runs["file"] = whole(one, folder, TimedFile(folder / "alerts", Format(), **options), spool=False)
        with receiver() as url:
            sink = HttpSink(HttpOutput(enabled=True, url=url, batch=100), Format())
            runs["spool"] = whole(load(), folder, sink, spool=True)
    print(f"{args.rate} calls/s for {args.seconds} s, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    print(f"{'run':<8}{'alerts':>8}{'p50':>10}{'p99':>10}{'largest':>10}   p50 and p99 over the floor's")
    base50, base99 = (quantile(runs["floor"], q) for q in (0.5, 0.99))
    for run, samples in runs.items():
        if len(samples) < args.seconds * args.rate:
            raise SystemExit(f"{run}: {len(samples)} of {args.seconds * args.rate} calls were seen")
        p50, p99 = quantile(samples, 0.5), quantile(samples, 0.99)
        print(
            f"{run:<8}{len(samples):>8}{p50 * 1000:>7.2f} ms{p99 * 1000:>7.2f} ms{max(samples) * 1000:>7.2f} ms"
            f"   {p50 / base50:.2f}  {p99 / base99:.2f}"
        )


if __name__ == "__main__":
    main()
