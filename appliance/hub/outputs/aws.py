"""Amazon Web Services, and what speaks their protocols (MinIO, Yandex): S3, SQS, SNS, Kinesis, CloudWatch Logs, Lambda.

Comes in: batches. Goes out: batch calls of each service within its documented limits, by boto3 in a thread. Never: an
object or message for each alert where the service takes many, or an error of one entry taken for one of all.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.config.settings import Secret
from appliance.hub.alert import HubAlert
from appliance.hub.options import option
from appliance.hub.outputs.base import Client, Outcome, Verdict
from appliance.hub.outputs.event import event, to_bytes
from appliance.hub.outputs.shapes import SHAPE_DOC, SHAPES
from appliance.hub.outputs.table import Kind
from appliance.hub.outputs.threads import Threads
from appliance.hub.outputs.words import cut_bytes
from appliance.model.moment import iso_time

# errors that another try does not mend: about what was sent, or about a wish that no service grants
_NEVER = frozenset(
    {
        "InvalidMessageContents",
        "InvalidParameterValue",
        "InvalidParameter",
        "ValidationError",
        "ValidationException",
        "EntityTooLarge",
        "BatchRequestTooLong",
        "MessageTooLong",
        "RequestTooLargeException",
        "InvalidRequestContentException",
    }
)


@dataclass(frozen=True, slots=True)
class AwsOptions:
    """Who asks, and where."""

    region: str = option("us-east-1", "Region.")
    accesskeyid: Secret = option(Secret(""), "Access key; empty: the machine's own role, environment or files.")
    secretaccesskey: Secret = option(Secret(""), "Secret of the access key.")
    rolearn: str = option("", "Role to assume.")
    externalid: str = option("", "External id for the role.")
    endpoint: str = option(
        "", "Address of the service, in place of Amazon's.", example="https://minio.example.org:9000"
    )


class AwsClient(Client):
    """A client of boto3, and a call that delivers a batch with it."""

    def __init__(self, service: str, options: AwsOptions, deliver: Any) -> None:
        import boto3  # the extra hub-aws
        import botocore.exceptions

        self._boto3: Any = boto3
        self._errors: Any = botocore.exceptions
        self._service, self._options, self._deliver = service, options, deliver
        self._client: Any = None
        self._threads = Threads()

    def _connect(self) -> Any:
        from botocore.config import Config

        options = self._options
        more: dict[str, Any] = {"region_name": options.region}
        if options.accesskeyid:
            more |= {
                "aws_access_key_id": str(options.accesskeyid),
                "aws_secret_access_key": str(options.secretaccesskey),
            }
        session = self._boto3.session.Session(**more)
        endpoint = {"endpoint_url": options.endpoint} if options.endpoint else {}
        config = Config(
            connect_timeout=5,
            read_timeout=20,
            retries={"mode": "standard", "total_max_attempts": 1},
            s3={"addressing_style": "path"} if options.endpoint else {},
        )
        if options.rolearn:
            more_role = {"ExternalId": options.externalid} if options.externalid else {}
            role = session.client("sts", config=config, **endpoint).assume_role(
                RoleArn=options.rolearn, RoleSessionName="tercel", **more_role
            )["Credentials"]
            session = self._boto3.session.Session(
                region_name=options.region,
                aws_access_key_id=role["AccessKeyId"],
                aws_secret_access_key=role["SecretAccessKey"],
                aws_session_token=role["SessionToken"],
            )
        return session.client(self._service, config=config, **endpoint)

    async def send(self, batch: Sequence[HubAlert]) -> Outcome:
        """One batch by the service's own batch call."""
        return await self._threads.run(self._send, batch)

    def _send(self, batch: Sequence[HubAlert]) -> Outcome:
        try:
            if self._client is None:
                self._client = self._connect()
            outcome: Outcome = self._deliver(self._client, batch, self._options)
        except self._errors.ClientError as error:
            told = error.response.get("Error", {})
            code = str(told.get("Code", ""))
            self._client = None if "Token" in code or "Expired" in code else self._client  # a role's time is up
            verdict = Verdict.NEVER if code in _NEVER else Verdict.AGAIN
            return Outcome((verdict,) * len(batch), f"{code}: {told.get('Message', '')}"[:300])
        except self._errors.BotoCoreError as error:
            raise OSError(f"{type(error).__name__}: {error}"[:300]) from error
        return outcome

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
        self._threads.close()


