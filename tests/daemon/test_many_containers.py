"""A hundred containers started and removed within a minute or so: each is known by its name, and the books close.

Each is removed by its engine as soon as its one short program has ended (`--rm`): an engine that is asked about it then
knows nothing of it any more. Its events have told the name, the image and the labels.
"""

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
  output: >
    ran (id=%container.id name=%container.name image=%container.image repository=%container.image.repository
    tag=%container.image.tag label=%container.label[n] missing=%container.missing)
  priority: NOTICE
"""


def test_a_hundred_containers(tmp_path: Path, docker_engine: DockerEngine, nginx_image: str) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULE)
    none = {f"{engine}_sockets": [] for engine in ("podman", "containerd", "crio")}
    # how long an event may wait for its container: no claim of speed, this machine may be busy
    config = {"containers": {**none, "docker_sockets": [str(docker_engine.socket)], "wait_ms": 60_000}}

    def run(n: int) -> str:
        options = "--rm", "--network=none", f"--name=many-{n}", f"--label=n={n}"
        return docker_engine.client("run", *options, nginx_image, "id", "-u", timeout_s=300)

    with Daemon(tmp_path, config, rules=[rules]) as daemon:
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(run, range(COUNT))) == {"0"}
        wait_until(lambda: len(daemon.alerts("A program in a container")) >= COUNT, "alerts", 120)
        told = [a["output_fields"] for a in daemon.alerts("A program in a container")]
    assert sorted(f["container.name"] for f in told) == sorted(f"many-{n}" for n in range(COUNT))
    assert all(f["container.name"] == f"many-{f['container.label[n]']}" for f in told)
    assert {f["container.image"] for f in told} == {nginx_image}
    assert {(f["container.image.repository"], f["container.image.tag"]) for f in told} == {("nginx", "1.22")}
    assert len({f["container.id"] for f in told}) == COUNT
    gone = sum(f["container.missing"] is not None for f in told)
    print(f"{gone} of {COUNT} were gone before docker could be asked about them")
    assert {f["container.missing"] for f in told} <= {None, "removed before docker could be asked"}
    assert not docker_engine.client("ps", "--all", "--quiet", "--filter=name=many-"), "each was removed"
    assert daemon.summary_number("lost") == 0
    assert "unaccounted for" not in daemon.errors()
