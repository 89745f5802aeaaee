/* SPDX-License-Identifier: GPL-2.0 */
/*
 * insert.c - which entries enter the table, and into which buckets?
 *
 * Hooks:     __nf_conntrack_hash_insert entry (packets, netlink, BPF); nf_ct_resolve_clash return (reply-only entries, and
 *            the packet lost to a clash); nf_conntrack_hash_resize return
 * Emits:     KIND_INSERT once per entry; KIND_RESIZE once per change of size; leaves a mark for drops.c when a clash loses
 * Kernels:   5.10 - 7.2. IPS_CONFIRMED is set right after the insert hook (before it on 5.10, and on netlink inserts)
 * Cost:      one record per new entry; with CHAINS=1 also a walk of both chains
 * Blind to:  kprobe form: an insert in a softirq that interrupts another kprobe program on that CPU
 * Tested by: tests/kernel/test_entries.py, tests/kernel/test_drops.py
 */

BPF_TABLE("lru_hash", u64, u64, clashes, 1024); /* skb whose nf_ct_resolve_clash said drop -> ts */

#if CHAINS
/* Nodes in the chain that starts at this bucket's head now. */
static __always_inline u32 chain_length(u64 table, u32 bucket)
{
	u64 node = read_u64(table + 8ULL * bucket);
	u32 length = 0;

#pragma clang loop unroll(disable)
	do {
		if (!node || node & 1)
			return length;
		node = read_u64(node);
	} while (++length < CHAIN_LIMIT);
	return CHAIN_UNKNOWN;
}

/* The nodes are not linked yet: count them in, both when both land in one bucket. */
static __always_inline void count_chains(struct record *record)
{
	u32 slot = 0, both = record->bucket[0] == record->bucket[1], length;
	struct config *boot = config.lookup(&slot);
	u64 table;

	if (!boot)
		return;
	table = read_u64(boot->hash);
	length = chain_length(table, record->bucket[0]);
	if (length != CHAIN_UNKNOWN)
		record->chain[0] = length + 1 + both;
	length = chain_length(table, record->bucket[1]);
	if (length != CHAIN_UNKNOWN)
		record->chain[1] = length + 1 + both;
}
#endif

static __always_inline int on_insert(u64 ct, u32 bucket, u32 reply_bucket)
{
	struct record *record = reserve(KIND_INSERT);

	if (!record)
		return 0;
	copy_entry(record, ct);
	record->bucket[0] = bucket;
	record->bucket[1] = reply_bucket;
#if CHAINS
	count_chains(record);
#endif
	submit(record);
	return 0;
}

/* The entry is linked in reply direction only: its chain's end holds the bucket. */
static __always_inline int on_reply_only_insert(u64 ct)
{
	struct record *record = reserve(KIND_INSERT);
	u64 node;
	u32 below = 0;

	if (!record)
		return 0;
	copy_entry(record, ct);
	record->reply_only = 1;
	node = read_u64(ct + CT_TUPLEHASH + TH_BYTES);
#pragma clang loop unroll(disable)
	do {
		if (!node || node & 1)
			break;
		node = read_u64(node);
	} while (++below < CHAIN_LIMIT);
	record->bucket[1] = node >> 1;
	submit(record);
	return 0;
}

/*
 * The loser is skb->_nfct on entry. Drop: it stays there. Accept: either the packet now belongs to the winner, whose
 * tuplehash is `winner`, or the loser was inserted in reply direction only and carries IPS_NAT_CLASH.
 */
static __always_inline int on_resolve_clash(u64 skb, u64 winner, u32 verdict)
{
	u64 ct = read_u64(skb + SKB_NFCT) & ~CTINFO_MASK;
	u64 now;

	if (verdict == NF_DROP) {
		now = bpf_ktime_get_ns();
		clashes.update(&skb, &now);
		return 0;
	}
	if (!(read_u32(ct + CT_STATUS) & IPS_NAT_CLASH))
		return 0;
	winner -= CT_TUPLEHASH + (read_u8(winner + TH_TUPLE + TUPLE_DIR) ? TH_BYTES : 0);
	return winner == ct ? 0 : on_reply_only_insert(ct);
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
	record->ct = 0;
	record->has_ct = 0;
	record->netns = 0;
	record->portid = read_u32(boot->buckets);
	submit(record);
	return 0;
}

ENTRY(insert, on_insert(args[0], args[1], args[2]))
RETURN(resolve_clash, 3, on_resolve_clash(args[0], args[1], result))
RETURN(resize, 1, on_resize(result))
