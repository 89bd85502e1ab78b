/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Processes: created, given a program, ended. */

#define PF_KTHREAD_ 0x00200000
#define EXIT_OK 0

/* The number of the system call that this task is in, as a 64-bit program would have made it, and how it was made. Its
 * registers lie at the top of its kernel stack; where they do not (a kernel built otherwise), the number found is none
 * that the callers ask for. */
static __always_inline s64 current_call(u32 *via)
{
    u64 stack = 0;
    s64 number = -1;
    READ(stack, this_task(), task_struct_stack);
    bpf_probe_read_kernel(&number, sizeof(number), (const void *)(stack + STACK_SIZE - SIZE_pt_regs + OFF_number));
    *via = via_of(number);
    if (*via != VIA_IA32)
        return number & ~X32_BIT;
    return number == COMPAT_NR_FORK ? NR_FORK
         : number == COMPAT_NR_VFORK ? NR_VFORK
         : number == COMPAT_NR_CLONE ? NR_CLONE
         : number == COMPAT_NR_CLONE3 ? NR_CLONE3
         : number == COMPAT_NR_EXECVEAT ? NR_EXECVEAT
         : -1;
}

/* pid in the task's own pid namespace */
static __always_inline s32 vpid_of(u64 task)
{
    u64 pid = 0;
    u32 level = 0;
    s32 nr = 0;
    READ(pid, task, task_struct_thread_pid);
    READ(level, pid, pid_level);
    bpf_probe_read_kernel(&nr, sizeof(nr), (const void *)(AT(pid, pid_numbers) + (u64)level * SIZE_upid));
    return nr;
}

/* session or process group, in the host's namespace */
static __always_inline s32 group_of(u64 signal, u32 type)
{
    u64 pid = 0;
    s32 nr = 0;
    bpf_probe_read_kernel(&pid, sizeof(pid), (const void *)(AT(signal, signal_struct_pids) + 8 * type));
    if (pid)
        bpf_probe_read_kernel(&nr, sizeof(nr), (const void *)AT(pid, pid_numbers));
    return nr;
}

/* process group as the task's own pid namespace numbers it, 0 for one that was made outside of it */
static __always_inline s32 vpgid_of(u64 task, u64 signal)
{
    u64 pid = 0, group = 0;
    u32 level = 0, group_level = 0;
    s32 nr = 0;
    READ(pid, task, task_struct_thread_pid);
    READ(level, pid, pid_level);
    bpf_probe_read_kernel(&group, sizeof(group), (const void *)(AT(signal, signal_struct_pids) + 8 * PIDTYPE_PGID));
    READ(group_level, group, pid_level);
    if (group && group_level >= level)
        bpf_probe_read_kernel(&nr, sizeof(nr), (const void *)(AT(group, pid_numbers) + (u64)level * SIZE_upid));
    return nr;
}

/* start of the first process of the task's pid namespace, nanoseconds since boot */
static __always_inline u64 pidns_start_of(u64 task)
{
    u64 pid = 0, ns = 0, init = 0, start_ns = 0;
    u32 level = 0;
    READ(pid, task, task_struct_thread_pid);
    READ(level, pid, pid_level);
    bpf_probe_read_kernel(&ns, sizeof(ns), (const void *)(AT(pid, pid_numbers) + (u64)level * SIZE_upid + OFF_upid_ns));
    READ(init, ns, pid_namespace_child_reaper);
    READ(start_ns, init, task_struct_start_boottime);
    return start_ns;
}

#define EXE_WRITABLE 1
#define EXE_UPPER_LAYER 2
#define EXE_FROM_MEMFD 4
#define EXE_LOWER_LAYER 8
#define CAP_DAC_OVERRIDE_ 1
#define S_IMMUTABLE_ 8
#define SB_RDONLY_ 1
#define MNT_READONLY_ 0x40
#define RLIMIT_NOFILE_ 7
#define NSEC_MASK 0x3fffffff /* above it stands a flag of the kernel's since 6.13 */

