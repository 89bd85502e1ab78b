/* The loads of bench/overhead: each mode makes COUNT calls as fast as it can and prints the nanoseconds it took.
 * usage: workload getppid|open|read|forkexec|connect COUNT */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void forkexec(void)
{
    pid_t pid;
    char *argv[] = {"/bin/true", NULL}, *envp[] = {NULL};
    if (posix_spawn(&pid, argv[0], NULL, NULL, argv, envp))
        fail("posix_spawn");
    if (waitpid(pid, NULL, 0) != pid)
        fail("waitpid");
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    const char *mode = argv[1];
    long count = atol(argv[2]);
    char byte;
    int zero = open("/dev/zero", O_RDONLY), server = -1;
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t size = sizeof a;
    if (!strcmp(mode, "connect")) {
        inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
        server = socket(AF_INET, SOCK_DGRAM, 0);
        if (bind(server, (void *)&a, sizeof a) || getsockname(server, (void *)&a, &size))
            fail("bind");
    }
    long long start = now();
    for (long i = 0; i < count; i++) {
        if (!strcmp(mode, "getppid")) {
            syscall(SYS_getppid);
        } else if (!strcmp(mode, "open")) {
            int fd = open("/etc/hostname", O_RDONLY);
            if (fd < 0)
                fail("open");
            close(fd);
        } else if (!strcmp(mode, "read")) {
            if (read(zero, &byte, 1) != 1)
                fail("read");
        } else if (!strcmp(mode, "forkexec")) {
            forkexec();
        } else if (!strcmp(mode, "connect")) {
            int s = socket(AF_INET, SOCK_DGRAM, 0);
            if (connect(s, (void *)&a, sizeof a))
                fail("connect");
            close(s);
        } else {
            return 2;
        }
    }
    printf("%lld\n", now() - start);
    return 0;
}
