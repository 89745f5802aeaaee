/* SPDX-License-Identifier: GPL-2.0 */
/*
 * walk.c - what is in the table now?
 *
 * Hooks:     none: run by BPF_PROG_TEST_RUN with (first bucket, end bucket, number of buckets, WALK_* bits), called again with
 *            its result until that is the end bucket
 * Emits:     nothing to the ring. Into the map `walked`, one record per entry, KIND_WALK, met at its original node (reply-only
 *            entries: at the reply node); into the map `gathered`, the bucket of every other reply node, and how many there are
 *            of both. With WALK_EVERY, a record for each node in full. The front end has both maps mapped, empties them and zeroes the
 *            numbers before STEPS more might not fit
 * Kernels:   5.10 - 7.3
 * Cost:      one step per node and per bucket, up to STEPS a call; traffic is not touched. With extensions, up to five reads more an
 *            entry
 * Blind to:  a chain of more than STEPS nodes (none can be that long where the kernel has a chain limit)
 * Tested by: tests/kernel/test_entries.py, tests/kernel/test_lines.py
 *
 * Nodes may move to another chain under a reader: the nulls marker at the end then names another bucket, and the bucket is
 * read again. Entries kept twice that way are one to the front end, the last time. What it reads of them is older than any event
 * that comes into the ring later, so what events say wins.
 */

/* What is not in the nf_conn itself: packets and bytes, start time, length of all extensions (struct nf_ct_ext). */
static __always_inline void copy_extensions(struct record *record, u64 ct)
{
	u64 ext = *(u64 *)(record->raw + CT_EXT);
	u8 offset;

	if (!ext)
		return;
	record->flags |= FLAG_EXT;
	bpf_probe_read_kernel(record->extra + EXTRA_LEN, 1, (void *)(ext + EXT_LEN));
	copy_counters(record, ct);
	offset = (s64)EXT_START < 0 ? 0 : read_u8(ext + EXT_START);
	if (!offset)
		return;
	bpf_probe_read_kernel(record->extra + EXTRA_START, 8, (void *)(ext + offset));
	record->flags |= FLAG_START;
}

struct gathered {
	u64 records;
	u64 replies;
	struct {
		u64 ct;
		u64 bucket;
	} reply[SLOTS];
};

BPF_F_TABLE("array", u32, struct gathered, gathered, 1, 1024 /* BPF_F_MMAPABLE */);
BPF_F_TABLE("array", u32, struct record, walked, SLOTS, 1024); /* made with room for RAW_BYTES behind each */

/* An entry's original node, or the only node of a reply-only entry. The counter moves on by arithmetic: no branch to verify. */
static __always_inline void keep_entry(struct gathered *to, u64 ct, u32 bucket, u32 reply, u32 reply_only, u32 wants)
{
	u32 slot = to->records & (SLOTS - 1), status;
	struct record *record = walked.lookup(&slot);

	if (!record)
		return;
	record->ts = bpf_ktime_get_ns();
	record->bucket[0] = reply ? BUCKET_UNKNOWN : bucket;
	record->bucket[1] = reply ? bucket : BUCKET_UNKNOWN;
	record->chain[0] = CHAIN_UNKNOWN;
	record->chain[1] = CHAIN_UNKNOWN;
	record->kind = KIND_WALK;
	record->flags = 0;
	record->reply_only = reply_only;
	copy_entry(record, ct);
	status = *(u32 *)(record->raw + CT_STATUS);
	if (wants & WALK_EXTENSIONS) {
		copy_extensions(record, ct);
		status |= read_u32(ct + CT_STATUS); /* extensions die with their entry */
	}
	to->records += (status & (IPS_CONFIRMED | IPS_DYING)) == IPS_CONFIRMED;
}

/* The reply node of an entry whose original node stands in another chain. */
static __always_inline void keep_reply(struct gathered *to, u64 ct, u32 bucket)
{
	u32 slot = to->replies & (SLOTS - 1);

	to->reply[slot].ct = ct;
	to->reply[slot].bucket = bucket;
	to->replies++;
}

/* Returns the next node; 0 ends the reading, and the front end starts this bucket again. */
static __always_inline u64 keep_node(struct gathered *to, u64 at, u32 bucket, u32 wants)
{
	union node node;
	u32 reply, only;
	u64 ct;

	if (bpf_probe_read_kernel(&node, NODE_STATUS + 4, (void *)at)) /* one read instead of three */
		return 0;
	reply = node.bytes[NODE_DIR];
	ct = at - (reply ? CT_REPLY : CT_TUPLEHASH);
	only = reply && *(u32 *)(node.bytes + NODE_STATUS) & IPS_NAT_CLASH;
	if (reply && !only && !(wants & WALK_EVERY))
		keep_reply(to, ct, bucket);
	else
		keep_entry(to, ct, bucket, reply, only, wants);
	return node.next;
}

int walk(u64 *args)
{
	if (begin_run(args[0], args[2]))
		again.call(args, WALK_AGAIN);
	return RESIZED;
}

int walk_on(u64 *args)
{
	u32 slot = 0, steps = 0, end = args[1], wants = args[3], bucket;
	struct gathered *to = gathered.lookup(&slot);
	struct pass *now = pass.lookup(&slot);
	u64 node;

	if (!now || !to)
		return RESIZED;
	bucket = now->bucket;
	node = now->node;
#pragma clang loop unroll(disable)
	do {
		if (node & 1) {
			if (node >> 1 == bucket)
				bucket++;
			if (bucket >= end)
				return bucket;
			node = read_u64(now->table + 8ULL * bucket);
		} else {
			node = keep_node(to, node, bucket, wants);
			if (!node)
				return bucket;
		}
	} while (++steps < RUN_STEPS);
	now->bucket = bucket;
	now->node = node;
	again.call(args, WALK_AGAIN);
	return bucket;
}

/* Where a node hangs: the bucket at the end of its chain. */
int locate(u64 *args)
{
	return bucket_below(args[0], CHAIN_LIMIT);
}
