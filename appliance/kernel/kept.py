"""Compiled programs, kept on disk from one start to the next.

Comes in: a folder, what a program is made of. Goes out: the `Object` that was made of just that, or none. Never: one
that another than us or root could have written.

Compiling takes most of a start's time, and gives the same as long as text, compiler and machine are the same. What is
read from the disk is loaded into the kernel, so the folder and all above it, and the file, must be ours or root's and
writable for nobody else; the file says what it was made of and the digest of what it holds. A file that fails any of
this is refused, said in the log, and made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import os
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from appliance.kernel.objects import Object, from_bytes, to_bytes

log = logging.getLogger(__name__)

_MAGIC = b"tercel program 1"
_MOST_BYTES = 16 << 20
_FILES = 4  # kept: the typed and the plain program, before and after an upgrade
_SUFFIX = ".program"
_UNFINISHED_S = 3600  # nobody writes for so long


class RefusedError(Exception):
    """Why what lies there is not used."""


class Kept:
    """Programs in a folder, which is made when there is something to keep."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, key: str) -> Object | None:
        """The program kept under a key, None where there is none that can be trusted."""
        path = self._path(key)
        try:
            return self._read(path, key)
        except FileNotFoundError:
            return None
        except (RefusedError, OSError, ValueError) as error:
            log.warning("a compiled program on disk is not used, it is compiled again: %s: %s", path, error)
            return None

    def keep(self, key: str, made: Object) -> None:
        """Keep a program. Where that cannot be done the next start compiles again, and the log says why."""
        path = self._path(key)
        body = to_bytes(made)
        new = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            _make(self._folder)
            new.unlink(missing_ok=True)
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(b"\n".join((_head(key, body), body)))
                file.flush()
                os.fsync(file.fileno())
            new.rename(path)
            self._clear(path)
        except (OSError, RefusedError) as error:
            log.warning("the compiled program is not kept, the next start compiles again: %s: %s", path, error)
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key[:32]}{_SUFFIX}"

    def _read(self, path: Path, key: str) -> Object:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            _trusted_folder(path.parent)
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
                raise RefusedError("it is not a file with one name")
            _owned(facts, "the file")
            if facts.st_size > _MOST_BYTES:
                raise RefusedError(f"it has {facts.st_size} bytes")
            head, _, body = file.read(_MOST_BYTES + 1).partition(b"\n")
        if head != _head(key, body):
            raise RefusedError("it does not hold what it says")
        return from_bytes(body)

    def _clear(self, newest: Path) -> None:
        """Remove all but the last few, and what a start that was killed left unfinished. Another daemon may do the same
        at the same time."""
        ages: dict[Path, float] = {}
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                ages[path] = path.lstat().st_mtime
        programs = sorted((p for p in ages if p.suffix == _SUFFIX), key=ages.__getitem__, reverse=True)
        unfinished = [p for p in ages if p.name.startswith(".") and time.time() - ages[p] > _UNFINISHED_S]
        for path in (*programs[_FILES:], *unfinished):
            if path != newest:
                path.unlink(missing_ok=True)


def _head(key: str, body: bytes) -> bytes:
    return b" ".join((_MAGIC, key.encode(), hashlib.sha256(body).hexdigest().encode()))


def key_of(parts: Iterable[str]) -> str:
    """What names a program: a digest of all that it is made of, and of the machine and the compiler."""
    machine = os.uname()
    digest = hashlib.sha256()
    for part in (machine.release, machine.version, machine.machine, *_compiler(), *parts):
        data = part.encode("utf-8", "surrogateescape")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def _compiler() -> Iterator[str]:
    """Which bcc there is, without importing it."""
    with contextlib.suppress(ImportError, ValueError):
        found = importlib.util.find_spec("bcc")
        for folder in (found.submodule_search_locations or ()) if found is not None else ():
            for path in sorted(Path(folder).glob("*.py")):
                facts = path.stat()
                yield f"{path} {facts.st_size} {facts.st_mtime_ns}"


def _make(folder: Path) -> None:
    """Make a folder of ours. Raises `RefusedError` before anything is made in a folder that others own: root's would
    keep them from their own place.

    Where that has happened, what root made in a folder of ours is put aside; never by root, who would move a service's.
    """
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if above == folder and above.lstat().st_uid == 0 != os.geteuid() == above.parent.stat().st_uid:
        folder.rename(folder.with_name(f"{folder.name}.of-0"))
        above = folder.parent
    _trusted_folder(above)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _trusted_folder(folder: Path) -> None:
    """Raises `RefusedError` where somebody else could put something in this folder's place, or into it."""
    facts = os.lstat(folder)
    if not stat.S_ISDIR(facts.st_mode):
        raise RefusedError(f"{folder} is not a folder")
    _owned(facts, f"the folder {folder}")
    for above in folder.resolve().parents:
        facts = above.stat()
        if not facts.st_mode & stat.S_ISVTX:  # in a sticky one nobody can move what is ours
            _owned(facts, f"the folder {above}")


def _owned(facts: os.stat_result, what: str) -> None:
    if facts.st_uid not in (0, os.geteuid()):
        raise RefusedError(f"{what} belongs to user {facts.st_uid}")
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RefusedError(f"{what} can be written by others (mode {facts.st_mode & 0o7777:o})")
