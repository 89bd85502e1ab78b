"""The web server and its numbers: what probes and Prometheus see, over real sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import resource
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from appliance.config.settings import Metrics, Webserver
from appliance.daemon.metrics import Metric, drop_classes, openmetrics, prometheus
from appliance.daemon.snapshots import Snapshots
from appliance.daemon.web import JSON, WebError, WebServer, warn_if_open
from appliance.model.event import EventType
from tests.support.daemon import Daemon
from tests.support.receivers import free_port, wait_until
from tests.support.status import full_status

TOKEN = "0123456789abcdef-token"
RULE = """
- rule: Marked "program"
  desc: d
  condition: evt.type in (execve, execveat) and proc.name startswith tercel-mark
  output: ran %proc.name
  priority: WARNING
  tags: [one, two]
- rule: Never
  desc: d
  condition: evt.type in (execve, execveat) and proc.cmdline contains tercel-never-said
  output: ran %proc.name
  priority: WARNING
"""


def get(port: int, path: str, *, scheme: str = "http", **headers: str) -> tuple[int, Any, str]:
    """Status, headers, text."""
    context = ssl._create_unverified_context() if scheme == "https" else None
    request = urllib.request.Request(f"{scheme}://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60, context=context) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


def serve(**settings: Any) -> WebServer:
    def health(accept: str, details: bool) -> tuple[HTTPStatus, str, str]:
        return HTTPStatus.OK, JSON, json.dumps({"details": details})

    def fail(accept: str, details: bool) -> tuple[HTTPStatus, str, str]:
        raise ZeroDivisionError

    server = WebServer(
        Webserver(**{"enabled": True, "listen_port": 0, **settings}),
        {"/healthz": health, "/metrics": lambda accept, details: (HTTPStatus.OK, JSON, accept), "/fails": fail},
    )
    server.start()
    return server


def test_pages_and_what_is_none(caplog: pytest.LogCaptureFixture) -> None:
    server = serve()
    try:
        assert get(server.port, "/healthz?x=1")[0::2] == (200, '{"details": true}')
        assert get(server.port, "/metrics", Accept="text/x")[2] == "text/x"
        assert get(server.port, "/nothing")[0] == 404
        assert get(server.port, "/fails")[0::2] == (500, '{"error": "internal error"}')
        assert "Traceback" in caplog.text
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("POST", "/healthz", body="x")
        assert connection.getresponse().status == 501
        connection.close()
    finally:
        server.stop()


def test_a_token_guards_all_but_the_health_check(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    server = serve(token_file=str(tmp_path / "token"))
    try:
        assert get(server.port, "/metrics")[0] == 401
        assert get(server.port, "/metrics", Authorization="Bearer wrong")[0] == 401
        assert get(server.port, "/metrics", Authorization=f"Bearer {TOKEN}")[0] == 200
        assert get(server.port, "/healthz")[0::2] == (200, '{"details": false}')
    finally:
        server.stop()


def test_a_token_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "short").write_text("short")
    with pytest.raises(WebError, match="fewer than 16"):
        serve(token_file=str(tmp_path / "short"))
    with pytest.raises(WebError, match="No such file"):
        serve(token_file=str(tmp_path / "nowhere"))
    (tmp_path / "web").write_text(TOKEN)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    serve(token_file="web").stop()


def test_tls_and_a_client_that_does_not_speak_it(tmp_path: Path) -> None:
    pem = tmp_path / "both.pem"
    subprocess.run(
        ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-x509", "-days", "2", "-subj", "/CN=localhost", "-keyout",
         tmp_path / "k", "-out", tmp_path / "c"], check=True, capture_output=True,
    )  # fmt: skip
    pem.write_text((tmp_path / "c").read_text() + (tmp_path / "k").read_text())
    server = serve(ssl_enabled=True, ssl_certificate=pem)
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as plain:
            plain.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert b"200" not in plain.recv(1000)
        assert get(server.port, "/healthz", scheme="https")[0] == 200
    finally:
        server.stop()
    pem.write_text("nonsense")
    with pytest.raises(WebError, match="must contain a PEM certificate"):
        serve(ssl_enabled=True, ssl_certificate=pem)


def test_clients_that_say_nothing_take_no_more_than_their_room() -> None:
    room = 2 + (os.cpu_count() or 1) + 4  # not what it would have without being asked
    server = serve(threadiness=room)
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(room)]
    try:
        wait_until(lambda: server._server.room._value == 0, "the silent ones to be served")
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as late:
            assert late.recv(100) == b"", "turned away"
        silent.pop().close()
        wait_until(lambda: server._server.room._value == 1, "room again")
        assert get(server.port, "/healthz")[0] == 200
    finally:
        for connection in silent:
            connection.close()
        server.stop()


def test_without_descriptors_it_waits_and_turns_no_wheel() -> None:
    """What accepts in a circle takes the interpreter from the loop."""
    server = serve()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as held:
        held.callback(server.stop)
        held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        client = held.enter_context(socket.socket())
        while held.enter_context(Path(os.devnull).open()).fileno() < client.fileno():
            pass  # no number below is free
        resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, limits[1]))
        client.connect(("127.0.0.1", server.port))
        before_s = time.process_time()
        time.sleep(1.0)
        spent_s = time.process_time() - before_s
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert spent_s < 0.3
        client.settimeout(60)
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.0 200")


def test_it_listens_where_it_is_told_and_nowhere_else() -> None:
    port = free_port()
    server = serve(listen_address="127.0.0.2", listen_port=port)
    try:
        assert server.port == port
        with urllib.request.urlopen(f"http://127.0.0.2:{server.port}/healthz", timeout=60) as answer:
            assert answer.status == 200
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=60).close()
    finally:
        server.stop()


def test_a_port_that_is_taken_is_said() -> None:
    server = serve()
    try:
        with pytest.raises(WebError, match="cannot listen"):
            WebServer(Webserver(enabled=True, listen_port=server.port), {})
    finally:
        server.stop()


def test_beyond_loopback_without_a_guard_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    for address in ("127.0.0.1", "::1"):
        warn_if_open(address, tls=False, token=False)
    warn_if_open("0.0.0.0", tls=True, token=True)
    assert caplog.text == ""
    warn_if_open("0.0.0.0", tls=False, token=False)
    warn_if_open("fd00::1", tls=True, token=False)
    assert "without TLS and a token" in caplog.text and "on fd00::1 without a token" in caplog.text


# -- the forms


HOSTILE = 'a"b\\c\nd\udcff'


def test_both_forms_hold_up_to_a_parser_whatever_a_label_says() -> None:
    metrics = [
        Metric("falcosecurity_falco_version_info", "gauge", "Version.", (({"version": "1"}, 1),)),
        Metric("tercel_x_total", "counter", "An x.", (({"rule_name": HOSTILE}, 3), ({"rule_name": "b"}, 4))),
        Metric("tercel_y_seconds", "gauge", "A y.", (({}, 0.25),)),
    ]
    plain = {f.name: f for f in text_string_to_metric_families(prometheus(metrics))}
    assert plain["tercel_x"].samples[0].labels == {"rule_name": 'a"b\\c\nd\\xff'}
    assert plain["tercel_y_seconds"].samples[0].value == 0.25
    strict = {f.name: f for f in openmetrics_parser.text_string_to_metric_families(openmetrics(metrics))}
    assert strict["tercel_x"].type == "counter"
    assert strict["falcosecurity_falco_version"].type == "info"


def test_losses_fall_into_falcos_classes() -> None:
    lost = {EventType.OPENAT: 2, EventType.OPEN: 1, EventType.EXECVE: 4, EventType.PTRACE: 5, EventType.CLONE: 0}
    classes = drop_classes(lost)
    assert {name: n for name, n in classes.items() if n} == {"open": 3, "execve": 4, "other_interest": 5}


@pytest.mark.parametrize(
    ("text", "seconds"), [("1h", 3600), ("15m", 900), ("1h30m", 5400), ("250ms", 0.25), ("1ms", 0.1), ("2d", 172_800)]
)
def test_intervals(text: str, seconds: float) -> None:
    assert Metrics(interval=text).interval_s == seconds


# -- the real thing


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("web")
    (folder / "rules.yaml").write_text(RULE)
    config = {
        "webserver": {"enabled": True, "listen_port": 0, "prometheus_metrics_enabled": True},
        "metrics": {
            "enabled": True,
            "interval": "500ms",
            "kernel_event_counters_per_cpu_enabled": True,
            "output_file": str(folder / "metrics.jsonl"),
        },
    }
    with Daemon(folder, config, rules=[folder / "rules.yaml"]) as daemon:
        (folder / "tercel-mark").write_bytes(Path("/bin/true").read_bytes())
        (folder / "tercel-mark").chmod(0o755)
        for _ in range(7):
            subprocess.run([folder / "tercel-mark"], check=True)
        wait_until(lambda: len(daemon.alerts('Marked "program"')) == 7, "the alerts")
        yield daemon


def port(daemon: Daemon) -> int:
    said = re.compile(r"web server on 127\.0\.0\.1 port (\d+)")
    wait_until(lambda: said.search(daemon.errors()) is not None, "its line in the log, which has a thread of its own")
    found = said.search(daemon.errors())
    assert found is not None
    return int(found[1])


def metrics(daemon: Daemon, **headers: str) -> tuple[int, Any, str]:
    """Status, headers, text; asked until the loop has answered in time: a busy machine's may not."""
    answers: list[tuple[int, Any, str]] = []

    def whole() -> bool:
        answers.append(get(port(daemon), "/metrics", **headers))
        return answers[-1][0] != 200 or "falcosecurity_scap_n_evts" in answers[-1][2]

    wait_until(whole, "the loop's answer")
    return answers[-1]


