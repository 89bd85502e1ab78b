"""bpf(2), as far as a loaded program needs it: its maps read and written, its hooks attached.

Comes in: descriptors of maps and programs. Goes out: bytes, descriptors of links. Never: bcc or LLVM, which would cost
the daemon a hundred megabytes; they work in a process of their own (`kernel.compiler`).

Numbers: enum bpf_cmd and union bpf_attr of include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import struct

from appliance.kernel.arch import this_arch
from appliance.kernel.objects import Table

_CREATE, _LOOKUP, _UPDATE, _DELETE, _PROGRAM_LOAD, _MAP_FD_BY_ID, _INFO_BY_FD = 0, 1, 2, 3, 5, 14, 15
_RAW_TRACEPOINT_OPEN, _FREEZE = 17, 22
_RINGBUF = 27  # enum bpf_map_type
_TRIES = 20  # of a load that is interrupted
_ATTR_SIZE = 128  # more than the commands used here need; the kernel wants the rest to be zero

_libc = ctypes.CDLL(None, use_errno=True)


def create_ring(size: int) -> int:
    """A ring buffer of so many bytes, a power of two and pages; its descriptor. Raises OSError."""
    return _charged(_CREATE, struct.pack("=IIII", _RINGBUF, 0, 0, size))


def table_facts(map_fd: int) -> Table:
    """What a map is like, as the kernel has it (struct bpf_map_info). Raises OSError."""
    info = ctypes.create_string_buffer(40)
    _call(_INFO_BY_FD, struct.pack("=IIQ", map_fd, len(info), ctypes.addressof(info)))
    kind, _, key_size, value_size, entries, flags, name = struct.unpack("=6I16s", info.raw)
    return Table(name.partition(b"\0")[0].decode(), kind, key_size, value_size, entries, flags)


def create_table(table: Table, *, inner: int = 0) -> int:
    """A map; its descriptor. `inner` is the descriptor of the map that its own maps are like. Raises OSError."""
    facts = table.kind, table.key_size, table.value_size, table.entries, table.flags
    return _charged(_CREATE, struct.pack("=7I16s", *facts, inner, 0, table.name[:15].encode()))


def lookup(map_fd: int, key: int, size: int) -> bytes:
    """The value of a 32-bit key, `size` bytes: for a per-CPU map that is one value, rounded up to eight bytes, for each
    possible processor. Raises OSError."""
    held = ctypes.c_uint32(key)
    value = ctypes.create_string_buffer(size)
    _call(_LOOKUP, struct.pack("=IIQQQ", map_fd, 0, ctypes.addressof(held), ctypes.addressof(value), 0))
    return value.raw


def cell(map_fd: int, key: int, size: int) -> bytes | None:
    """The value of a 32-bit key, or None where there is none. Raises OSError for other reasons."""
    try:
        return lookup(map_fd, key, size)
    except FileNotFoundError:
        return None


def freeze(map_fd: int) -> bool:
    """Let nobody write a map by system calls any more, ourselves included; programs still can. False where the kernel
    cannot (before 5.2)."""
    try:
        _call(_FREEZE, struct.pack("=I", map_fd))
    except OSError:
        return False
    return True


def map_by_id(number: int) -> int:
    """A descriptor of the map with this id, anybody's. Needs CAP_SYS_ADMIN. Raises OSError."""
    return _call(_MAP_FD_BY_ID, struct.pack("=III", number, 0, 0))


def update(map_fd: int, key: int, value: bytes) -> None:
    """Write the value of a 32-bit key; of a table of programs, the value is a descriptor. Raises OSError."""
    put(map_fd, struct.pack("=I", key), value)


def put(map_fd: int, key: bytes, value: bytes) -> None:
    """Write the value of a key of any size. Raises OSError."""
    held, data = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value, len(value))
    _call(_UPDATE, struct.pack("=IIQQQ", map_fd, 0, ctypes.addressof(held), ctypes.addressof(data), 0))


def delete(map_fd: int, key: int) -> None:
    """Remove a 32-bit key, or the program that stands there. Raises OSError."""
    held = ctypes.c_uint32(key)
    _call(_DELETE, struct.pack("=IIQ", map_fd, 0, ctypes.addressof(held)))


def attach_raw_tracepoint(name: str, program_fd: int) -> int:
    """Run a program at a raw tracepoint until the descriptor that this gives is closed. Raises OSError."""
    held = ctypes.create_string_buffer(name.encode())
    return _call(_RAW_TRACEPOINT_OPEN, struct.pack("=QI", ctypes.addressof(held), program_fd))


TRACEPOINT, RAW_TRACEPOINT, TRACING, LSM = 5, 17, 26, 29  # enum bpf_prog_type
TYPED_TRACEPOINT, FENTRY, FEXIT, LSM_MAC = 23, 24, 25, 27  # enum bpf_attach_type
EMPTY = bytes.fromhex("b700000000000000 9500000000000000")  # r0 = 0; exit


def load_program(
    kind: int, code: bytes, name: str = "tercel_probe", *, attach_type: int = 0, target: int = 0, log: int = 0
) -> int:
    """Load instructions; the program's descriptor. `target` is the type id of the kernel function or tracepoint that a
    program of the kind TRACING or LSM is for. Raises OSError; with `log`, so many bytes of what the verifier said are
    its `strerror`."""
    held, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"Dual BSD/GPL")
    said = ctypes.create_string_buffer(max(log, 1))
    attr = struct.pack(
        "=IIQQIIQII16sIIIIQIIQII", kind, len(code) // 8, ctypes.addressof(held), ctypes.addressof(licence),
        1 if log else 0, log, ctypes.addressof(said) if log else 0, 0, 0, name[:15].encode(), 0, attach_type,
        0, 0, 0, 0, 0, 0, 0, target,
    )  # fmt: skip
    try:
        for _ in range(_TRIES):  # the verifier gives up where a signal comes, a stop, a freezer: it says EAGAIN
            with contextlib.suppress(BlockingIOError):
                return _charged(_PROGRAM_LOAD, attr)
        return _charged(_PROGRAM_LOAD, attr)
    except OSError as error:
        if log:
            raise OSError(error.errno, said.value.decode(errors="replace")) from error
        raise


def attach_traced(program_fd: int) -> int:
    """Run a program of the kind TRACING or LSM where it is for, until the descriptor is closed. Raises OSError."""
    return _call(_RAW_TRACEPOINT_OPEN, struct.pack("=QI", 0, program_fd))


def _charged(command: int, attr: bytes) -> int:
    """A call whose memory counts against RLIMIT_MEMLOCK before 5.11."""
    try:
        return _call(command, attr)
    except PermissionError:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return _call(command, attr)


def _call(command: int, attr: bytes) -> int:
    # addresses in `attr` stay valid: the callers hold what they point to
    buffer = ctypes.create_string_buffer(attr, _ATTR_SIZE)
    result: int = _libc.syscall(this_arch().bpf, command, buffer, _ATTR_SIZE)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"bpf command {command}: {os.strerror(number)}")
    return result
