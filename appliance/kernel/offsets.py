"""Where things lie in this kernel: the macros that the C reads, made from BTF.

Comes in: the kernel's types. Goes out: C macro definitions. Never: an offset that was not asked of the running kernel.
"""

from __future__ import annotations

import mmap

from appliance.kernel.arch import Arch
from appliance.kernel.btf import Btf
from appliance.model.diagnostic import NotSupportedError

# Macro OFF_<name>: the BTF paths that may hold it, newest first. `kernfs_node.parent` became `__parent` in 6.15.
_MEMBERS: dict[str, tuple[str, ...]] = {
    f"{path.replace('.', '_')}": (path,)
    for path in (
        "task_struct.pid", "task_struct.tgid", "task_struct.real_parent", "task_struct.group_leader",
        "task_struct.start_boottime", "task_struct.mm", "task_struct.fs", "task_struct.files", "task_struct.cred",
        "task_struct.comm", "task_struct.signal", "task_struct.thread_pid", "task_struct.cgroups",
        "task_struct.stack", "task_struct.flags", "task_struct.exit_code", "task_struct.children",
        "signal_struct.tty", "signal_struct.live", "signal_struct.pids", "tty_struct.driver", "tty_struct.index",
        "tty_driver.major", "tty_driver.minor_start", "pid.numbers", "pid.level",
        "cred.uid", "cred.gid", "cred.suid", "cred.sgid", "cred.euid", "cred.egid",
        "cred.cap_inheritable", "cred.cap_permitted", "cred.cap_effective",
        "mm_struct.arg_start", "mm_struct.arg_end", "mm_struct.exe_file", "fs_struct.pwd", "fs_struct.root",
        "path.mnt", "path.dentry", "dentry.d_parent", "dentry.d_name.name", "mount.mnt", "mount.mnt_parent",
        "mount.mnt_mountpoint", "vfsmount.mnt_root", "file.f_path", "file.f_inode", "file.private_data",
        "file.f_mode", "inode.i_mode", "inode.i_ino", "inode.i_sb", "super_block.s_dev", "super_block.s_magic",
        "inode.i_uid", "inode.i_gid", "inode.i_flags", "super_block.s_flags", "vfsmount.mnt_flags", "upid.ns",
        "pid_namespace.child_reaper", "signal_struct.rlim", "task_struct.maj_flt", "task_struct.min_flt",
        "inode.i_size", "mm_struct.total_vm", "mm_struct.env_start", "mm_struct.env_end",
        "dentry.d_inode", "files_struct.fdt", "fdtable.fd", "fdtable.max_fds", "socket.sk",
        "css_set.dfl_cgrp", "css_set.subsys", "cgroup_subsys_state.cgroup", "cgroup.kn", "kernfs_node.name",
        "linux_binprm.filename",
    )
} | {
    # two numbers since 6.11, a timespec64 before; its nanoseconds are a `long` whose lower half comes first
    "inode_i_ctime_sec": ("inode.i_ctime_sec", "inode.__i_ctime.tv_sec", "inode.i_ctime.tv_sec"),
    "inode_i_ctime_nsec": ("inode.i_ctime_nsec", "inode.__i_ctime.tv_nsec", "inode.i_ctime.tv_nsec"),
    "inode_i_mtime_sec": ("inode.i_mtime_sec", "inode.__i_mtime.tv_sec", "inode.i_mtime.tv_sec"),
    "inode_i_mtime_nsec": ("inode.i_mtime_nsec", "inode.__i_mtime.tv_nsec", "inode.i_mtime.tv_nsec"),
    # counters of each kind of page: `percpu_counter`s since 6.2
    "rss_stat": ("mm_struct.rss_stat.count", "mm_struct.rss_stat"),
    "kernfs_node_parent": ("kernfs_node.__parent", "kernfs_node.parent"),
    "sock_family": ("sock.__sk_common.skc_family",),
    "sock_num": ("sock.__sk_common.skc_num",),
    "sock_dport": ("sock.__sk_common.skc_dport",),
    "sock_daddr": ("sock.__sk_common.skc_daddr",),
    "sock_rcv_saddr": ("sock.__sk_common.skc_rcv_saddr",),
    "sock_state": ("sock.__sk_common.skc_state",),
    "sock_type": ("sock.sk_type",),
    "sock_protocol": ("sock.sk_protocol",),
}  # fmt: skip

