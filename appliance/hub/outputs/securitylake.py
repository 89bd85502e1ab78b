"""Amazon Security Lake: OCSF findings as Parquet objects of a custom source.

Comes in: batches. Goes out: an object for each day of a batch, under the partitions that Security Lake's guide names
("Collecting data from custom sources": region, accountId, eventDay), findings in the order of time, compressed by
Zstandard.
Never: two classes in an object, or a second object for the same batch.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from appliance.hub.alert import HubAlert
from appliance.hub.options import option
from appliance.hub.outputs.aws import AwsClient, AwsOptions, batch_key
from appliance.hub.outputs.base import Client, Outcome, Verdict
from appliance.hub.outputs.event import to_bytes
from appliance.hub.outputs.shapes.ocsf import finding
from appliance.hub.outputs.table import Kind
from appliance.model.moment import iso_time


@dataclass(frozen=True, slots=True)
class SecurityLakeOptions(AwsOptions):
    """Which lake and source."""

    bucket: str = option(doc="Bucket of the lake.", example="aws-security-data-lake-eu-west-1-lake-uid")
    prefix: str = option("ext/falco", "Prefix that Security Lake gave the custom source.")
    accountid: str = option(
        "external", "Account of the events; the guide's word for events from outside AWS is `external`."
    )


def parquet(findings: Sequence[dict[str, Any]]) -> bytes:
    """Findings of one class as a Parquet file. Its schema is fixed: `unmapped` is JSON in a text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number, whole = pa.string(), pa.int64(), pa.int32()
    attack = pa.struct(
        {part: pa.struct({"name": text, "uid": text}) for part in ("tactic", "technique")} | {"version": text}
    )
    about = pa.struct(
        {
            "uid": text,
            "title": text,
            "desc": text,
            "created_time": number,
            "data_sources": pa.list_(text),
            "analytic": pa.struct({"name": text, "uid": text, "type_id": whole, "type": text}),
            "attacks": pa.list_(attack),
        }
    )
    metadata = pa.struct(
        {
            "version": text,
            "uid": text,
            "log_name": text,
            "labels": pa.list_(text),
            "product": pa.struct({"name": text, "vendor_name": text, "version": text}),
        }
    )
    schema = pa.schema(
        {
            "activity_id": whole,
            "activity_name": text,
            "category_uid": whole,
            "category_name": text,
            "class_uid": whole,
            "class_name": text,
            "type_uid": number,
            "type_name": text,
            "time": number,
            "severity_id": whole,
            "severity": text,
            "status_id": whole,
            "status": text,
            "message": text,
            "metadata": metadata,
            "finding_info": about,
            "resources": pa.list_(pa.struct({"name": text, "uid": text, "type": text})),
            "unmapped": text,
        }
    )
    rows = [one | {"unmapped": to_bytes(one["unmapped"]).decode()} for one in findings]
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), stream, compression="zstd")
    return stream.getvalue()


def day_of(alert: HubAlert) -> str:
    """The day of an event in UTC, as `eventDay` has it."""
    return iso_time(alert.ts_ns)[:10].replace("-", "")


def _put(client: Any, batch: Sequence[HubAlert], options: SecurityLakeOptions) -> Outcome:
    ordered = sorted(batch, key=lambda alert: alert.ts_ns)
    for day, alerts in groupby(ordered, key=day_of):
        part = list(alerts)
        folder = f"{options.prefix.strip('/')}/region={options.region}/accountId={options.accountid}/eventDay={day}"
        name = batch_key("", part, ".parquet").rpartition("/")[2].replace(":", "")
        client.put_object(
            Bucket=options.bucket,
            Key=f"{folder}/{name}",
            Body=parquet([finding(alert) for alert in part]),
            ContentType="application/vnd.apache.parquet",
        )
    return Outcome((Verdict.DONE,) * len(batch))


def _connect(options: SecurityLakeOptions) -> Client:
    import pyarrow  # noqa: F401  (the extra hub-parquet, missed at the start rather than at the first alert)

    return AwsClient("s3", options, _put)


KINDS = (
    Kind(
        name="awssecuritylake",
        title="Amazon Security Lake",
        category="SIEM",
        doc="OCSF Detection Findings as Parquet objects of a custom source; set `pause_ms` for fewer, larger ones.",
        delivered="The service stored the object.",
        options=SecurityLakeOptions,
        connect=_connect,
        batch=lambda options: 1000,
        extra="hub-aws,hub-parquet",
    ),
)
