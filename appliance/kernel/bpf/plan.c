/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Calls whose record a table can describe: most of them. One program for each kind of record, and a plan for each call
 * (kernel/plan.py makes it of the event's row) that says which argument goes where.
 *
 * First the values of fixed size, then texts and bytes in table order, each behind the other.
 */

#define STEPS 9
#define TEXTS 4
#define BASES 2
#define PLACE_MAX 480 /* nothing of fixed size lies behind it */
#define NOTHING 255

#define V_VEC 6
#define V_VEC_SIZE 7
#define V_NAME 8
#define V_NAME_SIZE 9
#define V_CONTROL 10
#define V_CONTROL_SIZE 11
#define V_RESULT 12
#define V_NUMBER 13
#define V_ZERO 14
#define V_MOVED 15 /* bytes that a call with a vector moved, negative where it failed */

/* where a value is */
#define STEP_VALUE 1  /* in the argument */
#define STEP_AT 2     /* `offset` bytes behind the argument, a pointer */
#define STEP_LONG 3   /* the `offset`-th long there */
#define STEP_SOCK 4   /* in struct sock of the socket whose descriptor the argument is */
#define STEP_MEMORY 5 /* the process's memory, the part that `offset` says (process.c) */

#define TEXT_TEXT 1
#define TEXT_BYTES 2    /* as many as v[size] says */
#define TEXT_BYTES_AT 3 /* as many as the u32 says that v[size] points to */
#define TEXT_PIECES 4   /* the pieces of a struct iovec, v[size] of them, one behind the other */
#define PIECES_MAX 4    /* of them that are looked at */

#define FLAG_OUT 1      /* written by the kernel: nothing where the call failed */
#define FLAG_SHORT_ID 2 /* a user or group of 16 bits; 65535 means -1 */

struct step {
    u16 place;
    u8 from;
    u8 kind;
    u8 width;
    u8 flags;
    u16 offset;
    u32 mask;
    u32 when; /* with `only`: the values of that argument, a bit each, where this one is used */
    u8 only;  /* the argument's place and one more */
};

struct text {
    u16 place; /* of its length */
    u8 from;
    u8 kind;
    u8 size;
    u8 flags;
    u16 most;
    u8 only;
    u32 when;
};

struct base {
    u16 place;
    u8 from; /* the folder's descriptor; NOTHING: the working directory */
    u8 text;
};

struct plan {
    u16 type;
    u16 size;
    u8 fd; /* the descriptor that the event is about */
    u8 vector;
    u8 message;
    u8 several; /* messages: the result is their number */
    struct step steps[STEPS];
    struct text texts[TEXTS];
    struct base bases[BASES];
};

BPF_ARRAY(plans, struct plan, SLOTS);

/* Two longs of user space, as the caller's kind of program has them. */
static __always_inline void read_longs(u64 *first, u64 *second, u64 ptr, u32 via)
{
    u64 wide[2] = {};
    if (via == VIA_SYSCALL) {
        bpf_probe_read_user(wide, sizeof(wide), (const void *)ptr);
        *first = wide[0];
        *second = wide[1];
    } else {
        bpf_probe_read_user(wide, 8, (const void *)ptr);
        *first = (u32)wide[0];
        *second = wide[0] >> 32;
    }
}

/* 1 where the call uses an argument, by what another one is, else 0. Without a branch, as the verifier follows each one to
 * the end of the program; kernel/plan.py sets all bits of `when` where the argument is always used. */
static __always_inline u64 used(struct scratch *s, u8 only, u32 when)
{
    u64 value = (u32)s->v[(only - 1) & 15];
    u64 beyond = (31 - value) >> 63;
    return opaque(when >> ((value | (0 - beyond)) & 31) & 1);
}

/* A struct iovec: `number` pieces. Of what a call that succeeded did not move (`moved`) nothing is told. */
static __always_inline void read_vector(struct scratch *s, u64 ptr, u64 number, s64 moved)
{
    s->v[V_VEC] = ptr;
    s->v[V_VEC_SIZE] = number;
    s->v[V_MOVED] = moved;
}

/* The pieces, one behind the other; gives their length, ABSENT where none can be read. Unrolled, as kernels before 6.8 take
 * a loop only if its last instruction is a jump, and few, as the verifier follows each. */
static __always_inline u16 put_pieces(struct scratch *s, struct text *text, struct call *c)
{
    u64 ptr = s->v[V_VEC], number = s->v[V_VEC_SIZE], start = s->at;
    u64 wide = c->via == VIA_SYSCALL ? 16 : 8;
    u64 rest = text->most;
    s64 moved = s->v[V_MOVED];
    if (moved >= 0 && moved < rest)
        rest = moved;
    if (!ptr)
        return ABSENT;
#pragma clang loop unroll(full)
    for (int i = 0; i < PIECES_MAX; i++) {
        u64 base = 0, size = 0, at;
        if (i >= number)
            break;
        read_longs(&base, &size, ptr + i * wide, c->via);
        if (size > rest)
            size = rest;
        size = opaque(size);
        if (size > 128)
            size = 128;
        at = opaque(s->at);
        if (at > ROOM || bpf_probe_read_user(&s->data[at], size, (const void *)base))
            return i ? s->at - start : ABSENT;
        s->at = at + size;
        rest = opaque(rest - size);
    }
    return s->at - start;
}

/* struct msghdr: name, its length, pieces, their number, control data, its length, flags; behind it, in a struct mmsghdr,
 * what was moved. */
static __always_inline void read_message(struct scratch *s, u64 ptr, struct call *c, u8 several)
{
    s64 moved = c->res;
    u64 name = 0, name_size = 0, pieces = 0, number = 0, control = 0, control_size = 0;
    u64 wide = c->via == VIA_SYSCALL ? 16 : 8;
    read_longs(&name, &name_size, ptr, c->via);
    read_longs(&pieces, &number, ptr + wide, c->via);
    read_longs(&control, &control_size, ptr + 2 * wide, c->via);
    s->v[V_NAME] = name;
    s->v[V_NAME_SIZE] = (u32)name_size;
    s->v[V_CONTROL] = control;
    s->v[V_CONTROL_SIZE] = control_size;
    if (several && moved > 0) {
        u32 told = 0;
        bpf_probe_read_user(&told, sizeof(told), (const void *)(ptr + 3 * wide + wide / 2));
        moved = told;
    }
    read_vector(s, pieces, number, moved);
}

/* Write a value of the record. The bound is looked at here, at the store: before 6.8 the verifier forgets it on the way
 * through the stack. */
static __always_inline void put_u16(struct scratch *s, u16 place, u16 value)
{
    u64 at = opaque(place);
    if (at <= PLACE_MAX)
        *(u16 *)&s->data[at] = value;
}

static __always_inline void put_u32(struct scratch *s, u16 place, u32 value)
{
    u64 at = opaque(place);
    if (at <= PLACE_MAX)
        *(u32 *)&s->data[at] = value;
}

static __always_inline void put_u64(struct scratch *s, u16 place, u64 value)
{
    u64 at = opaque(place);
    if (at <= PLACE_MAX)
        *(u64 *)&s->data[at] = value;
}

static __always_inline void put_steps(struct scratch *s, struct plan *plan, struct call *c, bool sockets)
{
#pragma clang loop unroll(disable)
    for (int i = 0; i < STEPS; i++) {
        struct step *step = &plan->steps[i];
        u64 value = s->v[step->from & 15];
        u64 ptr = value + step->offset;
        if (!step->kind)
            break;
        if (step->flags & FLAG_OUT && c->res < 0) {
            value = -1;
        } else if (step->kind == STEP_AT) {
            value = 0;
            if (step->width == 8)
                bpf_probe_read_user(&value, 8, (const void *)ptr);
            else if (step->width == 4)
                bpf_probe_read_user(&value, 4, (const void *)ptr);
            else
                bpf_probe_read_user(&value, 2, (const void *)ptr);
        } else if (step->kind == STEP_LONG) {
            ptr = value;
            value = 0;
            if (c->via == VIA_SYSCALL)
                bpf_probe_read_user(&value, 8, (const void *)(ptr + 8 * step->offset));
            else
                bpf_probe_read_user(&value, 4, (const void *)(ptr + 4 * step->offset));
        } else if (step->kind == STEP_MEMORY) {
            u64 mm = 0;
            READ(mm, this_task(), task_struct_mm);
            value = memory_of(mm, step->offset);
        } else if (sockets && step->kind == STEP_SOCK) {
            u64 file = file_of(value), sk = file ? sock_of(file) : 0;
            value = 0;
            if (sk)
                bpf_probe_read_kernel(&value, 4, (const void *)(sk + step->offset));
        }
        if (step->flags & FLAG_SHORT_ID)
            value = (u16)value == 0xffff ? 0xffffffff : (u16)value;
        value &= 0 - used(s, step->only, step->when);
        if (step->width == 8)
            put_u64(s, step->place, value);
        else if (step->width == 4)
            put_u32(s, step->place, value & step->mask);
        else
            put_u16(s, step->place, value);
    }
}

/* Gives the text's length, ABSENT where there is none. With `copied` texts are the kernel's copies. */
static __always_inline u16 put_text_of(struct scratch *s, struct text *text, struct call *c, bool copied, bool pieces)
{
    u64 ptr = s->v[text->from & 15];
    u16 n = ABSENT;
    if (!text->kind)
        return ABSENT;
    u64 failed = (u64)(s64)c->res >> 63 & text->flags & FLAG_OUT;
    if (failed | (used(s, text->only, text->when) ^ 1)) {
        n = ABSENT;
    } else if (pieces && text->kind == TEXT_PIECES) {
        n = put_pieces(s, text, c);
    } else if (text->kind == TEXT_TEXT) {
        n = copied ? put_kernel_text(s, ptr) : put_user_text(s, ptr);
    } else {
        u64 at, size = s->v[text->size & 15];
        if (text->kind == TEXT_BYTES_AT) {
            u32 told = 0;
            bpf_probe_read_user(&told, sizeof(told), (const void *)size);
            size = told;
        }
        if ((s64)size < 0)
            size = 0;
        if (size > text->most)
            size = text->most;
        size = opaque(size);
        if (size > 128)
            size = 128;
        at = opaque(s->at);
        if (ptr && at <= ROOM && !bpf_probe_read_user(&s->data[at], size, (const void *)ptr)) {
            n = size;
            s->at = at + size;
        }
    }
    put_u16(s, text->place, n);
    return n;
}

static __always_inline u16 put_text(struct scratch *s, struct text *text, struct call *c)
{
    return put_text_of(s, text, c, false, false);
}

static __always_inline void put_plan_base(struct scratch *s, struct base *base, u64 *starts, u16 *sizes)
{
    s32 folder = base->from == NOTHING ? AT_FDCWD_ : (s32)s->v[base->from & 15];
    u64 start = base->text == 0 ? starts[0] : base->text == 1 ? starts[1] : starts[2];
    u16 size = base->text == 0 ? sizes[0] : base->text == 1 ? sizes[1] : sizes[2];
    if (base->place)
        put_u16(s, base->place, put_base(s, folder, start, size));
}

static __always_inline struct plan *plan_of(u32 slot)
{
    return plans.lookup(&slot);
}

/* Begin a record as the plan has it, with the arguments in `v`. */
static __always_inline struct scratch *begin_planned(struct plan *plan, struct call *c)
{
    struct scratch *s = begin(plan->type, plan->size, c->res);
    if (!s)
        return NULL;
    ((struct head *)s->data)->via = c->via;
    s->v[0] = ARG(*c, 0);
    s->v[1] = ARG(*c, 1);
    s->v[2] = ARG(*c, 2);
    s->v[3] = ARG(*c, 3);
    s->v[4] = ARG(*c, 4);
    s->v[5] = ARG(*c, 5);
    s->v[V_RESULT] = c->res;
    s->v[V_NUMBER] = c->slot & 511;
    s->v[V_ZERO] = 0;
    return s;
}

/* Begin a program of this file: declares `c`, `plan` and `s`, or returns. */
#define PLANNED()                               \
    struct call c;                              \
    read_call(&c, ctx->args[0], ctx->args[1]);  \
    struct plan *plan = plan_of(c.slot);        \
    if (!plan)                                  \
        return 0;                               \
    struct scratch *s = begin_planned(plan, &c); \
    if (!s)                                     \
        return 0

/* Values only. */
HANDLER(registers)
{
    PLANNED();
    put_steps(s, plan, &c, false);
    DONE();
}

/* Values and the process's rights after the call. */
HANDLER(identity)
{
    PLANNED();
    struct block_cred *e = (struct block_cred *)s->data;
    put_steps(s, plan, &c, false);
    PUT_CREDENTIALS();
    DONE();
}

/* Values, texts, and the folders that these are relative to. */
HANDLER(paths)
{
    PLANNED();
    u64 starts[3];
    u16 sizes[3];
    put_steps(s, plan, &c, false);
    starts[0] = s->at;
    sizes[0] = put_text(s, &plan->texts[0], &c);
    starts[1] = s->at;
    sizes[1] = put_text(s, &plan->texts[1], &c);
    starts[2] = s->at;
    sizes[2] = put_text(s, &plan->texts[2], &c);
    put_text(s, &plan->texts[3], &c);
    put_plan_base(s, &plan->bases[0], starts, sizes);
    put_plan_base(s, &plan->bases[1], starts, sizes);
    DONE();
}

/* Values, bytes, what the descriptor is, and what the caller says of it. */
HANDLER(descriptor)
{
    PLANNED();
    struct block_fd *e = (struct block_fd *)s->data;
    if (plan->message != NOTHING)
        read_message(s, s->v[plan->message & 15], &c, plan->several);
    else if (plan->vector != NOTHING)
        read_vector(s, s->v[plan->vector & 15], s->v[(plan->vector + 1) & 15], c.res);
    put_steps(s, plan, &c, true);
    put_text_of(s, &plan->texts[0], &c, false, true);
    put_text_of(s, &plan->texts[1], &c, false, true);
    PUT_FD_FACTS(s->v[plan->fd & 15]);
    put_text_of(s, &plan->texts[2], &c, false, true);
    DONE();
}
