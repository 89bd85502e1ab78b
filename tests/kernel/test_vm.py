"""Other kernels: the same program text loads in a machine of its own and sees a known workload exactly.

CI boots one (Debian 12, Linux 6.1), without KVM; the others (Debian 11 and 13, Linux 5.10 and 6.12) are a matter of
`make test-kernels`, which names them in TERCEL_KERNELS. docs/testing.md says what came of it last.
"""

from __future__ import annotations

import json
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.vm import KERNELS, Machine, disk

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).resolve().parents[2]
RELEASES = os.environ.get("TERCEL_KERNELS", "bookworm").split()
SHARED = ("appliance", "tests", "bench", "schemas", "rules", "pyproject.toml", "tercel.yaml")

# One program, loaded once (compiling takes half a minute there), judges all that acts.py does, threads, books.
CLAIMS = "typed or each_call or paths_are or threads_are or hostile or order_of_time or deep_working"


@pytest.fixture(scope="module", params=RELEASES)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    share = {name: ROOT / name for name in SHARED} | {"site": Path(sysconfig.get_path("purelib"))}
    with Machine(disk(request.param), share) as machine:
        yield machine


def test_the_kernel_sees_the_workload(machine: Machine) -> None:
    release = machine.run(["uname", "-r"]).out
    assert release.startswith(KERNELS[machine.disk.release])
    done = machine.run(
        ["python3", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/kernel/test_capture.py", "-k", CLAIMS],
        env={"PYTHONPATH": "/mnt:/mnt/site", "CI": "true"},
        cwd="/mnt",
        timeout_s=1200,  # without KVM, on a machine that has other work
    )
    assert done.status == 0, f"{release}\n{done.out[-6000:]}\n{done.err[-2000:]}"
    assert " passed" in done.out and "skipped" not in done.out, done.out


def test_the_doctor_says_what_that_kernel_offers(machine: Machine) -> None:
    """fentry is there on ordinary kernels; requests of io_uring are told from 5.19 on."""
    done = machine.run(
        ["python3", "-m", "appliance.cli.main", "doctor", "--json", "-c", "/mnt/tercel.yaml"],
        env={"PYTHONPATH": "/mnt:/mnt/site"},
    )
    assert done.out, done.err
    told = json.loads(done.out)
    states = {f["name"]: f["state"] for f in told["findings"]}
    assert states["raw tracepoints"] == states["typed tracepoints"] == "chosen"
    assert "offered" in next(f["text"] for f in told["findings"] if f["name"] == "fentry")
    old = machine.disk.release == "bullseye"
    assert states["io_uring"] == ("degraded" if old else "chosen")
    assert told["status"] == done.status == (3 if old else 0)
    assert any(f["rules"] for f in told["findings"]) is old
