"""What a rule means: generated predicates against a plain reading of the same tree, and against tables."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.catalog.narrow import event_types, specialise
from appliance.codegen.python import judge_code
from appliance.codegen.runtime import below, below_globber, glob_regex, globber
from appliance.lang.load import load_rules
from appliance.model.alert import Priority
from appliance.model.event import NO_PROCESS, Container, Event, EventType
from appliance.model.expr import And, Check, Expr, FieldRef, Not, Or, Word
from appliance.model.field import Operator
from appliance.model.rule import Rule
from tests.support.events import SHELL, event, file_fd, inet_fd, process
from tests.support.rules import ruleset_of

CAT = event(
    "openat", process=process("cat", "/etc/Shadow File"), ancestors=[SHELL, process("sshd"), process("systemd")],
    fd=file_fd("/etc/Shadow File"), res=3, name="/etc/Shadow File", flags=0x241, mode=0o640, path="/etc/Shadow File",
)  # fmt: skip
FAILED = event(
    "openat", process=process("cat"), fd=file_fd("/etc/missing", num=-1), res=-2, name="missing", flags=0,
    path="/etc/missing",
)  # fmt: skip
WEB = event(
    "connect",
    process=process("curl"),
    fd=inet_fd(("10.0.0.5", 40000), ("93.184.216.34", 443)),
    container=Container("0123456789ab", "0123456789ab" * 5, name="web", image="nginx:1.25", privileged=True),
)
EXEC = event("execve", process=process("ls", "-l"), res=0)
NOBODY = event("openat", process=NO_PROCESS, res=-1)


def rules_of(tmp_path: Path, *conditions: str, head: str = "") -> tuple[Rule, ...]:
    text = head + "".join(
        f"- rule: r{i}\n  desc: d\n  condition: >\n    {c}\n  output: o\n  priority: INFO\n"
        for i, c in enumerate(conditions)
    )
    file = tmp_path / "rules.yaml"
    file.write_text(text)
    loaded = load_rules([file])
    errors = [d.render() for d in loaded.diagnostics if d.severity.value == "error"]
    assert not errors, "\n".join(errors)
    return loaded.rules


def holds(tmp_path: Path, condition: str, e: Event) -> bool:
    found = ruleset_of(rules_of(tmp_path, condition))
    answer = bool(found.match(e))
    assert not found.errors
    return answer


CASES = [
    # texts
    (CAT, "fd.name = '/etc/Shadow File'", True),
    (CAT, "fd.name == '/etc/Shadow File'", True),
    (CAT, "fd.name != '/etc/Shadow File'", False),
    (CAT, "fd.name contains Shadow", True),
    (CAT, "fd.name contains shadow", False),
    (CAT, "fd.name icontains SHADOW", True),
    (CAT, "fd.name startswith /etc/", True),
    (CAT, "fd.name endswith File", True),
    (CAT, "fd.name endswith file", False),
    (CAT, "fd.name in (/etc/passwd, '/etc/Shadow File')", True),
    (CAT, "fd.name in (/etc/passwd)", False),
    (CAT, "fd.name in ()", False),
    (CAT, "fd.name intersects (/etc/passwd, '/etc/Shadow File')", True),
    (CAT, "fd.name glob /e*F?le", True),
    (CAT, "fd.name glob '/etc/[A-S]*'", True),
    (CAT, "fd.name glob '/etc/[!A-S]*'", False),
    (CAT, "fd.name glob etc", False),
    (CAT, "fd.name pmatch (/etc)", True),
    (CAT, "fd.name pmatch (/etc/)", True),
    (CAT, "fd.name pmatch (/et)", False),
    (CAT, "fd.name pmatch (/)", True),
    (CAT, "fd.name pmatch (/e*)", True),
    (CAT, "fd.name pmatch (/usr, /*/Sh*)", True),
    (CAT, "fd.name pmatch (/*/*/File)", False),
    (CAT, "fd.name regex '/etc/S[a-z]+ .*'", True),
    (CAT, "fd.name regex Shadow", False),
    (CAT, "fd.name regex '(?i)/ETC/.*'", True),
    (CAT, "fd.name exists", True),
    (CAT, "fd.directory = /etc and fd.filename = 'Shadow File'", True),
    # numbers, flags, modes
    (CAT, "fd.num = 3", True),
    (CAT, "fd.num > 2 and fd.num >= 3 and fd.num < 4 and fd.num <= 3", True),
    (CAT, "fd.num in (3, 4)", True),
    (CAT, "fd.num != 3", False),
    (CAT, "evt.rawres = 0x3", True),
    (CAT, "evt.arg.mode = 0640", True),
    (CAT, "evt.rawarg.mode = 416", True),
    (CAT, "evt.rawarg.mode > 415", True),
    (CAT, "evt.arg.flags contains O_CREAT", True),
    (CAT, "evt.arg[2] exists", True),
    (CAT, "evt.arg[40] exists", False),
    (CAT, "evt.arg.dev exists", False),
    (CAT, "not evt.arg.dev = x", True),
    (CAT, "evt.is_open_write = true and evt.is_open_read = false", True),
    (CAT, "evt.is_open_read != true", True),
    # addresses
    (WEB, "fd.sip = 93.184.216.34", True),
    (WEB, "fd.ip = 10.0.0.5", True),
    (WEB, "fd.ip != 10.0.0.5", False),
    (WEB, "fd.ip != 10.0.0.6", True),
    (WEB, "fd.port != 443", False),
    (WEB, "fd.port = https", True),
    (WEB, "fd.port in (443, 80)", True),
    (WEB, "fd.port > 39999", True),
    (WEB, "fd.net = 10.0.0.0/8", True),
    (WEB, "fd.snet in (10.0.0.0/8, 93.184.0.0/16)", True),
    (WEB, "fd.snet != 10.0.0.0/8", True),
    (WEB, "fd.snet in (2001:db8::/32)", False),
    (WEB, "container.privileged = true", True),
    (WEB, "container.privileged != true", False),
    (WEB, "container and container.image startswith nginx", True),
    # ancestors
    (CAT, "proc.aname = sshd", True),
    (CAT, "proc.aname in (sshd, x)", True),
    (CAT, "proc.aname in (x, y)", False),
    (CAT, "proc.aname startswith sys", True),
    (CAT, "proc.aname exists", True),
    (CAT, "proc.aname = cat", False),  # itself is no ancestor
    (CAT, "proc.aname[0] = cat", True),
    (CAT, "proc.aname[2] = sshd", True),
    (CAT, "proc.aname[40] exists", False),
    (CAT, "proc.aname[40] != x", False),
    (CAT, "proc.pname = bash", True),
    # leaders, times, lengths
    (CAT, "evt.source = syscall and syscall.type = openat and evt.is_async = false and evt.count = 1", True),
    (CAT, "evt.datetime startswith 2023-11-1 and evt.datetime endswith .123456789", True),
    (CAT, "evt.rawtime.s = 1700000000 and evt.rawtime.ns = 123456789", True),
    (CAT, "evt.abspath = '/etc/Shadow File'", True),
    (CAT, "proc.sname = bash", True),  # its session's leader is its parent
    (CAT, "proc.sid.exepath = /usr/bin/bash and proc.pgid.name = bash", True),
    (CAT, "proc.is_sid_leader = true", False),
    (WEB, "proc.sname exists", True),  # no ancestors are known: itself is the eldest of its session
    (CAT, "proc.cmdlenargs = 16", True),
    (CAT, "proc.pvpid = 100", True),
    (CAT, "proc.aargs[0] contains Shadow", True),
    (CAT, "proc.aargs contains Shadow", False),
    (WEB, "fd.sockfamily = ip", True),
    (CAT, "fd.sockfamily exists", False),
    # absent values: every check is false, and its negation true
    *((NOBODY, f"proc.name {check}", False) for check in (
        "= x", "!= x", "contains x", "icontains x", "startswith x", "endswith x", "in (x)", "glob *", "exists",
        "intersects (x)",
    )),
    *((NOBODY, f"not proc.name {check}", True) for check in ("= x", "!= x", "glob *", "exists")),
    (NOBODY, "proc.ppid > 0", False),
    (NOBODY, "proc.ppid < 0", False),
    (NOBODY, "fd.name pmatch (/)", False),
    (NOBODY, "proc.aname != x", False),
    (NOBODY, "fd.ip != 1.1.1.1", False),
    (NOBODY, "evt.rawarg.flags > 0", False),
    (EXEC, "fd.num exists", False),
    (EXEC, "fd.port != 80", False),
    (EXEC, "not fd.name = x", True),
    (FAILED, "evt.failed = true and evt.res = ENOENT and fd.num = -1", True),
    # transformers
    (CAT, "tolower(fd.filename) = 'shadow file'", True),
    (CAT, "toupper(proc.name) in (CAT, DOG)", True),
    (CAT, "toupper(proc.name) = cat", False),
    (CAT, "basename(fd.name) = 'Shadow File'", True),
    (CAT, "toupper(basename(proc.exepath)) = CAT", True),
    (CAT, "len(proc.name) = 3", True),
    (CAT, "len(proc.aname) = 3", True),
    (CAT, "len(fd.sip) > 0", False),
    (CAT, "not len(fd.sip) > 0", True),
    (CAT, "tolower(fd.cproto) exists", False),
    (CAT, "b64(fd.name) exists", False),
    (event("openat", process=process("cat", "c2hhZG93"), res=3), "b64(proc.args) = shadow", True),
    (CAT, "concat(proc.name, proc.pname) = catbash", True),
    (CAT, "concat(proc.name, '-', proc.pname) = cat-bash", True),
    (CAT, "join('/', proc.name, proc.pname) = cat/bash", True),
    (CAT, "join('/', proc.name, fd.sip) exists", False),
    (CAT, "toupper(proc.aname) = SSHD", True),
    (CAT, "toupper(proc.aname) in (X, SYSTEMD)", True),
    (CAT, "tolower(proc.name) != cat", False),
    # another field on the right
    (CAT, "proc.name = val(proc.pname)", False),
    (CAT, "proc.name != val(proc.pname)", True),
    (CAT, "proc.pid != val(proc.ppid)", True),
    (CAT, "proc.pid > val(proc.ppid)", True),
    (CAT, "proc.vpid = val(proc.pid)", True),
    (CAT, "fd.name endswith val(fd.filename)", True),
    (CAT, "fd.name startswith val(fd.directory)", True),
    (CAT, "fd.name contains val(fd.l4proto)", False),
    (CAT, "fd.sip != val(fd.lip)", False),
    (CAT, "proc.exepath endswith val(proc.name)", True),
    (CAT, "proc.name = tolower(proc.name)", True),
    (CAT, "proc.name in val(proc.aname)", False),
    (WEB, "fd.cip = val(fd.lip)", True),
    # several right sides
    (CAT, "proc.name startswith anyof (x, ca)", True),
    (CAT, "proc.name startswith anyof (x, y)", False),
    (CAT, "proc.name contains allof (c, a, t)", True),
    (CAT, "proc.name contains allof (c, x)", False),
    (CAT, "proc.name contains oneof (c, x)", True),
    (CAT, "proc.name contains oneof (c, a)", False),
    (CAT, "fd.l4proto startswith anyof (t)", False),
    (NOBODY, "proc.name contains allof ()", False),
    # texts in order, as Falco takes them
    (CAT, "proc.name > 3", True),
    (CAT, "proc.name < 3", False),
    # logic
    (CAT, "evt.type = openat", True),
    (CAT, "evt.type in (open, openat)", True),
    (CAT, "evt.type != openat", False),
    (CAT, "not evt.type in (execve)", True),
    (CAT, "evt.type = open or proc.name = cat", True),
    (CAT, "not (proc.name = cat or fd.num = 9)", False),
    (CAT, "not not proc.name = cat", True),
    (CAT, "proc.name = x and fd.num = 3 or user.uid = 0", True),
]  # fmt: skip


@pytest.mark.parametrize(("e", "condition", "expected"), CASES, ids=[c[1] for c in CASES])
def test_a_check_means(tmp_path: Path, e: Event, condition: str, expected: bool) -> None:
    head = "- macro: container\n  condition: container.id != host\n" if condition.startswith("container and") else ""
    found = ruleset_of(rules_of(tmp_path, condition, head=head))
    assert bool(found.match(e)) is expected
    assert not found.errors


# -- a plain reading of trees, to hold the generated code against

_READ: dict[str, Callable[[Event], object]] = {
    "proc.name": lambda e: e.process.name,
    "proc.pname": lambda e: e.ancestor(1).name,
    "fd.name": lambda e: e.fd.name,
    "user.name": lambda e: e.process.user and e.process.user.name,
    "fd.num": lambda e: e.fd.num,
    "evt.type": lambda e: e.type.value,
}


def plainly(expr: Expr, e: Event) -> bool:
    match expr:
        case Not(part):
            return not plainly(part, e)
        case And(parts):
            return all(plainly(p, e) for p in parts)
        case Or(parts):
            return any(plainly(p, e) for p in parts)
        case Check(FieldRef(name), op, right):
            value = _READ[name](e)
            words = [w.text for w in (right if isinstance(right, tuple) else (right,)) if isinstance(w, Word)]
            if value is None:
                return False
            if isinstance(value, int):
                numbers = [int(w) for w in words]
                return {
                    Operator.EQ: lambda: value == numbers[0],
                    Operator.NE: lambda: value != numbers[0],
                    Operator.GT: lambda: value > numbers[0],
                    Operator.IN: lambda: value in numbers,
                    Operator.EXISTS: lambda: True,
                }[op]()
            text = str(value)
            return {
                Operator.EQ: lambda: text == words[0],
                Operator.NE: lambda: text != words[0],
                Operator.CONTAINS: lambda: words[0] in text,
                Operator.STARTSWITH: lambda: text.startswith(words[0]),
                Operator.IN: lambda: text in words,
                Operator.EXISTS: lambda: True,
            }[op]()
    raise AssertionError(expr)


_words = st.sampled_from(["cat", "bash", "/etc/Shadow File", "a", "", "root", "{x}", "x'\"\\", "\udc80"]).map(Word.of)
_types = st.sampled_from([t.value for t in (EventType.OPENAT, EventType.CONNECT, EventType.EXECVE)]).map(Word)
_numbers = st.integers(-3, 5).map(lambda n: Word(str(n)))


def _checks() -> st.SearchStrategy[Expr]:
    text_fields = st.sampled_from(["proc.name", "proc.pname", "fd.name", "user.name"]).map(FieldRef)
    one = st.sampled_from([Operator.EQ, Operator.NE, Operator.CONTAINS, Operator.STARTSWITH])
    many = st.lists(_words, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Check, text_fields, one, _words),
        st.builds(Check, text_fields, st.just(Operator.IN), many),
        st.builds(Check, text_fields, st.just(Operator.EXISTS)),
        st.builds(
            Check, st.just(FieldRef("fd.num")), st.sampled_from([Operator.EQ, Operator.NE, Operator.GT]), _numbers
        ),
        st.builds(Check, st.just(FieldRef("evt.type")), st.sampled_from([Operator.EQ, Operator.NE]), _types),
    )


def conditions() -> st.SearchStrategy[Expr]:
    return st.recursive(
        _checks(),
        lambda inner: st.one_of(
            inner.map(Not),
            st.lists(inner, min_size=2, max_size=4).map(lambda p: And(tuple(p))),
            st.lists(inner, min_size=2, max_size=4).map(lambda p: Or(tuple(p))),
        ),
        max_leaves=25,
    )


def rule_of(name: str, condition: Expr) -> Rule:
    from appliance.model.diagnostic import Span
    from appliance.model.rule import Output

    return Rule(
        name, "", condition, Output("o", ("o",)), Priority.INFORMATIONAL, "syscall", (), True, event_types(condition),
        Span("rules.yaml", 1, 1),
    )  # fmt: skip


EVENTS = [CAT, FAILED, WEB, EXEC, NOBODY]


@given(st.lists(conditions(), min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_generated_code_says_what_the_tree_says(trees: list[Expr]) -> None:
    found = ruleset_of(tuple(rule_of(f"r{i}", tree) for i, tree in enumerate(trees)))
    first = ruleset_of(found.rules, matching="first")
    for e in EVENTS:
        expected = [f"r{i}" for i, tree in enumerate(trees) if plainly(tree, e)]
        assert [a.rule for a in found.match(e)] == expected
        assert [a.rule for a in first.match(e)] == expected[:1]
    assert not found.errors


@given(conditions())
@settings(max_examples=200, deadline=None)
def test_what_is_known_of_a_type_is_true_of_its_events(tree: Expr) -> None:
    for e in EVENTS:
        assert plainly(tree, e) == (e.type in event_types(tree) and _holds(specialise(tree, e.type), e))


def _holds(expr: Expr, e: Event) -> bool:
    code = judge_code([(0, rule_of("r", expr))], e.type, first=True)
    return code is not None and bool(ruleset_of((rule_of("r", expr),)).match(e))


def test_nesting_beyond_what_python_parses(tmp_path: Path) -> None:
    """Macros in macros nest deeper than any one text may; the code does not."""
    head = "- macro: m0\n  condition: proc.name = cat\n" + "".join(
        f"- macro: m{i}\n  condition: (not (proc.name = x{i} or not (m{i - 1} and fd.num = 3)))\n" for i in range(1, 30)
    )
    assert holds(tmp_path, "evt.type = openat", CAT)
    found = ruleset_of(rules_of(tmp_path, "evt.type = openat and m29", head=head))
    assert found.match(CAT)
    assert not found.match(FAILED)
    assert not found.errors


def test_an_erroneous_predicate_silences_itself_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing the language can say raises; an event that breaks its own contract does."""
    found = ruleset_of(rules_of(tmp_path, "fd.name startswith /x", "proc.name = cat"))
    broken = CAT._replace(fd=CAT.fd._replace(name=5))  # type: ignore[arg-type]
    assert [a.rule for a in found.match(broken)] == ["r1"]
    assert found.errors == {"r0": 1}
    assert [a.rule for a in found.match(CAT)] == ["r1"]
    trace = caplog.text
    assert "rules.yaml:4:5" in trace, "the traceback names the line that somebody wrote"


