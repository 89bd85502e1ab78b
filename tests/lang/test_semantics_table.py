"""What checks mean, one fact a line: operators, types, absent values, negation, lists, transformers, quoting.

`semantics.txt` holds an event, a verdict (`invalid`: the condition is refused) and a check. The facts are those of
Falco's rule language as its documentation and the recorded answers of the real engine have them.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from appliance.lang.load import load_texts
from appliance.model.event import NO_PROCESS, Container, Event
from appliance.sources.k8saudit import audit_event
from tests.support.audit import POD, QUIET
from tests.support.events import SHELL, event, file_fd, inet_fd, process
from tests.support.rules import ruleset_of

ARGS = ('a "b', "it's", "c:\\d", "(x)", "k=v", "one, two")
EVENTS: dict[str, Event] = {
    "cat": event(
        "openat", process=process("Cat-9.x", *ARGS), ancestors=[SHELL, process("sshd"), process("systemd")],
        fd=file_fd("/etc/Shadow File"), res=3, name="/etc/Shadow File", flags=0x241 | 1 << 30, mode=0o640,
        path="/etc/Shadow File",
    ),
    "failed": event("openat", process=process("cat"), fd=file_fd("/etc/x", num=-1), res=-2, name="x", flags=0),
    "nobody": event("openat", process=NO_PROCESS, res=-1),
    "nofd": event("openat", process=process("cat"), res=-1),
    "nc": event("execve", process=process("nc", "-lvp", "8080", "-e/bin/sh", "-x", "-v", "--all", "-n", "host", "-k")),
    "last": event("execve", process=process("nc", "-l", "-e", "a", "-e", "b b", "-", "-v")),
    "ended": event("execve", process=process("nc", "-l", "--", "-v", "-p")),
    "lacks": event("execve", process=process("nc", "-p")),
    "web": event(
        "connect", process=process("curl"), fd=inet_fd(("10.0.0.5", 40000), ("93.184.216.34", 443)),
        container=Container("0123456789ab", "0123456789ab" * 5, name="web", image="nginx:1.25", privileged=True),
    ),
    "nobox": event("connect", process=process("curl"), container=Container("0123456789ab", "0123456789ab" * 5)),
    "pod": audit_event(POD),
    "get": audit_event(QUIET),
}  # fmt: skip
HEAD = """
- {list: animals, items: [Horse, Cat-9.x]}
- {list: nested, items: [Cow, animals]}
- {list: empty, items: []}
- {list: files, items: ['"/etc/Shadow File"', /etc/passwd]}
- {list: folders, items: [/usr, /etc]}
- {macro: is_cat, condition: proc.name = Cat-9.x}
- {macro: is_dog, condition: proc.name = Dog}
"""
LINES = [
    (number, *line.split(maxsplit=2))
    for number, line in enumerate(Path(__file__).with_name("semantics.txt").read_text().splitlines(), 1)
    if line and not line.startswith("#")
]


def verdict(name: str, check: str) -> str:
    source = "k8s_audit" if name in ("pod", "get") else "syscall"
    text = check.replace("\n", " ")
    rule = f"- rule: r\n  desc: d\n  condition: >\n    {text}\n  output: o\n  priority: INFO\n  source: {source}\n"
    loaded = load_texts([("rules.yaml", HEAD + rule + "  warn_evttypes: false\n")])
    if loaded.errors:
        return "invalid"
    rules = ruleset_of(loaded.rules)
    found = bool(rules.match(EVENTS[name]))
    assert not rules.errors
    return "true" if found else "false"


@pytest.mark.parametrize(("number", "name", "expected", "check"), LINES)
def test_a_check(number: int, name: str, expected: str, check: str) -> None:
    assert verdict(name, check) == expected, f"semantics.txt:{number}"


def test_there_are_many_and_each_is_there_once() -> None:
    assert len(LINES) >= 300
    assert [line for line, count in Counter((n, c) for _, n, _, c in LINES).items() if count > 1] == []
