"""Arguments of an event as rules see them: `evt.arg`, `evt.rawarg`, `evt.args`.

Comes in: an `Event`. Goes out: an argument's value, as text in Falco's spelling or as the number that Falco carries;
None where absent. Never: a path that is made absolute before somebody asks for it.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Protocol

from appliance.catalog.events import CLONES, EVENTS, EXECS, PathRole
from appliance.catalog.flags import SIGNALS, VALUES_OF_OPTIONS, SockValue
from appliance.catalog.params import (
    CLONE_FLAGS,
    CWD,
    OPEN_FLAGS,
    Flags,
    Form,
    Param,
    ParamType,
    mode_names,
    open_numbers,
)
from appliance.catalog.renumbered import OPEN, RENUMBERED
from appliance.model.alert import FieldValue
from appliance.model.event import UNRESOLVED, Account, Event, EventType, Fd, ParamValue, Process
from appliance.model.moment import date_time
from appliance.model.paths import UNKNOWN, absolute

NOBODY = "<NONE>"  # as Falco calls the user and the group of number -1
_SOL_SOCKET = 1


class Names(Protocol):
    """Who knows what numbers are called: `values.World`."""

    account: Callable[[Event, int, bool], Account | None]
    process_name: Callable[[int], str | None]
    descriptor: Callable[[Event, int], Fd | None]


class Numeral(int):
    """A number that Falco writes in another form than decimal: rules compare the number, alerts print the text."""

    __slots__ = ()


class Hexadecimal(Numeral):
    """`FE00`."""

    def __str__(self) -> str:
        return f"{int(self) & 0xFFFFFFFFFFFFFFFF:X}"


class Octal(Numeral):
    """`644`."""

    def __str__(self) -> str:
        return f"{int(self):o}"


class Plain(Numeral):
    """`644`, a text nevertheless."""

    def __str__(self) -> str:
        return str(int(self))


_FORMS: Mapping[Form, type[Numeral]] = {Form.HEXADECIMAL: Hexadecimal, Form.OCTAL: Octal, Form.TEXT: Plain}


def error_name(number: int) -> str | None:
    """The name of an errno; Falco has one for the two that are 95."""
    return "EOPNOTSUPP" if number == errno.EOPNOTSUPP else errno.errorcode.get(number)


def hexadecimal(number: int | None) -> Hexadecimal | None:
    """A number that alerts print in hexadecimal."""
    return None if number is None else Hexadecimal(number)


# -- an argument's value


_TOLD = {type_: tuple(p for p in spec.params if not p.internal) for type_, spec in EVENTS.items()}


def _param(e: Event, key: str | int) -> Param | None:
    spec = EVENTS[e.type]
    if isinstance(key, int):
        told = _TOLD[e.type]
        return told[key] if 0 <= key < len(told) else None
    return spec.param(key)


def raw_argument(e: Event, key: str | int) -> FieldValue:
    """The value of a parameter, by name or place, as Falco carries it: flags and choices by its own numbers, texts as
    the caller gave them; None if this event has no such."""
    param = _param(e, key)
    if param is None:
        return None
    value = _value(e, param)
    if not isinstance(value, int):
        return _as_field(value)
    if param.name == "optname" and e.params[EVENTS[e.type].index["level"]] != _SOL_SOCKET:
        value = 0
    elif param.flags is not None and param.type is not ParamType.MODE:
        value = _renumbered(value, param)
    elif param.type in (ParamType.UID, ParamType.RES_UID) and value == -1:
        value = 0xFFFFFFFF
    form = _FORMS.get(param.written)
    return value if form is None else form(value)


_BIRTHS = CLONES | EXECS
CONTROLLERS = ("cpuset", "cpu", "cpuacct", "io", "memory")  # those that Falco asks for


def cgroups_of(process: Process) -> tuple[str, ...] | None:
    """The cgroup for each controller: `cpu=/a`."""
    return None if process.cgroup is None else tuple(f"{name}={process.cgroup}" for name in CONTROLLERS)


def _value(e: Event, param: Param) -> ParamValue:
    if param.name == "cgroups" and e.type in _BIRTHS:
        return cgroups_of(e.process)
    if param.get is not None:
        return _derived(e, param.get)
    if not param.stored:
        return e.res
    if param.name == "trusted_exepath":
        return e.process.exepath
    value = e.params[EVENTS[e.type].index[param.name]]
    if isinstance(value, tuple) and param.name == "args" and e.type in EXECS:
        return value[1:]
    if param.flags is CLONE_FLAGS and e.type in CLONES and isinstance(value, int) and _in_pid_namespace(e):
        return value | CLONE_FLAGS["CLONE_CHILD_IN_PIDNS"]
    return value


def _in_pid_namespace(e: Event) -> bool:
    """Whether the child's numbers are others in its pid namespace."""
    index = EVENTS[e.type].index
    child, number = e.params[index["child_pid"]], e.params[index["child_vpid"]]
    return child != number if child else e.process.vpid not in (None, e.process.pid)


