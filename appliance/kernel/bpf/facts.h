/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Facts that several events carry: who the process is now, and what a descriptor is. */
#pragma once

#define PUT_CREDENTIALS()                                                    \
    do {                                                                     \
        u64 cred_ = 0;                                                       \
        READ(cred_, this_task(), task_struct_cred);                          \
        READ(e->new_uid, cred_, cred_uid);                                   \
        READ(e->new_gid, cred_, cred_gid);                                   \
        READ(e->new_suid, cred_, cred_suid);                                 \
        READ(e->new_sgid, cred_, cred_sgid);                                 \
        READ(e->new_euid, cred_, cred_euid);                                 \
        READ(e->new_egid, cred_, cred_egid);                                 \
        READ(e->cap_inheritable, cred_, cred_cap_inheritable);               \
        READ(e->cap_permitted, cred_, cred_cap_permitted);                   \
        READ(e->cap_effective, cred_, cred_cap_effective);                   \
    } while (0)

#define S_IFMT_ 0170000
#define S_IFSOCK_ 0140000
#define AF_UNIX_ 1
#define AF_INET_ 2
#define AF_INET6_ 10
#define IPPROTO_TCP_ 6
#define IPPROTO_UDP_ 17
#define TCP_CLOSE_ 7
#define TCP_LISTEN_ 10
#define SOCK_BINDADDR_LOCK_ 4
#define SOCK_BINDPORT_LOCK_ 8
#define OVERLAYFS_MAGIC_ 0x794c7630
#define FMODE_CREATED_ 0x100000

/* catalog/params.py, FD_FLAGS */
#define FD_UPPER_LAYER 1
#define FD_LOWER_LAYER 2
#define FD_PSEUDO 4
#define FD_CLIENT 8
#define FD_SERVER 16
#define FD_CREATED 32

/* All but the texts of a descriptor's facts, in table order where these are fixed (catalog/events.py, _FD_FACTS). */
struct fd_facts {
    u64 ino;
    u32 mode;
    u32 dev;
    u32 magic;
    u32 flags;
    u16 family;
    u16 type;
    u16 proto;
    u16 state;
    u16 local_port;
    u16 remote_port;
    u8 local_addr[16];
    u8 remote_addr[16];
};

static __always_inline u64 sock_of(u64 file)
{
    u64 socket = 0, sk = 0;
    READ(socket, file, file_private_data);
    if (socket)
        READ(sk, socket, socket_sk);
    return sk;
}

/* Device number as stat(2) tells it (new_encode_dev) from the kernel's own. */
static __always_inline u32 encoded(u32 dev)
{
    u32 major = dev >> 20, minor = dev & 0xfffff;
    return (minor & 0xff) | (major << 8) | ((minor & ~0xffu) << 12);
}

/* FD_UPPER_LAYER or FD_LOWER_LAYER of an overlay's inode, 0 of any other. An overlay's inode is followed by the dentry
 * of its file in the upper layer (struct ovl_inode since 4.13; overlayfs may be a module that BTF does not tell of). */
static __always_inline u32 layer_of(u64 inode, u64 magic)
{
    u64 upper = 0, upper_inode = 0;
    if (magic != OVERLAYFS_MAGIC_)
        return 0;
    bpf_probe_read_kernel(&upper, sizeof(upper), (const void *)(inode + SIZE_inode));
    if (upper)
        READ(upper_inode, upper, dentry_d_inode);
    return upper_inode ? FD_UPPER_LAYER : FD_LOWER_LAYER;
}

/* What every open file has: inode, file system, flags. Gives the inode. */
static __always_inline u64 get_file_facts(u64 file, struct fd_facts *f)
{
    u64 inode = 0, sb = 0, magic = 0, dentry = 0, parent = 0, mnt = 0, mnt_root = 0;
    u32 dev = 0, f_mode = 0;
    u16 mode = 0;
    READ(inode, file, file_f_inode);
    READ(mode, inode, inode_i_mode);
    READ(f->ino, inode, inode_i_ino);
    READ(sb, inode, inode_i_sb);
    READ(dev, sb, super_block_s_dev);
    READ(magic, sb, super_block_s_magic);
    READ(f_mode, file, file_f_mode);
    READ(dentry, AT(file, file_f_path), path_dentry);
    READ(mnt, AT(file, file_f_path), path_mnt);
    READ(parent, dentry, dentry_d_parent);
    READ(mnt_root, mnt, vfsmount_mnt_root);
    f->mode = mode;
    f->dev = encoded(dev);
    f->magic = magic;
    f->flags = layer_of(inode, magic);
    if (parent == dentry && dentry != mnt_root)
        f->flags |= FD_PSEUDO;
    if (f_mode & FMODE_CREATED_)
        f->flags |= FD_CREATED;
    return inode;
}

