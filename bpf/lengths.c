/* SPDX-License-Identifier: GPL-2.0 */
/*
 * lengths.c - how long is every chain now?
 *
 * Hooks:     none: run by BPF_PROG_TEST_RUN with (first bucket, end bucket, number of buckets), called again with its result
 *            until that is the end bucket, at most WINDOW buckets further
 * Emits:     nothing: lengths and the number of original nodes stand in the map `window`, which the front end has mapped
 * Kernels:   5.10 - 7.3
 * Cost:      one step per node and per bucket, up to STEPS a call; no entry is copied; traffic is not touched
 * Blind to:  a chain of more than STEPS nodes
 * Tested by: tests/kernel/test_reading.py
 *
 * An entry has two nodes, or one in reply direction only; so there are as many entries as nodes less original nodes.
 */

struct window {
	u64 originals;
	u16 length[WINDOW];
};

BPF_F_TABLE("array", u32, struct window, window, 1, 1024 /* BPF_F_MMAPABLE */);

int lengths(u64 *args)
{
	struct pass *now = begin_run(args[0], args[2]);

	if (now) {
		now->length = 0;
		now->originals = 0;
		again.call(args, LENGTHS_AGAIN);
	}
	return RESIZED;
}

int lengths_on(u64 *args)
{
	u32 slot = 0, steps = 0, end = args[1], bucket, length, originals;
	struct window *out = window.lookup(&slot);
	struct pass *now = pass.lookup(&slot);
	union node read;
	u64 node;

	if (!now || !out)
		return RESIZED;
	bucket = now->bucket;
	node = now->node;
	length = now->length;
	originals = now->originals;
#pragma clang loop unroll(disable)
	do {
		if (node & 1) {
			if (node >> 1 == bucket) {
				/* Read again: of a number that has a history the verifier keeps every variant apart. */
				out->length[*(volatile u32 *)&now->bucket & (WINDOW - 1)] = length;
				out->originals += originals;
				now->bucket = ++bucket;
			}
			if (bucket >= end)
				return bucket;
			length = 0;
			originals = 0;
			node = read_u64(now->table + 8ULL * bucket);
		} else {
			bpf_probe_read_kernel(&read, NODE_DIR + 1, (void *)node);
			length++;
			originals += 1 - (read.bytes[NODE_DIR] & 1);
			node = read.next;
			if (!node)
				return bucket;
		}
	} while (++steps < RUN_STEPS);
	now->node = node;
	now->length = length;
	now->originals = originals;
	again.call(args, LENGTHS_AGAIN);
	return bucket;
}
