"""The acts of the probe of `../shared/falco/fields`, judged by rules that print every field and every argument.

Comes in: the folder of that data. Goes out: for each act its events, in order, each with its fields; the same as the
real engine told it; the pairs of both. The real kernel, source, state and rules, joined as the appliance joins them.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from appliance.catalog.events import CLONES, EVENTS, STATE
from appliance.engine.ruleset import Ruleset
from appliance.lang.load import load_rules
from appliance.model.event import Event, EventType
from tests.support.capture import PATIENCE_S, Capture
from tests.support.rules import ruleset_of

HOME = Path("/tmp/scratch-diff")  # of the length that the recorded one had; the data calls it /tmp/tpx
_CALLED = "/tmp/tpx"
PRE = "f_openat,f_chdir,p_thread,p_exec,p_ids,s_tcp4,p_uid"  # acts of the process that is older than the capture
_ROOM_FOR = "ulimit -n 20000"
_SCRIPT = f"""
cd {HOME}; {_ROOM_FOR}
TPXW={HOME}/wp TPXVAR=preenv ./tpxpre log={HOME}/run-a2/pre.log {PRE} {HOME}/go </dev/null >/dev/null 2>&1 &
while ! [ -e {HOME}/begin ]; do sleep 0.05; done
export TPXW={HOME}/w TPXVAR=hostenv
timeout 100 taskset -c 1 {HOME}/tpx log={HOME}/run-a2/host.log all </dev/null >/dev/null 2>{HOME}/stderr.txt
: >{HOME}/go
wait
"""
Told = dict[str, Any]
"""The fields of one event, whatever rules printed them; `evt.type` among them."""

_SIGNATURE = ("evt.res", "proc.name", "proc.exepath", "proc.vpid", "fd.num", "evt.arg[0]", "evt.arg[1]", "evt.arg[2]")
_GAP = 5


def answers(folder: Path) -> dict[str, list[Told]]:
    """What the real engine told: act -> its events by type and number, with the fields that stay the same."""
    document = json.loads(gzip.decompress((folder / "falco-answers.json.gz").read_bytes()))
    found: dict[str, list[Told]] = {}
    for act, rows in document["acts"].items():
        events: dict[tuple[str, int], Told] = defaultdict(dict)
        for row in rows:
            events[row["event"], row["n"]] |= row["fields"]
        found[act] = [told | {"evt.type": type_} for (type_, _), told in events.items()]
    return found


class Probe:
    """The probe, compiled, with its folder; `acts` gives what rules print of its acts."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(HOME, ignore_errors=True)
        for name in ("w", "wp", "run-a2"):
            (HOME / name).mkdir(parents=True)
        for name in ("tpx", "tpxq"):
            source = HOME / f"{name}.c"
            source.write_text((folder / source.name).read_text().replace(_CALLED, str(HOME)))
            subprocess.run(["cc", "-w", "-O1", "-static", "-pthread", "-o", HOME / name, source], check=True)
        shutil.copy(HOME / "tpx", HOME / "tpxpre")
        rules = HOME / "rules.yaml"
        text = gzip.decompress((folder / "rules.yaml.gz").read_bytes()).decode()
        rules.write_text(text.replace(_CALLED, str(HOME)))
        loaded = load_rules([rules])
        self.refused = [d for d in loaded.diagnostics if d.severity.name == "ERROR"]
        self.rules = ruleset_of(loaded.rules, hostname="vm")

    def acts(self) -> dict[str, list[Told]]:
        """Do the acts of the host, those of an older process included (`pre:`), each with its events."""
        argv = ["bash", "-c", _SCRIPT]
        script = subprocess.Popen(argv, cwd="/", stdin=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 30
        while not _children(script.pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.3)
        try:
            with Capture(types=self.rules.needs.types, ring_bytes=32 << 20) as capture:
                self.rules.world.look = capture.state.usage
                self.rules.world.account = capture.state.account
                self.rules.world.process_name = capture.state.process_name
                self.rules.world.births = capture.state.births
                self.rules.world.descriptor = capture.state.descriptor
                (HOME / "begin").touch()
                told = list(watch(capture, script.pid, self.rules))
        finally:
            script.kill()
            script.wait()
        host, pre = (by_act(HOME / "run-a2" / f"{name}.log", told) for name in ("host", "pre"))
        return host | {f"pre:{act}": events for act, events in pre.items()}

    def close(self) -> None:
        """Remove its folder."""
        shutil.rmtree(HOME, ignore_errors=True)


def watch(capture: Capture, root: int, rules: Ruleset) -> Iterator[tuple[Event, Told]]:
    """The events of a process and of all that descend from it, each with what rules print of it at that moment."""
    for event in _family(capture, root):
        told: Told = {}
        for alert in rules.match(event):
            told |= {name: _named_as_there(value) for name, value in alert.fields.items()}
        if told:
            yield event, told | {"evt.type": event.type.value}


def _named_as_there(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_named_as_there(part) for part in value]
    return value.replace(str(HOME), _CALLED) if isinstance(value, str) else value


def _family(capture: Capture, root: int) -> Iterator[Event]:
    """As `Capture.of_family`, until the process and all that descend from it have ended."""
    members = {root, *_children(root)}
    living = set(members)
    deadline = time.monotonic() + PATIENCE_S
    while living:
        assert time.monotonic() < deadline, f"not ended: {living}"
        batch = capture.source.read(4096)
        for raw in batch:
            mine = raw.pid in members
            if mine and raw.type in CLONES and raw.res > 0:
                index = EVENTS[raw.type].index
                child, thread = raw.params[index["child_pid"]], raw.params[index["child_tid"]]
                assert isinstance(child, int)
                if child == thread:
                    members.add(child)
                    living.add(child)
            event = capture.state.apply(raw) if mine or raw.type in STATE else None
            if mine and event is not None:
                yield event
            newborn, capture.state.newborn = capture.state.newborn, None
            if mine and newborn is not None:
                yield newborn
            if raw.type is EventType.PROCEXIT:
                living.discard(raw.pid)
        if not batch:
            capture.source.wait()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def by_act(log: Path, told: Sequence[tuple[Event, Told]]) -> dict[str, list[Told]]:
    """Events by the act in whose time they happened."""
    found: dict[str, list[Told]] = {}
    for line in log.read_text().splitlines():
        act, begin, end, _ = line.split()
        pre = log.name == "pre.log"
        found[act] = [
            fields
            for event, fields in told
            if ("tpxpre" in str(fields.get("proc.exepath")) or "preenv" in str(fields.get("proc.aenv[TPXVAR]"))) == pre
            and int(begin) <= event.ts_ns <= int(end)
        ]
    return found


def pairs(theirs: Sequence[Told], ours: Sequence[Told]) -> Iterator[tuple[Told, Told | None]]:
    """Each of their events, and the one of ours that is most like it, type by type and in order; None where there is
    none."""
    types = dict.fromkeys(told["evt.type"] for told in theirs)
    for type_ in types:
        a = [told for told in theirs if told["evt.type"] == type_]
        b = [told for told in ours if told["evt.type"] == type_]
        yield from _aligned(a, b)


def _unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    weights = sum(one.get(name) != other.get(name) for name in _SIGNATURE if name in one)
    return weights + 2 * (one.get("evt.res") != other.get("evt.res"))


def _aligned(a: Sequence[Told], b: Sequence[Told]) -> Iterator[tuple[Told, Told | None]]:
    cost = [[_GAP * (i + j) for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            cost[i][j] = min(
                cost[i - 1][j] + _GAP, cost[i][j - 1] + _GAP, cost[i - 1][j - 1] + _unlike(a[i - 1], b[j - 1])
            )
    found: list[tuple[Told, Told | None]] = []
    i, j = len(a), len(b)
    while i:
        if j and cost[i][j] == cost[i - 1][j - 1] + _unlike(a[i - 1], b[j - 1]):
            i, j = i - 1, j - 1
            found.append((a[i], b[j]))
        elif j and cost[i][j] == cost[i][j - 1] + _GAP:
            j -= 1
        else:
            i -= 1
            found.append((a[i], None))
    yield from reversed(found)
