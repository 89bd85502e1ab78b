"""What keys do: each shown by an alert, a log line or an output that is otherwise without it."""

from __future__ import annotations

import io
import json
import logging
import select
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from appliance.cli import run
from appliance.cli.main import main
from appliance.config.load import load_config
from appliance.config.settings import Metrics, Webserver
from appliance.daemon.assemble import engines_of
from appliance.daemon.generation import build_generation
from appliance.daemon.metrics import HookCost, snapshot
from appliance.daemon.snapshots import Snapshots
from appliance.daemon.web import WebServer
from appliance.model.alert import Alert
from appliance.model.diagnostic import ConfigError, DeliveryError
from appliance.model.event import EventType
from appliance.sinks.base import QUEUE_FULL
from appliance.sinks.build import build_dispatcher, build_sinks
from appliance.sources.container import ContainerSource
from tests.support.receivers import wait_until
from tests.support.sinks import MemorySink, alert
from tests.support.status import full_status

RULES = """
- {rule: a, desc: d, condition: evt.type = fork, output: "said %proc.name", priority: WARNING, tags: [t, u]}
- {rule: b, desc: d, condition: evt.type = fork, output: other, priority: INFO, tags: [t]}
"""
EVENT = {"type": "fork", "ts_ns": 1_700_000_000_000_000_001, "process": {"pid": 7, "name": "cat"}}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder of two rules, an event that both hold on, and a configuration."""
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "events.json").write_text(json.dumps(EVENT) + "\n")
    return tmp_path


def alerts(files: Path, capsys: pytest.CaptureFixture[str], text: str) -> list[dict[str, Any]]:
    """The alerts of the event under a configuration."""
    (files / "t.yaml").write_text(f"rules_files: [rules.yaml]\n{text}")
    assert main(["replay", "--json", "-c", str(files / "t.yaml"), str(files / "events.json")]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def line(tmp_path: Path, text: str) -> str:
    """What the standard output gets of an alert under a configuration."""
    (tmp_path / "t.yaml").write_text(text)
    stream = io.StringIO()
    (sink,) = build_sinks(load_config(tmp_path / "t.yaml"), stream)
    sink.deliver(alert(output="it happened", fields={"proc.name": "x"}))
    return stream.getvalue()


def test_keys_of_json_alerts(tmp_path: Path) -> None:
    assert line(tmp_path, "json_output: false\n")[0] != "{"
    everything = json.loads(line(tmp_path, "json_output: true\njson_include_message_property: true\n"))
    assert everything["message"] == "it happened"
    assert everything["output"].endswith(": Warning it happened")
    for key in ("output", "output_fields", "tags"):
        text = f"json_output: true\njson_include_message_property: true\njson_include_{key}_property: false\n"
        assert set(everything) - set(json.loads(line(tmp_path, text))) == {key}
    assert "message" not in json.loads(line(tmp_path, "json_output: true\n"))


def test_iso_times(tmp_path: Path) -> None:
    assert "T" in line(tmp_path, "time_format_iso_8601: true\n").split(": ")[0]
    assert "T" not in line(tmp_path, "time_format_iso_8601: false\n").split(": ")[0]


def test_append_output(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = alerts(
        files, capsys,
        "rule_matching: all\n"
        "append_output:\n"
        "  - {match: {rule: a}, extra_output: 'pid %proc.pid'}\n"
        "  - {match: {tags: [u, t], source: syscall}, extra_fields: [evt.type, {mine: 'x%proc.name'}]}\n"
        "  - {match: {source: k8s_audit}, extra_output: never}\n",
    )  # fmt: skip
    assert a["output"].endswith("said cat pid 7")
    assert a["output_fields"].pop("evt.time") == b["output_fields"].pop("evt.time")
    assert a["output_fields"] == {"proc.name": "cat", "proc.pid": 7, "evt.type": "fork", "mine": "xcat"}
    assert (b["output"].endswith("other"), b["output_fields"]) == (True, {})
    (a,) = alerts(files, capsys, "rule_matching: first\nappend_output: [{suggested_output: true}]\n")
    assert "said cat container_id=" in a["output"]
    assert "k8s.ns.name" in a["output_fields"]


def test_a_wrong_addition_is_refused_at_its_place(files: Path) -> None:
    text = "rules_files: [rules.yaml]\nappend_output:\n  - {extra_output: '%proc.nmae'}\n"
    (files / "t.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        build_generation(load_config(files / "t.yaml"), hostname="h", new_id=lambda: "i")
    (found,) = caught.value.diagnostics
    assert found.name == "unknown-field"
    assert found.span is not None
    assert (found.span.line, found.span.column) == (3, 5)


@pytest.mark.parametrize(
    ("text", "fired"),
    [
        ("", ["a", "b"]),
        ("priority: warning\n", ["a"]),
        ("rules: [{disable: {rule: a}}]\n", ["b"]),
        ("rules: [{disable: {rule: '*'}}, {enable: {tag: u}}]\n", ["a"]),
        ("rules: [{disable: {tag: t}}, {enable: {rule: b}}]\n", ["b"]),
    ],
)
def test_rules_are_chosen(files: Path, capsys: pytest.CaptureFixture[str], text: str, fired: list[str]) -> None:
    assert [a["rule"] for a in alerts(files, capsys, f"rule_matching: all\n{text}")] == fired


@pytest.mark.parametrize("key", ["rules_files", "rules_file", "rule_files"])
def test_rules_come_from_the_files_and_folders_that_are_named(
    files: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    (files / "more").mkdir()
    (files / "more" / "c.yaml").write_text(
        "- {rule: c, desc: d, condition: evt.type = fork, output: o, priority: INFO}\n"
    )
    (files / "t.yaml").write_text(f"rule_matching: all\n{key}: [rules.yaml, more]\n")
    assert main(["replay", "--json", "-c", str(files / "t.yaml"), str(files / "events.json")]) == 0
    assert [json.loads(line)["rule"] for line in capsys.readouterr().out.splitlines()] == ["a", "b", "c"]


ENGINES = [
    ("", {"docker", "podman", "containerd", "crio"}),
    ("container_engines: {docker: {enabled: false}}", {"podman", "containerd", "crio"}),
    ("container_engines: {podman: {enabled: false}}", {"docker", "containerd", "crio"}),
    ("container_engines: {cri: {enabled: false}}", {"docker", "podman"}),
    ("container_engines: {cri: {sockets: [AT/containerd, AT/other-crio]}}", {"containerd", "other-crio"}),
]


@pytest.mark.parametrize(("text", "asked"), ENGINES, ids=[text for text, _ in ENGINES])
def test_engines_are_asked_or_not(text: str, asked: set[str]) -> None:
    """A socket for each, and who comes there."""
    with tempfile.TemporaryDirectory() as name:  # a path short enough for a socket
        ours = {f"{e}_sockets": [f"{name}/{e}"] for e in ("docker", "podman", "containerd", "crio")}
        if "sockets" in text:  # where both stand, ours count
            ours = {"docker_sockets": [], "podman_sockets": []}
        (Path(name) / "t.yaml").write_text(f"containers: {json.dumps(ours)}\n{text.replace('AT', name)}\n")
        containers = load_config(Path(name) / "t.yaml").containers
        names = ["docker", "podman", "containerd", "crio", "other-crio"]
        servers = {n: socket.socket(socket.AF_UNIX) for n in names}
        for engine, server in servers.items():
            server.bind(f"{name}/{engine}")
            server.listen()
        source = ContainerSource(engines_of(containers))
        source.start()
        try:
            came = set()
            while came < asked:
                ready = select.select([servers[n] for n in names if n not in came], [], [], 30)[0]
                assert ready, f"only {came} came"
                came |= {n for n in names if servers[n] in ready}
            assert came == asked
            assert select.select([servers[n] for n in names if n not in asked], [], [], 0.3)[0] == []
        finally:
            for server in servers.values():
                server.close()
            source.close()


def test_a_queue_holds_as_many_as_it_may(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("outputs_queue: {capacity: 5}\n")
    go = threading.Event()

    class Waits(MemorySink):
        def deliver(self, alert: Alert) -> None:
            go.wait(60)
            super().deliver(alert)

    dispatcher = build_dispatcher(load_config(tmp_path / "t.yaml"), [Waits()], lambda *_: alert())
    dispatcher.submit(alert())
    wait_until(lambda: dispatcher.stats()[0].stuck_s > 0, "the first in hand")
    for n in range(20):
        dispatcher.submit(alert(n))
    (stats,) = dispatcher.stats()
    go.set()
    dispatcher.close(timeout_s=30)
    assert (stats.waiting, dict(stats.reasons)) == (6, {QUEUE_FULL: 15})


def test_an_output_has_as_much_time_as_it_is_given(tmp_path: Path) -> None:
    text = "output_timeout: 250\nprogram_output: {enabled: true, program: [sleep, '1000']}\n"
    (tmp_path / "t.yaml").write_text(f"{text}stdout_output: {{enabled: false}}\n")
    (sink,) = build_sinks(load_config(tmp_path / "t.yaml"), io.StringIO())
    with pytest.raises(DeliveryError, match=r"not ended within 0\.25 s"):
        sink.deliver(alert())
    sink.close()


@pytest.mark.parametrize(
    ("text", "fired"),
    [
        ("", ["a"]),
        ("rules_profile: quiet\n", []),
        ("rules_profile: balanced\n", ["a"]),
        ("rules_profile: all\n", ["a", "b"]),
        ("rules_profile: quiet\nrules: [{enable: {rule: b}}]\n", ["b"]),
    ],
)
def test_rules_are_chosen_by_their_noise(
    files: Path, capsys: pytest.CaptureFixture[str], text: str, fired: list[str]
) -> None:
    rules = (files / "rules.yaml").read_text()
    marked = rules.replace("tags: [t, u]", "tags: [noise_moderate]").replace("tags: [t]", "tags: [noise_high]")
    (files / "rules.yaml").write_text(marked)
    assert [a["rule"] for a in alerts(files, capsys, f"rule_matching: all\n{text}")] == fired


def test_rule_matching(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [a["rule"] for a in alerts(files, capsys, "rule_matching: first\n")] == ["a"]
    assert [a["rule"] for a in alerts(files, capsys, "rule_matching: all\n")] == ["a", "b"]


@pytest.fixture
def logs(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    """Standard error; the root logger is put back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers[:] = []
    yield capsys
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("log_level: notice\n", ["a warning"]),
        ("log_level: critical\n", []),
        ("log_level: debug\n", ["a warning", "a detail"]),
        ("log_level: debug\nlog_stderr: false\n", []),
    ],
)
def test_logs_go_where_they_should(
    tmp_path: Path, logs: pytest.CaptureFixture[str], text: str, told: list[str]
) -> None:
    (tmp_path / "t.yaml").write_text(text)
    handler = run.start_log(load_config(tmp_path / "t.yaml"))
    logging.getLogger("x").warning("a warning")
    logging.getLogger("x").debug("a detail")
    handler.drain(10)
    assert [line.rpartition(": ")[2] for line in logs.readouterr().err.splitlines()] == told


