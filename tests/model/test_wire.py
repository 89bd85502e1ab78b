"""The spelling of alerts: keys, times, switches, and JSON that strict parsers take."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.alert import Alert, Priority
from appliance.model.text import printable
from appliance.model.wire import CUT_MARK, Format, line, message, shortened, to_json

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas" / "alert.schema.json").read_text())
ALERT = Alert(
    id="web1:6f1c:42",
    ts_ns=1_704_067_200_000_000_007,
    hostname="web1",
    rule="Shell in container",
    priority=Priority.WARNING,
    source="syscall",
    tags=("container", "T1059"),
    output="a shell started (command=sh -i)",
    fields={"proc.cmdline": "sh -i", "proc.pid": 7, "proc.is_vpgid_leader": True, "container.name": None},
)
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


def test_json_under_falcos_keys() -> None:
    assert to_json(ALERT, options=Format(iso_time=True)) == (
        '{"hostname":"web1","output":"2024-01-01T00:00:00.000000007+0000: Warning a shell started (command=sh -i)",'
        '"output_fields":{"proc.cmdline":"sh -i","proc.pid":7,"proc.is_vpgid_leader":true,"container.name":null},'
        '"priority":"Warning","rule":"Shell in container","source":"syscall","tags":["container","T1059"],'
        '"time":"2024-01-01T00:00:00.000000007Z"}'
    )


def test_message_in_both_times() -> None:
    assert message(ALERT, True) == "2024-01-01T00:00:00.000000007+0000: Warning a shell started (command=sh -i)"
    clock, _, rest = message(ALERT, False).partition(": ")
    assert rest == "Warning a shell started (command=sh -i)"
    assert clock.endswith(":00.000000007")
    assert len(clock) == len("HH:MM:SS.nnnnnnnnn")


@pytest.mark.parametrize(
    ("options", "absent"),
    [
        (Format(), set()),
        (Format(include_output=False), {"output"}),
        (Format(include_output_fields=False), {"output_fields"}),
        (Format(include_tags=False), {"tags"}),
        (
            Format(include_output=False, include_output_fields=False, include_tags=False),
            {"output", "output_fields", "tags"},
        ),
    ],
)
def test_switches_leave_out_their_key_and_no_other(options: Format, absent: set[str]) -> None:
    document = json.loads(to_json(ALERT, options=options))
    assert set(document) == set(SCHEMA["properties"]) - {"message"} - absent  # that one is there where it is asked for
    jsonschema.validate(document, SCHEMA)


def test_the_message_without_time_and_priority_where_it_is_asked_for() -> None:
    document = json.loads(to_json(ALERT, options=Format(include_message=True)))
    assert document["message"] == ALERT.output
    assert set(document) == set(SCHEMA["properties"])


@pytest.mark.parametrize("priority", list(Priority))
def test_every_priority_is_in_the_schema(priority: Priority) -> None:
    jsonschema.validate(json.loads(to_json(replace(ALERT, priority=priority), options=Format())), SCHEMA)


def test_line_follows_the_format() -> None:
    assert line(ALERT, Format(json_output=True)) == to_json(ALERT, options=Format())
    assert line(ALERT, Format(iso_time=True)) == message(ALERT, True)


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_any_text_gives_one_line_that_parses_to_itself(rule: str, name: str, value: str) -> None:
    alert = replace(ALERT, rule=rule, output=value, tags=(value,), fields={name: value})
    text = to_json(alert, options=Format())
    assert printable(text) == text
    text.encode()
    jsonschema.validate(json.loads(text), SCHEMA)
    assert printable(message(alert, False)) == message(alert, False)


def test_jq_reads_hostile_text() -> None:
    jq = shutil.which("jq")
    assert jq, "needs the Debian package jq"
    hostile = b'\x00\x1b]0;x\x07\n\xff\xfe"\\%s\xe2\x80\xae\x7f'.decode("utf-8", "surrogateescape")
    alert = replace(ALERT, output=hostile, fields={"proc.args": hostile})
    run = subprocess.run(
        [jq, "-r", ".output_fields[\"proc.args\"] | @json"],
        input=to_json(alert, options=Format()),
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert json.loads(run.stdout) == '\x00\x1b]0;x\x07\n\\xff\\xfe"\\%s\u202e\x7f'


def test_shortened_marks_what_it_cut() -> None:
    short = shortened(replace(ALERT, output="x" * 100, fields={"a": "y" * 100, "b": 5, "c": "z"}), 20)
    assert short.output == "x" * 12 + CUT_MARK
    assert short.fields == {"a": "y" * 12 + CUT_MARK, "b": 5, "c": "z"}
