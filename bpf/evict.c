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
#define DEPTH_MAX 4   /* calls of early_drop under way in one task that are told apart: its own and those of softirqs above it */
#define IDLE	  (1U << 31) /* the idle tasks of all CPUs have number 0: they go by their CPU */

/* One task at a time: those that send the same tuple on different CPUs have the same hash. */
struct attempt {
	u64 net;
	u32 hash; /* raw hash of the original tuple: early_drop and __nf_conntrack_alloc get the same one */
	u32 task;
};

struct outcome {
	u64 ts;	      /* of early_drop's return: __nf_conntrack_alloc returns right after it */
	u64 eviction; /* 0: there was none */
	u16 scanned[4];
};

/*
 * What a task does now: wherever the kernel may be preempted it can be taken off its CPU in the midst, others then do the same on
 * this one, and it goes on on another. So what is under way is known by the task, not by the CPU. A softirq above a task, which has
 * its number, ends before the task goes on.
 */
struct doing {
	u64 killed; /* entry that nf_ct_kill_acct removes: it calls in tail position */
	u64 depth;  /* calls of early_drop under way */
	u64 eviction[DEPTH_MAX];
	u32 hash[DEPTH_MAX];  /* of whom it makes room for */
	u64 began[DEPTH_MAX]; /* ns */
};

/* On this CPU. */
struct evictions {
	u64 started;
	u16 scanned[4]; /* here and not on the stack: the verifier would follow every count it knows */
};

BPF_TABLE("lru_hash", struct attempt, struct outcome, outcomes, 4096);
BPF_TABLE("lru_hash", u32, struct doing, doings, 4096); /* by thread */
BPF_TABLE("percpu_array", u32, struct evictions, evictions, 1);
BPF_TABLE("array", u32, u64, unclaimed, 1);	  /* outcomes that drops.c has not taken yet */
BPF_TABLE("percpu_array", u32, u64, unpaired, 1); /* calls of early_drop of which we saw the begin or the return alone */

static __always_inline u32 task_here(void)
{
	u32 thread = bpf_get_current_pid_tgid();

	return thread ? thread : IDLE | bpf_get_smp_processor_id();
}

static __always_inline struct doing *doing_here(void)
{
	u32 task = task_here();

	return doings.lookup(&task);
}

/* The same, begun where this task did nothing yet. */
static __always_inline struct doing *begun_here(void)
{
	struct doing nothing = {}, *here = doing_here();
	u32 task = task_here();

	if (here)
		return here;
	doings.update(&task, &nothing);
	return doings.lookup(&task);
}

static __always_inline void count_unpaired(void)
{
	u32 slot = 0;
	u64 *count = unpaired.lookup(&slot);

	if (count)
		*count += 1;
}

/*
 * A return can stay unseen: a kretprobe had no room. The depth would then never come back to 0, and everything that this task removes
 * would seem evicted.
 */
static __always_inline void forget_what_cannot_be(struct doing *here, u64 now)
{
	if (!here->depth || now - here->began[here->depth & (DEPTH_MAX - 1)] <= STALE_NS)
		return;
	here->depth = 0;
	count_unpaired();
}

/* Which early_drop call removes entries in this task now, 0 = none. */
static __always_inline u64 eviction_under_way(void)
{
	struct doing *here = doing_here();

	if (!here || !here->depth)
		return 0;
	forget_what_cannot_be(here, bpf_ktime_get_ns());
	return here->depth ? here->eviction[here->depth & (DEPTH_MAX - 1)] : 0;
}

static __always_inline int on_early_drop_begin(u32 hash)
{
	struct doing *here = begun_here();
	u64 now = bpf_ktime_get_ns();
	struct evictions *cpu;
	u32 slot = 0;

	cpu = evictions.lookup(&slot);
	if (!here || !cpu)
		return 0;
	forget_what_cannot_be(here, now);
	if (here->depth == DEPTH_MAX) {
		here->depth = 0;
		count_unpaired();
	}
	cpu->started++;
	here->depth++;
	here->eviction[here->depth & (DEPTH_MAX - 1)] = (u64)(bpf_get_smp_processor_id() + 1) << 48 | cpu->started;
	here->hash[here->depth & (DEPTH_MAX - 1)] = hash;
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
	struct attempt attempt = {.net = net, .hash = hash, .task = task_here()};
	struct outcome outcome = {.ts = bpf_ktime_get_ns()};
	struct doing *here = doing_here();
	struct evictions *cpu;
	u32 slot = 0;
	u64 *waiting;
	bool began;

	cpu = evictions.lookup(&slot);
	waiting = unclaimed.lookup(&slot);
	if (!cpu || !waiting)
		return 0;
	began = here && here->depth && here->hash[here->depth & (DEPTH_MAX - 1)] == hash;
	if (!began) /* or the one that did has not come back: of none of the two we know the victims */
		count_unpaired();
	if (!evicted) {
		scan(cpu, net, hash);
		__builtin_memcpy(outcome.scanned, cpu->scanned, sizeof(outcome.scanned));
	} else if (began) {
		outcome.eviction = here->eviction[here->depth & (DEPTH_MAX - 1)];
	}
	if (here)
		here->depth -= here->depth > 0;
	if (evicted && !began)
		return 0; /* it made room for this tuple, but which victims were its own nobody noted */
	__sync_fetch_and_add(waiting, 1);
	outcomes.update(&attempt, &outcome);
	return 0;
}

/* The outcome of early_drop for this allocation, if there was one; taken once. A refusal is looked up in any case. */
static __always_inline bool take_outcome(u64 net, u32 hash, bool refused, struct outcome *outcome)
{
	struct attempt attempt = {.net = net, .hash = hash, .task = task_here()};
	struct outcome *found;
	u32 slot = 0;
	u64 *waiting;

	waiting = unclaimed.lookup(&slot);
	if (!waiting || (!*waiting && !refused))
		return false;
	found = outcomes.lookup(&attempt);
	if (!found)
		return false;
	*outcome = *found;
	outcomes.delete(&attempt);
	__sync_fetch_and_add(waiting, -1);
	return bpf_ktime_get_ns() - outcome->ts <= STALE_NS; /* older: another packet's, whose allocation ended unseen */
}

/* Whether early_drop was called for this allocation, and its return stayed unseen: what it met is not known. */
static __always_inline bool begun_only(u32 hash)
{
	struct doing *here = doing_here();

	if (!here || !here->depth || here->hash[here->depth & (DEPTH_MAX - 1)] != hash)
		return false;
	here->depth--;
	count_unpaired();
	return true;
}

ENTRY(early_drop_begin, on_early_drop_begin(args[1]))
RETURN(early_drop, 2, on_early_drop(args[0], args[1], result))