def test_logs_go_to_syslog(tmp_path: Path, logs: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(place))
        server.settimeout(10)
        (tmp_path / "t.yaml").write_text("log_syslog: true\nlog_stderr: false\n")
        run.start_log(load_config(tmp_path / "t.yaml"), syslog=str(place))
        logging.getLogger("x").warning("a warning")
        sent = server.recv(1000)
    assert sent.startswith(b"<28>tercel[")  # daemon, warning: RFC 3164
    assert sent.endswith(b"]: a warning")
    assert logs.readouterr().err == ""


def test_a_syslog_daemon_that_is_not_there_is_told_of_and_one_that_went_is_no_trouble(
    tmp_path: Path, logs: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.yaml").write_text("log_syslog: true\n")
    config = load_config(tmp_path / "t.yaml")
    run.start_log(config, syslog=str(tmp_path / "gone")).drain(10)
    assert "no syslog daemon" in logs.readouterr().err
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "log"))
        handler = run.start_log(config, syslog=str(tmp_path / "log"))
        for _ in range(2000):  # more than its socket holds: nobody reads, and nobody waits
            logging.getLogger("x").warning("a warning")
    logging.getLogger("x").warning("another")
    handler.drain(10)
    assert "Traceback" not in logs.readouterr().err


def test_outputs_are_made(tmp_path: Path) -> None:
    names = ["stdout_output", "syslog_output", "file_output", "http_output", "program_output"]
    more = {"http_output": ", url: 'http://127.0.0.1:9/'", "program_output": ", program: cat"}

    def made(on: str) -> list[str]:
        text = "".join(f"{n}: {{enabled: {str(n == on).lower()}{more.get(n, '')}}}\n" for n in names)
        (tmp_path / "t.yaml").write_text(text)
        return [sink.name for sink in build_sinks(load_config(tmp_path / "t.yaml"), io.StringIO())]

    for name in names:
        assert made(name) == [name]


