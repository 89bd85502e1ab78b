#!/usr/bin/env python3
"""What watching costs the watched: the same loads with the daemon off and on, in turn, in one run.

Beside them the floor: a program that does nothing on the tracepoint that every system call passes, and no daemon.
Prints for each load the ratios of wall times floor/off and on/off (medians of rounds), the same of processor times (to
look at where the machine has other work), and for all of them the CPU seconds that the daemon used, its memory, the
seconds from start to armed, its events and its losses. Needs root, a C compiler, and the command at .venv/bin/tercel.

usage: bench/overhead.py [--rounds N] [--scale F]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from appliance.kernel import bpfcall  # noqa: E402
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


def run(workload: Path, mode: str, count: int, processes: int) -> tuple[float, float]:
    """Nanoseconds of the slowest of the processes, and processor time of all of them in nanoseconds."""
    argv = [str(workload), mode, str(count)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    children = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    times = []
    for child in children:
        out, _ = child.communicate()
        if child.returncode:
            raise SystemExit(f"{argv} failed")
        times.append(float(out.split()[1]))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return max(times), cpu * 1e9 / processes


@contextmanager
def floor() -> Iterator[None]:
    """A program that does nothing at the end of every system call."""
    program = bpfcall.load_program(bpfcall.RAW_TRACEPOINT, bpfcall.EMPTY)
    link = bpfcall.attach_raw_tracepoint("sys_exit", program)
    try:
        yield
    finally:
        os.close(link)
        os.close(program)


def memory_mib(pid: int) -> float:
    """Resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="pairs of off and on (default 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the calls to make (default 1)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workload = Path(folder) / "workload"
        subprocess.run(["cc", "-O2", "-o", workload, ROOT / "bench/workload.c"], check=True)
        times: dict[str, dict[tuple[str, int], list[tuple[float, float]]]] = {"off": {}, "floor": {}, "on": {}}
        cpu = wall = 0.0
        produced = lost = 0
        memory: list[float] = []
        armed: list[float] = []

        def measure(how: str) -> None:
            for mode, count, processes in LOADS:
                spent = run(workload, mode, int(count * args.scale), processes)
                times[how].setdefault((mode, processes), []).append(spent)

        for _ in range(args.rounds):
            measure("off")
            with floor():
                measure("floor")
            begun = time.monotonic()
            with Daemon(Path(folder)) as daemon:
                armed.append(time.monotonic() - begun)
                before, start = daemon.cpu_seconds(), time.monotonic()
                measure("on")
                cpu += daemon.cpu_seconds() - before
                wall += time.monotonic() - start
                memory.append(memory_mib(daemon.pid))
            produced += daemon.summary_number("produced")
            lost += daemon.summary_number("lost")
        for at, what in enumerate(("wall time", "processor time")):
            print(
                f"{what:<15} {'processes':>9} {'floor/off':>10} {'on/off':>7} {'min':>6} {'max':>6}"
                f" {'added ns/call':>14} {'above the floor':>16}"
            )
            for mode, count, processes in LOADS:
                off, low, on = ([t[at] for t in times[how][mode, processes]] for how in ("off", "floor", "on"))
                ratios = [a / b for a, b in zip(on, off, strict=True)]
                floors = [a / b for a, b in zip(low, off, strict=True)]
                calls = count * args.scale
                added = statistics.median((a - b) / calls for a, b in zip(on, off, strict=True))
                above = statistics.median((a - b) / calls for a, b in zip(on, low, strict=True))
                print(
                    f"{mode:<15} {processes:>9} {statistics.median(floors):>10.2f} {statistics.median(ratios):>7.2f}"
                    f" {min(ratios):>6.2f} {max(ratios):>6.2f} {added:>14.0f} {above:>16.0f}"
                )
        print(f"daemon: {cpu:.1f} CPU seconds in {wall:.1f} s; {produced} events, {lost} lost and told")
        print(f"        {max(memory):.0f} MiB resident at most, {statistics.median(armed):.1f} s from start to armed")


if __name__ == "__main__":
    main()
