"""How fast the hub takes alerts, against a bare uvicorn that answers at once.

    python bench/hub_ingest.py [--seconds 8]

Figures: single POSTs and NDJSON of 100, durable before the answer, by second of wall clock and by second of the
collector's processor time; the 99th percentile at half that load; resident memory while three outputs hang. The echo
runs in the same run under the same load: its ratio is what stays comparable between machines.

The load is one process with 64 connections, over the loopback. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.hub.running import Hub, running  # noqa: E402

CONNECTIONS = 64
EVENT = (
    '{"hostname":"web%d","output":"2026-12-01T03:17:58.123456789Z: Warning Sensitive file opened for reading by '
    "program (file=/etc/shadow gparent=systemd ggparent=<NA> gggparent=<NA> evt_type=openat user=root user_uid=0 "
    'user_loginuid=-1 process=cat proc_exepath=/usr/bin/cat parent=bash command=cat /etc/shadow terminal=34816 %s)",'
    '"output_fields":{"container.id":"host","container.name":"host","evt.arg.flags":"O_RDONLY","evt.time.iso8601":'
    '1796094478123456789,"evt.type":"openat","fd.name":"/etc/shadow","proc.aname[2]":"systemd","proc.cmdline":"cat '
    '/etc/shadow","proc.exepath":"/usr/bin/cat","proc.name":"cat","proc.pname":"bash","proc.tty":34816,"user.loginuid":-1,'
    '"user.name":"root","user.uid":0},"priority":"Warning","rule":"Read sensitive file untrusted","source":"syscall",'
    '"tags":["T1555","container","filesystem","host","maturity_stable","mitre_credential_access"],'
    '"time":"2026-12-01T03:17:58.%09dZ"}'
)


@dataclass
class Load:
    """What a load gave: requests, seconds, the server's processor seconds, latencies in milliseconds."""

    requests: int
    seconds: float
    cpu_s: float
    latencies: list[float]

    def rate(self) -> float:
        return self.requests / self.seconds

    def per_core(self) -> float:
        return self.requests / max(self.cpu_s, 1e-9)

    def percentile(self, share: float) -> float:
        found = sorted(self.latencies)
        return found[min(len(found) - 1, int(share * len(found)))] if found else 0.0


def cpu_s(pid: int) -> float:
    """Processor seconds of a process and its threads."""
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


