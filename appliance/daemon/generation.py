"""One loaded state of the daemon: configuration and rules, built whole or not at all.

Comes in: a checked `Config`. Goes out: a `Generation`. Never: half of one; a mistake in any rule file refuses it all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from appliance.catalog.elsewhere import FIELDS as ELSEWHERE
from appliance.catalog.lookup import fields_of, find_field
from appliance.codegen.runtime import globber
from appliance.config.settings import AppendOutput, Config, RuleSwitch
from appliance.engine.needs import Needs
from appliance.engine.ruleset import Ruleset
from appliance.lang.lexer import Unreadable
from appliance.lang.lint import shadowed
from appliance.lang.load import LoadedRules, load_rules
from appliance.lang.parser import parse_output
from appliance.model.diagnostic import ConfigError, Diagnostic, RuleError, Severity
from appliance.model.expr import FieldRef, Operand
from appliance.model.rule import Output, Rule


@dataclass(frozen=True, slots=True)
class Generation:
    """What the loop works by. `warnings` are the diagnostics that did not refuse it.

    `number` counts from 1 at the start of the daemon; `digests` is the SHA-256 of each file it was made of, as it was
    when it was read; `made_ns` is wall clock. `needs` is what its rules ask of the machine, as `base_syscalls` has it.
    """

    config: Config
    loaded: LoadedRules
    ruleset: Ruleset
    warnings: tuple[Diagnostic, ...]
    number: int = 1
    digests: Mapping[Path, str] = field(default_factory=dict)
    made_ns: int = 0
    needs: Needs = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", self.ruleset.needs.tracing(self.config.base_syscalls.custom_set))

    @property
    def config_digests(self) -> dict[Path, str]:
        """The digests of the configuration and of the files that it reads, in the order in which they are read."""
        files = (self.config.path, *self.config.included)
        return {path: self.digests[path] for path in files if path is not None and path in self.digests}

    @property
    def config_sha256(self) -> str:
        """One digest of the configuration as it was given: its files, and the options of the command line if any."""
        text = "".join(f"{option}\n" for option in self.config.options)
        given = {Path("-o"): hashlib.sha256(os.fsencode(text)).hexdigest()} if text else {}
        return one_digest({**self.config_digests, **given})

    @property
    def rules_digests(self) -> dict[Path, str]:
        """The digests of the files of rules, in the order in which they are read."""
        named = frozenset(self.config.rules_files)  # files and folders; what lies in these may be another by now
        return {path: digest for path, digest in self.digests.items() if not named.isdisjoint((path, path.parent))}


def selected(rules: Iterable[Rule], switches: Iterable[RuleSwitch]) -> tuple[Rule, ...]:
    """The rules with their `enabled` as the configuration has it; of two switches the later one counts."""
    switches = tuple(switches)
    return tuple(replace(rule, enabled=_enabled(rule, switches)) for rule in rules)


def _enabled(rule: Rule, switches: Iterable[RuleSwitch]) -> bool:
    enabled = rule.enabled
    for switch in switches:
        by_name = switch.rule is None or bool(globber([switch.rule])(rule.name))
        if by_name and (switch.tag is None or switch.tag in rule.tags):
            enabled = switch.enable
    return enabled


_SUGGESTED = (
    "container_id=%container.id container_name=%container.name container_image_repository=%container.image.repository"
    " container_image_tag=%container.image.tag k8s_pod_name=%k8s.pod.name k8s_ns_name=%k8s.ns.name"
)
"""What `suggested_output` adds to rules on system calls: the fields that Falco's container plugin suggests."""


def appended(rules: Iterable[Rule], entries: Iterable[AppendOutput]) -> tuple[Rule, ...]:
    """The rules with what `append_output` adds to their alerts. Raises `ConfigError` for a template that is wrong."""
    problems: list[Diagnostic] = []
    made = [(entry, *_additions(entry, problems)) for entry in entries]
    if problems:
        raise ConfigError(problems)
    return tuple(_with_additions(rule, [_for(entry, rule, m, f) for entry, m, f in made]) for rule in rules)


def passed_over(rules: Iterable[Rule], entries: Iterable[AppendOutput]) -> Iterator[Diagnostic]:
    """Warnings of what `append_output` does not add to some rules: their events have no such field."""
    for entry in entries:
        missing: dict[str, tuple[FieldRef, int]] = {}
        for rule in rules:
            strange = _strange(rule.source, [entry.extra_output, *(text for _, text in entry.extra_fields)])
            if strange is not None and _concerns(entry, rule):
                missing[rule.source] = strange, missing.get(rule.source, (strange, 0))[1] + 1
        for source, (named, count) in missing.items():
            yield Diagnostic(
                "append-other-source", f"{source} events have no `{named}`: what `append_output` says by it is left"
                f" out of {count} rules", entry.span, "say of which rules it is: `match: {source: syscall}`",
                Severity.WARNING,
            )  # fmt: skip


def _strange(source: str, texts: Iterable[str]) -> FieldRef | None:
    """The first field of these templates that events of a source do not have."""
    for text in texts:
        for part in parse_output(text):
            for named in () if isinstance(part, str) else fields_of(part):
                found = find_field(named)
                if found is not None and source not in found[0].sources:
                    return named
    return None


def _for(entry: AppendOutput, rule: Rule, message: str, fields: _Fields) -> tuple[str, _Fields]:
    """What an entry adds to the alerts of one rule: nothing of other sources' fields."""
    if not _concerns(entry, rule):
        return "", ()
    texts = (message, entry.extra_output) if entry.suggested_output else (message,)
    fitting = next((text for text in texts if _strange(rule.source, [text]) is None), "")
    named = dict(entry.extra_fields)
    return fitting, tuple(field for field in fields if _strange(rule.source, [named[field[0]]]) is None)


