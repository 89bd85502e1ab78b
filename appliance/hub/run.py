"""`tercel hub run`: three parts, each a process, and who starts them again.

Comes in: settings, signals. Goes out: the exit status; READY, WATCHDOG and STOPPING for systemd. Never: work of a part
in this process, so that none of them can stop it.

SIGTERM ends the collector first, then outputs deliver what waits, within `shutdown_s`. SIGHUP reads the configuration
anew: refused, all goes on as it was; else each part whose settings or files changed is started anew. The listening
socket stays open meanwhile, so that no sender is turned away.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import random
import select
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path

from appliance.host.systemd import JournalFormatter, Notifier, inherited_sockets, logs_to_journal
from appliance.hub.load import may_collect_at, may_show_at
from appliance.hub.settings import HubSettings, Log
from appliance.model.diagnostic import ConfigError
from appliance.model.moment import iso_time
from appliance.model.text import json_safe, printable, why

log = logging.getLogger(__name__)

_BACKOFF_S = 0.5
_BACKOFF_MAX_S = 30.0
_STEADY_S = 60.0
_HUNG_S = 60.0
_GRACE_S = 5.0
_TICK_S = 0.25


@dataclass(slots=True)
class Listening:
    """The hub's listening sockets. `page` is None where the page opens its own; `given`: the service manager opened
    them, and settings of addresses do not count."""

    collector: socket.socket
    page: socket.socket | None = None
    given: bool = False

    def close(self) -> None:
        """Listen no more."""
        self.collector.close()
        if self.page is not None:
            self.page.close()


Start = Callable[[HubSettings, Listening, Callable[[], None]], int]


def _collect(settings: HubSettings, listening: Listening, alive: Callable[[], None]) -> int:
    if listening.page is not None:
        listening.page.close()
    from appliance.hub.ingest.serve import collect

    return collect(settings, listening.collector, alive)


def _deliver(settings: HubSettings, listening: Listening, alive: Callable[[], None]) -> int:
    listening.close()
    from appliance.hub.outputs.deliver import deliver

    return deliver(settings, alive)


def _page(settings: HubSettings, listening: Listening, alive: Callable[[], None]) -> int:
    listening.collector.close()
    from appliance.hub.web.serve import main

    return main(settings, alive, listening.page)


def has_page() -> bool:
    """Whether this installation has the page."""
    import importlib.util

    return importlib.util.find_spec("appliance.hub.web.serve") is not None


@dataclass(slots=True)
class Part:
    """A process of the hub: `pid` 0 while there is none. `beat` is the end of a pipe on which it says that it lives."""

    name: str
    start: Start
    pid: int = 0
    beat: int = -1
    heard_s: float = 0.0
    beats: int = 0
    started_s: float = 0.0
    failures: int = 0
    due_s: float = 0.0
    ends_by_s: float | None = None
    restarts: int = 0
    uses: object = None


PARTS: Mapping[str, Start] = {"collect": _collect, "deliver": _deliver, "page": _page}
_USED = {
    "collect": ("collector", "journal", "enrichment", "fleet", "shutdown_s"),
    "deliver": ("outputs", "journal", "shutdown_s"),
    "page": ("page", "journal", "fleet", "outputs", "collector", "shutdown_s"),
}
"""The settings that a part depends on; a part of another name depends on all."""


def used_by(part: str, settings: HubSettings) -> object:
    """All that a part depends on, to be compared: its settings, and the state of each file that they name."""
    names = _USED.get(part, tuple(one.name for one in fields(settings)))
    values = [getattr(settings, name) for name in names]
    return values, [state for value in values for state in _files_in(value)]


def _files_in(value: object) -> Iterator[tuple[str, int, int, int]]:
    """Path, inode, size, time (ns) of each file that a setting names: a certificate is renewed under its old name."""
    if is_dataclass(value):
        for one in fields(value):
            yield from _files_in(getattr(value, one.name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _files_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _files_in(item)
    elif isinstance(value, Path) or (isinstance(value, str) and value.startswith("/")):
        with contextlib.suppress(OSError, ValueError):
            found = Path(value).stat()
            if stat.S_ISREG(found.st_mode):
                yield str(value), found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(slots=True)
class Supervisor:
    """Starts parts and starts them again. `load` reads the configuration anew."""

    settings: HubSettings
    load: Callable[[], HubSettings]
    starts: Mapping[str, Start] = field(default_factory=lambda: PARTS)
    _parts: list[Part] = field(default_factory=list)
    _listening: Listening | None = None
    _signals: set[int] = field(default_factory=set)
    _ready: bool = False

    def run(self) -> int:
        """Until SIGTERM or SIGINT; 1 where the address cannot be listened at or the data has no place."""
        try:
            self.settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        except OSError as error:
            log.error("cannot make the folder of `data_dir`, %s: %s", self.settings.data_dir, why(error))
            return 1
        try:
            self._listening = listen(self.settings)
        except OSError as error:
            collector = self.settings.collector
            log.error("cannot listen at %s:%d: %s", collector.address, collector.port, why(error))
            return 1
        notifier = Notifier()
        self._parts = [Part(name, start) for name, start in self.starts.items()]
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        before = signal.set_wakeup_fd(writer)
        wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        handlers = {number: signal.signal(number, self._note) for number in wanted}
        port = self._listening.collector.getsockname()[1]
        log.info("collector: %s:%d, data: %s", self.settings.collector.address, port, self.settings.data_dir)
        try:
            while True:
                self._look(time.monotonic())
                notifier.alive(self._line)
                if not self._ready and all(part.beats for part in self._parts if part.name != "page"):
                    self._ready = True
                    notifier.tell(READY=1, STATUS=self._line())
                    log.info("ready")
                self._wait(reader)
                if self._signals & {signal.SIGTERM, signal.SIGINT}:
                    notifier.tell(STOPPING=1)
                    self._end()
                    return 0
                if signal.SIGHUP in self._signals:
                    self._signals.discard(signal.SIGHUP)
                    notifier.tell(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
                    self._reload()
                    notifier.tell(READY=1)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)
            os.close(reader)
            os.close(writer)
            self._kill()
            self._listening.close()
            notifier.close()

    def _note(self, number: int, frame: object) -> None:
        self._signals.add(number)

    def _wait(self, reader: int) -> None:
        """Until something happens, a tick at most; take what parts said."""
        beats = {part.beat: part for part in self._parts if part.beat >= 0}
        found, _, _ = select.select([reader, *beats], [], [], _TICK_S)
        for descriptor in found:
            with contextlib.suppress(BlockingIOError):
                said = os.read(descriptor, 4096)
                if descriptor in beats and said:
                    beats[descriptor].heard_s = time.monotonic()
                    beats[descriptor].beats += 1
                elif descriptor in beats:
                    os.close(descriptor)
                    beats[descriptor].beat = -1

    def _look(self, now: float) -> None:
        """Take note of parts that have ended, end those that hang, start those that are due."""
        for part in self._parts:
            if part.pid:
                self._reap(part, now)
            if part.pid and part.ends_by_s is not None and now > part.ends_by_s:
                os.kill(part.pid, signal.SIGKILL)
            elif part.pid and part.beats and now - part.heard_s > _HUNG_S:
                log.error("%s: not a word for %.0f s: it is ended and started again", part.name, _HUNG_S)
                os.kill(part.pid, signal.SIGKILL)
                part.heard_s = now
            if not part.pid and now >= part.due_s:
                self._start(part, now)

    def _reap(self, part: Part, now: float) -> None:
        pid, status = os.waitpid(part.pid, os.WNOHANG)
        if not pid:
            return
        code = os.waitstatus_to_exitcode(status)
        part.pid = 0
        if part.beat >= 0:
            os.close(part.beat)
            part.beat = -1
        if part.ends_by_s is not None:  # we asked for it
            part.ends_by_s, part.due_s = None, now
            return
        part.failures = 0 if now - part.started_s > _STEADY_S else part.failures + 1
        pause_s = min(_BACKOFF_MAX_S, _BACKOFF_S * 2.0 ** max(0, part.failures - 1)) * random.uniform(0.5, 1.0)  # noqa: S311
        part.due_s = now + pause_s
        part.restarts += 1
        how = f"signal {-code}" if code < 0 else f"status {code}"
        log.error("%s ended with %s and is started again in %.1f s", part.name, how, pause_s)

    def _start(self, part: Part, now: float) -> None:
        listening = self._listening
        if listening is None:
            raise AssertionError("nothing listens")
        uses = used_by(part.name, self.settings)
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        sys.stdout.flush()
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # until the child has a handler of its own
        pid = os.fork()
        if not pid:
            code = 1
            try:
                os.close(reader)
                code = self._be(part, listening, writer)
            except BaseException:
                logging.getLogger(part.name).exception("a fault of our own")
            finally:
                logging.shutdown()
                os._exit(code)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os.close(writer)
        part.pid, part.beat, part.beats, part.started_s, part.heard_s = pid, reader, 0, now, now
        part.uses = uses

    def _be(self, part: Part, listening: Listening, writer: int) -> int:
        """What a new process does."""
        with contextlib.suppress(OSError):  # what `ps` and `top` show
            Path("/proc/self/comm").write_text(f"hub-{part.name}")
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGHUP, signal.SIGINT):  # of a terminal; the supervisor says when
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _leave)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        for other in self._parts:
            if other.beat >= 0:
                os.close(other.beat)

        def alive() -> None:
            try:
                os.write(writer, b".")
            except BlockingIOError:
                return
            except BrokenPipeError:  # the supervisor is gone
                os.kill(os.getpid(), signal.SIGTERM)

        return part.start(self.settings, listening, alive)

    def _reload(self) -> None:
        try:
            settings = self.load()
        except ConfigError as error:
            log.error("the new configuration is refused, the old one goes on:\n%s", error)
            return
        old = self.settings.collector
        moved = (settings.collector.address, settings.collector.port) != (old.address, old.port)
        if moved and self._listening is not None and not self._listening.given:
            try:
                made = listen(settings)
            except OSError as error:
                log.error("the new configuration is refused, the old one goes on: cannot listen: %s", why(error))
                return
            self._listening.close()
            self._listening = made
        if settings.data_dir != self.settings.data_dir:
            log.warning("`data_dir` changes at the next start")
        self.settings = settings
        limit_s = settings.shutdown_s + _GRACE_S
        changed = [part for part in self._parts if part.pid and part.uses != used_by(part.name, settings)]
        for part in changed:
            part.ends_by_s = time.monotonic() + limit_s
            os.kill(part.pid, signal.SIGTERM)
        names = ", ".join(part.name for part in changed)
        log.info("the configuration is read anew; started again: %s", names or "nothing, for nothing has changed")

    def _end(self) -> None:
        """The collector and the page first; outputs deliver what that left."""
        limit_s = self.settings.shutdown_s + _GRACE_S
        for names in (("collect", "page"), ("deliver",)):
            group = [part for part in self._parts if part.name in names]
            for part in group:
                if part.pid:
                    os.kill(part.pid, signal.SIGTERM)
            end = time.monotonic() + limit_s
            while any(part.pid for part in group) and time.monotonic() < end:
                for part in group:
                    if part.pid and os.waitpid(part.pid, os.WNOHANG)[0]:
                        part.pid = 0
                time.sleep(0.02)
        self._kill()
        log.info("ended")

    def _kill(self) -> None:
        for part in self._parts:
            if part.pid:
                log.warning("%s did not end in time", part.name)
                os.kill(part.pid, signal.SIGKILL)
                os.waitpid(part.pid, 0)
                part.pid = 0

    def _line(self) -> str:
        down = [part.name for part in self._parts if not part.pid]
        return f"not running: {', '.join(down)}" if down else f"{len(self._parts)} parts run"


def _leave(number: int, frame: object) -> None:
    """Until a part has a handler of its own: it has begun nothing that needs an end."""
    os._exit(0)


def listen(settings: HubSettings) -> Listening:
    """The sockets of collector and page: those that systemd has opened (tercel-hub.socket), else the collector's own.
    Raises OSError."""
    given = inherited_sockets()
    collector = settings.collector
    if "collector" in given:
        made = Listening(given["collector"], given.get("page"), given=True)
        where = made.collector.getsockname()[0]
        if not may_collect_at(where, collector):
            raise PermissionError(
                errno.EACCES, f"tercel-hub.socket is open at {where}, `collector` has no TLS or tokens"
            )
        if made.page is not None and not may_show_at(where := made.page.getsockname()[0], settings.page):
            raise PermissionError(errno.EACCES, f"tercel-hub-page.socket is open at {where}, and `page` has no TLS")
        return made
    family = socket.AF_INET6 if ":" in collector.address else socket.AF_INET
    return Listening(socket.create_server((collector.address, collector.port), family=family, backlog=2048))


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        told = {
            "time": iso_time(int(record.created * 1e9)) + "Z", "level": record.levelname.lower(),
            "part": record.name.removeprefix("appliance.hub."), "message": json_safe(record.getMessage()),
        }  # fmt: skip
        if record.exc_info:
            told["trace"] = json_safe(self.formatException(record.exc_info))
        return json.dumps(told, ensure_ascii=False)


class _LineFormatter(logging.Formatter):
    """Text for people, each line safe for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """One record, of several lines perhaps."""
        return "\n".join(printable(line) for line in super().format(record).splitlines())


def start_log(settings: Log) -> None:
    """The log on standard error, in the form that the reader there wants."""
    handler = logging.StreamHandler()
    if settings.json:
        handler.setFormatter(JsonFormatter())
    elif logs_to_journal():
        handler.setFormatter(JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(_LineFormatter("tercel hub: %(levelname)s: %(message)s"))
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    for name in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)


def run(settings: HubSettings, load: Callable[[], HubSettings], only: Sequence[str] = ()) -> int:
    """Run the hub; `only` names the parts that run, all where it is empty."""
    start_log(settings.log)
    names = [
        name
        for name in PARTS
        if (not only or name in only) and (name != "page" or (settings.page.enabled and has_page()))
    ]
    return Supervisor(settings, load, {name: PARTS[name] for name in names}).run()
