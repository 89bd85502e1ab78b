"""Values of an event that take more than looking: the functions that `get` expressions of the tables may call.

Comes in: an `Event`. Goes out: a field's value, None where absent. Never: a look at anything but the
event, and what `World` stands for.
`NAMES` is the whole namespace in which generated predicates and messages run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from operator import attrgetter
from types import MappingProxyType

from appliance.catalog import audit
from appliance.catalog.arguments import (
    CONTROLLERS,
    argument,
    arguments,
    cgroups_of,
    error_name,
    hexadecimal,
    name_of,
    of_number,
    raw_argument,
)
from appliance.catalog.events import EVENTS, OPEN_LIKE, OPENS, Category
from appliance.catalog.params import EXE_FLAGS, O_ACCMODE, OPEN_FLAGS
from appliance.catalog.programs import has_own_name, program_of
from appliance.model.alert import FieldValue
from appliance.model.event import (
    NO_PROCESS,
    NO_USAGE,
    UNRESOLVED,
    Account,
    Event,
    EventType,
    Fd,
    Labels,
    Line,
    Mount,
    Pod,
    Process,
    Usage,
    joined,
)
from appliance.model.moment import clock_time, date_time, iso_time
from appliance.model.paths import absolute


def result_name(e: Event) -> str:
    """`SUCCESS`, or the name of the errno."""
    return "SUCCESS" if e.res >= 0 else error_name(-e.res) or str(e.res)


def home_of(user: Account | None, uid: int | None) -> str | None:
    """The home directory of a user, as `name_of`."""
    if user is None:
        return None if uid is None else of_number(uid, "/root")
    return of_number(user.id, "/root") if user.homedir is None else user.homedir


def shell_of(user: Account | None, uid: int | None) -> str | None:
    """The login shell of a user, as `name_of`; nobody can know root's."""
    if user is None:
        return None if uid is None else UNRESOLVED
    return UNRESOLVED if user.shell is None else user.shell


_FLAGS_PLACE = {t: EVENTS[t].index["flags"] for t in OPEN_LIKE if "flags" in EVENTS[t].index}
_CREAT_FLAGS = OPEN_FLAGS["O_WRONLY"] | OPEN_FLAGS["O_CREAT"] | OPEN_FLAGS["O_TRUNC"]
_O_PATH, _CREAT = OPEN_FLAGS["O_PATH"], OPEN_FLAGS["O_CREAT"]
_CREATED, _TMPFILE = OPEN_FLAGS["O_F_CREATED"], OPEN_FLAGS["O_TMPFILE"]


def _open_flags(e: Event) -> int | None:
    place = _FLAGS_PLACE.get(e.type)
    if place is None:
        return _CREAT_FLAGS if e.type in OPENS else None
    flags = e.params[place]
    return flags if isinstance(flags, int) else None


def is_open_read(e: Event) -> bool:
    """An open that asks to read."""
    flags = _open_flags(e)
    return flags is not None and not flags & _O_PATH and flags & O_ACCMODE in (0, 2)


def is_open_write(e: Event) -> bool:
    """An open that asks to write."""
    flags = _open_flags(e)
    return flags is not None and not flags & _O_PATH and flags & O_ACCMODE in (1, 2)


def is_open_create(e: Event) -> bool:
    """An open that created the file: the kernel says so. O_TMPFILE creates one always."""
    flags = _open_flags(e)
    if flags is None or e.res < 0:
        return False
    return bool(flags & _CREATED) or flags & _TMPFILE == _TMPFILE or e.type is EventType.CREAT


def is_open_exec(e: Event) -> bool:
    """An open that asks to create a file which may be executed, or does."""
    index = EVENTS[e.type].index.get("mode")
    flags = _open_flags(e)
    if index is None or flags is None or not (flags & _CREAT or flags & _TMPFILE == _TMPFILE):
        return False
    mode = e.params[index]
    return isinstance(mode, int) and bool(mode & 0o111)