_Parts = tuple[str | Operand, ...]
_Fields = tuple[tuple[str, _Parts], ...]


def _additions(entry: AppendOutput, problems: list[Diagnostic]) -> tuple[str, _Fields]:
    texts = [entry.extra_output] if entry.extra_output else []
    for text in texts:
        _parts(text, entry, problems)
    if entry.suggested_output:
        texts.append(_SUGGESTED)
    fields = tuple((name, _parts(text, entry, problems)) for name, text in entry.extra_fields)
    return " ".join(texts), fields


def _parts(text: str, entry: AppendOutput, problems: list[Diagnostic]) -> _Parts:
    try:
        parts = parse_output(text)
    except Unreadable as error:
        problems.append(Diagnostic(error.name, f"in `append_output`: {error.message}", entry.span, error.hint))
        return ()
    for part in parts:
        if isinstance(part, FieldRef) and find_field(part) is None and part.name not in ELSEWHERE:
            problems.append(
                Diagnostic("unknown-field", f"in `append_output`: no field is called `{part.name}`", entry.span,
                           "docs/fields.md lists all fields")
            )  # fmt: skip
    return parts


def _concerns(entry: AppendOutput, rule: Rule) -> bool:
    return entry.rule in (None, rule.name) and entry.source in (None, rule.source) and set(entry.tags) <= set(rule.tags)


def _with_additions(rule: Rule, additions: list[tuple[str, _Fields]]) -> Rule:
    texts = [message for message, _ in additions if message]
    fields = tuple(field for _, fields in additions for field in fields)
    if not texts and not fields:
        return rule
    text = " ".join([rule.output.text, *texts])
    parts = rule.output.parts + tuple(part for message in texts for part in (" ", *parse_output(message)))
    return replace(rule, output=Output(text, parts, rule.output.extra + fields))


def build_generation(
    config: Config,
    *,
    hostname: str,
    new_id: Callable[[], str],
    number: int = 1,
    rest: Callable[[], None] = lambda: None,
) -> Generation:
    """Load the rules that the configuration names. Raises `RuleError` with all diagnostics of the run.

    `rest` is called between two steps, of some milliseconds each: a place to let others go first.
    """
    digests = file_digests(files_of(config))
    loaded = load_rules(config.rules_files, lenient=config.rules_unknown_keys == "warn", rest=rest)
    if any(d.severity is Severity.ERROR for d in loaded.diagnostics):
        raise RuleError(loaded.diagnostics)
    ruleset = Ruleset.build(
        appended(selected(loaded.rules, config.switches), config.append_output),
        minimum=config.priority,
        matching=config.rule_matching,
        hostname=hostname,
        new_id=new_id,
        rest=rest,
        early=config.capture.filter == "arguments",
    )
    warnings = loaded.diagnostics + tuple(_unheard(ruleset, config.base_syscalls.custom_set))
    warnings += tuple(passed_over(loaded.rules, config.append_output))
    if not ruleset.rules:
        warnings += (NOTHING_JUDGED,)
    if config.rule_matching == "first":
        warnings += tuple(shadowed(ruleset.rules))
    return Generation(config, loaded, ruleset, warnings, number, digests, time.time_ns())


NOTHING_JUDGED = Diagnostic(
    "no-rules", "no rule is loaded and switched on: nothing will be judged",
    hint="name files of rules in `rules_files`, or with -r", severity=Severity.WARNING,
)  # fmt: skip


def _unheard(ruleset: Ruleset, custom_set: Iterable[str]) -> Iterator[Diagnostic]:
    for type_ in sorted(ruleset.needs.types - ruleset.needs.tracing(custom_set).types, key=lambda t: t.value):
        count = sum(type_ in rule.event_types for rule in ruleset.rules)
        yield Diagnostic(
            "not-heard", f"`base_syscalls.custom_set` takes `{type_.value}` away, on which {count} rules can hold",
            hint="they do not fire on it", severity=Severity.WARNING,
        )  # fmt: skip


def files_of(config: Config) -> Iterator[Path]:
    """The files that a configuration is made of and names as rules, those of folders in the order of their names.

    Folders are among them, so that a first file in an empty one is noticed; `file_digests` leaves them out.
    """
    if config.path is not None:
        yield config.path
    yield from dict.fromkeys([*config.included, *(path for folder in config.folders for path in _yaml_files(folder))])
    for path in config.rules_files:
        yield from _yaml_files(path)


def _yaml_files(path: Path) -> Iterator[Path]:
    """A file; or a folder, and the files in it: one that comes anew is read at the next load."""
    yield path
    with contextlib.suppress(OSError):  # no folder, or none that can be read
        yield from sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml"))


def one_digest(digests: Mapping[Path, str]) -> str:
    """Several digests as one, whatever the files are called: equal on two hosts whose files have the same contents.

    The SHA-256 of the digests, each with a line end after it, in their order.
    """
    return hashlib.sha256("".join(f"{digest}\n" for digest in digests.values()).encode()).hexdigest()


def file_digests(paths: Iterable[Path]) -> dict[Path, str]:
    """The SHA-256 of each file, in hexadecimal; empty where it cannot be read. Folders have none."""
    return {path: _digest(path) for path in paths if not os.path.isdir(path)}  # noqa: PTH112  (no error)


def _digest(path: Path) -> str:
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
