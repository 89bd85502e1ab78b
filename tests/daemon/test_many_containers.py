"""A hundred containers started and removed one after another: each is known by name, and the books close."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.docker import DockerEngine
from tests.support.receivers import wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.docker]

COUNT = 100
RULE = """
- rule: A program in a container
  desc: d
  condition: evt.type in (execve, execveat) and evt.failed = false and container.id != host and proc.name = id
  output: ran (name=%container.name image=%container.image label=%container.label[n] missing=%container.missing)
  priority: NOTICE
"""


def test_a_hundred_containers(tmp_path: Path, docker_engine: DockerEngine, nginx_image: str) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULE)
    none = {f"{engine}_sockets": [] for engine in ("podman", "containerd", "crio")}
    config = {"containers": {**none, "docker_sockets": [str(docker_engine.socket)], "wait_ms": 5000}}

    def run(n: int) -> None:
        name = f"many-{n}"
        docker_engine.client(
            "run", "--network=none", f"--name={name}", f"--label=n={n}", nginx_image, "id", timeout_s=300
        )

    with Daemon(tmp_path, config, rules=[rules]) as daemon:
        with ThreadPoolExecutor(4) as pool:
            for n in range(0, COUNT, 20):
                list(pool.map(run, range(n, n + 20)))
                # removed once it was told of: an engine cannot be asked about what is gone
                wait_until(lambda: len(daemon.alerts("A program in a container")) >= n + 20, "alerts", 60)  # noqa: B023
                docker_engine.client("rm", "--force", *(f"many-{i}" for i in range(n, n + 20)), timeout_s=300)
        told = [a["output_fields"] for a in daemon.alerts("A program in a container")]
    assert {(f["container.name"], f["container.label[n]"]) for f in told} == {
        (f"many-{n}", str(n)) for n in range(COUNT)
    }
    assert {(f["container.image"], f["container.missing"]) for f in told} == {(nginx_image, None)}
    assert len(told) == COUNT
    assert daemon.summary_number("lost") == 0
    assert "unaccounted for" not in daemon.errors()
