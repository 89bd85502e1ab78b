/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Files opened by path. */

#define O_CREAT_ 0100
#define O_TMPFILE_ 020000000
#define O_ASKED_ 0x0fffffff /* above: what came of it (catalog/params.py, OPEN_FLAGS) */
#define LAYER_SHIFT 28
#define O_F_CREATED_ (1u << 30)

#define FILE_FIRST LESS(OFF_file_f_inode, OFF_file_f_mode)
#define FILE_LAST MORE(OFF_file_f_inode, OFF_file_f_mode)
#define INODE_FIRST LESS(OFF_inode_i_ino, OFF_inode_i_sb)
#define INODE_LAST MORE(OFF_inode_i_ino, OFF_inode_i_sb)
#define SB_FIRST LESS(OFF_super_block_s_dev, OFF_super_block_s_magic)
#define SB_LAST MORE(OFF_super_block_s_dev, OFF_super_block_s_magic)

/* What an open needs of `get_file_facts`, in three reads: opens are the most frequent of what is heard. */
static __always_inline void get_opened(struct scratch *s, u64 file, struct fd_facts *f)
{
#if FITS(FILE_FIRST, FILE_LAST) && FITS(INODE_FIRST, INODE_LAST) && FITS(SB_FIRST, SB_LAST)
    READ_BLOCK(s, file, FILE_FIRST, FILE_LAST);
    u64 inode = IN_BLOCK(u64, s, FILE_FIRST, file_f_inode);
    u32 f_mode = IN_BLOCK(u32, s, FILE_FIRST, file_f_mode);
    READ_BLOCK(s, inode, INODE_FIRST, INODE_LAST);
    f->ino = IN_BLOCK(u64, s, INODE_FIRST, inode_i_ino);
    u64 sb = IN_BLOCK(u64, s, INODE_FIRST, inode_i_sb);
    READ_BLOCK(s, sb, SB_FIRST, SB_LAST);
    f->dev = encoded(IN_BLOCK(u32, s, SB_FIRST, super_block_s_dev));
    f->flags = layer_of(inode, IN_BLOCK(u64, s, SB_FIRST, super_block_s_magic));
    if (f_mode & FMODE_CREATED_)
        f->flags |= FD_CREATED;
#else
    get_file_facts(file, f);
#endif
}

/* The inode that was opened, zeros where the call failed. Gives the flags that tell what came of it. */
#define PUT_OPENED()                                                                           \
    ({                                                                                         \
        u64 file_ = file_of(c.res);                                                            \
        struct fd_facts f_ = {};                                                               \
        if (file_)                                                                             \
            get_opened(s, file_, &f_);                                                         \
        e->dev = f_.dev;                                                                       \
        e->ino = f_.ino;                                                                       \
        (f_.flags & (FD_UPPER_LAYER | FD_LOWER_LAYER)) << LAYER_SHIFT |                        \
            (f_.flags & FD_CREATED ? O_F_CREATED_ : 0);                                        \
    })

/* Where the opened file lies, links followed: behind the name and its folder. */
#define PUT_REAL(NAME)                                                                         \
    do {                                                                                       \
        e->len_real = 0;                                                                       \
        if (kind_of(T_##NAME) & KIND_REAL) {                                                   \
            u64 opened_ = file_of(c.res);                                                      \
            if (opened_)                                                                       \
                e->len_real = put_path_at(s, AT(opened_, file_f_path));                        \
        }                                                                                      \
    } while (0)

#ifndef EARLY /* else early.c has them */
HANDLER(open)
{
    CALL(OPEN, open);
    e->flags = (ARG(c, 1) & O_ASKED_) | PUT_OPENED();
    e->mode = e->flags & (O_CREAT_ | O_TMPFILE_) ? MODE_OF(ARG(c, 2)) : 0;
    PUT_PATH(name, base, ARG(c, 0), AT_FDCWD_);
    PUT_REAL(OPEN);
    DONE();
}

HANDLER(openat)
{
    CALL(OPENAT, openat);
    e->dirfd = ARG(c, 0);
    e->flags = (ARG(c, 2) & O_ASKED_) | PUT_OPENED();
    e->mode = e->flags & (O_CREAT_ | O_TMPFILE_) ? MODE_OF(ARG(c, 3)) : 0;
    PUT_PATH(name, base, ARG(c, 1), e->dirfd);
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
    e->flags = (how.flags & O_ASKED_) | PUT_OPENED();
    e->mode = MODE_OF(how.mode);
    e->resolve = how.resolve;
    PUT_PATH(name, base, ARG(c, 1), e->dirfd);
    PUT_REAL(OPENAT2);
    DONE();
}

HANDLER(creat)
{
    CALL(CREAT, creat);
    e->mode = MODE_OF(ARG(c, 1));
    e->creat_flags = PUT_OPENED() & ~O_F_CREATED_;
    PUT_PATH(name, base, ARG(c, 0), AT_FDCWD_);
    PUT_REAL(CREAT);
    DONE();
}
#endif
