/* SPDX-License-Identifier: GPL-2.0 */
/*
 * chains.h - the table's chains, read node by node
 *
 * A chain is a list of tuplehash nodes (hnnode.next is the first member); its end is an odd word that holds the bucket.
 */

struct pass {
	u32 generation;
	/* Where a run of walk.c or lengths.c is, between two programs of it; the last two are of lengths.c. */
	u32 bucket;
	u64 table;
	u64 node;
	u32 length;
	u32 originals;
};

/* A node, and what lies behind it as far as the status of the entry whose reply node it is: as much as its reader asks for. */
union node {
	u64 next;
	u8 bytes[NODE_ROOM];
};

BPF_TABLE("array", u32, struct pass, pass, 1); /* the reading under way */

/*
 * A run goes over STEPS nodes and buckets at most: RUN_STEPS by a program, which is then called again in its own place. The verifier
 * follows a loop step by step, so that one of STEPS would cost more to load than the reading does.
 */
BPF_PROG_ARRAY(again, 2);

/*
 * Whether this is still the table of which bucket 0 was read: nf_conntrack_hash_resize raises the generation when it begins and
 * when it ends, and frees the old table only after programs such as ours have left it (synchronize_net).
 */
static __always_inline bool same_table(struct config *boot, u32 bucket, u32 size)
{
	u32 slot = 0, generation = boot->generation ? read_u32(boot->generation) : 0;
	struct pass *now = pass.lookup(&slot);

	if (!now || generation & 1 || read_u32(boot->buckets) != size)
		return false;
	if (!bucket)
		now->generation = generation;
	return now->generation == generation;
}

/* A run from this bucket on; NULL when this is not the table that the reading began with. */
static __always_inline struct pass *begin_run(u32 bucket, u32 size)
{
	u32 slot = 0;
	struct config *boot = config.lookup(&slot);
	struct pass *now = pass.lookup(&slot);

	if (!boot || !now || !same_table(boot, bucket, size))
		return NULL;
	now->bucket = bucket;
	now->table = read_u64(boot->hash);
	now->node = read_u64(now->table + 8ULL * bucket);
	return now;
}

/*
 * Nodes in this bucket's chain now, unknown beyond the limit. The verifier follows every step up to it: what is not asked for is dear to
 * load all the same.
 */
static __always_inline u32 chain_length(u64 table, u32 bucket, u32 limit)
{
	u64 node = read_u64(table + 8ULL * bucket);
	u32 length = 0;

#pragma clang loop unroll(disable)
	do {
		if (!node || node & 1)
			return length;
		node = read_u64(node);
	} while (++length < limit);
	return CHAIN_UNKNOWN;
}

/* Bucket at the end of the chain below this node. */
static __always_inline u32 bucket_below(u64 node, u32 limit)
{
	u32 steps = 0;

#pragma clang loop unroll(disable)
	do {
		node = read_u64(node);
		if (!node || node & 1)
			break;
	} while (++steps < limit);
	return node & 1 ? node >> 1 : BUCKET_UNKNOWN;
}

/* Fill in both lengths; `coming` = nodes of this entry that are not linked yet, 1 or, when both land in one bucket, 2. */
static __always_inline void count_chains(struct record *record, u32 coming, u32 limit)
{
	u32 slot = 0, length;
	struct config *boot = config.lookup(&slot);
	u64 table;

	if (!boot)
		return;
	table = read_u64(boot->hash);
	length = chain_length(table, record->bucket[0], limit);
	if (length != CHAIN_UNKNOWN)
		record->chain[0] = length + coming;
	length = chain_length(table, record->bucket[1], limit);
	if (length != CHAIN_UNKNOWN)
		record->chain[1] = length + coming;
}
