"""Falco's own rule files, unmodified, on the real kernel: each rule's act is done, and the rule must tell it.

One appliance with all three files, every rule switched on and `rule_matching: all`. A case names the rule, where its
act is done (the host, a container, a privileged one, a network of its own) and fields that the alert must carry. A
program's name is all that many rules ask for: `named` gives a harmless program that name. The names of machines that
rules ask for are in a file of hosts that the appliance alone sees.

`NOT_DONE` is the list of rules whose act is not done here, with the reason; it is printed, and held to be the rest.
"""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.engine.needs import needs_of
from appliance.lang.load import load_rules
from tests.support.daemon import Daemon
from tests.support.docker import DockerEngine
from tests.support.shared import shared_falco

pytestmark = [pytest.mark.kernel, pytest.mark.docker]

FILES = ("falco_rules", "falco-incubating_rules", "falco-sandbox_rules")

NOT_DONE = {
    "Network Connection outside Local Subnet": "its list of namespaces is empty as it is shipped",
    "Launch Disallowed Container": "its macro allows every container as it is shipped",
}

HOST, PLAIN, NETWORK, TERMINAL = "host", "plain", "network", "terminal"
WEB, PRIVILEGED, STARTED = "official-web", "official-privileged", "started"
METADATA = "169.254.169.254"
SERVICE = "192.0.2.7"  # nobody's; what the names in the rules stand for, in the daemon's own /etc/hosts

# A network of one's own with an address that is nobody's (RFC 5737); `$PYTHON` runs a program there.
_OWN_NETWORK = "ip link set lo up; ip address add 192.0.2.1/32 dev lo; ip address add 192.0.2.7/32 dev lo; "
_TO_METADATA = (
    "perl -MSocket -e 'socket(S, AF_INET, SOCK_DGRAM, 0); connect(S, pack_sockaddr_in({port}, inet_aton(q({host}))))"
    " or die $!'"
)
_LISTENER = (
    "import socket\n"
    "server = socket.create_server(('192.0.2.1', {port}))\n"
    "client = socket.create_connection(('192.0.2.1', {port}))\n"
    "server.accept()[0].sendall(b'\\xca\\xfe\\xba\\xbe')\n"
    "client.recv(4)\n"
)


@dataclass(frozen=True)
class Case:
    """The act of one rule. `script` is Bash's (`$D`: a folder of the test's own), in a container `sh`'s."""

    rule: str
    where: str
    script: str
    fields: dict[str, Any] = field(default_factory=dict)


def named(name: str, arguments: str = "", *, then: str = "") -> str:
    """A harmless program, called by another name."""
    return f"cp /bin/true /tmp/{name} && /tmp/{name} {arguments}; rm -f /tmp/{name}; {then}"


def below(parent: str, script: str) -> str:
    """The script, run by a shell that is called `parent`."""
    return f"cp /bin/bash $D/{parent}; $D/{parent} -c '{script}; true'"


def python(code: str) -> str:
    """A program of Python on one line of Bash."""
    return f"{sys.executable} - <<'EOF'\n{code}\nEOF"


def system_call(number: int, *arguments: int) -> str:
    """One raw call by number (x86_64), whatever it answers."""
    return python(f"import ctypes; ctypes.CDLL(None).syscall({', '.join(map(str, (number, *arguments)))})")


