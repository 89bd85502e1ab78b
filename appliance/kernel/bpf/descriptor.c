/* Descriptors duplicated, sockets made and connected. */

HANDLER(dup)
{
    CALL(DUP, dup);
    e->oldfd = ARG(c, 0);
    PUT_FD_FACTS(c.res);
    DONE();
}

HANDLER(dup2)
{
    CALL(DUP2, dup2);
    e->oldfd = ARG(c, 0);
    e->newfd = ARG(c, 1);
    PUT_FD_FACTS(c.res);
    DONE();
}

HANDLER(dup3)
{
    CALL(DUP3, dup3);
    e->oldfd = ARG(c, 0);
    e->newfd = ARG(c, 1);
    e->flags = ARG(c, 2);
    PUT_FD_FACTS(c.res);
    DONE();
}

HANDLER(socket)
{
    CALL(SOCKET, socket);
    e->domain = ARG(c, 0);
    e->type = ARG(c, 1);
    e->proto = ARG(c, 2);
    DONE();
}

#define SOCKADDR_MAX 128

HANDLER(connect)
{
    CALL(CONNECT, connect);
    e->fd = ARG(c, 0);
    PUT_FD_FACTS(e->fd);
    u64 size = opaque((u32)ARG(c, 2));
    u64 at = opaque(s->at);
    e->len_sockaddr = ABSENT;
    if (size > SOCKADDR_MAX)
        size = SOCKADDR_MAX;
    if (at <= ROOM && !bpf_probe_read_user(&s->data[at], size, (const void *)ARG(c, 1))) {
        e->len_sockaddr = size;
        s->at = at + size;
    }
    DONE();
}
