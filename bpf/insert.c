/* SPDX-License-Identifier: GPL-2.0 */
/*
 * insert.c - which entries enter the table, and into which buckets?
 *
 * Hooks:     __nf_conntrack_hash_insert entry (packets, netlink, BPF); nf_ct_resolve_clash return (reply-only entries, and
 *            the fate of a packet whose tuple is taken); nf_conntrack_hash_resize return
 * Emits:     KIND_INSERT once per entry, KIND_MASTER before it when it has one; KIND_RESOLVED once per clash resolved;
 *            KIND_RESIZE once per change of size; leaves a mark for drops.c when a clash loses
 * Kernels:   5.10 - 7.3. IPS_CONFIRMED is set right after the insert hook (before it on 5.10, and on netlink inserts)
 * Cost:      one record per new entry; with CHAINS also a walk of both chains
 * Blind to:  kprobe form: an insert in a softirq that interrupts another kprobe program on that CPU
 * Tested by: tests/kernel/test_entries.py, tests/kernel/test_drops.py, tests/kernel/test_starts.py
 */

BPF_TABLE("lru_hash", u64, u64, clashes, 1024); /* skb whose nf_ct_resolve_clash said drop -> ts */

static __always_inline void send_master(u64 master)
{
	struct record *record = reserve(KIND_MASTER);

	if (!record)
		return;
	copy_entry(record, master);
	submit(record);
}

/* What copy_entry copies, less what only some protocols have. In the table an entry is confirmed, whenever the bit is set. */
static __always_inline void copy_inserted(struct record *record, u64 ct)
{
	record->ct = ct;
	record->has_ct = 1;
	bpf_probe_read_kernel(record->raw, CT_PREFIX, (void *)ct);
	*(u32 *)(record->raw + CT_STATUS) |= IPS_CONFIRMED;
	if (record->raw[CT_TUPLE + TUPLE_PROTONUM] == IPPROTO_TCP)
		record->tcp_state = read_u8(ct + CT_TCP_STATE);
#if TRAMPOLINE
	record->netns = ARG_U32(ARG_U64(ct + CT_NET) + NET_INUM);
#else
	record->netns = netns_inum(*(u64 *)(record->raw + CT_NET));
#endif
}

static __always_inline int on_insert(u64 ct, u32 bucket, u32 reply_bucket)
{
	struct record *record;
	u64 master;

	if (unwanted_entry(ct))
		return 0;
	record = reserve_insert(KIND_INSERT);
	if (!record)
		return 0;
	copy_inserted(record, ct);
	master = *(u64 *)(record->raw + CT_MASTER);
	if (master) {
		/* Few have one, and its record comes first: this one is given up for another behind it. */
		ring.ringbuf_discard(record, 1 /* BPF_RB_NO_WAKEUP */);
		send_master(master);
		record = reserve_insert(KIND_INSERT);
		if (!record)
			return 0;
		copy_inserted(record, ct);
	}
	record->bucket[0] = bucket;
	record->bucket[1] = reply_bucket;
	if (CHAINS)
		count_chains(record, bucket == reply_bucket ? 2 : 1, CHAIN_LIMIT);
	submit(record);
	return 0;
}

/* The entry is linked in reply direction only. */
static __always_inline int on_reply_only_insert(u64 ct)
{
	struct record *record = reserve(KIND_INSERT);

	if (!record)
		return 0;
	copy_entry(record, ct);
	*(u32 *)(record->raw + CT_STATUS) |= IPS_CONFIRMED;
	record->reply_only = 1;
	record->bucket[1] = bucket_below(ct + CT_REPLY, CHAIN_REFUSED);
	submit(record);
	return 0;
}

/*
 * Whether the packet of an accepted clash now belongs to the winner, whose tuplehash is `winner`; else `ct` was inserted in reply
 * direction only and carries IPS_NAT_CLASH.
 */
static __always_inline bool merged_with(u64 ct, u64 winner)
{
	/* Not by way of the winner's entry: what is subtracted from a typed pointer has to be known to the verifier. */
	return winner == ct + CT_TUPLEHASH || winner == ct + CT_REPLY || !(read_u32(ct + CT_STATUS) & IPS_NAT_CLASH);
}

/* For drops.c, which sees this packet lost at the end of its confirm. */
static __always_inline void mark_clash(u64 skb)
{
	u64 now = bpf_ktime_get_ns();

	clashes.update(&skb, &now);
}

/* The loser is skb->_nfct on entry. Drop: it stays there. */
static __always_inline int on_resolve_clash(u64 skb, u64 winner, u32 verdict)
{
	u64 ct = read_u64(skb + SKB_NFCT) & ~CTINFO_MASK;
	struct record *record;
	bool merged;

	if (unwanted_entry(ct))
		return 0;
	if (verdict == NF_DROP) {
		mark_clash(skb);
		return 0;
	}
	merged = merged_with(ct, winner);
	record = reserve(KIND_RESOLVED);
	if (record) {
		copy_entry(record, ct);
		record->reply_only = !merged;
		submit(record);
	}
	return merged ? 0 : on_reply_only_insert(ct);
}

static __always_inline int on_resize(u32 result)
{
	u32 slot = 0;
	struct config *boot = config.lookup(&slot);
	struct record *record;

	if (result || !boot)
		return 0;
	record = reserve(KIND_RESIZE);
	if (!record)
		return 0;
	record->buckets = read_u32(boot->buckets);
	submit(record);
	return 0;
}

ENTRY(insert, on_insert(args[0], args[1], args[2]))
RETURN(resolve_clash, 3, on_resolve_clash(args[0], args[1], result))
RETURN(resize, 1, on_resize(result))
