"""Falcosidekick's own configuration runs as it is, and what differs is said."""

from __future__ import annotations

import json
import threading
from dataclasses import MISSING, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from appliance.hub.load import load_with_notes
from appliance.hub.outputs.table import kinds
from appliance.hub.settings import HubSettings
from appliance.hub.sidekick import SECTIONS, Section
from appliance.model.alert import Priority
from appliance.model.diagnostic import ConfigError
from tests.hub.running import hub, running, until


def loaded(tmp_path: Path, text: str, **environment: str) -> tuple[HubSettings, list[str]]:
    file = tmp_path / "falcosidekick.yaml"
    file.write_text(text)
    settings, notes = load_with_notes(file, environment=environment)
    return settings, list(notes)


FILE = """
listenaddress: ""
listenport: 2801
debug: false
customfields: {Akey: "AValue", Number: 5}
templatedfields:
  simple: '{{ index . "proc.name" }}'
  hard: '{{ or (index . "a") "b" }}'
customtags: [tagA]
bracketreplacer: "_"
mutualtlsfilespath: "/certs"
prometheus: {extralabels: ""}
Slack:
  webhookurl: "https://hooks.example.org/x"
  minimumpriority: "Warning"
  messageformat: 'Alert : *{{ .Rule }}*'
  outputformat: all
elasticsearch:
  hostport: http://127.0.0.1:9200
  index: falco
  mutualtls: true
  checkcert: false
  customheaders: {X-Key: 5}
  maxconcurrentrequests: 0
  batching: {enabled: true, batchsize: 5242880, flushinterval: 1500ms}
webhook:
  address: ""
loki:
  hostport: http://127.0.0.1:3100
  minimumpriority: ""
nosuch: {a: 1}
"""


def test_a_file_of_its_is_known_and_translated(tmp_path: Path) -> None:
    settings, notes = loaded(tmp_path, FILE)
    assert (settings.collector.address, settings.collector.port, settings.collector.insecure) == ("0.0.0.0", 2801, True)
    assert settings.enrichment.customfields == {"Akey": "AValue", "Number": "5"}
    assert settings.enrichment.templatedfields == {"simple": "{{ fields['proc.name'] }}"}
    assert settings.enrichment.customtags == ("tagA",)
    assert settings.enrichment.bracketreplacer == "_"
    assert set(settings.outputs) == {"slack", "elasticsearch", "loki"}
    slack, search = settings.outputs["slack"], settings.outputs["elasticsearch"]
    assert (slack.type, slack.minimumpriority) == ("slack", Priority.WARNING)
    assert slack.options.webhookurl == "https://hooks.example.org/x"
    assert (search.options.url, search.options.client_cert) == ("http://127.0.0.1:9200", Path("/certs/client.crt"))
    assert search.options.headers == {"X-Key": "5"}
    assert (search.concurrency, search.pause_ms, search.options.checkcert) == (16, 1500, False)
    told = "\n".join(notes)
    for part in ("0.0.0.0", "templatedfields.hard", "`slack.messageformat`", "`nosuch`", "batchsize"):
        assert part in told, part


def section_text(section: Section, more: dict[str, Any] | None = None) -> str:
    kind = kinds()[section.type]
    backwards = {ours: theirs for theirs, ours in section.renames.items()}
    values: dict[str, Any] = {
        backwards.get(f.name, f.name): "http://127.0.0.1:1"
        for f in fields(kind.options)
        if f.default is MISSING and f.default_factory is MISSING
    }
    values[section.on] = values.get(section.on, "5")
    tree: dict[str, Any] = values | (more or {})
    for name in reversed(section.path):
        tree = {name: tree}
    return yaml.safe_dump(tree)


HERE = [section for section in SECTIONS if section.type in kinds()]


@pytest.mark.parametrize("section", HERE, ids=lambda section: ".".join(section.path))
def test_each_output_of_its_becomes_one_of_ours(tmp_path: Path, section: Section) -> None:
    try:
        settings, _ = loaded(tmp_path, section_text(section, {"minimumpriority": "error"}))
    except ConfigError as error:  # "5" is no number of its kind of key: the place is what counts
        assert "falcosidekick.yaml" in str(error)
        assert "wrong-type" in str(error) or "wrong-value" in str(error)
        return
    (output,) = settings.outputs.values()
    assert (output.type, output.minimumpriority) == (section.type, Priority.ERROR)
    assert output.name == "".join(section.path)


def test_what_is_missing_here_is_said(tmp_path: Path) -> None:
    for section in SECTIONS:
        if section.type not in kinds():
            tree: dict[str, Any] = {section.on: "x"}
            for name in reversed(section.path):
                tree = {name: tree}
            settings, notes = loaded(tmp_path, yaml.safe_dump(tree))
            assert settings.outputs == {}
            assert any((section.gone or "there is no such output here") in note for note in notes)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    settings, notes = loaded(
        tmp_path,
        "slack: {webhookurl: a}\n",
        SLACK_WEBHOOKURL="https://hooks.example.org/y",
        ELASTICSEARCH_HOSTPORT="http://127.0.0.1:9200",
        ELASTICSEARCH_MUTUALTLS="false",
        CUSTOMFIELDS="a:b,c:d e",
        CUSTOMTAGS="x, y",
        LISTENPORT="2999",
        LISTENADDRESS="127.0.0.1",
        INFLUXDB_HOSTPORT="http://127.0.0.1:8086",
        INFLUXDB_ORGANISATION="org",
        AWS_REGION="eu-west-1",
        AWS_SQS_URL="http://127.0.0.1:1/q",
    )
    assert settings.outputs["slack"].options.webhookurl == "https://hooks.example.org/y"
    assert settings.outputs["elasticsearch"].options.url == "http://127.0.0.1:9200"
    assert settings.outputs["influxdb"].options.organization == "org"
    assert settings.outputs["awssqs"].options.region == "eu-west-1"
    assert settings.enrichment.customfields == {"a": "b", "c": "d e"}
    assert settings.enrichment.customtags == ("x", "y")
    assert (settings.collector.port, settings.collector.insecure) == (2999, False)
    assert any("INFLUXDB_ORGANISATION" in note for note in notes)


def test_a_mistake_keeps_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, "listenaddress: 127.0.0.1\nslack:\n  webhookurl: https://h\n  minimumpriority: loud\n")
    first = error.value.diagnostics[0]
    assert first.span is not None
    assert (first.span.line, first.span.column) == (4, 20)


def test_ours_is_not_taken_for_its(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown-key"):
        loaded(tmp_path, "data_dir: /x\nslack: {webhookurl: a}\n")


def test_the_hub_runs_by_it(tmp_path: Path) -> None:
    """Its file, a Falco event, a webhook that gets it with the added field."""
    got: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    file = tmp_path / "falcosidekick.yaml"
    file.write_text(f"""
listenaddress: 127.0.0.1
listenport: 0
customfields: {{cluster: prod}}
webhook: {{address: "http://127.0.0.1:{server.server_port}/"}}
""")
    with running(tmp_path / "hub", sidekick=file) as made:
        told = {
            "output": "o", "priority": "Warning", "rule": "r", "time": "2026-01-02T03:04:05Z", "output_fields": {"a": 1}
        }  # fmt: skip
        assert httpx.post(made.url, json=told).status_code == 200
        until(lambda: got, "the event")
        assert got[0]["output_fields"] == {"a": 1, "cluster": "prod"}
        assert "uuid" in made.log.read_text()
    server.shutdown()
    server.server_close()
    done = hub("check", "-c", str(file))
    assert (done.returncode, "note: " in done.stderr) == (0, True)
