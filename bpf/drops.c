/* SPDX-License-Identifier: GPL-2.0 */
/*
 * drops.c - which packets did conntrack lose, and why?
 *
 * Hooks:     __nf_conntrack_alloc return (table full, no memory, and who was let in after an eviction);
 *            nf_conntrack_double_lock entry (the buckets that confirm is about to check); __nf_conntrack_confirm return
 *            (clash, chaintoolong, dying), which needs insert.c's mark for clashes; nf_ct_helper_log entry: helpers call it
 *            for each packet that they have dropped, whether or not anybody has it logged
 * Emits:     KIND_DROP once per lost packet; KIND_EVICTOR once per allocation that early_drop made room for; with CONFIRMS
 *            also KIND_CONFIRM once per accepted new entry
 * Kernels:   5.10 - 7.3; 5.10 has no chaintoolong. double_lock's first argument, which it does not use, is dropped by the compiler
 *            up to 6.12, and in the source from 7.3 on
 * Cost:      three short programs per new entry, a record only for a lost packet (or per confirm with CONFIRMS)
 * Blind to:  packets lost by rules, routing or queues between nf_conntrack_in and confirm (destroy.c sees their entries die)
 * Tested by: tests/kernel/test_drops.py
 */

struct locked {
	u32 bucket[2];
};

BPF_TABLE("percpu_array", u32, struct locked, locked, 1); /* buckets that this CPU locked last */

static __always_inline int on_lock(u32 bucket, u32 reply_bucket)
{
	u32 slot = 0;
	struct locked *last = locked.lookup(&slot);

	if (last) {
		last->bucket[0] = bucket;
		last->bucket[1] = reply_bucket;
	}
	return 0;
}

/* Of an allocation that failed; `full`: early_drop was asked to make room for it. */
static __always_inline u8 refusal_reason(bool full, struct outcome *outcome)
{
	return full && !outcome->eviction ? DROP_TABLE_FULL : DROP_NO_MEMORY;
}

BPF_TABLE("lru_hash", u64, u64, allocated, 65536); /* unconfirmed nf_conn -> ts of its allocation, with CONFIRMS */

static __always_inline bool is_errno(u64 pointer)
{
	return pointer >= -4095ULL;
}

/*
 * A packet's new entry: allocated, perhaps after an eviction, or not. nf_conntrack_alloc (netlink, BPF) calls with hash 0 and
 * reports the failure to its caller: no packet is lost there.
 */
static __always_inline int on_alloc(u64 net, u64 zone, u64 tuple, u32 hash, u64 ct)
{
	bool refused = is_errno(ct);
	struct outcome outcome = {};
	struct record *record;
	bool full;
	u64 now;

	if (CONFIRMS && !refused) {
		now = bpf_ktime_get_ns();
		allocated.update(&ct, &now);
	}
	full = take_outcome(net, hash, refused, &outcome) || (refused && hash && begun_only(hash));
	if (!hash || (!refused && !full) || unwanted(net))
		return 0;
	record = reserve(refused ? KIND_DROP : KIND_EVICTOR);
	if (!record)
		return 0;
	copy_tuple(record, net, zone, tuple);
	copy_process(record);
	record->eviction = outcome.eviction;
	record->reason = refusal_reason(full, &outcome);
	record->scanned[0] = outcome.scanned[0];
	record->scanned[1] = outcome.scanned[1];
	record->scanned[2] = outcome.scanned[2];
	record->scanned[3] = outcome.scanned[3];
	submit(record);
	return 0;
}

/* Which of the ways out of __nf_conntrack_confirm. */
static __always_inline u8 confirm_drop_reason(u64 skb, u32 status)
{
	u64 *ts = clashes.lookup(&skb), since;

	if (ts) {
		since = bpf_ktime_get_ns() - *ts;
		clashes.delete(&skb);
		if (since <= STALE_NS) /* older: of another packet that lay at this address */
			return DROP_CLASH;
	}
	if (status & IPS_CONFIRMED)
		return DROP_CONFIRMED;
	if (status & IPS_DYING)
		return DROP_DYING;
	return DROP_CHAINTOOLONG;
}

/*
 * The chains that were too long. The buckets are those locked last on this CPU, unless another confirm came between; the raw
 * hash of the original tuple, kept in the reply node until the entry is linked, tells.
 */
static __always_inline void copy_long_chains(struct record *record)
{
	u32 slot = 0, hash = *(u32 *)(record->raw + CT_REPLY + NODE_PPREV), bucket;
	struct locked *last = locked.lookup(&slot);
	struct config *boot = config.lookup(&slot);

	if (!last || !boot || !boot->hash) /* where the hash cannot be found, bucket 0 would seem to be right, and empty */
		return;
	bucket = (u64)hash * read_u32(boot->buckets) >> 32;
	if (last->bucket[0] != bucket)
		return;
	record->bucket[0] = bucket;
	record->bucket[1] = last->bucket[1];
	count_chains(record, 0, CHAIN_REFUSED);
}

/* When a packet's new entry was allocated; 0 when we do not watch that, or were not there. */
static __always_inline u64 take_allocation(u64 ct)
{
	u64 since = 0, *ts;

	if (!CONFIRMS)
		return 0;
	ts = allocated.lookup(&ct);
	if (ts) {
		since = *ts;
		allocated.delete(&ct);
	}
	return since;
}

/* Accepted: the entry is new, unless the packet was given to the winner of a clash. */
static __always_inline int on_confirm(u64 skb, u32 verdict)
{
	struct record *record;
	u64 ct, since;

	if (verdict != NF_DROP && !CONFIRMS)
		return 0;
	ct = read_u64(skb + SKB_NFCT) & ~CTINFO_MASK;
	since = take_allocation(ct);
	if ((verdict != NF_DROP && !since) || unwanted_entry(ct))
		return 0;
	record = reserve(verdict == NF_DROP ? KIND_DROP : KIND_CONFIRM);
	if (!record)
		return 0;
	copy_entry(record, ct);
	record->since = since;
	if (verdict == NF_DROP) {
		record->reason = confirm_drop_reason(skb, *(u32 *)(record->raw + CT_STATUS));
		copy_process(record);
		copy_device(record, read_u64(skb + SKB_DEV));
		if (record->reason == DROP_CHAINTOOLONG)
			copy_long_chains(record);
	}
	submit(record);
	return 0;
}

/* A packet of an entry's, whose helper drops it and says why; the format holds no argument. */
static __always_inline int on_helper_log(u64 skb, u64 ct, u64 format)
{
	struct record *record;

	if (unwanted_entry(ct))
		return 0;
	record = reserve(KIND_DROP);
	if (!record)
		return 0;
	copy_entry(record, ct);
	record->reason = DROP_HELPER;
	record->flags = FLAG_TEXT | FLAG_ENTRY;
	if ((read_u64(skb + SKB_NFCT) & CTINFO_MASK) >= IP_CT_IS_REPLY)
		record->flags |= FLAG_REPLY;
	copy_process(record);
	copy_device(record, read_u64(skb + SKB_DEV));
	bpf_probe_read_kernel_str(record->extra, TEXT_BYTES, (void *)format);
	submit(record);
	return 0;
}

KPROBE_ENTRY(helper_log, on_helper_log(args[0], args[1], args[2]))
/* The namespace comes before the buckets, or nothing does: an address of the kernel's is no bucket. */
KPROBE_ENTRY(lock, args[0] >> 63 ? on_lock(args[1], args[2]) : on_lock(args[0], args[1]))
RETURN(alloc, 6, on_alloc(args[0], args[1], args[2], args[5], result))
RETURN(confirm, 1, on_confirm(args[0], result))
