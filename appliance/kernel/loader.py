"""A `ProgramSpec`, loaded and attached.

Comes in: a spec. Goes out: a `Program`: descriptors of the rings, the books, what is listened to, a switch to detach.
Never: a look into a record (that is `kernel.decode`), or bcc in this process (that is `kernel.compiler`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from appliance.catalog.events import EXECS, OPENS, STATE
from appliance.kernel import bpfcall
from appliance.kernel.early import KeptOpens, make_table
from appliance.kernel.inventory import Inventory, fdinfo, id_cell
from appliance.kernel.kept import Kept, key_of
from appliance.kernel.layout import NUMBERS
from appliance.kernel.objects import Object, from_json, ready
from appliance.kernel.program import BARE, TRACED, Extras, Handler, Loading, ProgramSpec, bpf_folder, grouped
from appliance.model.diagnostic import KernelError, NotSupportedError, VerifierError
from appliance.model.event import EventType
from appliance.model.text import why

_log = logging.getLogger(__name__)

_PATIENCE_S = 300.0
_FLAGS = ("-Wno-macro-redefined", "-Werror=implicit")
_TABLES = (
    "handlers",
    "operations",
    "plans",
    "asked",
    "asked_operations",
    "kinds",
    "books",
    "sleeping",
    "pace",
    "rings",
    "early",
)
_LIKE = {"rings": "ring_like", "early": "early_like"}  # a table of tables, and the table that these are like
_LOG_BYTES = 16 << 20
_CONSTANT = ("rings", "plans", "books")  # written before the start, or by our programs alone
_BOOK = struct.Struct("=4Q")  # struct book of bpf/base.h
_STATE, _WANTED, _NO_FAILED, _REAL, _ENV = 1, 2, 4, 8, 16  # KIND_* of bpf/base.h


@dataclass(frozen=True, slots=True)
class Book:
    """The kernel's count for one type of event: records made, and what became of those that were not handed over.

    `full`: the ring had no room. `unfair`: its cgroup had used its share of a ring that was filling. `filtered`: nobody
    had asked for it. `unread`: it was in a ring, or read and not evaluated, when the daemon had to end.
    """

    produced: int
    full: int = 0
    unfair: int = 0
    filtered: int = 0
    unread: int = 0

    @property
    def lost(self) -> int:
        """Records that should have reached the reader and did not."""
        return self.full + self.unfair + self.unread


@dataclass(frozen=True, slots=True)
class Books:
    """The kernel's own counts since the program was loaded. `by_cpu` has a row for each possible processor.

    `compat` counts 32-bit system calls that are seen but not decoded; `busy` records that could not be made because the
    CPU's scratch record was in use.
    """

    by_type: Mapping[EventType, Book]
    compat: int
    busy: int
    by_cpu: tuple[Book, ...] = ()

    @property
    def produced(self) -> int:
        """Records made, of all types."""
        return sum(book.produced for book in self.by_type.values())

    @property
    def filtered(self) -> int:
        """Records that nobody had asked for, of all types."""
        return sum(book.filtered for book in self.by_type.values())

    @property
    def lost(self) -> int:
        """Records that never reached a ring, of all types, and those that could not be made."""
        return sum(book.lost for book in self.by_type.values()) + self.busy

    @property
    def unread(self) -> int:
        """Records left behind at the end, of all types."""
        return sum(book.unread for book in self.by_type.values())

    def with_unread(self, counts: Mapping[EventType, int]) -> Books:
        """The same, with so many more records left behind."""
        books = dict(self.by_type)
        for type_, count in counts.items():
            book = books.get(type_, Book(0))
            books[type_] = replace(book, unread=book.unread + count)
        return replace(self, by_type=books)

    def outstanding(self, taken: int) -> int:
        """Records that were made and neither taken by the reader, nor filtered, nor lost: `produced + busy = taken +
        filtered + lost`, but for so many."""
        return self.produced + self.busy - taken - self.filtered - self.lost


@dataclass(slots=True)
class Program:
    """A loaded program. `rings` are the ring buffer maps, the state ring's first: they can be mapped and polled.

    Any thread may change what is heard; one waits for the other. What was closed hears nothing any more.
    """

    spec: ProgramSpec
    rings: tuple[int, ...]
    _programs: Mapping[str, int] = field(repr=False)
    _maps: Mapping[str, int] = field(repr=False)
    _inventory: Inventory = field(repr=False)
    _links: dict[str, int] = field(default_factory=dict)  # raw tracepoint, or function -> descriptor of the link
    _entries: Sequence[bytes] = field(default=(), repr=False)  # by group: what is loaded for each door
    _doors: dict[str, int] = field(default_factory=dict)  # function -> descriptor of its program
    _heard: frozenset[int] = frozenset()
    _asked: tuple[Collection[EventType], Collection[EventType], Extras] = ((), (), BARE)  # of `hear`'s latest call
    _early: KeptOpens | None = None
    _cpus: int = 0
    _attached: bool = False
    _changing: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def heard(self) -> frozenset[EventType]:
        """The types of event that are heard now."""
        return frozenset(self.spec.handlers[slot].type for slot in self._heard) | TRACED

    def _numbers(self, slots: Iterable[int]) -> frozenset[tuple[str, int]]:
        """What leads to these slots: tables that are looked up first, and places in them."""
        handlers = (self.spec.handlers[slot] for slot in slots)
        return frozenset(("asked_operations" if h.operation else "asked", h.number) for h in handlers)

    @property
    def calls(self) -> int:
        """How many of a 64-bit program's system calls are heard."""
        return sum(slot == self.spec.handlers[slot].number for slot in self._heard)

    @property
    def functions(self) -> int:
        """How many of the kernel's functions are hooked."""
        return len(self._doors)

    def attach(self) -> None:
        """Begin to trace. Raises `KernelError` where a hook cannot be attached."""
        with self._changing:
            for name, function in self.spec.attached.items():
                try:
                    self._attach(name, function)
                except OSError as error:
                    self.detach()
                    raise KernelError(f"cannot attach to the tracepoint `{name}`: {error}") from error
            self._attached = True
            self._open(self._heard)

    def prepare(self, types: Iterable[EventType]) -> None:
        """Hook what these events need, where that is not hooked: it takes a moment that `hear` then does not. What is
        heard stays as it is. Raises `KernelError`."""
        with self._changing:
            if self._attached:
                self._open(self.spec.heard(types))

    def _open(self, slots: Iterable[int]) -> None:
        """Hook the functions that these calls are made by. Raises `KernelError`."""
        wanted = {door.name: door for slot in slots for door in self.spec.doors.get(slot, ())}
        for name in sorted(wanted.keys() - self._links.keys()):
            door = wanted[name]
            try:
                if name not in self._doors:
                    self._doors[name] = bpfcall.load_program(
                        bpfcall.TRACING,
                        self._entries[door.group],
                        name.removeprefix("__"),
                        attach_type=bpfcall.FEXIT,
                        target=door.target,
                    )
                self._links[name] = bpfcall.attach_traced(self._doors[name])
            except OSError as error:
                raise KernelError(f"cannot hook the function `{name}`: {error}") from error
            self._inventory.hold(f"the hook on `{name}`", self._links[name])

    def _attach(self, name: str, function: str) -> None:
        program = self._programs[function]
        if name in self.spec.typed:
            self._links[name] = bpfcall.attach_traced(program)
        else:
            self._links[name] = bpfcall.attach_raw_tracepoint(name, program)
        self._inventory.hold(f"the hook on `{name}`", self._links[name])

    def hear(
        self,
        types: Iterable[EventType],
        *,
        whole: Collection[EventType] = frozenset(EventType),
        extras: Extras = BARE,
    ) -> None:
        """Hear the calls of these events from now on, and those that keep state true; no others.

        Takes effect at once, call by call; nothing is detached, and what stays wanted is heard throughout.
        Of types that are neither in `whole` nor keep state true, calls that failed are not asked for.
        `extras` come as well. A function that is hooked stays so to the end, as letting go of one takes a fifth of
        a second; its calls are not told where nobody asks. Raises `KernelError`, and nothing has changed, where a
        function cannot be hooked.
        """
        with self._changing:
            self._hear(types, whole, extras)

    def _hear(self, types: Iterable[EventType], whole: Collection[EventType], extras: Extras) -> None:
        types = frozenset(types)
        slots = self.spec.heard(types)
        if self._attached:
            self._open(slots)
        handlers = self.spec.handlers
        for type_, number in NUMBERS.items():
            ends = type_ is EventType.IORING  # of what is wanted, failed or not
            kind = _STATE if type_ in STATE else 0 if type_ in whole or ends else _NO_FAILED
            wanted = type_ in types or ends
            kind |= _REAL if extras.real and type_ in OPENS else 0
            kind |= _ENV if extras.environment and type_ in EXECS else 0
            self._write("kinds", number, struct.pack("=I", kind | (_WANTED if wanted else 0)))
        for slot in slots - self._heard:  # before the number that leads there
            for group in self._groups(slot):
                program = self._programs[grouped(handlers[slot].function, group)]
                table, key = _cell(handlers[slot], slot, group)
                self._write(table, key, struct.pack("=I", program), reads_as=id_cell(program))
        before, after = self._numbers(self._heard), self._numbers(slots)
        for table, number in before ^ after:
            self._write(table, number, struct.pack("=I", (table, number) in after))
        for slot in self._heard - slots:
            for group in self._groups(slot):
                table, key = _cell(handlers[slot], slot, group)
                with contextlib.suppress(FileNotFoundError):  # somebody else emptied it
                    self._inventory.delete(table, self._maps[table], key)
        self._heard = slots
        self._asked = types, whole, extras  # last: a demand that failed is none that `repair` may put into force

    def drop_opens(self, but: KeptOpens | None) -> None:
        """From now on, drop opens in the kernel but for those that are to be kept; None: drop none. Takes effect at
        once and whole. Raises OSError, and nothing has changed."""
        with self._changing:
            if "early" not in self._maps:  # closed, or a program that filters nothing
                return
            self._drop_opens(but)

    def _drop_opens(self, but: KeptOpens | None) -> None:
        if but is None:
            if self._early is not None:
                with contextlib.suppress(FileNotFoundError):
                    self._inventory.delete("early", self._maps["early"], 0)
        else:
            table = make_table(but)
            try:
                self._write("early", 0, struct.pack("=I", table), reads_as=id_cell(table))
            finally:
                os.close(table)  # the table of tables holds it
        self._early = but

    def _groups(self, slot: int) -> frozenset[int]:
        return frozenset(door.group for door in self.spec.doors.get(slot, ())) or frozenset((0,))

    def _write(self, table: str, key: int, value: bytes, *, reads_as: bytes | None = None) -> None:
        self._inventory.write(table, self._maps[table], key, value, reads_as=reads_as)

    def differences(self) -> list[str]:
        """What is not as we left it: a hook, a program, a cell of a table. Any thread."""
        return list(self._inventory.differences())

    def repair(self) -> None:
        """Write all tables anew and attach what is attached no more. Raises `KernelError`, OSError."""
        with self._changing:
            if not self._attached:
                return
            for name in [name for name, fd in self._links.items() if not fdinfo(fd)]:
                del self._links[name]  # not closed: its number may be another's by now
            for name, function in self.spec.attached.items():
                if name not in self._links:
                    self._attach(name, function)
            self._open(self._heard)
            self._heard = frozenset()
            self._hear(*self._asked)
            if self._early is not None:
                self._drop_opens(self._early)

    def costs(self) -> dict[str, tuple[int, int]]:
        """Runs and nanoseconds of each program that ran, as the kernel counts them while `kernel.bpf_stats_enabled` is
        1 (bpftool-prog(8)); a program that others jump to is part of the one that was called."""
        found = {}
        for name, fd in (*self._programs.items(), *self._doors.items()):
            counts = fdinfo(fd)
            if counts.get("run_cnt"):
                found[name.removeprefix("at_")] = counts["run_cnt"], counts["run_time_ns"]
        return found

    def books(self) -> Books:
        """Read the kernel's counts."""
        cpus, fd = self._cpus, self._maps["books"]
        by_type: dict[EventType, Book] = {}
        by_cpu = [[0, 0, 0, 0] for _ in range(cpus)]
        for type_, number in NUMBERS.items():
            total = [0, 0, 0, 0]
            for cpu, row in enumerate(_BOOK.iter_unpack(bpfcall.lookup(fd, number, cpus * _BOOK.size))):
                if row[0]:
                    for i, count in enumerate(row):
                        total[i] += count
                        by_cpu[cpu][i] += count
            if total[0]:
                by_type[type_] = Book(*total)
        compat, busy = (
            sum(row[0] for row in _BOOK.iter_unpack(bpfcall.lookup(fd, len(NUMBERS) + i, cpus * _BOOK.size)))
            for i in (0, 1)
        )
        # a program at a function does not run while the same one is at work on this processor, where tasks preempt it
        busy += sum(fdinfo(fd).get("recursion_misses", 0) for fd in list(self._doors.values()))
        return Books(by_type, compat, busy, tuple(Book(*row) for row in by_cpu))

    def want_wakeup(self) -> None:
        """Ask for a wake-up of the rings' pollers by the next record; without it none comes."""
        bpfcall.update(self._maps["sleeping"], 0, struct.pack("=I", 1))

    def set_pace(self, size: int) -> None:
        """How many bytes of a ring are read in the time that a record may wait: who floods gets a share of that. 0: of
        the whole ring."""
        bpfcall.update(self._maps["pace"], 0, struct.pack("=Q", size))

    def detach(self) -> None:
        """Stop hearing. What is in the rings stays readable. Functions stay hooked until `close`, and are not heard."""
        with self._changing:
            self._attached = False
            for table, number in self._numbers(self._heard) if self._doors else ():
                if table == "asked":
                    with contextlib.suppress(OSError):
                        self._write(table, number, struct.pack("=I", 0))
            for name in [name for name in self._links if name not in self._doors]:
                self._let_go(name)

    def _let_go(self, name: str) -> None:
        self._inventory.release(f"the hook on `{name}`")
        with contextlib.suppress(OSError):  # somebody else closed it
            os.close(self._links.pop(name))

    def close(self) -> None:
        """Detach, and give everything back to the kernel. A function takes it a fifth of a second."""
        with self._changing:
            self._inventory.clear()
            self.detach()
            for name in list(self._links):
                self._let_go(name)
            _close((*self.rings, *self._programs.values(), *self._doors.values(), *self._maps.values()))
            self._programs = self._maps = {}
            self._doors = {}


