/* SPDX-License-Identifier: GPL-2.0 */
/*
 * walk.c - what is in the table now?
 *
 * Hooks:     none: run by BPF_PROG_TEST_RUN with (first bucket, end bucket, number of buckets, WALK_* bits), called again with
 *            its result until that is the end bucket
 * Emits:     KIND_WALK once per entry, at its original node (reply node for reply-only entries); KIND_WALK_REPLY at its reply
 *            node, with the bucket alone; with WALK_EVERY, KIND_WALK at each node of these buckets
 * Kernels:   5.10 - 7.2
 * Cost:      one step per node and per bucket, STEPS a call; traffic is not touched. With details, up to five reads more an entry
 * Blind to:  a chain of more than STEPS nodes (none can be that long where the kernel has a chain limit)
 * Tested by: tests/kernel/test_entries.py, tests/kernel/test_lines.py
 *
 * Nodes may move to another chain under a reader: the nulls marker at the end then names another bucket, and the bucket is
 * read again. Entries sent twice that way are one to the front end. A record is reserved before its entry is read, so that
 * an entry read as alive is never ordered after its destroy by more than the instant between hook and IPS_DYING.
 */

#define STEPS	     1024
#define WALK_EVERY   1	/* each node of these buckets in full */
#define WALK_DETAILS 2	/* with what lies outside the nf_conn */
#define EXTRA_START  32 /* after packets and bytes of both directions */
#define EXTRA_LEN    40

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
	offset = EXT_START < 0 ? 0 : read_u8(ext + EXT_START);
	if (!offset)
		return;
	bpf_probe_read_kernel(record->extra + EXTRA_START, 8, (void *)(ext + offset));
	record->flags |= FLAG_START;
}

/* An entry's original node, or the only node of a reply-only entry. */
static __always_inline bool send_entry(u64 ct, u32 bucket, u32 reply, u32 reply_only, u32 wants)
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
	if (wants & WALK_DETAILS) {
		copy_extensions(record, ct);
		status |= read_u32(ct + CT_STATUS); /* extensions die with their entry */
	}
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
static __always_inline bool send_node(u64 node, u32 bucket, u32 wants)
{
	u32 reply = read_u8(node + TH_TUPLE + TUPLE_DIR);
	u64 ct = node - CT_TUPLEHASH - (reply ? TH_BYTES : 0);
	u32 only = reply && read_u32(ct + CT_STATUS) & IPS_NAT_CLASH;

	if (reply && !only && !(wants & WALK_EVERY))
		return send_reply_bucket(ct, bucket);
	return send_entry(ct, bucket, reply, only, wants);
}

int walk(u64 *args)
{
	u32 slot = 0, steps = 0, bucket = args[0], end = args[1], wants = args[3];
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
			if (!node || !send_node(node, bucket, wants))
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
