"""Ways around a rule, each on the real kernel: a secret under another name, a program under a trusted one.

A row says which rule must fire all the same. The acts run on the host in a mount namespace of their own.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.rules.test_blind import PRIVATE, ours
from tests.rules.test_live import config
from tests.support.daemon import ROOT, Daemon
from tests.support.docker import DockerEngine

pytestmark = [pytest.mark.kernel, pytest.mark.docker]

SHIPPED = [ROOT / "rules/tercel_rules.yaml", ROOT / "rules/tercel_attack_rules.yaml"]
READ = "Read of a sensitive file"
FROM_MEMORY = """python3 -c '
import os
f = os.memfd_create("runc_cloned:/proc/self/exe")
os.write(f, open("/bin/cat", "rb").read())
os.execv(f"/proc/self/fd/{f}", ["runc", "/etc/shadow"])'"""
RENAMED = """python3 -c '
import ctypes
ctypes.CDLL(None).prctl(15, b"dpkg", 0, 0, 0)
%s'"""
REOPENED = """python3 -c '
import os
f = os.open("/etc/shadow", os.O_PATH)
open(f"/proc/self/fd/{f}").read()'"""
SETNS = """perl -e '
open(my $f, "<", "/proc/$PPID/ns/mnt") or open($f, "<", "/proc/self/ns/mnt"); syscall(308, fileno($f), 0)'"""
HOST = {
    "through the root of a process": ("cat /proc/self/root/etc/shadow", {READ}),
    "through a symbolic link": ("ln -s /etc/shadow /tmp/l; cat /tmp/l", {READ}),
    "through a linked folder": ("ln -s /etc /tmp/e; cat /tmp/e/shadow", {READ}),
    "through the root and dots": ("cat /proc/self/root/tmp/../etc/shadow", {READ}),
    "by a hard link": ("cp -a /etc/shadow /var/s; ln /etc/shadow /etc/x; cat /etc/x", {READ, "Link made to a secret"}),
    "by a folder mounted elsewhere": ("mkdir /tmp/m; mount --bind /etc /tmp/m; cat /tmp/m/shadow", {READ}),
    "opened for its path, then opened anew": (REOPENED, {READ}),
    "renamed first": ("mv /etc/shadow /etc/x; cat /etc/x", {READ, "Write below etc", "Account file written by hand"}),
    "by a program called dpkg": ("cp /bin/cat /tmp/dpkg; /tmp/dpkg /etc/shadow", {READ}),
    "by a program called runc": ("cp /bin/cat /tmp/runc; /tmp/runc /etc/shadow", {READ}),
    "by a link called sshd that leads to cat": ("ln -s /bin/cat /tmp/sshd; /tmp/sshd /etc/shadow", {READ}),
    "by a perl called sshd that is given a path as code": (
        "ln -s /usr/bin/perl /tmp/sshd; /tmp/sshd -e '/usr/; open F, \"/etc/shadow\"'", {READ}
    ),
    "by a python called sshd that is given a script": (
        "ln -s /usr/bin/python3 /tmp/sshd; echo 'open(\"/etc/shadow\")' >/tmp/p; /tmp/sshd /tmp/p /usr/sbin/sshd",
        {READ},
    ),
    "by a program in memory called runc": (FROM_MEMORY, {READ}),
    "by a process that calls itself dpkg": (RENAMED % 'open("/etc/shadow").read()', {READ}),
    "below a program called apt": ("cp /bin/bash /tmp/apt; /tmp/apt -c 'cat /etc/shadow; true'", {READ}),
    "below a program called dnf with its script as argument": (
        "cp /bin/bash /tmp/dnf; /tmp/dnf -c 'cat /etc/shadow; true' /usr/bin/dnf; ln -s /bin/bash /tmp/yum;"
        " printf 'cat /etc/shadow\\ntrue' >/usr/local/dnf; /tmp/dnf /usr/local/dnf /usr/bin/dnf",
        {READ},
    ),
    "a log removed below a program called logrotate": (
        "cp /bin/bash /tmp/logrotate; echo >/var/log/syslog; /tmp/logrotate -c 'rm /var/log/syslog; true'",
        {"Log emptied or removed"},
    ),
    "a job written by one that calls itself dpkg": (
        RENAMED % 'open("/etc/cron.d/x", "w").write("x")',
        {"Scheduled job written", "Write below etc"},
    ),
    "a unit linked out of a temporary folder": (
        "echo '[Service]' >/dev/shm/x.service; cp /bin/true /tmp/systemctl; /tmp/systemctl link /dev/shm/x.service",
        {"Unit of a user or of a temporary folder written", "Unit of systemd run or linked by a command"},
    ),
    "a setuid file made as such": (
        "cp /bin/true /tmp/s; python3 -c 'import os; os.mknod(\"/tmp/n\", 0o104755)'",
        {"Setuid or setgid bit set", "Capability or setuid bit given to a program"},
    ),
    "memory asked for by attaching": (
        "sleep 3 & perl -e 'syscall(101, 0x4206, $ARGV[0], 0, 0)' $!",
        {"Process attached by ptrace"},
    ),
}  # fmt: skip
CONTAINER = {
    "a mount by the new calls": ("perl -e '$t=\"tmpfs\"; syscall(430, $t, 0)'", {"Mount attempted in a container"}),
    "a namespace entered by the call": (SETNS, {"Namespace entered or made by a program in a container"}),
    "a control file through the root of a process": (
        "echo x >/proc/self/root/proc/sys/kernel/core_pattern",
        {"Kernel control file opened for writing in a container"},
    ),
    "by a program called runc": (
        "cp /bin/cat /tmp/runc; /tmp/runc /etc/shadow", {"Program that is not of the image", READ}
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, docker_engine: DockerEngine) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon"), config(docker_engine), rules=SHIPPED) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def inside(docker_engine: DockerEngine, nginx_image: str) -> Iterator[list[str]]:
    options = ("--volume", f"{docker_engine.socket}:/run/other")
    docker_engine.run(nginx_image, name="web", options=options)
    yield docker_engine.argv("exec", "web", "bash", "-c")
    docker_engine.remove("web")


def fired(daemon: Daemon, argv: list[str]) -> set[str]:
    before = len(ours(daemon))
    subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    daemon.settle(0.3)
    return {a["rule"] for a in ours(daemon)[before:]}


@pytest.mark.parametrize("how", HOST)
def test_on_the_host(daemon: Daemon, how: str) -> None:
    script, rules = HOST[how]
    assert rules & (found := fired(daemon, ["unshare", "--mount", "bash", "-c", f"{PRIVATE}\n{script}"])), found


@pytest.mark.parametrize("how", CONTAINER)
def test_in_a_container(daemon: Daemon, inside: list[str], how: str) -> None:
    script, rules = CONTAINER[how]
    assert rules & (found := fired(daemon, [*inside, script])), found
