"""What always holds of texts and trees."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.lang.lexer import Unreadable
from appliance.lang.load import MAX_BYTES, load_rules
from appliance.lang.parser import MAX_NESTING, parse, parse_output
from appliance.lang.source import Mapping, Report, Sequence, Source, Text, read_documents
from appliance.model.expr import And, Check, Expr, FieldRef, Macro, Not, Or, Word
from appliance.model.field import Operator

_texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["a b", "'", '"', "\\", "(", ")", ",", "=", "and", "not", "", "<NA>", "%", "x\ny", "\udcff", "[", "]"]
    ),
)
_words = _texts.map(Word.of)
_names = st.from_regex(r"[a-z]{1,5}\.[a-z_]{1,6}", fullmatch=True)
_args = st.one_of(
    st.none(), st.from_regex(r"[0-9]{1,3}|[a-z]{1,5}", fullmatch=True), st.sampled_from(["/etc/x", "a b", "]"])
)
_fields = st.builds(FieldRef, _names, _args)
_one = st.sampled_from(
    [
        Operator.EQ,
        Operator.NE,
        Operator.CONTAINS,
        Operator.STARTSWITH,
        Operator.GLOB,
        Operator.REGEX,
        Operator.ICONTAINS,
    ]
)
_many = st.sampled_from([Operator.IN, Operator.INTERSECTS, Operator.PMATCH])
_checks: st.SearchStrategy[Expr] = st.one_of(
    st.builds(Check, _fields, _one, _words),
    st.builds(Check, _fields, _many, st.lists(_words, max_size=4).map(tuple)),
    st.builds(Check, _fields, st.just(Operator.EXISTS)),
    st.builds(Check, _fields, st.sampled_from([Operator.LT, Operator.GE]), st.integers().map(lambda n: Word(str(n)))),
    st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True)
    .filter(
        lambda n: n not in ("and", "or", "not", "len", "join", "concat", "tolower", "toupper", "basename", "getopt")
    )
    .map(Macro),
)
_trees = st.recursive(
    _checks,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=4).map(lambda p: And(tuple(p))),
        st.lists(inner, min_size=2, max_size=4).map(lambda p: Or(tuple(p))),
    ),
    max_leaves=20,
)


@given(_trees)
@settings(max_examples=400, deadline=None)
def test_a_tree_printed_is_the_tree_read(tree: Expr) -> None:
    assert parse(str(tree)) == tree


_pieces = st.sampled_from(
    ["and", "or", "not", "(", ")", "in", "=", "!=", "<", "proc.name", "x", "'", '"', "\\", ",", "[1]", "val(", " ",
     "\n", "exists", "%", "~", "anyof", "tolower(", "\x00", "é"]
)  # fmt: skip


@given(st.one_of(st.text(max_size=60), st.lists(_pieces, max_size=25).map("".join), st.lists(_pieces).map(" ".join)))
@settings(max_examples=500, deadline=None)
def test_any_text_is_read_or_refused_at_a_place_in_it(text: str) -> None:
    for read in (parse, parse_output):
        try:
            read(text)
        except Unreadable as error:
            assert 0 <= error.start <= len(text)
            assert error.end >= error.start
            assert error.message


@given(st.text(alphabet=st.sampled_from("-: \n\t[]{}&*!|>'\"#%@`abc,?"), max_size=80))
@settings(max_examples=500, deadline=None)
def test_any_yaml_is_read_or_refused(text: str) -> None:
    report = Report()
    source = Source("x", text)
    report.know(source)
    documents = read_documents(source, report)
    for document in documents:
        assert isinstance(document, Text | Sequence | Mapping)
    for diagnostic in report.sorted(["x"]):
        assert diagnostic.span is not None
        assert 1 <= diagnostic.span.line <= text.count("\n") + 1
        diagnostic.render()


@given(
    st.lists(st.sampled_from(["ab", "c d", " ", "\n", "\n\n", "  e"]), max_size=12).map("".join),
    st.sampled_from("|>'\""),
)
@settings(max_examples=300, deadline=None)
def test_every_character_of_a_text_knows_its_place(body: str, style: str) -> None:
    """Whatever the style, the place of a visible character holds that character."""
    if style in "|>":
        text = f"k: {style}\n" + "".join(f"  {line}\n" if line.strip() else "\n" for line in body.split("\n"))
    else:
        text = f"k: {style}{body.strip()}{style}\n".replace("\n\n", "\n").replace("\n", "\n  ").rstrip(" ")
    report = Report()
    source = Source("x", text)
    documents = read_documents(source, report)
    if not documents or not isinstance(documents[0], Mapping):
        return
    value = documents[0].get("k")
    assert isinstance(value, Text)
    for i, char in enumerate(value.value):
        if not char.isspace():
            span = value.span(i, i + 1)
            line = source.line(span.line)
            assert line is not None
            assert line[span.column - 1] == char


def test_nesting_has_an_end() -> None:
    parse("(" * MAX_NESTING + "proc.name = x" + ")" * MAX_NESTING)
    with pytest.raises(Unreadable, match="nested deeper"):
        parse("(" * 101 + "proc.name = x" + ")" * 101)
    with pytest.raises(Unreadable, match="nested deeper"):
        parse("not " * 100_000 + "proc.name = x")


def test_precedence() -> None:
    a, b, c = (Check(FieldRef("x.y"), Operator.EQ, Word(n)) for n in "abc")
    assert parse("x.y = a or x.y = b and not x.y = c") == Or((a, And((b, Not(c)))))
    assert parse("(x.y = a or x.y = b) and x.y = c") == And((Or((a, b)), c))
    assert parse("not (x.y=a)or(x.y=b)") == Or((Not(a), b))


# -- files


GOOD = "- {rule: %s, desc: d, condition: evt.type = fork, output: o, priority: INFO}\n"


def names(*diagnostics: object) -> list[str]:
    return [d.name for d in diagnostics]  # type: ignore[attr-defined]


def test_a_folder_is_its_yaml_files_by_name(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "c.txt", "d.yaml.bak"):
        (tmp_path / name).write_text(GOOD % name.replace(".", ""))
    (tmp_path / "sub.yaml").mkdir()
    loaded = load_rules([tmp_path])
    assert [r.name for r in loaded.rules] == ["ayml", "byaml"]
    assert not loaded.errors


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\x7fELF\x02\x01\x01\x00" * 50, "binary-file"),
        (b"\xff\xfe\x00a", "not-utf-8"),
        (b"- rule: \x1b[2J\n", "binary-file"),
        (b"x" * (MAX_BYTES + 1), "file-too-large"),
    ],
)
def test_files_that_are_no_rules(tmp_path: Path, content: bytes, name: str) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(content)
    loaded = load_rules([file])
    assert names(*loaded.diagnostics) == [name]
    assert loaded.diagnostics[0].span is not None
    assert "\x1b" not in loaded.diagnostics[0].message


def test_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    loaded = load_rules([tmp_path / "none.yaml", tmp_path / "empty", Path("/dev/null")])
    assert "unreadable-file" in names(*loaded.diagnostics)
    assert loaded.rules == ()


def test_a_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + (GOOD % "r").replace("\n", "\r\n").encode())
    assert [r.name for r in load_rules([file]).rules] == ["r"]
    assert not load_rules([file]).errors


def test_a_laughing_macro_is_refused(tmp_path: Path) -> None:
    """Each macro uses the one before twice: thirty of them are a billion checks."""
    lines = ["- {macro: m0, condition: proc.name = x}"]
    lines += [f"- {{macro: m{n}, condition: m{n - 1} or m{n - 1}}}" for n in range(1, 31)]
    lines.append("- {rule: r, desc: d, condition: evt.type = fork and m30, output: o, priority: INFO}")
    file = tmp_path / "f.yaml"
    file.write_text("\n".join(lines))
    loaded = load_rules([file])
    assert "too-large" in names(*loaded.errors)
    lists = ["- {list: l0, items: [a, b]}"] + [f"- {{list: l{n}, items: [l{n - 1}, l{n - 1}]}}" for n in range(1, 31)]
    lists.append("- {rule: r, desc: d, condition: 'evt.type = fork and proc.name in (l30)', output: o, priority: INFO}")
    file.write_text("\n".join(lists))
    assert "too-large" in names(*load_rules([file]).errors)


def test_a_chain_of_macros_is_refused_before_it_hurts(tmp_path: Path) -> None:
    lines = ["- {macro: m0, condition: proc.name = x}"]
    lines += [f"- {{macro: m{n}, condition: not (proc.name = a and m{n - 1})}}" for n in range(1, 1500)]
    lines.append("- {rule: r, desc: d, condition: evt.type = fork and m1499, output: o, priority: INFO}")
    file = tmp_path / "f.yaml"
    file.write_text("\n".join(lines))
    assert "too-deep" in names(*load_rules([file]).errors)
