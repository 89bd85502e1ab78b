"""Run in a child by test_capture.py: raw system calls, one after another, each once, from a folder of its own.

Prints nothing. Numbers come from the table under test, checked against the headers by test_arch.py.
"""

import ctypes
import os
import socket
import struct
import sys
from ctypes import c_char_p, c_long

from appliance.kernel.arch import this_arch
from appliance.model.event import EventType as E

NUMBERS = this_arch().syscalls
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = c_long
AT_FDCWD = -100


def call(event: E, *args: int | bytes) -> int:
    made = [c_char_p(a) if isinstance(a, bytes) else c_long(a) for a in args]
    return int(libc.syscall(c_long(NUMBERS[event]), *made))


def main(folder: str, port: int) -> None:
    os.chdir(folder)
    fd = call(E.OPENAT, AT_FDCWD, b"one", os.O_RDWR | os.O_CREAT, 0o640)
    call(E.OPENAT, AT_FDCWD, b"./no/../missing", os.O_RDONLY, 0)
    call(E.OPEN, b"/etc/hostname", os.O_RDONLY, 0)
    how = ctypes.create_string_buffer(struct.pack("QQQ", os.O_RDONLY, 0, 0x08))
    dirfd = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    call(E.OPENAT2, dirfd, b"one", ctypes.addressof(how), 24)
    call(E.CREAT, b"two", 0o600)
    call(E.CHMOD, b"one", 0o4755)
    call(E.FCHMOD, fd, 0o644)
    call(E.FCHMODAT, dirfd, b"one", 0o600)
    call(E.CHOWN, b"one", 1, 2)
    call(E.LCHOWN, b"one", 0, 0)
    call(E.FCHOWN, fd, 3, 4)
    call(E.FCHOWNAT, AT_FDCWD, b"one", 0, 0, 0x100)
    call(E.MKDIR, b"dir", 0o755)
    call(E.MKDIRAT, dirfd, b"dir2", 0o700)
    call(E.SYMLINK, b"one", b"sym")
    call(E.SYMLINKAT, b"/etc/passwd", dirfd, b"sym2")
    call(E.LINK, b"one", b"hard")
    call(E.LINKAT, dirfd, b"one", AT_FDCWD, b"hard2", 0)
    call(E.RENAME, b"hard", b"hard3")
    call(E.RENAMEAT, dirfd, b"hard2", AT_FDCWD, b"hard4")
    call(E.RENAMEAT2, AT_FDCWD, b"hard3", dirfd, b"hard5", 1)
    call(E.UNLINK, b"hard4")
    call(E.UNLINKAT, dirfd, b"dir2", 0x200)
    call(E.RMDIR, b"dir")
    call(E.CHDIR, b"/usr/../tmp")
    call(E.FCHDIR, dirfd)
    call(E.CHDIR, b"nowhere")
    call(E.DUP, fd)
    call(E.DUP2, fd, 40)
    call(E.DUP3, fd, 41, os.O_CLOEXEC)
    call(E.DUP, 999)
    s = call(E.SOCKET, socket.AF_INET, socket.SOCK_STREAM, 0)
    address = struct.pack("<H", socket.AF_INET) + struct.pack(">H", port) + socket.inet_aton("127.0.0.1") + bytes(8)
    call(E.CONNECT, s, address, len(address))
    unix = socket.socket(socket.AF_UNIX)
    nobody = struct.pack("<H", socket.AF_UNIX) + b"/nobody/listens\0"
    call(E.CONNECT, unix.fileno(), nobody, len(nobody))
    call(E.PTRACE, 16, 0x7FFFFFF0, 0, 0)
    call(E.MOUNT, b"nodev", b"nodir", b"notype", 4096, 0)
    call(E.SETRESGID, 7, 8, 9)
    call(E.SETRESUID, 4, 5, 6)
    call(E.SETUID, 0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