def _done(batch: Sequence[HubAlert]) -> Outcome:
    return Outcome((Verdict.DONE,) * len(batch))


def batch_key(prefix: str, batch: Sequence[HubAlert], suffix: str) -> str:
    """The name of an object for a batch: the day of its first alert, its first time, a digest of its ids. The same
    batch has the same name, so that a retry writes no second object."""
    first = min(alert.ts_ns for alert in batch)
    digest = hashlib.blake2b("\n".join(a.id for a in batch).encode(errors="replace"), digest_size=8).hexdigest()
    stamp = iso_time(first)
    return f"{prefix.strip('/')}/{stamp[:10]}/{stamp}Z-{digest}{suffix}".lstrip("/")


# -- S3


@dataclass(frozen=True, slots=True)
class S3Options(AwsOptions):
    """Which bucket, and how objects are written."""

    bucket: str = option(doc="Bucket.")
    prefix: str = option("falco", "Put before each object's name.")
    objectcannedacl: str = option("bucket-owner-full-control", "Canned ACL of objects; empty: none.")
    compress: bool = option(True, "Compress objects by gzip.")
    shape: str = option("falco", SHAPE_DOC, choices=tuple(SHAPES))


def _s3(client: Any, batch: Sequence[HubAlert], options: S3Options) -> Outcome:
    body = b"".join(to_bytes(SHAPES[options.shape](alert)) + b"\n" for alert in batch)
    more: dict[str, Any] = {"ContentType": "application/x-ndjson"}
    if options.compress:
        body = gzip.compress(body, mtime=0)
        more["ContentEncoding"] = "gzip"
    if options.objectcannedacl:
        more["ACL"] = options.objectcannedacl
    key = batch_key(options.prefix, batch, ".ndjson.gz" if options.compress else ".ndjson")
    client.put_object(Bucket=options.bucket, Key=key, Body=body, **more)
    return _done(batch)


# -- SQS and SNS: ten entries in a call, 256 KiB together


@dataclass(frozen=True, slots=True)
class SqsOptions(AwsOptions):
    """Which queue."""

    url: str = option(doc="URL of the queue.")


_CALL_BYTES = 250_000


def _in_calls(batch: Sequence[HubAlert], bodies: Sequence[str], most: int, call: Any) -> Outcome:
    """Make calls of at most `most` entries and `_CALL_BYTES`; `call(part)` gives a reason by index of what failed, and
    whether it is for ever."""
    verdicts: list[Verdict] = []
    reason = ""
    at = 0
    while at < len(batch):
        end, size = at, 0
        while end < len(batch) and end - at < most and (end == at or size + len(bodies[end].encode()) < _CALL_BYTES):
            size += len(bodies[end].encode())
            end += 1
        failed: Mapping[int, tuple[bool, str]] = call(at, end)
        for index in range(at, end):
            never, why = failed.get(index, (False, ""))
            verdicts.append(Verdict.DONE if index not in failed else Verdict.NEVER if never else Verdict.AGAIN)
            reason = why or reason
        at = end
    return Outcome(tuple(verdicts), reason[:300])


def _failures(answer: Mapping[str, Any]) -> dict[int, tuple[bool, str]]:
    return {
        int(entry["Id"]): (bool(entry.get("SenderFault")), f"{entry.get('Code')}: {entry.get('Message', '')}")
        for entry in answer.get("Failed", ())
    }


def _sqs(client: Any, batch: Sequence[HubAlert], options: SqsOptions) -> Outcome:
    bodies = [to_bytes(event(alert)).decode() for alert in batch]
    ordered = options.url.endswith(".fifo")

    def call(at: int, end: int) -> Mapping[int, tuple[bool, str]]:
        entries = []
        for index in range(at, end):
            entry = {"Id": str(index), "MessageBody": bodies[index]}
            if ordered:
                digest = hashlib.sha256(batch[index].id.encode(errors="replace")).hexdigest()
                group = hashlib.sha256(batch[index].hostname.encode(errors="replace")).hexdigest()
                entry |= {"MessageGroupId": group, "MessageDeduplicationId": digest}
            entries.append(entry)
        return _failures(client.send_message_batch(QueueUrl=options.url, Entries=entries))

    return _in_calls(batch, bodies, 10, call)


