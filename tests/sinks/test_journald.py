"""The journal's sink against a socket that checks the native protocol.

systemd is not PID 1 on the machines that run these tests, so the socket is ours, where journald's would be, in a mount
namespace of its own; libsystemd is the real one. A journald on a real machine is for the tests with virtual machines.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.sinks.journald import MESSAGE_ID, field_name

pytestmark = pytest.mark.kernel  # root, for the namespace

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "tests.sinks.journal_child"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_an_entry_has_native_fields(told: dict[str, Any]) -> None:
    fields, _ = told["entries"][0]
    assert [tuple(f) for f in fields] == [
        ("MESSAGE", "something happened"),
        ("MESSAGE_ID", MESSAGE_ID),
        ("PRIORITY", "4"),
        ("SYSLOG_IDENTIFIER", "tercel"),
        ("TERCEL_ID", "web1:boot:1"),
        ("TERCEL_RULE", "Some rule"),
        ("TERCEL_SOURCE", "syscall"),
        ("TERCEL_TAGS", "host"),
        ("TERCEL_TAGS", "T1059"),
        ("TERCEL_F_PROC_NAME", "cat"),
        ("TERCEL_F_FD_NUM", "1"),
        ("TERCEL_F_PROC_ANAME_2", "sshd"),
        ("TERCEL_F_EVT_FAILED", "false"),
    ]


def test_no_text_becomes_a_field(told: dict[str, Any]) -> None:
    fields, _ = told["entries"][1]
    names = [name for name, _ in fields]
    assert names.count("PRIORITY") == 1
    assert names[-3:] == ["TERCEL_F_PROC_NAME", "TERCEL_F_X_Y_PRIORITY", "TERCEL_F_" + "A" * 55]
    for _, value in fields:
        assert value.isprintable() or "\u2028" not in value
        assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in value)
    assert dict(fields)["MESSAGE"].startswith(r"a\x1b[2Jb\nc\rd\x00\u202ee")


def test_a_large_entry_comes_whole(told: dict[str, Any]) -> None:
    """In one datagram or as a file descriptor, as libsystemd finds room."""
    fields, _ = told["entries"][2]
    assert dict(fields)["MESSAGE"] == "x" * 500_000


def test_a_journal_that_is_away_is_an_error(told: dict[str, Any]) -> None:
    assert told["errors"] == [
        ["/run/systemd/journal/socket: no journal runs here", True],
        ["/run/systemd/journal/socket: Connection refused", True],
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("proc.name", "TERCEL_F_PROC_NAME"),
        ("proc.aname[2]", "TERCEL_F_PROC_ANAME_2"),
        ("evt.arg.flags", "TERCEL_F_EVT_ARG_FLAGS"),
        ("container.mount.dest[/etc]", "TERCEL_F_CONTAINER_MOUNT_DEST_ETC"),
        ("é", "TERCEL_F_"),
    ],
)
def test_field_names(name: str, expected: str) -> None:
    assert field_name(name) == expected
