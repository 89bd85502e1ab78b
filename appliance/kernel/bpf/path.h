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

/* Append the path of (dentry, vfsmount); gives its length in bytes. `struct mount` holds the vfsmount within. */
static __always_inline u16 put_path_within(struct scratch *s, u64 dentry, u64 vfsmount, const int depth)
{
    u64 start = s->at;
    u64 fs = 0, root_dentry = 0, root_mnt = 0, mnt_root = 0;
    u64 mount = vfsmount - OFF_mount_mnt;
    int done = 0;

    if (!dentry || !vfsmount)
        return ABSENT;
    READ(fs, this_task(), task_struct_fs);
    if (fs) {
        READ(root_dentry, AT(fs, fs_struct_root), path_dentry);
        READ(root_mnt, AT(fs, fs_struct_root), path_mnt);
    }
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
        READ(parent, dentry, dentry_d_parent);
        READ(name, dentry, dentry_d_name_name);
        if (!put_name(s, name))
            break;
        if (!parent || parent == dentry) { /* not below a mount: a pipe, a memfd */
            done = 1;
            break;
        }
        dentry = parent;
    }
    if (!done)
        put_byte(s, 0);
    else if (s->at == start) {
        put_byte(s, '/');
        put_byte(s, 0);
    }
    return s->at - start;
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
    u64 fs = 0;
    READ(fs, this_task(), task_struct_fs);
    return fs ? put_path_at(s, AT(fs, fs_struct_pwd)) : ABSENT;
}

/* The open file behind a descriptor of this process, 0 where there is none. */
static __always_inline u64 file_of(s32 fd)
{
    u64 files = 0, table = 0, array = 0, file = 0;
    u32 max = 0;
    if (fd < 0)
        return 0;
    READ(files, this_task(), task_struct_files);
    if (!files)
        return 0;
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
    u64 file, fs = 0, path;
    start = opaque(start);
    if (len == ABSENT || start > ROOM)
        return 0;
    if (len && s->data[start] == '/')
        return 0;
    if (dirfd == AT_FDCWD_) {
        READ(fs, this_task(), task_struct_fs);
        if (!fs)
            return ABSENT;
        path = AT(fs, fs_struct_pwd);
    } else {
        file = file_of(dirfd);
        if (!file)
            return ABSENT;
        path = AT(file, file_f_path);
    }
    return put_path_at(s, path);
}
