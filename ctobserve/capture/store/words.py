"""What each column of a recording says, with its unit: the words that every file carries, so that it can be read without us."""

from __future__ import annotations

from ctobserve.host.counters import NAMES

Words = dict[str, tuple[str, str]]

ENTRY_WORDS: Words = {
    "ct": (
        "",
        "identity of the entry while it lives: its address with another number for the page, 0 = none",
    ),
    "master": ("", "identity of its master, 0 = none"),
    "seen_ns": ("ns", "CLOCK_MONOTONIC of what the row tells: the event, the insert, or the reading that found it"),
    "addr": ("", "source and destination of original, then of reply; network order, IPv4 in the first 4 bytes"),
    "port": ("", "ports in the same order, network order; ICMP: id, type << 8 | code"),
    "netns": ("", "inode number of the network namespace"),
    "bucket": ("", "bucket of the original node and of the reply node, 4294967295 = not in the hash"),
    "status": ("", "IPS_* bits of the kernel"),
    "timeout": ("jiffies", "low 32 bits of jiffies at which it expires"),
    "mark": ("", "connmark"),
    "chain": ("nodes", "length of either chain, 65535 = not counted"),
    "zone": ("", "conntrack zone"),
    "l3num": ("", "address family: 2 = IPv4, 10 = IPv6"),
    "protonum": ("", "protocol number"),
    "tcp_state": ("", "enum tcp_conntrack"),
    "reply_only": ("", "1: no original node in the table (IPS_NAT_CLASH)"),
    "zone_dir": ("", "directions for which the zone holds: 1 original, 2 reply"),
    "has_ct": ("", "1: all is known; 2: only original tuple and zone; 0: the tuple alone"),
    "padding": ("", "nothing: 0"),
}


def _tuple(of: str, says: str) -> Words:
    return {
        f"{of}.addr": ("", f"{says}: source, destination"),
        f"{of}.port": ("", f"{says}: ports, network order"),
        f"{of}.l3num": ("", f"{says}: address family, 0 = there is none"),
        f"{of}.protonum": ("", f"{says}: protocol number"),
    }


EVENT_WORDS: Words = {
    **{f"entry.{name}": words for name, words in ENTRY_WORDS.items()},
    "since_alloc_ns": ("ns", "confirm, and drop in confirm: since the entry was allocated, 0 = unknown"),
    "born_ns": ("ns", "destroy: CLOCK_MONOTONIC of its insert, 0 = unknown"),
    "packets": ("packets", "destroy, where `has` has bit 1: original, reply"),
    "bytes": ("bytes", "the same"),
    **_tuple("master", "original tuple of the master"),
    **_tuple("evictor", "destroy by early_drop: the new tuple that it made room for"),
    **_tuple("inner", "drop, refused ICMP error: the packet that it is about"),
    **_tuple("left.original", "drop, invalid: the entry that the connection had before"),
    "left.at_ns": ("ns", "CLOCK_MONOTONIC of when that left, 0: none is known"),
    "left.status": ("", "IPS_* bits it had then"),
    "left.pid": ("", "process that asked for its removal, 0 = none known"),
    "left.reason": ("", "why it left, as `reason`"),
    "left.tcp_state": ("", "enum tcp_conntrack"),
    "left.comm": ("", "name of that process's thread"),
    "changes": ("", "update: IPCT_* bits"),
    "portid": ("", "destroy: netlink port of who asked, 0 = none"),
    "pid": ("", "process that sent the packet, or asked for the removal, 0 = unknown"),
    "ifindex": ("", "drop: device of the packet, 0 = unknown"),
    "scanned": ("entries", "drop, table_full: what early_drop met: assured, other netns, otherwise kept; empty buckets"),
    "cpu": ("", "number of the CPU"),
    "kind": ("", "1 insert, 2 confirm, 3 destroy, 5 drop, 9 update, 12 clash resolved"),
    "reason": (
        "",
        "drop, confirm: 1 table_full, 2 no_memory, 3 clash, 4 chaintoolong, 5 dying, 6 confirmed, 7 invalid, 8 error, 9 helper; "
        "destroy: 1 timeout, 2 early_drop, 3 gc_early_drop, 4 deleted, 5 flushed, 6 tcp_reuse, 7 netns_exit, 8 unconfirmed, "
        "9 other, 10 ipvs",
    ),
    "direction": ("", "drop: of the packet: 0 original, 1 reply, 255: it belongs to no known entry"),
    "hook": ("", "drop, invalid and error: enum nf_inet_hooks"),
    "tcp_flags": ("", "drop, invalid: byte 13 of the TCP header"),
    "has": ("", "bits: 1 counters, 2 text"),
    "comm": ("", "name of pid's thread"),
    "device": ("", "name of ifindex"),
    "detail": ("", "destroy: what more is known of the reason"),
    "text": ("", "drop, invalid: the kernel's own words"),
    "padding": ("", "nothing: 0"),
}
SAYS: dict[str, Words] = {
    "event": EVENT_WORDS,
    "entry": ENTRY_WORDS,
    "extension": {
        "packets": ("packets", "original, reply; of the entry at the same place of the same keyframe"),
        "bytes": ("bytes", "the same"),
        "start_ns": ("ns", "wall clock of its begin, where has_start"),
        "use": ("", "references to it"),
        "secmark": ("", "security id, 0 = none"),
        "gre_timeout": ("jiffies", "as it stood when the entry was made"),
        "gre_stream_timeout": ("jiffies", "as it stood when the entry was made"),
        "ext_bytes": ("bytes", "of its extensions"),
        "state": ("", "state of SCTP or DCCP"),
        "has_counters": ("", "whether packets and bytes are counted"),
        "has_start": ("", "whether it has a time of its begin"),
        "has_ext": ("", "whether it has extensions"),
    },
    "touched": {"ct": ("", "entries that events touched while the table was read: the events win")},
    "counters": {
        "netns": ("", "inode number of the network namespace"),
        "cpu": ("", "number of the CPU"),
        "cookie": ("", "the namespace's cookie: its inode number alone can be another's later"),
        "has": ("", f"which of the values the kernel told: a bit for each, in the order {', '.join(NAMES)}"),
        **{f"value.{name}": ("", f"the kernel's counter {name}") for name in NAMES},
    },
    "helped": {
        "netns": ("", "inode number of the network namespace"),
        "row.addr": ("", "as of an entry"),
        "row.port": ("", "as of an entry"),
        "row.status": ("", "IPS_* bits, network order"),
        "row.left_s": ("s", "until it expires"),
        "row.zone": ("", "conntrack zone"),
        "row.l3num": ("", "address family"),
        "row.protonum": ("", "protocol number"),
        "row.state": ("", "enum tcp_conntrack, 255 = none"),
        "row.helper": ("", "name of the entry's helper"),
    },
    "expectation": {
        "addr": ("", "source and destination of its tuple, of its mask, of the master's original tuple"),
        "port": ("", "ports in the same order, network order"),
        "netns": ("", "inode number of the network namespace, 0 = not known"),
        "left_s": ("s", "until it expires, 4294967295 = never"),
        "flags": ("", "NF_CT_EXPECT_* bits"),
        "class": ("", "index of the helper's policy"),
        "helper": ("", "name of the master's helper"),
        "l3num": ("", "address family"),
        "protonum": ("", "protocol number"),
        "master_protonum": ("", "protocol number of the master"),
        "has_master": ("", "whether mask, master and class are known"),
    },
}
