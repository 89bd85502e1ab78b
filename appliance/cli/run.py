"""`tercel run`: the appliance in the foreground.

Comes in: a configuration. Goes out: alerts to the sinks, a banner and a summary on standard error. Never: a start
with a rule file or a setting that is wrong.
"""

from __future__ import annotations

import argparse
import atexit
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from appliance import __version__
from appliance.cli.flags import add_flags, answer, options, sources_problem
from appliance.cli.loading import add_rule_options
from appliance.cli.logs import BackgroundHandler, LineFormatter, LocalSyslogHandler
from appliance.cli.terminal import print_diagnostics, print_notes, printable_lines, say
from appliance.config.files import default_config
from appliance.config.load import load_config
from appliance.config.settings import LOG_LEVELS, Config
from appliance.daemon.generation import Generation, build_generation
from appliance.daemon.identity import hostname, id_maker, internal_alerts
from appliance.daemon.loop import Summary
from appliance.host.files import open_own
from appliance.host.systemd import JournalFormatter, logs_to_journal
from appliance.kernel.loader import Books
from appliance.model.diagnostic import DiagnosticsError, TercelError
from appliance.model.text import printable, why
from appliance.sinks.base import Sink
from appliance.sinks.build import build_dispatcher, build_sinks
from appliance.sinks.dispatch import Dispatcher, SinkStats

_LABEL_WIDTH = 10
_HURRY_S = 0.2  # for the outputs, when a second signal asks for the end
_LOG_S = 1.0  # for the log, before the account


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser(
        "run",
        help="watch this machine and write alerts, until interrupted",
        description="Watch the system calls of this machine and write alerts to the configured outputs. Needs root, or"
        " the four capabilities of its unit.",
    )
    add_rule_options(parser)
    add_flags(parser)
    parser.set_defaults(verb=run)


def run(args: argparse.Namespace) -> int:
    """Run until SIGINT or SIGTERM. 0 after a clean end, 1 where nothing could start."""
    if (problem := sources_problem(args)) is not None:
        say(f"error: {problem}")
        return 1
    if (status := answer(args)) is not None:
        return status
    # from appliance.daemon.assemble: it reaches the kernel room, which other verbs never import
    from appliance.daemon.assemble import arm
    from appliance.daemon.service import Service

    host = hostname()
    new_id = id_maker(host)

    def load() -> Config:
        given = [*args.option, *options(args)]
        return load_config(args.config or default_config(), overrides=given, rules_files=args.rules)

    try:
        config = load()
        log = start_log(config)
        generation = build_generation(config, hostname=host, new_id=new_id)
        sinks = build_sinks(config, sys.stdout)
        dispatcher = build_dispatcher(config, sinks, internal_alerts(host, new_id))
    except DiagnosticsError as error:
        print_diagnostics(error.diagnostics)
        return 1
    print_diagnostics(generation.warnings)
    print_notes(config.notes)
    timeout_s = max(1.0, config.output_timeout_ms / 1000)
    with delivering(dispatcher, timeout_s):
        try:
            appliance = arm(generation, dispatcher, sys.stdout, hostname=host, new_id=new_id)
        except (TercelError, OSError, RuntimeError) as error:  # the kernel, or no process or thread to be started
            say(f"error: {printable_lines(str(error))}")
            dispatcher.close(timeout_s=1)
            return 1
        service = Service(appliance, generation, load=load, hostname=host, new_id=new_id)
        service.start()
        _banner(generation, sinks, appliance.describe())
        with _ending_after(args.seconds), pidfile(args.pidfile):
            summary = service.run()
    stats = dispatcher.close(timeout_s=_HURRY_S if appliance.loop.hurried else timeout_s)
    log.drain(_LOG_S)
    for text in account(summary, stats, dispatcher.flood_stats()):
        say(text)
    return 1 if summary.gave_up else 0


