"""The kernel's filter of opens, live: it keeps and drops what the same table keeps and drops in Python."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.catalog.opens import ALL, CLASSES, READ, class_of
from appliance.codegen.reach import ENDS, REAL
from appliance.engine.early import Early, _table, plain
from appliance.kernel.early import KEY_BYTES, KeptOpens
from appliance.kernel.program import Buffers
from appliance.model.event import SAMPLED
from appliance.model.event import EventType as E
from appliance.sources.syscall import SyscallSource
from tests.support.capture import HOOKS
from tests.support.daemon import PROGRAMS

pytestmark = pytest.mark.kernel

PARTS = ("etc", "a", "bb", ".ssh", "shadow", "x.pub", "..", ".", "", "a..b", ".h", "é", "long" * 12)
SCRIPT = """
import json, os, sys
for path, flags in json.load(open(sys.argv[1])):
    try: os.close(os.open(os.fsencode(path), flags, 0o600))
    except OSError: pass
"""


@pytest.fixture(scope="module")
def source() -> Iterator[SyscallSource]:
    made = SyscallSource(Buffers(8 << 20), {E.OPENAT}, hooks=HOOKS, programs=PROGRAMS, early=True)
    yield made
    made.stop(lambda batch: None)
    made.close()


def opened(source: SyscallSource, folder: Path, some: list[tuple[str, int]]) -> Counter[tuple[str, int]]:
    """What comes of these opens, made in a folder, by name and flags; samples left out."""
    file = folder / "opens.json"
    file.write_text(json.dumps(some))
    child = subprocess.Popen([sys.executable, "-S", "-c", SCRIPT, str(file)], cwd=folder)
    assert child.wait() == 0
    told: Counter[tuple[str, int]] = Counter()
    for e in source.read(1 << 20):
        if e.type is E.OPENAT and e.pid == child.pid and e.via != SAMPLED:
            told[str(e.params[1]), int(str(e.params[2])) & 0x3FFFFF & ~os.O_CLOEXEC] += 1
    return told


def expected(early: Early, name: str, flags: int, *, real: str | None = None, res: int = -2) -> bool:
    path = os.fsencode(name)
    number = class_of(flags, res, path if plain(path) and len(path) < KEY_BYTES else b"")
    return early.keeps(number, path if plain(path) else None, None if real is None else os.fsencode(real))


def test_it_keeps_what_python_keeps(source: SyscallSource, tmp_path: Path) -> None:
    """Random tables, random paths of files that are not there, by all classes of opens that make no file."""
    chance = random.Random(17)

    def path() -> str:
        return chance.choice(["/nowhere/", "/nowhere/", "/nowhere/", "nowhere/", "//nowhere/"]) + "/".join(
            chance.choices(PARTS, k=chance.randint(1, 6))
        )

    kept = dropped = 0
    for _ in range(12):
        paths = [path() for _ in range(120)]
        reach: dict[bytes, int] = {}
        for some in chance.choices(paths, k=12):
            whole = os.fsencode(some)
            begin = whole[: chance.randint(1, len(whole))] + chance.choice([b"", b"\0"])
            end = ENDS + whole[-chance.randint(1, len(whole)) :][::-1]
            piece = chance.choice([begin if begin[:1] == b"/" else end, end])
            reach[piece] = chance.getrandbits(CLASSES) & chance.choice([ALL, chance.getrandbits(CLASSES)])
        early = _table(reach)
        source.drop_opens(KeptOpens(early.entries, early.ends, early.real))
        some_opens = [
            (p, chance.choice([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_DIRECTORY, os.O_PATH])) for p in paths
        ]
        told = opened(source, tmp_path, some_opens)
        want = Counter(one for one in some_opens if expected(early, *one))
        mine = Counter({one: count for one, count in told.items() if "nowhere" in one[0]})
        assert mine == want, (early, mine - want, want - mine)
        kept, dropped = kept + want.total(), dropped + len(some_opens) - want.total()
    source.drop_opens(None)
    assert kept > 100 and dropped > 100
    assert source.differences() == []


def test_a_link_is_known_by_where_it_leads(source: SyscallSource, tmp_path: Path) -> None:
    (tmp_path / "wanted").write_text("")
    (tmp_path / "other").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "wanted")
    (tmp_path / "away").symlink_to(tmp_path / "other")
    early = _table({REAL + b"wanted\0": ALL})
    source.drop_opens(KeptOpens(early.entries, early.ends, early.real))
    names = [str(tmp_path / name) for name in ("wanted", "other", "link", "away", "gone")]
    told = opened(source, tmp_path, [(name, os.O_RDONLY) for name in names])
    source.drop_opens(None)
    assert {name for name, _ in told if name in names} == {names[0], names[2]}


def test_what_is_dropped_is_counted_and_what_is_off_drops_nothing(source: SyscallSource, tmp_path: Path) -> None:
    some = [(f"/nowhere/{n}", os.O_RDONLY) for n in range(9000)]
    source.read(1 << 20)
    before = source.books().by_type[E.OPENAT]
    early = _table({b"/etc/": ALL})
    source.drop_opens(KeptOpens(early.entries, early.ends, early.real))
    file = tmp_path / "opens.json"
    file.write_text(json.dumps(some))
    child = subprocess.Popen([sys.executable, "-S", "-c", SCRIPT, str(file)], cwd=tmp_path)
    assert child.wait() == 0
    events = [e for e in source.read(1 << 20) if e.type is E.OPENAT]
    after = source.books().by_type[E.OPENAT]
    samples = [e for e in events if e.via == SAMPLED]
    assert after.produced - before.produced == len(events) + after.filtered - before.filtered
    assert after.filtered - before.filtered > 8900 and len(samples) < 60
    mine = [str(e.params[1]) for e in samples if e.pid == child.pid]
    assert not any(early.keeps(READ, os.fsencode(name)) for name in mine if "nowhere" in name)
    source.drop_opens(None)
    told = opened(source, tmp_path, some[:500])
    assert sum(count for (name, _), count in told.items() if "nowhere" in name) == 500
