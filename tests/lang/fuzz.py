#!/usr/bin/env python3
"""A fuzzer over lexer, parser, YAML reader and all behind them: no crash, no hang, no unbounded memory.

Mutates the rules files of this checkout (and Falco's, where they lie beside it): stretches and lines cut, doubled,
moved and replaced by what the language is made of. A file that crashes or takes longer than LIMIT_S is printed with its
seed.

usage: tests/lang/fuzz.py [--seconds N] [--seed N]
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from appliance.engine.ruleset import Ruleset  # noqa: E402
from appliance.lang.load import load_texts  # noqa: E402
from appliance.model.alert import Priority  # noqa: E402

LIMIT_S = 20.0  # for one file: a hang, not a slow machine
_PIECES = [
    " and ", " or ", " not ", "(", ")", "[", "]", "{", "}", ":", "- ", "'", '"', "\\", "%", "\t", "\n", "  ", ",", "=",
    "!=", " in ", " pmatch ", " exists", "proc.name", "evt.type", "val(", "tolower(", "anyof", "&a ", "*a", "|", ">",
    "#", "\x00", "\u202e", "é", "- rule: x\n", "override: {condition: append}\n", "append: true\n", "exceptions:\n",
    "<NA>",
    "true", "0x", "9" * 30, "a" * 300, "((((((((((", "not not not ", "---\n",
]  # fmt: skip


def seeds() -> list[str]:
    """The texts to start from, cut to what a mutation can matter in."""
    files = [
        *ROOT.glob("rules/*.yaml"),
        *ROOT.glob("tests/lang/mistakes/*.yaml"),
        *ROOT.glob("tests/lang/cases/*.case"),
    ]
    files += (ROOT.parent / "shared/falco/rules").glob("*.yaml")
    texts = []
    for file in files:
        text = file.read_text()
        items = text.split("\n- ")
        texts += ["\n- ".join(items[i : i + 6]) for i in range(0, len(items), 6)]
    return texts


def mutate(text: str, rng: random.Random) -> str:
    """A few changes anywhere in the text."""
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(text) + 1)
        end = min(len(text), at + rng.choice([0, 1, 1, 3, 10, 80]))
        match rng.randrange(5):
            case 0:
                text = text[:at] + text[end:]
            case 1:
                text = text[:at] + rng.choice(_PIECES) + text[end:]
            case 2:
                text = text[:end] + text[at:end] * rng.randint(1, 4) + text[end:]
            case 3:
                lines = text.split("\n")
                rng.shuffle(lines) if rng.random() < 0.05 else lines.insert(
                    rng.randrange(len(lines)), rng.choice(lines)
                )
                text = "\n".join(lines)
            case _:
                text = text[:at] + "".join(rng.choice(_PIECES) for _ in range(rng.randint(1, 8))) + text[at:]
    return text[:200_000]


def fuzz(seconds: float, seed: int) -> tuple[int, float]:
    """How many files were read, and the longest time of one. Raises what a file raises, with its seed."""
    texts = seeds()
    rng = random.Random(seed)
    count, longest = 0, 0.0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        text = mutate(rng.choice(texts), rng)
        start = time.monotonic()
        try:
            loaded = load_texts([("fuzz.yaml", text)])
            for diagnostic in loaded.diagnostics:
                diagnostic.render()
            if not loaded.errors:
                Ruleset.build(loaded.rules, minimum=Priority.DEBUG, matching="all", hostname="h", new_id=lambda: "i")
        except BaseException:
            print(f"seed {seed}, file {count}:\n{text!r}", file=sys.stderr)
            raise
        took = time.monotonic() - start
        longest = max(longest, took)
        assert took < LIMIT_S, f"seed {seed}, file {count} took {took:.1f} s:\n{text!r}"
        count += 1
    return count, longest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="how long (default 600)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32), help="repeat a run")
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    count, longest = fuzz(args.seconds, args.seed)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"seed {args.seed}: {count} files, the longest {longest:.2f} s, memory {peak:.0f} MiB")


if __name__ == "__main__":
    main()
