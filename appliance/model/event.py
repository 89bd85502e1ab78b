"""What happened: raw as the kernel tells it, and with all that we know about it.

`RawEvent`, `Event` and `Fd` are made hundreds of thousands of times a second, so they are named tuples (three times
cheaper to make than a frozen dataclass, and as unchangeable). The others are frozen dataclasses.

Text from the host is `str` with undecodable bytes as surrogates (`os.fsdecode`). An absent fact is None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
from itertools import chain, islice
from typing import NamedTuple


class EventType(StrEnum):
    """Every event type, under Falco's name. A member is a `str`: `evt.type` is the member itself."""

    # process
    EXECVE = "execve"
    EXECVEAT = "execveat"
    CLONE = "clone"
    CLONE3 = "clone3"
    FORK = "fork"
    VFORK = "vfork"
    PROCEXIT = "procexit"
    CHDIR = "chdir"
    FCHDIR = "fchdir"
    PTRACE = "ptrace"
    # identity
    SETUID = "setuid"
    SETGID = "setgid"
    SETREUID = "setreuid"
    SETREGID = "setregid"
    SETRESUID = "setresuid"
    SETRESGID = "setresgid"
    SETFSUID = "setfsuid"
    SETFSGID = "setfsgid"
    # files
    OPEN = "open"
    OPENAT = "openat"
    OPENAT2 = "openat2"
    CREAT = "creat"
    CHMOD = "chmod"
    FCHMOD = "fchmod"
    FCHMODAT = "fchmodat"
    FCHMODAT2 = "fchmodat2"
    CHOWN = "chown"
    LCHOWN = "lchown"
    FCHOWN = "fchown"
    FCHOWNAT = "fchownat"
    UNLINK = "unlink"
    UNLINKAT = "unlinkat"
    RMDIR = "rmdir"
    RENAME = "rename"
    RENAMEAT = "renameat"
    RENAMEAT2 = "renameat2"
    MKDIR = "mkdir"
    MKDIRAT = "mkdirat"
    SYMLINK = "symlink"
    SYMLINKAT = "symlinkat"
    LINK = "link"
    LINKAT = "linkat"
    DUP = "dup"
    DUP2 = "dup2"
    DUP3 = "dup3"
    MOUNT = "mount"
    # network
    SOCKET = "socket"
    CONNECT = "connect"
    BIND = "bind"
    LISTEN = "listen"
    SEND = "send"
    SENDTO = "sendto"
    RECV = "recv"
    RECVFROM = "recvfrom"
    SHUTDOWN = "shutdown"
    GETSOCKNAME = "getsockname"
    GETPEERNAME = "getpeername"
    SOCKETPAIR = "socketpair"
    SETSOCKOPT = "setsockopt"
    GETSOCKOPT = "getsockopt"
    SENDMSG = "sendmsg"
    SENDMMSG = "sendmmsg"
    RECVMSG = "recvmsg"
    RECVMMSG = "recvmmsg"
    ACCEPT = "accept"
    ACCEPT4 = "accept4"
    # descriptors, memory, signals, limits, modules, io_uring and the rest that have arguments to tell
    ACCESS = "access"
    BPF = "bpf"
    BRK = "brk"
    CAPSET = "capset"
    CHROOT = "chroot"
    CLOSE = "close"
    CLOSE_RANGE = "close_range"
    COPY_FILE_RANGE = "copy_file_range"
    DELETE_MODULE = "delete_module"
    EPOLL_CREATE = "epoll_create"
    EPOLL_CREATE1 = "epoll_create1"
    EPOLL_WAIT = "epoll_wait"
    EVENTFD = "eventfd"
    EVENTFD2 = "eventfd2"
    FCNTL = "fcntl"
    FINIT_MODULE = "finit_module"
    FLOCK = "flock"
    FSCONFIG = "fsconfig"
    FSTAT = "fstat"
    FSTAT64 = "fstat64"
    FUTEX = "futex"
    GETCWD = "getcwd"
    GETDENTS = "getdents"
    GETDENTS64 = "getdents64"
    GETEGID = "getegid"
    GETEUID = "geteuid"
    GETGID = "getgid"
    GETRESGID = "getresgid"
    GETRESUID = "getresuid"
    GETRLIMIT = "getrlimit"
    GETUID = "getuid"
    INIT_MODULE = "init_module"
    INOTIFY_INIT = "inotify_init"
    INOTIFY_INIT1 = "inotify_init1"
    IO_URING_ENTER = "io_uring_enter"
    IO_URING_REGISTER = "io_uring_register"
    IO_URING_SETUP = "io_uring_setup"
    IOCTL = "ioctl"
    KEYCTL = "keyctl"
    KILL = "kill"
    LLSEEK = "llseek"
    LSEEK = "lseek"
    LSTAT = "lstat"
    LSTAT64 = "lstat64"
    MEMFD_CREATE = "memfd_create"
    MKNOD = "mknod"
    MKNODAT = "mknodat"
    MLOCK = "mlock"
    MLOCK2 = "mlock2"
    MLOCKALL = "mlockall"
    MMAP = "mmap"
    MMAP2 = "mmap2"
    MPROTECT = "mprotect"
    MUNLOCK = "munlock"
    MUNLOCKALL = "munlockall"
    MUNMAP = "munmap"
    NANOSLEEP = "nanosleep"
    NEWFSTATAT = "newfstatat"
    OPEN_BY_HANDLE_AT = "open_by_handle_at"
    PIDFD_GETFD = "pidfd_getfd"
    PIDFD_OPEN = "pidfd_open"
    PIPE = "pipe"
    PIPE2 = "pipe2"
    POLL = "poll"
    PPOLL = "ppoll"
    PRCTL = "prctl"
    PREAD = "pread"
    PREADV = "preadv"
    PRLIMIT = "prlimit"
    PROCESS_VM_READV = "process_vm_readv"
    PROCESS_VM_WRITEV = "process_vm_writev"
    PWRITE = "pwrite"
    PWRITEV = "pwritev"
    QUOTACTL = "quotactl"
    READ = "read"
    READV = "readv"
    SECCOMP = "seccomp"
    SELECT = "select"
    SEMCTL = "semctl"
    SEMGET = "semget"
    SEMOP = "semop"
    SENDFILE = "sendfile"
    SETNS = "setns"
    SETPGID = "setpgid"
    SETRLIMIT = "setrlimit"
    SETSID = "setsid"
    SIGNALFD = "signalfd"
    SIGNALFD4 = "signalfd4"
    SPLICE = "splice"
    STAT = "stat"
    STAT64 = "stat64"
    TGKILL = "tgkill"
    TIMERFD_CREATE = "timerfd_create"
    TKILL = "tkill"
    UMOUNT = "umount"
    UMOUNT2 = "umount2"
    UNSHARE = "unshare"
    USERFAULTFD = "userfaultfd"
    WRITE = "write"
    WRITEV = "writev"
    # told by name and result
    NEWSELECT_ = "_newselect"
    SYSCTL_ = "_sysctl"
    ACCT = "acct"
    ADD_KEY = "add_key"
    ADJTIMEX = "adjtimex"
    ALARM = "alarm"
    ARCH_PRCTL = "arch_prctl"
    BDFLUSH = "bdflush"
    CACHESTAT = "cachestat"
    CAPGET = "capget"
    CLOCK_ADJTIME = "clock_adjtime"
    CLOCK_GETRES = "clock_getres"
    CLOCK_GETTIME = "clock_gettime"
    CLOCK_NANOSLEEP = "clock_nanosleep"
    CLOCK_SETTIME = "clock_settime"
    CREATE_MODULE = "create_module"
    EPOLL_CTL = "epoll_ctl"
    EPOLL_CTL_OLD = "epoll_ctl_old"
    EPOLL_PWAIT = "epoll_pwait"
    EPOLL_PWAIT2 = "epoll_pwait2"
    EPOLL_WAIT_OLD = "epoll_wait_old"
    EXIT = "exit"
    EXIT_GROUP = "exit_group"
    FACCESSAT = "faccessat"
    FACCESSAT2 = "faccessat2"
    FADVISE64 = "fadvise64"
    FALLOCATE = "fallocate"
    FANOTIFY_INIT = "fanotify_init"
    FANOTIFY_MARK = "fanotify_mark"
    FDATASYNC = "fdatasync"
    FGETXATTR = "fgetxattr"
    FILE_GETATTR = "file_getattr"
    FILE_SETATTR = "file_setattr"
    FLISTXATTR = "flistxattr"
    FREMOVEXATTR = "fremovexattr"
    FSETXATTR = "fsetxattr"
    FSMOUNT = "fsmount"
    FSOPEN = "fsopen"
    FSPICK = "fspick"
    FSTATAT64 = "fstatat64"
    FSTATFS = "fstatfs"
    FSTATFS64 = "fstatfs64"
    FSYNC = "fsync"
    FTRUNCATE = "ftruncate"
    FUTEX_REQUEUE = "futex_requeue"
    FUTEX_WAIT = "futex_wait"
    FUTEX_WAITV = "futex_waitv"
    FUTEX_WAKE = "futex_wake"
    FUTIMESAT = "futimesat"
    GET_KERNEL_SYMS = "get_kernel_syms"
    GET_MEMPOLICY = "get_mempolicy"
    GET_ROBUST_LIST = "get_robust_list"
    GET_THREAD_AREA = "get_thread_area"
    GETCPU = "getcpu"
    GETGROUPS = "getgroups"
    GETITIMER = "getitimer"
    GETPGID = "getpgid"
    GETPGRP = "getpgrp"
    GETPID = "getpid"
    GETPMSG = "getpmsg"
    GETPPID = "getppid"
    GETPRIORITY = "getpriority"
    GETRANDOM = "getrandom"
    GETRUSAGE = "getrusage"
    GETSID = "getsid"
    GETTID = "gettid"
    GETTIMEOFDAY = "gettimeofday"
    GETXATTR = "getxattr"
    GETXATTRAT = "getxattrat"
    IDLE = "idle"
    INOTIFY_ADD_WATCH = "inotify_add_watch"
    INOTIFY_RM_WATCH = "inotify_rm_watch"
    IO_CANCEL = "io_cancel"
    IO_DESTROY = "io_destroy"
    IO_GETEVENTS = "io_getevents"
    IO_PGETEVENTS = "io_pgetevents"
    IO_SETUP = "io_setup"
    IO_SUBMIT = "io_submit"
    IOPERM = "ioperm"
    IOPL = "iopl"
    IOPRIO_GET = "ioprio_get"
    IOPRIO_SET = "ioprio_set"
    IPC = "ipc"
    KCMP = "kcmp"
    KEXEC_FILE_LOAD = "kexec_file_load"
    KEXEC_LOAD = "kexec_load"
    LANDLOCK_ADD_RULE = "landlock_add_rule"
    LANDLOCK_CREATE_RULESET = "landlock_create_ruleset"
    LANDLOCK_RESTRICT_SELF = "landlock_restrict_self"
    LGETXATTR = "lgetxattr"
    LISTMOUNT = "listmount"
    LISTNS = "listns"
    LISTXATTR = "listxattr"
    LISTXATTRAT = "listxattrat"
    LLISTXATTR = "llistxattr"
    LOOKUP_DCOOKIE = "lookup_dcookie"
    LREMOVEXATTR = "lremovexattr"
    LSETXATTR = "lsetxattr"
    LSM_GET_SELF_ATTR = "lsm_get_self_attr"
    LSM_LIST_MODULES = "lsm_list_modules"
    LSM_SET_SELF_ATTR = "lsm_set_self_attr"
    MADVISE = "madvise"
    MAP_SHADOW_STACK = "map_shadow_stack"
    MBIND = "mbind"
    MEMBARRIER = "membarrier"
    MEMFD_SECRET = "memfd_secret"  # noqa: S105
    MIGRATE_PAGES = "migrate_pages"
    MINCORE = "mincore"
    MODIFY_LDT = "modify_ldt"
    MOUNT_SETATTR = "mount_setattr"
    MOVE_MOUNT = "move_mount"
    MOVE_PAGES = "move_pages"
    MQ_GETSETATTR = "mq_getsetattr"
    MQ_NOTIFY = "mq_notify"
    MQ_OPEN = "mq_open"
    MQ_TIMEDRECEIVE = "mq_timedreceive"
    MQ_TIMEDSEND = "mq_timedsend"
    MQ_UNLINK = "mq_unlink"
    MREMAP = "mremap"
    MSEAL = "mseal"
    MSGCTL = "msgctl"
    MSGGET = "msgget"
    MSGRCV = "msgrcv"
    MSGSND = "msgsnd"
    MSYNC = "msync"
    MULTIPLEXER = "multiplexer"
    NAME_TO_HANDLE_AT = "name_to_handle_at"
    NFSSERVCTL = "nfsservctl"
    NICE = "nice"
    OLDFSTAT = "oldfstat"
    OLDLSTAT = "oldlstat"
    OLDOLDUNAME = "oldolduname"
    OLDSTAT = "oldstat"
    OLDUNAME = "olduname"
    OPEN_TREE = "open_tree"
    OPEN_TREE_ATTR = "open_tree_attr"
    PAUSE = "pause"
    PCICONFIG_IOBASE = "pciconfig_iobase"
    PCICONFIG_READ = "pciconfig_read"
    PCICONFIG_WRITE = "pciconfig_write"
    PERF_EVENT_OPEN = "perf_event_open"
    PERSONALITY = "personality"
    PIDFD_SEND_SIGNAL = "pidfd_send_signal"
    PIVOT_ROOT = "pivot_root"
    PKEY_ALLOC = "pkey_alloc"
    PKEY_FREE = "pkey_free"
    PKEY_MPROTECT = "pkey_mprotect"
    PREADV2 = "preadv2"
    PROCESS_MADVISE = "process_madvise"
    PROCESS_MRELEASE = "process_mrelease"
    PSELECT6 = "pselect6"
    PWRITEV2 = "pwritev2"
    QUERY_MODULE = "query_module"
    QUOTACTL_FD = "quotactl_fd"
    READAHEAD = "readahead"
    READDIR = "readdir"
    READLINK = "readlink"
    READLINKAT = "readlinkat"
    REBOOT = "reboot"
    REMAP_FILE_PAGES = "remap_file_pages"
    REMOVEXATTR = "removexattr"
    REMOVEXATTRAT = "removexattrat"
    REQUEST_KEY = "request_key"
    RESTART_SYSCALL = "restart_syscall"
    RISCV_FLUSH_ICACHE = "riscv_flush_icache"
    RISCV_HWPROBE = "riscv_hwprobe"
    RSEQ = "rseq"
    RSEQ_SLICE_YIELD = "rseq_slice_yield"
    RT_SIGACTION = "rt_sigaction"
    RT_SIGPENDING = "rt_sigpending"
    RT_SIGPROCMASK = "rt_sigprocmask"
    RT_SIGQUEUEINFO = "rt_sigqueueinfo"
    RT_SIGRETURN = "rt_sigreturn"
    RT_SIGSUSPEND = "rt_sigsuspend"
    RT_SIGTIMEDWAIT = "rt_sigtimedwait"
    RT_TGSIGQUEUEINFO = "rt_tgsigqueueinfo"
    RTAS = "rtas"
    S390_GUARDED_STORAGE = "s390_guarded_storage"
    S390_PCI_MMIO_READ = "s390_pci_mmio_read"
    S390_PCI_MMIO_WRITE = "s390_pci_mmio_write"
    S390_RUNTIME_INSTR = "s390_runtime_instr"
    S390_STHYI = "s390_sthyi"
    SCHED_GET_PRIORITY_MAX = "sched_get_priority_max"
    SCHED_GET_PRIORITY_MIN = "sched_get_priority_min"
    SCHED_GETAFFINITY = "sched_getaffinity"
    SCHED_GETATTR = "sched_getattr"
    SCHED_GETPARAM = "sched_getparam"
    SCHED_GETSCHEDULER = "sched_getscheduler"
    SCHED_RR_GET_INTERVAL = "sched_rr_get_interval"
    SCHED_SETAFFINITY = "sched_setaffinity"
    SCHED_SETATTR = "sched_setattr"
    SCHED_SETPARAM = "sched_setparam"
    SCHED_SETSCHEDULER = "sched_setscheduler"
    SCHED_YIELD = "sched_yield"
    SEMTIMEDOP = "semtimedop"
    SET_MEMPOLICY = "set_mempolicy"
    SET_MEMPOLICY_HOME_NODE = "set_mempolicy_home_node"
    SET_ROBUST_LIST = "set_robust_list"
    SET_THREAD_AREA = "set_thread_area"
    SET_TID_ADDRESS = "set_tid_address"
    SETDOMAINNAME = "setdomainname"
    SETGROUPS = "setgroups"
    SETHOSTNAME = "sethostname"
    SETITIMER = "setitimer"
    SETPRIORITY = "setpriority"
    SETTIMEOFDAY = "settimeofday"
    SETXATTR = "setxattr"
    SETXATTRAT = "setxattrat"
    SGETMASK = "sgetmask"
    SHMAT = "shmat"
    SHMCTL = "shmctl"
    SHMDT = "shmdt"
    SHMGET = "shmget"
    SIGACTION = "sigaction"
    SIGALTSTACK = "sigaltstack"
    SIGNAL = "signal"
    SIGPENDING = "sigpending"
    SIGPROCMASK = "sigprocmask"
    SIGRETURN = "sigreturn"
    SIGSUSPEND = "sigsuspend"
    SOCKETCALL = "socketcall"
    SPU_CREATE = "spu_create"
    SPU_RUN = "spu_run"
    SSETMASK = "ssetmask"
    STATFS = "statfs"
    STATFS64 = "statfs64"
    STATMOUNT = "statmount"
    STATX = "statx"
    STIME = "stime"
    SUBPAGE_PROT = "subpage_prot"
    SWAPCONTEXT = "swapcontext"
    SWAPOFF = "swapoff"
    SWAPON = "swapon"
    SWITCH_ENDIAN = "switch_endian"
    SYNC = "sync"
    SYNC_FILE_RANGE = "sync_file_range"
    SYNC_FILE_RANGE2 = "sync_file_range2"
    SYNCFS = "syncfs"
    SYS_DEBUG_SETCONTEXT = "sys_debug_setcontext"
    SYSFS = "sysfs"
    SYSINFO = "sysinfo"
    SYSLOG = "syslog"
    TEE = "tee"
    TIME = "time"
    TIMER_CREATE = "timer_create"
    TIMER_DELETE = "timer_delete"
    TIMER_GETOVERRUN = "timer_getoverrun"
    TIMER_GETTIME = "timer_gettime"
    TIMER_SETTIME = "timer_settime"
    TIMERFD = "timerfd"
    TIMERFD_GETTIME = "timerfd_gettime"
    TIMERFD_SETTIME = "timerfd_settime"
    TIMES = "times"
    TRUNCATE = "truncate"
    UMASK = "umask"
    UNAME = "uname"
    UPROBE = "uprobe"
    URETPROBE = "uretprobe"
    USELIB = "uselib"
    USTAT = "ustat"
    UTIME = "utime"
    UTIMENSAT = "utimensat"
    UTIMES = "utimes"
    VHANGUP = "vhangup"
    VM86 = "vm86"
    VMSPLICE = "vmsplice"
    WAIT4 = "wait4"
    WAITID = "waitid"
    WAITPID = "waitpid"
    # told by our own sources, not by the kernel
    PROCINFO = "procinfo"  # a process that ran before us, or that we had missed
    TASKNAME = "taskname"  # a process was given another name, by any of its threads
    IORING = "ioring"  # the end of what a process asked of an io_uring
    CONTAINER = "container"  # what a container engine says of a container
    # of other sources, under Falco's name for all of them
    PLUGINEVENT = "pluginevent"


