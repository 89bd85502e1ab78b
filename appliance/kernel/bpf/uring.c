/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Work asked of an io_uring: no system call tells of it. The kernel has prepared an entry when it is submitted: paths are
 * its own copies. A record of the call that the entry stands for is made then, with the entry's address as its result; a
 * second one (T_IORING) tells by that address what came of it. engine/state.py joins them.
 */

/* Operations that some rule asks for. */
BPF_ARRAY(asked_operations, u32, IO_URING_OPERATIONS);

/* Their handlers: a table of its own, for one table holds programs of one kind. */
BPF_PROG_ARRAY(operations, IO_URING_OPERATIONS);

#ifdef HAVE_io_uring_complete

#define REQ_SKIPS_CQE (1 << 6) /* IOSQE_CQE_SKIP_SUCCESS: nobody is told of a success */
#define CQE_MORE 2             /* IORING_CQE_F_MORE */

#define OP_READV 1
#define OP_WRITEV 2
#define OP_SENDMSG 9
#define OP_RECVMSG 10
#define OP_ACCEPT 13
#define OP_CONNECT 16
#define OP_OPENAT 18
#define OP_CLOSE 19
#define OP_READ 22
#define OP_WRITE 23
#define OP_SEND 26
#define OP_RECV 27
#define OP_OPENAT2 28
#define OP_SHUTDOWN 34
#define OP_RENAMEAT 35
#define OP_UNLINKAT 36
#define OP_MKDIRAT 37
#define OP_SYMLINKAT 38
#define OP_LINKAT 39
#define OP_SOCKET 45
#define OP_BIND 56
#define OP_LISTEN 57

static __always_inline u32 operation_of(u64 req)
{
    u8 op = 255;
    READ(op, req, io_kiocb_opcode);
    return op;
}

static __always_inline bool is_asked(u32 op)
{
    u32 *known = asked_operations.lookup(&op);
    return known && *known;
}

#ifdef HAVE_io_uring_submit_req
TRACEPOINT(io_uring_submit_req)
#else
TRACEPOINT(io_uring_submit_sqe)
#endif
{
    u32 op = operation_of(ctx->args[0]);
    if (is_asked(op))
        operations.call(ctx, op);
    return 0;
}

TRACEPOINT(io_uring_complete)
{
    u64 req = ctx->args[1];
    s32 res = 0;
    u32 flags = 0;
    if (!req || !is_asked(operation_of(req)))
        return 0;
#if HAVE_io_uring_complete == 3
    READ(res, ctx->args[2], io_uring_cqe_res);
    READ(flags, ctx->args[2], io_uring_cqe_flags);
#else
    res = ctx->args[3];
    flags = ctx->args[4];
#endif
    struct scratch *s = begin(T_IORING, sizeof(struct rec_ioring), res);
    if (!s)
        return 0;
    struct rec_ioring *e = (struct rec_ioring *)s->data;
    e->request = req;
    e->more = flags & CQE_MORE;
    DONE();
}

/* Arguments by the place that they have in the system call. */
#define TAKE(n, type, member)                                     \
    do {                                                          \
        type taken_ = 0;                                          \
        READ(taken_, req, member);                                \
        s->v[n] = taken_;                                         \
    } while (0)

/* A path: the kernel's copy. */
#define TAKE_NAME(n, member)                                      \
    do {                                                          \
        u64 file_name_ = 0, name_ = 0;                            \
        READ(file_name_, req, member);                            \
        READ(name_, file_name_, filename_name);                   \
        s->v[n] = name_;                                          \
    } while (0)

static __always_inline struct scratch *begin_uring(struct plan *plan, struct call *c, u64 req)
{
    u64 flags = 0;
    c->res = -1; /* not known yet */
    c->via = VIA_SYSCALL;
    READ(flags, req, io_kiocb_flags);
    struct scratch *s = begin_planned(plan, c);
    if (!s)
        return NULL;
    struct head *head = (struct head *)s->data;
    head->via = VIA_IO_URING;
    head->res = flags & REQ_SKIPS_CQE ? 0 : req;
    return s;
}

static __always_inline void take_paths(struct scratch *s, u64 req, u32 op)
{
    if (op == OP_OPENAT || op == OP_OPENAT2) {
        TAKE(0, s32, io_open_dfd);
        TAKE_NAME(1, io_open_filename);
        TAKE(2, u64, io_open_how_flags);
        TAKE(3, u64, io_open_how_mode);
        TAKE(4, u64, io_open_how_resolve);
    } else if (op == OP_UNLINKAT) {
        TAKE(0, s32, io_unlink_dfd);
        TAKE_NAME(1, io_unlink_filename);
        TAKE(2, u32, io_unlink_flags);
    } else if (op == OP_MKDIRAT) {
        TAKE(0, s32, io_mkdir_dfd);
        TAKE_NAME(1, io_mkdir_filename);
        TAKE(2, u16, io_mkdir_mode);
    } else if (op == OP_RENAMEAT) {
        TAKE(0, s32, io_rename_old_dfd);
        TAKE_NAME(1, io_rename_oldpath);
        TAKE(2, s32, io_rename_new_dfd);
        TAKE_NAME(3, io_rename_newpath);
        TAKE(4, u32, io_rename_flags);
    } else if (op == OP_LINKAT) {
        TAKE(0, s32, io_link_old_dfd);
        TAKE_NAME(1, io_link_oldpath);
        TAKE(2, s32, io_link_new_dfd);
        TAKE_NAME(3, io_link_newpath);
        TAKE(4, u32, io_link_flags);
    } else if (op == OP_SYMLINKAT) {
        TAKE_NAME(0, io_link_oldpath);
        TAKE(1, s32, io_link_new_dfd);
        TAKE_NAME(2, io_link_newpath);
    } else if (op == OP_SOCKET) {
        TAKE(0, u32, io_socket_domain);
        TAKE(1, u32, io_socket_type);
        TAKE(2, u32, io_socket_protocol);
    } else if (op == OP_CLOSE) {
#ifdef OFF_io_close_fd
        TAKE(0, s32, io_close_fd);
#endif
    }
}

