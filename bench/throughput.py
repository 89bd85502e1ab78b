#!/usr/bin/env python3
"""How many events one core judges in a second with the default rules, stage by stage.

Real records are needed to be fair: it records a mix of system calls of this machine (opens, forks and execs, connects)
and replays them through decoding, state and rules. Prints each stage's time for an event, its share, and the rate of
all of them together; then the same stream in batches as the loop takes it, with all events judged and with those passed
over that no rule can hold on. Shares and ratios are comparable between machines, rates are not. Needs root.

usage: bench/throughput.py [--rounds N]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from appliance.daemon.shortcut import Shortcut  # noqa: E402
from appliance.engine.ruleset import Ruleset  # noqa: E402
from appliance.engine.state import State  # noqa: E402
from appliance.kernel.decode import BY_NUMBER, decode, encode  # noqa: E402
from appliance.kernel.layout import TYPE_AT  # noqa: E402
from appliance.kernel.program import Buffers  # noqa: E402
from appliance.kernel.ring import HOT  # noqa: E402
from appliance.lang.load import load_rules  # noqa: E402
from appliance.model.alert import Priority  # noqa: E402
from appliance.model.event import RawEvent  # noqa: E402
from appliance.sources.accounts import HostAccounts  # noqa: E402
from appliance.sources.procfs import Procfs  # noqa: E402
from appliance.sources.syscall import SyscallSource  # noqa: E402
from tests.support.capture import TYPES  # noqa: E402

MIX = """
find /usr/share/doc /etc -maxdepth 2 -name '*.conf' -exec cat {} + >/dev/null 2>&1
for n in $(seq 300); do /bin/true; ls /etc >/dev/null; done
tar cf - /usr/share/common-licenses | cat >/dev/null
bash -c 'for n in $(seq 200); do echo > /dev/udp/127.0.0.1/9; done'
"""


def record() -> list[bytes]:
    """The records of the mix, as the kernel wrote them."""
    source = SyscallSource(Buffers(64 << 20), TYPES)
    try:
        child = subprocess.Popen(["bash", "-c", MIX], stdin=subprocess.DEVNULL)
        events: list[RawEvent] = []
        while child.poll() is None:
            events += source.read(4096)
            time.sleep(0.001)
        books = source.stop(events.extend)
    finally:
        source.close()
    print(f"{len(events)} records ({books.lost} lost): {dict(Counter(e.type.value for e in events).most_common(8))}")
    return [encode(event) for event in events]


def fresh_state() -> State:
    processes = Procfs()
    state = State(
        accounts=HostAccounts(), read_process=processes.read_process, ask_container=lambda *_: None, wall_offset_ns=0
    )
    for raw in processes.scan():
        state.apply(raw)
    return state


def seconds(work: Callable[[], object]) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start


def replay(records: Sequence[bytes], rules: Ruleset) -> dict[str, float]:
    """Seconds of each stage, one after the other, over all records."""
    raws: list[RawEvent] = []
    times = {"decode": seconds(lambda: raws.extend(map(decode, records)))}
    apply = fresh_state().apply
    times["state"] = seconds(lambda: [apply(raw) for raw in raws])
    state, match, types = fresh_state(), rules.match, rules.event_types

    def judged() -> None:
        for raw in raws:
            event = state.apply(raw)
            if event is not None and raw.type in types:
                match(event)

    times["rules"] = max(0.0, seconds(judged) - times["state"])
    return times


def looped(records: Sequence[bytes], rules: Ruleset, *, passing: bool) -> tuple[float, int, int]:
    """Seconds over all records batch by batch, with the shortcut or without; how many were passed over, and alerts."""
    state = fresh_state()
    shortcut = Shortcut(rules, state.knows)
    apply, match, types, skip = state.apply, rules.match, rules.event_types, shortcut.skip
    numbered = [(record[TYPE_AT] | record[TYPE_AT + 1] << 8, memoryview(record)) for record in records]
    alerts = 0

    def work() -> None:
        nonlocal alerts
        for start in range(0, len(numbered), 2048):
            batch = numbered[start : start + 2048]
            raws = [BY_NUMBER[n](r) for n, r in batch if not (passing and n in HOT and skip(n, r))]
            for raw in raws:
                event = apply(raw)
                if event is not None and raw.type in types:
                    alerts += len(match(event))

    return seconds(work), shortcut.taken().total(), alerts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="replays of the records (default 7)")
    args = parser.parse_args()
    loaded = load_rules([ROOT / "rules/tercel_rules.yaml"])
    rules = Ruleset.build(
        loaded.rules, minimum=Priority.DEBUG, matching="all", hostname="bench", new_id=lambda: "bench"
    )
    records = record()
    rounds = [replay(records, rules) for _ in range(args.rounds)]
    median = {stage: statistics.median(r[stage] for r in rounds) for stage in rounds[0]}
    total = sum(median.values())
    for stage, spent in median.items():
        print(f"{stage:<8} {spent / len(records) * 1e9:>7.0f} ns/event {spent / total:>6.0%}")
    print(f"together {len(records) / total:>9.0f} events/s on one core, {len(loaded.rules)} rules")
    pairs = [[looped(records, rules, passing=passing) for passing in (False, True)] for _ in range(args.rounds)]
    whole, short = (statistics.median(pair[i][0] for pair in pairs) for i in (0, 1))
    ratios = [pair[0][0] / pair[1][0] for pair in pairs]
    print(
        f"in batches {len(records) / whole:.0f} events/s; passing over {pairs[0][1][1] / len(records):.0%} of them "
        f"{len(records) / short:.0f} events/s: "
        f"{statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})"
    )
    if len({alerts for pair in pairs for _, _, alerts in pair}) != 1:
        raise SystemExit("the alerts differ")
    if rules.errors:
        raise SystemExit(f"errors in rules: {dict(rules.errors)}")


if __name__ == "__main__":
    main()