_WAY = {Category.IO_READ: "r", Category.IO_WRITE: "w"}
_WAITS = frozenset({Category.WAIT, Category.SLEEP})
_MAKE_WAITS = frozenset({EventType.EPOLL_CREATE, EventType.EPOLL_CREATE1})
_DATA = {t: row.index["data"] for t, row in EVENTS.items() if row.category in _WAY and "data" in row.index}
_SYMBOLIC = frozenset({EventType.SYMLINK, EventType.SYMLINKAT})
_LINKS = _SYMBOLIC | {EventType.LINK, EventType.LINKAT}
_SYMLINKS = frozenset({EventType.SYMLINKAT})
_PAIRS = frozenset({EventType.RENAMEAT, EventType.RENAMEAT2, EventType.LINKAT})
_FILES, _SOCKETS = frozenset("fd"), frozenset("46unk")
_RENAMES = frozenset({EventType.RENAMEAT, EventType.RENAMEAT2})
_BY_DESCRIPTOR = frozenset({EventType.DUP, EventType.DUP2, EventType.DUP3, EventType.CLOSE})
_KINDS = dict.fromkeys("fd", "file") | dict.fromkeys("46unk", "net") | dict.fromkeys("pem", "IPC")
_WORDS = {"r": "read", "w": "write"}


def is_type(e: Event, name: str) -> int:
    """1 for events of that type, 0 for others."""
    return int(e.type.value == name)


def io_way(e: Event) -> str:
    """`r` for a call that reads, `w` for one that writes, empty for others."""
    return _WAY.get(EVENTS[e.type].category, "")


def io_word(e: Event) -> str | None:
    """`read` or `write`, as Falco has it."""
    return _WORDS.get(io_way(e))


def is_wait(e: Event) -> bool:
    """A call that does nothing but wait."""
    return EVENTS[e.type].category in _WAITS and e.type not in _MAKE_WAITS


def is_syslog(e: Event) -> bool:
    """A call that writes to the socket of the system's log."""
    return io_way(e) == "w" and (e.fd.name or "").endswith("/dev/log")


def io_buffer(e: Event) -> bytes | None:
    """The first bytes that were read or written."""
    place = _DATA.get(e.type)
    data = None if place is None else e.params[place]
    return data.encode("utf-8", "surrogateescape") if isinstance(data, str) else None


def io_length(e: Event) -> int | None:
    """How many bytes were read or written."""
    return e.res if e.type in _DATA and e.res >= 0 else None


def failed_about(e: Event, what: str) -> int | None:
    """Of a call about files, sockets (`net`), memory or something else (`other`): 1 if it failed, 0 if it did not. None
    for a call about another of these; its descriptor says which."""
    if e.type is EventType.PROCEXIT:
        return None
    char = e.fd.typechar
    if EVENTS[e.type].category is Category.MEMORY:
        about = "memory"
    elif char is not None:
        about = "net" if char in _SOCKETS else "file" if char in _FILES else "other"
    else:
        about = "file" if e.type in _RENAMES else "other"
    return int(e.res < 0) if about == what else None


def category_of(e: Event) -> str:
    """What the event is about; of reading and writing the kind of descriptor says it, as in Falco."""
    category = EVENTS[e.type].category
    if category in _WAY or e.type in _BY_DESCRIPTOR:
        char = e.fd.typechar or ""
        return _KINDS.get(char, "unknown")
    return category.value


def is_call(e: Event) -> bool:
    """True for a system call; the end of a process is none."""
    return e.type is not EventType.PROCEXIT


def result(e: Event) -> int | None:
    """What the call gave; None for what is no call."""
    return None if e.type is EventType.PROCEXIT else e.res


class Facts(Iterable[FieldValue]):
    """The values of a field that has one for each ancestor, nearest first: found when somebody asks, hardly further
    than asked, and once. Ancestors without one are passed over."""

    __slots__ = ("_known", "_rest")

    def __init__(self, line: Line, get: Callable[[Process], FieldValue]) -> None:
        self._known: list[FieldValue] = []
        self._rest = ([v for p in step if (v := get(p)) is not None] for step in line.steps())

    def __iter__(self) -> Iterator[FieldValue]:
        known = self._known
        yield from known
        at = len(known)
        for step in self._rest:
            known += step
            yield from known[at:]
            at = len(known)
        yield from known[at:]  # found meanwhile by another who asks

    def __bool__(self) -> bool:
        return any(True for _ in self)


