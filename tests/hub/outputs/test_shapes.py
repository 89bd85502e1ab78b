"""OCSF and ECS: what an alert becomes, judged by the public schemas; Security Lake read back by pyarrow."""

from __future__ import annotations

import io
import ipaddress
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from py_ocsf_models.events.findings.detection_finding import DetectionFinding

from appliance.config.settings import Secret
from appliance.hub.outputs.base import Verdict
from appliance.hub.outputs.shapes import SHAPES, ecs, ocsf
from appliance.hub.outputs.table import kinds
from appliance.model.alert import Priority
from tests.hub.alerts import DAY_NS, START_NS, hub_alert
from tests.support import services

FIELDS: dict[str, Any] = {
    "proc.name": "cat", "proc.pid": 4242, "proc.cmdline": "cat /etc/shadow", "user.name": "root", "user.uid": 0,
    "fd.name": "/etc/shadow", "fd.sip": "10.0.0.7", "fd.sport": 443, "container.id": "host", "evt.time": START_NS,
    "big": 2**70, "proc.ppid": "no number", "fd.cip": "no address", "list": ["a", 1],
}  # fmt: skip
ALERTS = [
    hub_alert(n, ts_ns=START_NS + n * DAY_NS // 4, priority=priority, fields=FIELDS | {"n": n},
              tags=("mitre_credential_access", "T1552.001", "container"))
    for n, priority in enumerate(Priority)
]  # fmt: skip

# names and types of ECS 8.11 that these documents may use (its field reference)
ECS: Mapping[str, str] = {
    "@timestamp": "date",
    "message": "text",
    "tags": "keyword",
    "ecs.version": "keyword",
    "event.id": "keyword",
    "event.kind": "keyword",
    "event.category": "keyword",
    "event.type": "keyword",
    "event.created": "date",
    "event.module": "keyword",
    "event.dataset": "keyword",
    "event.provider": "keyword",
    "event.severity": "long",
    "rule.name": "keyword",
    "log.level": "keyword",
    "observer.product": "keyword",
    "observer.vendor": "keyword",
    "observer.type": "keyword",
    "observer.version": "keyword",
    "host.name": "keyword",
    "host.hostname": "keyword",
    "process.name": "keyword",
    "process.pid": "long",
    "process.command_line": "wildcard",
    "process.executable": "keyword",
    "process.working_directory": "keyword",
    "process.parent.name": "keyword",
    "process.parent.pid": "long",
    "process.parent.command_line": "wildcard",
    "process.parent.executable": "keyword",
    "user.name": "keyword",
    "user.id": "keyword",
    "group.name": "keyword",
    "group.id": "keyword",
    "file.path": "keyword",
    "file.name": "keyword",
    "file.directory": "keyword",
    "destination.ip": "ip",
    "destination.port": "long",
    "source.ip": "ip",
    "source.port": "long",
    "container.id": "keyword",
    "container.name": "keyword",
    "container.image.name": "keyword",
    "orchestrator.namespace": "keyword",
    "orchestrator.resource.name": "keyword",
}


def leaves(document: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{name}.")
        else:
            yield above + name, value


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.priority.name)
def test_a_finding_is_one_of_ocsf(alert: Any) -> None:
    made = ocsf.finding(alert)
    found = DetectionFinding.model_validate(json.loads(json.dumps(made)))
    assert (found.class_uid, found.type_uid, found.category_uid) == (2004, 200401, 2)
    assert found.time == alert.ts_ns // 1_000_000 and found.message == alert.output
    assert set(made) <= set(DetectionFinding.model_fields), "no attribute beyond the class"
    assert set(made["finding_info"]) <= set(type(found.finding_info).model_fields)
    assert set(made["metadata"]) <= set(type(found.metadata).model_fields)
    assert made["unmapped"]["output_fields"] == alert.fields
    assert made["finding_info"]["attacks"][0]["tactic"] == {"name": "Credential Access", "uid": "TA0006"}
    assert made["finding_info"]["attacks"][1]["technique"]["uid"] == "T1552.001"


def test_severities_fall_with_the_priority() -> None:
    found = [ocsf.finding(alert)["severity_id"] for alert in ALERTS]
    assert found == [6, 5, 5, 4, 3, 2, 1, 1]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.priority.name)
