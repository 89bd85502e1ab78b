"""Hostile alerts into real servers: each arrives intact, or is refused with a reason; no connection is lost.

1,000 for each server; 10,000 with TERCEL_NIGHTLY.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from appliance.hub.alert import HubAlert, JsonValue
from appliance.hub.outputs import metrics
from appliance.hub.outputs.base import Outcome, Verdict
from appliance.hub.outputs.event import event, to_bytes
from appliance.hub.outputs.lines import cef
from appliance.hub.outputs.table import kinds
from appliance.hub.outputs.words import MARK, text_of
from appliance.model.alert import Priority
from tests.hub.alerts import START_NS
from tests.support import services
from tests.support.receivers import remote_rsyslog, wait_until

COUNT = 10_000 if os.environ.get("TERCEL_NIGHTLY") else 1_000
_REQUEST_BYTES = 4 << 20  # as the engine splits
_PIECES = [
    "\x00",
    '"',
    "'",
    ",",
    "\n",
    "\r\n",
    "\r",
    "\\",
    "\\u0000",
    "\\n",
    "=",
    "|",
    " ",
    "  ",
    "\t",
    "\x1b[31m",
    "\x7f",
    "\x85",
    "%00",
    "${x}",
    "{{ 7*7 }}",
    "]]>",
    "<b>",
    "--",
    ";DROP",
    "\u2028",
    "\ufeff",
    "\u202e",
    "\ufffd",
    "\uffff",
    "é",
    "ß",
    "漢字",
    "😀",
    "\U0010ffff",
    "a",
    "cat",
    "/etc/shadow",
    "0",
    "1e5",
    "null",
    "CEF:0|",
    "<13>1 ",
    "\u2400",
    "^",
    "]",
    "[",
    ":",
    "#",
]
_NUMBERS: Sequence[JsonValue] = [
    0,
    -1,
    2**31,
    2**53 + 1,
    2**63 - 1,
    -(2**63),
    2**63,
    2**64 - 1,
    2**64,
    -(2**70),
    10**30,
    10**400,
    1.5,
    -2.25,
    1e308,
    1e-300,
    5e-324,
    0.1,
    True,
    False,
    None,
]
_KEYS = [
    "proc.cmdline",
    "proc.pid",
    "evt.time",
    "fd.name",
    "",
    " ",
    ".",
    "..",
    "a.",
    ".a",
    "a..b",
    "a b",
    "a=b",
    "a,b",
    'a"b',
    "a'b",
    "a\\b",
    "a\nb",
    "\x00",
    "a\x00b",
    "_id",
    "_source",
    "@timestamp",
    "time",
    "value",
    "id",
    "rule",
    "tags",
    "$ref",
    "a[0]",
    "é",
    "漢",
    "😀",
    "k" * 300,
    "%s",
    "{x}",
    "-",
    "a|b",
    "\u2028",
    "proc_cmdline",
    "field.value",
]


def _text(draw: random.Random, most: int = 12) -> str:
    return "".join(draw.choice(_PIECES) for _ in range(draw.randrange(most)))


def _nested(draw: random.Random) -> JsonValue:
    choices: Sequence[JsonValue] = [[], ["a", 1, None, _text(draw)], {"a": {"b": [_text(draw)]}}, {}, [[1], [2.5]]]
    return draw.choice(choices)


def _value(draw: random.Random) -> JsonValue:
    kind = draw.random()
    return _text(draw) if kind < 0.7 else draw.choice(_NUMBERS) if kind < 0.95 else _nested(draw)


def _typed(draw: random.Random, key: str) -> JsonValue:
    """A value of the key's own type, as rules have it, but for a few: search engines and InfluxDB hold a field to the
    type that it had first."""
    if draw.random() < 0.003:
        return _value(draw)
    kind = _KEYS.index(key) % 4
    return draw.choice([0, -1, 2**53 + 1, 2**63 - 1]) if kind == 1 else draw.random() if kind == 2 else _text(draw)


def fuzzed(count: int, seed: int = 15, *, typed: bool = False) -> Sequence[HubAlert]:
    """The same alerts for the same seed; each has an id and a time of its own. `typed`: nearly all values of a key have
    one type."""
    draw = random.Random(seed)
    made = []
    for n in range(count):
        keys = [draw.choice(_KEYS) for _ in range(draw.randrange(8))]
        fields = {key: _typed(draw, key) if typed else _value(draw) for key in keys}
        if n % 250 == 7:
            fields["proc.cmdline"] = "".join(draw.choice(_PIECES) for _ in range(1000)) * 400  # about 1 MB
        if n % 250 == 9:
            fields["big"] = "x" * 1_000_000
        if n == 11:
            fields = {f"f{i}.{i % 7}": i for i in range(10_000)}
        odd = draw.choice(["", "", "", "é" * 256, " b", '"', "\x00", "\\", "\n", "|", "#1"])
        made.append(
            HubAlert(
                n + 1,
                f"{n}{odd}"[:256],
                START_NS + n * 1_000_001,
                START_NS,
                draw.choice(["", "web1", "wéb 2", "a\x00b", 'h"', "h\\", "h\n", "h" * 300]),
                draw.choice(["Read sensitive file untrusted", _text(draw) or "r", "r" * 2000]),
                draw.choice(list(Priority)),
                draw.choice(["syscall", "k8s_audit", _text(draw) or "s"]),
                tuple(_text(draw) for _ in range(draw.randrange(3))),
                _text(draw, 40),
                fields,
            )
        )
    return made


async def send_all(type_: str, alerts: Sequence[HubAlert], **options: Any) -> Mapping[str, str]:
    """Send as the engine does: 4 MiB in a request, a batch that is refused as a whole is halved. Gives the reason for
    each alert that is refused. An exception or `AGAIN` would stop the output at this alert for ever."""
    kind = kinds()[type_]
    made = kind.options(**options)
    client = kind.connect(made)
    refused: dict[str, str] = {}

    async def send(batch: Sequence[HubAlert]) -> None:
        async with asyncio.timeout(60):
            outcome: Outcome = await client.send(batch)
        assert Verdict.AGAIN not in outcome.verdicts, (outcome.reason, [a.id for a in batch][:3])
        if len(batch) > 1 and set(outcome.verdicts) == {Verdict.NEVER}:
            middle = len(batch) // 2
            await send(batch[:middle])
            await send(batch[middle:])
            return
        for alert, verdict in zip(batch, outcome.verdicts, strict=True):
            if verdict is Verdict.NEVER:
                assert outcome.reason, "a refusal says why"
                refused[alert.id] = outcome.reason

    try:
        batch: list[HubAlert] = []
        size = 0
        for alert in alerts:
            length = len(to_bytes(event(alert)))
            if batch and (len(batch) >= min(kind.batch(made), kind.batch_max(made)) or size + length > _REQUEST_BYTES):
                await send(batch)
                batch, size = [], 0
            batch.append(alert)
            size += length
        await send(batch)
    finally:
        await client.close()
    return refused


def as_json(value: Any) -> Any:
    """As a receiver of JSON reads it."""
    return json.loads(json.dumps(value))


ALERTS = fuzzed(COUNT)
TYPED = fuzzed(COUNT, typed=True)


def events_of(alerts: Sequence[HubAlert]) -> Mapping[str, Any]:
    """The events by id, as JSON has them."""
    return {alert.id: as_json(event(alert)) for alert in alerts}


def account(alerts: Sequence[HubAlert], found: Mapping[str, Any], refused: Mapping[str, str], most: float) -> None:
    """Each alert is there or refused, none is both; at most a part is refused."""
    assert set(found) | set(refused) == {alert.id for alert in alerts}
    assert not set(found) & set(refused)
    print(f"{len(found)} arrived, {len(refused)} refused: {sorted({r[:100] for r in refused.values()})[:8]}")
    assert len(refused) <= most * len(alerts)


async def test_kafka(tmp_path: Path) -> None:
    import confluent_kafka

    with services.kafka(tmp_path) as port:
        address = f"127.0.0.1:{port}"
        refused = await send_all("kafka", ALERTS, hostport=address, compression="zstd")
        reader = confluent_kafka.Consumer(
            {"bootstrap.servers": address, "group.id": "t", "auto.offset.reset": "earliest"}
        )
        reader.subscribe(["falco"])
        found: dict[str, Any] = {}
        while len(found) < len(ALERTS) - len(refused):
            message = await asyncio.to_thread(reader.poll, 30)
            assert message is not None and message.error() is None, message and message.error()
            document = json.loads(message.value() or b"")
            assert document["uuid"] not in found
            found[document["uuid"]] = document
        reader.close()
    account(ALERTS, found, refused, 0)
    assert found == events_of(ALERTS)


@pytest.mark.kernel  # runs as a user of its own
async def test_postgres(tmp_path: Path) -> None:
    import psycopg

    def pictured(value: Any) -> Any:
        """U+0000, which PostgreSQL has in no text, as its picture."""
        return json.loads(json.dumps(value, ensure_ascii=False).replace("\\\\", "\\u005c").replace("\\u0000", "\u2400"))

    def exact(value: Any) -> Any:
        """Numbers as jsonb keeps them: by value, without a type."""
        if isinstance(value, dict):
            return {name: exact(item) for name, item in value.items()}
        if isinstance(value, list):
            return [exact(item) for item in value]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if number and abs(value) < 10**309 and abs(value) >= 2**53 else value

    with services.postgres(tmp_path) as port:
        options = {"host": "127.0.0.1", "port": port, "database": "postgres", "user": "postgres"}
        refused = await send_all("timescaledb", ALERTS, **options)
        with psycopg.connect(host="127.0.0.1", port=port, dbname="postgres", user="postgres") as connection:
            rows = connection.execute(
                "SELECT id, time_ns, rule, priority, source, hostname, tags, output, output_fields FROM falco_events"
            ).fetchall()
    by_ns = {alert.ts_ns: alert for alert in ALERTS}
    found = {}
    for _, ns, *rest in rows:
        alert = by_ns[ns]
        wanted = [alert.rule, alert.priority.label, alert.source, alert.hostname, list(alert.tags), alert.output]
        assert rest[:-1] == pictured(wanted)
        assert exact(rest[-1]) == exact(pictured(as_json(alert.fields))), alert.id
        found[alert.id] = rest
    assert len(found) == len(rows)
    account(ALERTS, found, refused, 0)


@pytest.mark.kernel  # runs as a user of its own
async def test_opensearch(tmp_path: Path) -> None:
    with services.opensearch(tmp_path) as port:
        base = f"http://127.0.0.1:{port}"
        refused = await send_all("elasticsearch", TYPED, url=base)
        found: dict[str, Any] = {}

        def ask(path: str, body: Mapping[str, Any]) -> Any:
            request = urllib.request.Request(
                base + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())

        ask("/_refresh", {})
        page = ask("/falco-*/_search?scroll=1m", {"size": 500})
        while page["hits"]["hits"]:
            for hit in page["hits"]["hits"]:
                document = hit["_source"]
                assert document["uuid"] not in found
                found[document["uuid"]] = document
            page = ask("/_search/scroll", {"scroll": "1m", "scroll_id": page["_scroll_id"]})
    account(TYPED, found, refused, 0.3)
    events = events_of(TYPED)
    for id_, document in found.items():
        wanted = events[id_]
        assert document.pop("@timestamp") == wanted["time"]
        values = list(document.pop("output_fields").values())
        assert values == list(wanted["output_fields"].values()), id_
        assert document == {name: value for name, value in wanted.items() if name != "output_fields"}


async def test_influxdb(tmp_path: Path) -> None:
    with services.influxdb(tmp_path) as port:
        base = f"http://127.0.0.1:{port}"
        urllib.request.urlopen(f"{base}/query?q=CREATE+DATABASE+falco", data=b"", timeout=20).close()
        refused = await send_all("influxdb", TYPED, hostport=base)
        query = urllib.parse.urlencode({"db": "falco", "epoch": "ns", "q": "SELECT * FROM events"})
        with urllib.request.urlopen(f"{base}/query?{query}", timeout=60) as answer:
            series = json.loads(answer.read())["results"][0]["series"][0]
    by_ns = {alert.ts_ns: alert for alert in TYPED}
    found: dict[str, Any] = {}
    for row in series["values"]:
        point = {name: value for name, value in zip(series["columns"], row, strict=True) if value is not None}
        alert = by_ns[point["time"]]
        found[alert.id] = point
        assert same(point["value"], alert.output) and same(point["id"], alert.id)
        values = {key: value for key, value in metrics.points_of(alert).items() if value is not None}
        for key, value in values.items():
            assert same(point[key], value), (alert.id, key)
    account(TYPED, found, refused, 0.3)


def same(found: Any, value: JsonValue) -> bool:
    """Intact; or a text beyond InfluxDB's 64 KiB, which ends in a mark."""
    large = isinstance(value, int | float) and not -(2**63) <= value < 2**63
    if isinstance(value, str | list | dict) or large:
        text = text_of(value)
        return bool(found == text or (len(text) > 20_000 and found[-1:] == MARK and text.startswith(found[:-1])))
    return bool(found == value)


