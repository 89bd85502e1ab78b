"""Recordings: the seconds before and after an alert, for `tercel replay`.

Comes in: events as they are judged, and which rules fired. Goes out: files of JSON Lines, one event a line, each with
all that was known of it then. Never: a wait for the disk on the loop's thread, or more events in memory than its bound.

The keys are Falco's (`capture:`, and `capture`, `capture_duration` of a rule); what is before the alert is ours. A file
begins by a line of its own that says what it is; it has its name when it is whole, `.part` behind it before that.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.config.settings import Capture
from appliance.host.faults import Faults
from appliance.host.files import put_aside
from appliance.model.event import Event
from appliance.model.rule import Rule
from appliance.model.text import why
from appliance.sources.replay import recording_head, write_event

log = logging.getLogger(__name__)

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a recording. `cut`: why it is not whole, empty where it is. `error`: why there is no file."""

    path: Path
    rule: str
    events: int
    cut: str = ""
    error: str = ""


class Recorder:
    """Keeps the latest events, and writes them where a rule asks for it. All but `end` on the loop's thread."""

    def __init__(
        self, settings: Capture, *, hostname: str, done: Callable[[Recorded], None], faults: Faults | None = None
    ) -> None:
        """`done` is called when a recording has ended, from its writer's thread; from the loop's where that cannot be
        had."""
        self.settings = settings
        self._hostname = hostname
        self._done = done
        self._recent: deque[Event] = deque(maxlen=settings.max_events)
        self._before_ns = settings.before_ms * 1_000_000
        self._faults = Faults() if faults is None else faults
        self._writer: _Writer | None = None
        self._until_ns = 0

    def wants(self, rule: Rule) -> bool:
        """Whether an alert of this rule is recorded."""
        return rule.capture or self.settings.mode == "all_rules"

    def saw(self, event: Event) -> None:
        """Take an event that is about to be judged, its ancestors as they are now."""
        if event.document is not None:
            return
        if self._writer is not None and event.ts_ns > self._until_ns:
            self.end()
        recent = self._recent
        recent.append(event)
        oldest_ns = event.ts_ns - self._before_ns
        while recent[0].ts_ns < oldest_ns:
            recent.popleft()
        if self._writer is not None:
            self._writer.put(event)

    def fired(self, event: Event, rule: Rule, digests: Mapping[Path, str]) -> None:
        """An alert that is to be recorded: begin, or go on for longer."""
        duration_ms = rule.capture_duration_ms or self.settings.default_duration
        self._until_ns = max(self._until_ns if self._writer else 0, event.ts_ns + duration_ms * 1_000_000)
        if self._writer is None:
            path = Path(f"{self.settings.path_prefix}_{event.ts_ns:020d}_{event.num:020d}.jsonl")
            facts = {"hostname": self._hostname, "rule": rule.name, "event": event.num, "sha256": {
                str(file): digest for file, digest in digests.items()
            }}  # fmt: skip
            try:
                self._writer = _Writer(path, rule.name, facts, self.settings, self._done, self._faults)
            except RuntimeError:
                self._done(Recorded(path, rule.name, 0, error="cannot start a thread"))
                return
            for before in self._recent:
                self._writer.put(before)

    def tick(self, now_ns: int) -> None:
        """End a recording whose time is up though no event came. `now_ns` is wall clock."""
        if self._writer is not None and now_ns > self._until_ns:
            self.end()

    def end(self) -> threading.Thread | None:
        """End a recording that goes on. Its writer's thread, to wait for where that matters."""
        if self._writer is None:
            return None
        writer, self._writer = self._writer, None
        writer.finish()
        return writer.thread


class _Writer:
    """One file. `put` never waits; what the disk does not take in time is left out, and said."""

    def __init__(
        self,
        path: Path,
        rule: str,
        facts: Mapping[str, object],
        settings: Capture,
        done: Callable[[Recorded], None],
        faults: Faults,
    ) -> None:
        """Raises RuntimeError where the machine has no thread to give."""
        self._path = path
        self._rule = rule
        self._facts = facts
        self._settings = settings
        self._done = done
        self._faults = faults
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._missed = 0
        self.thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self.thread.start()

    def put(self, event: Event) -> None:
        if self._queue.qsize() < 2 * self._settings.max_events:
            self._queue.put(event)
        else:
            self._missed += 1

    def finish(self) -> None:
        self._queue.put(None)

    def _run(self) -> None:
        part = self._path.with_name(f"{self._path.name}.part")
        count, cut, error = 0, "", ""
        try:
            try:
                fd = self._open(part)
            except PermissionError:
                if not put_aside(part.parent):
                    raise
                fd = self._open(part)
            with os.fdopen(fd, "w") as file:
                count, cut = self._write(file)
            part.rename(self._path)
        except OSError as problem:
            error = why(problem)
        except Exception as problem:
            self._faults.caught("recording")
            error = f"internal error: {type(problem).__name__}"
        if error:
            with contextlib.suppress(OSError):
                part.unlink()
        else:
            self._tidy()
        if self._missed and not cut:
            cut = f"{self._missed} events came faster than they could be written"
        try:
            self._done(Recorded(self._path, self._rule, count, cut, error))
        except Exception:
            self._faults.caught("telling of a recording")

    def _tidy(self) -> None:
        """Whatever becomes of older recordings, this one is whole."""
        try:
            self._prune()
        except OSError as problem:
            log.warning("older recordings beside %s cannot be removed: %s", self._path, why(problem))
        except Exception:
            self._faults.caught("removing older recordings")

    def _open(self, path: Path) -> int:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def _write(self, file: object) -> tuple[int, str]:
        write = file.write  # type: ignore[attr-defined]
        size = write(recording_head(self._facts))
        most = self._settings.max_file_size_mb * _MIB
        count, cut = 0, ""
        while (event := self._queue.get()) is not None:
            if cut:
                continue
            line = json.dumps(write_event(event)) + "\n"
            if most and size + len(line) > most:
                cut = f"`capture.max_file_size_mb` ({self._settings.max_file_size_mb}) was reached"
                continue
            size += write(line)
            count += 1
        return count, cut

    def _prune(self) -> None:
        """Keep the latest recordings of this prefix; their names are in the order of time."""
        prefix = Path(self._settings.path_prefix).name
        found = sorted(
            p for p in self._path.parent.iterdir() if p.name.startswith(f"{prefix}_") and p.suffix == ".jsonl"
        )
        for old in found[: -self._settings.max_files]:
            if not old.is_dir():
                old.unlink(missing_ok=True)
