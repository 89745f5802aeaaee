/* SPDX-License-Identifier: GPL-2.0 */
/*
 * x86_64.h - what x86-64 has its own way
 *
 * Every machine has a header with these names; docs/architecture.md says how to write one more. Registers as in
 * arch/x86/include/asm/ptrace.h, unchanged in 5.10 - 7.3.
 */

struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx;
	unsigned long r11, r10, r9, r8, ax, cx, dx, si, di;
	unsigned long orig_ax, ip, cs, flags, sp, ss;
};

/* At a function's first instruction: its first six arguments; at its return: the result. */
#define CALL_ARGUMENTS(regs)  (regs)->di, (regs)->si, (regs)->dx, (regs)->cx, (regs)->r8, (regs)->r9
#define FIRST_ARGUMENT(regs)  ((regs)->di)
#define SECOND_ARGUMENT(regs) ((regs)->si)
#define CALL_RESULT(regs)     ((regs)->ax)

/*
 * What a call has to itself as long as it lasts, at its entry and, the same number, in the kretprobe at its return: the place of its
 * return address on the stack, which the return has taken off.
 */
#define CALL_SLOT(regs)	  ((regs)->sp)
#define RETURN_SLOT(regs) ((regs)->sp - 8)

/* At a function's first instruction: where its caller goes on. */
#define RETURN_ADDRESS(regs) read_u64((regs)->sp)

/* Where its caller's caller goes on: without frame pointers it cannot be known. */
#define RETURN_ADDRESS_ABOVE(regs) 0ULL

/* The preempt count lies in each CPU's own memory: config has its per-CPU address. */
#define PREEMPT_COUNT(boot, cpu) read_u32(read_u64((boot)->per_cpu_offset + 8 * (u64)(cpu)) + (boot)->preempt_count)
