/* SPDX-License-Identifier: GPL-2.0 */
/*
 * ctobserve.h - the record that the kernel side sends, and how kernel memory is read
 *
 * Numbers that the front end uses too arrive as -D integers, from ctobserve/programs/constants.py. What differs between kernels
 * (CT_*, SKB_*, NET_*, TUPLE_*, ...), and what a command chose, is given when programs are loaded: see GIVEN. No kernel type is used:
 * bcc would lay it out for the host, not for BPF.
 * The front end reads the same record through ctobserve/capture/records.py; tests/unit/test_record.py and test_constants.py compare
 * what is written on both sides.
 */

/* What happened; enum RecordKind in ctobserve/capture/records.py. */
enum kind {
	KIND_INSERT = 1,    /* nodes enter the hash: __nf_conntrack_hash_insert, or nf_ct_resolve_clash (reply node only) */
	KIND_CONFIRM = 2,   /* __nf_conntrack_confirm accepted a packet's new entry */
	KIND_DESTROY = 3,   /* entry leaves the table: nf_ct_delete */
	KIND_FREE = 4,	    /* entry freed that never entered the table: nf_conntrack_free */
	KIND_DROP = 5,	    /* packet lost, or judged invalid */
	KIND_WALK = 6,	    /* entry seen by the table walk */
	KIND_RESIZE = 8,    /* the hash has another size: nf_conntrack_hash_resize */
	KIND_UPDATE = 9,    /* an entry in the table changed: ctnetlink_conntrack_event */
	KIND_MASTER = 10,   /* the master of the entry inserted next */
	KIND_EVICTOR = 11,  /* the new tuple that early_drop made room for */
	KIND_RESOLVED = 12, /* clash resolved: the packet goes on with the entry that won */
	KIND_COUNT = 13,
};

/* Why a packet was lost; enum DropReason in ctobserve/event.py. */
enum drop_reason {
	DROP_TABLE_FULL = 1,
	DROP_NO_MEMORY = 2,
	DROP_CLASH = 3,
	DROP_CHAINTOOLONG = 4,
	DROP_DYING = 5,
	DROP_CONFIRMED = 6, /* another copy of the packet was confirmed first: no counter moves */
	DROP_INVALID = 7,   /* marked INVALID and let pass; a rule may drop it */
	DROP_ERROR = 8,	    /* ICMP error checker refused it; let pass like an invalid packet */
	DROP_HELPER = 9,    /* its helper could not do its work, such as to expect one more: no counter moves */
};

#define CTINFO_MASK    7ULL
#define IP_CT_IS_REPLY 3 /* from here on a packet goes in reply direction */
#define NF_DROP	       0
#define CHAIN_LIMIT    1024 /* nodes; a longer chain is reported as unknown */
#define CHAIN_REFUSED  256  /* the same of a chain whose length the kernel limits (MIN_CHAINLEN, MAX_CHAINLEN) */
#define FLAG_KILLED    1    /* destroy: by nf_ct_kill_acct, which is no frame on the stack where it ends in a jump */
#define FLAG_COUNTERS  2    /* extra holds packets and bytes of both directions */
#define FLAG_TEXT      4    /* extra holds the kernel's own words */
#define FLAG_CLASHED   8    /* free: its tuple was taken when it came to confirm */
#define FLAG_ENTRY     16   /* invalid: the packet belongs to a known entry */
#define FLAG_REPLY     32   /* and goes in its reply direction */
#define FLAG_START     64   /* walk: extra has the start time, after the counters' place */
#define FLAG_EXT       128  /* walk: the entry has extensions; extra has their length after that */

/* What a call left for its own end, and is older than this, was of a call whose end we did not see: ns. */
#define STALE_NS 1000000000ULL

/*
 * A number that is known when programs are loaded, as a constant that stands out: the loader writes the value over it. Each name of
 * ctobserve/programs/given.py is a -D of this. To the verifier it is as known as any constant: it may be an offset behind any pointer, or a
 * size, and branches that are never taken are dropped. So one compilation serves every kernel and every command.
 */