VIA = ("syscall", "ia32", "x32", "io_uring")
SAMPLED = len(VIA)
"""In `RawEvent.via`: an ordinary call that the kernel's filter would drop, handed over to be judged all the same."""
VIA_OF = (*VIA, VIA[0])
"""By `RawEvent.via`: how the process asked."""
"""How a process asks the kernel for something: a system call, one of a 32-bit program (or `int 0x80`), one of the x32
ABI, an entry of an io_uring."""

ParamValue = int | str | bytes | tuple[str, ...] | None


class RawEvent(NamedTuple):
    """One record, decoded and nothing else.

    `ts_ns`: CLOCK_MONOTONIC of the hook, nanoseconds (`bpf_ktime_get_ns`). `start_ns`: start of the process (the
    thread group's leader), nanoseconds since boot (`task_struct.start_boottime`); with `pid` it names a process for
    good, pid reuse or not. `pid` is the thread group, `tid` the thread, both in the host's pid namespace. `uid`, `gid`
    are the real ids in the host's user namespace. `res` is the system call's result: negative errno, descriptor, pid.
    `params` are the stored parameters of the type's row in `catalog.events`, in table order, without the first (the
    result). `via` is the place in `VIA` of how the process asked for it, or `SAMPLED`.
    """

    type: EventType
    ts_ns: int
    cpu: int
    pid: int
    tid: int
    start_ns: int
    uid: int
    gid: int
    res: int
    params: tuple[ParamValue, ...]
    via: int = 0


