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
from typing import Any

import pytest

from tests.kernel.test_compat import built
from tests.support.vm import KERNELS, Machine, disk

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).resolve().parents[2]
RELEASES = os.environ.get("TERCEL_KERNELS", "bookworm").split()
WHERE = {"PYTHONPATH": "/mnt:/mnt/site"}
SHARED = ("appliance", "tests", "bench", "schemas", "rules", "pyproject.toml", "tercel.yaml")

# where functions cannot be hooked though the kernel has fexit, and what the doctor says of it
WITHOUT_FUNCTIONS = {"bullseye": "refused by this kernel (the functions of execveat are not told)"}

# One program, loaded once (compiling takes half a minute there), judges all that acts.py does, threads, books.
CLAIMS = "typed or each_call or paths_are or threads_are or hostile or order_of_time or deep_working"


@pytest.fixture(scope="module", params=RELEASES)
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    share = {name: ROOT / name for name in SHARED} | {"site": Path(sysconfig.get_path("purelib"))}
    for option in ("-m32", "-DWIDE"):
        share[f"built/calls32{option}"] = built(tmp_path_factory.mktemp("built"), option)
    with Machine(disk(request.param), share) as machine:
        yield machine


def hold(machine: Machine, *paths: str, names: str, timeout_s: float, **env: str) -> None:
    """The claims of these names pass there, and none is skipped. The time is for a machine that has other work."""
    done = machine.run(
        ["python3", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *paths, "-k", names],
        env={**WHERE, "CI": "true", **env},
        cwd="/mnt",
        timeout_s=timeout_s,
    )
    assert done.status == 0, f"{done.out[-6000:]}\n{done.err[-2000:]}"
    assert " passed" in done.out and "skipped" not in done.out, done.out


def test_the_kernel_sees_the_workload(machine: Machine) -> None:
    assert machine.run(["uname", "-r"]).out.startswith(KERNELS[machine.disk.release])
    hold(machine, "tests/kernel/test_capture.py", names=CLAIMS, timeout_s=1200)


# Takes minutes, and is for nights. In CI nothing is skipped: there it does not exist.
if "TERCEL_KERNELS" in os.environ:

    def test_the_kernel_sees_the_same_at_its_functions(machine: Machine) -> None:
        """fexit instead of the tracepoint that every call passes; all of the workload.

        Linux 5.10 does not tell of the function that makes execveat: there the tracepoint hears all, and says so.
        """
        if machine.disk.release in WITHOUT_FUNCTIONS:
            told = asked(machine, "-o", "capture.hooks=functions")
            assert WITHOUT_FUNCTIONS[machine.disk.release] in next(
                f["text"] for f in told["findings"] if f["name"] == "functions"
            )
            return
        paths, names = ["tests/kernel/at_functions.py", "tests/kernel/test_capture.py"], f"at_functions or {CLAIMS}"
        hold(machine, *paths, names=names, timeout_s=2400, TERCEL_HOOKS="functions", TERCEL_BUILT="/mnt/built")


def test_the_doctor_says_what_that_kernel_offers(machine: Machine) -> None:
    """Functions can be hooked on ordinary kernels; requests of io_uring are told from 5.19 on."""
    told = asked(machine)
    states = {f["name"]: f["state"] for f in told["findings"]}
    assert states["raw tracepoints"] == states["typed tracepoints"] == "chosen"
    text = next(f["text"] for f in told["findings"] if f["name"] == "functions")
    assert WITHOUT_FUNCTIONS.get(machine.disk.release, "offered") in text
    old = machine.disk.release == "bullseye"
    assert states["io_uring"] == ("degraded" if old else "chosen")
    assert told["status"] == (3 if old else 0)
    assert any(f["rules"] for f in told["findings"]) is old


def test_the_doctor_says_what_is_lost_by_functions(machine: Machine) -> None:
    found = {f["name"]: f for f in asked(machine, "-o", "capture.hooks=functions")["findings"]}
    if machine.disk.release in WITHOUT_FUNCTIONS:
        assert (found["functions"]["state"], found["typed tracepoints"]["state"]) == ("unused", "chosen")
        assert "no effect" in found["functions"]["hint"]
        return
    assert (found["functions"]["state"], found["typed tracepoints"]["state"]) == ("chosen", "unused")
    assert "sys_exit" not in found["raw tracepoints"]["text"]
    less = found["calls that do not reach their function"]
    assert less["state"] == "degraded" and "seccomp" in less["text"]
    assert "mount" in less["events"] and "Mount attempted in a container" in less["rules"]
    assert "Terminal shell in a container" not in less["rules"]  # a shell that started was not refused


def asked(machine: Machine, *options: str) -> dict[str, Any]:
    """What `tercel doctor` says there."""
    done = machine.run(
        ["python3", "-m", "appliance.cli.main", "doctor", "--json", "-c", "/mnt/tercel.yaml", *options],
        env=WHERE,
    )
    assert done.out, done.err
    told: dict[str, Any] = json.loads(done.out)
    assert told["status"] == done.status
    return told
