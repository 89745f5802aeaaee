/* SPDX-License-Identifier: GPL-2.0 */
/*
 * destroy.c - which entries leave, and who removed them?
 *
 * Hooks:     nf_ct_delete, or nf_ct_delete.part.0 where the compiler split it: a kprobe in every case, because the return
 *            address on the stack is the reason and a trampoline would hide it; nf_conntrack_free, nf_ct_iterate_cleanup,
 *            nf_ct_kill_acct and nf_ct_resolve_clash entry
 * Emits:     KIND_DESTROY once per entry; KIND_FREE once per entry that never entered the table, or, for who is content with
 *            some of these, SOME of each second and CPU
 * Kernels:   5.10 - 7.3. .part.0 (5.10, 7.2) runs once per removed entry, with IPS_DYING set; without it (6.1, 6.12) the
 *            function is also called for entries that are dying already: those are skipped (SPLIT_DELETE=0)
 * Cost:      one record per entry that leaves
 * Blind to:  a removal in a softirq that interrupts another kprobe program on that CPU
 * Tested by: tests/kernel/test_entries.py, tests/kernel/test_departures.py, tests/kernel/test_starts.py
 */

#define SOME 1000 /* entries that die before the table */

BPF_TABLE("lru_hash", u64, u64, iterators, 64);	     /* pid_tgid in nf_ct_iterate_cleanup -> iterator function */
BPF_TABLE("lru_hash", u64, u64, clash_begins, 1024); /* unconfirmed entry in nf_ct_resolve_clash -> ts */

static __always_inline int on_iterate(u64 iterator)
{
	u64 task = bpf_get_current_pid_tgid();

	iterators.update(&task, &iterator);
	return 0;
}

static __always_inline int on_kill(u64 ct)
{
	struct doing *here = begun_here();

	if (here)
		here->killed = ct;
	return 0;
}

/* Packets and bytes of both directions, where accounting was on when the entry was made (struct nf_conn_acct). */
static __always_inline void copy_counters(struct record *record, u64 ct)
{
	u64 ext = read_u64(ct + CT_EXT);
	u8 offset = ext ? read_u8(ext + EXT_ACCT) : 0;

	if (!offset)
		return;
	bpf_probe_read_kernel(record->extra, COUNTERS_BYTES, (void *)(ext + offset));
	record->flags |= FLAG_COUNTERS;
}

/* What nf_ct_iterate_cleanup was given by this task last; means something where that is the caller of nf_ct_delete. */
static __always_inline u64 last_iterator(void)
{
	u64 task = bpf_get_current_pid_tgid(), *iterator = iterators.lookup(&task);

	return iterator ? *iterator : 0;
}

/* Beyond the fact: by whose call, with what traffic behind it. */
static __always_inline void copy_circumstances(struct record *record, u64 ct)
{
	record->eviction = eviction_under_way();
	if (!record->eviction && !record->killer)
		record->iterator = last_iterator();
	if (record->portid)
		copy_process(record);
	copy_counters(record, ct);
}

/* Whether nf_ct_kill_acct removes this entry. Asked in every call, whatever comes of it: an address is another entry's soon. */
static __always_inline bool take_killed(u64 ct)
{
	struct doing *here = doing_here();

	if (!here || here->killed != ct)
		return false;
	here->killed = 0;
	return true;
}

/* nf_ct_kill_acct is the caller, or where it ends in a jump, who called it. `above` tells in the first case, if the machine can. */
static __always_inline void copy_killer(struct record *record, u64 above)
{
	record->flags |= FLAG_KILLED;
	if (above)
		record->killer = above;
}

int destroy(struct pt_regs *ctx)
{
	u64 ct = FIRST_ARGUMENT(ctx);
	bool by_kill = REASONS ? take_killed(ct) : false;
	struct record *record;

	if (!SPLIT_DELETE && read_u32(ct + CT_STATUS) & IPS_DYING)
		return 0;
	if (unwanted_entry(ct))
		return 0;
	record = reserve(KIND_DESTROY);
	if (!record)
		return 0;
	copy_entry(record, ct);
	record->caller = RETURN_ADDRESS(ctx);
	record->portid = SECOND_ARGUMENT(ctx);
	if (by_kill)
		copy_killer(record, RETURN_ADDRESS_ABOVE(ctx));
	if (REASONS)
		copy_circumstances(record, ct);
	submit(record);
	return 0;
}

/* A new entry's tuple is taken: it may be freed in the packet's favour, or with the packet, or enter in reply direction. */
static __always_inline int on_clash_begin(u64 skb)
{
	u64 ct = read_u64(skb + SKB_NFCT) & ~CTINFO_MASK, now = bpf_ktime_get_ns();

	clash_begins.update(&ct, &now);
	return 0;
}

static __always_inline int on_free(u64 ct)
{
	struct record *record;
	u64 *clashed;

	if (unwanted_entry(ct) || read_u32(ct + CT_STATUS) & IPS_CONFIRMED)
		return 0;
	record = reserve(KIND_FREE);
	if (!record)
		return 0;
	copy_entry(record, ct);
	clashed = clash_begins.lookup(&ct);
	if (clashed) {
		if (record->ts - *clashed <= STALE_NS) /* older: of another entry that lay at this address */
			record->flags = FLAG_CLASHED;
		clash_begins.delete(&ct);
	}
	submit(record);
	return 0;
}

struct second {
	u64 began;
	u64 told;
};

BPF_TABLE("percpu_array", u32, struct second, seconds, 1);

/* Whether one more may be told: a flood that a rule drops fills no ring. */
static __always_inline bool few_so_far(void)
{
	u64 now = bpf_ktime_get_ns();
	u32 slot = 0;
	struct second *second = seconds.lookup(&slot);

	if (!second)
		return false;
	if (now - second->began >= 1000000000ULL) {
		second->began = now;
		second->told = 0;
	}
	return second->told++ < SOME;
}

static __always_inline int on_death(u64 ct)
{
	struct record *record;

	if (read_u32(ct + CT_STATUS) & IPS_CONFIRMED || unwanted_entry(ct) || !few_so_far())
		return 0;
	record = reserve(KIND_FREE);
	if (!record)
		return 0;
	copy_entry(record, ct);
	submit(record);
	return 0;
}

ENTRY(free_entry, on_free(args[0]))
ENTRY(some_free, on_death(args[0]))
ENTRY(clash_begin, on_clash_begin(args[0]))
KPROBE_ENTRY(iterate, on_iterate(args[0]))
ENTRY(kill, on_kill(args[0]))