class Fd(NamedTuple):
    """The descriptor an event is about. `NO_FD` stands where there is none.

    `type` is Falco's word (`file`, `directory`, `ipv4`, `ipv6`, `unix`, `pipe`, `event`, ...), `typechar` its letter.
    `name` is the absolute path, or the tuple `1.2.3.4:5->6.7.8.9:80` of a socket; `nameraw` the path as the caller
    gave it. Addresses are canonical text; `cip`/`cport` the client's side, `sip`/`sport` the server's, `lip`/`rip`
    local and remote. `is_server` is true where the server's address is one of this machine's own. `ino` and `dev` are
    the inode's number and its device as stat(2) tells it, `flags` those of `catalog.params.FD_FLAGS`. `name_changed`:
    this event gave the descriptor another name. `domains` are pairs of an address of either side and a domain name that
    rules ask for and that has this address. `realpath` is where a file that was opened lies, links followed; None where
    no rule asks for it.
    """

    num: int | None = None
    type: str | None = None
    typechar: str | None = None
    name: str | None = None
    nameraw: str | None = None
    l4proto: str | None = None
    cip: str | None = None
    cport: int | None = None
    sip: str | None = None
    sport: int | None = None
    lip: str | None = None
    lport: int | None = None
    rip: str | None = None
    rport: int | None = None
    is_server: bool | None = None
    ino: int | None = None
    dev: int | None = None
    flags: int = 0
    connected: bool = False
    name_changed: bool = False
    domains: tuple[tuple[str, str], ...] = ()
    realpath: str | None = None

    @property
    def directory(self) -> str | None:
        """The folder of a file's name, without a slash at its end (`/` for the root's entries); a folder itself."""
        if self.name is None or self.typechar not in ("f", "d"):
            return None
        return self.name if self.typechar == "d" else self.name.rpartition("/")[0] or "/"

    @property
    def filename(self) -> str | None:
        """The last component of a file's name; a folder has none (Falco)."""
        if self.name is None or self.typechar != "f":
            return None
        return self.name.rpartition("/")[2]


