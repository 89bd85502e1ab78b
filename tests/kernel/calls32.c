/* Calls of a 32-bit program, for test_compat.py: cc -m32 -nostdlib -static. With -DWIDE the same file is a 64-bit
 * program that makes its calls by `int 0x80` and by x32 numbers. Its own folder is where it runs. */

typedef unsigned u32;

static int call(int n, u32 a, u32 b, u32 c, u32 d, u32 e)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(n), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
    return result;
}

#define P(pointer) ((u32)(unsigned long)(pointer))
#define AT_FDCWD -100

static char name[] = "file32", other[] = "other32", missing[] = "missing", text[] = "thirty-two", arg[] = "an arg";
static struct { unsigned short family, port; u32 address, zero[2]; } here = {2, 0x0900, 0x0100007f, {0, 0}};

#ifdef WIDE

static long wide(long n, long a, long b, long c)
{
    long result;
    register long r10 __asm__("r10") = 0;
    __asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return result;
}

void _start(void)
{
    call(295, AT_FDCWD, P(name), 0102, 0600, 0);             /* openat by int 0x80 */
    call(11, P(missing), 0, 0, 0, 0);                        /* execve; 11 is munmap to 64-bit calls */
    wide(257 | 0x40000000, AT_FDCWD, (long)other, 0);        /* openat of x32 */
    wide(520 | 0x40000000, (long)missing, 0, 0);             /* execve of x32 */
    wide(257, AT_FDCWD, (long)missing, 0);                   /* openat, as it should be */
    call(1, 0, 0, 0, 0, 0);
}

#else

void _start(void)
{
    u32 vector[2] = {P(text), 10}, message[7] = {P(&here), 16, P(vector), 1, 0, 0, 0};
    u32 argv[3] = {P(name), P(arg), 0}, limits[2] = {1000, 2000}, how[6] = {0, 0, 0, 0, 8, 0};
    u32 connecting[3], sending[3], sleep[2] = {0, 1000}, place[2];
    u32 mapping[6] = {0, 4096, 1, 0x22, (u32)-1, 0};
    unsigned long long birth[8] = {0x400, 0, 0, 0, 17, 0, 0, 0}; /* CLONE_FILES, SIGCHLD at the end */
    int pair[2], fd, sock, child;

    fd = call(5, P(name), 0102, 0640, 0, 0);                 /* open */
    call(295, AT_FDCWD, P(missing), 0, 0, 0);                /* openat */
    call(437, AT_FDCWD, P(name), P(how), 24, 0);             /* openat2 */
    call(15, P(name), 0600, 0, 0, 0);                        /* chmod */
    call(182, P(name), 7, 0xffff, 0, 0);                     /* chown, ids of 16 bits */
    call(212, P(name), 70000, (u32)-1, 0, 0);                /* chown32 */
    call(38, P(name), P(other), 0, 0, 0);                    /* rename */
    call(146, fd, P(vector), 1, 0, 0);                       /* writev */
    call(140, fd, 1, 2, P(place), 0);                        /* _llseek */
    call(11, P(missing), P(argv), 0, 0, 0);                  /* execve */
    call(331, P(pair), 02000000, 0, 0, 0);                   /* pipe2 */
    call(75, 4, P(limits), 0, 0, 0);                         /* setrlimit */
    call(162, P(sleep), 0, 0, 0, 0);                         /* nanosleep */
    sock = call(359, 2, 2, 0, 0, 0);                         /* socket */
    connecting[0] = sock;
    connecting[1] = P(&here);
    connecting[2] = 16;
    call(102, 3, P(connecting), 0, 0, 0);                    /* socketcall: connect */
    call(370, sock, P(message), 0, 0, 0);                    /* sendmsg */
    sending[0] = sock;
    sending[1] = P(message);
    sending[2] = 0;
    call(102, 16, P(sending), 0, 0, 0);                      /* socketcall: sendmsg */
    child = call(2, 0, 0, 0, 0, 0);                          /* fork */
    if (!child)
        call(1, 0, 0, 0, 0, 0);
    call(7, child, 0, 0, 0, 0);                              /* waitpid */
    child = call(120, 0x600 | 17, 0, 0, 0, 0);               /* clone */
    if (!child)
        call(1, 0, 0, 0, 0, 0);
    call(7, child, 0, 0, 0, 0);                              /* waitpid */
    child = call(435, P(birth), sizeof(birth), 0, 0, 0);     /* clone3 */
    if (!child)
        call(1, 0, 0, 0, 0, 0);
    call(7, child, 0, 0, 0, 0);                              /* waitpid */
    call(120, 0x10000, 0, 0, 0, 0);                          /* clone: a thread must share memory */
    call(164, 1, 2, 0xffff, 0, 0);                           /* setresuid, ids of 16 bits */
    call(90, P(mapping), 0, 0, 0, 0);                        /* mmap, arguments in memory */
    call(10, P(other), 0, 0, 0, 0);                          /* unlink */
    call(1, 0, 0, 0, 0, 0);
}

#endif
