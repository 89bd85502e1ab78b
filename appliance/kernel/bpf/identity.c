/* Users and groups changed, processes traced. */

#define IDENTITY(NAME, name, first, second, third)      \
    HANDLER(name)                                       \
    {                                                   \
        CALL(NAME, name);                               \
        first;                                          \
        second;                                         \
        third;                                          \
        PUT_CREDENTIALS();                              \
        DONE();                                         \
    }

IDENTITY(SETUID, setuid, e->uid = ARG(c, 0), , )
IDENTITY(SETGID, setgid, e->gid = ARG(c, 0), , )
IDENTITY(SETREUID, setreuid, e->ruid = ARG(c, 0), e->euid = ARG(c, 1), )
IDENTITY(SETREGID, setregid, e->rgid = ARG(c, 0), e->egid = ARG(c, 1), )
IDENTITY(SETRESUID, setresuid, e->ruid = ARG(c, 0), e->euid = ARG(c, 1), e->suid = ARG(c, 2))
IDENTITY(SETRESGID, setresgid, e->rgid = ARG(c, 0), e->egid = ARG(c, 1), e->sgid = ARG(c, 2))
IDENTITY(SETFSUID, setfsuid, e->uid = ARG(c, 0), , )
IDENTITY(SETFSGID, setfsgid, e->gid = ARG(c, 0), , )

HANDLER(ptrace)
{
    CALL(PTRACE, ptrace);
    e->request = ARG(c, 0);
    e->pid = ARG(c, 1);
    e->addr = ARG(c, 2);
    e->data = ARG(c, 3);
    DONE();
}
