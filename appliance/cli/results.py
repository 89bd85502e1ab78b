"""Diagnostics in the shape of what `falco -V` prints with `json_output`: for programs that read that.

Comes in: files, diagnostics. Goes out: one JSON value, `{"falco_load_results": [...]}`, a result for each file. A
diagnostic of ours for which Falco has no code carries `LOAD_ERR_EXTENSION` or `LOAD_WARNING_EXTENSION`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from appliance.model.diagnostic import Diagnostic, Severity, Span
from appliance.model.text import json_safe

_MEANINGS = {
    "LOAD_ERR_FILE_READ": "the file cannot be read",
    "LOAD_ERR_YAML_PARSE": "the file is not YAML",
    "LOAD_ERR_YAML_VALIDATE": "the YAML has not the structure of a rules file",
    "LOAD_ERR_COMPILE_CONDITION": "a condition cannot be compiled",
    "LOAD_ERR_COMPILE_OUTPUT": "an output cannot be compiled",
    "LOAD_ERR_VALIDATE": "an item refers to what is not there, or contradicts itself",
    "LOAD_ERR_EXTENSION": "refused for a reason of Tercel's own",
    "LOAD_UNKNOWN_SOURCE": "a rule is for a source that is not here",
    "LOAD_UNSAFE_NA_CHECK": "a comparison with `<NA>` does not mean what it says",
    "LOAD_COMPILE_CONDITION": "a condition has an operator that is slow",
    "LOAD_NO_EVTTYPE": "a condition is not restricted to event types",
    "LOAD_UNKNOWN_FILTER": "a field is not known",
    "LOAD_UNUSED_MACRO": "a macro is not used",
    "LOAD_UNUSED_LIST": "a list is not used",
    "LOAD_UNKNOWN_KEY": "a key is not known",
    "LOAD_UNKNOWN_ITEM": "an item is not known",
    "LOAD_DEPRECATED_ITEM": "an item is written in an older way",
    "LOAD_APPEND_NO_VALUES": "an exception appends no values",
    "LOAD_EXCEPTION_NAME_NOT_UNIQUE": "an exception's name is given twice",
    "LOAD_INVALID_MACRO_NAME": "a macro's name holds odd characters",
    "LOAD_INVALID_LIST_NAME": "a list's name holds odd characters",
    "LOAD_WARNING_EXTENSION": "warned of by Tercel alone",
}
_ITEM = re.compile(r"^\s*-\s*\{?\s*(rule|macro|list|required_engine_version|required_plugin_versions)\s*:\s*(.*)$")


def falco_results(files: Iterable[Path], diagnostics: Sequence[Diagnostic]) -> dict[str, Any]:
    """The results of all files: those that were given, and those of folders in which something was found."""
    names = dict.fromkeys(str(file) for file in files if not file.is_dir())
    names |= dict.fromkeys(d.span.file for d in diagnostics if d.span is not None)
    return {"falco_load_results": [_result(name, diagnostics) for name in names]}


def _result(name: str, diagnostics: Sequence[Diagnostic]) -> dict[str, Any]:
    mine = [d for d in diagnostics if d.span is not None and d.span.file == name]
    try:
        lines = Path(name).read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError:
        lines = []
    errors = [_told(d, lines) for d in mine if d.severity is Severity.ERROR]
    warnings = [_told(d, lines) for d in mine if d.severity is Severity.WARNING]
    structure = {"LOAD_ERR_YAML_PARSE", "LOAD_ERR_YAML_VALIDATE"}
    return {
        "name": json_safe(name),
        "successful": not errors,
        "errors": errors,
        "warnings": warnings,
        "schema_valid": not any(error["code"] in structure for error in errors),
        "schema_warnings": [],
    }


def _told(diagnostic: Diagnostic, lines: Sequence[str]) -> dict[str, Any]:
    refused = diagnostic.severity is Severity.ERROR
    code = diagnostic.code or ("LOAD_ERR_EXTENSION" if refused else "LOAD_WARNING_EXTENSION")
    span = diagnostic.span or Span("", 1, 1)
    kind, item = _item(lines, span.line)
    offset = sum(len(line) + 1 for line in lines[: span.line - 1]) + span.column - 1
    message = diagnostic.message + (f" ({diagnostic.hint})" if diagnostic.hint else "")
    return {
        "code": code,
        "codedesc": _MEANINGS.get(code, ""),
        "name": diagnostic.name,
        "message": json_safe(message),
        "item_type": kind,
        "item_name": json_safe(item),
        "context": {
            "locations": [
                {
                    "item_type": kind,
                    "item_name": json_safe(item),
                    "position": {
                        "name": json_safe(span.file), "line": span.line, "column": span.column, "offset": offset,
                    },
                }
            ],
            "snippet": json_safe(diagnostic.source_line or ""),
        },
    }  # fmt: skip


def _item(lines: Sequence[str], number: int) -> tuple[str, str]:
    """The item in which a line lies: the nearest head above it."""
    for line in reversed(lines[:number]):
        if (found := _ITEM.match(line)) is not None:
            return found[1], found[2].split(",")[0].strip().strip("'\"")
    return "", ""
