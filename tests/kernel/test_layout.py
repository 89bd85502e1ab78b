"""The record: decode undoes encode, and what does not fit is refused."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.catalog.params import VARIABLE, Param, ParamType
from appliance.kernel.decode import arguments, decode, dir_path, encode
from appliance.kernel.layout import LAYOUTS, c_structs
from appliance.model.event import EventType, RawEvent

S32 = st.integers(-(2**31), 2**31 - 1)
U16, U32, U64 = (st.integers(0, 2**n - 1) for n in (16, 32, 64))
# what os.fsdecode gives: any bytes but NUL
BYTES = st.binary(max_size=60).map(lambda b: b.replace(b"\0", b""))
TEXT = BYTES.map(os.fsdecode)
# the slashes go before: two bytes that a slash parted may be one character
NAME = BYTES.map(lambda b: os.fsdecode(b.replace(b"/", b""))).filter(bool)
PATH = st.lists(NAME, max_size=5).map(lambda names: "/" + "/".join(names))
ADDRESS = st.binary(min_size=16, max_size=16).map(bytes.hex)
LISTED = st.tuples(
    st.tuples(S32, U16, U16).map(lambda v: " ".join(map(str, v))),
    st.tuples(U32, U64, U32, U32, U32, U16, U16, U16, U16, U16, U16, ADDRESS, ADDRESS).map(
        lambda v: " ".join(map(str, v))
    ),
    st.just("") | PATH,
    st.binary(max_size=110).map(bytes.hex),
)  # one of engine.sockets.FdFacts

VALUES = {
    ParamType.FD: S32, ParamType.PID: S32, ParamType.UID: S32, ParamType.INT64: st.integers(-(2**63), 2**63 - 1),
    ParamType.UINT16: U16, ParamType.UINT32: U32, ParamType.UINT64: U64, ParamType.MODE: U32, ParamType.FLAGS: U32,
    ParamType.FLAGS16: U16, ParamType.INT16: st.integers(-(2**15), 2**15 - 1), ParamType.INT32: S32,
    ParamType.RELTIME: st.integers(-(2**63), 2**63 - 1), ParamType.SIGNAL: U32,
    ParamType.ABSTIME: U64, ParamType.SIGSET: U32, ParamType.DATA: st.none() | TEXT,
    ParamType.ENUM: U32, ParamType.ADDR16: st.binary(min_size=16, max_size=16), ParamType.PATH: st.none() | TEXT,
    ParamType.TEXT: st.none() | TEXT, ParamType.BYTES: st.none() | st.binary(max_size=60),
    ParamType.ARGS: st.none() | st.lists(NAME, max_size=5).map(tuple),
    ParamType.DIRPATH: st.none() | st.just("") | PATH,
    ParamType.FDS: st.none() | st.lists(LISTED, max_size=3).map(lambda fds: tuple(text for fd in fds for text in fd)),
}  # fmt: skip


@st.composite
def raw_events(draw: st.DrawFn) -> RawEvent:
    event_type = draw(st.sampled_from(list(EventType)))
    stored: tuple[Param, ...] = LAYOUTS[event_type].spec.stored
    params = tuple(draw(VALUES[p.type]) for p in stored)
    return RawEvent(
        event_type, draw(U64), draw(U16), draw(U32), draw(U32), draw(U64), draw(U32), draw(U32),
        draw(st.integers(-(2**63), 2**63 - 1)), params, draw(st.integers(0, 3)),
    )  # fmt: skip


@given(raw_events())
def test_decode_undoes_encode(raw: RawEvent) -> None:
    assert decode(encode(raw)) == raw


@given(raw_events(), st.data())
def test_a_cut_record_is_refused(raw: RawEvent, data: st.DataObject) -> None:
    record = encode(raw)
    with pytest.raises(ValueError, match="record of"):
        decode(record[: data.draw(st.integers(0, len(record) - 1).filter(lambda n: n < _needed(raw, record)))])


def _needed(raw: RawEvent, record: bytes) -> int:
    layout = LAYOUTS[raw.type]
    return layout.size if len(record) == layout.size else len(record)


@given(st.binary(max_size=300))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    try:
        decode(data)
    except ValueError as error:
        assert "record of" in str(error)


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b"c\0b\0a\0", "/a/b/c"),
        (b"/\0", "/"),
        (b"c\0b\0\0", "(truncated)/b/c"),
        (b"memfd:x\0", "/memfd:x"),
        (b"\xff\0a\0", "/a/\udcff"),
    ],
)
def test_dir_path(data: bytes, path: str) -> None:
    assert dir_path(data) == path


@pytest.mark.parametrize(
    ("data", "args"),
    [
        (b"a\0b\0", ("a", "b")),
        (b"a\0\0c d\0", ("a", "", "c d")),
        (b"a\0cut", ("a", "cut")),
        (b"\0", ("",)),
        (b"", ()),
    ],
)
def test_arguments(data: bytes, args: tuple[str, ...]) -> None:
    assert arguments(data) == args


def test_the_c_compiler_lays_it_out_the_same(tmp_path: Path) -> None:
    """Compile the structs and ask the compiler for sizes and places."""
    compiler = shutil.which("cc")
    assert compiler, "a C compiler is needed: make setup-test installs one"
    types = "typedef unsigned char u8; typedef unsigned short u16; typedef unsigned u32; typedef int s32;\n"
    types += "typedef short s16; typedef unsigned long long u64; typedef long long s64;\n"
    types += "#include <stddef.h>\n#include <stdio.h>\n"
    checks = []
    for t, layout in LAYOUTS.items():
        for p in layout.order:
            name, at = f"{'len_' if p.type in VARIABLE else ''}{p.name}", layout.places[p.name]
            checks.append(f'printf("{t.value}.{p.name} %zu {at}\\n", offsetof(struct rec_{t.value}, {name}));')
        checks.append(f'printf("{t.value} %zu {layout.size}\\n", sizeof(struct rec_{t.value}));')
    source = tmp_path / "check.c"
    source.write_text(types + c_structs() + "\nint main(void) {" + "\n".join(checks) + "return 0; }")
    subprocess.run([compiler, "-w", "-o", tmp_path / "check", source], check=True)
    lines = subprocess.run([tmp_path / "check"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) > 200
    assert [line for line in lines if len(set(re.split(" ", line)[1:])) != 1] == []