CASES = (
    # -- stable
    Case(
        "Directory traversal monitored file read",
        PLAIN,
        "cat /etc/../etc/../etc/hosts",
        {"fd.name": "/etc/hosts", "fd.nameraw": "/etc/../etc/../etc/hosts"},
    ),
    Case("Read sensitive file untrusted", HOST, "cat /etc/shadow >$D/out", {"fd.name": "/etc/shadow"}),
    Case("Run shell untrusted", HOST, below("nginx", "sh -c true"), {"proc.pname": "nginx", "proc.name": "sh"}),
    Case(
        "System user interactive",
        HOST,
        below("sshd", "setpriv --reuid=65534 --clear-groups /bin/true"),
        {"user.name": "nobody", "user.uid": 65534, "proc.name": "true"},
    ),
    Case("Terminal shell in container", TERMINAL, "bash", {"proc.name": "bash"}),
    Case(
        "Netcat Remote Code Execution in Container", WEB, named("nc", "-e /bin/sh"), {"proc.cmdline": "nc -e /bin/sh"}
    ),
    Case("Search Private Keys or Passwords", HOST, "find $D -name id_rsa", {"proc.name": "find"}),
    Case("Clear Log Activities", HOST, ": >$D/syslog", {"proc.name": "bash"}),
    Case("Remove Bulk Data from Disk", HOST, "shred --version >$D/out", {"proc.cmdline": "shred --version"}),
    Case("Create Symlink Over Sensitive Files", HOST, "ln -s /etc/shadow $D/s", {"evt.arg.target": "/etc/shadow"}),
    Case("Create Hardlink Over Sensitive Files", HOST, "ln /etc/shadow $D/h", {"evt.arg.oldpath": "/etc/shadow"}),
    Case("Packet socket created in container", WEB, "perl -e 'socket(S, 17, 3, 0)'", {"proc.name": "perl"}),
    Case(
        "Redirect STDOUT/STDIN to Network Connection in Container",
        WEB,
        "perl -e 'socket(S, 2, 2, 0); open(STDIN, q(<&), S)'",
        {"proc.name": "perl", "fd.type": "ipv4"},
    ),
    Case(
        "Linux Kernel Module Injection Detected",
        PRIVILEGED,
        "perl -e 'syscall(175, 0, 0, 0)'",
        {"evt.type": "init_module", "proc.name": "perl"},
    ),
    Case("Debugfs Launched in Privileged Container", PRIVILEGED, named("debugfs"), {"proc.name": "debugfs"}),
    Case(
        "Detect release_agent File Container Escapes",
        PRIVILEGED,
        ": >/tmp/release_agent",
        {"fd.name": "/tmp/release_agent"},
    ),
    Case("PTRACE attached to process", HOST, system_call(101, 16, 0, 0, 0), {"evt.type": "ptrace"}),
    Case("PTRACE anti-debug attempt", HOST, system_call(101, 0, 0, 0, 0), {"evt.type": "ptrace"}),
    Case("Find AWS Credentials", HOST, "find $D -path .aws/credentials", {"proc.name": "find"}),
    Case(
        "Execution from /dev/shm",
        HOST,
        "cp /bin/true /dev/shm/tercel-x; /dev/shm/tercel-x; rm /dev/shm/tercel-x",
        {"proc.exepath": "/dev/shm/tercel-x"},
    ),
    Case("Drop and execute new binary in container", WEB, named("dropped"), {"proc.name": "dropped"}),
    Case(
        "Disallowed SSH Connection Non Standard Port",
        NETWORK,
        f'exec -a ssh {sys.executable} -c "{_LISTENER.format(port=443)}"',
        {"fd.rport": 443},
    ),
    Case(
        "Fileless execution via memfd_create",
        HOST,
        python(
            "import os\nfd = os.memfd_create('x')\nos.write(fd, open('/bin/true', 'rb').read())\n"
            "os.execve(f'/proc/self/fd/{fd}', ['fileless'], {})"
        ),
        {"proc.cmdline": "3"},
    ),
    # -- incubating
    Case("Modify Shell Configuration File", HOST, "tee $D/.bashrc </dev/null", {"proc.name": "tee"}),
    Case("Schedule Cron Jobs", HOST, named("crontab", "-l"), {"proc.cmdline": "crontab -l"}),
    Case(
        "Read ssh information",
        HOST,
        "mkdir -p /root/.ssh-tercel; : >/root/.ssh-tercel/x; cat /root/.ssh-tercel/x; rm -r /root/.ssh-tercel",
        {"fd.name": "/root/.ssh-tercel/x", "proc.name": "cat"},
    ),
    Case("DB program spawned process", HOST, below("mysqld", "/bin/true"), {"proc.pname": "mysqld"}),
    Case("Change thread namespace", HOST, system_call(308, -1, 0), {"evt.type": "setns"}),
    Case("Change namespace privileges via unshare", WEB, "unshare --mount true", {"proc.name": "unshare"}),
    Case("Launch Privileged Container", STARTED, "--privileged", {"proc.name": "nginx"}),
    Case("Launch Excessively Capable Container", STARTED, "--cap-add=SYS_PTRACE", {"proc.name": "nginx"}),
    Case(
        "System procs network activity",
        NETWORK,
        "$PYTHON -m http.server --bind 192.0.2.1 8099 >$D/out 2>&1 & p=$!; "
        "for i in $(seq 100); do bash -c 'echo >/dev/tcp/192.0.2.1/8099' 2>/dev/null && break; sleep 0.1; done; "
        "kill $p",
        {"proc.name": "bash", "fd.rport": 8099},
    ),
    Case(
        "Program run with disallowed http proxy env",
        HOST,
        f"export HTTP_PROXY=x; {named('curl')}",
        {"proc.name": "curl"},
    ),
    Case("Unexpected UDP Traffic", NETWORK, _TO_METADATA.format(port=99, host="192.0.2.1"), {"fd.l4proto": "udp"}),
    Case(
        "Non sudo setuid",
        HOST,
        "setpriv --reuid=65534 --clear-groups /usr/bin/perl -e 'syscall(105, 1)'",
        {"evt.arg.uid": "daemon", "user.name": "nobody"},
    ),
    Case("User mgmt binaries", HOST, named("usermod", "x"), {"proc.cmdline": "usermod x"}),
    Case("Create files below dev", HOST, "touch /dev/tercel-x; rm /dev/tercel-x", {"fd.name": "/dev/tercel-x"}),
    Case(
        "Contact EC2 Instance Metadata Service From Container",
        WEB,
        _TO_METADATA.format(port=80, host=METADATA),
        {"proc.name": "perl", "fd.rport": 80},
    ),
    Case(
        "Contact cloud metadata service from container",
        WEB,
        _TO_METADATA.format(port=81, host=METADATA),
        {"proc.name": "perl", "fd.rport": 81},
    ),
    Case("Launch Package Management Process in Container", WEB, "dpkg --version", {"proc.name": "dpkg"}),
    Case("Launch Suspicious Network Tool in Container", WEB, named("socat"), {"proc.name": "socat"}),
    Case("Launch Suspicious Network Tool on Host", HOST, named("nmap"), {"proc.name": "nmap"}),
    Case("Delete or rename shell history", HOST, ": >$D/.bash_history; rm $D/.bash_history", {"proc.name": "rm"}),
    Case("Set Setuid or Setgid bit", HOST, ": >$D/suid; chmod 4755 $D/suid", {"proc.name": "chmod"}),
    Case("Launch Remote File Copy Tools in Container", WEB, named("rsync"), {"proc.name": "rsync"}),
    Case(
        "Mount Launched in Privileged Container",
        PRIVILEGED,
        "mount -t tmpfs none /mnt; umount /mnt",
        {"proc.name": "mount"},
    ),
    Case("Launch Ingress Remote File Copy Tools in Container", WEB, named("wget", "x"), {"proc.name": "wget"}),
    Case("Read environment variable from /proc files", WEB, "cat /proc/1/environ", {"fd.name": "/proc/1/environ"}),
    Case(
        "Exfiltrating Artifacts via Kubernetes Control Plane",
        WEB,
        "!tar cf /tmp/t.tar /var/lib/dpkg/arch",
        {"proc.name": "tar"},
    ),
    Case(
        "Adding ssh keys to authorized_keys",
        HOST,
        "mkdir -p /root/.ssh-tercel2; : >/root/.ssh-tercel2/authorized_keys; rm -r /root/.ssh-tercel2",
        {"fd.name": "/root/.ssh-tercel2/authorized_keys"},
    ),
    Case(
        "Potential Local Privilege Escalation via Environment Variables Misuse",
        HOST,
        "GLIBC_TUNABLES=glibc.malloc.check=0 /bin/true",
        {"proc.name": "true"},
    ),
    Case(
        "Backdoored library loaded into SSHD (CVE-2024-3094)",
        HOST,
        ": >$D/liblzma.so.5.6.0; mkdir -p $D/b; cp /bin/cat $D/b/sshd; $D/b/sshd $D/liblzma.so.5.6.0",
        {"proc.name": "sshd"},
    ),
    Case("BPF Program Not Profiled", HOST, system_call(321, 5, 0, 0), {"evt.type": "bpf"}),
    # -- sandbox
    Case(
        "Unexpected inbound connection source",
        NETWORK,
        f'exec -a server {sys.executable} -c "{_LISTENER.format(port=8081)}"',
        {"evt.type": "accept4", "fd.lport": 8081},
    ),
    Case("Read Shell Configuration File", HOST, ": >$D/.profile; cat $D/.profile", {"proc.name": "cat"}),
    Case("Update Package Repository", WEB, "touch /etc/apt/sources.list.d/x", {"fd.name": "/etc/apt/sources.list.d/x"}),
    Case("Write below binary dir", WEB, "touch /usr/bin/x1", {"fd.name": "/usr/bin/x1"}),
    Case("Write below monitored dir", WEB, "touch /boot/x", {"fd.name": "/boot/x"}),
    Case("Write below etc", WEB, "touch /etc/x", {"fd.name": "/etc/x"}),
    Case("Write below root", WEB, "touch /root/x", {"fd.name": "/root/x"}),
    Case("Write below rpm database", WEB, "mkdir /var/lib/rpm; touch /var/lib/rpm/x", {"fd.name": "/var/lib/rpm/x"}),
    Case("Modify binary dirs", WEB, "touch /usr/bin/x2; mv /usr/bin/x2 /usr/bin/y2", {"proc.name": "mv"}),
    Case("Mkdir binary dirs", WEB, "mkdir /usr/bin/d3", {"proc.name": "mkdir"}),
    Case(
        "Launch Sensitive Mount Container",
        STARTED,
        "--volume=/etc:/host-etc:ro",
        {"container.mounts": "/etc:/host-etc:ro:false:rprivate"},
    ),
    Case("Interpreted procs inbound network activity", NETWORK, f'$PYTHON -c "{_LISTENER.format(port=8082)}"'),
    Case("Interpreted procs outbound network activity", NETWORK, f'$PYTHON -c "{_LISTENER.format(port=8083)}"'),
    Case(
        "Unexpected K8s NodePort Connection",
        WEB,
        _TO_METADATA.format(port=30000, host=METADATA),
        {"fd.rport": 30000},
    ),
    Case("Create Hidden Files or Directories", HOST, "touch $D/.hidden", {"proc.name": "touch"}),
    Case("Detect crypto miners using the Stratum protocol", HOST, named("x", "-o stratum+tcp://x")),
    Case("Kubernetes Client Tool Launched in Container", WEB, named("kubectl"), {"proc.name": "kubectl"}),
    Case("Container Drift Detected (chmod)", WEB, "touch /tmp/c; chmod 755 /tmp/c", {"proc.name": "chmod"}),
    Case(
        "Container Drift Detected (open+create)",
        WEB,
        "perl -e 'use Fcntl; sysopen(F, q(/tmp/o), O_CREAT | O_WRONLY, 0755)'",
        {"evt.arg.name": "/tmp/o"},
    ),
    Case("Container Run as Root User", STARTED, "", {"proc.name": "nginx", "user.uid": 0}),
    Case("Sudo Potential Privilege Escalation", HOST, named("sudo", "-s '\\'"), {"proc.name": "sudo"}),
    Case(
        "Unprivileged Delegation of Page Faults Handling to a Userspace Process",
        HOST,
        "setpriv --reuid=65534 --clear-groups /usr/bin/perl -e 'syscall(323, 0)'",
        {"user.uid": 65534},
    ),
    Case(
        "Polkit Local Privilege Escalation Vulnerability (CVE-2021-4034)",
        HOST,
        named("pkexec"),
        {"proc.name": "pkexec"},
    ),
    Case(
        "Java Process Class File Download",
        NETWORK,
        f'exec -a java {sys.executable} -c "{_LISTENER.format(port=8084)}"',
        {"fd.type": "ipv4"},
    ),
    Case(
        "Modify Container Entrypoint",
        WEB,
        "exec 5>/tmp/entry; echo x >/proc/self/fd/5",
        {"fd.name": "/proc/self/fd/5"},
    ),
    Case("Decoding Payload in Container", WEB, "base64 -d </dev/null", {"proc.cmdline": "base64 -d"}),
    Case("Basic Interactive Reconnaissance", TERMINAL, "id", {"proc.name": "id"}),
    Case("Netcat/Socat Remote Code Execution on Host", HOST, named("nc", "-e /bin/sh"), {"proc.name": "nc"}),
    Case(
        "Network Tool Executed During NPM Package Install",
        WEB,
        "cp /bin/bash /tmp/npm; cp /bin/true /tmp/ncat; /tmp/npm -c '/tmp/ncat x; true'",
        {"proc.pname": "npm"},
    ),
    Case("Known Cryptominer Process Executed", HOST, named("xmrig"), {"proc.name": "xmrig"}),
    Case("Web Server Spawned Shell", HOST, below("httpd", "sh -c id"), {"proc.name": "sh"}),
    Case("Web Server Spawned Suspicious Child Process", HOST, below("lighttpd", "whoami"), {"proc.name": "whoami"}),
    Case("Reverse Shell from Web Server", HOST, below("apache2", "echo bash -i >$D/out; /bin/echo bash -i")),
    Case("Privileged Container Device Access", PRIVILEGED, "touch /dev/vd-tercel", {"fd.name": "/dev/vd-tercel"}),
    Case("Container Access to Host Sensitive Paths", WEB, "mkdir /host; touch /host/x", {"fd.name": "/host/x"}),
    # last, as its program must have run for five seconds by now
    Case(
        "Contact K8S API Server From Container",
        WEB,
        _TO_METADATA.format(port=443, host=SERVICE),
        {"proc.name": "perl", "fd.rport": 443, "fd.type": "ipv4"},
    ),
    Case(
        "Detect outbound connections to common miner pool ports",
        NETWORK,
        _TO_METADATA.format(port=443, host=SERVICE),
        {"proc.name": "perl", "fd.rip": SERVICE, "fd.rport": 443},
    ),
    Case("Read sensitive file trusted after startup", HOST, "touch $D/go; sleep 0.2", {"proc.name": "httpd"}),
)


