#!/usr/bin/env python3
"""What watching costs the watched: the same loads with the daemon off and on, in turn, in one run.

Prints for each load the ratio of wall times on/off (median of pairs), and for all of them the CPU seconds that the
daemon used, its events and its losses. Needs root, a C compiler, and the command at .venv/bin/tercel.

usage: bench/overhead.py [--rounds N] [--scale F]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.support.daemon import Daemon  # noqa: E402

# load, calls per run, how many processes at once
LOADS = [
    ("getppid", 2_000_000, 1),
    ("read", 1_000_000, 1),
    ("open", 200_000, 1),
    ("open", 100_000, 4),
    ("forkexec", 1_000, 1),
    ("connect", 100_000, 1),
]


def run(workload: Path, mode: str, count: int, processes: int) -> float:
    """Nanoseconds of the slowest of the processes."""
    argv = [str(workload), mode, str(count)]
    children = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    times = []
    for child in children:
        out, _ = child.communicate()
        if child.returncode:
            raise SystemExit(f"{argv} failed")
        times.append(float(out.split()[1]))
    return max(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="pairs of off and on (default 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the calls to make (default 1)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workload = Path(folder) / "workload"
        subprocess.run(["cc", "-O2", "-o", workload, ROOT / "bench/workload.c"], check=True)
        off: dict[tuple[str, int], list[float]] = {}
        on: dict[tuple[str, int], list[float]] = {}
        cpu = wall = 0.0
        produced = lost = 0
        for _ in range(args.rounds):
            for mode, count, processes in LOADS:
                off.setdefault((mode, processes), []).append(run(workload, mode, int(count * args.scale), processes))
            with Daemon(Path(folder)) as daemon:
                before, start = daemon.cpu_seconds(), time.monotonic()
                for mode, count, processes in LOADS:
                    on.setdefault((mode, processes), []).append(run(workload, mode, int(count * args.scale), processes))
                cpu += daemon.cpu_seconds() - before
                wall += time.monotonic() - start
            produced += daemon.summary_number("produced")
            lost += daemon.summary_number("lost")
        print(f"{'load':<10} {'processes':>9} {'ratio on/off':>13} {'min':>6} {'max':>6} {'added ns/call':>14}")
        for mode, count, processes in LOADS:
            pairs = list(zip(on[mode, processes], off[mode, processes], strict=True))
            ratios = [a / b for a, b in pairs]
            added = statistics.median((a - b) / (count * args.scale) for a, b in pairs)
            print(
                f"{mode:<10} {processes:>9} {statistics.median(ratios):>13.2f} {min(ratios):>6.2f} {max(ratios):>6.2f}"
                f" {added:>14.0f}"
            )
        print(f"daemon: {cpu:.1f} CPU seconds in {wall:.1f} s; {produced} events, {lost} lost and told")


if __name__ == "__main__":
    main()
