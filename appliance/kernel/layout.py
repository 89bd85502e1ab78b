"""The record, laid out once: from the rows of `catalog.events` to the C structs and to the decoder's places.

Comes in: an event's row. Goes out: its `Layout`, the C text of its struct. Never: a second opinion; C and decoder both
read what stands here.

A record is: the head; the parameters of fixed size, largest first so that nothing needs padding within; one u16 for
each parameter of variable size, its length in bytes (`ABSENT` where the kernel could not read it); the bytes of these
parameters, back to back, in table order.
"""

from __future__ import annotations

from collections.abc import Mapping
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
        ParamType.INT64: ("s64", "q", 8),
        ParamType.UINT16: ("u16", "H", 2),
        ParamType.UINT32: ("u32", "I", 4),
        ParamType.UINT64: ("u64", "Q", 8),
        ParamType.UID: ("u32", "i", 4),  # read as signed: 4294967295 is -1
        ParamType.MODE: ("u32", "I", 4),
        ParamType.FLAGS: ("u32", "I", 4),
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
    ("reserved", "u32", "I"),
)
HEAD_SIZE = 48
TYPE_AT = 40

NUMBERS: Mapping[EventType, int] = MappingProxyType({t: i for i, t in enumerate(EventType)})
"""The number that stands for an event's type in a record and in the kernel's books."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of one event's record lie.

    `code` is the `struct` code of all fixed parts, head and lengths included; `slots` are the stored parameters in the
    order in which `code` yields them behind the head; `size` is where the variable bytes begin.
    """

    spec: EventSpec
    code: str
    fixed: tuple[Param, ...]
    variable: tuple[Param, ...]
    size: int


def layout_of(spec: EventSpec) -> Layout:
    """Lay out one event's record."""
    variable = tuple(p for p in spec.stored if p.type in VARIABLE)
    fixed = tuple(sorted((p for p in spec.stored if p.type not in VARIABLE), key=lambda p: -_FIXED[p.type][2]))
    code = "<" + "".join(c for _, _, c in HEAD) + "".join(_FIXED[p.type][1] for p in fixed) + "H" * len(variable)
    size = HEAD_SIZE + sum(_FIXED[p.type][2] for p in fixed) + 2 * len(variable)
    padding = -size % 8
    return Layout(spec, code + "x" * padding, fixed, variable, size + padding)


LAYOUTS: Mapping[EventType, Layout] = MappingProxyType({t: layout_of(spec) for t, spec in EVENTS.items()})


def c_structs() -> str:
    """The C text: `struct head`, the number of each type as `T_<NAME>`, and a `struct rec_<name>` for each event."""
    lines = ["struct head {", *(f"    {c_type} {name};" for name, c_type, _ in HEAD), "};", ""]
    lines += [f"#define T_{t.name} {number}" for t, number in NUMBERS.items()]
    lines += [f"#define T_COUNT {len(NUMBERS)}", f"#define ABSENT {ABSENT:#x}", ""]
    for event_type, layout in LAYOUTS.items():
        lines += [f"struct rec_{event_type.value} {{", "    struct head head;"]
        for p in layout.fixed:
            lines.append(f"    {_FIXED[p.type][0]} {p.name}{'[16]' if p.type is ParamType.ADDR16 else ''};")
        lines += [f"    u16 len_{p.name};" for p in layout.variable]
        lines += ["} __attribute__((aligned(8)));", ""]
    return "\n".join(lines)
