"""YAML nodes -> definitions, as they were written.

Comes in: the documents of one file. Goes out: `Item`s in file order. What is wrong with an item goes to the report and
the item is left out; its name is still told, so that its absence is not reported a second time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from appliance.lang.source import Mapping, Node, Report, Sequence, Text
from appliance.model.alert import Priority
from appliance.model.rule import ListDef, MacroDef, RuleDef

ENGINE_VERSION = (0, 62, 0)
_STRUCTURE = "LOAD_ERR_YAML_VALIDATE"
_KEYS = {
    "list": ("list", "items"),
    "macro": ("macro", "condition"),
    "rule": (
        "rule", "desc", "condition", "output", "priority", "source", "enabled", "tags", "warn_evttypes",
        "skip-if-unknown-filter",
    ),
    "required_engine_version": ("required_engine_version",),
}  # fmt: skip
_TO_COME = frozenset({"append", "override", "exceptions", "capture", "capture_duration"})
_REQUIRED = {"list": ("items",), "macro": ("condition",), "rule": ("condition", "output", "desc", "priority")}
PRIORITIES = {p.name: p for p in Priority} | {"INFO": Priority.INFORMATIONAL}


@dataclass(frozen=True, slots=True)
class Switch:
    """`- rule: NAME` with `enabled` alone: turns an earlier rule on or off."""

    name: Text
    enabled: bool


@dataclass(frozen=True, slots=True)
class Broken:
    """A definition that was refused: `kind` is list, macro or rule."""

    kind: str
    name: Text


Item = ListDef | MacroDef | RuleDef | Switch | Broken


def near(word: str, known: Iterable[str]) -> str | None:
    """`did you mean ...?` if something known is spelled alike."""
    found = get_close_matches(word, list(known), 1, 0.6)
    return f"did you mean `{found[0]}`?" if found else None


def read_items(documents: tuple[Node, ...], report: Report) -> list[Item]:
    """All items of a file, in order."""
    items: list[Item] = []
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
            item = _Reader(report).item(node)
            if item is not None:
                items.append(item)
    return items


class _Reader:
    def __init__(self, report: Report) -> None:
        self._report = report
        self._failed = False

    def _fail(self, name: str, message: str, node: Node, hint: str | None = None) -> None:
        self._failed = True
        span = node.span() if isinstance(node, Text) else node.span
        self._report.add(name, message, span, hint, code=_STRUCTURE)

    def item(self, node: Node) -> Item | None:
        if not isinstance(node, Mapping) or not node.pairs:
            self._fail("not-an-item", "an item is a mapping", node, "write `- rule: NAME` with its keys below")
            return None
        kind = next((key.value for key, _ in node.pairs if key.value in _KEYS), None)
        if kind is None:
            first = node.pairs[0][0]
            if first.value == "required_plugin_versions":
                self._fail("not-supported", "plugins are not supported", first)
                return None
            self._fail("unknown-item", f"no item is called `{first.value}`", first,
                       near(first.value, _KEYS) or f"items: {', '.join(_KEYS)}")  # fmt: skip
            return None
        head = node.get(kind)
        if not isinstance(head, Text) or not head.value:
            self._fail("missing-name", f"the {kind} has no name", node.pairs[0][0])
            return None
        self._known_keys(kind, node, head)
        if kind == "required_engine_version":
            self._engine(head)
            return None
        made: Item | None = None
        if kind == "rule" and {key.value for key, _ in node.pairs} == {"rule", "enabled"}:
            made = Switch(head, self._flag(node, "enabled", True))
        else:
            for key in () if any(k.value in _TO_COME for k, _ in node.pairs) else _REQUIRED[kind]:
                if node.get(key) is None and not self._misspelled(node, kind, key):
                    self._fail("missing-key", f"{kind} `{head.value}` has no `{key}`", head,
                               f"add a line `{key}: ...` to it")  # fmt: skip
            if kind == "list":
                made = ListDef(head, self._texts(node, "items"))
            elif kind == "macro":
                made = MacroDef(head, self._text(node, "condition", head))
            else:
                made = self._rule(node, head)
        return Broken(kind, head) if self._failed else made

    def _misspelled(self, node: Mapping, kind: str, key: str) -> bool:
        """An unknown key that is near this one has been reported already."""
        return any(k.value not in _KEYS[kind] and get_close_matches(k.value, [key], 1, 0.6) for k, _ in node.pairs)

    def _known_keys(self, kind: str, node: Mapping, head: Text) -> None:
        for key, _ in node.pairs:
            if key.value in _TO_COME:
                self._fail("not-supported", f"`{key.value}` is not supported yet", key)
            elif key.value not in _KEYS[kind]:
                self._fail("unknown-key", f"{kind} `{head.value}` has a key `{key.value}`, which no {kind} has", key,
                           near(key.value, _KEYS[kind]) or f"keys of a {kind}: {', '.join(_KEYS[kind])}")  # fmt: skip

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
            return head  # reported as missing
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

    def _priority(self, node: Mapping) -> Priority:
        value = node.get("priority")
        if isinstance(value, Text):
            found = PRIORITIES.get(value.value.strip().upper())
            if found is not None:
                return found
            names = ", ".join(p.name for p in Priority)
            guess = near(value.value.upper(), PRIORITIES)
            self._fail("unknown-priority", f"no priority is called `{value.value}`", value,
                       f"{guess} priorities: {names}" if guess else f"priorities: {names}")  # fmt: skip
        elif value is not None:
            self._fail("wrong-type", "`priority` must be a name", value)
        return Priority.DEBUG

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
        )
