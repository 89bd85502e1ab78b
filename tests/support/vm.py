"""A machine of its own: a Debian tree in a disk image, a Debian kernel, booted by QEMU, and commands run in it.

with Machine(disk("bookworm"), {"appliance": ROOT / "appliance"}) as machine:
    done = machine.run(["python3", "--version"])

No privileges of the machine's owner are needed within, no network and no registry without: the tree is made by
mmdebstrap, the image by `mkfs.ext4 -d`, kernel and initrd are handed to QEMU as files. Without KVM (TCG, which is what
CI has) a boot takes half a minute. Images stay below $XDG_CACHE_HOME/tercel-tests and are made anew when what they are
made of changes. Nothing that runs in the guest changes its disk: each boot begins from the image.

The guest runs systemd; an agent of ours, a unit of it, takes commands from the second serial port as JSON lines.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tercel-tests"
BOOT_S = 300.0

USERLAND = "bookworm"
KERNELS: Mapping[str, str] = {"bullseye": "5.10", "bookworm": "6.1", "trixie": "6.12"}
"""Debian releases and the kernels they bring. The userland is always the same: the kernel is what is tried."""

PACKAGES = (
    "python3-bpfcc", "python3-systemd", "python3-yaml", "python3-jsonschema", "python3-requests", "python3-h2",
    "systemd-sysv", "udev", "dbus", "iproute2", "procps", "kmod",
)  # fmt: skip

# The kernel, and what it cannot do without, from its release; all else from the userland's.
PINS = """Package: *
Pin: release n={userland}
Pin-Priority: 990

Package: linux-image-* linux-base
Pin: release n={release}
Pin-Priority: 995
"""

AGENT = r'''#!/usr/bin/python3
"""Runs what comes in by the second serial port, one JSON line each, and answers likewise."""
import base64, json, os, subprocess, termios
fd = os.open("/dev/ttyS1", os.O_RDWR | os.O_NOCTTY)
attributes = termios.tcgetattr(fd)
attributes[0] = attributes[1] = attributes[3] = 0
attributes[2] = termios.CS8 | termios.CREAD | termios.CLOCAL
attributes[6][termios.VMIN], attributes[6][termios.VTIME] = 1, 0
termios.tcsetattr(fd, termios.TCSANOW, attributes)
port = os.fdopen(fd, "r+b", buffering=0)
os.write(fd, b'{"ready": true}\n')
line = b""
while True:
    line += os.read(fd, 65536)
    while b"\n" in line:
        request, _, line = line.partition(b"\n")
        job = json.loads(request)
        try:
            done = subprocess.run(
                job["argv"], cwd=job["cwd"], env={**os.environ, **job["env"]}, timeout=job["timeout_s"],
                stdin=subprocess.DEVNULL, capture_output=True,
            )
            answer = {"status": done.returncode, "out": done.stdout, "err": done.stderr}
        except subprocess.TimeoutExpired as error:
            answer = {"status": -1, "out": error.stdout or b"", "err": (error.stderr or b"") + b"\ntimed out"}
        except OSError as error:
            answer = {"status": -1, "out": b"", "err": str(error).encode()}
        answer = {k: base64.b64encode(v).decode() if isinstance(v, bytes) else v for k, v in answer.items()}
        data = json.dumps(answer).encode() + b"\n"
        while data:
            data = data[os.write(fd, data):]
'''

UNIT = """[Unit]
Description=Runs what the test asks for
After=local-fs.target

[Service]
Environment=HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=/usr/local/sbin/vm-agent
Restart=always

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Disk:
    """What a machine starts from."""

    release: str
    image: Path
    kernel: Path
    initrd: Path


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a command in the guest."""

    status: int
    out: str
    err: str


def disk(release: str = USERLAND, *, packages: Sequence[str] = PACKAGES, size_mib: int = 3072) -> Disk:
    """The image with a release's kernel; made if it is not in the cache (about a minute)."""
    packages = (*packages, "linux-image-cloud-amd64")
    made_of = json.dumps([release, packages, size_mib, AGENT, UNIT, PINS])
    folder = CACHE / f"vm-{release}-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
    found = Disk(release, folder / "disk.img", folder / "vmlinuz", folder / "initrd")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"vm-{release}.lock").open("w") as lock:  # several test runs share the cache
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.initrd.exists():
            for old in CACHE.glob(f"vm-{release}-*"):
                shutil.rmtree(old)
            _make(found, release, packages, size_mib)
    return found


def _make(made: Disk, release: str, packages: Sequence[str], size_mib: int) -> None:
    folder = made.image.parent
    folder.mkdir()
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        tree = Path(scratch) / "tree"
        suites = dict.fromkeys((USERLAND, release))
        mirror = _package_source()
        pins = Path(scratch) / "pins"
        pins.write_text(PINS.format(userland=USERLAND, release=release))
        _run(
            "mmdebstrap", "--variant=minbase", f"--include={','.join(packages)}",
            f"--setup-hook=copy-in {pins} /etc/apt/preferences.d", USERLAND, tree,
            *(f"deb {mirror} {suite} main" for suite in suites),
        )  # fmt: skip
        agent = tree / "usr/local/sbin/vm-agent"
        agent.write_text(AGENT)
        agent.chmod(0o755)
        (tree / "etc/systemd/system/vm-agent.service").write_text(UNIT)
        wants = tree / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        (wants / "vm-agent.service").symlink_to("/etc/systemd/system/vm-agent.service")
        (tree / "etc/fstab").write_text("/dev/vda / ext4 rw,noatime 0 0\n")
        (tree / "etc/hostname").write_text(f"vm-{release}\n")
        (tree / "mnt").mkdir(exist_ok=True)
        _run("mkfs.ext4", "-q", "-F", "-d", tree, "-L", "root", made.image, f"{size_mib}M")
        shutil.copy(next((tree / "boot").glob("vmlinuz-*")), made.kernel)
        shutil.copy(next((tree / "boot").glob("initrd.img-*")), folder / "initrd.part")
        (folder / "initrd.part").rename(made.initrd)  # last: it says that all is there


