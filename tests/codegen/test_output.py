"""Messages: fields in place, absent ones as `<NA>`, values as alerts carry them."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.catalog.fields import FIELDS
from appliance.catalog.values import Facts
from appliance.codegen.python import NAMES, value_code
from appliance.lang.load import load_rules
from appliance.lang.parser import parse_operand
from appliance.model.alert import Priority
from appliance.model.event import Container, Event, EventType
from appliance.model.field import ArgKind, Field, FieldType
from tests.support.events import SHELL, event, file_fd, inet_fd, process
from tests.support.rules import ruleset_of

OPEN = event(
    "openat", process=process("cat", "a b"), ancestors=[SHELL, process("sshd")], fd=file_fd("/etc/shadow"), res=3,
    name="/etc/shadow", flags=1, mode=0,
)  # fmt: skip
WEB = event("connect", process=process("curl"), fd=inet_fd(("10.0.0.5", 40000), ("1.1.1.1", 443)))

LOST = OPEN._replace(container=Container("0123", "012345", "docker", missing="no such container at docker"))
POD = OPEN._replace(container=Container("0123", "012345", "docker", image="web:1"))


@pytest.mark.parametrize(
    ("e", "template", "text", "fields"),
    [
        (OPEN, "plain", "plain", {}),
        (OPEN, "*plain", "plain", {}),
        (OPEN, "%proc.name", "cat", {"proc.name": "cat"}),
        (OPEN, "(%proc.cmdline)", "(cat a b)", {"proc.cmdline": "cat a b"}),
        (OPEN, "{%fd.num}%user.uid", "{3}0", {"fd.num": 3, "user.uid": 0}),
        (OPEN, "%proc.aname[2]|%proc.aname[9]", "sshd|<NA>", {"proc.aname[2]": "sshd", "proc.aname[9]": None}),
        (OPEN, "%proc.aname", "bash sshd", {"proc.aname": "bash sshd"}),
        (OPEN, "%evt.is_open_write %evt.failed", "true false", {"evt.is_open_write": True, "evt.failed": False}),
        (OPEN, "%evt.arg.flags %evt.arg[2]", "O_WRONLY /etc/shadow",
         {"evt.arg.flags": "O_WRONLY", "evt.arg[2]": "/etc/shadow"}),
        (OPEN, "%proc.name %proc.name", "cat cat", {"proc.name": "cat"}),
        (OPEN, "%fd.sip %container.image", "<NA> ", {"fd.sip": None, "container.image": ""}),
        (LOST, "%container.id %container.image %k8s.ns.name", "0123 <NA: no such container at docker> <NA: no such "
         "container at docker>", {"container.id": "0123", "container.image": None, "k8s.ns.name": None}),
        (POD, "%container.image %k8s.ns.name %k8s.pod.ip", "web:1 <NA> ",
         {"container.image": "web:1", "k8s.ns.name": None, "k8s.pod.ip": ""}),
        (WEB, "%fd.ip %fd.name", "10.0.0.5 1.1.1.1 10.0.0.5:40000->1.1.1.1:443",
         {"fd.ip": "10.0.0.5 1.1.1.1", "fd.name": "10.0.0.5:40000->1.1.1.1:443"}),
        (OPEN, "%evt.rawtime %evt.time.iso8601", "1700000000123456789 2023-11-14T22:13:20.123456789+0000",
         {"evt.rawtime": 1700000000123456789, "evt.time.iso8601": 1700000000123456789}),
    ],
)  # fmt: skip
def test_a_message_is(tmp_path: Path, e: Event, template: str, text: str, fields: dict[str, object]) -> None:
    file = tmp_path / "rules.yaml"
    quoted = template.replace("'", "''")
    file.write_text(
        f"- rule: r\n  desc: d\n  condition: proc.name exists\n  output: '{quoted}'\n  priority: ERROR\n  tags: [t]\n"
    )
    loaded = load_rules([file])
    found = ruleset_of(loaded.rules, matching="first", hostname="web1")
    (alert,) = found.match(e)
    assert (alert.output, dict(alert.fields)) == (text, {**fields, "evt.time": e.ts_ns})
    assert (alert.hostname, alert.rule, alert.priority, alert.tags) == ("web1", "r", Priority.ERROR, ("t",))
    assert alert.ts_ns == e.ts_ns
    assert not found.errors


def written(field: Field) -> list[str]:
    """The ways to write a field in a message."""
    ways = [field.name] if not field.arg_required else []
    if field.arg in (ArgKind.INDEX, ArgKind.INDEX_OR_KEY):
        ways += [f"{field.name}[0]", f"{field.name}[1]", f"{field.name}[200]"]
    if field.arg in (ArgKind.KEY, ArgKind.INDEX_OR_KEY):
        ways.append(f"{field.name}[res]" if field.name.startswith("evt.") else f"{field.name}[/x]")
    return ways


@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
def test_every_field_can_be_told_of_every_event(field: Field) -> None:
    """Of one about which nothing is known, and of one about which all is: a value of its type, or none."""
    code = "".join(f"def f{i}(e):\n    return {value_code(parse_operand(w))}\n" for i, w in enumerate(written(field)))
    names: dict[str, object] = dict(NAMES)
    exec(code, names)
    numbers = (FieldType.INT, FieldType.UINT, FieldType.PORT, FieldType.RELTIME, FieldType.ABSTIME)
    kinds = {FieldType.BOOL: bool, FieldType.DOUBLE: float} | dict.fromkeys(numbers, int)
    expected = kinds.get(field.type, str)
    for type_ in EventType:
        for e in (event(type_), OPEN._replace(type=type_, params=event(type_).params)):
            for i in range(len(written(field))):
                get = names[f"f{i}"]
                assert callable(get)
                value = get(e)
                for one in value if isinstance(value, list | tuple | Facts) else [value]:
                    assert one is None or isinstance(one, expected) or field.name == "evt.rawarg", (type_, value)


@pytest.mark.parametrize("field", ["evt.time", "evt.time.s", "evt.time.iso8601", "evt.datetime", "evt.datetime.s"])
def test_moments_are_numbers_in_json(tmp_path: Path, field: str) -> None:
    """As in Falco: nanoseconds, whatever the message shows."""
    file = tmp_path / "rules.yaml"
    file.write_text(f"- {{rule: r, desc: d, condition: proc.name exists, output: 'at %{field}', priority: ERROR}}\n")
    (alert,) = ruleset_of(load_rules([file]).rules).match(OPEN)
    assert alert.fields == {field: OPEN.ts_ns, "evt.time": OPEN.ts_ns}
    assert ":" in alert.output
