"""Real container engines for tests: started here with folders of their own, ended by pid, cleaned up whatever happens.

`docker_engine` (one for the session) and `nginx_image` are fixtures. The image is made from Debian packages and kept as
a tar below `$XDG_CACHE_HOME/tercel-tests`; the cache is never required.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

CAPABILITIES = [  # in the order of their bits, capabilities(7)
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
]  # fmt: skip

PACKAGES = "nginx-light"
SUITE = "bookworm"
START_S = 180
APT_RETRIES = '--aptopt=Acquire::Retries "8"'  # a mirror that hiccups is asked again


# runc, but a container gets no capability that this machine does not have itself: without that, no privileged container
# starts where root lacks one (in a CI machine, CAP_SYS_RESOURCE).
RUNTIME = """
import json, os, sys
from pathlib import Path

words = dict(zip(sys.argv, sys.argv[1:]))
spec = Path(words["--bundle"], "config.json") if "--bundle" in words else Path(words.get("--process", ""))
if spec.is_file():
    status = Path("/proc/self/status").read_text()
    here = int(status.partition("CapBnd:")[2].split()[0], 16)
    names = NAMES
    told = json.loads(spec.read_text())
    process = told.get("process", told)
    for kind, given in (process.get("capabilities") or {}).items():
        process["capabilities"][kind] = [c for c in given if c not in names or here >> names.index(c) & 1]
    spec.write_text(json.dumps(told))
