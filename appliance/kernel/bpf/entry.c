/* Where every system call ends: one look at its number, then a jump to its handler, if it has one. */

BPF_PROG_ARRAY(handlers, SYSCALLS);

RAW_TRACEPOINT_PROBE(sys_exit)
{
#if defined(ARCH_x86)
    struct {
        s64 number;
        u64 ip;
        u64 cs;
    } at;
    bpf_probe_read_kernel(&at, sizeof(at), (const void *)(ctx->args[0] + OFF_number));
    bool compat = (u16)at.cs == 0x23; /* __USER32_CS; x32 numbers have bit 30 and reach no handler */
    s64 number = at.number;
#elif defined(ARCH_arm64)
    s32 number = -1;
    u64 pstate = 0;
    READ(number, ctx->args[0], number);
    READ(pstate, ctx->args[0], pt_regs_pstate);
    bool compat = pstate & 0x10; /* PSR_MODE32_BIT */
#endif
    if (compat || (number & 0x40000000 && number >= 0)) {
        count(BOOK_COMPAT);
        return 0;
    }
    handlers.call(ctx, number);
    return 0;
}
