"""The table of system call numbers against the C library's headers."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Mapping

import pytest

from appliance.kernel import numbers
from appliance.kernel.arch import ARCHES, this_arch
from appliance.model.diagnostic import NotSupportedError
from appliance.model.event import EventType


def test_numbers_are_those_of_the_headers() -> None:
    compiler = shutil.which("cc")
    assert compiler, "a C compiler is needed: make setup-test installs one"
    table = this_arch().syscalls
    source = "#include <sys/syscall.h>\n" + "\n".join(f"= {t.name} SYS_{t.value}" for t in table)
    text = subprocess.run([compiler, "-E", "-P", "-"], input=source, capture_output=True, text=True, check=True).stdout
    found = {line.split()[1]: line.split()[2] for line in text.splitlines() if line.startswith("= ")}
    for event_type, number in table.items():
        told = found[event_type.name]
        if told.startswith("SYS_"):  # newer than these headers: fchmodat2
            continue
        assert told == str(number), event_type


def test_no_number_serves_two_events() -> None:
    for arch in ARCHES.values():
        assert len(set(arch.syscalls.values())) == len(arch.syscalls)


def test_an_unknown_machine_is_refused_by_name() -> None:
    with pytest.raises(NotSupportedError, match="riscv64"):
        this_arch("riscv64")


def header(name: str) -> dict[int, set[str]]:
    """Number -> names, as the kernel's own header has them."""
    command = ["cc", "-E", "-dM", "-x", "c", "-"]
    text = subprocess.run(command, input=f"#include <{name}>\n", capture_output=True, text=True, check=True).stdout
    found: dict[int, set[str]] = {}
    pattern = r"#define __NR(?:3264)?_(\w+) (?:\(__X32_SYSCALL_BIT \+ )?(\d+)\)?"
    for called, number in re.findall(pattern, text):
        if called != "syscalls":  # how many there are
            found.setdefault(int(number), set()).add(called)
    return found


def spellings(called: str) -> set[str]:
    """The event's names that a call of the header may go by: those of other sizes stand under one."""
    stems = {
        called,
        called.removesuffix("_time64"),
        re.sub(r"(64|32)$", "", called),
        called.removesuffix("64_64") + "64",
    }
    return stems | {"llseek", "getrlimit"} & {called.lstrip("_"), called.removeprefix("u")}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="these headers are of x86_64")
@pytest.mark.parametrize(
    ("table", "name"),
    [
        (numbers.X86_64, "asm/unistd_64.h"),
        (numbers.I386, "asm/unistd_32.h"),
        (numbers.X32, "asm/unistd_x32.h"),
        (numbers.ARM64, "asm-generic/unistd.h"),
    ],
    ids=["x86_64", "i386", "x32", "arm64"],
)
def test_every_number_is_that_of_the_header(table: Mapping[int, EventType], name: str) -> None:
    theirs = header(name)
    newest = max(number for number in theirs if number < 1000)
    for number, event_type in table.items():
        if number <= newest and number in theirs:
            accepted = set().union(*map(spellings, theirs[number])) | ({"newfstatat"} if number == 79 else set())
            assert event_type.value in accepted, number
    missing = {n for n in theirs if n not in table and n < 1000}
    gone = {"break", "stty", "gtty", "ftime", "prof", "lock", "mpx", "ulimit", "profil", "vm86old", "afs_syscall",
            "putpmsg", "vserver", "tuxcall", "security", "arch_specific_syscall", "syscalls"}  # fmt: skip
    if table is not numbers.X32:
        assert set().union(*(theirs[n] for n in missing)) <= gone
