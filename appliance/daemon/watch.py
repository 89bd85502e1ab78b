"""Changed files: the configuration and the rules, as inotify tells of them.

Comes in: the paths to watch. Goes out: a call, once a change has settled and the bytes are others than before. Never: a
call for a file that was only touched.

Folders are watched, not files: editors write a new file and rename it, and Kubernetes turns a symbolic link of the
folder. Falco's name for this is `watch_config_files`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from appliance.daemon.generation import file_digests
from appliance.host.faults import Faults

log = logging.getLogger(__name__)

# inotify(7)
_EVENTS = (
    0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x4
)  # close after writing, moved from and to, created, deleted, attributes
_SETTLE_S = 0.3  # an editor's several steps make one change
_SETTLE_MAX_S = 5.0
_JOIN_S = 5.0
_STABLE_S = 0.1  # a file that is being rewritten in place is empty for a moment


class Watcher:
    """Calls `changed` from a thread of its own. `files` says what to watch and is asked anew after each change."""

    def __init__(
        self,
        files: Callable[[], Iterable[Path]],
        known: Callable[[], Collection[Mapping[Path, str]]],
        changed: Callable[[], None],
        faults: Faults | None = None,
    ) -> None:
        """`known` gives digests, as `generation.file_digests` makes them: of what runs, and of what was refused."""
        self._faults = Faults() if faults is None else faults
        self._files = files
        self._known = known
        self._changed = changed
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._watched: dict[int, str] = {}
        self._ending = False
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin. Raises OSError where the kernel gives no more watches, or no thread; nothing is held then."""
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            number = ctypes.get_errno()
            self.stop()
            raise OSError(number, f"inotify: {os.strerror(number)}")
        self._watch()
        thread = self._faults.thread("watch", self._run, self._over)
        try:
            thread.start()
        except RuntimeError as error:
            self.stop()
            raise OSError(errno.EAGAIN, "cannot start a thread") from error
        self._thread = thread

    def poke(self) -> None:
        """Look again at what is to be watched: a generation was adopted."""
        if self._bell >= 0:
            os.eventfd_write(self._bell, 1)

    def stop(self) -> None:
        """End; gives the descriptors back. A thread that hangs in a file of the network keeps them, as their numbers
        would be those of other files under it."""
        self._ending = True
        self._over.set()
        os.eventfd_write(self._bell, 1)
        if self._thread is not None:
            self._thread.join(_JOIN_S)
            if self._thread.is_alive():
                log.warning("the thread that watches files hangs; its descriptors stay open")
                return
        if self._fd >= 0:
            os.close(self._fd)
        os.close(self._bell)
        self._fd = self._bell = -1

    def _watch(self) -> None:
        folders = {os.fspath(f) for path in self._files() for f in (path.parent, *_targets(path), path) if f.is_dir()}
        watched: dict[int, str] = {}
        for folder in folders:  # each anew: another folder may have its name by now, and the same has the same number
            number = self._libc.inotify_add_watch(self._fd, os.fsencode(folder), ctypes.c_uint32(_EVENTS))
            if number >= 0:
                watched[number] = folder
            elif ctypes.get_errno() != errno.ENOENT:
                log.warning("cannot watch %s: %s", folder, os.strerror(ctypes.get_errno()))
        for number in self._watched.keys() - watched.keys():
            self._libc.inotify_rm_watch(self._fd, number)
        self._watched = watched

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._bell, select.POLLIN)
        while not self._ending:
            poll.poll()
            self._settle(poll)
            if self._ending:
                return
            try:
                self._look()
            except Exception:
                self._faults.caught("watching files")

    def _settle(self, poll: select.poll) -> None:
        """Take events until none has come for a moment."""
        for _ in range(int(_SETTLE_MAX_S / _SETTLE_S)):
            for fd in (self._fd, self._bell):
                with contextlib.suppress(BlockingIOError):
                    os.read(fd, 65536)
            if self._ending or not poll.poll(_SETTLE_S * 1000):
                return

    def _look(self) -> None:
        now = file_digests(self._files())
        if now not in self._known():
            time.sleep(_STABLE_S)
            if file_digests(self._files()) != now:  # somebody is in the middle of writing
                self.poke()
                return
            self._changed()
        self._watch()


def _targets(path: Path) -> Iterable[Path]:
    """The folders of the files behind a symbolic link: where its target changes, so does what is read."""
    try:
        return (path.resolve().parent,) if path.is_symlink() else ()
    except (OSError, RuntimeError):
        return ()
