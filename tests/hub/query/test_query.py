"""A search means what its author wrote, or says where it cannot."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from appliance.hub.alert import HubAlert
from appliance.hub.query.moments import read_moment, read_span
from appliance.hub.query.predicate import compile_filter, predicate
from appliance.hub.query.tree import read_filter
from appliance.model.alert import Priority
from appliance.model.diagnostic import RuleError
from tests.hub.alerts import START_NS, alerts, hub_alert, searches

HOUR = 3600 * 1_000_000_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        'rule = "Read sensitive file untrusted"',
        "rule startswith Read and priority >= warning",
        "priority = WARNING",
        "priority <= warning",
        "priority != debug",
        "priority in (warning, error)",
        "tags = filesystem",
        "tags in (network, filesystem)",
        "tags intersects (network, filesystem)",
        "tags != network",
        "hostname = web1 source=syscall",
        "proc.name = cat",
        "proc.pid = 4242",
        "proc.pid > 4000",
        "proc.pid in (1, 4242)",
        "fd.name startswith /etc",
        "fd.name glob /etc/*",
        "fd.name regex '/etc/sh.*'",
        "fd.name pmatch (/etc)",
        "fd.name endswith anyof (passwd, shadow)",
        "basename(fd.name) = shadow",
        "proc.name != sshd",
        "user.name exists",
        "not container.id exists",
        "cat",
        "-sshd",
        "sensitive opened",
        '"file opened"',
        "/etc/shadow",
        "sens*",
        "untrusted web1",
        "not sshd and (cat or dog)",
        "-(sshd or proc.name = dog)",
        "since:1h until:now",
        "time >= -1h",
        "output icontains SENSITIVE",
    ],
)
def test_holds(text: str) -> None:
    assert compile_filter(text, START_NS + HOUR // 2)(hub_alert())


@pytest.mark.parametrize(
    "text",
    [
        "priority > warning",
        "priority = error",
        "container.id != abc",
        "container.id = abc",
        "container.id in (abc)",
        "tags = network",
        "tags != filesystem",
        "proc.pid < 4242",
        "dog",
        "-cat",
        "shado",
        '"opened sensitive"',
        "hostname != web1",
        "proc.name regex c",
        "cat and dog",
        "since:10min",
        "proc.name > 3",
        "nothing.such exists",
        "4242",
    ],
)
def test_holds_not(text: str) -> None:
    assert not compile_filter(text, START_NS + HOUR // 2)(hub_alert())


def test_worse_is_more() -> None:
    at_least = compile_filter("priority >= error")
    assert [at_least(hub_alert(priority=p)) for p in (Priority.EMERGENCY, Priority.ERROR, Priority.WARNING)] == [
        True,
        True,
        False,
    ]


def test_of_several_values_any_counts_and_unequal_means_none() -> None:
    alert = hub_alert(fields={"proc.args": ["a", "b"]})
    assert compile_filter("proc.args = b")(alert)
    assert not compile_filter("proc.args != b")(alert)


@pytest.mark.parametrize(
    ("text", "name", "column", "hint"),
    [
        ("rule = ", "missing-value", 7, None),
        ("prority = error", "unknown-field", 1, "did you mean `priority`?"),
        ("proc.nmae = cat", "unknown-field", 1, "did you mean `proc.name`?"),
        ("cat priority >= sever", "unknown-priority", 5, None),
        ("cat (dog", "syntax", 5, "add a `)`"),
        ("cat )", "syntax", 5, None),
        ("cat and", "syntax", 7, None),
        ('cat "dog', "syntax", 5, None),
        ("b64(fd.name) = x", "unknown-transformer", 1, None),
        ("proc.pid > many", "not-a-number", 1, None),
        ("proc.name regex '('", "syntax", 1, None),
        ("time > yesterday", "bad-time", 1, None),
        ("-- ", "no-word", 2, None),
    ],
)
def test_a_mistake_has_a_place_and_a_hint(text: str, name: str, column: int, hint: str | None) -> None:
    with pytest.raises(RuleError) as raised:
        compile_filter(text)
    [diagnostic] = raised.value.diagnostics
    assert diagnostic.span is not None
    assert (diagnostic.name, diagnostic.span.column) == (name, column), diagnostic.render()
    assert hint is None or diagnostic.hint == hint
    assert "alert." not in diagnostic.render()


def test_a_search_without_end_is_refused() -> None:
    for text in ("(" * 5000, "not " * 5000, "a " * 30_000, "proc.name=a or " * 1200 + "x"):
        with pytest.raises(RuleError):
            compile_filter(text)


@given(searches())
@settings(max_examples=150, deadline=None)
def test_a_tree_prints_what_reads_as_the_same_tree(text: str) -> None:
    tree = read_filter(text, START_NS)
    assert read_filter(str(tree) if text else "", START_NS) == tree


@given(searches(), alerts())
@settings(max_examples=150, deadline=None)
def test_not_is_the_opposite(text: str, alert: HubAlert) -> None:
    assert predicate(read_filter(text))(alert) != predicate(read_filter(f"not ({text})"))(alert)


def test_moments() -> None:
    assert read_moment("2026-11-30T22:00", 0) == 1_796_076_000 * 1_000_000_000
    assert read_moment("2026-11-30T23:00+01:00", 0) == read_moment("2026-11-30T22:00Z", 0)
    assert read_moment("2026-11-30T23:00", 0, "Europe/Berlin") == read_moment("2026-11-30T22:00Z", 0)
    assert read_moment("-90min", 5400 * 1_000_000_000) == 0
    assert read_moment("1796076000", 0) == read_moment("2026-11-30T22:00", 0)
    assert read_span("2w") == 14 * 86400 * 1_000_000_000
    with pytest.raises(ValueError, match="not a time"):
        read_moment("soon", 0)