NO_FD = Fd()


UNRESOLVED = "<NA>"
"""The name of what is known by its number alone: a text that compares equal, as in Falco, and not an absent value."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user or a group by number, with what a passwd or group file says of it. None: the file has no such entry."""

    id: int
    name: str | None = None
    homedir: str | None = None
    shell: str | None = None


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount of a container, as its engine tells it."""

    source: str
    dest: str
    mode: str
    rdwr: bool
    propagation: str


Labels = tuple[tuple[str, str], ...]
"""Labels in the order in which they were told: name and value."""


@dataclass(frozen=True, slots=True)
class Pod:
    """The Kubernetes pod of a container. `uid` and `qos` stand in its cgroup, the others come from the engine.

    `qos` is `guaranteed`, `burstable` or `besteffort`. `sandbox_id` is the whole id of the pod's sandbox. `cni` is what
    the network plugin said, as JSON.
    """

    uid: str | None = None
    qos: str | None = None
    name: str | None = None
    namespace: str | None = None
    sandbox_id: str | None = None
    labels: Labels = ()
    ip: str | None = None
    cni: str | None = None


@dataclass(frozen=True, slots=True)
class Container:
    """A container, or the host (`HOST`).

    `id` is the first 12 characters of the engine's id (`host` on the host), `full_id` all of them. `owner` is the user
    in whose session it runs (rootless engines), None for root's. What only the engine can tell is None until it has
    told it; `missing` then says why (`waiting for docker`, `no such container`). `started_ns` is wall clock. The probes
    are argument vectors, empty where the container has none.
    """

    id: str
    full_id: str
    runtime: str | None = None
    name: str | None = None
    image: str | None = None
    image_id: str | None = None
    image_repository: str | None = None
    image_tag: str | None = None
    image_digest: str | None = None
    privileged: bool | None = None
    mounts: tuple[Mount, ...] = ()
    owner: int | None = None
    labels: Labels = ()
    ip: str | None = None
    started_ns: int | None = None
    host_pid: bool | None = None
    host_network: bool | None = None
    host_ipc: bool | None = None
    healthcheck: tuple[str, ...] = ()
    liveness_probe: tuple[str, ...] = ()
    readiness_probe: tuple[str, ...] = ()
    pod: Pod | None = None
    missing: str | None = None

    @property
    def key(self) -> str:
        """What names it among all that run here: an id may be claimed by another user's engine."""
        return self.full_id if self.owner is None else f"{self.full_id}@{self.owner}"

    @property
    def is_host(self) -> bool:
        """True for the host itself."""
        return self.id == "host"


