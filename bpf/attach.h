/* SPDX-License-Identifier: GPL-2.0 */
/*
 * attach.h - the two ways a program hangs on a kernel function
 *
 * TRAMPOLINE=1: fentry and fexit programs (Linux >= 5.11 with module BTF); fexit has arguments and result.
 * TRAMPOLINE=0: kprobe, and kprobe + kretprobe pairs keyed by the stack slot of the call, which softirqs cannot mix up:
 * KPROBE_ENTRY is a kprobe in both: for functions without BTF (the compiler changed them), with variable arguments, or with an
 * argument that fentry programs may not read (a function pointer).
 * What is where in the registers says bpf/arch/MACHINE.h.
 * A program body is written once, as a function of the kernel function's arguments (and result); the wrappers below are one
 * function each, because bcc places its section attribute at the start of the line that defines a program.
 */

#define KPROBE_ENTRY(name, body)                                                                                                 \
	int name(struct pt_regs *ctx)                                                                                            \
	{                                                                                                                        \
		u64 args[] = {CALL_ARGUMENTS(ctx)};                                                                              \
		return body;                                                                                                     \
	}

#if TRAMPOLINE

#define ENTRY(name, body)                                                                                                        \
	int name(u64 *args)                                                                                                      \
	{                                                                                                                        \
		return body;                                                                                                     \
	}
#define RETURN(name, nargs, body)                                                                                                \
	int name(u64 *args)                                                                                                      \
	{                                                                                                                        \
		u64 result = args[nargs];                                                                                        \
		return body;                                                                                                     \
	}

#else

struct call {
	u64 arg[6];
};

/* Calls under way, by stack slot. Of one whose return stays unseen the oldest makes room: a full table would leave us blind. */
BPF_TABLE("lru_hash", u64, struct call, calls, 4096);

/* Hangs on the entry of every function that has a RETURN program. */
int call_begin(struct pt_regs *ctx)
{
	struct call call = {.arg = {CALL_ARGUMENTS(ctx)}};
	u64 slot = CALL_SLOT(ctx);

	calls.update(&slot, &call);
	return 0;
}

static __always_inline bool call_end(u64 slot, struct call *call)
{
	struct call *begun = calls.lookup(&slot);

	if (!begun)
		return false;
	*call = *begun;
	calls.delete(&slot);
	return true;
}

#define ENTRY(name, body) KPROBE_ENTRY(name, body)
#define RETURN(name, nargs, body)                                                                                                \
	int name(struct pt_regs *ctx)                                                                                            \
	{                                                                                                                        \
		u64 result = CALL_RESULT(ctx);                                                                                   \
		struct call call;                                                                                                \
		u64 *args = call.arg;                                                                                            \
		if (!call_end(RETURN_SLOT(ctx), &call))                                                                          \
			return 0;                                                                                                \
		return body;                                                                                                     \
	}

#endif
