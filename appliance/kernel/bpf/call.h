/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One system call at its end: arguments and result. The only layer that knows registers.
 *
 * The arguments still lie in pt_regs when the call returns; ARG_<n> is the n-th one's place in the block of
 * ARGS_WORDS words that begins ARGS_FROM bytes into pt_regs (kernel/offsets.py). A successful execve is the
 * exception: its registers are the new program's, so process.c listens to sched_process_exec.
 *
 * A call's slot stands for its number and its kind (kernel/program.py): those of 64-bit programs first, behind them those
 * of 32-bit ones, of x32 where they have numbers of their own, what hides behind the number of socketcall, and the
 * operations of an io_uring (uring.c).
 */
#pragma once

#define X32_BIT 0x40000000

#define SLOT_IA32 512
#define SLOT_X32 1024
#define SLOT_SOCKETCALL 1088
#define SLOT_IO_URING 1152
#define NO_SLOT 0xffffffff

/* At the end of a call `ctx->args` are its pt_regs and its result. Where the tracepoint is typed (TYPED), registers are
 * loaded; else they are read. */
#ifdef TYPED
#define NUMBER_OF(regs) ((u32)LOAD(32, regs, OFF_number))
#else
#define NUMBER_OF(regs)              \
    ({                               \
        u32 number_ = -1;            \
        READ(number_, regs, number); \
        number_;                     \
    })
#endif

struct call {
    u64 args[ARGS_WORDS];
    s64 res;
    u32 slot;
    u32 via;
};

#define ARG(c, n) ((c).args[ARG_##n])

static __always_inline void read_registers(struct call *c, u64 regs)
{
#ifdef TYPED
#pragma unroll
    for (int i = 0; i < ARGS_WORDS; i++)
        c->args[i] = LOAD(64, regs, ARGS_FROM + 8 * i);
#else
    bpf_probe_read_kernel(c->args, sizeof(c->args), (const void *)(regs + ARGS_FROM));
#endif
}

/* How the running task made the call whose number is given. TS_COMPAT says so of 32-bit calls, `int 0x80` of a 64-bit
 * program included, where the code segment would not. */
static __always_inline u32 via_of(u64 number)
{
#if defined(ARCH_x86)
    u32 status = 0;
    GET_OWN(status, task_struct_thread_info_status);
    if (status & 2)
        return VIA_IA32;
    return number & X32_BIT ? VIA_X32 : VIA_SYSCALL;
#else
    return VIA_SYSCALL;
#endif
}

static __always_inline u32 slot_of(u64 number, u32 via)
{
    u32 n = number & ~X32_BIT;
    if (via == VIA_IA32)
        return n < 512 ? SLOT_IA32 + n : NO_SLOT;
    if (via == VIA_X32 && n >= 512)
        return n < 576 ? SLOT_X32 + n - 512 : NO_SLOT;
    return n < 512 ? n : NO_SLOT;
}

#if defined(ARCH_x86)

#define IA32_SOCKETCALL 102
#define IA32_OLD_MMAP 90

/* The registers of a 32-bit call, put where those of a 64-bit one lie. */
static __always_inline void from_ia32(struct call *c)
{
    u32 a0 = c->args[COMPAT_0], a1 = c->args[COMPAT_1], a2 = c->args[COMPAT_2];
    u32 a3 = c->args[COMPAT_3], a4 = c->args[COMPAT_4], a5 = c->args[COMPAT_5];
    bool socketcall = c->slot == SLOT_IA32 + IA32_SOCKETCALL; /* which call, and its arguments in memory */
    if (socketcall || c->slot == SLOT_IA32 + IA32_OLD_MMAP) {
        u32 a[6] = {};
        u64 from = socketcall ? a1 : a0;
        if (socketcall && a0 < 64)
            c->slot = SLOT_SOCKETCALL + a0;
        if (bpf_probe_read_user(a, sizeof(a), (const void *)from))
            bpf_probe_read_user(a, 12, (const void *)from);
        a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3], a4 = a[4], a5 = a[5];
    }
    c->args[ARG_0] = a0;
    c->args[ARG_1] = a1;
    c->args[ARG_2] = a2;
    c->args[ARG_3] = a3;
    c->args[ARG_4] = a4;
    c->args[ARG_5] = a5;
}

static __always_inline void read_call(struct call *c, u64 regs, u64 res)
{
    read_registers(c, regs);
    c->res = res;
    c->via = via_of(c->args[NUMBER_WORD]);
    c->slot = slot_of(c->args[NUMBER_WORD], c->via);
    if (c->via == VIA_IA32)
        from_ia32(c);
}

#else

static __always_inline void read_call(struct call *c, u64 regs, u64 res)
{
    read_registers(c, regs);
    c->res = res;
    c->via = VIA_SYSCALL;
    c->slot = slot_of(NUMBER_OF(regs), VIA_SYSCALL);
}

#endif

/* Begin a handler: declares `c`, `s` and `e`, or returns. */
#define CALL(NAME, name)                                                                          \
    struct call c;                                                                                \
    read_call(&c, ctx->args[0], ctx->args[1]);                                                    \
    struct scratch *s = begin(T_##NAME, sizeof(struct rec_##name), c.res);                        \
    if (!s)                                                                                       \
        return 0;                                                                                 \
    ((struct head *)s->data)->via = c.via;                                                        \
    struct rec_##name *e = (struct rec_##name *)s->data

/* What the kernel takes of a mode (S_IALLUGO): programs hand over the file's type beside it. */
#define MODE_OF(mode) ((mode) & 07777)

#define HANDLER(name) int on_##name(struct bpf_raw_tracepoint_args *ctx)

/* Not bcc's own macro: bcc would attach the program where it is compiled, which is not where it is used. */
#define TRACEPOINT(name) int at_##name(struct bpf_raw_tracepoint_args *ctx)

#define DONE()   \
    submit(s);   \
    return 0

/* A path of user space and the folder it is relative to, where these two stand next to each other in the table. */
#define PUT_PATH(param, base, ptr, dirfd)                               \
    do {                                                                \
        u64 start_ = s->at;                                             \
        e->len_##param = put_user_text(s, ptr);                         \
        e->len_##base = put_base(s, dirfd, start_, e->len_##param);     \
    } while (0)
