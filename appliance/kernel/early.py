"""The table by which the kernel drops opens (`bpf/early.h`), made whole and frozen.

Comes in: pieces of paths with sets of classes. Goes out: the descriptor of a map. Never: a change to one that is made.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from appliance.kernel import bpfcall
from appliance.kernel.objects import Table

KEY_BYTES = 192
"""`EARLY_KEY` of `bpf/early.h`."""

_LPM_TRIE, _NO_PREALLOC = 11, 1  # enum bpf_map_type, BPF_F_NO_PREALLOC
_VALUE = struct.Struct("=3Q")  # struct early_value


@dataclass(frozen=True, slots=True)
class KeptOpens:
    """What is kept of opens: as `engine.early.Early` has it."""

    entries: Mapping[bytes, int]
    ends: int = 0
    real: int = 0


def make_table(kept: KeptOpens) -> int:
    """A map that holds it, which nobody can write to; its descriptor. Raises OSError."""
    table = Table("early_pieces", _LPM_TRIE, 4 + KEY_BYTES, _VALUE.size, len(kept.entries), _NO_PREALLOC)
    fd = bpfcall.create_table(table)
    try:
        for piece, classes in kept.entries.items():
            key = struct.pack("=I", 8 * len(piece)) + piece.ljust(KEY_BYTES, b"\0")
            bpfcall.put(fd, key, _VALUE.pack(classes, kept.ends, kept.real))
        bpfcall.freeze(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd
