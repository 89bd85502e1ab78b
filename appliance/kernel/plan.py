"""Plans: from an event's row to the bytes that tell bpf/plan.c what to do at the end of its call.

Comes in: an event's layout. Goes out: the program that makes its records and the plan it reads. Never: a plan for a row
that says of some parameter not where it is; such an event has a program of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from appliance.catalog.params import CWD, VEC, ZERO, Arg, Param, ParamType
from appliance.kernel.layout import NUMBERS, Layout, size_of

STEPS, TEXTS, BASES = 9, 4, 2
_MEMORY = ("size", "rss", "swap")  # as bpf/process.c numbers them
_PLACE_MAX = 480  # of bpf/plan.c
_NOTHING = 255
_STEP, _TEXT, _BASE = struct.Struct("<HBBBBHIIB3x"), struct.Struct("<HBBBBHBxxxI"), struct.Struct("<HBB")

# Which program fills a block.
_BLOCKS = {"fd": "descriptor", "cred": "identity"}
# How many texts a program takes before the bytes that it puts by itself, and how many behind them.
_ROOM = {"registers": (0, 0), "identity": (0, 0), "descriptor": (2, 1), "paths": (4, 0)}


@dataclass(frozen=True, slots=True)
class Plan:
    """`program` is a HANDLER of bpf/plan.c, `data` its struct plan."""

    program: str
    data: bytes


def plan_of(layout: Layout, offset: Callable[[str], int | None], *, short_ids: bool = False) -> Plan | None:
    """The plan of an event's call, or None where a row does not say where its parameters are.

    `offset` finds a member of a kernel structure. Raises `ValueError` for a row that no program can follow.
    """
    own = [p for p in layout.spec.stored if not p.block]
    blocks = {p.block for p in layout.spec.stored if p.block}
    if any(p.arg is None for p in own) or (blocks == {"fd"} and layout.spec.fd_arg is None):
        return None
    texts = [p for p in own if p.type in (ParamType.TEXT, ParamType.PATH, ParamType.BYTES, ParamType.DATA)]
    # a path that no plan tells has no bytes: the value that is filled is its length
    bases = [p for p in own if p.type is ParamType.DIRPATH and _arg(p).n != ZERO]
    values = [p for p in own if p not in texts and p not in bases]
    program = _BLOCKS[blocks.pop() or ""] if blocks else "paths" if texts or bases else "registers"
    before, behind = _sides(layout, texts)
    room = _ROOM[program]
    fits = (
        max(layout.places.values(), default=0) <= _PLACE_MAX
        and len(values) <= STEPS
        and len(before) <= room[0]
        and len(behind) <= room[1]
    )
    if blocks or not fits or (bases and program != "paths") or len(bases) > BASES:
        raise ValueError(f"no program of bpf/plan.c can fill the record of `{layout.spec.type.value}`")
    slots: list[Param | None] = [*before, *([None] * (room[0] - len(before))), *behind]
    head = struct.pack(
        "<HHBBBB", NUMBERS[layout.spec.type], layout.size, *map(_place, (layout.spec.fd_arg, layout.spec.vector)),
        _place(layout.spec.message), layout.spec.several,
    )  # fmt: skip
    return Plan(
        program,
        head
        + b"".join(_step(layout, p, offset, short_ids) for p in values).ljust(STEPS * _STEP.size, b"\0")
        + b"".join(_text(layout, p) for p in slots).ljust(TEXTS * _TEXT.size, b"\0")
        + b"".join(_base(layout, p, texts) for p in bases).ljust(BASES * _BASE.size, b"\0"),
    )


def _place(argument: int | None) -> int:
    return _NOTHING if argument is None else argument


def _arg(param: Param) -> Arg:
    assert param.arg is not None  # noqa: S101
    return param.arg


def _sides(layout: Layout, texts: list[Param]) -> tuple[list[Param], list[Param]]:
    """The texts that come before the bytes of the event's block, and those behind."""
    order = [p.name for p in layout.variable]
    border = next((i for i, p in enumerate(layout.variable) if p.block), len(order))
    return [p for p in texts if order.index(p.name) < border], [p for p in texts if order.index(p.name) > border]


def _step(layout: Layout, param: Param, offset: Callable[[str], int | None], short_ids: bool) -> bytes:
    arg = _arg(param)
    kind, place = 1, 0
    if arg.at is not None:
        kind, place = 2, arg.at
    elif arg.long is not None:
        kind, place = 3, arg.long
    elif arg.sock is not None:
        found = offset(arg.sock)
        kind, place = (1, 0) if found is None else (4, found)
    elif arg.memory is not None:
        kind, place = 5, _MEMORY.index(arg.memory)
    owner = arg.owner or param.type is ParamType.UID
    flags = arg.out | 2 * (short_ids and owner and arg.at is None)
    return _STEP.pack(
        layout.places[param.name], arg.n, kind, size_of(param), flags, place, arg.mask, _when(arg), _only(arg)
    )


def _text(layout: Layout, param: Param | None) -> bytes:
    if param is None:
        return bytes(_TEXT.size)
    arg = _arg(param)
    if param.type not in (ParamType.BYTES, ParamType.DATA):
        return _TEXT.pack(layout.places[param.name], arg.n, 1, 0, arg.out, 0, _only(arg), _when(arg))
    assert arg.size is not None  # noqa: S101
    kind = 4 if arg.n == VEC else 3 if arg.size_at else 2
    return _TEXT.pack(layout.places[param.name], arg.n, kind, arg.size, arg.out, arg.most, _only(arg), _when(arg))


def _when(arg: Arg) -> int:
    return 0xFFFFFFFF if arg.only is None else arg.when


def _only(arg: Arg) -> int:
    return 0 if arg.only is None else arg.only + 1


def _base(layout: Layout, param: Param, texts: list[Param]) -> bytes:
    path = next(p.name for p in layout.spec.paths if p.base == param.name)
    text = [p.name for p in texts].index(path)
    folder = _arg(param).n
    return _BASE.pack(layout.places[param.name], _NOTHING if folder == CWD else folder, text)
