"""The table of system call numbers against the C library's headers."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from appliance.kernel.arch import ARCHES, this_arch
from appliance.model.diagnostic import NotSupportedError


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
