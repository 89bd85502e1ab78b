"""`tercel status`: how the running appliance is.

Comes in: which appliance. Goes out: its books, sinks, rules and health, for people or as JSON. Exit status 0: it is
well; 1: nobody answered; 3: it answers and is not well.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from appliance.cli.asking import add_socket_options, ask
from appliance.cli.terminal import print_diagnostics
from appliance.daemon.control import diagnostic_from_json
from appliance.model.text import printable

Json = Mapping[str, Any]
NOT_WELL = 3  # as systemctl status says of a unit that does not run well


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser(
        "status",
        help="how the running appliance is: events, alerts, losses, outputs, rules",
        description="Ask the running appliance how it is. Exit status 0: it is well; 1: no appliance answered; 3: it"
        " answered, and something is wrong.",
    )
    add_socket_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(verb=run)


def run(args: argparse.Namespace) -> int:
    """Ask and print."""
    status = ask(args, "status")
    if status is None:
        return 1
    if args.json:
        print(json.dumps(status))
    else:
        for line in text_of(status):
            print(line)
        last = status["reloads"]["last"]
        if last is not None and not last["accepted"]:
            print_diagnostics(diagnostic_from_json(d) for d in last["diagnostics"])
    return 0 if status["healthy"] else NOT_WELL


def text_of(status: Json) -> Iterator[str]:
    """The lines for people."""
    versions, generation = status["versions"], status["generation"]
    yield (
        f"Tercel {versions['tercel_version']} on {printable(status['hostname'])}, pid {status['pid']}, up"
        f" {duration(status['seconds'])}: {'well' if status['healthy'] else 'NOT WELL'}"
    )
    for trouble in status["troubles"]:
        yield _line("trouble", trouble)
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(generation["made_ns"] / 1e9))
    yield _line("generation", f"{generation['number']}, since {made}; {generation['warnings']} warnings")
    options = ", ".join(map(printable, generation.get("config_options", ())))
    config = generation["config"] or "built-in defaults"
    yield _line("config", f"{config} ({generation['config_sha256'][:12]}){options and f' and -o {options}'}")
    files = ", ".join(generation["rules_files"]) or "no file"
    rules = f"{generation['rules_enabled']} of {generation['rules_loaded']} enabled"
    yield _line("rules", f"{rules}, from {files} ({generation['rules_sha256'][:12]})")
    yield _line("reloads", _reloads(status["reloads"]))
    yield _line("hooks", status["hooks"])
    if (events := status["events"]) is not None:
        yield from _events(events, status["seconds"])
    if (alerts := status["alerts"]) is not None:
        yield from _alerts(alerts)
    if (state := status["state"]) is not None:
        yield _line("state", f"{state['processes']} processes, {state['containers']} containers known")
        if state["missing"]:
            yield _line("missing", ", ".join(f"{why} {n}" for why, n in sorted(state["missing"].items())))
    if (audit := status["audit"]) is not None:
        yield _line("audit", _audit(audit))
    for sink in status["sinks"]:
        yield _line("sink", _sink(sink))
    process = status["process"]
    yield _line(
        "process",
        f"{process['rss_bytes'] / 2**20:.0f} MiB, {process['cpu_seconds']:.1f} s of CPU"
        f" ({100 * process['cpu_seconds'] / max(status['seconds'], 0.001):.1f} %)",
    )


def _line(label: str, text: str) -> str:
    return f"  {label:<11}{printable(text)}"


def _reloads(reloads: Json) -> str:
    last = reloads["last"]
    text = f"{reloads['accepted']} accepted, {reloads['refused']} refused"
    if last is None:
        return text
    what = "; ".join(last["changes"]) or "nothing had changed"
    return f"{text}; the last {f'accepted ({what})' if last['accepted'] else 'REFUSED, as told below'}"


def _events(events: Json, seconds: float) -> Iterator[str]:
    rate = events["produced"] / max(seconds, 0.001)
    yield _line(
        "events",
        f"produced {events['produced']} ({rate:.0f}/s), judged {events['judged']}, lost {events['lost']}, in flight"
        f" {events['in_flight']}",
    )
    if (canary := events["canary"]) is not None:
        yield _line("canary", _canary(canary))
    if events["lost"]:
        last = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime((events["last_loss_ns"] or 0) / 1e9))
        yield _line("", f"of the lost {events['unfair']} unfair, {events['untold']} not told yet; the last at {last}")
    if events["undecodable"] or events["compat"]:
        yield _line("", f"undecodable {events['undecodable']}, 32-bit calls not decoded {events['compat']}")
    busiest = sorted(events["by_type"].items(), key=lambda item: -item[1]["produced"])[:5]
    yield _line("", "most: " + ", ".join(f"{name} {book['produced']}" for name, book in busiest))


def _canary(canary: Json) -> str:
    if canary["age_s"] is None:
        return "none has come through yet"
    text = f"came through {canary['age_s']:.0f} s ago after {canary['latency_ms'] or 0:.1f} ms; {canary['seen']} in all"
    return text + (f", {canary['late']} LATE" if canary["late"] else "")


def _alerts(alerts: Json) -> Iterator[str]:
    priorities = ", ".join(f"{name} {n}" for name, n in alerts["by_priority"].items())
    yield _line("alerts", f"{alerts['total']}{f' ({priorities})' if priorities else ''}")
    for rule, count in list(alerts["by_rule"].items())[:10]:
        yield _line("", f"{count:>6}  {rule}")
    for rule, count in alerts["errors"].items():
        yield _line("errors", f"{count} in rule {rule}: please report them")


def _audit(audit: Json) -> str:
    text = f"{audit['where']}: judged {audit['taken']}, waiting {audit['waiting']}, refused for now {audit['refused']}"
    reasons = "; ".join(f"{n} {why}" for why, n in audit["reasons"].items())
    return f"{text}, lost {audit['lost']}" + (f" ({reasons})" if reasons else "")


def _sink(sink: Json) -> str:
    text = f"{sink['name']}: delivered {sink['delivered']}, lost {sink['lost']}, waiting {sink['waiting']}"
    reasons = "; ".join(f"{n} {why}" for why, n in sink["reasons"].items())
    if sink["dead"]:
        text += f", refused for good {sink['dead']}"
    text += f" ({reasons})" if reasons else ""
    if (spool := sink["spool"]) is not None:
        text += f"; spool {spool['alerts']}, {spool['size_bytes'] / 2**20:.1f} of {spool['max_bytes'] / 2**20:.0f} MiB"
    text += f"; {sink['where']}" if sink["where"] else ""
    return f"{text}; NOW: {sink['trouble']}" if sink["trouble"] else text


def duration(seconds: float) -> str:
    """`3 d 4 h`, `12 min 5 s`: the two largest units."""
    parts: list[str] = []
    left = int(seconds)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
