"""Falco's own configuration file: every key of it, and of its schema, has a row, and the rows are true."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.config.document import Node
from appliance.config.keys import BY_KEY, ROWS, State, notes
from appliance.config.load import load_config, load_schema
from appliance.config.older import OLDER, Older
from appliance.model.diagnostic import ConfigError
from tests.config.proofs import KEYS_WRITTEN, PROOFS

ROOT = Path(__file__).resolve().parents[2]
FALCO = ROOT.parent / "shared/falco"


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

    assert [row.key for row in ROWS if known(row.key) is (row.state in (State.REFUSED, State.OLDER))] == []


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


def test_every_implemented_key_has_a_test_of_its_effect() -> None:
    assert len(PROOFS) == KEYS_WRITTEN, "a key has one row"
    implemented = {row.key for row in ROWS if row.state is State.IMPLEMENTED}
    assert set(PROOFS) == implemented
    files = sorted({name.partition("::")[0] for name in PROOFS.values()})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    collected = {line.partition("[")[0] for line in done.stdout.splitlines()}
    assert sorted(set(PROOFS.values()) - collected) == []


ON = {
    "grpc": {"grpc": {"enabled": True, "bind_address": "unix:///x"}},
    "grpc_output": {"grpc_output": {"enabled": True}},
    "engine.gvisor": {"engine": {"kind": "gvisor", "gvisor": {"config": "/x"}}},
    "webserver.k8s_audit_endpoint": {"webserver": {"enabled": True, "k8s_audit_endpoint": "/k8s-audit"}},
}
OFF: dict[str, list[dict[str, Any]]] = {
    "grpc": [{"grpc": {"enabled": False}}, {"grpc": {"bind_address": "0.0.0.0:5060", "threadiness": 0}}],
    "grpc_output": [{"grpc_output": {"enabled": False}}, {"grpc_output": {}}],
    "engine.gvisor": [{"engine": {"kind": "kmod", "gvisor": {"config": "", "root": ""}}}, {"engine": {"gvisor": {}}}],
    "engine.ebpf": [{"engine": {"kind": "kmod", "ebpf": {"probe": "/x", "buf_size_preset": 4}}},
                    {"engine": {"kind": "ebpf", "ebpf": {"drop_failed_exit": False}}}],
    "webserver.k8s_audit_endpoint": [
        {"webserver": {"enabled": False, "k8s_audit_endpoint": "/k8s-audit"}},
        {"webserver": {"enabled": True, "k8s_audit_endpoint": "/k8s-audit"}, "load_plugins": ["k8saudit"]},
    ],
    "syscall_buf_size_preset": [{"syscall_buf_size_preset": 4}],
    "syscall_drop_failed_exit": [{"syscall_drop_failed_exit": True}],
    "modern_bpf.cpus_for_each_syscall_buffer": [{"modern_bpf": {"cpus_for_each_syscall_buffer": 2}}],
    "modern_bpf": [{"modern_bpf": {"other": 2}}],
    "metadata_download": [{"metadata_download": {"max_mb": 100, "chunk_wait_us": 1000, "watch_freq_sec": 1}}],
}  # fmt: skip


@pytest.mark.parametrize("row", OLDER, ids=lambda row: row.key)
def test_what_older_falcos_had_and_is_off_is_a_note(tmp_path: Path, row: Older) -> None:
    for tree in OFF[row.key]:
        (tmp_path / "t.yaml").write_text(yaml.safe_dump(tree))
        told = {key: note for note in load_config(tmp_path / "t.yaml").notes for key in note.keys}
        assert row.key in told
        assert row.note in told[row.key].text
        assert told[row.key].span is not None


@pytest.mark.parametrize("row", [row for row in OLDER if row.instead], ids=lambda row: row.key)
def test_what_older_falcos_had_and_is_on_says_what_to_use(tmp_path: Path, row: Older) -> None:
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(ON[row.key]))
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "t.yaml")
    (told,) = [d for d in caught.value.diagnostics if d.name == "refused-key"]
    assert row.instead in (told.hint or "")


def test_renamed_keys_do_what_they_did(tmp_path: Path) -> None:
    old = {"syscall_buf_size_preset": 4, "syscall_drop_failed_exit": True,
           "modern_bpf": {"cpus_for_each_syscall_buffer": 3}}  # fmt: skip
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(old))
    capture = load_config(tmp_path / "t.yaml").capture
    assert (capture.ring_mib, capture.drop_failed, capture.cpus_per_ring) == (8, True, 3)
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(old | {"engine": {"modern_ebpf": {"buf_size_preset": 2}}}))
    assert load_config(tmp_path / "t.yaml").capture.ring_mib == 2, "the newer name wins"


def test_files_of_the_past_are_accepted(tmp_path: Path) -> None:
    """One of 0.20 and one of 0.35, as far as their keys go."""
    first = {
        "rules_file": ["/etc/falco/falco_rules.yaml"], "time_format_iso_8601": False, "json_output": False,
        "json_include_output_property": True, "log_stderr": True, "log_syslog": True, "log_level": "info",
        "priority": "debug", "buffered_outputs": False, "outputs": {"rate": 1, "max_burst": 1000},
        "syscall_event_drops": {"actions": ["log", "alert"], "rate": 0.03333, "max_burst": 10},
        "syslog_output": {"enabled": True}, "file_output": {"enabled": False, "keep_alive": False, "filename": "./e"},
        "stdout_output": {"enabled": True}, "program_output": {"enabled": False, "keep_alive": False,
                                                               "program": "jq '.x' | curl -d @- https://x"},
        "webserver": {"enabled": False, "listen_port": 8765, "k8s_audit_endpoint": "/k8s-audit",
                      "ssl_enabled": False, "ssl_certificate": "/etc/falco/falco.pem"},
        "http_output": {"enabled": False, "url": "http://some.url"},
        "grpc": {"enabled": False, "bind_address": "0.0.0.0:5060", "threadiness": 0, "private_key": "/x",
                 "cert_chain": "/x", "root_certs": "/x"},
        "grpc_output": {"enabled": False},
    }  # fmt: skip
    second = first | {
        "syscall_buf_size_preset": 4, "syscall_drop_failed_exit": False,
        "modern_bpf": {"cpus_for_each_syscall_buffer": 2}, "output_timeout": 2000, "load_plugins": [],
        "metadata_download": {"max_mb": 100, "chunk_wait_us": 1000, "watch_freq_sec": 1},
        "syscall_event_timeouts": {"max_consecutives": 1000}, "watch_config_files": True,
        "base_syscalls": {"custom_set": [], "repair": False}, "libs_logger": {"enabled": False, "severity": "debug"},
        "plugins": [{"name": "cloudtrail", "library_path": "libcloudtrail.so", "init_config": "", "open_params": ""}],
    }  # fmt: skip
    for tree in (first, second):
        (tmp_path / "t.yaml").write_text(yaml.safe_dump(tree))
        load_config(tmp_path / "t.yaml")
