/* Mode and owner of files. */

HANDLER(chmod)
{
    CALL(CHMOD, chmod);
    e->mode = MODE_OF(ARG(c, 1));
    PUT_PATH(filename, base, ARG(c, 0), AT_FDCWD_);
    DONE();
}

HANDLER(fchmod)
{
    CALL(FCHMOD, fchmod);
    e->fd = ARG(c, 0);
    e->mode = MODE_OF(ARG(c, 1));
    PUT_FD_FACTS(e->fd);
    DONE();
}

HANDLER(fchmodat)
{
    CALL(FCHMODAT, fchmodat);
    e->dirfd = ARG(c, 0);
    e->mode = MODE_OF(ARG(c, 2));
    PUT_PATH(filename, base, ARG(c, 1), e->dirfd);
    DONE();
}

HANDLER(fchmodat2)
{
    CALL(FCHMODAT2, fchmodat2);
    e->dirfd = ARG(c, 0);
    e->mode = MODE_OF(ARG(c, 2));
    e->flags = ARG(c, 3);
    PUT_PATH(filename, base, ARG(c, 1), e->dirfd);
    DONE();
}

HANDLER(chown)
{
    CALL(CHOWN, chown);
    e->uid = ARG(c, 1);
    e->gid = ARG(c, 2);
    PUT_PATH(path, base, ARG(c, 0), AT_FDCWD_);
    DONE();
}

HANDLER(lchown)
{
    CALL(LCHOWN, lchown);
    e->uid = ARG(c, 1);
    e->gid = ARG(c, 2);
    PUT_PATH(path, base, ARG(c, 0), AT_FDCWD_);
    DONE();
}

HANDLER(fchown)
{
    CALL(FCHOWN, fchown);
    e->fd = ARG(c, 0);
    e->uid = ARG(c, 1);
    e->gid = ARG(c, 2);
    PUT_FD_FACTS(e->fd);
    DONE();
}

HANDLER(fchownat)
{
    CALL(FCHOWNAT, fchownat);
    e->dirfd = ARG(c, 0);
    e->uid = ARG(c, 2);
    e->gid = ARG(c, 3);
    e->flags = ARG(c, 4);
    PUT_PATH(pathname, base, ARG(c, 1), e->dirfd);
    DONE();
}
