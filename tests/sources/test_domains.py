"""Domain names of rules: who is asked, how often, and what becomes of it."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from appliance.engine.needs import needs_of
from appliance.lang.load import load_rules
from appliance.sources.domains import Domains, resolve
from tests.support.events import event, inet_fd
from tests.support.receivers import wait_until
from tests.support.rules import ruleset_of
from tests.support.threads import no_threads

RULE = """
- list: miners
  items: [pool.example, other.example]
- rule: r
  desc: d
  condition: evt.type = connect and (fd.sip.name in (miners) or fd.rip.name = "home.example")
  output: "%fd.sip.name|%fd.cip.name"
  priority: ERROR
"""


class Book:
    """A resolver that answers from a book."""

    def __init__(self, **names: str) -> None:
        self.names = names
        self.asked: list[str] = []

    def __call__(self, name: str) -> frozenset[str]:
        self.asked.append(name)
        return frozenset(self.names.get(name, "").split())


class Time:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_machine_without_threads_looks_up_after_the_next_reload(caplog: pytest.LogCaptureFixture) -> None:
    domains = Domains(Book(home="10.0.0.1"))
    try:
        with no_threads():
            domains.watch({"home"})
        assert [r.getMessage() for r in caplog.records] == [
            "cannot start a thread: names in rules are looked up after the next reload"
        ]
        domains.watch({"home"})
        wait_until(lambda: domains.names == {"10.0.0.1": ("home",)}, "the name")
    finally:
        domains.close()


def test_the_names_are_those_of_the_rules(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(RULE)
    rules = load_rules([file]).rules
    assert needs_of(rules).domains == {"pool.example", "other.example", "home.example"}


@pytest.mark.parametrize(
    ("pairs", "fires", "text"),
    [
        ((("1.1.1.1", "pool.example"),), True, "pool.example|"),
        ((("1.1.1.1", "x.example"), ("1.1.1.1", "other.example")), True, "x.example other.example|"),
        ((("10.0.0.5", "pool.example"),), False, ""),  # the client's
        ((("1.1.1.1", "home.example"),), True, "home.example|"),
        ((), False, ""),
    ],
)
def test_a_rule_matches_an_address_by_its_name(
    tmp_path: Path, pairs: tuple[tuple[str, str], ...], fires: bool, text: str
) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(RULE)
    loaded = load_rules([file])
    rules = ruleset_of(loaded.rules)
    fd = inet_fd(("10.0.0.5", 40000), ("1.1.1.1", 443))._replace(domains=pairs)
    found = rules.match(event("connect", fd=fd))
    assert [a.output for a in found] == ([text] if fires else [])


def test_names_are_asked_again_and_forgotten() -> None:
    book, clock = Book(a="1.1.1.1 ::1", b="1.1.1.1"), Time()
    domains = Domains(book, clock)
    domains.watch(["a", "b", "none"])
    try:
        wait_until(lambda: len(book.asked) == 3, "all names to be asked")
        wait_until(lambda: domains.names == {"1.1.1.1": ("a", "b"), "::1": ("a",)}, "the answers")
        book.names["a"] = "2.2.2.2"
        clock.now += 15
        domains.watch(["a"])
        wait_until(lambda: "2.2.2.2" in domains.names, "the new answer")
        assert domains.names == {"1.1.1.1": ("a",), "::1": ("a",), "2.2.2.2": ("a",)}, "the old ones stay for an hour"
        clock.now += 3601
        domains.watch(["a"])
        wait_until(lambda: domains.names == {"2.2.2.2": ("a",)}, "the old ones to be gone")
        domains.watch([])
        assert domains.names == {}
    finally:
        domains.close()


def test_nobody_asks_where_no_rule_does() -> None:
    before = threading.active_count()
    domains = Domains(Book())
    domains.watch([])
    assert threading.active_count() == before
    domains.close()


def test_a_look_up_that_hangs_is_left_alone() -> None:
    go = threading.Event()

    def hang(name: str) -> frozenset[str]:
        go.wait(30)
        return frozenset()

    domains = Domains(hang)
    domains.watch(["a"])
    domains.close()
    go.set()


def test_the_machines_resolver() -> None:
    assert "127.0.0.1" in resolve("localhost")
    assert resolve("no such name \udcff.invalid") == frozenset()
    assert resolve("x" * 300) == frozenset()
    assert socket.getdefaulttimeout() is None