#define GIVEN(number)                                                                                                            \
	({                                                                                                                       \
		u64 given;                                                                                                       \
		asm volatile("%0 = %1 ll" : "=r"(given) : "i"(GIVEN_MARK << 32 | number));                                       \
		given;                                                                                                           \
	})

/*
 * One size for every record, so that the ring reads as an array. Which member of a union is meant, kind and reason say. What makes an
 * entry lies together, from netns on: a table keeps these bytes as they are. An insert has nothing but that, and its cpu.
 */
struct record {
	u64 caller; /* destroy: return address of nf_ct_delete */
	union {
		u64 since;    /* confirm, drop: ts of the allocation, 0 = unknown */
		u64 iterator; /* destroy: function that nf_ct_iterate_cleanup asks of each entry, 0 = not removed by it */
		u64 killer;   /* destroy with FLAG_KILLED: where nf_ct_delete's caller returns to, from its frame, 0 = unknown */
	};
	u64 eviction; /* destroy, evictor: which call of early_drop, 0 = none */
	union {
		u32 portid;  /* destroy: netlink port of who asked, 0 = none */
		u32 changes; /* update: IPCT_* bits */
		u32 buckets; /* resize: how many there are now */
	};
	u32 pid;     /* process that sent the packet or asked for the removal, 0 = none known */
	u32 ifindex; /* device of the packet, 0 = unknown */
	union {
		u16 scanned[4]; /* table full: what early_drop met: assured, other netns, otherwise kept; and empty buckets */
		struct {	/* invalid, error: */
			u8 tcp_flags; /* byte 13 of the header when it is TCP */
			u8 hook;      /* netfilter hook number */
		};
	};
	u16 cpu;
	u8 reason;
	u8 flags;
	u8 comm[16];	      /* name of pid's thread */
	u8 device[16];	      /* name of ifindex */
	u8 extra[TEXT_BYTES]; /* by flags */
	u32 netns;	      /* inode number, 0 = unknown */
	u64 ts;		      /* ns, CLOCK_MONOTONIC */
	u64 ct;		      /* address of the nf_conn, 0 = none */
	u32 bucket[2];	      /* original, reply; BUCKET_UNKNOWN = not known, or no such node */
	u16 chain[2];	      /* nodes in the bucket with this one, CHAIN_UNKNOWN = not counted */
	u8 kind;
	u8 reply_only; /* entry has no original node in the table (IPS_NAT_CLASH) */
	u8 has_ct;     /* raw is 1: a whole nf_conn; 2: the original tuple and the zone; 0: the tuple alone */
	u8 tcp_state;  /* of a whole one, when it is TCP */
	u8 raw[];      /* the nf_conn as it was, CT_BYTES long; room for RAW_BYTES, the next multiple of 8 */
};

/* invalid, error: where in raw, which holds no reply tuple then, the tuple inside an ICMP error is; its l3num is 0 in others. */
#define CT_INNER (CT_TUPLE + TH_BYTES)

/* Addresses that differ with every boot; one slot, written before the programs are attached. 0 = not in this kernel. */
struct config {
	u64 hash;	    /* &nf_conntrack_hash */
	u64 buckets;	    /* &nf_conntrack_htable_size */
	u64 per_cpu_offset; /* __per_cpu_offset[] */
	u64 preempt_count;  /* where the preempt count is: PREEMPT_COUNT of bpf/arch */
	u64 generation;	    /* &nf_conntrack_generation */
};

BPF_RINGBUF_OUTPUT(ring, 16);			       /* made with the size the user wants; bcc tries one of 64 KiB */
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