@pytest.mark.kernel
def test_health_versions_and_both_forms_of_metrics(daemon: Daemon) -> None:
    wait_until(lambda: get(port(daemon), "/healthz")[0::2] == (200, '{"status": "ok"}'), "a canary and an open health")
    assert json.loads(get(port(daemon), "/versions")[2])["engine_version_semver"] == "0.62.0"
    status, headers, text = metrics(daemon)
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = {f.name: f for f in text_string_to_metric_families(text)}
    (matched,) = [s for s in families["falcosecurity_falco_rules_matches"].samples if "Marked" in s.labels["rule_name"]]
    assert matched.value == 7
    assert matched.labels == {
        "rule_name": 'Marked "program"', "priority": "4", "source": "syscall", "tags": "one, two",
    }  # fmt: skip
    made = families["falcosecurity_scap_n_evts"].samples[0].value
    assert made >= 7
    assert families["falcosecurity_scap_n_drops"].samples[0].value >= 0
    assert families["falcosecurity_falco_memory_rss_bytes"].samples[0].value > 1 << 20
    assert {s.labels["drop"] for s in families["falcosecurity_scap_n_drops_buffer"].samples} >= {"open", "execve"}
    on_cpus = families["falcosecurity_scap_n_evts_cpu"].samples
    assert sum(s.value for s in on_cpus) == made
    delivered = {s.labels["sink"]: s.value for s in families["tercel_alerts_delivered"].samples}
    assert delivered["file_output"] >= 7
    costs = {s.labels["rule_name"]: s.value for s in families["tercel_rule_cost_seconds"].samples}
    assert set(costs) == {'Marked "program"', "Never"} and all(cost > 0 for cost in costs.values())
    assert sum(s.value for s in families["tercel_rule_cost_ratio"].samples) == pytest.approx(1)
    status, headers, text = metrics(daemon, Accept="application/openmetrics-text; version=1.0.0")
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    strict = {f.name: f for f in openmetrics_parser.text_string_to_metric_families(text)}
    assert strict["falcosecurity_scap_n_evts"].samples[0].value >= made