# -- globs and folders

PATTERNS = ["*", "a*", "*a", "a*b*c", "?", "a?c", "[ab]*", "[!a]b", "", "**", "a**b", "*.txt", "[]a]x", "a[", "\\*a"]


@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=st.text("abcx.*[]/\n", max_size=8))
@settings(max_examples=100, deadline=None)
def test_globs_are_the_shells(pattern: str, text: str) -> None:
    expected = text == "*a" if "\\" in pattern else fnmatch.fnmatchcase(text, pattern)
    assert bool(globber([pattern])(text)) is expected


def test_a_regex_takes_no_time_that_grows_with_its_groups(tmp_path: Path) -> None:
    long = CAT._replace(fd=CAT.fd._replace(name="a" * 5000 + "\udcff"))
    assert not holds(tmp_path, "fd.name regex '(a+)+b'", long)


def test_a_glob_takes_no_time_that_grows_with_its_stars() -> None:
    """`*a*a*a...b` on `aaaa...`: a backtracking matcher would not end."""
    assert not globber(["*a" * 30 + "*b"])("a" * 5000)
    assert "(?>" in glob_regex("*a*b*")


@pytest.mark.parametrize(
    ("path", "roots", "expected"),
    [
        ("/etc/x", {"/etc"}, True),
        ("/etc", {"/etc"}, True),
        ("/etc/", {"/etc"}, True),
        ("/etcx", {"/etc"}, False),
        ("/a", {"/"}, True),
        ("/", {"/"}, True),
        ("/a", {"/a/b"}, False),
        ("", {"/a"}, False),
    ],
)
def test_below(path: str, roots: set[str], expected: bool) -> None:
    assert below(path, frozenset(roots)) is expected


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/tmp/t*", "/tmp/tpd/x", True),
        ("/tmp/t*", "/tmp/x/t", False),
        ("/*/b", "/a/b/c", True),
        ("/*/b", "/a/x/b", False),
        ("/a[b/]c", "/a/c", False),
        ("/t?p", "/tmp", True),
        ("/tmp/*/", "/tmp/x", True),
    ],
)
def test_below_patterns(pattern: str, path: str, expected: bool) -> None:
    assert bool(below_globber([pattern])(path)) is expected