def above(e: Event, attribute: str) -> Facts:
    """One fact of each ancestor that has it."""
    return Facts(e.line, attrgetter(attribute))


def above_arguments(e: Event) -> Facts:
    """The arguments of each ancestor."""
    return Facts(e.line, joined_args)


def above_programs(e: Event) -> Facts:
    """The program of each ancestor that has one."""
    return Facts(e.line, program_of)


def above_environments(e: Event) -> Facts:
    """The environment of each ancestor."""
    return Facts(e.line, environment)


def parent_pid(e: Event) -> int | None:
    """The number of the parent, as the kernel says it now."""
    pid = e.ancestor(1).pid
    return pid if pid >= 0 else e.process.ppid


def by_birth(world: World, e: Event, attribute: str) -> Facts:
    """One fact of each by whom the process and its forebears were born."""
    return Facts(world.births(e), attrgetter(attribute))


def names_line(e: Event) -> str:
    """The names of the process and its ancestors, eldest first."""
    return " > ".join([p.name or "?" for p in e.line if p.pid >= 0][::-1])


_CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip


def capabilities(bits: int | None) -> str | None:
    """The set's names as Falco prints them: `CAP_CHOWN CAP_KILL`."""
    if bits is None:
        return None
    return " ".join(f"CAP_{name}" for i, name in enumerate(_CAPABILITIES) if bits >> i & 1)


_SHELLS = frozenset({"bash", "csh", "dash", "fish", "ksh", "sh", "tcsh", "zsh"})
_ENV_LEVELS = 20  # how far up `proc.aenv[NAME]` looks


def leader(e: Event, attribute: str) -> Process:
    """The leader of a session or group (`sid`, `pgid`, `vpgid`): that number's process, else the eldest one in it."""
    mine = getattr(e.process, attribute)
    if mine is None:
        return NO_PROCESS
    number = "vpid" if attribute == "vpgid" else "pid"
    eldest = NO_PROCESS
    for process in e.line:
        if getattr(process, attribute) == mine:
            if getattr(process, number) == mine:
                return process
            eldest = process
    return eldest


def since(end_ns: int | None, start_ns: int | None) -> int | None:
    """Nanoseconds from one moment to another; None where one is not known or they are the other way round."""
    return None if end_ns is None or start_ns is None or end_ns < start_ns else end_ns - start_ns


def exe_is(process: Process, name: str) -> bool:
    """Whether the running file has this flag of `EXE_FLAGS`; false where it is not known."""
    return bool((process.exe_flags or 0) & EXE_FLAGS[name])


def environment(process: Process, name: str | None = None) -> str | None:
    """The whole environment, or one variable of it: empty, not absent, where there is none of that name (Falco)."""
    if process.name is None or process.env is None:
        return None
    if name is None:
        return " ".join(process.env)
    return next((text[len(name) + 1 :] for text in process.env if text.startswith(f"{name}=")), "")


def ancestor_environment(e: Event, key: str | int) -> str | None:
    """The environment of one ancestor, or the nearest ancestor's variable of that name."""
    if isinstance(key, int):
        return environment(e.ancestor(key))
    return next((v for p in islice(e.line.above(), _ENV_LEVELS) if (v := environment(p, key))), "")


def cgroup_of(process: Process, controller: str | int) -> str | None:
    """The cgroup's path, the same for each controller that there is; None for another word."""
    return process.cgroup if controller in CONTROLLERS else None


def cgroups_text(process: Process) -> str | None:
    """The cgroup for each controller: `cpu=/a memory=/a`."""
    found = cgroups_of(process)
    return None if found is None else " ".join(found)


def login_shell(e: Event) -> int | None:
    """The pid of the eldest shell among the ancestors."""
    pid = None
    for process in e.line.above():
        if process.name in _SHELLS:
            pid = process.pid
    return pid


def joined_args(process: Process, n: int | None = None) -> str | None:
    """The arguments behind the first, joined by blanks, or the n-th of them from 0 on, empty where there are not so
    many (Falco); None for a process that is not known."""
    if process.name is None:
        return None
    if n is None:
        return joined(process.args)
    return process.args[n] if n < len(process.args) else ""


