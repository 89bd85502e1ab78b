"""Real servers that outputs of the hub deliver to: on the loopback, in a folder of their own, ended by pid."""

from __future__ import annotations

import base64
import os
import pwd
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.docker import end
from tests.support.fetch import FETCH, place
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


def fetched(name: str) -> Path:
    """The folder of a server that `make setup-test` brought. Skips where this machine could not bring it."""
    folder = place(name)
    if folder is None:
        pytest.skip(f"{name} is not there: `make setup-test` needs {FETCH[name][0]} to bring it")
    return folder


def answers(url: str) -> bool:
    """Whether a GET is answered 2xx."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(200 <= answer.status < 300)
    except OSError:
        return False


@contextmanager
def opensearch(folder: Path) -> Iterator[int]:
    """An OpenSearch server of one node; its port. It refuses to run as root."""
    home = folder / "home"
    shutil.copytree(fetched("opensearch") / "opensearch", home)  # the cache may be root's alone
    port, transport = free_port(), free_port()
    (folder / "config").mkdir()
    for file in (home / "config").iterdir():
        if file.is_file():
            shutil.copy(file, folder / "config")
    (folder / "tmp").mkdir()
    argv = [home / "bin/opensearch"]
    settings = {
        "discovery.type": "single-node",
        "http.port": port,
        "transport.port": transport,
        "network.host": "127.0.0.1",
        "path.data": folder / "data",
        "path.logs": folder / "logs",
        "cluster.routing.allocation.disk.threshold_enabled": "false",
    }
    argv += [f"-E{name}={value}" for name, value in settings.items()]  # type: ignore[misc]
    account = pwd.getpwnam("nobody")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, account.pw_uid, account.pw_gid)
    environment = {
        "OPENSEARCH_JAVA_OPTS": "-Xms400m -Xmx400m -XX:TieredStopAtLevel=1",
        "OPENSEARCH_PATH_CONF": str(folder / "config"),
        "OPENSEARCH_TMPDIR": str(folder / "tmp"),
        "OPENSEARCH_JAVA_HOME": _java_home(),
        "HOME": str(folder),
    }
    url = f"http://127.0.0.1:{port}/_cluster/health?wait_for_status=yellow"
    with running(argv, folder, lambda: answers(url), user="nobody", environment=environment):
        yield port


def _java_home() -> str:
    """A Java of version 17, which these servers run on."""
    homes = [home for home in sorted(Path("/usr/lib/jvm").glob("[a-z]*17*")) if (home / "bin/java").exists()]
    return str(homes[0]) if homes else str(Path(shutil.which("java") or "").resolve().parents[1])


@contextmanager
def elasticsearch(folder: Path) -> Iterator[int]:
    """Elasticsearch 7.10, the last one under Apache's licence; its port."""
    home = fetched("elasticsearch")
    port, transport = free_port(), free_port()
    (folder / "config").mkdir()
    argv = [
        f"{_java_home()}/bin/java",
        "-Xms300m",
        "-Xmx300m",
        "-XX:TieredStopAtLevel=1",
        "-cp",
        f"{home}/lib/*",
        home / "Search.java",
        folder,
        str(port),
        str(transport),
    ]
    url = f"http://127.0.0.1:{port}/_cluster/health?wait_for_status=yellow"
    with running(argv, folder, lambda: answers(url)):
        yield port


@contextmanager
def kafka(folder: Path) -> Iterator[int]:
    """A Kafka broker that is its own controller (KRaft); its port."""
    home = fetched("kafka")
    port, controller = free_port(), free_port()
    config = folder / "k.properties"
    config.write_text(
        "process.roles=broker,controller\nnode.id=1\n"
        f"controller.quorum.voters=1@127.0.0.1:{controller}\ncontroller.listener.names=CONTROLLER\n"
        f"listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n"
        f"advertised.listeners=PLAINTEXT://127.0.0.1:{port}\nlog.dirs={folder}/data\n"
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n"
        "offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n"
        "transaction.state.log.min.isr=1\ngroup.initial.rebalance.delay.ms=0\nmessage.max.bytes=10000000\n"
    )
    java = [
        f"{_java_home()}/bin/java",
        "-Xmx256m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-cp",
        f"{home}/lib/*",
    ]
    cluster = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
    subprocess.run(
        [*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(config)], check=True, capture_output=True
    )
    with running([*java, "kafka.Kafka", config], folder, lambda: listens6(port)):
        yield port


def listens6(port: int) -> bool:
    """Whether somebody takes connections at a port of the loopback, in whatever family."""
    with socket.socket() as made:
        return made.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def victoria_logs(folder: Path) -> Iterator[int]:
    """VictoriaLogs, which speaks Loki's push and Elasticsearch's `_bulk`, too; its port."""
    port = free_port()
    argv = [
        fetched("victoria-logs") / "victoria-logs",
        f"-httpListenAddr=127.0.0.1:{port}",
        f"-storageDataPath={folder}/data",
        "-retentionPeriod=100y",
    ]
    with running(argv, folder, lambda: listens6(port)):
        yield port


@contextmanager
def victoria_metrics(folder: Path) -> Iterator[int]:
    """VictoriaMetrics, which speaks InfluxDB's version 2; its port."""
    port = free_port()
    argv = [
        fetched("victoria-metrics") / "victoria-metrics",
        f"-httpListenAddr=127.0.0.1:{port}",
        f"-storageDataPath={folder}/data",
        "-retentionPeriod=100y",
        "-influxMeasurementFieldSeparator=_",
    ]
    with running(argv, folder, lambda: listens6(port)):
        yield port


@contextmanager
def statsd_exporter(folder: Path) -> Iterator[tuple[int, int]]:
    """Prometheus' exporter for StatsD; the port of its datagrams, and that of its page."""
    port, page = free_port(), free_port()
    argv = [
        fetched("statsd_exporter") / "statsd_exporter",
        f"--statsd.listen-udp=127.0.0.1:{port}",
        "--statsd.listen-tcp=",
        f"--web.listen-address=127.0.0.1:{page}",
    ]
    with running(argv, folder, lambda: listens6(page)):
        yield port, page


@contextmanager
def azurite(folder: Path) -> Iterator[int]:
    """Azure's storage, emulated by its maker; the port of the blobs."""
    port = free_port()
    argv = [
        "node",
        fetched("azurite") / "node_modules/azurite/dist/src/blob/main.js",
        "--blobHost",
        "127.0.0.1",
        "--blobPort",
        str(port),
        "--location",
        folder,
        "--skipApiVersionCheck",
        "--disableTelemetry",
        "--silent",
    ]
    with running(argv, folder, lambda: listens6(port)):
        yield port
