"""The watch over the watch: is the appliance still what it was started as, and did it run all the time?

Comes in: what is ours in the kernel, the files of the generation, the clock, what an earlier run left. Goes out:
alerts. Never: a restart, or a silence about something that it put right.

Every few seconds: our programs, hooks and tables in the kernel are compared with what we left there, and put right;
the files of configuration and rules with what is in force; the clock with the last look, for a process that is stopped
looks at nothing. A file that is locked while the appliance runs and removed when it ends tells the next start of an end
that nobody asked for.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.daemon.generation import file_digests
from appliance.host.faults import Faults
from appliance.host.files import put_aside
from appliance.model.alert import FieldValue, Priority
from appliance.model.text import why

log = logging.getLogger(__name__)

TAMPER_RULE = "Tercel internal: tampering"
STILL_RULE = "Tercel internal: stood still"
FAREWELL_RULE = "Tercel internal: ended without farewell"
FILES_RULE = "Tercel internal: files changed"
STILL_S = 5.0  # without a look for so long: stopped, or starved
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_STATE_MAX = 4096
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

Tell = Callable[[str, Priority, str, Mapping[str, FieldValue]], None]


@dataclass(frozen=True, slots=True)
class Watched:
    """What a guard looks at. `differences` and `repair` are the kernel's side.

    `digests` gives what is in force, `files` what there is to read now; `followed` says whether changed files are taken
    up anyway, and then tell of themselves.
    """

    differences: Callable[[], list[str]]
    repair: Callable[[], None]
    digests: Callable[[], Mapping[Path, str]]
    files: Callable[[], Iterable[Path]]
    followed: Callable[[], bool]


class Guard:
    """Looks every `interval_s`, on a thread of its own, from `start` to `stop`."""

    def __init__(
        self,
        watched: Watched,
        tell: Tell,
        *,
        state_file: Path,
        interval_s: float = 3.0,
        faults: Faults | None = None,
    ) -> None:
        """`state_file` is where a run leaves its trace while it lasts."""
        self._watched = watched
        self._tell = tell
        self._trace = Trace(state_file)
        self._interval_s = interval_s
        self._ending = threading.Event()
        self._told_files: Mapping[Path, str] | None = None
        self._told_kernel: list[str] = []
        self._looked_s = 0.0
        self._faults = Faults() if faults is None else faults
        self._thread = self._faults.thread("guard", self._run, self._ending)

    def start(self, facts: Mapping[str, object]) -> None:
        """Tell of an earlier run that ended without farewell, leave a trace of this one, and begin to look."""
        self._tell_earlier(self._trace.begin(facts))
        self._looked_s = time.monotonic()
        self._thread.start()

    def stop(self, *, farewell: bool) -> None:
        """End. Without `farewell` the trace stays: an end that nobody asked for."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(5.0)
        self._trace.end(farewell=farewell)

    def _tell_earlier(self, earlier: Mapping[str, Any] | None) -> None:
        if earlier is None:
            return
        down_s = max(0.0, time.time() - float(earlier["last_s"]))
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(earlier["last_s"])))
        same_boot = earlier.get("boot") == _boot()
        self._tell(
            FAREWELL_RULE,
            Priority.CRITICAL if same_boot else Priority.NOTICE,
            f"an earlier run (pid {earlier.get('pid')}) ended without farewell after {clock}: "
            + ("it was killed, or it failed" if same_boot else "the machine went down while it ran")
            + f"; nothing was watched for up to {down_s:.0f} s",
            {
                "earlier.pid": str(earlier.get("pid")),
                "earlier.last": clock,
                "earlier.same_boot": same_boot,
                "down_s": round(down_s),
            },
        )

    def _run(self) -> None:
        while not self._ending.wait(self._interval_s):
            try:
                self.look()
            except Exception:
                self._faults.caught("guard")

    def look(self) -> None:
        """One round, now."""
        now_s = time.monotonic()
        gap_s, self._looked_s = now_s - self._looked_s, now_s
        if gap_s > self._interval_s + STILL_S:
            self._tell(
                STILL_RULE,
                Priority.CRITICAL,
                f"the appliance stood still for {gap_s - self._interval_s:.0f} s: it was stopped (SIGSTOP, a debugger,"
                " a frozen control group), or the machine gave it no time; what happened meanwhile is judged late",
                {"still_s": round(gap_s - self._interval_s)},
            )
        self._look_at_kernel()
        self._look_at_files()
        self._trace.alive()

    def _look_at_kernel(self) -> None:
        found = self._watched.differences()
        if not found:
            self._told_kernel = []
            return
        mended = "put right"
        try:
            self._watched.repair()
        except Exception as error:
            mended = f"could not be put right: {error}"
        if found != self._told_kernel or mended == "put right":
            self._tell(
                TAMPER_RULE,
                Priority.CRITICAL,
                f"what the appliance has in the kernel was changed by somebody else, and {mended}: {'; '.join(found)}",
                {"tamper.what": "; ".join(found), "tamper.mended": mended == "put right"},
            )
        self._told_kernel = found

    def _look_at_files(self) -> None:
        """Files that nobody will take up by himself: told once for each change."""
        if self._watched.followed():
            return
        now = file_digests(self._watched.files())
        was = self._watched.digests()
        if now == was or now == self._told_files:
            self._told_files = None if now == was else now
            return
        self._told_files = now
        names = sorted(str(path) for path in now.keys() | was.keys() if now.get(path) != was.get(path))
        self._tell(
            FILES_RULE,
            Priority.WARNING,
            f"configuration or rules files are not those in force ({', '.join(names)}): `tercel reload` takes them up",
            {"files": ", ".join(names)},
        )


class Trace:
    """A file that is there and locked while a run lasts. What it says is for the next one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def begin(self, facts: Mapping[str, object]) -> dict[str, Any] | None:
        """Write it. What an earlier run left, None where it ended well or still runs; `last_s` is its latest sign of
        life, seconds since the epoch."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                fd = os.open(self._path, _FLAGS, 0o600)
            except PermissionError:
                if not put_aside(self._path):
                    raise
                fd = os.open(self._path, _FLAGS, 0o600)
        except OSError as error:
            log.warning("cannot write the run-state file %s: %s", self._path, why(error))
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            log.warning("another appliance runs with the trace %s", self._path)
            os.close(fd)
            return None
        self._fd = fd
        earlier = self._earlier()
        text = json.dumps({**facts, "pid": os.getpid(), "boot": _boot()})
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, text.encode(), 0)
        except OSError as error:
            log.warning("cannot write the run-state file %s: %s", self._path, why(error))
        return earlier

    def _earlier(self) -> dict[str, Any] | None:
        text = os.pread(self._fd, _STATE_MAX, 0)
        if not text:
            return None
        try:
            told = json.loads(text)
        except ValueError:
            told = {}
        return {**(told if isinstance(told, dict) else {}), "last_s": os.fstat(self._fd).st_mtime}

    def alive(self) -> None:
        """A sign of life: the file's time."""
        if self._fd >= 0:
            os.utime(self._fd)

    def end(self, *, farewell: bool) -> None:
        """Take it away, or leave it as it is."""
        if self._fd < 0:
            return
        if farewell:
            try:
                if self._path.stat().st_ino == os.fstat(self._fd).st_ino:  # or it was put aside, and another's is there
                    self._path.unlink()
            except OSError as error:
                log.warning("the trace %s cannot be removed: %s", self._path, why(error))
        os.close(self._fd)
        self._fd = -1


def _boot() -> str:
    return _BOOT_ID.read_text().strip()
