"""Kubernetes audit events: what comes in, what is refused, and what fields and Falco's own rules make of it."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import random
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.codegen.python import value_code
from appliance.config.load import load_config
from appliance.config.plugins import K8sAudit, k8s_audit
from appliance.config.settings import Config
from appliance.daemon.reload import needs_restart
from appliance.engine.ruleset import Ruleset, compile_value
from appliance.host.listening import BoundedHandler, BoundedServer
from appliance.lang.load import load_rules, load_texts
from appliance.lang.parser import parse_operand
from appliance.model.diagnostic import ConfigError
from appliance.sources.k8saudit import AuditError, AuditQueue, Batch, audit_event, read_body, read_log
from appliance.sources.replay import read_event, write_event
from appliance.sources.webhook import Webhook, WebhookError
from tests.support.audit import BINDING, EXEC, POD, QUIET, ROLE
from tests.support.certificates import make_certificates
from tests.support.receivers import wait_until
from tests.support.rules import ruleset_of
from tests.support.shared import shared_falco

FIELDS = [
    (POD, "ka.verb", "create"),
    (POD, "ka.user.groups", ("developers", "system:authenticated")),
    (POD, "ka.target.pod.name", "web"),
    (POD, "ka.impuser.name", None),
    (POD, "ka.response.code", "201"),
    (POD, "ka.sourceips[1]", ("10.0.0.1",)),
    (POD, "ka.sourceips[9]", ()),
    (POD, "ka.req.pod.containers.image", ("registry:5000/team/app:1.2@sha256:00ff", "nginx")),
    (POD, "ka.req.pod.containers.image[1]", ("nginx",)),
    (POD, "ka.req.pod.containers.image.repository", ("registry:5000/team/app", "nginx")),
    (POD, "ka.req.pod.containers.privileged", ("true",)),
    (POD, "ka.req.pod.containers.args", ("-v", "x")),
    (POD, "ka.req.pod.containers.eff_run_as_user", ("1000", "0")),
    (POD, "ka.req.pod.containers.eff_run_as_group", ("0", "0")),
    (POD, "ka.req.pod.containers.host_port", ("80", "8443")),
    (POD, "ka.req.pod.containers.add_capabilities", ("SYS_ADMIN",)),
    (POD, "ka.req.pod.initContainers.image", ()),
    (POD, "ka.req.container.privileged", "true"),
    (POD, "ka.req.container.image", "registry:5000/team/app:1.2@sha256:00ff"),
    (POD, "ka.req.pod.host_network", "true"),
    (POD, "ka.req.pod.volumes.hostpath", ("/var/run/docker.sock",)),
    (POD, "ka.req.pod.volumes.volume_type", ("emptyDir", "hostPath")),
    (POD, "ka.req.volume.hostpath[/var/run/*]", "true"),
    (POD, "ka.req.volume.hostpath[/etc]", "false"),
    (POD, "jevt.value[/requestObject/spec/volumes/1/hostPath]", '{"path":"/var/run/docker.sock","type":""}'),
    (POD, "jevt.value[/requestObject/spec/hostNetwork]", "true"),
    (POD, "jevt.value[/annotations/authorization.k8s.io~1decision]", "allow"),
    (POD, "jevt.value[/nothing/here]", None),
    (POD, "ka.cluster.name", None),
    (POD | {"cluster_name": "east"}, "ka.cluster.name", "east"),
    (POD | {"cluster_name": "x", "annotations": {"cluster_name": "west"}}, "ka.cluster.name", "west"),
    (POD, "jevt.rawtime", "1767323045123456000"),
    (EXEC, "ka.uri.param[command]", "sh"),
    (EXEC, "ka.uri.param[tty]", None),
    (ROLE, "ka.req.role.rules.verbs", ("*", "get")),
    (ROLE, "ka.req.role.rules.verbs[1]", ("get",)),
    (BINDING, "ka.req.binding.role", "cluster-admin"),
    (BINDING, "ka.req.binding.subjects.user_names", ("eve",)),
    (BINDING, "ka.req.binding.subjects.serviceaccount_ns_names", ("ci:robot",)),
]


@pytest.mark.parametrize(("document", "field", "expected"), FIELDS, ids=[f[1] for f in FIELDS])
def test_a_field(document: dict[str, Any], field: str, expected: object) -> None:
    assert compile_value(value_code(parse_operand(field)))(audit_event(document)) == expected


def test_a_field_of_another_source_is_refused() -> None:
    rule = "- {{rule: r, desc: d, condition: {0}, output: o, priority: INFO, source: {1}}}\n"
    told = load_texts([("a.yaml", rule.format("proc.name = x", "k8s_audit"))]).errors
    assert [d.name for d in told] == ["field-of-other-source"]
    told = load_texts([("a.yaml", rule.format("evt.type = open and ka.verb = get", "syscall"))]).errors
    assert [d.name for d in told] == ["field-of-other-source"]
    assert not load_texts([("a.yaml", rule.format("ka.verb = get and evt.time exists", "k8s_audit"))]).diagnostics


def official() -> Ruleset:
    loaded = load_rules([shared_falco() / "rules/k8s_audit_rules.yaml"])
    assert not loaded.errors
    return ruleset_of(loaded.rules)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (POD, {"Disallowed K8s User", "Create Privileged Pod", "Create Sensitive Mount Pod", "Create HostNetwork Pod"}),
        (EXEC, {"Attach/Exec Pod"}),
        (BINDING, {"Attach to cluster-admin Role", "Disallowed K8s User", "K8s ClusterRoleBinding Created"}),
        (QUIET, set()),
    ],
    ids=["pod", "exec", "binding", "quiet"],
)
def test_falcos_rules_on_audit_events(document: dict[str, Any], expected: set[str]) -> None:
    rules = official()
    alerts = rules.match(audit_event(document))
    assert {a.rule for a in alerts} == expected
    assert all(a.source == "k8s_audit" for a in alerts)
    assert not rules.errors
    if document is EXEC:
        assert "action=exec command=sh" in alerts[0].output


def test_bodies() -> None:
    one = json.dumps(POD).encode()
    assert [e.document for e in read_body(one, now_ns=1).events] == [POD]
    many = json.dumps({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": [POD, EXEC]}).encode()
    assert len(read_body(many, now_ns=1).events) == 2
    assert len(read_body(json.dumps([POD, EXEC, QUIET]).encode(), now_ns=1).events) == 3
    large = json.dumps([POD, POD | {"userAgent": "x" * 3000}]).encode()
    batch = read_body(large, now_ns=1, max_event_bytes=2500)
    assert (len(batch.events), batch.too_large) == (1, 1)
    assert read_body(b'{"stage": "Panic"}', now_ns=7).events[0].ts_ns == 7


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[1]", b"{}", b'"x"', b'{"kind": "Pod", "stage": "x"}', b'{"kind": "EventList"}', b"\xff", b"NaN",
        b'{"stage": NaN}', b"[" * 100_000, b'{"stage": ' + b"[" * 300 + b"]" * 300 + b"}", b"9" * 10_000,
    ],
)  # fmt: skip
def test_what_is_no_audit_event_is_refused(data: bytes) -> None:
    with pytest.raises(AuditError):
        read_body(data, now_ns=0)


def test_no_bytes_make_another_error_and_no_document_breaks_a_rule() -> None:
    """A fuzzer: audit events with bytes and values changed. `make nightly` gives it ten minutes by TERCEL_FUZZ_S."""
    seconds = float(os.environ.get("TERCEL_FUZZ_S", "0"))
    rng, rules = random.Random(time.time_ns() if seconds else 5), official()
    end = time.monotonic() + seconds
    values = [None, True, 0, -1, 1e400, "", "x", [], {}, [None], [[]], {"name": 1}, "\ud800"]
    for n in itertools.count():
        if n >= 1500 and time.monotonic() >= end:
            break
        document = json.loads(json.dumps(rng.choice([POD, EXEC, ROLE, BINDING])))
        node = document
        for _ in range(rng.randint(1, 6)):
            inner = [(node, k) for k in (node if isinstance(node, dict) else range(len(node)))]
            if not inner:
                break
            at, key = rng.choice(inner)
            if rng.random() < 0.4 or not isinstance(at[key], dict | list):
                at[key] = rng.choice(values)
                break
            node = at[key]
        data = bytearray(json.dumps(document).encode())
        if n % 3 == 0:
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            batch = read_body(bytes(data), now_ns=0)
        except AuditError:
            continue
        for event in batch.events:
            rules.match(event)
    assert not rules.errors


def test_a_log_and_a_replay(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    file.write_text(json.dumps(POD) + "\n\n" + json.dumps(EXEC) + "\n")
    events = [e for batch in read_log(file, now_ns=0) for e in batch.events]
    assert [e.document for e in events] == [POD, EXEC]
    assert read_event(write_event(events[0]), "x", 0) == events[0]
    file.write_text("nonsense\n")
    with pytest.raises(AuditError, match=r"audit\.log:1: not JSON"):
        list(read_log(file, now_ns=0))


def test_a_full_queue_takes_no_more_and_an_empty_one_takes_any() -> None:
    queue = AuditQueue(capacity=2, capacity_bytes=100)
    batch = Batch((audit_event(POD),), 90)
    assert queue.put(batch) and not queue.put(batch)
    assert queue.refused == 1
    (event,) = queue.take(10)
    assert event.num == 1
    assert queue.put(Batch((audit_event(POD),) * 5, 500))
    assert len(queue.take(3)) == 3 and len(queue) == 2


# -- the webhook, a real server and real clients


@pytest.fixture
def hook() -> Iterator[tuple[Webhook, list[Batch]]]:
    got: list[Batch] = []

    def put(batch: Batch) -> bool:
        got.append(batch)
        return len(got) <= 3

    made = Webhook(
        host="127.0.0.1", port=0, path="/k8s-audit", certificate=None, max_event_bytes=200_000, max_body_bytes=400_000,
        put=put,
    )  # fmt: skip
    made.start()
    yield made, got
    made.stop()


def post(port: int, body: bytes, path: str = "/k8s-audit", method: str = "POST", **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_webhook(hook: tuple[Webhook, list[Batch]]) -> None:
    webhook, got = hook
    threads = threading.active_count()
    port, body = webhook.port, json.dumps([POD, EXEC]).encode()
    assert post(port, body) == 200
    assert [e.document for e in got[0].events] == [POD, EXEC]
    assert post(port, body, "/other") == 404
    assert post(port, body, method="GET") == 501
    assert post(port, b"{") == 400
    assert post(port, b"x" * 400_001) == 413
    assert post(port, body, **{"Content-Type": "text/plain"}) == 415
    assert post(port, body, **{"Content-Encoding": "gzip"}) == 415
    assert [post(port, body) for _ in range(3)] == [200, 200, 503]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)  # one connection, several requests
    for _ in range(3):
        connection.request("POST", "/k8s-audit", b"[]", {"Content-Type": "application/json"})
        assert connection.getresponse().read() == b"too much at once\n"
    connection.close()
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(b"\x00\xff" * 1000)
    assert threading.active_count() < threads + 70
    assert webhook.counts[200] == 3


CHUNKED = b"POST /k8s-audit HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def raw(port: int, *parts: bytes) -> bytes:
    """What is answered to these bytes, before the connection ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        while more := connection.recv(65536):
            answer += more
    return answer


