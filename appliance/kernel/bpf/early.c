/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Files opened by path, where the kernel filters: as in open.c, but the name is put first, for most opens are dropped once
 * it is known. */

HANDLER(open)
{
    CALL(OPEN, open);
    e->flags = ARG(c, 1) & O_ASKED_;
    e->mode = e->flags & (O_CREAT_ | O_TMPFILE_) ? MODE_OF(ARG(c, 2)) : 0;
    e->len_name = put_user_text(s, ARG(c, 0));
    DROP_EARLY(e->flags);
    e->len_base = put_base(s, AT_FDCWD_, sizeof(*e), e->len_name);
    e->flags |= PUT_OPENED();
    PUT_REAL(OPEN);
    DONE();
}

HANDLER(openat)
{
    CALL(OPENAT, openat);
    e->dirfd = ARG(c, 0);
    e->flags = ARG(c, 2) & O_ASKED_;
    e->mode = e->flags & (O_CREAT_ | O_TMPFILE_) ? MODE_OF(ARG(c, 3)) : 0;
    e->len_name = put_user_text(s, ARG(c, 1));
    DROP_EARLY(e->flags);
    e->len_base = put_base(s, e->dirfd, sizeof(*e), e->len_name);
    e->flags |= PUT_OPENED();
    PUT_REAL(OPENAT);
    DONE();
}

HANDLER(openat2)
{
    struct {
        u64 flags;
        u64 mode;
        u64 resolve;
    } how = {};
    CALL(OPENAT2, openat2);
    bpf_probe_read_user(&how, sizeof(how), (const void *)ARG(c, 2)); /* struct open_how, first version */
    e->dirfd = ARG(c, 0);
    e->flags = how.flags & O_ASKED_;
    e->mode = MODE_OF(how.mode);
    e->resolve = how.resolve;
    e->len_name = put_user_text(s, ARG(c, 1));
    DROP_EARLY(e->flags);
    e->len_base = put_base(s, e->dirfd, sizeof(*e), e->len_name);
    e->flags |= PUT_OPENED();
    PUT_REAL(OPENAT2);
    DONE();
}

HANDLER(creat)
{
    CALL(CREAT, creat);
    e->mode = MODE_OF(ARG(c, 1));
    e->len_name = put_user_text(s, ARG(c, 0));
    DROP_EARLY(OPEN_OF_CREAT);
    e->len_base = put_base(s, AT_FDCWD_, sizeof(*e), e->len_name);
    e->creat_flags = PUT_OPENED() & ~O_F_CREATED_;
    PUT_REAL(CREAT);
    DONE();
}
