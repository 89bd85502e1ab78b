"""One loaded state of the daemon: configuration and rules, built whole or not at all.

Comes in: a checked `Config`. Goes out: a `Generation`. Never: half of one; a mistake in any rule file refuses it all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from appliance.codegen.runtime import globber
from appliance.config.settings import Config, RuleSwitch
from appliance.engine.ruleset import Ruleset
from appliance.lang.lint import shadowed
from appliance.lang.load import LoadedRules, load_rules
from appliance.model.diagnostic import Diagnostic, RuleError, Severity
from appliance.model.rule import Rule


@dataclass(frozen=True, slots=True)
class Generation:
    """What the loop works by. `warnings` are the diagnostics that did not refuse it."""

    config: Config
    loaded: LoadedRules
    ruleset: Ruleset
    warnings: tuple[Diagnostic, ...]


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


def build_generation(config: Config, *, hostname: str, new_id: Callable[[], str]) -> Generation:
    """Load the rules that the configuration names. Raises `RuleError` with all diagnostics of the run."""
    loaded = load_rules(config.rules_files)
    if any(d.severity is Severity.ERROR for d in loaded.diagnostics):
        raise RuleError(loaded.diagnostics)
    ruleset = Ruleset.build(
        selected(loaded.rules, config.rules),
        minimum=config.priority,
        matching=config.rule_matching,
        hostname=hostname,
        new_id=new_id,
    )
    warnings = loaded.diagnostics
    if config.rule_matching == "first":
        warnings += tuple(shadowed(ruleset.rules))
    return Generation(config, loaded, ruleset, warnings)
