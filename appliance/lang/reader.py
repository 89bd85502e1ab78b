"""YAML nodes -> definitions, as they were written.

Comes in: the documents of one file. Goes out: `Item`s in file order. What is wrong with an item goes to the report and
the item is left out; its name is still told, so that its absence is not reported a second time.

An item with `append: true` or `override` changes one that was defined before it: it becomes a `Change`.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from collections.abc import Mapping as Table
from dataclasses import dataclass
from difflib import get_close_matches

from appliance.lang.source import Mapping, Node, Report, Sequence, Text
from appliance.model.alert import Priority
from appliance.model.rule import ExceptionDef, ListDef, MacroDef, RuleDef

ENGINE_VERSION = (0, 62, 0)
_STRUCTURE = "LOAD_ERR_YAML_VALIDATE"
_KEYS = {
    "list": ("list", "items", "append", "override"),
    "macro": ("macro", "condition", "append", "override"),
    "rule": (
        "rule", "desc", "condition", "output", "priority", "source", "enabled", "tags", "exceptions", "warn_evttypes",
        "skip-if-unknown-filter", "capture", "capture_duration", "append", "override",
    ),
    "required_engine_version": ("required_engine_version",),
    "required_plugin_versions": ("required_plugin_versions",),
}  # fmt: skip
_APPENDED = {"list": ("items",), "macro": ("condition",), "rule": ("condition", "exceptions")}  # by `append: true`
_CAN_APPEND = {
    "list": frozenset({"items"}),
    "macro": frozenset({"condition"}),
    "rule": frozenset({"condition", "output", "desc", "tags", "exceptions"}),
}
_CAN_REPLACE = {
    "list": frozenset({"items"}),
    "macro": frozenset({"condition"}),
    "rule": _CAN_APPEND["rule"]
    | {"priority", "enabled", "capture", "capture_duration", "warn_evttypes", "skip-if-unknown-filter"},
}
_EXCEPTION_KEYS = ("name", "fields", "comps", "values")
# What plugins bring and is built in here.
_PLUGINS = frozenset({"container", "json", "k8saudit", "k8saudit-aks", "k8saudit-eks", "k8saudit-gke", "k8saudit-ovh"})
_REQUIRED = {"list": ("items",), "macro": ("condition",), "rule": ("condition", "output", "desc", "priority")}
PRIORITIES = {p.name: p for p in Priority} | {"INFO": Priority.INFORMATIONAL}


@dataclass(frozen=True, slots=True)
class Switch:
    """`- rule: NAME` with `enabled` alone: turns an earlier rule on or off."""

    name: Text
    enabled: bool


@dataclass(frozen=True, slots=True)
class Change:
    """What an item changes of one that was defined before: key -> `append` or `replace`.

    `part` holds the new values; what it does not change in it is of no account. `kind` is list, macro or rule.
    """

    kind: str
    name: Text
    operations: Table[str, str]
    part: ListDef | MacroDef | RuleDef
    source: Text | None = None  # the source that the item gives, which a change cannot make another


@dataclass(frozen=True, slots=True)
class Broken:
    """A definition that was refused: `kind` is list, macro or rule."""

    kind: str
    name: Text


Item = ListDef | MacroDef | RuleDef | Switch | Change | Broken


def read_items(documents: tuple[Node, ...], report: Report, before: Iterable[Item] = ()) -> list[Item]:
    """All items of a file, in order; `before` are those of the files before it."""
    items: list[Item] = []
    rules = {item.name.value for item in before if isinstance(item, RuleDef)}
    for document in documents:
        if isinstance(document, Text) and not document.value and document.plain:
            continue
        if not isinstance(document, Sequence):
            span = document.span() if isinstance(document, Text) else document.span
            report.add(
                "not-a-list-of-items", "a rules file is a sequence of items", span,
                "start each item by `- rule:`, `- macro:` or `- list:`", code=_STRUCTURE,
            )  # fmt: skip
            continue
        for node in document.items:
            if isinstance(node, Text) and not node.value and node.plain:
                continue  # a `-` with nothing behind it
            item = _Reader(report, rules).item(node)
            if isinstance(item, RuleDef):
                rules.add(item.name.value)
            if item is not None:
                items.append(item)
    return items


class _Reader:
    def __init__(self, report: Report, rules: Container[str]) -> None:
        self._report = report
        self._rules = rules
        self._failed = False

    def _fail(self, name: str, message: str, node: Node, hint: str | None = None) -> None:
        self._failed = True
        span = node.span() if isinstance(node, Text) else node.span
        self._report.add(name, message, span, hint, code=_STRUCTURE)

    def _unknown(self, name: str, message: str, node: Text, hint: str, code: str = "LOAD_UNKNOWN_KEY") -> None:
        """What Falco warns of and we refuse, unless the report is lenient."""
        if self._report.lenient:
            self._report.warn(name, message, node.span(), hint, code)
        else:
            guessed = hint.startswith("did you mean")
            self._fail(name, message, node, hint if guessed else f"{hint}; `rules_unknown_keys: warn` passes over it")

    def item(self, node: Node) -> Item | None:
        if not isinstance(node, Mapping) or not node.pairs:
            self._fail("not-an-item", "an item is a mapping", node, "write `- rule: NAME` with its keys below")
            return None
        kind = next((key.value for key, _ in node.pairs if key.value in _KEYS), None)
        if kind is None:
            first = node.pairs[0][0]
            self._unknown("unknown-item", f"no item is called `{first.value}`", first,
                          self._report.near(first.value, _KEYS) or f"items: {', '.join(_KEYS)}",
                          "LOAD_UNKNOWN_ITEM")  # fmt: skip
            return None
        head = node.get(kind)
        if kind == "required_plugin_versions":
            self._plugins(head)
            return None
        if not isinstance(head, Text) or not head.value:
            self._fail("missing-name", f"the {kind} has no name", node.pairs[0][0])
            return None
        self._known_keys(kind, node, head)
        if kind == "required_engine_version":
            self._engine(head)
            return None
        operations = self._operations(kind, node, head)
        if operations is None:
            if kind == "rule" and {key.value for key, _ in node.pairs} == {"rule", "enabled"}:
                made: Item = Switch(head, self._flag(node, "enabled", True))
                return Broken(kind, head) if self._failed else made
            if self._is_change(kind, node, head):
                return Broken(kind, head)
            for key in _REQUIRED[kind]:
                if node.get(key) is None and not self._misspelled(node, kind, key):
                    self._fail("missing-key", f"{kind} `{head.value}` has no `{key}`", head,
                               f"add a line `{key}: ...` to it")  # fmt: skip
        part: ListDef | MacroDef | RuleDef
        if kind == "list":
            part = ListDef(head, self._texts(node, "items"))
        elif kind == "macro":
            part = MacroDef(head, self._text(node, "condition", head))
        else:
            part = self._rule(node, head)
        source = node.get("source")
        told = source if isinstance(source, Text) else None
        made = part if operations is None else Change(kind, head, operations, part, told)
        return Broken(kind, head) if self._failed else made

    def _is_change(self, kind: str, node: Mapping, head: Text) -> bool:
        """Whether an item without `override` is meant to change an earlier one; that is reported then."""
        if kind != "rule" or head.value not in self._rules or node.get("condition") is not None:
            return False
        given = [key.value for key, _ in node.pairs if key.value in _CAN_REPLACE[kind]]
        missing = [key for key in _REQUIRED[kind] if node.get(key) is None and not self._misspelled(node, kind, key)]
        if not given or len(missing) < 2 or len(given) + 1 != len(node.pairs):
            return False
        written = ", ".join(f"{key}: replace" for key in given)
        names = ", ".join(f"`{key}`" for key in missing)
        self._fail("missing-key", f"rule `{head.value}` is defined anew here, without {names}", head,
                   f"to change the earlier one write `override: {{{written}}}`")  # fmt: skip
        return True

    def _operations(self, kind: str, node: Mapping, head: Text) -> dict[str, str] | None:
        """What an item does to each key of an earlier one; None for a definition."""
        override = node.get("override")
        appends = self._flag(node, "append", False)
        if override is None and not appends:
            return None
        key = next(k for k, _ in node.pairs if k.value == ("append" if override is None else "override"))
        if override is None:
            found = {k: "append" for k in _APPENDED[kind] if node.get(k) is not None}
            self._report.warn(
                "deprecated-append", "`append: true` is an older way to write `override`", key.span(),
                self._as_override(kind, node, found), "LOAD_DEPRECATED_ITEM",
            )  # fmt: skip
            if not found:
                self._fail("nothing-to-append", f"{kind} `{head.value}` appends nothing", key,
                           f"give it {' or '.join(f'`{k}`' for k in _APPENDED[kind])}")  # fmt: skip
            return found
        if appends:
            self._fail("append-and-override", "`append` and `override` do not go together", key, "keep `override`")
        return self._overrides(kind, node, head, override)

    @staticmethod
    def _as_override(kind: str, node: Mapping, appended: Table[str, str]) -> str:
        """A hint: what an item with `append: true` is with `override`."""
        others = [k.value for k, _ in node.pairs if k.value not in (kind, "append", *appended)]
        operations = dict(appended) or {_APPENDED[kind][0]: "append"}
        operations |= {key: "replace" for key in others if key in _CAN_REPLACE[kind]}
        written = ", ".join(f"{key}: {operation}" for key, operation in operations.items())
        left = [f"`{key}`" for key in others if key in _KEYS[kind] and key not in operations]
        behind = f", and take {' and '.join(left)} out" if left else ""
        return f"write `override: {{{written}}}` in its place{behind}"

    def _overrides(self, kind: str, node: Mapping, head: Text, override: Node) -> dict[str, str]:
        found: dict[str, str] = {}
        if not isinstance(override, Mapping):
            self._fail("wrong-type", "`override` must be a mapping", override, "write `override: {condition: append}`")
            return found
        can = {"append": _CAN_APPEND[kind], "replace": _CAN_REPLACE[kind]}
        for key, operation in override.pairs:
            name = key.value
            if name not in can["replace"]:
                hint = self._report.near(name, can["replace"]) or f"keys that can: {', '.join(sorted(can['replace']))}"
                self._fail("unknown-key", f"`{name}` of a {kind} cannot be overridden", key, hint)
            elif not isinstance(operation, Text) or operation.value not in can:
                self._fail("unknown-operation", "an override is `append` or `replace`", operation)
            elif name not in can[operation.value]:
                self._fail("cannot-append", f"nothing can be appended to `{name}`", operation, "write `replace`")
            elif node.get(name) is None:
                self._fail("missing-key", f"{kind} `{head.value}` overrides `{name}` and gives no `{name}`", key,
                           f"add a line `{name}: ...`, or take it off `override`")  # fmt: skip
            else:
                found[name] = operation.value
        for key, _ in () if self._failed else node.pairs:
            listed = override.get(key.value) is not None or key.value in (kind, "override", "append")
            if not listed and key.value in _KEYS[kind]:
                hint = f"take the line out: the `{key.value}` of a {kind} cannot be changed"
                if key.value in _CAN_REPLACE[kind]:
                    hint = f"add `{key.value}: replace` to `override`, or take the line out"
                self._fail("not-overridden", f"`{key.value}` is given and not listed in `override`", key, hint)
        return found

    def _plugins(self, node: Node | None) -> None:
        for entry in node.items if isinstance(node, Sequence) else ():
            name = entry.get("name") if isinstance(entry, Mapping) else None
            others = entry.get("alternatives") if isinstance(entry, Mapping) else None
            if not isinstance(entry, Mapping) or not isinstance(name, Text) or entry.get("version") is None:
                self._fail("wrong-type", "a plugin needs `name` and `version`", entry)
                continue
            names = [name.value]
            for other in others.items if isinstance(others, Sequence) else ():
                told = other.get("name") if isinstance(other, Mapping) else None
                names += [told.value] if isinstance(told, Text) else []
            if not _PLUGINS & set(names):
                self._report.add(
                    "unknown-plugin", f"these rules need the plugin `{name.value}`, which is not here", name.span(),
                    f"built in are: {', '.join(sorted(_PLUGINS))}", code="LOAD_ERR_VALIDATE",
                )  # fmt: skip
        if not isinstance(node, Sequence) and node is not None:
            self._fail("wrong-type", "`required_plugin_versions` must be a sequence", node)

    def _misspelled(self, node: Mapping, kind: str, key: str) -> bool:
        """An unknown key that is near this one has been reported already."""
        return any(k.value not in _KEYS[kind] and get_close_matches(k.value, [key], 1, 0.6) for k, _ in node.pairs)

    def _known_keys(self, kind: str, node: Mapping, head: Text) -> None:
        for key, _ in node.pairs:
            if key.value not in _KEYS[kind]:
                hint = self._report.near(key.value, _KEYS[kind]) or f"keys of a {kind}: {', '.join(_KEYS[kind])}"
                message = f"{kind} `{head.value}` has a key `{key.value}`, which no {kind} has"
                self._unknown("unknown-key", message, key, hint)

    def _engine(self, head: Text) -> None:
        parts = head.value.split("-")[0].split("+")[0].split(".")
        if not all(p.isascii() and p.isdigit() and len(p) < 10 for p in parts) or len(parts) not in (1, 3):
            self._fail("bad-version", f"`{head.value}` is not a version", head, "write a version such as `0.31.0`")
            return
        numbers = tuple(map(int, parts))
        if (numbers if len(numbers) == 3 else (0, numbers[0], 0)) > ENGINE_VERSION:
            ours = ".".join(map(str, ENGINE_VERSION))
            self._failed = True
            self._report.add(
                "engine-version", f"these rules need engine version {head.value}, this engine is {ours}", head.span(),
                code="LOAD_ERR_VALIDATE",
            )  # fmt: skip

    def _text(self, node: Mapping, key: str, head: Text) -> Text:
        value = node.get(key)
        if value is None:
            return head  # reported as missing, or of no account
        if not isinstance(value, Text):
            self._fail("wrong-type", f"`{key}` must be a text", value)
            return head
        if not value.value.strip() and key != "desc":
            self._fail("empty-value", f"`{key}` is empty", next(k for k, _ in node.pairs if k.value == key))
        return value

    def _texts(self, node: Mapping, key: str) -> tuple[Text, ...]:
        value = node.get(key)
        if value is None or (isinstance(value, Text) and not value.value and value.plain):
            return ()
        if not isinstance(value, Sequence):
            self._fail("wrong-type", f"`{key}` must be a sequence", value, f"write `{key}: [a, b]`")
            return ()
        texts = [item for item in value.items if isinstance(item, Text)]
        for item in value.items:
            if not isinstance(item, Text):
                self._fail("wrong-type", f"an entry of `{key}` must be a text or a number", item,
                           "quote a text that holds `: `, `{` or `[`")  # fmt: skip
        return tuple(texts)

    def _flag(self, node: Mapping, key: str, default: bool) -> bool:
        value = node.get(key)
        if value is None:
            return default
        if not isinstance(value, Text) or value.value.lower() not in ("true", "false", "yes", "no", "on", "off"):
            self._fail("wrong-type", f"`{key}` must be `true` or `false`", value)
            return default
        return value.value.lower() in ("true", "yes", "on")

    def _milliseconds(self, node: Mapping, key: str) -> int | None:
        value = node.get(key)
        if value is None:
            return None
        if not isinstance(value, Text) or not re.fullmatch(r"[1-9][0-9]{0,7}", value.value):
            self._fail("wrong-type", f"`{key}` must be a whole number of milliseconds", value)
            return None
        return int(value.value)

    def _priority(self, node: Mapping) -> Priority:
        value = node.get("priority")
        if isinstance(value, Text):
            found = PRIORITIES.get(value.value.strip().upper())
            if found is not None:
                return found
            names = ", ".join(p.name for p in Priority)
            guess = self._report.near(value.value.upper(), PRIORITIES)
            self._fail("unknown-priority", f"no priority is called `{value.value}`", value,
                       f"{guess} priorities: {names}" if guess else f"priorities: {names}")  # fmt: skip
        elif value is not None:
            self._fail("wrong-type", "`priority` must be a name", value)
        return Priority.DEBUG

    def _exceptions(self, node: Mapping) -> tuple[ExceptionDef, ...]:
        value = node.get("exceptions")
        if value is None or (isinstance(value, Text) and not value.value and value.plain):
            return ()
        if not isinstance(value, Sequence):
            self._fail("wrong-type", "`exceptions` must be a sequence", value, "start each by `- name: ...`")
            return ()
        found: list[ExceptionDef] = []
        for entry in value.items:
            made = self._exception(entry)
            if made is None:
                continue
            if any(made.name.value == other.name.value for other in found):
                self._report.warn(
                    "exception-twice", f"the exception `{made.name.value}` is given twice; both count",
                    made.name.span(), "give one of them another name", "LOAD_EXCEPTION_NAME_NOT_UNIQUE",
                )  # fmt: skip
            found.append(made)
        return tuple(found)

    def _exception(self, entry: Node) -> ExceptionDef | None:
        name = entry.get("name") if isinstance(entry, Mapping) else None
        if not isinstance(entry, Mapping) or not isinstance(name, Text) or not name.value:
            self._fail("missing-name", "an exception needs a `name`", entry)
            return None
        for key, _ in entry.pairs:
            if key.value not in _EXCEPTION_KEYS:
                hint = self._report.near(key.value, _EXCEPTION_KEYS) or f"its keys: {', '.join(_EXCEPTION_KEYS)}"
                self._unknown("unknown-key", f"an exception has no key `{key.value}`", key, hint)
        fields = entry.get("fields")
        single = isinstance(fields, Text)
        return ExceptionDef(
            name=name,
            fields=self._one_or_more(entry, "fields"),
            comps=self._one_or_more(entry, "comps"),
            values=self._values(entry, single),
            single=single,
        )

    def _one_or_more(self, entry: Mapping, key: str) -> tuple[Text, ...] | None:
        value = entry.get(key)
        if value is None:
            return None
        return (value,) if isinstance(value, Text) else self._texts(entry, key)

    def _values(self, entry: Mapping, single: bool) -> tuple[tuple[Text | tuple[Text, ...], ...], ...] | None:
        """The tuples of an exception; where `fields` is one name, one tuple with all values of one list."""
        value = entry.get("values")
        if value is None or (isinstance(value, Text) and not value.value and value.plain):
            return None
        if not isinstance(value, Sequence):
            self._fail("wrong-type", "`values` must be a sequence", value)
            return None
        tuples: list[tuple[Text | tuple[Text, ...], ...]] = []
        if all(isinstance(item, Text) for item in value.items):
            texts = tuple(item for item in value.items if isinstance(item, Text))
            if single or entry.get("fields") is None:  # with values alone it adds to an earlier exception of its name
                return ((texts,),)
        for item in value.items:
            if not isinstance(item, Sequence):
                self._fail("wrong-type", "each entry of `values` must be a sequence, a value for each field", item,
                           "write `values: [[a, b], [c, d]]`")  # fmt: skip
                continue
            parts: list[Text | tuple[Text, ...]] = []
            for part in item.items:
                if isinstance(part, Sequence) and all(isinstance(p, Text) for p in part.items):
                    parts.append(tuple(p for p in part.items if isinstance(p, Text)))
                elif isinstance(part, Text):
                    parts.append(part)
                else:
                    self._fail("wrong-type", "a value must be a text or a sequence of texts", part)
            tuples.append(tuple(parts))
        return tuple(tuples)

    def _rule(self, node: Mapping, head: Text) -> RuleDef:
        source = node.get("source")
        return RuleDef(
            name=head,
            condition=self._text(node, "condition", head),
            output=self._text(node, "output", head),
            desc=self._text(node, "desc", head),
            priority=self._priority(node),
            source=self._text(node, "source", head).value if source is not None else "syscall",
            tags=tuple(t.value for t in self._texts(node, "tags")),
            enabled=self._flag(node, "enabled", True),
            warn_evttypes=self._flag(node, "warn_evttypes", True),
            skip_if_unknown_filter=self._flag(node, "skip-if-unknown-filter", False),
            exceptions=self._exceptions(node),
            capture=self._flag(node, "capture", False),
            capture_duration_ms=self._milliseconds(node, "capture_duration"),
        )
