"""The engine's memory: from a raw event to an event with all that we know about it.

Comes in: `RawEvent`s in the order of the ring. Goes out: `Event`s. Never: a look at disk, network or clock; what is
asked of them goes through the seams given to the constructor.

A process is named by pid and start, so that a pid used again never mixes two processes. A process that is not known
is read from /proc, or made of the little that its event carries; `missing` counts why facts are absent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol, cast

from appliance.catalog.events import CLONES, EVENTS, EXECS, FD_FACTS, FD_MAKERS, OPENS, PathRole
from appliance.catalog.flags import FCNTL_COMMANDS
from appliance.catalog.params import CLONE_FLAGS, EXE_FLAGS, OPEN_FLAGS, RESULT, ParamType
from appliance.engine.containers import read_container
from appliance.engine.descriptors import Descriptors
from appliance.engine.places import Place, Places
from appliance.engine.processes import TICK_NS, Entry, Processes
from appliance.engine.sockets import (
    LETTERS,
    FdFacts,
    SocketNames,
    accepted,
    binding,
    connecting,
    describe,
    new_socket,
    polled,
    redirected,
    standard_streams,
    talking,
)
from appliance.model.event import (
    HOST,
    NO_FD,
    NO_USAGE,
    UNRESOLVED,
    VIA,
    VIA_OF,
    Account,
    Container,
    Event,
    EventType,
    Fd,
    Line,
    Lineage,
    ParamValue,
    Process,
    RawEvent,
    Usage,
    changed,
)
from appliance.model.paths import absolute

Handler = Callable[[RawEvent], Event | None]

_NOBODY = Account(-1, UNRESOLVED)

_CREDENTIAL_EVENTS = frozenset(
    {
        EventType.SETUID, EventType.SETGID, EventType.SETREUID, EventType.SETREGID, EventType.SETRESUID,
        EventType.SETRESGID, EventType.SETFSUID, EventType.SETFSGID, EventType.CAPSET,
        EventType.UNSHARE,  # of a user namespace gives all rights in it
    }
)  # fmt: skip


_NEW_FDS = FD_MAKERS - {EventType.FCNTL}  # whose events are about the new descriptor
_FD_CLOEXEC = 1
_CLONE_FILES = CLONE_FLAGS["CLONE_FILES"]
_SENDS = frozenset({EventType.SENDTO, EventType.SENDMSG, EventType.SENDMMSG})
_ACCEPTS = frozenset({EventType.ACCEPT, EventType.ACCEPT4})
_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36
_IO_URING = VIA.index("io_uring")
_REQUESTS = 8192  # of io_urings, not yet ended, that are kept


class Accounts(Protocol):
    """Who a number is, on the host or in a container (`pid` is a process in it), from memory or a small file."""

    def user(self, uid: int, container: Container, pid: int) -> Account:
        """The user of that number."""

    def group(self, gid: int, container: Container, pid: int) -> Account:
        """The group of that number."""


class State:
    """The tables of processes and containers, and what each event does to them. One writer: the loop."""

    def __init__(
        self,
        *,
        accounts: Accounts,
        read_process: Callable[[int], RawEvent | None],
        ask_container: Callable[[str, int | None], None],
        wall_offset_ns: int,
        max_processes: int = 65_536,
        max_ended: int = 16_384,
        max_containers: int = 4_096,
        max_descriptors: int = 65_536,
        boot_offset_ns: int | None = None,
        domains: Callable[[], Mapping[str, tuple[str, ...]]] = dict,
        read_usage: Callable[[int, int], Usage | None] = lambda pid, start_ns: None,
        parent_now: Callable[[int, int], int | None] = lambda pid, start_ns: None,
    ) -> None:
        """`read_process(pid)` gives a PROCINFO event or None; `ask_container(full_id, owner)` asks without waiting;
        `wall_offset_ns` is wall clock minus monotonic clock, `boot_offset_ns` wall clock minus the time since boot (the
        same where it is not given: the machine never slept); `domains` gives the domain names that rules ask for, by
        address; `read_usage(pid, start_ns)` what that very process has now, `parent_now` the number of its parent."""
        self.wall_offset_ns = wall_offset_ns
        self._boot_offset_ns = wall_offset_ns if boot_offset_ns is None else boot_offset_ns
        self._accounts = accounts
        self._read_process = read_process
        self._domains = domains
        self._read_usage = read_usage
        self._missing: Counter[str] = Counter()
        self._places = Places(ask_container, max_containers, self._missing)
        self._remembered = Descriptors(max_descriptors)
        self._processes = Processes(
            self._read_parent,
            most=max_processes,
            most_ended=max_ended,
            missing=self._missing,
            ended=self._remembered.ended,
            parent_now=parent_now,
        )
        self._live = self._processes.live
        self._socket_names = SocketNames()
        self._requests: dict[int, RawEvent] = {}
        self._num = 0
        self.newborn: Event | None = None
        """The child's side of the birth that was applied last: an event of its own. Who takes it sets it to None."""
        self._lineage: Lineage = self._processes.line
        self._handlers: dict[EventType, Handler] = {t: self._handler(t) for t in EventType}

    # -- the door

    def apply(self, raw: RawEvent) -> Event | None:
        """Take note of an event and give it with its facts; None for those of our own sources.

        What a process asks of an io_uring comes in twice, when it is asked and when it has ended, and goes out once.
        """
        if raw.via == _IO_URING:
            return self._asked(raw)
        return self._handlers[raw.type](raw)

    def knows(self, pid: int, start_ns: int) -> bool:
        """True for a living process whose start is known to the nanosecond: its start time is exact, so further opens
        add no information."""
        entry = self._live.get(pid)
        return entry is not None and entry.start_ns == start_ns

    def passed_over(self, count: int) -> None:
        """Number so many events as seen that were not applied (`daemon.shortcut`)."""
        self._num += count

    @property
    def remembers(self) -> bool:
        """True where descriptors are remembered for their close, so that every open counts."""
        return self._remembered.wanted

    def remember(self, wanted: bool) -> None:
        """Remember descriptors for their close, or do not: a rule that asks for `close` needs it."""
        self._remembered.want(wanted)

    def doubt(self) -> None:
        """Events were lost: what they would have changed may be wrong, and is forgotten where nothing else tells."""
        self._remembered.forget()

    @property
    def missing(self) -> Mapping[str, int]:
        """How often a fact was absent, by reason."""
        return self._missing

    @property
    def processes(self) -> int:
        """Living processes known."""
        return len(self._live)

    @property
    def containers(self) -> int:
        """Containers known, ended ones that were not evicted included."""
        return len(self._places)

    def freeze(self, event: Event) -> Event:
        """The same event with its ancestors as they are now: for one that is judged or told later. One that was frozen
        before stays as it is."""
        if event.lineage is not self._lineage:
            return event
        ancestors = tuple(event.line.above())

        def lineage(event: Event) -> Line:
            return Line(event.process, ancestors)

        return event._replace(lineage=lineage)

    def usage(self, process: Process) -> Usage:
        """What a process has now, a moment behind its event; `NO_USAGE` for one that has ended."""
        found = self._read_usage(process.pid, process.start_ns) if process.pid > 0 else None
        if found is None:
            self._missing["process ended before its threads and descriptors were counted"] += 1
            return NO_USAGE
        return found

    def process_name(self, number: int) -> str | None:
        """The name of the living process of that number."""
        entry = self._live.get(number)
        return None if entry is None else entry.process.name

    def descriptor(self, event: Event, number: int) -> Fd | None:
        """What is remembered of a descriptor of the event's process."""
        if 0 <= number <= 2 and event.process.stdio:
            kind, name = event.process.stdio[2 * number : 2 * number + 2]
            return None if kind is None else Fd(number, kind, LETTERS.get(kind), name)
        entry = self._live.get(event.process.pid)
        return None if entry is None else self._remembered.of(entry, number)

    def births(self, event: Event) -> Line:
        """The process of an event and those by whom it and they were born, the ended ones included."""
        return self._processes.births(event.process)

    def without_environment(self) -> list[int]:
        """The living processes whose environment was not told: a PROCINFO event tells it later."""
        return [pid for pid, entry in self._live.items() if entry.process.env is None]

    def container(self, key: str) -> Container | None:
        """What is known of a container by its `key`, None for one never seen."""
        return self._places.container(key)

    # -- one handler for each event type, its places looked up once

    def _handler(self, type_: EventType) -> Handler:
        if type_ is EventType.PROCINFO:
            return self._procinfo
        if type_ is EventType.CONTAINER:
            return self._container
        if type_ is EventType.IORING:
            return self._ended_request
        if type_ is EventType.TASKNAME:
            return self._named
        if type_ in OPENS:
            return self._opens(type_)
        if type_ in EXECS:
            return self._exec
        if type_ in CLONES:
            return self._clones(type_)
        if type_ is EventType.PROCEXIT:
            return self._exit
        if type_ in _CREDENTIAL_EVENTS:
            return self._credentials(type_)
        if type_ in (EventType.CHDIR, EventType.FCHDIR):
            return self._chdirs(type_)
        if "sockaddr" in EVENTS[type_].index:
            return self._sockets(type_)
        if "polled" in EVENTS[type_].index:
            return self._polls(type_)
        if type_ is EventType.PRCTL:
            return self._prctl(type_)
        if type_ is EventType.SETSID:
            return self._setsid
        if type_ is EventType.SETPGID:
            return self._setpgid
        if type_ is EventType.SOCKET:
            return self._socket
        if type_ is EventType.FCNTL:
            return self._fcntl(type_)
        if EVENTS[type_].fd_arg is not None:
            return self._descriptors(type_)
        if EVENTS[type_].folder is not None:
            return self._folders(type_)
        if "fd1" in EVENTS[type_].index:
            return self._pairs(type_)
        if EVENTS[type_].has_fd:
            return self._numbers(type_)
        if type_ is EventType.CLOSE_RANGE:
            return self._close_range
        return self._plain(type_)

    def _make(self, raw: RawEvent, entry: Entry, fd: Fd = NO_FD, path: str | None = None) -> Event:
        self._num += 1
        if raw.type in FD_MAKERS and 0 <= raw.res <= 2 and raw.via != _IO_URING:
            entry.process = changed(entry.process, stdio=redirected(entry.process.stdio, fd))
        if fd.lip is not None and (domains := self._domains()):
            ends = dict.fromkeys(ip for ip in (fd.lip, fd.rip) if ip is not None)
            fd = fd._replace(domains=tuple((ip, name) for ip in ends for name in domains.get(ip, ())))
        if self._remembered.wanted and fd.type is not None and raw.type is not EventType.CLOSE:
            self._note(raw, entry, fd)
        return Event(
            raw.type, self._num, raw.ts_ns + self.wall_offset_ns, raw.cpu, raw.tid, raw.res, raw.params,
            entry.process, entry.place.container, fd, path, lineage=self._lineage, via=VIA_OF[raw.via],
        )  # fmt: skip

    def _opens(self, type_: EventType) -> Handler:
        index = EVENTS[type_].index
        at_name, at_base, at_flags = index["name"], index["base"], index.get("flags")
        at_dev, at_ino, at_real = index["dev"], index["ino"], index["real"]
        at_layer = index["creat_flags"] if at_flags is None else at_flags
        folder, tmpfile, cloexec = OPEN_FLAGS["O_DIRECTORY"], OPEN_FLAGS["O_TMPFILE"], OPEN_FLAGS["O_CLOEXEC"]
        descriptors = self._remembered
        live, missing, lineage, make = self._live, self._missing, self._lineage, tuple.__new__

        def apply(raw: RawEvent) -> Event:
            _, ts_ns, cpu, pid, tid, start_ns, _, _, res, params, via = raw
            entry = live.get(pid)
            if entry is None or entry.start_ns != start_ns:
                entry = self._find(raw)
            path = name = cast("str | None", params[at_name])
            if name is None:
                missing["path not readable"] += 1
            else:
                base = cast("str | None", params[at_base])
                if not base and name[:1] != "/":
                    missing["folder of a relative path not known"] += 1
                path = absolute(name, base)
            word, letter = "file", "f"
            if at_flags is not None:
                flags = cast(int, params[at_flags])
                if flags & folder and flags & tmpfile != tmpfile:
                    word, letter = "directory", "d"
            num = res if res >= 0 else -1
            self._num += 1
            if 0 <= res <= 2 and via != _IO_URING:  # there it may stand for a place in the ring's own table
                entry.process = changed(
                    entry.process, stdio=redirected(entry.process.stdio, Fd(res, word, letter, path))
                )
            # made by hand: the named tuples' own constructors cost twice as much
            fd = make(
                Fd,
                (
                    num, word, letter, path, name, None, None, None, None, None, None, None, None, None, None,
                    params[at_ino] or None, params[at_dev] or None, cast(int, params[at_layer]) >> 28 & 3,
                    False, num >= 0, (), params[at_real] or None,
                ),
            )  # fmt: skip
            if descriptors.wanted and num >= 0 and via != _IO_URING and live.get(pid) is entry:
                descriptors.note(entry, fd, at_flags is None or not cast(int, params[at_flags]) & cloexec)
            return make(
                Event,
                (
                    type_, self._num, ts_ns + self.wall_offset_ns, cpu, tid, res, params, entry.process,
                    entry.place.container, fd, path, name, None, None, None, None, lineage, VIA_OF[via],
                    None, None, None,
                ),
            )  # fmt: skip

        return apply

    def _path(self, params: tuple[ParamValue, ...], at_path: int, at_base: int | None) -> tuple[str | None, str | None]:
        """A path parameter, absolute and as it was given."""
        given = params[at_path]
        if not isinstance(given, str):
            self._missing["path not readable"] += 1
            return None, None
        if at_base is None:
            return given, given
        base = params[at_base]
        if not base and given[:1] != "/":
            self._missing["folder of a relative path not known"] += 1
        return absolute(given, base if isinstance(base, str) else None), given

    def _plain(self, type_: EventType) -> Handler:
        spec = EVENTS[type_]
        places = {p.role: (spec.index[p.name], spec.index[p.base] if p.base else None) for p in spec.paths}
        one, source, target = (places.get(r) for r in (PathRole.NAME, PathRole.SOURCE, PathRole.TARGET))
        at_memory = spec.index.get("vm_size")

        def apply(raw: RawEvent) -> Event:
            if at_memory is not None:
                self._uses(raw, at_memory)
            made = self._make(raw, self._find(raw))
            if one is not None:
                path, given = self._path(raw.params, *one)
                return made._replace(path=path, path_raw=given)
            if source is None or target is None:
                return made
            from_, from_raw = self._path(raw.params, *source)
            to, to_raw = self._path(raw.params, *target)
            return made._replace(source_path=from_, source_path_raw=from_raw, target_path=to, target_path_raw=to_raw)

        return apply

    def _folders(self, type_: EventType) -> Handler:
        """A call about a path below a folder, which is its descriptor: a relative path is told with the folder's."""
        index, folder = EVENTS[type_].index, EVENTS[type_].folder
        assert folder is not None  # noqa: S101
        at_folder, at_base, plain = index[folder], index["base"], self._plain(type_)

        def apply(raw: RawEvent) -> Event | None:
            made = plain(raw)
            num, base = cast(int, raw.params[at_folder]), cast("str | None", raw.params[at_base])
            if made is None:
                return made
            return made._replace(fd=Fd(num, "directory", "d", base, base) if base and num >= 0 else Fd(num))

        return apply

    def _pairs(self, type_: EventType) -> Handler:
        """Two descriptors at once: the event is about the first."""
        at = EVENTS[type_].index["fd1"]
        kind = ("unix", "u", "") if type_ is EventType.SOCKETPAIR else ("pipe", "p", "")

        def apply(raw: RawEvent) -> Event | None:
            num = cast(int, raw.params[at])
            return self._make(raw, self._find(raw), Fd(num, *kind) if raw.res >= 0 else Fd(-1))

        return apply

    def _uses(self, raw: RawEvent, at: int) -> None:
        """A call about memory tells how much the process has behind it."""
        size, rss, swap = cast("tuple[int, int, int]", raw.params[at : at + 3])
        entry = self._find(raw)
        entry.process = replace(entry.process, vmsize=size, vmrss=rss, vmswap=swap)

    def _descriptors(self, type_: EventType) -> Handler:
        spec = EVENTS[type_]
        at = spec.index["inode_mode"]
        named = (p.name for p in spec.stored if p.type is ParamType.FD and p.arg and p.arg.n == spec.fd_arg)
        at_fd = None if spec.fd_arg == RESULT else spec.index[next(named)]
        at_memory, names = spec.index.get("vm_size"), self._socket_names

        def apply(raw: RawEvent) -> Event:
            if at_memory is not None:
                self._uses(raw, at_memory)
            # a dup is about the new descriptor
            num = max(raw.res, -1) if at_fd is None else cast(int, raw.params[at_fd])
            facts = FdFacts._make(raw.params[at : at + FD_FACTS])
            if type_ in _ACCEPTS:
                fd = accepted(num, facts)
                names.connected(fd)
                fd = fd._replace(name_changed=raw.res >= 0)
            else:
                fd = describe(num, facts)
                if fd.rip is not None and not (fd.lport and fd.rport):
                    fd = names.whole(fd)
            return self._make(raw, self._find(raw), fd, fd.name if fd.typechar in ("f", "d") else None)

        return apply

    def _numbers(self, type_: EventType) -> Handler:
        """A descriptor that is gone by now is what this process's events last said of its number, if any did."""
        at_fd = EVENTS[type_].index["fd"]

        def apply(raw: RawEvent) -> Event:
            entry, num = self._find(raw), cast(int, raw.params[at_fd])
            fd = self._remembered.closed(entry, num)
            if raw.res < 0 or raw.via == _IO_URING:  # there the number may be a place in the ring's own table
                fd = None
            return self._make(raw, entry, Fd(num) if fd is None else fd)

        return apply

    def _note(self, raw: RawEvent, entry: Entry, fd: Fd) -> None:
        """Keep what a descriptor is for its close; whether it survives an exec only an open tells in full."""
        if raw.via == _IO_URING or self._live.get(raw.pid) is not entry:
            return
        self._remembered.note(entry, fd, False if raw.type in _NEW_FDS else None)

    def _close_range(self, raw: RawEvent) -> Event:
        entry = self._find(raw)
        if raw.res >= 0:
            first, last, _ = cast("tuple[int, int, int]", raw.params)
            self._remembered.closed_range(entry, first, last)  # or closed at the next exec: not known any more
        return self._make(raw, entry)

    def _fcntl(self, type_: EventType) -> Handler:
        index = EVENTS[type_].index
        at_fd, at_command, at_value = index["fd"], index["cmd"], index["arg"]
        plain, set_flags = self._descriptors(type_), FCNTL_COMMANDS["F_SETFD"]
        duplicates = FCNTL_COMMANDS["F_DUPFD"], FCNTL_COMMANDS["F_DUPFD_CLOEXEC"]

        def apply(raw: RawEvent) -> Event | None:
            made = plain(raw)
            if raw.params[at_command] == set_flags and raw.res >= 0:
                num, value = cast(int, raw.params[at_fd]), cast(int, raw.params[at_value])
                self._remembered.mark(self._find(raw), num, survives=not value & _FD_CLOEXEC)
            if raw.params[at_command] in duplicates and raw.res >= 0 and made is not None:
                made = made._replace(fd=made.fd._replace(num=raw.res))  # it is about the new one
            return made

        return apply

    def _polls(self, type_: EventType) -> Handler:
        at = EVENTS[type_].index["polled"]

        def apply(raw: RawEvent) -> Event:
            texts = polled(cast("tuple[str, ...]", raw.params[at] or ()))
            return self._make(raw._replace(params=(*raw.params[:at], texts, *raw.params[at + 1 :])), self._find(raw))

        return apply

    def _prctl(self, type_: EventType) -> Handler:
        index = EVENTS[type_].index
        at_option, at_text, at_number = index["option"], index["arg2_str"], index["arg2_int"]

        def apply(raw: RawEvent) -> Event:
            entry = self._find(raw)
            name = raw.params[at_text]
            if raw.res >= 0 and raw.params[at_option] == _PR_SET_CHILD_SUBREAPER:
                entry.reaps = bool(raw.params[at_number])
            renamed = raw.res >= 0 and raw.params[at_option] == _PR_SET_NAME and isinstance(name, str)
            if renamed and raw.tid == raw.pid:  # another thread's name is its own
                entry.process = changed(entry.process, name=_comm(cast(str, name)))
            return self._make(raw, entry)

        return apply

    def _named(self, raw: RawEvent) -> None:
        """Another name, for a process that is known: one that is not will be read with the name that it has then."""
        pid, start_ns, name = cast("tuple[int, int, str | None]", raw.params)
        entry = self._live.get(pid)
        if entry is not None and name is not None and entry.started_at(start_ns):
            entry.process = replace(entry.process, name=_comm(name))

    def _setsid(self, raw: RawEvent) -> Event:
        entry = self._find(raw)
        if raw.res >= 0:
            entry.process = changed(entry.process, sid=raw.pid, pgid=raw.pid, vpgid=entry.process.vpid, tty=0)
        return self._make(raw, entry)

    def _setpgid(self, raw: RawEvent) -> Event:
        entry = self._find(raw)
        pid, pgid, own_pgid = cast("tuple[int, int, int]", raw.params)
        if raw.res >= 0:
            if pid in (0, entry.process.vpid):
                entry.process = changed(entry.process, pgid=own_pgid, vpgid=pgid or entry.process.vpid)
            elif entry.process.vpid == raw.pid:  # in the host's pid namespace, where numbers are what they seem
                child = self._live.get(pid)
                if child is not None:
                    child.process = changed(child.process, pgid=pgid or pid, vpgid=pgid or pid)
        return self._make(raw, entry)

    def _sockets(self, type_: EventType) -> Handler:
        index = EVENTS[type_].index
        at, at_fd, at_sockaddr = index["inode_mode"], index["fd"], index["sockaddr"]
        always, names = type_ in (EventType.CONNECT, EventType.BIND), self._socket_names

        def apply(raw: RawEvent) -> Event:
            entry = self._find(raw)
            sockaddr = raw.params[at_sockaddr]
            if sockaddr is None and always:
                self._missing["address not readable"] += 1
            cwd = entry.process.cwd

            def path_of(path: str) -> str:
                return absolute(path, cwd)

            num, facts = cast(int, raw.params[at_fd]), FdFacts._make(raw.params[at : at + FD_FACTS])
            given = cast("bytes | None", sockaddr)
            if type_ is EventType.CONNECT:
                fd = names.noted(connecting(num, facts, given, path_of, res=raw.res), "")
                names.connected(fd)
            elif type_ is EventType.BIND:
                fd = names.noted(binding(num, facts, given, path_of), "")
            else:
                fd = talking(num, facts, given, path_of, incoming=type_ not in _SENDS)
                fd = names.noted(fd, fd.name if given is None else describe(num, facts).name)
            return self._make(raw, entry, fd)

        return apply

    def _socket(self, raw: RawEvent) -> Event:
        domain, type_, proto, _ = cast("tuple[int, int, int, int]", raw.params)
        fd = new_socket(max(raw.res, -1), domain, type_, proto)
        return self._make(raw, self._find(raw), fd)

    def _chdirs(self, type_: EventType) -> Handler:
        plain = self._plain(type_)
        at_cwd, at_fd = EVENTS[type_].index["cwd"], EVENTS[type_].index.get("fd")

        def apply(raw: RawEvent) -> Event | None:
            entry = self._find(raw)
            cwd = raw.params[at_cwd]
            if raw.res >= 0 and isinstance(cwd, str) and cwd:
                entry.process = changed(entry.process, cwd=_folder(cwd))
            made = plain(raw)
            if at_fd is None or made is None:
                return made
            num, known = cast(int, raw.params[at_fd]), raw.res >= 0 and isinstance(cwd, str) and bool(cwd)
            return made._replace(fd=Fd(num, "directory", "d", cast(str, cwd), cast(str, cwd)) if known else Fd(num))

        return apply

    def _credentials(self, type_: EventType) -> Handler:
        index = EVENTS[type_].index
        at = index["new_uid"]
        always = type_ in (EventType.SETFSUID, EventType.SETFSGID)  # their result is the id before

        def apply(raw: RawEvent) -> Event:
            entry = self._find(raw)
            if always or raw.res >= 0:
                uid, gid, suid, sgid, euid, egid, inheritable, permitted, effective = cast(
                    "tuple[int, ...]", raw.params[at : at + 9]
                )
                entry.process = self._with_accounts(
                    changed(
                        entry.process, uid=uid, gid=gid, suid=suid, sgid=sgid, euid=euid, egid=egid,
                        cap_inheritable=inheritable, cap_permitted=permitted, cap_effective=effective,
                    ),
                    entry.place.container,
                )  # fmt: skip
            return self._make(raw, entry)

        return apply

    def _clones(self, type_: EventType) -> Handler:
        index = EVENTS[type_].index
        at, at_memory, at_limit, at_flags = index["child_pid"], index["vm_size"], index["fdlimit"], index["flags"]

        def apply(raw: RawEvent) -> Event:
            entry = self._find(raw)
            child_pid, child_tid, vpid, ppid, start_ns = cast("tuple[int, ...]", raw.params[at : at + 5])
            if raw.res >= 0 and child_pid > 0 and child_pid == child_tid:
                memory = cast("tuple[int, int, int]", raw.params[at_memory : at_memory + 3])
                child = self._born(entry, child_pid, vpid, ppid, start_ns, memory, cast(int, raw.params[at_limit]))
                if (cast("int | None", raw.params[at_flags]) or 0) & _CLONE_FILES:
                    self._remembered.shared(entry, child)
            elif raw.res >= 0 and child_pid > 0 and entry.process.single:
                entry.process = changed(entry.process, single=False)
            made = self._make(raw, entry)
            if raw.res > 0 and child_pid > 0:
                born = entry if child_pid != child_tid else self._live.get(child_pid, entry)
                self.newborn = self._make(raw._replace(tid=child_tid, res=0), born)
            return made

        return apply

    def _exec(self, raw: RawEvent) -> Event:
        if raw.res < 0:
            return self._make(raw, self._find(raw))
        entry = self._live.get(raw.pid)
        if entry is not None and not entry.started_at(raw.start_ns):
            if raw.start_ns < entry.start_ns:  # a late event: the pid has been used again since
                return self._make(raw, self._find(raw))
            entry = None  # all facts of the new one are in this event: nothing to ask of /proc
        process, place = self._facts(raw)
        if entry is None:
            entry = self._processes.add(Entry(process, place, exact=True))
        else:
            process = changed(process, single=True)  # an exec ends all other threads (execve(2))
            if process.ppid != entry.process.ppid:
                self._processes.unlink(entry)
            entry.process, entry.place = process, place
            entry.start_ns, entry.exact = raw.start_ns, True
        self._remembered.executed(entry)
        return self._make(raw, entry)

    def _exit(self, raw: RawEvent) -> Event:
        entry = self._find(raw)
        if self._live.get(raw.pid) is entry:
            entry.heir = self._live.get(cast(int, raw.params[0]))
            self._processes.end(entry)
        return self._make(raw, entry)

    def _asked(self, raw: RawEvent) -> Event | None:
        """Keep what was asked of an io_uring until its end comes, by the request's address in place of a result."""
        if raw.res == 0:  # its success will not be told
            return self._handlers[raw.type](raw)
        request = raw.res & 0xFFFFFFFFFFFFFFFF
        if self._requests.pop(request, None) is not None:
            self._missing["end of an io_uring request not seen"] += 1
        elif len(self._requests) >= _REQUESTS:
            del self._requests[next(iter(self._requests))]
            self._missing["table of io_uring requests full"] += 1
        self._requests[request] = raw
        return None

    def _ended_request(self, raw: RawEvent) -> Event | None:
        request, more = cast("tuple[int, int]", raw.params)
        asked = self._requests.get(request) if more else self._requests.pop(request, None)
        return None if asked is None else self._handlers[asked.type](asked._replace(res=raw.res))

    def _procinfo(self, raw: RawEvent) -> None:
        known = self._live.get(raw.pid)
        if known is None or (not known.exact and known.start_ns <= raw.start_ns and not known.started_at(raw.start_ns)):
            process, place = self._facts(raw)
            self._processes.add(Entry(process, place, exact=False))
        elif known.process.env is None and raw.start_ns <= known.start_ns < raw.start_ns + TICK_NS:
            env = cast("tuple[str, ...] | None", raw.params[EVENTS[raw.type].index["env"]])
            known.process = changed(known.process, env=env)

    def _container(self, raw: RawEvent) -> None:
        try:
            told = read_container(cast(str, raw.params[0]))
        except ValueError:
            self._missing["facts of a container not readable"] += 1
            return
        self._places.tell(told)

    # -- processes

    def _find(self, raw: RawEvent) -> Entry:
        """The process of an event: from the table, from /proc, or made of what the event carries."""
        start_ns = raw.start_ns
        entry = self._live.get(raw.pid)
        if entry is not None:
            if entry.start_ns == start_ns:
                return entry
            if entry.started_at(start_ns):  # from /proc until now
                entry.start_ns, entry.exact = start_ns, True
                entry.process = changed(entry.process, start_ns=start_ns, started_ns=start_ns + self._boot_offset_ns)
                return entry
        ended = self._processes.ended(raw.pid, start_ns)
        if ended is not None:
            return ended
        if entry is not None and start_ns < entry.start_ns:
            self._missing["event of an ended process that is no longer known"] += 1
            return Entry(self._minimal(raw), self._places.host, exact=True)
        told = self._read_process(raw.pid)
        if told is not None and told.start_ns <= start_ns < told.start_ns + TICK_NS:
            self._missing["process not known, read from /proc"] += 1
            process, place = self._facts(told)
            process = changed(process, start_ns=start_ns, started_ns=start_ns + self._boot_offset_ns)
            return self._processes.add(Entry(process, place, exact=True))
        self._missing["process not known, ended before it could be read"] += 1
        return self._processes.add(Entry(self._minimal(raw), self._places.host, exact=True))

    def _is_engines(self, pid: int, value: Mapping[str, ParamValue]) -> bool:
        """Whether a program in a container's cgroup is its engine's, and not in the container yet.

        `runc init` starts itself anew from a copy before it enters namespaces, and on a busy machine runc, its parent,
        has put it into the cgroup by then. It is known by what no program of a container is: it is in our own pid
        namespace, the child of a process outside, and runs the file that its parent runs, or runc's copy in memory
        (runc, libcontainer/nsenter/cloned_binary.c).
        """
        argv = cast("tuple[str, ...]", value["args"] or ())
        parent = self._live.get(cast("int", value["ptid"]))
        if argv[1:] != ("init",) or value["vpid"] != pid or parent is None or parent.place is not self._places.host:
            return False
        path, flags = cast("str | None", value["trusted_exepath"]), cast("int | None", value["flags"])
        if (flags or 0) & EXE_FLAGS["EXE_FROM_MEMFD"]:
            return (path or "").startswith("/memfd:runc_cloned:")
        told = parent.process
        return bool(told.exe_ino) and (value["exe_dev"], value["exe_ino"]) == (told.exe_dev, told.exe_ino)

    def _read_parent(self, pid: int) -> Entry | None:
        told = self._read_process(pid)
        if told is None:
            return None
        self._missing["process not known, read from /proc"] += 1
        process, place = self._facts(told)
        return Entry(process, place, exact=False)

    def _minimal(self, raw: RawEvent) -> Process:
        """A process that had ended before it could be read: as in Falco, its name is the text `<NA>`."""
        process = Process(
            pid=raw.pid, start_ns=raw.start_ns, name=UNRESOLVED, exe=UNRESOLVED,
            uid=raw.uid, gid=raw.gid, euid=raw.uid, egid=raw.gid,
            started_ns=raw.start_ns + self._boot_offset_ns,
        )  # fmt: skip
        return self._with_accounts(process, HOST)

    def _facts(self, raw: RawEvent) -> tuple[Process, Place]:
        """A process and its container from `_PROCESS_FACTS`, of an exec or of /proc."""
        value = dict(zip(EVENTS[raw.type].index, raw.params, strict=True))
        place = self._places.of(value["cgroups"], value["cgroups_v1"])
        if place is not self._places.host and self._is_engines(raw.pid, value):
            place = self._places.host
        # version 1 tells of programs only where the unified hierarchy does not
        cgroup = next((c for c in (value["cgroups"], value["cgroups_v1"]) if c and c != "/"), value["cgroups"])
        cgroup = cgroup if isinstance(cgroup, str) else None
        unit = self._places.unit(cgroup or "")
        argv = cast("tuple[str, ...]", value["args"] or ())
        size = cast("int | None", value["args_size"]) or 0
        cwd = cast("str | None", value["cwd"])
        exepath = _file_or_memory(cast("str | None", value["trusted_exepath"]), cast("int | None", value["flags"]))
        pidns_start_ns = cast("int | None", value["pidns_init_start_ts"])
        if not cwd and exepath:  # a process that has ended and was not waited for has neither
            self._missing["working directory not readable"] += 1
        user, login, group = self._accounts_of(
            cast("int | None", value["new_euid"]), cast("int | None", value["new_egid"]),
            cast("int | None", value["loginuid"]), place.container, raw.pid,
        )  # fmt: skip
        process = Process(
            pid=raw.pid,
            ppid=cast("int | None", value["ptid"]),
            vpid=cast("int | None", value["vpid"]),
            start_ns=raw.start_ns,
            name=cast("str | None", value["comm"]),
            exe=argv[0] if argv else cast("str | None", value["comm"]),
            exepath=exepath or None,
            args=argv[1:],
            args_truncated=size > sum(len(a.encode("utf-8", "surrogateescape")) + 1 for a in argv),
            cwd=_folder(cwd) if cwd else None,
            tty=cast("int | None", value["tty"]),
            sid=cast("int | None", value["sid"]),
            pgid=cast("int | None", value["pgid"]),
            loginuid=cast("int | None", value["loginuid"]),
            uid=cast("int | None", value["new_uid"]),
            gid=cast("int | None", value["new_gid"]),
            euid=cast("int | None", value["new_euid"]),
            egid=cast("int | None", value["new_egid"]),
            suid=cast("int | None", value["new_suid"]),
            sgid=cast("int | None", value["new_sgid"]),
            cap_effective=cast("int | None", value["cap_effective"]),
            cap_permitted=cast("int | None", value["cap_permitted"]),
            cap_inheritable=cast("int | None", value["cap_inheritable"]),
            container_id=place.container.id,
            stdio=standard_streams(cast("tuple[str, ...]", value["stdio"] or ())),
            env=cast("tuple[str, ...] | None", value["env"]),
            cgroup=cgroup,
            unit=unit.unit,
            user_unit=unit.user_unit,
            slice=unit.slice,
            vpgid=cast("int | None", value["vpgid"]),
            started_ns=raw.start_ns + self._boot_offset_ns,
            pidns_started_ns=pidns_start_ns + self._boot_offset_ns if pidns_start_ns else None,
            exe_flags=cast("int | None", value["flags"]) if exepath else None,
            exe_ino=cast("int | None", value["exe_ino"]) or None,
            exe_ctime_ns=cast("int | None", value["exe_ino_ctime"]) or None,
            exe_mtime_ns=cast("int | None", value["exe_ino_mtime"]) or None,
            exe_dev=cast("int | None", value["exe_dev"]) if exepath else None,
            exe_size=cast("int | None", value["exe_size"]) if exepath else None,
            exe_magic=cast("int | None", value["exe_magic"]),
            fdlimit=cast("int | None", value["fdlimit"]),
            pfmajor=cast("int | None", value["pgft_maj"]),
            pfminor=cast("int | None", value["pgft_min"]),
            vmsize=cast("int | None", value["vm_size"]),
            vmrss=cast("int | None", value["vm_rss"]),
            vmswap=cast("int | None", value["vm_swap"]),
            user=user,
            login=login,
            group=group,
        )
        return process, place

    def _with_accounts(self, process: Process, container: Container) -> Process:
        user, login, group = self._accounts_of(process.euid, process.egid, process.loginuid, container, process.pid)
        return changed(process, user=user, login=login, group=group)

    def account(self, event: Event, number: int, is_group: bool) -> Account:
        """A user or group that an event names by number, as its container has it."""
        ask = self._accounts.group if is_group else self._accounts.user
        return ask(number, event.container, event.process.pid)

    def _accounts_of(
        self, euid: int | None, egid: int | None, loginuid: int | None, container: Container, pid: int
    ) -> tuple[Account | None, Account | None, Account | None]:
        """The user, who logged in, the group; `pid` is the process that they are asked for."""
        user = None if euid is None else self._accounts.user(euid, container, pid)
        group = None if egid is None else self._accounts.group(egid, container, pid)
        login = None
        if loginuid is not None:  # a login happens on the host, wherever the process went since
            login = _NOBODY if loginuid == -1 else self._accounts.user(loginuid, HOST, pid)
        return user, login, group

    def _born(
        self,
        caller: Entry,
        pid: int,
        vpid: int,
        ppid: int,
        start_ns: int,
        memory: tuple[int, int, int],
        fdlimit: int,
    ) -> Entry:
        parent: Entry | None = caller if ppid == caller.process.pid else self._live.get(ppid)
        process = changed(
            caller.process, pid=pid, ppid=ppid, vpid=vpid, start_ns=start_ns,
            started_ns=start_ns + self._boot_offset_ns, vmsize=memory[0], vmrss=memory[1], vmswap=memory[2],
            pfmajor=0, pfminor=0, fdlimit=fdlimit, single=True,
        )  # fmt: skip
        entry = self._processes.add(Entry(process, caller.place, exact=True))
        if parent is not None:
            self._processes.link(entry, parent)
        return entry


def _comm(name: str) -> str:
    """A name as the kernel keeps it: 15 bytes at most."""
    return name.encode("utf-8", "surrogateescape")[:15].decode("utf-8", "surrogateescape")


def _file_or_memory(path: str | None, flags: int | None) -> str | None:
    """The path of a running file; `memfd:NAME` for memory, which is in no folder."""
    if path is None or not (flags or 0) & EXE_FLAGS["EXE_FROM_MEMFD"]:
        return path
    return path.removeprefix("/").removesuffix(" (deleted)")


def _folder(path: str) -> str:
    return path if path.endswith("/") else path + "/"
