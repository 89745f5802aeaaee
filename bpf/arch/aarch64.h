/* SPDX-License-Identifier: GPL-2.0 */
/*
 * aarch64.h - what arm64 has its own way; each name as in x86_64.h
 *
 * Registers as in arch/arm64/include/asm/ptrace.h, the first of them in user_pt_regs, which cannot change; 6.1 - 6.12 were tried.
 */

struct pt_regs {
	unsigned long regs[31];
	unsigned long sp, pc, pstate;
};

#define CALL_ARGUMENTS(at)  (at)->regs[0], (at)->regs[1], (at)->regs[2], (at)->regs[3], (at)->regs[4], (at)->regs[5]
#define FIRST_ARGUMENT(at)  ((at)->regs[0])
#define SECOND_ARGUMENT(at) ((at)->regs[1])
#define CALL_RESULT(at)	    ((at)->regs[0])

/* A call leaves nothing on the stack, so the stack pointer is the same at entry and return. */
#define CALL_SLOT(at)	((at)->sp)
#define RETURN_SLOT(at) ((at)->sp)

/* x30 as the call left it: a function that signs it (paciasp) does so after its first instruction, where a kprobe stands. */
#define RETURN_ADDRESS(at) ((at)->regs[30])

/*
 * From the caller's frame record, which x29 points at. The caller may have signed it, with other bits for each place on the stack:
 * the upper ones are those of all code (_PAGE_END), and destroy_reasons.py takes off what is left.
 */
#define RETURN_ADDRESS_ABOVE(at) (read_u64((at)->regs[29] + 8) | 0xffffULL << 48)

/* The preempt count lies in each task (thread_info): config has its offset. */
#define PREEMPT_COUNT(boot, cpu) read_u32(bpf_get_current_task() + (boot)->preempt_count)