def _cell(handler: Handler, slot: int, group: int) -> tuple[str, int]:
    """Where a handler stands: table and key."""
    return ("operations", handler.number) if handler.operation else (grouped("handlers", group), slot)


def load(spec: ProgramSpec, *, own_pid: int, kept: Kept | None = None) -> Program:
    """Compile and load; attach with `Program.attach`. Takes seconds, most of which `kept` saves from the second start
    on. The process `own_pid` is not judged.

    Raises `NotSupportedError` where bcc is missing, `VerifierError` where the kernel refuses a program, `KernelError`
    where the C does not compile.
    """
    job = {
        "text": spec.text,
        "flags": _FLAGS,
        "stubs": str(bpf_folder() / "stubs"),
        "functions": spec.functions,
        "tables": [*_TABLES, *_LIKE.values()],
        "like": _LIKE,
    }
    key = "" if kept is None else _key(job)
    made = kept.find(key) if kept is not None else None
    if made is None:
        made = _compiled(job)
        programs, tables, entries = _loaded(spec, made, own_pid)
        if kept is not None:
            kept.keep(key, made)
    else:
        programs, tables, entries = _loaded(spec, made, own_pid)
    held = [*programs.values(), *tables.values()]
    try:
        return _filled(spec, programs, tables, entries, held)
    except BaseException:
        _close(held)
        raise


