"""Source and state on the real kernel, joined as the appliance joins them, without rules."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

from appliance.catalog.events import CLONES, EVENTS, STATE
from appliance.daemon.identity import boot_offset_ns, wall_offset_ns
from appliance.engine.state import State
from appliance.kernel.program import Buffers, Extras, Hooks
from appliance.model.event import Event, EventType, RawEvent
from appliance.sources.accounts import HostAccounts
from appliance.sources.procfs import Procfs
from appliance.sources.syscall import SyscallSource
from tests.support.daemon import PROGRAMS

HOOKS = Hooks(os.environ.get("TERCEL_HOOKS", "tracepoints"))  # as tests/kernel/test_vm.py asks for
PATIENCE_S = 180  # how long a program may take on a machine that has much else to do

# What happens so often that it would drown the rest: heard only where a test asks for it.
NOISE = frozenset(
    {
        EventType.CLOSE, EventType.FCNTL, EventType.IOCTL, EventType.LSEEK, EventType.MMAP, EventType.MUNMAP,
        EventType.MPROTECT, EventType.BRK, EventType.FUTEX, EventType.STAT, EventType.LSTAT, EventType.FSTAT,
        EventType.NEWFSTATAT, EventType.ACCESS, EventType.POLL, EventType.PPOLL, EventType.SELECT,
        EventType.EPOLL_WAIT, EventType.GETDENTS64, EventType.RECVFROM, EventType.RECVMSG, EventType.NANOSLEEP,
        EventType.GETUID, EventType.GETEUID, EventType.GETGID, EventType.GETEGID, EventType.PRLIMIT,
        EventType.GETSOCKNAME, EventType.GETPEERNAME,
    }
)  # fmt: skip
TYPES = frozenset(t for t, row in EVENTS.items() if row.told and not row.bulk) - NOISE


class Capture:
    """Use it in a `with`; `run` gives the events of a program."""

    def __init__(
        self,
        ask_container: Callable[[str, int | None], None] = lambda full_id, owner: None,
        types: Iterable[EventType] = TYPES,
        *,
        real: bool = False,
        environment: bool = True,
        ring_bytes: int = 16 << 20,
        hooks: Hooks = HOOKS,
    ) -> None:
        self.source = SyscallSource(
            Buffers(ring_bytes, 32 << 20),
            types,
            extras=Extras(real, environment),
            programs=PROGRAMS,
            hooks=hooks,
            paced=False,
        )
        self.taken = 0  # records
        processes = Procfs()
        self.state = State(
            accounts=HostAccounts(),
            read_process=processes.read_process,
            ask_container=ask_container,
            wall_offset_ns=wall_offset_ns(),
            boot_offset_ns=boot_offset_ns(),
            read_usage=processes.usage,
            parent_now=processes.parent,
        )
        self.state.remember(EventType.CLOSE in types)
        for raw in processes.scan():
            self.state.apply(raw)

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.source.stop(self.take)
        self.source.close()

    def take(self, batch: Sequence[RawEvent]) -> list[Event]:
        """What state makes of records, each as it was at its moment."""
        self.taken += len(batch)
        return [self.state.freeze(e) for raw in batch if (e := self.state.apply(raw)) is not None]

    def until(self, done: Callable[[Event], bool]) -> list[Event]:
        """All events up to the one that is waited for."""
        events: list[Event] = []
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            batch = self.take(self.source.read(4096))
            events += batch
            if any(map(done, batch)):
                return events
            if not batch:
                self.source.wait()
        raise AssertionError(f"not seen within {PATIENCE_S} s among {len(events)} events")

    def of_family(self, root: int) -> Iterator[Event]:
        """The events of a process and of all that descend from it, up to its end, each as it is at that moment. What
        else the machine does is passed over, but for what keeps the tables true: a busy one's costs too much."""
        family = {root}
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            batch = self.source.read(4096)
            for raw in batch:
                mine = raw.pid in family
                if mine and raw.type in CLONES and raw.res > 0:
                    child = raw.params[EVENTS[raw.type].index["child_pid"]]
                    assert isinstance(child, int)
                    family.add(child)
                event = self.state.apply(raw) if mine or raw.type in STATE else None
                if mine and event is not None:
                    yield event
                if raw.pid == root and raw.type is EventType.PROCEXIT:
                    return
            if not batch:
                self.source.wait()
        raise AssertionError(f"not ended within {PATIENCE_S} s")

    def run(self, argv: Sequence[Any], **options: Any) -> tuple[int, list[Event]]:
        """Run a program; its pid, and all events of the machine up to its exit."""
        child = subprocess.Popen(argv, **options)
        events = self.until(lambda e: e.type is EventType.PROCEXIT and e.process.pid == child.pid)
        child.wait()
        return child.pid, events
