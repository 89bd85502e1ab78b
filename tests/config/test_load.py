"""Configuration files: what is accepted, and what is said of what is not."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.config.keys import ROWS, State
from appliance.config.load import load_config, load_schema
from appliance.config.settings import Config
from appliance.model.alert import Priority
from appliance.model.diagnostic import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def refused(tmp_path: Path, text: str | bytes, **options: Any) -> list[str]:
    """`line:column name: message | hint` of each diagnostic."""
    file = tmp_path / "tercel.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load_config(file, **options)
    return [
        f"{f'{d.span.line}:{d.span.column} ' if d.span else ''}{d.name}: {d.message} | {d.hint}"
        for d in caught.value.diagnostics
    ]


MISTAKES = [
    ("json_outptu: true", ["1:1 unknown-key: there is no key `json_outptu` | did you mean `json_output`?"]),
    (
        "stdout_output:\n  enabeld: true",
        ["2:3 unknown-key: there is no key `enabeld` in `stdout_output` | did you mean `enabled`?"],
    ),
    (
        "json_output: yess\npriority: WARNIN",
        [
            "1:14 wrong-type: `json_output` is a text, expected true or false | the default is false",
            "2:11 wrong-value: `priority` is `WARNIN`, expected one of emergency, alert, critical, error, warning, "
            "notice, informational, debug | did you mean `warning`?",
        ],
    ),
    ("rules_files: a.yaml", ["1:14 wrong-type: `rules_files` is a text, expected a list | the default is []"]),
    (
        "stdout_output:\n\tenabled: true",
        [
            "2:1 yaml-tab: a tab stands where YAML wants blanks | indent with blanks, two for each level",
        ],
    ),
    (
        "priority: info\npriority: debug",
        ["2:1 repeated-key: `priority` stands here a second time | keep one of them"],
    ),
    (
        "rules_files: [gone.yaml]",
        [
            "1:15 rules-missing: there is no rules file or folder `DIR/gone.yaml` | "
            "paths are relative to the folder of the configuration file"
        ],
    ),
    (
        "http_output: {enabled: true, url: 'ftp://x'}",
        [
            "1:35 wrong-value: `http_output.url` is `ftp://x`, expected an http or https URL | "
            "for example `http://127.0.0.1:2801/`"
        ],
    ),
    (
        "http_output: {enabled: true, url: 'https://x', mtls: true}",
        ["1:54 missing-key: `http_output.mtls` needs `client_cert` and `client_key` | give the paths of both files"],
    ),
    (
        "program_output: {enabled: true}",
        ["1:27 missing-key: `program_output.enabled` needs `program` | give the program and its arguments"],
    ),
    (
        'program_output: {program: "a \'b"}',
        [
            "1:27 wrong-value: `program_output.program` cannot be split into words: no closing quotation | "
            "close the quote, or give a list of words"
        ],
    ),
    (
        "outputs_queue: {capacity: -1}",
        ["1:27 wrong-value: `outputs_queue.capacity` is -1, expected 0 to 1000000 | None"],
    ),
    ("a: [1, 2", ["1:9 yaml-error: expected ',' or ']', but got '<stream end>' while parsing a flow sequence | None"]),
    ('a: !!int ""', ["1:4 yaml-value: `` is no value of the type `!!int` | leave the tag out"]),
    ("a: !!bool x", ["1:4 yaml-value: `x` is no value of the type `!!bool` | leave the tag out"]),
    ("a: !!timestamp x", ["1:4 yaml-value: `x` is no value of the type `!!timestamp` | leave the tag out"]),
    (
        "json_output: 2001-13-01",
        ["1:14 yaml-value: `2001-13-01` is no value of the type `!!timestamp` | leave the tag out"],
    ),
    ("- a", ["1:1 wrong-type: `the file` is a list, expected a map of keys | None"]),
    (
        b"\x7fELF\x02\xff",
        ["config-not-text: `DIR/tercel.yaml` is not UTF-8 text: byte 0xff at offset 5 | is this the right file?"],
    ),
    (
        b"a" * (2 << 20),
        ["config-too-large: `DIR/tercel.yaml` is larger than 1048576 bytes | is this the right file?"],
    ),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES, ids=[str(t)[:40] for t, _ in MISTAKES])
def test_a_mistake_is_told_with_its_place_and_a_hint(tmp_path: Path, text: str | bytes, expected: list[str]) -> None:
    assert [line.replace(str(tmp_path), "DIR") for line in refused(tmp_path, text)] == expected


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read `.*gone.yaml`: No such file"):
        load_config(tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
        "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]",
        "[" * 5000,
    ],
)
def test_what_grows_without_bound_is_refused(tmp_path: Path, text: str) -> None:
    assert len(refused(tmp_path, text)) == 1


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_config_or_diagnostics(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(data)
    try:
        load_config(file)
    except ConfigError as error:
        assert error.diagnostics


def test_values_reach_the_settings(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").touch()
    (tmp_path / "t.yaml").write_text(
        "rules_files: [r.yaml]\npriority: Info\nprogram_output: {enabled: true, program: \"a 'b c'\"}\n"
        "http_output: {url: 'http://x/'}\nfile_output: {filename: /x}\ncontainers: {docker_sockets: [/a, /b]}\n"
    )
    config = load_config(tmp_path / "t.yaml")
    assert config.path == tmp_path / "t.yaml"
    assert config.rules_files == (tmp_path / "r.yaml",)
    assert config.priority is Priority.INFORMATIONAL
    assert config.program_output.program == ("a", "b c")
    assert config.http_output.url == "http://x/"
    assert config.file_output.filename == Path("/x")
    assert config.containers.docker_sockets == (Path("/a"), Path("/b"))


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("# nothing\n")
    config = load_config(tmp_path / "t.yaml")
    assert config == Config(path=tmp_path / "t.yaml")


def test_options_win_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("json_output: false\n")
    config = load_config(tmp_path / "t.yaml", overrides=["json_output=true", "http_output.timeout_ms=7"])
    assert config.json_output
    assert config.http_output.timeout_ms == 7


@pytest.mark.parametrize("option", ["json_output", "nothing=1", "json_output.x=1", "json_output=[", "http_output=5"])
def test_a_wrong_option_is_refused(option: str) -> None:
    with pytest.raises(ConfigError):
        load_config(None, overrides=[option])


def test_the_shipped_file_is_accepted() -> None:
    config = load_config(ROOT / "tercel.yaml")
    assert config.stdout_output.enabled
    assert all(file.exists() for file in config.rules_files)


def test_schema_is_a_schema_and_explains_each_key() -> None:
    schema = load_schema()
    jsonschema.Draft202012Validator.check_schema(schema)

    def keys(part: dict[str, Any], at: str) -> None:
        for name, row in part.get("properties", {}).items():
            assert row.get("title"), f"{at}{name} has no title"
            assert row.get("description", "").endswith("."), f"{at}{name} has no description"
            keys(row, f"{at}{name}.")

    keys(schema, "")


def test_schema_and_settings_agree_on_keys_and_defaults() -> None:
    def compare(value: Any, schema: dict[str, Any], at: str) -> None:
        others = set() if at else {"path", "included", "folders", "notes", "options"}
        names = {f.name for f in fields(value)} - others
        falcos = {name for name in schema["properties"] if _is_falcos_alone(f"{at}{name}", schema["properties"][name])}
        assert names == set(schema["properties"]) - falcos, at
        for name in names:
            inner = getattr(value, name)
            row = schema["properties"][name]
            if is_dataclass(inner):
                compare(inner, row, f"{at}{name}.")
            else:
                assert _plain(inner, row) == row["default"], f"{at}{name}"

    compare(Config(), load_schema(), "")


def _is_falcos_alone(key: str, part: dict[str, Any]) -> bool:
    """A key of Falco's that is no setting: it has no effect, or its effect is that of another key."""
    if "properties" in part:
        return all(_is_falcos_alone(f"{key}.{name}", inner) for name, inner in part["properties"].items())
    rows = [row for row in ROWS if row.key == key or row.key.startswith((f"{key}[]", f"{key}."))]
    return bool(rows) and all(
        row.state is State.ACCEPTED or row.note.startswith(("sets `", "`false` empties", "an older name"))
        or row.key.startswith("config_files")
        for row in rows
    )  # fmt: skip


def _plain(value: Any, row: dict[str, Any]) -> Any:
    if isinstance(value, Priority):
        return value.name.lower()
    if isinstance(value, tuple):
        return [str(item) for item in value] if row.get("type") == "array" else ""
    if isinstance(value, Path):
        return "./events.txt" if value == Path("./events.txt") else str(value)
    return json.loads(json.dumps(value))
