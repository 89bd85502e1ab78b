"""Programs on disk: found again as they were, and refused where anybody else could have had a hand in them."""

# ruff: noqa: F811  (a fixture of another module)

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.kernel import loader
from appliance.kernel.kept import Kept, key_of
from appliance.kernel.objects import OWN_PID_MARK, Object, Table, from_bytes, ready, tables_named, to_bytes, with_places
from appliance.kernel.program import bpf_folder
from tests.support.nobody import NOBODY, as_nobody, of_nobody  # noqa: F401

KEY = key_of(["a text"])


def wide(value: int, source: int = 0) -> bytes:
    """The load of a 64-bit constant into register 1."""
    return struct.pack("=BBhIBBhI", 0x18, 1 | source << 4, 0, value & 0xFFFFFFFF, 0, 0, 0, value >> 32)


NARROW = bytes.fromhex("b700000000000000")  # r0 = 0
END = bytes.fromhex("9500000000000000")
CODE = wide(0, 1) + NARROW + wide(OWN_PID_MARK) + wide(1, 1) + END
MADE = Object((Table("like", 27, 0, 0, 4096, 0), Table("rings", 12, 4, 4, 2, 0, 0)), {"at_x": CODE, "at_y": END})


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    made = Kept(tmp_path / "state" / "programs")
    made.keep(KEY, MADE)
    return made


@pytest.fixture
def file(kept: Kept, tmp_path: Path) -> Path:
    (found,) = (tmp_path / "state" / "programs").iterdir()
    return found


def test_a_kept_program_is_found_as_it_was(kept: Kept, file: Path) -> None:
    assert kept.find(KEY) == MADE
    assert kept.find(key_of(["another text"])) is None
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_root_leaves_nothing_in_the_folder_of_the_service(of_nobody: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`tercel run` by hand before the unit has started."""
    kept = Kept(of_nobody / "programs")
    kept.keep(KEY, MADE)
    assert kept.find(KEY) is None
    assert "belongs to user 65534" in caplog.text
    assert not (of_nobody / "programs").exists()
    with as_nobody():
        kept.keep(KEY, MADE)
        assert kept.find(KEY) == MADE


def test_root_moves_no_folder_of_the_service(of_nobody: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One of its own in a folder of root's, as `/var/lib/tercel` is."""
    Kept(of_nobody).keep(KEY, MADE)
    assert [path.name for path in of_nobody.parent.iterdir()] == [of_nobody.name]
    assert of_nobody.stat().st_uid == NOBODY and list(of_nobody.iterdir()) == []
    assert "belongs to user 65534" in caplog.text


def test_what_root_left_there_before_is_put_aside(of_nobody: Path) -> None:
    (of_nobody / "programs").mkdir(mode=0o700)
    kept = Kept(of_nobody / "programs")
    with as_nobody():
        assert kept.find(KEY) is None
        kept.keep(KEY, MADE)
        assert kept.find(KEY) == MADE
        assert sorted(path.name for path in of_nobody.iterdir()) == ["programs", "programs.of-0"]


def rename(file: Path) -> None:
    moved = file.with_name("elsewhere")
    file.rename(moved)
    file.symlink_to(moved)


def give_away(path: Path) -> None:
    os.chown(path, 65534, 65534)


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


MEDDLERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped bit": (flip, "does not hold what it says"),
    "a cut": (lambda f: f.write_bytes(f.read_bytes()[:-9]), "does not hold what it says"),
    "nothing": (lambda f: f.write_bytes(b""), "does not hold what it says"),
    "a file for all": (lambda f: f.chmod(0o666), "can be written by others"),
    "a folder for all": (lambda f: f.parent.chmod(0o777), "can be written by others"),
    "a sticky folder for all": (lambda f: f.parent.chmod(0o1777), "can be written by others"),
    "a folder above for all": (lambda f: f.parents[1].chmod(0o777), "can be written by others"),
    "a folder above for a group": (lambda f: f.parents[1].chmod(0o775), "can be written by others"),
    "a link": (rename, "Too many levels of symbolic links"),
    "two names": (lambda f: os.link(f, f.with_name("second")), "a file with one name"),
}
OTHERS = {
    "another's file": (lambda f: give_away(f), "belongs to user 65534"),
    "another's folder": (lambda f: give_away(f.parent), "belongs to user 65534"),
    "a folder above that is another's": (lambda f: give_away(f.parents[1]), "belongs to user 65534"),
}


