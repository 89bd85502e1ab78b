"""Selection, as in Falco's configuration: by name, by tag, in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.config.load import load_config
from appliance.daemon.generation import build_generation, one_digest

RULES = """
- {rule: Write below etc, desc: d, condition: evt.type = open, output: o, priority: ERROR, tags: [host, file]}
- {rule: Write below root, desc: d, condition: evt.type = open, output: o, priority: NOTICE, tags: [host]}
- {rule: Shell, desc: d, condition: evt.type = execve, output: o, priority: DEBUG, tags: [container], enabled: false}
"""
E, R, S = "Write below etc", "Write below root", "Shell"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("", [E, R]),
        ("rules: []", [E, R]),
        ("rules: [{disable: {rule: 'Write below *'}}]", []),
        ("rules: [{disable: {rule: Write}}]", [E, R]),
        ("rules: [{disable: {rule: '*'}}, {enable: {rule: Shell}}]", [S]),
        ("rules: [{enable: {rule: Shell}}, {disable: {rule: '*'}}]", []),
        ("rules: [{disable: {tag: host}}]", []),
        ("rules: [{disable: {tag: file}}, {enable: {tag: container}}]", [R, S]),
        ("rules: [{disable: {rule: '*', tag: file}}]", [R]),
        ("rules: [{enable: {tag: container}}]\npriority: notice", [E, R]),
        ("priority: error", [E]),
    ],
)
def test_rules_are_selected(tmp_path: Path, settings: str, expected: list[str]) -> None:
    (tmp_path / "r.yaml").write_text(RULES)
    config = tmp_path / "tercel.yaml"
    config.write_text(f"rules_files: [r.yaml]\n{settings}\n")
    made = build_generation(load_config(config), hostname="h", new_id=lambda: "i")
    assert [rule.name for rule in made.ruleset.rules] == expected


def test_the_digest_of_a_configuration_holds_the_options(tmp_path: Path) -> None:
    """Two hosts whose files are the same and whose options are not do not run the same."""
    (tmp_path / "r.yaml").write_text(RULES)
    config = tmp_path / "tercel.yaml"
    config.write_text("rules_files: [r.yaml]\n")

    def digest(*options: str) -> str:
        return build_generation(load_config(config, overrides=options), hostname="h", new_id=lambda: "i").config_sha256

    files = build_generation(load_config(config), hostname="h", new_id=lambda: "i").config_digests
    assert digest() == one_digest(files), "without options it is the files' alone"
    options: list[tuple[str, ...]] = [
        (),
        ("priority=error",),
        ("priority=debug",),
        ("priority=error", "json_output=true"),
    ]
    assert len({digest(*some) for some in options}) == len(options)
    assert digest("priority=error") == digest("priority=error")
