"""What the running kernel says of its own structures: a reader of BTF.

Comes in: the bytes of `/sys/kernel/btf/vmlinux`. Goes out: offsets of members, sizes, values of enums. Never: a guess;
what is not there is None, and the caller names what is lost by it.

Source of the format: Documentation/bpf/btf.rst of the kernel.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from appliance.model.diagnostic import NotSupportedError
from appliance.model.text import why

VMLINUX = Path("/sys/kernel/btf/vmlinux")

_MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_MEMBER = struct.Struct("<III")
_ENUMERATOR = struct.Struct("<Ii")
_PARAMETER = struct.Struct("<II")
_POINTER, _STRUCT, _UNION, _ENUM, _TYPEDEF, _FUNCTION, _PROTOTYPE = 2, 4, 5, 6, 8, 12, 13
_TRANSPARENT = frozenset({8, 9, 10, 11, 18})  # typedef, volatile, const, restrict, type tag

# Bytes that follow a type's 12, by kind: (fixed, for each of its vlen members).
_TAIL = {
    1: (4, 0), 2: (0, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 7: (0, 0), 8: (0, 0), 9: (0, 0), 10: (0, 0),
    11: (0, 0), 12: (0, 0), 13: (0, 8), 14: (4, 0), 15: (0, 12), 16: (0, 0), 17: (4, 0), 18: (0, 0), 19: (0, 12),
}  # fmt: skip


@dataclass(slots=True)
class Btf:
    """The types of one kernel. `offset` and `enum` answer by name."""

    data: bytes
    types: list[int] = field(default_factory=lambda: [0])  # type id -> where its 12 bytes lie
    named: dict[str, list[int]] = field(default_factory=dict)  # name -> ids of the structs, unions and enums called so
    typedefs: dict[str, int] = field(default_factory=dict)  # of tracepoints only
    strings: int = 0

    def offset(self, path: str) -> int | None:
        """Bytes from a structure's start to a member: `sock.__sk_common.skc_family`; None if there is none such.

        Members of unnamed structures and unions within are members of the structure, as in C.
        """
        bits = self.bit(path)
        return None if bits is None else bits // 8

    def bit(self, path: str) -> int | None:
        """Bits from a structure's start to a member that may be a bit field; None if there is none such."""
        name, *members = path.split(".")
        for type_id in self.named.get(name, ()):
            found = self._walk(type_id, members)
            if found is not None:
                return found
        return None

    def size(self, name: str) -> int | None:
        """Size of a structure in bytes."""
        for type_id in self.named.get(name, ()):
            _, info, size = _TYPE.unpack_from(self.data, self.types[type_id])
            if info >> 24 & 31 in (_STRUCT, _UNION):
                return int(size)
        return None

    def enum(self, enumeration: str, name: str) -> int | None:
        """Value of one of an enumeration's names."""
        for type_id in self.named.get(enumeration, ()):
            at = self.types[type_id]
            _, info, _ = _TYPE.unpack_from(self.data, at)
            if info >> 24 & 31 != _ENUM:
                continue
            for i in range(info & 0xFFFF):
                name_at, value = _ENUMERATOR.unpack_from(self.data, at + 12 + 8 * i)
                if self._string(name_at) == name:
                    return int(value)
        return None

    def tracepoint(self, name: str) -> int | None:
        """How many arguments a raw tracepoint has; None where this kernel has no such tracepoint."""
        type_id: int | None = self.typedefs.get(f"btf_trace_{name}")
        while type_id:
            _, info, target = _TYPE.unpack_from(self.data, self.types[type_id])
            if info >> 24 & 31 == _PROTOTYPE:
                return int(info & 0xFFFF) - 1  # the first is the tracepoint's own
            type_id = target if info >> 24 & 31 in _TRANSPARENT | {_POINTER} else None
        return None

    def typed_tracepoint(self, name: str) -> int | None:
        """The type id by which a program attaches to a tracepoint whose arguments' types the verifier knows."""
        return self.typedefs.get(f"btf_trace_{name}")

    def function(self, name: str) -> int | None:
        """The type id of a kernel function, for programs that attach to it; None where there is none of that name."""
        wanted = name.encode() + b"\0"
        for type_id, at in enumerate(self.types):
            name_at, info, _ = _TYPE.unpack_from(self.data, at)
            if info >> 24 & 31 == _FUNCTION and self.data.startswith(wanted, self.strings + name_at):
                return type_id
        return None

    def calls(self, *begins: str) -> dict[str, tuple[int, int]]:
        """The kernel functions whose names begin so and that take a `struct pt_regs *` and nothing else: the type ids
        of each and of its prototype. Prototypes differ where the argument has another name."""
        names = tuple(b.encode() for b in begins)
        found: dict[str, tuple[int, int]] = {}
        kinds: dict[int, bool] = {}
        for type_id, at in enumerate(self.types):
            name_at, info, kind = _TYPE.unpack_from(self.data, at)
            if info >> 24 & 31 != _FUNCTION or not self.data.startswith(names, self.strings + name_at):
                continue
            if kind not in kinds:
                kinds[kind] = self._takes_registers(kind)
            if kinds[kind]:
                found.setdefault(self._string(name_at), (type_id, kind))
        return found

    def _takes_registers(self, prototype: int) -> bool:
        at = self.types[prototype]
        if _TYPE.unpack_from(self.data, at)[1] & 0xFFFF != 1:
            return False
        _, info, target = _TYPE.unpack_from(self.data, self.types[_PARAMETER.unpack_from(self.data, at + 12)[1]])
        return info >> 24 & 31 == _POINTER and self._resolve(target) in self.named.get("pt_regs", ())

    def _walk(self, type_id: int, members: Iterable[str]) -> int | None:
        total = 0
        for member in members:
            step = self._member(type_id, member)
            if step is None:
                return None
            total += step[0]
            type_id = step[1]
        return total

    def _member(self, type_id: int, wanted: str) -> tuple[int, int] | None:
        """(offset in bits, type id) of a member, looked for in unnamed parts too."""
        type_id = self._resolve(type_id)
        at = self.types[type_id]
        _, info, _ = _TYPE.unpack_from(self.data, at)
        if info >> 24 & 31 not in (_STRUCT, _UNION):
            return None
        for i in range(info & 0xFFFF):
            name_at, member_type, bits = _MEMBER.unpack_from(self.data, at + 12 + 12 * i)
            if info >> 31:  # the upper byte is a bit field's width
                bits &= 0xFFFFFF
            if name_at:
                if self._string(name_at) == wanted:
                    return bits, member_type
                continue
            inner = self._member(member_type, wanted)
            if inner is not None:
                return bits + inner[0], inner[1]
        return None

    def _resolve(self, type_id: int) -> int:
        while type_id:
            _, info, target = _TYPE.unpack_from(self.data, self.types[type_id])
            if info >> 24 & 31 not in _TRANSPARENT:
                break
            type_id = target
        return type_id

    def _string(self, at: int) -> str:
        start = self.strings + at
        return self.data[start : self.data.index(b"\0", start)].decode()


