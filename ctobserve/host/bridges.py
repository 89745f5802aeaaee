"""Which bridges of this namespace pass their packets through IP hooks (br_netfilter), and for which networks?

By rtnetlink, as /sys/class/net shows the namespace of whoever mounted it: RTM_GETLINK and RTM_GETADDR, which load nothing.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from ctobserve.host.kernel import read_text
from ctobserve.model import printable

SYSCTLS = Path("/proc/sys/net/bridge")
GET_LINK, GET_ADDRESS = 18, 22  # RTM_GETLINK, RTM_GETADDR (include/uapi/linux/rtnetlink.h)
REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
ERROR, DONE = 2, 3
MESSAGE, LINK, ADDRESS = 16, 16, 8  # sizes of struct nlmsghdr, ifinfomsg, ifaddrmsg
RECEIVED = 1 << 16
# include/uapi/linux/if_link.h, if_addr.h
IFLA_IFNAME, IFLA_MASTER, IFLA_LINKINFO = 3, 10, 18
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
IPV4, IPV6 = 2, 10
OPTIONS = {IPV4: 36, IPV6: 37}  # IFLA_BR_NF_CALL_IPTABLES, IFLA_BR_NF_CALL_IP6TABLES
CALLS = {IPV4: "call-iptables", IPV6: "call-ip6tables"}
IFA_ADDRESS, IFA_LOCAL = 1, 2
TYPE_MASK = 0x3FFF
Attributes = dict[int, bytes]


class Bridge(NamedTuple):
    """One bridge with ports: its addresses with their prefix length (10.0.0.1/24), how many `ports` it has.

    Packets of these address families (ENTRY's l3num) pass through IP hooks, by the namespace's sysctl or by an option of the
    bridge: either is enough (br_nf_pre_routing in net/bridge/br_netfilter_hooks.c).
    """

    name: str
    ports: int
    addresses: tuple[str, ...] = ()
    by_sysctl: frozenset[int] = frozenset()
    by_option: frozenset[int] = frozenset()

    @property
    def families(self) -> frozenset[int]:
        """By either."""
        return self.by_sysctl | self.by_option


def read() -> tuple[Bridge, ...]:
    """Those whose packets pass through IP hooks, of the namespace of the calling thread; none without br_netfilter."""
    if not SYSCTLS.exists():
        return ()
    # Before Linux 5.3 (ff6d090d0db4) one value holds in all namespaces.
    by_sysctl = frozenset(family for family, name in CALLS.items() if _is_on(name))
    try:
        found = of_messages(_dump(GET_LINK), _dump(GET_ADDRESS), by_sysctl)
        return tuple(bridge for bridge in found if bridge.families)
    except (OSError, struct.error):
        return ()


def _is_on(name: str) -> bool:
    try:
        return read_text(SYSCTLS / f"bridge-nf-{name}").strip() != "0"
    except OSError:
        return False


def of_messages(links: bytes, addresses: bytes, by_sysctl: frozenset[int]) -> Iterator[Bridge]:
    """All bridges with ports that two dumps tell of; `by_sysctl` are the families whose sysctl is on."""
    named: dict[int, list[str]] = {}
    for prefix, index, body in _addresses(addresses):
        own = body.get(IFA_LOCAL, body.get(IFA_ADDRESS, b""))
        named.setdefault(index, []).append(f"{ip_address(own)}/{prefix}")
    found = list(_links(links))
    masters = [struct.unpack("=i", body[IFLA_MASTER])[0] for _, body in found if IFLA_MASTER in body]
    for index, body in found:
        info = dict(_attributes(body.get(IFLA_LINKINFO, b"")))
        if info.get(IFLA_INFO_KIND, b"").rstrip(b"\0") == b"bridge" and index in masters:
            options = dict(_attributes(info.get(IFLA_INFO_DATA, b"")))
            by_option = frozenset(family for family, kind in OPTIONS.items() if any(options.get(kind, b"")))
            name = printable(body.get(IFLA_IFNAME, b"").rstrip(b"\0"))
            yield Bridge(name, masters.count(index), tuple(named.get(index, ())), by_sysctl, by_option)


def _links(data: bytes) -> Iterator[tuple[int, Attributes]]:
    """Index and attributes of each device."""
    for body in _bodies(data):
        (index,) = struct.unpack_from("=i", body, 4)
        yield index, dict(_attributes(body[LINK:]))


def _addresses(data: bytes) -> Iterator[tuple[int, int, Attributes]]:
    """Prefix length, index of the device, and attributes of each address."""
    for body in _bodies(data):
        prefix, index = struct.unpack_from("=xBxxi", body)
        yield prefix, index, dict(_attributes(body[ADDRESS:]))


def _dump(request: int) -> bytes:
    """All messages of an answer; raises OSError where the kernel refuses."""
    parts = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asked:
        asked.send(struct.pack("=IHHIIB15x", MESSAGE + LINK, request, REQUEST_DUMP, 0, 0, socket.AF_UNSPEC))
        while True:
            data = asked.recv(RECEIVED)
            parts.append(data)
            if any(kind in (ERROR, DONE) for kind, _ in _messages(data)):
                return b"".join(parts)


def _bodies(data: bytes) -> Iterator[bytes]:
    return (body for kind, body in _messages(data) if kind not in (ERROR, DONE))


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each (struct nlmsghdr)."""
    at = 0
    while at + MESSAGE <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        yield kind, data[at + MESSAGE : at + length]
        at += max(length + 3 & ~3, MESSAGE)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each (struct nlattr)."""
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        yield kind & TYPE_MASK, data[at + 4 : at + length]
        at += max(length + 3 & ~3, 4)
