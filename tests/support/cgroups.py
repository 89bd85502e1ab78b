"""Control groups of ours, in the hierarchy by which containers are told apart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HIERARCHIES = (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"))


@contextmanager
def cgroup(name: str) -> Iterator[Path]:
    """A group below the root, for as long as this lasts."""
    path = next(path for path in HIERARCHIES if (path / "cgroup.procs").exists()) / name
    path.mkdir()
    try:
        yield path
    finally:
        for _ in range(300):  # it is busy for a moment after its last process
            try:
                path.rmdir()
                break
            except OSError:
                time.sleep(0.1)
