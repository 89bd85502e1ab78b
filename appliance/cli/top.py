"""`tercel top`: the running appliance, live, on a terminal of 80 columns.

Comes in: which appliance; keys. Goes out: a screen, drawn anew every interval. Never: more lines or columns than the
terminal has, or a control character of the host's. Without a terminal it prints one screen as plain lines.

Plain ANSI sequences that every terminal of the last forty years takes; the alternate screen, so that the shell's is
given back as it was.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from appliance.cli.asking import add_socket_options, connect
from appliance.cli.status import duration
from appliance.cli.terminal import coloured, say
from appliance.daemon.control import ControlClient, ControlError
from appliance.model.text import printable

Json = Mapping[str, Any]
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[2J", "\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_BOLD, _RED, _PLAIN = "\x1b[1m", "\x1b[1;31m", "\x1b[0m"
_RULES, _SINKS, _TYPES = 6, 6, 5
_WIDTH, _HEIGHT = 80, 24


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser(
        "top",
        help="watch the running appliance: alerts, rules by cost, events per second, losses, outputs",
        description="A live view of the running appliance. q ends it, p pauses it, + and - change the interval.",
    )
    add_socket_options(parser)
    parser.add_argument(
        "-d", "--interval", type=float, default=2.0, metavar="SECONDS", help="refresh interval in seconds (default: 2)"
    )
    parser.set_defaults(verb=run)


def run(args: argparse.Namespace) -> int:
    """Look until `q`; once where standard output is no terminal."""
    client = connect(args)
    if client is None:
        return 1
    interval_s = min(max(args.interval, 0.2), 3600.0)
    try:
        with client:
            if not (sys.stdin.isatty() and sys.stdout.isatty()):
                before = client.ask("top")
                time.sleep(interval_s)
                for line in screen(client.ask("top"), before, _WIDTH, 1000):
                    print(line)
                return 0
            with _terminal():
                _watch(client, interval_s)
    except ControlError as error:
        say(f"error: {printable(str(error))}")
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _watch(client: ControlClient, interval_s: float) -> None:
    before = now = client.ask("top")
    paused = False
    colours = coloured(sys.stdout)
    while True:
        width, height = os.get_terminal_size(sys.stdout.fileno())
        note = f"every {interval_s:g} s, q ends, p pauses, + - interval" if not paused else "paused, p goes on, q ends"
        lines = [*screen(now, before, width, height - 1), note[:width]]
        _draw(lines, colours)
        key = _key(interval_s)
        if key in ("q", "Q", "\x03", "\x04"):
            return
        if key == "p":
            paused = not paused
        elif key in ("+", "-"):
            interval_s = min(max(interval_s * (2 if key == "-" else 0.5), 0.25), 60.0)
        if not paused:
            fresh = client.ask("top")
            if fresh["time_ns"] != now["time_ns"]:
                before, now = now, fresh


def _draw(lines: list[str], colours: bool) -> None:
    shown = []
    for line in lines:
        mark = ""
        if colours:
            mark = _RED if line.startswith("! ") else _BOLD if line[:1].isupper() else ""
        shown.append(f"{mark}{line}{_PLAIN if mark else ''}{_CLEAR_LINE}")
    sys.stdout.write(_HOME + "\n".join(shown) + _CLEAR_BELOW)
    sys.stdout.flush()


def _key(patience_s: float) -> str:
    """The key that was pressed within that time, or an empty text; a change of the window's size ends it, too."""
    ready, _, _ = select.select([sys.stdin], [], [], patience_s)
    if not ready:
        return ""
    read = os.read(sys.stdin.fileno(), 16)
    return read[:1].decode("ascii", errors="replace") if read else "q"


@contextmanager
def _terminal() -> Iterator[None]:
    """The alternate screen and keys as they are pressed; put back whatever ends us."""
    fd = sys.stdin.fileno()
    keep = termios.tcgetattr(fd)

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    try:
        tty.setcbreak(fd)
        sys.stdout.write(_ENTER)
        yield
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        termios.tcsetattr(fd, termios.TCSADRAIN, keep)


def screen(now: Json, before: Json, width: int, height: int) -> list[str]:
    """The lines of one view, none longer than `width`, at most `height`. `before` is an earlier look, for rates."""
    lines = [*_head(now, before), "", *_rules(now, before), "", *_sinks(now)]
    room = height - len(lines) - 2
    if room > 0:
        lines += ["", *_recent(now, room)]
    return [printable(line)[:width] for line in lines[:height]]


def _rate(now: int, before: int, seconds: float) -> str:
    return f"{(now - before) / seconds:,.0f}/s" if seconds > 0 else "-"


