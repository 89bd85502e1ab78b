"""What the loaded rules ask of the machine, as one value: made once for each generation, compared between two.

Comes in: checked rules. Goes out: `Needs`. Never: a question to the rules elsewhere: whoever must know whether paths
are resolved, environments copied, names looked up or files read for the rules asks this value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from appliance.catalog.events import EVENTS, EXECS
from appliance.catalog.lookup import fields_of, fields_of_check, find_field
from appliance.engine.timing import TIMED
from appliance.model.event import EventType
from appliance.model.expr import FieldRef, Word, checks_of
from appliance.model.rule import Rule

_ENVIRONMENTS = frozenset({"proc.env", "proc.aenv"})
_ARGUMENTS, _ALL_ARGUMENTS = frozenset({"evt.arg", "evt.rawarg"}), frozenset({"evt.args", "evt.info"})
_OF_ENVIRONMENT = frozenset(
    {"env"} | {n for type_ in EXECS for n, param in enumerate(EVENTS[type_].params) if param.name == "env"}
)
_DOMAINS = frozenset({"fd.cip.name", "fd.sip.name", "fd.lip.name", "fd.rip.name"})
_REAL_PATHS = frozenset({"fd.realpath", "fd.is_elsewhere"})
_DIGESTS = frozenset({"proc.exe_sha256"})  # events wait until a file was read


@dataclass(frozen=True, slots=True)
class Needs:
    """`types`: events that a rule can match, and so must be traced. `fields`: names of the fields in conditions and
    messages. `real_paths`: where an opened file lies, which costs each open a walk up its folders. `environments`:
    those of programs, up to 4 KiB for each start. `domains`: names whose addresses are looked up. `digest_types`:
    events of rules that ask for the digest of the running file. `times`: the time since other events."""

    types: frozenset[EventType] = frozenset()
    fields: frozenset[str] = frozenset()
    real_paths: bool = False
    environments: bool = False
    domains: frozenset[str] = frozenset()
    digest_types: frozenset[EventType] = frozenset()
    times: bool = False

    @property
    def closes(self) -> bool:
        """Whether descriptors are remembered for the event of their close."""
        return EventType.CLOSE in self.types

    def tracing(self, custom_set: Iterable[str]) -> Needs:
        """With the types that `base_syscalls.custom_set` adds, `open`, and without those that it takes away,
        `!open`."""
        names = frozenset(custom_set)
        added = self.types | {t for t in EventType if t.value in names}
        return replace(self, types=frozenset(t for t in added if f"!{t.value}" not in names))


def needs_of(rules: Iterable[Rule]) -> Needs:
    """The needs of rules, each rule's message included."""
    rules = tuple(rules)
    asked = [(rule, tuple(_fields(rule))) for rule in rules]
    fields = frozenset(field.name for _, several in asked for field in several)
    return Needs(
        types=frozenset(type_ for rule in rules for type_ in rule.event_types),
        fields=fields,
        real_paths=not _REAL_PATHS.isdisjoint(fields),
        environments=any(_is_environment(field, rule) for rule, several in asked for field in several),
        domains=frozenset(name for rule in rules for name in _domains(rule)),
        digest_types=frozenset(
            type_
            for rule, several in asked
            if any(field.name in _DIGESTS for field in several)
            for type_ in rule.event_types
        ),
        times=not TIMED.isdisjoint(fields),
    )


def _fields(rule: Rule) -> Iterator[FieldRef]:
    for check in checks_of(rule.condition):
        yield from fields_of_check(check)
    for parts in (rule.output.parts, *(parts for _, parts in rule.output.extra)):
        for part in parts:
            if not isinstance(part, str):
                yield from fields_of(part)


def _is_environment(field: FieldRef, rule: Rule) -> bool:
    """Among the arguments of a program's start, or later."""
    if field.name in _ENVIRONMENTS:
        return True
    if rule.event_types.isdisjoint(EXECS):
        return False
    found = find_field(field)
    if found is None or found[0].name not in _ARGUMENTS:
        return field.name in _ALL_ARGUMENTS
    return found[1] in _OF_ENVIRONMENT


def _domains(rule: Rule) -> Iterator[str]:
    """The domain names that a rule compares addresses with."""
    for check in checks_of(rule.condition):
        if isinstance(check.left, FieldRef) and check.left.name in _DOMAINS:
            right = check.right if isinstance(check.right, tuple) else (check.right,)
            yield from (word.text for word in right if isinstance(word, Word))