WAITING = "waiting for "
"""How `Container.missing` begins while an engine may still tell the facts; its word stands behind."""

# Falco gives the host a name and empty, not absent, image facts (recorded from the real engine).
HOST = Container(
    id="host", full_id="host", runtime="host", name="host", image="", image_id="", image_repository="", image_tag="",
    image_digest="", privileged=False, ip="", host_pid=True, host_network=True, host_ipc=True,
)  # fmt: skip


_FEW = 16  # words that are joined anew each time
_LINES = 512  # joined ones that are kept: more than a line of descent has
_joined: dict[int, tuple[tuple[str, ...], str]] = {}


def joined(words: tuple[str, ...]) -> str:
    """Words with blanks between them. Of many words the text is kept for a while: rules may look at those of all
    ancestors for each event, and whoever starts them can give each some thousands."""
    if len(words) < _FEW:
        return " ".join(words)
    kept = _joined.get(id(words))
    if kept is not None and kept[0] is words:
        return kept[1]
    text = " ".join(words)
    if len(_joined) >= _LINES:
        _joined.clear()
    _joined[id(words)] = words, text
    return text


@dataclass(frozen=True, slots=True)
class Process:
    """A process as it was when an event happened. `NO_PROCESS` stands where we know nothing.

    `name` is the kernel's comm (15 bytes at most). `exe` is the first argument, `args` the others. `exepath` is the
    file that the kernel runs, `cwd` ends in `/`. `tty` is the device number of the controlling terminal, 0 for none.
    `start_ns` is since boot, as in `RawEvent`; `loginuid` is -1 when nobody logged in. Capabilities are bit sets.
    `stdio` are type and name of descriptor 0, then of 1 and of 2, in the words of `Fd`; empty where they are not known.

    `env` are `NAME=value` as the program was given them, 4,096 bytes at most; None where no rule asks for them, or they
    could not be read. `started_ns` and `pidns_started_ns`, the starts of the process and of the first one in its pid
    namespace, are nanoseconds since the epoch, like the times of the running file (`exe_ctime_ns`, `exe_mtime_ns`);
    `exe_flags` are the bits of `catalog.params.EXE_FLAGS`; `exe_dev` is its device as stat(2) tells it, `exe_magic`
    what kind of file system it lies on (statfs(2); 0 where that is not known), `exe_sha256` is there where a rule asks.
    `single`: we saw it being born, and no thread of it since.

    `vmsize`, `vmrss` and `vmswap` (KiB), page faults and `fdlimit` are as they were last told: when it was born, when
    it started its program, when we were started, at calls about memory that are heard. `cgroup` is the path below its
    hierarchy; `unit`, `user_unit` and `slice` are what systemd calls it.
    """

    pid: int = -1
    ppid: int | None = None
    vpid: int | None = None
    start_ns: int = 0
    name: str | None = None
    exe: str | None = None
    exepath: str | None = None
    args: tuple[str, ...] = ()
    args_truncated: bool = False
    cwd: str | None = None
    tty: int | None = None
    sid: int | None = None
    pgid: int | None = None
    loginuid: int | None = None
    uid: int | None = None
    gid: int | None = None
    euid: int | None = None
    egid: int | None = None
    suid: int | None = None
    sgid: int | None = None
    cap_effective: int | None = None
    cap_permitted: int | None = None
    cap_inheritable: int | None = None
    container_id: str = "host"
    stdio: tuple[str | None, ...] = ()
    env: tuple[str, ...] | None = None
    cgroup: str | None = None
    unit: str | None = None
    user_unit: str | None = None
    slice: str | None = None
    vpgid: int | None = None
    started_ns: int | None = None
    pidns_started_ns: int | None = None
    exe_flags: int | None = None
    exe_ino: int | None = None
    exe_ctime_ns: int | None = None
    exe_mtime_ns: int | None = None
    exe_dev: int | None = None
    exe_size: int | None = None
    exe_magic: int | None = None
    exe_sha256: str | None = None
    fdlimit: int | None = None
    pfmajor: int | None = None
    pfminor: int | None = None
    vmsize: int | None = None
    vmrss: int | None = None
    vmswap: int | None = None
    single: bool = False
    user: Account | None = None
    login: Account | None = None
    group: Account | None = None

    @property
    def cmdline(self) -> str | None:
        """Name and arguments, as Falco writes a command line: the name, not the first argument, stands first."""
        if self.name is None:
            return None
        return f"{self.name} {joined(self.args)}" if self.args else self.name

    @property
    def exeline(self) -> str | None:
        """The first argument as it was given, and the others."""
        if self.exe is None:
            return None
        return f"{self.exe} {joined(self.args)}" if self.args else self.exe