def _package_source() -> str:
    """Where this machine's own apt has Debian's packages from."""
    argv = ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages"]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    found = [line.split()[1] for line in told.splitlines() if line.split()[0] in (*KERNELS, "sid")]
    if not found:
        raise AssertionError(f"apt knows no source of Debian's packages:\n{told}")
    return found[0]


def _run(*argv: object) -> None:
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise AssertionError(f"{argv[0]} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


class Machine:
    """A running guest. `share` are files and folders of ours that it finds below /mnt, under their names, read-only."""

    def __init__(
        self, disk: Disk, share: Mapping[str, Path] | None = None, *, memory_mib: int = 2048, cpus: int = 2
    ) -> None:
        self.disk = disk
        self._share = dict(share or {})
        self._memory_mib = memory_mib
        self._cpus = cpus
        self._folder = Path(tempfile.mkdtemp(prefix="tercel-vm-"))
        self._log = self._folder / "console.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._peer = socket.socket(socket.AF_UNIX)
        self._rest = b""

    def __enter__(self) -> Machine:
        try:
            self.boot()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def boot(self) -> None:
        """Start, and wait until the agent answers."""
        agent = self._folder / "agent"
        argv = [
            "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", str(self._memory_mib),
            "-smp", str(self._cpus), "-display", "none", "-nodefaults", "-no-reboot",
            "-kernel", self.disk.kernel, "-initrd", self.disk.initrd,
            "-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet panic=-1",
            "-drive", f"file={self.disk.image},if=virtio,format=raw,snapshot=on",
            "-serial", f"file:{self._log}", "-serial", f"unix:{agent},server=on,wait=off",
        ]  # fmt: skip
        if self._share:
            argv += ["-drive", f"file={self._shared()},if=virtio,format=raw,readonly=on"]
        with (self._folder / "qemu.log").open("wb") as said:
            self._process = subprocess.Popen(
                [str(a) for a in argv],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": str(self._folder)},
            )
        deadline = time.monotonic() + BOOT_S
        while True:
            with contextlib.suppress(OSError):
                self._peer.connect(os.fspath(agent))
                break
            self._alive(deadline)
            time.sleep(0.1)
        while "ready" not in self._answer(deadline - time.monotonic()):
            self._alive(deadline)
        if self._share:
            done = self.run(["mount", "-o", "ro", "/dev/vdb", "/mnt"])
            assert done.status == 0, done.err

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 300.0,
        env: Mapping[str, str] | None = None,
        cwd: str = "/root",
    ) -> Done:
        """Run a program in the guest, as root, and wait for it. Output goes through a serial port: keep it short."""
        job = {"argv": list(argv), "env": dict(env or {}), "cwd": cwd, "timeout_s": timeout_s}
        self._peer.sendall(json.dumps(job).encode() + b"\n")
        answer = self._answer(timeout_s + 60)
        out, err = (base64.b64decode(str(answer[name])).decode(errors="replace") for name in ("out", "err"))
        return Done(int(str(answer["status"])), out, err)

    def console(self) -> str:
        """What the guest's kernel and systemd said."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def stop(self) -> None:
        """Switch it off."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._peer.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _shared(self) -> Path:
        tree, image = self._folder / "share", self._folder / "share.img"
        tree.mkdir()
        for name, path in self._share.items():
            place = tree / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                skip = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", "mypy*", "ruff*")
                shutil.copytree(path, place, symlinks=True, ignore=skip)
            else:
                shutil.copy(path, place)
        used = sum(p.lstat().st_size for p in tree.rglob("*"))
        _run("mkfs.ext4", "-q", "-F", "-d", tree, image, f"{used // (1 << 20) * 3 // 2 + 64}M")
        shutil.rmtree(tree)
        return image

    def _alive(self, deadline: float) -> None:
        assert self._process is not None
        if self._process.poll() is not None or time.monotonic() > deadline:
            said = (self._folder / "qemu.log").read_text(errors="replace")
            raise AssertionError(f"the machine did not start:\n{said[-2000:]}\n{self.console()[-4000:]}")

    def _answer(self, patience_s: float) -> dict[str, object]:
        deadline = time.monotonic() + patience_s
        while b"\n" not in self._rest:
            self._peer.settimeout(1.0)
            try:
                part = self._peer.recv(1 << 16)
            except TimeoutError:
                part = None
            if part == b"":
                raise AssertionError(f"the machine has ended:\n{self.console()[-4000:]}")
            self._rest += part or b""
            self._alive(deadline)
        line, _, self._rest = self._rest.partition(b"\n")
        text = re.sub(rb"^[^{]*", b"", line)
        answer: dict[str, object] = json.loads(text) if text else {}
        return answer
