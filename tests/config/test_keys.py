"""Falco's own configuration file: every key of it, and of its schema, has a row, and the rows are true."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.config.document import Node
from appliance.config.keys import BY_KEY, ROWS, State, notes
from appliance.config.load import load_config, load_schema
from appliance.model.diagnostic import ConfigError

ROOT = Path(__file__).resolve().parents[2]
FALCO = ROOT.parent / "shared/falco"

# Where the effect of each implemented key is shown: a test that fails if the key is read and ignored.
PROOFS = {
    "tests/sources/test_k8saudit.py": {
        "test_plugins_of_falcos_configuration": [
            "load_plugins", "plugins[].name", "plugins[].init_config", "plugins[].open_params",
        ],
    },
    "tests/config/test_files.py": {
        "test_lists_are_joined_and_sections_replaced": ["config_files", "config_files[].path"],
        "test_strategies": ["config_files[].strategy"],
        "test_older_names_of_rules_files": ["rules_file", "rule_files"],
        "test_rules_files_are_relative_to_the_file_that_names_them": ["rules_files"],
        "test_falcos_names_of_our_settings": [
            "engine.modern_ebpf.buf_size_preset", "engine.modern_ebpf.cpus_for_each_buffer",
            "engine.modern_ebpf.drop_failed_exit", "container_engines.docker.enabled",
            "container_engines.podman.enabled", "container_engines.cri.enabled", "container_engines.cri.sockets",
            "output_timeout", "outputs_queue.capacity",
        ],
    },
    "tests/cli/test_flags.py": {
        "test_a_run_ends_by_itself_and_had_a_pidfile": ["base_syscalls.custom_set"],
    },
    "tests/config/test_effects.py": {
        "test_keys_of_json_alerts": [
            "json_output", "json_include_output_property", "json_include_message_property",
            "json_include_output_fields_property", "json_include_tags_property",
        ],
        "test_iso_times": ["time_format_iso_8601"],
        "test_append_output": [
            "append_output[].match.rule", "append_output[].match.source", "append_output[].match.tags",
            "append_output[].extra_output", "append_output[].extra_fields", "append_output[].suggested_output",
        ],
        "test_rules_are_chosen": [
            "priority", "rules", "rules[].enable.rule", "rules[].enable.tag", "rules[].disable.rule",
            "rules[].disable.tag",
        ],
        "test_rule_matching": ["rule_matching"],
        "test_logs_go_where_they_should": ["log_stderr", "log_level"],
        "test_logs_go_to_syslog": ["log_syslog"],
        "test_groups_of_metrics": [
            "metrics.rules_counters_enabled", "metrics.resource_utilization_enabled", "metrics.state_counters_enabled",
            "metrics.libbpf_stats_enabled", "metrics.kernel_event_counters_enabled", "metrics.convert_memory_to_mb",
            "metrics.include_empty_values",
        ],
        "test_metrics_as_an_alert": ["metrics.output_rule"],
        "test_the_page_of_health_has_the_name_it_is_given": ["webserver.k8s_healthz_endpoint"],
        "test_outputs_are_made": [
            "stdout_output.enabled", "syslog_output.enabled", "file_output.enabled", "http_output.enabled",
            "program_output.enabled",
        ],
    },
}  # fmt: skip
# Keys of other rooms: the folder whose tests show their effect, and what stands in them.
ELSEWHERE = {
    "watch_config_files": "tests/daemon",
    "capture.": "tests/daemon",
    "file_output.": "tests/sinks",
    "http_output.": "tests/sinks",
    "program_output.": "tests/sinks",
    "webserver.": "tests/daemon",
    "syscall_event_drops.": "tests/daemon",
    "metrics.": "tests/daemon",
}


def leaves(value: Any, at: str = "") -> Iterator[str]:
    """The keys of a value as rows spell them."""
    if at in BY_KEY or not isinstance(value, dict | list):
        yield at
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{at}.{name}" if at else name)
    else:
        for inner in value:
            yield from leaves(inner, f"{at}[]")
        if not value:
            yield at


def schema_leaves(part: dict[str, Any], whole: dict[str, Any], at: str = "") -> Iterator[str]:
    """The keys that a schema of Falco's names."""
    if "$ref" in part:
        part = whole["definitions"][part["$ref"].rpartition("/")[2]]
    inner = [part, *part.get("oneOf", ())]
    found = False
    for one in inner:
        for name, below in one.get("properties", {}).items():
            found = True
            yield from schema_leaves(below, whole, f"{at}.{name}" if at else name)
    if "items" in part:
        yield from schema_leaves(part["items"], whole, f"{at}[]")
    elif not found:
        yield at


