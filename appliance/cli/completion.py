"""`tercel completion SHELL`: what bash, zsh and fish need to complete verbs, options and keys of the configuration.

Comes in: the parser, the schema. Goes out: a script for a shell, made of them. Never: a word that the parser does not
know.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from appliance.config.load import load_schema

SHELLS = ("bash", "zsh", "fish")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser(
        "completion",
        help="print a completion script for a shell",
        description="Print a script that completes verbs, options and keys of the configuration. For bash: tercel"
        " completion bash > /usr/share/bash-completion/completions/tercel",
    )
    parser.add_argument("shell", choices=SHELLS, help="for which shell")
    parser.set_defaults(verb=run)


def run(args: argparse.Namespace) -> int:
    """Print; 0."""
    print({"bash": bash, "zsh": zsh, "fish": fish}[args.shell](args.parser), end="")
    return 0


def verbs_of(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """The verbs with their parsers."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found: Mapping[str, argparse.ArgumentParser] = action.choices
            return found
    return {}


def keys_of(schema: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The keys of the configuration as `-o` takes them."""
    for name, part in schema.get("properties", {}).items():
        if "properties" in part:
            yield from keys_of(part, f"{above}{name}.")
        else:
            yield f"{above}{name}"


def _words(parser: argparse.ArgumentParser) -> list[str]:
    words: list[str] = []
    for action in parser._actions:
        words += action.option_strings
        if not action.option_strings and action.choices is not None and not isinstance(
            action, argparse._SubParsersAction
        ):  # fmt: skip
            words += map(str, action.choices)
    return words


def _file_options(parser: argparse.ArgumentParser) -> list[str]:
    """Options and arguments that take a path."""
    return [word for action in parser._actions if action.type is Path for word in action.option_strings]


def bash(parser: argparse.ArgumentParser) -> str:
    """For bash: a function `_tercel`, after an option that takes a file the shell's own completion of paths."""
    cases = "\n".join(
        f"        {name}) words={_quoted(' '.join(_words(verb)))} files={_quoted(' '.join(_file_options(verb)))};;"
        for name, verb in verbs_of(parser).items()
    )
    return f"""\
# Completion of tercel for bash: made by `tercel completion bash`.
_tercel() {{
    local cur="${{COMP_WORDS[COMP_CWORD]}}" prev="${{COMP_WORDS[COMP_CWORD-1]}}" words="" files="" verb="" w
    for w in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$w" in -*) ;; *) verb="$w"; break;; esac
    done
    case "$verb" in
{cases}
        *) words={_quoted(" ".join([*_words(parser), *verbs_of(parser)]))};;
    esac
    case "$prev" in
        -o|--option) compopt -o nospace; COMPREPLY=($(compgen -S = -W {_quoted(" ".join(keys_of(load_schema())))} -- "$cur")); return;;
    esac
    case " $files " in
        *" $prev "*) compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")); return;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    if [ -n "$verb" ] && [ "${{cur#-}}" = "$cur" ]; then
        compopt -o filenames
        COMPREPLY+=($(compgen -f -- "$cur"))
    fi
}}
complete -F _tercel tercel
"""  # noqa: E501


def zsh(parser: argparse.ArgumentParser) -> str:
    """For zsh: bash's function by zsh's own bridge."""
    return "#compdef tercel\nautoload -U +X bashcompinit && bashcompinit\n" + bash(parser)


def fish(parser: argparse.ArgumentParser) -> str:
    """For fish: a line for each verb and option."""
    lines = ["# Completion of tercel for fish: made by `tercel completion fish`."]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            lines += [
                f"complete -c tercel -n __fish_use_subcommand -f -a {c.dest} -d {_quoted(c.help or '')}"
                for c in action._choices_actions
            ]
    for name, verb in verbs_of(parser).items():
        for action in verb._actions:
            names = [f"-l {w[2:]}" if w.startswith("--") else f"-s {w[1:]}" for w in action.option_strings]
            if names:
                takes = "" if action.nargs == 0 else " -r"
                lines.append(
                    f"complete -c tercel -n '__fish_seen_subcommand_from {name}' {' '.join(names)}{takes}"
                    f" -d {_quoted((action.help or '').replace('%%', '%'))}"
                )
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
