"""Numbers that the programs share with those who read what they leave: Python has them from here, bpf/*.c as -D integers."""

from __future__ import annotations

from ctobserve.event import TEXT_BYTES
from ctobserve.model import ICMP, ICMPV6, IPS_ASSURED, IPS_CONFIRMED, IPS_DYING, IPS_NAT_CLASH, TCP, UNKNOWN_BUCKET, UNKNOWN_CHAIN

RUN_STEPS = 32  # nodes and buckets of one program of walk.c or lengths.c
STEPS = 33 * RUN_STEPS  # of a run of it, at most: the kernel lets a program be followed by 32 or 33 others (MAX_TAIL_CALL_CNT)
WALK_AGAIN, LENGTHS_AGAIN = 0, 1  # slots of the map `again`: which program goes on
SLOTS = 4096  # in its maps: records, and reply nodes
WINDOW = 65536  # buckets in the map of lengths.c
NAMESPACES_ROOM = 4096  # network namespaces that counts.c tells apart
TALLIES = 256  # of which it finds so many at once: a power of two
RESIZED = 0xFFFFFFFF  # result of either when the hash is not the one that its reading began with
WALK_EVERY = 1  # bits for walk.c: each node of these buckets in full
WALK_EXTENSIONS = 2  # with what lies outside the nf_conn
COUNTERS_BYTES = 32  # packets and bytes of both directions, with which a record's `extra` begins
EXTRA_START = COUNTERS_BYTES  # where in it the start time is
EXTRA_LEN = EXTRA_START + 8  # and the length of all extensions
NODE_ROOM = 96  # on the stack of those who read a node and what lies behind it: 60 bytes on every kernel known

CONSTANTS = {
    "RUN_STEPS": RUN_STEPS,
    "WALK_AGAIN": WALK_AGAIN,
    "LENGTHS_AGAIN": LENGTHS_AGAIN,
    "SLOTS": SLOTS,
    "WINDOW": WINDOW,
    "NAMESPACES_ROOM": NAMESPACES_ROOM,
    "TALLIES": TALLIES,
    "RESIZED": RESIZED,
    "WALK_EVERY": WALK_EVERY,
    "WALK_EXTENSIONS": WALK_EXTENSIONS,
    "COUNTERS_BYTES": COUNTERS_BYTES,
    "EXTRA_START": EXTRA_START,
    "EXTRA_LEN": EXTRA_LEN,
    "NODE_ROOM": NODE_ROOM,
    "TEXT_BYTES": TEXT_BYTES,
    "BUCKET_UNKNOWN": UNKNOWN_BUCKET,
    "CHAIN_UNKNOWN": UNKNOWN_CHAIN,
    "IPS_ASSURED": IPS_ASSURED,
    "IPS_CONFIRMED": IPS_CONFIRMED,
    "IPS_DYING": IPS_DYING,
    "IPS_NAT_CLASH": IPS_NAT_CLASH,
    "IPPROTO_ICMP": ICMP,
    "IPPROTO_ICMPV6": ICMPV6,
    "IPPROTO_TCP": TCP,
}