def arguments_length(e: Event) -> int:
    """Bytes of the arguments behind the first, blanks between them not counted."""
    return sum(len(arg.encode("utf-8", "surrogateescape")) for arg in e.process.args)


def socket_family(e: Event) -> str | None:
    """`ip` for IPv4 and IPv6, `unix` for local sockets; None for what is no such socket."""
    return {"4": "ip", "6": "ip", "u": "unix"}.get(e.fd.typechar or "")


def socket_protocol(e: Event) -> str | None:
    """The protocol of a socket; for other descriptors the text `<NA>`, as in Falco."""
    return e.fd.l4proto or (UNRESOLVED if e.fd.type is not None else None)


def raw_name(e: Event) -> str | None:
    """The path as the caller gave it, empty where there was none to give."""
    return e.fd.nameraw if e.fd.nameraw is not None else "" if e.fd.type is not None else None


def end_of_two(e: Event, which: str, *, raw: bool = False) -> str | None:
    """`source` or `target` of a call with two paths that succeeded. Of links the source is the new one and the target
    what it points to, as in Falco; of others the source is the old one."""
    if e.res < 0:
        return None
    is_source = (which == "source") is not (e.type in _LINKS)
    if raw:
        return e.source_path_raw if is_source else e.target_path_raw
    path = e.source_path if is_source else e.target_path
    if path is not None and path[:1] != "/" and e.type in _SYMBOLIC and e.target_path is not None and is_source:
        return absolute(path, e.target_path.rpartition("/")[0] or "/")
    return path


def absolute_path(e: Event) -> str | None:
    """The path of the file that the event is about; of two the old one, and a symbolic link's own."""
    if e.path is not None:
        return e.path
    return e.target_path if e.type in _SYMLINKS else e.source_path if e.type in _PAIRS else None


def domain_names(fd: Fd, address: str | None) -> tuple[str, ...]:
    """The domain names of an address, an empty text where it has none; nothing where there is no address."""
    if address is None:
        return ()
    return tuple(name for ip, name in fd.domains if ip == address) or ("",)


def fd_type(e: Event, num: int | str) -> tuple[str, ...]:
    """The kind of a descriptor of the process, as far as it is known: the event's own, and the standard streams.
    Nothing where the event is about no descriptor."""
    if e.fd.num is None:
        return ()
    kind = e.fd.type if num == e.fd.num else stream(e.process, 2 * num) if num in (0, 1, 2) else None
    return () if kind is None else (kind,)


def fd_types(e: Event) -> tuple[str, ...]:
    """The kinds of the process's descriptors that are known, each once; nothing where the event is about none."""
    if e.fd.num is None:
        return ()
    kinds = dict.fromkeys((e.fd.type, *e.process.stdio[::2]))
    return tuple(kind for kind in kinds if kind is not None)


POLLED = ("fds", "nums", "names", "cips", "sips", "cports", "sports")
"""The texts that the event of a wait keeps of each descriptor, in order; empty where a descriptor has no such."""


def polled(e: Event, column: str) -> str | None:
    """One text of each descriptor that the event waits for, joined by commas; None for what is no wait."""
    at = EVENTS[e.type].index.get("polled")
    told = e.params[at] if at is not None else None
    if not isinstance(told, tuple):
        return None
    return ",".join(text for text in told[POLLED.index(column) :: len(POLLED)] if text) or None


def fd_flag(e: Event, value: object) -> bool | None:
    """A yes or no about the event's descriptor; None where there is no open one."""
    num = e.fd.num
    return None if num is None or num < 0 else bool(value)


def stream(process: Process, place: int) -> str | None:
    """Type or name of a standard stream, by place in `Process.stdio`."""
    return process.stdio[place] if process.stdio else None


def port_text(port: int | None) -> str | None:
    """A port's number as text."""
    return None if port is None else str(port)


def fd_uid(e: Event) -> str | None:
    """The thread's number and the descriptor's, one behind the other."""
    num = e.fd.num
    return None if num is None or num < 0 else f"{e.tid}{num}"


def in_container(e: Event, name: str | None) -> str | None:
    """A name behind the id of the container in which it is one."""
    return None if name is None else f"{e.container.id}:{name}"


def device_major(dev: int | None) -> int | None:
    """The major part of a device number as stat(2) tells it."""
    return None if dev is None else dev >> 8 & 0xFFF


