"""One event of a type, as most of them are: something to measure rules on where nothing was recorded.

Comes in: an event type. Goes out: an `Event` that has every fact such an event can have, made up. Never: one that says
anything about this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from appliance.catalog.events import EVENTS, Category, EventSpec, PathRole
from appliance.catalog.params import ParamType
from appliance.model.event import NO_FD, Account, Container, Event, EventType, Fd, Line, ParamValue, Process

_PATH = "/usr/lib/x86_64-linux-gnu/libcrypto.so.3"
_ROOT = Account(0, "root", "/root", "/bin/bash")
_INIT = Process(
    pid=1, ppid=0, vpid=1, start_ns=1, name="systemd", exe="/sbin/init", exepath="/usr/lib/systemd/systemd", cwd="/",
    tty=0, sid=1, pgid=1, vpgid=1, loginuid=-1, uid=0, gid=0, euid=0, egid=0, suid=0, sgid=0, cap_effective=0x1FF,
    cap_permitted=0x1FF, cap_inheritable=0, stdio=("file", "/dev/null") * 3, env=("PATH=/usr/bin", "LANG=C.UTF-8"),
    cgroup="/init.scope", unit="init.scope", started_ns=1, pidns_started_ns=1, exe_flags=0, exe_ino=17, exe_ctime_ns=1,
    exe_mtime_ns=1, exe_dev=2049, exe_size=100_000, fdlimit=1024, pfmajor=1, pfminor=900, vmsize=9000, vmrss=4000,
    vmswap=0, user=_ROOT, login=_ROOT, group=Account(0, "root"),
)  # fmt: skip
_CRON = replace(_INIT, pid=700, ppid=1, vpid=700, name="cron", exe="/usr/sbin/cron", exepath="/usr/sbin/cron")
_SHELL = replace(
    _INIT, pid=800, ppid=700, vpid=800, name="sh", exe="/bin/sh", exepath="/usr/bin/dash", args=("-c", "x")
)
_PROGRAM = replace(
    _INIT, pid=900, ppid=800, vpid=900, name="python3", exe="/usr/bin/python3", exepath="/usr/bin/python3.11",
    args=("-m", "http.server", "--directory", "/srv/files"), cwd="/srv/files/",
)  # fmt: skip
_LINE = (_PROGRAM, _SHELL, _CRON, _INIT)
_BOX = Container(
    "0123456789ab", "0123456789ab" * 5 + "0123", runtime="docker", name="web", image="nginx:1.22",
    image_repository="nginx", image_tag="1.22", privileged=False,
)  # fmt: skip
_FILE = Fd(3, "file", "f", _PATH, _PATH, ino=17, dev=2049)
_SOCKET = Fd(
    4, "ipv4", "4", "10.0.0.5:40000->10.0.0.9:5432", l4proto="tcp", cip="10.0.0.5", cport=40000, sip="10.0.0.9",
    sport=5432, lip="10.0.0.5", lport=40000, rip="10.0.0.9", rport=5432, is_server=False,
)  # fmt: skip
_VALUES: Mapping[ParamType, ParamValue] = MappingProxyType(
    {
        ParamType.PATH: _PATH,
        ParamType.DIRPATH: _PATH,
        ParamType.TEXT: "text",
        ParamType.DATA: "GET / HTTP/1.1\r\nHost: localhost\r\n",
        ParamType.ARGS: ("-m", "http.server"),
        ParamType.BYTES: b"\x02\x00\x15\x38\x0a\x00\x00\x09",
        ParamType.FDS: (),
        ParamType.ADDR16: b"\x0a\x00\x00\x09" + bytes(12),
    }
)
_AUDIT = MappingProxyType(
    {
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "stage": "ResponseComplete", "verb": "get",
        "requestURI": "/api/v1/namespaces/shop/configmaps/settings", "sourceIPs": ["10.0.0.7"],
        "user": {"username": "system:serviceaccount:shop:web", "groups": ["system:authenticated"]},
        "objectRef": {"resource": "configmaps", "namespace": "shop", "name": "settings", "apiVersion": "v1"},
        "responseStatus": {"code": 200}, "userAgent": "kubectl/v1.31.0",
    }
)  # fmt: skip


def typical_event(type_: EventType) -> Event:
    """An event of this type: of a program with three ancestors in a container, on a library or a connection."""
    spec = EVENTS[type_]
    if spec.source != "syscall":
        return Event(type_, 1, 1_700_000_000_123_456_789, 0, 0, 0, (), document=dict(_AUDIT))
    params = tuple(_VALUES.get(param.type, 0) for param in spec.stored)
    return Event(
        type_, 1, 1_700_000_000_123_456_789, 0, _PROGRAM.pid, 0, params, _PROGRAM, _BOX, _fd(spec), lineage=_lineage,
        elapsed_ns=1_000_000, delta_ns=1_000, **_paths(spec),
    )  # fmt: skip


def _lineage(event: Event) -> Line:
    return Line(event.process, _LINE[1:])


def _fd(spec: EventSpec) -> Fd:
    if not spec.has_fd:
        return NO_FD
    return _SOCKET if spec.category is Category.NET else _FILE


def _paths(spec: EventSpec) -> dict[str, str]:
    names = {PathRole.NAME: "path", PathRole.SOURCE: "source_path", PathRole.TARGET: "target_path"}
    return {f"{names[path.role]}{part}": _PATH for path in spec.paths for part in ("", "_raw")}
