"""HTTP outputs against servers that misbehave, each in one way."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from appliance.config.settings import Secret
from appliance.hub.alert import HubAlert
from appliance.hub.outputs.base import Outcome, Verdict
from appliance.hub.outputs.elasticsearch import ElasticsearchOptions
from appliance.hub.outputs.http import retry_after
from appliance.hub.outputs.table import kinds
from appliance.hub.outputs.webhook import WebhookOptions
from tests.hub.support import alert, alerts, answering, http, read_request, serving
from tests.support.certificates import make_certificates

DONE, AGAIN, NEVER = Verdict.DONE, Verdict.AGAIN, Verdict.NEVER


async def send(type_: str, batch: Sequence[HubAlert], deadline_s: float = 5.0, **options: Any) -> Outcome:
    """One batch by one client, as the engine sends it."""
    kind = kinds()[type_]
    client = kind.connect(kind.options(**options))
    try:
        async with asyncio.timeout(deadline_s):
            return await client.send(batch)
    finally:
        await client.close()


async def hook(batch: Sequence[HubAlert], port: int, deadline_s: float = 5.0, **options: Any) -> Outcome:
    scheme = options.pop("scheme", "http")
    return await send("webhook", batch, deadline_s, url=Secret(f"{scheme}://localhost:{port}/x"), **options)


async def test_an_event_has_falcos_keys_and_every_field(tmp_path: Path) -> None:
    handler, requests = answering(http(204))
    one = alert(output="\x00 \U0001f600 ' \"", fields={"big": 2**80, "none": None, "f": 1.5, "l": [1, "a"]})
    async with serving(handler) as port:
        outcome = await hook([one], port, headers={"X-Key": Secret("s3cret")})
    assert outcome.verdicts == (DONE,)
    first, headers, body = requests[0]
    assert first == "POST /x HTTP/1.1"
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert headers["x-key"] == "s3cret"
    assert headers["user-agent"].startswith("tercel/")
    assert json.loads(body) == {
        "uuid": one.id, "output": one.output, "priority": "Notice", "rule": one.rule, "hostname": "web1",
        "time": "2026-09-21T14:13:20.123456789Z", "output_fields": one.fields, "source": "syscall",
        "tags": ["container", "shell"],
    }  # fmt: skip


@pytest.mark.parametrize(("format_", "parts"), [("single", 3), ("ndjson", 1), ("array", 1)])
async def test_forms_of_several(format_: str, parts: int) -> None:
    handler, requests = answering(http(200))
    given = alerts(3)
    async with serving(handler) as port:
        outcome = await hook(given, port, format=format_)
    assert outcome.verdicts == (DONE,) * 3
    assert len(requests) == parts
    text = b"".join(body for _, _, body in requests).decode()
    found = (
        json.loads(text)
        if format_ == "array"
        else [json.loads(x) for x in text.replace("}{", "}\n{").strip().split("\n")]
    )
    assert [one["uuid"] for one in found] == [one.id for one in given]


async def test_one_connection_serves_many_requests() -> None:
    connections = 0
    handler, requests = answering(http(200))

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await handler(reader, writer)

    async with serving(counted) as port:
        await hook(alerts(20), port)
    assert (connections, len(requests)) == (1, 20)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(200, DONE), (201, DONE), (202, DONE), (204, DONE), (301, AGAIN), (302, AGAIN), (400, NEVER), (401, AGAIN),
     (403, AGAIN), (404, AGAIN), (408, AGAIN), (413, NEVER),
     (422, NEVER), (425, AGAIN), (429, AGAIN), (500, AGAIN), (503, AGAIN)],
)  # fmt: skip
async def test_what_an_answer_means(status: int, verdict: Verdict) -> None:
    handler, requests = answering(
        http(status, b"because\x1b[31m\n so", Location="http://127.0.0.1:1/", Retry_After="7")
    )
    async with serving(handler) as port:
        outcome = await hook(alerts(1), port)
    assert outcome.verdicts == (verdict,)
    assert len(requests) == 1
    if verdict is not DONE:
        assert outcome.reason == f"answer {status}: because\\x1b[31m so"
        assert outcome.retry_after_s == 7


async def test_an_error_in_the_middle_keeps_what_is_done() -> None:
    handler, _ = answering(http(200), http(200), http(429))
    async with serving(handler) as port:
        outcome = await hook(alerts(4), port)
    assert outcome.verdicts == (DONE, DONE, AGAIN, AGAIN)


def test_retry_after_as_number_and_date() -> None:
    assert retry_after({"retry-after": "12"}) == 12
    assert retry_after({"retry-after": "99999999"}) == 86_400
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({"retry-after": "-3"}) is None
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    for byte in http(200, b"x" * 1000):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


async def test_a_server_that_drips_meets_the_deadline() -> None:
    async with serving(drip) as port:
        with pytest.raises(TimeoutError):
            await hook(alerts(1), port, 0.3)


async def test_an_endless_answer_is_cut() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            await writer.drain()

    async with serving(endless) as port:
        outcome = await hook(alerts(1), port)
    assert outcome.verdicts == (AGAIN,)


CLOSED_AT = [b"", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", b"garbage\r\n\r\n"]


@pytest.mark.parametrize("part", CLOSED_AT)
async def test_a_server_that_closes_half_way_raises(part: bytes) -> None:
    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(part)

    async with serving(closes) as port:
        with pytest.raises(Exception, match=r".") as error:
            await hook(alerts(1), port)
    assert type(error.value).__module__.startswith("httpx")


async def test_a_server_that_resets_raises() -> None:
    async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(10)
        writer.transport.abort()

    async with serving(resets) as port:
        with pytest.raises(Exception, match=None) as error:
            await hook(alerts(1), port)
    assert type(error.value).__module__.startswith("httpx")


async def test_a_connection_that_the_server_has_closed_meanwhile_is_made_anew() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(http(200))
        await writer.drain()

    kind = kinds()["webhook"]
    async with serving(once) as port:
        client = kind.connect(WebhookOptions(url=Secret(f"http://127.0.0.1:{port}/")))
        for _ in range(3):
            assert (await client.send(alerts(1))).verdicts == (DONE,)
            await asyncio.sleep(0.05)
        await client.close()


async def test_nobody_listens_and_no_such_name() -> None:
    for url in ("http://127.0.0.1:1/", "http://no-such-host.invalid/"):
        with pytest.raises(Exception, match=r".") as error:
            await send("webhook", alerts(1), url=Secret(url))
        assert type(error.value).__module__.startswith("httpx")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def tls(folder: Path, name: str, client_ca: str = "") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(folder / client_ca)
    return context


async def test_tls_with_certificates_of_both_sides(certificates: Path) -> None:
    handler, requests = answering(http(200))
    ours = {"client_cert": certificates / "client.pem", "client_key": certificates / "client.key"}
    async with serving(handler, tls(certificates, "server", "ca.pem")) as port:
        outcome = await hook(alerts(1), port, scheme="https", ca_file=certificates / "ca.pem", **ours)
        assert outcome.verdicts == (DONE,)
        with pytest.raises(Exception, match=None) as error:
            await hook(alerts(1), port, scheme="https", ca_file=certificates / "ca.pem")
        assert "http" in type(error.value).__module__
    assert len(requests) == 1


@pytest.mark.parametrize(("server", "ca"), [("other", "ca.pem"), ("server", "stranger.pem"), ("expired", "ca.pem")])
async def test_a_certificate_that_is_not_good_is_refused(certificates: Path, server: str, ca: str) -> None:
    if server == "expired" and not (certificates / "expired.pem").exists():
        expire(certificates)
    handler, requests = answering(http(200))
    async with serving(handler, tls(certificates, server)) as port:
        with pytest.raises(Exception, match="certificate"):
            await hook(alerts(1), port, scheme="https", ca_file=certificates / ca)
        assert not requests
        outcome = await hook(alerts(1), port, scheme="https", checkcert=False)
        assert outcome.verdicts == (DONE,)


def expire(folder: Path) -> None:
    """A certificate of the authority that was good until yesterday."""
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    subprocess.run(
        ["faketime", "-f", "-10d", "openssl", "req", "-x509", "-CA", "ca.pem", "-CAkey", "ca.key", "-newkey", "ec",
         "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", "expired.key", "-out", "expired.pem", "-days", "9",
         "-subj", "/CN=expired", "-addext", names, "-addext", "basicConstraints=critical,CA:FALSE"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip


def test_options_take_no_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        asyncio.run(send("webhook", alerts(1), url=Secret("https://127.0.0.1:1/"), ca_file=tmp_path / "nothing"))


async def test_bulk_names_each_document_and_its_day() -> None:
    handler, requests = answering(http(200, b'{"errors":false}'))
    given = [alert(fields={"evt.time": 1, "evt_time": 2, "evt.time.iso8601": 3}), alert(ts_ns=0)]
    async with serving(handler) as port:
        outcome = await send(
            "elasticsearch", given, url=f"http://127.0.0.1:{port}/", index="alerts", username="u", password=Secret("p")
        )
    assert outcome.verdicts == (DONE, DONE)
    first, headers, body = requests[0]
    assert first.startswith("POST /_bulk?filter_path=")
    assert headers["authorization"] == "Basic dTpw"
    lines = [json.loads(line) for line in body.splitlines()]
    assert lines[0] == {"create": {"_index": "alerts-2026.09.21", "_id": given[0].id}}
    assert lines[2] == {"create": {"_index": "alerts-1970.01.01", "_id": given[1].id}}
    assert lines[1]["@timestamp"] == "2026-09-21T14:13:20.123456789Z"
    assert lines[1]["output_fields"] == {"evt_time": 1, "evt_time_": 2, "evt_time_iso8601": 3}


async def test_bulk_judges_each_document() -> None:
    items = [
        {"create": {"status": status, "error": {"type": "t", "reason": "r"}}} for status in (201, 409, 429, 400, 503)
    ]
    handler, _ = answering(http(200, json.dumps({"errors": True, "items": items}).encode()))
    async with serving(handler) as port:
        outcome = await send("elasticsearch", alerts(5), url=f"http://127.0.0.1:{port}")
    assert outcome.verdicts == (DONE, DONE, AGAIN, NEVER, AGAIN)
    assert outcome.reason == "429 t: r"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"errors":true,"items":[]}', b'{"errors":true,"items":[{}]}'])
async def test_an_answer_that_is_none_of_bulk_is_tried_again(body: bytes) -> None:
    handler, _ = answering(http(200, body))
    async with serving(handler) as port:
        outcome = await send("elasticsearch", alerts(1), url=f"http://127.0.0.1:{port}")
    assert outcome.verdicts == (AGAIN,)


def test_every_type_says_what_it_is() -> None:
    for name, kind in kinds().items():
        assert name == kind.name
        assert kind.title and kind.category and kind.doc.endswith(".") and kind.delivered.endswith(".")
    assert issubclass(kinds()["elasticsearch"].options, ElasticsearchOptions)