def device_minor(dev: int | None) -> int | None:
    """The minor part of a device number as stat(2) tells it."""
    return None if dev is None else dev & 0xFF | dev >> 12 & 0xFFF00


def mount_text(mount: Mount) -> str:
    """`source:dest:mode:rdwr:propagation`, as Falco writes one mount."""
    return f"{mount.source}:{mount.dest}:{mount.mode}:{'true' if mount.rdwr else 'false'}:{mount.propagation}"


def mounts_text(mounts: tuple[Mount, ...]) -> str:
    """All mounts, joined by blanks."""
    return " ".join(map(mount_text, mounts))


def mount_part(mounts: tuple[Mount, ...], key: str | int, part: str, *, by_source: bool = False) -> str | None:
    """One part (`all`, `source`, `dest`, `mode`, `rdwr`, `propagation`) of the mount at a place, or of the first whose
    destination (with `by_source`: source) is `key`; a `*` at the end of `key` stands for any rest."""
    mount = _find_mount(mounts, key, by_source)
    if mount is None:
        return None
    if part == "all":
        return mount_text(mount)
    value = getattr(mount, part)
    return value if isinstance(value, str) else ("true" if value else "false")


def _find_mount(mounts: tuple[Mount, ...], key: str | int, by_source: bool) -> Mount | None:
    if isinstance(key, int):
        return mounts[key] if 0 <= key < len(mounts) else None
    prefix = key[:-1] if key.endswith("*") else None
    for mount in mounts:
        text = mount.source if by_source else mount.dest
        if text == key or (prefix is not None and text.startswith(prefix)):
            return mount
    return None


_NO_POD = Pod()


def pod(e: Event) -> Pod:
    """The Kubernetes pod of the event's container; one without facts outside of Kubernetes."""
    return e.container.pod or _NO_POD


def short_id(full_id: str | None) -> str | None:
    """The first 12 characters of an id."""
    return None if full_id is None else full_id[:12]


def label(labels: Labels, name: str) -> str | None:
    """The value of a label; None where there is no such."""
    return next((value for key, value in labels if key == name), None)


def labels_text(e: Event, labels: Labels) -> str | None:
    """All labels as Falco writes them; None while the container's facts are not known."""
    return None if e.container.missing is not None else ",".join(f"{name}:{value}" for name, value in labels)


def pod_text(e: Event, text: str | None) -> str | None:
    """A fact of the pod; empty in a container that is in none (Falco), None on the host and while it is not known."""
    container = e.container
    return "" if text is None and not container.is_host and container.missing is None else text


def pod_labels_text(e: Event) -> str | None:
    """All labels of the pod; empty in a container that is in none, None on the host and while they are not known."""
    return pod_text(e, None if e.container.pod is None else labels_text(e, e.container.pod.labels))


def container_age(e: Event) -> int | None:
    """Nanoseconds from the container's start to the event."""
    started = e.container.started_ns
    return None if started is None else max(e.ts_ns - started, 0)


def probe_text(argv: tuple[str, ...]) -> str | None:
    """A probe's command as one line, `NONE` where it is switched off; None for a container without the probe."""
    return " ".join(argv) if argv else None


def is_probe(e: Event, argv: tuple[str, ...]) -> bool | None:
    """None where the container has no such command. True if the engine started this command in the container: the
    process, or an ancestor of it, is the command, and the one above it is not in the container."""
    if not argv:
        return None
    inside = e.process.container_id
    eldest = None  # of the container, among the ancestors
    for process in e.line:
        if process.container_id != inside:
            break
        eldest = process
    else:
        if NO_PROCESS.container_id == inside:
            return False
    return eldest is not None and eldest.exe == argv[0] and eldest.args == argv[1:]


