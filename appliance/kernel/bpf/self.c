/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a process changes about itself: its name, its process group. */

#define PR_SET_NAME_ 15
#define PR_GET_NAME_ 16
#define PR_GET_CHILD_SUBREAPER_ 37

HANDLER(prctl)
{
    /* programs ask much of prctl; without a rule, only a new name matters */
    u64 option = 0;
    bpf_probe_read_kernel(&option, 8, (const void *)(ctx->args[0] + ARGS_FROM + 8 * ARG_0));
    if (!(kind_of(T_PRCTL) & KIND_WANTED) && via_of(0) == VIA_SYSCALL && (u32)option != PR_SET_NAME_)
        return 0;
    CALL(PRCTL, prctl);
    e->option = ARG(c, 0);
    e->arg2_int = ARG(c, 1);
    e->len_arg2_str = ABSENT;
    if (e->option == PR_SET_NAME_ || e->option == PR_GET_NAME_) {
        e->arg2_int = 0;
        e->len_arg2_str = put_user_text(s, ARG(c, 1));
    } else if (e->option == PR_GET_CHILD_SUBREAPER_) { /* what the call gave */
        s32 told = 0;
        if (c.res >= 0)
            bpf_probe_read_user(&told, sizeof(told), (const void *)ARG(c, 1));
        e->arg2_int = told;
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
