/* SPDX-License-Identifier: GPL-2.0 */
/*
 * evict.c - the table is full: who is evicted for whom, and why was nobody?
 *
 * Hooks:     early_drop entry and return; both run only while a namespace's count is above nf_conntrack_max
 * Emits:     nothing itself: the victims are destroy.c's records, the new tuple is drops.c's; the call's number ties them
 * Kernels:   5.10 - 7.3
 * Cost:      per eviction two map writes; per refusal a walk of the 8 buckets that early_drop scanned
 * Blind to:  evictions by the gc worker, which destroy.c tells apart by its return address
 * Tested by: tests/kernel/test_drops.py, tests/kernel/test_starts.py
 */

#define RANGE	  8   /* NF_CT_EVICTION_RANGE: buckets that early_drop scans */
#define SCAN_MAX  256 /* nodes and buckets we look at to say why nobody could be evicted */
#define DEPTH_MAX 4   /* calls of early_drop under way on one CPU that are told apart: a task and the softirqs above it */

struct attempt {
	u64 net;
	u64 hash; /* raw hash of the original tuple: early_drop and __nf_conntrack_alloc get the same one */
};

struct outcome {
	u64 ts;	      /* of early_drop's return: __nf_conntrack_alloc returns right after it */
	u64 eviction; /* 0: there was none */
	u16 scanned[4];
};

/* Calls of early_drop under way on this CPU: a softirq can interrupt one and start another. */
struct evictions {
	u64 started;
	u64 unclaimed; /* outcomes that drops.c has not taken yet */
	u64 depth;
	u64 eviction[DEPTH_MAX];
	u64 began[DEPTH_MAX]; /* ns */
	u16 scanned[4];	      /* here and not on the stack: the verifier would follow every count it knows */
};

BPF_TABLE("lru_hash", struct attempt, struct outcome, outcomes, 4096);
BPF_TABLE("percpu_array", u32, struct evictions, evictions, 1);
BPF_TABLE("percpu_array", u32, u64, unpaired, 1); /* calls of early_drop of which we saw the begin or the return alone */

static __always_inline struct evictions *evictions_here(void)
{
	u32 slot = 0;

	return evictions.lookup(&slot);
}

static __always_inline void count_unpaired(void)
{
	u32 slot = 0;
	u64 *count = unpaired.lookup(&slot);

	if (count)
		*count += 1;
}

/*
 * A return can stay unseen: a kretprobe had no room, a task was moved to another CPU. The depth would then never come back to 0, and
 * everything that leaves on this CPU would seem evicted.
 */
static __always_inline void forget_what_cannot_be(struct evictions *here, u64 now)
{
	if (!here->depth || now - here->began[here->depth & (DEPTH_MAX - 1)] <= STALE_NS)
		return;
	here->depth = 0;
	count_unpaired();
}

/* Which early_drop call removes entries on this CPU now, 0 = none. */
static __always_inline u64 eviction_under_way(void)
{
	struct evictions *here = evictions_here();

	if (!here || !here->depth)
		return 0;
	forget_what_cannot_be(here, bpf_ktime_get_ns());
	return here->depth ? here->eviction[here->depth & (DEPTH_MAX - 1)] : 0;
}

static __always_inline int on_early_drop_begin(void)
{
	struct evictions *here = evictions_here();
	u64 now = bpf_ktime_get_ns();

	if (!here)
		return 0;
	forget_what_cannot_be(here, now);
	if (here->depth == DEPTH_MAX) {
		here->depth = 0;
		count_unpaired();
	}
	here->started++;
	here->depth++;
	here->eviction[here->depth & (DEPTH_MAX - 1)] = (u64)(bpf_get_smp_processor_id() + 1) << 48 | here->started;
	here->began[here->depth & (DEPTH_MAX - 1)] = now;
	return 0;
}

/*
 * What stands in the buckets that early_drop scanned, starting at the new tuple's own: all of it was kept. Arithmetic in place
 * of branches, because the verifier follows every path of every step.
 */
static __always_inline void scan(struct evictions *here, u64 net, u32 hash)
{
	u32 slot = 0, size, bucket, last, steps = 0;
	struct config *boot = config.lookup(&slot);
	u64 table, node, ct, foreign, assured;

	if (!boot)
		return;
	size = read_u32(boot->buckets);
	if (size < RANGE)
		return;
	__builtin_memset(here->scanned, 0, sizeof(here->scanned));
	table = read_u64(boot->hash);
	bucket = (u64)hash * size >> 32;
	last = (bucket + RANGE - 1) % size;
	node = read_u64(table + 8ULL * bucket);
	here->scanned[3] += node & 1;
#pragma clang loop unroll(disable)
	do {
		if (!node)
			break;
		if (node & 1) {
			if (bucket == last)
				break;
			bucket = (bucket + 1) % size;
			node = read_u64(table + 8ULL * bucket);
			here->scanned[3] += node & 1;
		} else {
			ct = entry_of_node(node);
			foreign = read_u64(ct + CT_NET) ^ net;
			foreign = (foreign | -foreign) >> 63;
			assured = (read_u32(ct + CT_STATUS) & IPS_ASSURED) / IPS_ASSURED;
			here->scanned[(foreign + (1 - foreign) * (2 - 2 * assured)) & 3]++;
			node = read_u64(node);
		}
	} while (++steps < SCAN_MAX);
}

static __always_inline int on_early_drop(u64 net, u32 hash, u8 evicted)
{
	struct attempt attempt = {.net = net, .hash = hash};
	struct evictions *here = evictions_here();
	struct outcome outcome = {.ts = bpf_ktime_get_ns()};

	if (!here)
		return 0;
	if (!here->depth)
		count_unpaired();
	if (!evicted) {
		scan(here, net, hash);
		__builtin_memcpy(outcome.scanned, here->scanned, sizeof(outcome.scanned));
	} else if (here->depth) {
		outcome.eviction = here->eviction[here->depth & (DEPTH_MAX - 1)];
	} else {
		return 0; /* it made room for this tuple, but which victims were its own nobody noted */
	}
	here->depth -= here->depth > 0;
	here->unclaimed++;
	outcomes.update(&attempt, &outcome);
	return 0;
}

/*
 * The outcome of early_drop for this allocation, if there was one; taken once. A refusal is looked up in any case: its task may have
 * been moved from the CPU whose count says that there is something to take.
 */
static __always_inline bool take_outcome(u64 net, u32 hash, bool refused, struct outcome *outcome)
{
	struct attempt attempt = {.net = net, .hash = hash};
	struct evictions *here = evictions_here();
	struct outcome *found;

	if (!here || (!here->unclaimed && !refused))
		return false;
	found = outcomes.lookup(&attempt);
	if (!found)
		return false;
	*outcome = *found;
	outcomes.delete(&attempt);
	here->unclaimed -= here->unclaimed > 0;
	return bpf_ktime_get_ns() - outcome->ts <= STALE_NS; /* older: another packet's, whose allocation ended unseen */
}

ENTRY(early_drop_begin, on_early_drop_begin())
RETURN(early_drop, 2, on_early_drop(args[0], args[1], result))
