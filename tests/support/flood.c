/* A flood that any user can make: a chain of DEPTH processes, at whose end PROCESSES of them try, as fast as they can and
 * for SECONDS, to open what they may not. Runs as uid 65534; prints how many tries were made.
 * usage: flood DEPTH PROCESSES SECONDS */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *const names[] = {"/etc/shadow", "/root/.ssh/id_rsa", "/etc/sudoers", "/root/.aws/credentials"};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void try(double seconds)
{
    double end = now() + seconds;
    long count = 0;
    char line[32];
    while (now() < end)
        for (int i = 0; i < 64; i++, count++) {
            int fd = open(names[count % 4], O_RDONLY);
            if (fd >= 0)
                close(fd);
        }
    int size = snprintf(line, sizeof line, "%ld\n", count);
    if (write(1, line, size) != size)
        _exit(1);
    _exit(0);
}

int main(int argc, char **argv)
{
    if (argc != 4 || setgid(65534) || setuid(65534))
        return 2;
    for (int depth = atoi(argv[1]); depth > 0; depth--) {
        pid_t pid = fork();
        if (pid < 0)
            return 3;
        if (pid) {
            waitpid(pid, NULL, 0);
            return 0;
        }
    }
    for (int n = atoi(argv[2]); n > 0; n--)
        if (fork() == 0)
            try(atof(argv[3]));
    while (wait(NULL) > 0)
        ;
    return 0;
}
