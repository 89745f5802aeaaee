"""Do packets pass in this namespace at all? The counters of IP that conntrack has no part in: /proc/net/snmp and snmp6."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ctobserve.host.kernel import read_text

V4, V6 = (Path("/proc/thread-self/net", name) for name in ("snmp", "snmp6"))
# What went through the hooks: delivered to the host, forwarded, sent by it. Packets over loopback are sent and delivered.
PASSED = ("InDelivers", "ForwDatagrams", "OutRequests")
PASSED6 = ("Ip6InDelivers", "Ip6OutForwDatagrams", "Ip6OutRequests")
# Kernels without this counter (6.1; 6.12 has it) count forwarded IPv4 packets among OutRequests, too: ip_output().
TRANSMITTED = "OutTransmits"
# conntrack leaves neighbour discovery and multicast listener reports alone (icmpv6_error): no ICMPv6 is counted as passing.
ICMPV6 = ("Icmp6InMsgs", "Icmp6OutMsgs")


class IpPackets(NamedTuple):
    """Packets that passed since the namespace came to be, or between two readings: IPv4, and IPv6 other than ICMPv6."""

    v4: int
    v6: int

    def since(self, earlier: IpPackets) -> IpPackets:
        """How many more than then; a packet may be counted as ICMPv6 a moment before it is as IPv6."""
        return IpPackets(max(self.v4 - earlier.v4, 0), max(self.v6 - earlier.v6, 0))


def read() -> IpPackets | None:
    """Of the namespace of the calling thread; None where /proc has no counters."""
    try:
        return IpPackets(of_snmp(read_text(V4)), of_snmp6(read_text(V6)) if V6.exists() else 0)
    except (OSError, ValueError, LookupError):
        return None


def of_snmp(text: str) -> int:
    """IPv4 packets; snmp_seq_show_ipstats (net/ipv4/proc.c) has a line of names and one of values. Raises LookupError else."""
    names, values = (line.split() for line in text.splitlines() if line.startswith("Ip: "))
    counters = dict(zip(names, values, strict=True))
    delivered, forwarded, sent = (int(counters[name]) for name in PASSED)
    return delivered + sent + (forwarded if TRANSMITTED in counters else 0)


def of_snmp6(text: str) -> int:
    """IPv6 packets other than ICMPv6; snmp6_seq_show (net/ipv6/proc.c) has a name and a value in each line."""
    words = text.split()
    counters = dict(zip(words[::2], words[1::2], strict=True))
    return sum(int(counters[name]) for name in PASSED6) - sum(int(counters[name]) for name in ICMPV6)
