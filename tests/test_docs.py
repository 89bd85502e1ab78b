"""Documents that are made of tables and schemas say what these say. `pytest --accept` writes them anew."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from appliance.catalog.events import EVENTS, Category
from appliance.catalog.fields import CLASSES
from appliance.catalog.operators import operators_of
from appliance.cli import completion, manual
from appliance.cli.main import make_parser
from appliance.cli.manual import sections_last
from appliance.config.keys import ROWS
from appliance.config.older import OLDER
from appliance.config.settings import Metrics
from appliance.daemon.cost import RuleCost
from appliance.daemon.metrics import HOST_DOCS, collect
from appliance.hub.options import schema_of
from appliance.hub.outputs.manual import page
from appliance.hub.outputs.table import kinds
from appliance.model.field import ArgKind, FieldType, Operator
from tests.support.status import full_status

ROOT = Path(__file__).resolve().parents[1]

_CONFIGURATION = """\
# Configuration

One YAML file, `tercel.yaml`. Its keys are those of Falco's `falco.yaml` where both have the thing. It is checked
against `schemas/config.schema.json` before anything starts: an unknown key, a wrong type or a missing rules file is an
error with line, column and a hint. `tercel check -c FILE` does the same and nothing else; it needs no root.

Which file: `-c FILE`, else `/etc/tercel/tercel.yaml` if it exists, else the one that is shipped. `-o KEY=VALUE` sets
one key over the file, nested ones with a dot, entries of lists by their number, one more by `[]`:
`-o file_output.enabled=true -o rules_files[0]=mine.yaml -o 'rules[]={disable: {tag: network}}'`. `config_files` reads
further files after this one; a diagnostic names the file that the mistake stands in.

`${NAME}` in any value is the variable of that name, and empty where it is not set, which is reported;
`${NAME:-text}` is `text` then. `$${NAME}` is the text `${NAME}`.

A secret need not stand in the file: `credential:NAME` is what systemd hands over by `LoadCredential=NAME:PATH`, and
`file:PATH` a file's contents. `http_output.url` and `syslog_output.url` take both; keys that name certificates, keys
and tokens take `credential:NAME`, too. Such values are never printed. Commands that only read the
configuration (`tercel check`, `list`, `status`, where `$CREDENTIALS_DIRECTORY` is not set) need no credentials; they
report which keys wait for systemd.

Falco's own `falco.yaml` is accepted as it is: `tercel check -c falco.yaml` prints one list of what has no effect here
or another one. The table at the end has every key of Falco's.

"""
_FALCO = """\
## Falco's keys

| key | here | note |
|---|---|---|
"""

_OLDER = """
## Keys of older Falcos

Back to Falco 0.20. What is off is passed over with a note; what is on and cannot be done is an error.

| key | last in | what becomes of it | where it is on |
|---|---|---|---|
| `rules_file` | still there | an older name of `rules_files`; a text is one file | works |
| `outputs.rate`, `outputs.max_burst` | 0.36 | hold alerts back, but never critical ones | works |
"""

_FIELDS = """\
# Fields, operators, events

What conditions and outputs can ask for, as this version has it. An absent value prints as `<NA>`, and every check on it
is false, `!=` included. Users and groups without a name are the text `<NA>` instead: the table in
docs/falco-differences.md has the fields.

"""


def configuration() -> str:
    schema = json.loads((ROOT / "schemas/config.schema.json").read_text())
    rows = [f"| `{row.key}` | {row.state.value} | {row.note.replace('|', '/')} |" for row in ROWS]
    older = [
        f"| `{row.key}` | {row.until} | {row.note} | {row.instead or ('works' if row.moved else 'passed over')} |"
        for row in sorted(OLDER, key=lambda row: row.until, reverse=True)
    ]
    written = _CONFIGURATION + "\n".join(_keys(schema, schema["properties"], "", 2))
    return written + _FALCO + "\n".join(rows) + "\n" + _OLDER + "\n".join(older) + "\n"


def _keys(schema: dict[str, Any], properties: dict[str, Any], above: str, level: int) -> Iterator[str]:
    for name, spec in sections_last(properties):
        if "properties" in spec:
            yield f"{'#' * level} {name}\n\n{spec['description']}\n"
            yield from _keys(schema, spec["properties"], f"{above}{name}.", level + 1)
            yield ""
        else:
            default = json.dumps(spec["default"]) if "default" in spec else "none"
            choices = f" One of {', '.join(f'`{c}`' for c in spec['enum'])}." if "enum" in spec else ""
            yield f"- **`{above}{name}`** (default `{default}`): {spec['description']}{choices}"
            if not above:
                yield ""


_HUB = """\
# Configuration of the hub