_DERIVED: dict[str, Callable[[Event, Mapping[str, ParamValue]], ParamValue]] = {}


def _derived(e: Event, get: str) -> ParamValue:
    found = _DERIVED.get(get)
    if found is None:  # the expressions are ours, written in catalog.events
        found = _DERIVED[get] = eval(f"lambda e, p: {get}", {"__builtins__": {}})  # noqa: S307
    try:
        return found(e, dict(zip(EVENTS[e.type].index, e.params, strict=True)))
    except TypeError:  # one of its parts is absent
        return None


def _as_field(value: ParamValue) -> FieldValue:
    if isinstance(value, tuple):
        return " ".join(value)
    if isinstance(value, bytes):
        return value.hex()
    return value


# -- flags and choices


def _renumbered(value: int, param: Param) -> int:
    """Flags or a choice by Falco's numbers."""
    flags = param.flags or {}
    if flags is OPEN_FLAGS:
        number = 0
        for bits in open_numbers(value, OPEN).values():
            number |= bits
        return number
    table = RENUMBERED.get(id(flags))
    if table is None:
        return value
    if param.type is ParamType.ENUM:
        name = next((name for name, known in flags.items() if known == value), None)
        unknown = value if table.unknown is None else table.unknown[1]
        return unknown if name is None else table.falco.get(name, unknown)
    return sum(number for name, number in table.falco.items() if (bits := flags[name]) and value & bits == bits)


def _names(value: int, flags: Flags, *, choice: bool) -> str | None:
    """The names of flags that are set, joined by `|` in Falco's order, or of a choice; None where there is none."""
    if flags is OPEN_FLAGS:
        return "|".join(open_numbers(value, OPEN)) or None
    table = RENUMBERED.get(id(flags))
    if choice:
        name = next((name for name, number in flags.items() if number == value), None)
        return table.unknown[0] if name is None and table is not None and table.unknown is not None else name
    if table is not None:
        order = [*table.falco, *(name for name in flags if name not in table.falco)]
        names = [name for name in order if (bits := flags.get(name, 0)) and value & bits == bits]
        empty = None if table.empty == "0" else table.empty
        return "|".join(names) if names else empty
    names = [name for name, bits in flags.items() if bits and value & bits == bits]
    return "|".join(names) if names else next((name for name, bits in flags.items() if bits == value), None)


# -- an argument as text


def argument(e: Event, key: str | int, world: Names | None = None) -> str | None:
    """The value of a parameter as text, the way Falco shows it: paths absolute, flags and errors by name, descriptors
    as `<f>/a/file`, processes, users and groups by the names that `world` knows."""
    param = _param(e, key)
    if param is None:
        return None
    plain, named = _texts(e, param, world)
    return plain if named is None else named


def arguments(e: Event, world: Names | None = None) -> str:
    """All of Falco's parameters in order, as `name=value`, with `(meaning)` behind a value that has another."""
    spec = EVENTS[e.type]
    if not spec.told:
        return ""
    shown = []
    for param in spec.params:
        if not param.internal:
            plain, named = _texts(e, param, world)
            behind = "" if named is None or named == plain else f"({named})"
            shown.append(f"{param.name}={'<NA>' if plain is None else plain}{behind}")
    return " ".join(shown)