# What a kernel may be built without, and the macro is then not defined.
_OPTIONAL: dict[str, str] = {
    "task_struct_loginuid": "task_struct.loginuid",  # CONFIG_AUDIT
    "sock_v6_daddr": "sock.__sk_common.skc_v6_daddr",  # CONFIG_IPV6
    "sock_v6_rcv_saddr": "sock.__sk_common.skc_v6_rcv_saddr",
    "sock_bind_hash": "inet_connection_sock.icsk_bind_hash",
    "bind_bucket_fastreuse": "inet_bind_bucket.fastreuse",
    "unix_sock_addr": "unix_sock.addr",  # af_unix may be a module
    "unix_sock_path": "unix_sock.path",
    "unix_sock_peer": "unix_sock.peer",
    "unix_address_len": "unix_address.len",
    "unix_address_name": "unix_address.name",
}

# Bit fields: where the byte is, and how far to shift it. A kernel may lack them, too.
_BITS: dict[str, str] = {
    "sock_userlocks": "sock.sk_userlocks",
    "is_child_subreaper": "signal_struct.is_child_subreaper",
    "has_child_subreaper": "signal_struct.has_child_subreaper",
}

# Controllers of cgroup v1 that container engines always use, best first.
_V1_CONTROLLERS = ("pids_cgrp_id", "memory_cgrp_id", "cpu_cgrp_id", "devices_cgrp_id")

STACK_SIZE = 16384  # THREAD_SIZE of x86_64 and arm64 with 4 KiB pages; where it differs, all creations are `clone`


def macros(btf: Btf, arch: Arch) -> dict[str, int]:
    """The macros and their values. Raises `NotSupportedError` naming every member that this kernel lacks."""
    found: dict[str, int] = {}
    missing = []
    for name, paths in _MEMBERS.items():
        offset = next((o for o in map(btf.offset, paths) if o is not None), None)
        if offset is None:
            missing.append(paths[0])
        else:
            found[f"OFF_{name}"] = offset
    if missing:
        raise NotSupportedError(
            f"this kernel has no {', '.join(f'`{m}`' for m in missing)}",
            "its structures differ from all kernels from 5.10 to 6.18; report it with the kernel's version",
        )
    for name, path in _OPTIONAL.items():
        offset = btf.offset(path)
        if offset is not None:
            found[f"OFF_{name}"] = offset
    for name, path in _BITS.items():
        bit = btf.bit(path)
        if bit is not None:
            found[f"OFF_{name}"], found[f"SHIFT_{name}"] = divmod(bit, 8)
    for name in ("upid", "pt_regs", "inode"):
        found[f"SIZE_{name}"] = btf.size(name) or 0
    for macro, enum_name in (("PIDTYPE_SID", "PIDTYPE_SID"), ("PIDTYPE_PGID", "PIDTYPE_PGID")):
        found[macro] = btf.enum("pid_type", enum_name) or 0
    controllers = (btf.enum("cgroup_subsys_id", name) for name in _V1_CONTROLLERS)
    found["CGROUP_V1_INDEX"] = next((i for i in controllers if i is not None), 0)
    found["SIZE_rss_stat"] = 8
    if btf.offset("mm_struct.rss_stat.count") is None:
        found["OFF_rss_stat"] += btf.offset("percpu_counter.count") or 0
        found["SIZE_rss_stat"] = btf.size("percpu_counter") or 0
    found["STACK_SIZE"] = STACK_SIZE
    found["PAGE_BYTES"] = mmap.PAGESIZE
    return found | _registers(btf, arch)


