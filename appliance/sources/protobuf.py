"""Protocol buffers' wire format, as much of it as questions to a container engine take.

Comes in: bytes. Goes out: a `Message`, whose fields are asked for by number; and the other way. Never: a schema; the
numbers stand where the messages are read. Source: the encoding page of the protobuf documentation.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIELDS_MAX = 100_000


class Message:
    """The fields of one message. What is not there is 0, an empty text, an empty list. Fields of an unexpected kind
    count as not there. Raises `ValueError` where the bytes are no message."""

    __slots__ = ("_fields",)

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[int | bytes]] = {}
        for number, (field, value) in enumerate(_fields(data)):
            if number >= _FIELDS_MAX:
                raise ValueError(f"more than {_FIELDS_MAX} fields")
            self._fields.setdefault(field, []).append(value)

    def number(self, field: int) -> int:
        """A whole number, as it is on the wire: unsigned."""
        values = [v for v in self._fields.get(field, ()) if isinstance(v, int)]
        return values[-1] if values else 0

    def data(self, field: int) -> bytes:
        """Bytes."""
        return next(reversed(self.datas(field)), b"")

    def datas(self, field: int) -> list[bytes]:
        """All bytes of a repeated field."""
        return [v for v in self._fields.get(field, ()) if isinstance(v, bytes)]

    def text(self, field: int) -> str:
        """A text; undecodable bytes as surrogates."""
        return self.data(field).decode("utf-8", "surrogateescape")

    def texts(self, field: int) -> list[str]:
        """All texts of a repeated field."""
        return [v.decode("utf-8", "surrogateescape") for v in self.datas(field)]

    def message(self, field: int) -> Message:
        """A message within."""
        return Message(self.data(field))

    def messages(self, field: int) -> list[Message]:
        """All messages of a repeated field."""
        return [Message(v) for v in self.datas(field)]

    def mapping(self, field: int) -> dict[str, str]:
        """A map of texts to texts."""
        return {entry.text(1): entry.text(2) for entry in self.messages(field)}


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, kind = key >> 3, key & 7
        if kind == _VARINT:
            number, at = _varint(data, at)
            yield field, number
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind == _FIXED64:
            size = 8
        elif kind == _FIXED32:
            size = 4
        else:
            raise ValueError(f"no such kind of field: {kind}")
        part = data[at : at + size]
        if len(part) < size:
            raise ValueError("a message that ends within a field")
        at += size
        yield field, part if kind == _BYTES else int.from_bytes(part, "little")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        if at >= len(data):
            raise ValueError("a message that ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), at
        shift += 7
    raise ValueError("a number of more than 64 bits")


def encode(*fields: tuple[int, int | str | bytes]) -> bytes:
    """A message of these fields, by number: whole numbers, texts, bytes (a message within is its bytes)."""
    data = bytearray()
    for field, value in fields:
        if isinstance(value, int):
            data += _number(field << 3 | _VARINT) + _number(value)
            continue
        part = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        data += _number(field << 3 | _BYTES) + _number(len(part)) + part
    return bytes(data)


def _number(value: int) -> bytes:
    value &= 2**64 - 1
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)
