"""Alerts by HTTPS to a real server: nginx with a certificate of ours, which wants one from the client."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.config.settings import HttpOutput
from appliance.model.wire import Format
from appliance.sinks.http import HttpSink
from appliance.sinks.spool import Limits, Spool
from tests.support.docker import end, serve
from tests.support.receivers import free_port, http_receiver, listens, wait_until
from tests.support.sinks import HOSTILE, alert

_CONFIG = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; user root;
events {{ worker_connections 64; }}
http {{
  log_format told escape=json '{{"connection": $connection, "id": "$http_tercel_alert_id", "status": $status,'
    '"type": "$content_type", "client": "$ssl_client_s_dn", "body": "$request_body"}}';
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; access_log off; client_body_buffer_size 1m;
  client_body_in_single_buffer on; client_max_body_size 100k;
  server {{ listen 127.0.0.1:{inner}; location / {{ return 200 ok; }} }}
  server {{
    listen 127.0.0.1:{port} ssl; ssl_certificate {c}/server.pem; ssl_certificate_key {c}/server.key;
    ssl_client_certificate {c}/ca.pem; ssl_verify_client on; access_log {folder}/access.log told;
    location / {{ proxy_pass http://127.0.0.1:{inner}; }}
  }}
}}
"""


@contextmanager
def nginx(folder: Path, certificates: Path) -> Iterator[tuple[str, Path]]:
    """Its address, and the log with a JSON object for each request."""
    port, inner = free_port(), free_port()
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, port=port, inner=inner, c=certificates))
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    process = serve([program, "-c", config, "-e", folder / "error.log"], folder / "nginx.out")
    try:
        wait_until(lambda: listens(port) and listens(inner), "nginx's ports")
        yield f"https://localhost:{port}/", folder / "access.log"
    finally:
        end(process)


def told(log: Path) -> list[dict[str, Any]]:
    lines = log.read_text().split("\n")[:-1] if log.exists() else []  # what follows the last line end is being written
    return [json.loads(line) for line in lines]


def settings(url: str, certificates: Path, **more: Any) -> HttpOutput:
    return HttpOutput(
        enabled=True, url=url, ca_cert=str(certificates / "ca.pem"), mtls=True, timeout_ms=60_000,
        client_cert=str(certificates / "client.pem"), client_key=str(certificates / "client.key"), **more,
    )  # fmt: skip


@pytest.mark.parametrize("keep_alive", [True, False])
def test_alerts_reach_nginx(tmp_path: Path, certificates: Path, keep_alive: bool) -> None:
    with nginx(tmp_path, certificates) as (url, log):
        sink = HttpSink(settings(url, certificates, keep_alive=keep_alive), Format())
        spool = Spool(sink, tmp_path / "spool", Limits(), capacity=100)
        spool.start()
        for n in range(20):
            spool.submit(alert(n))
        spool.submit(alert(20, output=HOSTILE, fields={"proc.name": HOSTILE}))
        spool.submit(alert(21, output="x" * 60_000, fields={"a": "y" * 60_000}))  # 413 Request Entity Too Large
        wait_until(lambda: spool.stats().waiting == 0, "delivery")
        stats = spool.end(time.monotonic() + 5)
        wait_until(lambda: len(told(log)) == 22, "the log")
    assert (stats.delivered, stats.dead) == (21, 1)
    requests = told(log)
    assert [r["id"] for r in requests] == [f"web1:boot:{n}" for n in range(22)]
    assert [r["status"] for r in requests] == [200] * 21 + [413]
    assert {r["client"] for r in requests} == {"CN=client"}
    assert [json.loads(r["body"])["output_fields"]["fd.num"] for r in requests[:20]] == list(range(20))
    assert (len({r["connection"] for r in requests[:21]}) == 1) is keep_alive


@pytest.mark.parametrize(("form", "kind"), [("lines", "application/x-ndjson"), ("array", "application/json")])
def test_several_alerts_in_one_request(tmp_path: Path, form: str, kind: str) -> None:
    with http_receiver() as receiver:
        sink = HttpSink(
            HttpOutput(enabled=True, url=receiver.url, batch=10, batch_format=form, timeout_ms=60_000), Format()
        )
        receiver.answers = [503]
        spool = Spool(sink, tmp_path / "spool", Limits(retry_max_s=0.3), capacity=100)
        for n in range(25):
            spool.submit(alert(n))
        spool.start()
        wait_until(lambda: spool.stats().delivered == 25, "delivery")
        spool.end(time.monotonic() + 5)
    ids = [h["Tercel-Alert-Id"].split(", ") for h in receiver.headers]
    assert [i for several in ids for i in several] == [f"web1:boot:{n}" for n in range(25)]
    assert max(map(len, ids)) == 10
    assert {h["Content-Type"] for h in receiver.headers} == {f"{kind}; charset=utf-8"}
    for body, several in zip(receiver.bodies, ids, strict=True):
        text = body.decode()
        documents = json.loads(text) if form == "array" else [json.loads(line) for line in text.splitlines()]
        assert len(documents) == len(several)
