"""A machine of its own: a Debian tree in a disk image, a Debian kernel, booted by QEMU, and commands run in it.

with Machine(disk("bookworm"), {"appliance": ROOT / "appliance"}) as machine:
    done = machine.run(["python3", "--version"])

No privileges of the machine's owner are needed within, no network and no registry without: the tree is made by
mmdebstrap, the image by `mkfs.ext4 -d`, kernel and initrd are handed to QEMU as files. Without KVM (TCG, which is what
CI has) a boot takes half a minute. Images stay below $XDG_CACHE_HOME/tercel-tests and are made anew when what they are
made of changes. Nothing that runs in the guest changes its disk: each boot begins from the image.

A machine ends with the process that started it, however that ends: a killed test leaves nothing that computes.

The guest runs systemd; an agent of ours, a unit of it, takes commands from the second serial port as JSON lines. With
`network`, it has an address, too, and its sshd is reached by a port of this machine's loopback. What else is installed
there (Docker, rsyslog, journal-upload) does not run until somebody starts it.

As a command it starts machines that outlive it, for Molecule (`molecule/shared`) and for people; with the number of a
process in $TERCEL_VM_OWNER they end when that does:

    python -m tests.support.vm up < platforms.json     # a list of Molecule's platforms; prints how to reach each
    python -m tests.support.vm run FOLDER uname -r      # by the agent, whatever becomes of its network
    python -m tests.support.vm link FOLDER off          # pull the cable, or put it back: `on`
    python -m tests.support.vm down FOLDER...           # switch off, by pid, and take the folder away
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.docker import APT_RETRIES, cache_folder, rootfs_tar

CACHE = cache_folder()
BOOT_S = 300.0
OLD_S = 86400.0
LEFT_OUT = re.compile(
    r"\./(usr/share/(?!nginx)|usr/lib/apt|usr/lib/[^/]+/(perl|gconv|lib(perl|apt|stdc|db-|mvec))|usr/lib/(locale|systemd|udev)"
    r"|usr/bin/perl|usr/s?bin/(ip|tc|e2fsck|ldconfig|mke2fs|tar|dpkg|apt)|var/(lib/(dpkg|apt)|cache)/)"
)

USERLAND = "bookworm"
KERNELS: Mapping[str, str] = {"bullseye": "5.10", "bookworm": "6.1", "trixie": "6.12"}
"""Debian releases and the kernels they bring."""

PACKAGES = (
    # what the appliance runs on
    "python3-bpfcc", "python3-systemd", "python3-yaml", "python3-jsonschema", "python3-requests", "python3-h2",
    "python3-venv", "ca-certificates",
    # a machine
    "systemd-sysv", "udev", "dbus", "iproute2", "procps", "kmod", "openssh-server", "python3-apt",
    # what scenarios use there
    "docker.io", "iptables", "apparmor", "rsyslog", "rsyslog-gnutls", "systemd-journal-remote", "logrotate", "jq",
)  # fmt: skip
ASLEEP = ("docker", "containerd", "rsyslog", "systemd-journal-upload", "systemd-journal-remote", "systemd-timesyncd")
"""Of those, what does not start by itself."""

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

NETWORK = """[Match]
Name=eth0

