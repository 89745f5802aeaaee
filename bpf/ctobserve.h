/* SPDX-License-Identifier: GPL-2.0 */
/*
 * ctobserve.h - the record that the kernel side sends, and how kernel memory is read
 *
 * Offsets (CT_*, SKB_*, NET_*, TUPLE_*) and options arrive as -D integers, taken from the running kernel's BTF by
 * ctobserve/layout.py. No kernel type is used: bcc would lay it out for the host, not for BPF.
 * The front end reads the same record through ctobserve/events.py; tests/unit/test_record.py compares the two.
 */

/* What happened; enum Kind in ctobserve/events.py. */
enum kind {
	KIND_INSERT = 1,     /* nodes enter the hash: __nf_conntrack_hash_insert, or nf_ct_resolve_clash (reply node only) */
	KIND_CONFIRM = 2,    /* __nf_conntrack_confirm accepted a packet's new entry */
	KIND_DESTROY = 3,    /* entry leaves the table: nf_ct_delete */
	KIND_FREE = 4,	     /* entry freed that never entered the table: nf_conntrack_free */
	KIND_DROP = 5,	     /* packet lost */
	KIND_WALK = 6,	     /* entry seen by the table walk */
	KIND_WALK_REPLY = 7, /* bucket of a walked entry's reply node */
	KIND_RESIZE = 8,     /* the hash has another size: nf_conntrack_hash_resize */
	KIND_COUNT = 9,
};

/* Why a packet was lost; enum DropReason in ctobserve/events.py. */
enum drop_reason {
	DROP_TABLE_FULL = 1,
	DROP_NO_MEMORY = 2,
	DROP_CLASH = 3,
	DROP_CHAINTOOLONG = 4,
	DROP_DYING = 5,
	DROP_CONFIRMED = 6, /* another copy of the packet was confirmed first */
};

#define IPS_CONFIRMED  (1 << 3)
#define IPS_DYING      (1 << 9)
#define IPS_NAT_CLASH  (1 << 12)
#define CTINFO_MASK    7ULL
#define NF_DROP	       0
#define NF_ACCEPT      1
#define CHAIN_LIMIT    1024 /* nodes; a longer chain is reported as unknown */
#define CHAIN_UNKNOWN  0xffff
#define BUCKET_UNKNOWN 0xffffffff

/* One size for every record, so that the ring reads as an array. */
struct record {
	u64 ts;	       /* ns, CLOCK_MONOTONIC */
	u64 ct;	       /* address of the nf_conn, 0 = none */
	u64 caller;    /* destroy: return address of nf_ct_delete */
	u64 since;     /* confirm: ts of the allocation, 0 = unknown */
	u32 netns;     /* inode number, 0 = unknown */
	u32 bucket[2]; /* original, reply; BUCKET_UNKNOWN = not known, or no such node */
	u32 portid;    /* destroy: netlink port of who asked, 0 = none; resize: new number of buckets */
	u16 chain[2];  /* nodes in the bucket with this one, CHAIN_UNKNOWN = not counted */
	u8 kind;
	u8 reason;
	u8 reply_only;	   /* entry has no original node in the table (IPS_NAT_CLASH) */
	u8 has_ct;	   /* raw is a whole nf_conn; else only the original tuple in its place */
	u8 raw[RAW_BYTES]; /* the nf_conn as it was, CT_BYTES long, zero padded to a multiple of 8 */
};

/* Addresses that differ with every boot; one slot, written before the programs are attached. */
struct config {
	u64 hash;    /* &nf_conntrack_hash */
	u64 buckets; /* &nf_conntrack_htable_size */
};

BPF_RINGBUF_OUTPUT(ring, RING_PAGES);
BPF_TABLE("percpu_array", u32, u64, lost, KIND_COUNT); /* records that found the ring full, by kind */
BPF_TABLE("array", u32, struct config, config, 1);

static __always_inline u64 read_u64(u64 address)
{
	u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline u32 read_u32(u64 address)
{
	u32 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline u8 read_u8(u64 address)
{
	u8 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline u32 netns_inum(u64 net)
{
	return net ? read_u32(net + NET_INUM) : 0;
}

static __always_inline struct record *reserve(u32 kind)
{
	struct record *record = ring.ringbuf_reserve(sizeof(struct record));
	u64 *count;

	if (record) {
		record->ts = bpf_ktime_get_ns();
		record->caller = 0;
		record->since = 0;
		record->bucket[0] = BUCKET_UNKNOWN;
		record->bucket[1] = BUCKET_UNKNOWN;
		record->portid = 0;
		record->chain[0] = CHAIN_UNKNOWN;
		record->chain[1] = CHAIN_UNKNOWN;
		record->kind = kind;
		record->reason = 0;
		record->reply_only = 0;
		return record;
	}
	count = lost.lookup(&kind);
	if (count)
		__sync_fetch_and_add(count, 1);
	return NULL;
}

/* The reader polls, so no wake-up: an irq_work per event would cost more than the event. */
static __always_inline void submit(struct record *record)
{
	ring.ringbuf_submit(record, 1 /* BPF_RB_NO_WAKEUP */);
}

static __always_inline void copy_entry(struct record *record, u64 ct)
{
	record->ct = ct;
	record->has_ct = 1;
	bpf_probe_read_kernel(record->raw, CT_BYTES, (void *)ct);
	record->netns = netns_inum(*(u64 *)(record->raw + CT_NET));
}

/* A packet without an entry: only the tuple, where the entry would have it. */
static __always_inline void copy_tuple(struct record *record, u64 net, u64 tuple)
{
	record->ct = 0;
	record->has_ct = 0;
	bpf_probe_read_kernel(record->raw + CT_TUPLEHASH + TH_TUPLE, TUPLE_BYTES, (void *)tuple);
	record->netns = netns_inum(net);
}
