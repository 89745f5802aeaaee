/* SPDX-License-Identifier: GPL-2.0 */
/*
 * drops.c - which packets did conntrack lose, and why?
 *
 * Hooks:     __nf_conntrack_alloc return, early_drop return (table full, no memory); __nf_conntrack_confirm return
 *            (clash, chaintoolong, dying), which needs insert.c's mark for clashes
 * Emits:     KIND_DROP once per lost packet; with CONFIRMS=1 also KIND_CONFIRM once per accepted new entry
 * Kernels:   5.10 - 7.2; 5.10 has no chaintoolong
 * Cost:      three returns per new entry, a record only for a lost packet (or per confirm with CONFIRMS=1)
 * Blind to:  packets lost by rules, routing or queues between nf_conntrack_in and confirm (destroy.c sees their entries die);
 *            invalid packets, which conntrack marks and lets pass
 * Tested by: tests/kernel/test_drops.py
 */

struct attempt {
	u64 net;
	u64 hash; /* raw hash of the original tuple: early_drop and __nf_conntrack_alloc get the same one */
};

BPF_TABLE("lru_hash", struct attempt, u64, full, 4096); /* allocations for which early_drop found no victim */

static __always_inline int on_early_drop(u64 net, u32 hash, u8 evicted)
{
	struct attempt attempt = {.net = net, .hash = hash};
	u64 one = 1;

	if (!evicted)
		full.update(&attempt, &one);
	return 0;
}

#if CONFIRMS
BPF_TABLE("lru_hash", u64, u64, allocated, 65536); /* unconfirmed nf_conn -> ts of its allocation */
#endif

/*
 * A packet's new entry could not be allocated. nf_conntrack_alloc (netlink, BPF) calls with hash 0 and reports the failure to
 * its caller: no packet is lost there.
 */
static __always_inline int on_alloc(u64 net, u64 tuple, u32 hash, u64 ct)
{
	struct attempt attempt = {.net = net, .hash = hash};
	struct record *record;

	if (ct < -4095ULL) {
#if CONFIRMS
		u64 now = bpf_ktime_get_ns();

		allocated.update(&ct, &now);
#endif
		return 0;
	}
	if (!hash)
		return 0;
	record = reserve(KIND_DROP);
	if (!record)
		return 0;
	copy_tuple(record, net, tuple);
	record->reason = full.lookup(&attempt) ? DROP_TABLE_FULL : DROP_NO_MEMORY;
	submit(record);
	full.delete(&attempt);
	return 0;
}

/* Which of the ways out of __nf_conntrack_confirm: catalogued in docs/drops.md. */
static __always_inline u8 confirm_drop_reason(u64 skb, u32 status)
{
	if (clashes.lookup(&skb)) {
		clashes.delete(&skb);
		return DROP_CLASH;
	}
	if (status & IPS_CONFIRMED)
		return DROP_CONFIRMED;
	if (status & IPS_DYING)
		return DROP_DYING;
	return DROP_CHAINTOOLONG;
}

/* When a packet's new entry was allocated; 0 when we do not watch that, or were not there. */
static __always_inline u64 take_allocation(u64 ct)
{
	u64 since = 0;
#if CONFIRMS
	u64 *ts = allocated.lookup(&ct);

	if (ts) {
		since = *ts;
		allocated.delete(&ct);
	}
#endif
	return since;
}

/* Accepted: the entry is new, unless the packet was given to the winner of a clash. */
static __always_inline int on_confirm(u64 skb, u32 verdict)
{
	u64 ct = read_u64(skb + SKB_NFCT) & ~CTINFO_MASK;
	u64 since = take_allocation(ct);
	struct record *record;

	if (verdict != NF_DROP && !since)
		return 0;
	record = reserve(verdict == NF_DROP ? KIND_DROP : KIND_CONFIRM);
	if (!record)
		return 0;
	copy_entry(record, ct);
	record->since = since;
	if (verdict == NF_DROP)
		record->reason = confirm_drop_reason(skb, *(u32 *)(record->raw + CT_STATUS));
	submit(record);
	return 0;
}

RETURN(early_drop, 2, on_early_drop(args[0], args[1], result))
RETURN(alloc, 6, on_alloc(args[0], args[2], args[5], result))
RETURN(confirm, 1, on_confirm(args[0], result))