def load_first(specs: Sequence[ProgramSpec], *, own_pid: int, kept: Kept | None = None) -> Program:
    """The first of these that the kernel takes, best first: a verifier that we never met may know less than those that
    we tried. Raises as `load` does."""
    for spec in specs[:-1]:
        try:
            return load(spec, own_pid=own_pid, kept=kept)
        except VerifierError as error:
            _log.warning("the verifier rejected program `%s`; falling back to the next variant", error.program)
            _log.debug("what the verifier said: %s", error.log)
    return load(specs[-1], own_pid=own_pid, kept=kept)


def _filled(
    spec: ProgramSpec,
    programs: Mapping[str, int],
    tables: Mapping[str, int],
    entries: Sequence[bytes],
    held: list[int],
) -> Program:
    """The program with its rings and all that its tables hold before it starts; what is opened is added to `held`."""
    rings = []
    for number, size in enumerate(spec.rings):
        try:
            rings.append(bpfcall.create_ring(size))
        except OSError as error:
            raise KernelError(f"cannot make a ring buffer of {size >> 10} KiB: {error}") from error
        held.append(rings[-1])
        bpfcall.update(tables["rings"], number, struct.pack("=I", rings[-1]))
    for slot, handler in spec.handlers.items():
        if handler.plan is not None:
            bpfcall.update(tables["plans"], slot, handler.plan)
    for name in _CONSTANT:
        if not bpfcall.freeze(tables[name]):
            _log.warning("table `%s` cannot be frozen: a program of root's could change it", name)
    inventory = Inventory()
    for name, fd in (*programs.items(), *((f"table `{name}`", fd) for name, fd in tables.items())):
        inventory.hold(f"the program `{name}`" if name in programs else f"the {name}", fd)
    return Program(spec, tuple(rings), programs, tables, inventory, _entries=entries, _cpus=possible_cpus())