/* May this user write to the file that runs? By its mode; whether the user's rights are more than that; not where the
 * file or what it lies on cannot be written at all. */
static __always_inline u32 writable_by(u64 inode, u64 sb, u64 mnt, u32 uid, u32 gid, u64 rights)
{
    u32 owner = 0, group = 0, flags = 0, mnt_flags = 0;
    u64 sb_flags = 0;
    u16 mode = 0;
    READ(flags, inode, inode_i_flags);
    READ(sb_flags, sb, super_block_s_flags);
    READ(mnt_flags, mnt, vfsmount_mnt_flags);
    if (flags & S_IMMUTABLE_ || sb_flags & SB_RDONLY_ || mnt_flags & MNT_READONLY_)
        return 0;
    READ(mode, inode, inode_i_mode);
    READ(owner, inode, inode_i_uid);
    READ(group, inode, inode_i_gid);
    if (rights >> CAP_DAC_OVERRIDE_ & 1)
        return EXE_WRITABLE;
    mode = owner == uid ? mode >> 6 : group == gid ? mode >> 3 : mode;
    return mode & 2 ? EXE_WRITABLE : 0;
}

/* `memfd:` begins the name of a file that memfd_create made; it is its own parent */
static __always_inline u32 memfd_of(u64 dentry)
{
    u64 parent = 0, name = 0;
    char text[6] = {};
    READ(parent, dentry, dentry_d_parent);
    READ(name, dentry, dentry_d_name_name);
    bpf_probe_read_kernel(text, sizeof(text), (const void *)name);
    return parent == dentry && text[0] == 'm' && text[1] == 'e' && text[2] == 'm' && text[3] == 'f' &&
           text[4] == 'd' && text[5] == ':' ? EXE_FROM_MEMFD : 0;
}

/* The file that runs, and what its process has used and may use. Behind PUT_STANDING: it reads the credentials. */
#define PUT_EXE(task)                                                                              \
    do {                                                                                           \
        u64 mm_ = 0, file_ = 0, inode_ = 0, sb_ = 0, mnt_ = 0, dentry_ = 0, magic_ = 0, sec_ = 0;  \
        u64 signal_ = 0;                                                                           \
        u32 nsec_ = 0, layer_ = 0, dev_ = 0;                                                          \
        READ(signal_, task, task_struct_signal);                                                   \
        e->vpgid = vpgid_of((u64)leader_of((void *)(task)), signal_);                              \
        e->pidns_init_start_ts = pidns_start_of((u64)leader_of((void *)(task)));                   \
        PUT_USE(task, signal_);                                                                    \
        READ(mm_, task, task_struct_mm);                                                           \
        e->flags = 0;                                                                              \
        e->exe_ino = 0;                                                                            \
        e->exe_ino_ctime = 0;                                                                      \
        e->exe_ino_mtime = 0;                                                                      \
        e->exe_dev = 0;                                                                            \
        e->exe_size = 0;                                                                           \
        e->exe_magic = 0;                                                                          \
        READ(file_, mm_, mm_struct_exe_file);                                                      \
        if (file_) {                                                                               \
            READ(inode_, file_, file_f_inode);                                                     \
            READ(dentry_, AT(file_, file_f_path), path_dentry);                                    \
            READ(mnt_, AT(file_, file_f_path), path_mnt);                                          \
            READ(sb_, inode_, inode_i_sb);                                                         \
            READ(magic_, sb_, super_block_s_magic);                                                \
            e->exe_magic = magic_;                                                                 \
            READ(dev_, sb_, super_block_s_dev);                                                    \
            e->exe_dev = encoded(dev_);                                                            \
            READ(e->exe_size, inode_, inode_i_size);                                               \
            READ(e->exe_ino, inode_, inode_i_ino);                                                 \
            READ(sec_, inode_, inode_i_ctime_sec);                                                 \
            READ(nsec_, inode_, inode_i_ctime_nsec);                                               \
            e->exe_ino_ctime = sec_ * 1000000000ULL + (nsec_ & NSEC_MASK);                         \
            READ(sec_, inode_, inode_i_mtime_sec);                                                 \
            READ(nsec_, inode_, inode_i_mtime_nsec);                                               \
            e->exe_ino_mtime = sec_ * 1000000000ULL + (nsec_ & NSEC_MASK);                         \
            layer_ = layer_of(inode_, magic_);                                                     \
            e->flags = writable_by(inode_, sb_, mnt_, e->new_euid, e->new_egid, e->cap_effective)  \
                | memfd_of(dentry_)                                                                \
                | (layer_ == FD_UPPER_LAYER ? EXE_UPPER_LAYER : layer_ ? EXE_LOWER_LAYER : 0);     \
        }                                                                                          \
    } while (0)

#define MEMORY_SIZE 0 /* all that is mapped */
#define MEMORY_RSS 1  /* of it in memory: of files, anonymous, shared */
#define MEMORY_SWAP 2
#define MM_FILEPAGES_ 0
#define MM_ANONPAGES_ 1
#define MM_SWAPENTS_ 2
#define MM_SHMEMPAGES_ 3

/* One of the kernel's counters of pages. From 6.2 on each CPU keeps some of its own that are not counted in here. */
static __always_inline u64 pages_of(u64 mm, u32 counter)
{
    s64 pages = 0;
    bpf_probe_read_kernel(&pages, sizeof(pages), (const void *)(AT(mm, rss_stat) + counter * SIZE_rss_stat));
    return pages > 0 ? pages : 0;
}

/* KiB of a process's memory; 0 for one that has none any more. */
static __always_inline u32 memory_of(u64 mm, u32 part)
{
    u64 pages = 0;
    if (!mm)
        return 0;
    if (part == MEMORY_SIZE)
        READ(pages, mm, mm_struct_total_vm);
    else if (part == MEMORY_RSS)
        pages = pages_of(mm, MM_FILEPAGES_) + pages_of(mm, MM_ANONPAGES_) + pages_of(mm, MM_SHMEMPAGES_);
    else
        pages = pages_of(mm, MM_SWAPENTS_);
    return pages * (PAGE_BYTES / 1024);
}

/* What a process has used and may use. */
#define PUT_USE(task, signal)                                                                      \
    do {                                                                                           \
        u64 used_ = 0;                                                                             \
        e->fdlimit = 0;                                                                            \
        bpf_probe_read_kernel(&e->fdlimit, 8, (const void *)(AT(signal, signal_struct_rlim) + 16 * RLIMIT_NOFILE_)); \
        e->pgft_maj = 0;                                                                           \
        e->pgft_min = 0;                                                                           \
        READ(e->pgft_maj, task, task_struct_maj_flt);                                              \
        READ(e->pgft_min, task, task_struct_min_flt);                                              \
        READ(used_, task, task_struct_mm);                                                         \
        e->vm_size = memory_of(used_, MEMORY_SIZE);                                                \
        e->vm_rss = memory_of(used_, MEMORY_RSS);                                                  \
        e->vm_swap = memory_of(used_, MEMORY_SWAP);                                                \
    } while (0)

/* device number of the controlling terminal, as /proc/PID/stat tells it (new_encode_dev), 0 for none */
static __always_inline u32 tty_of(u64 signal)
{
    u64 tty = 0, driver = 0;
    s32 index = 0, major = 0, minor = 0;
    READ(tty, signal, signal_struct_tty);
    if (!tty)
        return 0;
    READ(index, tty, tty_struct_index);
    READ(driver, tty, tty_struct_driver);
    READ(major, driver, tty_driver_major);
    READ(minor, driver, tty_driver_minor_start);
    minor += index;
    return ((u32)minor & 0xff) | ((u32)major << 8) | (((u32)minor & ~0xff) << 12);
}

