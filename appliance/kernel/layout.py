"""The record, laid out once: from the rows of `catalog.events` to the C structs and to the decoder's places.

Comes in: an event's row. Goes out: its `Layout`, the C text of its struct. Never: a second opinion; C and decoder both
read what stands here.

A record is: the head; the parameters of fixed size, largest first so that nothing needs padding within; one u16 for
each parameter of variable size, its length in bytes (`ABSENT` where the kernel could not read it); the bytes of these
parameters, back to back, in table order. The parameters of a block, laid out by the same rule, come before the others:
they lie at the same place in every record, and one piece of C fills them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from appliance.catalog.events import EVENTS, EventSpec
from appliance.catalog.params import VARIABLE, Param, ParamType
from appliance.model.event import EventType

ABSENT = 0xFFFF

# C type, struct code and size of each fixed type.
_FIXED: Mapping[ParamType, tuple[str, str, int]] = MappingProxyType(
    {
        ParamType.FD: ("s32", "i", 4),
        ParamType.PID: ("s32", "i", 4),
        ParamType.INT16: ("s16", "h", 2),
        ParamType.INT32: ("s32", "i", 4),
        ParamType.INT64: ("s64", "q", 8),
        ParamType.RELTIME: ("s64", "q", 8),
        ParamType.ABSTIME: ("u64", "Q", 8),
        ParamType.SIGSET: ("u32", "I", 4),
        ParamType.SIGNAL: ("u32", "I", 4),
        ParamType.UINT16: ("u16", "H", 2),
        ParamType.UINT32: ("u32", "I", 4),
        ParamType.UINT64: ("u64", "Q", 8),
        ParamType.UID: ("u32", "i", 4),  # read as signed: 4294967295 is -1
        ParamType.MODE: ("u32", "I", 4),
        ParamType.FLAGS: ("u32", "I", 4),
        ParamType.FLAGS16: ("u16", "H", 2),
        ParamType.ENUM: ("u32", "I", 4),
        ParamType.ADDR16: ("u8", "16s", 16),
    }
)

# The head of every record: name, C type, struct code. 48 bytes.
HEAD = (
    ("ts_ns", "u64", "Q"),
    ("start_ns", "u64", "Q"),
    ("res", "s64", "q"),
    ("pid", "u32", "I"),
    ("tid", "u32", "I"),
    ("uid", "u32", "I"),
    ("gid", "u32", "I"),
    ("type", "u16", "H"),
    ("cpu", "u16", "H"),
    ("via", "u32", "I"),
)
HEAD_SIZE = 48
TYPE_AT = 40

NUMBERS: Mapping[EventType, int] = MappingProxyType({t: i for i, t in enumerate(EventType)})
"""The number that stands for an event's type in a record and in the kernel's books."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of one event's record lie.

    `code` is the `struct` code of all fixed parts, head and lengths included; `order` are the stored parameters in the
    order in which `code` yields them (or their lengths) behind the head, and `places` where each of these lies;
    `variable` are those whose bytes follow, in this order; `size` is where the variable bytes begin.
    """

    spec: EventSpec
    code: str
    order: tuple[Param, ...]
    places: Mapping[str, int]
    variable: tuple[Param, ...]
    size: int


def size_of(param: Param) -> int:
    """Bytes that a parameter, or the length of a variable one, takes in the fixed part of a record."""
    return 2 if param.type in VARIABLE else _FIXED[param.type][2]


def _ordered(params: Iterable[Param]) -> list[Param]:
    return sorted(params, key=lambda p: (p.type in VARIABLE, 0 if p.type in VARIABLE else -size_of(p)))


def layout_of(spec: EventSpec) -> Layout:
    """Lay out one event's record."""
    code, at = "<" + "".join(c for _, _, c in HEAD), HEAD_SIZE
    order: list[Param] = []
    places: dict[str, int] = {}
    for part in ([p for p in spec.stored if p.block], [p for p in spec.stored if not p.block]):
        for p in _ordered(part):
            code += "H" if p.type in VARIABLE else _FIXED[p.type][1]
            places[p.name] = at
            at += size_of(p)
            order.append(p)
        padding = -at % 8
        code, at = code + "x" * padding, at + padding
    variable = tuple(p for p in spec.stored if p.type in VARIABLE)
    return Layout(spec, code, tuple(order), MappingProxyType(places), variable, at)


LAYOUTS: Mapping[EventType, Layout] = MappingProxyType({t: layout_of(spec) for t, spec in EVENTS.items()})


def _c_members(layout: Layout) -> list[str]:
    lines, at, ends = ["    struct head head;"], HEAD_SIZE, 0
    for p in layout.order:
        if layout.places[p.name] != at:
            lines.append(f"    u8 end_{ends}[{layout.places[p.name] - at}];")
            ends += 1
        c_type = "u16" if p.type in VARIABLE else _FIXED[p.type][0]
        name = f"len_{p.name}" if p.type in VARIABLE else p.name
        lines.append(f"    {c_type} {name}{'[16]' if p.type is ParamType.ADDR16 else ''};")
        at = layout.places[p.name] + size_of(p)
    return lines


def c_structs(types: Iterable[EventType] = EVENTS) -> str:
    """The C text: `struct head`, the number of each type as `T_<NAME>`, a `struct rec_<name>` for each of `types`, a
    `struct block_<name>` for each block."""
    lines = ["struct head {", *(f"    {c_type} {name};" for name, c_type, _ in HEAD), "};", ""]
    lines += [f"#define T_{t.name} {number}" for t, number in NUMBERS.items()]
    lines += [f"#define T_COUNT {len(NUMBERS)}", f"#define ABSENT {ABSENT:#x}", ""]
    blocks: dict[str, list[Param]] = {}
    named = frozenset(types)
    for event_type, layout in LAYOUTS.items():
        if event_type in named:
            lines += [f"struct rec_{event_type.value} {{", *_c_members(layout), "} __attribute__((aligned(8)));", ""]
        block = [p for p in layout.order if p.block]
        if block and block[0].block:
            blocks.setdefault(block[0].block, block)
    for name, params in blocks.items():
        spec = EventSpec(EventType.OPEN, EVENTS[EventType.OPEN].category, tuple(params))
        lines += [f"struct block_{name} {{", *_c_members(layout_of(spec)), "} __attribute__((aligned(8)));", ""]
    return "\n".join(lines)
