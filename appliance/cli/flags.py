"""Falco's flags of `tercel run`: those that print something and end, and those that stand for configuration keys.

Comes in: the parser of `run`; its arguments. Goes out: an exit status where a flag has said all, options for the
configuration. Never: a flag that is taken and does nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from appliance import __version__
from appliance.catalog.fields import CLASSES
from appliance.cli import check, listing
from appliance.cli.loading import load_generation
from appliance.cli.show import find_rule
from appliance.cli.terminal import say
from appliance.config.load import SECRET_TEXTS, load_schema
from appliance.config.settings import Config
from appliance.daemon.generation import file_digests, files_of
from appliance.model.rule import Rule
from appliance.model.text import json_safe, printable

SOURCES = ("syscall", "k8s_audit")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Register them."""
    prints = parser.add_argument_group("print and end")
    prints.add_argument("-V", "--validate", type=Path, action="append", metavar="RULES",
                        help="check rules files, as `tercel check` does; may be given several times")  # fmt: skip
    prints.add_argument("-L", dest="all_rules", action="store_true", help="name and describe all rules")
    prints.add_argument("-l", dest="one_rule", metavar="RULE", help="name and describe a rule")
    prints.add_argument(
        "--list",
        nargs="?",
        const="syscall",
        metavar="SOURCE",
        help="list the fields of a source: syscall, or k8s_audit",
    )
    prints.add_argument("-N", dest="names_only", action="store_true", help="with --list: names alone")
    prints.add_argument("--list-events", action="store_true", help="list the events")
    prints.add_argument("--markdown", action="store_true", help="with --list, --list-events: a table in Markdown")
    prints.add_argument("--format", choices=["text", "markdown", "json"], default="text",
                        help="with --list, --list-events: how they are printed; `json` as Falco does")  # fmt: skip
    prints.add_argument("--config-schema", action="store_true", help="print the schema of the configuration")
    prints.add_argument("--support", action="store_true",
                        help="print diagnostic information for a bug report as JSON, without secrets")  # fmt: skip
    prints.add_argument("--page-size", action="store_true", help="print the size of a page of memory")
    prints.add_argument("--dry-run", action="store_true", help="check configuration and rules as a start would")
    sources = parser.add_mutually_exclusive_group()
    sources.add_argument("--disable-source", action="append", default=[], metavar="SOURCE",
                         help="disable an event source (only k8s_audit can be disabled)")  # fmt: skip
    sources.add_argument("--enable-source", action="append", default=[], metavar="SOURCE",
                         help="do without the other sources")  # fmt: skip
    parser.add_argument("-t", dest="only_tags", action="append", default=[], metavar="TAG",
                        help="judge rules with this tag alone; may be given several times")  # fmt: skip
    parser.add_argument("-T", dest="not_tags", action="append", default=[], metavar="TAG",
                        help="do without rules with this tag; may be given several times")  # fmt: skip
    parser.add_argument("-D", dest="not_names", action="append", default=[], metavar="TEXT",
                        help="do without rules that have this text in their name; may be given several times"
                        )  # fmt: skip
    parser.add_argument("-p", "--print", dest="extra_output", metavar="TEXT",
                        help="add this to every message: `on CPU %%evt.cpu`")  # fmt: skip
    parser.add_argument("-M", dest="seconds", type=_seconds, metavar="SECONDS", help="end after so many seconds")
    parser.add_argument("-P", "--pidfile", type=Path, metavar="FILE", help="write the process id there while running")
    parser.add_argument("-v", dest="verbose", action="store_true", help="log everything: log_level=debug")


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise ValueError
    return value


def options(args: argparse.Namespace) -> list[str]:
    """What flags say as options `key=value`, before those that were given as such."""
    made = []
    if args.only_tags:
        made.append(_switch("disable", rule="*"))
        made += [_switch("enable", tag=tag) for tag in args.only_tags]
    made += [_switch("disable", tag=tag) for tag in args.not_tags]
    made += [_switch("disable", rule=f"*{text}*") for text in args.not_names]
    if args.extra_output:
        made.append(f"append_output[]={json.dumps({'extra_output': args.extra_output})}")
    if "k8s_audit" in args.disable_source or (args.enable_source and "k8s_audit" not in args.enable_source):
        made.append("load_plugins=[]")  # the plugins that are built in have no other source
    if args.verbose:
        made.append("log_level=debug")
    return made


def _switch(verb: str, **target: str) -> str:
    return f"rules[]={json.dumps({verb: target})}"


