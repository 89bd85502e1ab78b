"""The live source: system calls of this machine as the kernel tells them.

Comes in: nothing. Goes out: `RawEvent`s in the order of time. Never: a judgement.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path

from appliance.catalog.events import STATE
from appliance.kernel.arch import this_arch
from appliance.kernel.btf import read_btf
from appliance.kernel.doors import doors_of, why_no_doors, without_door
from appliance.kernel.early import KeptOpens
from appliance.kernel.kept import Kept
from appliance.kernel.loader import Books, Program, load_first, possible_cpus
from appliance.kernel.merge import Merged
from appliance.kernel.probe import describe_machine, require_platform, why_not_typed
from appliance.kernel.program import BARE, Buffers, Extras, Hooks, ProgramSpec, program_spec
from appliance.kernel.ring import Ring, Skip
from appliance.model.diagnostic import Diagnostic, DiagnosticsError, KernelError
from appliance.model.event import EventType, RawEvent

log = logging.getLogger(__name__)

_PAUSE_S = 0.002  # between two looks while there is something to do: the kernel need not wake us
_LOOKS = 8  # looks that find nothing before we ask to be woken
_DRAINED = 1024  # records of each ring between two looks at the clock, at the end
_WAIT_NS = 2_000_000_000  # what a flood may make others wait: three quarters of it
_FIRST_MEASURE_NS, _MEASURE_NS = 50_000_000, 200_000_000
_PACE_LEAST, _PACE_UNKNOWN, _BACKLOG = 256 << 10, 5 << 19, 64 << 10
_NAP_S = 0.1  # longest sleep: bounds the wait should a wake-up be missed


class Pace:
    """How many bytes of each of so many rings are read in `_WAIT_NS`: measured while there is work, in powers of two.

    Where that is not known, as nothing has been read for a while, it is `_PACE_UNKNOWN`: what comes first may be a
    flood of events that take long, and it fills a ring sooner than anything can be measured. Of 3,000 such events a
    second, on a slow machine, three quarters of it are read in four seconds.
    """

    def __init__(self, rings: int) -> None:
        self._rings = max(1, rings)
        self._since: tuple[int, int] | None = None
        self._measured_ns = _FIRST_MEASURE_NS
        self.size = _PACE_UNKNOWN

    def worked(self, now_ns: int, read_bytes: int, waiting_bytes: int) -> bool:
        """There was nothing but work since the last call, where much waited then and now. True where `size` is another
        now."""
        if waiting_bytes < _BACKLOG:  # what was read was all that there was: it says nothing about how fast we are
            self._since = None
            return False
        if self._since is None:
            self._since = now_ns, read_bytes
            return False
        took_ns = now_ns - self._since[0]
        if took_ns < self._measured_ns:
            return False
        found = (read_bytes - self._since[1]) * _WAIT_NS // took_ns // self._rings
        self._since, self._measured_ns = (now_ns, read_bytes), _MEASURE_NS
        if self.size * 3 // 4 <= found < self.size * 2:
            return False
        return self._become(max(_PACE_LEAST, 1 << max(found.bit_length() - 1, 0)))

    def idle(self) -> bool:
        """Nothing was to be read for a while. True where `size` is another now."""
        self._since, self._measured_ns = None, _FIRST_MEASURE_NS
        return self._become(_PACE_UNKNOWN)

    def _become(self, size: int) -> bool:
        before, self.size = self.size, size
        return size != before


class SyscallSource:
    """System calls, live. Attached when made; `read` never waits, `wait` does."""

    def __init__(
        self,
        buffers: Buffers,
        types: Iterable[EventType] = (),
        *,
        extras: Extras = BARE,
        no_failed: bool = False,
        always_failed: Collection[EventType] = (),
        programs: Path | None = None,
        hooks: Hooks = Hooks.TRACEPOINTS,
        paced: bool = True,
        early: bool = False,
    ) -> None:
        """Compile, load and attach. Takes seconds; raises `KernelError` and its kin.

        `types` are the events to hear, beside those that keep state true; see `hear`. With `no_failed`, calls that
        failed are dropped in the kernel, but for those of `always_failed` and those that keep state true. What was
        compiled is kept in the folder `programs`, and taken from there. With `hooks` the ends of calls are heard at
        their functions, where this kernel lets us; where not, by the tracepoint, and `instead` says why. `paced`: one
        cgroup may fill no more of a ring than is read in a moment, so that others need not wait; without it, the whole
        ring. `early`: the program can drop opens, see `drop_opens`."""
        require_platform()
        self.instead: str | None = None
        self._asked: frozenset[EventType] = frozenset()
        self._early = early
        self._whole = frozenset(EventType if not no_failed else always_failed)
        kept = None if programs is None else Kept(programs)
        specs = self._specs(buffers, hooks)
        try:
            self._begin(specs, kept, types, extras)
        except KernelError as error:
            if not specs[0].doors:
                raise
            self._stays_at_tracepoints(str(error))
            self._begin(specs[1:], kept, types, extras)
        self._poll = select.epoll()
        for fd in self._program.rings:
            self._poll.register(fd, select.EPOLLIN)
        self._empty_looks = 0
        self._pace = Pace(len(self._program.rings) - 1)
        self._paced = paced
        self._program.set_pace(self._pace.size if paced else 0)
        self.skip: Skip | None = None  # which records to leave out (`kernel.ring`)

    def _specs(self, buffers: Buffers, hooks: Hooks) -> list[ProgramSpec]:
        """The ways to hear that this kernel offers, best first."""
        btf, arch = read_btf(), this_arch()
        put = partial(program_spec, btf, arch, buffers=buffers, cpus=possible_cpus(), early=self._early)
        specs = [put(typed=typed) for typed in ((True, False) if why_not_typed(btf, arch) is None else (False,))]
        if hooks is Hooks.FUNCTIONS:
            doors = doors_of(btf, arch)
            refused = why_no_doors(btf, arch, doors)
            if refused is None:
                return [put(doors=doors), *specs]
            self._stays_at_tracepoints(refused)
        return specs

    def _stays_at_tracepoints(self, reason: str) -> None:
        self.instead = f"`capture.hooks: functions` is refused by this kernel ({reason})"
        log.warning("calls are heard by the tracepoint, not at their functions: %s", reason)

    def _begin(
        self, specs: Sequence[ProgramSpec], kept: Kept | None, types: Iterable[EventType], extras: Extras
    ) -> None:
        if specs[0].doors:  # alone: another way to hear is another answer to what was asked for
            specs = specs[:1]
        self._program: Program = load_first(specs, own_pid=os.getpid(), kept=kept)
        self.spec: ProgramSpec = self._program.spec
        try:
            self.hear(types, extras)
            self._ring = Merged([Ring(fd, size) for fd, size in zip(self._program.rings, self.spec.rings, strict=True)])
            self._program.attach()
        except BaseException:
            self._program.close()
            raise

    def prepare(self, types: Iterable[EventType]) -> None:
        """Hook what these events need beside what is hooked, so that `hear` need not wait. Any thread, one at a time.

        Raises `DiagnosticsError` where a call's function cannot be hooked; nothing has changed then.
        """
        try:
            self._program.prepare(types)
        except KernelError as error:
            hint = "restart the appliance: it begins with the tracepoint where functions cannot be hooked"
            raise DiagnosticsError([Diagnostic("hook-refused", str(error), hint=hint)]) from error

    def hear(self, types: Iterable[EventType], extras: Extras = BARE) -> None:
        """Hear these events from now on, and those that keep state true; no others. Any thread, but one at a time.

        `extras` come as well. Raises `KernelError` where a call's function cannot be hooked; what was heard before
        is heard still.
        """
        self._asked = frozenset(types)
        self._program.hear(self._asked, whole=self._whole, extras=extras)

    def drop_opens(self, but: KeptOpens | None) -> None:
        """From now on, drop opens in the kernel but for those that are to be kept; None: drop none. Any thread. Without
        `early`, nothing ever is. Raises OSError, and nothing has changed."""
        self._program.drop_opens(but)

    @property
    def heard(self) -> frozenset[EventType]:
        """The types of event that are heard now."""
        return self._program.heard

    def differences(self) -> list[str]:
        """What of ours in the kernel is not as we left it; empty where all is. Any thread."""
        return self._program.differences()

    def repair(self) -> None:
        """Put it right again. Raises `KernelError`, OSError."""
        self._program.repair()

    def costs(self) -> dict[str, tuple[int, int]]:
        """Runs and nanoseconds of each of our programs in the kernel; empty where the kernel does not count them."""
        return self._program.costs()

    def watch(self, fd: int) -> None:
        """Let `wait` return when this descriptor becomes readable, too."""
        self._poll.register(fd, select.EPOLLIN)

    def read(self, limit: int) -> list[RawEvent]:
        """The oldest records, at most `limit`, without waiting. The time from one call to the next, without a `wait` in
        between, is the work that records make: from it the kernel learns how much may wait."""
        if self._paced and self._pace.worked(time.monotonic_ns(), self._ring.read_bytes, self._ring.waiting_bytes):
            self._program.set_pace(self._pace.size)
        before = self._ring.skipped
        batch = self._ring.read(limit, skip=self.skip)
        if batch or self._ring.skipped != before:
            self._empty_looks = 0
        return batch

    def wait(self) -> None:
        """Wait a little: a pause while there is traffic, a sleep that the next record ends where there is none."""
        self._empty_looks += 1
        if self._empty_looks < _LOOKS:
            time.sleep(_PAUSE_S)
            return
        if self._paced and self._pace.idle():
            self._program.set_pace(self._pace.size)
        self._program.want_wakeup()
        if self._ring.empty:
            self._poll.poll(_NAP_S)

    @property
    def hooked(self) -> Hooks:
        """Where the ends of calls are heard, whatever was asked for."""
        return Hooks.FUNCTIONS if self.spec.doors else Hooks.TRACEPOINTS

    def describe(self) -> str:
        """What was chosen, for the start banner."""
        tracepoints = ", ".join(f"{name} (typed)" if name in self.spec.typed else name for name in self.spec.attached)
        calls = f"{self._program.calls} system calls"
        if self.spec.doors:
            calls += f" at {self._program.functions} functions of the kernel"
        rings = f"{len(self.spec.rings) - 1} rings and one for state" if len(self.spec.rings) > 2 else "2 rings"
        none = without_door(this_arch(), self.spec.doors, STATE | self._asked) if self.spec.doors else ()
        unseen = [*self.spec.blind, *([f"what this kernel names no function for: {', '.join(none)}"] if none else ())]
        blind = "".join(f"; not seen: {what}" for what in unseen)
        instead = f"; {self.instead}" if self.instead else ""
        return f"raw tracepoints {tracepoints}; {calls}; {rings}; {describe_machine()}{instead}{blind}"

    def books(self) -> Books:
        """The kernel's own counts since start."""
        return self._program.books()

    @property
    def undecodable(self) -> int:
        """Records that did not fit their layout."""
        return self._ring.undecodable

    @property
    def waiting_bytes(self) -> int:
        """Bytes of records that wait to be read."""
        return self._ring.waiting_bytes

    @property
    def holding(self) -> int:
        """Records that were read and wait for their turn."""
        return self._ring.holding

    def stop(self, take: Callable[[list[RawEvent]], None], go_on: Callable[[], bool] = lambda: True) -> Books:
        """Stop tracing, hand what is still in the ring to `take` while `go_on` says so, and give the final books: what
        is left then is unread in them."""
        self._program.detach()
        time.sleep(_PAUSE_S)  # programs that were running when their hook went still end their record
        while not self._ring.empty and go_on():
            take(self._ring.read(_DRAINED, all_=True))
        return self._program.books().with_unread(self._ring.discard())

    def close(self) -> None:
        """Give everything back to the kernel. Call `stop` first."""
        self._poll.close()
        self._ring.close()
        self._program.close()