NO_PROCESS = Process()


class Usage(NamedTuple):
    """What a process has at the moment when it is asked: its living threads, those of them that are not the first, its
    open descriptors. None: it has ended."""

    threads: int | None = None
    others: int | None = None
    fds: int | None = None


NO_USAGE = Usage()


def _changer() -> Callable[..., Process]:
    # attribute by attribute, for a process has many: dataclasses.replace, which asks each for its nature and runs the
    # constructor, takes four times as long
    setters = {field.name: getattr(Process, field.name).__set__ for field in fields(Process)}
    lines = [f"    set_{name}(new, process.{name})" for name in setters]
    names = {f"set_{name}": setter for name, setter in setters.items()}
    names |= {"make": object.__new__, "Process": Process, "setters": setters}
    source = ["def changed(process, facts):", "    new = make(Process)", *lines]
    source += ["    for name in facts:", "        setters[name](new, facts[name])", "    return new"]
    exec("\n".join(source), names)  # noqa: S102  (made of the names above)
    made: Callable[..., Process] = names["changed"]
    return made


_changed = _changer()


def changed(process: Process, **facts: object) -> Process:
    """The process with other facts, as `dataclasses.replace` gives it, at a quarter of the time. Raises `KeyError` for
    a fact that a process does not have."""
    return _changed(process, facts)