def _key(job: Mapping[str, object]) -> str:
    """Of all that a program is made of. Where its headers lie is not of it: each release has a place of its own."""
    folder = bpf_folder() / "stubs"
    headers = (f"{path.relative_to(folder)}\n{path.read_text()}" for path in sorted(folder.rglob("*.h")))
    return key_of([json.dumps({**job, "stubs": ""}), *headers])


def _loaded(spec: ProgramSpec, made: Object, own_pid: int) -> tuple[dict[str, int], dict[str, int], tuple[bytes, ...]]:
    """Descriptors of the programs, and of the tables that we write or read; the instructions for the doors of each
    group, whose table of handlers is its own."""
    fds: list[int] = []
    programs: dict[str, int] = {}
    try:
        for table in made.tables:
            inner = fds[table.inner] if table.inner >= 0 else 0
            try:
                fds.append(bpfcall.create_table(table, inner=inner))
            except OSError as error:
                raise KernelError(f"cannot make the table `{table.name}`: {error}") from error
        places = {table.name: place for place, table in enumerate(made.tables)}
        of_group = [fds[: len(made.tables)]]
        for group in range(1, spec.groups):
            fds.append(bpfcall.create_table(bpfcall.table_facts(fds[places["handlers"]])))
            of_group.append([*of_group[0]])
            of_group[group][places["handlers"]] = fds[-1]
        code = {one: ready(made.functions[one.function], of_group[one.group], own_pid) for one in spec.loadings()}
        # the verifier works on as many processors as it is asked from; the longest programs first
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            order = sorted(code, key=lambda one: len(code[one]), reverse=True)
            jobs = {one.name: pool.submit(_verified, one, code[one]) for one in order}
        errors = []
        for name, job in jobs.items():
            try:
                programs[name] = job.result()
            except VerifierError as error:
                errors.append(error)
        if errors:
            raise errors[0]
    except BaseException:
        _close((*fds, *programs.values()))
        raise
    tables = {name: fds[place] for name, place in places.items() if name in _TABLES}
    tables |= {grouped("handlers", group): of_group[group][places["handlers"]] for group in range(1, spec.groups)}
    _close(set(fds) - set(tables.values()))  # the programs hold them
    entry = made.functions.get(spec.entry, b"")
    return programs, tables, tuple(ready(entry, of_group[group], own_pid) for group in range(spec.groups))