@dataclass
class Stage:
    """Where acts are done."""

    daemon: Daemon
    engine: DockerEngine
    image: str
    folder: Path

    def act(self, case: Case) -> None:
        """Do what a case says."""
        match case.where:
            case "host":
                self._bash(case.script)
            case "plain":  # without a shell
                subprocess.run(case.script.split(), stdin=subprocess.DEVNULL, capture_output=True)
            case "network":
                self._bash(_OWN_NETWORK + case.script, "unshare", "--net")
            case "terminal":
                self._on_terminal(case.script)
            case "started":
                self.engine.run(self.image, name="official-started", options=tuple(case.script.split()))
                self.engine.remove("official-started")
            case name:
                argv = case.script[1:].split() if case.script.startswith("!") else ["sh", "-c", case.script]
                subprocess.run(
                    self.engine.argv("exec", name, *argv), stdin=subprocess.DEVNULL, capture_output=True, timeout=180
                )

    def _bash(self, script: str, *before: str) -> None:
        env = {**os.environ, "D": str(self.folder), "PYTHON": sys.executable}
        argv = [*before, "bash", "-c", script]
        subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, env=env, timeout=180)

    def _on_terminal(self, program: str) -> None:
        ours, theirs = pty.openpty()
        argv = self.engine.argv("exec", "--interactive", "--tty", WEB, program)
        child = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        os.write(ours, b"exit\n")
        try:
            child.wait(120)
        finally:
            os.close(ours)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, docker_engine: DockerEngine, nginx_image: str) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("official")
    config = {
        "containers": {"docker_sockets": [str(docker_engine.socket)], "podman_sockets": [], "wait_ms": 60_000},
        "rule_matching": "all",
        "rules": [{"enable": {"rule": "*"}}],
    }
    shutil.copy("/bin/bash", folder / "httpd")
    # told by `go`, which is there when it has run for long enough
    wait = f"while ! [ -e {folder}/go ]; do sleep 0.1; done; read -r line </etc/shadow; true"
    server = subprocess.Popen([folder / "httpd", "-c", wait], stdin=subprocess.DEVNULL)
    started = time.monotonic()
    try:
        docker_engine.run(nginx_image, name=WEB)
        docker_engine.run(nginx_image, name=PRIVILEGED, options=("--privileged",))
        pid = docker_engine.client("inspect", "--format", "{{.State.Pid}}", WEB)
        addresses = [["address", "add", f"{address}/32", "dev", "lo"] for address in (METADATA, SERVICE)]
        for words in (["link", "set", "lo", "up"], *addresses):
            subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "ip", *words], check=True)
        files = [shared_falco() / "rules" / f"{name}.yaml" for name in FILES]
        hosts = folder / "hosts"
        names = sorted(needs_of(load_rules(files).rules).domains)
        hosts.write_text("".join(f"{SERVICE} {name}\n" for name in names) + "127.0.0.1 localhost\n")
        own_names = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(hosts)]
        with Daemon(folder, config, rules=files, prefix=own_names) as daemon:
            assert "\n  errors" not in daemon.errors()
            yield Stage(daemon, docker_engine, nginx_image, folder)
    finally:
        (folder / "go").touch()
        server.wait(120)
        for name in (WEB, PRIVILEGED):
            docker_engine.remove(name)
    assert time.monotonic() - started > 5  # the last case's program was old enough


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_its_act_is_told(stage: Stage, case: Case) -> None:
    before = len(stage.daemon.alerts())
    stage.act(case)
    deadline = time.monotonic() + 120
    while True:
        told = [a["output_fields"] for a in stage.daemon.alerts()[before:] if a["rule"] == case.rule]
        if any(case.fields.items() <= fields.items() for fields in told):
            break
        assert time.monotonic() < deadline, f"told: {told}, others: {_others(stage, before)}"
        time.sleep(0.05)
    for fields in told:
        assert fields["evt.type"] and fields["proc.name"] and fields["user.uid"] is not None


def _others(stage: Stage, before: int) -> list[str]:
    return sorted({a["rule"] for a in stage.daemon.alerts()[before:]})


def test_every_rule_has_its_act_or_a_reason() -> None:
    names = set()
    for name in FILES:
        items = yaml.safe_load((shared_falco() / "rules" / f"{name}.yaml").read_text())
        names |= {item["rule"] for item in items if "rule" in item}
    done = [case.rule for case in CASES]
    assert len(done) == len(set(done))
    assert set(done) | set(NOT_DONE) == names
    assert not set(done) & set(NOT_DONE)
    for rule, reason in NOT_DONE.items():
        print(f"not done: {rule}: {reason}")
