/* The loads of the benchmarks: each mode makes COUNT calls and prints how many it made and the nanoseconds it took.
 * As fast as it can, or RATE a second; it ends after SECONDS if that comes first.
 * `walk` opens the same file under 16,384 names in turn, for readers that know again what they saw before.
 * usage: workload getppid|open|walk|read|forkexec|connect COUNT [SECONDS [RATE]] */
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

/* A name of /etc/hostname: each bit of the number is a segment `./` or a second slash. */
static const char *name_of(long number)
{
    static char name[64];
    char *at = name + sprintf(name, "/etc/");
    for (int bit = 0; bit < 14; bit++) {
        if (number >> bit & 1)
            *at++ = '.';
        *at++ = '/';
    }
    strcpy(at, "hostname");
    return name;
}

int main(int argc, char **argv)
{
    if (argc < 3 || argc > 5)
        return 2;
    const char *mode = argv[1];
    long count = atol(argv[2]);
    long long limit = argc > 3 ? atol(argv[3]) * 1000000000LL : 0;
    long rate = argc > 4 ? atol(argv[4]) : 0;
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
    long i;
    for (i = 0; i < count; i++) {
        if (limit && i % 64 == 0 && now() - start >= limit)
            break;
        while (rate && (now() - start) * rate < i * 1000000000LL)
            usleep(200);
        if (!strcmp(mode, "getppid")) {
            syscall(SYS_getppid);
        } else if (!strcmp(mode, "open") || !strcmp(mode, "walk")) {
            int fd = open(mode[0] == 'w' ? name_of(i) : "/etc/hostname", O_RDONLY);
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
    printf("%ld %lld\n", i, now() - start);
    return 0;
}
