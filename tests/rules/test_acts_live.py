"""The rules by tactic on the real kernel: one sensor, one act for each rule, about a minute altogether.

The acts are made in a mount namespace with folders of its own over /etc, /root, /var and /usr/local, so that the
machine stays as it is. Several rules may hold on one act; the one it was made for must be among them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.support.daemon import ROOT, Daemon

pytestmark = pytest.mark.kernel

OVER = "/etc /root /home /var /usr/lib /usr/local"
NAMESPACE = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "bash", "-c"]

# A layer of memory over each folder: what is written goes there and ends with the namespace.
SETUP = (
    f"OVER='{OVER}'; "
    "set -e; mount --make-rprivate /; T=/mnt; mount -t tmpfs none $T; for d in $OVER; do "
    "mkdir -p $T$d/u $T$d/w; mount -t overlay none -o lowerdir=$d,upperdir=$T$d/u,workdir=$T$d/w $d; done; "
    "ip link set lo up; set +e; cd /tmp\n"
)  # fmt: skip

ACTS = {
    "Shell speaks over a network socket": 'python3 -c \'import socket,os;l=socket.create_server(("127.0.0.1",5571));'
    'c=socket.create_connection(("127.0.0.1",5571));a=l.accept()[0];os.dup2(a.fileno(),0);c.close();'
    'os.execv("/bin/sh",["sh"])\'',
    "Network shell written on a command line": "bash -c 'exec 3<>/dev/tcp/127.0.0.1/9'",
    "Network tool runs a program": "bash -c 'exec -a nc true' ; cp /bin/true /tmp/nc; /tmp/nc -e /bin/sh; rm /tmp/nc",
    "Interactive shell without a terminal": "echo exit | cat | sh -i",
    "Named pipe made in a temporary folder": "mkfifo /tmp/tercel-fifo; rm /tmp/tercel-fifo",
    "Shell reads its commands from a pipe": "echo true | bash",
    "Text decoded by a command": "echo aWQ= | base64 -d",
    "Encoded text given to an interpreter": "python3 -c 'import base64;base64.b64decode(\"aWQ=\")'",
    "Terminal made by an interpreter": "python3 -c 'import pty'",
    "Shell started by a server program": "cp /bin/bash /tmp/nginx; /tmp/nginx -c 'sh -c true; true'; rm /tmp/nginx",
    "Program run from memory": 'python3 -c \'import os;f=os.memfd_create("x");'
    'os.write(f,open("/bin/true","rb").read());os.execv(f"/proc/self/fd/{f}",["x"])\'',
    "Program run from shared memory": "cp /bin/true /dev/shm/tercel-x; /dev/shm/tercel-x; rm /dev/shm/tercel-x",
    "Program run from a hidden place": "mkdir -p /tmp/.tercel; cp /bin/true /tmp/.tercel/x; /tmp/.tercel/x;"
    "rm -r /tmp/.tercel",
    "Program named as one of the system": "cp /bin/true /tmp/sshd; /tmp/sshd; rm /tmp/sshd",
    "Process named as a thread of the kernel": "bash -c \"exec -a '[kworker/0:1]' true\"",
    "Library preloaded from a writable folder": "LD_PRELOAD=/tmp/x.so ls",
    "Kernel module loaded or removed": "python3 -c 'import ctypes;ctypes.CDLL(None).syscall(313,-1,b\"\",0)'",
    "Scheduled job written": "mkdir -p /etc/cron.d; echo >/etc/cron.d/x",
    "Service or start script written": "echo >/etc/rc.local",
    "Unit of a user or of a temporary folder written": "echo >/tmp/tercel-x.service; rm /tmp/tercel-x.service",
    "Device rule written": "mkdir -p /etc/udev; echo >/etc/udev/9.rules",
    "Login module or its configuration written": "echo >>/etc/pam.d/other",
    "Shell profile written": "echo >>/root/.bashrc",
    "Key for logins written": "mkdir -p /root/.ssh; echo >>/root/.ssh/authorized_keys",
    "Library forced on all programs": "echo >/etc/ld.so.preload; rm /etc/ld.so.preload",
    "Account file written by hand": "echo >>/etc/passwd",
    "Kernel module set to load": "echo >>/etc/modules",
    "Hook of the system written": "mkdir -p /etc/update-motd.d; echo >/etc/update-motd.d/x",
    "Program set to start with a session": "mkdir -p /root/.config/autostart; echo >/root/.config/autostart/x.desktop",
    "Hook of a git work tree written": "mkdir -p /tmp/tercel/.git/hooks;"
    "echo >/tmp/tercel/.git/hooks/x; rm -r /tmp/tercel",
    "Script written into a web root": "mkdir -p /var/www; echo >/var/www/x.php",
    "Hook of an interpreter written": "echo >/tmp/tercel.pth; rm /tmp/tercel.pth",
    "Configuration of logs or of the firewall written": "echo >/etc/rsyslog.conf",
    "Certificate authority added by hand": "mkdir -p /usr/local/share/ca-certificates;"
    "echo >/usr/local/share/ca-certificates/x.crt",
    "Job scheduled by a command": "cp /bin/true /tmp/at; /tmp/at now; rm /tmp/at",
    "Unit of systemd run or linked by a command": "cp /bin/true /tmp/systemd-run; /tmp/systemd-run x;"
    "rm /tmp/systemd-run",
    "Account changed by a command": "useradd --help; useradd -D",
}

# Those whose facts need a container; `tercel test` has their cases.
NOT_DONE = {"Program that is not of the image"}


@pytest.fixture(scope="module")
def raised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[set[str]]:
    """The names of the rules that the acts raised."""
    with Daemon(tmp_path_factory.mktemp("acts"), {}, rules=[ROOT / "rules/tercel_rules.yaml"]) as daemon:
        for name, act in ACTS.items():
            subprocess.run(
                [*NAMESPACE, SETUP + act], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=20
            )
            assert name
        daemon.settle(2)
        yield {alert["rule"] for alert in daemon.alerts()}
        assert "errors" not in daemon.errors()


@pytest.mark.parametrize("rule", ACTS)
def test_the_act_is_seen(raised: set[str], rule: str) -> None:
    assert rule in raised
