/* SPDX-License-Identifier: GPL-2.0 */
/*
 * update.c - how do entries change while they live?
 *
 * Hooks:     ctnetlink_conntrack_event entry, called once per batch of real changes, not per packet
 * Emits:     KIND_UPDATE, with the kernel's IPCT_* bits
 * Kernels:   5.10 - 7.3, with nf_conntrack_netlink loaded. From 5.19 entries allocated while nobody listens have no event
 *            extension and send nothing; the front end keeps one silent listener open (ctobserve/host/listener.py)
 * Cost:      one record per change; 5 for a whole TCP connection
 * Blind to:  entries older than the listener; a change on a packet that is dropped later comes with the next packet
 * Tested by: tests/kernel/test_updates.py
 */

#define IPCT_BEGINS_OR_ENDS 7 /* NEW, RELATED, DESTROY: insert.c and destroy.c say those */

static __always_inline int on_event(u32 bits, u64 item)
{
	struct record *record;
	u64 ct;

	if (!bits || bits & IPCT_BEGINS_OR_ENDS)
		return 0;
	ct = read_u64(item);
	if (unwanted_entry(ct))
		return 0;
	record = reserve(KIND_UPDATE);
	if (!record)
		return 0;
	copy_entry(record, ct);
	record->changes = bits;
	submit(record);
	return 0;
}

ENTRY(update, on_event(args[0], args[1]))
