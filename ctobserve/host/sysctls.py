"""net.netfilter.nf_conntrack_*: default and meaning of each, and which entries each timeout holds."""

from __future__ import annotations

from typing import NamedTuple

from ctobserve.model import DCCP, DCCP_STATES, GRE, ICMP, ICMPV6, SCTP, SCTP_STATES, TCP, TCP_STATES, UDP, UDPLITE

PREFIX = "nf_conntrack_"
INT_MAX = (1 << 31) - 1  # the largest value that one can be given


def allowed(own: int | None, first: int | None) -> int | None:
    """Entries that a namespace may have: the smaller of its own nf_conntrack_max and the first one's; None: no limit, or unknown.

    nf_conntrack_max() where each has its own; before, both are the same. 0 is no limit, and newer kernels refuse it.
    """
    return min(own, first or own) if own else None


class Sysctl(NamedTuple):
    """Default as the kernel's sources have it (Linux 6.1), None where it depends on the machine; unit of the value."""

    default: int | None
    unit: str
    meaning: str


def _timeouts(of: str, seconds: dict[str, int], where: str) -> dict[str, Sysctl]:
    return {f"{of}_{name}": Sysctl(value, "s", where.format(name.upper())) for name, value in seconds.items()}


# Names without the prefix. Documentation/networking/nf_conntrack-sysctl.rst; defaults where it is silent or wrong
# (frag6, DCCP, expect_max) from the code: timeouts are in net/netfilter/nf_conntrack_proto_tcp.c (tcp_timeouts), _udp.c
# (udp_timeouts), _sctp.c, _dccp.c, _gre.c, _icmp.c, _icmpv6.c and _generic.c, each as it is when a namespace comes to be.
SYSCTLS = {
    "acct": Sysctl(0, "bool", "count packets and bytes of new entries"),
    "buckets": Sysctl(None, "buckets", "size of the hash, which all namespaces share"),
    "checksum": Sysctl(1, "bool", "a bad checksum makes a packet INVALID"),
    "count": Sysctl(None, "entries", "entries now, read only"),
    "dccp_loose": Sysctl(1, "bool", "pick up connections already open"),
    "events": Sysctl(2, "mode", "event extension: 0 never, 1 always, 2 if listened to"),
    "expect_max": Sysctl(None, "entries", "most expectations; buckets / 64 by default"),
    "frag6_high_thresh": Sysctl(4 << 20, "bytes", "memory for IPv6 fragments, at most"),
    "frag6_low_thresh": Sysctl(3 << 20, "bytes", "how far to evict fragments; unused by now"),
    "frag6_timeout": Sysctl(60, "s", "IPv6 fragment that waits for others"),
    "generic_timeout": Sysctl(600, "s", "entry of a protocol without tracker"),
    "gre_timeout": Sysctl(30, "s", "GRE without a reply so far"),
    "gre_timeout_stream": Sysctl(180, "s", "GRE seen in both directions"),
    "helper": Sysctl(0, "bool", "assign helpers by port without a rule; gone in newer kernels"),
    "icmp_timeout": Sysctl(30, "s", "ICMP request"),
    "icmpv6_timeout": Sysctl(30, "s", "ICMPv6 request"),
    "log_invalid": Sysctl(0, "protocol", "log INVALID of this protocol; 255: all"),
    "max": Sysctl(None, "entries", "most entries; beyond, evict or lose"),
    "tcp_be_liberal": Sysctl(0, "bool", "outside the window only a RST is INVALID"),
    "tcp_ignore_invalid_rst": Sysctl(0, "bool", "a RST outside the window is not INVALID"),
    "tcp_loose": Sysctl(1, "bool", "pick up connections already open"),
    "tcp_max_retrans": Sysctl(3, "packets", "retransmissions until timeout_max_retrans"),
    "timestamp": Sysctl(0, "bool", "remember when each new entry began"),
    "udp_timeout": Sysctl(30, "s", "UDP unreplied, or in its first 2 s"),
    "udp_timeout_stream": Sysctl(120, "s", "UDP both ways for over 2 s (assured)"),
    **_timeouts(
        "tcp_timeout",
        {
            **{"close": 10, "close_wait": 60, "established": 432000, "fin_wait": 120, "last_ack": 30, "max_retrans": 300},
            **{"syn_recv": 60, "syn_sent": 120, "time_wait": 120, "unacknowledged": 300},
        },
        "TCP in {}",
    ),
    **_timeouts(
        "sctp_timeout",
        {
            **{"closed": 10, "cookie_wait": 3, "cookie_echoed": 3, "established": 210, "shutdown_sent": 3, "shutdown_recd": 3},
            **{"shutdown_ack_sent": 3, "heartbeat_sent": 30, "heartbeat_acked": 210},
        },
        "SCTP in {}",
    ),
    **_timeouts(
        "dccp_timeout",
        {"request": 240, "respond": 480, "partopen": 480, "open": 43200, "closereq": 64, "closing": 64, "timewait": 240},
        "DCCP in {}",
    ),
    "tcp_timeout_max_retrans": Sysctl(300, "s", "TCP after tcp_max_retrans retransmissions"),
    "tcp_timeout_unacknowledged": Sysctl(300, "s", "TCP in ESTABLISHED, data not acked"),
}


LIMIT = PREFIX + "max"  # of entries: of all namespaces up to 6.12, later of each
# Full names of those that say how long an entry stays.
TIMEOUTS = tuple(PREFIX + name for name in SYSCTLS if "_timeout" in name and not name.startswith("frag6"))


def known(name: str) -> Sysctl | None:
    """By full name (nf_conntrack_...); None for names this table does not have."""
    return SYSCTLS.get(name.removeprefix(PREFIX))


def timeout_of(protonum: int, state: str | None, replied: bool, assured: bool) -> str | None:
    """Full name of the timeout that an entry was last given; None where no sysctl says it."""
    if protonum in STATES:
        of, states = STATES[protonum]
        name = f"{of}_timeout_{(state or '').lower()}"
        return PREFIX + name if state in states and name in SYSCTLS else None
    if protonum in (UDP, UDPLITE):
        streaming = assured if protonum == UDP else replied
        return PREFIX + ("udp_timeout_stream" if streaming else "udp_timeout")
    if protonum == GRE:
        return PREFIX + ("gre_timeout_stream" if replied else "gre_timeout")
    return PREFIX + {ICMP: "icmp_timeout", ICMPV6: "icmpv6_timeout"}.get(protonum, "generic_timeout")


STATES = {TCP: ("tcp", TCP_STATES), SCTP: ("sctp", SCTP_STATES), DCCP: ("dccp", DCCP_STATES)}