class Maker:
    """Makes requests, each of other alerts than all before."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._n = 0

    def __call__(self) -> bytes:
        lines = []
        for _ in range(self._each):
            self._n += 1
            lines.append(EVENT % (self._n % 300, self._n, self._n % 10**9))
        body = "\n".join(lines).encode()
        head = f"POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body


def drive(port: int, pid: int, seconds: float, make: Callable[[], bytes], rate: float = 0.0) -> Load:
    """Keep every connection busy, or start requests at a rate."""
    selector = selectors.DefaultSelector()
    idle: list[socket.socket] = []
    began: dict[socket.socket, float] = {}
    for _ in range(CONNECTIONS):
        one = socket.create_connection(("127.0.0.1", port))
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(one, selectors.EVENT_READ)
        idle.append(one)
    latencies: list[float] = []
    partial: dict[socket.socket, bytes] = {}
    prepared = [make() for _ in range(256)]
    start_cpu, start = cpu_s(pid), time.perf_counter()
    end, due = start + seconds, start
    count = 0
    while (now := time.perf_counter()) < end or began:
        while idle and now < end and (not rate or due <= now):
            one = idle.pop()
            one.sendall(prepared.pop() if prepared else make())
            began[one] = due if rate else time.perf_counter()
            if rate:
                due += 1 / rate
        wait = max(0.0, due - now) if rate else 0.1
        for key, _ in selector.select(wait if began else min(wait, 0.01)):
            one = key.fileobj  # type: ignore[assignment]
            data = partial.pop(one, b"") + one.recv(65536)
            if not data.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"refused: {data[:200]!r}")
            head, ends, body = data.partition(b"\r\n\r\n")
            if not ends or len(body) < int(head.partition(b"content-length: ")[2].partition(b"\r")[0]):
                partial[one] = data
                continue
            latencies.append((time.perf_counter() - began.pop(one)) * 1000)
            idle.append(one)
            count += 1
    took = time.perf_counter() - start
    used = cpu_s(pid) - start_cpu
    for key in list(selector.get_map().values()):
        key.fileobj.close()  # type: ignore[union-attr]
    return Load(count, took, used, latencies)


async def _echo(scope: dict, receive: object, send: object) -> None:  # type: ignore[type-arg]
    while (await receive()).get("more_body"):  # type: ignore[operator]
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b""})  # type: ignore[operator]


def echo(port_file: Path) -> None:
    """The server to compare with."""
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    port_file.write_text(str(listener.getsockname()[1]))
    config = uvicorn.Config(
        _echo, http="httptools", loop="uvloop", lifespan="off", access_log=False, log_config=None, server_header=False,  # type: ignore[arg-type]
        date_header=False,
    )  # fmt: skip
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


def pin(pid: int, core: int) -> None:
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


def hung() -> socket.socket:
    """A server that takes connections and says nothing."""
    return socket.create_server(("127.0.0.1", 0), backlog=128)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--echo", type=Path)
    args = parser.parse_args()
    if args.echo:
        echo(args.echo)
        return
    os.sched_setaffinity(0, {1})
    rows: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:  # a disk, not memory
        folder = Path(name)
        server = subprocess.Popen([sys.executable, __file__, "--echo", folder / "port"])
        while not (folder / "port").exists() or not (folder / "port").read_text():
            time.sleep(0.05)
        time.sleep(0.5)
        pin(server.pid, 0)
        bare = drive(int((folder / "port").read_text()), server.pid, args.seconds, Maker(1))
        server.send_signal(signal.SIGTERM)
        server.wait()
        rows.append(("bare uvicorn, requests/s by core", f"{bare.per_core():,.0f}"))
        with running(folder / "hub") as hub:
            rows += ingest(hub, args.seconds, bare)
        hangs = [hung() for _ in range(3)]
        outputs = ", ".join(
            f"o{n}: {{type: webhook, url: 'http://127.0.0.1:{one.getsockname()[1]}/', start: oldest}}"
            for n, one in enumerate(hangs)
        )
        with running(folder / "hung", f"collector: {{port: 0}}\noutputs: {{{outputs}}}\nshutdown_s: 0.2") as hub:
            collector = hub.parts()["collect"]
            load = drive(hub.port, collector, args.seconds * 2, Maker(100), 50)
            parts = {name: rss_mib(pid) for name, pid in hub.parts().items()} | {"supervisor": rss_mib(hub.process.pid)}
            rows.append((f"three hung outputs, alerts/s for {load.seconds:.0f} s", f"{load.rate() * 100:,.0f}"))
            rows += [(f"three hung outputs, RSS of {part}", f"{size:,.0f} MiB") for part, size in parts.items()]
            rows.append(("three hung outputs, RSS in all", f"{sum(parts.values()):,.0f} MiB"))
    for label, value in rows:
        print(f"{label:<60}{value:>14}")


def ingest(hub: Hub, seconds: float, bare: Load) -> list[tuple[str, str]]:
    """Single POSTs, batches, latency at half load."""
    pid = hub.parts()["collect"]
    pin(pid, 0)
    single = drive(hub.port, pid, seconds, Maker(1))
    many = drive(hub.port, pid, seconds, Maker(100))
    half = drive(hub.port, pid, seconds, Maker(1), single.rate() / 2)
    return [
        ("single POSTs/s, durable, by wall clock", f"{single.rate():,.0f}"),
        ("single POSTs/s, durable, by core", f"{single.per_core():,.0f}"),
        ("  of bare uvicorn", f"{single.per_core() / bare.per_core():.2f}"),
        ("single POSTs, p50 / p99 at full load, ms", f"{single.percentile(0.5):.1f} / {single.percentile(0.99):.1f}"),
        ("single POSTs, p50 / p99 at half load, ms", f"{half.percentile(0.5):.1f} / {half.percentile(0.99):.1f}"),
        ("NDJSON of 100, alerts/s by wall clock", f"{many.rate() * 100:,.0f}"),
        ("NDJSON of 100, alerts/s by core", f"{many.per_core() * 100:,.0f}"),
        ("NDJSON of 100, p99, ms", f"{many.percentile(0.99):.1f}"),
        ("collector, RSS", f"{rss_mib(pid):,.0f} MiB"),
    ]


if __name__ == "__main__":
    main()