HANDLER(uring_paths)
{
    struct call c = {};
    u64 req = ctx->args[0];
    u32 op = operation_of(req);
    u64 starts[3];
    u16 sizes[3];
    struct plan *plan = plan_of(SLOT_IO_URING + op);
    if (!plan)
        return 0;
    struct scratch *s = begin_uring(plan, &c, req);
    if (!s)
        return 0;
    take_paths(s, req, op);
    put_steps(s, plan, &c, false);
    starts[0] = s->at;
    sizes[0] = put_text_of(s, &plan->texts[0], &c, true, false);
    starts[1] = s->at;
    sizes[1] = put_text_of(s, &plan->texts[1], &c, true, false);
    starts[2] = s->at;
    sizes[2] = ABSENT;
    put_plan_base(s, &plan->bases[0], starts, sizes);
    put_plan_base(s, &plan->bases[1], starts, sizes);
    DONE();
}

static __always_inline void take_descriptor(struct scratch *s, u64 req, u32 op)
{
    TAKE(0, s32, io_kiocb_cqe_fd);
    if (op == OP_CONNECT) {
        TAKE(1, u64, io_connect_addr);
        TAKE(2, u32, io_connect_addr_len);
    } else if (op == OP_SENDMSG || op == OP_RECVMSG) {
        TAKE(1, u64, io_sr_msg_umsg);
    } else if (op == OP_SEND || op == OP_RECV) {
        TAKE(1, u64, io_sr_msg_buf);
        TAKE(2, u32, io_sr_msg_len);
    } else if (op == OP_READ || op == OP_WRITE || op == OP_READV || op == OP_WRITEV) {
        TAKE(1, u64, io_rw_addr);
        TAKE(2, u32, io_rw_len);
    } else if (op == OP_ACCEPT) {
        TAKE(3, u32, io_accept_flags);
    } else if (op == OP_SHUTDOWN) {
        TAKE(1, u32, io_shutdown_how);
    } else if (op == OP_LISTEN) {
#ifdef OFF_io_listen_backlog
        TAKE(1, u32, io_listen_backlog);
#endif
    } else if (op == OP_BIND) {
#ifdef OFF_io_bind_addr_len
        TAKE(2, u32, io_bind_addr_len);
#endif
    }
}

/* The address that a message is sent to, or a socket bound to, where the kernel has copied it. */
static __always_inline u64 copied_address(struct scratch *s, u64 req, u32 op)
{
    u64 async = 0, address = 0;
    u32 size = 0;
    READ(async, req, io_kiocb_async_data);
#ifdef OFF_io_async_msghdr_addr
    if (async && op == OP_BIND)
        return AT(async, io_async_msghdr_addr);
#endif
#ifdef OFF_io_async_msghdr_msg_msg_name
    if (async && op == OP_SEND) {
        READ(address, async, io_async_msghdr_msg_msg_name);
        READ(size, async, io_async_msghdr_msg_msg_namelen);
        s->v[5] = size;
        return address;
    }
#endif
    return 0;
}

static __always_inline void put_copied_bytes(struct scratch *s, struct text *text, u64 address)
{
    u64 size = opaque((u32)s->v[text->size & 15]), at = opaque(s->at);
    u16 n = ABSENT;
    if (!text->kind)
        return;
    if (size > 128)
        size = 128;
    if (at <= ROOM && !bpf_probe_read_kernel(&s->data[at], size, (const void *)address)) {
        n = size;
        s->at = at + size;
    }
    put_u16(s, text->place, n);
}

HANDLER(uring_descriptor)
{
    struct call c = {};
    u64 req = ctx->args[0], address;
    u32 op = operation_of(req);
    struct plan *plan = plan_of(SLOT_IO_URING + op);
    if (!plan)
        return 0;
    struct scratch *s = begin_uring(plan, &c, req);
    if (!s)
        return 0;
    struct block_fd *e = (struct block_fd *)s->data;
    take_descriptor(s, req, op);
    if (plan->message != NOTHING)
        read_message(s, s->v[plan->message & 15], &c, 0);
    else if (plan->vector != NOTHING)
        read_vector(s, s->v[plan->vector & 15], s->v[(plan->vector + 1) & 15], -1);
    put_steps(s, plan, &c, true);
    put_text_of(s, &plan->texts[0], &c, false, true);
    put_text_of(s, &plan->texts[1], &c, false, true);
    PUT_FD_FACTS(s->v[plan->fd & 15]);
    address = copied_address(s, req, op);
    if (address)
        put_copied_bytes(s, &plan->texts[2], address);
    else
        put_text_of(s, &plan->texts[2], &c, false, true);
    DONE();
}

#endif
