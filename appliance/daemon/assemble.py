"""The wings joined: from a generation and sinks to a loop that is armed.

Comes in: a `Generation`, a `Dispatcher`. Goes out: an `Appliance`. Never: a judgement of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from appliance.daemon.generation import Generation
from appliance.daemon.identity import internal_alerts, wall_offset_ns
from appliance.daemon.loop import Loop, Summary
from appliance.engine.state import State
from appliance.sinks.dispatch import Dispatcher
from appliance.sources.accounts import HostAccounts
from appliance.sources.container import ContainerSource, Engine
from appliance.sources.procfs import Procfs
from appliance.sources.syscall import SyscallSource


@dataclass(slots=True)
class Appliance:
    """Everything that runs. Make it with `arm`, then `run` it; `stop` may be called from a signal handler."""

    source: SyscallSource
    containers: ContainerSource
    dispatcher: Dispatcher
    loop: Loop

    def run(self) -> Summary:
        """Judge until `stop`; then give everything back and account for it. The dispatcher is closed by its owner."""
        try:
            return self.loop.run()
        finally:
            self.containers.close()
            self.source.close()

    def stop(self) -> None:
        """Ask `run` to return."""
        self.loop.stop()


def arm(generation: Generation, dispatcher: Dispatcher, *, hostname: str, new_id: Callable[[], str]) -> Appliance:
    """Attach to the kernel, then learn what ran before us. Takes seconds; raises `KernelError` and its kin.

    The order matters: first the hooks, then /proc, so that a process that starts in between is seen by one of them.
    """
    config = generation.config
    source = SyscallSource(config.capture.ring_mib << 20, generation.ruleset.event_types)
    containers = ContainerSource(
        [
            *(Engine("docker", socket) for socket in config.containers.docker_sockets),
            *(Engine("podman", socket) for socket in config.containers.podman_sockets),
        ]
    )
    processes = Procfs()
    state = State(
        accounts=HostAccounts(),
        read_process=processes.read_process,
        ask_container=containers.ask,
        wall_offset_ns=wall_offset_ns(),
    )
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
        make_alert=internal_alerts(hostname, new_id),
        wait_ns=config.containers.wait_ms * 1_000_000,
    )
    return Appliance(source, containers, dispatcher, loop)
