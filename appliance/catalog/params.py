"""What a parameter of an event is, and the names of the flags it may carry.

Comes in: nothing. Goes out: the vocabulary in which `catalog.events` writes its rows. The flags are spelled as Falco
spells them (`falco --list-events`); the numbers are Linux's (uapi headers; x86_64 and arm64 agree on all of them but
the four marked in `OPEN_FLAGS`).
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class ParamType(Enum):
    """How a parameter is stored and shown. The value is what `tercel list` calls the type."""

    RES = "ERRNO"  # the call's result, in the record's head
    RES_FD = "FD "  # the same, and it is a descriptor when not negative
    RES_PID = "PID "  # the same, and it is a pid
    RES_UID = "UID "  # the same, and it is a user or a group
    RES_INT = "INT64 "  # the same, and it is a number
    FD = "FD"  # s32
    PID = "PID"  # s32
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    RELTIME = "RELTIME"  # s64, nanoseconds
    ABSTIME = "ABSTIME"  # u64, nanoseconds since the epoch
    SIGSET = "SIGSET"  # u32, signals 1 to 32
    SIGNAL = "SIGTYPE"  # u32, shown by name
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    UID = "UID"  # u32 in the host's user namespace; 4294967295 means "unchanged" or "nobody" and is read as -1
    MODE = "MODE"  # u32, shown in octal
    FLAGS = "FLAGS32"  # u32, a bit set of `flags`
    FLAGS16 = "FLAGS16"  # u16, the same
    ENUM = "ENUMFLAGS32"  # u32, one of `flags`
    ADDR16 = "ADDR"  # 16 bytes, network order; an IPv4 address stands in the first four
    PATH = "FSPATH"  # text of at most 4,095 bytes
    TEXT = "CHARBUF"  # text
    ARGS = "BYTEBUF"  # NUL-separated texts, decoded to a tuple
    BYTES = "BYTES"  # bytes
    FDS = "FDLIST"  # descriptors, four texts each, see kernel.decode; engine.sockets reads them
    DATA = "BYTEBUF "  # bytes that a program reads or writes, decoded to text
    DIRPATH = "DIRPATH"  # a path as the kernel walks it: names from leaf to root; decoded to `/a/b`


class Form(Enum):
    """How Falco writes the number that it carries, where an argument is asked for as a number."""

    DECIMAL = "%d"
    HEXADECIMAL = "%X"
    OCTAL = "%o"
    TEXT = "text"  # decimal, and a text in JSON


RESULTS = frozenset({ParamType.RES, ParamType.RES_FD, ParamType.RES_PID, ParamType.RES_UID, ParamType.RES_INT})
VARIABLE = frozenset(
    {ParamType.PATH, ParamType.TEXT, ParamType.ARGS, ParamType.BYTES, ParamType.DATA, ParamType.FDS, ParamType.DIRPATH}
)

Flags = Mapping[str, int]


# What stands in place of an argument's number. From `VEC` on, the parts of the vector or message that the event's
# `vector` or `message` names (struct iovec, struct msghdr): its first piece, the address, the control data.
RESULT = 12
NUMBER = 13  # of the system call itself
ZERO = 14
VEC, VEC_SIZE, NAME, NAME_SIZE, CONTROL, CONTROL_SIZE = range(6, 12)
CWD = -100  # in place of a folder's descriptor: the working directory


@dataclass(frozen=True, slots=True)
class Arg:
    """Where the kernel's C finds a parameter: in argument `n` of the system call, counted from 0, or in `RESULT` etc.

    With `at` the argument is a pointer, and the value lies that many bytes behind it; with `long` it is the n-th
    `long` there (8 bytes each, 4 in 32-bit programs); `owner`: a user or group, of 16 bits in old 32-bit calls; `out`:
    the kernel writes it, so there is none if the call fails. With `sock` the argument is a socket and the value a
    member of the kernel's own structure; with `memory` it is a part of the process's memory in KiB (`size`, `rss`,
    `swap`). `size` goes with bytes: the argument that tells how many there are, with `size_at` through a pointer; at
    most `most` are taken. `mask` is what the kernel takes of a value of at most 32 bits. With `only` the call
    uses the argument, or what lies there, only where that other argument is one of the numbers whose bits are set in
    `when` (31 stands for all above, too); else it is 0 or absent, and nothing is read.
    """

    n: int
    at: int | None = None
    long: int | None = None
    out: bool = False
    sock: str | None = None
    memory: str | None = None
    size: int | None = None
    size_at: bool = False
    most: int = 80
    mask: int = 0xFFFFFFFF
    only: int | None = None
    when: int = 0
    owner: bool = False


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter. The first of every event is its result and lives in the record's head.

    With `get` (a Python expression over `e`, as in `model.field.Field`, and `p`, the stored parameters by name) it is
    not stored: other facts tell it.
    `internal` ones are ours, not Falco's: they carry what the kernel knows and feed `engine.state`. With `arg` the
    parameter is taken from the call's arguments by a program that all such events share (`kernel.plan`). Parameters of
    one `block` lie at the same place in every record that has them. `form` is how its number is written.
    """

    name: str
    type: ParamType
    flags: Flags | None = None
    get: str | None = None
    internal: bool = False
    arg: Arg | None = None
    block: str | None = None
    form: Form | None = None

    @property
    def written(self) -> Form:
        """The form of its number: of flags hexadecimal, of others decimal, unless the row says otherwise."""
        if self.form is not None:
            return self.form
        if self.type in (ParamType.FLAGS, ParamType.FLAGS16):
            return Form.HEXADECIMAL
        return Form.OCTAL if self.type is ParamType.MODE else Form.DECIMAL

    @property
    def stored(self) -> bool:
        """True if the record has room for it (results are in its head)."""
        return self.get is None and self.type not in RESULTS


