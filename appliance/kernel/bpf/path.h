/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Paths as the kernel knows them: from a dentry up to the root of the process, names from leaf to root, each with its
 * NUL (see kernel/decode.py, dir_path). The root itself is "/"; an empty last name says that the walk was cut.
 */
#pragma once

/* Append one NUL-terminated name; 0 when there is no room. */
static __always_inline int put_name(struct scratch *s, u64 name)
{
    u64 at = opaque(s->at);
    if (at > ROOM)
        return 0;
    long n = bpf_probe_read_kernel_str(&s->data[at], NAME_SIZE, (const void *)name);
    if (n <= 0)
        return 0;
    s->at = at + n;
    return 1;
}

static __always_inline void put_byte(struct scratch *s, u8 byte)
{
    u64 at = opaque(s->at);
    if (at > ROOM)
        return;
    s->data[at] = byte;
    s->at = at + 1;
}

#define DENTRY_FIRST LESS(OFF_dentry_d_parent, OFF_dentry_d_name_name)
#define DENTRY_LAST MORE(OFF_dentry_d_parent, OFF_dentry_d_name_name)

/* The root or the working directory of the running task, by its place in struct fs_struct; zeros where there is none.
 * By way of the scratch record: the verifier forgets what it knows of them, and walks the loops over paths once. */
static __always_inline void get_own_path(struct scratch *s, const int place, u64 *dentry, u64 *mnt)
{
    volatile u64 *found = s->block;
    u64 fs = 0;
    GET_OWN(fs, task_struct_fs);
    found[0] = 0;
    found[1] = 0;
    if (fs) {
#ifdef HAVE_TYPED_TASK
        found[0] = LOAD(64, fs, place + OFF_path_dentry);
        found[1] = LOAD(64, fs, place + OFF_path_mnt);
#else
        READ(s->block[0], fs + place, path_dentry);
        READ(s->block[1], fs + place, path_mnt);
#endif
    }
    *dentry = found[0];
    *mnt = found[1];
}

/* End a path that was put name by name from its leaf: an empty last name says that the walk was cut, the root by itself is
 * the one name "/". Gives the path's length in bytes. */
static __always_inline u16 end_path(struct scratch *s, u64 start, int done)
{
    if (!done)
        put_byte(s, 0);
    else if (s->at == start) {
        put_byte(s, '/');
        put_byte(s, 0);
    }
    return s->at - start;
}

/* Append the path of (dentry, vfsmount); gives its length in bytes. `struct mount` holds the vfsmount within. */
static __always_inline u16 put_path_within(struct scratch *s, u64 dentry, u64 vfsmount, const int depth)
{
    u64 start = s->at;
    u64 root_dentry = 0, root_mnt = 0, mnt_root = 0;
    u64 mount = vfsmount - OFF_mount_mnt;
    int done = 0;

    if (!dentry || !vfsmount)
        return ABSENT;
    get_own_path(s, OFF_fs_struct_root, &root_dentry, &root_mnt);
    READ(mnt_root, vfsmount, vfsmount_mnt_root);
#pragma clang loop unroll(disable)
    for (int i = 0; i < depth; i++) {
        u64 parent = 0, name = 0;
        if (dentry == root_dentry && vfsmount == root_mnt) {
            done = 1;
            break;
        }
        if (dentry == mnt_root) {
            u64 parent_mount = 0;
            READ(parent_mount, mount, mount_mnt_parent);
            if (!parent_mount || parent_mount == mount) { /* the namespace's own root */
                done = 1;
                break;
            }
            READ(dentry, mount, mount_mnt_mountpoint);
            mount = parent_mount;
            vfsmount = AT(mount, mount_mnt);
            READ(mnt_root, vfsmount, vfsmount_mnt_root);
            continue;
        }
#if FITS(DENTRY_FIRST, DENTRY_LAST)
        READ_BLOCK(s, dentry, DENTRY_FIRST, DENTRY_LAST);
        parent = IN_BLOCK(u64, s, DENTRY_FIRST, dentry_d_parent);
        name = IN_BLOCK(u64, s, DENTRY_FIRST, dentry_d_name_name);
#else
        READ(parent, dentry, dentry_d_parent);
        READ(name, dentry, dentry_d_name_name);
#endif
        if (!put_name(s, name))
            break;
        if (!parent || parent == dentry) { /* not below a mount: a pipe, a memfd */
            done = 1;
            break;
        }
        dentry = parent;
    }
    return end_path(s, start, done);
}

static __always_inline u16 put_path(struct scratch *s, u64 dentry, u64 vfsmount)
{
    return put_path_within(s, dentry, vfsmount, DEPTH_MAX);
}

static __always_inline u16 put_path_at(struct scratch *s, u64 path)
{
    u64 dentry = 0, mnt = 0;
    READ(dentry, path, path_dentry);
    READ(mnt, path, path_mnt);
    return put_path(s, dentry, mnt);
}

static __always_inline u16 put_cwd(struct scratch *s)
{
    u64 dentry = 0, mnt = 0;
    get_own_path(s, OFF_fs_struct_pwd, &dentry, &mnt);
    return put_path(s, dentry, mnt);
}

/* The open file behind a descriptor of this process, 0 where there is none. */
static __always_inline u64 file_of(s32 fd)
{
    u64 files = 0, table = 0, array = 0, file = 0;
    u32 max = 0;
    if (fd < 0)
        return 0;
    GET_OWN(files, task_struct_files);
    if (!files)
        return 0;
#ifdef HAVE_TYPED_TASK
    table = LOAD(64, files, OFF_files_struct_fdt);
    if (!table) /* never; but the verifier may ask */
        return 0;
    max = LOAD(32, table, OFF_fdtable_max_fds);
    array = LOAD(64, table, OFF_fdtable_fd);
#else
    READ(table, files, files_struct_fdt);
#if OFF_fdtable_fd == OFF_fdtable_max_fds + 8
    u64 both[2] = {};
    bpf_probe_read_kernel(both, sizeof(both), (const void *)AT(table, fdtable_max_fds));
    max = both[0];
    array = both[1];
#else
    READ(max, table, fdtable_max_fds);
    READ(array, table, fdtable_fd);
#endif
#endif
    if ((u32)fd >= max)
        return 0;
    bpf_probe_read_kernel(&file, sizeof(file), (const void *)(array + 8 * (u64)(u32)fd));
    return file;
}

#define AT_FDCWD_ (-100)

/* The folder that a relative path begins at. `start` is where the path's text was put, `len` its length:
 * an absolute path needs none and gives 0. */
static __always_inline u16 put_base(struct scratch *s, s32 dirfd, u64 start, u16 len)
{
    u64 file, dentry = 0, mnt = 0;
    start = opaque(start);
    if (len == ABSENT || start > ROOM)
        return 0;
    if (len && s->data[start] == '/')
        return 0;
    if (dirfd == AT_FDCWD_) {
        get_own_path(s, OFF_fs_struct_pwd, &dentry, &mnt);
    } else {
        file = file_of(dirfd);
        if (!file)
            return ABSENT;
        READ(dentry, AT(file, file_f_path), path_dentry);
        READ(mnt, AT(file, file_f_path), path_mnt);
    }
    return put_path(s, dentry, mnt);
}
