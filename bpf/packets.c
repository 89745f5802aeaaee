/* SPDX-License-Identifier: GPL-2.0 */
/*
 * packets.c - what does conntrack make of each packet?
 *
 * Hooks:     nf_conntrack_in return: every tracked packet; nf_conntrack_icmpv4_error and _icmpv6_error return: ICMP;
 *            nf_ct_l4proto_log_invalid and nf_l4proto_log_invalid entry: only packets that are found bad, whether or not
 *            the sysctl has them logged
 * Emits:     KIND_DROP with reason invalid or error once per such packet (INVALID); counts (PACKETS)
 * Kernels:   5.10 - 7.3; of the log functions' arguments each kernel has its own: on_log_of_entry, on_log_of_packet
 * Cost:      one short program per packet: attached only when asked for
 * Blind to:  the rare invalid packet that is also dropped by conntrack itself (a TCP reopen that lost a race)
 * Tested by: tests/kernel/test_packets.py
 */

#define STATE_INVALID 8

struct packet_class {
	u32 netns;
	u16 hook;
	u16 state; /* enum ip_conntrack_info (7: untracked), or STATE_INVALID */
	u32 cpu;   /* in the key: a per-CPU map would have room of its own on every possible CPU, most of which never come */
};

struct words {
	u64 ct;
	u8 text[TEXT_BYTES];
	u32 error; /* the ICMP checker refused it */
};

BPF_TABLE("hash", struct packet_class, u64, packet_counts, 16384);
BPF_TABLE("percpu_array", u32, u64, unclassed, 1);    /* packets whose class found no room */
BPF_TABLE("lru_hash", u64, struct words, said, 1024); /* skb -> what the kernel says of it */
BPF_TABLE("array", u32, u64, speaking, 1);	      /* how many are in `said`, or more: mostly none, and none is looked for */

static __always_inline void note_words(u64 skb, struct words *words)
{
	u32 slot = 0;
	u64 *count = speaking.lookup(&slot);
	bool new = !said.lookup(&skb); /* else of another packet that lay at this address, whose end stayed unseen */

	said.update(&skb, words);
	if (count && new)
		__sync_fetch_and_add(count, 1);
}

static __always_inline void forget_words(u64 skb)
{
	u32 slot = 0;
	u64 *count = speaking.lookup(&slot);

	if (count && *count && !said.delete(&skb))
		__sync_fetch_and_add(count, -1);
}

/* The kernel's words: the format, or where that is "%s" or "%pV" the text or format behind its argument. */
static __always_inline int on_log(u64 skb, u64 ct, u64 format, u64 argument)
{
	struct words words = {.ct = ct};
	u32 head = read_u32(format);

	if (!ct && head == 0x00567025 && said.lookup(&skb)) /* called by nf_ct_l4proto_log_invalid */
		return 0;
	if ((head & 0xffffff) == 0x007325) /* "%s" */
		format = argument;
	else if (head == 0x00567025) /* "%pV": struct va_format, the format first */
		format = read_u64(argument);
	bpf_probe_read_kernel_str(words.text, TEXT_BYTES, (void *)format);
	note_words(skb, &words);
	return 0;
}

/*
 * Up to 5.13 the third argument is the format, since then a struct nf_hook_state before it: that has the number of a hook where a
 * format has a character.
 */
static __always_inline int on_log_of_entry(u64 skb, u64 ct, u64 third, u64 fourth, u64 fifth)
{
	if (read_u8(third + STATE_HOOK) >= ' ')
		return on_log(skb, ct, third, fourth);
	return on_log(skb, ct, fourth, fifth);
}

/* The fourth: since then the format, before it the number of a protocol, which is no address of the kernel's. */
static __always_inline int on_log_of_packet(u64 skb, u64 fourth, u64 fifth, u64 sixth)
{
	if (fourth >> 63)
		return on_log(skb, 0, fourth, fifth);
	return on_log(skb, 0, fifth, sixth);
}

static __always_inline int on_icmp_error(u64 skb, s32 result)
{
	struct words *found, none = {.error = 1};

	if (result > 0)
		return 0;
	found = said.lookup(&skb);
	if (found)
		found->error = 1;
	else
		note_words(skb, &none);
	return 0;
}

/* A packet's tuple, from its headers, as far as they are where the kernel looks for them; returns where the transport header is. */
static __always_inline u64 copy_headers(u8 *tuple, u64 network)
{
	u8 version = read_u8(network), protonum;
	u64 transport;

	if (version >> 4 == 4) {
		__builtin_memset(tuple + TUPLE_SRC, 0, 16);
		__builtin_memset(tuple + TUPLE_DST, 0, 16);
		*(u16 *)(tuple + TUPLE_L3NUM) = 2;
		bpf_probe_read_kernel(tuple + TUPLE_SRC, 4, (void *)(network + 12));
		bpf_probe_read_kernel(tuple + TUPLE_DST, 4, (void *)(network + 16));
		protonum = read_u8(network + 9);
		transport = network + (version & 15) * 4;
	} else {
		*(u16 *)(tuple + TUPLE_L3NUM) = 10;
		bpf_probe_read_kernel(tuple + TUPLE_SRC, 16, (void *)(network + 8));
		bpf_probe_read_kernel(tuple + TUPLE_DST, 16, (void *)(network + 24));
		protonum = read_u8(network + 6);
		transport = network + 40;
	}
	*(tuple + TUPLE_PROTONUM) = protonum;
	if (protonum == IPPROTO_ICMP || protonum == IPPROTO_ICMPV6) {
		*(u16 *)(tuple + TUPLE_DPORT) = read_u16(transport);	 /* type, code */
		*(u16 *)(tuple + TUPLE_SPORT) = read_u16(transport + 4); /* id */
	} else {
		*(u16 *)(tuple + TUPLE_SPORT) = read_u16(transport);
		*(u16 *)(tuple + TUPLE_DPORT) = read_u16(transport + 2);
	}
	return transport;
}

