/* What a process changes about itself: its name, its process group. */

#define PR_SET_NAME_ 15
#define PR_GET_NAME_ 16

/* 1 while a rule asks for prctl. Programs ask much of it; without a rule, only a new name matters. */
BPF_ARRAY(all_of_prctl, u32, 1);

static __always_inline bool skip_prctl(u64 regs)
{
    u32 zero = 0;
    u64 option = 0;
    u32 *all = all_of_prctl.lookup(&zero);
    bpf_probe_read_kernel(&option, 8, (const void *)(regs + ARGS_FROM + 8 * ARG_0));
    return all && !*all && (u32)option != PR_SET_NAME_ && via_of(0) == VIA_SYSCALL;
}

HANDLER(prctl)
{
    if (skip_prctl(ctx->args[0]))
        return 0;
    CALL(PRCTL, prctl);
    e->option = ARG(c, 0);
    e->arg2_int = ARG(c, 1);
    e->len_arg2_str = ABSENT;
    if (e->option == PR_SET_NAME_ || e->option == PR_GET_NAME_) {
        e->arg2_int = 0;
        e->len_arg2_str = put_user_text(s, ARG(c, 1));
    }
    DONE();
}

HANDLER(setpgid)
{
    u64 signal = 0;
    CALL(SETPGID, setpgid);
    e->pid = ARG(c, 0);
    e->pgid = ARG(c, 1);
    READ(signal, this_task(), task_struct_signal);
    e->own_pgid = group_of(signal, PIDTYPE_PGID);
    DONE();
}
