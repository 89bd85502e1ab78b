"""tercel-hub.yaml: what it may say, and how mistakes in it are shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.config.settings import Secret
from appliance.hub.load import hub_schema, load_settings, settings_of
from appliance.model.alert import Priority
from appliance.model.diagnostic import ConfigError

ROOT = Path(__file__).resolve().parents[2]
HOOK = "type: webhook, url: 'http://127.0.0.1:1/'"


def test_the_schema_is_made_of_the_settings(request: pytest.FixtureRequest) -> None:
    file = ROOT / "schemas/hub.schema.json"
    made = json.dumps(hub_schema(), indent=2, ensure_ascii=False) + "\n"
    if request.config.getoption("--accept", default=False):
        file.write_text(made)
    assert file.read_text() == made, "run `pytest --accept tests/hub/test_load.py` and read the difference"


def test_the_shipped_file_is_the_defaults() -> None:
    shipped = load_settings(ROOT / "tercel-hub.yaml")
    assert shipped.outputs == {}
    assert (shipped.collector.port, shipped.page.port) == (2801, 2802)
    assert load_settings(None).collector == shipped.collector


def test_an_output_has_common_keys_and_its_own() -> None:
    made = settings_of(
        f"outputs: {{a: {{{HOOK}, minimumpriority: Info, breaker: {{failures: 3}}, headers: {{X: y}}}}}}"
    )
    one = made.outputs["a"]
    assert (one.name, one.type, one.minimumpriority, one.breaker.failures) == (
        "a",
        "webhook",
        Priority.INFORMATIONAL,
        3,
    )
    assert one.options.headers == {"X": "y"}
    assert "127.0.0.1" not in repr(one)


def test_options_of_the_command_line_win() -> None:
    made = settings_of("collector: {port: 1}", overrides=["collector.port=0", f"outputs.a={{{HOOK}}}", "data_dir=/x"])
    assert (made.collector.port, made.data_dir, list(made.outputs)) == (0, Path("/x"), ["a"])


def test_secrets_come_from_files_and_credentials(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("http://hook.example.org/abc\n")
    text = f"""
collector: {{tokens: [{{name: a, token: "credential:url"}}], tls: {{cert: "credential:c", key: k}}}}
outputs: {{a: {{type: webhook, url: "file:{tmp_path}/url", headers: {{Authorization: "credential:url"}}}}}}
"""
    made = settings_of(text, environment={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert made.outputs["a"].options.url == made.collector.tokens[0].token == "http://hook.example.org/abc"
    assert isinstance(made.outputs["a"].options.headers["Authorization"], Secret)
    assert made.collector.tls.cert == tmp_path / "c"


@pytest.mark.parametrize(
    ("text", "name", "place"),
    [
        ("colector: {}", "unknown-key", "1:1"),
        ("outputs: {a: {type: webhok}}", "unknown-output", "1:21"),
        ("outputs: {a: {type: webhook}}", "missing-key", "1:11"),
        ("outputs: {a: {url: x}}", "missing-key", "1:11"),
        ("outputs: []", "wrong-type", "1:10"),
        ("outputs: {a: 5}", "wrong-type", "1:14"),
        ("outputs: {'a b': {}}", "wrong-value", "1:11"),
        (f"outputs: {{a: {{{HOOK}, batch: -1}}}}", "wrong-value", "1:65"),
        (f"outputs: {{a: {{{HOOK}, minimumpriority: loud}}}}", "wrong-value", "1:75"),
        ("collector: {port: x}", "wrong-type", "1:19"),
        ("collector: {address: 0.0.0.0}", "insecure-listener", "1:22"),
        ("collector: {tls: {cert: a}}", "missing-key", "1:18"),
        ("collector: {tls: {client_ca: a}}", "missing-key", "1:30"),
        ("collector: {tokens: [{name: a, token: short}]}", "weak-token", "1:22"),
        ("collector: {hmac_secret: 'credential:x'}", "no-credential", "1:26"),
        ("outputs: {a: {type: webhook, url: 'file:/nothing'}}", "no-credential", "1:35"),
        ("5", "wrong-type", "1:1"),
    ],
)
def test_mistakes_have_a_place(text: str, name: str, place: str) -> None:
    with pytest.raises(ConfigError) as error:
        settings_of(text, environment={})
    first = error.value.diagnostics[0]
    assert first.name == name
    assert first.span is not None
    assert f"{first.span.line}:{first.span.column}" == place


def test_a_secret_is_in_no_message() -> None:
    with pytest.raises(ConfigError) as error:
        settings_of("outputs:\n  a:\n    type: webhook\n    url: [https://hook/s3cret]\n")
    assert "s3cret" not in str(error.value).replace("list", "")


def test_beyond_the_loopback_it_wants_tls_and_to_know_who_speaks() -> None:
    tls = "tls: {cert: c, key: k}"
    with pytest.raises(ConfigError):
        settings_of(f"collector: {{address: 0.0.0.0, {tls}}}")
    for extra in (
        "tokens: [{name: a, token: 0123456789abcdef}]",
        "hmac_secret: s",
        "tls: {cert: c, key: k, client_ca: a}",
    ):
        both = extra if extra.startswith("tls") else f"{tls}, {extra}"
        assert settings_of(f"collector: {{address: '::', {both}}}").collector.address == "::"
    assert settings_of("collector: {address: 0.0.0.0, insecure: true}").collector.insecure
