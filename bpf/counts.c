/* SPDX-License-Identifier: GPL-2.0 */
/*
 * counts.c - how many entries came, left and were lost, in which network namespace and why?
 *
 * Hooks:     __nf_conntrack_hash_insert entry; nf_ct_delete, a kprobe in every case as in destroy.c, which notes with it who kills
 *            and who iterates; early_drop, __nf_conntrack_confirm and nf_ct_resolve_clash return; nf_ct_helper_log entry
 * Emits:     nothing: numbers stand in the per-CPU maps `tallies`, `inserts`, `counts` and `folded`, which the front end reads now
 *            and then
 * Kernels:   5.10 - 7.3, with the differences of insert.c, destroy.c, drops.c and evict.c, whose reasons these are
 * Cost:      a new entry: one count, and a program on a return that finds nothing to do, which is half of what it costs, in the
 *            kprobe form more; an entry that leaves: one count
 * Blind to:  packets whose entry found no memory: the return of __nf_conntrack_alloc would cost half as much again, and the
 *            kernel counts them (`drop`). Kprobe form: what a softirq does that interrupts another kprobe program on that CPU
 * Tested by: tests/kernel/test_export.py
 */

#define REASONS_ROOM 8192 /* namespaces, times the reasons and callers that each has */
#define FOLDED_ROOM  512  /* the same without namespaces */

/* What happened where; `caller` and `iterator` of an entry that left as in a record of it, and whether netlink asked. */
struct counted {
	u64 caller;
	u64 iterator;
	u32 netns; /* inode number; 0: one of those for which there was no room */
	u8 kind;
	u8 reason; /* of a packet lost */
	u8 flags;
	u8 asked;
};

/* Inserts of one namespace, found at once: its number picks the slot. */
struct tally {
	u64 count;
	u32 netns; /* 0: of nobody yet */
};

BPF_TABLE("percpu_array", u32, struct tally, tallies, TALLIES);
/* Those of namespaces whose slot was another's, by namespace; under 0 those for which there was no room */
BPF_TABLE("percpu_hash", u32, u64, inserts, NAMESPACES_ROOM);
BPF_TABLE("percpu_hash", struct counted, u64, counts, REASONS_ROOM);
BPF_TABLE("percpu_hash", struct counted, u64, folded, FOLDED_ROOM); /* what found no room in `counts`, without its namespace */
BPF_TABLE("percpu_array", u32, u64, uncounted, 1);		    /* what found room nowhere */

/* A softirq may come between the load and the store of a plain addition. */
static __always_inline void add_one(u64 *count)
{
	u32 slot = 0;

	if (!count)
		count = uncounted.lookup(&slot);
	if (count)
		__sync_fetch_and_add(count, 1);
}

static __always_inline int count(struct counted *what)
{
	u64 none = 0, *found = counts.lookup(what);

	if (!found) {
		counts.insert(what, &none);
		found = counts.lookup(what);
	}
	if (!found) {
		what->netns = 0;
		found = folded.lookup(what);
	}
	if (!found) {
		folded.insert(what, &none);
		found = folded.lookup(what);
	}
	add_one(found);
	return 0;
}

/* Softirqs are off wherever an entry enters the table: on this CPU nobody comes between. */
static __always_inline int count_insert_in(u32 netns)
{
	u32 slot = netns & (TALLIES - 1);
	struct tally *tally = tallies.lookup(&slot);
	u64 none = 0, *found;

	if (tally && (tally->netns == netns || !tally->netns)) {
		tally->netns = netns;
		tally->count++;
		return 0;
	}
	found = inserts.lookup(&netns);
	if (!found) {
		inserts.insert(&netns, &none);
		found = inserts.lookup(&netns);
	}
	if (!found) {
		netns = 0;
		found = inserts.lookup(&netns);
	}
	add_one(found);
	return 0;
}

static __always_inline int count_loss(u32 netns, u8 reason)
{
	struct counted lost = {.netns = netns, .kind = KIND_DROP, .reason = reason};

	return count(&lost);
}

static __always_inline u32 netns_of(u64 ct)
{
	return netns_inum(read_u64(ct + CT_NET));
}

int count_destroy(struct pt_regs *ctx)
{
	u64 ct = FIRST_ARGUMENT(ctx), above;
	struct counted left = {.kind = KIND_DESTROY, .caller = RETURN_ADDRESS(ctx), .asked = (u32)SECOND_ARGUMENT(ctx) != 0};

	left.flags = take_killed(ct) ? FLAG_KILLED : 0;
	if (!SPLIT_DELETE && read_u32(ct + CT_STATUS) & IPS_DYING)
		return 0;
	left.netns = netns_of(ct);
	above = left.flags ? RETURN_ADDRESS_ABOVE(ctx) : 0;
	left.iterator = above ? above : last_iterator();
	return count(&left);
}

/* An entry that netlink makes has no hash yet: it is refused, and no packet is lost. */
static __always_inline int on_no_room(u64 net, u32 hash, u8 evicted)
{
	return evicted || !hash ? 0 : count_loss(netns_inum(net), DROP_TABLE_FULL);
}

static __always_inline int on_verdict(u64 skb, u32 verdict)
{
	u64 ct;

	if (verdict != NF_DROP)
		return 0;
	ct = read_u64(skb + SKB_NFCT) & ~CTINFO_MASK;
	return count_loss(netns_of(ct), confirm_drop_reason(skb, read_u32(ct + CT_STATUS)));
}

static __always_inline int on_clash(u64 skb, u64 winner, u32 verdict)
{
	u64 ct = read_u64(skb + SKB_NFCT) & ~CTINFO_MASK;
	struct counted resolved = {.kind = KIND_RESOLVED, .netns = netns_of(ct)};

	if (verdict == NF_DROP) {
		mark_clash(skb);
		return 0;
	}
	if (!merged_with(ct, winner))
		count_insert_in(resolved.netns);
	return count(&resolved);
}

ENTRY(count_insert, count_insert_in(ARG_U32(ARG_U64(args[0] + CT_NET) + NET_INUM)))
RETURN(count_confirm, 1, on_verdict(args[0], result))
RETURN(count_early_drop, 2, on_no_room(args[0], args[1], result))
RETURN(count_clash, 3, on_clash(args[0], args[1], result))
KPROBE_ENTRY(count_helper, count_loss(netns_of(args[1]), DROP_HELPER))