@pytest.mark.parametrize("format_", ["json", "cef"])
async def test_rsyslog(tmp_path: Path, format_: str) -> None:
    most = 150_000
    with remote_rsyslog(tmp_path, "tcp", tmp_path) as daemon:
        options = {"host": "127.0.0.1", "port": daemon.port, "protocol": "tcp", "format": format_, "maxbytes": most}
        refused = await send_all("syslog", ALERTS, **options)
        wait_until(lambda: len(daemon.lines()) >= len(ALERTS) - len(refused), "the messages", 60)
        lines = daemon.lines()
    assert len(lines) == len(ALERTS) - len(refused), "none in two, none missing"
    by_id = {alert.id: alert for alert in ALERTS}
    found: dict[str, Any] = {}
    for line in lines:
        if format_ == "json":
            document = json.loads(line[line.index("{") :])
            found[document["uuid"]] = document
        else:
            header, values = parse_cef(line[line.index("CEF:0|") :])
            found[_id_of(values["externalId"])] = (header, values)
    account(ALERTS, found, refused, 0.02)
    if format_ == "json":
        events = events_of(ALERTS)
        assert all(found[id_] == events[id_] for id_ in found)
    else:
        for id_, (header, values) in found.items():
            check_cef(by_id[id_], header, values)


_CEF_KEY = re.compile(r"(?:^| )([A-Za-z0-9_.]+)=")


