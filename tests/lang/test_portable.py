"""What only Tercel accepts is named, and nothing that Falco loads."""

from __future__ import annotations

import pytest

from appliance.lang.load import load_rules, load_texts
from appliance.lang.portable import only_here
from tests.support.shared import shared_falco

RULE = "- {{rule: r, desc: d, priority: INFO, output: '{output}', condition: '{condition}'}}\n"


def told(condition: str, output: str = "o") -> list[str]:
    loaded = load_texts([("r.yaml", RULE.format(condition=condition, output=output))])
    assert len(loaded.rules) == 1, loaded.diagnostics
    return [d.hint or "" for d in only_here(loaded.rules)]


@pytest.mark.parametrize(
    ("check", "hint"),
    [
        ("evt.arg[name] = x", "write `evt.arg.name`"),
        ("evt.rawarg[flags] = 1", "write `evt.rawarg.flags`"),
        ("thread.cgroup[cpu] = /", "write `thread.cgroup.cpu`"),
        ('join(",", proc.name, proc.pname) = x', 'write `join(",", (proc.name, proc.pname))`'),
        ('getopt(proc.args, "a:") intersects (a)', "write `getopt((proc.args), ...)`"),
        ("fd.types = file", "write `fd.types in (...)`"),
        ("proc.name = val(proc.aname[1])", "compare fields without arguments"),
        ("len(evt.rawres) = 1", "compare the number itself"),
        ("fd.sip = ::ffff:1.2.3.4", "write the IPv4 address"),
        ("fd.dev = 0xFE00", "write `65024`"),
        ('proc.name regex "(?i)x"', "use `icontains`, or write both cases"),
        ("proc.bname = x", "leave it out where Falco must load the rule"),
    ],
)
def test_what_falco_refuses(check: str, hint: str) -> None:
    assert told(f"evt.type = connect and {check}") == [hint]


@pytest.mark.parametrize(
    "check",
    [
        "evt.arg.name = x", "evt.arg[0] = x", "thread.cgroup.cpu = /", "fd.types in (file)", "fd.types[0] in (file)",
        'join(",", (proc.name, proc.pname)) = x', 'getopt((proc.args), "a:") intersects (a)',
        "len((proc.name, proc.pname)) = 2", 'proc.name = tolower("X")', "evt.rawarg.name contains a",
        "proc.aname[-1] = x", "proc.name = val(proc.pname)",
    ],
)  # fmt: skip
def test_what_falco_loads(check: str) -> None:
    assert told(f"evt.type = open and {check}") == []


def test_messages_are_looked_at() -> None:
    assert told("evt.type = open", "%proc.unit") == ["leave it out where Falco must load the rule"]


def test_falcos_own_rules_are_falcos() -> None:
    files = sorted((shared_falco() / "rules").glob("falco*_rules.yaml"))
    assert files
    assert not [d.render() for d in only_here(load_rules(files).rules)]