GROUPS = [
    ("rules_counters_enabled", "falco.rules.R"),
    ("resource_utilization_enabled", "falco.memory_rss_"),
    ("state_counters_enabled", "falco.n_threads"),
    ("libbpf_stats_enabled", "scap.sys_exit.run_cnt"),
    ("kernel_event_counters_enabled", "scap.n_drops"),
    ("kernel_event_counters_per_cpu_enabled", "scap.n_evts_cpu_0"),
]


def test_groups_of_metrics() -> None:
    def names(**keys: bool) -> str:
        return " ".join(snapshot(full_status(), None, replace(Metrics(), **keys), [HookCost("sys_exit", 1, 1)]))

    for key, name in GROUPS:
        assert name in names(**{key: True})
        assert name not in names(**{key: False}), key
    assert "memory_rss_mb" in names(convert_memory_to_mb=True)
    assert "memory_rss_kb" in names(convert_memory_to_mb=False)
    assert len(names(include_empty_values=True)) > len(names(include_empty_values=False))


def test_metrics_as_an_alert() -> None:
    told: list[Mapping[str, object]] = []
    for on in (True, False):
        settings = Metrics(enabled=True, output_rule=on)
        Snapshots(settings, status=full_status, hooks=lambda: [], tell=told.append).take()
    assert len(told) == 1


