"""Bytes to `RawEvent`: the one place where text from the host is decoded.

Comes in: records as `kernel.layout` lays them out. Goes out: `RawEvent`s. Never: a guess about a record that does not
fit its layout; that is a `ValueError`.

The decoder of each event type is generated from its layout, once, when this module is imported: one `struct` call for
all fixed parts, one slice for each text. Undecodable bytes become surrogates (`surrogateescape`). Folders, environments
and standard streams are the same in many records: the last few are kept, which saves their decoding and their memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from types import CodeType, MappingProxyType

from appliance.catalog.params import VARIABLE, Param, ParamType
from appliance.kernel.layout import ABSENT, HEAD, LAYOUTS, NUMBERS, TYPE_AT, Layout
from appliance.model.event import EventType, RawEvent

Buffer = bytes | memoryview
Decoder = Callable[[Buffer], RawEvent]

TRUNCATED = "(truncated)"
"""Stands for the upper folders of a path that the kernel did not reach; such a path does not begin with a slash."""


@lru_cache(maxsize=1024)
def dir_path(data: bytes) -> str:
    """Names from leaf to root, each ended by NUL, as an absolute path.

    The root itself is the one name `/`. An empty last name says that the walk was cut.
    """
    if data == b"/\0":
        return "/"
    names = data.decode("utf-8", "surrogateescape").split("\0")
    names.pop()  # what stands behind the last NUL
    if names and not names[-1]:
        names[-1] = TRUNCATED
        return "/".join(reversed(names))
    return "/" + "/".join(reversed(names))


def arguments(data: bytes) -> tuple[str, ...]:
    """NUL-separated texts; the last may lack its NUL where it was cut."""
    text = data.decode("utf-8", "surrogateescape")
    return tuple(text.removesuffix("\0").split("\0")) if text else ()


_LISTED = struct.Struct("<QIIIIHHHHHH16s16s4xHH4xiHH")  # struct listed of bpf/facts.h


def descriptors(data: bytes) -> tuple[str, ...]:
    """Descriptors one behind the other, as four texts each: number, events asked and events told as poll(2) has them;
    the numbers of `struct fd_facts` in the order of `engine.sockets.FdFacts` (addresses in hexadecimal); the path; a
    sockaddr_un in hexadecimal."""
    texts: list[str] = []
    at, size = 0, _LISTED.size
    while at + size <= len(data):
        ino, mode, *numbers, local, remote, path, name, fd, events, revents = _LISTED.unpack_from(data, at)
        at += size
        texts.append(f"{fd} {events} {revents}")
        texts.append(f"{mode} {ino} {' '.join(map(str, numbers))} {local.hex()} {remote.hex()}")
        texts.append("" if path in (0, ABSENT) else dir_path(data[at : at + path]))
        at += 0 if path == ABSENT else path
        texts.append(data[at : at + name].hex())
        at += name
    return tuple(texts)


_environment = lru_cache(maxsize=64)(arguments)
_streams = lru_cache(maxsize=256)(descriptors)


def _listed(texts: tuple[str, ...]) -> bytes:
    data = b""
    for polled, numbers, path, name in zip(*(texts[i::4] for i in range(4)), strict=True):
        mode, ino, *rest, local, remote = numbers.split(" ")
        walk, address = _walk(path), bytes.fromhex(name)
        data += _LISTED.pack(
            int(ino), int(mode), *map(int, rest), bytes.fromhex(local), bytes.fromhex(remote), len(walk), len(address),
            *map(int, polled.split(" ")),
        )  # fmt: skip
        data += walk + address
    return data


def _value(param: Param, place: str) -> str:
    """The Python expression that decodes the bytes at `place`."""
    match param.type:
        case ParamType.BYTES:
            return f"bytes({place})"
        case ParamType.ARGS:
            return f"{'environment' if param.name == 'env' else 'arguments'}(bytes({place}))"
        case ParamType.DIRPATH:
            return f"dir_path(bytes({place}))"
        case ParamType.FDS:
            return f"{'streams' if param.name == 'stdio' else 'descriptors'}(bytes({place}))"
        case _:
            return f"str({place}, 'utf-8', 'surrogateescape')"


def decoder_source(layout: Layout) -> str:
    """The Python source of one event type's decoder: `decode(b)` for a record `b`."""
    head = {name: f"h_{name}" for name, _, _ in HEAD}
    targets = [*head.values(), *(f"{'n' if p.type in VARIABLE else 'p'}_{p.name}" for p in layout.order)]
    lines = ["def decode(b):", f"    {', '.join(targets)} = unpack(b)", f"    at = {layout.size}"]
    for p in layout.variable:
        # an empty DIRPATH means "not asked for", which is not the same as the root
        empty = "''" if p.type is ParamType.DIRPATH else _value(p, "b''")
        lines += [
            f"    if n_{p.name} == {ABSENT}:",
            f"        p_{p.name} = None",
            f"    elif n_{p.name}:",
            f"        end = at + n_{p.name}",
            f"        p_{p.name} = {_value(p, 'b[at:end]')}",
            "        at = end",
            "    else:",
            f"        p_{p.name} = {empty}",
        ]
    params = "".join(f"p_{p.name}, " for p in layout.spec.stored)
    lines += [
        "    if at > len(b):",
        "        raise ValueError(f'record of {len(b)} bytes ends before its texts, at {at}')",
        f"    return RawEvent(TYPE, h_ts_ns, h_cpu, h_pid, h_tid, h_start_ns, h_uid, h_gid, h_res, ({params}), h_via)",
    ]
    return "\n".join(lines)


