"""The whole hub: what reaches receivers when receivers, parts and disks fail."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.hub.outputs.dead import DeadLetters
from appliance.model.moment import iso_time
from tests.hub.running import TERCEL, Hub, hub, running, until
from tests.support.receivers import free_port

OUTAGE = 180_000  # an hour of 1,000 alerts a second is 3.6 million; this is a twentieth of it


class Receiver:
    """An idempotent receiver: an alert by its id once, whatever how often it comes. `up` as long as it answers 200."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self.by_host: defaultdict[str, list[str]] = defaultdict(list)
        self.got = 0
        self.status = 200
        self.refuses = ""
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.take(body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/"

    def take(self, body: bytes) -> int:
        with self._lock:
            if self.status != 200:
                return self.status
            events = [json.loads(line) for line in body.split(b"\n") if line]
            if self.refuses and any(self.refuses in one["output"] for one in events):
                return 400
            for one in events:
                self.got += 1
                if one["uuid"] not in self.ids:
                    self.ids[one["uuid"]] = self.got
                    self.by_host[one.get("hostname", "")].append(one["uuid"])
            return 200


@contextmanager
def receiving(made: Receiver | None = None) -> Iterator[Receiver]:
    made = made or Receiver()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def event(n: int, **changes: object) -> dict[str, object]:
    return {
        "output": f"alert {n}", "priority": "Warning", "rule": "r", "output_fields": {"n": n}, "hostname": f"h{n % 7}",
        "time": iso_time(1_790_000_000_000_000_000 + n) + "Z",
    } | changes  # fmt: skip


def post(made: Hub, numbers: range, client: httpx.Client | None = None, **changes: object) -> None:
    body = "\n".join(json.dumps(event(n, **changes)) for n in numbers)
    ids = ", ".join(f"h{n % 7}:{n}" for n in numbers)
    send = httpx.post if client is None else client.post
    answer = send(made.url, content=body, headers={"Tercel-Alert-Id": ids}, timeout=60)
    assert answer.status_code == 200, answer.text


def config(shutdown_s: float = 5, *, more: str = "", **urls: str) -> str:
    quick = f"{more}format: ndjson, start: oldest, retry_min_s: 0.05, retry_max_s: 0.2, breaker: {{pause_s: 0.2}}"
    outputs = ", ".join(f"{name}: {{type: webhook, url: '{url}', {quick}}}" for name, url in urls.items())
    return f"collector: {{port: 0}}\noutputs: {{{outputs}}}\nshutdown_s: {shutdown_s}"


def output(made: Hub, name: str = "out") -> dict[str, Any]:
    return next((one for one in made.status()["outputs"] if one["name"] == name), {})


def test_an_outage_loses_nothing_and_holds_up_no_live_alert(tmp_path: Path) -> None:
    with receiving() as receiver, running(tmp_path / "hub", config(out=receiver.url) + "\n") as made:
        receiver.status = 503
        for at in range(0, OUTAGE, 2000):
            post(made, range(at, at + 2000))
        until(lambda: output(made).get("lag") == OUTAGE, "the backlog")
        time.sleep(5.1)  # so old that it is a backlog
        receiver.status = 200
        until(lambda: receiver.got > 0, "the first after the outage")
        overtook = 0
        began = time.monotonic()
        for n in range(OUTAGE, OUTAGE + 10):
            post(made, range(n, n + 1))
            until(lambda n=n: f"h{n % 7}:{n}" in receiver.ids, "a live alert")  # type: ignore[misc]
            overtook += len(receiver.ids) < OUTAGE
        live_s = time.monotonic() - began
        until(lambda: len(receiver.ids) == OUTAGE + 10, "all", 120)
        rate = OUTAGE / (time.monotonic() - began)
        print(f"back-fill {rate:.0f} alerts/s, a live alert after {live_s / 10:.2f} s")
        assert overtook >= 3, "the backlog was delivered before the live alerts"
        assert receiver.got == OUTAGE + 10, "something came twice"
        for found in receiver.by_host.values():
            numbers = [int(one.partition(":")[2]) for one in found]
            assert [n for n in numbers if n < OUTAGE] == sorted(n for n in numbers if n < OUTAGE)
            assert [n for n in numbers if n >= OUTAGE] == sorted(n for n in numbers if n >= OUTAGE)


def test_killed_while_it_delivers_all_arrives_in_order(tmp_path: Path, receiver: Receiver) -> None:
    text = config(out=receiver.url, more="overtake: false, ")
    with running(tmp_path / "hub", text) as made:
        for round_ in range(3):
            post(made, range(round_ * 3000, (round_ + 1) * 3000))
            until(lambda round_=round_: len(receiver.ids) > round_ * 3000 + 200, "some")  # type: ignore[misc]
            os.kill(deliverer(made), signal.SIGKILL)
        until(lambda: len(receiver.ids) == 9000, "all", 60)
        for found in receiver.by_host.values():
            numbers = [int(one.partition(":")[2]) for one in found]
            assert numbers == sorted(numbers)
        assert receiver.got - 9000 <= 3 * 256, "more came twice than one stretch for each kill"


def deliverer(made: Hub) -> int:
    """Its process, alive and at work."""
    until(lambda: "deliver" in made.parts(), "the deliverer")
    return made.parts()["deliver"]


def test_sigterm_delivers_what_waits(tmp_path: Path) -> None:
    with receiving() as receiver:
        with running(tmp_path / "hub", config(out=receiver.url)) as made:
            post(made, range(0, 5000))
        assert len(receiver.ids) == 5000


def test_a_restart_goes_on_and_a_new_output_begins(tmp_path: Path) -> None:
    with receiving() as one, receiving() as other:
        with running(tmp_path / "hub", config(a=one.url)) as made:
            post(made, range(0, 100))
            until(lambda: len(one.ids) == 100, "the first")
            made.config.write_text(f"data_dir: {made.data_dir}\n{config(a=one.url, b=other.url)}\n")
            made.process.send_signal(signal.SIGHUP)
            until(lambda: len(other.ids) == 100, "the new output")
            post(made, range(100, 200))
            until(lambda: len(one.ids) == len(other.ids) == 200, "both")
            made.config.write_text("outputs: {a: {type: nonsense}}\n")
            made.process.send_signal(signal.SIGHUP)
            until(lambda: "is refused, the old one goes on" in made.log.read_text(), "the refusal")
            post(made, range(200, 300))
            until(lambda: len(one.ids) == len(other.ids) == 300, "both after the refusal")
            made.config.write_text(f"data_dir: {made.data_dir}\n{config(a=one.url)}\n")
        assert one.got == other.got == 300


def test_a_reload_starts_again_what_changed_and_nothing_else(tmp_path: Path, receiver: Receiver) -> None:
    hosts = tmp_path / "hosts.yaml"
    hosts.write_text("h1: {team: a}\n")
    text = config(out=receiver.url) + f"\nenrichment: {{hosts_file: {hosts}}}"
    with running(tmp_path / "hub", text) as made:
        until(lambda: len(made.parts()) == 2, "collector and deliverer")
        before = made.parts()

        def reloaded(again: str) -> None:
            told = made.log.read_text().count(again)
            made.process.send_signal(signal.SIGHUP)
            until(lambda: made.log.read_text().count(again) > told, "the reload")

        reloaded("started again: nothing")
        assert made.parts() == before
        made.config.write_text(f"data_dir: {made.data_dir}\n{text}\nlog: {{level: debug}}\n")
        reloaded("started again: nothing")
        assert made.parts() == before
        renewed = tmp_path / "new.yaml"
        renewed.write_text("h1: {team: b}\n")
        renewed.replace(hosts)  # as certificates are renewed: another file under the same name
        reloaded("started again: collect\n")
        until(lambda: made.parts().get("collect", before["collect"]) != before["collect"], "the collector")
        assert {name: pid for name, pid in made.parts().items() if name != "collect"} == {
            name: pid for name, pid in before.items() if name != "collect"
        }
        post(made, range(20))
        until(lambda: len(receiver.ids) == 20, "the alerts")


def test_dead_letters_test_alerts_and_status(tmp_path: Path) -> None:
    with receiving() as receiver, running(tmp_path / "hub", config(out=receiver.url)) as made:
        until(lambda: output(made).get("state") == "ok", "the output")
        assert made.ask("status").returncode == 0
        done = made.ask("send-test", "out")
        assert (done.returncode, done.stdout) == (0, "out: delivered\n")
        receiver.refuses = "alert 5"
        post(made, range(0, 10))
        until(lambda: output(made).get("dead") == 1, "the dead letter")
        assert "h5:5" not in receiver.ids
        line = json.loads(DeadLetters(made.data_dir, "out").file.read_text())
        assert (line["reason"], line["alert"]["output"]) == ("answer 400", "alert 5")
        receiver.refuses = ""
        assert "1 dead letters" in made.ask("replay-dead", "out").stdout
        until(lambda: "h5:5" in receiver.ids, "the replay")
        receiver.status = 500
        post(made, range(10, 20))
        until(lambda: output(made).get("state") in ("failing", "open"), "the failure")
        told = made.ask("status")
        assert told.returncode == 3
        assert "answer 500" in told.stdout
        failed = made.ask("send-test")
        assert (failed.returncode, "failed: answer 500" in failed.stdout) == (1, True)
        assert made.ask("send-test", "nothing").returncode == 1
        receiver.status = 200
    down = hub("status", "-o", f"data_dir={tmp_path}/hub/data")
    assert (down.returncode, "does not run" in down.stdout) == (1, True)
    exported = hub("export", "-o", f"data_dir={tmp_path}/hub/data", "--after", "5", "--limit", "3")
    assert [json.loads(one)["seq"] for one in exported.stdout.splitlines()] == [6, 7, 8]
    assert hub("export", "-o", f"data_dir={tmp_path}/nothing").returncode == 1


def test_hung_outputs_cost_no_memory_and_hold_up_nobody(tmp_path: Path) -> None:
    """Three that hang while 60,000 alerts come: the healthy one has all of them, the processes stay small."""
    hung = [socket.create_server(("127.0.0.1", 0), backlog=16) for _ in range(3)]
    urls = {f"hung{n}": f"http://127.0.0.1:{one.getsockname()[1]}/" for n, one in enumerate(hung)}
    with receiving() as receiver, running(tmp_path / "hub", config(0.2, out=receiver.url, **urls)) as made:
        for at in range(0, 60_000, 2000):
            post(made, range(at, at + 2000))
        until(lambda: len(receiver.ids) == 60_000, "the healthy one")
        sizes = {name: resident_mib(pid) for name, pid in made.parts().items()}
        assert sum(sizes.values()) < 300, sizes
        assert {one["state"] for one in made.status()["outputs"] if one["name"] != "out"} <= {"ok", "failing", "open"}
        assert output(made, "hung0")["lag"] == 60_000
    for one in hung:
        one.close()


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def test_a_full_disk_acknowledges_nothing_and_recovers(tmp_path: Path) -> None:
    disk = tmp_path / "hub"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=True)
    try:
        with running(disk) as made:
            acknowledged = 0
            for n in range(400):
                body = "\n".join(json.dumps(event(n * 50 + k, output=os.urandom(600).hex())) for k in range(50))
                answer = httpx.post(made.url, content=body, timeout=60)
                if answer.status_code != 200:
                    break
                acknowledged += 50
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert "full" in answer.text
            subprocess.run(["mount", "-o", "remount,size=60m", disk], check=True)
            assert httpx.post(made.url, content=body, timeout=60).status_code == 200
            assert len(made.exported()) >= acknowledged + 50
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_systemd_hears_of_it(tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(address))
        listener.settimeout(10)
        told: list[str] = []

        def heard(word: str) -> bool:
            while not any(word in one for one in told):
                told.append(listener.recv(4096).decode())
            return True

        with running(tmp_path / "hub", environment={"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "2000000"}) as made:
            assert heard("READY=1")
            assert heard("WATCHDOG=1")
            made.process.send_signal(signal.SIGHUP)
            assert heard("RELOADING=1")
        assert heard("STOPPING=1")


def test_a_host_without_the_libraries_is_told_what_to_install(tmp_path: Path) -> None:
    imports = "import sys; sys.modules['msgspec'] = None; from appliance.cli.main import main"
    code = f"{imports}; sys.exit(main(['hub', 'run']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "the hub needs msgspec" in done.stderr
    assert "pip install 'tercel[hub]'" in done.stderr


@pytest.mark.parametrize("page", ["README.md", "docs/hub.md"])
def test_the_commands_of_the_pages_start_it(tmp_path: Path, page: str) -> None:
    """README.md and hub.md: the first command starts a hub, but for where its data lies and the port."""
    text = (Path(__file__).resolve().parents[2] / page).read_text()
    line = next(line for line in text.splitlines() if line.startswith("tercel hub run -o data_dir="))
    argv = line.partition("#")[0].split()[1:]
    where = [f"data_dir={tmp_path}/data" if one.startswith("data_dir=") else one for one in argv]
    log = tmp_path / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "appliance.cli.main", *where, "-o", "collector.port=0", "-o", "page.port=0"],
            stderr=stream,
            start_new_session=True,
        )
    try:
        until(lambda: b"ready" in log.read_bytes(), "the hub")
        until(lambda: b"page" in log.read_bytes(), "the page")
        os.killpg(process.pid, signal.SIGTERM)  # as systemd does: all processes of the unit at once
        assert process.wait(30) == 0, log.read_text()
        assert "ERROR" not in log.read_text()
    finally:
        process.kill()


