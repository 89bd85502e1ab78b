"""Which program a process is: the file that it runs, or the script that this file interprets.

Comes in: a process. Goes out: the program's path, the name it would have by it. Never: a look at the disk.

What a process calls itself is its own choice, and a symbolic link called sshd that leads to cat makes a process called
sshd whose file is one of the system. So rules that trust a name ask whether the program has that name, too.
"""

from __future__ import annotations

import re
from functools import lru_cache

from appliance.model.event import Process

_COMM = 15  # bytes of a name that the kernel keeps

_SHELL = "shell"
_INTERPRETER = re.compile(
    r"(?P<shell>(?:ba|da|a|k|mk|z)?sh)|(?P<python>(?:platform-)?python[0-9.]*)|(?P<perl>perl[0-9.]*)|"
    r"(?P<ruby>ruby[0-9.]*)|(?P<other>php[0-9.]*|lua[0-9.]*|node|nodejs|tclsh[0-9.]*)"
)

# Letters of options that take no value and are not code: what stands behind them is the script.
_FLAGS = {
    _SHELL: frozenset("aefhkmnuvxpPlrBCEHT"),
    "python": frozenset("bBdEhIOPqsSuvVx"),
    "perl": frozenset("wWtTXsUu"),
    "ruby": frozenset("wW"),
    "other": frozenset[str](),
}

# Whose files may be believed to be what they are called. A python in a folder of a user is a file like any other.
_SYSTEM = ("/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin", "/usr/libexec")

# Binaries that are many programs, and are the one that the first argument names.
_APPLETS = frozenset({"busybox", "toybox"})
_BY_FIRST_ARGUMENT = _APPLETS | {
    "e2fsck", "kmod", "lvm", "mke2fs", "udevadm", "xtables-legacy-multi", "xtables-nft-multi",
}  # fmt: skip


def program_of(process: Process) -> str | None:
    """The path of the script, where the running file is an interpreter of the system that was given one by an absolute
    path; None where an interpreter runs something else (a text, its input, a relative path); else the running file."""
    path = process.exepath
    if path is None:
        return None
    kind, name = _kind(path)
    if name in _APPLETS:
        applet, args = _applet(process, name)
        return _script(_SHELL, args) if applet in ("sh", "ash") else path
    return path if kind is None else _script(kind, process.args)


def has_own_name(process: Process) -> bool | None:
    """Whether the process is called as its program is, as far as the kernel keeps a name (15 bytes)."""
    if process.name is None or process.exepath is None:
        return None
    _, name = _kind(process.exepath)
    if name in _BY_FIRST_ARGUMENT:
        return process.name == _cut(_applet(process, name)[0])
    program = program_of(process)
    return program is not None and process.name == _cut(program.rpartition("/")[2])


@lru_cache(4096)
def _kind(path: str) -> tuple[str | None, str]:
    """What kind of interpreter a file is, None for no interpreter, and the file's name."""
    folder, _, name = path.rpartition("/")
    found = _INTERPRETER.fullmatch(name) if folder in _SYSTEM else None
    return (None if found is None else found.lastgroup), (name if folder in _SYSTEM else "")


def _script(kind: str, args: tuple[str, ...]) -> str | None:
    for argument in args:
        if argument.startswith("/"):
            return argument
        if not argument.startswith("-") or not _FLAGS[kind].issuperset(argument[1:]) or argument == "-":
            return None
    return None


def _applet(process: Process, name: str) -> tuple[str, tuple[str, ...]]:
    """The program within a binary that is many, and its arguments."""
    called = (process.exe or "").rpartition("/")[2].removeprefix("-")
    if called == name and name in _APPLETS and process.args:
        return process.args[0], process.args[1:]
    return called, process.args


def _cut(name: str) -> str:
    return name.encode("utf-8", "surrogateescape")[:_COMM].decode("utf-8", "replace")
