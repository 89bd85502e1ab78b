"""The wings joined: from a generation and sinks to a loop that is armed.

Comes in: a `Generation`, a `Dispatcher`. Goes out: an `Appliance`. Never: a judgement of its own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TextIO

from appliance.config.plugins import k8s_audit
from appliance.config.settings import LOG_LEVELS, Capture, ContainerEngines
from appliance.daemon.audit import Audit
from appliance.daemon.canary import CALLS, LATE_RULE, Canary
from appliance.daemon.early import EarlyFilter
from appliance.daemon.generation import Generation
from appliance.daemon.identity import boot_offset_ns, internal_alerts, wall_offset_ns
from appliance.daemon.ledger import Ledger
from appliance.daemon.loop import Loop, Summary
from appliance.daemon.shortcut import Shortcut
from appliance.engine.needs import Needs
from appliance.engine.state import State
from appliance.host.faults import Faults
from appliance.kernel.program import Buffers, Extras, Hooks
from appliance.model.alert import Alert, Priority
from appliance.model.event import RawEvent
from appliance.sinks.build import sink_changes, spool_maker
from appliance.sinks.dispatch import Dispatcher
from appliance.sources.accounts import HostAccounts
from appliance.sources.container import ContainerSource, user_engines
from appliance.sources.cri import Engine as CriEngine
from appliance.sources.digests import Digests
from appliance.sources.docker_api import Engine
from appliance.sources.domains import Domains
from appliance.sources.procfs import Procfs
from appliance.sources.syscall import SyscallSource
from appliance.sources.webhook import WebhookError

_ROUNDS = 8  # of reading the processes that lack a fact
_AT_ONCE = 64  # processes that the loop learns of between two batches of events
_SWAP_S = 30.0  # the loop looks at what is posted many times a second


@dataclass(slots=True)
class Appliance:
    """Everything that runs. Make it with `arm`, then `run` it; `stop` may be called from a signal handler."""

    source: SyscallSource
    containers: ContainerSource
    domains: Domains
    dispatcher: Dispatcher
    loop: Loop
    canary: Canary
    stream: TextIO  # standard output, for sinks made later
    digests: Digests
    processes: Procfs
    state: State  # the loop's
    faults: Faults
    make_alert: Callable[..., Alert]
    audit: Audit | None = None

    def adopt(self, old: Generation, new: Generation, also: Callable[[], None] = lambda: None) -> None:
        """Swap generations at one point of the stream of events; returns when it is done. Not on the loop's thread.

        The ruleset and the sinks that changed are swapped between two batches, and then `also` is called there; the
        kernel's program stays as it is, and hears from then on what the new rules ask for.
        Raises TimeoutError, or `DiagnosticsError` where the kernel refuses a hook, and then nothing was swapped.
        """
        needs, types = new.needs, new.needs.types | self.canary.types
        self.source.prepare(types)
        if needs.environments and not old.needs.environments:
            self.processes.environments = True
            self._learn_environments(old.needs, needs)
        gone, sinks = sink_changes(old.config, new.config, self.stream)

        def swap() -> None:
            self.source.hear(types, extras_of(needs))
            self.state.remember(needs.closes)
            self.processes.environments = needs.environments
            self.loop.adopt(new.ruleset)
            self.domains.watch(needs.domains)
            self.loop.ledger.settings = new.config.syscall_event_drops
            if gone or sinks or old.config.outputs != new.config.outputs:
                config = new.config
                self.dispatcher.replace(
                    gone,
                    sinks,
                    capacity=config.outputs_queue.capacity,
                    outputs=config.outputs,
                    spool=spool_maker(config),
                )
            also()

        self.on_loop(swap)
        if old.config.log_level != new.config.log_level:
            logging.getLogger().setLevel(LOG_LEVELS[new.config.log_level])

    def _learn_environments(self, old: Needs, new: Needs) -> None:
        """Before rules that ask for environments are judged: from now on starting programs tell theirs, and those of
        all that run are read. Not on the loop's thread; raises TimeoutError.

        What is born of a process that has not been read yet, or started by a record that waits in a ring, is found in
        the next round.
        """
        self.on_loop(lambda: self.source.hear(old.types | self.canary.types, extras_of(new)))
        missing: list[int] = []
        told: list[RawEvent] = []

        def look() -> None:
            missing[:] = self.state.without_environment()

        def learn() -> None:
            for raw in told:
                self.state.apply(raw)

        for _ in range(_ROUNDS):
            self.on_loop(look)
            if not missing:
                return
            pids = iter(tuple(missing))
            while some := tuple(islice(pids, _AT_ONCE)):
                told[:] = [raw for pid in some if (raw := self.processes.read_process(pid)) is not None]
                self.on_loop(learn)

    def on_loop(self, action: Callable[[], None], patience_s: float = _SWAP_S) -> None:
        """Run `action` on the loop's thread and wait for it. Raises TimeoutError, and then it will not run; at once
        where the loop has ended."""
        if self.loop.ended:
            raise TimeoutError("the loop has ended")
        permits = [True]  # taken once: by the loop, or by who gives up
        done = threading.Event()

        errors: list[Exception] = []

        def once() -> None:
            try:
                permits.pop()
            except IndexError:
                return
            try:
                action()
            except Exception as error:
                errors.append(error)
            finally:
                done.set()

        self.loop.post(once)
        if not done.wait(patience_s):
            try:
                permits.pop()
            except IndexError:
                done.wait()
            else:
                raise TimeoutError(f"the loop did not answer within {patience_s:.0f} s")
        if errors:
            raise errors[0]

    def describe(self) -> dict[str, str]:
        """What is heard, for the start banner: the kernel's hooks, and the other sources."""
        heard = {"hooks": self.source.describe()}
        return heard if self.audit is None else {**heard, "audit": self.audit.describe()}

    def run(self, ending: Callable[[], None] = lambda: None) -> Summary:
        """Judge until `stop`; then give everything back and account for it. `ending` is called when the end begins. The
        dispatcher is closed by its owner."""
        self.canary.start(self._tell_late)
        if self.audit is not None:
            self.audit.start()
        try:
            return self.loop.run(partial(self._begin_to_end, ending))
        finally:
            if self.audit is not None:
                self.audit.give_up()
            for part in (self.containers, self.domains, self.digests, self.source):
                try:
                    part.close()
                except Exception:
                    self.faults.caught("the end")

    def _tell_late(self, waited_s: float) -> None:
        """The canary is late. From its own thread."""
        self.loop.post(lambda: self.loop.tell(canary_alert(self.make_alert, waited_s)))

    def _begin_to_end(self, ending: Callable[[], None]) -> None:
        """What makes events stops first; what is on its way from it is still judged."""
        ending()
        if self.audit is not None:
            self.audit.close()
        self.canary.stop()

    def stop(self) -> None:
        """Ask `run` to return."""
        self.loop.stop()


