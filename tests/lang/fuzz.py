#!/usr/bin/env python3
"""A fuzzer over lexer, parser, YAML reader and all behind them: no crash, no hang, no unbounded memory.

Mutates the rules files of this checkout (and Falco's, where they lie beside it): stretches and lines cut, doubled,
moved and replaced by what the language is made of. A file that crashes or hangs is printed with its seed.

usage: tests/lang/fuzz.py [--seconds N] [--seed N]
"""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from appliance.lang.load import load_texts  # noqa: E402
from tests.support import fuzzing  # noqa: E402
from tests.support.rules import ruleset_of  # noqa: E402

_WORDS = [
    " and ", " or ", " not ", "(", ")", ",", " in ", " pmatch ", " exists", " = ", " != ", " > ", "proc.name",
    "evt.type",
    "val(proc.pname)", "tolower(proc.name)", " anyof (a, b)", "[1]", "[x]", "%proc.pid", "%", "<NA>", "execve", "1",
    " ",
]  # fmt: skip
_PIECES = [
    "[", "]", "{", "}", ":", "- ", "'", '"', "\\", "\t", "\n", "  ", "val(", "anyof", "&a ", "*a", "|", ">", "#",
    "\x00",
    "\u202e", "é", "- rule: x\n", "override: {condition: append}\n", "append: true\n", "exceptions:\n", "true", "0x",
    "9" * 30, "a" * 300, "((((((((((", "not not not ", "---\n",
]  # fmt: skip
_INSIDE = re.compile(r"condition: .|output: .|    \S")  # where a text of the language is likely to go on


def seeds() -> list[str]:
    """The texts to start from, a few items each."""
    files = [*ROOT.glob("rules/*.yaml"), *ROOT.glob("tests/lang/mistakes/*.yaml")]
    files += (ROOT.parent / "shared/falco/rules").glob("*.yaml")
    texts = []
    for file in files:
        head, *items = re.split(r"^(?=- )", file.read_text(), flags=re.MULTILINE)
        texts += [head + "".join(items[i : i + 6]) for i in range(0, len(items), 6)]
    return texts


def mutate(text: str, rng: random.Random) -> str:
    """A few changes, mostly inside of conditions and outputs."""
    for _ in range(rng.randint(1, 4)):
        places = [m.start() for m in _INSIDE.finditer(text)] if rng.random() < 0.8 else []
        at = min(len(text), rng.choice(places) + rng.randint(4, 70) if places else rng.randrange(len(text) + 1))
        end = min(len(text), at + rng.choice([0, 0, 1, 1, 3, 10, 80]))
        new = [rng.choice(_WORDS if rng.random() < 0.8 else _PIECES) for _ in range(rng.choice([1, 1, 2, 6]))]
        match rng.randrange(6):
            case 0:
                text = text[:at] + text[end:]
            case 1:
                text = text[:end] + text[at:end] * rng.randint(1, 4) + text[end:]
            case 2:
                lines = text.split("\n")
                lines.insert(rng.randrange(len(lines)), rng.choice(lines))
                text = "\n".join(lines)
            case 3:
                text = text[:at] + new[0] + text[end:]
            case _:
                text = text[:at] + "".join(new) + text[at:]
    return text[:200_000]


def read(text: str) -> bool:
    """Whether it was accepted, and then it can be compiled, too; where not, its diagnostics can be printed."""
    loaded = load_texts([("fuzz.yaml", text)])
    for diagnostic in loaded.diagnostics:
        diagnostic.render()
    if not loaded.errors:
        ruleset_of(loaded.rules)
    return not loaded.errors


def fuzz(seconds: float, seed: int, most: int = 0) -> fuzzing.Tally:
    """Raises what a file raises."""
    texts = seeds()
    return fuzzing.fuzz(seconds, seed, lambda rng: mutate(rng.choice(texts), rng), read, most)


if __name__ == "__main__":
    fuzzing.main(__doc__, fuzz)
