/* Names made, moved and removed: unlink, rename, mkdir, link, symlink, chdir, mount. */

HANDLER(unlink)
{
    CALL(UNLINK, unlink);
    PUT_PATH(path, base, ARG(c, 0), AT_FDCWD_);
    DONE();
}

HANDLER(unlinkat)
{
    CALL(UNLINKAT, unlinkat);
    e->dirfd = ARG(c, 0);
    e->flags = ARG(c, 2);
    PUT_PATH(name, base, ARG(c, 1), e->dirfd);
    DONE();
}

HANDLER(rmdir)
{
    CALL(RMDIR, rmdir);
    PUT_PATH(path, base, ARG(c, 0), AT_FDCWD_);
    DONE();
}

HANDLER(mkdir)
{
    CALL(MKDIR, mkdir);
    e->mode = MODE_OF(ARG(c, 1));
    PUT_PATH(path, base, ARG(c, 0), AT_FDCWD_);
    DONE();
}

HANDLER(mkdirat)
{
    CALL(MKDIRAT, mkdirat);
    e->dirfd = ARG(c, 0);
    e->mode = MODE_OF(ARG(c, 2));
    PUT_PATH(path, base, ARG(c, 1), e->dirfd);
    DONE();
}

HANDLER(rename)
{
    CALL(RENAME, rename);
    PUT_TWO_PATHS(ARG(c, 0), AT_FDCWD_, ARG(c, 1), AT_FDCWD_);
    DONE();
}

HANDLER(renameat)
{
    CALL(RENAMEAT, renameat);
    e->olddirfd = ARG(c, 0);
    e->newdirfd = ARG(c, 2);
    PUT_TWO_PATHS(ARG(c, 1), e->olddirfd, ARG(c, 3), e->newdirfd);
    DONE();
}

HANDLER(renameat2)
{
    CALL(RENAMEAT2, renameat2);
    e->olddirfd = ARG(c, 0);
    e->newdirfd = ARG(c, 2);
    e->flags = ARG(c, 4);
    PUT_TWO_PATHS(ARG(c, 1), e->olddirfd, ARG(c, 3), e->newdirfd);
    DONE();
}

HANDLER(link)
{
    CALL(LINK, link);
    PUT_TWO_PATHS(ARG(c, 0), AT_FDCWD_, ARG(c, 1), AT_FDCWD_);
    DONE();
}

HANDLER(linkat)
{
    CALL(LINKAT, linkat);
    e->olddir = ARG(c, 0);
    e->newdir = ARG(c, 2);
    e->flags = ARG(c, 4);
    PUT_TWO_PATHS(ARG(c, 1), e->olddir, ARG(c, 3), e->newdir);
    DONE();
}

HANDLER(symlink)
{
    CALL(SYMLINK, symlink);
    e->len_target = put_user_text(s, ARG(c, 0));
    PUT_PATH(linkpath, base, ARG(c, 1), AT_FDCWD_);
    DONE();
}

HANDLER(symlinkat)
{
    CALL(SYMLINKAT, symlinkat);
    e->linkdirfd = ARG(c, 1);
    e->len_target = put_user_text(s, ARG(c, 0));
    PUT_PATH(linkpath, base, ARG(c, 2), e->linkdirfd);
    DONE();
}

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

HANDLER(mount)
{
    CALL(MOUNT, mount);
    e->flags = ARG(c, 3);
    e->len_dev = put_user_text(s, ARG(c, 0));
    u64 start = s->at;
    e->len_dir = put_user_text(s, ARG(c, 1));
    e->len_type = put_user_text(s, ARG(c, 2));
    e->len_base = put_base(s, AT_FDCWD_, start, e->len_dir);
    DONE();
}
