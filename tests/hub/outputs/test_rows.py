"""Every HTTP output: its request is the golden one, stays within what the vendor documents, and survives any text."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config.settings import Secret
from appliance.hub.alert import HubAlert
from appliance.hub.outputs import alerting, chat, elasticsearch, functions, logs, metrics, webhook
from appliance.hub.outputs.base import Answer, Request
from appliance.hub.outputs.http import Row
from appliance.hub.outputs.metrics import line
from appliance.hub.outputs.table import kinds
from appliance.model.alert import Priority
from tests.hub.alerts import START_NS, hub_alert

GOLDEN = Path(__file__).parent / "golden"
ROWS: Mapping[str, Row] = {
    row.name: row
    for row in (
        webhook.ROW,
        elasticsearch.ROW,
        *logs.ROWS,
        *metrics.ROWS,
        *alerting.ROWS,
        *chat.ROWS,
        *functions.ROWS,
    )
}
_S = Secret("s3cret")
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "webhook": {"url": Secret("https://x.test/hook")},
    "elasticsearch": {"url": "https://x.test"},
    "loki": {"url": "https://x.test", "extralabels": ("k8s.ns.name",), "tenant": "t", "user": "u", "apikey": _S},
    "victorialogs": {"url": "https://x.test"},
    "quickwit": {"url": "https://x.test"},
    "zincsearch": {"url": "https://x.test", "username": "u", "password": _S},
    "openobserve": {"url": "https://x.test", "username": "u", "password": _S},
    "splunk": {"url": "https://x.test/services/collector/event", "token": _S},
    "datadoglogs": {"apikey": _S},
    "datadog": {"apikey": _S},
    "dynatrace": {"apiurl": "https://x.test/api", "apitoken": _S},
    "sumologic": {"receiverurl": Secret("https://x.test/receiver"), "sourcecategory": "c"},
    "spyderbat": {"apikey": _S, "orguid": "o"},
    "grafana": {"hostport": "https://x.test", "apikey": _S, "dashboarduid": "d", "panelid": 2},
    "otlplogs": {"endpoint": "https://x.test"},
    "otlptraces": {"endpoint": "https://x.test"},
    "otlpmetrics": {"endpoint": "https://x.test"},
    "influxdb": {"hostport": "https://x.test", "user": "u", "password": _S},
    "wavefront": {"endpointhost": "https://x.test", "endpointtoken": _S},
    "alertmanager": {"hostport": ("https://x.test",), "expiresafter": 60, "extralabels": {"team": "sec"}},
    "pagerduty": {"routingkey": _S},
    "opsgenie": {"apikey": _S, "region": "eu"},
    "grafanaoncall": {"webhookurl": Secret("https://x.test/oncall")},
    "telegram": {"token": _S, "chatid": "-100"},
    "gotify": {"hostport": "https://x.test", "token": _S},
    "ntfy": {"url": "https://x.test", "topic": _S},
    "nodered": {"url": Secret("https://x.test/flow"), "user": "u", "password": _S},
    "n8n": {"url": Secret("https://x.test/flow"), "headerauthname": "X-Auth", "headerauthvalue": _S},
    "openfaas": {"functionname": "f"},
    "fission": {"function": "f"},
    "kubeless": {"function": "f"},
    "gcpcloudrun": {"endpoint": "https://x.test/run", "jwt": _S},
    "cloudevents": {"address": "https://x.test", "extensions": {"Team": "sec"}},
    "kafkarest": {"address": "https://x.test/topics/falco"},
    "azureeventhub": {"eventhub": "https://x.test/hub", "key": _S},
}


def options(row: Row) -> Any:
    given_ = OPTIONS.get(row.name)
    if given_ is None:
        names = set(row.options.__slots__) | {n for base in row.options.__mro__ for n in getattr(base, "__slots__", ())}
        given_ = {"webhookurl" if "webhookurl" in names else "url": Secret("https://x.test/hook")}
    return row.options(**given_)


ALERT = hub_alert(
    7,
    ts_ns=START_NS + 123_456_789,
    output='A shell (cmd=sh -c "a=b, c" file=/etc/<shadow> & @here *bold* | x\n2nd line)',
    fields={
        "proc.name": "sh",
        "proc.pid": 4242,
        "proc.cmdline": 'sh -c "a=b, c"',
        "user.name": "root",
        "evt.res": None,
        "container.id": "abdcb5c55661",
        "container.image": "nginx",
        "container.image.repository": "nginx",
        "k8s.ns.name": "shop",
        "fd.types": ["file", "ipv4"],
        "proc.is_exe_upper_layer": True,
        "evt.latency": 1.5,
        "big": 2**70,
        "evt.time": START_NS + 123_456_789,
        "empty": "",
    },
)


def written(request: Request) -> str:
    """A request as a page to read."""
    body = request.body
    if dict(request.headers).get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    text = body.decode()
    try:
        text = json.dumps(json.loads(text), indent=1, ensure_ascii=False)
    except ValueError:
        with contextlib.suppress(ValueError):
            text = "\n".join(json.dumps(json.loads(part), indent=1, ensure_ascii=False) for part in text.splitlines())
    headers = "".join(f"{name}: {value}\n" for name, value in sorted(request.headers.items()))
    headers = re.sub(r"sig=[^&]*&se=\d+", "sig=SIGNATURE&se=UNTIL", headers)
    return f"{request.method} {request.url}\n{headers}\n{text}\n"


@pytest.mark.parametrize("name", sorted(ROWS))
def test_golden_request(name: str, request: pytest.FixtureRequest) -> None:
    row = ROWS[name]
    made = "\n---\n".join(written(r) for r in row.build([ALERT], options(row)))
    file = GOLDEN / f"{name}.txt"
    if request.config.getoption("--accept"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(made)
    assert made == file.read_text()


_any = st.text(st.characters(codec="utf-8"), max_size=60) | st.sampled_from(
    [
        "",
        "\\",
        '"',
        "a\\",
        "\n",
        "\x00",
        "\u2028",
        "a,b=c d",
        "|",
        "*" * 50,
        "@everyone",
        "<!channel>",
        "ü" * 50,
        "x" * 9000,
    ]
)
_values = st.one_of(
    _any,
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(_any, max_size=3),
    st.dictionaries(_any, _any, max_size=2),
)


@st.composite
def hostile(draw: st.DrawFn) -> HubAlert:
    """Any text in any place."""
    return HubAlert(
        1,
        draw(_any) or "id",
        draw(st.integers(0, 2**62)),
        0,
        draw(_any),
        draw(_any),
        draw(st.sampled_from(list(Priority))),
        draw(_any),
        tuple(draw(st.lists(_any, max_size=3))),
        draw(_any),
        draw(st.dictionaries(_any, _values, max_size=6)),
    )


WIDE = hub_alert(9, output="x" * 200_000, fields={f"f{n}": "é" * 5000 for n in range(300)}, tags=["t" * 500] * 60)


def within(name: str, document: Any) -> None:
    """What the vendor documents of sizes and shapes; the page is named beside each."""
    match name:
        case "slack":  # docs.slack.dev, Block Kit
            (attachment,) = document["attachments"]
            assert len(attachment["blocks"]) <= 50
            for block in attachment["blocks"]:
                if block["type"] == "header":
                    assert len(block["text"]["text"]) <= 150
                elif block["type"] == "section":
                    assert len(block.get("text", {}).get("text", "")) <= 3000
                    assert len(block.get("fields", ())) <= 10
                    assert all(len(f["text"]) <= 2000 for f in block.get("fields", ()))
            assert not re.search(r'"mrkdwn", "text": "[^"]*<', json.dumps(document))  # plain texts have no mentions
        case "discord":  # discord.com/developers, "Embed limits"
            (embed,) = document["embeds"]
            assert len(embed["title"]) <= 256 and len(embed.get("description", "")) <= 4096
            assert len(embed["fields"]) <= 25
            assert all(0 < len(f["name"]) <= 256 and 0 < len(f["value"]) <= 1024 for f in embed["fields"])
            total = len(embed["title"]) + len(embed.get("description", ""))
            assert total + sum(len(f["name"]) + len(f["value"]) for f in embed["fields"]) <= 6000
            assert document["allowed_mentions"] == {"parse": []}
        case "telegram":  # core.telegram.org/bots/api#sendmessage: 4,096 after parsing
            assert len(re.sub(r"</?(?:b|code)>", "", document["text"])) <= 4096 * 5
            assert not re.search(r"<(?!/?(b|code)>)", document["text"])
        case "teams":  # learn.microsoft.com: 28 KB
            assert len(json.dumps(document, ensure_ascii=False).encode()) <= 28 << 10
        case "googlechat":  # developers.google.com/chat: 32,000 bytes
            assert len(json.dumps(document, ensure_ascii=False).encode()) <= 32_000
        case "webex":  # developer.webex.com: 7,439 bytes
            assert len(document["markdown"].encode()) <= 7439
        case "pagerduty":  # developer.pagerduty.com, "PD-CEF"; 512 KB
            assert len(document["payload"]["summary"]) <= 1024
            assert len(document["dedup_key"].encode()) <= 255
            assert document["payload"]["severity"] in {"critical", "error", "warning", "info"}
        case "opsgenie":  # docs.opsgenie.com/docs/alert-api
            assert len(document["message"]) <= 130 and len(document["alias"]) <= 512
            assert len(document["description"]) <= 15_000 and len(document["entity"]) <= 512
            assert len(document["tags"]) <= 20 and all(len(tag) <= 50 for tag in document["tags"])
            assert sum(len(k) + len(v) for k, v in document["details"].items()) <= 8000
        case "datadog":  # docs.datadoghq.com: 4,000 characters of text; tags of 200
            assert len(document["text"]) <= 4000 and all(len(tag) <= 200 for tag in document["tags"])
        case "datadoglogs":  # 1 MB an entry
            assert all(len(json.dumps(entry, ensure_ascii=False).encode()) <= 1 << 20 for entry in document)
        case "alertmanager":  # prometheus.io: label names
            for entry in document:
                for name_ in (*entry["labels"], *entry["annotations"]):
                    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name_)
        case "loki":  # grafana.com/docs/loki: label names, texts of nanoseconds, sorted
            for stream in document["streams"]:
                assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name_) for name_ in stream["stream"])
                stamps = [int(at) for at, _ in stream["values"]]
                assert stamps == sorted(stamps)
        case _:
            pass


def check(row: Row, batch: Sequence[HubAlert]) -> None:
    size = min(len(batch), row.batch_max(options(row)))
    requests = row.build(batch[:size], options(row))
    assert len(requests) in (1, size)
    for made in requests:
        for name, value in made.headers.items():
            assert re.fullmatch(r"[A-Za-z0-9-]+", name)
            assert re.fullmatch(r"[\x20-\x7e]*", value), (name, value)  # nothing that could end the header
        assert re.fullmatch(r"[\x21-\x7e]+", made.url)
        body = gzip.decompress(made.body) if made.headers.get("Content-Encoding") == "gzip" else made.body
        text = body.decode()
        if "json" in made.headers["Content-Type"] and "ndjson" not in made.headers["Content-Type"]:
            if row.name in ("splunk", "sumologic"):
                assert all(json.loads(part) for part in text.split("\n")[:-1])
            else:
                within(row.name, json.loads(text))
        elif "ndjson" in made.headers["Content-Type"]:
            assert all(json.loads(part) for part in text.split("\n") if part)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_wide_alert_stays_within_the_limits(name: str) -> None:
    check(ROWS[name], [WIDE, ALERT])


@pytest.mark.parametrize("name", sorted(ROWS))
@given(st.lists(hostile(), min_size=1, max_size=3))
def test_any_text_makes_a_good_request(name: str, batch: list[HubAlert]) -> None:
    check(ROWS[name], batch)


def test_every_row_is_in_the_table() -> None:
    assert set(ROWS) <= set(kinds())
    for row in ROWS.values():
        assert row.doc.endswith(".") and row.delivered.endswith(".")


_UNESCAPED = {
    " ": re.compile(r"(?<!\\) "),
    ",": re.compile(r"(?<!\\),"),
    "=": re.compile(r"(?<!\\)="),
}


@given(hostile())
def test_a_point_of_the_line_protocol_comes_apart_again(alert: HubAlert) -> None:
    """By a reader of its own: measurement and tags, fields, time; no line end outside of a text in quotes."""
    data = line(alert, "my events").decode()
    head, rest = _UNESCAPED[" "].split(data, maxsplit=1)
    assert head.startswith("my\\ events")
    for pair in _UNESCAPED[","].split(head)[1:]:
        name, value = _UNESCAPED["="].split(pair)
        assert name and value
    assert "\n" not in head
    body, _, stamp = rest.rpartition(" ")
    assert int(stamp) == alert.ts_ns
    at, names = 0, []
    while at < len(body):
        found = re.compile(r"((?:\\.|[^=,\\ \n])+)=").match(body, at)
        assert found, body[at : at + 40]
        names.append(found[1])
        value_ = re.compile(r'"(?:\\.|[^"\\])*"|-?\d+i|true|false|-?[\d.]+(?:e[+-]?\d+)?', re.DOTALL).match(
            body, found.end()
        )
        assert value_, body[found.end() : found.end() + 40]
        at = value_.end()
        assert at == len(body) or body[at] == ","
        at += 1
    assert {"value", "id"} <= set(names)


def says(name: str, status: int, body: bytes = b"", count: int = 3, **headers: str) -> tuple[list[str], float | None]:
    outcome = ROWS[name].judge(Answer(status, headers, body), count)
    return [verdict.value for verdict in outcome.verdicts], outcome.retry_after_s


@pytest.mark.parametrize("name", sorted(ROWS))
def test_what_statuses_mean(name: str) -> None:
    assert set(says(name, 500)[0]) == {"again"}
    assert set(says(name, 503)[0]) == {"again"}
    assert set(says(name, 401)[0]) == {"again"}  # people can mend it
    assert set(says(name, 301)[0]) == {"again"}
    assert set(says(name, 413)[0]) == {"never"}
    assert set(says(name, 400)[0]) == {"never"}
    assert set(says(name, 429)[0]) == {"again"}
    assert len(says(name, 204, count=5)[0]) == 5


JUDGED: list[tuple[str, int, bytes, list[str]]] = [
    ("otlplogs", 200, b"{}", ["done"] * 3),
    ("otlplogs", 200, b'{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"x"}}', ["never"] * 3),
    ("openobserve", 200, b'{"code":200,"status":[{"name":"s","successful":3,"failed":0}]}', ["done"] * 3),
    ("openobserve", 200, b'{"code":200,"status":[{"name":"s","successful":2,"failed":1}]}', ["never"] * 3),
    ("openobserve", 200, b"<html>", ["again"] * 3),
    (
        "kafkarest",
        200,
        b'{"offsets":[{"offset":1},{"error_code":1,"error":"e"},{"error_code":2}]}',
        ["done", "again", "never"],
    ),
    ("kafkarest", 200, b'{"offsets":[]}', ["again"] * 3),
    ("slack", 200, b"ok", ["done"] * 3),
    ("slack", 200, b"no_text", ["never"] * 3),
    ("influxdb", 400, b'{"error":"partial write: field type conflict"}', ["never"] * 3),
]


@pytest.mark.parametrize(("name", "status", "body", "expected"), JUDGED)
def test_what_bodies_mean(name: str, status: int, body: bytes, expected: list[str]) -> None:
    assert says(name, status, body)[0] == expected


@pytest.mark.parametrize(
    ("name", "body"), [("discord", b'{"retry_after": 2.5}'), ("telegram", b'{"parameters": {"retry_after": 2.5}}')]
)
def test_a_pause_that_the_body_asks_for(name: str, body: bytes) -> None:
    assert says(name, 429, body)[1] == 2.5
    assert says(name, 429, b"nonsense")[1] is None


def test_mentions_are_broken() -> None:
    ping = hub_alert(1, output="<!channel> @here <@U1>", fields={"proc.name": "@everyone"})
    for name in ("slack", "mattermost", "rocketchat", "teams", "discord", "webex"):
        body = ROWS[name].build([ping], options(ROWS[name]))[0].body.decode()
        assert "<!channel>" not in re.sub(r'"plain_text","text":"[^"]*"', "", body)
        if name not in ("slack", "discord"):  # these have a switch of their own
            assert "@here" not in body and "@everyone" not in body