One YAML file, `tercel-hub.yaml`, checked against `schemas/hub.schema.json` before anything starts. `tercel hub check -c
FILE` does the same and nothing else. `-o KEY=VALUE` sets one key over the file, `${NAME}` in a value is a variable, as
in [configuration.md](configuration.md). A secret need not stand in the file: keys for tokens, passwords and secret URLs
take `file:PATH` and `credential:NAME`, keys that name files take `credential:NAME`.

"""


def hub_configuration() -> str:
    schema = json.loads((ROOT / "schemas/hub.schema.json").read_text())
    output = schema["properties"]["outputs"]["additionalProperties"]
    text = _HUB + "\n".join(_keys(schema, schema["properties"], "", 2)).rstrip()
    text += "\n\n## Keys of each output\n\nBelow `outputs.NAME`; those of its type are in [outputs.md](outputs.md).\n\n"
    return text + "\n".join(_keys(output, output["properties"], "", 3)).rstrip() + "\n"


def fields() -> str:
    lines = [_FIELDS + "## Fields\n"]
    for name, rows in CLASSES.items():
        lines += [f"### {name}\n", "| field | type | meaning |", "|---|---|---|"]
        for row in rows:
            argument = {ArgKind.NONE: "", ArgKind.INDEX: "[number]", ArgKind.KEY: "[name]"}.get(
                row.arg, "[number or name]"
            )
            lines.append(f"| `{row.name}{argument}` | {row.type.value} | {row.doc.replace('|', '/')} |")
        lines.append("")
    lines += ["## Operators\n", "| operator | goes with |", "|---|---|"]
    for op in Operator:
        types = [t.value for t in FieldType if op in operators_of(t)]
        lines.append(f"| `{op.value}` | {'all' if len(types) == len(FieldType) else ', '.join(types)} |")
    lines += ["", "## Events\n", "| event | category | arguments |", "|---|---|---|"]
    for type_, spec in EVENTS.items():
        if spec.category is not Category.INTERNAL:
            names = ", ".join(p.name for p in spec.params if not p.internal)
            lines.append(f"| `{type_.value}` | {spec.category.value} | {names} |")
    return "\n".join(lines) + "\n"


_ROLES = """\
# Variables of the roles

What `meta/argument_specs.yml` of each role says, and Ansible checks before a role does anything. `ansible-doc -t role
-r roles tercel` prints the same. How they go together: [fleet.md](fleet.md).

"""


def roles() -> str:
    """Each role's variables, from its argument specification."""
    text = _ROLES
    for folder in sorted((ROOT / "roles").iterdir()):
        for entry, spec in yaml.safe_load((folder / "meta/argument_specs.yml").read_text())["argument_specs"].items():
            name = folder.name if entry == "main" else f"{folder.name}, `tasks_from: {entry}`"
            lines = [f"## {name}\n", *(_plain(line) + "\n" for line in [f"{spec['short_description']}.", *_list(spec)])]
            lines += ["| variable | type | default | meaning |", "|---|---|---|---|"]
            text += "\n".join([*lines, *_variables(spec["options"], "")]) + "\n\n"
    return text.rstrip() + "\n"


def _list(spec: dict[str, Any]) -> list[str]:
    told = spec["description"]
    return [told] if isinstance(told, str) else list(told)


def _plain(text: str) -> str:
    """Ansible's markup as Markdown."""
    return re.sub(r"B\((.*?)\)", r"**\1**", re.sub(r"C\((.*?)\)", r"`\1`", text.strip()))


def _variables(options: dict[str, Any], above: str) -> Iterator[str]:
    for name, spec in options.items():
        default = (
            f"`{json.dumps(spec['default'])}`" if "default" in spec else "required" if spec.get("required") else "none"
        )
        choices = f" One of {', '.join(f'`{c}`' for c in spec['choices'])}." if "choices" in spec else ""
        meaning = " ".join(_plain(line) for line in _list(spec)) + choices
        yield f"| `{above}{name}` | {spec['type']} | {default.replace('|', chr(92) + '|')} | {meaning} |"
        yield from _variables(spec.get("options", {}), f"{name}[]." if spec["type"] == "list" else f"{name}.")