static __always_inline u16 read_u16(u64 address)
{
	u16 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline u8 read_u8(u64 address)
{
	u8 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

/*
 * A member of what a hooked function got as argument, or of what that points to. The verifier knows its type in an fentry
 * program, which reads it like any memory; elsewhere it takes a helper.
 */
#if TRAMPOLINE
#define ARG_U64(address) (*(volatile u64 *)(address))
#define ARG_U32(address) (*(volatile u32 *)(address))
#else
#define ARG_U64(address) read_u64(address)
#define ARG_U32(address) read_u32(address)
#endif

static __always_inline u32 netns_inum(u64 net)
{
	return net ? read_u32(net + NET_INUM) : 0;
}

/* What happens in this network namespace is not wanted. */
static __always_inline bool unwanted(u64 net)
{
	u32 wanted = NETNS;

	return wanted && netns_inum(net) != wanted;
}

static __always_inline bool unwanted_entry(u64 ct)
{
	u32 wanted = NETNS;

	return wanted && netns_inum(read_u64(ct + CT_NET)) != wanted;
}

/* The nf_conn that a tuplehash (a node of a chain) belongs to. */
static __always_inline u64 entry_of_node(u64 node)
{
	return node - CT_TUPLEHASH - (read_u8(node + NODE_DIR) & 1) * TH_BYTES;
}

/* Of an insert nobody reads more than what is set here and what is copied. */
static __always_inline struct record *reserve_insert(u32 kind)
{
	u64 bytes = sizeof(struct record) + RAW_BYTES, *count;
	struct record *record = ring.ringbuf_reserve(bytes);

	if (record) {
		record->ts = bpf_ktime_get_ns();
		record->cpu = bpf_get_smp_processor_id();
		record->chain[0] = CHAIN_UNKNOWN;
		record->chain[1] = CHAIN_UNKNOWN;
		record->kind = kind;
		record->reply_only = 0;
		record->has_ct = 0;
		record->tcp_state = 0;
		return record;
	}
	count = lost.lookup(&kind);
	if (count)
		__sync_fetch_and_add(count, 1);
	return NULL;
}

static __always_inline struct record *reserve(u32 kind)
{
	struct record *record = reserve_insert(kind);

	if (record) {
		record->ct = 0;
		record->caller = 0;
		record->since = 0;
		record->eviction = 0;
		record->netns = 0;
		record->bucket[0] = BUCKET_UNKNOWN;
		record->bucket[1] = BUCKET_UNKNOWN;
		record->portid = 0;
		record->pid = 0;
		record->ifindex = 0;
		record->reason = 0;
		record->flags = 0;
		record->hook = 0;
	}
	return record;
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
	if (record->raw[CT_TUPLE + TUPLE_PROTONUM] == IPPROTO_TCP)
		record->tcp_state = record->raw[CT_TCP_STATE];
}

/* A packet without an entry: only tuple and zone, where the entry would have them. */
static __always_inline void copy_tuple(struct record *record, u64 net, u64 zone, u64 tuple)
{
	record->has_ct = 2;
	*(u16 *)(record->raw + CT_ZONE) = read_u16(zone);
	bpf_probe_read_kernel(record->raw + CT_TUPLE, TUPLE_BYTES, (void *)tuple);
	record->netns = netns_inum(net);
}

/* The process on whose behalf we run: not while a softirq or interrupt borrows it, and not a kernel thread. */
static __always_inline void copy_process(struct record *record)
{
	u32 slot = 0;
	struct config *boot = config.lookup(&slot);

	if (!boot || !boot->preempt_count)
		return;
	if (PREEMPT_COUNT(boot, record->cpu) & 0xfff0100) /* NMI, hardirq, serving softirq */
		return;
	/* PREEMPT_RT: softirqs run in whatever task lets them, and the count of those is apart */
	if (TASK_SOFTIRQS && read_u32(bpf_get_current_task() + TASK_SOFTIRQS) & 0x100)
		return;
	if (read_u32(bpf_get_current_task() + TASK_FLAGS) & 0x200000) /* PF_KTHREAD */
		return;
	record->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
}

static __always_inline void copy_device(struct record *record, u64 device)
{
	if (!device)
		return;
	record->ifindex = read_u32(device + DEVICE_IFINDEX);
	bpf_probe_read_kernel(record->device, sizeof(record->device), (void *)(device + DEVICE_NAME));
}