def chunks(body: bytes, size: int) -> bytes:
    """A body in chunks, with an extension at the first and a header line at the end."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    made = b"".join(b"%x%s\r\n%s\r\n" % (len(p), b"" if n else b"; note=1", p) for n, p in enumerate(parts))
    return made + b"0\r\nChecked: yes\r\n\r\n"


def test_chunked_bodies(hook: tuple[Webhook, list[Batch]]) -> None:
    webhook, got = hook
    body = json.dumps([POD, EXEC]).encode()
    end = CHUNKED.replace(b"Host: x", b"Connection: close")
    answer = raw(webhook.port, CHUNKED + chunks(body, 7), end + chunks(body, 100_000))
    assert answer.count(b"HTTP/1.1 200 OK") == 2, answer
    assert [[e.document for e in batch.events] for batch in got] == [[POD, EXEC]] * 2


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (CHUNKED + b"zz\r\n", 400),
        (CHUNKED + b"\r\n", 400),
        (CHUNKED + b"-5\r\n", 400),
        (CHUNKED + b"11111111111111111\r\n", 400),
        (CHUNKED + b"2\r\n[]]\r\n0\r\n\r\n", 400),
        (CHUNKED + b"1;" + b"x" * 2000, 400),
        (CHUNKED + b"61A81\r\n", 413),
        (CHUNKED + b"30D40\r\n" + b" " * 200_000 + b"\r\n30D41\r\n", 413),
        (CHUNKED + b"2\r\n[]\r\n0\r\n" + b"a: b\r\n" * 200, 431),
        (CHUNKED.replace(b"Host: x", b"Content-Length: 2") + b"2\r\n[]\r\n0\r\n\r\n", 400),
        (CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"2\r\n[]\r\n0\r\n\r\n", 400),
        (CHUNKED.replace(b"chunked", b"gzip, chunked") + b"2\r\n", 501),
        (CHUNKED.replace(b"Host: x", b"a: " + b"b" * 50_000), 431),
        (CHUNKED.replace(b"Host: x", b"\r\n".join(b"a%d: %s" % (n, b"b" * 1000) for n in range(48))), 431),
        (CHUNKED.replace(b"Transfer-Encoding: chunked", b"Content-Length: 5\r\nContent-Length: 2"), 411),
    ],
)  # fmt: skip
def test_what_no_client_means_is_refused_and_gives_its_room_back(
    hook: tuple[Webhook, list[Batch]], sent: bytes, status: int
) -> None:
    webhook, got = hook
    with socket.create_connection(("127.0.0.1", webhook.port), timeout=60) as connection:
        connection.sendall(sent)
        assert connection.recv(1024).split()[1] == str(status).encode()
    assert not got
    assert post(webhook.port, b"[" + b" " * 399_998 + b"]") == 200, "all of a body's room is there again"


def test_a_client_that_takes_its_time_is_not_waited_for() -> None:
    class Impatient(BoundedHandler):
        idle_s, request_s = 5.0, 0.3
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            with contextlib.suppress(TimeoutError):
                self.rfile.read(100)
                ended.append("read")
            ended.append("late")
            self.close_connection = True

    ended: list[str] = []
    server = BoundedServer(("127.0.0.1", 0), Impatient)
    server.room, server.timeout_s, server.tls = threading.BoundedSemaphore(4), 5.0, None
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        for sent in (b"POST / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n\r\n"):  # within the head, within the body
            with socket.create_connection(("127.0.0.1", server.server_port), timeout=60) as connection:
                connection.sendall(sent)
                with contextlib.suppress(OSError):
                    for _ in range(100):  # no pause is as long as the limit
                        connection.sendall(b"a")
                        time.sleep(0.05)
                    raise AssertionError("it went on waiting")
    finally:
        server.shutdown()
        server.server_close()
    assert ended == ["late"]


def test_a_body_of_too_many_values() -> None:
    with pytest.raises(AuditError, match="more than 1000000 values"):
        read_body(b"[" + b"[],[" * 400_000 + b"]", now_ns=0)


def test_clients_show_a_certificate_where_one_is_wanted(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    both = tmp_path / "both.pem"
    both.write_text((tmp_path / "server.pem").read_text() + (tmp_path / "server.key").read_text())
    got: list[Batch] = []

    def put(batch: Batch) -> bool:
        got.append(batch)
        return True

    webhook = Webhook(
        host="127.0.0.1", port=0, path="/k8s-audit", certificate=str(both), client_ca=str(tmp_path / "ca.pem"),
        cluster="east", max_event_bytes=200_000, max_body_bytes=400_000, put=put,
    )  # fmt: skip
    webhook.start()

    def ask(name: str | None) -> int:
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        if name is not None:
            context.load_cert_chain(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
        connection = http.client.HTTPSConnection("127.0.0.1", webhook.port, timeout=60, context=context)
        try:
            connection.request("POST", "/k8s-audit", json.dumps(POD), {"Content-Type": "application/json"})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    try:
        assert [ask(name) for name in (None, "stranger", "client")] == [0, 0, 200]
        wait_until(lambda: webhook.handshakes_failed == 2, "the count of those that failed")
        both.write_text((tmp_path / "other.pem").read_text() + (tmp_path / "other.key").read_text())
        webhook.use(webhook.read_certificates())
        assert ask("client") == 0, "the new certificate is for another host"
        good = both.read_text()
        both.write_text("nothing")
        with pytest.raises(WebhookError, match="must contain a PEM certificate"):
            webhook.read_certificates()
        both.write_text(good)
    finally:
        webhook.stop()
    (event,) = got[0].events
    assert compile_value(value_code(parse_operand("ka.cluster.name")))(event) == "east"
    (tmp_path / "none.pem").write_text("nothing")
    for ca in ("none.pem", "missing.pem"):
        with pytest.raises(WebhookError, match="no certificates of authorities"):
            Webhook(
                host="127.0.0.1", port=0, path="/", certificate=str(both), client_ca=str(tmp_path / ca),
                max_event_bytes=2000, max_body_bytes=4000, put=put,
            )  # fmt: skip


def test_the_webhook_over_tls(tmp_path: Path) -> None:
    pem, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=IP:127.0.0.1", "-out", pem, "-keyout", key], check=True, capture_output=True,
    )  # fmt: skip
    both = tmp_path / "both.pem"
    both.write_text(pem.read_text() + key.read_text())
    got: list[Batch] = []

    def put(batch: Batch) -> bool:
        got.append(batch)
        return True

    webhook = Webhook(
        host="127.0.0.1", port=0, path="/k8s-audit", certificate=str(both), max_event_bytes=200_000,
        max_body_bytes=400_000, put=put,
    )  # fmt: skip
    webhook.start()
    try:
        context = ssl.create_default_context(cafile=str(pem))
        connection = http.client.HTTPSConnection("127.0.0.1", webhook.port, timeout=60, context=context)
        connection.request("POST", "/k8s-audit", json.dumps(POD), {"Content-Type": "application/json"})
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        webhook.stop()
    assert len(got) == 1


# -- the configuration


def test_plugins_of_falcos_configuration(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(
        "load_plugins: [k8saudit, json]\nplugins:\n  - name: k8saudit\n    library_path: libk8saudit.so\n"
        '    init_config: ""\n    open_params: "http://:9765/k8s-audit"\n  - {name: json, library_path: libjson.so}\n'
    )
    config = load_config(file)
    assert k8s_audit(config.plugins, config.load_plugins) == K8sAudit(host="127.0.0.1")
    assert k8s_audit(config.plugins, ()) is None
    file.write_text("load_plugins: [cloudtrail]\n")
    with pytest.raises(ConfigError, match="no plugin is called `cloudtrail` here"):
        load_config(file)
    file.write_text("load_plugins: [k8saudit]\nplugins: [{name: k8saudit, init_config: {maxEventSise: 5}}]\n")
    with pytest.raises(ConfigError, match="has no key `maxEventSise`"):
        load_config(file)
    ours = "sslClientCA: /ca.pem, clusterName: east"
    for url, found in (("https://10.0.0.1/audit", None), ("http://10.0.0.1/audit", "is no `https` URL")):
        file.write_text(
            f"load_plugins: [k8saudit]\nplugins: [{{name: k8saudit, init_config: {{{ours}}}, open_params: '{url}'}}]\n"
        )
        if found is not None:
            with pytest.raises(ConfigError, match=found):
                load_config(file)
            continue
        config = load_config(file)
        made = k8s_audit(config.plugins, config.load_plugins)
        assert made is not None
        assert (made.client_ca, made.cluster, made.certificate) == ("/ca.pem", "east", "/etc/tercel/tercel.pem")
    file.write_text("load_plugins: [k8saudit]\nplugins: [{name: k8saudit, open_params: /var/log/audit.log}]\n")
    config = load_config(file)
    assert k8s_audit(config.plugins, config.load_plugins) == K8sAudit(logs=Path("/var/log/audit.log"))


def test_a_reload_cannot_move_the_webhook() -> None:
    (told,) = needs_restart(Config(), replace(Config(), load_plugins=("k8saudit",)))
    assert (told.name, "`load_plugins` has changed" in told.message) == ("needs-restart", True)
