/* Work asked of an io_uring, one entry after another, for test_uring.py; prints each result. Its own folder is where it
 * runs; the first argument is a port that somebody listens on, the second may be `polled` (a thread of the kernel takes
 * the entries) or `async` (threads of the kernel do the work). */

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int ring, polled, async;
static unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
static struct io_uring_sqe *entries;
static struct io_uring_cqe *results;

static void setup(void)
{
    struct io_uring_params p;
    memset(&p, 0, sizeof(p));
    p.flags = polled ? IORING_SETUP_SQPOLL : 0;
    ring = syscall(SYS_io_uring_setup, 8, &p);
    if (ring < 0) {
        perror("io_uring_setup");
        exit(3);
    }
    char *sq = mmap(0, p.sq_off.array + p.sq_entries * 4, 3, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
    char *cq = mmap(0, p.cq_off.cqes + p.cq_entries * sizeof(*results), 3, MAP_SHARED | MAP_POPULATE, ring,
                    IORING_OFF_CQ_RING);
    entries = mmap(0, p.sq_entries * sizeof(*entries), 3, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
    sq_tail = (unsigned *)(sq + p.sq_off.tail);
    sq_mask = (unsigned *)(sq + p.sq_off.ring_mask);
    sq_array = (unsigned *)(sq + p.sq_off.array);
    cq_head = (unsigned *)(cq + p.cq_off.head);
    cq_tail = (unsigned *)(cq + p.cq_off.tail);
    cq_mask = (unsigned *)(cq + p.cq_off.ring_mask);
    results = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
}

/* One entry, and its result; -1000 where there is none because nobody is to be told. */
static int ask(int op, int fd, const void *addr, unsigned len, unsigned long off, unsigned flags, int quiet)
{
    unsigned tail = *sq_tail, at = tail & *sq_mask;
    struct io_uring_sqe *e = &entries[at];
    int res = -1000;
    memset(e, 0, sizeof(*e));
    e->opcode = op;
    e->fd = fd;
    e->addr = (unsigned long)addr;
    e->len = len;
    e->off = off;
    e->open_flags = flags;
    e->flags = (quiet ? IOSQE_CQE_SKIP_SUCCESS : 0) | (async ? IOSQE_ASYNC : 0);
    sq_array[at] = at;
    __atomic_store_n(sq_tail, tail + 1, __ATOMIC_RELEASE);
    syscall(SYS_io_uring_enter, ring, 1, quiet ? 0 : 1, IORING_ENTER_GETEVENTS | (polled ? IORING_ENTER_SQ_WAKEUP : 0), 0,
            0);
    if (quiet && (polled || async))
        usleep(100000);
    if (__atomic_load_n(cq_tail, __ATOMIC_ACQUIRE) != *cq_head) {
        res = results[*cq_head & *cq_mask].res;
        __atomic_store_n(cq_head, *cq_head + 1, __ATOMIC_RELEASE);
    }
    printf("%d\n", res);
    return res;
}

int main(int count, char **args)
{
    struct sockaddr_in there = {AF_INET, htons(atoi(args[1])), {htonl(INADDR_LOOPBACK)}, {0}};
    struct iovec piece = {"message", 7};
    struct msghdr message = {0, 0, &piece, 1, 0, 0, 0};
    struct { unsigned long flags, mode, resolve; } how = {O_RDONLY, 0, 8};
    int fd, sock, dir = open(".", O_RDONLY | O_DIRECTORY);
    char got[8];

    polled = count > 2 && !strcmp(args[2], "polled");
    async = count > 2 && !strcmp(args[2], "async");
    setup();
    fd = ask(IORING_OP_OPENAT, AT_FDCWD, "made", 0640, 0, O_RDWR | O_CREAT, 0);
    ask(IORING_OP_OPENAT, dir, "missing", 0, 0, O_RDONLY, 0);
    ask(IORING_OP_OPENAT, AT_FDCWD, "/etc/shadow", 0, 0, O_RDONLY, 0);
    ask(IORING_OP_OPENAT2, dir, "made", sizeof(how), (unsigned long)&how, 0, 0);
    ask(IORING_OP_WRITE, fd, "written", 7, 0, 0, 0);
    ask(IORING_OP_READ, fd, got, 7, 0, 0, 0);
    ask(IORING_OP_MKDIRAT, dir, "folder", 0700, 0, 0, 0);
    ask(IORING_OP_SYMLINKAT, dir, "made", 0, (unsigned long)"soft", 0, 0);
    ask(IORING_OP_LINKAT, AT_FDCWD, "made", AT_FDCWD, (unsigned long)"hard", 0, 0);
    ask(IORING_OP_RENAMEAT, AT_FDCWD, "hard", dir, (unsigned long)"harder", 0, 0);
    ask(IORING_OP_UNLINKAT, AT_FDCWD, "harder", 0, 0, 0, 0);
    ask(IORING_OP_UNLINKAT, AT_FDCWD, "folder", 0, 0, AT_REMOVEDIR, 1);
    ask(IORING_OP_CLOSE, fd, 0, 0, 0, 0, 0);
    sock = ask(IORING_OP_SOCKET, AF_INET, 0, 0, SOCK_STREAM, 0, 0);
    ask(IORING_OP_CONNECT, sock, &there, 0, sizeof(there), 0, 0);
    ask(IORING_OP_SEND, sock, "hello", 5, 0, 0, 0);
    ask(IORING_OP_SENDMSG, sock, &message, 1, 0, 0, 0);
    return 0;
}