_STEP = 4
MAX_LINE = 256
"""Processes of one line of descent at most: what is longer is cut off at its eldest end."""


class Line:
    """A process and its ancestors, nearest first. `walk` gives the ancestors; it is followed once, and hardly further
    than a caller has asked: in steps that double, as a long line is cheaper in long steps."""

    __slots__ = ("_known", "_walk")

    def __init__(self, process: Process, walk: Iterable[Process] = ()) -> None:
        self._known = [process]
        self._walk = islice(walk, MAX_LINE - 1)

    def _more(self) -> bool:
        """One step further; False at the end."""
        known = self._known
        before = len(known)
        known += islice(self._walk, max(before, _STEP))
        return len(known) > before

    def __getitem__(self, n: int) -> Process:
        """The n-th ancestor: 0 is the process itself, 1 its parent; `NO_PROCESS` where there is none."""
        known = self._known
        while len(known) <= n:
            if not self._more():
                return NO_PROCESS
        return known[n] if n >= 0 else NO_PROCESS

    def __iter__(self) -> Iterator[Process]:
        """The process, then its ancestors."""
        yield self._known[0]
        yield from self.above()

    def above(self) -> Iterator[Process]:
        """The ancestors alone."""
        return chain.from_iterable(self.steps())

    def steps(self) -> Iterator[list[Process]]:
        """The ancestors alone, some at a time."""
        known, at = self._known, 1
        while at < len(known) or self._more():
            step = known[at:]
            at = len(known)
            yield step