def flag_names(value: int, flags: Flags) -> str:
    """The set's names joined by `|`, in table order; `0` where none is set (as Falco prints an empty set)."""
    names = [name for name, bits in flags.items() if bits and value & bits == bits]
    return "|".join(names) if names else next((name for name, bits in flags.items() if bits == value), "0")


def enum_name(value: int, flags: Flags) -> str:
    """The name that stands for `value`, or its decimal digits."""
    return next((name for name, number in flags.items() if number == value), str(value))


_ARM = platform.machine() == "aarch64"

O_ACCMODE = 0o3


def open_numbers(value: int, order: Flags) -> dict[str, int]:
    """The names of open flags, in the order of `order`, each with its number there, 0 for a name that is not in it. The
    access mode is a name too, though the kernel's O_RDONLY has no bits."""
    mode = {0: "O_RDONLY", 1: "O_WRONLY", 2: "O_RDWR"}.get(value & O_ACCMODE)
    names = {name for name, bits in OPEN_FLAGS.items() if bits > O_ACCMODE and value & bits == bits}
    if "O_TMPFILE" in names:  # O_TMPFILE holds O_DIRECTORY's bit
        names.discard("O_DIRECTORY")
    if mode:
        names.add(mode)
    ordered = [
        *(name for name in order if name in names),
        *(name for name in OPEN_FLAGS if name in names - order.keys()),
    ]
    return {name: order.get(name, 0) for name in ordered}


OPEN_FLAGS: Flags = {
    "O_RDONLY": 0,
    "O_WRONLY": 1,
    "O_RDWR": 2,
    "O_CREAT": 0o100,
    "O_APPEND": 0o2000,
    "O_DSYNC": 0o10000,
    "O_EXCL": 0o200,
    "O_NONBLOCK": 0o4000,
    "O_SYNC": 0o4010000,
    "O_TRUNC": 0o1000,
    "O_DIRECT": 0o200000 if _ARM else 0o40000,
    "O_DIRECTORY": 0o40000 if _ARM else 0o200000,
    "O_LARGEFILE": 0o400000 if _ARM else 0o100000,
    "O_NOFOLLOW": 0o100000 if _ARM else 0o400000,
    "O_CLOEXEC": 0o2000000,
    "O_PATH": 0o10000000,
    "O_TMPFILE": 0o20000000 | (0o40000 if _ARM else 0o200000),
    # not the caller's, but what came of it: of our own numbering, above all that Linux takes
    "FD_UPPER_LAYER": 1 << 28,
    "FD_LOWER_LAYER": 1 << 29,
    "O_F_CREATED": 1 << 30,
}