def test_a_disk_that_fills_up_tears_no_line_of_a_snapshot(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "metrics.jsonl"
    settings = Metrics(enabled=True, output_rule=False, output_file=str(file))
    snapshots = Snapshots(settings, status=full_status, hooks=lambda: [], tell=lambda _: None)
    snapshots.take()
    whole = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, limits[1]))
    try:
        snapshots.take()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == whole
    assert "metrics cannot be written" in caplog.text


@pytest.mark.kernel
def test_what_our_programs_cost_in_the_kernel(daemon: Daemon) -> None:
    switch = Path("/proc/sys/kernel/bpf_stats_enabled")
    before = switch.read_text()
    switch.write_text("1")
    try:
        subprocess.run([daemon.folder / "tercel-mark"], check=True)
        families = {f.name: f for f in text_string_to_metric_families(metrics(daemon)[2])}
    finally:
        switch.write_text(before)
    runs = [f for name, f in families.items() if name.endswith("_run_cnt")]
    assert runs and all(f.samples[0].value > 0 for f in runs), list(families)


@pytest.mark.kernel
def test_snapshots_as_alerts_and_as_lines(daemon: Daemon) -> None:
    wait_until(lambda: len(daemon.alerts("Tercel internal: metrics snapshot")) >= 3, "three snapshots")
    alert = daemon.alerts("Tercel internal: metrics snapshot")[-1]
    assert (alert["source"], alert["priority"]) == ("internal", "Informational")
    fields = alert["output_fields"]
    assert fields["falco.num_evts"] >= fields["falco.num_evts_prev"] > 0
    assert fields["falco.rules.Marked__program_"] >= 7 and "falco.rules.Never" not in fields
    assert fields["falco.memory_rss_mb"] > 1 and "scap.n_drops" in fields
    assert any(name.startswith("scap.n_evts_cpu_") for name in fields)
    assert any(re.fullmatch(r"falco\.sha256_rules_file\.rules_yaml", name) for name in fields)
    text = (daemon.folder / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.split("\n")[:-1]]  # what follows the last line end is being written
    assert [line["sample"] for line in lines] == list(range(1, len(lines) + 1))
    assert Counter(type(v) for v in lines[-1]["output_fields"].values()).keys() <= {int, float, str, bool}


