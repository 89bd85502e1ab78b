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

SHIPPED = [ROOT / "rules/tercel_rules.yaml", ROOT / "rules/tercel_attack_rules.yaml"]
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
    "Secret file linked or moved": "ln -s /etc/shadow /tmp/tercel-l; rm /tmp/tercel-l",
    "Environment of another process read": "cat /proc/1/environ",
    "Memory of another process opened": "sleep 5 & dd if=/proc/$!/mem count=0",
    "Memory of another process copied": "python3 -c 'import ctypes;"
    "ctypes.CDLL(None).process_vm_writev(1,None,0,None,0,0)'",
    "Search for keys or passwords": "find /srv -name id_rsa",
    "Credential file read": "mkdir /home/.aws; echo >/home/.aws/credentials; cat /home/.aws/credentials",
    "Shell history read": "echo >>/home/.bash_history; cat /home/.bash_history",
    "Raw or packet socket made": "python3 -c 'import socket;socket.socket(17,3,0)'",
    "Metadata of the cloud asked": "python3 -c 'import socket;socket.socket().connect((\"169.254.169.254\",80))'",
    "Connection to an anonymous network or a mining pool": "python3 -c 'import socket;"
    'socket.socket().connect(("127.0.0.1",9050))\'',
    "Shell history emptied or removed": "echo >/home/.bash_history; rm /home/.bash_history",
    "Log emptied or removed": "echo >/var/log/auth.log",
    "Program removed its own file": "cp /bin/rm /tmp/tercel-rm; /tmp/tercel-rm /tmp/tercel-rm",
    "Control file of the kernel written by hand": 'python3 -c \'open("/proc/sys/kernel/sysrq","r+")\'',
    "Raw disk opened": 'python3 -c \'open("/dev/vdzz","w")\' ; rm -f /dev/vdzz',
    "File of a running program opened for writing": 'python3 -c \'open("/proc/1/exe","r+")\'',
}

# What a copy of /bin/true is called, with its arguments: the rules look at these only.
CALLED = {
    "Tool for guessing or dumping passwords run": "hydra x",
    "Directory service searched or changed by a command": "ldapsearch x",
    "Search for setuid files or capabilities": "getcap -r /srv",
    "Search for container engines": "ls /run/docker.sock",
    "Network scanned by a tool": "nmap x",
    "Tunnel or proxy tool run": "chisel client x",
    "Miner of coins run": "xmrig x",
    "Server started by hand": "busybox httpd",
    "Data sent by a command": "rclone copy a b:",
    "File fetched into a temporary folder": "wget -O /tmp/x http://h",
    "Name service asked for a chosen server": "dig @192.0.2.1 x",
    "Service of the defence stopped": "systemctl stop rsyslog",
    "Firewall opened by a command": "iptables -F",
    "File made unchangeable or given capabilities": "chattr +i x",
    "Disk or files overwritten by a command": "shred x",
    "Folder of the system or of data removed": "rm -rf /var/lib/mysql",
    "Files encrypted or packed with a password by a command": "zip -P x a b",
    "Time of a file set by a command": "touch -t 1 x",
    "Machine stopped by a command": "reboot x",
    "Shape of an attack on a setuid program": "sudo -u#-1 id",
    "Screen, clipboard or keys recorded": "xwd x",
}
ACTS |= {
    rule: f"cp /bin/true /tmp/{line.split()[0]}; /tmp/{line}; rm /tmp/{line.split()[0]}"
    for rule, line in CALLED.items()
}

# Those whose facts need a container; `tercel test` has their cases.
NOT_DONE = {
    "Program that is not of the image", "Device node made in a container",
    "Namespace entered or made by a program in a container", "Kernel opened up in a container",
    "Program lent the rights of root outside of the system",
}  # fmt: skip


@pytest.fixture(scope="module")
def raised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[set[str]]:
    """The names of the rules that the acts raised."""
    with Daemon(tmp_path_factory.mktemp("acts"), {"rules_profile": "all"}, rules=SHIPPED) as daemon:
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
