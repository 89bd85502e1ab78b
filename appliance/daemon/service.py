"""The appliance as operators meet it: signals, the control socket, file watching, around a loop that runs.

Comes in: an armed `Appliance` and its generation. Goes out: reloads, answers, alerts about the appliance itself. Never:
an end of the watching because one of these fails: what cannot be had is logged, and the loop goes on.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from appliance.config.settings import Config
from appliance.daemon.assemble import Appliance
from appliance.daemon.control import ControlError, ControlServer, diagnostic_to_json
from appliance.daemon.generation import Generation, build_generation, files_of
from appliance.daemon.identity import internal_alerts
from appliance.daemon.loop import Summary
from appliance.daemon.reload import Reloader, Verdict
from appliance.daemon.status import StatusReader, to_json, versions
from appliance.daemon.watch import Watcher
from appliance.model.alert import Priority
from appliance.model.diagnostic import Severity

log = logging.getLogger(__name__)

REFUSED_RULE = "Tercel internal: reload refused"
_RELOAD_S = 110.0  # who asks for a reload is answered by then


class Service:
    """Runs an appliance. `run` returns at its end; what was started around it has ended then, too."""

    def __init__(
        self,
        appliance: Appliance,
        generation: Generation,
        *,
        load: Callable[[], Config],
        hostname: str,
        new_id: Callable[[], str],
    ) -> None:
        """`load` reads the configuration anew, as the command line has it."""
        self._appliance = appliance
        self._make_alert = internal_alerts(hostname, new_id)
        self.reloader = Reloader(
            generation,
            build=lambda number: build_generation(load(), hostname=hostname, new_id=new_id, number=number),
            adopt=self._adopt,
            refused=self._refused,
        )
        self.status = StatusReader(appliance, self.reloader, hostname=hostname, started_ns=time.time_ns())
        self._control: ControlServer | None = None
        self._watcher: Watcher | None = None

    def start(self) -> None:
        """Begin to answer signals and askers. On the main thread, before `run`."""
        for number, action in (
            (signal.SIGINT, self._appliance.stop),
            (signal.SIGTERM, self._appliance.stop),
            (signal.SIGHUP, lambda: self.reloader.ask("SIGHUP")),
        ):
            signal.signal(number, _handler(action))
        self.reloader.start()
        self._follow(None, self.reloader.current.config)

    def run(self) -> Summary:
        """Judge until a signal ends it."""
        try:
            return self._appliance.run()
        finally:
            self.reloader.stop()
            if self._control is not None:
                self._control.stop()
            if self._watcher is not None:
                self._watcher.stop()

    # -- reload

    def _adopt(self, old: Generation, new: Generation) -> None:
        self._appliance.adopt(old, new)
        self._follow(old.config, new.config)

    def _refused(self, verdict: Verdict, who: str) -> None:
        errors = [d for d in verdict.diagnostics if d.severity is Severity.ERROR]
        first = errors[0].render().splitlines()[0] if errors else "no reason given"
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        alert = self._make_alert(
            REFUSED_RULE,
            Priority.ERROR,
            f"a reload was refused, generation {verdict.number} goes on: {first}{more}",
            {"reload.by": who, "reload.errors": len(errors), "generation": verdict.number, "reload.first": first},
        )
        self._appliance.loop.post(lambda: self._appliance.loop.tell(alert))

    def _follow(self, old: Config | None, new: Config) -> None:
        """Start, end or move what listens and watches, as a new configuration has it."""
        if old is None or old.control_socket != new.control_socket:
            self._listen(new)
        if self._watcher is not None:
            self._watcher.poke()
        elif old is None:
            self._watch()

    def _listen(self, config: Config) -> None:
        if self._control is not None:
            self._control.stop()
        self._control = ControlServer(
            config.control_socket,
            {
                "reload": self._answer_reload,
                "status": self._answer_status,
                "top": self._answer_status,
                "versions": lambda _: dict(versions()),
            },
        )
        try:
            self._control.start()
        except ControlError as error:
            log.warning("no control socket, so `tercel reload` and `tercel status` will not work: %s", error)
            self._control = None

    def _watch(self) -> None:
        watcher = Watcher(
            files=lambda: files_of(self.reloader.current.config),
            known=lambda: (self.reloader.current.digests, self.reloader.tried),
            changed=lambda: self.reloader.ask("a changed file"),
        )
        try:
            watcher.start()
        except OSError as error:
            log.warning("changed files will not be noticed: %s", error)
        else:
            self._watcher = watcher

    # -- answers

    def _answer_reload(self, request: Mapping[str, Any]) -> dict[str, Any]:
        done = threading.Event()
        verdicts: list[Verdict] = []

        def answer(verdict: Verdict) -> None:
            verdicts.append(verdict)
            done.set()

        self.reloader.ask("tercel reload", answer)
        if not done.wait(_RELOAD_S):
            return {"error": f"no verdict within {_RELOAD_S:.0f} s; see the log"}
        verdict = verdicts[0]
        return {
            "accepted": verdict.accepted,
            "generation": verdict.number,
            "changes": list(verdict.changes),
            "seconds": verdict.seconds,
            "diagnostics": [diagnostic_to_json(d) for d in verdict.diagnostics],
        }

    def _answer_status(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return to_json(self.status.read())


def _handler(action: Callable[[], None]) -> Callable[[int, FrameType | None], None]:
    return lambda number, frame: action()
