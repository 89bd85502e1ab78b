#!/usr/bin/env python3
"""Reloads under load: nothing is missed, nothing is told twice, memory does not grow, and the loop hardly notices.

A load opens files at a given rate while the rules are changed and reloaded again and again, in turn with and without
rules on other event types, so that hooks come and go, too. Beside it a process opens marked files one by one; each
must make exactly one alert, by whichever generation. Then the same load goes on for as long without reloads: the
control, which tells losses of reloads from those of a machine that has no time for this rate. Prints the counts of
both, how long a reload took, the longest pass of the loop, and the growth of resident memory. Exit status 1 if an alert
is doubled, a record unaccounted for, or if events were lost or alerts are missing while the control lost none. Needs
root and a C compiler.

usage: bench/reload.py [--reloads N] [--rate OPENS] [--rules FILE]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from appliance.daemon.control import ControlClient  # noqa: E402
from tests.support.daemon import Daemon  # noqa: E402

MARKED = """
- rule: Marked {n}
  desc: each generation has its own name for it
  condition: evt.type in (open, openat) and fd.name startswith {mark}
  output: opened %fd.name
  priority: ERROR
"""
OTHERS = """
- rule: Others {n}
  desc: hooks that come and go
  condition: evt.type in (unlink, unlinkat, rename, mkdir, connect, chmod) and proc.name = nobody-is-called-so
  output: "%evt.type"
  priority: INFO
"""
MARKER = """
import os, sys, time
mark, n = sys.argv[1], 0
while not os.path.exists(sys.argv[2]):
    os.close(os.open(f"{mark}{n}", os.O_CREAT | os.O_WRONLY, 0o600))
    os.unlink(f"{mark}{n}")
    n += 1
    time.sleep(0.005)
print(n)
"""


def reloads(folder: Path, count: int, rate: int, official: Path | None = None) -> dict[str, float]:
    """Run it; the numbers by name."""
    workload = folder / "workload"
    subprocess.run(["cc", "-O2", "-o", workload, ROOT / "bench/workload.c"], check=True)
    mark, end = folder / "tercel-mark-", folder / "end"
    mine = folder / "mine.yaml"

    def write(n: int) -> None:
        text = MARKED.format(n=n, mark=mark) + (OTHERS.format(n=n) if n % 2 else "")
        fresh = folder / "mine.new"
        fresh.write_text(text)
        fresh.rename(mine)

    write(0)
    rules = [mine, official or ROOT / "rules/tercel_rules.yaml"]
    # rules of the second file may fire on what else happens here; first: a marked open makes one alert
    config = {"rule_matching": "first", "log_level": "warning"}
    with Daemon(folder, config, rules=rules) as daemon, ControlClient(folder / "control.sock") as control:
        load = subprocess.Popen(
            [str(workload), "open", str(10**9), "600", str(rate)], stdout=subprocess.PIPE, text=True
        )
        marker = subprocess.Popen(
            [sys.executable, "-c", MARKER, str(mark), str(end)], stdout=subprocess.PIPE, text=True
        )
        try:
            for n in range(1, 6):  # caches fill, the allocator settles
                write(n)
                assert control.ask("reload")["accepted"]
            before = control.ask("status")
            started = time.monotonic()
            times = []
            for n in range(6, count + 6):
                write(n)
                verdict = control.ask("reload")
                assert verdict["accepted"], verdict  # the watcher of files may have been first
                times.append(float(verdict["seconds"]))
            seconds = time.monotonic() - started
            after = control.ask("status")
            reloaded = time.monotonic()
            time.sleep(seconds)
            with ControlClient(folder / "control.sock") as late:  # one that asks nothing for long is let go
                alone = late.ask("status")
            alone_s = time.monotonic() - reloaded
        finally:
            end.touch()
            marks = int(marker.communicate()[0])
            load.kill()
            load.communicate()
    told = Counter(a["output"].rpartition(str(mark))[2] for a in daemon.alerts() if a["rule"].startswith("Marked"))
    names = {a["rule"] for a in daemon.alerts() if a["rule"].startswith("Marked")}
    times.sort()

    def between(first: dict[str, Any], second: dict[str, Any], name: str) -> int:
        return int(second["events"][name]) - int(first["events"][name])

    lost, lost_alone = between(before, after, "lost"), between(after, alone, "lost")
    produced, produced_alone = between(before, after, "produced"), between(after, alone, "produced")
    return {
        "reloads": count,
        "events_per_s": produced / seconds,
        "events_per_s_control": produced_alone / alone_s,
        "lost_per_million": 1e6 * lost / max(produced, 1),
        "lost_control": 1e6 * lost_alone / max(produced_alone, 1),
        "marks": marks,
        "missing": sum(str(n) not in told for n in range(marks)),
        "doubled": sum(n - 1 for n in told.values()),
        "generations_that_told": len(names),
        "lost": daemon.summary_number("lost"),
        "unaccounted": daemon.summary_number("produced")
        - daemon.summary_number("judged")
        - daemon.summary_number("lost"),
        "median_reload_s": statistics.median(times),
        "longest_reload_s": times[-1],
        "longest_pass_ms": after["events"]["slowest_pass_ms"],
        "longest_pass_control": alone["events"]["slowest_pass_ms"],
        "growth_mib": (after["process"]["rss_bytes"] - before["process"]["rss_bytes"]) / 2**20,
        "growth_control_mib": (alone["process"]["rss_bytes"] - after["process"]["rss_bytes"]) / 2**20,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reloads", type=int, default=100)
    parser.add_argument(
        "--rate", type=int, default=50_000, help="opens a second; each is an event, as nobody asks for its close"
    )
    parser.add_argument("--rules", type=Path, help="a rules file in place of the shipped one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        numbers = reloads(Path(folder), args.reloads, args.rate, args.rules)
    for name, value in numbers.items():
        print(f"{name:<22}{value:>12.1f}" if isinstance(value, float) else f"{name:<22}{value:>12}")
    if numbers["lost_control"]:
        print("the control lost events, too: this machine has no time for this rate now")
    wrong = numbers["doubled"] or numbers["unaccounted"]
    return 1 if wrong or ((numbers["missing"] or numbers["lost"]) and not numbers["lost_control"]) else 0


if __name__ == "__main__":
    sys.exit(main())