def _verified(one: Loading, code: bytes) -> int:
    kind, name, attach_type, target = one.kind, one.function, one.attach_type, one.target
    try:
        return bpfcall.load_program(kind, code, name, attach_type=attach_type, target=target)
    except OSError:  # again, for what the verifier says
        try:
            return bpfcall.load_program(kind, code, name, attach_type=attach_type, target=target, log=_LOG_BYTES)
        except OSError as error:
            raise VerifierError(name, why(error)) from error


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def possible_cpus() -> int:
    """How many processors there may ever be: the rows of a per-CPU map (cpu(4), `possible`: `0-3` or `0,2-5`)."""
    ranges = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return int(ranges.replace(",", "-").rpartition("-")[2]) + 1


def _compiled(job: Mapping[str, Any]) -> Object:
    """Have a job done by a process of its own."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            child = subprocess.Popen(  # noqa: S603  (ourselves)
                [sys.executable, "-P", "-m", "appliance.kernel.compiler", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        try:
            ours.settimeout(_PATIENCE_S)
            ours.sendall(json.dumps(job).encode())
            ours.shutdown(socket.SHUT_WR)
            answer = json.loads(b"".join(_exactly(ours, *struct.unpack("=I", b"".join(_exactly(ours, 4))))))
            if "ok" not in answer:
                raise _error(answer)
            return from_json(answer["object"])
        except (OSError, EOFError) as error:
            child.kill()
            raise KernelError(f"the compiler ended early ({error}; status {child.wait()})") from error
        finally:
            child.wait()


def _exactly(peer: socket.socket, size: int) -> Iterator[bytes]:
    while size:
        part = peer.recv(size)
        if not part:
            raise EOFError("no answer")
        size -= len(part)
        yield part


def _error(answer: Mapping[str, str]) -> KernelError:
    text, log = answer["text"], answer["log"]
    match answer["kind"]:
        case "bcc" if "another package" in text:
            return NotSupportedError(text, "remove the PyPI package called bcc; install Debian's python3-bpfcc")
        case "bcc":
            return NotSupportedError(
                text, "install Debian's python3-bpfcc and run from an environment that sees it (make setup)"
            )
        case _:
            return KernelError(f"{text}\n{log}".strip())