[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
LinkLocalAddressing=no
"""
"""As QEMU's own network has it; this machine's loopback is 10.0.2.2 there."""

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


# What QEMU is started by: `OWNER FOLDER QEMU...`. It becomes QEMU; its child ends it when the owner has ended. Files of
# processes (pidfd_open(2)) instead of numbers, which are used again.
LEASH = """import os, select, shutil, signal, sys
owner, machine = os.pidfd_open(int(sys.argv[1])), os.pidfd_open(os.getpid())
if os.fork():
    os.execvp(sys.argv[3], sys.argv[3:])
os.setsid()
ends = select.poll()
ends.register(owner, select.POLLIN)
ends.register(machine, select.POLLIN)
if all(fd != machine for fd, _ in ends.poll()):
    signal.pidfd_send_signal(machine, signal.SIGKILL)
    shutil.rmtree(sys.argv[2], ignore_errors=True)
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


def disk(
    release: str = USERLAND, userland: str = USERLAND, *, packages: Sequence[str] = PACKAGES, size_mib: int = 6144
) -> Disk:
    """The image of a release's userland with a release's kernel; made if it is not in the cache (a minute or two)."""
    packages = (*packages, "linux-image-cloud-amd64", *(["docker-cli"] if userland == "trixie" else []))
    made_of = json.dumps([release, userland, packages, ASLEEP, size_mib, AGENT, UNIT, NETWORK, PINS])
    kind = f"machine-{release}" if userland == USERLAND else f"machine-{release}.{userland}"
    folder = CACHE / f"{kind}-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
    found = Disk(release, folder / "disk.img", folder / "vmlinuz", folder / "initrd")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{kind}.lock").open("w") as lock:  # several test runs share the cache
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.initrd.exists():
            for old in CACHE.glob(f"{kind}-*"):
                if time.time() - old.stat().st_mtime > OLD_S:  # another checkout may still be made of it
                    shutil.rmtree(old)
            _make(found, release, userland, packages, size_mib)
    return found


def _make(made: Disk, release: str, userland: str, packages: Sequence[str], size_mib: int) -> None:
    folder = made.image.parent
    shutil.rmtree(folder, ignore_errors=True)  # of a run that did not come to its end
    folder.mkdir()
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        tree = Path(scratch) / "tree"
        suites = dict.fromkeys((userland, release))
        mirror = _package_source()
        pins = Path(scratch) / "pins"
        pins.write_text(PINS.format(userland=userland, release=release))
        _run(
            "mmdebstrap", APT_RETRIES, "--variant=minbase", f"--include={','.join(packages)}",
            f"--setup-hook=copy-in {pins} /etc/apt/preferences.d", userland, tree,
            *(f"deb {mirror} {suite} main" for suite in suites),
        )  # fmt: skip
        agent = tree / "usr/local/sbin/vm-agent"
        agent.write_text(AGENT)
        agent.chmod(0o755)
        (tree / "etc/systemd/system/vm-agent.service").write_text(UNIT)
        (tree / "etc/systemd/network/10-eth0.network").write_text(NETWORK)
        for unit in ("/etc/systemd/system/vm-agent.service", "/lib/systemd/system/systemd-networkd.service"):
            wants = tree / "etc/systemd/system/multi-user.target.wants" / Path(unit).name
            wants.parent.mkdir(parents=True, exist_ok=True)
            wants.symlink_to(unit)
        for name in ASLEEP:
            for wants in (tree / "etc/systemd/system").glob(f"*.wants/{name}.*"):
                wants.unlink()
        (tree / "etc/fstab").write_text("/dev/vda / ext4 rw,noatime 0 0\n")
        (tree / "etc/hostname").write_text(f"vm-{release}\n")
        (tree / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
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


def accelerator(disk: Disk) -> str:
    """`kvm` where a kernel starts with it, else `tcg`; tried once for each boot of this machine.

    That /dev/kvm exists says little: inside some virtual machines it opens and guests hang.
    """
    told = CACHE / "accelerator"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    if told.exists() and told.read_text().partition(" ")[0] == boot:
        return told.read_text().partition(" ")[2]
    found = "kvm" if _kvm_works(disk) else "tcg"
    part = told.with_name(f"accelerator-{os.getpid()}")
    part.write_text(f"{boot} {found}")
    part.rename(told)
    return found


def _kvm_works(disk: Disk) -> bool:
    """Whether a kernel without a disk gets as far as looking for one."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    argv = [
        "qemu-system-x86_64", "-accel", "kvm", "-cpu", "max", "-m", "512", "-display", "none", "-nodefaults",
        "-no-reboot", "-serial", "stdio", "-kernel", disk.kernel, "-append", "console=ttyS0 panic=-1",
    ]  # fmt: skip
    try:
        done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    except subprocess.TimeoutExpired:
        return False
    return b"Kernel panic" in done.stdout


class Machine:
    """A running guest. `share` are files and folders of ours that it finds below /mnt, under their names, read-only.

    `network`: `none`; `closed`, where only its sshd is reached and it reaches nobody; `open`, where it reaches this
    machine, too (as 10.0.2.2) and what this machine reaches.
    """

    def __init__(
        self,
        disk: Disk,
        share: Mapping[str, Path] | None = None,
        *,
        memory_mib: int = 2048,
        cpus: int = 2,
        name: str = "",
        network: str = "none",
    ) -> None:
        self.disk = disk
        self.folder = Path(tempfile.mkdtemp(prefix="tercel-vm-"))
        self.network = network
        self._share = dict(share or {})
        self._memory_mib = memory_mib
        self._cpus = cpus
        self._name = name or f"vm-{disk.release}"
        self._process: subprocess.Popen[bytes] | None = None
        self._agent = Agent(self.folder, self._ended)

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
        self.start()
        self.wait()

    def start(self, *, stays: bool = False, owner: int = 0) -> None:
        """Start, and do not wait. It ends with us; `stays`: has a session of its own, and ends with `owner`, if any."""
        owner = owner if stays else os.getpid()
        argv = [
            "qemu-system-x86_64", "-name", self._name, "-cpu", "max",
            "-accel", "kvm" if accelerator(self.disk) == "kvm" else "tcg,thread=multi",
            "-m", str(self._memory_mib), "-smp", str(self._cpus), "-display", "none", "-nodefaults", "-no-reboot",
            "-kernel", self.disk.kernel, "-initrd", self.disk.initrd, "-append",
            f"root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet panic=-1 systemd.hostname={self._name}",
            "-drive", f"file={self.disk.image},if=virtio,format=raw,snapshot=on",
            "-serial", f"file:{self.folder / 'console.log'}",
            "-serial", f"unix:{self.folder / 'agent'},server=on,wait=on",
            "-monitor", f"unix:{self.folder / 'monitor'},server=on,wait=off",
        ]  # fmt: skip
        if self.network != "none":
            restrict = "on" if self.network == "closed" else "off"
            argv += ["-netdev", f"user,id=net,restrict={restrict},hostfwd=tcp:127.0.0.1:0-:22"]
            argv += ["-device", "virtio-net-pci,netdev=net,id=card"]
        if self._share:
            argv += ["-drive", f"file={self._shared()},if=virtio,format=raw,readonly=on"]
        if owner:
            argv = [sys.executable, "-I", "-S", "-c", LEASH, str(owner), self.folder, *argv]
        if stays:  # who starts us may be held to one processor (Mitogen does so), and the machine would be, too
            os.sched_setaffinity(0, range(os.cpu_count() or 1))
        with (self.folder / "qemu.log").open("wb") as said:
            self._process = subprocess.Popen(
                [str(a) for a in argv],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": str(self.folder)},
                start_new_session=stays,
            )
        (self.folder / "pid").write_text(str(self._process.pid))
        # The guest begins when we listen: what its agent says before is lost.
        self._agent.connect(time.monotonic() + BOOT_S)

    def wait(self) -> None:
        """Until the agent answers."""
        self._agent.ready(BOOT_S)
        if self._share:
            done = self.run(["mount", "-o", "ro", "/dev/vdb", "/mnt"])
            assert done.status == 0, done.err

    def reach(self) -> dict[str, object]:
        """Let us in by ssh with a key made now, and wait for its sshd: where it is, as Molecule wants to know it."""
        key = self.folder / "key"
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", key)
        put = 'mkdir -m 700 -p /root/.ssh && printf "%s\\n" "$KEY" >/root/.ssh/authorized_keys'
        done = self.run(["sh", "-c", put], env={"KEY": key.with_suffix(".pub").read_text().strip()})
        assert done.status == 0, done.err
        found = re.search(r"HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)", monitor(self.folder, "info usernet"))
        assert found is not None, "QEMU names no port"
        deadline = time.monotonic() + BOOT_S
        while not _greets(int(found[1])):
            self._agent.alive(deadline)
            time.sleep(0.2)
        return {
            "instance": self._name,
            "address": "127.0.0.1",
            "port": int(found[1]),
            "user": "root",
            "identity_file": str(key),
            "folder": str(self.folder),
        }

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 300.0,
        env: Mapping[str, str] | None = None,
        cwd: str = "/root",
    ) -> Done:
        """Run a program in the guest, as root, and wait for it. Output goes through a serial port: keep it short."""
        return self._agent.run(argv, timeout_s=timeout_s, env=env, cwd=cwd)

    def console(self) -> str:
        """What the guest's kernel and systemd said."""
        return _console(self.folder)

    def stop(self) -> None:
        """Switch it off."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._agent.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _shared(self) -> Path:
        tree, image = self.folder / "share", self.folder / "share.img"
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


class Agent:
    """Our end of the serial port that takes commands, found in a machine's folder."""

    def __init__(self, folder: Path, ended: Callable[[], bool] = lambda: False) -> None:
        self._folder = folder
        self._ended = ended
        self._peer = socket.socket(socket.AF_UNIX)
        self._rest = b""

    def connect(self, deadline: float) -> None:
        """Take the port; nobody else may have it."""
        while True:
            with contextlib.suppress(OSError):
                self._peer.connect(os.fspath(self._folder / "agent"))
                return
            self.alive(deadline)
            time.sleep(0.1)

    def ready(self, patience_s: float) -> None:
        """Wait until a machine that starts takes commands; we are connected since before it began."""
        deadline = time.monotonic() + patience_s
        while "ready" not in self._answer(deadline - time.monotonic()):
            self.alive(deadline)

    def run(
        self, argv: Sequence[str], *, timeout_s: float, env: Mapping[str, str] | None = None, cwd: str = "/root"
    ) -> Done:
        """Run a program there and wait for it."""
        job = {"argv": list(argv), "env": dict(env or {}), "cwd": cwd, "timeout_s": timeout_s}
        self._peer.sendall(json.dumps(job).encode() + b"\n")
        answer = self._answer(timeout_s + 60)
        out, err = (base64.b64decode(str(answer[name])).decode(errors="replace") for name in ("out", "err"))
        return Done(int(str(answer["status"])), out, err)

    def alive(self, deadline: float) -> None:
        """Raises where the machine has ended, or patience has."""
        if self._ended() or time.monotonic() > deadline:
            said = (self._folder / "qemu.log").read_text(errors="replace")
            raise AssertionError(f"the machine does not answer:\n{said[-2000:]}\n{_console(self._folder)[-4000:]}")

    def close(self) -> None:
        """Leave the port to others."""
        self._peer.close()

    def _answer(self, patience_s: float) -> dict[str, object]:
        deadline = time.monotonic() + patience_s
        while b"\n" not in self._rest:
            self._peer.settimeout(1.0)
            try:
                part = self._peer.recv(1 << 16)
            except TimeoutError:
                part = None
            if part == b"":
                raise AssertionError(f"the machine has ended:\n{_console(self._folder)[-4000:]}")
            self._rest += part or b""
            self.alive(deadline)
        line, _, self._rest = self._rest.partition(b"\n")
        text = re.sub(rb"^[^{]*", b"", line)
        answer: dict[str, object] = json.loads(text) if text else {}
        return answer


def _console(folder: Path) -> str:
    log = folder / "console.log"
    return log.read_text(errors="replace") if log.exists() else ""


def _greets(port: int) -> bool:
    """Whether an sshd speaks there; QEMU takes the connection even where nobody listens behind it."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        return peer.recv(4) == b"SSH-"
    return False


def monitor(folder: Path, command: str) -> str:
    """Say something to QEMU itself (qemu(1), human monitor), and what it answers."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(20)
        peer.connect(os.fspath(folder / "monitor"))
        said = b""
        for line in (b"", command.encode() + b"\n"):
            peer.sendall(line)
            said = b""
            while not said.endswith(b"(qemu) "):
                part = peer.recv(1 << 16)
                assert part, "QEMU has ended"
                said += part
    return said.decode(errors="replace")


# -- the command


def up(platforms: Sequence[Mapping[str, Any]], owner: int = 0) -> list[dict[str, object]]:
    """Start machines, all at once, and wait for all; they end with the process `owner`, if any. What a platform may
    say: `name`, `release` (of the kernel), `userland`, `memory_mib`, `cpus`, `network` (`closed` or `open`), `share`
    (names to paths), `nginx_tar` (with /mnt/nginx.tar, for `docker import`)."""
    machines: list[Machine] = []
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [machine.stop() for machine in machines])
        for told in platforms:
            image = disk(told.get("release", USERLAND), told.get("userland", USERLAND))
            share = {name: Path(path) for name, path in told.get("share", {}).items()}
            if told.get("nginx_tar"):
                share["nginx.tar"] = _nginx_tar(stack.enter_context(tempfile.TemporaryDirectory()))
            machines.append(
                Machine(
                    image,
                    share,
                    memory_mib=int(told.get("memory_mib", 2048)),
                    cpus=int(told.get("cpus", 2)),
                    name=told["name"],
                    network=told.get("network", "closed"),
                )
            )
            machines[-1].start(stays=True, owner=owner)
        for machine in machines:
            machine.wait()
        reached = [machine.reach() for machine in machines]
        machines.clear()  # all are there, and stay
    return reached


def _nginx_tar(folder: str) -> Path:
    """What nginx and a shell need of the tests' image: without KVM the whole takes minutes to import."""
    path = Path(folder) / "nginx.tar"
    with tarfile.open(rootfs_tar()) as whole, tarfile.open(path, "w") as part:
        for member in whole:
            if not LEFT_OUT.match(member.name):
                part.addfile(member, whole.extractfile(member) if member.isreg() else None)
    return path


def down(folder: Path) -> None:
    """Switch a machine off that `up` started; nothing where it is off already."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        pid = int((folder / "pid").read_text())
        if os.fsencode(folder) in Path(f"/proc/{pid}/cmdline").read_bytes():  # numbers are used again
            os.kill(pid, signal.SIGKILL)
            while os.fsencode(folder) in Path(f"/proc/{pid}/cmdline").read_bytes():
                time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """See the charter above."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.vm", description="Machines that outlive the command")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("up", help="start those of a list of Molecule's platforms, JSON on standard input")
    for verb, about in (("run", "run a program there"), ("link", "its cable"), ("down", "switch off")):
        verbs.add_parser(verb, help=about).add_argument("folder", type=Path, nargs="+" if verb == "down" else None)
    verbs.choices["run"].add_argument("argv", nargs=argparse.REMAINDER)
    verbs.choices["link"].add_argument("state", choices=("on", "off"))
    told = parser.parse_args()
    if told.verb == "up":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # half a machine is switched off again
        print(json.dumps(up(json.load(sys.stdin), int(os.environ.get("TERCEL_VM_OWNER") or 0))))
    elif told.verb == "run":
        agent = Agent(told.folder)
        agent.connect(time.monotonic() + 10)
        done = agent.run(told.argv, timeout_s=300)
        sys.stdout.write(done.out)
        sys.stderr.write(done.err)
        return done.status & 0xFF
    elif told.verb == "link":
        monitor(told.folder, f"set_link card {told.state}")
    else:
        for folder in told.folder:
            down(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
