"""Outputs against real servers: each alert is there once, with its own time and every field, read by the server's own
client."""

from __future__ import annotations

import asyncio
import gzip
import json
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from appliance.config.settings import Secret
from appliance.hub.alert import HubAlert
from appliance.hub.outputs.base import Outcome, Verdict
from appliance.hub.outputs.event import event
from appliance.hub.outputs.table import kinds
from tests.hub.alerts import START_NS, hub_alert
from tests.support import services
from tests.support.certificates import make_certificates
from tests.support.receivers import remote_rsyslog, wait_until

_TEXTS = [
    'a "quote" \\ back=slash, comma|pipe',
    "zwei\nZeilen\r\n",
    "ünïcödé \u2028 😀",
    "x" * 5000,
    "@here <b>&amp;</b>",
    "^~`$()",
]
ALERTS: Sequence[HubAlert] = [
    hub_alert(
        n,
        ts_ns=START_NS + n * 1_000_000_007,
        hostname=f"web{n % 3}",
        output=f"alert {n}: {text}",
        fields={
            "proc.cmdline": text,
            "proc.pid": 4000 + n,
            "evt.time": START_NS + n * 1_000_000_007,
            "user.name": None,
            "container.image": "nginx",
            "container.image.repository": "docker.io/nginx",
            "fd.types": ["file", "ipv4"],
            "evt.is_wait": True,
            "evt.latency": 1.5,
            "big": 2**62 + n,
        },
    )
    for n, text in enumerate(_TEXTS, 1)
]
EVENTS: Mapping[str, Any] = {alert.id: json.loads(json.dumps(event(alert))) for alert in ALERTS}


async def deliver(type_: str, batch: Sequence[HubAlert] = ALERTS, **options: Any) -> Outcome:
    """A batch as the engine sends it, in parts of the type's size; all of it must be delivered."""
    kind = kinds()[type_]
    made = kind.options(**options)
    client = kind.connect(made)
    size = min(kind.batch_max(made), 1000)
    outcome = Outcome(())
    try:
        for at in range(0, len(batch), size):
            async with asyncio.timeout(60):
                outcome = await client.send(batch[at : at + size])
            assert set(outcome.verdicts) == {Verdict.DONE}, outcome
    finally:
        await client.close()
    return outcome


