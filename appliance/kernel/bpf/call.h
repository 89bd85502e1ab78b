/* One system call at its end: arguments and result. The only layer that knows registers.
 *
 * The arguments still lie in pt_regs when the call returns; ARG_<n> is the n-th one's place in the block of
 * ARGS_WORDS words that begins ARGS_FROM bytes into pt_regs (kernel/offsets.py). A successful execve is the
 * exception: its registers are the new program's, so exec.c listens to sched_process_exec.
 */
#pragma once

struct call {
    u64 args[ARGS_WORDS];
    s64 res;
};

#define ARG(c, n) ((c).args[ARG_##n])

/* Begin a handler: declares `c`, `s` and `e`, or returns. */
#define CALL(NAME, name)                                                                          \
    struct call c;                                                                                \
    c.res = (s64)ctx->args[1];                                                                    \
    struct scratch *s = begin(T_##NAME, sizeof(struct rec_##name), c.res);                        \
    if (!s)                                                                                       \
        return 0;                                                                                 \
    bpf_probe_read_kernel(c.args, sizeof(c.args), (const void *)(ctx->args[0] + ARGS_FROM));      \
    struct rec_##name *e = (struct rec_##name *)s->data

/* What the kernel takes of a mode (S_IALLUGO): programs hand over the file's type beside it. */
#define MODE_OF(mode) ((mode) & 07777)

#define HANDLER(name) int on_##name(struct bpf_raw_tracepoint_args *ctx)

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

/* Two paths: both texts, then both folders. */
#define PUT_TWO_PATHS(old, old_dirfd, new, new_dirfd)                              \
    do {                                                                           \
        u64 old_ = s->at;                                                          \
        e->len_oldpath = put_user_text(s, old);                                    \
        u64 new_ = s->at;                                                          \
        e->len_newpath = put_user_text(s, new);                                    \
        e->len_oldbase = put_base(s, old_dirfd, old_, e->len_oldpath);             \
        e->len_newbase = put_base(s, new_dirfd, new_, e->len_newpath);             \
    } while (0)
