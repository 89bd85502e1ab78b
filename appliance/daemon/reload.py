"""A new generation beside the running one: built, checked, adopted, or refused with every reason.

Comes in: requests (SIGHUP, `tercel reload`, a changed file). Goes out: a `Verdict` for each. Never: a generation that
is half new, or an event that none or two of them judge.

One thread builds, so that the loop goes on, and rests between two steps while the loop is behind: the two share one
interpreter. The swap is posted to the loop and happens between two batches. Requests
that come while one is built are answered together by the next. What cannot be changed in a running appliance is refused
with `needs-restart`, not ignored.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from appliance.config.settings import Config
from appliance.daemon.generation import Generation, file_digests, files_of
from appliance.host.faults import Faults
from appliance.model.diagnostic import Diagnostic, DiagnosticsError, Severity

log = logging.getLogger(__name__)

_SWITCH_S = 0.0005  # the interpreter's switch interval while a generation is built: the loop is served first
RESTART_KEYS = ("capture", "containers", "canary", "guard")
"""Settings that are built into what is attached or connected at the start; a changed one refuses a reload."""
_LIVE = frozenset({
    "enabled", "path_prefix", "mode", "default_duration", "max_file_size_mb", "before_ms", "max_events", "max_files",
})  # fmt: skip
"""Those of `capture` that are about recordings, and can change."""


def _news(old: Generation, new: Generation) -> tuple[Diagnostic, ...]:
    """The warnings of files that changed since the last generation; of others how many there are."""
    same = {str(path) for path, digest in new.digests.items() if old.digests.get(path) == digest}
    told = tuple(d for d in new.warnings if d.span is None or d.span.file not in same)
    others = len(new.warnings) - len(told)
    if not others:
        return told
    text = f"{others} warnings of files that have not changed; `tercel check --all` shows them"
    return (*told, Diagnostic("more-warnings", text, severity=Severity.WARNING))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a request to reload. `number` is the generation that runs now, `changes` what is new in it.

    `diagnostics` are the reasons of a refusal, or the warnings of what was accepted; `seconds` is how long it took.
    """

    accepted: bool
    number: int
    diagnostics: tuple[Diagnostic, ...]
    changes: tuple[str, ...]
    seconds: float


Answer = Callable[[Verdict], None]