@dataclass(frozen=True, slots=True)
class SnsOptions(AwsOptions):
    """Which topic."""

    topicarn: str = option(doc="ARN of the topic.")
    rawjson: bool = option(False, "Publish the JSON event; otherwise the message, with fields as attributes.")


def _sns(client: Any, batch: Sequence[HubAlert], options: SnsOptions) -> Outcome:
    bodies = [
        to_bytes(event(alert)).decode() if options.rawjson else cut_bytes(alert.output, 200_000) or alert.rule
        for alert in batch
    ]

    def call(at: int, end: int) -> Mapping[int, tuple[bool, str]]:
        entries = []
        for index in range(at, end):
            alert, entry = batch[index], {"Id": str(index), "Message": bodies[index]}
            about = {
                "priority": alert.priority.label,
                "rule": alert.rule,
                "source": alert.source,
                "hostname": alert.hostname,
            }
            attributes = {
                name: {"DataType": "String", "StringValue": cut_bytes(text, 1000)}
                for name, text in about.items()
                if text
            }
            entries.append(entry | {"MessageAttributes": attributes})
        return _failures(client.publish_batch(TopicArn=options.topicarn, PublishBatchRequestEntries=entries))

    return _in_calls(batch, bodies, 10, call)


# -- Kinesis: 500 records in a call


@dataclass(frozen=True, slots=True)
class KinesisOptions(AwsOptions):
    """Which stream."""

    streamname: str = option(doc="Stream.")


def _kinesis(client: Any, batch: Sequence[HubAlert], options: KinesisOptions) -> Outcome:
    records = [
        {
            "Data": to_bytes(event(alert)),
            "PartitionKey": hashlib.sha256((alert.hostname or alert.id).encode(errors="replace")).hexdigest(),
        }
        for alert in batch
    ]
    answer = client.put_records(StreamName=options.streamname, Records=records)
    codes = [record.get("ErrorCode") for record in answer["Records"]]
    first = next(
        (f"{r['ErrorCode']}: {r.get('ErrorMessage', '')}" for r in answer["Records"] if r.get("ErrorCode")), ""
    )
    return Outcome(tuple(Verdict.AGAIN if code else Verdict.DONE for code in codes), first[:300])


# -- CloudWatch Logs: events in the order of time, of 24 hours at most


@dataclass(frozen=True, slots=True)
class CloudWatchLogsOptions(AwsOptions):
    """Which group and stream."""

    loggroup: str = option(doc="Log group; it is made where it is missing.")
    logstream: str = option("falcosidekick-logstream", "Log stream; it is made where it is missing.")


