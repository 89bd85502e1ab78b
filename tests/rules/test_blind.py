"""Acts of attackers written without a look at the rules, and ordinary work: the default rules see the former only.

Acts on the host run in a mount namespace of their own: what they write lies over the real folders and is thrown away.
"""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.rules.test_live import config, is_ours
from tests.support.daemon import ROOT, Daemon
from tests.support.docker import DockerEngine

pytestmark = [pytest.mark.kernel, pytest.mark.docker]

SHIPPED = [ROOT / "rules/tercel_rules.yaml", ROOT / "rules/tercel_attack_rules.yaml"]
PRIVATE = textwrap.dedent("""
    mount --make-rprivate / && mount -t tmpfs none /mnt || exit 90
    for d in /etc /root /home /var /srv /usr/lib/udev /usr/lib/systemd; do
        mkdir -p /mnt$d.up /mnt$d.work $d
        mount -t overlay none -o lowerdir=$d,upperdir=/mnt$d.up,workdir=/mnt$d.work $d || exit 91
    done
    mount -t tmpfs none /tmp; mount -t tmpfs none /dev/shm
    export HOME=/root HISTFILE=
""")
NAMED = "cp /bin/true /mnt/{0}; /mnt/{0} {1}"

HOST: Mapping[str, str] = {
    "Exploit shape of a setuid program": "sudo -u#-1 id; " + NAMED.format("pkexec", ""),
    "Capability or setuid bit given to a program": "cp /bin/true /tmp/s; chmod u+s /tmp/s",
    "Memory of another process written": "sleep 5 & exec 3>/proc/$!/mem",
    "Log emptied or removed": ": >/var/log/syslog; truncate -s 0 /var/log/x; rm -f /var/log/wtmp",
    "History of commands emptied": "touch /root/.bash_history; ln -sf /dev/null /root/.bash_history",
    "Protection of the host switched off": NAMED.format("systemctl", "stop rsyslog"),
    "Kernel setting changed through a file": "cat /proc/sys/kernel/kptr_restrict | tee /proc/sys/kernel/kptr_restrict",
    "Program removed its own file": "cp /bin/rm /tmp/selfrm; /tmp/selfrm /tmp/selfrm",
    "Time stamp of a file set by hand": "touch /tmp/t; touch -r /bin/true /tmp/t",
    "Password file reached by another path": "ln -s /etc/shadow /tmp/l; cat /tmp/l >/dev/null",
    "Link made to a secret": "ln -s /etc/shadow /tmp/l2",
    "Credentials of a cloud or a tool read": "mkdir -p /root/.aws; echo x >/root/.aws/credentials;"
    " cat /root/.aws/credentials",
    "History of commands read": "echo x >/root/.bash_history; grep x /root/.bash_history",
    "Search for secrets": "find /root -name id_rsa",
    "Environment of other processes read": "sleep 5 & cat /proc/$!/environ >/dev/null",
    "Memory of another process opened": "exec 3</proc/$PPID/mem",
    "Packet or raw socket opened": "python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3)'",
    "Metadata service of the cloud asked": "curl -s --max-time 1 http://169.254.169.254/latest",
    "Attack or scanning tool started": NAMED.format("nmap", "-p 1-1000 127.0.0.1"),
    "Search for ways to root": "find /bin -perm -4000",
    "Directory asked or changed by a command": NAMED.format("ldapsearch", "-x"),
    "Tunnel or anonymizer started": NAMED.format("chisel", "client"),
    "Miner or mining pool": NAMED.format("x", "-o stratum+tcp://pool:3333"),
    "File sent by a download program": "curl -s --max-time 1 -T /etc/hostname http://127.0.0.1:9/",
    "Data packed or encrypted with a password": "openssl enc -aes-256-cbc -pbkdf2 -k x -in /etc/hostname -out /tmp/e",
    "Data or disk destroyed by command": "echo x >/tmp/d; shred -u /tmp/d",
}  # fmt: skip
CONTAINER: Mapping[str, str] = {
    "Kernel interface used in a container": "perl -e 'syscall(321, 0, 0, 0)'",
    "Namespace changed in a container": "unshare -U true || unshare -m true",
    "Cgroup or program of the engine opened for writing in a container": "echo 1 >/tmp/notify_on_release",
    "Block or memory device made or opened": "mknod /tmp/disk b 8 0",
    "File fetched by an unusual program": "cp /bin/true /tmp/whois && /tmp/whois -h 192.0.2.1 x",
}
QUIET = """
    mkdir /tmp/w; cd /tmp/w; echo 'int main(void){return 0;}' >a.c; gcc -o a a.c; ./a
    git init -q . ; git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x
    python3 -c 'print(1)'; python3 -m compileall -q . ; curl -s http://127.0.0.1:9/; tar cf t.tar a.c; gzip t.tar
    touch x; chmod 755 x; sed -i s/a/b/ a.c; find . -name '*.c'; grep -r main . ; ps aux; ls -l /proc/self
    cat /etc/passwd; base64 a.c; openssl version; ssh -V; ldconfig -p
    bash -c 'cat x | sort'; systemctl --version; crontab -l; update-ca-certificates --fresh; dpkg -l; logger hi; id
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, docker_engine: DockerEngine) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon"), config(docker_engine), rules=SHIPPED) as daemon:
        yield daemon
        assert "errors" not in daemon.errors()


def acted(script: str) -> None:
    """An act on the host, in a mount namespace of its own."""
    argv = ["unshare", "--mount", "bash", "-c", f"{PRIVATE}\nPORT=1\n{script}"]
    subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)


def ours(daemon: Daemon) -> list[dict[str, Any]]:
    return [a for a in daemon.alerts() if a["source"] != "internal" and is_ours(a["output_fields"])]


def seen(daemon: Daemon, act: Any, script: str) -> bool:
    """Whether an act raises an alert."""
    before = len(ours(daemon))
    act(script)
    daemon.settle(0.3)
    return len(ours(daemon)) > before


def test_each_act_on_the_host_raises_an_alert(daemon: Daemon) -> None:
    assert [name for name, script in HOST.items() if not seen(daemon, acted, script)] == []


def test_each_act_in_a_container_raises_an_alert(daemon: Daemon, docker_engine: DockerEngine, nginx_image: str) -> None:
    docker_engine.run(nginx_image, name="web")

    def inside(script: str) -> None:
        argv = docker_engine.argv("exec", "--privileged", "web", "perl", "-e", f"system('bash', '-c', q({script}))")
        subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)

    try:
        assert [name for name, script in CONTAINER.items() if not seen(daemon, inside, script)] == []
    finally:
        docker_engine.remove("web")


def test_ordinary_work_raises_none(daemon: Daemon) -> None:
    daemon.settle(1)
    before = len(ours(daemon))
    acted(QUIET)
    daemon.settle(2)
    assert [f"{a['rule']}: {a['output'][-300:]}" for a in ours(daemon)[before:]] == []
