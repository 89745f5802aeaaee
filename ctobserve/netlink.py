"""Conntrack's own numbers by netlink: the only module that imports pyroute2.

A request on this socket can make the kernel load nf_conntrack_netlink, which an observer must not cause: `available` first.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any


def available() -> bool:
    """Whether nf_conntrack_netlink is in the kernel already."""
    return Path("/sys/module/nf_conntrack_netlink").exists()


def stats() -> list[dict[str, int]]:
    """Counters per CPU of our network namespace, named as `conntrack -S` names them (ctnetlink_ct_stat_cpu_fill_info)."""
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

    with NFCTSocket() as opened:
        return [
            {
                key.removeprefix("CTA_STATS_").lower().replace("chain_toolong", "chaintoolong"): value
                for key, value in message["attrs"]
                if key.startswith("CTA_STATS_") and isinstance(value, int)
            }
            for message in opened.stat()
        ]


def dump() -> list[tuple[int | bytes, ...]]:
    """Entries of our network namespace as `conntrack -L` gets them (ctnetlink_dump_table), which reaps expired ones.

    Each as (zone, address family, protocol number, four addresses in 16 bytes each, four ports; ICMP: id, type << 8 | code).
    """
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

    found: list[tuple[int | bytes, ...]] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        with NFCTSocket(nfgen_family=family) as opened:
            for message in opened.dump():
                original, reply = (_tuple(message.get_attr(f"CTA_TUPLE_{name}"), family) for name in ("ORIG", "REPLY"))
                zone = message.get_attr("CTA_ZONE") or 0
                found.append((zone, int(family), original[0], original[1] + reply[1], *original[2], *reply[2]))
    return found


def _tuple(attribute: Any, family: int) -> tuple[int, bytes, tuple[int, int]]:
    """Protocol number, both addresses, both ports of a CTA_TUPLE."""
    version = "V4" if family == socket.AF_INET else "V6"
    addresses = attribute.get_attr("CTA_TUPLE_IP")
    packed = b"".join(
        socket.inet_pton(family, addresses.get_attr(f"CTA_IP_{version}_{side}")).ljust(16, b"\0") for side in ("SRC", "DST")
    )
    proto = attribute.get_attr("CTA_TUPLE_PROTO")
    number = proto.get_attr("CTA_PROTO_NUM")
    icmp = {1: "ICMP", 58: "ICMPV6"}.get(number)
    if icmp:
        kind, code = proto.get_attr(f"CTA_PROTO_{icmp}_TYPE"), proto.get_attr(f"CTA_PROTO_{icmp}_CODE")
        return number, packed, (proto.get_attr(f"CTA_PROTO_{icmp}_ID"), kind << 8 | code)
    return number, packed, (proto.get_attr("CTA_PROTO_SRC_PORT") or 0, proto.get_attr("CTA_PROTO_DST_PORT") or 0)


def timeouts() -> list[tuple[int, int | None, int, int]]:
    """Entries of our network namespace as (protocol number, number of the state or None, IPS_* bits, seconds left)."""
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

    found: list[tuple[int, int | None, int, int]] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        with NFCTSocket(nfgen_family=family) as opened:
            for message in opened.dump():
                number = message.get_attr("CTA_TUPLE_ORIG").get_attr("CTA_TUPLE_PROTO").get_attr("CTA_PROTO_NUM")
                found.append((number, _state(message), message.get_attr("CTA_STATUS") or 0, message.get_attr("CTA_TIMEOUT") or 0))
    return found


def _state(message: Any) -> int | None:
    """Of a TCP entry; pyroute2 does not decode those of others."""
    attribute: Any = message
    for name in ("CTA_PROTOINFO", "CTA_PROTOINFO_TCP", "CTA_PROTOINFO_TCP_STATE"):
        attribute = attribute.get_attr(name) if hasattr(attribute, "get_attr") else None
    return attribute if isinstance(attribute, int) else None
