/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Waits for several descriptors: what each of them is. */

#define POLLED_MAX 8
#define POLLED_DEPTH 6 /* few files can be waited for, and these are devices; the verifier walks every step */

/* The first of the struct pollfd that a call names. */
static __always_inline u16 put_polled(struct scratch *s, u64 ptr, u64 number)
{
    u64 start = s->at;
#pragma clang loop unroll(disable)
    for (int i = 0; i < POLLED_MAX; i++) {
        struct polled p = {};
        if (i >= number || bpf_probe_read_user(&p, sizeof(p), (const void *)(ptr + i * sizeof(p))))
            break;
        put_listed(s, p, POLLED_DEPTH);
    }
    return s->at - start;
}

HANDLER(poll)
{
    CALL(POLL, poll);
    e->timeout = (s32)ARG(c, 2);
    e->len_polled = put_polled(s, ARG(c, 0), ARG(c, 1));
    DONE();
}

HANDLER(ppoll)
{
    CALL(PPOLL, ppoll);
    u64 seconds = 0, ns = 0;
    if (ARG(c, 2))
        read_longs(&seconds, &ns, ARG(c, 2), c.via);
    e->timeout_s = seconds;
    e->timeout_ns = ns;
    u32 mask = 0;
    if (ARG(c, 3))
        bpf_probe_read_user(&mask, sizeof(mask), (const void *)ARG(c, 3));
    e->sigmask = mask;
    e->len_polled = put_polled(s, ARG(c, 0), ARG(c, 1));
    DONE();
}
