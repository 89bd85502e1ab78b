"""A container of a real podman: its name and image come from podman's own API socket."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.docker import EngineUnavailableError, end, needed, remove_tree, rootfs_tar, serve
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
            [*self.argv, *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


class UsersPodman:
    """podman as the user `games` runs it in a session: without root, with storage and socket of its own."""

    def __init__(self, folder: Path) -> None:
        user = pwd.getpwnam("games")
        self.uid = user.pw_uid
        self.session = Path(f"/run/user/{self.uid}")
        self.socket = self.session / "podman" / "podman.sock"
        self._folder = folder
        self._env = {"HOME": str(folder), "XDG_RUNTIME_DIR": str(self.session), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        self._argv = [
            "setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "podman",
            f"--root={folder}/root", f"--runroot={folder}/run", "--storage-driver=vfs",
            "--storage-opt=vfs.ignore_chown_errors=true", "--cgroup-manager=cgroupfs", "--events-backend=file",
        ]  # fmt: skip
        self.socket.unlink(missing_ok=True)  # of a run that was killed
        for place in (folder, self.session, self.socket.parent):
            place.mkdir(parents=True, exist_ok=True)
            os.chown(place, user.pw_uid, user.pw_gid)
        folder.chmod(0o755)

    def client(self, *argv: str) -> str:
        done = subprocess.run(
            [*self._argv, *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
            env=self._env, cwd="/",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().split("\n")[-1]

    def serve(self) -> subprocess.Popen[bytes]:
        argv = [*self._argv, "system", "service", "--time=0", f"unix://{self.socket}"]
        return serve(argv, self._folder / "service.log", env=self._env, cwd="/")


def installed() -> None:
    """Raises `EngineUnavailableError` where it is not."""
    if shutil.which("podman") is None:
        raise EngineUnavailableError("`podman` is not installed")


@pytest.fixture
def users_podman() -> Iterator[UsersPodman]:
    with needed():
        installed()
    folder = Path(tempfile.mkdtemp(prefix="tercel-podman-"))
    engine = UsersPodman(folder)
    service = None
    try:
        layer = folder / "layer.tar"
        with tarfile.open(layer, "w") as tar:
            tar.add("/bin/true", "true", filter=lambda info: info)
        layer.chmod(0o644)
        engine.client("import", str(layer), "games:1")
        service = engine.serve()
        wait_until(engine.socket.exists, "the user's podman")
        yield engine
    finally:
        if service is not None:
            end(service)
        remove_tree(folder)
        remove_tree(engine.session)


@pytest.fixture
def podman() -> Iterator[Podman]:
    folder = Path(tempfile.mkdtemp(prefix="tercel-podman-"))
    engine = Podman(folder)
    service = None
    try:
        with needed():
            installed()
            tar = rootfs_tar()
        engine.client("import", str(tar), "nginx:1.22")
        argv = [*engine.argv, "system", "service", "--time=0", f"unix://{engine.socket}"]
        service = serve(argv, folder / "service.log")
        wait_until(engine.socket.exists, "podman's socket")
        yield engine
    finally:
        if service is not None:
            subprocess.run([*engine.argv, "rm", "--all", "--force"], capture_output=True, check=False)
            end(service)
        remove_tree(folder)


def test_a_container_of_podman(tmp_path: Path, podman: Podman) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULE)
    config = {"containers": {"docker_sockets": [], "podman_sockets": [str(podman.socket)], "wait_ms": 60_000}}
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


SPOKEN = """
- rule: A file is opened in a user's container
  desc: d
  condition: evt.type in (open, openat) and fd.name = /etc/hostname and container.id != host
  output: >
    opened (id=%container.id owner=%container.owner name=%container.name image=%container.image
    label=%container.label[a] missing=%container.missing)
  priority: NOTICE
"""


def cgroup_root() -> Path:
    mounts = (line.split(" ") for line in Path("/proc/self/mounts").read_text().splitlines())
    return next(Path(fields[1]) for fields in mounts if fields[2] == "cgroup2")


def open_inside(cgroup: Path) -> None:
    """A process of that cgroup opens a file."""
    cgroup.mkdir(parents=True)
    try:
        subprocess.run(["sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec cat /etc/hostname', cgroup], check=True)
    finally:
        folder = cgroup
        while folder != cgroup_root() and folder.name != "user.slice":
            wait_until(partial(gone, folder), f"the end of {folder}")
            folder = folder.parent


def gone(cgroup: Path) -> bool:
    """Remove a control group; it is busy for a moment after its last process."""
    try:
        cgroup.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def test_a_container_of_a_users_podman(tmp_path: Path, users_podman: UsersPodman) -> None:
    """What the user's engine says counts in the user's slice, and nowhere else. The engine is real; where no systemd is
    PID 1 it can make no cgroup, so that is the test's."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(SPOKEN)
    none = {f"{engine}_sockets": [] for engine in ("docker", "podman", "containerd", "crio")}
    full_id = users_podman.client(
        "create", "--name=mine", "--network=none", "--label=a=b", "localhost/games:1", "/true"
    )
    uid = users_podman.uid
    slice_ = cgroup_root() / f"user.slice/user-{uid}.slice/user@{uid}.service"
    with Daemon(tmp_path, {"containers": {**none, "wait_ms": 60_000}}, rules=[rules]) as daemon:
        open_inside(slice_ / f"libpod-{full_id}.scope")
        told = daemon.wait_for(lambda a: a["output_fields"]["container.owner"] == uid)["output_fields"]
        assert (told["container.name"], told["container.image"]) == ("mine", "localhost/games:1")
        assert (told["container.label[a]"], told["container.missing"]) == ("b", None)
        open_inside(cgroup_root() / "tercel-test" / f"libpod-{full_id}.scope")
        told = daemon.wait_for(lambda a: a["output_fields"]["container.owner"] is None)["output_fields"]
        assert (told["container.name"], told["container.missing"]) == (None, "no container engine answered")
