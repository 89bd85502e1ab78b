#!/usr/bin/env python3
"""What each way to hear the end of a call costs, on this kernel.

A getppid loop with nothing, and beside each of these, in turn: empty programs on `sys_exit` as a raw tracepoint and as
a typed one; the look at the call's number that our entry takes, raw and typed; an empty program on the classic
tracepoint of another call; and, where the kernel offers them, the look as fexit programs on the functions of the calls
that the default rules and state ask for, with the seconds that attaching and detaching them took. Then a loop of opens
with the look at the tracepoint and at the functions. Last, what a raw tracepoint on `sys_enter`, a typed one on
`sys_exit` and an fexit program see of a call that seccomp refuses. Prints ratios of processor times: of the medians,
and of the shortest (to look at where the machine has other work). Needs root, and a C compiler or the compiled
bench/workload.c.

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
from appliance.catalog.events import STATE  # noqa: E402
from appliance.config.load import load_config  # noqa: E402
from appliance.daemon.generation import build_generation  # noqa: E402
from appliance.kernel import bpfcall  # noqa: E402
from appliance.kernel.arch import this_arch  # noqa: E402
from appliance.kernel.btf import Btf, read_btf  # noqa: E402
from appliance.kernel.doors import Door, doors_of, why_no_doors  # noqa: E402
from appliance.model.event import EventType  # noqa: E402

CLASSIC = Path("/sys/kernel/tracing/events/syscalls/sys_exit_mkdir/id")

# acct, which nobody else calls, is refused by seccomp with EPERM; says how often it was.
REFUSED = """
import ctypes, struct, sys
libc = ctypes.CDLL(None)
number = int(sys.argv[1])
step = lambda *fields: struct.pack("=HBBI", *fields)
code = step(0x20, 0, 0, 0) + step(0x15, 0, 1, number) + step(6, 0, 0, 0x00050001) + step(6, 0, 0, 0x7FFF0000)
held = ctypes.create_string_buffer(code, len(code))
program = ctypes.create_string_buffer(struct.pack("=H6xQ", 4, ctypes.addressof(held)), 16)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
print(sum(libc.syscall(number, b"/nonexistent/x") < 0 for _ in range(10)))
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


def doors_asked_for(btf: Btf, most: int) -> list[Door]:
    """The functions of the calls that the default rules and state ask for, at most so many of them."""
    generation = build_generation(load_config(ROOT / "tercel.yaml"), hostname="bench", new_id=lambda: "bench")
    wanted = generation.needs.types | STATE
    doors = doors_of(btf, this_arch())
    slots = [slot.slot for slot in this_arch().slots() if slot.type in wanted and not slot.operation]
    return list({door.name: door for slot in slots for door in doors.get(slot, ())}.values())[:most]


def fexit(target: int, code: bytes) -> int:
    return bpfcall.load_program(bpfcall.TRACING, code, attach_type=bpfcall.FEXIT, target=target)