def read_btf(path: Path = VMLINUX) -> Btf:
    """Read a kernel's types. Raises `NotSupportedError` where there are none or they are not understood."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NotSupportedError(
            f"this kernel does not describe its types: {path}: {why(error)}",
            "a kernel built with CONFIG_DEBUG_INFO_BTF=y is needed, as Debian 11 and newer have",
        ) from error
    return parse_btf(data, str(path))


def parse_btf(data: bytes, name: str) -> Btf:
    """The same from bytes; `name` is used in errors."""
    try:
        return _index(data)
    except (struct.error, ValueError, KeyError) as error:
        raise NotSupportedError(
            f"the type description in {name} is not understood: {error}", "report it with the kernel's version"
        ) from error


def _index(data: bytes) -> Btf:
    magic, _, _, header_size, type_at, type_size, string_at, _ = _HEADER.unpack_from(data, 0)
    if magic != _MAGIC:
        raise ValueError(f"magic is {magic:#x}, not {_MAGIC:#x}")
    btf = Btf(data, strings=header_size + string_at)
    names: dict[int, str] = {}
    for type_id, name_at, kind, at in _types(data, header_size + type_at, type_size):
        btf.types.append(at)
        if name_at and kind in (_STRUCT, _UNION, _ENUM):
            name = names.get(name_at)
            if name is None:
                start = btf.strings + name_at
                name = names[name_at] = data[start : data.index(b"\0", start)].decode()
            btf.named.setdefault(name, []).append(type_id)
        elif kind == _TYPEDEF and data.startswith(b"btf_trace_", btf.strings + name_at):
            start = btf.strings + name_at
            btf.typedefs[data[start : data.index(b"\0", start)].decode()] = type_id
    return btf


def _types(data: bytes, at: int, size: int) -> Iterator[tuple[int, int, int, int]]:
    """(id, name's offset, kind, place) of each type, in order."""
    end, type_id, unpack, tail = at + size, 0, _TYPE.unpack_from, _TAIL
    while at < end:
        name_at, info, _ = unpack(data, at)
        type_id += 1
        kind = info >> 24 & 31
        yield type_id, name_at, kind, at
        fixed, each = tail[kind]
        at += 12 + fixed + each * (info & 0xFFFF)