def refused(kept: Kept, log: pytest.LogCaptureFixture, why: str) -> None:
    assert kept.find(KEY) is None
    (line,) = (record.getMessage() for record in log.records)
    assert why in line


@pytest.mark.parametrize("what", MEDDLERS)
def test_what_others_could_have_written_is_refused(
    kept: Kept, file: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    meddle, why = MEDDLERS[what]
    meddle(file)
    refused(kept, caplog, why)


@pytest.mark.kernel
@pytest.mark.parametrize("what", OTHERS)
def test_what_belongs_to_others_is_refused(kept: Kept, file: Path, caplog: pytest.LogCaptureFixture, what: str) -> None:
    meddle, why = OTHERS[what]
    meddle(file)
    refused(kept, caplog, why)


def test_a_program_kept_under_anothers_name_is_refused(
    kept: Kept, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = key_of(["another text"])
    file.rename(file.with_name(f"{other[:32]}.program"))
    assert kept.find(other) is None
    assert "does not hold what it says" in caplog.text


def test_nothing_is_kept_where_others_can_write(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "programs"
    folder.mkdir()
    folder.chmod(0o777)
    Kept(folder).keep(KEY, MADE)
    assert list(folder.iterdir()) == []
    assert "can be written by others" in caplog.text


def test_a_bad_one_is_replaced_and_only_the_last_few_stay(kept: Kept, file: Path) -> None:
    flip(file)
    left, writing = (file.parent / f".{file.name}.{pid}" for pid in (123, 124))
    left.write_text("left by a start that was killed")
    os.utime(left, (0, 0))
    writing.write_text("another start's")
    kept.keep(KEY, MADE)
    assert (left.exists(), writing.exists()) == (False, True)
    writing.unlink()
    assert kept.find(KEY) == MADE
    for n in range(6):
        kept.keep(key_of([str(n)]), MADE)
    assert len(list(file.parent.iterdir())) == 4
    assert kept.find(key_of(["5"])) == MADE


def test_another_place_of_the_same_headers_needs_no_new_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(folder: Path) -> str:
        monkeypatch.setattr(loader, "bpf_folder", lambda: folder)
        return loader._key({"text": "a text", "stubs": str(folder / "stubs")})

    here = bpf_folder()
    other = tmp_path / "releases/2"
    shutil.copytree(here, other)
    assert key(other) == key(here)
    header = next((other / "stubs").rglob("version.h"))
    header.write_text(f"{header.read_text()}\n#define MORE 1\n")
    assert key(other) != key(here)
    header.unlink()
    assert key(other) != key(here)


def test_instructions_get_descriptors_and_our_pid() -> None:
    loaded = ready(CODE, [7, 9], 4711)
    assert loaded == wide(7, 1) + NARROW + wide(4711) + wide(9, 1) + END
    assert list(tables_named(loaded)) == [7, 9]
    assert with_places(loaded, {7: 0, 9: 1}) == wide(0, 1) + NARROW + wide(4711) + wide(1, 1) + END


CODES = st.lists(
    st.one_of(
        st.just(NARROW), st.builds(wide, st.integers(0, 2**64 - 1)), st.builds(wide, st.integers(0, 1), st.just(1))
    )
).map(b"".join)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=5), CODES, max_size=3))
def test_an_object_is_read_back_as_it_was(functions: dict[str, bytes]) -> None:
    made = Object(MADE.tables, functions)
    assert from_bytes(to_bytes(made)) == made


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"[1]", b'{"tables": [], "functions": {"x": "lQ=="}}', b'{"tables": [{}], "functions": {}}',
        to_bytes(Object((), {"x": wide(0, 1)})), to_bytes(Object((Table("t", 12, 4, 4, 1, 0, 0),), {})),
    ],
)  # fmt: skip
def test_anything_else_is_no_object(data: bytes) -> None:
    with pytest.raises(ValueError):
        from_bytes(data)
