"""The collector over real sockets: Falcosidekick's surface, who may post, and what strangers do."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import zstandard
from prometheus_client.parser import text_string_to_metric_families

from appliance.model.moment import iso_time
from tests.hub.running import Hub, hub, running, until
from tests.support.certificates import make_certificates
from tests.support.shared import shared_falco

TOKEN = "0123456789abcdef-token"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with running(tmp_path_factory.mktemp("plain")) as made:
        yield made


def event(**changes: object) -> dict[str, object]:
    return {
        "output": "o", "priority": "Warning", "rule": "r", "time": iso_time(time.time_ns()) + "Z",
        "output_fields": {"proc.name": "cat"}, "hostname": "web1", "source": "syscall", "tags": ["t"],
    } | changes  # fmt: skip


def post(made: Hub, content: bytes, path: str = "/", **headers: str) -> httpx.Response:
    return httpx.post(made.url + path, content=content, headers=headers, timeout=30)


def as_json(*events: dict[str, object], by: str = "\n") -> bytes:
    return by.join(json.dumps(one) for one in events).encode()


def test_falcosidekicks_surface(plain: Hub) -> None:
    assert (httpx.get(plain.url + "/ping").status_code, httpx.get(plain.url + "/ping").text) == (200, "pong\n")
    health = httpx.get(plain.url + "/healthz")
    assert (health.json(), health.headers["content-type"]) == ({"status": "ok"}, "application/json")
    taken = post(plain, as_json(event()))
    assert (taken.status_code, taken.content) == (200, b"")
    assert post(plain, as_json(event()), "/any/path").status_code == 200
    refused = post(plain, b"{}")
    assert refused.status_code == 400
    assert refused.text.startswith("Please send a valid request body\n")
    assert refused.headers["content-type"].startswith("text/plain")
    got = httpx.get(plain.url + "/")
    assert (got.status_code, got.text) == (400, "Please send with post http method\n")
    assert httpx.get(plain.url + "/test").status_code == 400
    assert post(plain, b"", "/test").status_code == 200


def test_metrics_under_its_names_and_ours(plain: Hub) -> None:
    post(plain, as_json(event(rule='quo"te\n', hostname="m1")))
    text = httpx.get(plain.url + "/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    events = families["falcosecurity_falcosidekick_falco_events"].samples
    mine = next(one for one in events if one.labels["hostname"] == "m1")
    assert mine.labels["rule"] == 'quo"te\n'
    assert (mine.labels["priority"], mine.labels["priority_raw"], mine.value) == ("5", "warning", 1)
    inputs = families["falcosecurity_falcosidekick_inputs"].samples
    assert {one.labels["status"] for one in inputs} == {"accepted", "rejected"}
    assert families["tercel_hub_journal_ok"].samples[0].value == 1


def test_several_in_a_request(plain: Hub) -> None:
    given = [event(output=f"several {n}") for n in range(4)]
    answer = post(plain, as_json(*given[:3]) + b"\nnot json\n" + as_json(given[0], given[3]))
    told = answer.json()
    assert (answer.status_code, told["accepted"], told["duplicates"]) == (200, 4, 1)
    assert [one["index"] for one in told["rejected"]] == [3]
    assert post(plain, b"[" + as_json(*given, by=",") + b"]").json() == {"accepted": 0, "duplicates": 4, "rejected": []}
    assert post(plain, as_json(*given, by="")).json()["duplicates"] == 4
    found = [one["output"] for one in plain.exported() if str(one["output"]).startswith("several")]
    assert found == [f"several {n}" for n in range(4)]


def test_what_falco_sends_is_taken_as_it_is(plain: Hub) -> None:
    """Alerts that Falco wrote, one in a request, as its `http_output` sends them."""
    lines = [line for line in (shared_falco() / "alerts.jsonl").read_bytes().split(b"\n") if line]
    given = [json.loads(line) for line in lines]
    before = len(plain.exported())
    answers = [post(plain, line, **{"Content-Type": "application/json"}).status_code for line in lines]
    assert set(answers) == {200}
    stored = plain.exported()[before:]
    found = {(one["time"], one["rule"], one["output"]): one for one in stored}
    for one in given:
        same = found[one["time"], one["rule"], one["output"]]
        assert same["output_fields"] == one["output_fields"]
        assert (same["priority"], same["source"], same.get("hostname", "")) == (
            one["priority"], one["source"], one.get("hostname", ""),
        )  # fmt: skip
        assert same.get("tags", []) == sorted(one["tags"])


def test_ids_of_the_sender(plain: Hub) -> None:
    same = event(output="same text")
    headers = {"Tercel-Alert-Id": "h:b:1, h:b:2"}
    assert post(plain, as_json(same, same), **headers).json()["accepted"] == 2
    assert post(plain, as_json(same, same), **headers).json()["duplicates"] == 2
    assert [one["uuid"] for one in plain.exported() if one["output"] == "same text"] == ["h:b:1", "h:b:2"]
    answer = post(plain, b"{}\n" + as_json(same), **{"Tercel-Alert-Id": "h:b:3, h:b:4"})
    assert (answer.status_code, answer.json()["accepted"]) == (400, 1)  # it sends each again alone: one is a duplicate
    assert post(plain, as_json(same), **{"Tercel-Alert-Id": "h:b:4"}).status_code == 200
    assert len([one for one in plain.exported() if one["output"] == "same text"]) == 3


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_packed_bodies(plain: Hub, encoding: str) -> None:
    pack = {"gzip": gzip.compress, "zstd": zstandard.compress}[encoding]
    given = as_json(*(event(output=f"{encoding} {n}") for n in range(100)))
    assert post(plain, pack(given), **{"Content-Encoding": encoding}).json()["accepted"] == 100
    bomb = post(plain, pack(bytes(200 << 20)), **{"Content-Encoding": encoding})
    assert bomb.status_code == 413


def test_too_much_is_refused_before_it_is_read(plain: Hub) -> None:
    with socket.create_connection(("127.0.0.1", plain.port)) as one:
        one.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        assert one.recv(100).startswith(b"HTTP/1.1 413 ")

    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * (1 << 20)

    try:
        assert httpx.post(plain.url, content=endless(), timeout=30).status_code == 413
    except httpx.TransportError:  # it closes while we write
        assert httpx.get(plain.url + "/ping").status_code == 200


HOSTILE = [
    b"\x00" * 1000, b"[" * 100_000, b"{" * 100_000, b'{"a":' * 50_000, b'"', b"\xff" * 99, b"null", b"5", b"[]",
    b"[[]]", b"{}", b"\n\n\n", b"", b'{"rule": "\\ud800"}', b"\xef\xbb\xbf", b'{"output_fields": {"k8s.ns.name": 5}}',
]  # fmt: skip


def test_hostile_bodies_never_lose_the_connection(plain: Hub) -> None:
    with httpx.Client(base_url=plain.url, limits=httpx.Limits(max_connections=1)) as client:
        for data in HOSTILE:
            assert client.post("/", content=data, timeout=30).status_code == 400, data[:20]
        nasty = [
            event(output_fields={"k8s.ns.name": 5, "k8s.pod.name": [None]}), event(hostname="\x00\r\n\u2028"),
            event(output_fields={"": "", "\x00": "\udfff".encode("utf-8", "surrogatepass").decode("utf-8", "replace")}),
            event(output_fields={"n": 2**200, "m": -(2**64)}), event(output="x" * 1_000_000),
            event(output_fields={f"f{n}": "v" for n in range(10_000)}), event(tags=["\x1b[31m"] * 100),
        ]  # fmt: skip
        for one in nasty:
            assert client.post("/", content=as_json(one), timeout=30).status_code == 200
    assert plain.exported()[-1]["tags"] == ["\x1b[31m"] * 100


@pytest.mark.parametrize(
    "data",
    [
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x00\xa5",
        b"POST / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_what_is_no_http_is_answered(plain: Hub, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", plain.port), timeout=10) as one:
        one.sendall(data)
        assert b" 400 " in one.recv(1000)
    assert httpx.get(plain.url + "/ping").status_code == 200


def test_peers_that_leave_half_way_cost_nothing(plain: Hub) -> None:
    for part in (b"POST", b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc"):
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", plain.port)) as one:
                one.sendall(part)
    assert post(plain, as_json(event())).status_code == 200


def test_many_at_a_time_each_is_there_once(plain: Hub) -> None:
    with httpx.Client(base_url=plain.url) as client, ThreadPoolExecutor(16) as pool:
        given = [event(output=f"parallel {n}") for n in range(600)]
        answers = list(pool.map(lambda one: client.post("/", content=as_json(one)).status_code, given))
    assert answers == [200] * 600
    found = sorted(str(one["output"]) for one in plain.exported() if str(one["output"]).startswith("parallel"))
    assert found == sorted(f"parallel {n}" for n in range(600))


GUARDED = f"""
collector:
  port: 0
  tokens: [{{name: fleet, token: {TOKEN}, rate: 5}}, {{name: other, token: {TOKEN}-2}}]
  max_body_mib: 1
  host_rate: 7
