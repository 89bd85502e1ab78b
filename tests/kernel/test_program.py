"""What is put together for machines that lack something."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from appliance.catalog.events import STATE
from appliance.kernel import bpfcall
from appliance.kernel.arch import this_arch
from appliance.kernel.btf import Btf, read_btf
from appliance.kernel.doors import doors_of, why_no_doors, without_door
from appliance.kernel.loader import load_first, possible_cpus
from appliance.kernel.merge import Merged
from appliance.kernel.probe import why_not_typed
from appliance.kernel.program import TRACEPOINTS, Buffers, Hooks, ProgramSpec, program_spec
from appliance.kernel.ring import Ring
from appliance.model.event import EventType
from appliance.sources import syscall
from appliance.sources.syscall import SyscallSource
from tests.support.daemon import PROGRAMS

pytestmark = pytest.mark.kernel


def put_together(btf: Btf, **changes: object) -> ProgramSpec:
    arch = replace(this_arch(), **changes) if changes else this_arch()
    return program_spec(btf, arch, buffers=Buffers(1 << 20), cpus=2)


def test_a_kernel_whose_tracepoints_do_not_tell_of_requests_is_blind_to_io_uring() -> None:
    btf = read_btf()
    assert "io_uring_complete" in put_together(btf).tracepoints
    assert put_together(btf).blind == ()
    old = Btf(btf.data, btf.types, btf.named, {}, btf.strings)
    spec = put_together(old)
    assert tuple(spec.tracepoints) == TRACEPOINTS
    assert not any("uring" in function for function in spec.functions)
    assert [what.partition(":")[0] for what in spec.blind] == ["work of io_urings"]


def test_only_what_is_asked_for_and_state_is_heard() -> None:
    spec = put_together(read_btf())
    kinds = {spec.handlers[slot].type for slot in spec.heard({EventType.MKDIR})}
    assert kinds - STATE == {EventType.MKDIR}
    doors = [slot for slot in spec.heard({EventType.CONNECT}) if spec.handlers[slot].type is EventType.CONNECT]
    assert len(doors) == (4 if this_arch().compat else 2)  # of 64 and 32 bits, behind socketcall, through an io_uring


def test_the_end_of_a_call_is_typed_where_the_kernel_takes_it_and_raw_elsewhere() -> None:
    """The registers are then loaded instead of read by a call, which every call pays that nobody asks about."""
    btf, arch = read_btf(), this_arch()
    assert why_not_typed(btf, arch) is None  # CI's kernel and all of Debian's take it
    spec = program_spec(btf, arch, buffers=Buffers(1 << 20), cpus=2, typed=True)
    assert "#define TYPED 1" in spec.text
    target = btf.typed_tracepoint("sys_exit")
    assert spec.typed == {"sys_exit": target}
    typed = {name for name in spec.functions if spec.how(name) == (bpfcall.TRACING, bpfcall.TYPED_TRACEPOINT, target)}
    raw = {name for name in spec.functions if spec.how(name) == (bpfcall.RAW_TRACEPOINT, 0, 0)}
    assert typed | raw == set(spec.functions)
    assert {"at_sys_exit", "on_openat", "on_registers"} <= typed
    assert raw == {name for name in spec.functions if "uring" in name or name.startswith("at_")} - typed
    untold = Btf(btf.data, btf.types, btf.named, {}, btf.strings)
    assert why_not_typed(untold, arch) == "its type is not told"
    assert put_together(untold).typed == {} and "#define TYPED 1" not in put_together(untold).text


def test_where_the_typed_program_is_refused_the_raw_one_hears_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """A verifier that does not take what others of its kind do: here, as the type is said to be another."""
    put = partial(program_spec, read_btf(), this_arch(), buffers=Buffers(1 << 20), cpus=possible_cpus())
    spec, refused = put(), replace(put(typed=True), typed={"sys_exit": 1})
    program = load_first([refused, spec], own_pid=1)
    assert program.spec is spec and spec.typed == {}
    assert "falling back to the next variant" in caplog.text
    try:
        program.hear({EventType.OPENAT})
        program.attach()
        ring = Merged([Ring(fd, size) for fd, size in zip(program.rings, spec.rings, strict=True)])
        Path("/proc/self/limits").read_text()
        program.detach()
        opened = [r for r in ring.read(1 << 20, all_=True) if r.type is EventType.OPENAT and r.pid == os.getpid()]
        assert any("/proc/self/limits" in str(r) for r in opened)
        ring.close()
    finally:
        program.close()


def test_each_call_that_this_kernel_has_is_known_by_its_function() -> None:
    """By what those answer that are not: the kernel has no such call. A call that waits or harms is none of them."""
    arch, script = this_arch(), "import ctypes, sys; c = ctypes.CDLL(None, use_errno=True); "
    doors = doors_of(read_btf(), arch)
    unknown = [
        n for t, n in arch.syscalls.items() if n not in doors and t not in (EventType.EXIT, EventType.EXIT_GROUP)
    ]
    script += "print([c.syscall(int(n), *[-1] * 6) and ctypes.get_errno() for n in sys.argv[1:]])"
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, unknown)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == str([errno.ENOSYS] * len(unknown)), [arch.numbers[n] for n in unknown]
    if arch.compat:  # and of 32-bit programs, those that never were
        names = {arch.numbers[n].value for n in unknown} | {"idle", "bdflush"}
        assert {name.partition(" ")[0] for name in without_door(arch, doors, EventType)} <= names


def test_a_function_for_each_size_that_a_32_bit_call_is_kept_in() -> None:
    doors = doors_of(read_btf(), this_arch())
    slot = next(s.slot for s in this_arch().slots() if s.type is EventType.CHOWN and s.short_ids)
    assert {door.name for door in doors[slot]} == {"__ia32_sys_chown16", "__ia32_sys_chown"}
    assert {door.name for door in doors[this_arch().syscalls[EventType.STAT]]} == {"__x64_sys_newstat"}


def test_at_functions_each_program_is_for_those_that_can_jump_to_it() -> None:
    """The text is that of the typed tracepoint; programs for functions of another prototype have their own table."""
    btf, arch = read_btf(), this_arch()
    put = partial(program_spec, btf, arch, buffers=Buffers(1 << 20), cpus=2)
    spec, typed = put(doors=doors_of(btf, arch)), put(typed=True)
    assert (spec.text, spec.functions) == (typed.text, typed.functions)  # compiled once
    loadings = list(spec.loadings())
    assert "at_sys_exit" not in {one.function for one in loadings}
    assert {one.function for one in loadings} == set(spec.functions) - {"at_sys_exit"}
    at_calls = {handler.function for handler in spec.handlers.values() if not handler.operation}
    for one in loadings:
        assert (one.attach_type == bpfcall.FEXIT) is (one.function in at_calls)
    for slot, doors in spec.doors.items():
        function = spec.handlers[slot].function
        assert {(function, door.group) for door in doors} <= {(one.function, one.group) for one in loadings}
    assert len({one.name for one in loadings}) == len(loadings)
    assert "sys_exit" not in spec.attached and "sys_exit" in typed.attached
    assert any("seccomp" in what for what in spec.blind)


def test_where_functions_are_refused_the_tracepoint_hears_and_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """CI's kernel refuses them with EPERM; how they are heard where they are offered is told by test_vm.py."""
    btf, arch = read_btf(), this_arch()
    refused = why_no_doors(btf, arch, doors_of(btf, arch))
    source = SyscallSource(Buffers(1 << 20), [EventType.OPENAT], hooks=Hooks.FUNCTIONS, programs=PROGRAMS)
    try:
        assert (source.instead is None) is (refused is None)
        if refused is not None:
            assert f"`capture.hooks: functions` is refused by this kernel ({refused})" in source.describe()
            assert "sys_exit (typed)" in source.describe() and source.spec.doors == {}
            assert refused in caplog.text
        source.prepare([EventType.MKDIR])
        assert EventType.OPENAT in source.heard
    finally:
        source.close()
    # one that is found out late: the probe was let through, the programs are not
    monkeypatch.setattr(syscall, "why_no_doors", lambda *_: None)
    source = SyscallSource(Buffers(1 << 20), [EventType.OPENAT], hooks=Hooks.FUNCTIONS, programs=PROGRAMS)
    try:
        assert (source.instead is None) is (refused is None) is bool(source.spec.doors)
        assert source.differences() == []
    finally:
        source.close()


def test_a_kernel_that_does_not_name_its_functions_is_told_as_such() -> None:
    btf, arch = read_btf(), this_arch()
    doors = {slot: found for slot, found in doors_of(btf, arch).items() if slot != arch.syscalls[EventType.SETSID]}
    assert why_no_doors(btf, arch, doors) == "the functions of setsid are not told"
    assert without_door(arch, doors, [EventType.SETSID, EventType.OPENAT]) == ["setsid"]
    assert without_door(arch, {}, EventType) == []
