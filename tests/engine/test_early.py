"""What the kernel may drop of opens: never one that a rule holds on, whatever the rule, the open and who makes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.catalog.events import EVENTS
from appliance.catalog.opens import CREATE, FAILED, FOLDER, HIDDEN, OF_CREAT, READ, WRITE, class_of, flags_of
from appliance.codegen.reach import ENDS, REAL
from appliance.engine.early import KEY_BYTES, Early, early_of, plain
from appliance.engine.ruleset import _compile_check
from appliance.engine.state import State
from appliance.kernel import early as of_kernel
from appliance.lang.load import load_rules
from appliance.model.event import SAMPLED, VIA, Account, Container, EventType, RawEvent
from appliance.model.expr import And, Check, Expr, FieldRef, Not, Or, Quantifier, Word
from appliance.model.field import Operator
from tests.codegen.test_python import rule_of
from tests.support.rules import ruleset_of

OPENS = (EventType.OPEN, EventType.OPENAT, EventType.OPENAT2, EventType.CREAT)
NAMES = ("etc", "a", "b", ".ssh", "shadow", "x.pub", "..", ".", "", "id_rsa", "a..b", ".hidden", "\udcff")
TEXTS = (
    "/etc/shadow", "/etc", "/etc/", "/", "", "shadow", ".pub", "/.ssh/", "id_", "..", "../", "/a/b", "a", ".ssh", "/*",
    "/*/.ssh/id_*", "/etc/[s.]*", "/a/?", "/a/{b,c}", "\\.pub", "/b/\udcff", "x.pub", "b/a", "/.", "/b/..",
)  # fmt: skip
paths = st.builds(
    lambda root, parts: root + "/".join(parts), st.sampled_from(["/", "", "//"]), st.lists(st.sampled_from(NAMES))
)
words = st.sampled_from(TEXTS).map(lambda text: Word(text, quoted=True))
_TEXTUAL = ("fd.name", "fd.nameraw", "fs.path.name", "fs.path.nameraw", "fd.directory", "fd.filename", "fd.realpath")
textual = st.builds(
    Check,
    st.sampled_from(_TEXTUAL).map(FieldRef),
    st.sampled_from(
        [Operator.EQ, Operator.NE, Operator.STARTSWITH, Operator.ENDSWITH, Operator.CONTAINS, Operator.GLOB,
         Operator.ICONTAINS]
    ),
    words,
)  # fmt: skip
several = st.builds(
    Check,
    st.sampled_from(_TEXTUAL).map(FieldRef),
    st.sampled_from([Operator.IN, Operator.PMATCH, Operator.INTERSECTS]),
    st.lists(words, min_size=1, max_size=3).map(tuple),
)
quantified = st.builds(
    Check,
    st.sampled_from(_TEXTUAL).map(FieldRef),
    st.sampled_from([Operator.STARTSWITH, Operator.ENDSWITH, Operator.CONTAINS]),
    st.lists(words, min_size=1, max_size=3).map(tuple),
    st.sampled_from(Quantifier),
)
_YES = ("evt.is_open_read", "evt.is_open_write", "evt.is_open_create", "evt.is_open_exec", "evt.failed")
yes_or_no = st.builds(
    Check,
    st.sampled_from(_YES).map(FieldRef),
    st.sampled_from([Operator.EQ, Operator.NE]),
    st.sampled_from([Word("true"), Word("false")]),
)
numbers = st.builds(
    Check,
    st.sampled_from([FieldRef("fd.num"), FieldRef("evt.rawres")]),
    st.sampled_from([Operator.GE, Operator.GT, Operator.LT, Operator.LE, Operator.EQ, Operator.NE]),
    st.sampled_from([Word("0"), Word("-1"), Word("3")]),
)
others = st.sampled_from(
    [
        Check(FieldRef("evt.res"), Operator.EQ, Word("SUCCESS")),
        Check(FieldRef("evt.res"), Operator.NE, Word("SUCCESS")),
        Check(FieldRef("evt.res"), Operator.IN, (Word("ENOENT"), Word("SUCCESS"))),
        Check(FieldRef("evt.res"), Operator.EQ, Word("EACCES")),
        Check(FieldRef("fd.type"), Operator.EQ, Word("directory")),
        Check(FieldRef("fd.typechar"), Operator.NE, Word("f")),
        Check(FieldRef("evt.type"), Operator.EQ, Word("openat")),
        Check(FieldRef("evt.type"), Operator.NE, Word("creat")),
        Check(FieldRef("proc.name"), Operator.EQ, Word("cat")),
        Check(FieldRef("user.uid"), Operator.EQ, Word("0")),
        Check(FieldRef("fd.realpath"), Operator.EXISTS),
        Check(FieldRef("fd.name"), Operator.EQ, FieldRef("fd.realpath")),
        Check(FieldRef("evt.rawarg", "mode"), Operator.GE, Word("64")),
    ]
)
checks = st.one_of(textual, several, quantified, yes_or_no, numbers, others)


def _tree(parts: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    some = st.lists(parts, min_size=2, max_size=4).map(tuple)
    return st.one_of(st.builds(Not, parts), st.builds(And, some), st.builds(Or, some))


trees: st.SearchStrategy[Expr] = st.recursive(checks, _tree, max_leaves=8)
opens = st.tuples(
    st.sampled_from(OPENS), paths, st.sampled_from(["/", "/a", "/a/.ssh", "/etc", ""]), st.integers(0, 63),
    st.sampled_from([0, 0o644, 0o755]), st.sampled_from([-2, -13]), st.one_of(st.none(), paths),
)  # fmt: skip


class Nobody:
    def user(self, uid: int, container: Container, pid: int) -> Account:
        return Account(uid)

    group = user


def kept(early: Early, raw: RawEvent) -> bool:
    """What the kernel says: from the record as it is made."""
    index = EVENTS[raw.type].index
    name, real = raw.params[index["name"]], raw.params[index["real"]]
    flags = raw.params[index["flags"]] if "flags" in index else OF_CREAT
    assert isinstance(name, str) and isinstance(flags, int)
    path = name.encode("utf-8", "surrogateescape")
    leaf = str(real).encode("utf-8", "surrogateescape").rpartition(b"/")[2] if real else None
    number = class_of(flags, raw.res, path if plain(path) and len(path) < KEY_BYTES else b"")
    return early.keeps(number, path if plain(path) else None, leaf)


@given(st.lists(trees, min_size=1, max_size=3), st.lists(opens, min_size=1, max_size=12))
@settings(max_examples=120, deadline=None)
def test_an_open_that_a_rule_holds_on_is_kept(conditions: list[Expr], some: list[tuple[object, ...]]) -> None:
    made = [rule_of(f"r{n}", tree) for n, tree in enumerate(conditions)]
    rules, early = ruleset_of(made), early_of(made, _compile_check)
    state = State(accounts=Nobody(), read_process=lambda pid: None, ask_container=lambda *_: None, wall_offset_ns=0)
    for type_, name, base, number, mode, error, real in some:
        assert isinstance(type_, EventType) and isinstance(number, int)
        flags, res = flags_of(number)
        facts = {p.name: 0 for p in EVENTS[type_].stored} | {"name": name, "base": base, "flags": flags, "mode": mode}
        facts["real"] = (real or "") if res >= 0 else ""
        params = tuple(facts[p.name] for p in EVENTS[type_].stored)
        raw = RawEvent(type_, 1, 0, 7, 7, 5, 0, 0, error if res < 0 else res, params)  # type: ignore[arg-type]
        event = state.apply(raw)
        assert event is not None
        assert kept(early, raw) or not rules.match(event), (conditions, raw, early)
    assert not rules.errors


def rule(condition: str, tmp_path: Path) -> Early:
    file = tmp_path / "rules.yaml"
    file.write_text(f"- rule: r\n  desc: d\n  condition: >\n    {condition}\n  output: o\n  priority: INFO\n")
    loaded = load_rules([file])
    assert not [d for d in loaded.diagnostics if d.severity.value == "error"]
    return early_of(loaded.rules, _compile_check)


def test_what_falcos_rules_ask_of_an_open_is_looked_up(tmp_path: Path) -> None:
    early = rule(
        "evt.type in (open, openat, openat2) and evt.is_open_read=true and fd.typechar='f' and fd.num>=0 and"
        " (fd.name startswith /etc/ssh/ or fd.name in (/etc/shadow) or fd.directory = /pam or fd.filename = .netrc"
        " or fd.name glob '/home/*/.ssh/id_*' or fd.name endswith .pem or fd.nameraw contains '../') and"
        " not proc.name in (sshd) and not fd.name startswith /etc/ssh/ok",
        tmp_path,
    )
    kept = {b"/etc/ssh/key", b"/etc/ssh/ok", b"/etc/shadow", b"/pam/x/y", b"/a/.netrc", b"/home/u/.ssh/x", b"/a/b.pem"}
    dropped = {b"/etc/shadow-", b"/etc/ssh", b"/pam", b"/a/netrc", b"/a/x.netrc", b"/home/u/ssh/id_a", b"/b.pem/a"}
    assert {path for path in kept | dropped if early.keeps(class_of(0, 3, path), path)} == kept
    assert early.keeps(READ, None)
    for number in (READ | FAILED, READ | FOLDER, WRITE, 0):
        assert not early.keeps(number, b"/etc/shadow") and not early.keeps(number, None)
    assert not early.keeps(WRITE | CREATE | HIDDEN, b"/a/.netrc")


def test_where_an_open_really_leads_is_asked_by_its_name(tmp_path: Path) -> None:
    early = rule("evt.type = openat and (fd.name = /etc/shadow or fd.realpath = /etc/shadow)", tmp_path)
    assert early.entries[REAL + b"shadow\0"] and early.real
    assert early.keeps(READ, b"/tmp/link", b"shadow") and not early.keeps(READ, b"/tmp/link", b"passwd")
    assert not early.keeps(READ | FAILED, b"/tmp/link")
    assert rule("evt.type = openat and fd.realpath startswith /etc/", tmp_path).keeps(READ, b"/x", b"y")


def test_the_shipped_rules_let_ordinary_reads_be_dropped() -> None:
    shipped = Path(__file__).parents[2] / "rules"
    loaded = load_rules([shipped / "tercel_rules.yaml", shipped / "tercel_attack_rules.yaml"])
    early = early_of([rule for rule in loaded.rules if rule.enabled], _compile_check)
    dropped = ("/usr/include/stdio.h", "/usr/lib/libc.so.6", "/proc/1/stat", "/etc/ld.so.cache", "/srv/a", "/nowhere")
    for path in dropped:
        for number in (READ, READ | FAILED, READ | FOLDER, 0, WRITE | FAILED):
            assert not early.keeps(number, path.encode(), path.rpartition("/")[2].encode()), (path, number)
    for number in (READ | FOLDER, READ | FOLDER | FAILED, READ | FOLDER | HIDDEN):
        assert not early.keeps(number, None), number  # a folder by a relative path, as find opens them
    kept = ("/etc/shadow", "/mnt/shadow", "/etc/sudoers.d/x", "/srv/login.keyring", "/root/.local/share/keyrings/x")
    for path in kept:
        assert early.keeps(class_of(0, 3, path.encode()), path.encode(), b"x"), path
    assert early.keeps(READ, b"/tmp/link", b"shadow")


def test_rules_of_no_open_let_all_be_dropped(tmp_path: Path) -> None:
    early = rule("evt.type = execve", tmp_path)
    assert set(early.entries.values()) == {0} and early.ends == early.real == 0
    assert not early.keeps(READ, None)


@pytest.mark.parametrize(
    "path", ["", "a", "/", "//", "/a/", "/a//b", "/a/./b", "/a/.", "/..", "/a/../b", "/a..b", "/a/..b", "./a"]
)
def test_odd_paths(path: str) -> None:
    assert not plain(path.encode())


@pytest.mark.parametrize("path", ["/a", "/.a", "/a/.b/c.d", "/a.", "/a/b."])
def test_plain_paths(path: str) -> None:
    assert plain(path.encode())


def test_the_table_is_bounded_and_what_does_not_fit_is_kept() -> None:
    def early(paths: list[str]) -> Early:
        check = Check(FieldRef("fd.name"), Operator.IN, tuple(Word(path) for path in paths))
        return early_of([rule_of("r", And((Check(FieldRef("evt.type"), Operator.EQ, Word("openat")), check)))],
                        _compile_check)  # fmt: skip

    long = "/" + "a" * 300
    made = early([long])
    assert not made.weakened and made.keeps(READ, None) and all(len(piece) <= KEY_BYTES for piece in made.entries)
    many = [f"/data/{n:06}/file" for n in range(70_000)]
    made = early(many)
    assert made.weakened and len(made.entries) < 65_536
    assert all(made.keeps(READ, path.encode()) for path in many[::997])
    assert not made.keeps(READ, b"/etc/passwd")


def test_both_sides_cut_at_the_same_length() -> None:
    assert of_kernel.KEY_BYTES == KEY_BYTES
    assert VIA[0] == "syscall" and len(VIA) == SAMPLED
    assert ENDS == b"\1" and REAL == b"\2"