def by_id(documents: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Events by their id; each must be there once."""
    made = {document["uuid"]: document for document in documents}
    assert len(made) == len(documents), "some came twice"
    return made


@pytest.mark.kernel  # PostgreSQL and RabbitMQ run as users of their own
async def test_postgres(tmp_path: Path) -> None:
    import psycopg

    with services.postgres(tmp_path) as port:
        options = {"host": "127.0.0.1", "port": port, "database": "postgres", "user": "postgres"}
        nul = hub_alert(99, output="nul \x00 here", fields={"a": "b\x00c"})
        await deliver("timescaledb", [*ALERTS, nul], **options)
        await deliver("timescaledb", **options)  # a second time: no second row
        with psycopg.connect(host="127.0.0.1", port=port, dbname="postgres", user="postgres") as connection:
            rows = connection.execute(
                "SELECT id, time_ns, extract(epoch FROM time), rule, priority, output, output_fields, tags, hostname"
                " FROM falco_events"
            ).fetchall()
    assert len(rows) == len(ALERTS) + 1
    found = {row[0]: row for row in rows}
    for alert in ALERTS:
        _, ns, seconds, rule, priority, output, fields, tags, host = found[alert.id]
        assert (ns, rule, priority, output, host) == (alert.ts_ns, alert.rule, "Warning", alert.output, alert.hostname)
        assert abs(float(seconds) - alert.ts_ns / 1e9) < 0.001
        assert fields == EVENTS[alert.id]["output_fields"] and tags == list(alert.tags)
    assert found[nul.id][5] == "nul \u2400 here"


async def test_redis(tmp_path: Path) -> None:
    import redis

    with services.redis(tmp_path) as port:
        address = f"127.0.0.1:{port}"
        await deliver("redis", address=address)
        await deliver("redis", address=address, storagetype="hashmap", key="h")
        await deliver("redis", address=address, storagetype="hashmap", key="h")
        await deliver("redis", address=address, storagetype="stream", key="s")
        with redis.Redis(port=port) as client:
            assert by_id([json.loads(v) for v in client.lrange("falco", 0, -1)]) == EVENTS  # type: ignore[union-attr]
            hashed = client.hgetall("h")
            assert {k.decode(): json.loads(v) for k, v in hashed.items()} == EVENTS  # type: ignore[union-attr]
            stream = client.xrange("s")
            assert by_id([json.loads(entry[1][b"event"]) for entry in stream]) == EVENTS  # type: ignore[union-attr]
            client.set("wrong", "x")
        kind = kinds()["redis"]
        wrong = kind.connect(kind.options(address=address, key="wrong"))
        assert (await wrong.send(ALERTS)).verdicts[0] is Verdict.AGAIN
        await wrong.close()


async def test_nats_jetstream_and_core(tmp_path: Path) -> None:
    import nats

    with services.nats(tmp_path) as port:
        url = f"nats://127.0.0.1:{port}"
        connection = await nats.connect(url)
        stream = connection.jetstream()
        await stream.add_stream(name="falco", subjects=["falco.>"])
        await deliver("nats", hostport=url)
        await deliver("nats", hostport=url)  # the stream drops what comes again
        assert (await stream.stream_info("falco")).state.messages == len(ALERTS)
        reader = await stream.subscribe("falco.warning.read_sensitive_file_untrusted", ordered_consumer=True)
        messages = [await reader.next_msg(timeout=20) for _ in ALERTS]
        assert by_id([json.loads(m.data) for m in messages]) == EVENTS
        assert [json.loads(m.data)["uuid"] for m in messages] == [alert.id for alert in ALERTS]
        core = await connection.subscribe("core.*")
        await connection.flush()
        await deliver("nats", hostport=url, jetstream=False, subjecttemplate="core.<priority>")
        heard = [await core.next_msg(timeout=20) for _ in ALERTS]
        assert by_id([json.loads(m.data) for m in heard]) == EVENTS
        await connection.close()
        kind = kinds()["nats"]
        nobody = kind.connect(kind.options(hostport=url, subjecttemplate="elsewhere"))
        assert (await nobody.send(ALERTS)).verdicts[0] is Verdict.AGAIN
        await nobody.close()


@pytest.mark.kernel
async def test_rabbitmq(tmp_path: Path) -> None:
    import aio_pika

    with services.rabbitmq(tmp_path) as port:
        url = f"amqp://guest:guest@127.0.0.1:{port}/"
        await deliver("rabbitmq", url=Secret(url))
        connection = await aio_pika.connect(url)
        channel = await connection.channel()
        queue = await channel.get_queue("falco")
        messages = [await queue.get(timeout=20) for _ in ALERTS]
        assert by_id([json.loads(m.body) for m in messages if m]) == EVENTS
        assert [m.message_id for m in messages if m] == [alert.id for alert in ALERTS]
        assert all(m and m.delivery_mode == aio_pika.DeliveryMode.PERSISTENT for m in messages)
        await connection.close()
        kind = kinds()["rabbitmq"]
        nobody = kind.connect(kind.options(url=Secret(url), queue="nobody", declare=False))
        assert (await nobody.send(ALERTS)).verdicts[0] is Verdict.AGAIN
        await nobody.close()


async def test_mqtt(tmp_path: Path) -> None:
    import aiomqtt

    with services.mosquitto(tmp_path) as port:
        async with aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5) as reader:
            await reader.subscribe("falco/#", qos=1)
            await deliver("mqtt", broker=f"127.0.0.1:{port}", topic="falco/<hostname>")
            found = []
            async with asyncio.timeout(30):
                async for message in reader.messages:
                    found.append(json.loads(bytes(message.payload)))  # type: ignore[arg-type]
                    if len(found) == len(ALERTS):
                        break
    assert by_id(found) == EVENTS


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.loads(answer.read())


async def test_influxdb(tmp_path: Path) -> None:
    with services.influxdb(tmp_path) as port:
        base = f"http://127.0.0.1:{port}"
        urllib.request.urlopen(f"{base}/query?q=CREATE+DATABASE+falco", data=b"", timeout=20).close()
        await deliver("influxdb", hostport=base)
        await deliver("influxdb", hostport=base)  # the same point again is the same point
        query = urllib.parse.urlencode({"db": "falco", "epoch": "ns", "q": "SELECT * FROM events"})
        series = get(f"{base}/query?{query}")["results"][0]["series"][0]
    rows = [dict(zip(series["columns"], row, strict=True)) for row in series["values"]]
    assert len(rows) == len(ALERTS)
    found = {row["id"]: row for row in rows}
    for alert in ALERTS:
        row = found[alert.id]
        assert row["time"] == alert.ts_ns and row["value"] == alert.output
        assert row["proc.cmdline"] == alert.fields["proc.cmdline"] and row["big"] == alert.fields["big"]
        assert row["hostname"] == alert.hostname and row["evt.latency"] == 1.5 and row["evt.is_wait"] is True


async def test_alertmanager(tmp_path: Path) -> None:
    with services.alertmanager(tmp_path) as port:
        base = f"http://127.0.0.1:{port}"
        wait_until(lambda: bool(get(f"{base}/api/v2/status")), "Alertmanager")
        await deliver("alertmanager", hostport=(base,), expiresafter=3_000_000_000, labelfields=("proc.pid",))
        there = get(f"{base}/api/v2/alerts")
    assert len(there) == len(ALERTS)
    found = {int(entry["labels"]["proc_pid"]): entry for entry in there}
    for alert in ALERTS:
        entry = found[int(str(alert.fields["proc.pid"]))]
        assert entry["annotations"]["description"] == alert.output
        assert entry["labels"]["hostname"] == alert.hostname and entry["labels"]["severity"] == "warning"
        assert entry["startsAt"].startswith(EVENTS[alert.id]["time"][:19])


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """moto, and clients of its services."""
    import boto3

    with services.moto(tmp_path_factory.mktemp("moto")) as port:
        url = f"http://127.0.0.1:{port}"
        common = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        session = boto3.session.Session(**common)  # type: ignore[arg-type]
        yield {
            "options": {"endpoint": url, "accesskeyid": Secret("test"), "secretaccesskey": Secret("test")},
            "client": lambda name: session.client(name, endpoint_url=url),
        }


async def test_s3(aws: Any) -> None:
    client = aws["client"]("s3")
    client.create_bucket(Bucket="falco")
    for _ in range(2):  # the same batch has the same name
        await deliver("awss3", bucket="falco", **aws["options"])
    (entry,) = client.list_objects_v2(Bucket="falco")["Contents"]
    assert entry["Key"].startswith("falco/2026-09-21/")
    data = gzip.decompress(client.get_object(Bucket="falco", Key=entry["Key"])["Body"].read())
    assert by_id([json.loads(part) for part in data.decode().split("\n")[:-1]]) == EVENTS


async def test_sqs(aws: Any) -> None:
    client = aws["client"]("sqs")
    for name, more in (("falco", {}), ("falco.fifo", {"FifoQueue": "true"})):
        url = client.create_queue(QueueName=name, Attributes=more)["QueueUrl"]
        await deliver("awssqs", url=url, **aws["options"])
        if more:  # a fifo queue drops what comes again
            await deliver("awssqs", url=url, **aws["options"])
        found: list[Any] = []
        while True:
            messages = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
            if not messages:
                break
            found += [json.loads(m["Body"]) for m in messages]
            for m in messages:
                client.delete_message(QueueUrl=url, ReceiptHandle=m["ReceiptHandle"])
        assert by_id(found) == EVENTS


async def test_sns(aws: Any) -> None:
    sns, sqs = aws["client"]("sns"), aws["client"]("sqs")
    topic = sns.create_topic(Name="falco")["TopicArn"]
    queue = sqs.create_queue(QueueName="of-sns")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    await deliver("awssns", topicarn=topic, rawjson=True, **aws["options"])
    messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    bodies = [json.loads(m["Body"]) for m in messages]
    assert by_id([json.loads(body["Message"]) for body in bodies]) == EVENTS
    assert bodies[0]["MessageAttributes"]["priority"]["Value"] == "Warning"


async def test_kinesis(aws: Any) -> None:
    client = aws["client"]("kinesis")
    client.create_stream(StreamName="falco", ShardCount=1)
    await deliver("awskinesis", streamname="falco", **aws["options"])
    shard = client.describe_stream(StreamName="falco")["StreamDescription"]["Shards"][0]["ShardId"]
    iterator = client.get_shard_iterator(StreamName="falco", ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    records = client.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
    assert by_id([json.loads(record["Data"]) for record in records]) == EVENTS


async def test_cloudwatch_logs(aws: Any) -> None:
    import time

    client = aws["client"]("logs")
    now = [hub_alert(n, ts_ns=time.time_ns() - n * 1_000_000_000) for n in range(5)]
    await deliver("awscloudwatchlogs", now, loggroup="falco", **aws["options"])
    events = client.get_log_events(logGroupName="falco", logStreamName="falcosidekick-logstream")["events"]
    found = by_id([json.loads(entry["message"]) for entry in events])
    assert set(found) == {alert.id for alert in now}
    assert sorted(e["timestamp"] for e in events) == sorted(alert.ts_ns // 1_000_000 for alert in now)


async def test_a_role_that_is_assumed(aws: Any) -> None:
    aws["client"]("s3").create_bucket(Bucket="by-role")
    await deliver("awss3", bucket="by-role", rolearn="arn:aws:iam::123456789012:role/falco", **aws["options"])
    assert aws["client"]("s3").list_objects_v2(Bucket="by-role")["KeyCount"] == 1


async def test_an_error_of_aws_is_told_with_its_code(aws: Any) -> None:
    kind = kinds()["awss3"]
    client = kind.connect(kind.options(bucket="nowhere", **aws["options"]))
    outcome = await client.send(ALERTS)
    assert outcome.verdicts[0] is Verdict.AGAIN and outcome.reason.startswith("NoSuchBucket")
    await client.close()


class Mailbox:
    """What an SMTP server took."""

    def __init__(self) -> None:
        self.mails: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append((envelope, message_from_bytes(envelope.content, policy=default)))
        return "250 OK"


@pytest.mark.parametrize("security", ["none", "starttls"])
async def test_smtp(tmp_path: Path, security: str) -> None:
    import ssl

    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import AuthResult

    make_certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    box = Mailbox()
    tls = security == "starttls"
    more: dict[str, Any] = {"tls_context": context, "require_starttls": True, "auth_required": True} if tls else {}
    controller = Controller(
        box,
        hostname="127.0.0.1",
        port=services.free_port(),
        auth_require_tls=security != "none",
        authenticator=lambda server, session, envelope, mechanism, data: AuthResult(success=data.password == b"secret"),
        **more,
    )
    controller.start()
    try:
        await deliver(
            "smtp",
            hostport=f"localhost:{controller.port}",
            security=security,
            user="u" if tls else "",
            password=Secret("secret"),
            sender="tercel@example.org",
            to=("a@example.org", "b@example.org"),
            ca_file=tmp_path / "ca.pem",
        )
    finally:
        controller.stop()
    ((envelope, mail),) = box.mails
    assert envelope.rcpt_tos == ["a@example.org", "b@example.org"]
    assert mail["Subject"] == "Warning: Read sensitive file untrusted on web1 (and 5 more)"
    text = mail.get_body(("plain",)).get_content()
    html = mail.get_body(("html",)).get_content()
    assert text.count("proc.pid: ") == len(ALERTS)
    assert "ünïcödé" in text and "<b>&amp;amp;" not in html and "&lt;b&gt;&amp;amp;&lt;/b&gt;" in html


@pytest.mark.parametrize("protocol", ["udp", "tcp", "tls"])
async def test_rsyslog(tmp_path: Path, protocol: str) -> None:
    make_certificates(tmp_path)
    with remote_rsyslog(tmp_path, protocol, tmp_path) as daemon:
        await deliver(
            "syslog",
            host="localhost" if protocol != "udp" else "127.0.0.1",
            port=daemon.port,
            protocol=protocol,
            ca_file=tmp_path / "ca.pem",
        )
        wait_until(lambda: len(daemon.lines()) == len(ALERTS), "the messages")
        found = []
        for line in daemon.lines():
            head, _, text = line.partition(" - ")
            assert head.split(" ")[0] == str(3 * 8 + 4)
            found.append(json.loads(text[text.index("{") :]))
    assert by_id(found) == EVENTS


def search(port: int, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """Ask a search engine."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


@pytest.mark.kernel  # runs as a user of its own
@pytest.mark.parametrize("engine", ["opensearch", "elasticsearch"])
async def test_search_engines(tmp_path: Path, engine: str) -> None:
    start = services.opensearch if engine == "opensearch" else services.elasticsearch
    with start(tmp_path) as port:
        await deliver("elasticsearch", url=f"http://127.0.0.1:{port}")
        await deliver("elasticsearch", url=f"http://127.0.0.1:{port}")  # a second time: the same documents
        search(port, "/_refresh")
        hits = search(port, "/falco-2026.09.21/_search", {"size": 100, "query": {"match": {"rule": "sensitive"}}})[
            "hits"
        ]
        found = {hit["_id"]: hit["_source"] for hit in hits["hits"]}
        assert set(found) == {alert.id for alert in ALERTS}
        for alert in ALERTS:
            document = found[alert.id]
            assert document["output"] == alert.output and document["@timestamp"] == EVENTS[alert.id]["time"]
            fields = {name.replace(".", "_"): value for name, value in EVENTS[alert.id]["output_fields"].items()}
            assert document["output_fields"] == fields
        # one that clashes with the mapping is refused, and the others beside it are not
        clash = hub_alert(50, fields={"proc.pid": "no number"})
        kind = kinds()["elasticsearch"]
        client = kind.connect(kind.options(url=f"http://127.0.0.1:{port}"))
        outcome = await client.send([hub_alert(51), clash, hub_alert(52)])
        await client.close()
        assert outcome.verdicts == (Verdict.DONE, Verdict.NEVER, Verdict.DONE) and "proc_pid" in outcome.reason


async def test_kafka(tmp_path: Path) -> None:
    import confluent_kafka

    with services.kafka(tmp_path) as port:
        address = f"127.0.0.1:{port}"
        await deliver("kafka", hostport=address, compression="zstd")
        settings = {"bootstrap.servers": address, "group.id": "t", "auto.offset.reset": "earliest"}
        reader = confluent_kafka.Consumer(settings)
        reader.subscribe(["falco"])
        messages: list[Any] = []
        while len(messages) < len(ALERTS):
            message = await asyncio.to_thread(reader.poll, 30)
            assert message is not None and message.error() is None, message and message.error()
            messages.append(message)
        assert await asyncio.to_thread(reader.poll, 0.3) is None
        reader.close()
        kind = kinds()["kafka"]
        away = kind.connect(kind.options(hostport=address))
        huge = await away.send([hub_alert(60, output="x" * 12_000_000), hub_alert(61)])
        assert huge.verdicts == (Verdict.NEVER, Verdict.DONE)
        await away.close()
    assert by_id([json.loads(m.value()) for m in messages]) == EVENTS
    for m in messages:
        one = json.loads(m.value())
        assert m.key().decode() == one["hostname"]
        assert dict(m.headers())["id"].decode() == one["uuid"]
    for host in ("web0", "web1", "web2"):  # in order for each host
        ids = [json.loads(m.value())["uuid"] for m in messages if m.key().decode() == host]
        assert ids == [alert.id for alert in ALERTS if alert.hostname == host]


async def test_loki_bulk_and_lines_to_victorialogs(tmp_path: Path) -> None:
    with services.victoria_logs(tmp_path) as port:
        base = f"http://127.0.0.1:{port}"
        await deliver("loki", url=base, endpoint="/insert/loki/api/v1/push")
        await deliver("victorialogs", url=base)

        def rows(query: str) -> list[Any]:
            data = urllib.parse.urlencode({"query": query, "limit": "1000"}).encode()
            with urllib.request.urlopen(f"{base}/select/logsql/query", data, timeout=20) as answer:
                return [json.loads(part) for part in answer.read().decode().split("\n") if part]

        wait_until(lambda: len(rows("*")) == 2 * len(ALERTS), "both")
        pushed = [row for row in rows("*") if row["_msg"].startswith("{") or ("uuid" in row and "priority" in row)]
        lines = {row["uuid"]: row for row in rows("uuid:*")}
        assert set(lines) == {alert.id for alert in ALERTS} and pushed
        for alert in ALERTS:
            assert lines[alert.id]["_time"] == EVENTS[alert.id]["time"]
            assert lines[alert.id]["hostname"] == alert.hostname
            assert lines[alert.id]["output_fields.proc.pid"] == str(alert.fields["proc.pid"])


async def test_influxdb_of_version_2(tmp_path: Path) -> None:
    """VictoriaMetrics keeps the numbers; a 204 says that it could read all of the lines."""
    with services.victoria_metrics(tmp_path) as port:
        base = f"http://127.0.0.1:{port}"
        await deliver(
            "influxdb", hostport=base, organization="o", bucket="b", token=Secret("t"), tags=("proc.pid",), lines=True
        )
        data = urllib.parse.urlencode({"match[]": '{__name__="events_evt.latency"}'})
        urllib.request.urlopen(f"{base}/internal/force_flush", timeout=20).close()
        with urllib.request.urlopen(f"{base}/api/v1/export?{data}", timeout=20) as answer:
            series = [json.loads(part) for part in answer.read().decode().split("\n") if part]
    found = {one["metric"]["proc.pid"]: one for one in series}
    assert len(found) == len(ALERTS)
    for alert in ALERTS:
        one = found[str(alert.fields["proc.pid"])]
        assert one["values"] == [1.5] and one["timestamps"] == [alert.ts_ns // 1_000_000]
        assert one["metric"]["hostname"] == alert.hostname and one["metric"]["rule"] == alert.rule


async def test_statsd(tmp_path: Path) -> None:
    with services.statsd_exporter(tmp_path) as (port, page):
        await deliver("statsd", forwarder=f"127.0.0.1:{port}")
        await deliver("dogstatsd", forwarder=f"127.0.0.1:{port}", tags=("team:sec",))

        def lines() -> list[str]:
            with urllib.request.urlopen(f"http://127.0.0.1:{page}/metrics", timeout=20) as answer:
                return [line for line in answer.read().decode().split("\n") if line.startswith("falcosidekick_")]

        wait_until(lambda: len(lines()) == 4, "the counters")
        found = lines()
    assert "falcosidekick_falco_accepted_syscall_warning_read_sensitive_file_untrusted 6" in found
    assert sum(int(line.rpartition(" ")[2]) for line in found if 'team="sec"' in line) == len(ALERTS)
    assert any('hostname="web1"' in line and 'rule="read_sensitive_file_untrusted"' in line for line in found)


async def test_azure_blobs(tmp_path: Path) -> None:
    from azure.storage.blob import BlobServiceClient

    with services.azurite(tmp_path) as port:
        key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
        text = (
            f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={key};"
            f"BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
        )
        for _ in range(2):
            await deliver("azureblob", connectionstring=Secret(text))
        service = BlobServiceClient.from_connection_string(text)
        container = service.get_container_client("falco")
        (name,) = [blob.name for blob in container.list_blobs()]
        data = gzip.decompress(container.download_blob(name).readall())
        service.close()
    assert by_id([json.loads(part) for part in data.decode().split("\n")[:-1]]) == EVENTS