def has_row(key: str) -> bool:
    return key in BY_KEY or (key.endswith("[]") and key[:-2] in BY_KEY)


def test_every_key_of_the_official_file_has_a_row() -> None:
    official = yaml.safe_load((FALCO / "falco.yaml").read_text())
    assert [key for key in leaves(official) if not has_row(key)] == []


def test_every_key_of_the_official_schema_has_a_row() -> None:
    schema = json.loads((FALCO / "falco-config.schema.json").read_text())
    keys = list(schema_leaves(schema, schema))
    assert len(keys) > 100
    assert [key for key in keys if not has_row(key)] == []


def test_a_key_has_one_row_and_those_without_effect_say_why() -> None:
    assert len(BY_KEY) == len(ROWS)
    assert [row.key for row in ROWS if row.state is not State.IMPLEMENTED and not row.note] == []


def test_the_schema_knows_what_is_not_refused_and_nothing_else() -> None:
    def known(key: str) -> bool:
        part: dict[str, Any] = load_schema()
        for step in key.replace("[]", ".[]").split("."):
            options = [part, *part.get("anyOf", ())]
            below = [o["items"] if step == "[]" else o["properties"][step] for o in options
                     if (step == "[]" and "items" in o) or step in o.get("properties", {})]  # fmt: skip
            if not below:
                return False
            part = below[0]
        return True

    assert [row.key for row in ROWS if known(row.key) is (row.state is State.REFUSED)] == []


def test_falcos_own_file_is_accepted_and_what_differs_is_told() -> None:
    config = load_config(FALCO / "falco.yaml")
    told = {key for note in config.notes for key in note.keys}
    assert {"engine.kmod.buf_size_preset", "libs_logger.severity", "falco_libs.snaplen"} <= told
    assert "engine.kind" not in told, "it asks for what is done"
    assert config.syslog_output.enabled
    assert config.capture.ring_mib == 8


def test_a_row_that_is_refused_refuses(tmp_path: Path) -> None:
    for row in ROWS:
        if row.state is not State.REFUSED:
            continue
        value: Any = {"x": 1}
        for step in reversed(row.key.split(".")):
            value = {step: value}
        (tmp_path / "t.yaml").write_text(yaml.safe_dump(value))
        with pytest.raises(ConfigError) as caught:
            load_config(tmp_path / "t.yaml")
        assert [(d.name, d.hint) for d in caught.value.diagnostics] == [("refused-key", row.note)]


def test_a_section_that_is_switched_off_is_not_told_of() -> None:
    def node(value: Any) -> Node:
        if isinstance(value, dict):
            return Node({name: node(inner) for name, inner in value.items()})
        return Node([node(inner) for inner in value] if isinstance(value, list) else value)

    assert notes(node({"metrics": {"enabled": False, "plugins_metrics_enabled": True}})) == ()
    assert [n.keys for n in notes(node({"metrics": {"enabled": True, "plugins_metrics_enabled": True}}))] == [
        ("metrics.plugins_metrics_enabled",)
    ]


def test_every_implemented_key_has_a_proof() -> None:
    proved: dict[str, str] = {}
    for file, tests in PROOFS.items():
        names = {n.name for n in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(n, ast.FunctionDef)}
        assert set(tests) <= names, file
        proved |= {key: file for keys in tests.values() for key in keys}
    texts = {folder: "".join(f.read_text() for f in (ROOT / folder).rglob("*.py")) for folder in ELSEWHERE.values()}
    missing = []
    for row in ROWS:
        if row.state is not State.IMPLEMENTED or row.key in proved:
            continue
        folder = next((f for prefix, f in ELSEWHERE.items() if row.key.startswith(prefix)), None)
        if folder is None or row.key.rpartition(".")[2] not in texts[folder]:
            missing.append(row.key)
    assert missing == []