def sources_problem(args: argparse.Namespace) -> str | None:
    """What is wrong with the choice of sources, or None."""
    named = [*args.disable_source, *args.enable_source]
    for name in named:
        if name not in SOURCES:
            near = get_close_matches(name, SOURCES, 1)
            hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(SOURCES)}"
            return f"there is no source `{printable(name)}`: {hint}"
    if set(SOURCES) <= set(args.disable_source):
        return "every source is disabled: nothing would be watched"
    if "syscall" in args.disable_source or (args.enable_source and "syscall" not in args.enable_source):
        return "system calls are always watched: `syscall` cannot be disabled"
    return None


def answer(args: argparse.Namespace) -> int | None:
    """Print what a flag asks for; the exit status, or None where none does."""
    if args.page_size:
        print(resource.getpagesize())
        return 0
    if args.config_schema:
        print(json.dumps(load_schema(), indent=2))
        return 0
    if args.list is not None or args.list_events:
        return _list(args)
    if args.validate:
        given = argparse.Namespace(
            config=None, option=[], rules=args.validate, json=False, falco_json=_json(args), falco=False, all=True
        )
        return check.run(given)
    if args.all_rules or args.one_rule is not None or args.support or args.dry_run:
        return _of_rules(args)
    return None


def _json(args: argparse.Namespace) -> bool:
    return any(text.replace(" ", "") == "json_output=true" for text in args.option)


def _list(args: argparse.Namespace) -> int:
    if args.list is not None and args.list not in SOURCES:
        say(f"error: there is no source `{printable(args.list)}`: known here: {', '.join(SOURCES)}")
        return 1
    if args.list is not None and args.names_only:
        print("\n".join(row.name for rows in CLASSES.values() for row in rows if args.list in row.sources))
        return 0
    if args.format == "json":
        found = listing.falco_events() if args.list is None else listing.falco_fields(args.list)
        print(json.dumps(found, indent=2))
        return 0
    listing.print_rows(args.list, as_json=_json(args), markdown=args.markdown or args.format == "markdown")
    return 0


def _of_rules(args: argparse.Namespace) -> int:
    generation = load_generation(args, *options(args))
    if generation is None:
        return 1
    config, rules = generation.config, generation.loaded.rules
    if args.support:
        print(json.dumps(_support(config), indent=2))
    elif args.one_rule is not None:
        rule = find_rule(rules, args.one_rule)
        if rule is None:
            return 1
        _describe((rule,), as_json=config.json_output)
    elif args.all_rules:
        _describe(rules, as_json=config.json_output)
    else:
        judged = len(generation.ruleset.rules)
        say(f"ok: {config.path or 'built-in defaults'}: {judged} of {len(rules)} rules enabled; nothing was started")
    return 0


def _describe(rules: tuple[Rule, ...], *, as_json: bool) -> None:
    if as_json:
        facts = [{"name": json_safe(r.name), "description": json_safe(r.desc.strip()), "priority": r.priority.label,
                  "source": r.source, "tags": list(map(json_safe, r.tags)), "enabled": r.enabled,
                  "condition": json_safe(str(r.condition)), "output": json_safe(r.output.text)}
                 for r in rules]  # fmt: skip
        print(json.dumps({"rules": facts}, indent=2))
        return
    width = max((len(printable(r.name)) for r in rules), default=4) + 2
    for rule in rules:
        print(f"{printable(rule.name):<{width}}{printable(' '.join(rule.desc.split()))}")


def _support(config: Config) -> dict[str, object]:
    system = platform.uname()
    digests = file_digests(files_of(config))
    return {
        "version": __version__,
        "python": platform.python_version(),
        "system_info": {"machine": system.machine, "release": system.release, "sysname": system.system,
                        "version": system.version},
        "cmdline": [_shown(word) for word in sys.argv],
        "config": str(config.path) if config.path else None,
        "files": [{"path": str(path), "sha256": digest or None} for path, digest in digests.items()],
        "notes": [note.render() for note in config.notes],
        "sinks": sorted(_enabled(config)),
        "uid": os.geteuid(),
    }  # fmt: skip


def _enabled(config: Config) -> Iterator[str]:
    for name in ("stdout", "syslog", "file", "http", "program", "journald"):
        if getattr(config, f"{name}_output").enabled:
            yield f"{name}_output"


def _shown(word: str) -> str:
    """An argument of the command line, without the values of keys that hold secrets."""
    key, equals, _ = word.partition("=")
    return f"{key}=(not shown)" if equals and any(key.endswith(k) or k.startswith(key) for k in SECRET_TEXTS) else word
