"""What `tercel hub` does, action by action.

Comes in: settings and where to print. Goes out: an exit status. Never: a character of a stranger's that acts on a
terminal.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from appliance.hub.fleet.table import read_hosts
from appliance.hub.ingest.app import test_alert
from appliance.hub.journal.base import JournalError
from appliance.hub.journal.sqlite import SqliteJournal
from appliance.hub.load import load_with_notes
from appliance.hub.outputs.base import Verdict
from appliance.hub.outputs.dead import DeadLetters
from appliance.hub.outputs.event import event, to_bytes
from appliance.hub.outputs.table import kinds, remedy
from appliance.hub.outputs.worker import send_once
from appliance.hub.run import run
from appliance.hub.settings import HubSettings
from appliance.hub.status import StatusFile
from appliance.model.diagnostic import ConfigError, Diagnostic
from appliance.model.text import printable

_FRESH_NS = 10_000_000_000
_EXPORT_STEP = 2000


def load(path: Path | None, overrides: Sequence[str], *, sidekick: bool) -> tuple[HubSettings, Sequence[str]]:
    """The settings of a file, ours or Falcosidekick's, and notes on what differs. Raises `ConfigError`."""
    settings, notes = load_with_notes(path, overrides=overrides, sidekick=sidekick)
    return settings, notes


def run_hub(settings: HubSettings, load_again: Callable[[], HubSettings]) -> int:
    """Run it until it is asked to end."""
    return run(settings, load_again)


def describe(settings: HubSettings) -> str:
    """One line about a configuration."""
    outputs = ", ".join(f"{name} ({one.type})" for name, one in settings.outputs.items()) or "none"
    collector = settings.collector
    return f"collector {collector.address}:{collector.port}; data {settings.data_dir}; outputs: {outputs}"


def status_of(settings: HubSettings, now_ns: int | None = None) -> dict[str, Any]:
    """How the hub is: `running`, `collect`, `outputs`, `hosts`, and `well`, whether all is."""
    now_ns = time.time_ns() if now_ns is None else now_ns
    if not (settings.data_dir / "status.sqlite").exists():
        return {"running": False, "well": False, "collect": {}, "outputs": [], "hosts": []}
    status = StatusFile(settings.data_dir)
    try:
        rows = status.read()
    finally:
        status.close()
    collect = rows.get("collect", {})
    running = now_ns - int(collect.get("at_ns", 0)) < _FRESH_NS
    outputs = [dict(facts) for name, facts in rows.items() if name.startswith("output:")]
    for one in outputs:
        if now_ns - int(one["at_ns"]) > _FRESH_NS:
            one["state"] = "not running"
    hosts = [asdict(host) for host in read_hosts(settings.data_dir)]
    well = (
        running
        and not collect.get("journal", {}).get("trouble")
        and all(one["state"] == "ok" for one in outputs)
        and not any(host["reported"] for host in hosts)
    )
    return {"running": running, "well": well, "collect": collect, "outputs": outputs, "hosts": hosts}


def print_status(settings: HubSettings, stream: TextIO, *, as_json: bool = False) -> int:
    """Print it; 0 where all is well, 3 where it runs and is not, 1 where it does not run."""
    told = status_of(settings)
    code = 0 if told["well"] else 3 if told["running"] else 1
    if as_json:
        print(json.dumps(told), file=stream)
        return code
    if not told["running"]:
        print(f"the hub does not run over {settings.data_dir}", file=stream)
    for line in _lines(told):
        print(printable(line), file=stream)
    return code