def _head(now: Json, before: Json) -> Iterator[str]:
    seconds = (now["time_ns"] - before["time_ns"]) / 1e9
    state = "well" if now["healthy"] else "NOT WELL"
    clock = time.strftime("%H:%M:%S", time.localtime(now["time_ns"] / 1e9))
    yield (
        f"Tercel {now['versions']['tercel_version']} on {now['hostname']}: {state}   {clock}   up"
        f" {duration(now['seconds'])}   generation {now['generation']['number']}"
    )
    for trouble in now["troubles"]:
        yield f"! {trouble}"
    process, earlier = now["process"], before["process"]
    cpu = 100 * (process["cpu_seconds"] - earlier["cpu_seconds"]) / seconds if seconds > 0 else 0.0
    events, past = now["events"], before["events"]
    if events is None or past is None:
        yield "! no numbers: the loop does not answer"
        return
    lost = events["lost"] - past["lost"]
    yield (
        f"events {_rate(events['produced'], past['produced'], seconds)} of {events['produced']:,}   in flight"
        f" {events['in_flight']:,}   cpu {cpu:.0f} %   memory {process['rss_bytes'] / 2**20:.0f} MiB"
    )
    yield f"{'! ' if lost else ''}lost {_rate(events['lost'], past['lost'], seconds)} of {events['lost']:,}" + (
        f"   undecodable {events['undecodable']:,}" if events["undecodable"] else ""
    )
    if (canary := events.get("canary")) is not None and canary["age_s"] is not None:
        late = f", {canary['late']:,} late" if canary["late"] else ""
        yield f"canary {canary['age_s']:.0f} s ago after {canary['latency_ms'] or 0:.1f} ms{late}"
    rates = {
        name: book["produced"] - past["by_type"].get(name, {"produced": 0})["produced"]
        for name, book in events["by_type"].items()
    }
    busiest = sorted(rates.items(), key=lambda item: -item[1])[:_TYPES]
    yield from _hooks(now, before, seconds)
    yield "most   " + "  ".join(f"{name} {_rate(count, 0, seconds)}" for name, count in busiest if count)


def _hooks(now: Json, before: Json, seconds: float) -> Iterator[str]:
    """What our programs took in the kernel since the last look, where the kernel counts it."""
    past = {hook["hook"]: hook for hook in before.get("hooks_cost", ())}
    for hook in now.get("hooks_cost", ()):
        earlier = past.get(hook["hook"], {"runs": 0, "run_ns": 0})
        runs, spent_ns = hook["runs"] - earlier["runs"], hook["run_ns"] - earlier["run_ns"]
        if runs > 0 and seconds > 0:
            yield f"hook   {hook['hook']} {runs / seconds:,.0f}/s, {spent_ns / runs:,.0f} ns each"


def _rules(now: Json, before: Json) -> Iterator[str]:
    alerts = now["alerts"] or {"by_rule": {}}
    past = (before["alerts"] or {"by_rule": {}})["by_rule"]
    costs = {row["rule"]: row for row in now.get("costs", ())}
    names = dict.fromkeys([*costs, *alerts["by_rule"]])
    yield f"{'RULE':<46}{'ALERTS':>10}{'NEW':>8}{'COST':>8}{'SHARE':>8}"
    ranked = sorted(
        names,
        key=lambda rule: (-costs.get(rule, {"share": 0.0})["share"], -alerts["by_rule"].get(rule, 0), rule),
    )
    for rule in ranked[:_RULES]:
        count = alerts["by_rule"].get(rule, 0)
        cost = costs.get(rule)
        told = f"{cost['ns']:>6.0f}ns{100 * cost['share']:>6.1f} %" if cost else f"{'-':>8}{'-':>8}"
        yield f"{rule[:45]:<46}{count:>10,}{count - past.get(rule, 0):>8,}{told}"


def _sinks(now: Json) -> Iterator[str]:
    yield f"{'SINK':<46}{'DELIVERED':>10}{'LOST':>8}{'WAITING':>16}"
    for sink in now["sinks"][:_SINKS]:
        mark = "! " if sink["trouble"] or sink["stuck_s"] > 10 else ""
        yield f"{mark}{sink['name'][:44]:<46}{sink['delivered']:>10,}{sink['lost']:>8,}{sink['waiting']:>16,}"


def _recent(now: Json, room: int) -> Iterator[str]:
    yield "LATEST ALERTS"
    recent = now["alerts"]["recent"] if now["alerts"] else []
    for alert in reversed(recent[-(room - 1) :] if room > 1 else []):
        clock = time.strftime("%H:%M:%S", time.localtime(alert["time_ns"] / 1e9))
        yield f"{clock} {alert['priority']:<9.9} {alert['rule']}: {alert['output']}"