_BUFFERS = frozenset({ParamType.ARGS, ParamType.DATA})
_TEXTS = frozenset({ParamType.TEXT, ParamType.PATH})


def _texts(e: Event, param: Param, world: Names | None) -> tuple[str | None, str | None]:
    """A parameter as text, and what Falco shows instead where that says more."""
    value = _value(e, param)
    if not value and param.type in _BUFFERS:
        return "NULL", None
    if value is None:
        return ("<NA>" if param.type in _TEXTS else None), None
    if isinstance(value, str):
        if param.name == "val" and e.type in _OPTIONS:
            return _option(e, value)
        return value, (_resolved(e, param, value) if param.type is ParamType.PATH else None)
    if isinstance(value, bytes) and param.name == "addr":
        return sockaddr_text(value), None
    if not isinstance(value, int):
        return str(_as_field(value)), None
    return _of_number(e, param, value, world)


_OPTIONS = frozenset({EventType.SETSOCKOPT, EventType.GETSOCKOPT})


def _option(e: Event, value: str) -> tuple[str, str | None]:
    """A socket option's value, by what the option is; bytes as they are where that is not known."""
    index = EVENTS[e.type].index
    data = value.encode("utf-8", "surrogateescape")
    kind = SockValue.NUMBER
    if e.params[index["level"]] == _SOL_SOCKET:
        kind = VALUES_OF_OPTIONS.get(int(str(e.params[index["optname"]])), SockValue.NUMBER)
    if kind is SockValue.TIME and len(data) == 16:
        seconds, micros = struct.unpack("=qq", data)
        time_ns = seconds * 1_000_000_000 + micros * 1000
        return str(time_ns), seconds_text(time_ns)
    if kind is SockValue.LARGE and len(data) == 8:
        return str(struct.unpack("=Q", data)[0]), None
    if len(data) != 4:
        return value, None
    number = struct.unpack("=i", data)[0]
    return str(number), (error_name(number) if kind is SockValue.ERROR and number > 0 else None)


def sockaddr_text(data: bytes) -> str:
    """The address that a caller gave: `127.0.0.1:80`, the path or the `@name` of a unix socket (ip(7), unix(7))."""
    family = struct.unpack_from("=H", data)[0] if len(data) >= 2 else 0
    if family == socket.AF_INET and len(data) >= 8:
        return f"{socket.inet_ntop(socket.AF_INET, data[4:8])}:{int.from_bytes(data[2:4], 'big')}"
    if family == socket.AF_INET6 and len(data) >= 24:
        return f"{socket.inet_ntop(socket.AF_INET6, data[8:24])}:{int.from_bytes(data[2:4], 'big')}"
    if family != socket.AF_UNIX:
        return "NULL"
    name = data[2:110]
    if name[:1] == b"\0":
        return "@" + name[1:].decode("utf-8", "surrogateescape")
    return name.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _of_number(e: Event, param: Param, value: int, world: Names | None) -> tuple[str, str | None]:
    plain = str(value)
    match param.type:
        case ParamType.UID | ParamType.RES_UID:
            nobody = value in (-1, 0xFFFFFFFF)
            return ("-1", NOBODY) if nobody else (plain, _account_name(e, param.name, value, world))
        case ParamType.RES if value < 0:
            return plain, error_name(-value)
        case ParamType.FD if value == CWD:
            return plain, "AT_FDCWD"
        case ParamType.FD | ParamType.RES_FD:
            return plain, error_name(-value) if value < 0 else _descriptor(e, param, value, world)
        case ParamType.PID | ParamType.RES_PID:
            return plain, _process_name(e, value, world)
        case ParamType.ABSTIME:
            return date_time(value), None
        case ParamType.SIGSET:
            return " ".join(name for name, number in SIGNALS.items() if value >> number - 1 & 1), None
        case ParamType.UINT32 if value == 0xFFFFFFFF:
            return "-1", None
        case ParamType.RELTIME:
            return plain, seconds_text(value)
        case ParamType.MODE if param.form is not Form.HEXADECIMAL:
            return f"0{value:o}" if value else "0", None if param.flags is None or not value else mode_names(value)
        case ParamType.FLAGS | ParamType.FLAGS16 | ParamType.ENUM | ParamType.SIGNAL if param.flags is not None:
            if param.name == "optname" and e.params[EVENTS[e.type].index["level"]] != _SOL_SOCKET:
                return "0", "UNKNOWN"  # of another level: a number that means something else there
            choice = param.type in (ParamType.ENUM, ParamType.SIGNAL)
            number = _renumbered(value, param)
            return str(number), _names(value, param.flags, choice=choice)
        case _:
            form = _FORMS.get(param.written)
            number = value if param.flags is None else _renumbered(value, param)
            return plain if form is None else str(form(number)), None


