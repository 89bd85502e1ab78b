/* Files opened by path. */

#define O_CREAT_ 0100
#define O_TMPFILE_ 020000000

HANDLER(open)
{
    CALL(OPEN, open);
    e->flags = ARG(c, 1);
    e->mode = e->flags & (O_CREAT_ | O_TMPFILE_) ? MODE_OF(ARG(c, 2)) : 0;
    PUT_PATH(name, base, ARG(c, 0), AT_FDCWD_);
    DONE();
}

HANDLER(openat)
{
    CALL(OPENAT, openat);
    e->dirfd = ARG(c, 0);
    e->flags = ARG(c, 2);
    e->mode = e->flags & (O_CREAT_ | O_TMPFILE_) ? MODE_OF(ARG(c, 3)) : 0;
    PUT_PATH(name, base, ARG(c, 1), e->dirfd);
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
    e->flags = how.flags;
    e->mode = MODE_OF(how.mode);
    e->resolve = how.resolve;
    PUT_PATH(name, base, ARG(c, 1), e->dirfd);
    DONE();
}

HANDLER(creat)
{
    CALL(CREAT, creat);
    e->mode = MODE_OF(ARG(c, 1));
    PUT_PATH(name, base, ARG(c, 0), AT_FDCWD_);
    DONE();
}