/* Append the path of a cgroup below its hierarchy's root, names from leaf to root. */
static __always_inline u16 put_cgroup(struct scratch *s, u64 cgroup)
{
    u64 start = s->at;
    u64 node = 0;
    int done = 0;
    if (!cgroup)
        return ABSENT;
    READ(node, cgroup, cgroup_kn);
#pragma clang loop unroll(disable)
    for (int i = 0; i < 32; i++) {
        u64 parent = 0, name = 0;
        if (!node)
            break;
        READ(parent, node, kernfs_node_parent);
        if (!parent) { /* the root has no name */
            done = 1;
            break;
        }
        READ(name, node, kernfs_node_name);
        if (!put_name(s, name))
            break;
        node = parent;
    }
    return end_path(s, start, done);
}

/* The whole area of the arguments, cut at ARGS_MAX: NUL-separated. */
static __always_inline u16 put_args(struct scratch *s, u64 from, u64 to)
{
    u64 at = opaque(s->at);
    u64 size = to - from;
    if (size > ARGS_MAX)
        size = ARGS_MAX;
    if (at > ROOM || !size || bpf_probe_read_user(&s->data[at], size, (const void *)from))
        return 0;
    s->at = at + size;
    return size;
}

/* The arguments of an execve that failed, read from the caller's array. */
static __always_inline u16 put_argv(struct scratch *s, u64 argv, u32 via)
{
    u32 size = via == VIA_SYSCALL ? 8 : 4;
    u64 start = s->at;
#pragma clang loop unroll(disable)
    for (int i = 0; i < ARGV_MAX; i++) {
        u64 arg = 0;
        if (bpf_probe_read_user(&arg, size, (const void *)(argv + size * i)) || !arg)
            break;
        if (s->at - start > ARGS_MAX || put_user_text(s, arg) == ABSENT)
            break;
        put_byte(s, 0);
    }
    return s->at - start;
}

/* All but the texts: what the process is, before or after the program changed. */
#define PUT_STANDING(task)                                                           \
    do {                                                                             \
        u64 signal_ = 0, parent_ = 0;                                                \
        READ(parent_, leader_of((void *)(task)), task_struct_real_parent);           \
        READ(e->ptid, parent_, task_struct_tgid);                                    \
        READ(signal_, task, task_struct_signal);                                     \
        e->tty = tty_of(signal_);                                                    \
        e->sid = group_of(signal_, PIDTYPE_SID);                                     \
        e->pgid = group_of(signal_, PIDTYPE_PGID);                                   \
        e->vpid = vpid_of((u64)leader_of((void *)(task)));                           \
        e->loginuid = LOGINUID(task);                                                \
        PUT_CREDENTIALS();                                                           \
    } while (0)

#ifdef OFF_task_struct_loginuid
#define LOGINUID(task) ({ u32 uid_ = -1; READ(uid_, task, task_struct_loginuid); uid_; })
#else
#define LOGINUID(task) ((u32)-1) /* a kernel without audit */
#endif

/* The texts behind `args`, in table order but for `stdio`. */
#define PUT_PLACE(task, env, filename)                                                           \
    do {                                                                                         \
        u64 css_ = 0, group_ = 0, mm_ = 0, exe_ = 0;                                             \
        e->len_cwd = put_cwd(s);                                                                 \
        e->len_comm = put_kernel_text(s, AT(task, task_struct_comm));                            \
        READ(css_, task, task_struct_cgroups);                                                   \
        READ(group_, css_, css_set_dfl_cgrp);                                                    \
        e->len_cgroups = put_cgroup(s, group_);                                                  \
        e->len_env = env;                                                                        \
        READ(mm_, task, task_struct_mm);                                                         \
        READ(exe_, mm_, mm_struct_exe_file);                                                     \
        e->len_trusted_exepath = exe_ ? put_path_at(s, AT(exe_, file_f_path)) : ABSENT;          \
        e->len_filename = filename;                                                              \
        e->len_cgroups_v1 = 0;                                                                   \
        group_ = 0;                                                                              \
        bpf_probe_read_kernel(&css_, 8, (const void *)(AT(css_, css_set_subsys) + 8 * CGROUP_V1_INDEX)); \
        READ(group_, css_, cgroup_subsys_state_cgroup);                                          \
        if (group_)                                                                              \
            e->len_cgroups_v1 = put_cgroup(s, group_);                                           \
    } while (0)