class World:
    """What generated code may ask beyond the event. One for each ruleset: `look` is set by who knows the processes,
    `account` (of an event, a number, whether it is a group's) by who knows passwd and group; `process_name` and
    `descriptor` (of an event's process, by number), and `births` (the line of descent) by who remembers them."""

    __slots__ = ("_num", "_usage", "account", "births", "descriptor", "hostname", "look", "process_name")

    def __init__(self, hostname: str | None = None) -> None:
        self.hostname = hostname
        self.account: Callable[[Event, int, bool], Account | None] = lambda event, number, is_group: None
        self.births: Callable[[Event], Line] = lambda event: event.line
        self.process_name: Callable[[int], str | None] = lambda number: None
        self.descriptor: Callable[[Event, int], Fd | None] = lambda event, number: None
        self.look: Callable[[Process], Usage] = lambda process: NO_USAGE
        self._num = -1
        self._usage = NO_USAGE

    def usage(self, e: Event) -> Usage:
        """What the event's process has now: looked for once, so that an alert says what its rule has seen."""
        if e.num != self._num:
            self._num, self._usage = e.num, self.look(e.process)
        return self._usage


def threads(world: World, e: Event, *, others: bool = False) -> int | None:
    """The living threads of a process, or those that are not the first. One that never made another has one, known
    without a look; a process that ends has 0."""
    if e.type is EventType.PROCEXIT:
        return 0
    if e.process.single:
        return 0 if others else 1
    usage = world.usage(e)
    return usage.others if others else usage.threads


def ancestor_pid(e: Event, n: int) -> int | None:
    """The number of the n-th ancestor; None where there is none."""
    pid = e.ancestor(n).pid
    return None if pid < 0 else pid


def share(part: int | None, whole: int | None) -> float | None:
    """How many per cent of the whole; None where one of them is not known."""
    return None if part is None or not whole else 100 * part / whole


def seconds(time_ns: int | None) -> int | None:
    """The whole seconds of a duration."""
    return None if time_ns is None else time_ns // 1_000_000_000


def fraction(time_ns: int | None) -> int | None:
    """The nanoseconds of a duration behind its whole seconds."""
    return None if time_ns is None else time_ns % 1_000_000_000


def distance_ms(e: Event, moment: str) -> int | None:
    """Milliseconds, begun ones included, between the event and a moment (nanoseconds since the epoch); None for a word
    that is none, which no checked rule holds."""
    return None if not moment.isdigit() else -(-abs(e.ts_ns - int(moment)) // 1_000_000)


def document_text(e: Event) -> str | None:
    """An event that came as JSON, as JSON again."""
    return None if e.document is None else json.dumps(e.document, ensure_ascii=False, separators=(",", ":"))


def plugin(e: Event) -> str | None:
    """The name of Falco's plugin that tells such events; None for system calls."""
    return "k8saudit" if EVENTS[e.type].source == "k8s_audit" else None


def paths_text(e: Event) -> str | None:
    """The path that an event is about, of whatever kind it is; `source -> target` where there are two."""
    if e.target_path is not None:
        return f"{e.source_path} -> {e.target_path}"
    return e.path if e.path is not None else e.fd.name


def either(a: FieldValue, b: FieldValue) -> tuple[FieldValue, ...]:
    """Both sides of a connection, without the absent ones."""
    return tuple(v for v in (a, b) if v is not None)


NAMES: Mapping[str, object] = MappingProxyType(
    {
        f.__name__: f
        for f in (
            result_name, name_of, home_of, shell_of,
            raw_argument, argument, arguments, is_open_read, is_open_write, is_open_create, is_open_exec,
            is_type, io_way, is_wait, is_syslog, io_buffer, io_length, failed_about,
            above, above_arguments, above_environments, above_programs, program_of, has_own_name, names_line,
            capabilities, iso_time, clock_time, date_time, leader, since, exe_is,
            environment, cgroup_of, cgroups_text, ancestor_environment, login_shell, joined_args, arguments_length,
            socket_family, polled, domain_names, fd_type, fd_types,
            fd_flag, hexadecimal, stream, port_text, fd_uid, in_container, device_major, device_minor,
            parent_pid, by_birth, end_of_two,
            category_of, io_word, is_call, result, socket_protocol,
             raw_name, absolute_path, threads, ancestor_pid,
            pod, pod_text, short_id, label, labels_text, pod_labels_text, container_age, probe_text, is_probe,
            mounts_text, mount_part, paths_text, either, share, seconds, fraction, distance_ms, document_text, plugin,
        )
    }
    | {"EVENTS": EVENTS, "WORLD": World(), **audit.NAMES}
)  # fmt: skip