_ROWS = "| metric | type | meaning |\n|---|---|---|\n"


_KEYS = "| key | type | meaning |\n|---|---|---|\n"


def operations() -> str:
    """The page as it is, its tables made anew: the keys of a status, the metrics of one with everything in it."""
    before, _, after = (ROOT / "docs/operations.md").read_text().partition(_KEYS)
    schema = json.loads((ROOT / "schemas/status.schema.json").read_text())
    page = before + _KEYS + "\n".join(_rows(schema["properties"], "")) + after[after.index("\n\n") :]
    before, _, after = page.partition(_ROWS)
    rest = after[after.index("\n\n") :]
    wanted = Metrics(kernel_event_counters_per_cpu_enabled=True)
    metrics = collect(full_status(), wanted, [RuleCost("R", 1.0, 1.0, 1)], host=dict.fromkeys(HOST_DOCS, 1.0))
    rows = [f"| `{metric.name}` | {metric.kind} | {metric.doc} |" for metric in metrics]
    return before + _ROWS + "\n".join(rows) + rest


def _rows(properties: dict[str, Any], above: str) -> Iterator[str]:
    for name, spec in properties.items():
        kinds = [spec["type"]] if isinstance(spec["type"], str) else spec["type"]
        yield f"| `{above}{name}` | {' or '.join(kinds)} | {spec['description']} |"
        if "properties" in spec:
            yield from _rows(spec["properties"], f"{above}{name}.")
        elif "description" in spec.get("items", {}):
            yield from _rows(spec["items"]["properties"], f"{above}{name}[].")


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("configuration.md", configuration),
        ("hub-configuration.md", hub_configuration),
        ("fields.md", fields),
        ("operations.md", operations),
        ("roles.md", roles),
    ],
)
def test_documents_made_of_tables(name: str, made: Any, request: pytest.FixtureRequest) -> None:
    file = ROOT / "docs" / name
    if request.config.getoption("--accept", default=False):
        file.write_text(made())
    assert file.read_text() == made(), "run `pytest --accept tests/test_docs.py` and read the difference"


def test_manual_pages(request: pytest.FixtureRequest) -> None:
    folder = ROOT / "docs/man"
    if request.config.getoption("--accept", default=False):
        manual.main(folder)
    there = {file.name: file.read_text() for file in folder.iterdir()}
    assert there == manual.pages(), "run `make man` and read the difference"


@pytest.mark.parametrize("file", ["tercel.bash", "_tercel", "tercel.fish"])
def test_completions(file: str, request: pytest.FixtureRequest) -> None:
    """They are in the repository because packages are built where the command need not run."""
    place = ROOT / "packaging/completions" / file
    made = {"tercel.bash": completion.bash, "_tercel": completion.zsh, "tercel.fish": completion.fish}[file]
    if request.config.getoption("--accept", default=False):
        place.write_text(made(make_parser()))
    assert place.read_text() == made(make_parser()), "run `make man` and read the difference"


def test_each_promise_of_the_threat_model_has_its_test() -> None:
    text = (ROOT / "docs/threat-model.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > 20
    for file, name in named:
        assert f"def {name}(" in (ROOT / file).read_text(), f"{file} has no {name}"
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| promise", "|---"))]
    assert all("::" in row for row in rows), "a promise without a test"


def test_the_page_of_outputs_is_made_of_their_table(request: pytest.FixtureRequest) -> None:
    """docs/outputs.md; its examples are taken as they stand."""
    file = ROOT / "docs/outputs.md"
    if request.config.getoption("--accept", default=False):
        file.write_text(page())
    assert file.read_text() == page(), "run `make man` and read the difference"
    examples = re.findall(r"```yaml\n(.*?)```", page(), re.DOTALL)
    assert len(examples) == len(kinds())
    for example in examples:
        (output,) = yaml.safe_load(example)["outputs"].values()
        options = {key: value for key, value in output.items() if key != "type"}
        jsonschema.validate(options, schema_of(kinds()[output["type"]].options))
