#!/usr/bin/env python3
"""Nothing is lost in silence: an open loop on every core and fork+exec beside it, and the books of the daemon after it.

Prints what the loads made, what the kernel produced, what was judged, what was lost, and what the alerts told of the
losses. Exit status 1 if produced differs from judged + lost, or lost from told.

With --sustain RATE it is one load instead that opens so many files a second, under 16,384 names in turn so that none is
known again, and a daemon that has one processor to itself where there are two or more. Exit status 1 as well if one
event was lost or the load did not reach 99 % of its rate. On a quiet machine the minute of the goal is

    bench/storm.py --sustain 100000 --seconds 60

Needs root and a C compiler.

usage: bench/storm.py [--seconds N] [--forks RATE] [--processes N] [--sustain RATE] [--nice N] [--again]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.support.daemon import Daemon  # noqa: E402

LOSS_RULE = "Tercel internal: events lost"


def storm(folder: Path, seconds: int, forks: int, processes: int) -> dict[str, int]:
    """The counts of one run: opens, forks, produced, judged, lost, told."""
    workload = folder / "workload"
    subprocess.run(["cc", "-O2", "-o", workload, ROOT / "bench/workload.c"], check=True)
    loads = [("open", 10**9, 0)] * processes + [("forkexec", seconds * forks, forks)]
    with Daemon(folder) as daemon:
        children = [
            subprocess.Popen(
                [str(workload), mode, str(count), str(seconds), str(rate)], stdout=subprocess.PIPE, text=True
            )
            for mode, count, rate in loads
        ]
        made = [int(child.communicate()[0].split()[0]) for child in children]
    told = sum(int(alert["output_fields"]["lost"]) for alert in daemon.alerts(LOSS_RULE))
    counts = {name: daemon.summary_number(name) for name in ("produced", "judged", "lost")}
    return {"opens": sum(made[:-1]), "forks": made[-1], **counts, "told": told}


def sustain(folder: Path, seconds: int, rate: int, nice: int, mode: str) -> dict[str, int]:
    """The counts of a run at a steady rate: opens, milliseconds they took, produced, judged, lost, told, and the
    daemon's milliseconds of processor time meanwhile."""
    workload = folder / "workload"
    subprocess.run(["cc", "-O2", "-o", workload, ROOT / "bench/workload.c"], check=True)
    cpus = sorted(os.sched_getaffinity(0))
    ours, theirs = (cpus[-1:], cpus[:-1]) if len(cpus) > 1 else (cpus, cpus)
    prefix = ["taskset", "-c", ",".join(map(str, ours)), "nice", "-n", str(nice)]
    with Daemon(folder, prefix=prefix) as daemon:
        before = cpu_ms(daemon.pid)
        argv = ["taskset", "-c", ",".join(map(str, theirs)), "nice", "-n", str(nice), str(workload), mode]
        argv += [str(10**9), str(seconds), str(rate)]
        opens, spent_ns = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
        used = cpu_ms(daemon.pid) - before
    told = sum(int(alert["output_fields"]["lost"]) for alert in daemon.alerts(LOSS_RULE))
    counts = {name: daemon.summary_number(name) for name in ("produced", "judged", "lost")}
    return {"opens": int(opens), "ms": int(spent_ns) // 10**6, **counts, "told": told, "daemon_ms": used}


def cpu_ms(pid: int) -> int:
    """Processor time of all threads of a process, proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 // os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="how long (default 60)")
    parser.add_argument("--forks", type=int, default=2000, help="fork+exec a second (default 2000)")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="open loops (default: one for each core)")
    parser.add_argument("--sustain", type=int, metavar="RATE", help="one load of so many opens a second instead")
    parser.add_argument("--nice", type=int, default=-5, help="with --sustain: of daemon and load (default -5)")
    parser.add_argument(
        "--again", action="store_true", help="with --sustain: open one file by one name again and again"
    )
    args = parser.parse_args()
    if args.sustain and args.forks != parser.get_default("forks"):
        parser.error("--sustain makes no forks")
    with tempfile.TemporaryDirectory() as folder:
        if args.sustain:
            mode = "open" if args.again else "walk"
            counts = sustain(Path(folder), args.seconds, args.sustain, args.nice, mode)
        else:
            counts = storm(Path(folder), args.seconds, args.forks, args.processes)
    print(", ".join(f"{name} {count}" for name, count in counts.items()))
    unaccounted = counts["produced"] - counts["judged"] - counts["lost"]
    untold = counts["lost"] - counts["told"]
    print(f"unaccounted for {unaccounted}, lost and not told {untold}")
    wrong = bool(unaccounted or untold)
    if args.sustain:
        reached = counts["opens"] * 1000 / counts["ms"]
        share, load = counts["daemon_ms"] / counts["ms"], os.getloadavg()[0]
        print(
            f"{reached:.0f} opens a second for {counts['ms'] / 1000:.1f} s, {counts['lost']} lost, "
            f"{share:.0%} of a core ({counts['daemon_ms'] * 1e6 / counts['judged']:.0f} ns an event), "
            f"load average {load:.1f} of {os.cpu_count()} processors"
        )
        wrong = wrong or counts["lost"] > 0 or reached < 0.99 * args.sustain
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
