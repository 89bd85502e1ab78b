"""What goes wrong between text and program is told as what it is, and a process that dies takes nobody with it."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.kernel import bpfcall
from appliance.kernel.arch import this_arch
from appliance.kernel.btf import read_btf
from appliance.kernel.doors import Door
from appliance.kernel.inventory import Inventory
from appliance.kernel.kept import Kept
from appliance.kernel.loader import Program, load
from appliance.kernel.program import MOST_RINGS, Buffers, Handler, ProgramSpec, program_spec
from appliance.model.diagnostic import KernelError, NotSupportedError, VerifierError
from appliance.model.event import EventType

PAGE = 4096


@pytest.fixture(scope="module")
def spec() -> ProgramSpec:
    return program_spec(read_btf(), this_arch(), buffers=Buffers(1 << 20), cpus=2)


@pytest.mark.kernel
def test_text_that_does_not_compile_is_told_with_the_compilers_words(spec: ProgramSpec) -> None:
    with pytest.raises(KernelError, match=r"error: .*nonsense") as caught:
        load(
            replace(spec, text="int at_x(void *ctx) { return nonsense; }", handlers={}, tracepoints={"x": "at_x"}),
            own_pid=os.getpid(),
        )
    assert not isinstance(caught.value, NotSupportedError | VerifierError)


@pytest.mark.kernel
def test_a_program_that_the_kernel_refuses_is_named_and_the_verifiers_log_kept(spec: ProgramSpec) -> None:
    text = (
        "static long (*no_such_helper)(void) = (void *)9999;\n"
        "int at_x(struct bpf_raw_tracepoint_args *ctx) { return no_such_helper(); }"
    )
    with pytest.raises(VerifierError) as caught:
        load(replace(spec, text=text, handlers={}, tracepoints={"x": "at_x"}), own_pid=os.getpid())
    assert "at_x" in str(caught.value)
    assert "9999" in caught.value.log


@pytest.mark.kernel
def test_a_signal_that_comes_while_a_program_is_judged_is_no_refusal() -> None:
    """The verifier gives up then with EAGAIN, and is asked again."""
    count_up = ((0xB7, 0, 0, 0), (0x07, 0, 0, 1), (0xA5, 0, -2, 250_000), (0x95, 0, 0, 0))  # r0 = 0; do r0++ while ...
    code = b"".join(struct.pack("=BBhi", *one) for one in count_up)
    came: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: came.append(number))
    judged, me = threading.Event(), threading.get_ident()

    def disturb() -> None:
        for _ in range(10):
            if judged.wait(0.01):
                break
            signal.pthread_kill(me, signal.SIGUSR1)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        while not came:
            os.close(bpfcall.load_program(bpfcall.RAW_TRACEPOINT, code))
    finally:
        judged.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def test_a_bcc_that_is_not_there_is_told_with_what_to_install() -> None:
    """The compiler's own process, in which the module cannot be imported."""
    script = "import sys; sys.modules['bcc'] = None; from appliance.kernel.compiler import main; main(int(sys.argv[1]))"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = subprocess.Popen([sys.executable, "-c", script, str(theirs.fileno())], pass_fds=[theirs.fileno()])
        theirs.close()
        ours.sendall(
            json.dumps({"text": "", "functions": [], "tables": [], "like": {}, "stubs": "", "flags": []}).encode()
        )
        ours.shutdown(socket.SHUT_WR)
        with ours.makefile("rb") as answer:
            (size,) = struct.unpack("=I", answer.read(4))
            told = json.loads(answer.read(size))
        assert child.wait(120) == 0
    assert told["kind"] == "bcc"
    assert "cannot be imported" in told["text"]


@pytest.mark.kernel
def test_a_compiler_that_dies_is_an_error_not_a_hang(
    spec: ProgramSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\nexit 9\n")
    dying.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dying))
    with pytest.raises(KernelError, match="ended early"):
        load(spec, own_pid=os.getpid())


def descriptors() -> int:
    gc.collect()  # what earlier tests left open is closed at a time of its own
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.kernel
def test_what_was_loaded_is_given_back_and_the_next_start_needs_no_compiler(
    spec: ProgramSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, kept = descriptors(), Kept(tmp_path / "programs")
    for executable in (sys.executable, "/bin/false"):
        monkeypatch.setattr(sys, "executable", executable)
        program = load(spec, own_pid=os.getpid(), kept=kept)
        program.attach()
        program.close()
        assert descriptors() == before
    (file,) = (tmp_path / "programs").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(KernelError, match="ended early"):  # it is compiled again
        load(spec, own_pid=os.getpid(), kept=kept)


@pytest.mark.parametrize(("cpus", "per_ring", "rings"), [(1, 2, 1), (2, 2, 1), (5, 2, 3), (8, 0, 1), (256, 2, 16)])
def test_a_ring_for_each_group_of_processors(cpus: int, per_ring: int, rings: int) -> None:
    buffers = Buffers(8 * PAGE, 4 * PAGE, per_ring)
    sizes = buffers.sizes(cpus)
    assert sizes == (4 * PAGE, *[8 * PAGE] * rings)
    assert rings <= MOST_RINGS
    assert (cpus - 1) // buffers.per_ring(cpus) < rings


def test_an_end_while_functions_are_hooked_leaves_no_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload hooks what new rules ask for on a thread of its own. This kernel refuses such hooks (test_vm.py has real
    ones), so their descriptors are of nothing."""
    at_it, go_on, made = threading.Event(), threading.Event(), list[int]()

    def load_slowly(*_: object, **__: object) -> int:
        at_it.set()
        assert go_on.wait(60)
        made.append(os.open("/dev/null", os.O_RDONLY))
        return made[-1]

    def attach(_: int) -> int:
        made.append(os.open("/dev/null", os.O_RDONLY))
        return made[-1]

    monkeypatch.setattr(bpfcall, "load_program", load_slowly)
    monkeypatch.setattr(bpfcall, "attach_traced", attach)
    handler = Handler("on_acct", None, 0, EventType.ACCT)
    spec = ProgramSpec("", {0: handler}, {}, (), doors={0: (Door("__x64_sys_acct", 1, 0),)})
    program = Program(spec, (), {}, {}, Inventory(), _entries=(b"",))
    program.attach()
    hooking = threading.Thread(target=program.prepare, args=([EventType.ACCT],))
    hooking.start()
    assert at_it.wait(60)
    ending = threading.Thread(target=program.close)
    ending.start()
    ending.join(0.2)  # where it does not wait, it is through by now
    go_on.set()
    for thread in (hooking, ending):
        thread.join(60)
        assert not thread.is_alive()
    assert len(made) == 2
    for fd in made:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    program.prepare([EventType.ACCT])
    program.repair()
    assert len(made) == 2, "what was closed hooks nothing any more"