enrichment:
  customfields: {{cluster: prod, who: "%WHO"}}
  templatedfields: {{short: "{{{{ fields['proc.name'] }}}}@{{{{ hostname }}}}"}}
  customtags: [hub]
  bracketreplacer: "."
  hosts_file: HOSTS
"""


def test_tokens_rates_and_enrichment(tmp_path: Path) -> None:
    (tmp_path / "hosts.csv").write_text("host,owner,team\nweb1,ann,red\n")
    config = GUARDED.replace("HOSTS", str(tmp_path / "hosts.csv"))
    with running(tmp_path / "hub", config, environment={"WHO": "me"}) as made:
        mine, other = {"Authorization": f"Bearer {TOKEN}"}, {"Authorization": f"Bearer {TOKEN}-2"}
        assert post(made, as_json(event())).status_code == 401
        assert post(made, as_json(event()), Authorization="Bearer wrong").status_code == 401
        assert post(made, as_json(event()), Authorization=f"Basic {TOKEN}").status_code == 401
        assert httpx.get(made.url + "/metrics").status_code == 401
        assert httpx.get(made.url + "/healthz").status_code == 200
        assert post(made, as_json(event(output_fields={"proc.name": "cat", "a[0]": 1})), **mine).status_code == 200
        assert post(made, as_json(event(output_fields={})), **mine).status_code == 200
        first, second = made.exported()
        assert first["output_fields"] == {
            "proc.name": "cat", "a.0": 1, "cluster": "prod", "who": "me", "short": "cat@web1",
            "host.owner": "ann", "host.team": "red",
        }  # fmt: skip
        assert first["tags"] == ["hub", "t"]
        assert second["output_fields"]["cluster"] == "prod"
        many = [as_json(*(event(output=f"{k} {n}", hostname=f"h{n}") for n in range(40))) for k in range(2)]
        assert post(made, many[0], **mine).status_code == 200
        late = post(made, many[1], **mine)
        assert (late.status_code, int(late.headers["retry-after"]) >= 1) == (429, True)
        busy = [as_json(*(event(output=f"{k} {n}", hostname="busy") for n in range(60))) for k in range(2)]
        assert post(made, busy[0], **other).status_code == 200
        assert post(made, busy[1], **other).status_code == 429
        assert post(made, as_json(event(hostname="calm")), **other).status_code == 200
        assert len([one for one in made.exported() if one["hostname"] == "busy"]) == 60


def test_a_signature_over_the_body(tmp_path: Path) -> None:
    with running(tmp_path / "hub", "collector: {port: 0, hmac_secret: s3cret}") as made:
        data = as_json(event())
        right = "sha256=" + hmac.new(b"s3cret", data, hashlib.sha256).hexdigest()
        assert post(made, data).status_code == 401
        assert post(made, data + b" ", **{"Tercel-Signature": right}).status_code == 401
        assert post(made, data, **{"Tercel-Signature": right}).status_code == 200


def test_tls_with_certificates_of_senders(tmp_path: Path) -> None:
    folder = make_certificates(tmp_path)
    tls = f"cert: {folder}/server.pem, key: {folder}/server.key, client_ca: {folder}/ca.pem"
    config = f"collector: {{port: 0, tls: {{{tls}}}}}"
    with running(tmp_path / "hub", config) as made:
        url = f"https://127.0.0.1:{made.port}/"
        trust = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        with pytest.raises(httpx.TransportError):
            httpx.post(url, content=as_json(event()), verify=trust)
        with pytest.raises(httpx.TransportError):
            httpx.post(made.url, content=as_json(event()))
        trust.load_cert_chain(folder / "client.pem", folder / "client.key")
        assert httpx.post(url, content=as_json(event()), verify=trust).status_code == 200


def test_it_refuses_to_be_open_to_all(tmp_path: Path) -> None:
    done = hub("run", "-o", f"data_dir={tmp_path}", "-o", "collector.address=0.0.0.0", "-o", "collector.port=0")
    assert done.returncode == 1
    assert "insecure-listener" in done.stderr


def test_data_without_a_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = hub("run", "-o", f"data_dir={tmp_path}/file/x", "-o", "collector.port=0")
    assert (done.returncode, "cannot make the folder" in done.stderr) == (1, True)


def test_the_log_as_json(tmp_path: Path) -> None:
    with running(tmp_path / "hub", "collector: {port: 0}\nlog: {json: true}") as made:
        post(made, b"{}")
        until(lambda: b"refused" in made.log.read_bytes(), "the warning")
    lines = [json.loads(line) for line in made.log.read_bytes().splitlines()]
    assert {"time", "level", "part", "message"} <= set(lines[-1])
    assert [one["level"] for one in lines if "refused" in one["message"]] == ["warning"]


def test_a_port_that_is_taken(tmp_path: Path, plain: Hub) -> None:
    done = hub("run", "-o", f"data_dir={tmp_path}", "-o", f"collector.port={plain.port}")
    assert (done.returncode, "cannot listen" in done.stderr) == (1, True)


def test_killed_parts_are_started_again_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """Senders post all the while; each sends again what was not acknowledged, as agents do. What was is there once."""
    with running(tmp_path / "hub") as made:
        acknowledged: list[str] = []
        stop = threading.Event()

        def send(name: str) -> None:
            n = 0
            while not stop.is_set():
                one = event(output=f"{name}-{n}", hostname=name)
                while not stop.is_set():
                    try:
                        if post(made, as_json(one), **{"Tercel-Alert-Id": f"{name}:{n}"}).status_code == 200:
                            acknowledged.append(f"{name}:{n}")
                            break
                    except httpx.TransportError:
                        time.sleep(0.02)
                n += 1

        threads = [threading.Thread(target=send, args=(f"s{k}",)) for k in range(4)]
        for one in threads:
            one.start()
        for _ in range(2):
            count = len(acknowledged)
            until(lambda count=count: len(acknowledged) > count + 50, "alerts")  # type: ignore[misc]
            before = made.parts()["collect"]
            os.kill(before, signal.SIGKILL)
            until(lambda before=before: before not in made.parts().values(), "its end")  # type: ignore[misc]
        os.kill(made.process.pid, signal.SIGHUP)
        count = len(acknowledged)
        until(lambda: len(acknowledged) > count + 50, "alerts after a reload")
        stop.set()
        for one in threads:
            one.join()
        ids = [one["uuid"] for one in made.exported()]
        assert len(ids) == len(set(ids))
        assert set(acknowledged) <= set(ids)
        for name in ("s0", "s1", "s2", "s3"):
            mine = [int(str(one).partition(":")[2]) for one in ids if str(one).startswith(f"{name}:")]
            assert mine == sorted(mine)
