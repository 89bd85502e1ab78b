"""The appliance as operators meet it: signals, the control socket, file watching, around a loop that runs.

Comes in: an armed `Appliance` and its generation. Goes out: reloads, answers, alerts about the appliance itself. Never:
an end of the watching because one of these fails: what is missing is logged, and the loop goes on.
"""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import FrameType
from typing import Any

from appliance import __version__
from appliance.config.settings import Config, Metrics, Webserver
from appliance.daemon.assemble import Appliance
from appliance.daemon.control import ControlError, ControlServer
from appliance.daemon.cost import CostMeter
from appliance.daemon.generation import Generation, build_generation, files_of
from appliance.daemon.guard import Guard, Watched
from appliance.daemon.heartbeat import Heartbeat
from appliance.daemon.identity import internal_alerts
from appliance.daemon.loop import Summary
from appliance.daemon.metrics import OPENMETRICS, PROMETHEUS, SNAPSHOT_RULE, HookCost, collect, openmetrics, prometheus
from appliance.daemon.recorder import Recorded, Recorder
from appliance.daemon.reload import Reloader, Verdict, settle
from appliance.daemon.snapshots import Snapshots
from appliance.daemon.status import StatusReader, to_json, verdict_to_json, versions
from appliance.daemon.watch import Watcher
from appliance.daemon.web import JSON, WebError, WebServer, error_text
from appliance.host.systemd import Notifier
from appliance.model.alert import FieldValue, Priority
from appliance.model.diagnostic import Diagnostic, DiagnosticsError, Severity
from appliance.model.text import why
from appliance.sources.webhook import WebhookError

log = logging.getLogger(__name__)