def _cloudwatch(client: Any, batch: Sequence[HubAlert], options: CloudWatchLogsOptions) -> Outcome:
    order = sorted(range(len(batch)), key=lambda index: batch[index].ts_ns)
    verdicts = [Verdict.DONE] * len(batch)
    first = batch[order[0]].ts_ns
    day = [index for index in order if batch[index].ts_ns - first < 86_000 * 1_000_000_000]
    for index in set(order) - set(day):
        verdicts[index] = Verdict.AGAIN  # with the next batch
    events = [
        {"timestamp": batch[i].ts_ns // 1_000_000, "message": cut_bytes(to_bytes(event(batch[i])).decode(), 250_000)}
        for i in day
    ]
    try:
        answer = client.put_log_events(logGroupName=options.loggroup, logStreamName=options.logstream, logEvents=events)
    except client.exceptions.ResourceNotFoundException:
        for make, more in (
            (client.create_log_group, {}),
            (client.create_log_stream, {"logStreamName": options.logstream}),
        ):
            try:
                make(logGroupName=options.loggroup, **more)
            except client.exceptions.ResourceAlreadyExistsException:
                continue
        answer = client.put_log_events(logGroupName=options.loggroup, logStreamName=options.logstream, logEvents=events)
    rejected = answer.get("rejectedLogEventsInfo") or {}
    for at, index in enumerate(day):
        too_old = max(rejected.get("tooOldLogEventEndIndex", 0), rejected.get("expiredLogEventEndIndex", 0))
        if at < too_old or at >= rejected.get("tooNewLogEventStartIndex", len(day)):
            verdicts[index] = Verdict.NEVER
    return Outcome(tuple(verdicts), f"outside of the time that the service takes: {rejected}" if rejected else "")


# -- Lambda


@dataclass(frozen=True, slots=True)
class LambdaOptions(AwsOptions):
    """Which function."""

    functionname: str = option(doc="Function.")
    invocationtype: str = option(
        "RequestResponse",
        "Wait for the function, or let the service queue the call.",
        choices=("RequestResponse", "Event"),
    )


def _lambda(client: Any, batch: Sequence[HubAlert], options: LambdaOptions) -> Outcome:
    answer = client.invoke(
        FunctionName=options.functionname, InvocationType=options.invocationtype, Payload=to_bytes(event(batch[0]))
    )
    if answer.get("FunctionError"):
        return Outcome(
            (Verdict.AGAIN,), f"the function failed: {answer['Payload'].read()[:200].decode(errors='replace')}"
        )
    return Outcome((Verdict.DONE,))


def _size(number: int) -> Any:
    return lambda options: number


def _kind(
    name: str,
    title: str,
    category: str,
    doc: str,
    delivered: str,
    options: type,
    service: str,
    deliver: Any,
    batch: int,
    most: int,
) -> Kind:
    return Kind(
        name=name,
        title=title,
        category=category,
        doc=doc,
        delivered=delivered,
        options=options,
        extra="hub-aws",
        connect=lambda given: AwsClient(service, given, deliver),
        batch=_size(batch),
        batch_max=_size(most),
    )


@dataclass(frozen=True, slots=True)
class YandexS3Options(S3Options):
    """Yandex' own address."""

    endpoint: str = option("https://storage.yandexcloud.net", "Address of the service.")
    region: str = option("ru-central1", "Region.")


@dataclass(frozen=True, slots=True)
class YandexStreamsOptions(KinesisOptions):
    """Yandex' own address."""

    endpoint: str = option("https://yds.serverless.yandexcloud.net", "Address of the service.")
    region: str = option("ru-central1", "Region.")


_OBJECTS = "An object of NDJSON for each batch; set `pause_ms` for fewer, larger ones."
_STORED = "The service stored the object."
KINDS = (
    _kind("awss3", "Amazon S3", "Object storage", _OBJECTS, _STORED, S3Options, "s3", _s3, 500, 10_000),
    _kind(
        "yandexs3",
        "Yandex Object Storage",
        "Object storage",
        _OBJECTS,
        _STORED,
        YandexS3Options,
        "s3",
        _s3,
        500,
        10_000,
    ),
    _kind(
        "awssqs",
        "Amazon SQS",
        "Queue",
        "Messages, ten in a call; FIFO queues keep the order of a host.",
        "The service took the message.",
        SqsOptions,
        "sqs",
        _sqs,
        100,
        500,
    ),
    _kind(
        "awssns",
        "Amazon SNS",
        "Queue",
        "Messages with attributes, ten in a call.",
        "The service took the message.",
        SnsOptions,
        "sns",
        _sns,
        100,
        500,
    ),
    _kind(
        "awskinesis",
        "Amazon Kinesis",
        "Queue",
        "Records keyed by host.",
        "The service stored the record.",
        KinesisOptions,
        "kinesis",
        _kinesis,
        200,
        500,
    ),
    _kind(
        "yandexdatastreams",
        "Yandex Data Streams",
        "Queue",
        "Records keyed by host.",
        "The service stored the record.",
        YandexStreamsOptions,
        "kinesis",
        _kinesis,
        200,
        500,
    ),
    _kind(
        "awscloudwatchlogs",
        "Amazon CloudWatch Logs",
        "Logs",
        "Log events at the time of the event.",
        "The service took the event.",
        CloudWatchLogsOptions,
        "logs",
        _cloudwatch,
        200,
        1000,
    ),
    _kind(
        "awslambda",
        "AWS Lambda",
        "Functions",
        "Calls a function with the JSON event.",
        "The function ended without an error, or the service queued the call.",
        LambdaOptions,
        "lambda",
        _lambda,
        1,
        1,
    ),
)