def _lines(told: Mapping[str, Any]) -> Sequence[str]:
    collect = told["collect"]
    lines: list[str] = []
    if collect:
        journal = collect.get("journal", {})
        lines.append(
            f"collector  alerts {collect['alerts']}, duplicates {collect['duplicates']}, "
            f"refused {sum(collect['refused'].values())}, hosts {collect['hosts']}"
        )
        lines.append(
            f"journal    positions {journal['first_seq']} to {journal['last_seq']}, "
            f"{journal['size_bytes'] / 1e6:.1f} MB, "
            f"last commit {journal['fsync_ms']:.1f} ms{'; ' + journal['trouble'] if journal['trouble'] else ''}"
        )
    for one in told["outputs"]:
        failed = sum(one["failed"].values())
        lines.append(
            f"output     {one['name']} ({one['type']}): {one['state']}, delivered {one['delivered']}, lag {one['lag']}"
            f" ({one['lag_s']:.0f} s), failed {failed}, "
            f"retried {one['retried']}, dead {one['dead']}, lost {one['lost']}"
        )
        if one["trouble"]:
            lines.append(f"           {one['trouble']}")
    hosts = told["hosts"]
    lines.append(f"hosts      {len(hosts)}, with reports {sum(bool(host['reported']) for host in hosts)}")
    for host in hosts:
        if host["reported"]:
            names = ", ".join(what.partition(":")[0] for what in host["reported"])
            lines.append(f"           {host['hostname']} ({host['kind']}): {names}")
    return lines


def send_test(settings: HubSettings, name: str | None, stream: TextIO) -> int:
    """Send a test alert to one output or to all, past the journal; 1 where one of them does not take it."""
    wanted = [name] if name else list(settings.outputs)
    _known(wanted, settings)
    failed = 0
    for one in wanted:
        output = settings.outputs[one]
        try:
            outcome = asyncio.run(send_once(output, kinds()[output.type], test_alert()))
            done, reason = outcome.verdicts[0] is Verdict.DONE, outcome.reason
        except ImportError as error:
            done, reason = False, f"{error.name} is not installed: {remedy(kinds()[output.type].extra)}"
        except Exception as error:  # whatever a client's library raises is the answer to the question
            done, reason = False, f"{type(error).__name__}: {error}"
        failed += not done
        print(printable(f"{one}: {'delivered' if done else f'failed: {reason}'}"), file=stream)
    if not wanted:
        print("there are no outputs", file=stream)
    return 1 if failed else 0


def _known(wanted: Sequence[str], settings: HubSettings) -> None:
    """Raise `ConfigError` where one of them is no output."""
    known = ", ".join(settings.outputs) or "none"
    for name in wanted:
        if name not in settings.outputs:
            message = f"there is no output `{name}`"
            raise ConfigError([Diagnostic("unknown-output", message, hint=f"the outputs are: {known}")])


def replay_dead(settings: HubSettings, name: str | None, stream: TextIO) -> int:
    """Ask the running hub, or the next one, to deliver dead letters again; of all outputs without a name."""
    wanted = [name] if name else list(settings.outputs)
    _known(wanted, settings)
    for one in wanted:
        count = DeadLetters(settings.data_dir, one).ask_replay()
        print(printable(f"{one}: {count} dead letters are delivered again"), file=stream)
    return 0


def export(settings: HubSettings, stream: BinaryIO, *, after: int = 0, limit: int = 0) -> int:
    """Print what the journal has, a line for each alert: the event, its position and the time it came."""
    if not (settings.data_dir / "journal").is_dir():
        raise ConfigError([Diagnostic("no-journal", f"there is no journal in `{settings.data_dir}`", hint="give "
                                      "the hub's configuration with -c, or -o data_dir=DIR")])  # fmt: skip
    journal = SqliteJournal(settings.data_dir / "journal", settings.journal)
    try:
        left = limit or 1 << 62
        while left > 0 and (alerts := journal.read(after, min(_EXPORT_STEP, left))):
            lines = [to_bytes(event(one) | {"seq": one.seq, "received_ns": one.received_ns}) for one in alerts]
            stream.write(b"\n".join(lines) + b"\n")
            after = alerts[-1].seq
            left -= len(alerts)
        stream.flush()
    except JournalError as error:
        raise ConfigError([Diagnostic("journal", str(error))]) from error
    finally:
        journal.close()
    return 0
