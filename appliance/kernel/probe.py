"""What this machine lets us do: asked of the kernel, not guessed from its version.

Comes in: nothing. Goes out: `NotSupportedError`s that name what is missing, a short description of the machine, and
why a way to hook it is closed.
"""

from __future__ import annotations

import errno
import os
import platform
import struct
from collections.abc import Callable
from pathlib import Path

from appliance.kernel import bpfcall
from appliance.kernel.arch import Arch, this_arch
from appliance.kernel.btf import VMLINUX, Btf
from appliance.kernel.ring import READS_IN_ORDER
from appliance.model.diagnostic import NotSupportedError

_CAP_SYS_ADMIN = 21
_CAP_PERFMON = 38
_CAP_BPF = 39
_FIRST_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h


def require_platform(
    status: Path = Path("/proc/self/status"), btf: Path = VMLINUX, pid_namespace: Path = Path("/proc/self/ns/pid")
) -> None:
    """Raise `NotSupportedError` for the first thing that is missing: Linux, the architecture, rights, the host's
    processes, BTF."""
    if platform.system() != "Linux":
        raise NotSupportedError(f"operating system `{platform.system()}`", "Tercel watches Linux kernels")
    if this_arch().name not in READS_IN_ORDER:
        raise NotSupportedError(
            f"processor architecture `{platform.machine()}` has not been tried",
            "it may reorder the loads with which the ring buffer is read, and records could be read before they are"
            " whole; rules can be checked and tested there (`tercel check`, `tercel test`)",
        )
    if not can_load(effective_capabilities(status)):
        raise NotSupportedError(
            f"uid {os.geteuid()} may not load programs into the kernel (CAP_BPF and CAP_PERFMON are missing)",
            "run as root: `sudo tercel run`; checking rules (`tercel check`) needs no root",
        )
    if not in_first_pid_namespace(pid_namespace):
        raise NotSupportedError(
            "this is not the host's pid namespace: what the kernel tells of processes could not be matched with /proc",
            "in a container, start it with the host's: `docker run --pid=host --privileged`",
        )
    if not btf.exists():
        raise NotSupportedError(
            f"this kernel ({platform.release()}) does not describe its types: there is no {btf}",
            "a kernel built with CONFIG_DEBUG_INFO_BTF=y is needed, as Debian 11 and newer have",
        )


def can_load(capabilities: int) -> bool:
    """True where these rights suffice to load programs into the kernel: CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN."""
    has = {cap: bool(capabilities >> cap & 1) for cap in (_CAP_SYS_ADMIN, _CAP_BPF, _CAP_PERFMON)}
    return has[_CAP_SYS_ADMIN] or (has[_CAP_BPF] and has[_CAP_PERFMON])


def in_first_pid_namespace(pid_namespace: Path = Path("/proc/self/ns/pid")) -> bool:
    """True where pids are the kernel's own."""
    return pid_namespace.stat().st_ino == _FIRST_PID_NAMESPACE


def why_not_typed(btf: Btf, arch: Arch) -> str | None:
    """Why the end of a call cannot be heard by a typed tracepoint, where registers are loaded and not read by a call;
    None where it can (from Linux 5.5)."""
    target, number = btf.typed_tracepoint("sys_exit"), btf.offset(f"pt_regs.{arch.number}")
    if target is None or number is None:
        return "its type is not told"
    load = struct.pack("<BBhi BBhi", 0x79, 0x12, 0, 0, 0x61, 0x22, number, 0)  # r2 = ctx[0]; r2 = r2->number
    return why_refused(
        lambda: bpfcall.load_program(
            bpfcall.TRACING, load + bpfcall.EMPTY, attach_type=bpfcall.TYPED_TRACEPOINT, target=target
        ),
        lambda fd: [bpfcall.attach_traced(fd)],
    )


def why_refused(load: Callable[[], int], attach: Callable[[int], list[int]]) -> str | None:
    """The name of the error with which a program cannot be loaded and attached; None when it can. Everything is closed
    again."""
    descriptors: list[int] = []
    try:
        descriptors.append(load())
        descriptors += attach(descriptors[0])
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    finally:
        for fd in descriptors:
            os.close(fd)
    return None


def effective_capabilities(status: Path) -> int:
    """The bit set in a `/proc/PID/status`; 0 where it does not say."""
    for line in status.read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def describe_machine() -> str:
    """The kernel and the processor, for the start banner: `Linux 6.1.0-18-amd64 x86_64`."""
    return f"{platform.system()} {platform.release()} {platform.machine()}"
