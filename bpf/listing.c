/* SPDX-License-Identifier: GPL-2.0 */
/*
 * listing.c - the kernel's own listing: what does it list, where the hash itself cannot be found?
 *
 * Hooks:     ct_seq_show entry (a line of /proc/net/nf_conntrack, of every namespace); ctnetlink_fill_info entry (an entry of a
 *            netlink dump). Somebody must read the listing: the front end does, and others' readings are left alone
 * Emits:     KIND_WALK once per entry listed to us, both buckets found by following its chains to their ends
 * Kernels:   5.10 - 7.3 (from 7.2 on a namespace's file lists only its own)
 * Cost:      one record and two chain walks per entry listed; traffic is not touched
 * Blind to:  netlink: reply-only entries, which no dump shows
 * Tested by: tests/kernel/test_reading.py
 */

BPF_TABLE("array", u32, u32, lister, 1); /* process for which the kernel lists now; 0 = nobody of ours reads a listing */

/* Our own process, as the programs see it: in a container getpid() has another number. */
int whoami(u64 *args)
{
	return bpf_get_current_pid_tgid() >> 32;
}

static __always_inline bool listed_to_us(void)
{
	u32 slot = 0, *process = lister.lookup(&slot);

	return process && *process && *process == bpf_get_current_pid_tgid() >> 32;
}

static __always_inline int send_listed(u64 ct)
{
	struct record *record;
	u32 status;

	if (!listed_to_us())
		return 0;
	record = reserve(KIND_WALK);
	if (!record)
		return 0;
	copy_entry(record, ct);
	copy_extensions(record, ct);
	status = *(u32 *)(record->raw + CT_STATUS) | read_u32(ct + CT_STATUS); /* extensions die with their entry */
	if ((status & (IPS_CONFIRMED | IPS_DYING)) != IPS_CONFIRMED) {
		ring.ringbuf_discard(record, 1);
		return 0;
	}
	if (status & IPS_NAT_CLASH)
		record->reply_only = 1;
	else
		record->bucket[0] = bucket_below(ct + CT_TUPLEHASH, CHAIN_LIMIT);
	record->bucket[1] = bucket_below(ct + CT_REPLY, CHAIN_LIMIT);
	submit(record);
	return 0;
}

/* Called for every node; an entry is sent at its original node, or at its only one. */
static __always_inline int on_line(u64 node)
{
	u32 reply = read_u8(node + NODE_DIR);
	u64 ct = node - (reply ? CT_REPLY : CT_TUPLEHASH);

	if (reply && !(read_u32(ct + CT_STATUS) & IPS_NAT_CLASH))
		return 0;
	return send_listed(ct);
}

ENTRY(line, on_line(args[1]))
KPROBE_ENTRY(filled, send_listed(args[4]))