/* Whether a packet of this protocol and type speaks of another packet, whose headers it has: icmp_is_err, icmpv6_is_err. */
static __always_inline bool is_error(u8 protonum, u8 type)
{
	if (protonum == IPPROTO_ICMP)
		return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
	return protonum == IPPROTO_ICMPV6 && type < 128;
}

/*
 * Tuple and TCP flags of the packet, and of an ICMP error the tuple of the packet that it is about. Behind `end` lies none of
 * the packet's data: an error that has less than eight bytes of the inner transport header in front of it tells no inner tuple.
 */
static __always_inline void copy_packet_tuples(struct record *record, u64 skb)
{
	u64 head = read_u64(skb + SKB_HEAD), end = head + read_u32(skb + SKB_TAIL), transport, inner;
	u8 *tuple = record->raw + CT_TUPLE, *about = record->raw + CT_INNER, protonum;

	transport = copy_headers(tuple, head + read_u16(skb + SKB_NETWORK_HEADER));
	protonum = *(tuple + TUPLE_PROTONUM);
	record->tcp_flags = protonum == IPPROTO_TCP ? read_u8(transport + 13) : 0;
	*(u16 *)(about + TUPLE_L3NUM) = 0;
	if (!is_error(protonum, read_u8(transport)))
		return;
	inner = copy_headers(about, transport + 8);
	if (inner + 8 > end)
		*(u16 *)(about + TUPLE_L3NUM) = 0;
}

/* Which way a packet goes of the entry that the kernel had found for it. */
static __always_inline void copy_direction(struct record *record, u64 ct)
{
	u8 *tuple = record->raw + CT_TUPLE;
	u64 original = ct + CT_TUPLE;

	record->ct = ct;
	record->flags |= FLAG_ENTRY;
	record->has_ct = 2;
	*(u16 *)(record->raw + CT_ZONE) = read_u16(ct + CT_ZONE);
	if (read_u16(original + TUPLE_SPORT) != *(u16 *)(tuple + TUPLE_SPORT) ||
	    read_u32(original + TUPLE_SRC) != *(u32 *)(tuple + TUPLE_SRC))
		record->flags |= FLAG_REPLY;
}

static __always_inline void send_invalid(u64 skb, u64 net, u64 state)
{
	struct words *words = said.lookup(&skb);
	struct record *record;
	u64 device;

	if (unwanted(net))
		return;
	record = reserve(KIND_DROP);
	if (!record)
		return;
	record->netns = netns_inum(net);
	record->reason = DROP_INVALID;
	record->hook = read_u8(state + STATE_HOOK);
	copy_packet_tuples(record, skb);
	copy_process(record);
	device = read_u64(state + STATE_IN);
	copy_device(record, device ? device : read_u64(state + STATE_OUT));
	if (words) {
		if (words->ct)
			copy_direction(record, words->ct);
		if (words->error)
			record->reason = DROP_ERROR;
		if (words->text[0]) {
			bpf_probe_read_kernel(record->extra, TEXT_BYTES, words->text);
			record->flags |= FLAG_TEXT;
		}
	}
	submit(record);
}

static __always_inline void count_packet(u64 net, u64 state, u64 nfct)
{
	struct packet_class class = {};
	u64 none = 0, *count;
	u32 slot = 0;

	class.netns = netns_inum(net);
	class.hook = read_u8(state + STATE_HOOK);
	class.state = nfct ? nfct & CTINFO_MASK : STATE_INVALID;
	class.cpu = bpf_get_smp_processor_id();
	count = packet_counts.lookup(&class);
	if (!count) {
		packet_counts.insert(&class, &none);
		count = packet_counts.lookup(&class);
	}
	if (!count)
		count = unclassed.lookup(&slot);
	if (count) /* a packet that is sent may be interrupted here by one that arrives */
		__sync_fetch_and_add(count, 1);
}

/*
 * A packet that leaves without any word in _nfct was found invalid, or erroneous, or was refused an entry (verdict drop, and
 * drops.c's business).
 */
static __always_inline int on_packet(u64 skb, u64 state, u32 verdict)
{
	u64 nfct = ARG_U64(skb + SKB_NFCT);

	if (PACKETS && verdict != NF_DROP)
		count_packet(read_u64(state + STATE_NET), state, nfct);
	if (INVALID && verdict != NF_DROP && !nfct)
		send_invalid(skb, read_u64(state + STATE_NET), state);
	forget_words(skb);
	return 0;
}

KPROBE_ENTRY(log_of_entry, on_log_of_entry(args[0], args[1], args[2], args[3], args[4]))
KPROBE_ENTRY(log_of_packet, on_log_of_packet(args[0], args[3], args[4], args[5]))
RETURN(icmp_error, 4, on_icmp_error(args[1], result))
RETURN(packet, 2, on_packet(args[0], args[1], result))