# What an entry of an io_uring holds once it is prepared: macro -> member. None of them is needed for the rest.
_IO_URING = (
    "io_kiocb.opcode", "io_kiocb.flags", "io_kiocb.async_data", "io_kiocb.cqe.fd", "io_uring_cqe.res",
    "io_uring_cqe.flags", "filename.name", "io_open.dfd", "io_open.filename", "io_open.how.flags", "io_open.how.mode",
    "io_open.how.resolve", "io_unlink.dfd", "io_unlink.flags", "io_unlink.filename", "io_rename.old_dfd",
    "io_rename.new_dfd", "io_rename.oldpath", "io_rename.newpath", "io_rename.flags", "io_mkdir.dfd", "io_mkdir.mode",
    "io_mkdir.filename", "io_link.old_dfd", "io_link.new_dfd", "io_link.oldpath", "io_link.newpath", "io_link.flags",
    "io_connect.addr", "io_connect.addr_len", "io_sr_msg.umsg", "io_sr_msg.buf", "io_sr_msg.len", "io_socket.domain",
    "io_socket.type", "io_socket.protocol", "io_accept.flags", "io_rw.addr", "io_rw.len", "io_shutdown.how",
)  # fmt: skip
_IO_URING_OPTIONAL = (
    "io_bind.addr_len", "io_listen.backlog", "io_close.fd", "io_async_msghdr.addr", "io_async_msghdr.msg.msg_name",
    "io_async_msghdr.msg.msg_namelen",
)  # fmt: skip


def io_uring_macros(btf: Btf) -> dict[str, int]:
    """The macros for io_uring; none where this kernel's tracepoints do not tell of requests (before Linux 5.19)."""
    submit = {name: btf.tracepoint(name) for name in ("io_uring_submit_req", "io_uring_submit_sqe")}
    complete = btf.tracepoint("io_uring_complete")
    offsets = {path: btf.offset(path) for path in (*_IO_URING, *_IO_URING_OPTIONAL)}
    known = submit["io_uring_submit_req"] == 1 or submit["io_uring_submit_sqe"] == 2
    if not known or complete not in (3, 7) or any(offsets[path] is None for path in _IO_URING):
        return {}
    found = {f"OFF_{path.replace('.', '_')}": o for path, o in offsets.items() if o is not None}
    name = "io_uring_submit_req" if submit["io_uring_submit_req"] == 1 else "io_uring_submit_sqe"
    return found | {f"HAVE_{name}": 1, "HAVE_io_uring_complete": complete}


def _registers(btf: Btf, arch: Arch) -> dict[str, int]:
    """Where arguments lie, in one block of words, and where the number does (in that block where the C wants it so)."""
    args = [_register(btf, path) for path in arch.args]
    compat = [_register(btf, path) for path in arch.compat_args]
    number = _register(btf, arch.number)
    block = [*args, *compat, *([number] if compat else [])]
    first, last = min(block), max(block)
    found = {"ARGS_FROM": first, "ARGS_WORDS": (last - first) // 8 + 1, "OFF_number": number}
    found |= {f"ARG_{i}": (place - first) // 8 for i, place in enumerate(args)}
    if compat:
        found |= {f"COMPAT_{i}": (place - first) // 8 for i, place in enumerate(compat)}
        found |= {"NUMBER_WORD": (number - first) // 8, "OFF_pt_regs_bx": compat[0]}
        status = btf.offset("task_struct.thread_info.status")
        if status is None:
            raise NotSupportedError("this kernel has no `thread_info.status`", "report it with the kernel's version")
        found["OFF_task_struct_thread_info_status"] = status
    pstate = btf.offset("pt_regs.pstate")
    return found | ({"OFF_pt_regs_pstate": pstate} if pstate is not None else {})


def _register(btf: Btf, path: str) -> int:
    member, _, extra = path.partition("+")
    offset = btf.offset(f"pt_regs.{member}")
    if offset is None:
        raise NotSupportedError(f"this kernel has no `pt_regs.{member}`", "report it with the kernel's version")
    return offset + int(extra or 0)
