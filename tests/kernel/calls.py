"""Raw system calls with what their events must say: a table for test_calls.py, and the child that makes the calls.

Before each call the child gives itself a new name (`call-17`), so that the test finds the events that belong to it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct
import sys
from collections.abc import Mapping
from ctypes import c_long, c_void_p
from dataclasses import dataclass, field
from pathlib import Path

from appliance.model.event import EventType as E

AT_FDCWD, PR_SET_NAME = -100, 15
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = c_long

# Descriptors of the child, at numbers of their own.
FILE, DIR, RD, WR, SOCK, SERVER, PEER, UDP, NS, SPARE, NONE = 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 190

Argument = int | bytes | ctypes.Array[ctypes.c_char]


@dataclass(frozen=True, slots=True)
class Call:
    """A call and the facts of its event: a text is what `evt.arg` gives, a number what `evt.rawarg` does."""

    event: E
    args: tuple[Argument, ...]
    facts: Mapping[str, str | int | None]
    res: str | int = 0  # name of an error, or the result (a text that is none of these: any success)
    fd: Mapping[str, str | int | None] = field(default_factory=dict)  # attributes of the event's descriptor
    path: str | None = None  # the event's absolute path


def memory(data: bytes) -> ctypes.Array[ctypes.c_char]:
    """Bytes that a call may write to."""
    return ctypes.create_string_buffer(data, len(data))


def at(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)


POISON = b"\xee"  # around what arguments point to: no event tells any of it
_JUNK = (0xEEEEEEEEEEEE,) * 3  # in registers that a call does not use


def poisoned(data: bytes) -> c_void_p:
    """Bytes that a call reads, or a text with its end, with others around that are not its own."""
    around = POISON * 256
    whole = ctypes.create_string_buffer(around + data + b"\0" + around)
    KEEP.append(whole)
    return c_void_p(ctypes.addressof(whole) + len(around))


KEEP: list[object] = []  # what pointers within structures point to


def vector(data: bytes) -> bytes:
    """A struct iovec of one piece."""
    piece = memory(data)
    KEEP.append(piece)
    return struct.pack("QQ", at(piece), len(data))


def message(data: bytes, name: bytes = b"") -> bytes:
    """A struct msghdr of one piece, with an address."""
    pieces, address = memory(vector(data)), memory(name)
    KEEP.extend((pieces, address))
    return struct.pack("QQQQQQQ", at(address) if name else 0, len(name), at(pieces), 1, 0, 0, 0)


def inet(port: int, address: str = "127.0.0.1") -> bytes:
    return struct.pack("<H", socket.AF_INET) + struct.pack(">H", port) + socket.inet_aton(address) + bytes(8)


def calls(folder: str, port: int, bound: int, pid: int) -> list[Call]:
    """All of them, in order. `port` is one that somebody listens on, `bound` one that nobody does, `pid` the child."""
    page = mmap.PAGESIZE
    file: Mapping[str, str | int | None] = {"num": FILE, "type": "file", "name": f"{folder}/file"}
    return [
        # -- first, so that their numbers are known
        Call(E.PIPE, (memory(bytes(8)),), {"fd1": 3, "fd2": 4}),
        Call(E.PIPE2, (memory(bytes(8)), os.O_CLOEXEC), {"fd1": 5, "fd2": 6, "flags": "O_CLOEXEC"}),
        # -- the process itself
        Call(E.SETPGID, (0, 0), {"pid": 0, "pgid": 0, "res": "0"}),
        Call(E.SETSID, (), {"res": -1}, "EPERM"),
        Call(E.PRCTL, (38, 1, 0, 0, 0), {"option": "PR_SET_NO_NEW_PRIVS", "arg2_int": 1, "arg2_str": "<NA>"}),
        Call(E.PRCTL, (999, 7), {"option": "999", "arg2_int": 7}, "EINVAL"),
        Call(E.UNSHARE, (0x4000000,), {"flags": "CLONE_NEWUTS"}),
        Call(E.SETNS, (NS, 0x4000000), {"fd": NS, "nstype": "CLONE_NEWUTS"}, fd={"num": NS}),
        Call(E.SETNS, (NONE, 0x20000), {"fd": NONE, "nstype": "CLONE_NEWNS"}, "EBADF"),
        Call(E.CHROOT, (b"nowhere",), {"path": f"{folder}/nowhere"}, "ENOENT", path=f"{folder}/nowhere"),
        Call(E.PIVOT_ROOT, (b"nowhere", b"else"), {"ID": "pivot_root"}, "ENOENT"),
        Call(E.SECCOMP, (77, 3), {"op": 77, "flags": 3}, "EINVAL"),
        Call(E.CAPSET, (0, 0), {}, "EFAULT"),
        Call(E.KILL, (pid, 0), {"pid": pid, "sig": "0"}),
        Call(E.KILL, (0x3FFFFFFF, 9), {"pid": 0x3FFFFFFF, "sig": "SIGKILL"}, "ESRCH"),
        Call(E.TKILL, (0x3FFFFFFF, 15), {"tid": 0x3FFFFFFF, "sig": "SIGTERM"}, "ESRCH"),
        Call(E.TGKILL, (pid, 0x3FFFFFFF, 10), {"pid": pid, "tid": 0x3FFFFFFF, "sig": "SIGUSR1"}, "ESRCH"),
        Call(E.PIDFD_OPEN, (pid, 0), {"pid": pid, "flags": 0}, "fd", {"type": "pidfd"}),
        Call(E.PIDFD_GETFD, (NONE, 3, 0), {"pid_fd": NONE, "target_fd": 3}, "EBADF"),
        Call(E.PROCESS_VM_READV, (0x3FFFFFFF, b"", 0, b"", 0, 0), {"pid": 0x3FFFFFFF}, "any or error"),
        Call(E.GETRLIMIT, (99, bytes(16)), {"resource": "RLIMIT_UNKNOWN", "cur": -1, "max": -1}, "EINVAL"),
        Call(E.GETRLIMIT, (4, memory(bytes(16))), {"resource": "RLIMIT_CORE", "cur": 0}),
        Call(E.SETRLIMIT, (4, struct.pack("QQ", 5, 4)), {"resource": "RLIMIT_CORE", "cur": 5, "max": 4}, "EINVAL"),
        Call(
            E.PRLIMIT,
            (0, 7, struct.pack("QQ", 300, 400), memory(bytes(16))),
            {"newcur": 300, "newmax": 400, "oldcur": 300, "oldmax": 500, "pid": 0, "resource": "RLIMIT_NOFILE"},
        ),
        Call(E.GETUID, (), {"uid": 0}),
        Call(E.GETEGID, (), {"egid": 0}),
        Call(E.GETRESUID, (memory(b"1234"), memory(b"1234"), memory(b"1234")), {"ruid": 0, "euid": 0, "suid": 0}),
        Call(E.GETPPID, (), {"ID": "getppid", "nativeID": 110}, "any"),
        # -- files by path
        Call(E.ACCESS, (b"file", 4), {"name": f"{folder}/file", "mode": "R_OK"}, path=f"{folder}/file"),
        Call(E.STAT, (b"file", memory(bytes(256))), {"path": f"{folder}/file"}, path=f"{folder}/file"),
        Call(E.LSTAT, (b"none", memory(bytes(256))), {"path": f"{folder}/none"}, "ENOENT", path=f"{folder}/none"),
        Call(
            E.NEWFSTATAT,
            (DIR, b"file", memory(bytes(256)), 0x100),
            {"dirfd": DIR, "path": f"{folder}/file", "flags": "AT_SYMLINK_NOFOLLOW"},
            path=f"{folder}/file",
        ),
        Call(
            E.MKNOD, (b"fifo", 0o10640, 0), {"path": f"{folder}/fifo", "mode": 0o10640, "dev": 0}, path=f"{folder}/fifo"
        ),
        Call(
            E.MKNODAT,
            (DIR, b"null", 0o20600, 0x103),
            {"dirfd": DIR, "path": f"{folder}/null", "mode": 0o20600, "dev": 1 << 20 | 3},
            "any",
            path=f"{folder}/null",
        ),
        Call(E.GETCWD, (memory(bytes(200)), 200), {"path": folder}, "any"),
        Call(E.OPEN_BY_HANDLE_AT, (DIR, bytes(8), os.O_RDONLY), {"mountfd": DIR, "flags": "O_RDONLY"}, "EINVAL"),
        # -- mounts and modules
        Call(
            E.MOUNT,
            (b"a", b"b", b"c", 4096, 0),
            {"dev": "a", "dir": f"{folder}/b", "type": "c", "flags": "BIND"},
            "ENOENT",
        ),
        Call(
            E.UMOUNT2,
            (b"nowhere", 2),
            {"name": f"{folder}/nowhere", "flags": "DETACH"},
            "ENOENT",
            path=f"{folder}/nowhere",
        ),
        Call(E.FSOPEN, (b"nofs", 0), {"ID": "fsopen", "nativeID": 430}, "ENODEV"),
        Call(
            E.FSCONFIG,
            (NONE, 3, b"key", b"/a/path", 2**64 - 100),
            {"cmd": "FSCONFIG_SET_PATH", "value_bytebuf": "NULL", "value_charbuf": "/a/path", "aux": -100},
            "EBADF",
        ),
        Call(
            E.FSCONFIG,
            (NONE, 2, b"key", b"\x01\x02\x03", 3),
            {"cmd": "FSCONFIG_SET_BINARY", "value_bytebuf": "\x01\x02\x03", "value_charbuf": "<NA>"},
            "EBADF",
        ),
        Call(
            E.FSCONFIG,
            (NONE, 6, b"junk", b"junk", 4),
            {"cmd": "FSCONFIG_CMD_CREATE", "key": "<NA>", "value_bytebuf": "NULL", "value_charbuf": "<NA>", "aux": 0},
            "any or error",
        ),
        Call(
            E.FSCONFIG,
            (NONE, 1, b"key", b"value", 0),
            {"fd": NONE, "cmd": "FSCONFIG_SET_STRING", "key": "key", "value_charbuf": "value", "aux": 0},
            "EBADF",
        ),
        Call(E.MOVE_MOUNT, (NONE, b"", NONE, b"", 4), {"ID": "move_mount"}, "any or error"),
        Call(E.OPEN_TREE, (DIR, b"nowhere", 0), {"ID": "open_tree"}, "ENOENT"),
        Call(E.MOUNT_SETATTR, (DIR, b"nowhere", 0, bytes(32), 32), {"ID": "mount_setattr"}, "any or error"),
        Call(
            E.QUOTACTL,
            (0x800007 << 8, b"/dev/nodisk", 12, bytes(80)),
            {"special": "/dev/nodisk", "cmd": "Q_GETQUOTA", "type": "USRQUOTA", "id": 12},
            "any or error",
        ),
        Call(
            E.INIT_MODULE,
            (b"not a module", 12, b"a=1"),
            {"img": "not a module", "length": 12, "uargs": "a=1"},
            "any or error",
        ),
        Call(
            E.FINIT_MODULE,
            (FILE, b"b=2", 1),
            {"fd": FILE, "uargs": "b=2", "flags": "MODULE_INIT_IGNORE_MODVERSIONS"},
            "any or error",
            file,
        ),
        Call(E.DELETE_MODULE, (b"nomodule", 0o4000), {"name": "nomodule", "flags": "O_NONBLOCK"}, "any or error"),
        Call(E.BPF, (5, bytes(64), 64), {"cmd": "BPF_PROG_LOAD"}, "any or error"),
        Call(E.KEYCTL, (1, b"a ring", *_JUNK), {"arg2": "a ring", "arg3": 0, "arg4": 0, "arg5": 0}, "any or error"),
        Call(
            E.KEYCTL,
            (10, 2**64 - 3, b"user", b"desc", 7),
            {"arg2": 2**32 - 3, "arg3": "user", "arg4": "desc", "arg5": 7},
            "any or error",
        ),
        Call(E.KEYCTL, (3, 99, *_JUNK), {"arg2": 99, "arg3": 0, "arg4": 0, "arg5": 0}, "any or error"),
        Call(E.KEYCTL, (99, 1, *_JUNK), {"arg2": 0, "arg3": 0, "arg4": 0, "arg5": 0}, "any or error"),
        Call(
            E.KEYCTL,
            (0, 2**64 - 3, 0, 0, 0),
            {"operation": "KEYCTL_GET_KEYRING_ID", "arg2": 2**32 - 3},
            "any or error",
        ),
        Call(E.REQUEST_KEY, (b"user", b"nokey", 0, 0), {"ID": "request_key"}, "any or error"),
        Call(E.USERFAULTFD, (os.O_CLOEXEC | 1,), {"flags": "O_CLOEXEC|UFFD_USER_MODE_ONLY"}, "any or error"),
        # -- descriptors
        Call(E.READ, (FILE, memory(bytes(8)), 8), {"fd": FILE, "data": "0123456", "size": 8}, 7, file),
        Call(E.READ, (NONE, memory(bytes(8)), 8), {"fd": NONE, "data": "NULL", "size": 8}, "EBADF"),
        Call(E.WRITE, (WR, b"hello\xff", 6), {"fd": WR, "data": "hello\udcff", "size": 6}, 6, {"type": "pipe"}),
        Call(E.READV, (RD, vector(b"....."), 1), {"fd": RD, "data": "hello", "size": 5}, 5, {"type": "pipe"}),
        Call(E.WRITEV, (WR, vector(b"x" * 200), 1), {"fd": WR, "data": "x" * 80, "size": 200}, 200),
        Call(E.PREAD, (FILE, memory(bytes(3)), 3, 2), {"fd": FILE, "data": "234", "size": 3, "pos": 2}, 3, file),
        Call(E.PWRITE, (FILE, b"ABC", 3, 1), {"fd": FILE, "data": "ABC", "size": 3, "pos": 1}, 3, file),
        Call(E.PREADV, (FILE, vector(b".."), 1, 1), {"fd": FILE, "data": "AB", "pos": 1}, 2, file),
        Call(E.PWRITEV, (FILE, vector(b"ab"), 1, 1), {"fd": FILE, "data": "ab", "pos": 1}, 2, file),
        Call(
            E.SENDFILE,
            (WR, FILE, memory(struct.pack("Q", 2)), 3),
            {"out_fd": WR, "in_fd": FILE, "offset": 5, "size": 3},
            3,
        ),
        Call(
            E.SPLICE,
            (RD, 0, NONE, 0, 10, 2),
            {"fd_in": RD, "fd_out": NONE, "size": 10, "flags": "SPLICE_F_NONBLOCK"},
            "EBADF",
            {"num": RD, "type": "pipe"},
        ),
        Call(E.COPY_FILE_RANGE, (FILE, 0, NONE, 0, 9, 0), {"fdin": FILE, "fdout": NONE, "len": 9}, "EBADF"),
        Call(E.LSEEK, (FILE, 4, 0), {"fd": FILE, "offset": 4, "whence": "SEEK_SET"}, 4, file),
        Call(E.FSTAT, (FILE, memory(bytes(256))), {"fd": FILE}, 0, file),
        Call(E.FLOCK, (FILE, 6), {"fd": FILE, "operation": "LOCK_EX|LOCK_NB"}, 0, file),
        Call(E.FCNTL, (FILE, 3, 0), {"fd": FILE, "cmd": "F_GETFL", "arg": 0}, "any", file),
        Call(E.IOCTL, (FILE, 0x5401, 0), {"fd": FILE, "request": 0x5401, "argument": 0}, "ENOTTY", file),
        Call(E.GETDENTS64, (DIR, memory(bytes(500)), 500), {"fd": DIR}, "any", {"type": "directory", "name": folder}),
        Call(E.PIPE2, (0, 0), {"fd1": -1, "fd2": -1}, "EFAULT"),
        Call(E.EVENTFD2, (4, 0o4000), {"initval": 4}, "fd", {"type": "event"}),
        Call(
            E.SIGNALFD4,
            (2**64 - 1, struct.pack("Q", 1 << 9), 8, 0o2000000),
            {"fd": -1, "mask": 1 << 9},
            "fd",
            {"type": "signalfd"},
        ),
        Call(E.TIMERFD_CREATE, (1, 0o4000), {"clockid": 1, "flags": 0x40}, "fd", {"type": "timerfd"}),
        Call(E.INOTIFY_INIT1, (0o4000,), {"flags": "O_NONBLOCK"}, "fd", {"type": "inotify"}),
        Call(E.EPOLL_CREATE1, (0o2000000,), {"flags": "EPOLL_CLOEXEC"}, "fd", {"type": "eventpoll"}),
        Call(
            E.MEMFD_CREATE,
            (b"secret", 3),
            {"name": "secret", "flags": "MFD_CLOEXEC|MFD_ALLOW_SEALING"},
            "fd",
            {"type": "memfd", "name": "secret"},
        ),
        Call(E.CLOSE, (SPARE,), {"fd": SPARE}, fd={"num": SPARE}),
        Call(E.CLOSE, (NONE,), {"fd": NONE}, "EBADF"),
        Call(E.CLOSE_RANGE, (200, 210, 4), {"first": 200, "last": 210, "flags": "CLOSE_RANGE_CLOEXEC"}),
        Call(E.POLL, (0, 0, 0), {"timeout": 0}),
        Call(E.PPOLL, (0, 0, memory(struct.pack("QQ", 0, 1000)), 0, 8), {"timeout": 0}),
        Call(E.SELECT, (0, 0, 0, 0, bytes(16)), {}),
        Call(E.EPOLL_WAIT, (NONE, memory(bytes(12)), 1, 0), {"maxevents": 1}, "EBADF"),
        Call(E.NANOSLEEP, (struct.pack("QQ", 0, 2000), 0), {"interval": 2000}),
        # -- memory
        Call(
            E.MMAP,
            (0, page, 1, 2, FILE, 0),
            {"addr": 0, "length": page, "prot": "PROT_READ", "flags": "MAP_PRIVATE", "fd": FILE, "offset": 0},
            "any",
            file,
        ),
        Call(E.MPROTECT, (0x1000, page, 5), {"addr": 0x1000, "length": page, "prot": "PROT_READ|PROT_EXEC"}, "ENOMEM"),
        Call(E.MUNMAP, (0x1001, page), {"addr": 0x1001, "length": page}, "EINVAL"),
        Call(E.MLOCK2, (0x1000, page, 1), {"addr": 0x1000, "len": page, "flags": "MLOCK_ONFAULT"}, "ENOMEM"),
        Call(E.BRK, (0x77,), {"addr": 0x77}, "any"),
        Call(E.FUTEX, (bytes(4), 129, 1), {"op": "FUTEX_WAKE|FUTEX_PRIVATE_FLAG", "val": "1"}),
        Call(E.SEMGET, (0x5EED, 3, 0), {"key": 0x5EED, "nsems": 3, "semflg": 0}, "ENOENT"),
        Call(
            E.SEMOP,
            (0x7FFFFFF0, struct.pack("HhH", 1, -2, 0o4000), 1),
            {"nsops": 1, "sem_num_0": 1, "sem_op_0": -2, "sem_num_1": 0, "sem_op_1": 0, "sem_flg_1": 0},
            "any or error",
        ),
        Call(
            E.SEMOP,
            (0x7FFFFFF0, struct.pack("HhHHhH", 1, -2, 0o4000, 3, 4, 0), 2),
            {
                "nsops": 2,
                "sem_num_0": 1,
                "sem_op_0": -2,
                "sem_flg_0": "IPC_NOWAIT",
                "sem_num_1": 3,
                "sem_op_1": 4,
                "semid": 0x7FFFFFF0,
            },
            "any or error",
        ),
        Call(E.SEMCTL, (0x7FFFFFF0, 1, 12, 0), {"semid": 0x7FFFFFF0, "semnum": 1, "cmd": "GETVAL"}, "EINVAL"),
        # -- network
        Call(E.SOCKET, (2, 1, 6), {"domain": "AF_INET", "type": 1, "proto": 6}, "fd", {"type": "ipv4"}),
        Call(E.SOCKET, (17, 3 | 0o4000, 0), {"domain": "AF_PACKET", "flags": "O_NONBLOCK"}, "any or error"),
        Call(E.SOCKETPAIR, (1, 1, 0, memory(bytes(8))), {"domain": "AF_LOCAL|AF_UNIX", "type": 1, "proto": 0}),
        Call(
            E.BIND,
            (SERVER, inet(bound), 16),
            {"fd": SERVER, "addr": f"127.0.0.1:{bound}"},
            fd={"num": SERVER, "type": "ipv4", "lip": "127.0.0.1", "lport": bound, "is_server": True},
        ),
        Call(E.BIND, (SERVER, inet(1), 16), {"fd": SERVER}, "EINVAL"),
        Call(
            E.LISTEN, (SERVER, 7), {"fd": SERVER, "backlog": 7}, fd={"num": SERVER, "lport": bound, "is_server": True}
        ),
        Call(
            E.CONNECT,
            (PEER, inet(bound), 16),
            {"fd": PEER},
            fd={"num": PEER, "sip": "127.0.0.1", "sport": bound, "is_server": True},
        ),
        Call(
            E.ACCEPT4,
            (SERVER, memory(bytes(16)), memory(struct.pack("I", 16)), 0o4000),
            {"queuelen": 0, "queuemax": 7, "queuepct": 0, "flags": 0x40},
            "fd",
            {"sip": "127.0.0.1", "sport": bound, "lport": bound, "is_server": True},
        ),
        Call(E.ACCEPT, (SERVER, 0, 0), {"queuemax": 7}, "EAGAIN"),
        Call(E.SENDTO, (PEER, b"ping", 4, 0, 0, 0), {"fd": PEER, "data": "ping", "size": 4}, 4, {"sport": bound}),
        Call(
            E.SENDTO,
            (UDP, b"datagram", 8, 0, inet(port, "127.0.0.2"), 16),
            {"fd": UDP, "data": "datagram"},
            8,
            {"num": UDP, "sip": "127.0.0.2", "sport": port, "l4proto": "udp"},
        ),
        Call(
            E.SENDMSG,
            (UDP, message(b"message", inet(port, "127.0.0.3")), 0),
            {"fd": UDP, "data": "message", "size": 7},
            7,
            {"num": UDP, "sip": "127.0.0.3", "sport": port},
        ),
        Call(
            E.SENDMMSG,
            (UDP, message(b"many", inet(port, "127.0.0.4")) + bytes(8), 1, 0),
            {"fd": UDP, "data": "many"},
            1,
            {"num": UDP, "sip": "127.0.0.4", "sport": port},
        ),
        Call(E.RECVFROM, (SOCK, memory(bytes(50)), 50, 0x40, 0, 0), {"fd": SOCK, "size": 50}, "EAGAIN", {"num": SOCK}),
        Call(
            E.RECVMSG,
            (SOCK, message(b"." * 30), 0x40),
            {"fd": SOCK, "data": "NULL"},
            "EAGAIN",
            {"num": SOCK, "rip": "127.0.0.1", "rport": port},
        ),
        Call(E.SHUTDOWN, (SOCK, 1), {"fd": SOCK, "how": "SHUT_WR"}, 0, {"num": SOCK, "rport": port}),
        Call(
            E.SETSOCKOPT,
            (SOCK, 1, 9, struct.pack("i", 1), 4),
            {"fd": SOCK, "level": "SOL_SOCKET", "optname": "SO_KEEPALIVE", "val": "1", "optlen": 4},
        ),
        Call(
            E.GETSOCKOPT,
            (SOCK, 1, 3, memory(bytes(4)), memory(struct.pack("I", 4))),
            {"fd": SOCK, "level": "SOL_SOCKET", "optname": "SO_TYPE", "val": "1", "optlen": 4},
        ),
        Call(E.GETSOCKNAME, (SOCK, memory(bytes(16)), memory(struct.pack("I", 16))), {}),
        # -- io_uring
        Call(
            E.IO_URING_SETUP,
            (5, memory(struct.pack("IIII", 0, 0, 1 << 3, 0) + bytes(104))),
            {"entries": 5, "sq_entries": 0, "flags": "IORING_SETUP_CQSIZE"},
            "any or error",
        ),
        Call(
            E.IO_URING_ENTER,
            (NONE, 1, 2, 1, 0, 8),
            {"fd": NONE, "to_submit": 1, "min_complete": 2, "flags": "IORING_ENTER_GETEVENTS"},
            "any or error",
        ),
        Call(
            E.IO_URING_REGISTER,
            (NONE, 4, 0, 1),
            {"fd": NONE, "opcode": "IORING_REGISTER_EVENTFD", "nr_args": 1},
            "any or error",
        ),
    ]


def make(call: Call, number: int) -> None:
    """Make one raw call."""
    made = [a if isinstance(a, ctypes.Array) else poisoned(a) if isinstance(a, bytes) else c_long(a) for a in call.args]
    libc.syscall(c_long(number), *made)


def prepare(port: int) -> None:
    """The descriptors that the calls are about."""
    Path("file").write_bytes(b"0123456")
    os.dup2(os.open("file", os.O_RDWR), FILE)
    os.dup2(os.open(".", os.O_RDONLY | os.O_DIRECTORY), DIR)
    read, write = os.pipe()
    os.dup2(read, RD)
    os.dup2(write, WR)
    os.dup2(os.open("/proc/self/ns/uts", os.O_RDONLY), NS)
    os.dup2(0, SPARE)
    os.dup2(socket.create_connection(("127.0.0.1", port)).detach(), SOCK)
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.setblocking(False)
    os.dup2(server.detach(), SERVER)
    os.dup2(socket.socket().detach(), PEER)
    os.dup2(socket.socket(type=socket.SOCK_DGRAM).detach(), UDP)
    os.closerange(3, FILE)
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (300, 500))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def main(folder: str, port: int, bound: int) -> None:
    from appliance.kernel.arch import this_arch

    os.chdir(folder)
    numbers = this_arch().syscalls
    prepare(port)
    todo = calls(folder, port, bound, os.getpid())
    for i, call in enumerate(todo):
        if call.event in numbers:
            libc.prctl(PR_SET_NAME, f"call-{i}".encode(), 0, 0, 0)
            make(call, numbers[call.event])
    libc.prctl(PR_SET_NAME, b"done", 0, 0, 0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
