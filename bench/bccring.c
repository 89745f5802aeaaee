/* SPDX-License-Identifier: GPL-2.0 */
/*
 * bccring.c - what does bcc's own way cost: a ring, and a Python function called for every record?
 *
 * Hooks:     __nf_conntrack_hash_insert entry, kprobe
 * Emits:     the address and the copied nf_conn in a record of RECORD_BYTES, as large as ctobserve's
 * Kernels:   5.10 - 7.2
 * Cost:      that is the question (bench/bccring.py)
 * Blind to:  everything but inserts
 * Tested by: make bench
 */

struct record {
	u64 ts;
	u64 ct;
	u8 rest[RECORD_BYTES - 16];
};

BPF_RINGBUF_OUTPUT(ring, RING_PAGES);

int insert(struct pt_regs *ctx)
{
	struct record *record = ring.ringbuf_reserve(sizeof(struct record));

	if (!record)
		return 0;
	record->ts = bpf_ktime_get_ns();
	record->ct = FIRST_ARGUMENT(ctx);
	bpf_probe_read_kernel(record->rest, CT_BYTES, (void *)record->ct);
	ring.ringbuf_submit(record, 0);
	return 0;
}