CREAT_FLAGS: Flags = {"FD_UPPER_LAYER_CREAT": 1 << 28, "FD_LOWER_LAYER_CREAT": 1 << 29}

RESOLVE_FLAGS: Flags = {
    "RESOLVE_BENEATH": 0x8,
    "RESOLVE_IN_ROOT": 0x10,
    "RESOLVE_NO_MAGICLINKS": 0x2,
    "RESOLVE_NO_SYMLINKS": 0x4,
    "RESOLVE_NO_XDEV": 0x1,
    "RESOLVE_CACHED": 0x20,
}

CLONE_FLAGS: Flags = {
    "CLONE_FILES": 0x400,
    "CLONE_FS": 0x200,
    "CLONE_IO": 0x80000000,
    "CLONE_NEWIPC": 0x8000000,
    "CLONE_NEWNET": 0x40000000,
    "CLONE_NEWNS": 0x20000,
    "CLONE_NEWPID": 0x20000000,
    "CLONE_NEWUTS": 0x4000000,
    "CLONE_PARENT": 0x8000,
    "CLONE_PARENT_SETTID": 0x100000,
    "CLONE_PTRACE": 0x2000,
    "CLONE_SIGHAND": 0x800,
    "CLONE_SYSVSEM": 0x40000,
    "CLONE_THREAD": 0x10000,
    "CLONE_UNTRACED": 0x800000,
    "CLONE_VM": 0x100,
    "CLONE_NEWUSER": 0x10000000,
    "CLONE_CHILD_CLEARTID": 0x200000,
    "CLONE_CHILD_SETTID": 0x1000000,
    "CLONE_SETTLS": 0x80000,
    "CLONE_STOPPED": 0x2000000,
    "CLONE_VFORK": 0x4000,
    "CLONE_NEWCGROUP": 0x2000000,
    # not the caller's: the child's numbers in its pid namespace are others; of our own numbering
    "CLONE_CHILD_IN_PIDNS": 1 << 32,
}

# Ours, of any descriptor. A pseudo file is in no folder: a pipe, a memfd, an anonymous inode. The client connected, the
# server accepted or was bound, as far as the kernel's own structures show it.
FD_FLAGS: Flags = {"UPPER_LAYER": 1, "LOWER_LAYER": 2, "PSEUDO": 4, "CLIENT": 8, "SERVER": 16, "CREATED": 32}

RENAME_FLAGS: Flags = {"RENAME_NOREPLACE": 1, "RENAME_EXCHANGE": 2, "RENAME_WHITEOUT": 4}
# The bits of a mode, in Falco's order, and what a node is made to be: one of the kinds.
FILE_MODES: Flags = {
    "S_IXOTH": 0o1,
    "S_IWOTH": 0o2,
    "S_IROTH": 0o4,
    "S_IXGRP": 0o10,
    "S_IWGRP": 0o20,
    "S_IRGRP": 0o40,
    "S_IXUSR": 0o100,
    "S_IWUSR": 0o200,
    "S_IRUSR": 0o400,
    "S_ISVTX": 0o1000,
    "S_ISGID": 0o2000,
    "S_ISUID": 0o4000,
}
NODE_KINDS: Flags = {
    "S_IFIFO": 0o10000,
    "S_IFCHR": 0o20000,
    "S_IFBLK": 0o60000,
    "S_IFREG": 0o100000,
    "S_IFSOCK": 0o140000,
}


def mode_names(value: int) -> str:
    """The bits of a mode by name, joined by `|`, the kind of node (`S_IFMT` is no set of bits) behind them."""
    names = [name for name, bit in FILE_MODES.items() if value & bit]
    names += [name for name, kind in NODE_KINDS.items() if value & 0o170000 == kind]
    return "|".join(names) if names else "0"


UNLINK_FLAGS: Flags = {"AT_REMOVEDIR": 0x200}
LINK_FLAGS: Flags = {"AT_SYMLINK_FOLLOW": 0x400, "AT_EMPTY_PATH": 0x1000}
CHOWN_FLAGS: Flags = {"AT_SYMLINK_NOFOLLOW": 0x100, "AT_EMPTY_PATH": 0x1000}
EXE_FLAGS: Flags = {"EXE_WRITABLE": 1, "EXE_UPPER_LAYER": 2, "EXE_FROM_MEMFD": 4, "EXE_LOWER_LAYER": 8}

