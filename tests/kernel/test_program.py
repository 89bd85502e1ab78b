"""What is put together for machines that lack something."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from appliance.catalog.events import STATE
from appliance.kernel.arch import this_arch
from appliance.kernel.btf import Btf, read_btf
from appliance.kernel.program import Buffers, ProgramSpec, program_spec
from appliance.model.event import EventType

pytestmark = pytest.mark.kernel


def put_together(btf: Btf, **changes: object) -> ProgramSpec:
    arch = replace(this_arch(), **changes) if changes else this_arch()
    return program_spec(btf, arch, own_pid=os.getpid(), buffers=Buffers(1 << 20), cpus=2)


def test_a_kernel_whose_tracepoints_do_not_tell_of_requests_is_blind_to_io_uring() -> None:
    btf = read_btf()
    assert "io_uring_complete" in put_together(btf).tracepoints
    assert put_together(btf).blind == ()
    old = Btf(btf.data, btf.types, btf.named, {}, btf.strings)
    spec = put_together(old)
    assert list(spec.tracepoints) == ["sys_exit", "sched_process_fork", "sched_process_exec", "sched_process_exit"]
    assert not any("uring" in function for function in spec.functions)
    assert [what.partition(":")[0] for what in spec.blind] == ["work of io_urings"]


def test_only_what_is_asked_for_and_state_is_heard() -> None:
    spec = put_together(read_btf())
    kinds = {spec.handlers[slot].type for slot in spec.heard({EventType.MKDIR})}
    assert kinds - STATE == {EventType.MKDIR}
    doors = [slot for slot in spec.heard({EventType.CONNECT}) if spec.handlers[slot].type is EventType.CONNECT]
    assert len(doors) == (4 if this_arch().compat else 2)  # of 64 and 32 bits, behind socketcall, through an io_uring