/* Who connected whom, as the socket itself shows it. TCP: connect(2) marks the port's bucket that it made for itself by a
 * reuse below zero (inet_hashtables.c); one that was bound is shared with the sockets accepted from it. Others: a port
 * that the program asked for is a server's, and so is an address while there is no peer. */
static __always_inline u32 role_of(u64 sk, u16 proto, u16 state, u16 remote_port)
{
#ifdef OFF_bind_bucket_fastreuse
    if (proto == IPPROTO_TCP_) {
        u64 bucket = 0;
        s8 reuse = 0;
        if (state == TCP_LISTEN_)
            return FD_SERVER;
        if (state == TCP_CLOSE_)
            return 0;
        READ(bucket, sk, sock_bind_hash);
        if (!bucket)
            return 0;
        READ(reuse, bucket, bind_bucket_fastreuse);
        return reuse < 0 ? FD_CLIENT : FD_SERVER;
    }
#endif
#ifdef OFF_sock_userlocks
    u8 locks = 0;
    READ(locks, sk, sock_userlocks);
    locks >>= SHIFT_sock_userlocks;
    if (locks & SOCK_BINDPORT_LOCK_ || (locks & SOCK_BINDADDR_LOCK_ && !remote_port))
        return FD_SERVER;
    return FD_CLIENT;
#else
    return 0;
#endif
}

static __always_inline void get_sock_facts(u64 sk, struct fd_facts *f)
{
    u16 port = 0;
    u8 state = 0;
    READ(f->family, sk, sock_family);
    READ(f->type, sk, sock_type);
    READ(f->proto, sk, sock_protocol);
    READ(state, sk, sock_state);
    f->state = state;
    if (f->family != AF_INET_ && f->family != AF_INET6_)
        return;
    READ(f->local_port, sk, sock_num);
    READ(port, sk, sock_dport);
    f->remote_port = __builtin_bswap16(port);
    f->flags |= role_of(sk, f->proto, state, f->remote_port);
    if (f->family == AF_INET_) {
        bpf_probe_read_kernel(f->local_addr, 4, (void *)AT(sk, sock_rcv_saddr));
        bpf_probe_read_kernel(f->remote_addr, 4, (void *)AT(sk, sock_daddr));
    }
#ifdef OFF_sock_v6_daddr
    if (f->family == AF_INET6_) {
        bpf_probe_read_kernel(f->local_addr, 16, (void *)AT(sk, sock_v6_rcv_saddr));
        bpf_probe_read_kernel(f->remote_addr, 16, (void *)AT(sk, sock_v6_daddr));
    }
#endif
}

#ifdef OFF_unix_sock_addr
/* The unix socket whose name tells what this one is: its own where it has one (it was bound, or accepted), else its
 * peer's; 0 where neither has. */
static __always_inline u64 named_unix(u64 sk, u32 *flags)
{
    u64 addr = 0, peer = 0;
    READ(addr, sk, unix_sock_addr);
    if (addr) {
        *flags |= FD_SERVER;
        return sk;
    }
    READ(peer, sk, unix_sock_peer);
    if (peer)
        READ(addr, peer, unix_sock_addr);
    if (!addr)
        return 0;
    *flags |= FD_CLIENT;
    return peer;
}

/* The path that a unix socket is bound to; 0 for one with an abstract name. */
static __always_inline u16 put_unix_path(struct scratch *s, u64 sk, const int depth)
{
    u64 dentry = 0, mnt = 0;
    READ(dentry, AT(sk, unix_sock_path), path_dentry);
    READ(mnt, AT(sk, unix_sock_path), path_mnt);
    return dentry ? put_path_within(s, dentry, mnt, depth) : 0;
}

#define SOCKADDR_UN_MAX 110

