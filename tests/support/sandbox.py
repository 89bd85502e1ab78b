"""The unit's restrictions without systemd: another user, four capabilities, its system calls, no writable code.

argv: UNIT UID GID COMMAND... Reads the unit file, gives up what it gives up, in the order in which systemd does it, and
becomes the command. What it applies is the kernel's own: capset(2), prctl(2), seccomp(2). Mounts are left to the tests
with virtual machines.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

PR_CAPBSET_DROP, PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 24, 8, 38, 22
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, PR_SET_MDWE = 47, 2, 65
CAPS = {"CAP_DAC_READ_SEARCH": 2, "CAP_SYS_PTRACE": 19, "CAP_PERFMON": 38, "CAP_BPF": 39}
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

libc = ctypes.CDLL(None, use_errno=True)


def settings(unit: Path) -> dict[str, list[str]]:
    """Key -> its values, in order."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if match := re.fullmatch(r"(\w+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def _members(name: str) -> set[str]:
    """The calls of a `@group`, groups within it included, as this machine's systemd has them."""
    if not name.startswith("@"):
        return {name}
    text = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True
    ).stdout
    words = [line.strip() for line in text.splitlines() if line.startswith("    ") and "#" not in line]
    return {member for word in words for member in _members(word)}


def allowed_calls(filters: Iterable[str]) -> set[str]:
    """What SystemCallFilter= lines leave (systemd.exec(5)): the first makes it a list of what is allowed."""
    allowed = _members("@default")
    for line in filters:
        calls = {call for word in line.removeprefix("~").split() for call in _members(word)}
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    return allowed


def call_numbers() -> dict[str, int]:
    """Of this machine's own headers."""
    source = "#include <sys/syscall.h>\n"
    text = subprocess.run(["cc", "-E", "-dM", "-"], input=source, capture_output=True, text=True, check=True).stdout
    return {m[1]: int(m[2]) for m in re.finditer(r"#define __NR_(\w+) (\d+)", text)}


def seccomp(allowed: Iterable[int]) -> None:
    """Everything else fails with EPERM."""

    def statement(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
        return struct.pack("HBBI", code, true, false, value)

    load, equal, give = 0x20, 0x15, 0x06
    lines = [statement(load, 4), statement(equal, AUDIT_ARCH[platform.machine()], 1, 0), statement(give, 0x80000000)]
    lines.append(statement(load, 0))
    for number in sorted(allowed):
        lines += [statement(equal, number, 0, 1), statement(give, 0x7FFF0000)]
    lines.append(statement(give, 0x00050001))
    code = b"".join(lines)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(buffer))
    _check(libc.prctl(PR_SET_SECCOMP, 2, program, 0, 0), "seccomp")


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def confine(unit: Path, uid: int, gid: int) -> None:
    """Give up what the unit gives up."""
    told = settings(unit)
    kept = [CAPS[name] for name in told["CapabilityBoundingSet"][0].split()]
    numbers = call_numbers()
    allowed = {numbers[name] for name in allowed_calls(told["SystemCallFilter"]) if name in numbers}
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for cap in set(range(last + 1)) - set(kept):
        _check(libc.prctl(PR_CAPBSET_DROP, cap, 0, 0, 0), "bounding set")
    _check(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "keep capabilities")
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    bits = sum(1 << cap for cap in kept)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    header, data = struct.pack("Ii", 0x20080522, 0), struct.pack("6I", low, low, low, high, high, high)
    _check(libc.capset(header, data), "capabilities")
    for cap in [CAPS[name] for name in told["AmbientCapabilities"][0].split()]:
        _check(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0), "ambient capabilities")
    if told["MemoryDenyWriteExecute"] == ["yes"]:
        libc.prctl(PR_SET_MDWE, 1, 0, 0, 0)  # 6.3 and newer; older systemd does it by seccomp
    _check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    seccomp(allowed)


if __name__ == "__main__":
    confine(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    os.execv(sys.argv[4], sys.argv[4:])
