/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The working directory changed. */

HANDLER(chdir)
{
    CALL(CHDIR, chdir);
    u64 start = s->at;
    e->len_path = put_user_text(s, ARG(c, 0));
    e->len_cwd = put_cwd(s);
    /* after a success the working directory is the new one: what the path was relative to is gone */
    e->len_base = c.res < 0 ? put_base(s, AT_FDCWD_, start, e->len_path) : 0;
    DONE();
}

HANDLER(fchdir)
{
    CALL(FCHDIR, fchdir);
    e->fd = ARG(c, 0);
    e->len_cwd = put_cwd(s);
    DONE();
}
