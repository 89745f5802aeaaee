"""The keys of a verdict's evidence: what each says, and its unit. docs/json.md and the schema have them from here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypedDict, get_args, get_type_hints


class WhereEvidence(TypedDict, total=False):
    """Where."""

    netns: Annotated[int | None, "inode number of the namespace that is spoken of; null: none in particular"]
    namespaces: Annotated[int, "how many namespaces it is true of, or that were counted"]
    netns_fullest: Annotated[int | None, "inode number of the namespace that is nearest to its limit"]
    entries_fullest: Annotated[int | None, "entries that namespace has"]
    limit_fullest: Annotated[int | None, "entries that it may have"]


class WhoseEvidence(TypedDict, total=False):
    """Whose packets, entries or connections."""

    src: Annotated[str, "original source address: that of the case, else the commonest"]
    sport: Annotated[int, "original source port"]
    dst: Annotated[str | None, "destination address; of snat_ports: of the service behind the NAT"]
    dport: Annotated[int | None, "destination port"]
    proto: Annotated[str | None, "protocol"]
    tunnel: Annotated[str, "what kind of tunnel"]
    address: Annotated[str, "the NAT address that has no free port"]
    backend: Annotated[str, "address to which an entry sends packets"]
    backend_port: Annotated[int, "its port"]
    source: Annotated[str, "address with which the packets of an old entry leave"]
    new_source: Annotated[str | None, "that with which new packets leave; null: one of this host, not one alone, or not known"]
    network: Annotated[str, "network that client and backend are both in"]
    network_guessed: Annotated[bool, "whether its mask was guessed from their addresses"]
    senders: Annotated[list[str], "address:port of who sends by way of `backend`, 5 at most"]
    new_backend: Annotated[str | None, "address to which new packets to `dst` are sent instead; null: not one, or not known"]
    new_backend_port: Annotated[int | None, "its port; null: not one, or not known"]
    src_packets: Annotated[int, "packets from `src`"]
    dst_packets: Annotated[int, "packets to `dst`"]
    first_src: Annotated[str, "source address of the first of these packets"]
    first_sport: Annotated[int | None, "its source port; null where the protocol has none"]
    first_dst: Annotated[str, "its destination address"]
    first_dport: Annotated[int | None, "its destination port; null where the protocol has none"]


class PacketEvidence(TypedDict, total=False):
    """Packets lost or INVALID."""

    packets: Annotated[int, "packets lost or INVALID that it speaks of"]
    packets_per_s: Annotated[float | None, "the same per second; null where not all were kept"]
    packets_elsewhere: Annotated[int, "packets of the same kind in other namespaces"]
    packets_not_kept: Annotated[int, "packets lost for the same reasons of which only the reason was kept"]
    packets_not_kept_per_s: Annotated[float, "the same per second"]
    packets_lost: Annotated[int, "packets lost or INVALID, for whatever reason"]
    table_full: Annotated[int, "packets refused as the namespace had nf_conntrack_max entries and none could be evicted"]
    no_memory: Annotated[int, "packets lost as the kernel had no memory for their entry"]
    clash: Annotated[int, "packets lost as the table had an entry with their tuple"]
    chaintoolong: Annotated[int, "packets lost as a hash chain was too long"]
    dying: Annotated[int, "packets lost as their entry was removed before it was confirmed"]
    confirmed: Annotated[int, "packets lost as their entry was confirmed already"]
    helper: Annotated[int, "packets of known entries that a helper dropped"]
    invalid: Annotated[int, "INVALID packets"]
    error: Annotated[int, "packets in which a tracker found an error"]
    kinds: Annotated[int, "how many kinds of packets there are: reason, protocol, flags, hook and the kernel's words together"]
    reason: Annotated[str | None, "of the commonest kind: why it was lost"]
    tcp_flags: Annotated[str | None, "of the commonest kind: names joined by +; null where it is not TCP or has none"]
    hook: Annotated[str | None, "of the commonest kind: where it was found bad; null for other losses"]
    kernel_says: Annotated[str | list[str] | None, "the kernel's own words; a list where there may be several"]
    clash_resolved: Annotated[int, "packets of a race that were saved: they went on with the winner's entry"]
    connections: Annotated[int, "connections with such packets; of snat_ports: that use a port of `address` towards `dst`"]
    syn_ack: Annotated[int, "SYN+ACK among the packets"]
    syn_ack_without_entry: Annotated[int, "SYN+ACK that belong to no entry"]
    mid_stream_without_entry: Annotated[int, "ACK and data that belong to no entry"]
    ack_after_unanswered_syn: Annotated[int, "ACK for a SYN+ACK that was never seen"]
    packets_without_past: Annotated[int, "those of which no entry was seen to leave"]
    connections_cut_off: Annotated[int, "connections that were not over when their entry left, with other packets than resets"]
    rst: Annotated[int, "resets among the packets"]
    left_reason: Annotated[str | None, "why most of their entries had left; null: none was seen to leave"]
    left_state: Annotated[str | None, "TCP state these had then"]
    left_by: Annotated[str | None, "name of the process that asked for it; null: none is known"]
    left_timeout: Annotated[str | None, "sysctl of the timeout by which they left"]
    left_timeout_s: Annotated[int | None, "its value"]
    left_packets: Annotated[int, "packets whose entries left so"]
    left_before_s: Annotated[float | None, "the longest time from an entry's end to its packet, of all"]
    too_big: Annotated[int, "ICMP errors that tell a smaller MTU: fragmentation needed, packet too big"]
    too_big_again: Annotated[int, "the most of them about one connection"]
    inner_connections: Annotated[int, "connections that the packets are of which ICMP errors are about"]
    inner_proto: Annotated[str, "protocol of the one that most are about"]
    inner_src: Annotated[str, "its source address"]
    inner_sport: Annotated[int | None, "its source port; null where the protocol has none"]
    inner_dst: Annotated[str, "its destination address"]
    inner_dport: Annotated[int | None, "its destination port; null where the protocol has none"]
    device: Annotated[str | None, "device on which most of the packets came; null: not known"]
    devices: Annotated[int, "how many devices they came on"]
    invalid_watched: Annotated[bool, "whether INVALID packets were looked for"]


class EntryEvidence(TypedDict, total=False):
    """Entries."""

    entries: Annotated[int | None, "entries that it speaks of: of the namespace, or those found there"]
    entries_kept: Annotated[int, "those of them that packets gave a later timeout meanwhile"]
    entries_new_backend: Annotated[int, "entries to `dst` that are mapped to `new_backend`"]
    older_than_s: Annotated[float, "they were there before this observation of so many seconds"]
    entries_in_hardware: Annotated[int, "entries that the network device itself passes on"]
    entries_all: Annotated[int, "entries of all namespaces"]
    entries_assured: Annotated[int | None, "entries that are ASSURED, which early_drop never evicts; null: a filter hides some"]
    entries_unreplied: Annotated[int, "entries that saw no reply"]
    entries_half_open: Annotated[int, "TCP entries in a handshake that does not end"]
    entries_answered: Annotated[int, "those of them that saw a reply"]
    entries_one_way: Annotated[int, "ESTABLISHED entries that saw no reply"]
    share_of_entries: Annotated[float, "`entries` of all entries of the namespace (netns_share: of the hash), 0 to 1"]
    share_of_limit: Annotated[float | None, "`entries` of the namespace's limit, 0 to 1; null: no limit"]
    limit: Annotated[int | None, "nf_conntrack_max of the namespace; null: none, or not known"]
    limit_init: Annotated[int, "nf_conntrack_max of the first namespace"]
    growth_per_s: Annotated[float, "entries that the namespace gains per second"]
    inserts_per_s: Annotated[float, "new entries per second"]
    time_to_full_s: Annotated[float | None, "until the limit is met at this rate; null: not growing"]
    evicted: Annotated[int, "living entries that were evicted"]
    evicted_per_s: Annotated[float, "the same per second"]
    evicted_elsewhere: Annotated[int, "the same in other namespaces"]
    flushed: Annotated[int, "living entries that a flush took out of the table"]
    deleted: Annotated[int, "living entries that were deleted one by one"]
    removed_by: Annotated[str | None, "name of the process that asked for most of it; null: none is known"]
    removed_by_pid: Annotated[int | None, "its number"]
    removed_elsewhere: Annotated[int, "entries flushed or deleted in other namespaces"]
    early_drop: Annotated[int, "entries evicted by early_drop, for new ones"]
    gc_early_drop: Annotated[int, "entries evicted by the gc worker, which moves no counter"]
    tcp_reuse: Annotated[int, "entries that a SYN ended, to open the same connection anew"]
    idle_median_s: Annotated[int, "half of these entries saw no packet for longer"]
    idle_max_s: Annotated[int, "the longest that one of them saw no packet"]
    timeout_s: Annotated[int, "what a packet gives an entry: `sysctl`, else nf_conntrack_tcp_timeout_established"]
    timeout_default_s: Annotated[int, "the kernel's default of `sysctl`"]
    sysctl: Annotated[str, "the timeout that holds these entries"]
    state: Annotated[str | None, "their state; null where the protocol has none"]
    states: Annotated[list[str], "states of the protocol's entries, each with how many there are, the most frequent first"]
    entries_of_proto: Annotated[int, "entries of the same protocol in the namespace"]
    entries_freed: Annotated[int, "those of `entries` that saw no packet for longer than the default"]
    entries_of_src: Annotated[int, "those of `entries` that `src` began"]
    entries_of_dst: Annotated[int, "those of `entries` to `dst` and `dport`"]
    entries_listed: Annotated[int | None, "entries that were read from the hash"]
    entries_unlisted: Annotated[int, "entries that are counted and in no chain"]
    entries_unlisted_before: Annotated[int | None, "the same when the observation began; null: not known"]
    entries_mapped: Annotated[int, "those of `entries` that NAT changes"]
    entries_twice: Annotated[int, "entries whose original tuple another entry of the namespace has, in another zone"]
    answered_elsewhere: Annotated[bool, "whether another backend of the service answers"]


class SourceEvidence(TypedDict, total=False):
    """Who fills the table."""

    targets: Annotated[int, "addresses and ports, together, that one source asks"]
    addresses: Annotated[int, "destination addresses"]
    ports: Annotated[int, "destination ports; of snat_ports: source ports that there are for one service"]
    share_of_ports: Annotated[float, "`connections` of `ports`, 0 to 1"]
    sources: Annotated[int, "source addresses"]
    sources_like_it: Annotated[int, "other sources that do the same"]


class HashEvidence(TypedDict, total=False):
    """The hash."""

    nodes: Annotated[int, "nodes in all chains"]
    buckets: Annotated[int, "buckets of the hash"]
    load_factor: Annotated[float, "nodes per bucket"]
    max_chain: Annotated[int, "nodes in the longest chain"]
    limit_from: Annotated[int, "nodes in a chain from which on the kernel may refuse new entries"]
    variance_over_mean: Annotated[float, "of the lengths of chains; 1 in a hash that spreads well"]
    chi_square_p: Annotated[float, "chance of lengths this unequal in a hash that spreads well"]
    max_chain_p: Annotated[float, "chance of a chain this long in a hash that spreads well"]
    nodes_per_lookup: Annotated[float, "nodes that a lookup visits, on average"]
    nodes_per_lookup_expected: Annotated[float, "the same in a hash that spreads well"]
    nodes_per_hit: Annotated[float, "nodes that the lookup of a known connection visits"]
    nodes_per_miss: Annotated[float, "nodes that the lookup of a new connection visits"]


class HelperEvidence(TypedDict, total=False):
    """Helpers and what they expect."""

    helper_name: Annotated[str, "the helper, as the kernel calls it"]
    expectations: Annotated[int, "expectations that there are"]
    expectations_limit: Annotated[
        int, "as many as there may be: nf_conntrack_expect_max, or of one master what its helper allows"
    ]
    expectations_of_master: Annotated[int, "those of the master that has most"]
    masters: Annotated[int, "connections whose helper expects others"]
    expect_create: Annotated[int | None, "expectations made meanwhile, by the kernel's counter; null: not readable"]
    entries_elsewhere: Annotated[int, "entries of the same kind of other helpers or services, and in other namespaces"]
    data_connections: Annotated[int, "new connections between the same hosts that saw no answer, or died before the table"]
    data_src: Annotated[str, "source address of the first of these"]
    data_sport: Annotated[int, "its source port"]
    data_dst: Annotated[str, "its destination address"]
    data_dport: Annotated[int, "its destination port"]


class CounterEvidence(TypedDict, total=False):
    """The kernel's counters."""

    kernel_drop: Annotated[int | None, "what the kernel's counter `drop` gained meanwhile; null: not readable"]
    kernel_early_drop: Annotated[int | None, "the same of `early_drop`"]
    kernel_insert_failed: Annotated[int | None, "the same of `insert_failed`, over all namespaces that could be read"]
    invalid_unseen: Annotated[int, "what the kernel's counter `invalid` gained beyond the packets that were seen"]
    error_unseen: Annotated[int, "the same of `error`"]
    drop_unseen: Annotated[int, "the same of `drop`"]
    early_drop_unseen: Annotated[int, "the same of `early_drop`"]
    insert_failed_unseen: Annotated[int, "the same of `insert_failed`"]
    chaintoolong_unseen: Annotated[int, "the same of `chaintoolong`"]


