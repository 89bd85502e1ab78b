/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The lowest layer: reading kernel structures by offset, and the record under construction.
 *
 * Offsets are macros OFF_<struct>_<member>, made from the running kernel's BTF. Nothing here knows a system call.
 * All helpers are inlined by bcc; bounds are constants so that the verifier (and the reader) can see them.
 */
#pragma once

#define __always_inline inline __attribute__((always_inline))

/* The kernel's own helpers under names of our own (numbers: include/uapi/linux/bpf.h). Calls by bcc's names cost its
 * rewriter up to a tenth of a second each, half of all compiling. */
static long (*read_user)(void *to, u32 size, const void *from) = (void *)112;
static long (*read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*read_user_str)(void *to, u32 size, const void *from) = (void *)114;
static long (*read_kernel_str)(void *to, u32 size, const void *from) = (void *)115;
#define bpf_probe_read_user read_user
#define bpf_probe_read_kernel read_kernel
#define bpf_probe_read_user_str read_user_str
#define bpf_probe_read_kernel_str read_kernel_str

/* Read a member of a kernel structure: READ(destination, pointer, struct_member). */
#define READ(dst, ptr, member) \
    bpf_probe_read_kernel(&(dst), sizeof(dst), (const void *)((u64)(ptr) + OFF_##member))
#define AT(ptr, member) ((u64)(ptr) + OFF_##member)

/* A load through a pointer whose type the verifier knows (a typed tracepoint's argument, `typed_task`, what is loaded
 * from one of these): no call, and a fault reads as zero. In assembler, for the compiler must neither move the offset
 * into the pointer nor narrow the load. */
#define LOAD(width, ptr, offset)                                                               \
    ({                                                                                         \
        u64 loaded_;                                                                           \
        asm("%0 = *(u" #width " *)(%1 + %2)" : "=r"(loaded_) : "r"((u64)(ptr)), "i"(offset));  \
        loaded_;                                                                               \
    })

/* enum of include/uapi/linux/bpf.h */
#define RB_NO_WAKEUP 1
#define RB_FORCE_WAKEUP 2

#define TEXT_MAX 4096   /* longest text taken, with its NUL: PATH_MAX */
#define NAME_SIZE 256   /* NAME_MAX and a NUL */
#define DEPTH_MAX 96    /* folders of a path that are walked */
#define ARGS_MAX 4096   /* bytes of the argument area that are taken */
#define ARGV_MAX 24     /* arguments of a failed execve that are taken */
#define ROOM 20480      /* where texts may begin; one of TEXT_MAX may still follow */

/* Where a block that holds members begins, and its size. */
#define BLOCK_WORDS 16
#define LESS(a, b) ((a) < (b) ? (a) : (b))
#define MORE(a, b) ((a) > (b) ? (a) : (b))
#define BLOCK_AT(first) ((first) & ~7)
#define FITS(first, last) ((last) + 8 - BLOCK_AT(first) <= 8 * BLOCK_WORDS)
#define READ_BLOCK(s, ptr, first, last) \
    bpf_probe_read_kernel((s)->block, (last) + 8 - BLOCK_AT(first), (const void *)((u64)(ptr) + BLOCK_AT(first)))
#define IN_BLOCK(type, s, first, member) (*(type *)((u8 *)(s)->block + OFF_##member - BLOCK_AT(first)))

/* One record in the making: `at` is where the next byte goes. Never on the stack: 512 bytes is all there is. */
struct scratch {
    u64 at;
    u64 busy;
    u64 block[BLOCK_WORDS]; /* several members of a structure, read at once: a read's price is the call, not the bytes */
    u64 v[16]; /* arguments and what they point to, for plan.c */
    u8 data[ROOM + TEXT_MAX + 8];
};

/* The kernel's own books: one row for each event type and CPU. `produced` counts every record that was made; of these,
 * `full` those for which the ring had no room, `unfair` those of a cgroup that had used its share of a ring that was
 * filling, `filtered` those that nobody asked for. */
struct book {
    u64 produced;
    u64 full;
    u64 unfair;
    u64 filtered;
};

/* How a process asks (model/event.py, VIA). */
#define VIA_SYSCALL 0
#define VIA_IA32 1
#define VIA_X32 2
#define VIA_IO_URING 3 /* its result is not known yet when the record is made */

/* What is asked of each event type, written by kernel/loader.py while we run. */
#define KIND_STATE 1  /* keeps the process table true: goes through the ring that no flood of others can fill */
#define KIND_WANTED 2 /* a rule listens to it */
#define KIND_REAL 8 /* a rule asks where what was opened lies */
#define KIND_ENV 16 /* a rule asks what environment a program was given */
#define KIND_NO_FAILED 4 /* calls that failed are not asked for */

/* Rows behind the event types: calls we saw and could not make a record of. */
#define BOOK_COMPAT T_COUNT        /* 32-bit system calls, not decoded */
#define BOOK_BUSY (T_COUNT + 1)    /* the scratch record was in use */
#define BOOK_ROWS (T_COUNT + 2)

BPF_PERCPU_ARRAY(scratches, struct scratch, 1);
BPF_PERCPU_ARRAY(books, struct book, BOOK_ROWS);
BPF_ARRAY(kinds, u32, T_COUNT);
/* 1 while the reader sleeps and wants to be woken by the next record. */
BPF_ARRAY(sleeping, u32, 1);
BPF_ARRAY(pace, u64, 1); /* bytes of a ring that the reader reads in time; 0: of any */

/* Hide from the compiler what it knows of a value: the bound that follows is then on the very register that the
 * verifier sees used. */
static __always_inline u64 opaque(u64 value)
{
    asm volatile("" : "+r"(value));
    return value;
}

static __always_inline void *this_task(void)
{
    return (void *)bpf_get_current_task();
}

/* The running task as a pointer that LOAD takes, from Linux 5.11; GET_OWN reads its members either way. */
#ifdef HAVE_TYPED_TASK
static u64 (*typed_task)(void) = (void *)158;
#define GET_OWN(dst, member)                                                \
    ((dst) = sizeof(dst) == 8 ? LOAD(64, typed_task(), OFF_##member)        \
                              : (u32)LOAD(32, typed_task(), OFF_##member))
#else
#define GET_OWN(dst, member) READ(dst, this_task(), member)
#endif

static __always_inline void *leader_of(void *task)
{
    void *leader = NULL;
    READ(leader, task, task_struct_group_leader);
    return leader;
}

static __always_inline u64 start_of(void *task)
{
    u64 start_ns = 0;
    READ(start_ns, leader_of(task), task_struct_start_boottime);
    return start_ns;
}

/* The same of the running task, whose ids are at hand: most calls are made by a process's first thread. */
static __always_inline u64 own_start(u64 pid_tid)
{
    u64 start_ns = 0;
    if (pid_tid >> 32 != (u32)pid_tid)
        return start_of(this_task());
    GET_OWN(start_ns, task_struct_start_boottime);
    return start_ns;
}

static __always_inline void count(u32 row)
{
    struct book *book = books.lookup(&row);
    if (book)
        book->produced += 1;
}

/* Take the CPU's scratch record and fill its head; NULL for our own process, or when it is in use. */
static __always_inline struct scratch *begin(u32 type, u32 size, s64 res)
{
    u32 zero = 0;
    u64 pid_tid = bpf_get_current_pid_tgid();
    if (pid_tid >> 32 == opaque(OWN_PID_MARK)) /* kernel/objects.py puts the pid in its place */
        return NULL;
    struct scratch *s = scratches.lookup(&zero);
    if (!s)
        return NULL;
    if (s->busy) {
        count(BOOK_BUSY);
        return NULL;
    }
    s->busy = 1;
    struct head *head = (struct head *)s->data;
    u64 uid_gid = bpf_get_current_uid_gid();
    head->ts_ns = bpf_ktime_get_ns();
    head->start_ns = own_start(pid_tid);
    head->res = res;
    head->pid = pid_tid >> 32;
    head->tid = pid_tid;
    head->uid = uid_gid;
    head->gid = uid_gid >> 32;
    head->type = type;
    head->cpu = bpf_get_smp_processor_id();
    head->via = 0;
    s->at = size;
    return s;
}

static __always_inline u32 kind_of(u32 type)
{
    u32 *kind = kinds.lookup(&type);
    return kind ? *kind : 0;
}

/* What nobody asked for is made no record of. */
static __always_inline bool keep(struct head *head, u32 kind)
{
    return !(kind & KIND_NO_FAILED && head->res < 0 && head->via != VIA_IO_URING);
}

/* Append a text of user space, without its NUL; ABSENT where it cannot be read. Gives its length. */
static __always_inline u16 put_user_text(struct scratch *s, u64 ptr)
{
    u64 at = opaque(s->at);
    if (!ptr || at > ROOM)
        return ABSENT;
    long n = bpf_probe_read_user_str(&s->data[at], TEXT_MAX, (const void *)ptr);
    if (n <= 0)
        return ABSENT;
    s->at = at + n - 1;
    return n - 1;
}

/* The same from the kernel's memory. */
static __always_inline u16 put_kernel_text(struct scratch *s, u64 ptr)
{
    u64 at = opaque(s->at);
    if (!ptr || at > ROOM)
        return ABSENT;
    long n = bpf_probe_read_kernel_str(&s->data[at], TEXT_MAX, (const void *)ptr);
    if (n <= 0)
        return ABSENT;
    s->at = at + n - 1;
    return n - 1;
}
