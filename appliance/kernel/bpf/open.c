/* Files opened by path. */

#define O_CREAT_ 0100
#define O_TMPFILE_ 020000000
#define O_ASKED_ 0x0fffffff /* above: what came of it (catalog/params.py, OPEN_FLAGS) */
#define LAYER_SHIFT 28
#define O_F_CREATED_ (1u << 30)

/* The inode that was opened, zeros where the call failed. Gives the flags that tell what came of it. */
#define PUT_OPENED()                                                                           \
    ({                                                                                         \
        u64 file_ = file_of(c.res);                                                            \
        struct fd_facts f_ = {};                                                               \
        if (file_)                                                                             \
            get_file_facts(file_, &f_);                                                        \
        e->dev = f_.dev;                                                                       \
        e->ino = f_.ino;                                                                       \
        (f_.flags & (FD_UPPER_LAYER | FD_LOWER_LAYER)) << LAYER_SHIFT |                        \
            (f_.flags & FD_CREATED ? O_F_CREATED_ : 0);                                        \
    })

HANDLER(open)
{
    CALL(OPEN, open);
    e->flags = (ARG(c, 1) & O_ASKED_) | PUT_OPENED();
    e->mode = e->flags & (O_CREAT_ | O_TMPFILE_) ? MODE_OF(ARG(c, 2)) : 0;
    PUT_PATH(name, base, ARG(c, 0), AT_FDCWD_);
    DONE();
}

HANDLER(openat)
{
    CALL(OPENAT, openat);
    e->dirfd = ARG(c, 0);
    e->flags = (ARG(c, 2) & O_ASKED_) | PUT_OPENED();
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
    e->flags = (how.flags & O_ASKED_) | PUT_OPENED();
    e->mode = MODE_OF(how.mode);
    e->resolve = how.resolve;
    PUT_PATH(name, base, ARG(c, 1), e->dirfd);
    DONE();
}

HANDLER(creat)
{
    CALL(CREAT, creat);
    e->mode = MODE_OF(ARG(c, 1));
    e->creat_flags = PUT_OPENED() & ~O_F_CREATED_;
    PUT_PATH(name, base, ARG(c, 0), AT_FDCWD_);
    DONE();
}
