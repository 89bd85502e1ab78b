#!/usr/bin/env python3
"""What each way to hear the end of a call costs a call that nobody asks about, on this kernel.

A getppid loop with nothing, and beside each of these, in turn: empty programs on `sys_exit` as a raw tracepoint and as
a typed one; the look at the call's number that our entry takes, raw and typed; an empty program on the classic
tracepoint of another call; and empty fexit programs on the functions of other calls, where the kernel offers them, with
the seconds that attaching and detaching them took and whether they see a call that seccomp refuses. Prints ratios of
processor times: of the medians, and of the shortest (to look at where the machine has other work). Needs root, and a C
compiler or the compiled bench/workload.c.

usage: bench/hooks.py [--rounds N] [--count N] [--functions N] [--workload PATH]
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from appliance.kernel import bpfcall  # noqa: E402
from appliance.kernel.arch import this_arch  # noqa: E402
from appliance.kernel.btf import Btf, read_btf  # noqa: E402
from appliance.kernel.inventory import fdinfo  # noqa: E402
from appliance.kernel.probe import why_refused  # noqa: E402

SKIPPED = {"exit", "exit_group", "getppid", "mkdir"}  # that do not return, and those that are tried
CLASSIC = Path("/sys/kernel/tracing/events/syscalls/sys_exit_mkdir/id")
STATISTICS = Path("/proc/sys/kernel/bpf_stats_enabled")

# mkdir is refused by seccomp with EPERM; says how often it was.
REFUSED = """
import ctypes, struct, sys
libc = ctypes.CDLL(None)
number = int(sys.argv[1])
step = lambda *fields: struct.pack("=HBBI", *fields)
code = step(0x20, 0, 0, 0) + step(0x15, 0, 1, number) + step(6, 0, 0, 0x00050001) + step(6, 0, 0, 0x7FFF0000)
held = ctypes.create_string_buffer(code, len(code))
program = ctypes.create_string_buffer(struct.pack("=H6xQ", 4, ctypes.addressof(held)), 16)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
print(sum(libc.syscall(number, b"/nonexistent/x", 0o700) < 0 for _ in range(10)))
"""


def step(code: int, to: int = 0, of: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """One instruction (struct bpf_insn)."""
    return struct.pack("<BBhi", code, to | of << 4, offset, value)


def look(number: int, table: int, *, typed: bool) -> bytes:
    """Read the call's number, `number` bytes into pt_regs, and look it up in a table."""
    regs = step(0x79, 3, 1)
    if typed:
        read = regs + step(0x61, 3, 3, number)
    else:
        read = (
            regs + step(0x07, 3, 0, 0, number) + step(0xBF, 1, 10) + step(0x07, 1, 0, 0, -16) + step(0xB7, 2, 0, 0, 8)
        )
        read += step(0x85, 0, 0, 0, 113) + step(0x61, 3, 10, -16)  # bpf_probe_read_kernel
    key = step(0x63, 10, 3, -4) + step(0xBF, 2, 10) + step(0x07, 2, 0, 0, -4)
    return read + key + step(0x18, 1, 1, 0, table) + step(0) + step(0x85, 0, 0, 0, 1) + bpfcall.EMPTY


@contextmanager
def hooked(attach: Callable[[], list[int]]) -> Iterator[None]:
    """With what `attach` attaches, until the end."""
    links = attach()
    try:
        yield
    finally:
        for fd in links:
            os.close(fd)


def classic(program: int) -> list[int]:
    """A program on the classic tracepoint of mkdir's end, by perf_event_open(2)."""
    attr = ctypes.create_string_buffer(struct.pack("=IIQQ", 2, 128, int(CLASSIC.read_text()), 1), 128)
    numbers = {"x86": 298, "arm64": 241}
    fd = ctypes.CDLL(None).syscall(numbers[this_arch().name], attr, -1, 0, -1, 8)
    fcntl.ioctl(fd, 0x40042408, program)  # PERF_EVENT_IOC_SET_BPF
    fcntl.ioctl(fd, 0x2400, 0)  # PERF_EVENT_IOC_ENABLE
    return [fd]


def functions(btf: Btf, most: int) -> list[int]:
    """The type ids of functions that calls are made by: `__x64_sys_mkdir`."""
    prefix = {"x86": "__x64_sys_", "arm64": "__arm64_sys_"}[this_arch().name]
    names = (t.value for t in this_arch().syscalls if t.value not in SKIPPED)
    found = []
    for name in names:
        target = btf.function(prefix + name) if len(found) < most else None
        if target is not None:
            found.append(target)
    return found


def fexit(target: int) -> int:
    return bpfcall.load_program(bpfcall.TRACING, bpfcall.EMPTY, attach_type=bpfcall.FEXIT, target=target)


