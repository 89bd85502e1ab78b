"""The default rules on the real kernel: each fires once for an act that is meant, and not for one that is not."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import ROOT, Daemon
from tests.support.docker import DockerEngine

pytestmark = [pytest.mark.kernel, pytest.mark.docker]

SHIPPED = ROOT / "rules/tercel_rules.yaml"
SETTLE_S = 0.7
CONTAINERS = ("web", "web2", "web3", "agent", "started")

NGINX_RULE = """
- rule: Unauthorized process on nginx containers
  desc: Only nginx runs in nginx containers.
  condition: spawned_process and container and container.image startswith nginx and not proc.name in (nginx)
  output: >
    Unauthorized process (user=%user.name name=%container.name id=%container.id image=%container.image.repository
    process=%proc.name parent=%proc.pname command=%proc.cmdline terminal=%proc.tty)
  priority: WARNING
"""

READ = "Read of a sensitive file"
COPY = "System files given to a copying program"
PROGRAMS = "Write below a directory of programs"
ETC = "Write below etc"
ROOT_DIR = "Write below root"
SETUID = "Setuid or setgid bit set"
MODE = "Mode or owner of a system file changed"
CONNECT = "Outbound connection by a system program"
PTRACE = "Process attached by ptrace"
TERMINAL = "Terminal shell in a container"
SHELL = "Shell without a terminal in a container"
UNEXPECTED = "Unexpected program in a container"
BUILDER = "Package manager or compiler in a container"
MOUNT = "Mount attempted in a container"
NAMESPACE = "Namespace tool run in a container"
CONTROL = "Kernel control file opened for writing in a container"
ENGINE = "Container engine asked from inside a container"
PRIVILEGED = "Privileged container started"
SENSITIVE = "Container with a sensitive mount started"


def config(engine: DockerEngine) -> dict[str, Any]:
    """Each alert tells the ancestors of its process."""
    ancestors = [f"proc.apid[{n}]" for n in range(1, 8)]
    return {
        "containers": {"docker_sockets": [str(engine.socket)], "podman_sockets": [], "wait_ms": 60_000},
        "append_output": [{"match": {"source": "syscall"}, "extra_fields": ancestors}],
        "rules_profile": "all",
    }


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, docker_engine: DockerEngine) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon"), config(docker_engine), rules=[SHIPPED]) as daemon:
        yield daemon
        assert "errors" not in daemon.errors()


@pytest.fixture(scope="module")
def web(docker_engine: DockerEngine, nginx_image: str, daemon: Daemon) -> Iterator[str]:
    """A container of nginx that started while the appliance ran, and raised nothing by it."""
    before = len(by_rules(daemon))
    docker_engine.run(nginx_image, name="web")
    daemon.settle(2)
    assert by_rules(daemon)[before:] == []
    yield "web"
    docker_engine.remove("web")


def raised(daemon: Daemon, expected: int, act: Callable[[], Any]) -> list[dict[str, Any]]:
    """The alerts of an act: waits for as many as are expected, and then for those that are not."""
    before = len(by_rules(daemon))
    act()
    deadline = time.monotonic() + 90
    while len(by_rules(daemon)) < before + expected and time.monotonic() < deadline:
        time.sleep(0.05)
    daemon.settle(SETTLE_S)
    return by_rules(daemon)[before:]


def by_rules(daemon: Daemon) -> list[dict[str, Any]]:
    """The alerts so far about what we started, in our containers or of our own: not those about the appliance (of a
    machine that stood still, say), nor about what else the machine does."""
    return [a for a in daemon.alerts() if a["source"] != "internal" and is_ours(a["output_fields"])]


def is_ours(fields: dict[str, Any]) -> bool:
    """Whether an alert is about what we started ourselves."""
    if fields.get("container.name") in CONTAINERS:
        return True
    return os.getpid() in [value for name, value in fields.items() if name.startswith("proc.apid")]


def sh(script: str, **options: Any) -> Callable[[], Any]:
    return lambda: subprocess.run(["bash", "-c", script], stdin=subprocess.DEVNULL, **options)


def attach(request: int) -> Callable[[], Any]:
    code = (
        "import ctypes, os, subprocess, sys\n"
        "child = subprocess.Popen(['sleep', '100'])\n"
        "ctypes.CDLL(None).ptrace(int(sys.argv[1]), child.pid, 0, 0)\n"
        "child.kill()\n"
    )
    return lambda: subprocess.run([sys.executable, "-c", code, str(request)], check=True)


HOST = [
    ([READ], sh("cat /etc/shadow >/dev/null"), {"proc.name": "cat", "fd.name": "/etc/shadow", "user.name": "root"}),
    ([READ], sh("base64 /etc/shadow >/dev/null"), {"proc.name": "base64"}),
    ([READ], sh("cd /etc; cat ./ssl/../gshadow >/dev/null"), {"fd.name": "/etc/gshadow"}),
    ([READ], sh("setpriv --reuid=65534 --clear-groups cat /etc/shadow 2>/dev/null"), {"evt.res": "EACCES"}),
    ([], sh("cat /etc/passwd /etc/hosts >/dev/null; cat /etc/shadow.missing 2>/dev/null; su -c true"), {}),
    ([COPY], sh("tar cf /dev/null /etc 2>/dev/null"), {"proc.cmdline": "tar cf /dev/null /etc"}),
    ([], sh("tar cf /dev/null /usr/share/common-licenses 2>/dev/null"), {}),
    ([PROGRAMS], sh("touch /usr/bin/tercel-x"), {"fs.paths": "/usr/bin/tercel-x", "proc.name": "touch"}),
    ([PROGRAMS], sh("mv /usr/bin/tercel-x /bin/tercel-y"), {"fs.paths": "/usr/bin/tercel-x -> /bin/tercel-y"}),
    ([PROGRAMS], sh("rm /usr/bin/tercel-y"), {"fs.paths": "/usr/bin/tercel-y"}),
    ([PROGRAMS], sh("mkdir /usr/sbin/tercel-d"), {"evt.type": "mkdir"}),
    ([PROGRAMS], sh("rmdir /usr/sbin/tercel-d"), {"evt.type": "rmdir"}),
    ([], sh("touch /tmp/usr-bin-x; rm /tmp/usr-bin-x; ls /usr/bin >/dev/null; touch /usr/bin/no/x 2>/dev/null"), {}),
    ([ETC], sh("touch /etc/tercel-x"), {"fs.paths": "/etc/tercel-x"}),
    ([MODE], sh("chmod 600 /etc/tercel-x"), {"evt.arg.mode": "S_IWUSR|S_IRUSR"}),
    ([MODE], sh("chown 1:1 /etc/tercel-x"), {"evt.type": "fchownat"}),
    ([ETC], sh("cd /etc && mv tercel-x tercel-y"), {"fs.paths": "/etc/tercel-x -> /etc/tercel-y"}),
    ([ETC], sh("rm /etc/tercel-y"), {}),
    ([], sh("touch /tmp/etc; chmod 600 /tmp/etc; chown 1:1 /tmp/etc; rm /tmp/etc; ldconfig"), {}),
    ([SETUID], sh("cp /bin/true /tmp/tercel-s; chmod 4755 /tmp/tercel-s"), {"fs.paths": "/tmp/tercel-s"}),
    ([SETUID], sh("chmod g+s /tmp/tercel-s"), {"proc.cmdline": "chmod g+s /tmp/tercel-s"}),
    ([], sh("chmod 1777 /tmp/tercel-s; rm /tmp/tercel-s"), {}),
    ([ROOT_DIR], sh("touch /tercel-x"), {"fd.name": "/tercel-x"}),
    ([ROOT_DIR], sh("touch /root/tercel-x"), {"fd.name": "/root/tercel-x"}),
    ([], sh("rm /tercel-x /root/tercel-x; mkdir -p /root/.cache/tercel-d; : >/root/.cache/tercel-d/x;"
            "rm -r /root/.cache/tercel-d; touch /var/tmp/tercel-x; rm /var/tmp/tercel-x"), {}),
    ([CONNECT], sh("unshare -n sh -c 'ip link set lo up; bash -c \"echo >/dev/tcp/192.0.2.1/443\"' 2>/dev/null"),
     {"evt.res": "ENETUNREACH"}),
    ([], sh("echo >/dev/tcp/127.0.0.1/9"), {}),
    ([PTRACE], attach(16), {"evt.arg.request": "PTRACE_ATTACH"}),
    ([PTRACE], attach(0x4206), {"evt.arg.request": "PTRACE_SEIZE"}),
    ([], attach(9), {}),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "act", "fields"), HOST, ids=range(len(HOST)))
def test_on_the_host(daemon: Daemon, rules: list[str], act: Callable[[], Any], fields: dict[str, str]) -> None:
    alerts = raised(daemon, len(rules), act)
    assert [a["rule"] for a in alerts] == rules, alerts
    for alert in alerts:
        told = alert["output_fields"]
        assert fields.items() <= told.items()
        assert told["container.name"] == "host"
        assert told["proc.pname"] and told["user.name"] and told["proc.cmdline"]


def on_terminal(engine: DockerEngine, container: str, *argv: str, typed: bytes = b"exit\n") -> None:
    """`docker exec -it`, with somebody typing."""
    master, slave = pty.openpty()
    child = subprocess.Popen(
        engine.argv("exec", "-it", container, *argv), stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    try:
        os.write(master, typed)
        deadline = time.monotonic() + 120
        while child.poll() is None and time.monotonic() < deadline:
            try:
                os.read(master, 65536)
            except OSError:
                break
        child.wait(120)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        os.close(master)


IN_CONTAINER = [
    ([SHELL], ["sh", "-c", "true"]),
    ([SHELL], ["bash", "-c", "sh -c true; true"]),
    ([], ["nginx", "-t"]),
    ([], ["ls", "/etc"]),
    ([READ], ["cat", "/etc/shadow"]),
    ([BUILDER], ["apt-get", "--version"]),
    ([BUILDER], ["dpkg", "-l"]),
    ([NAMESPACE], ["nsenter", "--version"]),
    ([NAMESPACE], ["unshare", "--mount", "true"]),
    ([MOUNT], ["mount", "-t", "tmpfs", "none", "/mnt"]),
    ([PROGRAMS], ["touch", "/usr/bin/x"]),
    ([ETC], ["touch", "/etc/x"]),
    ([CONTROL], ["dd", "if=/dev/null", "of=/proc/sys/kernel/core_pattern", "status=none"]),
    ([CONTROL], ["truncate", "--no-create", "--size=0", "/proc/sysrq-trigger"]),
]


@pytest.mark.parametrize(("rules", "argv"), IN_CONTAINER, ids=lambda v: " ".join(v))
def test_in_a_container(
    daemon: Daemon, docker_engine: DockerEngine, web: str, rules: list[str], argv: list[str]
) -> None:
    def act() -> None:
        subprocess.run(docker_engine.argv("exec", web, *argv), stdin=subprocess.DEVNULL, capture_output=True)

    alerts = raised(daemon, len(rules), act)
    assert sorted(a["rule"] for a in alerts) == sorted(rules), alerts
    for alert in alerts:
        told = alert["output_fields"]
        assert (told["container.name"], told["container.image"]) == ("web", "nginx:1.22")
        assert told["proc.cmdline"] and told["user.name"] == "root" and told["proc.tty"] == 0


def test_a_shell_with_a_terminal(daemon: Daemon, docker_engine: DockerEngine, web: str) -> None:
    """What an engineer types: `docker exec -it web bash`. One alert, whatever is done in the shell that is no act."""
    alerts = raised(daemon, 1, lambda: on_terminal(docker_engine, web, "bash", typed=b"ls /; sh -c true; id\nexit\n"))
    assert [a["rule"] for a in alerts] == [TERMINAL]
    told = alerts[0]["output_fields"]
    assert (told["proc.name"], told["proc.cmdline"], told["user.name"]) == ("bash", "bash", "root")
    assert (told["container.name"], told["container.image"]) == ("web", "nginx:1.22")
    assert told["proc.tty"] > 0 and len(told["container.id"]) == 12 and told["proc.pname"]


def test_the_engines_socket_inside_a_container(daemon: Daemon, docker_engine: DockerEngine, nginx_image: str) -> None:
    """Mounted, which is told when the container starts, and used."""
    script = "use IO::Socket::UNIX; IO::Socket::UNIX->new(Peer => '/var/run/docker.sock') or die"
    mount = ("--volume", f"{docker_engine.socket}:/var/run/docker.sock")
    before = len(by_rules(daemon))
    docker_engine.run(nginx_image, name="agent", options=mount)
    try:
        docker_engine.exec("agent", "perl", "-e", script)
        daemon.wait_for(lambda a: a["rule"] == ENGINE)
        daemon.settle(SETTLE_S)
        alerts = [
            a for a in by_rules(daemon)[before:] if a["rule"] != SENSITIVE
        ]  # the socket's place is the test's own
        assert [a["rule"] for a in alerts] == [ENGINE], alerts
        assert alerts[0]["output_fields"]["fd.name"].endswith("/docker.sock")
    finally:
        docker_engine.remove("agent")


@pytest.mark.parametrize(
    ("rules", "options"),
    [
        ([PRIVILEGED], ("--privileged",)),
        ([SENSITIVE], ("--volume", "/etc:/host:ro")),
        ([SENSITIVE], ("--volume", "/:/host:ro")),
        ([], ("--volume", "/srv:/srv:ro")),
    ],
    ids=["privileged", "etc", "root", "harmless"],
)
def test_how_a_container_is_started(
    daemon: Daemon, docker_engine: DockerEngine, nginx_image: str, rules: list[str], options: tuple[str, ...]
) -> None:
    alerts = raised(daemon, len(rules), lambda: docker_engine.run(nginx_image, name="started", options=options))
    docker_engine.remove("started")
    assert [a["rule"] for a in alerts] == rules, alerts
    for alert in alerts:
        assert alert["output_fields"]["container.name"] == "started"
        assert alert["output_fields"]["proc.name"] == "nginx"


def test_the_users_own_rule(tmp_path: Path, docker_engine: DockerEngine, nginx_image: str) -> None:
    """In the local file: it fires for any program but nginx in an nginx container, besides the default rules."""
    local = tmp_path / "local.yaml"
    local.write_text(NGINX_RULE)
    mine = "Unauthorized process on nginx containers"
    full_id = docker_engine.run(nginx_image, name="web2")  # before the appliance: known from /proc and the engine
    try:
        with Daemon(tmp_path, config(docker_engine), rules=[SHIPPED, local]) as daemon:
            assert raised(daemon, 0, lambda: docker_engine.exec("web2", "nginx", "-t")) == []
            alerts = raised(daemon, 1, lambda: docker_engine.exec("web2", "id"))
            assert [a["rule"] for a in alerts] == [mine], alerts
            told = alerts[0]["output_fields"]
            assert told["container.name"] == "web2"
            assert told["container.id"] == full_id[:12]
            assert told["container.image.repository"] == "nginx"
            assert (told["proc.name"], told["proc.cmdline"], told["user.name"]) == ("id", "id", "root")
            alerts = raised(daemon, 2, lambda: on_terminal(docker_engine, "web2", "bash"))
            assert sorted(a["rule"] for a in alerts) == sorted([TERMINAL, mine]), alerts
            # a container that the appliance has never heard of when its first program runs
            alerts = raised(daemon, 1, lambda: docker_engine.run(nginx_image, "sleep", "5", name="web3"))
            assert [a["rule"] for a in alerts] == [mine], alerts
            assert alerts[0]["output_fields"]["container.name"] == "web3"
    finally:
        docker_engine.remove("web2")
        docker_engine.client("rm", "--force", "web3")
