/* SPDX-License-Identifier: GPL-2.0 */
/*
 * walk.c - what is in the table now?
 *
 * Hooks:     none: run by BPF_PROG_TEST_RUN with (first bucket, end bucket, number of buckets, every node?), called again with
 *            its result until that is the end bucket
 * Emits:     KIND_WALK once per entry, at its original node (reply node for reply-only entries); KIND_WALK_REPLY at its reply
 *            node, with the bucket alone; with `every node`, KIND_WALK at each node of these buckets
 * Kernels:   5.10 - 7.2
 * Cost:      one step per node and per bucket, STEPS a call; traffic is not touched
 * Blind to:  a chain of more than STEPS nodes (none can be that long where the kernel has a chain limit)
 * Tested by: tests/kernel/test_entries.py
 *
 * Nodes may move to another chain under a reader: the nulls marker at the end then names another bucket, and the bucket is
 * read again. Entries sent twice that way are one to the front end. A record is reserved before its entry is read, so that
 * an entry read as alive is never ordered after its destroy by more than the instant between hook and IPS_DYING.
 */

#define STEPS 1024

/* An entry's original node, or the only node of a reply-only entry. */
static __always_inline bool send_entry(u64 ct, u32 bucket, u32 reply, u32 reply_only)
{
	struct record *record = reserve(KIND_WALK);
	u32 status;

	if (!record)
		return false;
	copy_entry(record, ct);
	if (reply)
		record->bucket[1] = bucket;
	else
		record->bucket[0] = bucket;
	status = *(u32 *)(record->raw + CT_STATUS);
	record->reply_only = reply_only;
	if ((status & (IPS_CONFIRMED | IPS_DYING)) == IPS_CONFIRMED)
		submit(record);
	else
		ring.ringbuf_discard(record, 1);
	return true;
}

/* The reply node of an entry whose original node stands in another chain. */
static __always_inline bool send_reply_bucket(u64 ct, u32 bucket)
{
	struct record *record = reserve(KIND_WALK_REPLY);

	if (!record)
		return false;
	record->ct = ct;
	record->bucket[1] = bucket;
	submit(record);
	return true;
}

/* False when the ring is full: the reader drains it and starts this bucket again. */
static __always_inline bool send_node(u64 node, u32 bucket, u32 every)
{
	u32 reply = read_u8(node + TH_TUPLE + TUPLE_DIR);
	u64 ct = node - CT_TUPLEHASH - (reply ? TH_BYTES : 0);
	u32 only = reply && read_u32(ct + CT_STATUS) & IPS_NAT_CLASH;

	if (reply && !only && !every)
		return send_reply_bucket(ct, bucket);
	return send_entry(ct, bucket, reply, only);
}

int walk(u64 *args)
{
	u32 slot = 0, steps = 0, bucket = args[0], end = args[1], every = args[3];
	struct config *boot = config.lookup(&slot);
	u64 table, node;

	if (!boot || !same_table(boot, bucket, args[2]))
		return RESIZED;
	table = read_u64(boot->hash);
	node = read_u64(table + 8ULL * bucket);
#pragma clang loop unroll(disable)
	do {
		if (node & 1) {
			if (node >> 1 == bucket)
				bucket++;
			if (bucket >= end)
				break;
			node = read_u64(table + 8ULL * bucket);
		} else {
			if (!node || !send_node(node, bucket, every))
				break;
			node = read_u64(node);
		}
	} while (++steps < STEPS);
	return bucket;
}

/* Where a node hangs: the bucket at the end of its chain. */
int locate(u64 *args)
{
	return bucket_below(args[0]);
}
