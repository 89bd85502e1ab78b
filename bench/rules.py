#!/usr/bin/env python3
"""What rules cost: to load, and to judge by, as their number grows.

Loads the default rules and, where they lie beside the checkout (../shared/falco/rules), Falco's own files; prints CPU
seconds and memory of loading and compiling. Then judges a mix of events that match nothing, with the rules once, five
times and twenty times (under other names, with other constants), and again with as many more rules for an event type
that the mix does not have: the cost should grow with those that could match, not with all. No root.

usage: bench/rules.py [--rounds N]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from appliance.engine.ruleset import Ruleset  # noqa: E402
from appliance.lang.load import load_rules  # noqa: E402
from appliance.model.alert import Priority  # noqa: E402
from appliance.model.event import Event  # noqa: E402
from appliance.model.expr import And, Check, FieldRef, Not, Word  # noqa: E402
from appliance.model.field import Operator  # noqa: E402
from appliance.model.rule import Rule  # noqa: E402
from tests.support.events import SHELL, event, file_fd, inet_fd, process  # noqa: E402

OFFICIAL = sorted((ROOT.parent / "shared/falco/rules").glob("*.yaml"), key=lambda p: (p.stem != "falco_rules", p.stem))


def mix() -> list[Event]:
    """80 % opens for reading of libraries and documents, the rest programs, connections, forks, ends."""
    cron = process("run-parts", "--report", "/etc/cron.hourly", exepath="/usr/bin/run-parts", tty=0)
    up = [SHELL, process("cron"), process("systemd")]
    opens = [
        event("openat", process=cron, ancestors=up, fd=file_fd(path), path=path, name=path, flags=0, mode=0, res=3)
        for path in (
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
            "/usr/share/doc/x/copyright",
            "/proc/self/maps",
            "/var/lib/x/y",
        )
    ]
    others = [
        event("execve", process=cron, ancestors=up),
        event("clone", process=cron, ancestors=up, res=77),
        event("connect", process=process("nginx"), ancestors=up, fd=inet_fd(("10.0.0.5", 40000), ("10.0.0.9", 5432))),
        event("procexit", process=cron, ancestors=up),
    ]
    return opens * 16 + others * 4


def ruleset(rules: Sequence[Rule]) -> Ruleset:
    return Ruleset.build(rules, minimum=Priority.DEBUG, matching="all", hostname="bench", new_id=lambda: "bench")


def copies(rules: Sequence[Rule], times: int) -> list[Rule]:
    """The rules that many times; each copy asks for a name of its own besides, so that none shares its whole."""
    made = list(rules)
    for n in range(1, times):
        extra = Not(Check(FieldRef("proc.name"), Operator.EQ, Word(f"copy{n}")))
        made += [replace(r, name=f"{r.name} {n}", condition=And((r.condition, extra))) for r in rules]
    return made


def elsewhere(rules: Sequence[Rule], times: int) -> list[Rule]:
    """The rules, and as many more as `copies` makes, for an event type that is not in the mix."""
    (other,) = load_one("evt.type = ptrace and proc.name = nobody")
    return [*rules, *(replace(other, name=f"other {n}") for n in range((times - 1) * len(rules)))]


def load_one(condition: str) -> tuple[Rule, ...]:
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(f"- {{rule: r, desc: d, condition: {condition}, output: o, priority: INFO}}\n")
        file.flush()
        return load_rules([Path(file.name)]).rules


def rate(rules: Ruleset, events: Sequence[Event], rounds: int) -> float:
    """Events judged in a second of one core's time, median of the rounds: of CPU time, as others share the machine."""
    match = rules.match
    times = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(50):
            for e in events:
                match(e)
        times.append((time.process_time() - start) / 50 / len(events))
    return 1 / statistics.median(times)


LOAD = """
import resource, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from appliance.engine.ruleset import Ruleset
from appliance.lang.load import load_rules
from appliance.model.alert import Priority
before = resource.getrusage(resource.RUSAGE_SELF)
loaded = load_rules([Path(p) for p in sys.argv[2:]])
middle = resource.getrusage(resource.RUSAGE_SELF)
Ruleset.build(loaded.rules, minimum=Priority.DEBUG, matching="all", hostname="h", new_id=lambda: "i")
after = resource.getrusage(resource.RUSAGE_SELF)
print(middle.ru_utime - before.ru_utime, after.ru_utime - middle.ru_utime, (after.ru_maxrss - before.ru_maxrss) / 1024, len(loaded.rules))
"""  # noqa: E501


def loading(name: str, files: Sequence[Path]) -> None:
    """CPU seconds and memory of loading in a process of its own, median of five."""
    runs = []
    for _ in range(5):
        out = subprocess.run(
            [sys.executable, "-c", LOAD, ROOT, *files], check=True, capture_output=True, text=True
        ).stdout.split()
        runs.append([float(x) for x in out])
    load, compile_, memory, count = (statistics.median(column) for column in zip(*runs, strict=True))
    print(f"{name:<16} {count:>4.0f} rules: load {load:.2f} s CPU, compile {compile_:.2f} s CPU, {memory:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of judging (default 5)")
    args = parser.parse_args()
    default = [ROOT / "rules/tercel_rules.yaml"]
    loading("default", default)
    sets = {"default": load_rules(default).rules}
    if OFFICIAL:
        loading("Falco's files", OFFICIAL)
        sets["Falco's files"] = load_rules(OFFICIAL).rules
    events = mix()
    for name, rules in sets.items():
        rate(ruleset(rules), events, 2)  # the first rounds are slower, whatever they judge
        base = rate(ruleset(rules), events, args.rounds)
        fired = sum(len(ruleset(rules).match(e)) for e in events)
        print(f"{name:<16} {base:>9.0f} events/s on one core, {fired} alerts")
        for times in (5, 20):
            more = rate(ruleset(copies(rules, times)), events, args.rounds)
            aside = rate(ruleset(elsewhere(rules, times)), events, args.rounds)
            cost, other = base / more, base / aside
            print(f"{'':<16} {times:>2} times the rules: cost {cost:.1f} times; as many for other events: {other:.2f}")
    print(f"memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
