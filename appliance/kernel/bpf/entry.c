/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where every system call ends: one look at its number, then a jump to its handler, if it has one. */

BPF_PROG_ARRAY(handlers, SLOTS);

/* Numbers that some kind of call has a handler for. Most calls leave here. */
BPF_ARRAY(asked, u32, NUMBERS);

TRACEPOINT(sys_exit)
{
    u32 number = NUMBER_OF(ctx->args[0]);
    u32 n = number & ~X32_BIT;
    u32 *known = asked.lookup(&n);
    if (!known || !*known)
        return 0;
#if defined(ARCH_arm64)
    u64 pstate = 0;
    READ(pstate, ctx->args[0], pt_regs_pstate);
    if (pstate & 0x10) { /* PSR_MODE32_BIT: a 32-bit program */
        count(BOOK_COMPAT);
        return 0;
    }
#endif
    u32 slot = slot_of(number, via_of(number));
#if defined(ARCH_x86)
    if (slot == SLOT_IA32 + IA32_SOCKETCALL) {
        u64 which = 0;
        READ(which, ctx->args[0], pt_regs_bx);
        slot = (u32)which < 64 ? SLOT_SOCKETCALL + (u32)which : NO_SLOT;
    }
#endif
    handlers.call(ctx, slot);
    return 0;
}
