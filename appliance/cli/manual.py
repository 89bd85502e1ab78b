"""The manual pages: made of the parser, the schema and a few texts. `make man` writes them to docs/man.

Comes in: `make_parser`, the schema, the table of Falco's keys. Goes out: troff, a text for each page. Never: an option
or a key that is spelled here again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from appliance import __version__
from appliance.cli.completion import verbs_of
from appliance.cli.main import make_parser
from appliance.config.files import schema_file
from appliance.config.keys import ROWS, State
from appliance.config.load import load_schema

_STATUS = [
    ("0", "Done; for `check`: nothing is refused, though there may be warnings."),
    ("1", "Configuration or rules are refused, or the kernel is; or what was asked for is not there."),
    ("2", "Wrong usage of the command."),
    ("3", "For `status` and `doctor`: it runs, and is not well."),
]
_FILES = [
    ("/etc/tercel/tercel.yaml", "The configuration, if there is one; else the one that is shipped."),
    ("/run/tercel/control.sock", "Where the running appliance answers `reload`, `status` and `top`."),
    ("/var/lib/tercel/spool", "Alerts that wait for outputs on other machines."),
    ("/sys/kernel/btf/vmlinux", "The kernel's description of its own structures (BTF); needed."),
]
_ENVIRONMENT = [
    ("TERCEL_HOSTNAME, FALCO_HOSTNAME", "The host's name in alerts."),
    ("CREDENTIALS_DIRECTORY", "Where systemd puts what `credential:NAME` in the configuration means."),
    ("NO_COLOR", "No colours on a terminal."),
]


def pages() -> dict[str, str]:
    """The pages by the names of their files."""
    parser = make_parser()
    hub = json.loads(schema_file("hub.schema.json").read_text())
    made = {
        "tercel.8": _tercel(parser),
        "tercel.yaml.5": _configuration(load_schema()),
        "tercel-hub.yaml.5": _hub_configuration(hub),
    }
    for name, verb in verbs_of(parser).items():
        made[f"tercel-{name}.8"] = _verb(name, verb, _help_of(parser, name))
    return made


def _help_of(parser: argparse.ArgumentParser, name: str) -> str:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return next((c.help or "" for c in action._choices_actions if c.dest == name), "")
    return ""


def _head(name: str, section: int, title: str) -> list[str]:
    return [f'.TH "{name.upper()}" "{section}" "" "Tercel {__version__}" "Tercel"', ".SH NAME",
            f"{_text(name)} \\- {_text(title)}"]  # fmt: skip


def _tercel(parser: argparse.ArgumentParser) -> str:
    lines = [*_head("tercel", 8, "runtime security for Linux hosts and containers"), ".SH SYNOPSIS"]
    lines += [".B tercel", ".I VERB", "[options]", ".SH DESCRIPTION", _text(parser.description or ""), ".SH VERBS"]
    for name in verbs_of(parser):
        lines += [".TP", f".BR tercel\\-{_text(name)} (8)", _text(_help_of(parser, name))]
    for title, rows in (("EXIT STATUS", _STATUS), ("FILES", _FILES), ("ENVIRONMENT", _ENVIRONMENT)):
        lines += [f".SH {title}", *_terms(rows)]
    lines += [".SH SEE ALSO", ".BR tercel.yaml (5)"]
    return "\n".join(lines) + "\n"


def _verb(name: str, parser: argparse.ArgumentParser, title: str) -> str:
    lines = [*_head(f"tercel-{name}", 8, title), ".SH SYNOPSIS", f".B tercel {_text(name)}", *_synopsis(parser)]
    lines += [".SH DESCRIPTION", _text(parser.description or f"{title}."), ".SH OPTIONS"]
    for action in parser._actions:
        value = _value(action)
        named = action.option_strings
        term = ", ".join(f"\\fB{_text(word)}\\fR{f' {value}' if value else ''}" for word in named) or value
        lines += [".TP", term, _text((action.help or "").replace("%%", "%"))]
    lines += [".SH SEE ALSO", ".BR tercel (8),", ".BR tercel.yaml (5)"]
    return "\n".join(lines) + "\n"


def _synopsis(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        value = _value(action)
        if action.option_strings:
            yield f"[\\fB{_text(action.option_strings[0])}\\fR{f' {value}' if value else ''}]"
        else:
            yield f"[{value}]..." if action.nargs == "*" else f"{value}..." if action.nargs == "+" else value


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.metavar:
        name = f"\\fI{_text(str(action.metavar))}\\fR"
        return f"[{name}]" if action.nargs == "?" and action.option_strings else name
    if action.choices is not None:
        return "|".join(_text(str(choice)) for choice in action.choices)
    return f"\\fI{_text(action.dest.upper())}\\fR"


def _configuration(schema: Mapping[str, Any]) -> str:
    lines = [*_head("tercel.yaml", 5, "configuration of tercel"), ".SH DESCRIPTION", _text(schema["description"])]
    lines += [".SH KEYS", *_keys(schema, "")]
    lines += [".SH KEYS OF FALCO'S THAT DIFFER"]
    lines += _terms([(row.key, f"{row.state.value}: {row.note}") for row in ROWS if row.state is not State.IMPLEMENTED])
    lines += [".SH SEE ALSO", ".BR tercel (8),", ".BR tercel\\-check (8)"]
    return "\n".join(lines) + "\n"


def _hub_configuration(schema: Mapping[str, Any]) -> str:
    lines = [*_head("tercel-hub.yaml", 5, "configuration of the hub"), ".SH DESCRIPTION", _text(schema["description"])]
    lines += [".SH KEYS", *_keys(schema, ""), ".SH KEYS OF EACH OUTPUT"]
    lines += _keys(schema["properties"]["outputs"]["additionalProperties"], "outputs.NAME.")
    lines += [".SH SEE ALSO", ".BR tercel\\-hub (8)"]
    return "\n".join(lines) + "\n"


def _keys(part: Mapping[str, Any], above: str) -> Iterator[str]:
    for name, inner in sections_last(part["properties"]):
        key = f"{above}{name}"
        if "properties" in inner:
            yield f".SS {_text(key)}"
            yield _text(inner["description"])
            yield from _keys(inner, f"{key}.")
            continue
        default = f" Default: {json.dumps(inner['default'])}." if "default" in inner else ""
        choices = f" One of {', '.join(map(str, inner['enum']))}." if "enum" in inner else ""
        yield from (".TP", f".B {_text(key)}", _text(f"{inner['description']}{choices}{default}"))


def sections_last(properties: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Keys in the order in which a page tells them: one behind a section would seem to belong to it."""
    return sorted(properties.items(), key=lambda item: "properties" in item[1])


def _terms(rows: list[tuple[str, str]]) -> Iterator[str]:
    for term, text in rows:
        yield from (".TP", f".B {_text(term)}", _text(text))


def _text(text: str) -> str:
    """Text for troff: no line of it is a request."""
    safe = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "").replace("\n", " ")
    return f"\\&{safe}" if safe.startswith((".", "'")) else safe


def main(folder: Path) -> None:
    """Write all pages, and take away those of verbs that are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    made = pages()
    for file in folder.glob("*.[58]"):
        if file.name not in made:
            file.unlink()
    for name, text in made.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
