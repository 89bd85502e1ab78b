"""Fields of reading, writing, waiting and failing, over events made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.catalog.lookup import value_of
from appliance.engine.ruleset import compile_value
from appliance.lang.load import load_rules
from appliance.model.event import Event, Fd
from appliance.model.expr import FieldRef
from tests.support.events import event, file_fd
from tests.support.rules import ruleset_of

SOCKET = Fd(num=4, type="ipv4", typechar="4", name="1.2.3.4:5->6.7.8.9:10")
LOG = Fd(num=4, type="unix", typechar="u", name="/dev/log")
READ = event("read", res=3, data="abc", fd=file_fd("/a"))
SENT = event("sendto", res=-11, data="xyz", fd=SOCKET)
LOGGED = event("sendto", res=5, data="hello", fd=LOG)
OPENED = event("open", res=-2, name="/a", fd=file_fd("/a", num=-1))
HANDLE = event("open_by_handle_at", res=3, flags=2, fd=file_fd("/a"))
WAITED = event("poll", res=0)
MAPPED = event("mmap", res=-12)
KILLED = event("kill", res=-3)


@pytest.mark.parametrize(
    ("field", "of", "value"),
    [
        ("evt.is_io", READ, True),
        ("evt.is_io_read", READ, True),
        ("evt.is_io_write", READ, False),
        ("evt.io_dir", READ, "read"),
        ("evt.io_dir", SENT, "write"),
        ("evt.io_dir", OPENED, None),
        ("evt.is_io", OPENED, False),
        ("evt.buffer", READ, b"abc"),
        ("evt.buffer", OPENED, None),
        ("evt.buflen", READ, 3),
        ("evt.buflen", SENT, None),
        ("evt.is_wait", WAITED, True),
        ("evt.is_wait", READ, False),
        ("evt.is_syslog", LOGGED, True),
        ("evt.is_syslog", SENT, False),
        ("evt.type.is.read", READ, 1),
        ("evt.type.is.read", SENT, 0),
        ("evt.count.error", READ, 0),
        ("evt.count.error", SENT, 1),
        ("evt.count.error.net", SENT, 1),
        ("evt.count.error.file", SENT, None),
        ("evt.count.error.file", OPENED, 1),
        ("evt.count.error.memory", MAPPED, 1),
        ("evt.count.error.other", KILLED, 1),
        ("evt.is_open_read", HANDLE, True),
        ("evt.is_open_write", HANDLE, True),
    ],
)
def test_fields(field: str, of: Event, value: object) -> None:
    found = value_of(FieldRef(field))
    assert found is not None
    assert compile_value(found.code)(of) == value


@pytest.mark.parametrize(
    ("check", "holds"),
    [
        ("bcontains 6263", True),
        ("bcontains 62ff", False),
        ("bstartswith 6162", True),
        ("contains bc", True),
        ("startswith ab", True),
        ("startswith b", False),
        ("= abc", True),
        ("!= abc", False),
    ],
)
def test_what_was_read_can_be_asked_for_as_bytes_and_as_text(check: str, holds: bool, tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    rule = {"rule": "r", "desc": "d", "output": "%evt.buffer", "priority": "INFO"}
    file.write_text(json.dumps([rule | {"condition": f"evt.type = {READ.type} and evt.buffer {check}"}]))
    rules = ruleset_of(load_rules([file]).rules)
    assert [a.output for a in rules.match(READ)] == ["abc"] * holds
    assert not rules.errors
