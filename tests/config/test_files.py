"""Several files, variables, options and secrets: what they come to."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from appliance.config.load import load_config
from appliance.config.settings import Config
from appliance.model.diagnostic import ConfigError
from appliance.sinks.build import build_sinks


def load(folder: Path, main: str, environment: Mapping[str, str] | None = None, **files: str) -> Config:
    """The configuration of `main.yaml` beside other files; `d_x` is `d/x.yaml`."""
    (folder / "main.yaml").write_text(main)
    for name, text in files.items():
        file = folder / f"{name.replace('_', '/')}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return load_config(folder / "main.yaml", environment=environment or {})


def mistakes(folder: Path, main: str, environment: Mapping[str, str] | None = None, **files: str) -> list[str]:
    """`file:line:column name: message` of each diagnostic."""
    with pytest.raises(ConfigError) as caught:
        load(folder, main, environment, **files)
    return [
        f"{f'{Path(d.span.file).name}:{d.span.line}:{d.span.column} ' if d.span else ''}{d.name}: {d.message}"
        for d in caught.value.diagnostics
    ]


MAIN = "metrics: {interval: 5m, output_file: /m}\njson_output: true\nsyscall_event_drops: {actions: [log]}\n"


def test_lists_are_joined_and_sections_replaced(tmp_path: Path) -> None:
    config = load(
        tmp_path, f"config_files: [extra.yaml, {{path: d}}]\n{MAIN}rules: [{{disable: {{rule: a}}}}]\n",
        extra="metrics: {interval: 7m}\nrules: [{enable: {rule: b}}]\n", d_1="json_output: false\n",
        d_2="priority: error\n",
    )  # fmt: skip
    assert (config.metrics.interval, config.metrics.output_file) == ("7m", "")
    assert [switch.rule for switch in config.rules] == ["a", "b"]
    assert not config.json_output
    assert config.priority.name == "ERROR"
    assert [file.name for file in config.included] == ["extra.yaml", "1.yaml", "2.yaml"]


@pytest.mark.parametrize(
    ("strategy", "rules", "json_output"),
    [("append", ["a", "b"], False), ("override", ["b"], False), ("add-only", ["a"], True)],
)
def test_strategies(tmp_path: Path, strategy: str, rules: list[str], json_output: bool) -> None:
    config = load(
        tmp_path, f"config_files: [{{path: e.yaml, strategy: {strategy}}}]\n{MAIN}rules: [{{disable: {{rule: a}}}}]\n",
        e="rules: [{enable: {rule: b}}]\njson_output: false\nlog_level: error\n",
    )  # fmt: skip
    assert [switch.rule for switch in config.rules] == rules
    assert config.json_output is json_output
    assert config.log_level == "error"


def test_a_mistake_names_the_file_it_stands_in(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "config_files: [e.yaml]\njson_outptu: 1\n", e="# x\nmetrics:\n  enabeld: true\n") == [
        "e.yaml:3:3 unknown-key: there is no key `enabeld` in `metrics`",
        "main.yaml:2:1 unknown-key: there is no key `json_outptu`",
    ]


def test_includes_that_cannot_be(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "config_files: [e.yaml]\n", e="config_files: [f.yaml]\n") == [
        "e.yaml:1:1 nested-include: a file that is read by `config_files` cannot name further ones"
    ]
    assert mistakes(tmp_path, "config_files: [gone]\n")[0].startswith("main.yaml:1:16 config-missing: ")
    assert mistakes(tmp_path, "config_files: [e.yaml]\n", e="- a\n") == [
        "e.yaml:1:1 wrong-type: `the file` is a list, expected a map of keys"
    ]
    assert mistakes(tmp_path, "config_files: [{path: e.yaml, strategy: x}]\n", e="")[0].startswith("main.yaml:1:16 ")


def test_rules_files_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").touch()
    (tmp_path / "d").mkdir()
    (tmp_path / "d/b.yaml").touch()
    config = load(tmp_path, "config_files: [d/c.yaml]\nrules_files: [a.yaml]\n", d_c="rules_files: [b.yaml]\n")
    assert config.rules_files == (tmp_path / "a.yaml", tmp_path / "d/b.yaml")


@pytest.mark.parametrize("name", ["rules_file", "rule_files"])
def test_older_names_of_rules_files(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.yaml").touch()
    assert load(tmp_path, f"{name}: [a.yaml]\n").rules_files == (tmp_path / "a.yaml",)


def test_falcos_names_of_our_settings(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "engine: {modern_ebpf: {buf_size_preset: 7, cpus_for_each_buffer: 3, drop_failed_exit: true}}\n"
        "container_engines: {docker: {enabled: false}, podman: {enabled: false}, cri: {sockets: [/a, /crio/b]}}\n"
        "output_timeout: 77\noutputs_queue: {capacity: 0}\n",
    )
    assert (config.capture.ring_mib, config.capture.cpus_per_ring, config.capture.drop_failed) == (64, 3, True)
    assert (config.containers.docker_sockets, config.containers.podman_sockets) == ((), ())
    assert config.containers.containerd_sockets == (Path("/a"),)
    assert config.containers.crio_sockets == (Path("/crio/b"),)
    assert config.output_timeout_ms == 77
    assert config.outputs_queue == Config().outputs_queue
    off = load(tmp_path, "container_engines: {cri: {enabled: false}}\ncapture: {ring_mib: 2}\n")
    assert (off.containers.containerd_sockets, off.containers.crio_sockets) == ((), ())
    ours = load(tmp_path, "capture: {ring_mib: 2}\nengine: {modern_ebpf: {buf_size_preset: 7}}\n")
    assert ours.capture.ring_mib == 2, "where both stand, ours counts"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("metrics: {interval: '${T}'}", "9m"),
        ("metrics: {interval: '${NO:-8m}'}", "8m"),
        ("metrics: {interval: '${T:-8m}'}", "9m"),
        ("metrics: {interval: '${M}m'}", "7m"),
    ],
)
def test_variables(tmp_path: Path, text: str, value: str) -> None:
    assert load(tmp_path, text, {"T": "9m", "M": "7"}).metrics.interval == value


def test_a_variable_is_a_number_where_one_is_wanted(tmp_path: Path) -> None:
    config = load(tmp_path, "webserver:\n  listen_port: ${PORT}\n  enabled: ${ON}\n", {"PORT": "99", "ON": "true"})
    assert (config.webserver.listen_port, config.webserver.enabled) == (99, True)


def test_an_unset_variable_stands_for_nothing_and_is_told(tmp_path: Path) -> None:
    config = load(tmp_path, "webserver:\n  listen_port: ${PORT}\nhttp_output: {user_agent: 'a${X}b$${X}c$d'}\n")
    assert config.webserver.listen_port == 8765
    assert config.http_output.user_agent == "ab${X}c$d"
    assert [note.keys for note in config.notes] == [("${PORT}",), ("${X}",)]
    note = config.notes[0]
    assert note.span is not None
    assert (note.span.line, note.span.column) == (2, 16)


def test_a_wrong_value_from_a_variable_is_told_at_its_place(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "webserver:\n  listen_port: ${PORT}\n", {"PORT": "many"}) == [
        "main.yaml:2:16 wrong-type: `webserver.listen_port` is a text, expected a whole number"
    ]


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("rules[0].disable.rule=z", ["z", "b"]),
        ("rules[1]={enable: {rule: q}}", ["a", "q"]),
        ("rules[]={enable: {tag: t, rule: q}}", ["a", "b", "q"]),
        ("rules=[]", []),
        ("rules=[{disable: {rule: '*'}}]", ["*"]),
    ],
)
def test_options_reach_into_lists(tmp_path: Path, option: str, expected: list[str]) -> None:
    (tmp_path / "t.yaml").write_text("rules: [{disable: {rule: a}}, {disable: {rule: b}}]\n")
    assert [s.rule for s in load_config(tmp_path / "t.yaml", overrides=[option]).rules] == expected


@pytest.mark.parametrize(
    "option", ["rules[7]=1", "rules[x]=1", "[0]=1", "a..b=1", "rules.x=1", "json_output[0]=1", "=1"]
)
def test_an_option_that_reaches_nowhere_is_refused(option: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, overrides=["rules=[]", option])
    assert caught.value.diagnostics


def test_a_wrong_option_is_shown_with_its_place() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, overrides=["metrics.enabled=maybe"])
    (found,) = caught.value.diagnostics
    assert found.span is not None
    assert (found.span.file, found.span.line, found.span.column) == ("-o", 1, 17)
    assert found.source_line == "metrics.enabled=maybe"


def test_secrets_come_from_files_and_credentials_and_are_shown_nowhere(tmp_path: Path) -> None:
    secret = "https://hooks.example.org/s3cret?token=s3cret"
    (tmp_path / "hook").write_text(f"{secret}\n")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    for text in ("credential:hook", f"file:{tmp_path}/hook"):
        main = f"http_output: {{enabled: true, url: '{text}', client_key: 'credential:key'}}\n"
        config = load(tmp_path, main, environment)
        assert config.http_output.url == secret
        assert config.http_output.client_key == f"{tmp_path}/key"
        assert "s3cret" not in repr(config)
        assert "s3cret" not in " ".join(sink.describe() for sink in build_sinks(config, io.StringIO()))
    (tmp_path / "hook").write_text("ftp://s3cret\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "http_output: {enabled: true, url: 'credential:hook'}\n", environment)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "http_output: {enabled: true, url: 'ftp://u:s3cret@h/'}\n", environment)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("name", ["gone", "../x", "", "a/b"])
@pytest.mark.parametrize("environment", [{}, {"CREDENTIALS_DIRECTORY": "/nowhere"}])
def test_a_credential_that_is_not_there_is_told(tmp_path: Path, name: str, environment: dict[str, Any]) -> None:
    found = mistakes(tmp_path, f"http_output: {{enabled: true, url: 'credential:{name}'}}\n", environment)
    assert found[0].startswith("main.yaml:1:35 no-credential: ")
    assert len(found) == 1


def test_who_does_not_start_by_it_needs_no_credentials(tmp_path: Path) -> None:
    """A person at the machine checks and lists; systemd gives credentials to the service alone."""
    http = "{enabled: true, url: 'credential:u', mtls: true, client_cert: 'credential:c', client_key: 'credential:k'}"
    main = f"http_output: {http}\nsyslog_output: {{enabled: true, url: 'credential:log'}}\n"
    (tmp_path / "main.yaml").write_text(main)
    (note,) = load_config(tmp_path / "main.yaml", environment={}, starts=False).notes
    assert note.keys == ("http_output.client_cert", "http_output.client_key", "http_output.url", "syslog_output.url")
    assert note.text == "credentials, which systemd hands to the service; not looked at here"
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "main.yaml", environment={"CREDENTIALS_DIRECTORY": "/nowhere"}, starts=False)
    assert [d.name for d in caught.value.diagnostics] == ["no-credential"] * 2
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "main.yaml", environment={})
    assert [d.name for d in caught.value.diagnostics] == ["no-credential"] * 4
    (tmp_path / "main.yaml").write_text("http_output: {enabled: true, url: 'credential:../x'}\n")
    with pytest.raises(ConfigError):
        load_config(tmp_path / "main.yaml", environment={}, starts=False)


@pytest.mark.parametrize("name", ["/etc/" + "a" * 300, '"a\\0b"'])
def test_a_path_that_can_be_none_is_told(tmp_path: Path, name: str) -> None:
    assert "rules-missing" in mistakes(tmp_path, f"rules_files:\n  - {name}\n")[0]
    assert "config-" in mistakes(tmp_path, f"config_files:\n  - {name}\n")[0]
    url = f'"file:{name.strip(chr(34))}"'
    assert "no-credential" in mistakes(tmp_path, f"http_output: {{enabled: true, url: {url}}}\n")[0]