@cache
def _struct(code: str) -> struct.Struct:
    return struct.Struct(code)


@cache
def _code(source: str) -> CodeType:  # most events are alike: few sources, many types
    return compile(source, "<decoder>", "exec")


def _make(layout: Layout) -> Decoder:
    names: dict[str, object] = {
        "unpack": _struct(layout.code).unpack_from,
        "RawEvent": RawEvent,
        "TYPE": layout.spec.type,
        "arguments": arguments,
        "environment": _environment,
        "dir_path": dir_path,
        "descriptors": descriptors,
        "streams": _streams,
    }
    exec(_code(decoder_source(layout)), names)  # noqa: S102
    made = names["decode"]
    assert callable(made)  # noqa: S101
    return made


DECODERS: Mapping[EventType, Decoder] = MappingProxyType({t: _make(layout) for t, layout in LAYOUTS.items()})

BY_NUMBER: tuple[Decoder, ...] = tuple(DECODERS[t] for t in NUMBERS)
"""The decoders by the number that stands in a record's head."""


def decode(record: Buffer) -> RawEvent:
    """Decode one record. Raises `ValueError` where it does not fit its layout."""
    try:
        number = record[TYPE_AT] | record[TYPE_AT + 1] << 8
        return BY_NUMBER[number](record)
    except (struct.error, IndexError) as error:
        raise ValueError(f"record of {len(record)} bytes does not fit its layout: {error}") from error


def encode(raw: RawEvent) -> bytes:
    """The record that `decode` reads back as `raw`: for recordings and tests."""
    layout = LAYOUTS[raw.type]
    values = dict(zip((p.name for p in layout.spec.stored), raw.params, strict=True))
    texts = [_bytes_of(p, values[p.name]) for p in layout.variable]
    head = (
        raw.ts_ns, raw.start_ns, raw.res, raw.pid, raw.tid, raw.uid, raw.gid, NUMBERS[raw.type], raw.cpu, raw.via,
    )  # fmt: skip
    lengths = {p.name: ABSENT if t is None else len(t) for p, t in zip(layout.variable, texts, strict=True)}
    fixed = (lengths.get(p.name, values[p.name]) for p in layout.order)
    return struct.pack(layout.code, *head, *fixed) + b"".join(text or b"" for text in texts)


def _bytes_of(param: Param, value: object) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    if param.type is ParamType.ARGS:
        assert isinstance(value, tuple)  # noqa: S101
        return "".join(f"{arg}\0" for arg in value).encode("utf-8", "surrogateescape")
    if param.type is ParamType.FDS:
        assert isinstance(value, tuple)  # noqa: S101
        return _listed(value)
    assert isinstance(value, str)  # noqa: S101
    return _walk(value) if param.type is ParamType.DIRPATH else value.encode("utf-8", "surrogateescape")


def _walk(value: str) -> bytes:
    """What `dir_path` reads back as `value`; empty for an empty one."""
    if not value:
        return b""
    if value == "/":
        return b"/\0"
    names = value.removeprefix(TRUNCATED).removeprefix("/").split("/")
    cut = "" if value.startswith("/") else "\0"
    return ("".join(f"{name}\0" for name in reversed(names)) + cut).encode("utf-8", "surrogateescape")