REFUSED_RULE = "Tercel internal: reload refused"
RECORDED_RULE = "Tercel internal: recording"
RELOADED_RULE = "Tercel internal: reloaded"
_BEHIND_BYTES = 128 << 10  # in the rings: more than waits there while all is well
_REST_S = 0.020  # a loop that is always behind must not keep a build from its end
_NAP_S = 0.001
_END_US = 60_000_000  # beyond the drain: for hooks that let go slowly, and for the outputs
_RECORDING_S = 5.0
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
        self._hostname = hostname
        self._make_alert = internal_alerts(hostname, new_id)
        self.reloader = Reloader(
            generation,
            build=lambda number: build_generation(
                load(), hostname=hostname, new_id=new_id, number=number, rest=self._rest
            ),
            adopt=self._adopt,
            told=self._verdict,
            faults=appliance.faults,
        )
        self.status = StatusReader(appliance, self.reloader, hostname=hostname, started_ns=time.time_ns())
        self._notifier = Notifier()
        self._guard = Guard(
            Watched(
                differences=self._differences,
                repair=lambda: appliance.on_loop(appliance.source.repair),
                digests=lambda: self.reloader.current.digests,
                files=lambda: files_of(self.reloader.current.config),
                followed=lambda: self.reloader.current.config.watch_config_files,
            ),
            self._tell,
            faults=appliance.faults,
            state_file=generation.config.guard.state_file,
            interval_s=generation.config.guard.interval_ms / 1000,
        )
        self._costs = CostMeter(appliance.loop.sample)
        self._control: ControlServer | None = None
        self._watcher: Watcher | None = None
        self._web: WebServer | None = None
        self._snapshots: Snapshots | None = None
        self._heartbeat: Heartbeat | None = None

    def start(self) -> None:
        """Begin to answer signals and askers. On the main thread, before `run`."""
        for number, action in (
            (signal.SIGINT, self._appliance.stop),
            (signal.SIGTERM, self._appliance.stop),
            (signal.SIGHUP, lambda: self.reloader.ask("SIGHUP")),
            (signal.SIGUSR1, self._appliance.dispatcher.reopen),  # Falco's, for logrotate
        ):
            signal.signal(number, _handler(action))
        self.reloader.start()
        config = self.reloader.current.config
        control = web = None
        try:
            control = self._listening(config)
        except ControlError as error:
            log.warning("no control socket, so `tercel reload` and `tercel status` will not work: %s", error)
        try:
            web = self._serving(config)
        except WebError as error:
            log.error("no web server: %s", error)
        self._follow(None, config, control, web)
        self._guard.start({"version": __version__, "started_ns": time.time_ns()})
        self._record(None, self.reloader.current)
        self._appliance.loop.pulse = lambda: self._notifier.alive(self._line)
        self._notifier.tell(READY=1, STATUS="armed")
        settle()

    def _line(self) -> str:
        """How it goes, for `systemctl status`. On the loop's thread."""
        counts = self._appliance.loop.counts
        return (
            f"generation {self.reloader.current.number}: {len(self.reloader.current.ruleset.rules)} rules,"
            f" {counts.judged} events judged, {counts.by_rule.total()} alerts"
        )

    def run(self) -> Summary:
        """Judge until a signal ends it."""
        farewell = False
        try:
            summary = self._appliance.run(self._ending)
            farewell = True
            return summary
        finally:
            self._notifier.tell(STOPPING=1, STATUS="ending")
            self._quietly(lambda: self._guard.stop(farewell=farewell))
            self._quietly(self._end_recording)
            self._quietly(self.reloader.stop)
            for part in (self._control, self._watcher, self._web, self._snapshots, self._heartbeat):
                if part is not None:
                    self._quietly(part.stop)

    def _ending(self) -> None:
        """The end begins. The manager has to know it first: it then asks for no more signs of life."""
        capture = self.reloader.current.config.capture
        extend_us = capture.drain_ms * 1000 + _END_US
        self._notifier.tell(STOPPING=1, STATUS="ending", EXTEND_TIMEOUT_USEC=extend_us)

    def _end_recording(self) -> None:
        recorder = self._appliance.loop.recorder
        if recorder is not None and (writing := recorder.end()) is not None:
            writing.join(_RECORDING_S)
            if writing.is_alive():
                log.error("a recording was not written to its end")

    def _quietly(self, action: Callable[[], None]) -> None:
        """One part's error at the end keeps no other part from its end."""
        try:
            action()
        except Exception:
            self._appliance.faults.caught("the end")

    def _tell(self, rule: str, priority: Priority, output: str, fields: Mapping[str, FieldValue]) -> None:
        """An alert of our own, from any thread."""
        alert = self._make_alert(rule, priority, output, fields)
        self._appliance.loop.post(lambda: self._appliance.loop.tell(alert))

    def _differences(self) -> list[str]:
        """Twice: a table is being written at the first look when a generation is swapped."""
        found = self._appliance.source.differences()
        if found:
            confirmed: list[str] = []
            self._appliance.on_loop(lambda: confirmed.extend(self._appliance.source.differences()))
            return confirmed
        return found

    # -- reload

    def _rest(self) -> None:
        """Between two steps of a build: the loop goes first while it is behind, for a moment at most."""
        until = time.monotonic() + _REST_S
        with contextlib.suppress(ValueError):  # a ring that was closed: the appliance ends
            while self._appliance.source.waiting_bytes > _BEHIND_BYTES and time.monotonic() < until:
                time.sleep(_NAP_S)

    def _adopt(self, old: Generation, new: Generation) -> None:
        """What can fail comes first: a port that is taken refuses the reload, and the old generation goes on.

        Certificates and tokens may be others under the same names: they are read again.
        """
        control = web = None
        renewed = _nothing
        try:
            if self._appliance.audit is not None:
                renewed = self._appliance.audit.renew()
            if old.config.control_socket != new.config.control_socket:
                control = self._listening(new.config)
            if _serves_anew(old.config, new.config):
                web = self._serving(new.config, old.config.webserver)
            self._appliance.adopt(old, new, lambda: self._record(old, new))
        except Exception as error:
            for made in (control, web):
                if made is not None:
                    made.stop()
            if isinstance(error, ControlError | WebError | WebhookError):
                raise DiagnosticsError([_cannot_listen(error)]) from error
            raise
        renewed()
        self._follow(old.config, new.config, control, web)

    def _record(self, old: Generation | None, new: Generation) -> None:
        """Recordings as a generation has them. On the loop's thread, or before it runs."""
        loop, settings = self._appliance.loop, new.config.capture
        loop.digests = new.digests
        if old is not None and old.config.capture == settings:
            return
        if loop.recorder is not None:
            loop.recorder.end()
        loop.recorder = (
            Recorder(settings, hostname=self._hostname, done=self._recorded, faults=self._appliance.faults)
            if settings.enabled
            else None
        )

    def _recorded(self, recorded: Recorded) -> None:
        """An alert, so that whoever reads the one about the host finds the events around it."""
        facts: dict[str, FieldValue] = {
            "recording.file": str(recorded.path), "recording.rule": recorded.rule, "recording.events": recorded.events,
        }  # fmt: skip
        if recorded.error:
            self._tell(
                RECORDED_RULE,
                Priority.WARNING,
                f"events around an alert of `{recorded.rule}` cannot be written to {recorded.path}: {recorded.error}",
                facts,
            )
            return
        cut = f"; not whole: {recorded.cut}" if recorded.cut else ""
        log.info("recorded %d events in %s", recorded.events, recorded.path)
        self._tell(
            RECORDED_RULE,
            Priority.INFORMATIONAL,
            f"{recorded.events} events around an alert of `{recorded.rule}` are in {recorded.path}{cut}",
            facts,
        )

    def _verdict(self, verdict: Verdict, who: str) -> None:
        """An alert: of a refusal, and of an acceptance that changes something, for whoever did not ask for it."""
        if verdict.accepted:
            if verdict.changes and self.reloader.current.config.priority >= Priority.NOTICE:
                changes = "; ".join(verdict.changes)
                self._tell(
                    RELOADED_RULE,
                    Priority.NOTICE,
                    f"generation {verdict.number} is in force, asked for by {who}: {changes}",
                    {"reload.by": who, "generation": verdict.number, "reload.changes": changes},
                )
            return
        errors = [d for d in verdict.diagnostics if d.severity is Severity.ERROR]
        first = errors[0].render().splitlines()[0] if errors else "no reason given"
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        self._tell(
            REFUSED_RULE,
            Priority.ERROR,
            f"a reload was refused, generation {verdict.number} goes on: {first}{more}",
            {"reload.by": who, "reload.errors": len(errors), "generation": verdict.number, "reload.first": first},
        )

    def _follow(self, old: Config | None, new: Config, control: ControlServer | None, web: WebServer | None) -> None:
        """Start, end or move what listens and watches, as a new configuration has it. The servers are the new ones,
        `web` not started yet."""
        if old is None or old.control_socket != new.control_socket:
            if self._control is not None:
                self._control.stop()
            self._control = control
        if old is None or _serves_anew(old, new):
            if self._web is not None:
                self._web.stop()
            self._web = web
            if web is not None:
                try:
                    web.start(self._appliance.faults)
                except OSError as error:
                    self._web = None
                    log.error("no web server until its settings change, or a restart: %s", why(error))
                else:
                    log.info("web server on %s port %d", new.webserver.listen_address, web.port)
        if old is None or old.metrics != new.metrics:
            self._take_snapshots(new.metrics)
        if old is None or (old.hub, old.http_output) != (new.hub, new.http_output):
            self._beat(new)
        if self._watcher is not None and not new.watch_config_files:
            self._watcher.stop()
            self._watcher = None
        elif self._watcher is not None:
            self._watcher.poke()
        elif new.watch_config_files:
            self._watch()

    def _listening(self, config: Config) -> ControlServer:
        """A control socket that answers. Raises `ControlError`."""
        control = ControlServer(
            config.control_socket,
            {
                "reload": self._answer_reload,
                "status": self._answer_status,
                "top": self._answer_top,
                "versions": lambda _: dict(versions()),
            },
            self._appliance.faults,
        )
        control.start()
        return control

    def _watch(self) -> None:
        watcher = Watcher(
            files=lambda: files_of(self.reloader.current.config),
            known=lambda: (self.reloader.current.digests, self.reloader.tried),
            changed=lambda: self.reloader.ask("a changed file"),
            faults=self._appliance.faults,
        )
        try:
            watcher.start()
        except OSError as error:
            log.warning("changed files will not be noticed: %s", error)
        else:
            self._watcher = watcher

    def _serving(self, config: Config, before: Webserver | None = None) -> WebServer | None:
        """A web server that has its port, and is not started; None where none is wanted. Raises `WebError`.

        `before` are the settings of the one that runs: where its address stays the same, so does its socket.
        """
        settings = config.webserver
        if not settings.enabled:
            return None
        pages = {
            "/versions": lambda accept, details: (HTTPStatus.OK, JSON, json.dumps(versions())),
            "/metrics": self._metrics_page,
            settings.k8s_healthz_endpoint: self._health_page,
        }
        at = (settings.listen_address, settings.listen_port)
        same = before is not None and at == (before.listen_address, before.listen_port)
        return WebServer(settings, pages, self._web if same else None)

    def _beat(self, config: Config) -> None:
        if self._heartbeat is not None:
            self._heartbeat.stop()
            self._heartbeat = None
        if config.hub.url:
            self._heartbeat = Heartbeat(
                config.hub, config.http_output, status=self.status.read, faults=self._appliance.faults
            )
            try:
                self._heartbeat.start()
            except RuntimeError:
                self._heartbeat = None
                log.error("cannot start a thread: no heartbeats until the settings of the hub change, or a restart")

    def _take_snapshots(self, metrics: Metrics) -> None:
        if self._snapshots is not None:
            self._snapshots.stop()
            self._snapshots = None
        if metrics.enabled and (metrics.output_rule or metrics.output_file):
            self._snapshots = Snapshots(
                metrics,
                status=self.status.read,
                hooks=self._hook_costs,
                tell=self._tell_snapshot,
                faults=self._appliance.faults,
            )
            try:
                self._snapshots.start()
            except RuntimeError:
                self._snapshots = None
                log.error("no snapshots of metrics until their settings change, or a restart: cannot start a thread")

    def _tell_snapshot(self, fields: Mapping[str, FieldValue]) -> None:
        if self.reloader.current.config.priority < Priority.INFORMATIONAL:
            return  # as for any rule below the lowest priority
        self._tell(SNAPSHOT_RULE, Priority.INFORMATIONAL, "Tercel metrics snapshot", fields)

    def _hook_costs(self) -> list[HookCost]:
        return [HookCost(hook, runs, run_ns) for hook, (runs, run_ns) in self._appliance.source.costs().items()]

    # -- answers

    def _metrics_page(self, accept: str, details: bool) -> tuple[HTTPStatus, str, str]:
        config = self.reloader.current.config
        if not (config.metrics.enabled and config.webserver.prometheus_metrics_enabled):
            why = "metrics are off: set metrics.enabled and webserver.prometheus_metrics_enabled"
            return HTTPStatus.NOT_FOUND, JSON, error_text(why)
        status = self.status.read()
        costs = self._costs.costs(status.generation.ruleset) if config.metrics.rules_counters_enabled else ()
        metrics = collect(status, config.metrics, costs, self._hook_costs())
        if "application/openmetrics-text" in accept:
            return HTTPStatus.OK, OPENMETRICS, openmetrics(metrics)
        return HTTPStatus.OK, PROMETHEUS, prometheus(metrics)

    def _health_page(self, accept: str, details: bool) -> tuple[HTTPStatus, str, str]:
        troubles = self.status.read().troubles()
        told: dict[str, object] = {"status": "unhealthy" if troubles else "ok"}
        if troubles and details:
            told["troubles"] = troubles
        return (HTTPStatus.SERVICE_UNAVAILABLE if troubles else HTTPStatus.OK), JSON, json.dumps(told)

    def _answer_top(self, request: Mapping[str, Any]) -> dict[str, Any]:
        status = self.status.read()
        costs = self._costs.costs(status.generation.ruleset)
        hooks = [{"hook": h.hook, "runs": h.runs, "run_ns": h.run_ns} for h in self._hook_costs()]
        return to_json(status) | {
            "costs": [{"rule": c.rule, "ns": c.ns, "share": c.share, "events": c.events} for c in costs],
            "hooks_cost": hooks,
        }

    def _answer_reload(self, request: Mapping[str, Any]) -> dict[str, Any]:
        done = threading.Event()
        verdicts: list[Verdict] = []

        def answer(verdict: Verdict) -> None:
            verdicts.append(verdict)
            done.set()

        self.reloader.ask("tercel reload", answer)
        if not done.wait(_RELOAD_S):
            return {"error": f"no verdict within {_RELOAD_S:.0f} s; see the log"}
        return verdict_to_json(verdicts[0])

    def _answer_status(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return to_json(self.status.read())


def _serves_anew(old: Config, new: Config) -> bool:
    """Whether there is to be another web server: the settings are others, or files that they name may be."""
    settings = new.webserver
    return old.webserver != settings or (settings.enabled and bool(settings.ssl_enabled or settings.token_file))


def _cannot_listen(error: ControlError | WebError | WebhookError) -> Diagnostic:
    key = {ControlError: "control_socket", WebError: "webserver"}.get(type(error), "plugins")
    return Diagnostic(
        "cannot-listen", f"`{key}`: {error}", hint="mend the file, or choose another place, or end what has this one"
    )


def _nothing() -> None:
    pass


def _handler(action: Callable[[], None]) -> Callable[[int, FrameType | None], None]:
    return lambda number, frame: action()
