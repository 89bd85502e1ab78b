"""Falco's keys of its engine, on the real one: how large the rings are, how many, and which calls they bring."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.kernel.program import MOST_RINGS
from tests.support.daemon import Daemon

pytestmark = pytest.mark.kernel

_RINGBUF = "27"  # BPF_MAP_TYPE_RINGBUF


def rings(pid: int) -> list[int]:
    """The sizes of the ring buffers that a process holds, in bytes: bpf(2) shows them in its fdinfo."""
    found = {}
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        pairs = (line.split(":\t") for line in info.read_text().splitlines() if ":\t" in line)
        told = {name: value.strip() for name, value in pairs}
        if told.get("map_type") == _RINGBUF:
            found[told["map_id"]] = int(told["max_entries"])
    return list(found.values())


def test_rings_and_calls_that_fail(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "- {rule: Removed, desc: d, condition: 'evt.type in (rmdir, unlinkat) and"
        f" fs.path.name startswith {tmp_path}/dir', output: '%fs.path.name', priority: INFO}}\n"
    )
    keys = {"buf_size_preset": 2, "cpus_for_each_buffer": 1, "drop_failed_exit": True}
    with Daemon(tmp_path, {"engine": {"modern_ebpf": keys}}, rules=[rules]) as daemon:
        sizes = rings(daemon.pid)
        assert sizes.count(2 << 20) >= min(os.cpu_count() or 1, MOST_RINGS), sizes
        for name in ("dir-gone", "dir-there"):
            if name == "dir-there":
                (tmp_path / name).mkdir()
            try:
                (tmp_path / name).rmdir()
            except FileNotFoundError:
                assert name == "dir-gone"
        daemon.wait_for(lambda a: a["output_fields"].get("fs.path.name") == str(tmp_path / "dir-there"))
    assert [a["output_fields"]["fs.path.name"] for a in daemon.alerts("Removed")] == [str(tmp_path / "dir-there")]