Lineage = Callable[["Event"], Line]
"""Gives the line of an event's process, the same one as often as the event is asked about."""


def alone(event: Event) -> Line:
    """The `Lineage` of an event that stands alone."""
    return Line(event.process)


class Event(NamedTuple):
    """One event with all that we know about it: what predicates judge and messages print.

    `num` counts events since start, from 1. `ts_ns` is the wall clock, nanoseconds since the epoch. `params` are as in
    `RawEvent`. `path` is the absolute path of the file the event is about, `source_path` and `target_path` those of a
    call with two, each lexically normalised, None where there is none; the `raw` twins are as the caller gave them.
    `lineage` finds ancestors as they were at this event, see `line`. `via` is one of `VIA`. `document` is the JSON
    value of an event that came as one (a Kubernetes audit event). `elapsed_ns` and `delta_ns` are nanoseconds since the
    first event that was heard and since the one before; None where no rule asks.
    """

    type: EventType
    num: int
    ts_ns: int
    cpu: int
    tid: int
    res: int
    params: tuple[ParamValue, ...]
    process: Process = NO_PROCESS
    container: Container = HOST
    fd: Fd = NO_FD
    path: str | None = None
    path_raw: str | None = None
    source_path: str | None = None
    source_path_raw: str | None = None
    target_path: str | None = None
    target_path_raw: str | None = None
    lineage: Lineage = alone
    via: str = "syscall"
    document: object = None
    elapsed_ns: int | None = None
    delta_ns: int | None = None

    @property
    def line(self) -> Line:
        """The process and its ancestors."""
        return self.lineage(self)

    def ancestor(self, n: int) -> Process:
        """The n-th ancestor: 0 is the process itself, 1 its parent; `NO_PROCESS` where there is none."""
        return self.lineage(self)[n]
