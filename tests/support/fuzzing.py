"""What fuzzers share: the loop, its limits, and the command line.

Comes in: how to make an input from a random generator, and how to read it. Goes out: a `Tally`. What reading raises, or
takes longer than `LIMIT_S`, is printed with the seed and the number that make it again.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

Input = TypeVar("Input")

LIMIT_S = 20.0  # for one input: a hang, not a slow machine
_MEMORY_BYTES = 4 << 30


@dataclass(frozen=True, slots=True)
class Tally:
    """How many inputs were read, how many of them accepted, and the longest time of one, in seconds."""

    read: int
    accepted: int
    longest_s: float


def fuzz(
    seconds: float, seed: int, make: Callable[[random.Random], Input], read: Callable[[Input], bool], most: int = 0
) -> Tally:
    """Make and read inputs for so long, or `most` of them (0: any number). `read` says whether one was accepted, and
    raises where it found a bug."""
    rng = random.Random(seed)
    count, accepted, longest = 0, 0, 0.0
    end = time.monotonic() + seconds
    while time.monotonic() < end and not 0 < most <= count:
        made = make(rng)
        start = time.monotonic()
        try:
            accepted += read(made)
        except BaseException:
            print(f"seed {seed}, input {count}:\n{made!r}", file=sys.stderr)
            raise
        took = time.monotonic() - start
        longest = max(longest, took)
        assert took < LIMIT_S, f"seed {seed}, input {count} took {took:.1f} s:\n{made!r}"
        count += 1
    return Tally(count, accepted, longest)


def main(doc: str | None, run: Callable[[float, int], Tally]) -> None:
    """The command line of a fuzzer; `run` takes seconds and seed."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="how long (default 600)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32), help="repeat a run")
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    tally = run(args.seconds, args.seed)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"seed {args.seed}: {tally.read} inputs, {tally.accepted} accepted, the longest {tally.longest_s:.2f} s,"
        f" memory {peak:.0f} MiB"
    )