MOUNT_FLAGS: Flags = {
    "RDONLY": 1,
    "NOSUID": 2,
    "NODEV": 4,
    "NOEXEC": 8,
    "SYNCHRONOUS": 16,
    "REMOUNT": 32,
    "MANDLOCK": 64,
    "DIRSYNC": 128,
    "NOATIME": 1024,
    "NODIRATIME": 2048,
    "BIND": 4096,
    "MOVE": 8192,
    "REC": 16384,
    "SILENT": 32768,
    "POSIXACL": 1 << 16,
    "UNBINDABLE": 1 << 17,
    "PRIVATE": 1 << 18,
    "SLAVE": 1 << 19,
    "SHARED": 1 << 20,
    "RELATIME": 1 << 21,
    "KERNMOUNT": 1 << 22,
    "I_VERSION": 1 << 23,
    "STRICTATIME": 1 << 24,
    "LAZYTIME": 1 << 25,
}

PTRACE_REQUESTS: Flags = {
    "PTRACE_TRACEME": 0,
    "PTRACE_PEEKTEXT": 1,
    "PTRACE_PEEKDATA": 2,
    "PTRACE_PEEKUSR": 3,
    "PTRACE_POKETEXT": 4,
    "PTRACE_POKEDATA": 5,
    "PTRACE_POKEUSR": 6,
    "PTRACE_CONT": 7,
    "PTRACE_KILL": 8,
    "PTRACE_SINGLESTEP": 9,
    "PTRACE_GETREGS": 12,
    "PTRACE_SETREGS": 13,
    "PTRACE_GETFPREGS": 14,
    "PTRACE_SETFPREGS": 15,
    "PTRACE_ATTACH": 16,
    "PTRACE_DETACH": 17,
    "PTRACE_SYSCALL": 24,
    "PTRACE_SETOPTIONS": 0x4200,
    "PTRACE_GETEVENTMSG": 0x4201,
    "PTRACE_GETSIGINFO": 0x4202,
    "PTRACE_SETSIGINFO": 0x4203,
    "PTRACE_GETREGSET": 0x4204,
    "PTRACE_SETREGSET": 0x4205,
    "PTRACE_SEIZE": 0x4206,
    "PTRACE_INTERRUPT": 0x4207,
    "PTRACE_LISTEN": 0x4208,
    "PTRACE_PEEKSIGINFO": 0x4209,
    "PTRACE_GETSIGMASK": 0x420A,
    "PTRACE_SETSIGMASK": 0x420B,
}

FAMILIES: Flags = {
    "AF_UNSPEC": 0,
    "AF_LOCAL|AF_UNIX": 1,
    "AF_INET": 2,
    "AF_AX25": 3,
    "AF_IPX": 4,
    "AF_APPLETALK": 5,
    "AF_NETROM": 6,
    "AF_BRIDGE": 7,
    "AF_ATMPVC": 8,
    "AF_X25": 9,
    "AF_INET6": 10,
    "AF_ROSE": 11,
    "AF_DECnet": 12,
    "AF_NETBEUI": 13,
    "AF_SECURITY": 14,
    "AF_KEY": 15,
    "AF_ROUTE|AF_NETLINK": 16,
    "AF_PACKET": 17,
    "AF_ASH": 18,
    "AF_ECONET": 19,
    "AF_ATMSVC": 20,
    "AF_RDS": 21,
    "AF_SNA": 22,
    "AF_IRDA": 23,
    "AF_PPPOX": 24,
    "AF_WANPIPE": 25,
    "AF_LLC": 26,
    "AF_CAN": 29,
    "AF_TIPC": 30,
    "AF_BLUETOOTH": 31,
    "AF_IUCV": 32,
    "AF_RXRPC": 33,
    "AF_ISDN": 34,
    "AF_PHONET": 35,
    "AF_IEEE802154": 36,
    "AF_CAIF": 37,
    "AF_ALG": 38,
    "AF_NFC": 39,
    "AF_VSOCK": 40,
}