@pytest.mark.kernel
def test_metrics_are_switched_off_as_a_whole(daemon: Daemon) -> None:
    """The last of those that share the appliance."""
    assert get(port(daemon), "/metrics")[0] == 200
    config = daemon.folder / "tercel.yaml"
    settings = yaml.safe_load(config.read_text())
    settings["metrics"]["enabled"] = False
    config.write_text(yaml.safe_dump(settings))
    wait_until(lambda: get(port(daemon), "/metrics")[0] == 404, "the reload")

    def told() -> tuple[int, str]:
        return len(daemon.alerts("Tercel internal: metrics snapshot")), (daemon.folder / "metrics.jsonl").read_text()

    def quiet() -> bool:
        """For four intervals; the first time there may be one that was being taken."""
        before = told()
        time.sleep(2.0)
        return told() == before

    wait_until(quiet, "the end of the snapshots", 20)


@pytest.mark.kernel
def test_a_sink_that_hangs_turns_the_health_red_and_green_again(tmp_path: Path) -> None:
    """A named pipe that nobody reads: opening it waits."""
    (tmp_path / "rules.yaml").write_text(RULE)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    config = {
        "webserver": {"enabled": True, "listen_port": 0},
        "file_output": {"enabled": True, "filename": str(fifo), "keep_alive": True},
        "metrics": {"enabled": True, "interval": "1s"},  # something to tell
    }
    with Daemon(tmp_path, config, rules=[tmp_path / "rules.yaml"]) as daemon:

        def stuck() -> bool:
            status, _, text = get(port(daemon), "/healthz")
            return status == 503 and any("sink file_output is stuck" in t for t in json.loads(text)["troubles"])

        wait_until(stuck, "red, for that reason")
        assert get(port(daemon), "/metrics")[0] == 404, "not enabled for Prometheus"
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        try:
            wait_until(lambda: get(port(daemon), "/healthz")[0] == 200, "green")
        finally:
            os.close(reader)
