"""The default rules without a kernel: what each of them must have, and events at the edge of what they mean."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from appliance.lang.load import load_rules
from appliance.model.event import Container, Event, EventType, Fd, Mount
from appliance.model.expr import FieldRef
from appliance.model.rule import Rule
from tests.rules import test_acts_live as acts
from tests.rules import test_live as live
from tests.support.daemon import ROOT
from tests.support.events import SHELL, event, file_fd, inet_fd, process
from tests.support.rules import ruleset_of

FILES = [
    ROOT / "rules/tercel_rules.yaml",
    ROOT / "rules/tercel_attack_rules.yaml",
    ROOT / "rules/tercel_rules.local.yaml",
]
LOADED = load_rules(FILES)
RULES = ruleset_of(LOADED.rules)
WEB = Container("0123456789ab", "0123456789ab" * 5, runtime="docker", name="web", image="nginx:1.22", privileged=False)
ALL_LIVE = {value for name, value in vars(live).items() if name.isupper() and isinstance(value, str) and " " in value}


def test_they_load_without_a_word() -> None:
    assert [d.render() for d in LOADED.diagnostics] == []


@pytest.mark.parametrize("rule", LOADED.rules, ids=lambda rule: rule.name)
def test_each_rule_is_whole(rule: Rule) -> None:
    assert rule.enabled
    assert re.match(r"[A-Z].*\.$", rule.desc.strip(), re.DOTALL), "a description in sentences"
    assert any(re.fullmatch(r"T\d{4}(\.\d{3})?", tag) for tag in rule.tags), "a technique of MITRE ATT&CK"
    assert any(tag.startswith("mitre_") for tag in rule.tags), "a tactic of MITRE ATT&CK"
    assert {"host", "container"} & set(rule.tags)
    fields = {part.name for part in rule.output.parts if isinstance(part, FieldRef)}
    assert fields >= {
        "user.name", "proc.name", "proc.pname", "proc.cmdline", "proc.tty", "container.name", "container.image",
    }  # fmt: skip
    assert "maturity_incubating" not in rule.tags or {"noise_low", "noise_moderate", "noise_high"} & set(rule.tags)
    assert rule.name in ALL_LIVE | set(acts.ACTS) | acts.NOT_DONE, "fires in a live test"
    assert len(rule.event_types) < 20


def opened(path: str, *, write: bool = False, **rest: object) -> Event:
    facts: dict[str, Any] = {"res": 3, "flags": 0x41 if write else 0, "mode": 0o644, **rest}
    return event("openat", fd=file_fd(path), path=path, name=path, **facts)


def started(name: str, *args: str, parent: str = "bash", **rest: object) -> Event:
    facts = {k: rest.pop(k) for k in ("tty", "vpid", "exepath", "cwd") if k in rest}
    return event(
        "execve",
        process=process(name, *args, **{"vpid": 77, **facts}),
        ancestors=[process(parent), SHELL],
        **rest,  # type: ignore[arg-type]
    )


SSHD = process("sshd", exepath="/usr/sbin/sshd")
FAKE = process("sshd", exepath="/tmp/sshd")
DPKG = process("dpkg", exepath="/usr/bin/dpkg")
ACCOUNTS = "Account file written by hand"
SERVER = "Shell started by a server program"

CASES = [
    # who is trusted by name must be a file of the system
    (opened("/etc/shadow", process=SSHD), []),
    (opened("/etc/shadow", process=FAKE), [live.READ]),
    (opened("/etc/shadow", process=process("sudo")), []),
    (opened("/etc/shadow", process=process("x.postinst"), ancestors=[DPKG]), []),
    (opened("/etc/shadow", process=process("cat"), res=-2), []),
    (opened("/etc/shadow", process=process("cat"), res=-13), [live.READ]),
    (opened("/etc/sudoers.d/x", process=process("less")), [live.READ]),
    (opened("/etc/ssh/ssh_host_rsa_key", process=process("cat")), [live.READ]),
    (opened("/etc/ssh/ssh_host_rsa_key.pub", process=process("cat")), []),
    (opened("/etc/ssh/ssh_host_rsa_key", process=SSHD), []),
    (opened("/home/ada/.ssh/id_ed25519", process=process("python3")), [live.READ]),
    (opened("/home/ada/.ssh/id_ed25519", process=process("ssh")), []),
    (opened("/root/.ssh/id_rsa", process=process("sudo")), [live.READ]),
    (opened("/etc/passwd", process=process("cat")), []),
    # writes
    (opened("/etc/passwd", write=True, process=process("useradd", exepath="/usr/sbin/useradd")), []),
    (opened("/etc/passwd", write=True, process=process("useradd", exepath="/dev/shm/useradd")), [ACCOUNTS]),
    (opened("/etc/passwd", write=True, process=process("bash")), [ACCOUNTS]),
    (opened("/etc/.hosts.swp", write=True, process=process("vim")), []),
    (opened("/etc/.hosts.swp", write=True, process=process("cp")), [live.ETC]),
    (opened("/usr/bin/ls", write=True, process=process("cp")), [live.PROGRAMS]),
    (opened("/usr/bin/ls", write=True, process=DPKG), []),
    (opened("/usr/bin/ls", write=True, process=process("exe", exepath="/usr/sbin/dockerd")), []),
    (opened("/usr/bin/ls", write=True, process=process("cp"), res=-13), []),
    (opened("/usr/binaries/x", write=True, process=process("cp")), []),
    (opened("/root/.bash_history", write=True, process=process("bash")), []),
    (opened("/root/.ssh/known_hosts", write=True, process=process("ssh")), []),
    (opened("/root/.ssh/authorized_keys", write=True, process=process("sh")), ["Key for logins written"]),
    (opened("/payload", write=True, process=process("sh")), [live.ROOT_DIR]),
    (opened("/tmp", write=True, flags=0x410041, process=process("sh")), []),  # a file without a name
    (opened("/srv/payload", write=True, process=process("sh")), []),
    (opened("/home/x/root/y", write=True, process=process("sh")), []),
    (event("creat", process=process("cp"), fd=file_fd("/sbin/x"), path="/sbin/x", mode=0o755, res=3), [live.PROGRAMS]),
    (event("creat", process=process("cp"), fd=file_fd("/tmp/x"), path="/tmp/x", mode=0o4755, res=3), [live.SETUID]),
    (event("unlink", process=process("rm"), path="/etc/passwd"), [live.ETC]),
    (event("unlink", process=process("rm"), path="/etc/passwd", res=-13), []),
    (event("rename", process=process("mv"), source_path="/usr/bin/ls", target_path="/tmp/ls"), [live.PROGRAMS]),
    (event("link", process=process("ln"), source_path="/usr/bin/ls", target_path="/tmp/ls"), []),
    (event("symlink", process=process("ln"), source_path="/tmp/ls", target_path="/bin/ls"), [live.PROGRAMS]),
    # modes and owners
    (event("chmod", process=process("chmod"), path="/tmp/x", mode=0o2755), [live.SETUID]),
    (event("chmod", process=process("chmod"), path="/usr/bin/x", mode=0o4755), [live.SETUID]),
    (event("chmod", process=process("chmod"), path="/usr/bin/x", mode=0o1777), [live.MODE]),
    (event("chmod", process=process("chmod"), path="/home/x", mode=0o777), []),
    (event("fchmod", process=process("python3"), fd=file_fd("/etc/crontab"), mode=0o666), [live.MODE]),
    (event("chmod", process=process("systemd-tmpfile"), path="/var/log/journal", mode=0o2755), []),
    (event("chown", process=process("chown"), path="/lib/x", uid=1, gid=1), [live.MODE]),
    (event("chown", process=DPKG, path="/lib/x", uid=1, gid=1), []),
    # the network
    (event("connect", process=process("bash"), fd=inet_fd(("10.0.0.1", 5), ("8.8.8.8", 443))), [live.CONNECT]),
    (event("connect", process=process("bash"), fd=inet_fd(("10.0.0.1", 5), ("8.8.8.8", 53), l4proto="udp")), []),
    (event("connect", process=process("bash"), fd=inet_fd(("127.0.0.1", 5), ("127.0.0.1", 80))), []),
    (event("connect", process=process("bash"), fd=inet_fd(("::1", 5), ("::1", 80))), []),
    (event("connect", process=process("cat"), fd=inet_fd(("::2", 5), ("2001:db8::1", 80))), [live.CONNECT]),
    (event("connect", process=process("id"), fd=inet_fd(("10.0.0.1", 5), ("10.0.0.2", 389))), []),
    (event("connect", process=process("bash"), fd=inet_fd(("10.0.0.1", 5), ("10.0.0.2", 636))), []),
    (event("connect", process=process("curl"), fd=inet_fd(("10.0.0.1", 5), ("8.8.8.8", 443))), []),
    (
        event("connect", process=process("python3"), fd=Fd(3, "unix", "u", "/run/docker.sock"), container=WEB),
        [live.ENGINE],
    ),
    (event("connect", process=process("docker"), fd=Fd(3, "unix", "u", "/run/docker.sock")), []),
    # debuggers
    (event("ptrace", process=process("gdb"), request=16, pid=5), []),
    (event("ptrace", process=process("gdb", tty=0), request=16, pid=5), [live.PTRACE]),
    (event("ptrace", process=process("gdb"), request=16, pid=5, container=WEB), [live.PTRACE]),
    (event("ptrace", process=process("gdb", exepath="/tmp/gdb"), request=16, pid=5), [live.PTRACE]),
    (event("ptrace", process=process("x"), request=3, pid=5), []),
    # containers
    (started("bash", parent="containerd-shim", container=WEB), [live.TERMINAL]),
    (started("bash", parent="bash", container=WEB), []),
    (started("bash", parent="sshd"), []),
    (started("sh", "-c", "x", parent="python3", tty=0, container=WEB), [live.SHELL]),
    (started("sh", "-c", "x", parent="nginx", tty=0, container=WEB), [SERVER]),
    (started("sh", "-c", "x", parent="nginx", tty=0), [SERVER]),
    (started("sh", "/entrypoint.sh", parent="containerd-shim", tty=0, vpid=1, container=WEB), []),
    (started("sh", "-c", "x", parent="cron", tty=0, container=WEB), []),
    (started("sh", "-c", "x", parent="sh", tty=0, container=WEB), []),
    (started("nc", "-l", container=WEB), [live.UNEXPECTED]),
    (started("nc", "-l"), []),
    (started("dpkg", parent="apt-get", container=WEB), []),
    (started("nsenter", "-t", "1", container=WEB), [live.NAMESPACE]),
    (started("nsenter", "-t", "1"), []),
    (started("nginx", parent="containerd-shim", vpid=1, container=WEB), []),
    (started("tar", "cz", "/etc"), [live.COPY]),
    (started("tar", "cz", ".", cwd="/etc/nginx/"), [live.COPY]),
    (started("tar", "cz", "/etc/shadow"), []),  # told when it is read
    (started("curl", "--cacert", "/etc/ssl/x.pem"), []),
    (started("tar", "cz", "/srv"), []),
    (event("mount", process=process("mount"), container=WEB, res=-1), [live.MOUNT]),
    (event("mount", process=process("runc:[2:INIT]"), container=WEB), []),
    (event("mount", process=process("mount")), []),
    (opened("/sys/fs/cgroup/x/release_agent", write=True, process=process("sh"), container=WEB), [live.CONTROL]),
    (
        opened("/proc/sys/kernel/core_pattern", write=True, process=process("sh"), container=WEB, res=-30),
        [live.CONTROL],
    ),
    (opened("/proc/sys/kernel/core_pattern", write=True, process=process("sysctl")), []),
]


@pytest.mark.parametrize(("e", "rules"), CASES, ids=range(len(CASES)))
def test_one_act_one_alert(e: Event, rules: list[str]) -> None:
    assert [alert.rule for alert in RULES.match(e)] == rules
    assert not RULES.errors


@pytest.mark.parametrize(
    ("source", "sensitive"),
    [
        ("/", True),
        ("/etc", True),
        ("/etc/ssh", True),
        ("/root/.ssh", True),
        ("/proc", True),
        ("/var/run/docker.sock", True),
        ("/run/containerd/containerd.sock", True),
        ("/srv/data", False),
        ("/home/ada/site", False),
        ("/dev/shm", False),
    ],
)
def test_sensitive_mounts(source: str, sensitive: bool) -> None:
    container = Container(
        "0123456789ab", "0123456789ab" * 5, name="web", image="x", privileged=False,
        mounts=(Mount("/srv", "/srv", "", True, "rprivate"), Mount(source, "/m", "", True, "rprivate")),
    )  # fmt: skip
    e = started("nginx", parent="containerd-shim", vpid=1, container=container)
    assert [a.rule for a in RULES.match(e)] == [live.SENSITIVE] * sensitive


def test_no_rule_needs_a_rare_event() -> None:
    assert RULES.event_types < set(EventType) - {EventType.CLONE, EventType.PROCEXIT, EventType.DUP, EventType.DUP2}


def test_the_example_of_the_local_file_works(tmp_path: Path) -> None:
    text = FILES[2].read_text()
    example = "\n".join(line[2:] for line in text.splitlines() if line.startswith("# ") or line == "#")
    example = example[example.index("- rule: Unauthorized") :].replace("\nSwitch a default rule off:\n", "\n")
    file = tmp_path / "local.yaml"
    file.write_text(example)
    loaded = load_rules([*FILES[:2], file])
    assert [d.render() for d in loaded.diagnostics] == []
    by_name = {rule.name: rule for rule in loaded.rules}
    assert not by_name["Write below root"].enabled
    rules = ruleset_of(loaded.rules)
    e = started("id", container=WEB, parent="containerd-shim")
    assert [a.rule for a in rules.match(e)] == ["Unauthorized process on nginx containers"]
