"""Somebody with root who reaches into another process and closes one of its descriptors (ptrace(2)). x86_64 only.

Comes in: a process, a descriptor. Goes out: nothing; the descriptor is closed there and the process goes on. Never: a
process that is left stopped.
"""

from __future__ import annotations

import ctypes
import os
import signal

_ATTACH, _DETACH, _GETREGS, _SETREGS, _SYSCALL, _SETOPTIONS = 16, 17, 12, 13, 24, 0x4200
_TRACESYSGOOD = 1
_CLOSE = 3  # the number of close(2)
_WALL = 0x40000000
# struct user_regs_struct of <sys/user.h>: 27 longs
_RAX, _RDI, _ORIG_RAX, _RIP = 10, 14, 15, 16
_Registers = ctypes.c_ulonglong * 27
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def close_in(pid: int, fd: int) -> None:
    """Let the main thread of a process close a descriptor, in the place of its next system call, which follows."""
    _ptrace(_ATTACH, pid)
    os.waitpid(pid, _WALL)
    try:
        _ptrace(_SETOPTIONS, pid, _TRACESYSGOOD)
        _to_next_stop(pid)  # before a call
        registers = _Registers()
        _ptrace(_GETREGS, pid, ctypes.addressof(registers))
        call = _Registers(*registers)
        call[_ORIG_RAX], call[_RDI] = _CLOSE, fd
        _ptrace(_SETREGS, pid, ctypes.addressof(call))
        _to_next_stop(pid)  # after it
        _ptrace(_GETREGS, pid, ctypes.addressof(call))
        registers[_RAX] = registers[_ORIG_RAX]
        registers[_RIP] -= 2  # the instruction of a call is two bytes: once more, as it was meant
        _ptrace(_SETREGS, pid, ctypes.addressof(registers))
    finally:
        _ptrace(_DETACH, pid)
    assert call[_RAX] == 0, f"close({fd}) gave {ctypes.c_longlong(call[_RAX]).value}"


def _to_next_stop(pid: int) -> None:
    """To the next begin or end of a call; signals that come meanwhile are delivered."""
    number = 0
    while True:
        _ptrace(_SYSCALL, pid, number)
        _, status = os.waitpid(pid, _WALL)
        assert os.WIFSTOPPED(status), "it has ended"
        number = os.WSTOPSIG(status)
        if number == signal.SIGTRAP | 0x80:
            return


def _ptrace(request: int, pid: int, data: int = 0) -> None:
    if _libc.ptrace(request, pid, None, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
