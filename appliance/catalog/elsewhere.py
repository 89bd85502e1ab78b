"""What Falco has a name for and this version cannot tell yet: fields, events, arguments.

Comes in: nothing. Goes out: rows whose value is always absent, and names. A rule that asks for one of them is loaded
and warned of: the check is false, as on any absent value. Names and types are those of Falco 0.44.1 (`falco --list`,
`falco --list-events`) and of its plugin for Kubernetes audit events.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance.model.field import ArgKind, Field, FieldType

T, A = FieldType, ArgKind
_DOC = "known to Falco, never told by this version"

_NAMES: tuple[tuple[FieldType, ArgKind, bool, str], ...] = (
    (
        T.ABSTIME, A.NONE, False,
        """
        container.start_ts proc.exe_ino.ctime
        proc.exe_ino.ctime_duration_pidns_start proc.exe_ino.ctime_duration_proc_start proc.exe_ino.mtime
        """,
    ),
    (
        T.BOOL, A.NONE, False,
        """
        container.host_ipc container.host_network container.host_pid evt.is_io evt.is_io_read
        evt.is_io_write evt.is_syslog evt.is_wait
        proc.is_container_healthcheck proc.is_container_liveness_probe
        proc.is_container_readiness_probe proc.is_exe_from_memfd proc.is_exe_lower_layer proc.is_exe_upper_layer
        proc.is_exe_writable proc.is_vpgid_leader
        """,
    ),
    (
        T.BYTES, A.NONE, False,
        """
        evt.buffer
        """,
    ),
    (
        T.DOUBLE, A.NONE, False,
        """
        proc.fdusage thread.cpu thread.cpu.system thread.cpu.user
        """,
    ),
    (
        T.INT, A.NONE, False,
        """
        proc.exe_ino proc.fdlimit proc.loginshellid
        proc.vpgid thread.vtid
        """,
    ),
    (
        T.RELTIME, A.NONE, False,
        """
        container.duration evt.deltatime evt.deltatime.ns evt.deltatime.s evt.reltime evt.reltime.ns
        evt.reltime.s proc.duration proc.ppid.duration proc.ppid.ts thread.exectime thread.totexectime
        """,
    ),
    (
        T.TEXT, A.NONE, False,
        """
        container.cni.json container.healthcheck container.ip container.labels container.liveness_probe
        container.readiness_probe evt.asynctype evt.hostname evt.info evt.io_dir
        evt.plugininfo evt.pluginname fd.cip.name fd.lip.name fd.rip.name fd.sip.name
        fdlist.cips fdlist.cports fdlist.names fdlist.nums fdlist.sips fdlist.sports k8s.deployment.id
        k8s.deployment.labels k8s.deployment.name k8s.ns.id k8s.ns.labels k8s.ns.name k8s.pod.cni.json
        k8s.pod.full_sandbox_id k8s.pod.id k8s.pod.ip k8s.pod.labels k8s.pod.name k8s.pod.sandbox_id k8s.pod.uid
        k8s.rc.id k8s.rc.labels k8s.rc.name k8s.rs.id k8s.rs.labels k8s.rs.name k8s.svc.id k8s.svc.labels
        k8s.svc.name
        proc.vpgid.exe proc.vpgid.exepath proc.vpgid.name thread.cgroups
        """,
    ),
    (
        T.TEXT, A.INDEX_OR_KEY, False,
        """
        proc.aenv proc.env
        """,
    ),
    (
        T.TEXT, A.INDEX_OR_KEY, False,
        """
        fd.types
        """,
    ),
    (
        T.TEXT, A.INDEX_OR_KEY, True,
        """
        container.label k8s.deployment.label k8s.ns.label k8s.pod.label k8s.rc.label k8s.rs.label
        k8s.svc.label thread.cgroup
        """,
    ),
    (
        T.UINT, A.NONE, False,
        """
        evt.buflen evt.count.error evt.count.error.file evt.count.error.memory evt.count.error.net
        evt.count.error.other evt.count.exit proc.fdopencount proc.nchilds proc.nthreads
        proc.pidns_init_start_ts proc.vmrss proc.vmsize proc.vmswap thread.pfmajor thread.pfminor thread.vmrss
        thread.vmsize
        """,
    ),
    (
        T.UINT, A.INDEX_OR_KEY, True,
        """
        evt.around evt.type.is
        """,
    ),
    (
        T.TEXT, A.INDEX_OR_KEY, False,
        """
        jevt.value ka.req.pod.containers.add_capabilities ka.req.pod.containers.allow_privilege_escalation
        ka.req.pod.containers.args ka.req.pod.containers.command ka.req.pod.containers.eff_run_as_group
        ka.req.pod.containers.eff_run_as_user ka.req.pod.containers.host_port ka.req.pod.containers.image
        ka.req.pod.containers.image.repository ka.req.pod.containers.name ka.req.pod.containers.privileged
        ka.req.pod.containers.proc_mount ka.req.pod.containers.read_only_fs ka.req.pod.containers.run_as_group
        ka.req.pod.containers.run_as_user ka.req.pod.initContainers.allow_privilege_escalation
        ka.req.pod.initContainers.args ka.req.pod.initContainers.command ka.req.pod.initContainers.image
        ka.req.pod.initContainers.image.repository ka.req.pod.initContainers.name
        ka.req.pod.initContainers.privileged ka.req.pod.initContainers.read_only_fs
        ka.req.pod.initContainers.run_as_user ka.req.pod.volumes.flexvolume_driver ka.req.pod.volumes.hostpath
        ka.req.pod.volumes.volume_type ka.req.role.rules.apiGroups ka.req.role.rules.nonResourceURLs
        ka.req.role.rules.resources ka.req.role.rules.verbs ka.req.service.ports ka.sourceips
        """,
    ),
    (
        T.TEXT, A.INDEX_OR_KEY, True,
        """
        ka.req.binding.subject.has_name ka.req.volume.hostpath ka.uri.param
        """,
    ),
    (
        T.TEXT, A.NONE, False,
        """
        jevt.obj jevt.rawtime ka.auditid ka.auth.decision ka.auth.openshift.decision ka.auth.openshift.username
        ka.auth.reason ka.cluster.name ka.impuser.name ka.req.binding.role ka.req.binding.subjects
        ka.req.binding.subjects.group_names ka.req.binding.subjects.serviceaccount_names
        ka.req.binding.subjects.serviceaccount_ns_names ka.req.binding.subjects.user_names ka.req.configmap.name
        ka.req.configmap.obj ka.req.container.host_network ka.req.container.image
        ka.req.container.image.repository ka.req.container.privileged ka.req.pod.ephemeralContainers.privileged
        ka.req.pod.fs_group ka.req.pod.host_ipc
        ka.req.pod.host_network ka.req.pod.host_pid ka.req.pod.run_as_group ka.req.pod.run_as_user
        ka.req.pod.supplemental_groups ka.req.role.rules ka.req.service.type ka.resp.name ka.response.code
        ka.response.reason ka.security.pod.violations ka.stage ka.target.name ka.target.namespace
        ka.target.pod.name ka.target.resource ka.target.subresource ka.uri ka.user.groups ka.user.name
        ka.useragent ka.validations.admission.policy.failure ka.verb
        """,
    ),
)  # fmt: skip

FIELDS: Mapping[str, Field] = MappingProxyType(
    {
        name: Field(name, type_, _DOC, "None", arg, arg_required=required)
        for type_, arg, required, names in _NAMES
        for name in names.split()
    }
)


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


EVENT_NAMES = _set(
    """
    _newselect _sysctl accept accept4 access acct add_key adjtimex alarm arch_prctl asyncevent bdflush bind bpf
    brk cachestat capget capset chroot clock_adjtime clock_getres clock_gettime clock_nanosleep clock_settime
    close close_range copy_file_range cpu_hotplug create_module delete_module drop epoll_create epoll_create1
    epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 exit exit_group
    faccessat faccessat2 fadvise64 fallocate fanotify_init fanotify_mark fcntl fdatasync fgetxattr file_getattr
    file_setattr finit_module flistxattr flock fremovexattr fsconfig fsetxattr fsmount fsopen fspick fstat
    fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate futex futex_requeue futex_wait futex_waitv futex_wake
    futimesat get_kernel_syms get_mempolicy get_robust_list get_thread_area getcpu getcwd getdents getdents64
    getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid getpmsg getppid getpriority
    getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid
    getxattr getxattrat groupadded groupdeleted idle infra init_module inotify_add_watch inotify_init
    inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit
    io_uring_enter io_uring_register io_uring_setup ioctl ioperm iopl ioprio_get ioprio_set ipc kcmp
    kexec_file_load kexec_load keyctl kill landlock_add_rule landlock_create_ruleset landlock_restrict_self
    lgetxattr listen listmount listns listxattr listxattrat llistxattr llseek lookup_dcookie lremovexattr lseek
    lsetxattr lsm_get_self_attr lsm_list_modules lsm_set_self_attr lstat lstat64 madvise map_shadow_stack mbind
    membarrier memfd_create memfd_secret migrate_pages mincore mknod mknodat mlock mlock2 mlockall mmap mmap2
    modify_ldt mount_setattr move_mount move_pages mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
    mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync multiplexer munlock munlockall munmap
    name_to_handle_at nanosleep newfstatat nfsservctl nice notification oldfstat oldlstat oldolduname oldstat
    olduname open_by_handle_at open_tree open_tree_attr page_fault pause pciconfig_iobase pciconfig_read
    pciconfig_write perf_event_open personality pidfd_getfd pidfd_open pidfd_send_signal pipe pipe2 pivot_root
    pkey_alloc pkey_free pkey_mprotect pluginevent poll ppoll prctl pread preadv preadv2 prlimit process_madvise
    process_mrelease process_vm_readv process_vm_writev pselect6 pwrite pwritev pwritev2 query_module quotactl
    quotactl_fd read readahead readdir readlink readlinkat readv reboot recv recvfrom recvmmsg recvmsg
    remap_file_pages removexattr removexattrat request_key restart_syscall riscv_flush_icache riscv_hwprobe rseq
    rseq_slice_yield rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
    rt_sigtimedwait rt_tgsigqueueinfo rtas s390_guarded_storage s390_pci_mmio_read s390_pci_mmio_write
    s390_runtime_instr s390_sthyi scapevent sched_get_priority_max sched_get_priority_min sched_getaffinity
    sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr
    sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop send sendfile
    sendmmsg sendmsg sendto set_mempolicy set_mempolicy_home_node set_robust_list set_thread_area
    set_tid_address setdomainname setgroups sethostname setitimer setns setpgid setpriority setrlimit setsid
    setsockopt settimeofday setxattr setxattrat sgetmask shmat shmctl shmdt shmget shutdown sigaction
    sigaltstack signal signaldeliver signalfd signalfd4 sigpending sigprocmask sigreturn sigsuspend socketcall
    socketpair splice spu_create spu_run ssetmask stat stat64 statfs statfs64 statmount statx stime subpage_prot
    swapcontext swapoff swapon switch switch_endian sync sync_file_range sync_file_range2 syncfs
    sys_debug_setcontext sysfs sysinfo syslog tee tgkill time timer_create timer_delete timer_getoverrun
    timer_gettime timer_settime timerfd timerfd_create timerfd_gettime timerfd_settime times tkill truncate
    umask umount umount2 uname unshare uprobe uretprobe uselib useradded userdeleted userfaultfd ustat utime
    utimensat utimes vhangup vm86 vmsplice wait4 waitid waitpid write writev
    """
)

PARAM_NAMES = _set(
    """
    ID action arg arg2 arg2_int arg2_str arg3 arg4 arg5 argument aux backlog clockid cmd container_id cpu
    cpu_sys cpu_usr cq_entries creat_flags cur desc description dpid dqb_bhardlimit dqb_bsoftlimit dqb_btime
    dqb_curspace dqb_ihardlimit dqb_isoftlimit dqb_itime dqi_bgrace dqi_flags dqi_igrace entries env error
    event_data event_type exe_ino exe_ino_ctime exe_ino_mtime fd1 fd2 fd_in fd_out fdin fdlimit fdout fds
    features first home how id img in_fd initval ino interval ip key last len length level mask max maxevents
    min_complete mountfd msgcontrol nativeID newcur newmax next nr_args nsems nsops nstype offin offout offset
    oldcur oldmax op opcode operation option optlen optname out_fd peer pgft_maj pgft_min pgoffset pid_fd
    pidns_init_start_ts plugin_id pos prot queuelen queuemax queuepct quota_fmt quota_fmt_out quotafilepath
    ratio reaper_tid resource scope sem_flg_0 sem_flg_1 sem_num_0 sem_num_1 sem_op_0 sem_op_1 semflg semid
    semnum shell sigmask size source special spid sq_entries sq_thread_cpu sq_thread_idle target_fd timeout
    to_submit uargs val value_bytebuf value_charbuf vm_rss vm_size vm_swap vpgid vtid whence
    """
)