/* A program has started: sched_process_exec(struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm). */
#define STARTED(NAME, name)                                                                  \
    do {                                                                                     \
        struct scratch *s = begin(T_##NAME, sizeof(struct rec_##name), EXIT_OK);             \
        if (!s)                                                                              \
            return 0;                                                                        \
        struct rec_##name *e = (struct rec_##name *)s->data;                                 \
        ((struct head *)s->data)->via = via;                                                 \
        u64 task = (u64)this_task(), mm = 0, from = 0, to = 0, filename = 0;                 \
        u64 env_from = 0, env_to = 0;                                                        \
        READ(mm, task, task_struct_mm);                                                      \
        READ(from, mm, mm_struct_arg_start);                                                 \
        READ(to, mm, mm_struct_arg_end);                                                     \
        READ(env_from, mm, mm_struct_env_start);                                             \
        READ(env_to, mm, mm_struct_env_end);                                                 \
        READ(filename, ctx->args[2], linux_binprm_filename);                                 \
        PUT_STANDING(task);                                                                  \
        e->args_size = to - from;                                                            \
        PUT_EXE(task);                                                                       \
        e->len_args = put_args(s, from, to);                                                 \
        PUT_PLACE(task, kind_of(T_##NAME) & KIND_ENV ? put_args(s, env_from, env_to) : ABSENT, \
                  put_kernel_text(s, filename));                                             \
        e->len_stdio = put_stdio(s);                                                         \
        submit(s);                                                                           \
    } while (0)

TRACEPOINT(sched_process_exec)
{
    u32 via = VIA_SYSCALL;
    if (current_call(&via) == NR_EXECVEAT)
        STARTED(EXECVEAT, execveat);
    else
        STARTED(EXECVE, execve);
    return 0;
}

/* A program could not be started. */
#define FAILED(NAME, name, filename, argv, envp)                                 \
    if ((s64)ctx->args[1] >= 0)                                                  \
        return 0;                                                                \
    CALL(NAME, name);                                                            \
    u64 task = (u64)this_task();                                                 \
    PUT_STANDING(task);                                                          \
    PUT_EXE(task);                                                               \
    e->len_args = put_argv(s, argv, c.via);                                      \
    e->args_size = e->len_args;                                                  \
    PUT_PLACE(task, kind_of(T_##NAME) & KIND_ENV ? put_argv(s, envp, c.via) : 0, \
              put_user_text(s, filename));                                       \
    e->len_stdio = 0

HANDLER(execve)
{
    FAILED(EXECVE, execve, ARG(c, 0), ARG(c, 1), ARG(c, 2));
    DONE();
}

HANDLER(execveat)
{
    FAILED(EXECVEAT, execveat, ARG(c, 1), ARG(c, 2), ARG(c, 3));
    DONE();
}

/* A process or a thread was created: sched_process_fork(struct task_struct *parent, struct task_struct *child), told in
 * the parent before the child runs. */
#define CREATED(NAME, name)                                                      \
    do {                                                                         \
        struct scratch *s = begin(T_##NAME, sizeof(struct rec_##name), pid);     \
        if (!s)                                                                  \
            return 0;                                                            \
        struct rec_##name *e = (struct rec_##name *)s->data;                     \
        ((struct head *)s->data)->via = via;                                     \
        u64 task = (u64)this_task(), signal = 0;                                 \
        e->flags = flags | (pid == tgid ? 0 : CLONE_THREAD_);                    \
        e->child_pid = tgid;                                                     \
        e->child_tid = pid;                                                      \
        e->child_vpid = vpid_of((u64)leader_of((void *)child));                  \
        READ(parent, leader_of((void *)child), task_struct_real_parent);         \
        READ(e->child_ppid, parent, task_struct_tgid);                           \
        e->child_start_ns = start_of((void *)child);                             \
        READ(signal, task, task_struct_signal);                                  \
        PUT_USE(task, signal);                                                   \
        submit(s);                                                               \
    } while (0)

#define CLONE_THREAD_ 0x10000
#define CSIGNAL_ 0xff

#ifdef COMPAT_0
#define FIRST_OF(via) ((via) == VIA_IA32 ? COMPAT_0 : ARG_0)
#else
#define FIRST_OF(via) ARG_0
#endif

/* What clone(2) or clone3(2) was asked for by the running task; nothing where another call made the thread. */
static __always_inline u32 asked_flags(s64 number, u32 via)
{
    u64 stack = 0, first = 0, flags = 0;
    if (number != NR_CLONE && number != NR_CLONE3)
        return 0;
    READ(stack, this_task(), task_struct_stack);
    bpf_probe_read_kernel(&first, sizeof(first),
                          (const void *)(stack + STACK_SIZE - SIZE_pt_regs + ARGS_FROM + 8 * FIRST_OF(via)));
    if (via == VIA_IA32)
        first = (u32)first;
    if (number == NR_CLONE)
        return first & ~CSIGNAL_;
    bpf_probe_read_user(&flags, sizeof(flags), (const void *)first);
    return flags;
}

TRACEPOINT(sched_process_fork)
{
    u64 child = ctx->args[1], parent = 0;
    u32 flags = 0;
    s32 pid = 0, tgid = 0;
    READ(flags, child, task_struct_flags);
    if (flags & PF_KTHREAD_)
        return 0;
    READ(pid, child, task_struct_pid);
    READ(tgid, child, task_struct_tgid);
    u32 via = VIA_SYSCALL;
    s64 number = current_call(&via);
    flags = asked_flags(number, via);
    if (number == NR_CLONE3)
        CREATED(CLONE3, clone3);
    else if (number == NR_FORK)
        CREATED(FORK, fork);
    else if (number == NR_VFORK)
        CREATED(VFORK, vfork);
    else
        CREATED(CLONE, clone);
    return 0;
}

/* The call failed: there is no child. Its flags are the caller's, as those of a birth are: without the signal at its end. */
#define NOT_CREATED(NAME, name, flags_)     \
    if ((s64)ctx->args[1] >= 0)             \
        return 0;                           \
    CALL(NAME, name);                       \
    e->flags = flags_;                      \
    e->child_pid = 0;                       \
    e->child_tid = 0;                       \
    e->child_vpid = 0;                      \
    e->child_ppid = 0;                      \
    e->child_start_ns = 0;                  \
    u64 task = (u64)this_task(), signal = 0; \
    READ(signal, task, task_struct_signal); \
    PUT_USE(task, signal);                  \
    DONE()

HANDLER(clone)
{
    NOT_CREATED(CLONE, clone, ARG(c, 0) & ~CSIGNAL_);
}

HANDLER(clone3)
{
    u64 flags = 0;
    NOT_CREATED(CLONE3, clone3, (bpf_probe_read_user(&flags, sizeof(flags), (const void *)ARG(c, 0)), flags));
}

HANDLER(fork)
{
    NOT_CREATED(FORK, fork, 0);
}

HANDLER(vfork)
{
    NOT_CREATED(VFORK, vfork, 0);
}

/* A process gets another name: task_rename(struct task_struct *task, const char *comm). Its own prctl(2) is told before
 * that call's end; only here is told what any of its threads writes to /proc/PID/comm. A program that starts is told by
 * sched_process_exec, and the names of other threads than the first are their own. */
TRACEPOINT(task_rename)
{
    u64 task = ctx->args[0], name = ctx->args[1];
    u32 flags = 0, via = VIA_SYSCALL;
    s32 pid = 0, tgid = 0;
    READ(pid, task, task_struct_pid);
    READ(tgid, task, task_struct_tgid);
    READ(flags, task, task_struct_flags);
    if (pid != tgid || flags & PF_KTHREAD_)
        return 0;
    if (task == (u64)this_task()) {
        s64 number = current_call(&via);
        if (number == NR_EXECVE || number == NR_EXECVEAT)
            return 0;
    }
    struct scratch *s = begin(T_TASKNAME, sizeof(struct rec_taskname), EXIT_OK);
    if (!s)
        return 0;
    struct rec_taskname *e = (struct rec_taskname *)s->data;
    e->pid = pid;
    e->start_ns = start_of((void *)task);
    e->len_name = put_kernel_text(s, name);
    submit(s);
    return 0;
}

#if defined(OFF_is_child_subreaper) && defined(OFF_has_child_subreaper)
#define SUBREAPERS_ABOVE 16 /* how many ancestors are asked */

static __always_inline u32 bit_at(u64 address, u32 shift)
{
    u8 byte = 0;
    bpf_probe_read_kernel(&byte, sizeof(byte), (const void *)address);
    return byte >> shift & 1;
}

/* Who gets the children of a process that ends now, as find_new_reaper in kernel/exit.c finds it: the nearest ancestor
 * in the same pid namespace that is a subreaper, else that namespace's first process. 0 without children, or where more
 * ancestors would have to be asked. */
static __always_inline s32 heir_of(u64 task, u64 signal)
{
    u64 children = AT(task, task_struct_children), next = 0, pid = 0, ns = 0, found = 0;
    u32 level = 0, level_above = 0;
    s32 tgid = 0;
    READ(next, task, task_struct_children); /* its `next`, the first member of a list head */
    if (!next || next == children)
        return 0;
    READ(pid, task, task_struct_thread_pid);
    READ(level, pid, pid_level);
    bpf_probe_read_kernel(&ns, sizeof(ns), (const void *)(AT(pid, pid_numbers) + (u64)level * SIZE_upid + OFF_upid_ns));
    READ(found, ns, pid_namespace_child_reaper);
    if (bit_at(AT(signal, has_child_subreaper), SHIFT_has_child_subreaper)) {
        u64 above = task;
#pragma unroll
        for (int i = 0; i < SUBREAPERS_ABOVE; i++) {
            READ(above, above, task_struct_real_parent);
            READ(pid, above, task_struct_thread_pid);
            READ(level_above, pid, pid_level);
            if (level_above != level)
                goto known;
            READ(signal, above, task_struct_signal);
            if (bit_at(AT(signal, is_child_subreaper), SHIFT_is_child_subreaper)) {
                found = above;
                goto known;
            }
        }
        return 0;
    }
known:
    READ(tgid, found, task_struct_tgid);
    return tgid;
}
#else
#define heir_of(task, signal) 0
#endif

/* The last thread of a process ends: sched_process_exit(struct task_struct *task, ...). */
TRACEPOINT(sched_process_exit)
{
    u64 task = ctx->args[0], signal = 0;
    u32 flags = 0, live = 1, status = 0;
    READ(flags, task, task_struct_flags);
    READ(signal, task, task_struct_signal);
    READ(live, signal, signal_struct_live);
    if (flags & PF_KTHREAD_ || live)
        return 0;
    READ(status, task, task_struct_exit_code);
    struct scratch *s = begin(T_PROCEXIT, sizeof(struct rec_procexit), status);
    if (!s)
        return 0;
    ((struct rec_procexit *)s->data)->reaper_tid = heir_of(task, signal);
    submit(s);
    return 0;
}
