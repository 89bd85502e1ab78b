"""A document held against a JSON schema: every mistake at its place, in the words that people use.

Comes in: a document and a schema. Goes out: diagnostics. Never: the validator's own wording where ours is better.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jsonschema

from appliance.config.document import Document, Key
from appliance.model.alert import Priority
from appliance.model.diagnostic import Diagnostic
from appliance.model.spelling import nearest


def against_schema(
    document: Document,
    schema: Mapping[str, Any],
    *,
    at: Key = (),
    value: object = None,
    refused: Callable[[Key], tuple[str, str] | None] = lambda at: None,
) -> list[Diagnostic]:
    """What is wrong with a document, or with the `value` that stands in it `at` a key.

    `refused` gives the spelling of a key that is known and cannot be used, and why; None for any other.
    """
    validator = jsonschema.Draft202012Validator(schema)
    instance = value if at else document.root.plain()
    errors = sorted(validator.iter_errors(instance), key=lambda e: [str(p) for p in e.absolute_path])
    return [d for error in errors for d in _explain(document, error, at, refused)]


def _explain(
    document: Document, error: jsonschema.ValidationError, above: Key, refused: Callable[[Key], tuple[str, str] | None]
) -> Iterator[Diagnostic]:
    at: Key = (*above, *error.absolute_path)
    name = ".".join(map(str, at)) or "the file"
    schema = error.schema if isinstance(error.schema, Mapping) else {}
    match error.validator:
        case "additionalProperties":
            known = list(schema.get("properties", {}))
            for key in error.instance if isinstance(error.instance, Mapping) else ():
                if (refusal := refused((*at, key))) is not None:
                    yield document.diagnose(
                        "refused-key", f"`{refusal[0]}` cannot be used here", (*at, key), refusal[1], key=True
                    )
                elif key not in known:
                    yield document.diagnose(
                        "unknown-key", f"there is no key `{key}`{f' in `{name}`' if at else ''}", (*at, key),
                        near(str(key), known), key=True,
                    )  # fmt: skip
        case "required":
            missing = error.message.split("'")[1]
            yield document.diagnose("missing-key", f"`{name}` needs `{missing}`", at, None, key=True)
        case "type" | "anyOf":
            wanted = schema.get("type", "string or array")  # the one anyOf of the schema
            yield document.diagnose(
                "wrong-type", f"`{name}` is {_kind(error.instance)}, expected {_wanted(wanted)}", at, _example(schema)
            )
        case "enum":
            choices = [str(choice) for choice in schema["enum"]]
            yield document.diagnose(
                "wrong-value", f"`{name}` is `{error.instance}`, expected one of {', '.join(choices)}", at,
                near(str(error.instance), choices),
            )  # fmt: skip
        case "pattern" if at[-1:] in (("priority",), ("minimumpriority",)):
            choices = [p.name.lower() for p in Priority]
            yield document.diagnose(
                "wrong-value", f"`{name}` is `{error.instance}`, expected one of {', '.join(choices)}", at,
                near(str(error.instance).lower(), choices),
            )  # fmt: skip
        case "pattern":
            yield document.diagnose(
                "wrong-value", f"`{name}` is `{error.instance}`, which is not of the form it must have", at,
                _example(schema),
            )  # fmt: skip
        case "minimum" | "maximum":
            yield document.diagnose(
                "wrong-value",
                f"`{name}` is {error.instance}, expected {schema.get('minimum')} to {schema.get('maximum')}", at, None,
            )  # fmt: skip
        case _:
            yield document.diagnose("wrong-value", f"`{name}`: {error.message}", at, _example(schema))


def near(word: str, known: Sequence[str]) -> str | None:
    """A hint: the known word that is closest, else all of them."""
    close = nearest(word[:100], known)
    return f"did you mean `{close}`?" if close else f"known here: {', '.join(known)}"


def _kind(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", dict: "a map"}
    return names.get(type(value), "empty")


def _wanted(type_: object) -> str:
    names = {"boolean": "true or false", "integer": "a whole number", "number": "a number", "string": "a text",
             "array": "a list", "object": "a map of keys", "string or array": "a text or a list",
             "['array', 'string']": "a list or a text"}  # fmt: skip
    return names.get(str(type_), "a map of keys")


def _example(schema: Mapping[str, Any]) -> str | None:
    if "examples" in schema:
        return f"for example {json.dumps(schema['examples'][0])}"
    return f"the default is {json.dumps(schema['default'])}" if "default" in schema else None