def _id_of(id_: str) -> str:
    """The id of the alert whose id begins with the same number: CEF shows control characters of an id otherwise."""
    return IDS[int(re.match(r"[0-9]+", id_)[0])]  # type: ignore[index]


IDS = [alert.id for alert in ALERTS]


def parse_cef(text: str) -> tuple[Sequence[str], Mapping[str, str]]:
    """A strict parser: seven parts of a header, then pairs; a backslash escapes what the format says, nothing else."""
    parts, at = [], 0
    for _ in range(7):
        part = ""
        while text[at] != "|":
            if text[at] == "\\":
                at += 1
                assert text[at] in "\\|", "no such escape in a header"
            part += text[at]
            at += 1
        parts.append(part)
        at += 1
    values: dict[str, str] = {}
    rest = text[at:]
    keys = list(_CEF_KEY.finditer(rest))
    for key, after in zip(keys, [*keys[1:], None], strict=True):
        raw = rest[key.end() : after.start() if after else len(rest)]
        assert not re.search(r"(?<!\\)(?:\\\\)*=", raw) and "\n" not in raw
        assert not re.sub(r"\\[\\=nr]", "", raw).count("\\"), "no such escape in a value"
        assert key[1] not in values, "a key comes twice"
        values[key[1]] = re.sub(r"\\(.)", lambda m: {"n": "\n", "r": "\r"}.get(m[1], m[1]), raw)
    return parts, values


def check_cef(alert: HubAlert, header: Sequence[str], values: Mapping[str, str]) -> None:
    """Every text of the alert is there."""
    assert header[4] == header[5] == _lines(re.sub(r"[\r\n]+", " ", alert.rule))
    assert values.get("msg", "") == _lines(alert.output)
    left = sorted(values.values())
    for value in alert.fields.values():
        if value is not None and text_of(value):
            left.remove(_lines(text_of(value)))


def _lines(text: str) -> str:
    """CEF has one line end for two characters, and control characters are shown as their pictures."""
    made = text.replace("\r\n", "\n")
    return "".join(
        c if c in "\r\n" else "\u2421" if c == "\x7f" else chr(0x2400 + ord(c)) if c < " " else c for c in made
    )


def test_cef_of_every_fuzzed_alert() -> None:
    for alert in ALERTS:
        check_cef(alert, *parse_cef(cef(alert)))
