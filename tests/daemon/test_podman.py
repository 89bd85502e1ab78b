"""A container of a real podman: its name and image come from podman's own API socket."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.docker import EngineUnavailableError, end, remove_tree, rootfs_tar, unavailable
from tests.support.receivers import wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.docker]

RULE = """
- rule: Any program in a container
  desc: d
  condition: evt.type in (execve, execveat) and evt.failed = false and container.id != host and proc.name = id
  output: >
    ran (name=%container.name id=%container.full_id image=%container.image repository=%container.image.repository
    tag=%container.image.tag type=%container.type privileged=%container.privileged mounts=%container.mounts)
  priority: NOTICE
"""


class Podman:
    """podman with storage of its own; `runc`, because crun refuses hybrid cgroups."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "podman.sock"
        self._folder = folder
        self.argv = [
            "podman", f"--root={folder}/root", f"--runroot={folder}/run", "--storage-driver=vfs",
            "--cgroup-manager=cgroupfs", "--events-backend=file", "--runtime=runc",
        ]  # fmt: skip

    def client(self, *argv: str) -> str:
        done = subprocess.run(
            [*self.argv, *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def podman() -> Iterator[Podman]:
    folder = Path(tempfile.mkdtemp(prefix="tercel-podman-"))
    engine = Podman(folder)
    service = None
    try:
        if shutil.which("podman") is None:
            raise EngineUnavailableError("`podman` is not installed")
        engine.client("import", str(rootfs_tar()), "nginx:1.22")
        with (folder / "service.log").open("wb") as log:
            service = subprocess.Popen(
                [*engine.argv, "system", "service", "--time=0", f"unix://{engine.socket}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(engine.socket.exists, "podman's socket")
        yield engine
    except EngineUnavailableError as error:
        unavailable(error)
    finally:
        if service is not None:
            subprocess.run([*engine.argv, "rm", "--all", "--force"], capture_output=True, check=False)
            end(service)
        remove_tree(folder)


def test_a_container_of_podman(tmp_path: Path, podman: Podman) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULE)
    config = {"containers": {"docker_sockets": [], "podman_sockets": [str(podman.socket)], "wait_ms": 5000}}
    with Daemon(tmp_path, config, rules=[rules]) as daemon:
        full_id = podman.client(
            "run", "--detach", "--network=none", "--ulimit=nofile=1000:1000", "--ulimit=nproc=5000:5000", "--name=web",
            f"--volume={tmp_path}:/data:ro", "nginx:1.22", "nginx", "-g", "daemon off;",
        )  # fmt: skip
        podman.client("exec", "web", "id")
        alert = daemon.wait_for(lambda a: a["rule"] == "Any program in a container")
    told = alert["output_fields"]
    assert told["container.name"] == "web"
    assert told["container.full_id"] == full_id
    assert told["container.image"].endswith("nginx:1.22")
    assert told["container.image.repository"].endswith("nginx")
    assert (told["container.image.tag"], told["container.type"]) == ("1.22", "podman")
    assert told["container.privileged"] is False
    assert f"{tmp_path}:/data:" in told["container.mounts"]
