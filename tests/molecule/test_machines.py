"""Machines end with the process that they are for, however that ends."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.vm import disk

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60
STARTS = """
import sys
from tests.support.vm import Machine, disk
machine = Machine(disk())
machine.start(stays=bool(int(sys.argv[1])), owner=int(sys.argv[1]))
print(machine.folder, (machine.folder / "pid").read_text(), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("who", ["starter", "owner"])
def test_a_machine_ends_with_its(who: str, end: signal.Signals) -> None:
    """A test that is killed leaves none behind, and neither does one whose machines another program started; these run
    on all processors, though who starts them may not."""
    disk()  # made here if it must be, where nobody is killed
    with subprocess.Popen(["sleep", "600"]) as owner:
        processors = os.sched_getaffinity(0)
        argv = ["taskset", "-c", str(min(processors)), sys.executable, "-c", STARTS]
        argv += [str(owner.pid if who == "owner" else 0)]
        with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
            assert starter.stdout is not None
            folder, pid = starter.stdout.readline().split()
            machine = os.pidfd_open(int(pid))
            try:
                if who == "owner":
                    assert os.sched_getaffinity(int(pid)) == processors
                (owner if who == "owner" else starter).send_signal(end)
                assert select.select([machine], [], [], PATIENCE_S)[0], "it runs on"
                deadline = time.monotonic() + PATIENCE_S
                while Path(folder).exists():
                    assert time.monotonic() < deadline, "its folder was left"
                    time.sleep(0.05)
            finally:
                if not select.select([machine], [], [], 0)[0]:
                    signal.pidfd_send_signal(machine, signal.SIGKILL)
                os.close(machine)
                starter.kill()
                owner.kill()