def seconds_text(time_ns: int) -> str:
    """A duration as Falco shows it: `1.5s`."""
    return f"{time_ns / 1_000_000_000:g}s"


_PATHS = {(type_, path.name): path for type_, spec in EVENTS.items() for path in spec.paths}


def _resolved(e: Event, param: Param, given: str) -> str | None:
    """The absolute path of a relative one; None where the folder is not known, and for one that is no path."""
    if not given or given[0] == "/":
        return None
    path = _PATHS.get((e.type, param.name))
    if path is None:
        return absolute(given, e.process.cwd) if e.type in EXECS and e.process.cwd else None
    if path.base is None:
        return None
    found = {PathRole.NAME: e.path, PathRole.SOURCE: e.source_path, PathRole.TARGET: e.target_path}[path.role]
    return None if found is None or found.startswith(UNKNOWN) else found


def _descriptor(e: Event, param: Param, number: int, world: Names | None) -> str | None:
    """`<4t>1.2.3.4:5->6.7.8.9:80`: kind, protocol and name of a descriptor, the event's own or another's."""
    fd = e.fd if number == e.fd.num else None
    if fd is None or fd.typechar is None:
        fd = folder_of(e, param.name)
    if fd is None and world is not None:
        fd = world.descriptor(e, number)
    if fd is None or fd.typechar is None:
        return None
    protocol = _PROTOCOLS.get(fd.l4proto or "", "") if fd.name and fd.typechar in "46" else ""
    return f"<{fd.typechar}{protocol}>{fd.name or ''}"


def _folder_is(base: Param | None, param: Param) -> bool:
    return base is not None and base.arg is not None and param.arg is not None and base.arg.n == param.arg.n


_PROTOCOLS = {"tcp": "t", "udp": "u", "icmp": "i", "raw": "r"}
_FOLDERS = {
    (type_, param.name): path.base
    for type_, spec in EVENTS.items()
    for param in spec.params
    for path in spec.paths
    if param.type is ParamType.FD and path.base is not None and _folder_is(spec.param(path.base), param)
}


def folder_of(e: Event, name: str) -> Fd | None:
    """The folder that an argument is the descriptor of, as the path that is relative to it knows it."""
    base = _FOLDERS.get((e.type, name))
    path = None if base is None else e.params[EVENTS[e.type].index[base]]
    return Fd(None, "directory", "d", path) if isinstance(path, str) and path else None


def _process_name(e: Event, number: int, world: Names | None) -> str | None:
    if number == e.process.pid or number == e.tid:
        return e.process.name
    return None if world is None or number <= 0 else world.process_name(number)


def _account_name(e: Event, name: str, value: int, world: Names | None) -> str:
    """The name of a user or group as Falco shows it: of the event's own accounts, else as passwd or group has it."""
    is_group = "gid" in name
    known = (e.process.group,) if is_group else (e.process.user, e.process.login)
    account = next((a for a in known if a is not None and a.id == value and a.name is not None), None)
    if account is None and world is not None:
        account = world.account(e, value, is_group)
    return name_of(account, value) or UNRESOLVED


def name_of(account: Account | None, number: int | None) -> str | None:
    """The name of an account: `<NA>` where no account has the number, `root` for 0, None for an unknown process."""
    if account is None:
        return None if number is None else of_number(number, "root")
    return of_number(account.id, "root") if account.name is None else account.name


def of_number(number: int, of_root: str) -> str:
    """What is known of root by its number alone, and `<NA>` of others."""
    return of_root if number == 0 else UNRESOLVED