def test_the_page_of_health_has_the_name_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret-token-of-this-test")
    settings = Webserver(
        enabled=True, listen_port=0, k8s_healthz_endpoint="/live", token_file=str(tmp_path / "token")
    )  # fmt: skip
    page = (HTTPStatus.OK, "text/plain", "well")
    server = WebServer(settings, {"/live": lambda *_: page, "/other": lambda *_: page})
    server.start()
    try:
        answers = []
        for path in ("/live", "/other"):
            connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
            connection.request("GET", path)
            answers.append(connection.getresponse().status)
            connection.close()
    finally:
        server.stop()
    assert answers == [200, 401], "health is told without a token, and nothing else"


def test_calls_that_are_taken_away_are_told_of(files: Path) -> None:
    (files / "t.yaml").write_text("rules_files: [rules.yaml]\nbase_syscalls: {custom_set: ['!fork', ptrace]}\n")
    generation = build_generation(load_config(files / "t.yaml"), hostname="h", new_id=lambda: "i")
    assert [w.message for w in generation.warnings if w.name == "not-heard"] == [
        "`base_syscalls.custom_set` takes `fork` away, on which 2 rules can hold"
    ]
    found = generation.needs.types
    assert found == {EventType.PTRACE}
    with pytest.raises(ConfigError, match=r"(?s)no system call `ptrase`.*did you mean `ptrace`"):
        load_config(None, overrides=["base_syscalls.custom_set=[ptrase]"])