def sees_refused(btf: Btf, program: int, attach: Callable[[], list[int]]) -> int:
    """How often a program ran while mkdir was refused ten times."""
    number = next(n for t, n in this_arch().syscalls.items() if t.value == "mkdir")
    was = STATISTICS.read_text()
    STATISTICS.write_text("1")
    try:
        with hooked(attach):
            done = subprocess.run(
                [sys.executable, "-c", REFUSED, str(number)], capture_output=True, text=True, check=True
            )
            assert done.stdout.strip() == "10"
            return fdinfo(program).get("run_cnt", 0)
    finally:
        STATISTICS.write_text(was)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--count", type=int, default=1_000_000, help="calls in each run (default 1,000,000)")
    parser.add_argument("--functions", type=int, default=100, help="functions with fexit programs (default 100)")
    parser.add_argument("--workload", type=Path, help="bench/workload.c, compiled")
    args = parser.parse_args()
    btf, arch = read_btf(), this_arch()
    sys_exit, number = btf.typed_tracepoint("sys_exit"), btf.offset(f"pt_regs.{arch.number}")
    assert sys_exit is not None and number is not None
    table = bpfcall.create_table(bpfcall.TableFacts("numbers", 2, 4, 4, 1024, 0))  # an array

    def raw(code: bytes) -> Callable[[], AbstractContextManager[None]]:
        program = bpfcall.load_program(bpfcall.RAW_TRACEPOINT, code)
        return lambda: hooked(lambda: [bpfcall.attach_raw_tracepoint("sys_exit", program)])

    def typed(code: bytes) -> Callable[[], AbstractContextManager[None]]:
        kind = {"attach_type": bpfcall.TYPED_TRACEPOINT, "target": sys_exit}
        program = bpfcall.load_program(bpfcall.TRACING, code, **kind)
        return lambda: hooked(lambda: [bpfcall.attach_traced(program)])

    ways: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "nothing": nullcontext,
        "raw, empty": raw(bpfcall.EMPTY),
        "raw, a look at the number": raw(look(number, table, typed=False)),
        "typed, empty": typed(bpfcall.EMPTY),
        "typed, a look at the number": typed(look(number, table, typed=True)),
    }
    if CLASSIC.exists():
        program = bpfcall.load_program(bpfcall.TRACEPOINT, bpfcall.EMPTY)
        ways["classic, of another call"] = lambda: hooked(lambda: classic(program))
    tried = functions(btf, 1)
    refused = why_refused(lambda: fexit(tried[0]), lambda fd: [bpfcall.attach_traced(fd)])
    notes = [f"fexit: refused by this kernel ({refused})"]
    if refused is None:
        targets = functions(btf, args.functions)
        begun = time.monotonic()
        programs = [fexit(target) for target in targets]
        loaded = time.monotonic()
        links = [bpfcall.attach_traced(fd) for fd in programs]
        attached = time.monotonic()
        for fd in links:
            os.close(fd)
        detached = time.monotonic()
        notes = [
            f"fexit on {len(targets)} functions: {loaded - begun:.2f} s to load, {attached - loaded:.2f} s to attach,"
            f" {detached - attached:.2f} s to detach"
        ]
        ways[f"fexit, of {len(targets)} other calls"] = lambda: hooked(lambda: [*map(bpfcall.attach_traced, programs)])
        (own,) = (fexit(t) for t in [btf.function("__x64_sys_mkdir") or btf.function("__arm64_sys_mkdirat") or 0])
        seen = sees_refused(btf, own, lambda: [bpfcall.attach_traced(own)])
        notes.append(f"of 10 calls that seccomp refused, fexit saw {seen}")
    with tempfile.TemporaryDirectory() as folder:
        workload = args.workload
        if workload is None:
            workload = Path(folder) / "workload"
            subprocess.run(["cc", "-O2", "-o", workload, ROOT / "bench/workload.c"], check=True)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(args.rounds):
            for name, way in ways.items():
                with way():
                    before = resource.getrusage(resource.RUSAGE_CHILDREN)
                    subprocess.run([workload, "getppid", str(args.count)], stdout=subprocess.DEVNULL, check=True)
                    after = resource.getrusage(resource.RUSAGE_CHILDREN)
                times[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    print(f"Linux {os.uname().release}; getppid, {args.count} calls, {args.rounds} rounds")
    print(f"{'':<32} {'median':>7} {'shortest':>9}")
    base = times["nothing"]
    for name, spent in times.items():
        ratio = statistics.median(spent) / statistics.median(base)
        print(f"{name:<32} {ratio:>7.2f} {min(spent) / min(base):>9.2f}")
    print("\n".join(notes))


if __name__ == "__main__":
    main()
