#!/usr/bin/env python3
"""Nothing is lost in silence: an open loop on every core and fork+exec beside it, and the books of the daemon after it.

Prints what the loads made, what the kernel produced, what was judged, what was lost, and what the alerts told of the
losses. Exit status 1 if produced differs from judged + lost, or lost from told. Needs root and a C compiler.

usage: bench/storm.py [--seconds N] [--forks RATE] [--processes N]
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="how long (default 60)")
    parser.add_argument("--forks", type=int, default=2000, help="fork+exec a second (default 2000)")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="open loops (default: one for each core)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = storm(Path(folder), args.seconds, args.forks, args.processes)
    print(", ".join(f"{name} {count}" for name, count in counts.items()))
    unaccounted = counts["produced"] - counts["judged"] - counts["lost"]
    untold = counts["lost"] - counts["told"]
    print(f"unaccounted for {unaccounted}, lost and not told {untold}")
    return 1 if unaccounted or untold else 0


if __name__ == "__main__":
    sys.exit(main())
