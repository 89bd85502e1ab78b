"""What is put together for machines that lack something."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from appliance.catalog.events import STATE
from appliance.kernel import bpfcall
from appliance.kernel.arch import this_arch
from appliance.kernel.btf import Btf, read_btf
from appliance.kernel.loader import load_first, possible_cpus
from appliance.kernel.merge import Merged
from appliance.kernel.probe import why_not_typed
from appliance.kernel.program import TRACEPOINTS, Buffers, ProgramSpec, program_spec
from appliance.kernel.ring import Ring
from appliance.model.event import EventType

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
    assert "the next best text is used" in caplog.text
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
