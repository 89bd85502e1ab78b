"""The whole of a search as NDJSON, CSV or Parquet, streamed.

Comes in: a view. Goes out: bytes, a block at a time; memory does not grow with the result. Never: a cell that a
spreadsheet would take for a formula."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse

from appliance.hub.alert import HubAlert, JsonValue
from appliance.hub.query.words import text_of
from appliance.hub.web import pages, show
from appliance.hub.web.context import Ask, Hub, record, shown
from appliance.hub.web.dispatch import Refused
from appliance.model.text import json_safe

FORMATS = {
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
_BLOCK = 1000
_COLUMNS = ("time", "priority", "rule", "hostname", "source", "tags", "output", "output_fields", "id")
_encode = msgspec.json.Encoder().encode


def export(hub: Hub, ask: Ask) -> Response:
    """The search of the address, in the format of the path."""
    form = ask.params["format"]
    if form not in FORMATS:
        raise Refused(404, f"there is no format `{form}`", f"formats: {', '.join(FORMATS)}")
    view = pages.view_of(ask)
    record(hub, ask, "export", f"{form}: {view.text or 'everything'}, {view.ranged}")
    alerts = (shown(hub, ask, alert) for alert in hub.store.scan(view.tree, view.span, newest_first=False))
    make: Callable[[Iterator[HubAlert]], Iterator[bytes]] = {"ndjson": ndjson, "csv": as_csv, "parquet": parquet}[form]
    return StreamingResponse(
        make(alerts), media_type=FORMATS[form], headers={"Content-Disposition": f'attachment; filename="alerts.{form}"'}
    )


class _Line(msgspec.Struct, gc=False):
    """The keys of `record_of`, encoded without a dictionary in between."""

    id: str
    time: str
    time_ns: int
    priority: str
    rule: str
    hostname: str
    source: str
    tags: Sequence[str]
    output: str
    output_fields: Mapping[str, JsonValue]


def record_of(alert: HubAlert) -> dict[str, object]:
    """An alert as exports have it."""
    return {
        "id": alert.id,
        "time": show.iso(alert.ts_ns),
        "time_ns": alert.ts_ns,
        "priority": alert.priority.label,
        "rule": alert.rule,
        "hostname": alert.hostname,
        "source": alert.source,
        "tags": alert.tags,
        "output": alert.output,
        "output_fields": alert.fields,
    }


def line(alert: HubAlert) -> bytes:
    """An alert as one line of JSON."""
    try:
        return _encode(
            _Line(
                alert.id, show.iso(alert.ts_ns), alert.ts_ns, alert.priority.label, alert.rule, alert.hostname,
                alert.source, alert.tags, alert.output, alert.fields,
            )
        )  # fmt: skip
    except (UnicodeEncodeError, OverflowError):
        return json_safe(json.dumps(record_of(alert), ensure_ascii=False)).encode()


def ndjson(alerts: Iterator[HubAlert]) -> Iterator[bytes]:
    """One JSON object a line."""
    while block := list(islice(alerts, _BLOCK)):
        yield b"\n".join(map(line, block)) + b"\n"


def as_csv(alerts: Iterator[HubAlert]) -> Iterator[bytes]:
    """A header and a row for each alert."""
    yield (",".join(_COLUMNS) + "\r\n").encode()
    while block := list(islice(alerts, _BLOCK)):
        text = io.StringIO()
        writer = csv.writer(text)
        for alert in block:
            row = record_of(alert)
            row |= {"tags": " ".join(alert.tags), "output_fields": line_of_fields(alert)}
            writer.writerow([_cell(row[name]) for name in _COLUMNS])
        yield text.getvalue().encode("utf-8", "backslashreplace")


def line_of_fields(alert: HubAlert) -> str:
    """The output fields as JSON."""
    try:
        return _encode(alert.fields).decode()
    except (UnicodeEncodeError, OverflowError):
        return json.dumps(dict(alert.fields), ensure_ascii=False)


def _cell(value: object) -> str:
    text = value if isinstance(value, str) else text_of(value)  # type: ignore[arg-type]
    text = text.replace("\0", "\\x00")
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def parquet(alerts: Iterator[HubAlert]) -> Iterator[bytes]:
    """Apache Parquet, a row group for each 10,000 alerts. Raises Refused where pyarrow is not installed."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise Refused(501, "Parquet needs pyarrow", "pip install 'tercel[hub-parquet]'") from None
    text = pa.string()
    schema = pa.schema(
        [
            ("id", text),
            ("time", pa.timestamp("ns", "UTC")),
            ("priority", text),
            ("rule", text),
            ("hostname", text),
            ("source", text),
            ("tags", pa.list_(text)),
            ("output", text),
            ("output_fields", text),
        ]
    )
    sink = _Pipe()
    writer = pq.ParquetWriter(sink, schema, compression="zstd")
    while block := list(islice(alerts, 10 * _BLOCK)):
        columns = [
            [json_safe(a.id) for a in block],
            [a.ts_ns for a in block],
            [a.priority.label for a in block],
            [json_safe(a.rule) for a in block],
            [json_safe(a.hostname) for a in block],
            [json_safe(a.source) for a in block],
            [[json_safe(t) for t in a.tags] for a in block],
            [json_safe(a.output) for a in block],
            [json_safe(line_of_fields(a)) for a in block],
        ]
        writer.write_table(pa.table(columns, schema=schema))
        yield sink.taken()
    writer.close()
    yield sink.taken()


class _Pipe(io.RawIOBase):
    """What is written can be taken away; positions go on."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._at += len(part)
        return len(part)

    def tell(self) -> int:
        return self._at

    def taken(self) -> bytes:
        """What was written since the last time."""
        found = b"".join(self._parts)
        self._parts.clear()
        return found