os.execvp("runc", ["runc", *sys.argv[1:]])
""".replace("NAMES", repr([f"CAP_{name}" for name in CAPABILITIES]))


class EngineUnavailableError(Exception):
    """This machine cannot run the engine; the message says what is missing."""


class DockerEngine:
    """A dockerd without network bridge, iptables and TCP. Everything lives below `folder`; `stop` takes it all away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "docker.sock"
        self._log = folder / "dockerd.log"
        self._daemon: subprocess.Popen[bytes] | None = None
        self._cgroups = [c for c in _cgroup_folders() if not c.exists()]  # ours to remove

    def start(self) -> None:
        """Start, and wait until it answers. Raises `EngineUnavailableError`."""
        if os.geteuid() != 0:
            raise EngineUnavailableError("dockerd needs root")
        for program in ("dockerd", "docker", "runc"):
            if shutil.which(program) is None:
                raise EngineUnavailableError(f"`{program}` is not installed (Debian: docker.io)")
        (self.folder / "config.json").write_text("{}")
        runtime = self.folder / "runc"
        runtime.write_text(f"#!{sys.executable}\n{RUNTIME}")
        runtime.chmod(0o755)
        argv = [
            "dockerd",
            f"--config-file={self.folder / 'config.json'}",
            f"--data-root={self.folder / 'data'}",
            f"--exec-root={self.folder / 'exec'}",
            f"--pidfile={self.folder / 'docker.pid'}",
            f"--host=unix://{self.socket}",
            f"--add-runtime=here={runtime}",
            "--default-runtime=here",
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
        ]
        self._daemon = serve(argv, self._log)
        deadline = time.monotonic() + START_S
        while subprocess.run(self._argv("version"), capture_output=True).returncode != 0:
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                tail = self._log.read_text(errors="replace")[-2000:]
                self.stop()
                raise EngineUnavailableError(f"dockerd does not start:\n{tail}")
            time.sleep(0.1)

    def _argv(self, *args: str) -> list[str]:
        return ["docker", f"--host=unix://{self.socket}", *args]

    def client(self, *args: str, timeout_s: float = 300) -> str:
        """Run the docker client; gives what it prints. Raises `CalledProcessError`."""
        done = subprocess.run(
            self._argv(*args), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s
        )
        if done.returncode != 0:
            raise AssertionError(f"docker {' '.join(args)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout.strip()

    def argv(self, *args: str) -> list[str]:
        """The client's argument vector, for those who start it themselves (on a terminal, in the background)."""
        return self._argv(*args)

    def run(self, image: str, *args: str, name: str | None = None, options: tuple[str, ...] = ()) -> str:
        """Start a container in the background; gives its id (64 hex). `args` replace the image's command.

        Its network is its own loopback. `options` are further options of `docker run`.
        """
        named = ("--name", name) if name else ()
        return self.client("run", "--detach", "--network=none", *named, *options, image, *args)

    def exec(self, container: str, *argv: str, options: tuple[str, ...] = ()) -> str:
        """Run a program in a container; gives what it prints."""
        return self.client("exec", *options, container, *argv)

    def remove(self, container: str) -> None:
        """End a container and forget it."""
        self.client("rm", "--force", "--volumes", container)

    def pause(self) -> None:
        """Let the engine hang: its socket takes connections and nobody answers. Undone by `resume`."""
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self._daemon.pid}/task")
        while any(_state(task) not in "TX" for task in tasks.iterdir()):  # each thread stops when it is next looked at
            time.sleep(0.01)

    def resume(self) -> None:
        """End a `pause`."""
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End all containers and the engine, unmount and remove its folder."""
        if self._daemon is not None:
            with contextlib.suppress(Exception):
                self.resume()
                if ids := self.client("ps", "--all", "--quiet").split():
                    self.client("rm", "--force", "--volumes", *ids)
            end(self._daemon)
            self._daemon = None
            for cgroup in self._cgroups:
                with contextlib.suppress(OSError):
                    cgroup.rmdir()
        remove_tree(self.folder)


def _cgroup_folders() -> list[Path]:
    """Where Docker keeps its cgroups, in each hierarchy that is mounted."""
    mounts = (line.split(" ") for line in Path("/proc/self/mounts").read_text().splitlines())
    return [Path(fields[1]) / "docker" for fields in mounts if fields[2] in ("cgroup", "cgroup2")]


def serve(argv: Sequence[str | Path], log: Path, **options: Any) -> subprocess.Popen[bytes]:
    """Start a server: it reads nothing, says it all to the end of `log`, has a session of its own. `end` ends it."""
    with log.open("ab") as said:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True, **options
        )


def end(process: subprocess.Popen[bytes], patience_s: float = 20) -> None:
    """End a process that we started: asked first, then forced, with those in its session."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pid in _session(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _state(task: Path) -> str:
    """The state of a thread, a letter as proc(5) has it; `X` for one that has ended."""
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _session(sid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.getsid(int(entry.name)) == sid:
                    found.append(int(entry.name))
    return found


def remove_tree(folder: Path) -> None:
    """Unmount what is mounted below a folder, deepest first, and remove it."""
    mounts = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def cache_folder() -> Path:
    """Where images are kept between runs; outside the checkout."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tercel-tests"


def rootfs_tar() -> Path:
    """A Debian tree with nginx as a tar, from the cache or newly made. Raises `EngineUnavailableError`."""
    tar = cache_folder() / f"{SUITE}-{PACKAGES}.tar"
    if tar.exists():
        return tar
    if shutil.which("mmdebstrap") is None:
        raise EngineUnavailableError("`mmdebstrap` is not installed")
    tar.parent.mkdir(parents=True, exist_ok=True)
    made = tar.with_name(f".{tar.stem}-{uuid.uuid4().hex}.tar")  # renamed when whole: two runs may make it at once
    try:
        done = subprocess.run(
            ["mmdebstrap", APT_RETRIES, "--variant=minbase", f"--include={PACKAGES}", SUITE, os.fspath(made)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
        )
        if done.returncode != 0:
            raise EngineUnavailableError(f"mmdebstrap failed:\n{done.stderr[-2000:]}")
        made.rename(tar)
    finally:
        made.unlink(missing_ok=True)
    return tar


@contextlib.contextmanager
def needed() -> Iterator[None]:
    """What cannot be had within the block is a failure in CI, elsewhere a skip that says so."""
    try:
        yield
    except EngineUnavailableError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


class Engine(Protocol):
    """An engine with a folder of its own."""

    def start(self) -> None:
        """Start, and wait until it answers. Raises `EngineUnavailableError`."""

    def stop(self) -> None:
        """End all that it runs, then itself, and remove its folder."""


E = TypeVar("E", bound=Engine)


@contextlib.contextmanager
def running(kind: Callable[[Path], E]) -> Iterator[E]:
    """An engine for as long as the block runs. Raises `EngineUnavailableError`."""
    engine = kind(Path(tempfile.mkdtemp(prefix="tercel-engine-")))
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerEngine]:
    """A real Docker engine, one for the session."""
    with needed(), running(DockerEngine) as engine:
        yield engine


@pytest.fixture(scope="session")
def nginx_image(docker_engine: DockerEngine) -> str:
    """The name of an image with nginx, bash and coreutils, known to `docker_engine`: `nginx:1.22`."""
    with needed():
        tar = rootfs_tar()
    command = 'CMD ["nginx", "-g", "daemon off;"]'
    docker_engine.client("import", "--change", command, os.fspath(tar), "nginx:1.22", timeout_s=300)
    return "nginx:1.22"
