"""Real servers that outputs of the hub deliver to: on the loopback, in a folder of their own, ended by pid."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.docker import end
from tests.support.receivers import listens, wait_until

BIN = Path(sys.executable).parent


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


@contextmanager
def running(
    argv: Sequence[str | Path],
    folder: Path,
    ready: Callable[[], bool],
    *,
    user: str | None = None,
    environment: dict[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A program in the foreground, until the block ends; its output stands in `folder`."""
    if user is not None:
        account = pwd.getpwnam(user)
        os.chown(folder, account.pw_uid, account.pw_gid)
        for parent in folder.parents:  # pytest makes its folders for their owner only
            if parent.stat().st_uid == os.geteuid() and "pytest" in str(parent):
                parent.chmod(0o755)
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in argv],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
            env={**os.environ, **({"HOME": str(folder)} if user else {}), **(environment or {})},
        )
    try:
        wait_until(lambda: _alive(process, folder) and ready(), f"{argv[0]}")
        yield process
    finally:
        end(process)


def _alive(process: subprocess.Popen[bytes], folder: Path) -> bool:
    assert process.poll() is None, (folder / "output").read_text(errors="replace")[-3000:]
    return True


@contextmanager
def nats(folder: Path) -> Iterator[int]:
    """A NATS server with JetStream; its port."""
    port = free_port()
    argv = [BIN / "nats-server", "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", folder / "store"]
    with running(argv, folder, lambda: listens(port)):
        yield port


@contextmanager
def redis(folder: Path) -> Iterator[int]:
    """A Redis server; its port."""
    port = free_port()
    argv = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder]
    with running(argv, folder, lambda: listens(port)):
        yield port


@contextmanager
def postgres(folder: Path) -> Iterator[int]:
    """A PostgreSQL server that trusts its loopback; its port. It refuses to run as root, so its own user runs it."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    port = free_port()
    account = pwd.getpwnam("postgres")
    os.chown(folder, account.pw_uid, account.pw_gid)
    for parent in folder.parents:
        if parent.stat().st_uid == os.geteuid() and "pytest" in str(parent):
            parent.chmod(0o755)
    data = folder / "data"
    subprocess.run(
        [
            programs / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "--auth=trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ],
        check=True,
        user="postgres",
        group=account.pw_gid,
        extra_groups=[],
        cwd=folder,
        capture_output=True,
    )
    argv = [programs / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", folder]
    with running(argv, folder, lambda: listens(port), user="postgres"):
        yield port


@contextmanager
def mosquitto(folder: Path) -> Iterator[int]:
    """A Mosquitto broker; its port."""
    port = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence false\n")
    with running(["/usr/sbin/mosquitto", "-c", config], folder, lambda: listens(port)):
        yield port


@contextmanager
def rabbitmq(folder: Path) -> Iterator[int]:
    """A RabbitMQ broker with its guest account; its port."""
    port, distribution, mapper = free_port(), free_port(), free_port()
    (folder / "plugins").write_text("[].\n")
    environment = {
        "RABBITMQ_NODENAME": f"tercel{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_MAX_PORTS": "1024",
    }
    # the script of /usr/sbin asks for root or its own user, the one below for neither; it starts a port mapper beside
    # it
    program = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))[-1]
    try:
        with running([program], folder, lambda: listens(port), user="rabbitmq", environment=environment):
            yield port
    finally:
        subprocess.run(
            ["epmd", "-port", str(mapper), "-kill"],
            capture_output=True,
            check=False,
            env={**os.environ, "ERL_EPMD_PORT": str(mapper)},
        )


@contextmanager
def influxdb(folder: Path) -> Iterator[int]:
    """InfluxDB 1; its port."""
    port, rpc = free_port(), free_port()
    config = folder / "influxdb.conf"
    config.write_text(
        f'reporting-disabled = true\nbind-address = "127.0.0.1:{rpc}"\n'
        f'[meta]\ndir = "{folder}/meta"\n[data]\ndir = "{folder}/data"\nwal-dir = "{folder}/wal"\n'
        f'[http]\nbind-address = "127.0.0.1:{port}"\n[monitor]\nstore-enabled = false\n'
    )
    with running(["/usr/bin/influxd", "-config", config], folder, lambda: listens(port)):
        yield port


@contextmanager
def alertmanager(folder: Path) -> Iterator[int]:
    """A Prometheus Alertmanager; its port."""
    port = free_port()
    config = folder / "alertmanager.yml"
    config.write_text("route: {receiver: none, group_by: [alertname]}\nreceivers: [{name: none}]\n")
    argv = [
        shutil.which("prometheus-alertmanager") or "alertmanager",
        f"--config.file={config}",
        f"--storage.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with running(argv, folder, lambda: listens(port)):
        yield port


@contextmanager
def moto(folder: Path) -> Iterator[int]:
    """The AWS services of moto; its port."""
    port = free_port()
    with running([BIN / "moto_server", "-H", "127.0.0.1", "-p", str(port)], folder, lambda: listens(port)):
        yield port