class SettingEvidence(TypedDict, total=False):
    """Settings."""

    queue: Annotated[int | None, "number of the NFQUEUE in which most packets wait; null: none wait"]
    packets_waiting: Annotated[int, "packets that wait in it for a verdict"]
    reader_portid: Annotated[int | None, "netlink port id of its reader; null: none wait"]
    reader_pid: Annotated[int | None, "process id of its reader; null: not known"]
    reader: Annotated[str | None, "what that process is called"]
    packets_passed: Annotated[int | None, "IP packets that passed, other than ICMPv6; null: not known"]
    rules_needing: Annotated[int, "rules that need conntrack"]
    tracked_families: Annotated[list[str], "families of rules in which tracking is on"]
    notrack_chain: Annotated[str | None, "family, table and chain of a rule that avoids tracking; null: none is there"]
    bridge: Annotated[str, "the bridge whose packets pass through IP hooks"]
    bridge_ports: Annotated[int, "ports that it has"]
    nf_conntrack_events: Annotated[int, "this sysctl in the namespace"]
    nf_conntrack_acct: Annotated[int, "this sysctl in the namespace"]
    rule: Annotated[str | None, "the rule that maps new packets: table, chain, handle; null: none, or other entries show it"]
    rules: Annotated[int, "firewall rules of the namespace"]
    nat_chains: Annotated[int, "NAT chains, each of which switches tracking on"]
    built_in: Annotated[list[str], "parts of this kernel that may use entries without any rule"]