def capture_buffers(capture: Capture) -> Buffers:
    """The rings as they are configured."""
    return Buffers(capture.ring_mib << 20, capture.state_ring_mib << 20, capture.cpus_per_ring)


def engines_of(containers: ContainerEngines) -> list[Engine | CriEngine]:
    """The container engines that are asked."""
    return [
        *(Engine("docker", socket) for socket in containers.docker_sockets),
        *(Engine("podman", socket) for socket in containers.podman_sockets),
        *(CriEngine("containerd", socket) for socket in containers.containerd_sockets),
        *(CriEngine("cri-o", socket) for socket in containers.crio_sockets),
    ]


def canary_alert(make_alert: Callable[..., Alert], waited_s: float) -> Alert:
    """The alert about a canary that has not come through in time."""
    return make_alert(
        LATE_RULE,
        Priority.CRITICAL,
        f"an act of the appliance's own was not seen within {waited_s:.1f} s: events may be late or lost",
        {"canary.waited_ms": round(waited_s * 1e3)},
    )


def extras_of(needs: Needs) -> Extras:
    """What rules need of the kernel beyond the arguments of calls."""
    return Extras(real=needs.real_paths, environment=needs.environments)


def arm(
    generation: Generation, dispatcher: Dispatcher, stream: TextIO, *, hostname: str, new_id: Callable[[], str]
) -> Appliance:
    """Attach to the kernel, then learn what ran before us. Takes seconds; raises `KernelError` and its kin.

    The order matters: first the hooks, then /proc, so that a process that starts in between is seen by one of them.
    """
    config = generation.config
    capture = config.capture
    make_alert = internal_alerts(hostname, new_id)
    needs = generation.needs
    faults = Faults()
    canary = Canary(config.canary, faults=faults)
    source = SyscallSource(
        capture_buffers(capture),
        needs.types | canary.types,
        extras=extras_of(needs),
        no_failed=capture.drop_failed,
        always_failed=CALLS,
        programs=capture.programs,
        hooks=Hooks(capture.hooks),
        early=capture.filter == "arguments",
    )
    containers = ContainerSource(
        engines_of(config.containers),
        discover=user_engines if config.containers.user_engines else tuple,
        faults=faults,
    )
    domains = Domains(faults=faults)
    domains.watch(needs.domains)
    processes = Procfs(environments=needs.environments)
    state = State(
        accounts=HostAccounts(),
        read_process=processes.read_process,
        ask_container=containers.ask,
        wall_offset_ns=wall_offset_ns(),
        boot_offset_ns=boot_offset_ns(),
        domains=lambda: domains.names,
        read_usage=processes.usage,
        parent_now=processes.parent,
    )
    state.remember(needs.closes)
    digests = Digests(faults=faults)
    containers.start()
    for raw in processes.scan():
        state.apply(raw)
    source.watch(containers.fileno())
    loop = Loop(
        source=source,
        state=state,
        ruleset=generation.ruleset,
        alerts=dispatcher,
        containers=containers,
        wall_offset_ns=wall_offset_ns,
        make_alert=make_alert,
        wait_ns=config.containers.wait_ms * 1_000_000,
        ledger=Ledger(config.syscall_event_drops, make_alert),
        canary=canary,
        digests=digests,
        faults=faults,
        drain_ns=capture.drain_ms * 1_000_000,
    )
    source.watch(digests.fileno())
    loop.shortcut = Shortcut(generation.ruleset, state.knows, faults=faults)
    source.skip = loop.shortcut.skip
    if capture.filter == "arguments":
        loop.early = EarlyFilter(source.drop_opens)
    source.watch(loop.fileno())
    settings = k8s_audit(config.plugins, config.load_plugins)
    audit = None
    if settings is not None:
        try:
            audit = Audit(settings, loop, make_alert)
        except WebhookError:
            containers.close()
            domains.close()
            digests.close()
            source.close()
            raise
    return Appliance(
        source, containers, domains, dispatcher, loop, canary, stream, digests, processes, state, faults, make_alert,
        audit,
    )  # fmt: skip
