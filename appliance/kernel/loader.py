"""A `ProgramSpec`, loaded and attached. The one importer of bcc.

Comes in: a spec. Goes out: a `Program`: the ring's descriptor, the books, a switch to detach. Never: a look into a
record (that is `kernel.decode`).

bcc is Debian's `python3-bpfcc`. It wants a kernel source tree; ours are a dozen stub headers beside the C
(`BCC_KERNEL_SOURCE`), for nothing of the kernel's own headers is used: offsets come from BTF.
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.kernel.layout import NUMBERS
from appliance.kernel.probe import require_platform
from appliance.kernel.program import ProgramSpec, bpf_folder
from appliance.model.diagnostic import KernelError, NotSupportedError, VerifierError
from appliance.model.event import EventType


@dataclass(frozen=True, slots=True)
class Book:
    """The kernel's count for one type of event: records made, and those of them that the ring had no room for."""

    produced: int
    lost: int


@dataclass(frozen=True, slots=True)
class Books:
    """The kernel's own counts since the program was loaded, summed over CPUs.

    `compat` counts 32-bit (and x32) system calls, which are seen but not decoded; `busy` records that could not be
    made because the CPU's scratch record was in use.
    """

    by_type: Mapping[EventType, Book]
    compat: int
    busy: int

    @property
    def produced(self) -> int:
        """Records made, of all types."""
        return sum(book.produced for book in self.by_type.values())

    @property
    def lost(self) -> int:
        """Records that never reached the ring, of all types, and those that could not be made."""
        return sum(book.lost for book in self.by_type.values()) + self.busy


@dataclass(slots=True)
class Program:
    """An attached program. `ring_fd` is the ring buffer map: it can be mapped and polled. Close it with `close`."""

    spec: ProgramSpec
    ring_fd: int
    _bpf: Any = field(repr=False)
    _functions: Mapping[str, int]
    _attached: list[str] = field(default_factory=list)

    _heard: frozenset[int] = frozenset()

    def hear(self, types: Iterable[EventType]) -> None:
        """Hear the calls of these events from now on, and those that keep state true; no others."""
        types = frozenset(types)
        slots = self.spec.heard(types)
        handlers, plans, asked = (self._bpf[name] for name in (b"handlers", b"plans", b"asked"))
        all_of_prctl = self._bpf[b"all_of_prctl"]
        all_of_prctl[ctypes.c_int(0)] = ctypes.c_uint32(EventType.PRCTL in types)
        for slot in slots - self._heard:  # a plan before its handler, both before the number that leads there
            handler = self.spec.handlers[slot]
            if handler.plan is not None:
                plans[ctypes.c_int(slot)] = plans.Leaf.from_buffer_copy(handler.plan)
            handlers[ctypes.c_int(slot)] = ctypes.c_int(self._functions[handler.function])
        before, after = ({self.spec.handlers[slot].number for slot in some} for some in (self._heard, slots))
        for number in before ^ after:
            asked[ctypes.c_int(number)] = ctypes.c_uint32(number in after)
        for slot in self._heard - slots:
            del handlers[ctypes.c_int(slot)]
        self._heard = slots

    @property
    def calls(self) -> int:
        """How many of a 64-bit program's system calls are heard."""
        return sum(slot == self.spec.handlers[slot].number for slot in self._heard)

    def books(self) -> Books:
        """Read the kernel's counts."""
        rows = {index.value: values for index, values in self._bpf[b"books"].items()}
        counts = {t: Book(sum(v.produced for v in rows[n]), sum(v.lost for v in rows[n])) for t, n in NUMBERS.items()}
        compat, busy = (sum(v.produced for v in rows[len(NUMBERS) + i]) for i in (0, 1))
        return Books({t: book for t, book in counts.items() if book.produced}, compat, busy)

    def costs(self) -> dict[str, tuple[int, int]]:
        """Runs and nanoseconds of each program that ran, as the kernel counts them while `kernel.bpf_stats_enabled` is
        1 (bpftool-prog(8)); a program that others jump to is part of the one that was called."""
        found = {}
        for name, function in self._bpf.funcs.items():
            counts = _fdinfo(function.fd)
            if counts.get("run_cnt"):
                hook = name.decode().removeprefix("raw_tracepoint__")
                found[hook] = counts["run_cnt"], counts["run_time_ns"]
        return found

    def want_wakeup(self) -> None:
        """Ask for a wake-up of the ring's pollers by the next record; without it none comes."""
        self._bpf[b"sleeping"][ctypes.c_int(0)] = ctypes.c_uint32(1)

    def detach(self) -> None:
        """Stop hearing. What is in the ring stays readable."""
        while self._attached:
            self._bpf.detach_raw_tracepoint(self._attached.pop().encode())

    def close(self) -> None:
        """Detach, and give everything back to the kernel."""
        self.detach()
        self._bpf.cleanup()


def _fdinfo(fd: int) -> dict[str, int]:
    """The numbers in /proc/self/fdinfo of a program's descriptor (kernel 5.1 and newer tell of runs)."""
    try:
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines)
    return {pair[0].rstrip(":"): int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def load(spec: ProgramSpec, types: Iterable[EventType]) -> Program:
    """Compile, load and attach, and hear these events. Takes seconds.

    Raises `NotSupportedError` where bcc or a right is missing, `VerifierError` where the kernel refuses a program,
    `KernelError` where the C does not compile or a hook cannot be had.
    """
    require_platform()
    # bcc reads the path of the "kernel source" from the environment, when a program is compiled
    os.environ["BCC_KERNEL_SOURCE"] = str(bpf_folder() / "stubs")
    bcc = _import_bcc()
    log: list[str] = []
    try:
        with _stderr_into(log):
            bpf = bcc.BPF(text=spec.text.encode(), cflags=["-Wno-macro-redefined", "-Werror=implicit"])
            names = sorted({handler.function for handler in spec.handlers.values()})
            functions = {name: bpf.load_func(name.encode(), bcc.BPF.RAW_TRACEPOINT).fd for name in names}
    except Exception as error:  # bcc raises bare Exceptions
        raise _explain(error, "".join(log)) from error
    program = Program(spec, bpf[b"ring"].map_fd, bpf, functions, list(spec.tracepoints))
    program.hear(types)
    return program


def _import_bcc() -> Any:
    try:
        import bcc
    except ImportError as error:
        raise NotSupportedError(
            f"bcc cannot be imported by {sys.executable}: {error}",
            "install Debian's python3-bpfcc and run from an environment that sees it (make setup)",
        ) from error
    if not hasattr(bcc, "BPF"):
        raise NotSupportedError(
            f"the `bcc` of {bcc.__file__} is another package",
            "remove the PyPI package called bcc; install Debian's python3-bpfcc",
        )
    return bcc


def _explain(error: Exception, log: str) -> KernelError:
    text = str(error)
    if "Failed to load BPF program" in text:
        return VerifierError(text.removeprefix("Failed to load BPF program ").partition(":")[0].strip("b'"), log)
    return KernelError(f"{text}\n{log}".strip())


@contextmanager
def _stderr_into(log: list[str]) -> Iterator[None]:
    """LLVM and the verifier's log go to descriptor 2, past Python: catch them, and keep the terminal clean."""
    sys.stderr.flush()
    keep = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(keep, 2)
            os.close(keep)
            sink.seek(0)
            log.append(sink.read().decode(errors="replace"))