def counting(number: bytes, wanted: int, table: int) -> bytes:
    """Count the calls whose number `number` puts into the third register."""
    found = step(0x62, 10, 0, -4, 0) + step(0xBF, 2, 10) + step(0x07, 2, 0, 0, -4)
    found += step(0x18, 1, 1, 0, table) + step(0) + step(0x85, 0, 0, 0, 1)  # map_lookup_elem
    found += step(0x15, 0, 0, 2) + step(0xB7, 1, 0, 0, 1) + step(0xDB, 0, 1)  # one more, where there is a cell
    return number + step(0x55, 3, 0, len(found) // 8, wanted) + found + bpfcall.EMPTY


def sees_refused(number: int, attach: Callable[[], list[int]], table: int) -> int:
    """How many of ten refused calls of acct a program counts."""
    bpfcall.update(table, 0, bytes(8))
    with hooked(attach):
        done = subprocess.run([sys.executable, "-c", REFUSED, str(number)], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "10"
    return struct.unpack("=Q", bpfcall.lookup(table, 0, 8))[0]


def refused_calls(btf: Btf, sys_exit: int, number: int, door: Door | None) -> Iterator[str]:
    """What each way tells of a call that seccomp refuses."""
    acct = this_arch().syscalls[EventType.ACCT]
    table = bpfcall.create_table(bpfcall.TableFacts("count", 2, 4, 8, 1, 0))
    at_start = bpfcall.load_program(bpfcall.RAW_TRACEPOINT, counting(step(0x79, 3, 1, 8), acct, table))
    seen = sees_refused(acct, lambda: [bpfcall.attach_raw_tracepoint("sys_enter", at_start)], table)
    yield f"of 10 calls that seccomp refused, sys_enter saw {seen}"
    load = step(0x79, 3, 1) + step(0x61, 3, 3, number)
    kind = {"attach_type": bpfcall.TYPED_TRACEPOINT, "target": sys_exit}
    at_end = bpfcall.load_program(bpfcall.TRACING, counting(load, acct, table), **kind)
    yield f"sys_exit {sees_refused(acct, lambda: [bpfcall.attach_traced(at_end)], table)}"
    if door is not None:
        own = fexit(door.target, counting(load, acct, table))
        yield f"fexit of `{door.name}` {sees_refused(acct, lambda: [bpfcall.attach_traced(own)], table)}"


def processor_s(argv: list[object]) -> float:
    """Processor time of a program."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([str(a) for a in argv], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--count", type=int, default=1_000_000, help="calls in each run (default 1,000,000)")
    parser.add_argument("--functions", type=int, default=1000, help="functions at most (default: all)")
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
    doors = doors_of(btf, arch)
    refused, door = why_no_doors(btf, arch, doors), None
    notes = [f"fexit: refused by this kernel ({refused})"]
    if refused is None:
        door = doors[arch.syscalls[EventType.ACCT]][0]
        wanted = doors_asked_for(btf, args.functions)
        code = look(number, table, typed=True)
        begun = time.monotonic()
        programs = [fexit(door.target, code) for door in wanted]
        loaded = time.monotonic()
        links = [bpfcall.attach_traced(fd) for fd in programs]
        attached = time.monotonic()
        for fd in links:
            os.close(fd)
        detached = time.monotonic()
        notes = [
            f"fexit on the {len(wanted)} functions of what the default rules and state ask for: {loaded - begun:.2f} s"
            f" to load, {attached - loaded:.2f} s to attach, {detached - attached:.2f} s to detach"
        ]
    notes.append(", ".join(refused_calls(btf, sys_exit, number, door)))
    with tempfile.TemporaryDirectory() as folder:
        workload = args.workload
        if workload is None:
            workload = Path(folder) / "workload"
            subprocess.run(["cc", "-O2", "-o", workload, ROOT / "bench/workload.c"], check=True)
        times: dict[tuple[str, str], list[float]] = {}
        opens = {name: ways[name] for name in ("nothing", "typed, a look at the number")}
        for _ in range(args.rounds):
            for load, several, count in (("getppid", ways, args.count), ("open", opens, args.count // 4)):
                for name, way in several.items():
                    with way():
                        times.setdefault((load, name), []).append(processor_s([workload, load, count]))
        if refused is None:  # hooked once, as letting go takes long
            name = f"fexit, of {len(wanted)} functions, a look at the number"
            with hooked(lambda: [*map(bpfcall.attach_traced, programs)]):
                for _ in range(args.rounds):
                    for load, count in (("getppid", args.count), ("open", args.count // 4)):
                        times.setdefault((load, name), []).append(processor_s([workload, load, count]))
    print(f"Linux {os.uname().release}; {args.count} calls, {args.rounds} rounds")
    print(f"{'':<60} {'median':>7} {'shortest':>9}")
    for (load, name), spent in times.items():
        base = times[load, "nothing"]
        ratio = statistics.median(spent) / statistics.median(base)
        print(f"{load + ', ' + name:<60} {ratio:>7.2f} {min(spent) / min(base):>9.2f}")
    print("\n".join(notes))


if __name__ == "__main__":
    main()