class ReportEvidence(TypedDict, total=False):
    """The report itself."""

    events_seen: Annotated[int, "records that came"]
    events_lost: Annotated[int, "records that found the ring full, what cannot be read of a recording, and `probes_off_s`"]
    probes_off_s: Annotated[int, "for about so many seconds probes were switched off, and nothing was seen"]
    table_uncertain_s: Annotated[float, "how long the table was wrong until it was read again"]
    buckets_unread: Annotated[int, "buckets that could not be read"]
    notices: Annotated[int, "verdicts that are notices"]


class VerdictEvidence(
    WhereEvidence,
    WhoseEvidence,
    PacketEvidence,
    EntryEvidence,
    SourceEvidence,
    HashEvidence,
    HelperEvidence,
    CounterEvidence,
    SettingEvidence,
    ReportEvidence,
    total=False,
):
    """What a verdict rests on; each rule gives the keys that it has, always the same ones in the same case.

    A loss whose reason this version does not know is counted beside these as `reason_N`.
    """


# Those of one subject together.
EVIDENCE_GROUPS: tuple[type, ...] = (
    WhereEvidence,
    WhoseEvidence,
    PacketEvidence,
    EntryEvidence,
    SourceEvidence,
    HashEvidence,
    HelperEvidence,
    CounterEvidence,
    SettingEvidence,
    ReportEvidence,
)


def _described(hint: Any) -> tuple[Any, str]:
    kind, text = get_args(hint)
    return kind, text


# By key: its type, and what it says.
EVIDENCE_KEYS: Mapping[str, tuple[Any, str]] = {
    name: _described(hint) for name, hint in get_type_hints(VerdictEvidence, include_extras=True).items()
}