/* The address of a unix socket, a sockaddr_un. */
static __always_inline u16 put_unix_name(struct scratch *s, u64 sk)
{
    u64 addr = 0, at = opaque(s->at);
    s32 told = 0;
    READ(addr, sk, unix_sock_addr);
    READ(told, addr, unix_address_len);
    u64 size = opaque((u32)told);
    if (size > SOCKADDR_UN_MAX || at > ROOM ||
        bpf_probe_read_kernel(&s->data[at], size, (const void *)AT(addr, unix_address_name)))
        return 0;
    s->at = at + size;
    return size;
}
#else
#define named_unix(sk, flags) 0
#define put_unix_path(s, sk, depth) 0
#define put_unix_name(s, sk) 0
#endif

/* The facts of an open file, 0 for none: the fixed ones into `f`, the texts behind what the record has so far. Of paths
 * at most `depth` names. */
static __always_inline void put_facts_within(
    struct scratch *s, u64 file, struct fd_facts *f, u16 *len_path, u16 *len_name, const int depth)
{
    u64 sk = 0, dentry = 0, mnt = 0;
    __builtin_memset(f, 0, sizeof(*f));
    *len_path = 0;
    *len_name = 0;
    if (!file)
        return;
    get_file_facts(file, f);
    if ((f->mode & S_IFMT_) != S_IFSOCK_) {
        READ(dentry, AT(file, file_f_path), path_dentry);
        READ(mnt, AT(file, file_f_path), path_mnt);
        *len_path = put_path_within(s, dentry, mnt, depth);
        return;
    }
    sk = sock_of(file);
    if (!sk)
        return;
    get_sock_facts(sk, f);
    if (f->family == AF_UNIX_) {
        u64 named = named_unix(sk, &f->flags);
        if (named)
            *len_path = put_unix_path(s, named, depth);
        if (named && !*len_path)
            *len_name = put_unix_name(s, named);
    }
}

static __always_inline void put_facts(struct scratch *s, u64 file, struct fd_facts *f, u16 *len_path, u16 *len_name)
{
    put_facts_within(s, file, f, len_path, len_name, DEPTH_MAX);
}

/* The facts of an open file (0: none) into the record, texts included. */
#define PUT_FILE_FACTS(file)                                              \
    do {                                                                  \
        struct fd_facts f_;                                               \
        u16 len_path_, len_name_;                                         \
        put_facts(s, file, &f_, &len_path_, &len_name_);                  \
        e->inode_mode = f_.mode;                                          \
        e->fd_ino = f_.ino;                                               \
        e->fd_dev = f_.dev;                                               \
        e->fd_magic = f_.magic;                                           \
        e->fd_flags = f_.flags;                                           \
        e->sock_family = f_.family;                                       \
        e->sock_type = f_.type;                                           \
        e->sock_proto = f_.proto;                                         \
        e->sock_state = f_.state;                                         \
        e->local_port = f_.local_port;                                    \
        e->remote_port = f_.remote_port;                                  \
        __builtin_memcpy(e->local_addr, f_.local_addr, 16);               \
        __builtin_memcpy(e->remote_addr, f_.remote_addr, 16);             \
        e->len_fd_path = len_path_;                                       \
        e->len_sock_name = len_name_;                                     \
    } while (0)

/* The same of a descriptor of this process. */
#define PUT_FD_FACTS(fd) PUT_FILE_FACTS(file_of(fd))

/* struct pollfd of poll(2) */
struct polled {
    s32 fd;
    u16 events;
    u16 revents;
};

/* One descriptor in a list of them (ParamType.FDS): this, then its texts. */
struct listed {
    struct fd_facts facts;
    u16 len_path;
    u16 len_name;
    u32 reserved;
    struct polled polled;
};

/* Append the facts of a descriptor of this process, zeros where it is none. */
static __always_inline void put_listed(struct scratch *s, struct polled polled, const int depth)
{
    struct listed l = {};
    u64 at = s->at;
    if (at > ROOM)
        return;
    s->at = at + sizeof(l);
    l.polled = polled;
    put_facts_within(s, file_of(polled.fd), &l.facts, &l.len_path, &l.len_name, depth);
    at = opaque(at);
    if (at > ROOM)
        return;
    bpf_probe_read_kernel(&s->data[at], sizeof(l), &l);
}

/* Descriptors 0, 1 and 2 of this process. */
static __always_inline u16 put_stdio(struct scratch *s)
{
    u64 start = s->at;
#pragma clang loop unroll(disable)
    for (int i = 0; i < 3; i++) {
        struct polled p = {.fd = i};
        put_listed(s, p, DEPTH_MAX);
    }
    return s->at - start;
}