@contextmanager
def _ending_after(seconds: float | None) -> Iterator[None]:
    """Ask the process to end, as its operator would, after so many seconds."""
    timer = threading.Timer(seconds or 0, os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    if seconds is not None:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def delivering(dispatcher: Dispatcher, timeout_s: float) -> Iterator[None]:
    """An error of ours that ends the run takes no alert with it: those that wait are delivered before it goes on."""
    try:
        yield
    except BaseException:
        dispatcher.close(timeout_s=timeout_s)
        raise


@contextmanager
def pidfile(path: Path | None) -> Iterator[None]:
    """The process id in a file, as long as this lasts. One that another appliance has written meanwhile stays."""
    if path is not None:
        try:
            with os.fdopen(open_own(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), "w") as file:
                file.write(f"{os.getpid()}\n")
        except OSError as error:
            logging.getLogger(__name__).warning("pidfile: cannot write %s: %s", path, why(error))
            path = None
    try:
        yield
    finally:
        if path is not None:
            try:
                if path.read_text() == f"{os.getpid()}\n":
                    path.unlink()
            except FileNotFoundError:
                return
            except (OSError, UnicodeDecodeError) as error:
                logging.getLogger(__name__).warning("pidfile: cannot remove %s: %s", path, error)


def start_log(config: Config, syslog: str = "/dev/log") -> BackgroundHandler:
    """Falco's eight levels on the five of `logging`. The handler of standard error, whether it is in use or not."""
    handler = BackgroundHandler()
    handler.setFormatter(
        JournalFormatter("%(message)s") if logs_to_journal() else LineFormatter("tercel: %(levelname)s: %(message)s")
    )
    handlers: list[logging.Handler] = [handler] if config.log_stderr else []
    missing = ""
    if config.log_syslog:
        try:
            handlers.append(LocalSyslogHandler(syslog))
        except OSError as error:
            missing = why(error)
    logging.basicConfig(level=LOG_LEVELS[config.log_level], handlers=handlers or [logging.NullHandler()], force=True)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    if missing:
        logging.getLogger(__name__).warning("log_syslog: no syslog daemon at %s: %s", syslog, missing)
    atexit.register(handler.drain, _LOG_S)
    return handler


def _banner(generation: Generation, sinks: list[Sink], sources: Mapping[str, str]) -> None:
    config, loaded = generation.config, generation.loaded
    files = ", ".join(map(str, config.rules_files)) or "no file"
    lines = [
        ("config", str(config.path) if config.path else "built-in defaults"),
        ("rules", f"{len(generation.ruleset.rules)} of {len(loaded.rules)} enabled, from {files}"),
        *sources.items(),
        ("sinks", ", ".join(sink.describe() for sink in sinks) or "none: alerts are only counted"),
    ]
    say(f"Tercel {__version__}")
    for label, text in lines:
        say(f"  {label:<{_LABEL_WIDTH}}{printable(text)}")
    say("armed; end with ^C")


def account(summary: Summary, sinks: Iterable[SinkStats], flood: Mapping[str, int]) -> Iterator[str]:
    """The lines that a run ends with: `produced = judged + lost`, where what could not be made counts in both."""
    counts, books = summary.counts, summary.books
    made = books.produced + books.busy
    rate = made / summary.seconds if summary.seconds else 0.0
    yield ""
    yield f"ended after {summary.seconds:.1f} s"
    yield f"  events    produced {made} ({rate:.0f}/s), judged {counts.judged}, lost {books.lost}"
    if books.filtered:
        yield f"            filtered {books.filtered}: dropped in the kernel, as no rule can match them"
    if books.unread:
        yield f"            of the lost {books.unread} were left behind when the end had to come: {_types(books)}"
    if summary.difference or summary.undecodable:
        yield f"            undecodable {summary.undecodable}, unaccounted for {summary.difference}"
    if books.compat:
        yield f"            {books.compat} calls of 32-bit programs were not decoded"
    total = sum(counts.by_rule.values())
    priorities = ", ".join(f"{p.label} {n}" for p, n in sorted(counts.by_priority.items()))
    yield f"  alerts    {total}{f' ({priorities})' if priorities else ''}"
    for rule, count in counts.by_rule.most_common():
        yield f"            {count:>6}  {printable(rule)}"
    if flood["passed"] != flood["submitted"]:
        yield (
            f"  floods    {flood['grouped']} alerts grouped into {flood['summaries']}, "
            f"{flood['limited']} not sent beyond the rate"
        )
    for sink in sinks:
        reasons = "; ".join(f"{n} {printable(why)}" for why, n in sink.reasons.items())
        rest = (f", refused {sink.dead}" if sink.dead else "") + (f", waiting {sink.waiting}" if sink.waiting else "")
        yield (
            f"  sink      {sink.name}: delivered {sink.delivered}, lost {sink.lost}"
            f"{f' ({reasons})' if reasons else ''}{rest}"
        )
    if summary.missing:
        why = ", ".join(f"{printable(reason)} {n}" for reason, n in sorted(summary.missing.items()))
        yield f"  missing   {why}"
    if summary.waited_too_long or summary.pen_overflow:
        yield f"            {summary.waited_too_long + summary.pen_overflow} events judged without container facts"
    for seam, count in summary.faults.items():
        yield f"  errors    {count} internal in {printable(seam)}: please report them"
    for rule, count in summary.errors.items():
        yield f"  errors    {count} in rule {printable(rule)}: please report them"


def _types(books: Books) -> str:
    """What was left behind, by type."""
    left = sorted(((book.unread, type_.value) for type_, book in books.by_type.items() if book.unread), reverse=True)
    return ", ".join(f"{name} {count}" for count, name in left)
