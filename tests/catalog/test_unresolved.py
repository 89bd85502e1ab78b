"""Numbers without a name: in Falco the text `<NA>`, which compares equal; what is not known at all is absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.catalog.values import World, argument, arguments
from appliance.lang.load import load_texts
from appliance.model.event import NO_PROCESS, Account, Container, Event, Process
from appliance.sources.accounts import HostAccounts
from tests.support.events import event, process
from tests.support.rules import ruleset_of, value

NOBODYS = process(uid=4321, euid=4321, egid=4321, user=Account(4321), group=Account(4321), login=Account(-1, "<NA>"))
OF_NUMBERS = process(euid=4321, egid=4321, loginuid=-1, user=None, group=None, login=None)
ROOTS = process(euid=0, egid=0, loginuid=0, user=Account(0), group=Account(0), login=None)

FIELDS = ("user.name", "user.homedir", "user.shell", "user.loginname", "group.name")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("who", [NOBODYS, OF_NUMBERS], ids=["without an entry", "a number alone"])
def test_a_number_without_an_entry(field: str, who: Process) -> None:
    assert value(event("open", process=who), field) == "<NA>"


@pytest.mark.parametrize(("field", "text"), [*zip(FIELDS, ["root", "/root", "<NA>", "root", "root"], strict=True)])
def test_zero_is_root(field: str, text: str) -> None:
    assert value(event("open", process=ROOTS), field) == text


@pytest.mark.parametrize("field", FIELDS)
def test_a_process_that_is_not_known_has_none(field: str) -> None:
    assert value(event("open", process=NO_PROCESS), field) is None


def test_root_in_a_container_that_has_gone(tmp_path: Path) -> None:
    """Its passwd file cannot be read any more."""
    found = HostAccounts(proc=tmp_path).user(0, Container("0123", "0123" * 16, "docker"), 7)
    assert value(event("open", process=process(user=found)), "user.name") == "root"


@pytest.mark.parametrize(
    ("of", "name", "text"),
    [
        (event("setuid", process=NOBODYS, uid=1234), "uid", "<NA>"),
        (event("setuid", process=NOBODYS, uid=0), "uid", "root"),
        (event("setuid", process=NOBODYS, uid=-1), "uid", "<NONE>"),
        (event("setgid", process=NOBODYS, gid=0xFFFFFFFF), "gid", "<NONE>"),
        (event("setresuid", process=NOBODYS, ruid=1234, euid=1234, suid=-1), "ruid", "<NA>"),
        (event("getuid", res=1234, process=NOBODYS), "uid", "<NA>"),
    ],
)
def test_arguments(of: Event, name: str, text: str) -> None:
    assert value(of, "evt.arg", name) == text


def test_an_argument_is_looked_up_where_somebody_can(tmp_path: Path) -> None:
    """A call that failed names a user that is none of the process's own."""
    world = World()
    refused = event("setuid", process=NOBODYS, res=-1, uid=1)
    assert argument(refused, "uid", world) == "<NA>"
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("daemon:x:1:1::/:/bin/false\n")
    accounts = HostAccounts(root=tmp_path)
    world.account = lambda e, number, is_group: accounts.user(number, e.container, 1)
    assert argument(refused, "uid", world) == "daemon"
    assert arguments(refused, world) == "res=-1(EPERM) uid=1(daemon)"
    assert argument(refused._replace(params=event("setuid", uid=77).params), "uid", world) == "<NA>"


@pytest.mark.parametrize(
    ("check", "holds"),
    [
        ("user.name != root", True),
        ('user.name = "<NA>"', True),
        ('not user.name in ("<NA>","N/A","")', False),
        ("user.loginname != root", True),
        ("group.name != root", True),
        ("user.name exists", True),
        ("user.shell endswith bash", False),
        ('evt.arg.uid = "<NA>"', True),
        ("evt.rawarg.uid = 1234", True),
    ],
)
def test_in_rules(check: str, holds: bool) -> None:
    rule = f"- {{rule: r, desc: d, condition: 'evt.type = setuid and {check}', output: o, priority: INFO}}"
    rules = load_texts([("rules.yaml", rule)]).rules
    assert bool(ruleset_of(rules).match(event("setuid", process=NOBODYS, uid=1234))) is holds
