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
#define AF_INET_ 2
#define AF_INET6_ 10

static __always_inline u64 sock_of(u64 file)
{
    u64 socket = 0, sk = 0;
    READ(socket, file, file_private_data);
    if (socket)
        READ(sk, socket, socket_sk);
    return sk;
}

/* Inode mode; for sockets family, protocol and both ends, else the path. Ports in host order. */
#define PUT_FD_FACTS(fd)                                                                       \
    do {                                                                                       \
        u64 file_ = file_of(fd), inode_ = 0, sk_ = 0;                                          \
        u16 mode_ = 0, port_ = 0;                                                              \
        e->inode_mode = 0;                                                                     \
        e->sock_family = 0;                                                                    \
        e->sock_proto = 0;                                                                     \
        e->local_port = 0;                                                                     \
        e->remote_port = 0;                                                                    \
        __builtin_memset(e->local_addr, 0, 16);                                                \
        __builtin_memset(e->remote_addr, 0, 16);                                               \
        e->len_fd_path = 0;                                                                    \
        if (file_) {                                                                           \
            READ(inode_, file_, file_f_inode);                                                 \
            READ(mode_, inode_, inode_i_mode);                                                 \
            e->inode_mode = mode_;                                                             \
            if ((mode_ & S_IFMT_) != S_IFSOCK_)                                                \
                e->len_fd_path = put_path_at(s, AT(file_, file_f_path));                       \
            else                                                                               \
                sk_ = sock_of(file_);                                                          \
        }                                                                                      \
        if (sk_) {                                                                             \
            READ(e->sock_family, sk_, sock_family);                                            \
            READ(e->sock_proto, sk_, sock_protocol);                                           \
            if (e->sock_family == AF_INET_ || e->sock_family == AF_INET6_) {                   \
                READ(e->local_port, sk_, sock_num);                                            \
                READ(port_, sk_, sock_dport);                                                  \
                e->remote_port = __builtin_bswap16(port_);                                     \
            }                                                                                  \
            if (e->sock_family == AF_INET_) {                                                  \
                bpf_probe_read_kernel(e->local_addr, 4, (void *)AT(sk_, sock_rcv_saddr));      \
                bpf_probe_read_kernel(e->remote_addr, 4, (void *)AT(sk_, sock_daddr));         \
            } else if (e->sock_family == AF_INET6_) {                                          \
                bpf_probe_read_kernel(e->local_addr, 16, (void *)AT(sk_, sock_v6_rcv_saddr));  \
                bpf_probe_read_kernel(e->remote_addr, 16, (void *)AT(sk_, sock_v6_daddr));     \
            }                                                                                  \
        }                                                                                      \
    } while (0)
