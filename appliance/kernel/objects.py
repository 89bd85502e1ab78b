"""What the compiler makes of a program's text: instructions and the tables that they name. Bytes, and back.

Comes in: instructions as bcc leaves them, or bytes from the disk. Goes out: an `Object`; instructions to load. Never:
anything of this process or this start; descriptors and our own pid are put in when it is loaded.

Of the instruction set (Documentation/bpf/instruction-set.rst) one instruction matters here: the load of a 64-bit
constant, two slots long, which also names tables.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

OWN_PID_MARK = 0x7E5CE10F_A1B2C3D4
"""Stands in the text for the pid that is not judged: a program must not differ from start to start."""

_SLOT = 8
_LOAD_64 = 0x18  # BPF_LD | BPF_DW | BPF_IMM
_TABLE = 1  # BPF_PSEUDO_MAP_FD, in the place of the source register
_SECOND = struct.Struct("=xxxxi")
ARRAY_OF_MAPS = 12  # enum bpf_map_type


@dataclass(frozen=True, slots=True)
class Table:
    """A map as bpf(2) makes one. `inner`: the place of the table that its own tables are like, -1 where it has none."""

    name: str
    kind: int
    key_size: int
    value_size: int
    entries: int
    flags: int
    inner: int = -1


@dataclass(frozen=True, slots=True)
class Object:
    """Functions by name; where their instructions load a table, its place in `tables` stands."""

    tables: tuple[Table, ...]
    functions: Mapping[str, bytes]


def tables_named(code: bytes) -> Iterator[int]:
    """What instructions load as tables: descriptors, or places."""
    for at in _wide(code):
        if code[at + 1] >> 4 == _TABLE:
            yield _SECOND.unpack_from(code, at)[0]


def with_places(code: bytes, places: Mapping[int, int]) -> bytes:
    """The instructions with tables by their places, from descriptors."""
    made = bytearray(code)
    for at in _wide(code):
        if code[at + 1] >> 4 == _TABLE:
            struct.pack_into("=i", made, at + 4, places[_SECOND.unpack_from(code, at)[0]])
    return bytes(made)


def ready(code: bytes, descriptors: Sequence[int], own_pid: int) -> bytes:
    """The instructions as they can be loaded by the process that holds these descriptors."""
    made = bytearray(code)
    for at in _wide(code):
        low, high = _SECOND.unpack_from(code, at)[0], _SECOND.unpack_from(code, at + _SLOT)[0]
        if code[at + 1] >> 4 == _TABLE:
            struct.pack_into("=i", made, at + 4, descriptors[low])
        elif low & 0xFFFFFFFF | (high & 0xFFFFFFFF) << 32 == OWN_PID_MARK:
            struct.pack_into("=i", made, at + 4, own_pid)
            struct.pack_into("=i", made, at + 4 + _SLOT, 0)
    return bytes(made)


def _wide(code: bytes) -> Iterator[int]:
    """Where the loads of 64-bit constants stand."""
    at, last = 0, len(code) - 2 * _SLOT
    while at <= last:
        if code[at] == _LOAD_64:
            yield at
            at += _SLOT
        at += _SLOT


def to_json(made: Object) -> dict[str, Any]:
    """As what `from_json` reads."""
    codes = {name: base64.b64encode(code).decode() for name, code in made.functions.items()}
    return {"tables": [asdict(table) for table in made.tables], "functions": codes}


def from_json(told: Any) -> Object:
    """Read `to_json` back. Raises `ValueError` for anything else, and where an instruction names no table."""
    try:
        tables = tuple(Table(str(t.pop("name")), **{k: int(v) for k, v in t.items()}) for t in told["tables"])
        functions = {str(n): base64.b64decode(c, validate=True) for n, c in told["functions"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a compiled program: {error!r}") from error
    for name, code in functions.items():
        if len(code) % _SLOT or not all(0 <= place < len(tables) for place in tables_named(code)):
            raise ValueError(f"`{name}` is not made of instructions and these tables")
    if not all(table.inner < place for place, table in enumerate(tables)):
        raise ValueError("a table is like one that comes behind it")
    return Object(tables, functions)


def to_bytes(made: Object) -> bytes:
    """As what `from_bytes` reads."""
    return json.dumps(to_json(made)).encode()


def from_bytes(data: bytes) -> Object:
    """Read `to_bytes` back. Raises `ValueError` for anything else."""
    return from_json(json.loads(data))