def test_a_document_has_names_and_types_of_ecs(alert: Any) -> None:
    made = ecs.document(alert)
    assert made["falco"].pop("output_fields") == alert.fields
    assert made.pop("falco") == {"priority": alert.priority.label}
    for name, value in leaves(made):
        kind = ECS[name]
        for one in value if isinstance(value, list) else [value]:
            match kind:
                case "long":
                    assert type(one) is int, name
                case "ip":
                    assert ipaddress.ip_address(one), name
                case _:
                    assert type(one) is str and one, name
    assert made["process"] == {"name": "cat", "pid": 4242, "command_line": "cat /etc/shadow"}
    assert made["user"] == {"name": "root", "id": "0"} and made["file"] == {"path": "/etc/shadow"}
    assert "source" not in made and "container" not in made
    assert made["event"]["kind"] == "alert" and made["event"]["severity"] == 7 - alert.priority


def test_names_of_ecs_are_those_of_the_reference() -> None:
    assert {path for path, _ in ecs.FIELDS.values()} <= set(ECS)
    assert all((ECS[path] == "long") == (kind is int) for path, kind in ecs.FIELDS.values())


def test_a_webhook_and_a_bulk_request_have_the_shape() -> None:
    from appliance.hub.outputs import elasticsearch, webhook

    for shape in SHAPES:
        options = webhook.WebhookOptions(url=Secret("http://127.0.0.1:1"), shape=shape)
        (request,) = webhook.build(ALERTS[:1], options)
        assert json.loads(request.body) == json.loads(json.dumps(SHAPES[shape](ALERTS[0])))
    search = elasticsearch.ElasticsearchOptions(url="http://127.0.0.1:1", mapping="ecs")
    document = json.loads(elasticsearch.build(ALERTS[:1], search)[0].body.split(b"\n")[1])
    assert document["process"]["pid"] == 4242 and document["falco"]["output_fields"]["proc_pid"] == 4242
    assert "output_fields" not in document


async def test_security_lake(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Partitions by day; each finding is there once, whole."""
    import boto3
    import pyarrow.parquet as pq

    with services.moto(tmp_path_factory.mktemp("moto")) as port:
        url = f"http://127.0.0.1:{port}"
        s3 = boto3.client(
            "s3", endpoint_url=url, aws_access_key_id="t", aws_secret_access_key="t", region_name="us-east-1"
        )
        s3.create_bucket(Bucket="lake")
        kind = kinds()["awssecuritylake"]
        client = kind.connect(
            kind.options(
                bucket="lake", prefix="/ext/falco/", accountid="123456789012", endpoint=url, accesskeyid=Secret("t"),
                secretaccesskey=Secret("t"),
            )
        )  # fmt: skip
        for _ in range(2):  # the same batch has the same names
            outcome = await client.send(list(reversed(ALERTS)))
            assert set(outcome.verdicts) == {Verdict.DONE}
        await client.close()
        keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket="lake")["Contents"]]
        days = {"20260921", "20260922", "20260923"}
        assert {key.rpartition("/")[0] for key in keys} == {
            f"ext/falco/region=us-east-1/accountId=123456789012/eventDay={day}" for day in days
        }
        assert len(keys) == len(days) and all(key.endswith(".parquet") for key in keys)
        found: dict[str, Any] = {}
        for key in keys:
            file = pq.ParquetFile(io.BytesIO(s3.get_object(Bucket="lake", Key=key)["Body"].read()))
            assert file.metadata.row_group(0).column(0).compression == "ZSTD"
            rows = file.read().to_pylist()
            assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
            found |= {row["metadata"]["uid"]: row for row in rows}
    assert set(found) == {alert.id for alert in ALERTS}
    for alert in ALERTS:
        row = found[alert.id]
        assert row["class_uid"] == 2004 and row["message"] == alert.output
        assert row["resources"] == [{"name": "web1", "uid": "web1", "type": "host"}]
        assert json.loads(row["unmapped"])["output_fields"] == json.loads(json.dumps(alert.fields))
        DetectionFinding.model_validate({name: value for name, value in row.items() if name != "finding_info"} | {
            "finding_info": {k: v for k, v in row["finding_info"].items() if k != "attacks"}
        })  # fmt: skip