class Reloader:
    """Builds generations when asked to. `current` is the one that runs; `last` the latest verdict, None before one;
    `tried` the digests of the files when they were last read: what was refused need not be tried again."""

    def __init__(
        self,
        current: Generation,
        *,
        build: Callable[[int], Generation],
        adopt: Callable[[Generation, Generation], None],
        told: Callable[[Verdict, str], None],
        faults: Faults | None = None,
    ) -> None:
        """`build` makes the generation of a number or raises `DiagnosticsError`; `adopt` swaps, old and new, and
        returns when the loop judges by the new one; `told` hears of each verdict and of who had asked."""
        self.current = current
        self.last: Verdict | None = None
        self.tried: Mapping[Path, str] = current.digests
        self.accepted = 0
        self.refused = 0
        self._build = build
        self._adopt = adopt
        self._tell = told
        self._requests: queue.SimpleQueue[tuple[str, Answer | None] | None] = queue.SimpleQueue()
        self._faults = Faults() if faults is None else faults
        self._ending = threading.Event()
        self._thread = self._faults.thread("reload", self._run, self._ending)

    def start(self) -> None:
        """Begin to take requests."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more; wait a little for one that is being built."""
        self._ending.set()
        self._requests.put(None)
        if self._thread.is_alive():
            self._thread.join(5.0)

    def ask(self, who: str, answer: Answer | None = None) -> None:
        """Ask for a reload. Never waits, may be called in a signal handler; `answer` is called with the verdict."""
        self._requests.put((who, answer))

    def _run(self) -> None:
        ending = False
        while not ending:
            waiting = [self._requests.get()]
            while not self._requests.empty():
                waiting.append(self._requests.get())
            ending = None in waiting
            requests = [request for request in waiting if request is not None]
            if requests:
                verdict = self._judged(" and ".join(dict.fromkeys(who for who, _ in requests)))
                for _, answer in requests:
                    if answer is not None:
                        try:
                            answer(verdict)
                        except Exception:
                            self._faults.caught("answering a reload")

    def _judged(self, who: str) -> Verdict:
        """A verdict whatever happens: this thread is the only one, and somebody waits for it."""
        started, before = time.monotonic(), self.current
        try:
            return self.reload(who)
        except Exception as error:
            self._faults.caught("reload")
            adopted = self.current is not before
            return Verdict(adopted, self.current.number, (_bug(error),), (), time.monotonic() - started)

    def reload(self, who: str) -> Verdict:
        """Build, check, adopt; once, on the caller's thread."""
        started = time.monotonic()
        old = self.current
        self.tried = file_digests(files_of(old.config))
        changes: tuple[str, ...] = ()
        try:
            new, changes = self._built(old)
        except DiagnosticsError as error:
            reasons = error.diagnostics
        except Exception as error:
            log.exception("an error of ours while a generation was built")
            reasons = (_bug(error),)
        else:
            try:
                self._adopt(old, new)
            except DiagnosticsError as error:
                reasons = error.diagnostics
            except Exception as error:
                log.exception("an error of ours while a generation was adopted")
                reasons = (_bug(error),)
            else:
                self.current = new
                took_s = time.monotonic() - started
                return self._accept(Verdict(True, new.number, _news(old, new), changes, took_s), who)
        return self._refuse(Verdict(False, old.number, reasons, (), time.monotonic() - started), who)

    def _built(self, old: Generation) -> tuple[Generation, tuple[str, ...]]:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        try:
            new = self._build(old.number + 1)
        finally:
            sys.setswitchinterval(interval)
        problems = tuple(needs_restart(old.config, new.config))
        if problems:
            raise DiagnosticsError(problems)
        return new, tuple(changes_between(old, new))

    def _accept(self, verdict: Verdict, who: str) -> Verdict:
        self.last = verdict
        self.accepted += 1
        log.info("reloaded: generation %d, %s", verdict.number, ", ".join(verdict.changes) or "nothing has changed")
        self._tell(verdict, who)
        settle()
        return verdict

    def _refuse(self, verdict: Verdict, who: str) -> Verdict:
        self.last = verdict
        self.refused += 1
        log.error("reload refused; generation %d goes on:\n%s", verdict.number, _told(verdict))
        self._tell(verdict, who)
        settle()
        return verdict


def _told(verdict: Verdict) -> str:
    return "\n".join(d.render() for d in verdict.diagnostics if d.severity is Severity.ERROR)


def _bug(error: Exception) -> Diagnostic:
    return Diagnostic(
        "internal-error", f"an error of ours: {type(error).__name__}: {error}", hint="please report it, with the log"
    )


def needs_restart(old: Config, new: Config) -> Iterator[Diagnostic]:
    """A diagnostic for each setting that has changed and that a running appliance cannot follow."""
    for section in RESTART_KEYS:
        before, after = getattr(old, section), getattr(new, section)
        for field in fields(before):
            if section == "capture" and field.name in _LIVE:
                continue
            if getattr(before, field.name) != getattr(after, field.name):
                yield _needs_restart(f"{section}.{field.name}")
    for key in ("load_plugins", "plugins"):  # a webhook has its port for good
        if getattr(old, key) != getattr(new, key):
            yield _needs_restart(key)


def _needs_restart(key: str) -> Diagnostic:
    return Diagnostic(
        "needs-restart",
        f"`{key}` has changed, and takes effect only when the appliance starts",
        hint="restart the appliance (`systemctl restart tercel`), or put the key back",
    )


def changes_between(old: Generation, new: Generation) -> Iterator[str]:
    """What differs, for people: `2 rules added (A, B)`, `file_output`."""
    before = {rule.name: rule for rule in old.ruleset.rules}
    after = {rule.name: rule for rule in new.ruleset.rules}
    changed = [n for n in before.keys() & after.keys() if replace(before[n], span=after[n].span) != after[n]]
    for names, verb in (
        (after.keys() - before.keys(), "added"),
        (before.keys() - after.keys(), "removed"),
        (changed, "changed"),
    ):
        if names:
            shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
            yield f"{len(names)} {'rule' if len(names) == 1 else 'rules'} {verb} ({shown})"
    for field in fields(old.config):
        if getattr(old.config, field.name) != getattr(new.config, field.name):
            yield field.name


def settle() -> None:
    """Rules that have left are cyclic garbage, and what parsing took is free memory: both go back now, not someday.
    What stays is most of what there is, and no collection looks at it again: that would stop the loop each time."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:  # not glibc
        return
