"""Classes of opens: what the arguments and the result of one say, and of its path whether a part of it is hidden.

Comes in: flags, result, a path. Goes out: the number of the class, below `CLASSES`. Never: another reckoning than that
of `evt.is_open_read` and its kin (`catalog.values`), or than the kernel's (`kernel/bpf/early.h`), which takes the bits
from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from appliance.catalog.params import OPEN_FLAGS

READ, WRITE, CREATE, HIDDEN, FOLDER, FAILED = (1 << n for n in range(6))
CLASSES: Final = 64
ALL: Final = (1 << CLASSES) - 1
"""The set of all classes: the bit of a class's number says that it is among them."""

OF_CREAT: Final = OPEN_FLAGS["O_WRONLY"] | OPEN_FLAGS["O_CREAT"] | OPEN_FLAGS["O_TRUNC"]
"""The flags that creat(2) stands for."""

_PATH, _CREAT, _TMPFILE, _DIRECTORY = (OPEN_FLAGS[n] for n in ("O_PATH", "O_CREAT", "O_TMPFILE", "O_DIRECTORY"))

MACROS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "OPEN_READ": READ,
        "OPEN_WRITE": WRITE,
        "OPEN_CREATE": CREATE,
        "OPEN_HIDDEN": HIDDEN,
        "OPEN_FOLDER": FOLDER,
        "OPEN_FAILED": FAILED,
        "OPEN_OF_CREAT": OF_CREAT,
        "FLAG_PATH": _PATH,
        "FLAG_CREAT": _CREAT,
        "FLAG_TMPFILE": _TMPFILE,
        "FLAG_DIRECTORY": _DIRECTORY,
    }
)
"""The same for the C."""


def class_of(flags: int, res: int, path: bytes = b"") -> int:
    """The class of an open, by its flags, its result and its path. Hidden is what has a component that begins with a
    dot."""
    found = 0
    if not flags & _PATH:
        access = flags & 3
        found |= (READ if access in (0, 2) else 0) | (WRITE if access in (1, 2) else 0)
    if flags & _CREAT or flags & _TMPFILE == _TMPFILE:
        found |= CREATE
    if flags & _DIRECTORY and flags & _TMPFILE != _TMPFILE:
        found |= FOLDER
    if b"/." in path:
        found |= HIDDEN
    return found | (FAILED if res < 0 else 0)


def flags_of(number: int) -> tuple[int, int]:
    """Flags and result of an open of a class."""
    access = {READ: 0, WRITE: 1, READ | WRITE: 2, 0: 3}[number & (READ | WRITE)]
    flags = access | (_CREAT if number & CREATE else 0) | (_DIRECTORY if number & FOLDER else 0)
    return flags, -2 if number & FAILED else 7


def classes_with(bit: int) -> int:
    """The set of all classes that have a bit."""
    return sum(1 << number for number in range(CLASSES) if number & bit)
