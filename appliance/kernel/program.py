"""The whole C text and its hooks, before anything is loaded: `ProgramSpec`.

Comes in: the kernel's types, the architecture, the size of the ring. Goes out: text. Never: a call into the kernel.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from appliance.kernel.arch import Arch
from appliance.kernel.btf import Btf
from appliance.kernel.layout import c_structs
from appliance.kernel.offsets import macros

_PARTS = (
    "base.h", "path.h", "call.h", "facts.h", "entry.c", "open.c", "chmod.c", "names.c", "descriptor.c", "identity.c",
    "process.c",
)  # fmt: skip

SYSCALLS = 512  # slots of the jump table: more than any architecture has

# The C guards these numbers; a machine without the call gets one that no call has.
_NUMBERED = ("FORK", "VFORK", "CLONE3", "EXECVEAT")


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """What will be loaded.

    `handlers` maps a system call's number to the function that runs at its end; `tracepoints` are attached by bcc
    from the text's own `RAW_TRACEPOINT_PROBE`s. `ring_bytes` is the size of the ring, a power of two.
    """

    text: str
    handlers: Mapping[int, str]
    tracepoints: tuple[str, ...]
    ring_bytes: int


def bpf_folder() -> Path:
    """Where the C parts and the stub headers lie."""
    return Path(str(files("appliance.kernel") / "bpf"))


def program_spec(btf: Btf, arch: Arch, *, own_pid: int, ring_bytes: int) -> ProgramSpec:
    """Put the program together. Raises `NotSupportedError` for a kernel that lacks what the C reads."""
    values = macros(btf, arch)
    values |= {f"NR_{name}": -1 for name in _NUMBERED}
    values |= {f"NR_{t.name}": n for t, n in arch.syscalls.items() if t.name in _NUMBERED}
    values |= {
        "OWN_PID": own_pid,
        "RING_PAGES": ring_bytes // mmap.PAGESIZE,
        "SYSCALLS": SYSCALLS,
        f"ARCH_{arch.name}": 1,
    }
    defines = "\n".join(f"#define {name} {value}" for name, value in sorted(values.items()))
    parts = [f'#line 1 "{name}"\n{(bpf_folder() / name).read_text()}' for name in _PARTS]
    return ProgramSpec(
        text="\n".join((defines, c_structs(), *parts)).replace("#pragma once\n", "\n"),
        handlers={number: f"on_{t.value}" for t, number in arch.syscalls.items()},
        tracepoints=("sys_exit", "sched_process_fork", "sched_process_exec", "sched_process_exit"),
        ring_bytes=ring_bytes,
    )
