/* SPDX-License-Identifier: GPL-2.0 */
/*
 * destroy.c - which entries leave, and who removed them?
 *
 * Hooks:     nf_ct_delete, or nf_ct_delete.part.0 where the compiler split it: a kprobe in every case, because the return
 *            address on the stack is the reason and a trampoline would hide it; nf_conntrack_free entry
 * Emits:     KIND_DESTROY once per entry; KIND_FREE once per entry that never entered the table
 * Kernels:   5.10 - 7.2. .part.0 (5.10, 7.2) runs once per removed entry, with IPS_DYING set; without it (6.1, 6.12) the
 *            function is also called for entries that are dying already: those are skipped (SPLIT_DELETE=0)
 * Cost:      one record per entry that leaves
 * Blind to:  a removal in a softirq that interrupts another kprobe program on that CPU
 * Tested by: tests/kernel/test_entries.py
 */

int destroy(struct pt_regs *ctx)
{
	u64 ct = ctx->di;
	struct record *record;

#if !SPLIT_DELETE
	if (read_u32(ct + CT_STATUS) & IPS_DYING)
		return 0;
#endif
	record = reserve(KIND_DESTROY);
	if (!record)
		return 0;
	copy_entry(record, ct);
	record->caller = read_u64(ctx->sp);
	record->portid = ctx->si;
	submit(record);
	return 0;
}

static __always_inline int on_free(u64 ct)
{
	struct record *record;

	if (read_u32(ct + CT_STATUS) & IPS_CONFIRMED)
		return 0;
	record = reserve(KIND_FREE);
	if (!record)
		return 0;
	copy_entry(record, ct);
	submit(record);
	return 0;
}

ENTRY(free_entry, on_free(args[0]))
