"""The body of a request -> events as they were sent.

Comes in: bytes, packed perhaps. Goes out: for each value in them an event or the reason why it is none. Never: an
exception for what a stranger wrote, or more memory than the bounds say.

A body is one JSON value, an array, lines of them (NDJSON), or values one after the other.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import zstandard

from appliance.hub.alert import fields_of, json_of, number_of

DEPTH_MAX = 64
_SHORT = 4096  # bytes: no whole number in a text of so many has too many digits to be read
_AT_ONCE = 1 << 20  # bytes: a larger body is read line by line, so that others have their turn
_SURROGATE = re.compile("[\ud800-\udfff]")


class Event(msgspec.Struct, gc=False):
    """An event with Falco's keys; others are passed over. `output_fields` is the text of a JSON object, empty where the
    sender gave none."""

    rule: str | None = None
    priority: str | None = None
    time: str | None = None
    output: str | None = None
    source: str | None = None
    hostname: str | None = None
    tags: list[str] | None = None
    output_fields: msgspec.Raw = msgspec.Raw()

    def has_fields(self) -> bool:
        """False where there is not one output field."""
        return b'"' in bytes(self.output_fields)  # every member has a name


class BadBody(Exception):
    """The body as a whole cannot be read; `status` is the answer's."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        super().__init__(reason)


_DECODER = msgspec.json.Decoder(Event)
_decode, _decode_lines = _DECODER.decode, _DECODER.decode_lines
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_KEYS = frozenset(Event.__struct_fields__)
_TOO_DEEP = f"nested deeper than {DEPTH_MAX} levels"
Found = Event | str


def unpack(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo `Content-Encoding`, up to `limit` bytes. Raises `BadBody`."""
    match encoding.strip().lower():
        case "" | "identity":
            made = body
        case "gzip" | "x-gzip":
            made = _gunzip(body, limit)
        case "zstd":
            try:
                with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
                    body, read_across_frames=True
                ) as reader:
                    made = reader.read(limit + 1)
            except (zstandard.ZstdError, MemoryError) as error:
                raise BadBody(400, "the body is not zstd") from error
        case other:
            raise BadBody(415, f"the content encoding `{other[:40]}` is not known; gzip and zstd are")
    if len(made) > limit:
        raise BadBody(413, f"the body is larger than {limit} bytes when unpacked")
    return made


def _gunzip(body: bytes, limit: int) -> bytes:
    made = bytearray()
    while body:
        stream = zlib.decompressobj(wbits=31)
        try:
            made += stream.decompress(body, limit + 1 - len(made))
        except zlib.error as error:
            raise BadBody(400, "the body is not gzip") from error
        if len(made) > limit:
            break
        if not stream.eof:
            raise BadBody(400, "the gzip body is cut")
        body = stream.unused_data
    return bytes(made)


def events_in(body: bytes, largest: int) -> Iterator[Found]:
    """Each value of a body: an event, or why it is none. A value may have `largest` bytes."""
    body = body.strip(b" \t\r\n\x00\xef\xbb\xbf")
    if not body:
        yield "the body is empty"
        return
    if body[:1] == b"[":
        yield from _of_array(body, largest, _is_utf8(body))
        return
    utf8 = _is_utf8(body)
    if b"\n" not in body:
        yield from _of_line(body, largest, utf8)
        return
    if (events := _quick_lines(body, largest, utf8)) is not None:
        yield from events
        return
    lines = body.split(b"\n")
    if lines[0].strip()[-1:] != b"}":  # one value over several lines
        yield from _of_stream(body, largest)
        return
    for line in lines:
        if (event := _quick(line, largest, utf8)) is not None:
            yield event
        elif line and not line.isspace():
            yield from _of_stream(line, largest)


def _of_line(line: bytes, largest: int, utf8: bool) -> Iterator[Found]:
    """One value as a rule: anything else is looked at a second time, slowly."""
    if (event := _quick(line, largest, utf8)) is not None:
        yield event
    else:
        yield from _of_stream(line, largest)


def _quick(line: bytes, largest: int, utf8: bool) -> Event | None:
    """The one event of a line that is as lines should be; None for any other.

    The output fields stay the text that they are: the decoder checks its syntax, not that it is UTF-8 nor whether each
    number can be held. Of a line where that is in doubt they are read.
    """
    if len(line) > largest:
        return None
    try:
        event = _decode(line)
        return event if _is_sound(event, utf8) else None
    except _UNREADABLE:
        return None


def _quick_lines(body: bytes, largest: int, utf8: bool) -> Sequence[Event] | None:
    """The events of lines that all are as lines should be; None where one is not."""
    if len(body) > min(largest, _AT_ONCE):
        return None
    try:
        events = _decode_lines(body)
        for event in events:
            if not _is_sound(event, utf8):
                return None
    except _UNREADABLE:
        return None
    return events


def _is_sound(event: Event, utf8: bool) -> bool:
    """True where nothing is missing and all can be read. Raises one of `_UNREADABLE` for some that cannot."""
    text = bytes(event.output_fields)
    if not event.rule or not event.priority or not event.time or text[:1] != b"{":
        return False
    if utf8 and len(text) < _SHORT and text.count(b"{") + text.count(b"[") < DEPTH_MAX:
        return True
    return _depth(fields_of(text)) <= DEPTH_MAX


def _is_utf8(body: bytes) -> bool:
    if body.isascii():
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _of_array(body: bytes, largest: int, utf8: bool) -> Iterator[Found]:
    try:
        raws = _RAWS.decode(body)
    except _UNREADABLE:
        yield from _of_stream(body, largest)
        return
    for raw in raws:
        yield from _of_line(bytes(raw), largest, utf8)


def _of_stream(body: bytes, largest: int) -> Iterator[Found]:
    """Values one after the other, as the standard library reads them: bytes that are no UTF-8 become U+FFFD."""
    text = body.decode("utf-8", "replace")
    decoder = json.JSONDecoder(parse_constant=_no_constant, parse_float=number_of)
    at = 0
    while True:
        while at < len(text) and text[at] in " \t\r\n\x00,":
            at += 1
        if at >= len(text):
            return
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            yield f"not JSON: {str(error)[:100]}"
            return
        for one in value if isinstance(value, list) else [value]:
            if end - at > largest and len(json.dumps(one)) > largest:
                yield f"an alert is larger than {largest} bytes"
            else:
                yield _of_value(one)
        at = end


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _of_value(value: object) -> Found:
    """An event of a value read by the standard library. Keys in any case are known, as Go has it; the last counts."""
    if not isinstance(value, dict):
        return "an alert is a JSON object"
    if _depth(value) > DEPTH_MAX:
        return _TOO_DEEP
    known = {key.lower(): item for key, item in _whole(value).items() if key.lower() in _KEYS}
    for name in ("rule", "priority", "time", "output", "source", "hostname"):
        if known.get(name) is not None and not isinstance(known[name], str):
            return f"`{name}` is not a text"
    tags, fields = known.get("tags"), known.get("output_fields")
    if tags is not None and not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        return "`tags` is not a list of texts"
    if fields is not None and not isinstance(fields, dict):
        return "`output_fields` is not an object"
    return Event(**known | {"output_fields": msgspec.Raw(b"" if fields is None else json_of(fields))})


def _whole(value: Any) -> Any:
    """Without lone surrogates, which no UTF-8 can hold."""
    if isinstance(value, str):
        return value if value.isascii() else _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return value


def _depth(value: object) -> int:
    level, deepest = [value], 0
    while level and deepest <= DEPTH_MAX:
        deepest += 1
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
    return deepest