@pytest.mark.parametrize("argv", [["check"], ["check", "-o", "outputs.a={type: webhook, url: 'http://127.0.0.1:1/'}"]])
def test_check(argv: list[str]) -> None:
    done = hub(*argv)
    assert done.returncode == 0
    assert done.stderr.startswith("ok: collector 127.0.0.1:2801")


def activated(tmp_path: Path, *streams: str, names: str, config: str = "") -> subprocess.Popen[bytes]:
    """A hub whose sockets systemd's own tool has opened; the first connection starts it."""
    file = tmp_path / "tercel-hub.yaml"
    file.write_text(f"data_dir: {tmp_path}/data\n{config}")
    listening = [word for stream in streams for word in ("-l", stream)]
    argv = ["systemd-socket-activate", *listening, f"--fdname={names}", "-E", "PYTHONPATH", "-E", "PATH", *TERCEL]
    with (tmp_path / "log").open("wb") as log:
        return subprocess.Popen([*argv, "run", "-c", file], stdout=log, stderr=log)


def test_sockets_that_systemd_has_opened(tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    process = activated(tmp_path, *(f"127.0.0.1:{port}" for port in ports), names="collector:page")
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=5), timeout=60) as client:
            assert client.post(f"http://127.0.0.1:{ports[0]}/", content=json.dumps(event(1))).status_code == 200
            assert client.get(f"http://127.0.0.1:{ports[1]}/healthz").status_code == 200
        process.send_signal(signal.SIGHUP)  # parts start again, the sockets stay
        with httpx.Client(transport=httpx.HTTPTransport(retries=5), timeout=60) as client:
            assert client.post(f"http://127.0.0.1:{ports[0]}/", content=json.dumps(event(2))).status_code == 200
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(30)


def test_a_socket_open_to_all_needs_what_an_address_needs(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("0.0.0.0", 0))  # it does not listen: nobody reaches it
        manager = f'LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=collector exec "$@" 3<&{bound.fileno()}'
        argv = ["bash", "-c", manager, "bash", *TERCEL, "run", "-o", f"data_dir={tmp_path}/data"]
        done = subprocess.run(argv, pass_fds=[bound.fileno()], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "tercel-hub.socket is open at 0.0.0.0" in done.stderr) == (1, True), done.stderr


def test_units_are_sound_and_sandboxed(tmp_path: Path) -> None:
    shipped = Path(__file__).resolve().parents[2] / "packaging/systemd"
    for unit in shipped.glob("tercel-hub*"):
        (tmp_path / unit.name).write_text(unit.read_text().replace("/usr/bin/tercel-hub", "/bin/true"))
    units = sorted(tmp_path.iterdir())
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    argv = ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=15", units[-2]]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-400:] + done.stderr
